//! `hype-policy inspect`: what is in this bundle or model file?

use serde_json::{Value, json};

use super::subject::Opened;
use super::{Outcome, rounded};
use crate::bundle::{Bundle, Manifest};
use crate::contract::{Channel, Contract};
use crate::engine::EngineChoice;
use crate::engine::layout::{Feed, Layout, LayoutOptions, Role};
use crate::error::Result;
use crate::joints::Joints;
use crate::onnx::Model;
use crate::spec::{Mlp, PolicyGraph};

pub(super) fn inspect(opened: &Opened, names: &LayoutOptions) -> Result<Outcome> {
    let (path, bundle, bytes) = (&opened.path, opened.bundle(), opened.model());
    let model = Model::parse(bytes).map_err(|error| error.within(path.display()))?;
    let policy = opened.policy(EngineChoice::Auto, names)?;

    let mut text = format!("{}\n", path.display());
    if let Some(contract) = policy.contract() {
        text += &contract_text(contract);
    } else {
        let (observation, action) = (policy.observation_width(), policy.action_width());
        text += &format!("no contract: {observation} observations and {action} actions of unknown names and units\n");
        text += &policy.why_no_contract().map_or_else(String::new, |reason| format!("  {reason}\n"));
    }
    text += &format!("policy: {} bytes, opset {}, engine {}\n", bytes.len(), model.opset(), policy.engine_name());
    text += &match (policy.graph(), policy.why_not_native()) {
        (Some(graph), _) => format!("  {}\n", layers_text(graph)),
        (None, Some(reason)) => format!("  not native, and so not free of allocation: {reason}\n"),
        (None, None) => {
            policy.multiplications().map_or_else(String::new, |count| format!("  {count} multiplications\n"))
        }
    };
    text += &policy.layout().map_or_else(String::new, layout_text);
    if let Some(bundle) = bundle {
        text += &bundle_text(bundle);
    }
    let json = json!({
        "path": path,
        "contract": policy.contract(),
        "observation_width": policy.observation_width(),
        "action_width": policy.action_width(),
        "engine": policy.engine_name(),
        "why_not_native": policy.why_not_native(),
        "layers": policy.graph().map(layers_text),
        "multiplications": policy.multiplications(),
        "why_no_contract": policy.why_no_contract(),
        "joints": policy.joints().map(joints_json),
        "layout": policy.layout().map(layout_json),
        "opset": model.opset(),
        "operators": model.operators(),
        "manifest": bundle.map(|bundle| manifest_json(&bundle.manifest)),
    });
    Ok(Outcome { text, json, kind: None })
}

fn contract_text(contract: &Contract) -> String {
    let rate_hz = rounded(1.0 / contract.control_period_secs);
    let mut text = format!(
        "task {}, control period {} s ({rate_hz} Hz), fallback {:?}\n",
        contract.task, contract.control_period_secs, contract.fallback
    );
    for (side, channels) in [("observation", &contract.observation), ("action", &contract.action)] {
        text += &format!("{side}: {} channels\n", channels.len());
        for (index, channel) in channels.iter().enumerate() {
            let Channel { name, unit, low, high } = channel;
            let bound = |bound: &Option<f32>, open: &str| bound.map_or_else(|| open.into(), |value| value.to_string());
            let (low, high) = (bound(low, "-inf"), bound(high, "inf"));
            text += &format!("  {index:>4} {name:<40} {unit:<8} [{low}, {high}]\n");
        }
    }
    text
}

fn joints_json(joints: &Joints) -> Value {
    json!({
        "names": joints.names, "default_position": joints.default_position, "stiffness": joints.stiffness, "damping": joints.damping,
        "action_scale": joints.action_scale, "observation_terms": joints.observation_terms, "commands": joints.commands,
    })
}

fn layout_text(layout: &Layout) -> String {
    let mut text = String::new();
    for Feed { name, shape, element, role } in &layout.inputs {
        let role = match role {
            Role::Observation => "observation".into(),
            Role::State { output } => format!("state, from {:?} of the step before", layout.outputs[*output]),
            Role::Unused => "not used".into(),
        };
        text += &format!("  input {name:?}: {element} {shape:?}, {role}\n");
    }
    text += &format!("  output {:?}: the action\n", layout.outputs[0]);
    text +=
        &layout.left_out.iter().map(|(name, why)| format!("  output {name:?}: left out, {why}\n")).collect::<String>();
    text
}

fn layout_json(layout: &Layout) -> Value {
    let states: serde_json::Map<String, Value> = (layout.inputs.iter())
        .filter_map(|feed| match feed.role {
            Role::State { output } => Some((feed.name.clone(), layout.outputs[output].clone().into())),
            _ => None,
        })
        .collect();
    let named = |role: Role| -> Vec<&str> {
        layout.inputs.iter().filter(|feed| feed.role == role).map(|feed| feed.name.as_str()).collect()
    };
    let left_out: Vec<Value> =
        layout.left_out.iter().map(|(name, why)| json!({"output": name, "reason": why})).collect();
    json!({
        "observation": named(Role::Observation), "unused": named(Role::Unused), "state": states, "action": layout.outputs[0],
        "left_out": left_out,
    })
}

fn layers_text(graph: &PolicyGraph) -> String {
    let Mlp { layers } = &graph.mlp;
    let mut widths = vec![graph.observation_width().to_string()];
    widths.extend(layers.iter().map(|layer| format!("{} {:?}", layer.outputs, layer.activation)));
    let products: usize = layers.iter().map(|layer| layer.weights.len()).sum();
    let normaliser = if graph.normalizer.is_some() { "normaliser, " } else { "" };
    format!("{normaliser}{}, squash {:?}; {products} multiplications", widths.join(" → "), graph.squash)
}

fn bundle_text(bundle: &Bundle) -> String {
    let manifest = &bundle.manifest;
    let mut text = String::from("files:\n");
    for (name, record) in &manifest.files {
        text += &format!("  {name:<20} {:>10} bytes, sha256 {}\n", record.bytes, record.sha256);
    }
    text += &format!("golden vectors: {}\nagreement when it was written:\n", manifest.golden.len());
    for agreement in &manifest.agreement {
        let share = 100.0 * agreement.largest_share_of_tolerance;
        text += &format!(
            "  {}: {} and {}, {share:.1} % of the tolerance\n",
            agreement.what, agreement.left, agreement.right
        );
    }
    text += &format!("training: {:#}\nprovenance: {:#}\n", manifest.training, manifest.provenance);
    text
}

fn manifest_json(manifest: &Manifest) -> Value {
    json!({
        "format_version": manifest.format_version,
        "files": manifest.files,
        "golden_vectors": manifest.golden.len(),
        "agreement": manifest.agreement,
        "training": manifest.training,
        "provenance": manifest.provenance,
    })
}

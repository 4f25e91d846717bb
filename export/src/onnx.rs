//! A policy and a discriminator as ONNX files.
//!
//! Both have a dynamic first axis `batch`, hold their weights inside, and carry the contract in their metadata under the
//! keys of [`policy_runtime::metadata`].

use onnx_protobuf::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use policy_runtime::metadata::{
    ACTION, FORMAT_VERSION, KEY_CONTRACT, KEY_FORMAT_VERSION, KEY_KIND, KIND_DISCRIMINATOR, KIND_POLICY, OBSERVATION,
    REWARD,
};
use policy_runtime::spec::{Normalizer, Reduction, Squash};
use policy_runtime::{Contract, DiscriminatorGraph, PolicyGraph};
use protobuf::{Message, MessageField};

use crate::error::{Error, Result};
use crate::graph::GraphWriter;

/// Version of the ONNX operators: taken by onnxruntime and tract alike.
pub const OPSET: i64 = 17;
/// Version of the ONNX file format that goes with it.
pub const IR_VERSION: i64 = 8;

/// `policy.onnx`: input `observation` f32 `[batch, observation]` in raw units, output `action` f32 `[batch, action]` in
/// environment units. Normaliser, squash, scale and clamp are nodes of the graph.
///
/// # Errors
/// [`Error::Policy`] where contract or graph are not valid or do not fit each other.
pub fn onnx_policy(policy: &PolicyGraph, contract: &Contract) -> Result<Vec<u8>> {
    contract.validate()?;
    policy.validate_for(contract)?;
    let mut graph = GraphWriter::new("policy");
    let mut value = graph.input(OBSERVATION, policy.observation_width());
    if let Some(normalizer) = &policy.normalizer {
        value = normalize(&mut graph, &value, normalizer, "normalised");
    }
    value = graph.mlp(&value, &policy.mlp, "layer");
    if policy.squash == Squash::Tanh {
        value = graph.node("Tanh", &[&value], "action_unit");
    }
    value = graph.with_row("Mul", &value, &policy.affine.scale, "action_scaled");
    value = graph.with_row("Add", &value, &policy.affine.offset, "action_env");
    if let Some(clamp) = &policy.clamp {
        value = graph.with_row("Max", &value, &clamp.low, "action_not_below");
        graph.with_row("Min", &value, &clamp.high, ACTION);
    }
    graph.output(ACTION, policy.action_width());
    encode("policy.onnx", graph.finish(), KIND_POLICY, contract)
}

/// `discriminator.onnx`: inputs `observation` f32 `[batch, observation]` in raw units and `action` f32 `[batch, action]`
/// in environment units, output `reward` f32 `[batch, 1]`. An ensemble's reduction is inside.
///
/// # Errors
/// [`Error::Policy`] where contract or graph are not valid or do not fit each other.
pub fn onnx_discriminator(discriminator: &DiscriminatorGraph, contract: &Contract) -> Result<Vec<u8>> {
    contract.validate()?;
    discriminator.validate_for(contract)?;
    let mut graph = GraphWriter::new("discriminator");
    let mut observation = graph.input(OBSERVATION, discriminator.observation_width);
    let action = graph.input(ACTION, discriminator.action_width());
    if let Some(normalizer) = &discriminator.normalizer {
        observation = normalize(&mut graph, &observation, normalizer, "normalised");
    }
    let affine = &discriminator.affine;
    let centred = graph.with_row("Sub", &action, &affine.offset, "action_centred");
    let unit = graph.with_row("Div", &centred, &affine.scale, "action_unit");
    let joined = graph.node_with("Concat", &[&observation, &unit], "joined", vec![("axis", 1)]);
    let mut costs = Vec::new();
    for (index, member) in discriminator.members.iter().enumerate() {
        let name = format!("member.{index}");
        let mut cost = graph.mlp(&joined, member, &name);
        if let Some(clip) = discriminator.cost_clip {
            cost = graph.with_row("Max", &cost, &[-clip], &format!("{name}.not_below"));
            cost = graph.with_row("Min", &cost, &[clip], &format!("{name}.not_above"));
        }
        costs.push(cost);
    }
    let cost = match costs.as_slice() {
        [cost] => cost.clone(),
        costs => {
            let inputs: Vec<&str> = costs.iter().map(String::as_str).collect();
            let operator = match discriminator.reduction {
                Reduction::Mean => "Mean",
                Reduction::Min => "Min",
                Reduction::Max => "Max",
            };
            graph.node(operator, &inputs, "cost")
        }
    };
    graph.node("Neg", &[&cost], REWARD);
    graph.output(REWARD, 1);
    encode("discriminator.onnx", graph.finish(), KIND_DISCRIMINATOR, contract)
}

fn normalize(graph: &mut GraphWriter, value: &str, normalizer: &Normalizer, output: &str) -> String {
    let centred = graph.with_row("Sub", value, &normalizer.mean, "observation_centred");
    graph.with_row("Div", &centred, &normalizer.std, output)
}

fn encode(file: &'static str, graph: GraphProto, kind: &str, contract: &Contract) -> Result<Vec<u8>> {
    let entry = |(key, value): (&str, String)| StringStringEntryProto {
        key: key.into(),
        value,
        ..StringStringEntryProto::default()
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto { version: OPSET, ..OperatorSetIdProto::default() }],
        producer_name: "hype".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: MessageField::some(graph),
        metadata_props: [
            (KEY_FORMAT_VERSION, FORMAT_VERSION.to_string()),
            (KEY_KIND, kind.into()),
            (KEY_CONTRACT, contract.to_json()?),
        ]
        .map(entry)
        .to_vec(),
        ..ModelProto::default()
    };
    model.write_to_bytes().map_err(|error| Error::Encode { file, reason: error.to_string() })
}

//! `hype export`: a bundle from a run or a shipped expert, verified before it is written.

use super::policy::read_run;
use crate::demos;
use crate::envs::task;
use crate::error::{Error, Result};
use crate::experts::expert;
use crate::run::directory::{Slot, read_provenance};
use crate::to_policy::{self, Trained};
use ::export::{BundleContents, Reference, Report, write_bundle};
use policy_runtime::probe::Demonstrations;
use policy_runtime::{EngineChoice, Policy};
use serde_json::json;
use std::path::Path;

/// Demonstration rows that the comparison takes.
const DEMONSTRATION_ROWS: usize = 512;

/// Writes the bundle of SOURCE (a run or `expert:TASK`) to `path`.
pub fn export(source: &str, seed: Option<u64>, slot: Slot, path: &Path) -> Result<Report> {
    match source.strip_prefix("expert:") {
        Some(task) => export_expert(task, path),
        None => export_run(Path::new(source), seed, slot, path),
    }
}

fn export_run(run: &Path, seed: Option<u64>, slot: Slot, path: &Path) -> Result<Report> {
    let (config, snapshot) = read_run(run, slot, seed)?;
    let task = task(&config.task)?;
    let contract = to_policy::contract(&task);
    let policy = to_policy::policy_graph(&snapshot.networks, &contract)?;
    let discriminator = snapshot.networks.discriminator.as_ref();
    let discriminator = discriminator.map(|d| to_policy::discriminator_graph(d, &contract)).transpose()?;
    let demonstrations = match &config.demos {
        Some(file) => rows(&demos::read(file)?),
        None => Demonstrations { observations: Vec::new(), actions: Vec::new() },
    };
    let provenance = serde_json::to_value(read_provenance(run)?)
        .map_err(|e| Error::system("cannot encode the provenance").source(e))?;
    let contents = BundleContents {
        contract: &contract,
        policy: &policy,
        discriminator: discriminator.as_ref(),
        demonstrations: &demonstrations,
        provenance,
        training: json!({
            "method": config.method,
            "preset": config.preset,
            "seed": seed.or(config.seeds.first().copied()),
            "checkpoint": match slot { Slot::Last => "last", Slot::Best => "best (oracle: chosen by true return)" },
            "env_steps": snapshot.env_steps,
            "env_steps_total": snapshot.env_steps_total,
        }),
    };
    Ok(write_bundle(path, &contents, &mut Trained::new(&snapshot.networks, &task))?)
}

fn rows(demonstrations: &demos::Demonstrations) -> Demonstrations {
    let count = demonstrations.len().min(DEMONSTRATION_ROWS);
    let stride = demonstrations.len() / count.max(1);
    let chosen = (0..count).map(|index| index * stride);
    Demonstrations {
        observations: chosen.clone().flat_map(|row| demonstrations.observation(row)).copied().collect(),
        actions: chosen.flat_map(|row| demonstrations.action_env(row)).copied().collect(),
    }
}

/// A shipped expert has no run: its own file is the reference.
struct Shipped(Policy);

impl Reference for Shipped {
    fn actions(
        &mut self,
        observations: &[f32],
        rows: usize,
    ) -> std::result::Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>> {
        let mut actions = vec![0.0; rows * self.0.action_width()];
        let width = self.0.action_width();
        let observation_width = self.0.observation_width();
        for (row, action) in observations.chunks_exact(observation_width).zip(actions.chunks_exact_mut(width)) {
            let observation = policy_runtime::Observation { values: row, stamp_nanos: 0 };
            if !self.0.step(0, &observation, action).is_good() {
                return Err("the expert refused an observation".into());
            }
        }
        Ok(actions)
    }

    fn rewards(
        &mut self,
        _: &[f32],
        _: &[f32],
        _: usize,
    ) -> std::result::Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>> {
        Err("an expert has no discriminator".into())
    }
}

fn export_expert(name: &str, path: &Path) -> Result<Report> {
    let bytes = expert(name)?.onnx;
    let native = Policy::from_onnx(bytes, EngineChoice::Native)?;
    let graph = native.graph().ok_or_else(|| Error::data(format!("expert:{name} cannot be read as layers")))?.clone();
    let contract = to_policy::contract(&task(name)?);
    let contents = BundleContents {
        contract: &contract,
        policy: &graph,
        discriminator: None,
        demonstrations: &Demonstrations { observations: Vec::new(), actions: Vec::new() },
        provenance: json!({ "source": format!("expert:{name}"), "hype_version": env!("CARGO_PKG_VERSION") }),
        training: json!({ "method": "expert" }),
    };
    let mut reference = Shipped(Policy::from_onnx(bytes, EngineChoice::Tract)?);
    Ok(write_bundle(path, &contents, &mut reference)?)
}

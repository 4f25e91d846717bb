//! D4RL-shaped HDF5: flat datasets, one row per step.

use super::PhysicsStates;
use super::assemble::{Columns, STEP_NUMBERS};
use super::hdf5::Reader;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

pub(super) fn read(reader: &Reader, names: &[String], origin: &str) -> Result<(Columns, BTreeMap<String, String>)> {
    let has = |dataset: &str| names.iter().any(|name| name == dataset);
    for dataset in ["observations", "actions", "terminals"] {
        if !has(dataset) {
            return Err(missing(dataset, names, origin));
        }
    }
    let mut warnings = Vec::new();
    let observations = reader.array("observations")?;
    let actions = reader.array("actions")?;
    let (obs_dim, act_dim) = (observations.width()?, actions.width()?);
    let terminals = reader.array("terminals")?.into_flags()?;
    let timeouts = if has("timeouts") {
        reader.array("timeouts")?.into_flags()?
    } else {
        warnings.push("no `timeouts`: episodes end at `terminals` only".to_owned());
        vec![false; terminals.len()]
    };
    let next_observations = if has("next_observations") {
        let next = reader.array("next_observations")?;
        if next.width()? != obs_dim {
            return Err(Error::data(format!("{origin}: dataset `next_observations` is not as wide as `observations`"))
                .expected(format!("width {obs_dim}"))
                .found(format!("width {}", next.width()?)));
        }
        Some(next.into_f32())
    } else {
        None
    };
    let states = if has("infos/qpos") && has("infos/qvel") {
        let (qpos, qvel) = (reader.array("infos/qpos")?, reader.array("infos/qvel")?);
        let (nq, nv) = (qpos.width()?, qvel.width()?);
        Some(PhysicsStates { nq, nv, qpos: qpos.into_f64(), qvel: qvel.into_f64() })
    } else {
        None
    };
    let step_numbers = if has(STEP_NUMBERS) { Some(reader.array(STEP_NUMBERS)?.into_indices()?) } else { None };
    let columns = Columns {
        obs_dim,
        act_dim,
        observations: observations.into_f32(),
        actions: actions.into_f32(),
        next_observations,
        rewards: has("rewards").then(|| reader.array("rewards")?.into_column()).transpose()?,
        terminals,
        timeouts,
        states,
        step_numbers,
        warnings,
    };
    let mut attributes = reader.attributes();
    // D4RL's own files describe themselves in a group of texts.
    for name in names.iter().filter_map(|name| name.strip_prefix("metadata/")).filter(|name| !name.contains('/')) {
        if let Some(text) = reader.text(&format!("metadata/{name}")) {
            attributes.entry(name.to_owned()).or_insert(text);
        }
    }
    Ok((columns, attributes))
}

pub(super) fn missing(dataset: &str, names: &[String], origin: &str) -> Error {
    let found = if names.is_empty() { "no dataset at all".to_owned() } else { names[..names.len().min(12)].join(", ") };
    Error::data(format!("{origin}: dataset `{dataset}` is missing"))
        .expected("observations, actions and terminals (D4RL), or groups episode_0, episode_1, … (Minari)")
        .found(found)
}

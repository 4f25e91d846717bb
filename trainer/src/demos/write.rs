//! Writes demonstrations as D4RL-shaped HDF5.

use super::Demonstrations;
use super::assemble::STEP_NUMBERS;
use super::hdf5::Writer;
use crate::error::{Error, Result};
use crate::run::files;
use std::path::Path;

/// Writes `demonstrations` to `path`: flat datasets, physics states in `infos/` as f64, the rest as f32 and bool, the
/// attributes as texts. The file is whole or absent; one that was there before is replaced only by a whole one.
///
/// # Errors
/// When there is nothing to write, or the machine refuses (a full disk, for instance).
pub fn write(path: &Path, demonstrations: &Demonstrations) -> Result<()> {
    let steps = demonstrations.len();
    if steps == 0 {
        return Err(Error::data(format!("no episode to write to {}", path.display())));
    }
    files::replace(path, |temporary| {
        Writer::create(temporary, path)?.complete(|writer| {
            writer.f32("observations", &[steps, demonstrations.obs_dim], &demonstrations.observations)?;
            writer.f32("actions", &[steps, demonstrations.act_dim], &demonstrations.actions_env)?;
            writer.f32("next_observations", &[steps, demonstrations.obs_dim], &demonstrations.next_observations)?;
            writer.f32("rewards", &[steps], &demonstrations.rewards)?;
            writer.flags("terminals", &demonstrations.terminals)?;
            writer.flags("timeouts", &demonstrations.timeouts)?;
            if demonstrations.states.is_some() || demonstrations.step_numbers.is_some() {
                writer.group("infos")?;
            }
            if let Some(states) = &demonstrations.states {
                writer.f64("infos", "qpos", &[steps, states.nq], &states.qpos)?;
                writer.f64("infos", "qvel", &[steps, states.nv], &states.qvel)?;
            }
            if let (Some(numbers), Some((group, dataset))) =
                (&demonstrations.step_numbers, STEP_NUMBERS.split_once('/'))
            {
                let numbers: Vec<f64> = numbers.iter().map(|number| *number as f64).collect();
                writer.f64(group, dataset, &[steps], &numbers)?;
            }
            for (name, value) in demonstrations.attributes.iter().filter(|(name, _)| *name != "writer") {
                writer.attribute(name, value)?;
            }
            if let (Some(task), false) = (&demonstrations.task, demonstrations.attributes.contains_key("task")) {
                writer.attribute("task", task)?;
            }
            Ok(())
        })
    })
}

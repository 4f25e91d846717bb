//! Minari HDF5: one group per episode, one observation more than actions.

use super::PhysicsStates;
use super::assemble::Columns;
use super::d4rl::missing;
use super::hdf5::Reader;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The episode numbers of a Minari file, ascending; groups themselves sort as text (`episode_10` before `episode_2`).
pub(super) fn episode_numbers(names: &[String]) -> Vec<u64> {
    let number = |name: &String| name.strip_prefix("episode_")?.split_once('/')?.0.parse().ok();
    names.iter().filter_map(number).collect::<BTreeSet<u64>>().into_iter().collect()
}

pub(super) fn read(reader: &Reader, names: &[String], origin: &str) -> Result<(Columns, BTreeMap<String, String>)> {
    let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let with_rewards = episode_numbers(names).iter().any(|n| known.contains(format!("episode_{n}/rewards").as_str()));
    let rewards = with_rewards.then(Vec::new);
    let mut columns = Columns { next_observations: Some(Vec::new()), rewards, ..Columns::default() };
    let mut without_state = 0;
    for number in episode_numbers(names) {
        let path = |dataset: &str| format!("episode_{number}/{dataset}");
        if !known.contains(path("observations").as_str()) {
            let prefix = path("observations/");
            let parts: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(&prefix)).collect();
            if !parts.is_empty() {
                return Err(Error::data(format!("{origin}: the observations of episode_{number} are a dictionary"))
                    .expected("one array per episode")
                    .found(parts.join(", "))
                    .hint(
                        "flatten the observations (gymnasium.wrappers.FlattenObservation) and record the dataset again",
                    ));
            }
        }
        for dataset in ["observations", "actions", "terminations", "truncations"] {
            if !known.contains(path(dataset).as_str()) {
                return Err(missing(&path(dataset), names, origin));
            }
        }
        let observations = reader.array(&path("observations"))?;
        let actions = reader.array(&path("actions"))?;
        let (obs_dim, act_dim) = (observations.width()?, actions.width()?);
        if columns.obs_dim == 0 {
            (columns.obs_dim, columns.act_dim) = (obs_dim, act_dim);
        }
        if (obs_dim, act_dim) != (columns.obs_dim, columns.act_dim) {
            return Err(Error::data(format!(
                "{origin}: episode_{number} has other widths than the episodes before it"
            ))
            .expected(format!("observations {} and actions {} wide", columns.obs_dim, columns.act_dim))
            .found(format!("{obs_dim} and {act_dim}")));
        }
        let steps = actions.shape[0];
        let check = |dataset: &str, rows: usize, expected: usize| {
            if rows == expected {
                return Ok(());
            }
            Err(Error::data(format!("{origin}: dataset `{}` has another length", path(dataset)))
                .expected(format!("{expected} rows for {steps} actions"))
                .found(format!("{rows} rows")))
        };
        check("observations", observations.shape[0], steps + 1)?;
        let rewards = match (with_rewards, known.contains(path("rewards").as_str())) {
            (false, _) => None,
            (true, true) => Some(reader.array(&path("rewards"))?.into_column()?),
            (true, false) => return Err(missing(&path("rewards"), names, origin).hint("other episodes have theirs")),
        };
        let terminals = reader.array(&path("terminations"))?.into_flags()?;
        let mut timeouts = reader.array(&path("truncations"))?.into_flags()?;
        check("rewards", rewards.as_ref().map_or(steps, Vec::len), steps)?;
        check("terminations", terminals.len(), steps)?;
        check("truncations", timeouts.len(), steps)?;
        if steps == 0 {
            columns.warnings.push(format!("episode_{number} is empty and was left out"));
            continue;
        }
        if !terminals[steps - 1] {
            timeouts[steps - 1] = true;
        }
        let values = observations.into_f32();
        columns.observations.extend_from_slice(&values[..steps * obs_dim]);
        if let Some(next) = &mut columns.next_observations {
            next.extend_from_slice(&values[obs_dim..]);
        }
        columns.actions.extend(actions.into_f32());
        if let (Some(all), Some(rewards)) = (&mut columns.rewards, rewards) {
            all.extend(rewards);
        }
        columns.terminals.extend(terminals);
        columns.timeouts.extend(timeouts);
        if known.contains(path("infos/qpos").as_str()) && known.contains(path("infos/qvel").as_str()) {
            let (qpos, qvel) = (reader.array(&path("infos/qpos"))?, reader.array(&path("infos/qvel"))?);
            check("infos/qpos", qpos.shape[0], steps + 1)?;
            check("infos/qvel", qvel.shape[0], steps + 1)?;
            let (nq, nv) = (qpos.width()?, qvel.width()?);
            let states =
                columns.states.get_or_insert_with(|| PhysicsStates { nq, nv, qpos: Vec::new(), qvel: Vec::new() });
            states.qpos.extend_from_slice(&qpos.into_f64()[..steps * nq]);
            states.qvel.extend_from_slice(&qvel.into_f64()[..steps * nv]);
        } else {
            without_state += 1;
        }
    }
    if without_state > 0 && columns.states.take().is_some() {
        columns.warnings.push(format!("{without_state} episodes lack physics states: all are left out"));
    }
    Ok((columns, reader.attributes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_are_ordered_by_number() {
        let names = ["episode_10/actions", "episode_2/actions", "episode_2/rewards", "other", "episode_x/actions"];
        assert_eq!(episode_numbers(&names.map(str::to_owned)), [2, 10]);
    }
}

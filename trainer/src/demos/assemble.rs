//! From the columns of a file to checked demonstrations.

use super::{Demonstrations, PhysicsStates};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// The dataset of [`Demonstrations::step_numbers`].
pub(super) const STEP_NUMBERS: &str = "infos/step";

/// What is said where a file has no rewards.
pub(super) const WITHOUT_REWARDS: &str = "no `rewards`: returns say nothing here; imitation does not need them";

/// What the file formats have in common, unchecked.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    pub(super) obs_dim: usize,
    pub(super) act_dim: usize,
    pub(super) observations: Vec<f32>,
    pub(super) actions: Vec<f32>,
    /// Absent where the file leaves them to be taken from the following row.
    pub(super) next_observations: Option<Vec<f32>>,
    /// Absent where the file has none: imitation needs none.
    pub(super) rewards: Option<Vec<f32>>,
    pub(super) terminals: Vec<bool>,
    pub(super) timeouts: Vec<bool>,
    pub(super) states: Option<PhysicsStates>,
    pub(super) step_numbers: Option<Vec<usize>>,
    pub(super) warnings: Vec<String>,
}

impl Columns {
    pub(super) fn truncate(&mut self, steps: usize) {
        self.observations.truncate(steps * self.obs_dim);
        self.actions.truncate(steps * self.act_dim);
        if let Some(next) = &mut self.next_observations {
            next.truncate(steps * self.obs_dim);
        }
        if let Some(rewards) = &mut self.rewards {
            rewards.truncate(steps);
        }
        self.terminals.truncate(steps);
        self.timeouts.truncate(steps);
        if let Some(states) = &mut self.states {
            states.qpos.truncate(steps * states.nq);
            states.qvel.truncate(steps * states.nv);
        }
        if let Some(numbers) = &mut self.step_numbers {
            numbers.truncate(steps);
        }
    }
}

/// Checks `columns` and cuts them into episodes; `origin` names the file in errors.
pub(super) fn assemble(
    mut columns: Columns,
    attributes: BTreeMap<String, String>,
    origin: &str,
) -> Result<Demonstrations> {
    if columns.rewards.is_none() {
        columns.rewards = Some(vec![0.0; columns.terminals.len()]);
        columns.warnings.push(WITHOUT_REWARDS.to_owned());
    }
    check_lengths(&columns, origin)?;
    let episodes = episodes_of(&columns.terminals, &columns.timeouts);
    check_finite(&columns, &episodes, origin)?;
    check_step_numbers(&columns, &episodes, origin)?;
    let episodes = if columns.next_observations.is_some() {
        close_last_episode(&mut columns);
        episodes
    } else {
        derive_next_observations(&mut columns, &episodes, origin)?
    };
    let mut task = attributes.get("task").or_else(|| attributes.get("env_id")).cloned();
    if task.as_deref() == Some("") {
        task = None;
    }
    Ok(Demonstrations {
        task,
        obs_dim: columns.obs_dim,
        act_dim: columns.act_dim,
        observations: columns.observations,
        actions_env: columns.actions,
        next_observations: columns.next_observations.unwrap_or_default(),
        rewards: columns.rewards.unwrap_or_default(),
        terminals: columns.terminals,
        timeouts: columns.timeouts,
        episodes,
        states: columns.states,
        step_numbers: columns.step_numbers,
        attributes,
        warnings: columns.warnings,
        source: None,
        sha256: None,
    })
}

fn check_lengths(columns: &Columns, origin: &str) -> Result<()> {
    if columns.obs_dim == 0 || columns.act_dim == 0 {
        let dataset = if columns.obs_dim == 0 { "observations" } else { "actions" };
        return Err(Error::data(format!("{origin}: dataset `{dataset}` has rows of width 0")));
    }
    let steps = columns.observations.len() / columns.obs_dim;
    if steps == 0 {
        return Err(Error::data(format!("{origin}: no episode in it"))
            .expected("at least one step")
            .found("none")
            .hint("hype demos collect TASK -o FILE.hdf5 records new demonstrations"));
    }
    let mut lengths = vec![
        ("actions", columns.actions.len() / columns.act_dim),
        ("rewards", columns.rewards.as_ref().map_or(steps, Vec::len)),
        ("terminals", columns.terminals.len()),
        ("timeouts", columns.timeouts.len()),
    ];
    if let Some(next) = &columns.next_observations {
        lengths.push(("next_observations", next.len() / columns.obs_dim));
    }
    if let Some(states) = &columns.states {
        lengths.push(("qpos", states.qpos.len() / states.nq.max(1)));
        lengths.push(("qvel", states.qvel.len() / states.nv.max(1)));
    }
    if let Some(numbers) = &columns.step_numbers {
        lengths.push((STEP_NUMBERS, numbers.len()));
    }
    match lengths.into_iter().find(|(_, rows)| *rows != steps) {
        None => Ok(()),
        Some((dataset, rows)) => Err(Error::data(format!("{origin}: dataset `{dataset}` has another length"))
            .expected(format!("{steps} rows, as in `observations`"))
            .found(format!("{rows} rows"))),
    }
}

/// Row ranges, each ending at a terminal or a timeout; the rows after the last flag are an episode too.
fn episodes_of(terminals: &[bool], timeouts: &[bool]) -> Vec<Range<usize>> {
    let mut episodes = Vec::new();
    let mut start = 0;
    for row in 0..terminals.len() {
        if terminals[row] || timeouts[row] {
            episodes.push(start..row + 1);
            start = row + 1;
        }
    }
    if start < terminals.len() {
        episodes.push(start..terminals.len());
    }
    episodes
}

/// A recording that was stopped in mid-episode was cut, not finished.
fn close_last_episode(columns: &mut Columns) {
    let last = columns.timeouts.len() - 1;
    if !columns.terminals[last] && !columns.timeouts[last] {
        columns.timeouts[last] = true;
        columns.warnings.push(format!("row {last}, the last one, ends no episode: taken as cut by a time limit"));
    }
}

/// Takes each step's next observation from the row after it. Where an episode was cut there is none: that row goes.
fn derive_next_observations(
    columns: &mut Columns,
    episodes: &[Range<usize>],
    origin: &str,
) -> Result<Vec<Range<usize>>> {
    let mut kept = Columns { obs_dim: columns.obs_dim, act_dim: columns.act_dim, ..Columns::default() };
    kept.rewards = columns.rewards.as_ref().map(|_| Vec::new());
    kept.states =
        columns.states.as_ref().map(|s| PhysicsStates { nq: s.nq, nv: s.nv, qpos: Vec::new(), qvel: Vec::new() });
    let (obs_dim, act_dim) = (columns.obs_dim, columns.act_dim);
    let mut next = Vec::with_capacity(columns.observations.len());
    let mut ranges = Vec::new();
    let mut dropped = 0;
    for rows in episodes {
        let terminated = columns.terminals[rows.end - 1];
        let end = if terminated { rows.end } else { rows.end - 1 };
        dropped += rows.end - end;
        if rows.start == end {
            continue;
        }
        let start = kept.terminals.len();
        for row in rows.start..end {
            // After a terminal step nothing follows; its own observation stands in, and the value there is zero.
            let following = if row + 1 < rows.end { row + 1 } else { row };
            next.extend_from_slice(&columns.observations[following * obs_dim..][..obs_dim]);
        }
        kept.observations.extend_from_slice(&columns.observations[rows.start * obs_dim..end * obs_dim]);
        kept.actions.extend_from_slice(&columns.actions[rows.start * act_dim..end * act_dim]);
        if let (Some(to), Some(from)) = (&mut kept.rewards, &columns.rewards) {
            to.extend_from_slice(&from[rows.start..end]);
        }
        kept.terminals.extend_from_slice(&columns.terminals[rows.start..end]);
        kept.timeouts.extend((rows.start..end).map(|row| row + 1 == end && !terminated));
        if let (Some(to), Some(from)) = (&mut kept.states, &columns.states) {
            to.qpos.extend_from_slice(&from.qpos[rows.start * from.nq..end * from.nq]);
            to.qvel.extend_from_slice(&from.qvel[rows.start * from.nv..end * from.nv]);
        }
        ranges.push(start..kept.terminals.len());
    }
    if ranges.is_empty() {
        return Err(Error::data(format!("{origin}: no episode of two steps or more"))
            .expected("`next_observations`, or episodes whose following rows give them")
            .found("neither"));
    }
    kept.warnings = std::mem::take(&mut columns.warnings);
    kept.warnings.push(format!(
        "no `next_observations`: taken from the following rows; {dropped} rows dropped whose next observation is unknown"
    ));
    kept.next_observations = Some(next);
    *columns = kept;
    Ok(ranges)
}

/// Where steps were dropped, the others keep their order, and no step's next observation can come from the row after it.
fn check_step_numbers(columns: &Columns, episodes: &[Range<usize>], origin: &str) -> Result<()> {
    let Some(numbers) = &columns.step_numbers else { return Ok(()) };
    if columns.next_observations.is_none() {
        return Err(Error::data(format!("{origin}: dataset `next_observations` is missing"))
            .expected(format!("`next_observations` beside `{STEP_NUMBERS}`: steps were dropped from this file")));
    }
    let unordered =
        episodes.iter().flat_map(|rows| rows.start + 1..rows.end).find(|row| numbers[row - 1] >= numbers[*row]);
    match unordered {
        None => Ok(()),
        Some(row) => Err(Error::data(format!("{origin}: dataset `{STEP_NUMBERS}`, row {row}"))
            .expected(format!("more than {}, the number of the step before it", numbers[row - 1]))
            .found(numbers[row])),
    }
}

fn check_finite(columns: &Columns, episodes: &[Range<usize>], origin: &str) -> Result<()> {
    let check = |dataset: &str, width: usize, first_bad: Option<(usize, String)>| match first_bad {
        None => Ok(()),
        Some((index, value)) => {
            let row = index / width.max(1);
            let episode = episodes.iter().position(|rows| rows.contains(&row)).unwrap_or(0);
            Err(Error::data(format!(
                "{origin}: dataset `{dataset}`, row {row} (episode {episode}), column {}",
                index % width.max(1)
            ))
            .expected("a finite number")
            .found(value)
            .hint("remove that episode or record the demonstrations again"))
        }
    };
    let find32 = |values: &[f32]| values.iter().position(|v| !v.is_finite()).map(|i| (i, values[i].to_string()));
    let find64 = |values: &[f64]| values.iter().position(|v| !v.is_finite()).map(|i| (i, values[i].to_string()));
    check("observations", columns.obs_dim, find32(&columns.observations))?;
    check("actions", columns.act_dim, find32(&columns.actions))?;
    check("rewards", 1, find32(columns.rewards.as_deref().unwrap_or_default()))?;
    if let Some(next) = &columns.next_observations {
        check("next_observations", columns.obs_dim, find32(next))?;
    }
    if let Some(states) = &columns.states {
        check("qpos", states.nq, find64(&states.qpos))?;
        check("qvel", states.nv, find64(&states.qvel))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(steps: usize) -> Columns {
        Columns {
            obs_dim: 1,
            act_dim: 1,
            observations: (0..steps).map(|i| i as f32).collect(),
            actions: vec![0.5; steps],
            next_observations: Some((1..=steps).map(|i| i as f32).collect()),
            rewards: Some(vec![1.0; steps]),
            terminals: vec![false; steps],
            timeouts: vec![false; steps],
            ..Columns::default()
        }
    }

    #[test]
    fn episodes_end_at_terminals_and_timeouts() {
        let mut table = columns(6);
        table.terminals[1] = true;
        table.timeouts[4] = true;
        let demos = assemble(table, BTreeMap::new(), "file").unwrap();
        assert_eq!(demos.episodes, [0..2, 2..5, 5..6]);
        assert!(demos.timeouts[5], "the open last episode counts as cut");
        assert_eq!(demos.warnings.len(), 1);
    }

    #[test]
    fn files_without_a_step_are_refused() {
        let error = assemble(columns(0), BTreeMap::new(), "file").unwrap_err().to_string();
        assert!(error.contains("file: no episode in it") && error.contains("demos collect"), "{error}");
        let mut without_next = columns(0);
        without_next.next_observations = None;
        assert!(assemble(without_next, BTreeMap::new(), "file").unwrap_err().to_string().contains("no episode in it"));
    }

    #[test]
    fn missing_next_observations_come_from_the_following_row() {
        let mut table = columns(6);
        table.next_observations = None;
        table.terminals[1] = true;
        table.timeouts[4] = true;
        let demos = assemble(table, BTreeMap::new(), "file").unwrap();
        assert_eq!(demos.observations, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(demos.next_observations, [1.0, 1.0, 3.0, 4.0]);
        assert_eq!(demos.episodes, [0..2, 2..4]);
        assert_eq!((demos.terminals[1], demos.timeouts[3]), (true, true));
        assert!(demos.warnings[0].contains("2 rows dropped"), "{:?}", demos.warnings);
    }

    #[test]
    fn faults_are_named() {
        let fault = |change: fn(&mut Columns)| {
            let mut table = columns(6);
            table.timeouts[2] = true;
            change(&mut table);
            let error = assemble(table, BTreeMap::new(), "F.hdf5").unwrap_err();
            assert_eq!(error.exit_code(), 3);
            error.to_string()
        };
        let nan = fault(|t| t.observations[4] = f32::NAN);
        assert!(
            nan.contains("F.hdf5: dataset `observations`, row 4 (episode 1), column 0") && nan.contains("NaN"),
            "{nan}"
        );
        let infinite = fault(|t| t.actions[0] = f32::INFINITY);
        assert!(infinite.contains("`actions`, row 0 (episode 0)") && infinite.contains("inf"), "{infinite}");
        let short = fault(|t| t.rewards.as_mut().unwrap().truncate(5));
        assert!(
            short.contains("`rewards`") && short.contains("expected 6 rows") && short.contains("found 5 rows"),
            "{short}"
        );
        assert!(fault(|t| t.truncate(0)).contains("no episode"));
    }
}

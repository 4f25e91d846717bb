//! Expert demonstrations: what they are, and the files that they come from.
//!
//! One flat table of steps, cut into episodes. Rows keep the file's own numbers: observations raw, actions in
//! environment units. [`Demonstrations::actions_unit`] gives the actions that learning works with.

mod array;
mod assemble;
mod d4rl;
#[cfg(test)]
mod file_tests;
mod fit;
mod hdf5;
mod inspect;
mod minari;
mod npz;
mod read;
mod recorder;
mod thin;
mod write;

pub use fit::{check_fit, check_rewards};
pub use inspect::{EpisodeStatistics, Summary};
pub use read::{is_one, read};
pub use recorder::{RecordedStep, Recorder};
pub use write::write;

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

/// Largest magnitude of an action in unit coordinates: the inverse of tanh stays finite (the published loader
/// clips there too).
pub const UNIT_ACTION_LIMIT: f32 = 1.0 - 1e-6;

/// Full physics states, one row per step, taken *before* the step.
#[derive(Debug, Clone, PartialEq)]
pub struct PhysicsStates {
    /// Width of a row of `qpos`.
    pub nq: usize,
    /// Width of a row of `qvel`.
    pub nv: usize,
    /// Generalised positions, `[steps, nq]`.
    pub qpos: Vec<f64>,
    /// Generalised velocities, `[steps, nv]`.
    pub qvel: Vec<f64>,
}

/// Steps of an expert, flat and row-major, with the episodes that they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Demonstrations {
    /// The task that the file says it was recorded on.
    pub task: Option<String>,
    /// Width of an observation.
    pub obs_dim: usize,
    /// Width of an action.
    pub act_dim: usize,
    /// Raw observations, `[steps, obs_dim]`.
    pub observations: Vec<f32>,
    /// Actions in environment units, `[steps, act_dim]`.
    pub actions_env: Vec<f32>,
    /// Observation after each step (never the one after a reset), `[steps, obs_dim]`.
    pub next_observations: Vec<f32>,
    /// True task rewards, `[steps]`; for reports only, imitation never reads them.
    pub rewards: Vec<f32>,
    /// The task itself ended here, `[steps]`.
    pub terminals: Vec<bool>,
    /// A time limit cut the episode here, `[steps]`.
    pub timeouts: Vec<bool>,
    /// Row ranges of the episodes, in order, none empty.
    pub episodes: Vec<Range<usize>>,
    /// Physics states, where the file has them.
    pub states: Option<PhysicsStates>,
    /// Number of each step in its episode, from 0, `[steps]`; only where steps between them were dropped.
    pub step_numbers: Option<Vec<usize>>,
    /// Attributes of the file (`task`, `seed`, `policy`, `mujoco_version`, …) as text.
    pub attributes: BTreeMap<String, String>,
    /// What the reader had to decide or noticed, for people.
    pub warnings: Vec<String>,
    /// Where the data was read from.
    pub source: Option<PathBuf>,
    /// SHA-256 of that file.
    pub sha256: Option<String>,
}

impl Demonstrations {
    /// Number of steps.
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// True without a step.
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }

    /// The observation of step `row`.
    pub fn observation(&self, row: usize) -> &[f32] {
        &self.observations[row * self.obs_dim..][..self.obs_dim]
    }

    /// The action of step `row`, environment units.
    pub fn action_env(&self, row: usize) -> &[f32] {
        &self.actions_env[row * self.act_dim..][..self.act_dim]
    }

    /// The observation after step `row`.
    pub fn next_observation(&self, row: usize) -> &[f32] {
        &self.next_observations[row * self.obs_dim..][..self.obs_dim]
    }

    /// `(qpos, qvel)` before step `row`, where the file has physics states.
    pub fn state(&self, row: usize) -> Option<(&[f64], &[f64])> {
        let states = self.states.as_ref()?;
        Some((&states.qpos[row * states.nq..][..states.nq], &states.qvel[row * states.nv..][..states.nv]))
    }

    /// Number of step `row` in its `episode`, from 0.
    pub fn step_number(&self, episode: &Range<usize>, row: usize) -> usize {
        self.step_numbers.as_ref().map_or(row - episode.start, |numbers| numbers[row])
    }

    /// Steps that an episode had when it was recorded, as far as its rows tell.
    pub fn recorded_steps(&self, episode: &Range<usize>) -> usize {
        self.step_number(episode, episode.end - 1) + 1
    }

    /// The sum of true rewards of each episode.
    pub fn returns(&self) -> Vec<f64> {
        self.episodes.iter().map(|rows| self.rewards[rows.clone()].iter().map(|r| f64::from(*r)).sum()).collect()
    }

    /// All actions in unit coordinates, `[steps, act_dim]`: the box `low..high` of the environment becomes -1..1, clipped
    /// to ±[`UNIT_ACTION_LIMIT`].
    ///
    /// # Errors
    /// When the bounds do not have `act_dim` entries or are not an interval.
    pub fn actions_unit(&self, low: &[f32], high: &[f32]) -> Result<Vec<f32>> {
        if low.len() != self.act_dim || high.len() != self.act_dim {
            return Err(Error::data(format!("{} do not fit the task's actions", self.described()))
                .expected(format!("actions of width {}", low.len()))
                .found(self.act_dim));
        }
        if let Some(channel) = (0..self.act_dim).find(|i| !(low[*i] < high[*i] && (high[*i] - low[*i]).is_finite())) {
            return Err(Error::data(format!("action channel {channel} has no finite range"))
                .expected("low < high")
                .found(format!("{}..{}", low[channel], high[channel])));
        }
        let to_unit = |(channel, value): (usize, f32)| {
            let (low, high) = (f64::from(low[channel]), f64::from(high[channel]));
            let unit = 2.0 * (f64::from(value) - low) / (high - low) - 1.0;
            (unit as f32).clamp(-UNIT_ACTION_LIMIT, UNIT_ACTION_LIMIT)
        };
        Ok(self
            .actions_env
            .chunks_exact(self.act_dim)
            .flat_map(|row| row.iter().copied().enumerate().map(to_unit))
            .collect())
    }

    /// Keeps the first `episodes` episodes.
    ///
    /// # Errors
    /// When there are fewer, or `episodes` is zero.
    pub fn limit(mut self, episodes: usize) -> Result<Self> {
        if episodes == 0 || episodes > self.episodes.len() {
            return Err(Error::config(format!("cannot take {episodes} episodes from {}", self.described()))
                .expected(format!("a number from 1 to {}", self.episodes.len()))
                .found(episodes)
                .hint("--demos-limit N takes fewer; the preset asks for some where the command line does not"));
        }
        self.episodes.truncate(episodes);
        let steps = self.episodes.last().map_or(0, |rows| rows.end);
        self.observations.truncate(steps * self.obs_dim);
        self.actions_env.truncate(steps * self.act_dim);
        self.next_observations.truncate(steps * self.obs_dim);
        self.rewards.truncate(steps);
        self.terminals.truncate(steps);
        self.timeouts.truncate(steps);
        if let Some(states) = &mut self.states {
            states.qpos.truncate(steps * states.nq);
            states.qvel.truncate(steps * states.nv);
        }
        if let Some(numbers) = &mut self.step_numbers {
            numbers.truncate(steps);
        }
        Ok(self)
    }

    /// Checks that the demonstrations fit a task.
    ///
    /// # Errors
    /// When a width differs; the message names the file, the dataset, and both widths.
    pub fn check_widths(&self, task: &str, obs_dim: usize, act_dim: usize) -> Result<()> {
        let wrong = |dataset: &str, expected: usize, found: usize| {
            let error = Error::data(format!("{}: dataset `{dataset}` does not fit the task {task}", self.described()))
                .expected(format!("rows of width {expected}"))
                .found(format!("width {found}"));
            Err(match &self.task {
                Some(recorded) if recorded != task => {
                    error.hint(format!("the file was recorded on {recorded}: train on that task, or take another file"))
                }
                _ => error.hint(format!("hype demos collect {task} -o {task}.hdf5")),
            })
        };
        if self.obs_dim != obs_dim {
            return wrong("observations", obs_dim, self.obs_dim);
        }
        if self.act_dim != act_dim {
            return wrong("actions", act_dim, self.act_dim);
        }
        Ok(())
    }

    /// The file's name, or words for demonstrations without one.
    pub fn described(&self) -> String {
        self.source.as_ref().map_or_else(|| "these demonstrations".to_owned(), |path| path.display().to_string())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two episodes of three and two steps, two observation entries, one action; physics states of widths 2 and 1.
    pub(crate) fn small() -> Demonstrations {
        let mut recorder = Recorder::new(2, 1, Some((2, 1)));
        for (episode, steps) in [(0, 3), (1, 2)] {
            for step in 0..steps {
                let x = (10 * episode + step) as f32;
                let state = (&[f64::from(x) + 0.1, -f64::from(x)][..], &[f64::from(x) / 3.0][..]);
                let last = step + 1 == steps;
                recorder.step(&RecordedStep {
                    observation: &[x, -x],
                    action_env: &[0.125 * x - 1.0],
                    next_observation: &[x + 1.0, -x - 1.0],
                    reward: 0.5,
                    terminated: last && episode == 0,
                    truncated: last && episode == 1,
                    state: Some(state),
                });
            }
            recorder.keep_episode();
        }
        let attributes = [("seed", "0"), ("policy", "test")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        recorder.finish("toy", attributes.into_iter().collect()).unwrap()
    }

    #[test]
    fn actions_become_unit_actions_inside_the_clip() {
        let demos = small();
        assert_eq!(demos.actions_unit(&[-1.0], &[1.0]).unwrap()[0], -UNIT_ACTION_LIMIT);
        let halved = demos.actions_unit(&[-2.0], &[2.0]).unwrap();
        assert_eq!(halved, demos.actions_env.iter().map(|a| a / 2.0).collect::<Vec<_>>());
        assert_eq!(demos.actions_unit(&[-9.0], &[-2.0]).unwrap()[0], UNIT_ACTION_LIMIT, "beyond the bound is clipped");
        assert!(demos.actions_unit(&[0.0, 0.0], &[1.0, 1.0]).unwrap_err().to_string().contains("width 2"));
        assert!(demos.actions_unit(&[1.0], &[1.0]).unwrap_err().to_string().contains("channel 0"));
    }

    #[test]
    fn a_limit_keeps_whole_episodes() {
        let one = small().limit(1).unwrap();
        assert_eq!((one.len(), one.episodes.len(), one.episodes[0].clone()), (3, 1, 0..3));
        assert_eq!(one.next_observations.len(), 6);
        assert_eq!(one.states.as_ref().unwrap().qvel.len(), 3);
        let error = small().limit(3).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("from 1 to 2"), "{error}");
        assert!(small().limit(0).is_err());
    }

    #[test]
    fn wrong_widths_name_dataset_and_both_widths() {
        small().check_widths("toy", 2, 1).unwrap();
        let error = small().check_widths("hopper", 11, 3).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.exit_code(), 3);
        for part in ["observations", "width 11", "width 2", "recorded on toy"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

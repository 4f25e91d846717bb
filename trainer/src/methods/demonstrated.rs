//! Demonstrations as the methods use them: rows for the policy learner, pairs for the discriminator, states to reset to.

use crate::demos::Demonstrations;
use crate::envs::{DemoResets, DemoState, ResetState, Task};
use crate::error::{Error, Result};
use crate::replay::{ReplayBuffer, Transition};
use crate::reward::discriminator::Pairs;
use std::ops::Range;
use std::sync::Arc;

/// Expert data, actions in [-1, 1] (but see [`Demonstrated::in_env_units`]).
#[derive(Debug, Clone)]
pub struct Demonstrated {
    /// Every transition, for hybrid batches. Its task rewards are not a number: imitation has none.
    pub rows: ReplayBuffer,
    /// Every state-action pair.
    pub pairs: Pairs,
    /// The first observation of every episode.
    pub starts: Pairs,
    /// Rows of each episode.
    pub segments: Vec<Range<usize>>,
    /// Observation and action.
    pub widths: (usize, usize),
    episodes: Option<Arc<[Vec<DemoState>]>>,
}

impl Demonstrated {
    /// Converts demonstrations of `task`; their widths have been checked on load.
    pub fn new(demonstrations: &Demonstrations, task: &Task) -> Result<Self> {
        Self::of(demonstrations, &demonstrations.actions_unit(&task.action_low(), &task.action_high())?)
    }

    /// A fault of the published code (hype.md 6): the actions stay in environment units.
    pub fn in_env_units(demonstrations: &Demonstrations) -> Result<Self> {
        Self::of(demonstrations, &demonstrations.actions_env)
    }

    fn of(demonstrations: &Demonstrations, actions: &[f32]) -> Result<Self> {
        let (observation_width, action_width) = (demonstrations.obs_dim, demonstrations.act_dim);
        let mut rows = ReplayBuffer::new(demonstrations.len(), observation_width, action_width);
        let mut pairs = Pairs::new(observation_width + action_width);
        for row in 0..demonstrations.len() {
            let action = &actions[row * action_width..][..action_width];
            pairs.push(demonstrations.observation(row), action);
            rows.push(Transition {
                observation: demonstrations.observation(row),
                action_unit: action,
                task_reward: f32::NAN,
                next_observation: demonstrations.next_observation(row),
                terminated: demonstrations.terminals[row],
            });
        }
        let state = |episode: &Range<usize>, row| {
            let (qpos, qvel) = demonstrations.state(row)?;
            let state = ResetState { qpos: qpos.to_vec(), qvel: qvel.to_vec(), warmstart: None };
            Some(DemoState { step: demonstrations.step_number(episode, row), state })
        };
        let states = |rows: &Range<usize>| rows.clone().map(|row| state(rows, row)).collect();
        let episodes: Option<Vec<Vec<DemoState>>> = demonstrations.episodes.iter().map(states).collect();
        let mut starts = Pairs::new(observation_width);
        demonstrations.episodes.iter().for_each(|rows| starts.push(demonstrations.observation(rows.start), &[]));
        let widths = (observation_width, action_width);
        let segments = demonstrations.episodes.clone();
        Ok(Self { rows, pairs, starts, segments, widths, episodes: episodes.map(Arc::from) })
    }

    /// No demonstrations, for learning from the task's own reward.
    pub fn none(task: &Task) -> Self {
        let (observations, actions) = (task.observation_width(), task.action_width());
        Self {
            rows: ReplayBuffer::new(1, observations, actions),
            pairs: Pairs::new(observations + actions),
            starts: Pairs::new(observations),
            segments: Vec::new(),
            widths: (observations, actions),
            episodes: None,
        }
    }

    /// Rows that no file holds, as one episode.
    #[cfg(test)]
    pub(crate) fn of_rows(rows: ReplayBuffer, pairs: Pairs, starts: Pairs) -> Self {
        let widths = (starts.width, pairs.width - starts.width);
        let segments = std::iter::once(0..rows.len()).collect();
        Self { rows, pairs, starts, segments, widths, episodes: None }
    }

    /// 200 rows of Pendulum's widths like an expert's in shape, each leading where `next` says, channel by channel; nothing in the
    /// tests learns for long enough to need a good one.
    #[cfg(test)]
    pub(crate) fn made_up(next: impl Fn(f32) -> f32) -> Self {
        let rng = &mut crate::run::rng::Streams::new(8).stream("expert");
        let mut rows = ReplayBuffer::new(200, 3, 1);
        let (mut pairs, mut starts) = (Pairs::new(4), Pairs::new(3));
        for row in 0..200 {
            let observation: Vec<f32> = (0..3).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
            let next: Vec<f32> = observation.iter().map(|x| next(*x)).collect();
            let action = [rng.uniform(-1.0, 1.0) as f32];
            pairs.push(&observation, &action);
            if row % 50 == 0 {
                starts.push(&observation, &[]);
            }
            rows.push(Transition {
                observation: &observation,
                action_unit: &action,
                task_reward: f32::NAN,
                next_observation: &next,
                terminated: false,
            });
        }
        Self::of_rows(rows, pairs, starts)
    }

    /// Pairs that know an absorbing state: demonstrations that the task ended stay in it until the horizon.
    pub fn with_ends(mut self, horizon: usize) -> Self {
        let mut pairs = Pairs::with_end(self.pairs.width);
        for rows in &self.segments {
            rows.clone().for_each(|row| pairs.push(self.pairs.row(row), &[]));
            if self.rows.row(rows.end - 1).terminated {
                pairs.push_end(horizon.saturating_sub(rows.len()));
            }
        }
        self.pairs = pairs;
        self
    }

    /// Episode starts in demonstrated states with probability `alpha`; none where that is zero.
    pub fn resets(&self, alpha: f64) -> Result<Option<DemoResets>> {
        if alpha == 0.0 {
            return Ok(None);
        }
        let episodes = self.episodes.clone().ok_or_else(|| {
            Error::data("resets to expert states need the physics states of the demonstrations")
                .expected("infos/qpos and infos/qvel in the demonstration file (.npz: qpos and qvel)")
                .found("none")
                .hint("collect demonstrations with `hype demos collect`, or set reset.probability=0")
        })?;
        Ok(Some(DemoResets { episodes, alpha }))
    }
}

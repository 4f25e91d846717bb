//! Records steps episode by episode, so that an episode can still be discarded when it ends.

use super::assemble::{Columns, assemble};
use super::{Demonstrations, PhysicsStates};
use crate::error::Result;
use std::collections::BTreeMap;

/// One step as it happened.
#[derive(Debug, Clone, Copy)]
pub struct RecordedStep<'a> {
    /// Observation before the step.
    pub observation: &'a [f32],
    /// Exactly the value that was executed, environment units.
    pub action_env: &'a [f32],
    /// Observation after the step, before any reset.
    pub next_observation: &'a [f32],
    /// True task reward.
    pub reward: f64,
    /// The task itself ended.
    pub terminated: bool,
    /// A time limit cut the episode.
    pub truncated: bool,
    /// `(qpos, qvel)` before the step.
    pub state: Option<(&'a [f64], &'a [f64])>,
}

/// Collects the steps of one policy. An episode counts once [`Recorder::keep_episode`] is called.
#[derive(Debug, Clone)]
pub struct Recorder {
    columns: Columns,
    kept_steps: usize,
    kept_episodes: usize,
}

impl Recorder {
    /// A recorder of observations of width `obs_dim` and actions of width `act_dim`; `state_widths` is `(nq, nv)` where
    /// physics states are recorded.
    pub fn new(obs_dim: usize, act_dim: usize, state_widths: Option<(usize, usize)>) -> Self {
        let states = state_widths.map(|(nq, nv)| PhysicsStates { nq, nv, qpos: Vec::new(), qvel: Vec::new() });
        let columns = Columns { obs_dim, act_dim, states, next_observations: Some(Vec::new()), ..Columns::default() };
        Self { columns, kept_steps: 0, kept_episodes: 0 }
    }

    /// Records one step. Widths must be those of [`Recorder::new`].
    pub fn step(&mut self, step: &RecordedStep<'_>) {
        debug_assert_eq!(step.observation.len(), self.columns.obs_dim);
        debug_assert_eq!(step.action_env.len(), self.columns.act_dim);
        self.columns.observations.extend_from_slice(step.observation);
        self.columns.actions.extend_from_slice(step.action_env);
        if let Some(next) = &mut self.columns.next_observations {
            next.extend_from_slice(step.next_observation);
        }
        self.columns.rewards.get_or_insert_default().push(step.reward as f32);
        self.columns.terminals.push(step.terminated);
        self.columns.timeouts.push(step.truncated && !step.terminated);
        if let (Some(states), Some((qpos, qvel))) = (&mut self.columns.states, step.state) {
            states.qpos.extend_from_slice(qpos);
            states.qvel.extend_from_slice(qvel);
        }
    }

    /// Keeps the episode that just ended. One that was stopped without an ending of its own counts as cut by a time limit.
    pub fn keep_episode(&mut self) {
        let steps = self.columns.terminals.len();
        if steps > self.kept_steps {
            self.columns.timeouts[steps - 1] = !self.columns.terminals[steps - 1];
            self.kept_steps = steps;
            self.kept_episodes += 1;
        }
    }

    /// Forgets the steps since the last kept episode.
    pub fn discard_episode(&mut self) {
        self.columns.truncate(self.kept_steps);
    }

    /// Episodes kept so far.
    pub fn episodes(&self) -> usize {
        self.kept_episodes
    }

    /// Steps kept so far.
    pub fn steps(&self) -> usize {
        self.kept_steps
    }

    /// The kept episodes as demonstrations of `task`.
    ///
    /// # Errors
    /// When nothing was kept, or a recorded number is not finite.
    pub fn finish(mut self, task: &str, mut attributes: BTreeMap<String, String>) -> Result<Demonstrations> {
        self.discard_episode();
        attributes.insert("task".to_owned(), task.to_owned());
        assemble(self.columns, attributes, "the recorded steps")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discarded_episodes_leave_no_trace() {
        let mut recorder = Recorder::new(1, 1, None);
        let record = |recorder: &mut Recorder, value: f32| {
            recorder.step(&RecordedStep {
                observation: &[value],
                action_env: &[0.0],
                next_observation: &[value + 1.0],
                reward: 1.0,
                terminated: false,
                truncated: false,
                state: None,
            });
        };
        record(&mut recorder, 0.0);
        recorder.keep_episode();
        record(&mut recorder, 7.0);
        recorder.discard_episode();
        record(&mut recorder, 1.0);
        recorder.keep_episode();
        record(&mut recorder, 8.0);
        assert_eq!((recorder.episodes(), recorder.steps()), (2, 2));
        let demos = recorder.finish("toy", BTreeMap::new()).unwrap();
        assert_eq!(demos.observations, [0.0, 1.0]);
        assert_eq!(demos.timeouts, [true, true]);
        assert_eq!(demos.task.as_deref(), Some("toy"));
    }

    #[test]
    fn an_empty_recording_is_an_error() {
        assert!(Recorder::new(1, 1, None).finish("toy", BTreeMap::new()).is_err());
    }
}

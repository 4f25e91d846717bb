//! The physics itself in the place of a learned model: what imagination would be if the model were perfect.

use super::dynamics::{Dynamics, Imagined};
use crate::envs::{self, ActionScale, Env, ResetState};
use crate::error::{Error, Result};

/// Steps the task's simulator from the state that an observation shows. Only tasks whose observation determines the state have
/// one: not those with contact forces or limited velocities beyond their limits.
pub struct Simulator {
    env: Box<dyn Env>,
    scale: ActionScale,
}

impl Simulator {
    /// The simulator of `task`.
    ///
    /// # Errors
    /// A task whose observation does not tell the state.
    pub fn new(task: &str) -> Result<Self> {
        let env = envs::make(task)?;
        state(task, &vec![0.0; env.task().observation_width()])?;
        Ok(Self { scale: env.task().action_scale(), env })
    }
}

fn state(task: &str, observation: &[f32]) -> Result<ResetState> {
    envs::shown_state(task, observation)?.ok_or_else(|| {
        Error::config(format!("an observation of {task} does not tell the state of its physics"))
            .hint("use a task of positions and velocities, for instance hopper or ant-truncated")
    })
}

impl Dynamics for Simulator {
    fn step(&mut self, observations: &[f32], actions: &[f32]) -> Result<Imagined> {
        let (width, actuators) = (self.env.task().observation_width(), self.env.task().action_width());
        let mut imagined = Imagined { next_observations: Vec::new(), task_rewards: Vec::new() };
        let mut action_env = vec![0.0; actuators];
        for (observation, action) in observations.chunks_exact(width).zip(actions.chunks_exact(actuators)) {
            let state = state(&self.env.task().id, observation)?;
            self.env.reset_to(&state)?;
            self.scale.to_env(action, &mut action_env)?;
            let step = self.env.step(&action_env)?;
            imagined.next_observations.extend(self.env.observation().iter().map(|value| *value as f32));
            imagined.task_rewards.push(step.reward as f32);
        }
        Ok(imagined)
    }
}

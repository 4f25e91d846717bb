//! Environments: physics tasks, and the boundary at which every real step is counted.

use crate::error::Result;
use crate::run::rng::Stream;
use serde::{Deserialize, Serialize};

/// What a step did to the episode. A terminal state has no future; a truncated episode has one that was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The episode goes on.
    Continues,
    /// The task itself ended: the value of the next state is zero.
    Terminated,
    /// A time limit cut the episode: the next state keeps its value.
    Truncated,
}

/// Reward (true task reward) and ending of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The task's own reward.
    pub reward: f64,
    /// How the episode stands after the step.
    pub ending: Ending,
}

/// Why a real environment step was taken. Every step has exactly one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// Uniform random actions before learning.
    Exploration,
    /// The learning policy's own steps.
    Policy,
    /// Episodes collected for the discriminator.
    Discriminator,
    /// Steps replayed to reach a reset state.
    ReplayedReset,
    /// Evaluation episodes: reported apart.
    Evaluation,
}

/// Physics tasks behind one interface; actions in environment units, observations raw.
pub trait Env: Send {
    /// The task's constants.
    fn task(&self) -> &Task;
    /// Starts an episode from the task's start distribution.
    fn reset(&mut self, rng: &mut Stream) -> Result<()>;
    /// The current observation, raw.
    fn observation(&self) -> &[f64];
    /// One control step; `action_env` in environment units.
    fn step(&mut self, action_env: &[f32]) -> Result<Step>;
}

/// The constants of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Name on the command line, version suffix included where it is not the default.
    pub id: String,
}

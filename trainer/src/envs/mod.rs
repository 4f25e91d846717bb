//! Environments: physics tasks, and the boundary at which every real step is counted.
//!
//! A newcomer reads `world` (what the rest of the trainer talks to), then `catalogue` (what tasks there are), then
//! `locomotion` (how a MuJoCo task is put together from parts).

mod catalogue;
#[cfg(test)]
mod catalogue_tests;
mod layout;
mod locomotion;
pub mod mujoco;
mod pendulum;
mod random;
mod robots;
mod shown;
mod summation;
mod task;
mod world;
#[cfg(test)]
mod world_tests;

pub use catalogue::{known_expert_return, make, same_goal, task, task_ids};
pub use random::{RANDOM_RETURN_EPISODES, random_return};
pub use shown::{Termination, shown_state};
pub use task::{ActionScale, Channel, Task};
pub use world::{DemoResets, DemoState, StepCounts, World, WorldCheckpoint, WorldConfig};

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

/// A state to start an episode from, as recorded in a demonstration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResetState {
    /// Position coordinates.
    pub qpos: Vec<f64>,
    /// Velocity coordinates.
    pub qvel: Vec<f64>,
    /// The constraint solver's starting point. Without it a continuation differs from the recorded one at first in the last
    /// bits, and contact amplifies that.
    pub warmstart: Option<Vec<f64>>,
}

/// Everything from which an environment continues bit for bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvState {
    /// The simulator's integration state.
    pub physics: Vec<f64>,
    /// The current observation, unsliced; some of its entries lag behind the physics and cannot be recomputed from it.
    pub observation: Vec<f64>,
    /// The position from which the next step's progress is measured, in metres; it lags likewise.
    pub progress_m: f64,
}

/// Physics tasks behind one interface; actions in environment units, observations raw. No time limit, no counting: that is
/// [`World`]'s.
pub trait Env: Send {
    /// The task's constants.
    fn task(&self) -> &Task;
    /// Starts an episode from the task's start distribution.
    fn reset(&mut self, rng: &mut Stream) -> Result<()>;
    /// Starts an episode from a given state, as Gymnasium's `set_state` does: contact forces show as zero, and progress is
    /// measured from the state itself, so that in tasks whose progress lags the first reward differs a little from a recorded
    /// continuation's. The states that follow do not, if the state has its warm start.
    fn reset_to(&mut self, start: &ResetState) -> Result<()>;
    /// Shows the contact forces of the present state where the task observes any: for a start in the middle of a movement.
    fn show_contact(&mut self) -> Result<()> {
        Ok(())
    }
    /// The current observation, raw.
    fn observation(&self) -> &[f64];
    /// The observation of the full task of which a `-truncated` task shows the beginning; else the observation.
    fn full_observation(&self) -> &[f64];
    /// One control step; `action_env` in environment units, not clamped. Never says [`Ending::Truncated`].
    fn step(&mut self, action_env: &[f32]) -> Result<Step>;
    /// Position coordinates.
    fn qpos(&self) -> &[f64];
    /// Velocity coordinates.
    fn qvel(&self) -> &[f64];
    /// The constraint solver's starting point for the next step; empty where the physics has none.
    fn warmstart(&self) -> &[f64];
    /// Everything from which this environment continues bit for bit.
    fn save(&self) -> EnvState;
    /// Puts back what [`Env::save`] returned.
    fn load(&mut self, state: &EnvState) -> Result<()>;
}

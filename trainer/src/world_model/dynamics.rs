//! What can tell where an action leads: a learned model, or the physics itself.

use crate::error::Result;

/// Where rows led.
#[derive(Debug, Clone, PartialEq)]
pub struct Imagined {
    /// `[rows, observation]`.
    pub next_observations: Vec<f32>,
    /// `[rows]`, or none where rewards are not told.
    pub task_rewards: Vec<f32>,
}

/// A world to imagine in. Its steps are no real ones: nobody counts them.
pub trait Dynamics {
    /// One step of every row: `observations` `[rows, observation]`, raw; `actions` `[rows, action]` in [-1, 1].
    fn step(&mut self, observations: &[f32], actions: &[f32]) -> Result<Imagined>;

    /// How much it is in doubt about where each row leads; none where it never is.
    fn doubt(&mut self, _observations: &[f32], _actions: &[f32]) -> Option<Vec<f32>> {
        None
    }
}

//! What a task is: its channels, its clock, its reference returns.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// One number of an observation or an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Unique within the observation or the action.
    pub name: String,
    /// SI unit; `1` for a pure number.
    pub unit: String,
    /// Least value that can occur, where there is one.
    pub low: Option<f64>,
    /// Greatest value that can occur, where there is one.
    pub high: Option<f64>,
}

/// The constants of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Name on the command line, version suffix included where it is not the default.
    pub id: String,
    /// Observation channels, in order.
    pub observation: Vec<Channel>,
    /// Action channels in environment units, in order; every one has both bounds.
    pub action: Vec<Channel>,
    /// Time between two decisions in seconds.
    pub control_period_secs: f64,
    /// Steps after which an episode is truncated.
    pub horizon: usize,
    /// Whether the task can end an episode before the horizon.
    pub terminates: bool,
    /// Mean return of the shipped expert, where there is one.
    pub expert_return: Option<f64>,
    /// Mean return of uniformly random actions over 100 episodes of the streams of seed 0
    /// ([`super::random_return`]); none where it has not been measured.
    pub random_return: Option<f64>,
}

impl Task {
    /// Whether `other` has the same channels in the same order: what was recorded or learned there makes sense here.
    pub fn has_channels_of(&self, other: &Task) -> bool {
        let same = |left: &[Channel], right: &[Channel]| left.iter().map(|c| &c.name).eq(right.iter().map(|c| &c.name));
        same(&self.observation, &other.observation) && same(&self.action, &other.action)
    }

    /// Numbers in an observation.
    pub fn observation_width(&self) -> usize {
        self.observation.len()
    }

    /// Numbers in an action.
    pub fn action_width(&self) -> usize {
        self.action.len()
    }

    /// Lower bound of each action channel, in environment units.
    pub fn action_low(&self) -> Vec<f32> {
        self.action.iter().map(|channel| channel.low.unwrap_or(-1.0) as f32).collect()
    }

    /// Upper bound of each action channel, in environment units.
    pub fn action_high(&self) -> Vec<f32> {
        self.action.iter().map(|channel| channel.high.unwrap_or(1.0) as f32).collect()
    }

    /// The conversion between `[-1, 1]` and environment units.
    pub fn action_scale(&self) -> ActionScale {
        ActionScale::new(&self.action_low(), &self.action_high())
    }
}

/// The affine map between `action_unit` in `[-1, 1]` and `action_env` in environment units, in f32:
/// `env = centre + unit × half_range`, so that −1 and 1 are exactly the bounds where those are symmetric.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionScale {
    centre: Vec<f32>,
    half_range: Vec<f32>,
}

impl ActionScale {
    /// The map for these bounds.
    pub fn new(low: &[f32], high: &[f32]) -> Self {
        let pairs = || low.iter().zip(high);
        Self {
            centre: pairs().map(|(low, high)| 0.5 * (low + high)).collect(),
            half_range: pairs().map(|(low, high)| 0.5 * (high - low)).collect(),
        }
    }

    /// Writes the environment action of a unit action; values outside `[-1, 1]` are clamped to it.
    pub fn to_env(&self, action_unit: &[f32], action_env: &mut [f32]) -> Result<()> {
        self.check(action_unit.len(), action_env.len())?;
        for (i, env) in action_env.iter_mut().enumerate() {
            *env = self.centre[i] + action_unit[i].clamp(-1.0, 1.0) * self.half_range[i];
        }
        Ok(())
    }

    /// Writes the unit action of an environment action; not clamped.
    pub fn to_unit(&self, action_env: &[f32], action_unit: &mut [f32]) -> Result<()> {
        self.check(action_env.len(), action_unit.len())?;
        for (i, unit) in action_unit.iter_mut().enumerate() {
            *unit = (action_env[i] - self.centre[i]) / self.half_range[i];
        }
        Ok(())
    }

    fn check(&self, from: usize, to: usize) -> Result<()> {
        let width = self.centre.len();
        if from == width && to == width {
            return Ok(());
        }
        Err(Error::data("action of the wrong width").expected(width).found(if from == width { to } else { from }))
    }
}

//! Configuration of learning inside a learned world: HyPER, and with the task's own reward MBPO.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the model's learning rate moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelRate {
    /// Stays.
    Constant,
    /// Down a cosine, then at its least.
    Cosine,
    /// PyTorch's cosine, which rises again: a fault of the published code (hyper.md 5).
    PeriodicCosine,
}

/// The ensemble of dynamics models and how it is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldModelConfig {
    /// Models side by side.
    pub members: usize,
    /// How many of them, the best on held-out rows, imagine.
    pub elites: usize,
    /// Hidden widths.
    pub hidden: Vec<usize>,
    /// Learning rate, or where it begins.
    pub learning_rate: f64,
    /// How it moves.
    pub learning_rate_schedule: ModelRate,
    /// Batches after which a cosine is at its least.
    pub rate_batches: u64,
    /// What a cosine falls to.
    pub least_learning_rate: f64,
    /// L2 penalty added to the gradient, on all parameters.
    pub weight_decay: f64,
    /// Rows per member and gradient step.
    pub batch_size: usize,
    /// Environment steps from fit to fit, and from imagination to imagination.
    pub fit_every: u64,
    /// Share of the rows that a fit holds out.
    pub held_out: f64,
    /// A fit ends after so many epochs in which no member improved …
    pub patience: u64,
    /// … if they were so many batches at least: epochs of few rows are too short to tell.
    pub patience_batches: u64,
    /// Relative fall of a member's held-out error that counts as an improvement.
    pub improvement: f64,
    /// A fit ends with the epoch in which it reaches so many batches, in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_batches: Option<u64>,
    /// Share of the rows a fit draws, and judges by, that are the learner's; where it is not set, all rows count alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learner_share: Option<f64>,
    /// Predicted mean changes are clamped to ±this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_clip: Option<f64>,
    /// Rows of the ring in which the learner's steps and as many random expert rows are kept.
    pub capacity: usize,
    /// Whether the demonstrations stay beside that ring. In it they are overwritten some day: a fault of the published code
    /// (hyper.md 4).
    pub pinned_demonstrations: bool,
    /// Share of all rows that the model is fitted to, evenly spread; below 1 the model is made worse, for studies.
    pub data_share: f64,
    /// Deviation of noise on each predicted change, in units of the channel's deviation in the data; makes the model worse, for
    /// studies.
    pub mean_noise: f64,
    /// A run whose model is where this one begins; its normaliser stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

/// Rollout lengths `[e0, e1, l0, l1]`: `l0` steps until epoch `e0`, then linear to `l1` steps at epoch `e1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths(pub u64, pub u64, pub u64, pub u64);

/// What happens to an imagined state beyond the data's bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfBounds {
    /// It stays, as published.
    Keep,
    /// Its channels are moved to the bounds.
    Clip,
    /// It is forgotten, and its rollout ends before it; terminal states stay.
    Drop,
}

/// What tells where an imagined action leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Imagines {
    /// The ensemble that the run learns.
    #[default]
    Ensemble,
    /// The task's simulator, whose steps nobody counts: what a perfect model would give. No ensemble is fitted.
    Simulator,
}

/// Where the reward of imagined steps comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RewardSource {
    /// A discriminator that learns beside the policy: HyPER.
    Discriminator,
    /// The task's own reward, learned by the ensemble as one more output: MBPO.
    Task,
}

/// Which start states imagination draws from the demonstrations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetSchedule {
    /// All of them, alike.
    #[default]
    Uniform,
    /// A window that slides from the end of the demonstrations to their beginning.
    SlidingWindow,
}

impl ResetSchedule {
    /// Whether all states are alike.
    pub fn is_uniform(&self) -> bool {
        *self == Self::Uniform
    }
}

/// Rollouts in the learned world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImaginationConfig {
    /// What imagines; the ensemble in runs from before there was a choice.
    #[serde(default)]
    pub dynamics: Imagines,
    /// Rollouts per environment step.
    pub starts_per_step: usize,
    /// Steps of a rollout, by epoch.
    pub lengths: Lengths,
    /// Environment steps per epoch.
    pub epoch_steps: u64,
    /// Epochs for which imagined steps are kept.
    pub epochs_retained: u64,
    /// How far beyond the data's range, in units of that range, a state may be on each side.
    pub margin: f64,
    /// What happens to states beyond.
    pub out_of_bounds: OutOfBounds,
    /// λ of `r - λ·u`, where u is the disagreement of the elites; 0: none, as published.
    pub pessimism: f64,
    /// Share of the rows of the policy's batches that are real steps of the learner (MBPO: 0.05); the rest are imagined.
    #[serde(default)]
    pub real_ratio: f64,
    /// Where the reward comes from.
    pub reward: RewardSource,
}

impl ImaginationConfig {
    /// Imagined steps of `epochs_retained` epochs with rollouts of `length` steps, begun every `fit_every` environment steps.
    pub fn capacity(&self, fit_every: u64, length: u64) -> u64 {
        let phase = (self.starts_per_step as u64).saturating_mul(fit_every).saturating_mul(length);
        phase.saturating_mul(self.epoch_steps.div_ceil(fit_every)).saturating_mul(self.epochs_retained)
    }
}

/// How the policy acts in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acting {
    /// With its mean action.
    Mean,
    /// With drawn actions.
    Sample,
}

/// Where the discriminator's learner pairs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairSource {
    /// Whole episodes of the policy as it stands, in an environment of their own.
    Episodes,
    /// The learner's newest real steps, which cost nothing.
    PolicyBuffer,
}

/// What else HyPER decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HyperConfig {
    /// How the policy acts in the environment after exploration.
    pub acting: Acting,
    /// Whether the policy that acts, is evaluated and is exported is the moving average of the one that learns.
    pub ema: bool,
    /// Where the discriminator's learner pairs come from.
    pub pairs: PairSource,
    /// As published with a sawtooth rate (hyper.md 6): each discriminator update gives the policy learner fresh optimisers.
    pub restarts_optimizers: bool,
}

#[cfg(test)]
impl WorldModelConfig {
    /// The published Hopper model, smaller.
    pub fn example() -> Self {
        Self {
            members: 7,
            elites: 5,
            hidden: vec![16, 16],
            learning_rate: 3e-4,
            learning_rate_schedule: ModelRate::Constant,
            rate_batches: 30_000,
            least_learning_rate: 1e-9,
            weight_decay: 5e-5,
            batch_size: 256,
            fit_every: 125,
            held_out: 0.2,
            patience: 10,
            patience_batches: 0,
            improvement: 0.01,
            max_batches: None,
            learner_share: None,
            mean_clip: None,
            capacity: 150_000,
            pinned_demonstrations: true,
            data_share: 1.0,
            mean_noise: 0.0,
            from: None,
        }
    }
}

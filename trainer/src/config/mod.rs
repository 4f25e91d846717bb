//! Configuration: presets, overlays, and the resolved copy that a run keeps.
//!
//! Precedence: preset < `--config` file < `--set` < explicit flags.

mod baselines;
mod parts;
mod presets;
mod resolve;
#[cfg(test)]
mod tests;
mod validate;

pub use baselines::{AdrilConfig, Divergence, GailConfig, IqConfig, IqObjective, IqPenaltyRows, PpoConfig, TimeLimits};
pub use parts::{
    EnvConfig, EvalConfig, HybridConfig, Optimizer, RateSchedule, Reduction, ResetConfig, RewardConfig, SacConfig,
    Stage,
};

pub use presets::{METHODS, PROFILES};
pub use resolve::{Overrides, check_method, parse_seeds, resolve};

use serde::{Deserialize, Serialize};

/// The resolved configuration of a run, one seed or many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Method name on the command line; `expert` for forward reinforcement learning.
    pub method: String,
    /// Task name.
    pub task: String,
    /// `paper`, `code` or `fixed`.
    pub preset: String,
    /// Environment steps per seed, exploration included.
    pub env_steps: u64,
    /// Wall time between checkpoints, seconds; it does not change what is learned.
    pub checkpoint_every_secs: u64,
    /// The seeds of the cohort.
    pub seeds: Vec<u64>,
    /// Demonstration file; none for forward reinforcement learning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demos: Option<std::path::PathBuf>,
    /// Train on the first so many episodes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demos_limit: Option<usize>,
    /// The environment around the task.
    pub env: EnvConfig,
    /// Evaluation.
    pub eval: EvalConfig,
    /// The policy learner; GAIL has another.
    #[serde(default = "SacConfig::absent", skip_serializing_if = "SacConfig::is_absent")]
    pub sac: SacConfig,
    /// The discriminator; none for forward reinforcement learning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<RewardConfig>,
    /// Expert rows in the batches.
    pub hybrid: HybridConfig,
    /// Episode starts.
    pub reset: ResetConfig,
    /// IQ-Learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iq: Option<IqConfig>,
    /// GAIL's policy learner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppo: Option<PpoConfig>,
    /// GAIL's discriminator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gail: Option<GailConfig>,
    /// AdRIL's outer loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adril: Option<AdrilConfig>,
}

//! Configuration: presets, overlays, and the resolved copy that a run keeps.
//!
//! Precedence: preset < `--config` file < `--set` < explicit flags.

mod baselines;
mod keys;
mod model_based;
mod parts;
mod presets;
mod resolve;
#[cfg(test)]
mod tests;
mod validate;

pub use baselines::{
    AdrilConfig, AdrilDivisor, Divergence, GailConfig, GailReward, IqConfig, IqObjective, IqPenaltyRows,
    ObservationMoments, PpoConfig, TimeLimits,
};
pub use model_based::{
    Acting, HyperConfig, ImaginationConfig, Imagines, Lengths, ModelRate, OutOfBounds, PairSource, ResetSchedule,
    RewardSource, WorldModelConfig,
};
pub use parts::{
    BcRegConfig, EnvConfig, EvalConfig, FaultsConfig, HybridConfig, LearnerKind, Optimizer, RateSchedule, Reduction,
    ResetConfig, RewardConfig, Rhythm, SacConfig, Stage, Td3BcConfig, TurnRate,
};

pub use presets::{Named, PROFILES, method_names, methods};
pub use resolve::{Overrides, check_method, difference, differences, idle_settings, parse_seeds, resolve, settings};

use crate::replay::hybrid::Mix;
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
    /// Which learner improves the policy.
    #[serde(default = "sac")]
    pub learner: LearnerKind,
    /// The environment around the task.
    pub env: EnvConfig,
    /// Evaluation.
    pub eval: EvalConfig,
    /// Soft actor-critic, where `learner` names it; GAIL has none.
    #[serde(default = "SacConfig::absent", skip_serializing_if = "SacConfig::is_absent")]
    pub sac: SacConfig,
    /// TD3+BC, where `learner` names it; none where the method does not offer it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub td3_bc: Option<Td3BcConfig>,
    /// Cloning beside the actor's loss; BC-Reg alone has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bc_reg: Option<BcRegConfig>,
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
    /// The dynamics model of model-based methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world_model: Option<WorldModelConfig>,
    /// What they imagine with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imagination: Option<ImaginationConfig>,
    /// What else HyPER decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hyper: Option<HyperConfig>,
    /// Faults of the published code, all off by default.
    #[serde(default)]
    pub faults: FaultsConfig,
}

fn sac() -> LearnerKind {
    LearnerKind::Sac
}

impl RunConfig {
    /// TD3+BC's table, where that is the learner.
    pub fn td3_bc(&self) -> Option<&Td3BcConfig> {
        self.td3_bc.as_ref().filter(|_| self.learner == LearnerKind::Td3Bc)
    }

    /// Environment steps (HyPER: gradient steps) of an outer iteration, where the method has such.
    pub fn iteration(&self) -> Option<u64> {
        let adversary = self.reward.as_ref().map(|reward| reward.update_every);
        adversary.or(self.adril.as_ref().map(|adril| adril.update_every))
    }

    /// Whether the task's own reward is learned from: then demonstrations are optional.
    pub fn learns_from_task(&self) -> bool {
        self.imagination.as_ref().is_some_and(|imagination| imagination.reward == RewardSource::Task)
    }

    /// The expert rows in the learner's batches; none where the published fault takes them away (td3-bc.md 2).
    pub fn mix(&self) -> Mix<'_> {
        let never = self.faults.td3_bc_never_hybrid && self.learner == LearnerKind::Td3Bc;
        let pooled = self.adril.as_ref().is_some_and(|adril| adril.pools_demonstrations);
        match (never, pooled) {
            (true, _) => Mix::Scheduled(&[]),
            (_, true) => Mix::Pooled,
            _ => Mix::Scheduled(&self.hybrid.schedule),
        }
    }

    /// The learner's discount.
    pub fn discount(&self) -> f64 {
        self.td3_bc().map_or(self.sac.discount, |td3_bc| td3_bc.discount)
    }

    /// What acting and remembering ask of the learner's table.
    pub fn rhythm(&self) -> Rhythm {
        self.td3_bc().map_or_else(|| Rhythm::from(&self.sac), Rhythm::from)
    }
}

//! The parts of a run's configuration, one struct per concern. Every number comes from a preset, which cites its source.

use super::ResetSchedule;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Update rule of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Adam as PyTorch has it.
    Adam,
    /// Optimistic Adam as georgepar/optimistic-adam has it.
    OptimisticAdam,
}

/// How the learner's rate moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateSchedule {
    /// Stays.
    Constant,
    /// To zero over the whole run, never below.
    Linear,
    /// To zero within each outer iteration and back; the published code's, slightly negative at each end (hype.md 2).
    Sawtooth,
}

/// How the discriminator's rate falls from turn to turn; each turn has fresh moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TurnRate {
    /// `lr0 / max(k, 1)` in turn k (from 0): the published code's.
    #[default]
    Harmonic,
    /// To zero over the run, as the paper has it.
    Linear,
}

/// How an ensemble of costs becomes one. Since `r = -f`, the smallest cost is the optimistic choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// Smallest cost, largest reward: optimistic, as published.
    Min,
    /// Mean cost.
    Mean,
    /// Largest cost, smallest reward: pessimistic.
    Max,
}

/// Soft actor-critic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SacConfig {
    /// Hidden widths of actor and critics.
    pub hidden: Vec<usize>,
    /// The actor's where they differ from the critics'; none at all make its head linear in the observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor_hidden: Option<Vec<usize>>,
    /// γ.
    pub discount: f64,
    /// τ: how fast the target critics follow.
    pub polyak_rate: f64,
    /// They follow at every so many-th gradient step.
    #[serde(default = "every_step", skip_serializing_if = "is_every_step")]
    pub target_every: u64,
    /// Rows per gradient step.
    pub batch_size: usize,
    /// Rows kept for replay.
    pub replay_capacity: usize,
    /// Environment steps between bursts of gradient steps.
    pub train_every: u64,
    /// Gradient steps per burst.
    pub grad_steps: u64,
    /// Uniform random actions before the policy acts.
    pub exploration_steps: u64,
    /// Learning rate of actor, critics and temperature.
    pub learning_rate: f64,
    /// How it moves.
    pub learning_rate_schedule: RateSchedule,
    /// α at the start.
    pub initial_temperature: f64,
    /// Whether α is learned.
    pub learn_temperature: bool,
    /// H̄; `-dim(A)` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_entropy: Option<f64>,
    /// Update rule of actor and critics (the temperature always takes Adam).
    pub optimizer: Optimizer,
    /// Whether the policy explores by gSDE ([`crate::learners::state_dependent`]) instead of noise at every step: on in the paper's
    /// table 2, off in its code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gsde: bool,
    /// Fault of the published code (hype.md 1): time limits stored as terminal states.
    pub timeouts_are_terminal: bool,
    /// Fault of the published code (hype.md 3): each outer iteration starts a new episode and explores at random again.
    pub restarts_each_iteration: bool,
}

impl SacConfig {
    /// The actor's hidden widths.
    pub fn actor_widths(&self) -> &[usize] {
        self.actor_hidden.as_deref().unwrap_or(&self.hidden)
    }
}

fn every_step() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_every_step(steps: &u64) -> bool {
    *steps == 1
}

/// Which learner improves the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LearnerKind {
    /// Soft actor-critic, `[sac]`.
    Sac,
    /// TD3+BC, `[td3_bc]`.
    Td3Bc,
    /// Proximal policy optimisation, `[ppo]`; GAIL's, and no other method's.
    Ppo,
}

/// TD3+BC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Td3BcConfig {
    /// Hidden widths of actor and critics.
    pub hidden: Vec<usize>,
    /// γ.
    pub discount: f64,
    /// τ: how fast the targets follow, actor and critics alike.
    pub polyak_rate: f64,
    /// Rows per gradient step.
    pub batch_size: usize,
    /// Rows kept for replay.
    pub replay_capacity: usize,
    /// Environment steps between bursts of gradient steps.
    pub train_every: u64,
    /// Gradient steps per burst.
    pub grad_steps: u64,
    /// Uniform random actions before the policy acts.
    pub exploration_steps: u64,
    /// Learning rate of actor and critics.
    pub learning_rate: f64,
    /// How it moves.
    pub learning_rate_schedule: RateSchedule,
    /// Update rule of actor and critics.
    pub optimizer: Optimizer,
    /// Standard deviation of the noise on the target's action.
    pub target_noise: f64,
    /// That noise is clipped at ±this.
    pub target_noise_clip: f64,
    /// Critic steps per actor step.
    pub policy_delay: u64,
    /// α of `λ = α / mean |Q|`.
    pub alpha: f64,
    /// Gradient steps on expert rows alone, cloning, before the first environment step.
    pub bc_steps: u64,
    /// Fault of the published code (hype.md 1): time limits stored as terminal states.
    pub timeouts_are_terminal: bool,
    /// Fault of the published code (hype.md 3): each outer iteration starts a new episode.
    pub restarts_each_iteration: bool,
}

/// What acting, remembering and learning ask of either learner's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rhythm {
    /// Rows per gradient step.
    pub batch_size: usize,
    /// Rows kept for replay.
    pub replay_capacity: usize,
    /// Environment steps between bursts of gradient steps.
    pub train_every: u64,
    /// Gradient steps per burst.
    pub grad_steps: u64,
    /// Uniform random actions before the policy acts.
    pub exploration_steps: u64,
    /// Learning rate.
    pub learning_rate: f64,
    /// How it moves.
    pub learning_rate_schedule: RateSchedule,
    /// See [`SacConfig::timeouts_are_terminal`].
    pub timeouts_are_terminal: bool,
    /// See [`SacConfig::restarts_each_iteration`].
    pub restarts_each_iteration: bool,
}

/// Takes the fields of [`Rhythm`], which both learners' tables have.
macro_rules! rhythm_of {
    ($config:expr) => {{
        let config = $config;
        Rhythm {
            batch_size: config.batch_size,
            replay_capacity: config.replay_capacity,
            train_every: config.train_every,
            grad_steps: config.grad_steps,
            exploration_steps: config.exploration_steps,
            learning_rate: config.learning_rate,
            learning_rate_schedule: config.learning_rate_schedule,
            timeouts_are_terminal: config.timeouts_are_terminal,
            restarts_each_iteration: config.restarts_each_iteration,
        }
    }};
}

impl From<&SacConfig> for Rhythm {
    fn from(config: &SacConfig) -> Self {
        rhythm_of!(config)
    }
}

impl From<&Td3BcConfig> for Rhythm {
    fn from(config: &Td3BcConfig) -> Self {
        rhythm_of!(config)
    }
}

/// Cloning beside the actor's loss (BC-Reg).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BcRegConfig {
    /// λ of `λ · mean (a - a_E)²`.
    pub weight: f64,
    /// Expert rows per gradient step, drawn for this term alone.
    pub batch_size: usize,
}

/// Faults of the published code that are nobody's parameter (docs/algorithms/README.md); all off unless a preset or a setting says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultsConfig {
    /// bc-reg.md 2: BC-Reg draws its "expert" rows from the learner's own replay; with TD3+BC it has no such term at all.
    pub bc_reg_rows_from_replay: bool,
    /// hype.md 6: demonstrated actions, and the learner's pairs for the discriminator, stay in environment units while replay, policy
    /// and rewards work in [-1, 1].
    pub demonstrations_in_env_units: bool,
    /// filter.md 3: the discriminator's episodes start in demonstrated states too, where training episodes do.
    pub rollouts_reset_too: bool,
    /// hyper.md 2: HyPER's discriminator episodes take the training environment, which then goes on with an observation of before them:
    /// one step that never was, and an episode cut short, per update.
    pub rollouts_in_training_world: bool,
    /// td3-bc.md 2: TD3+BC never mixes expert rows into its batches, whatever `hybrid.schedule` says.
    pub td3_bc_never_hybrid: bool,
    /// hype.md 7: the row that ends an episode holds the first observation of the next one.
    pub next_observation_after_reset: bool,
}

/// The discriminator and its outer loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    /// Hidden widths.
    pub hidden: Vec<usize>,
    /// Networks in the ensemble.
    pub members: usize,
    /// How their costs become one.
    pub reduction: Reduction,
    /// Costs are clamped to ±this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// `lr0`.
    pub learning_rate: f64,
    /// How it falls.
    #[serde(default)]
    pub learning_rate_schedule: TurnRate,
    /// L2 penalty added to the gradient.
    pub weight_decay: f64,
    /// Learner rows and expert rows per step (each this many).
    pub batch_size: usize,
    /// Gradient steps per outer iteration.
    pub grad_steps: u64,
    /// Coefficient of the gradient penalty.
    pub gradient_penalty: f64,
    /// The norm that the penalty pulls towards.
    pub gradient_target: f64,
    /// Environment steps of learning per outer iteration.
    pub update_every: u64,
    /// Whole episodes of the current policy per outer iteration.
    pub rollout_episodes: u64,
    /// What comes after an episode that the task ended is a state of its own, whose cost is learned too (Kostrikov et al. 2018).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absorbing: bool,
    /// Pairs in units of their channels' deviations over the demonstrations, not in the task's own: so that what moves far is
    /// no dearer than what moves little.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub normalized: bool,
    /// A run whose discriminator is the reward, for good: nothing adversarial is left. hyper only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

impl RewardConfig {
    /// The rate of turn `turn` (from 0), when the share `over` of the run is over.
    pub fn rate(&self, turn: u64, over: f64) -> f64 {
        match self.learning_rate_schedule {
            TurnRate::Harmonic => self.learning_rate / turn.max(1) as f64,
            TurnRate::Linear => self.learning_rate * (1.0 - over).max(0.0),
        }
    }
}

/// Expert rows in the learner's batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HybridConfig {
    /// Stages `[start, end, until]` of the expert share ρ, counted in gradient steps; none: no expert rows.
    pub schedule: Vec<Stage>,
}

/// A linear stage `[start, end, until]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stage(pub f64, pub f64, pub u64);

/// Where training episodes start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetConfig {
    /// Probability α that an episode starts in a state of the demonstrations; in imagination, that all rollouts of a phase do.
    pub probability: f64,
    /// Which of their states imagination starts from.
    #[serde(default, skip_serializing_if = "ResetSchedule::is_uniform")]
    pub schedule: ResetSchedule,
    /// Width of the sliding window, as a share of the longest demonstration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<f64>,
}

/// The environment around the task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvConfig {
    /// Probability that an action is replaced by a uniform random one.
    pub tremble: f64,
}

/// Evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Environment steps between evaluations.
    pub every: u64,
    /// Episodes of each, with the mean action.
    pub episodes: u64,
}

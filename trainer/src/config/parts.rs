//! The parts of a run's configuration, one struct per concern. Every number comes from a preset, which cites its source.

use serde::{Deserialize, Serialize};

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
    /// To zero within each outer iteration and back; the published code's, slightly negative at each end (spec 7.11).
    Sawtooth,
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
    /// γ.
    pub discount: f64,
    /// τ: how fast the target critics follow.
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
    /// Fault of the published code (spec 7.4): time limits stored as terminal states.
    pub timeouts_are_terminal: bool,
    /// Fault of the published code (spec 7.11): each outer iteration starts a new episode and explores at random again.
    pub restarts_each_iteration: bool,
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
    /// `lr0`; outer iteration k uses `lr0 / max(k, 1)`.
    pub learning_rate: f64,
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
    /// Probability α that an episode starts in a state of the demonstrations.
    pub probability: f64,
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

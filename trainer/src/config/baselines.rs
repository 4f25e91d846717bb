//! Configuration of the baselines with loops of their own: IQ-Learn, GAIL with its PPO, and AdRIL.

use super::{Optimizer, RateSchedule, SacConfig};
use serde::{Deserialize, Serialize};

/// `T`, the value term of IQ-Learn's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IqObjective {
    /// `E[V(s) - γ V(s')]` over expert and policy rows, half and half.
    Value,
    /// The same over expert rows alone.
    ValueExpert,
    /// `(1 - γ) E[V(s₀)]`.
    V0,
}

/// The divergence between the occupancies, by the derivative `φ'` of its concave conjugate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// χ²: `φ' = 1`, with the penalty as regulariser.
    Chi2,
    /// Hellinger: `1 / (1 + R)²`.
    Hellinger,
    /// Kullback-Leibler: `exp(-R - 1)`.
    Kl,
    /// The published code's `kl_fix`: `exp(-R)`.
    KlFix,
    /// Jensen-Shannon: `exp(-R) / (2 - exp(-R))`.
    Js,
}

/// Actions at which the penalty takes `R` on the policy's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IqPenaltyRows {
    /// Those of the replay, from which `s'` followed.
    Replay,
    /// Fresh ones of the current policy, beside the replay's `s'` (a later state of the published code).
    Policy,
}

/// IQ-Learn. What it has in common with SAC stands in `[sac]`: sizes, γ, τ, rhythm, the critic's learning rate, temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IqConfig {
    /// `T`.
    pub objective: IqObjective,
    /// `φ'`.
    pub divergence: Divergence,
    /// α of the penalty `E[R²] / (4α)`; not the temperature.
    pub alpha: f64,
    /// Penalty on expert and policy rows (the code's `regularize`).
    pub penalty: bool,
    /// Penalty on expert rows alone (the code's `chi`, for learning offline).
    pub expert_penalty: bool,
    /// Actions of the policy rows in the penalty.
    pub penalty_rows: IqPenaltyRows,
    /// Critics: one, or two whose losses are averaged and whose smaller value counts.
    pub critics: usize,
    /// Learning rate of the actor.
    pub actor_learning_rate: f64,
    /// Stored steps before learning begins.
    pub warmup_steps: u64,
    /// Fault of the published code (iq-learn.md): `v0` takes every expert state for an episode's first.
    pub v0_from_all_expert_states: bool,
}

/// What a state at the time limit is worth to the advantage estimator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeLimits {
    /// The value of the state that was cut off.
    Bootstrap,
    /// The step has no advantage (the published code's `--use-proper-time-limits`).
    Skip,
    /// Nothing: a fault (hype.md 1).
    Terminal,
}

/// Whose observations normalise the networks' inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObservationMoments {
    /// The learner's, as they come, for the first `normalizer_updates` rollouts.
    Learner,
    /// The demonstrations', from the start.
    Demonstrations,
}

/// What the policy gets for a pair that the classifier takes for the expert's with probability `D`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GailReward {
    /// `log D - log(1 - D)`, of either sign.
    Logit,
    /// `-log(1 - D)`, never negative: a step more is never a loss.
    Positive,
    /// `log D`, never positive: a step more is never a gain.
    Negative,
}

/// Proximal policy optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpoConfig {
    /// Hidden widths of policy and value network.
    pub hidden: Vec<usize>,
    /// Logarithm of the policy's deviation at the start.
    pub initial_log_std: f64,
    /// Gain of the policy's last layer at the start.
    pub initial_mean_gain: f64,
    /// Whose moments normalise observations.
    pub observation_moments: ObservationMoments,
    /// Rollouts after which those of the learner stop moving.
    pub normalizer_updates: u64,
    /// γ.
    pub discount: f64,
    /// λ of the advantage estimator.
    pub gae_lambda: f64,
    /// Environment steps per update.
    pub rollout_steps: u64,
    /// Passes over them.
    pub epochs: u64,
    /// Minibatches per pass.
    pub minibatches: usize,
    /// ε: how far the probability ratio counts.
    pub clip: f64,
    /// Whether values are clipped around the old ones too.
    pub clip_values: bool,
    /// Weight of the value loss.
    pub value_coefficient: f64,
    /// Weight of the entropy.
    pub entropy_coefficient: f64,
    /// Learning rate of both networks.
    pub learning_rate: f64,
    /// How it moves: `constant` or `linear`.
    pub learning_rate_schedule: RateSchedule,
    /// Norm to which gradients are cut.
    pub max_grad_norm: f64,
    /// Time limits in the advantage.
    pub time_limits: TimeLimits,
}

/// GAIL's discriminator and what surrounds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GailConfig {
    /// Hidden widths.
    pub hidden: Vec<usize>,
    /// Learning rate.
    pub learning_rate: f64,
    /// Learner rows and expert rows per step (each this many).
    pub batch_size: usize,
    /// Coefficient of the gradient penalty.
    pub gradient_penalty: f64,
    /// The norm that the penalty pulls towards.
    pub gradient_target: f64,
    /// The form of the reward.
    pub reward: GailReward,
    /// Passes per update over rollout and demonstrations side by side, each as long as the shorter of the two.
    pub epochs: u64,
    /// The same during the first updates.
    pub warmup_epochs: u64,
    /// How many updates those are.
    pub warmup_updates: u64,
    /// Every so many-th expert pair is used.
    pub expert_every: usize,
    /// As published: the discriminator sees the learner's actions before they are clamped to [-1, 1], the expert's after.
    pub sees_unclamped_actions: bool,
    /// As published: the discriminator sees the learner's observations as they were normalised when it acted, the expert's as
    /// they are normalised after the rollout.
    pub sees_observations_as_acted: bool,
    /// As published: each reward is divided by the deviation known when its step was relabelled, not by the rollout's last.
    pub scales_rewards_as_it_goes: bool,
}

/// AdRIL's outer loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdrilConfig {
    /// Environment steps per iteration.
    pub update_every: u64,
    /// What rewards are divided by.
    #[serde(default)]
    pub rewards_divided_by: AdrilDivisor,
    /// As published: the demonstrations lie once in the learner's replay, and `hybrid.schedule` is not read.
    #[serde(default)]
    pub pools_demonstrations: bool,
    /// As published: from the third iteration on the one before costs nothing yet.
    #[serde(default)]
    pub previous_iteration_is_free: bool,
}

/// What AdRIL's rewards are divided by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdrilDivisor {
    /// The learner's by the iterations that are over, the expert's by 1 (paper).
    #[default]
    Iterations,
    /// The learner's by its episodes until the running iteration, the expert's by the demonstrations (code).
    Episodes,
}

impl SacConfig {
    /// The table `[sac]` of a method that has none.
    pub(super) fn absent() -> Self {
        Self {
            hidden: Vec::new(),
            actor_hidden: None,
            discount: 0.0,
            polyak_rate: 0.0,
            target_every: 1,
            batch_size: 0,
            replay_capacity: 0,
            train_every: 1,
            grad_steps: 0,
            exploration_steps: 0,
            learning_rate: 0.0,
            learning_rate_schedule: RateSchedule::Constant,
            initial_temperature: 0.0,
            learn_temperature: false,
            target_entropy: None,
            optimizer: Optimizer::Adam,
            gsde: false,
            timeouts_are_terminal: false,
            restarts_each_iteration: false,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        *self == Self::absent()
    }
}

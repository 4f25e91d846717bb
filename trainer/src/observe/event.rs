//! What a run tells while it goes on.

use crate::methods::Report;
use serde::{Deserialize, Serialize};

/// Something that happened in one seed's run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The seed begins, or continues from a checkpoint at `env_steps` of `budget` environment steps.
    Started {
        /// The seed.
        seed: u64,
        /// Environment steps already taken.
        env_steps: u64,
        /// Environment steps that it will take.
        budget: u64,
    },
    /// It learned on.
    Learned {
        /// The seed.
        seed: u64,
        /// All real steps of learning, as a robot would have taken them.
        env_steps_total: u64,
        /// The method's own figures.
        report: Report,
    },
    /// It was evaluated.
    Evaluated {
        /// The seed.
        seed: u64,
        /// Environment steps.
        env_steps: u64,
        /// All real steps of learning.
        env_steps_total: u64,
        /// Mean return of the episodes.
        mean_return: f64,
        /// How many there were.
        episodes: u64,
    },
    /// A checkpoint was written.
    Saved {
        /// The seed.
        seed: u64,
        /// Environment steps.
        env_steps: u64,
    },
    /// It is over: the budget is spent, or it was asked to stop.
    Ended {
        /// The seed.
        seed: u64,
        /// Environment steps.
        env_steps: u64,
        /// Whether the budget is spent.
        finished: bool,
    },
}

/// Somebody who watches runs; seeds report from their own threads.
pub trait Observer: Sync {
    /// Takes note of an event.
    fn observe(&self, event: &Event);
}

/// Nobody watches.
impl Observer for () {
    fn observe(&self, _: &Event) {}
}

/// A line of `eval.jsonl`: one evaluation episode. Nothing of the wall clock, so that equal runs give equal files.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvalLine {
    /// The seed.
    pub seed: u64,
    /// Environment steps of learning, as the paper counts them.
    pub env_steps: u64,
    /// Those and the rollouts for the discriminator and replayed resets.
    pub env_steps_total: u64,
    /// Index within the evaluation.
    pub episode: u64,
    /// Undiscounted true return.
    #[serde(rename = "return")]
    pub total_reward: f64,
    /// Steps of the episode.
    pub length: u64,
}

/// A line of `metrics.jsonl`: the learner's figures. `docs/algorithms/README.md` defines each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// The seed.
    pub seed: u64,
    /// Environment steps of learning.
    pub env_steps: u64,
    /// All real steps of learning.
    pub env_steps_total: u64,
    /// Gradient steps of the policy.
    pub grad_steps: u64,
    /// Share of expert rows in the batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expert_ratio: Option<f64>,
    /// The policy learner's figures.
    #[serde(flatten)]
    pub sac: Option<crate::learners::sac::SacMetrics>,
    /// The discriminator's figures.
    #[serde(flatten)]
    pub discriminator: Option<crate::reward::discriminator::DiscriminatorMetrics>,
}

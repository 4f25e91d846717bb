//! What a run tells while it goes on.

use crate::eval::Episode;
use crate::methods::Report;
use crate::world_model::model::FitProgress;
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
        report: Box<Report>,
    },
    /// It fits its world model, which can take many minutes.
    Fitting {
        /// The seed.
        seed: u64,
        /// Environment steps before it.
        env_steps: u64,
        /// How far it has come.
        progress: FitProgress,
    },
    /// It was evaluated.
    Evaluated {
        /// The seed.
        seed: u64,
        /// Environment steps.
        env_steps: u64,
        /// All real steps of learning.
        env_steps_total: u64,
        /// Its episodes.
        episodes: Vec<Episode>,
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
    /// Those of TD3+BC.
    #[serde(flatten)]
    pub td3_bc: Option<crate::learners::td3_bc::Td3BcMetrics>,
    /// Those of cloning.
    #[serde(flatten)]
    pub cloning: Option<crate::learners::cloning::CloningMetrics>,
    /// The discriminator's figures.
    #[serde(flatten)]
    pub discriminator: Option<crate::reward::discriminator::DiscriminatorMetrics>,
    /// IQ-Learn's figures.
    #[serde(flatten)]
    pub iq: Option<crate::learners::iq::IqMetrics>,
    /// PPO's figures.
    #[serde(flatten)]
    pub ppo: Option<crate::learners::ppo::PpoMetrics>,
    /// The world model's latest fit.
    #[serde(flatten)]
    pub world_model: Option<crate::world_model::model::FitMetrics>,
    /// What was imagined so far.
    #[serde(flatten)]
    pub imagination: Option<crate::world_model::rollout::Imagination>,
    /// Steps of an imagined rollout, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout_length: Option<u64>,
}

//! SQIL: soft Q imitation learning (Reddy, Dragan, Levine 2019, arXiv 1905.11108).
//!
//! Soft actor-critic with a reward that nobody learns: 1 on the expert's rows, 0 on the learner's, half of each in every batch.
//! The learner is paid for coming back to where the expert was, and not for leaving.
//!
//! ```text
//! D_L ← ∅
//! repeat
//!     act with π, remember the steps in D_L
//!     actor-critic steps on ½ expert rows (r = 1) + ½ D_L rows (r = 0)
//! ```
//!
//! [`super::adril`] turns the learner's zeros into something that moves.

use super::demonstrated::Demonstrated;
use super::off_policy::{OffPolicy, OffPolicyRecord};
use super::{Method, Networks, Report};
use crate::config::RunConfig;
use crate::envs::{StepCounts, WorldConfig};
use crate::error::Result;
use crate::nn::Train;
use crate::replay::ReplayBuffer;
use crate::reward::{Origin, Reward};
use crate::run::rng::Streams;
use serde::Serialize;

/// SQIL.
pub struct Sqil<B: Train> {
    config: RunConfig,
    expert: Demonstrated,
    learner: OffPolicy<B>,
}

impl<B: Train> Sqil<B> {
    /// Fresh learners of `seeds`.
    pub fn new(config: &RunConfig, expert: Demonstrated, seeds: &[u64], device: &B::Device) -> Result<Self> {
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: expert.resets(config.reset.probability)? };
        let streams: Vec<Streams> = seeds.iter().copied().map(Streams::new).collect();
        let learner = OffPolicy::new(config, &world, &streams, device)?;
        Ok(Self { config: config.clone(), expert, learner })
    }
}

impl<B: Train> Method for Sqil<B> {
    type Record = OffPolicyRecord<ReplayBuffer>;

    fn advance(&mut self) -> Result<Vec<Report>> {
        self.learner.collect()?;
        let labels = vec![Origin::SQIL; self.learner.seeds()];
        let sac = self.learner.improve(&Reward::ByOrigin(&labels), &self.expert.rows, self.config.mix());
        let expert_ratio = self.learner.expert_ratio(self.config.mix(), &self.expert.rows);
        Ok(self.learner.reports(sac.as_deref(), Some(expert_ratio)))
    }

    fn counts(&self, seed: usize) -> StepCounts {
        self.learner.world(seed).counts()
    }

    fn policy(&self, seed: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_ {
        self.learner.act(seed)
    }

    fn networks(&self) -> Vec<Networks> {
        self.learner.networks()
    }

    fn record(&self) -> Vec<impl Serialize + '_> {
        self.learner.record()
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        self.learner.restore(records)
    }
}

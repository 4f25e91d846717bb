//! Forward reinforcement learning: soft actor-critic on the task's own reward. It makes experts, and proves the learner.

use super::off_policy::{OffPolicy, OffPolicyRecord};
use super::{Method, Networks, Report};
use crate::config::RunConfig;
use crate::envs::{StepCounts, WorldConfig};
use crate::error::Result;
use crate::nn::Train;
use crate::replay::ReplayBuffer;
use crate::replay::hybrid::Mix;
use crate::reward::Reward;
use crate::run::rng::Streams;
use serde::Serialize;

/// Environment steps per [`Method::advance`], at least.
const PIECE: u64 = 64;

/// SAC on the true reward.
pub struct Expert<B: Train> {
    config: RunConfig,
    learner: OffPolicy<B>,
    no_expert: ReplayBuffer,
}

impl<B: Train> Expert<B> {
    /// Fresh learners of `seeds`.
    pub fn new(config: &RunConfig, seeds: &[u64], device: &B::Device) -> Result<Self> {
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: None };
        let streams: Vec<Streams> = seeds.iter().copied().map(Streams::new).collect();
        let learner = OffPolicy::new(config, &world, &streams, device)?;
        Ok(Self { config: config.clone(), learner, no_expert: ReplayBuffer::new(0, 0, 0) })
    }
}

impl<B: Train> Method for Expert<B> {
    type Record = OffPolicyRecord<ReplayBuffer>;

    fn advance(&mut self) -> Result<Vec<Report>> {
        let mut sac = None;
        for _ in 0..PIECE.div_ceil(self.config.sac.train_every) {
            self.learner.collect()?;
            sac = self.learner.improve(&Reward::Task, &self.no_expert, Mix::Scheduled(&[]));
        }
        Ok(self.learner.reports(sac.as_deref(), None))
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

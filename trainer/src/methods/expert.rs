//! Forward reinforcement learning: soft actor-critic on the task's own reward. It makes experts, and proves the learner.

use super::off_policy::{OffPolicy, OffPolicyRecord};
use super::{Method, Networks, Report};
use crate::config::RunConfig;
use crate::envs::{StepCounts, WorldConfig};
use crate::error::Result;
use crate::nn::Train;
use crate::replay::ReplayBuffer;
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
    /// A fresh learner of `seed`.
    pub fn new(config: &RunConfig, seed: u64, device: &B::Device) -> Result<Self> {
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: None };
        let learner = OffPolicy::new(config, world, Streams::new(seed), device)?;
        Ok(Self { config: config.clone(), learner, no_expert: ReplayBuffer::new(0, 0, 0) })
    }
}

impl<B: Train> Method for Expert<B> {
    type Record = OffPolicyRecord<ReplayBuffer>;

    fn advance(&mut self) -> Result<Report> {
        let mut sac = None;
        for _ in 0..PIECE.div_ceil(self.config.sac.train_every) {
            self.learner.collect()?;
            sac = self.learner.improve(&Reward::Task, &self.no_expert, &[]);
        }
        let progress = self.learner.progress();
        Ok(Report { env_steps: progress.env_steps, grad_steps: progress.grad_steps, sac, ..Report::default() })
    }

    fn counts(&self) -> StepCounts {
        self.learner.world().counts()
    }

    fn act(&self, observation: &[f32]) -> Vec<f32> {
        self.learner.sac.act(observation, None)
    }

    fn networks(&self) -> Networks {
        Networks { actor: self.learner.sac.actor(), discriminator: None }
    }

    fn record(&self) -> impl Serialize + '_ {
        self.learner.record()
    }

    fn restore(&mut self, record: Self::Record) -> Result<()> {
        self.learner.restore(record)
    }
}

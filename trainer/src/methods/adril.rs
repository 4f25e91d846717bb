//! AdRIL: adversarial reward-moment imitation learning (Swamy, Choudhury, Bagnell, Wu 2021, arXiv 2103.03236).
//!
//! Moment matching without a discriminator network: the adversary's answer to each policy is written into the replay's labels.
//! The expert's rows earn 1; rows of the `k` iterations before cost 1/k each; those of the running iteration earn nothing yet.
//! As k grows that cost falls to nothing and AdRIL becomes SQIL: -0.008 after 120 iterations.
//!
//! ```text
//! D_L ← ∅
//! for k = 0, 1, 2, …
//!     repeat for `adril.update_every` environment steps:
//!         act with π, remember the steps in D_L
//!         actor-critic steps on ½ expert rows (r = 1) + ½ D_L rows (r = 0 of this iteration, -1/k of earlier ones)
//! ```
//!
//! [`super::sqil`] is the same page with one endless iteration.

use super::demonstrated::Demonstrated;
use super::off_policy::{OffPolicy, OffPolicyRecord, same_moment};
use super::{Method, Networks, Report};
use crate::config::{AdrilConfig, RunConfig};
use crate::envs::{StepCounts, WorldConfig};
use crate::error::Result;
use crate::nn::Train;
use crate::replay::ReplayBuffer;
use crate::reward::{Origin, Reward};
use crate::run::rng::Streams;
use serde::{Deserialize, Serialize};

/// AdRIL.
pub struct Adril<B: Train> {
    config: RunConfig,
    adril: AdrilConfig,
    expert: Demonstrated,
    learner: OffPolicy<B>,
    iteration: u64,
}

/// Everything of [`Adril`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct AdrilRecord<R> {
    learner: OffPolicyRecord<R>,
    iteration: u64,
}

impl<B: Train> Adril<B> {
    /// Fresh learners of `seeds`.
    pub fn new(
        config: &RunConfig,
        adril: &AdrilConfig,
        expert: Demonstrated,
        seeds: &[u64],
        device: &B::Device,
    ) -> Result<Self> {
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: expert.resets(config.reset.probability)? };
        let streams: Vec<Streams> = seeds.iter().copied().map(Streams::new).collect();
        let learner = OffPolicy::new(config, &world, &streams, device)?;
        Ok(Self { config: config.clone(), adril: adril.clone(), expert, learner, iteration: 0 })
    }

    /// `k`: how many iterations are over.
    pub fn iteration(&self) -> u64 {
        self.iteration
    }
}

impl<B: Train> Method for Adril<B> {
    type Record = AdrilRecord<ReplayBuffer>;

    fn advance(&mut self) -> Result<Vec<Report>> {
        self.learner.collect()?;
        let labels = Origin::adril(self.iteration, self.learner.progress().iteration_steps);
        let schedule = &self.config.hybrid.schedule;
        let sac = self.learner.improve(&Reward::ByOrigin(labels), &self.expert.rows, schedule);
        if self.learner.progress().iteration_steps >= self.adril.update_every {
            self.iteration += 1;
            self.learner.begin_iteration();
        }
        Ok(self.learner.reports(sac.as_deref(), Some(schedule)))
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
        let records = self.learner.record().into_iter();
        records.map(|learner| AdrilRecord { learner, iteration: self.iteration }).collect()
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        self.iteration = same_moment(records.iter().map(|record| record.iteration))?;
        self.learner.restore(records.into_iter().map(|record| record.learner).collect())
    }
}

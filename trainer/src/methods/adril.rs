//! AdRIL: adversarial reward-moment imitation learning (Swamy, Choudhury, Bagnell, Wu 2021, arXiv 2103.03236).
//!
//! Moment matching without a discriminator network: the adversary's answer to each policy is written into the replay's labels.
//! The expert's rows earn 1; rows of the `k` iterations before cost 1/k each; those of the running iteration earn nothing yet.
//! As k grows that cost falls to nothing and AdRIL becomes SQIL: -0.008 after 120 iterations. (The published code of today
//! counts by episodes, not iterations, and mixes otherwise: `[adril]`, adril.md 1 to 3.)
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
use crate::config::{AdrilConfig, AdrilDivisor, RunConfig};
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
    past: Past,
    episodes: Vec<Episodes>,
}

/// What lies before the running iteration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    /// `k`: how many iterations are over.
    iterations: u64,
    /// Environment steps of the last of them.
    last_steps: u64,
}

/// Episodes that one seed has ended.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Episodes {
    all: u64,
    before_iteration: u64,
}

/// Everything of one seed's [`Adril`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct AdrilRecord<R> {
    learner: OffPolicyRecord<R>,
    past: Past,
    episodes: Episodes,
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
        let episodes = vec![Episodes::default(); seeds.len()];
        Ok(Self { config: config.clone(), adril: adril.clone(), expert, learner, past: Past::default(), episodes })
    }

    /// The adversary's answer, seed by seed: what each row earns now.
    pub fn labels(&self) -> Vec<Origin> {
        let free =
            if self.adril.previous_iteration_is_free && self.past.iterations >= 2 { self.past.last_steps } else { 0 };
        let newest = self.learner.progress().iteration_steps + free;
        let of_seed = |episodes: &Episodes| match self.adril.rewards_divided_by {
            AdrilDivisor::Iterations => Origin::adril(1, self.past.iterations, newest),
            AdrilDivisor::Episodes => {
                Origin::adril(self.expert.segments.len() as u64, episodes.before_iteration, newest)
            }
        };
        self.episodes.iter().map(of_seed).collect()
    }

    fn begin_iteration(&mut self) {
        let last_steps = self.learner.progress().iteration_steps;
        self.past = Past { iterations: self.past.iterations + 1, last_steps };
        self.episodes.iter_mut().for_each(|episodes| episodes.before_iteration = episodes.all);
        self.learner.begin_iteration();
    }
}

impl<B: Train> Method for Adril<B> {
    type Record = AdrilRecord<ReplayBuffer>;

    fn advance(&mut self) -> Result<Vec<Report>> {
        let ended = self.learner.collect()?;
        self.episodes.iter_mut().zip(ended).for_each(|(episodes, ended)| episodes.all += ended);
        let sac = self.learner.improve(&Reward::ByOrigin(&self.labels()), &self.expert.rows, self.config.mix());
        if self.learner.progress().iteration_steps >= self.adril.update_every {
            self.begin_iteration();
        }
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
        let records = self.learner.record().into_iter().zip(&self.episodes);
        records.map(|(learner, episodes)| AdrilRecord { learner, past: self.past, episodes: *episodes }).collect()
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        self.past = same_moment(records.iter().map(|record| record.past))?;
        self.episodes = records.iter().map(|record| record.episodes).collect();
        self.learner.restore(records.into_iter().map(|record| record.learner).collect())
    }
}

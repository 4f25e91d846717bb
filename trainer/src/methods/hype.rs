//! HyPE: efficient inverse reinforcement learning by hybrid batches (arXiv 2402.08848, algorithm 3).
//!
//! Inverse RL is a game: a discriminator looks for a cost `f` under which the learner does worse than the expert, and the learner
//! improves against `f`. What makes it slow is the learner's exploration. HyPE removes most of it: the policy
//! learner's batches mix the expert's transitions with its own, so that it knows good states before it can reach them.
//!
//! ```text
//! f ← random cost;  π ← random policy;  D_L ← ∅
//! repeat
//!     for `reward.update_every` environment steps:                improve_policy
//!         act with π, remember the steps in D_L
//!         actor-critic steps on ρ·expert + (1-ρ)·D_L rows, labelled r = -f as it stands now
//!     roll out π for `reward.rollout_episodes` whole episodes     rollout_current_policy
//!     one step of f down  E_expert[f] - E_π[f] + penalty          ascend_reward
//! ```
//!
//! The moment-matching baseline (MM) is the same page with an empty schedule: no expert rows in the batches.
//!
//! | paper | here |
//! |---|---|
//! | `f`, `F` | [`Discriminator`], clipped and regularised as `reward.*` says |
//! | `ρ`: share of expert rows | `hybrid.schedule` |
//! | `D_E` | [`Demonstrated`]: rows for the learner, pairs for the discriminator |
//! | policy optimiser | [`OffPolicy`]: SAC, its environment and replay |
//!
//! Differences from the published code (jren03/garage), each a switch or stated in `docs/algorithms/hype.md`: time limits bootstrap; the
//! rollouts of the discriminator run in an environment of their own and are counted; one linear learning-rate
//! schedule over the whole run; random actions once.

use super::demonstrated::Demonstrated;
use super::off_policy::{OffPolicy, OffPolicyRecord};
use super::{DiscriminatorNetwork, Method, Networks, Report};
use crate::config::{RewardConfig, RunConfig};
use crate::envs::{Ending, Purpose, StepCounts, World, WorldConfig};
use crate::error::Result;
use crate::learners::sac::SacMetrics;
use crate::nn::Train;
use crate::replay::{ReplayBuffer, hybrid};
use crate::reward::Reward;
use crate::reward::discriminator::{Discriminator, DiscriminatorMetrics, DiscriminatorRecord, Pairs};
use crate::run::rng::Streams;
use serde::{Deserialize, Serialize};

/// HyPE, and with an empty schedule MM.
pub struct Hype<B: Train> {
    config: RunConfig,
    reward: RewardConfig,
    streams: Streams,
    expert: Demonstrated,
    learner: OffPolicy<B>,
    discriminator: Discriminator<B>,
    rollouts: Rollouts,
}

/// The outer loop's own state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Rollouts {
    iteration: u64,
    counts: StepCounts,
}

/// Everything of [`Hype`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct HypeRecord<R> {
    learner: OffPolicyRecord<R>,
    discriminator: DiscriminatorRecord,
    rollouts: Rollouts,
}

impl<B: Train> Hype<B> {
    /// A fresh game of `seed` against the demonstrations.
    pub fn new(
        config: &RunConfig,
        reward: &RewardConfig,
        expert: Demonstrated,
        seed: u64,
        device: &B::Device,
    ) -> Result<Self> {
        let streams = Streams::new(seed);
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: expert.resets(config.reset.probability)? };
        Ok(Self {
            learner: OffPolicy::new(config, world, streams, device)?,
            discriminator: Discriminator::new(reward, expert.pairs.width, streams, device),
            rollouts: Rollouts::default(),
            config: config.clone(),
            reward: reward.clone(),
            streams,
            expert,
        })
    }

    /// One burst of environment steps, and the gradient steps that follow them on hybrid batches.
    fn improve_policy(&mut self) -> Result<Option<SacMetrics>> {
        self.learner.collect()?;
        let reward = Reward::Learned(&self.discriminator);
        Ok(self.learner.improve(&reward, &self.expert.rows, &self.config.hybrid.schedule))
    }

    /// Whole episodes of the policy as it stands, in an environment of their own. Noise as in training: the policy samples.
    fn rollout_current_policy(&mut self) -> Result<Pairs> {
        let name = format!("env/discriminator/{}", self.rollouts.iteration);
        let world = WorldConfig { tremble: self.config.env.tremble, demo_resets: None };
        let mut world = World::new(&self.config.task, world, self.streams, &name)?;
        let mut noise = self.streams.stream(&format!("{name}/policy"));
        let mut pairs = Pairs::new(self.expert.pairs.width);
        for _ in 0..self.reward.rollout_episodes {
            world.reset()?;
            let mut ending = Ending::Continues;
            while ending == Ending::Continues {
                let observation = world.observation().to_vec();
                let action = self.learner.sac.act(&observation, Some(&mut noise));
                pairs.push(&observation, &action);
                ending = world.step(&action, Purpose::Discriminator)?.ending;
            }
        }
        self.rollouts.counts += world.counts();
        Ok(pairs)
    }

    /// The discriminator's turn: expert cost down, learner cost up, gradients held near their target norm.
    fn ascend_reward(&mut self, learner: &Pairs) -> DiscriminatorMetrics {
        let metrics = self.discriminator.ascend(&self.expert.pairs, learner, self.rollouts.iteration);
        self.rollouts.iteration += 1;
        self.learner.begin_iteration();
        metrics
    }

    fn reward_is_due(&self) -> bool {
        self.learner.progress().iteration_steps >= self.reward.update_every
    }
}

impl<B: Train> Method for Hype<B> {
    type Record = HypeRecord<ReplayBuffer>;

    fn advance(&mut self) -> Result<Report> {
        let sac = self.improve_policy()?;
        let discriminator = if self.reward_is_due() {
            let pairs = self.rollout_current_policy()?;
            Some(self.ascend_reward(&pairs))
        } else {
            None
        };
        let progress = self.learner.progress();
        Ok(Report {
            env_steps: progress.env_steps,
            grad_steps: progress.grad_steps,
            sac,
            discriminator,
            expert_ratio: Some(hybrid::expert_ratio(&self.config.hybrid.schedule, progress.grad_steps)),
        })
    }

    fn counts(&self) -> StepCounts {
        let mut counts = self.learner.world().counts();
        counts += self.rollouts.counts;
        counts
    }

    fn act(&self, observation: &[f32]) -> Vec<f32> {
        self.learner.sac.act(observation, None)
    }

    fn networks(&self) -> Networks {
        let (spec, params) = self.discriminator.network();
        let (clip, reduction) = self.discriminator.reading();
        let discriminator = Some(DiscriminatorNetwork { spec, params, clip, reduction });
        Networks { actor: self.learner.sac.actor(), discriminator }
    }

    fn record(&self) -> impl Serialize + '_ {
        HypeRecord {
            learner: self.learner.record(),
            discriminator: self.discriminator.record(),
            rollouts: self.rollouts.clone(),
        }
    }

    fn restore(&mut self, record: Self::Record) -> Result<()> {
        self.learner.restore(record.learner)?;
        self.discriminator.restore(record.discriminator)?;
        self.rollouts = record.rollouts;
        Ok(())
    }
}

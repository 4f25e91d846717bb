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
//! The rest of the family is the same page with other settings:
//!
//! | method | `hybrid.schedule` | `reset.probability` | `bc_reg` |
//! |---|---|---|---|
//! | MM | empty: no expert rows | 0 | – |
//! | BC-Reg | empty | 0 | pulls the actor towards expert actions |
//! | FILTER | empty | α: episodes start in expert states | – |
//! | HyPE | ρ | 0 | – |
//! | HyPE+Resets | ρ | α | – |
//!
//! | paper | here |
//! |---|---|
//! | `f`, `F` | [`Discriminator`], clipped and regularised as `reward.*` says |
//! | `ρ`: share of expert rows | `hybrid.schedule` |
//! | `D_E` | [`Demonstrated`]: rows for the learner, pairs for the discriminator |
//! | policy optimiser | [`OffPolicy`]: SAC or TD3+BC, its environment and replay |
//!
//! Differences from the published code (jren03/garage), each a switch or stated in `docs/algorithms/hype.md`: time limits bootstrap; the
//! rollouts of the discriminator run in an environment of their own and are counted; one linear learning-rate
//! schedule over the whole run; random actions once.

use super::demonstrated::Demonstrated;
use super::off_policy::{OffPolicy, OffPolicyRecord, same_moment};
use super::rollouts::whole_episodes;
use super::{DiscriminatorNetwork, Method, Networks, Reading, Report};
use crate::config::{RewardConfig, RunConfig};
use crate::envs::{StepCounts, World, WorldConfig};
use crate::error::Result;
use crate::learners::learner::LearnerMetrics;
use crate::nn::Train;
use crate::replay::ReplayBuffer;
use crate::reward::Reward;
use crate::reward::discriminator::{Discriminator, DiscriminatorMetrics, DiscriminatorRecord, Pairs, Turn};
use crate::run::parallel;
use crate::run::rng::Streams;
use serde::{Deserialize, Serialize};

/// HyPE and its family, for a stack of seeds in lockstep: parts in a `Vec` are one per seed.
pub struct Hype<B: Train> {
    config: RunConfig,
    reward: RewardConfig,
    expert: Demonstrated,
    learner: OffPolicy<B>,
    discriminator: Discriminator<B>,
    rollouts: Vec<Rollouts>,
    iteration: u64,
}

/// The discriminator's own environment steps.
struct Rollouts {
    streams: Streams,
    counts: StepCounts,
}

/// Everything of one seed's [`Hype`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct HypeRecord<R> {
    learner: OffPolicyRecord<R>,
    discriminator: DiscriminatorRecord,
    iteration: u64,
    rollout_counts: StepCounts,
}

impl<B: Train> Hype<B> {
    /// Fresh games of `seeds` against the demonstrations.
    pub fn new(
        config: &RunConfig,
        reward: &RewardConfig,
        expert: Demonstrated,
        seeds: &[u64],
        device: &B::Device,
    ) -> Result<Self> {
        let streams: Vec<Streams> = seeds.iter().copied().map(Streams::new).collect();
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: expert.resets(config.reset.probability)? };
        let learner = OffPolicy::new(config, &world, &streams, device)?;
        let expert = if reward.absorbing { expert.with_ends(learner.world(0).task().horizon) } else { expert };
        let discriminator = Discriminator::new(reward, expert.pairs.width, &streams, device).in_units_of(&expert.pairs);
        Ok(Self {
            learner,
            discriminator: if reward.absorbing {
                discriminator.knows_the_end(config.discount())
            } else {
                discriminator
            },
            rollouts: streams.into_iter().map(|streams| Rollouts { streams, counts: StepCounts::default() }).collect(),
            iteration: 0,
            config: config.clone(),
            reward: reward.clone(),
            expert,
        })
    }

    /// One burst of environment steps, and the gradient steps that follow them on hybrid batches; cloning first, where the
    /// learner asks for it.
    fn improve_policy(&mut self) -> Result<Option<Vec<LearnerMetrics>>> {
        let reward = Reward::Learned(&self.discriminator);
        if self.learner.clones_first() {
            return Ok(self.learner.clone_expert(&reward, &self.expert.rows));
        }
        self.learner.collect()?;
        Ok(self.learner.improve(&reward, &self.expert.rows, self.config.mix()))
    }

    /// Whole episodes of the policy as it stands, in an environment of their own. Noise as in training: the policy samples.
    fn rollout_current_policy(&mut self) -> Result<Vec<Pairs>> {
        let name = format!("env/discriminator/{}", self.iteration);
        let faults = self.config.faults;
        let alpha = if faults.rollouts_reset_too { self.config.reset.probability } else { 0.0 };
        let world = WorldConfig { tremble: self.config.env.tremble, demo_resets: self.expert.resets(alpha)? };
        let policies = self.learner.policy.policies();
        let rollout = |seed: usize, Rollouts { streams, counts }: &mut Rollouts| {
            let mut world = World::new(&self.config.task, world.clone(), *streams, &name)?;
            let mut noise = streams.stream(&format!("{name}/policy"));
            let mut pairs = self.expert.pairs.none();
            let act = |observation: &[f32]| policies[seed].act(observation, Some(&mut noise));
            let in_env_units = faults.demonstrations_in_env_units;
            whole_episodes(&mut world, self.reward.rollout_episodes, &mut pairs, in_env_units, act)?;
            *counts += world.counts();
            Ok(pairs)
        };
        parallel::each(&mut self.rollouts, rollout).into_iter().collect()
    }

    /// The discriminator's turn: expert cost down, learner cost up, gradients held near their target norm.
    fn ascend_reward(&mut self, learners: &[Pairs]) -> Vec<DiscriminatorMetrics> {
        let over = self.learner.progress().env_steps as f64 / self.config.env_steps as f64;
        let turn = Turn { number: self.iteration, over };
        let metrics = self.discriminator.ascend(&self.expert.pairs, learners, turn);
        self.iteration += 1;
        self.learner.begin_iteration();
        metrics
    }

    fn reward_is_due(&self) -> bool {
        self.learner.progress().iteration_steps >= self.reward.update_every
    }
}

impl<B: Train> Method for Hype<B> {
    type Record = HypeRecord<ReplayBuffer>;

    fn advance(&mut self) -> Result<Vec<Report>> {
        let policy = self.improve_policy()?;
        let discriminator = if self.reward_is_due() {
            let pairs = self.rollout_current_policy()?;
            Some(self.ascend_reward(&pairs))
        } else {
            None
        };
        let expert_ratio = self.learner.expert_ratio(self.config.mix(), &self.expert.rows);
        let mut reports = self.learner.reports(policy.as_deref(), Some(expert_ratio));
        for (report, figures) in reports.iter_mut().zip(discriminator.into_iter().flatten()) {
            report.discriminator = Some(figures);
        }
        Ok(reports)
    }

    fn counts(&self, seed: usize) -> StepCounts {
        let mut counts = self.learner.world(seed).counts();
        counts += self.rollouts[seed].counts;
        counts
    }

    fn policy(&self, seed: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_ {
        self.learner.act(seed)
    }

    fn networks(&self) -> Vec<Networks> {
        let (clip, reduction) = self.discriminator.reading();
        let actors = self.learner.policy.actors().into_iter();
        let networks = actors.zip(self.discriminator.networks()).map(|(actor, (spec, params))| {
            let reading = Reading::Squashed;
            let learned = self.iteration > 0;
            let discriminator =
                DiscriminatorNetwork { spec, params, clip, reduction, reading: reading.clone(), learned };
            Networks { actor, reading, discriminator: Some(discriminator) }
        });
        networks.collect()
    }

    fn record(&self) -> Vec<impl Serialize + '_> {
        let parts = self.learner.record().into_iter().zip(self.discriminator.record()).zip(&self.rollouts);
        let records = parts.map(|((learner, discriminator), rollouts)| HypeRecord {
            learner,
            discriminator,
            iteration: self.iteration,
            rollout_counts: rollouts.counts,
        });
        records.collect()
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        self.iteration = same_moment(records.iter().map(|record| record.iteration))?;
        let (mut learners, mut discriminators) = (Vec::new(), Vec::new());
        for (rollouts, record) in self.rollouts.iter_mut().zip(records) {
            rollouts.counts = record.rollout_counts;
            learners.push(record.learner);
            discriminators.push(record.discriminator);
        }
        self.learner.restore(learners)?;
        self.discriminator.restore(discriminators)
    }
}

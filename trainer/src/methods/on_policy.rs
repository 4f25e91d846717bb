//! What an on-policy method does before it learns: act for a while with the policy as it stands, observations normalised, and
//! keep everything that the update will need.

use super::{Networks, Reading};
use crate::config::{ObservationMoments, PpoConfig};
use crate::envs::{Ending, Purpose, StepCounts, World, WorldCheckpoint};
use crate::error::Result;
use crate::learners::gae::Moment;
use crate::learners::ppo::{Ppo, PpoMetrics, PpoRecord, Rollout};
use crate::learners::running::Running;
use crate::nn::Train;
use crate::reward::discriminator::Pairs;
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};

/// Smallest deviation by which an observation channel is divided: a channel that has not moved yet may move later.
const STD_FLOOR: f64 = 1e-2;

/// Added to the variance of returns (openai/baselines `VecNormalize`).
const RETURN_EPSILON: f64 = 1e-8;

/// PPO with its environment and its normaliser.
pub struct OnPolicy<B: Train> {
    config: PpoConfig,
    learner: Ppo<B>,
    world: World,
    noise: Stream,
    needs_reset: bool,
    observations: Running,
    returns: Running,
    discounted_return: f64,
}

/// Everything of [`OnPolicy`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct OnPolicyRecord {
    learner: PpoRecord,
    world: WorldCheckpoint,
    noise: Stream,
    needs_reset: bool,
    observations: Running,
    returns: Running,
    discounted_return: f64,
}

/// A rollout, rewarded by the task until a method puts its own rewards in.
#[derive(Debug, Clone)]
pub struct Played {
    /// For the update.
    pub rollout: Rollout,
    /// Raw observations with the executed actions, in [-1, 1].
    pub pairs: Pairs,
    /// Whether each step is the first of an episode.
    pub begins: Vec<bool>,
}

impl Played {
    /// Puts `rewards` in the place of the task's.
    pub fn reward(&mut self, rewards: &[f32]) {
        self.rollout.moments.iter_mut().zip(rewards).for_each(|(moment, reward)| moment.reward = f64::from(*reward));
    }
}

impl<B: Train> OnPolicy<B> {
    /// A fresh learner in `world`. Observations are normalised by the moments of `known` rows where `config` says so.
    pub fn new(config: &PpoConfig, world: World, known: &Pairs, streams: Streams, device: &B::Device) -> Self {
        let (width, actions) = (world.task().observation_width(), world.task().action_width());
        let mut observations = Running::new(width);
        if config.observation_moments == ObservationMoments::Demonstrations {
            (0..known.len()).for_each(|row| observations.push(known.row(row)[..width].iter().map(|x| f64::from(*x))));
        }
        Self {
            learner: Ppo::new(config, width, actions, streams, device),
            noise: streams.stream("policy_noise"),
            needs_reset: true,
            observations,
            returns: Running::new(1),
            discounted_return: 0.0,
            config: config.clone(),
            world,
        }
    }

    /// How the networks see observations now.
    pub fn reading(&self) -> Reading {
        let running = &self.observations;
        Reading::Clamped {
            mean: running.mean().iter().map(|mean| *mean as f32).collect(),
            std: running.variance().iter().map(|variance| variance.sqrt().max(STD_FLOOR) as f32).collect(),
        }
    }

    /// Acts for `steps` environment steps. With `watches`, observations enter the normaliser as they come, where it is the
    /// learner's own.
    pub fn play(&mut self, steps: u64, watches: bool) -> Result<Played> {
        let watches = watches && self.config.observation_moments == ObservationMoments::Learner;
        let width = self.world.task().observation_width() + self.world.task().action_width();
        let mut played = Played { rollout: Rollout::default(), pairs: Pairs::new(width), begins: Vec::new() };
        let Played { rollout, pairs, begins } = &mut played;
        let mut reading = self.reading();
        for index in 1..=steps {
            begins.push(self.needs_reset);
            if std::mem::take(&mut self.needs_reset) {
                self.world.reset()?;
            }
            if watches {
                self.observations.push(self.world.observation().iter().map(|x| f64::from(*x)));
                reading = self.reading();
            }
            let seen = reading.seen(self.world.observation());
            let draw = self.learner.draw(&seen, &mut self.noise);
            if let Some(before) = rollout.moments.last_mut().filter(|before| before.ending == Ending::Continues) {
                before.next_value = f64::from(draw.value);
            }
            let clamped: Vec<f32> = draw.action.iter().map(|a| a.clamp(-1.0, 1.0)).collect();
            pairs.push(self.world.observation(), &clamped);
            let step = self.world.step(&clamped, Purpose::Policy)?;
            let open = step.ending == Ending::Truncated || (step.ending == Ending::Continues && index == steps);
            let next_value = if open { self.learner.value(&reading.seen(self.world.observation())) } else { 0.0 };
            rollout.moments.push(Moment {
                reward: step.reward,
                value: f64::from(draw.value),
                next_value: f64::from(next_value),
                ending: step.ending,
            });
            rollout.observations.extend(seen);
            rollout.actions.extend(draw.action);
            rollout.log_probs.push(draw.log_prob);
            self.needs_reset = step.ending != Ending::Continues;
        }
        Ok(played)
    }

    /// `pairs` of raw observations, as the networks see them now.
    pub fn seen(&self, pairs: &Pairs) -> Pairs {
        let (reading, observations) = (self.reading(), self.observations.mean().len());
        let mut seen = Pairs::new(pairs.width);
        for row in 0..pairs.len() {
            let (observation, action) = pairs.row(row).split_at(observations);
            seen.push(&reading.seen(observation), action);
        }
        seen
    }

    /// Divides the rewards of `played` by the running deviation of their discounted sums: by the one known after the rollout, or
    /// each by the one known at its step.
    pub fn scale_rewards(&mut self, played: &mut Played, as_it_goes: bool) {
        let deviation = |returns: &Running| (returns.variance()[0] + RETURN_EPSILON).sqrt();
        for (moment, begins) in played.rollout.moments.iter_mut().zip(&played.begins) {
            let before = if *begins { 0.0 } else { self.discounted_return };
            self.discounted_return = moment.reward + self.config.discount * before;
            self.returns.push([self.discounted_return]);
            if as_it_goes {
                moment.reward /= deviation(&self.returns);
            }
        }
        if !as_it_goes {
            let deviation = deviation(&self.returns);
            played.rollout.moments.iter_mut().for_each(|moment| moment.reward /= deviation);
        }
    }

    /// PPO's update, as [`Ppo::update`].
    pub fn update(&mut self, rollout: &Rollout, learning_rate: f64) -> (PpoMetrics, u64) {
        self.learner.update(rollout, learning_rate)
    }

    /// Real environment steps so far.
    pub fn counts(&self) -> StepCounts {
        self.world.counts()
    }

    /// From a raw observation to the mean action, clamped to [-1, 1].
    pub fn policy(&self) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + use<B> {
        let (policy, reading) = (self.learner.policy(), self.reading());
        move |observation| {
            let mean = policy.act(&reading.seen(observation));
            mean.into_iter().map(|a| a.clamp(-1.0, 1.0)).collect()
        }
    }

    /// The policy, for export.
    pub fn networks(&self) -> Networks {
        Networks { actor: self.learner.actor(), discriminator: None, reading: self.reading() }
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> OnPolicyRecord {
        OnPolicyRecord {
            learner: self.learner.record(),
            world: self.world.checkpoint(),
            noise: self.noise.clone(),
            needs_reset: self.needs_reset,
            observations: self.observations.clone(),
            returns: self.returns.clone(),
            discounted_return: self.discounted_return,
        }
    }

    /// Takes over a checkpoint's content.
    pub fn restore(&mut self, record: OnPolicyRecord) -> Result<()> {
        self.learner.restore(record.learner)?;
        self.world.restore(&record.world)?;
        self.noise = record.noise;
        self.needs_reset = record.needs_reset;
        self.observations = record.observations;
        self.returns = record.returns;
        self.discounted_return = record.discounted_return;
        Ok(())
    }
}

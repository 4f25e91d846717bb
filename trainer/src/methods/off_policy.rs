//! What every off-policy method does the same way: act in the environment, remember, take gradient steps on batches.

use crate::config::{RateSchedule, RunConfig, Stage};
use crate::envs::{Ending, Purpose, World, WorldCheckpoint, WorldConfig};
use crate::error::Result;
use crate::learners::sac::{Sac, SacMetrics, SacRecord};
use crate::nn::Train;
use crate::replay::{ReplayBuffer, Transition, hybrid};
use crate::reward::Reward;
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};

/// A soft actor-critic with its environment and its replay buffer.
pub struct OffPolicy<B: Train> {
    config: RunConfig,
    /// The learner.
    pub sac: Sac<B>,
    world: World,
    replay: ReplayBuffer,
    actions: Stream,
    rows: Stream,
    progress: Progress,
    device: B::Device,
}

/// How far the learning has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Environment steps of learning, exploration included.
    pub env_steps: u64,
    /// Those since the outer iteration began.
    pub iteration_steps: u64,
    /// Gradient steps.
    pub grad_steps: u64,
    needs_reset: bool,
}

/// Everything of [`OffPolicy`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct OffPolicyRecord<R> {
    sac: SacRecord,
    world: WorldCheckpoint,
    replay: R,
    actions: Stream,
    rows: Stream,
    progress: Progress,
}

impl<B: Train> OffPolicy<B> {
    /// A fresh learner in the environment that `world` describes.
    pub fn new(config: &RunConfig, world: WorldConfig, streams: Streams, device: &B::Device) -> Result<Self> {
        let world = World::new(&config.task, world, streams, "env/train")?;
        let (observations, actions) = (world.task().observation_width(), world.task().action_width());
        Ok(Self {
            sac: Sac::new(&config.sac, observations, actions, streams, device),
            replay: ReplayBuffer::new(config.sac.replay_capacity, observations, actions),
            actions: streams.stream("policy_noise"),
            rows: streams.stream("replay"),
            progress: Progress { needs_reset: true, ..Progress::default() },
            world,
            device: device.clone(),
            config: config.clone(),
        })
    }

    /// How far the learning has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The training environment, for its step counts.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Rows in the replay buffer.
    pub fn replay_len(&self) -> usize {
        self.replay.len()
    }

    /// Takes the next `train_every` environment steps (fewer at the end of the budget): uniform random ones while
    /// exploring, the policy's own afterwards.
    pub fn collect(&mut self) -> Result<()> {
        let steps = self.config.sac.train_every.min(self.config.env_steps - self.progress.env_steps);
        for _ in 0..steps {
            if std::mem::take(&mut self.progress.needs_reset) {
                self.world.reset()?;
            }
            let observation = self.world.observation().to_vec();
            let (action, purpose) = if self.clock() < self.config.sac.exploration_steps {
                let width = self.world.task().action_width();
                let action = (0..width).map(|_| self.actions.uniform(-1.0, 1.0) as f32).collect();
                (action, Purpose::Exploration)
            } else {
                (self.sac.act(&observation, Some(&mut self.actions)), Purpose::Policy)
            };
            let step = self.world.step(&action, purpose)?;
            self.replay.push(Transition {
                observation: &observation,
                action_unit: &action,
                task_reward: step.reward as f32,
                next_observation: self.world.observation(),
                terminated: match step.ending {
                    Ending::Continues => false,
                    Ending::Terminated => true,
                    Ending::Truncated => self.config.sac.timeouts_are_terminal,
                },
            });
            self.progress.needs_reset = step.ending != Ending::Continues;
            self.progress.env_steps += 1;
            self.progress.iteration_steps += 1;
        }
        Ok(())
    }

    /// Takes the gradient steps that follow [`OffPolicy::collect`], each on a fresh batch labelled by `reward`: expert
    /// rows by `schedule`, the rest from replay. Returns what the last one measured; nothing while exploring.
    pub fn improve(&mut self, reward: &Reward<'_, B>, expert: &ReplayBuffer, schedule: &[Stage]) -> Option<SacMetrics> {
        if self.clock() <= self.config.sac.exploration_steps {
            return None;
        }
        let (rate, steps) = (self.learning_rate(), self.config.sac.grad_steps);
        let mut metrics = None;
        for step in 1..=steps {
            let (size, batches) = (self.config.sac.batch_size, self.progress.grad_steps);
            let rows = hybrid::sample(expert, &self.replay, schedule, batches, size, &mut self.rows);
            let batch = reward.label(rows, &self.device);
            metrics = self.sac.update(&batch, rate, step == steps);
            self.progress.grad_steps += 1;
        }
        metrics
    }

    /// Begins an outer iteration. Only the published code's fault (spec 7.11) cuts the running episode here.
    pub fn begin_iteration(&mut self) {
        self.progress.iteration_steps = 0;
        self.progress.needs_reset |= self.config.sac.restarts_each_iteration;
    }

    /// The steps by which exploration is measured.
    fn clock(&self) -> u64 {
        if self.config.sac.restarts_each_iteration { self.progress.iteration_steps } else { self.progress.env_steps }
    }

    fn learning_rate(&self) -> f64 {
        let share = |steps: u64, of: u64| 1.0 - steps as f64 / of as f64;
        let base = self.config.sac.learning_rate;
        match (self.config.sac.learning_rate_schedule, &self.config.reward) {
            (RateSchedule::Constant, _) => base,
            (RateSchedule::Sawtooth, Some(reward)) => base * share(self.progress.iteration_steps, reward.update_every),
            _ => base * share(self.progress.env_steps, self.config.env_steps).max(0.0),
        }
    }

    /// Everything, for a checkpoint; the replay buffer by reference.
    pub fn record(&self) -> OffPolicyRecord<&ReplayBuffer> {
        OffPolicyRecord {
            sac: self.sac.record(),
            world: self.world.checkpoint(),
            replay: &self.replay,
            actions: self.actions.clone(),
            rows: self.rows.clone(),
            progress: self.progress,
        }
    }

    /// Takes over a checkpoint's content.
    pub fn restore(&mut self, record: OffPolicyRecord<ReplayBuffer>) -> Result<()> {
        self.sac.restore(record.sac)?;
        self.world.restore(&record.world)?;
        self.replay = record.replay;
        self.actions = record.actions;
        self.rows = record.rows;
        self.progress = record.progress;
        Ok(())
    }
}

//! What every off-policy method does the same way: act in the environment, remember, take gradient steps on batches.

use crate::config::{RateSchedule, RunConfig, Stage};
use crate::envs::{Ending, Purpose, World, WorldCheckpoint, WorldConfig};
use crate::error::{Error, Result};
use crate::learners::block::Block;
use crate::learners::sac::{Sac, SacMetrics, SacRecord};
use crate::nn::Train;
use crate::replay::{ReplayBuffer, Rows, Transition, hybrid};
use crate::reward::Reward;
use crate::run::parallel;
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};

/// Soft actor-critic for stacked seeds, each with its environment and its replay buffer.
pub struct OffPolicy<B: Train> {
    config: RunConfig,
    /// The learner of all seeds.
    pub sac: Sac<B>,
    seeds: Vec<Experience>,
    progress: Progress,
    steps_per_transfer: usize,
    device: B::Device,
}

/// What one seed lives through.
struct Experience {
    world: World,
    replay: ReplayBuffer,
    actions: Stream,
    rows: Stream,
    needs_reset: bool,
}

/// How far the learning has come, the same for every seed of the stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Environment steps of learning, exploration included.
    pub env_steps: u64,
    /// Those since the outer iteration began.
    pub iteration_steps: u64,
    /// Gradient steps.
    pub grad_steps: u64,
}

/// Everything of one seed's [`OffPolicy`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct OffPolicyRecord<R> {
    sac: SacRecord,
    world: WorldCheckpoint,
    replay: R,
    actions: Stream,
    rows: Stream,
    needs_reset: bool,
    progress: Progress,
}

impl<B: Train> OffPolicy<B> {
    /// Fresh learners of the seeds that `streams` belong to, in environments that `world` describes.
    pub fn new(config: &RunConfig, world: &WorldConfig, streams: &[Streams], device: &B::Device) -> Result<Self> {
        let experience = |streams: &Streams| {
            let world = World::new(&config.task, world.clone(), *streams, "env/train")?;
            let (observations, actions) = (world.task().observation_width(), world.task().action_width());
            Ok(Experience {
                world,
                replay: ReplayBuffer::new(config.sac.replay_capacity, observations, actions),
                actions: streams.stream("policy_noise"),
                rows: streams.stream("replay"),
                needs_reset: true,
            })
        };
        let seeds = streams.iter().map(experience).collect::<Result<Vec<_>>>()?;
        let task = seeds[0].world.task();
        let (observations, actions) = (task.observation_width(), task.action_width());
        Ok(Self {
            sac: Sac::new(&config.sac, observations, actions, streams, device),
            seeds,
            progress: Progress::default(),
            steps_per_transfer: B::STEPS_PER_TRANSFER,
            device: device.clone(),
            config: config.clone(),
        })
    }

    /// How far the learning has come.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Seeds side by side.
    pub fn seeds(&self) -> usize {
        self.seeds.len()
    }

    /// The training environment of one seed, for its step counts.
    pub fn world(&self, seed: usize) -> &World {
        &self.seeds[seed].world
    }

    /// Takes the next `train_every` environment steps of every seed (fewer at the end of the budget): uniform random ones
    /// while exploring, the policy's own afterwards.
    pub fn collect(&mut self) -> Result<()> {
        let steps = self.config.sac.train_every.min(self.config.env_steps - self.progress.env_steps);
        let explores = self.config.sac.exploration_steps.saturating_sub(self.clock());
        let (policies, timeouts_are_terminal) = (self.sac.policies(), self.config.sac.timeouts_are_terminal);
        let lived = parallel::each(&mut self.seeds, |seed, experience| -> Result<()> {
            for step in 0..steps {
                let purpose = if step < explores { Purpose::Exploration } else { Purpose::Policy };
                experience.step(purpose, timeouts_are_terminal, |observation, noise| {
                    policies[seed].act(observation, Some(noise))
                })?;
            }
            Ok(())
        });
        lived.into_iter().collect::<Result<()>>()?;
        self.progress.env_steps += steps;
        self.progress.iteration_steps += steps;
        Ok(())
    }

    /// Takes the gradient steps that follow [`OffPolicy::collect`], each on a fresh batch labelled by `reward`: expert
    /// rows by `schedule`, the rest from replay. Returns what the last one measured of each seed; nothing while exploring.
    pub fn improve(
        &mut self,
        reward: &Reward<'_, B>,
        expert: &ReplayBuffer,
        schedule: &[Stage],
    ) -> Option<Vec<SacMetrics>> {
        if self.clock() <= self.config.sac.exploration_steps {
            return None;
        }
        let (rate, end) = (self.learning_rate(), self.progress.grad_steps + self.config.sac.grad_steps);
        let mut metrics = None;
        while self.progress.grad_steps < end {
            let steps = (end - self.progress.grad_steps).min(self.steps_per_transfer as u64);
            let (rows, sizes) = self.draw(steps, expert, schedule);
            let noise = self.sac.draw_noise(&sizes);
            let block = Block::new(rows, sizes, &self.device);
            for (index, noise) in noise.into_iter().enumerate() {
                self.progress.grad_steps += 1;
                let batch = reward.label(block.batch(index));
                metrics = self.sac.step(&batch, noise, rate, self.progress.grad_steps == end);
            }
        }
        metrics
    }

    /// Each seed's rows for the next `steps` batches, batch after batch, and the sizes of the batches.
    fn draw(&mut self, steps: u64, expert: &ReplayBuffer, schedule: &[Stage]) -> (Vec<Rows>, Vec<usize>) {
        let (size, begin) = (self.config.sac.batch_size, self.progress.grad_steps);
        let drawn = parallel::each(&mut self.seeds, |_, experience| {
            let mut rows = Rows::default();
            let Experience { replay, rows: stream, .. } = experience;
            let sizes = (begin..begin + steps)
                .map(|batch| hybrid::sample_into(expert, replay, schedule, batch, size, stream, &mut rows))
                .collect();
            (rows, sizes)
        });
        let (rows, mut sizes): (_, Vec<Vec<usize>>) = drawn.into_iter().unzip();
        (rows, sizes.swap_remove(0))
    }

    /// Begins an outer iteration. Only the published code's fault (spec 7.11) cuts the running episode here.
    pub fn begin_iteration(&mut self) {
        self.progress.iteration_steps = 0;
        self.seeds.iter_mut().for_each(|seed| seed.needs_reset |= self.config.sac.restarts_each_iteration);
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

    /// Everything, seed by seed, for checkpoints; the replay buffers by reference.
    pub fn record(&self) -> Vec<OffPolicyRecord<&ReplayBuffer>> {
        let records = self.sac.record().into_iter().zip(&self.seeds).map(|(sac, seed)| OffPolicyRecord {
            sac,
            world: seed.world.checkpoint(),
            replay: &seed.replay,
            actions: seed.actions.clone(),
            rows: seed.rows.clone(),
            needs_reset: seed.needs_reset,
            progress: self.progress,
        });
        records.collect()
    }

    /// Takes over the seeds' checkpoints, which must be of the same moment.
    pub fn restore(&mut self, records: Vec<OffPolicyRecord<ReplayBuffer>>) -> Result<()> {
        self.progress = same_moment(records.iter().map(|record| record.progress))?;
        let mut learners = Vec::new();
        for (seed, record) in self.seeds.iter_mut().zip(records) {
            seed.world.restore(&record.world)?;
            seed.replay = record.replay;
            seed.actions = record.actions;
            seed.rows = record.rows;
            seed.needs_reset = record.needs_reset;
            learners.push(record.sac);
        }
        self.sac.restore(learners)
    }
}

/// What stacked seeds share, from their checkpoints.
pub(super) fn same_moment<T: PartialEq + std::fmt::Debug>(found: impl Iterator<Item = T>) -> Result<T> {
    let mut found: Vec<T> = found.collect();
    if found.is_empty() || found.iter().any(|moment| *moment != found[0]) {
        return Err(Error::data("the checkpoints of stacked seeds are not of the same moment")
            .found(format!("{found:?}"))
            .hint("put back checkpoints that were written together, or resume with --device cpu"));
    }
    Ok(found.swap_remove(0))
}

impl Experience {
    /// One environment step with a random action or the policy's, remembered.
    fn step(
        &mut self,
        purpose: Purpose,
        timeouts_are_terminal: bool,
        act: impl Fn(&[f32], &mut Stream) -> Vec<f32>,
    ) -> Result<()> {
        if std::mem::take(&mut self.needs_reset) {
            self.world.reset()?;
        }
        let observation = self.world.observation().to_vec();
        let action: Vec<f32> = if purpose == Purpose::Exploration {
            let width = self.world.task().action_width();
            (0..width).map(|_| self.actions.uniform(-1.0, 1.0) as f32).collect()
        } else {
            act(&observation, &mut self.actions)
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
                Ending::Truncated => timeouts_are_terminal,
            },
        });
        self.needs_reset = step.ending != Ending::Continues;
        Ok(())
    }
}

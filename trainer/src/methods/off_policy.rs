//! What every off-policy method does the same way: act in the environment, remember, take gradient steps on batches.

use super::{Networks, Reading, Report};
use crate::config::{BcRegConfig, FaultsConfig, LearnerKind, RateSchedule, Rhythm, RunConfig, Stage};
use crate::envs::{Ending, Purpose, World, WorldCheckpoint, WorldConfig};
use crate::error::{Error, Result};
use crate::learners::Pull;
use crate::learners::block::Block;
use crate::learners::learner::{Learner, LearnerMetrics, LearnerRecord};
use crate::learners::td3_bc::Objective;
use crate::nn::Train;
use crate::replay::hybrid::{self, Mix};
use crate::replay::{ReplayBuffer, Rows, Transition};
use crate::reward::Reward;
use crate::run::parallel;
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Gradient steps of one [`OffPolicy::clone_expert`], at most.
const CLONING_PIECE: u64 = 250;

/// Every row is the expert's.
const EXPERT_ONLY: Mix<'static> = Mix::Scheduled(&[Stage(1.0, 1.0, u64::MAX)]);

/// A policy learner of stacked seeds, each with its environment and its replay buffer.
pub struct OffPolicy<B: Train> {
    config: RunConfig,
    rhythm: Rhythm,
    /// The learner of all seeds.
    pub policy: Learner<B>,
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
    /// Gradient steps that followed environment steps.
    pub grad_steps: u64,
    /// Gradient steps of cloning before the first environment step.
    pub cloning_steps: u64,
}

/// Everything of one seed's [`OffPolicy`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct OffPolicyRecord<R> {
    policy: LearnerRecord,
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
        let rhythm = config.rhythm();
        let experience = |streams: &Streams| {
            let world = World::new(&config.task, world.clone(), *streams, "env/train")?;
            let (observations, actions) = (world.task().observation_width(), world.task().action_width());
            Ok(Experience {
                world,
                replay: ReplayBuffer::new(rhythm.replay_capacity, observations, actions),
                actions: streams.stream("policy_noise"),
                rows: streams.stream("replay"),
                needs_reset: true,
            })
        };
        let seeds = streams.iter().map(experience).collect::<Result<Vec<_>>>()?;
        let task = seeds[0].world.task();
        let (observations, actions) = (task.observation_width(), task.action_width());
        Ok(Self {
            policy: Learner::new(config, observations, actions, streams, device),
            rhythm,
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

    /// The expected share of expert rows in the batches that come next.
    pub fn expert_ratio(&self, mix: Mix<'_>, expert: &ReplayBuffer) -> f64 {
        mix.expert_ratio(self.progress.grad_steps, expert.len(), self.seeds[0].replay.len())
    }

    /// Each seed's report on the last gradient steps, and the share of expert rows, where the method has such.
    pub fn reports(&self, figures: Option<&[LearnerMetrics]>, expert_ratio: Option<f64>) -> Vec<Report> {
        let of_seed = |seed: usize| Report {
            env_steps: self.progress.env_steps,
            grad_steps: self.progress.grad_steps + self.progress.cloning_steps,
            sac: figures.and_then(|figures| figures[seed].sac()),
            td3_bc: figures.and_then(|figures| figures[seed].td3_bc()),
            expert_ratio,
            ..Report::default()
        };
        (0..self.seeds()).map(of_seed).collect()
    }

    /// Each seed's actor, without a discriminator.
    pub fn networks(&self) -> Vec<Networks> {
        let actors = self.policy.actors().into_iter();
        actors.map(|actor| Networks { actor, reading: Reading::Squashed, discriminator: None }).collect()
    }

    /// One seed's mean action in [-1, 1].
    pub fn act(&self, seed: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_ {
        let policy = &self.policy.policies()[seed];
        move |observation| policy.act(observation, None)
    }

    /// The training environment of one seed, for its step counts.
    pub fn world(&self, seed: usize) -> &World {
        &self.seeds[seed].world
    }

    /// Takes the next `train_every` environment steps of every seed (fewer at the end of the budget): uniform random ones
    /// while exploring, the policy's own afterwards. Returns how many episodes of each seed ended.
    pub fn collect(&mut self) -> Result<Vec<u64>> {
        let steps = self.rhythm.train_every.min(self.config.env_steps - self.progress.env_steps);
        let explores = self.rhythm.exploration_steps.saturating_sub(self.clock());
        let (policies, timeouts_are_terminal, faults) =
            (self.policy.policies(), self.rhythm.timeouts_are_terminal, self.config.faults);
        let ended = parallel::each(&mut self.seeds, |seed, experience| -> Result<u64> {
            let mut ended = 0;
            for step in 0..steps {
                let purpose = if step < explores { Purpose::Exploration } else { Purpose::Policy };
                let ending = experience.step(purpose, timeouts_are_terminal, faults, |observation, noise| {
                    policies[seed].act(observation, Some(noise))
                })?;
                ended += u64::from(ending != Ending::Continues);
            }
            Ok(ended)
        });
        let ended = ended.into_iter().collect::<Result<_>>()?;
        self.progress.env_steps += steps;
        self.progress.iteration_steps += steps;
        Ok(ended)
    }

    /// Takes the gradient steps that follow [`OffPolicy::collect`], each on a fresh batch labelled by `reward`: expert
    /// rows by `mix`, the rest from replay. Returns what the last one measured of each seed; nothing while exploring.
    pub fn improve(
        &mut self,
        reward: &Reward<'_, B>,
        expert: &ReplayBuffer,
        mix: Mix<'_>,
    ) -> Option<Vec<LearnerMetrics>> {
        if self.clock() <= self.rhythm.exploration_steps {
            return None;
        }
        let is_hybrid = mix.has_expert() && !expert.is_empty();
        let objective = if is_hybrid { Objective::ValueAndCloning } else { Objective::Value };
        let batches = self.progress.grad_steps..self.progress.grad_steps + self.rhythm.grad_steps;
        self.progress.grad_steps = batches.end;
        self.learn(reward, expert, mix, objective, batches)
    }

    /// Whether cloning comes next: TD3+BC's first `bc_steps`, before any environment step.
    pub fn clones_first(&self) -> bool {
        self.config.td3_bc().is_some_and(|td3_bc| self.progress.cloning_steps < td3_bc.bc_steps)
    }

    /// Takes some of the gradient steps for which [`OffPolicy::clones_first`], on expert rows alone.
    pub fn clone_expert(&mut self, reward: &Reward<'_, B>, expert: &ReplayBuffer) -> Option<Vec<LearnerMetrics>> {
        let end = self.config.td3_bc().map_or(0, |td3_bc| td3_bc.bc_steps);
        let batches = self.progress.cloning_steps..end.min(self.progress.cloning_steps + CLONING_PIECE);
        self.progress.cloning_steps = batches.end;
        self.learn(reward, expert, EXPERT_ONLY, Objective::Cloning, batches)
    }

    fn learn(
        &mut self,
        reward: &Reward<'_, B>,
        expert: &ReplayBuffer,
        mix: Mix<'_>,
        objective: Objective,
        batches: Range<u64>,
    ) -> Option<Vec<LearnerMetrics>> {
        let (rate, end) = (self.learning_rate(), batches.end);
        let pull = self.pull().cloned();
        let (mut metrics, mut begin) = (None, batches.start);
        while begin < end {
            let steps = (end - begin).min(self.steps_per_transfer as u64);
            let (rows, sizes, pulled) = self.draw(begin..begin + steps, reward, expert, mix, pull.as_ref());
            let noise = self.policy.draw_noise(&sizes, pull.as_ref().map_or(0, |pull| pull.batch_size));
            let block = Block::new(rows, sizes, &self.device);
            let pulled = pull.as_ref().map(|pull| {
                let sizes = vec![pull.batch_size; steps as usize];
                (pull.weight, Block::new(pulled, sizes, &self.device))
            });
            for (index, noise) in noise.into_iter().enumerate() {
                begin += 1;
                let batch = reward.label(block.batch(index));
                let pull = pulled.as_ref().map(|(weight, block)| {
                    let rows = block.batch(index);
                    Pull { weight: *weight, observation: rows.observation, action: rows.action }
                });
                metrics = self.policy.step(&batch, noise, objective, pull.as_ref(), rate, begin == end);
            }
        }
        metrics
    }

    /// BC-Reg's term, where the method has one; the published code has none with TD3+BC (bc-reg.md 2).
    fn pull(&self) -> Option<&BcRegConfig> {
        let left_out = self.config.faults.bc_reg_rows_from_replay && self.config.learner == LearnerKind::Td3Bc;
        self.config.bc_reg.as_ref().filter(|_| !left_out)
    }

    /// Each seed's rows for some batches, batch after batch, the sizes of the batches, and the rows of the pull.
    fn draw(
        &mut self,
        batches: Range<u64>,
        reward: &Reward<'_, B>,
        expert: &ReplayBuffer,
        mix: Mix<'_>,
        pull: Option<&BcRegConfig>,
    ) -> (Vec<Rows>, Vec<usize>, Vec<Rows>) {
        let (size, from_replay) = (self.rhythm.batch_size, self.config.faults.bc_reg_rows_from_replay);
        let drawn = parallel::each(&mut self.seeds, |_, experience| {
            let (mut rows, mut pulled) = (Rows::default(), Rows::default());
            let Experience { replay, rows: stream, .. } = experience;
            let draw = |batch| {
                let size = hybrid::sample_into(expert, replay, mix, batch, size, stream, &mut rows);
                if let Some(pull) = pull {
                    let source = if from_replay { &*replay } else { expert };
                    source.sample_into(pull.batch_size, stream, &mut pulled);
                }
                size
            };
            let sizes: Vec<usize> = batches.clone().map(draw).collect();
            ((rows, pulled), sizes)
        });
        let (rows, mut sizes): (Vec<_>, Vec<Vec<usize>>) = drawn.into_iter().unzip();
        let (mut rows, pulled): (Vec<Rows>, Vec<Rows>) = rows.into_iter().unzip();
        rows.iter_mut().enumerate().for_each(|(seed, rows)| reward.mark(seed, rows));
        (rows, sizes.swap_remove(0), pulled)
    }

    /// Begins an outer iteration. Only the published code's fault (hype.md 3) cuts the running episode here.
    pub fn begin_iteration(&mut self) {
        self.progress.iteration_steps = 0;
        self.seeds.iter_mut().for_each(|seed| seed.needs_reset |= self.rhythm.restarts_each_iteration);
    }

    /// The steps by which exploration is measured.
    fn clock(&self) -> u64 {
        if self.rhythm.restarts_each_iteration { self.progress.iteration_steps } else { self.progress.env_steps }
    }

    fn learning_rate(&self) -> f64 {
        let share = |steps: u64, of: u64| 1.0 - steps as f64 / of as f64;
        let base = self.rhythm.learning_rate;
        match (self.rhythm.learning_rate_schedule, self.config.iteration()) {
            (RateSchedule::Constant, _) => base,
            (RateSchedule::Sawtooth, Some(steps)) => base * share(self.progress.iteration_steps, steps),
            _ => base * share(self.progress.env_steps, self.config.env_steps).max(0.0),
        }
    }

    /// Everything, seed by seed, for checkpoints; the replay buffers by reference.
    pub fn record(&self) -> Vec<OffPolicyRecord<&ReplayBuffer>> {
        let records = self.policy.record().into_iter().zip(&self.seeds).map(|(policy, seed)| OffPolicyRecord {
            policy,
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
            learners.push(record.policy);
        }
        self.policy.restore(learners)
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
    /// One environment step with a random action or the policy's, remembered; whether the episode ended there.
    fn step(
        &mut self,
        purpose: Purpose,
        timeouts_are_terminal: bool,
        faults: FaultsConfig,
        act: impl Fn(&[f32], &mut Stream) -> Vec<f32>,
    ) -> Result<Ending> {
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
        self.needs_reset = step.ending != Ending::Continues;
        if faults.next_observation_after_reset && std::mem::take(&mut self.needs_reset) {
            self.world.reset()?;
        }
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
        Ok(step.ending)
    }
}

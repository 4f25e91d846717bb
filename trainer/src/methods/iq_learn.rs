//! IQ-Learn: inverse soft Q-learning (Garg et al. 2021, arXiv 2106.12142).
//!
//! A critic `Q` and its policy stand for a reward, `R(s, a) = Q(s, a) - γ V(s')`. So the reward need not be learned beside: one
//! descent on `Q` makes the expert's implied reward large against the policy's.
//!
//! ```text
//! D_L ← ∅
//! repeat
//!     act with π, remember the step in D_L
//!     Q down  -E_E[φ'(R) R] + T + E[R²]/(4α)     on as many expert rows as D_L rows
//!     π up    E[Q(s, a) - α_T log π(a|s)]        on the states of both
//! ```

use super::demonstrated::Demonstrated;
use super::{Method, Networks, Reading, Report, one};
use crate::config::{IqConfig, RateSchedule, RunConfig};
use crate::envs::{Ending, Purpose, StepCounts, World, WorldCheckpoint, WorldConfig};
use crate::error::Result;
use crate::learners::iq::{Iq, IqMetrics, IqRecord};
use crate::learners::sac::SacMetrics;
use crate::nn::Train;
use crate::replay::{ReplayBuffer, Rows, Transition};
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};

/// Environment steps per [`Method::advance`], at least.
const PIECE: u64 = 64;

/// IQ-Learn.
pub struct IqLearn<B: Train> {
    config: RunConfig,
    iq: IqConfig,
    expert: Demonstrated,
    learner: Iq<B>,
    world: World,
    replay: ReplayBuffer,
    actions: Stream,
    rows: Stream,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    env_steps: u64,
    grad_steps: u64,
    needs_reset: bool,
}

/// Everything of [`IqLearn`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct IqLearnRecord<R> {
    learner: IqRecord,
    world: WorldCheckpoint,
    replay: R,
    actions: Stream,
    rows: Stream,
    progress: Progress,
}

impl<B: Train> IqLearn<B> {
    /// A fresh learner of the first of `seeds`: they do not stack.
    pub fn new(
        config: &RunConfig,
        iq: &IqConfig,
        expert: Demonstrated,
        seeds: &[u64],
        device: &B::Device,
    ) -> Result<Self> {
        let streams = Streams::new(seeds[0]);
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: expert.resets(config.reset.probability)? };
        let world = World::new(&config.task, world, streams, "env/train")?;
        let (observations, actions) = (world.task().observation_width(), world.task().action_width());
        Ok(Self {
            learner: Iq::new(iq, &config.sac, observations, actions, streams, device),
            replay: ReplayBuffer::new(config.sac.replay_capacity, observations, actions),
            actions: streams.stream("policy_noise"),
            rows: streams.stream("replay"),
            progress: Progress { needs_reset: true, ..Progress::default() },
            config: config.clone(),
            iq: iq.clone(),
            world,
            expert,
        })
    }

    fn step(&mut self) -> Result<()> {
        if std::mem::take(&mut self.progress.needs_reset) {
            self.world.reset()?;
        }
        let observation = self.world.observation().to_vec();
        let (action, purpose) = if self.progress.env_steps < self.config.sac.exploration_steps {
            let width = self.world.task().action_width();
            ((0..width).map(|_| self.actions.uniform(-1.0, 1.0) as f32).collect(), Purpose::Exploration)
        } else {
            (self.learner.act(&observation, Some(&mut self.actions)), Purpose::Policy)
        };
        let step = self.world.step(&action, purpose)?;
        self.replay.push(Transition {
            observation: &observation,
            action_unit: &action,
            task_reward: f32::NAN,
            next_observation: self.world.observation(),
            terminated: match step.ending {
                Ending::Continues => false,
                Ending::Terminated => true,
                Ending::Truncated => self.config.sac.timeouts_are_terminal,
            },
        });
        self.progress.needs_reset = step.ending != Ending::Continues;
        self.progress.env_steps += 1;
        Ok(())
    }

    fn improve(&mut self, measure: bool) -> Option<(SacMetrics, IqMetrics)> {
        if self.replay.len() as u64 <= self.iq.warmup_steps {
            return None;
        }
        let size = self.config.sac.batch_size;
        let (mut expert, mut policy) = (Rows::default(), Rows::default());
        self.expert.rows.sample_into(size, &mut self.rows, &mut expert);
        self.replay.sample_into(size, &mut self.rows, &mut policy);
        let starts = &self.expert.starts;
        let mut start = Vec::with_capacity(size * starts.width);
        (0..size).for_each(|_| start.extend_from_slice(starts.row(self.rows.index(starts.len()))));
        self.progress.grad_steps += 1;
        self.learner.update(expert, policy, start, self.rate_scale(), measure)
    }

    /// Stored steps whose next state has no value.
    #[cfg(test)]
    pub(super) fn stored_ends(&self) -> usize {
        self.replay.terminations()
    }

    fn rate_scale(&self) -> f64 {
        match self.config.sac.learning_rate_schedule {
            RateSchedule::Constant => 1.0,
            _ => (1.0 - self.progress.env_steps as f64 / self.config.env_steps as f64).max(0.0),
        }
    }
}

impl<B: Train> Method for IqLearn<B> {
    const STACKS: bool = false;
    type Record = IqLearnRecord<ReplayBuffer>;

    fn advance(&mut self) -> Result<Vec<Report>> {
        let sac = self.config.sac.clone();
        let mut metrics = None;
        let until = (self.progress.env_steps + PIECE).min(self.config.env_steps);
        while self.progress.env_steps < until {
            let steps = sac.train_every.min(self.config.env_steps - self.progress.env_steps);
            for _ in 0..steps {
                self.step()?;
            }
            let last = self.progress.env_steps >= until;
            for step in 1..=sac.grad_steps {
                metrics = self.improve(last && step == sac.grad_steps);
            }
        }
        Ok(vec![Report {
            env_steps: self.progress.env_steps,
            grad_steps: self.progress.grad_steps,
            sac: metrics.map(|(sac, _)| sac),
            iq: metrics.map(|(_, iq)| iq),
            ..Report::default()
        }])
    }

    fn counts(&self, _: usize) -> StepCounts {
        self.world.counts()
    }

    fn policy(&self, _: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_ {
        let policy = self.learner.policy();
        move |observation| policy.act(observation, None)
    }

    fn networks(&self) -> Vec<Networks> {
        vec![Networks { actor: self.learner.actor(), reading: Reading::Squashed, discriminator: None }]
    }

    fn record(&self) -> Vec<impl Serialize + '_> {
        vec![IqLearnRecord {
            learner: self.learner.record(),
            world: self.world.checkpoint(),
            replay: &self.replay,
            actions: self.actions.clone(),
            rows: self.rows.clone(),
            progress: self.progress,
        }]
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        let record = one(records)?;
        self.learner.restore(record.learner)?;
        self.world.restore(&record.world)?;
        self.replay = record.replay;
        self.actions = record.actions;
        self.rows = record.rows;
        self.progress = record.progress;
        Ok(())
    }
}

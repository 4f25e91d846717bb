//! Behavioural cloning: the expert's actions regressed on its observations, with no environment but for evaluation.
//!
//! ```text
//! π ← random policy
//! repeat, epoch by epoch over shuffled pairs of D_E
//!     one step of π down  mean (a - a_E)²,  a ~ π(s_E)
//! ```
//!
//! The policy is the actor of the learner that `learner` names. `env_steps` bounds gradient steps here: cloning takes no
//! environment steps, and its progress is told in gradient steps.

use super::demonstrated::Demonstrated;
use super::{Method, Networks, Reading, Report};
use crate::config::{RateSchedule, RunConfig};
use crate::envs::StepCounts;
use crate::error::Result;
use crate::learners::block;
use crate::learners::cloning::{ActorShape, Cloning, CloningMetrics, CloningRecord};
use crate::nn::Train;
use crate::reward::discriminator::Pairs;
use crate::run::parallel;
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};

/// Gradient steps per [`Method::advance`], at most.
const PIECE: u64 = 100;

/// Cloning of stacked seeds.
pub struct Bc<B: Train> {
    config: RunConfig,
    pairs: Pairs,
    observations: usize,
    learner: Cloning<B>,
    epochs: Vec<Epoch>,
    grad_steps: u64,
    device: B::Device,
}

/// One seed's way through the pairs, each once per epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Epoch {
    shuffles: Stream,
    order: Vec<u32>,
    next: usize,
}

/// Everything of one seed's [`Bc`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct BcRecord {
    learner: CloningRecord,
    epoch: Epoch,
    grad_steps: u64,
}

impl<B: Train> Bc<B> {
    /// Fresh policies of `seeds`, to be cloned from the demonstrations.
    pub fn new(config: &RunConfig, expert: Demonstrated, seeds: &[u64], device: &B::Device) -> Self {
        let streams: Vec<Streams> = seeds.iter().copied().map(Streams::new).collect();
        let (observations, actions) = expert.widths;
        let (hidden, optimizer) = config
            .td3_bc()
            .map_or((config.sac.actor_widths(), config.sac.optimizer), |td3_bc| (&td3_bc.hidden[..], td3_bc.optimizer));
        let shape = ActorShape { hidden, gaussian: config.td3_bc().is_none(), optimizer };
        let epoch = |streams: &Streams| Epoch { shuffles: streams.stream("bc/rows"), order: Vec::new(), next: 0 };
        Self {
            learner: Cloning::new(&shape, observations, actions, &streams, device),
            epochs: streams.iter().map(epoch).collect(),
            grad_steps: 0,
            observations,
            pairs: expert.pairs,
            device: device.clone(),
            config: config.clone(),
        }
    }

    fn clone_a_batch(&mut self, measure: bool) -> Option<Vec<CloningMetrics>> {
        let (rate, count) = (self.learning_rate(), self.config.rhythm().batch_size);
        let (pairs, width) = (&self.pairs, self.observations);
        let drawn = parallel::each(&mut self.epochs, |_, epoch| {
            let rows = epoch.take(count, pairs.len());
            let row = |index: &u32| pairs.values[*index as usize * pairs.width..][..pairs.width].split_at(width);
            let (observations, actions): (Vec<&[f32]>, Vec<&[f32]>) = rows.iter().map(row).unzip();
            (observations.concat(), actions.concat())
        });
        let (observations, actions): (Vec<_>, Vec<_>) = drawn.into_iter().unzip();
        let rows = observations[0].len() / width;
        let put = |values| block::send(values, rows, &self.device);
        self.learner.step(put(observations), put(actions), rate, measure)
    }

    fn learning_rate(&self) -> f64 {
        let rhythm = self.config.rhythm();
        let left = 1.0 - self.grad_steps as f64 / self.config.env_steps as f64;
        match rhythm.learning_rate_schedule {
            RateSchedule::Constant => rhythm.learning_rate,
            RateSchedule::Linear | RateSchedule::Sawtooth => rhythm.learning_rate * left,
        }
    }
}

impl Epoch {
    /// The next `count` of `pairs` rows, or what is left of them in this epoch.
    fn take(&mut self, count: usize, pairs: usize) -> &[u32] {
        if self.next >= self.order.len() {
            self.order = (0..pairs as u32).collect();
            for last in (1..pairs).rev() {
                self.order.swap(last, self.shuffles.index(last + 1));
            }
            self.next = 0;
        }
        let begin = self.next;
        self.next = (begin + count).min(pairs);
        &self.order[begin..self.next]
    }
}

impl<B: Train> Method for Bc<B> {
    type Record = BcRecord;

    fn advance(&mut self) -> Result<Vec<Report>> {
        let end = self.config.env_steps.min(self.grad_steps + PIECE);
        let mut measured = None;
        while self.grad_steps < end {
            measured = self.clone_a_batch(self.grad_steps + 1 == end);
            self.grad_steps += 1;
        }
        let report = |seed| Report {
            env_steps: self.grad_steps,
            grad_steps: self.grad_steps,
            cloning: measured.as_ref().map(|figures: &Vec<CloningMetrics>| figures[seed]),
            ..Report::default()
        };
        Ok((0..self.epochs.len()).map(report).collect())
    }

    fn counts(&self, _: usize) -> StepCounts {
        StepCounts::default()
    }

    fn spent(&self, _: usize) -> u64 {
        self.grad_steps
    }

    fn policy(&self, seed: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_ {
        let policy = &self.learner.policies()[seed];
        move |observation| policy.act(observation, None)
    }

    fn networks(&self) -> Vec<Networks> {
        let actors = self.learner.actors().into_iter();
        actors.map(|actor| Networks { actor, reading: Reading::Squashed, discriminator: None }).collect()
    }

    fn record(&self) -> Vec<impl Serialize + '_> {
        let record = |(learner, epoch): (CloningRecord, &Epoch)| BcRecord {
            learner,
            epoch: epoch.clone(),
            grad_steps: self.grad_steps,
        };
        self.learner.record().into_iter().zip(&self.epochs).map(record).collect()
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        self.grad_steps = super::off_policy::same_moment(records.iter().map(|record| record.grad_steps))?;
        let (learners, epochs) = records.into_iter().map(|record| (record.learner, record.epoch)).unzip();
        self.epochs = epochs;
        self.learner.restore(learners)
    }
}

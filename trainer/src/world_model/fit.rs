//! The world model: an ensemble with its normaliser and elites, and how it is fitted to data.
//!
//! ```text
//! normalise the inputs; shuffle, hold out a fifth; each member draws its own bootstrap of the rest
//! repeat (one call of `WorldModel::fit` each)
//!     an epoch: every member on its own rows, in a new order
//!     a member whose error on the held-out rows fell by 1 % keeps these parameters
//! until no member has improved for `patience` epochs
//! each member takes back its best parameters; the elites are the members with the least errors
//! ```

use super::dynamics::{Dynamics, Imagined};
use super::ensemble::{Chosen, Ensemble, EnsembleConfig};
use super::normalizer::{Bounds, Normalizer};
use super::sampling::{Split, shuffle};
use super::schedule::learning_rate;
use crate::config::WorldModelConfig;
use crate::error::{Error, Result};
use crate::nn::optimizer::{ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::replay::model_data::ModelData;
use crate::run::rng::{Stream, Streams};
use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Held-out rows that are predicted together.
const SCORED_TOGETHER: usize = 2048;

/// Dynamics learned by an ensemble: where an action leads, and where asked for what it earns.
pub struct WorldModel<B: Train> {
    config: WorldModelConfig,
    ensemble: Ensemble<B>,
    normalizer: Normalizer,
    bounds: Bounds,
    elites: Vec<usize>,
    /// The elites' networks, made when first needed after a fit.
    chosen: Option<Chosen<Inner<B>>>,
    batches: u64,
    fitting: Option<Fitting>,
    observation_width: usize,
    with_reward: bool,
    /// Data beyond whose range by this share a state counts as out of bounds.
    margin: f64,
    rows: Stream,
    noise: Stream,
    device: B::Device,
}

/// Everything of a [`WorldModel`], for a checkpoint, and for another run to begin with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorldModelRecord {
    ensemble: ParametersRecord,
    normalizer: Normalizer,
    bounds: Bounds,
    elites: Vec<usize>,
    batches: u64,
    fitting: Option<Fitting>,
    rows: Stream,
    noise: Stream,
}

impl WorldModelRecord {
    /// Whether the model has ever learned anything.
    pub fn is_fitted(&self) -> bool {
        self.fitting.as_ref().map_or(self.batches, |fitting| fitting.before.batches) > 0
    }
}

/// A fit that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fitting {
    held_out: Vec<u32>,
    /// Each member's bootstrap.
    rows: Vec<Vec<u32>>,
    /// From before the first epoch on.
    best: Option<Best>,
    epochs: u64,
    /// Epochs since a member last improved.
    stale: u64,
    /// What a fit that diverges is undone to.
    before: Box<WorldModelRecord>,
}

/// What a fit found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FitMetrics {
    /// Mean loss of the members over the last epoch.
    pub model_loss: f64,
    /// Mean squared error of the elites on the held-out rows, mean over them.
    pub model_error: f64,
    /// Epochs of the fit.
    pub model_epochs: u64,
    /// Gradient steps of all fits so far.
    pub model_steps: u64,
    /// The learning rate after it.
    pub model_rate: f64,
    /// Rows that it was fitted to, held-out ones included.
    pub model_rows: u64,
}

/// Best parameters so far, member by member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Best {
    errors: Vec<f64>,
    params: Vec<f32>,
}

impl<B: Train> WorldModel<B> {
    /// A fresh model for data as wide as `data`.
    pub fn new(config: &WorldModelConfig, data: &ModelData, margin: f64, streams: Streams, device: &B::Device) -> Self {
        let (inputs, outputs) = (data.input_width(), data.target_width());
        Self {
            ensemble: Ensemble::new(&EnsembleConfig::from(config), inputs, outputs, streams, device),
            normalizer: Normalizer::identity(inputs),
            bounds: Bounds::unbounded(data.observation_width()),
            elites: (0..config.elites).collect(),
            chosen: None,
            batches: 0,
            fitting: None,
            observation_width: data.observation_width(),
            with_reward: outputs > data.observation_width(),
            margin,
            rows: streams.stream("world_model/rows"),
            noise: streams.stream("world_model/noise"),
            device: device.clone(),
            config: config.clone(),
        }
    }

    /// Members that imagine, the best first.
    pub fn elites(&self) -> &[usize] {
        &self.elites
    }

    /// Where the data of the last fit lies, and a margin beyond.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Begins where another run's model ended: its parameters and its normaliser, which is never fitted again, since what the
    /// networks know is in its units. Where that run was in the middle of a fit, what it had before it. The optimiser's settings
    /// are this run's own.
    pub fn begin_with(&mut self, other: WorldModelRecord) -> Result<()> {
        let other = match other.fitting {
            Some(fitting) => *fitting.before,
            None => other,
        };
        if other.normalizer.width() != self.normalizer.width() {
            return Err(Error::data("the world model that this run was to begin with is of another robot")
                .expected(format!("{} numbers of observation and action", self.normalizer.width()))
                .found(other.normalizer.width()));
        }
        let (rows, noise) = (self.rows.clone(), self.noise.clone());
        let other = WorldModelRecord { rows, noise, batches: 0, ..other };
        self.restore(other)
    }

    /// One epoch of a fit of every member to `data`, which stays the same until the fit is over: then, and only then, there are
    /// metrics. Between epochs the fit is part of [`WorldModel::record`], since it can take many minutes.
    ///
    /// Errors: where a loss is no number any more; then the model is what it was before the fit. Data without rows.
    pub fn fit(&mut self, data: &ModelData) -> Result<Option<FitMetrics>> {
        let mut fitting = match self.fitting.take() {
            Some(fitting) => fitting,
            None => self.begin(data)?,
        };
        let found = self.go_on(data, &mut fitting);
        match &found {
            Ok(None) => self.fitting = Some(fitting),
            Ok(Some(_)) => {}
            Err(_) => self.restore(*fitting.before)?,
        }
        found
    }

    fn begin(&mut self, data: &ModelData) -> Result<Fitting> {
        if data.is_empty() {
            return Err(Error::config("there is nothing to fit the world model to")
                .expected("a row of data or more")
                .found("none")
                .hint("raise world_model.data_share or sac.exploration_steps"));
        }
        let before = Box::new(self.record());
        self.chosen = None;
        if self.config.from.is_none() {
            self.normalizer = Normalizer::fit(data.inputs(), data.input_width());
        }
        let width = self.observation_width;
        self.bounds = Bounds::of(data.inputs(), data.input_width(), data.targets(), width, self.margin);
        let split = Split::new(data.origins(), self.config.held_out, &mut self.rows);
        let rows = split.bootstrap(self.ensemble.members(), &mut self.rows);
        Ok(Fitting { held_out: split.held_out, rows, best: None, epochs: 0, stale: 0, before })
    }

    fn go_on(&mut self, data: &ModelData, fitting: &mut Fitting) -> Result<Option<FitMetrics>> {
        let (inputs, targets) = self.send(data);
        let mut best = match fitting.best.take() {
            Some(best) => best,
            None => Best { errors: self.errors(&inputs, &targets, &fitting.held_out)?, params: self.ensemble.params() },
        };
        fitting.rows.iter_mut().for_each(|rows| shuffle(rows, &mut self.rows));
        let loss = self.epoch(&inputs, &targets, &fitting.rows)?;
        let errors = self.errors(&inputs, &targets, &fitting.held_out)?;
        fitting.epochs += 1;
        fitting.stale = if self.keep_improved(&mut best, &errors) { 0 } else { fitting.stale + 1 };
        if fitting.stale < self.config.patience && self.config.max_epochs.is_none_or(|most| fitting.epochs < most) {
            fitting.best = Some(best);
            return Ok(None);
        }
        self.ensemble.replace(best.params);
        self.elites = least(&best.errors, self.config.elites);
        let of_elites: f64 = self.elites.iter().map(|member| best.errors[*member]).sum();
        Ok(Some(FitMetrics {
            model_loss: loss,
            model_error: of_elites / self.elites.len() as f64,
            model_epochs: fitting.epochs,
            model_steps: self.batches,
            model_rate: learning_rate(&self.config, self.batches),
            model_rows: data.len() as u64,
        }))
    }

    /// All rows on the device, inputs normalised: `[rows, width]` each.
    fn send(&self, data: &ModelData) -> (Tensor<Inner<B>, 2>, Tensor<Inner<B>, 2>) {
        let mut inputs = Vec::with_capacity(data.inputs().len());
        for row in data.inputs().chunks_exact(data.input_width()) {
            self.normalizer.apply(row.iter(), &mut inputs);
        }
        let put = |values: Vec<f32>, width: usize| {
            Tensor::from_data(TensorData::new(values, [data.len(), width]), &self.device)
        };
        (put(inputs, data.input_width()), put(data.targets().to_vec(), data.target_width()))
    }

    /// Every member over its own `rows` once; returns the mean loss.
    fn epoch(&mut self, inputs: &Tensor<Inner<B>, 2>, targets: &Tensor<Inner<B>, 2>, rows: &[Vec<u32>]) -> Result<f64> {
        let (members, size) = (rows.len(), self.config.batch_size);
        let (mut total, mut batches) = (None, 0);
        for start in (0..rows[0].len()).step_by(size) {
            let end = (start + size).min(rows[0].len());
            let picked = self.indices(rows.iter().flat_map(|rows| &rows[start..end]));
            let take = |from: &Tensor<Inner<B>, 2>| {
                let width = from.dims()[1];
                from.clone().select(0, picked.clone()).reshape([members, end - start, width])
            };
            let rate = learning_rate(&self.config, self.batches);
            let losses = self.ensemble.step(take(inputs), take(targets), rate);
            self.batches += 1;
            batches += 1;
            total = Some(total.map_or(losses.clone(), |total: Tensor<Inner<B>, 1>| total + losses));
        }
        let sums = total.map_or_else(Vec::new, values);
        let loss = sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() / f64::from(batches) / members as f64;
        finite(loss, "loss").map(|()| loss)
    }

    /// Each member's mean squared error on the rows `held_out`.
    fn errors(
        &self,
        inputs: &Tensor<Inner<B>, 2>,
        targets: &Tensor<Inner<B>, 2>,
        held_out: &[u32],
    ) -> Result<Vec<f64>> {
        let (members, mut sums) = (self.ensemble.members(), None);
        for rows in held_out.chunks(SCORED_TOGETHER) {
            let picked = self.indices(rows.iter());
            let take = |from: &Tensor<Inner<B>, 2>| from.clone().select(0, picked.clone()).unsqueeze_dim::<3>(0);
            let (means, _) = self.ensemble.predict(take(inputs));
            let errors = means - take(targets);
            let squares = (errors.clone() * errors).reshape([members as i32, -1]).sum_dim(1).reshape([members]);
            sums = Some(sums.map_or(squares.clone(), |sums: Tensor<Inner<B>, 1>| sums + squares));
        }
        let count = (held_out.len() * targets.dims()[1]) as f64;
        let errors: Vec<f64> =
            sums.map_or_else(Vec::new, values).into_iter().map(|sum| f64::from(sum) / count).collect();
        errors.iter().try_for_each(|error| finite(*error, "error on held-out rows"))?;
        Ok(errors)
    }

    fn indices<'a>(&self, rows: impl Iterator<Item = &'a u32>) -> Tensor<Inner<B>, 1, Int> {
        let rows: Vec<i64> = rows.map(|row| i64::from(*row)).collect();
        let count = rows.len();
        Tensor::from_data(TensorData::new(rows, [count]), &self.device)
    }

    /// Notes the parameters of every member whose error improved; returns whether any did.
    fn keep_improved(&self, best: &mut Best, errors: &[f64]) -> bool {
        let improved = |member: &usize| {
            let (was, is) = (best.errors[*member], errors[*member]);
            was - is > self.config.improvement * was
        };
        let improved: Vec<usize> = (0..errors.len()).filter(improved).collect();
        if improved.is_empty() {
            return false;
        }
        let params = self.ensemble.params();
        for member in improved {
            best.errors[member] = errors[member];
            for part in self.ensemble.parts(member) {
                best.params[part.clone()].copy_from_slice(&params[part]);
            }
        }
        true
    }

    fn chosen(&mut self) -> &Chosen<Inner<B>> {
        self.chosen.get_or_insert_with(|| self.ensemble.chosen(&self.elites))
    }

    /// Normalised inputs of rows in the order of `rows`, on the device: `[groups, rows / groups, width]`.
    fn inputs(&self, observations: &[f32], actions: &[f32], rows: &[usize], groups: usize) -> Tensor<Inner<B>, 3> {
        let (width, observation) = (self.normalizer.width(), self.observation_width);
        let action = width - observation;
        let mut inputs = Vec::with_capacity(rows.len() * width);
        for row in rows {
            let parts = observations[row * observation..][..observation].iter();
            self.normalizer.apply(parts.chain(&actions[row * action..][..action]), &mut inputs);
        }
        Tensor::from_data(TensorData::new(inputs, [groups, rows.len() / groups, width]), &self.device)
    }

    /// How much the elites disagree about where each row leads: the deviation of their means between elites, each channel in
    /// units of its deviation in the data, root of the mean square over channels.
    pub fn disagreement(&mut self, observations: &[f32], actions: &[f32]) -> Vec<f32> {
        let width = self.observation_width;
        let rows: Vec<usize> = (0..observations.len() / width).collect();
        let inputs = self.inputs(observations, actions, &rows, 1);
        let stds: Vec<f32> = self.normalizer.std()[..width].iter().map(|std| *std as f32).collect();
        let stds = Tensor::from_data(TensorData::new(stds, [1, 1, width]), &self.device);
        let (means, _) = self.chosen().predict(inputs);
        let means = means.narrow(2, 0, width) / stds;
        let apart = means.clone() - means.mean_dim(0);
        let variance = (apart.clone() * apart).mean_dim(0);
        values(variance.mean_dim(2).sqrt())
    }

    /// What `world_model.mean_noise` adds to the states of `count` rows.
    fn mean_noise(&mut self, count: usize) -> Option<Vec<f32>> {
        if self.config.mean_noise == 0.0 {
            return None;
        }
        let mut noise = vec![0.0; count * self.observation_width];
        self.noise.fill_normal(&mut noise);
        let stds = self.normalizer.std()[..self.observation_width].iter().cycle();
        noise.iter_mut().zip(stds).for_each(|(noise, std)| *noise *= (self.config.mean_noise * std) as f32);
        Some(noise)
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> WorldModelRecord {
        WorldModelRecord {
            ensemble: self.ensemble.record(),
            normalizer: self.normalizer.clone(),
            bounds: self.bounds.clone(),
            elites: self.elites.clone(),
            batches: self.batches,
            fitting: self.fitting.clone(),
            rows: self.rows.clone(),
            noise: self.noise.clone(),
        }
    }

    /// All epochs of a fit.
    #[cfg(test)]
    pub(super) fn whole_fit(&mut self, data: &ModelData) -> Result<FitMetrics> {
        loop {
            if let Some(metrics) = self.fit(data)? {
                return Ok(metrics);
            }
        }
    }

    /// All parameters of the ensemble.
    #[cfg(test)]
    pub(super) fn params(&self) -> Vec<f32> {
        self.ensemble.params()
    }

    /// Moves every parameter of `member` by `change`.
    #[cfg(test)]
    pub(super) fn spoil(&mut self, member: usize, change: f32) {
        let mut params = self.ensemble.params();
        for part in self.ensemble.parts(member) {
            params[part].iter_mut().for_each(|value| *value += change);
        }
        self.ensemble.replace(params);
    }

    /// Takes over a checkpoint.
    pub fn restore(&mut self, record: WorldModelRecord) -> Result<()> {
        self.ensemble.restore(record.ensemble)?;
        self.chosen = None;
        self.normalizer = record.normalizer;
        self.bounds = record.bounds;
        self.elites = record.elites;
        self.batches = record.batches;
        self.fitting = record.fitting;
        self.rows = record.rows;
        self.noise = record.noise;
        Ok(())
    }
}

impl<B: Train> Dynamics for WorldModel<B> {
    /// TS1 (Chua et al. 2018): the rows are dealt at random to the elites, equally many to each (to within one), anew in every
    /// step; each elite draws from its Gaussian.
    fn step(&mut self, observations: &[f32], actions: &[f32]) -> Result<Imagined> {
        let (width, elites) = (self.observation_width, self.elites.len());
        let count = observations.len() / width;
        let dealt = deal(count, elites, &mut self.noise);
        let rows: Vec<usize> = dealt.iter().map(|row| row.unwrap_or(0)).collect();
        let inputs = self.inputs(observations, actions, &rows, elites);
        let outputs = width + usize::from(self.with_reward);
        let mut noise = vec![0.0; dealt.len() * outputs];
        self.noise.fill_normal(&mut noise);
        let noise = Tensor::from_data(TensorData::new(noise, [elites, dealt.len() / elites, outputs]), &self.device);
        let (means, log_variances) = self.chosen().predict(inputs);
        let drawn = values(means + (log_variances * 0.5).exp() * noise);
        let mut imagined = Imagined {
            next_observations: vec![0.0; observations.len()],
            task_rewards: if self.with_reward { vec![0.0; count] } else { Vec::new() },
        };
        let spoiled = self.mean_noise(count);
        let drawn = dealt.iter().zip(drawn.chunks_exact(outputs));
        for (row, drawn) in drawn.filter_map(|(row, drawn)| Some((row.as_ref()?, drawn))) {
            let next = &mut imagined.next_observations[row * width..][..width];
            for ((next, now), change) in next.iter_mut().zip(&observations[row * width..]).zip(drawn) {
                *next = now + change;
            }
            if let Some(spoiled) = &spoiled {
                next.iter_mut().zip(&spoiled[row * width..]).for_each(|(next, noise)| *next += noise);
            }
            if let Some(reward) = imagined.task_rewards.get_mut(*row) {
                *reward = drawn[width];
            }
        }
        Ok(imagined)
    }
}

fn finite(value: f64, what: &str) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::diverged(format!("the world model diverged: its {what} is {value}"))
        .expected("a finite number")
        .hint("lower world_model.learning_rate, or set world_model.mean_clip=40"))
}

/// The numbers below `count` in random order, dealt to `hands` that are equally long: the last ones hold a blank where that does
/// not come out even.
fn deal(count: usize, hands: usize, rng: &mut Stream) -> Vec<Option<usize>> {
    let mut shuffled: Vec<usize> = (0..count).collect();
    shuffle(&mut shuffled, rng);
    let (length, blanks) = (count.div_ceil(hands), count.next_multiple_of(hands) - count);
    let mut left = shuffled.into_iter();
    let mut dealt = Vec::with_capacity(length * hands);
    for hand in 0..hands {
        let blank = hand >= hands - blanks;
        dealt.extend(left.by_ref().take(length - usize::from(blank)).map(Some));
        dealt.extend(blank.then_some(None));
    }
    dealt
}

/// Places of the `count` least of `errors`, the least first.
fn least(errors: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..errors.len()).collect();
    order.sort_by(|a, b| errors[*a].total_cmp(&errors[*b]));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_keeps_the_parameters_of_its_own_best_epoch() {
        let rows = crate::replay::ReplayBuffer::new(1, 2, 1);
        let room = crate::replay::model_data::Room { capacity: 1, pinned: true, share: 1.0 };
        let data = ModelData::new(&rows, (2, 1), room, false);
        let config = WorldModelConfig { members: 3, elites: 2, improvement: 0.1, ..WorldModelConfig::example() };
        let mut model = WorldModel::<crate::nn::Cpu>::new(&config, &data, 0.0, Streams::new(1), &Default::default());
        let first = model.params();
        let mut best = Best { errors: vec![1.0; 3], params: first.clone() };
        (0..3).for_each(|member| model.spoil(member, 1.0));
        let second = model.params();
        assert!(model.keep_improved(&mut best, &[0.5, 0.95, 2.0]), "the first improved, the second by too little");
        (0..3).for_each(|member| model.spoil(member, 1.0));
        assert!(model.keep_improved(&mut best, &[0.6, 0.5, 0.95]), "the first was better before");
        assert!(!model.keep_improved(&mut best, &[0.5, 0.5, 1.0]));
        assert_eq!(best.errors, [0.5, 0.5, 1.0]);
        for (member, expected) in [(0, &second), (1, &model.params()), (2, &first)] {
            for part in model.ensemble.parts(member) {
                assert_eq!(best.params[part.clone()], expected[part], "member {member}");
            }
        }
    }

    #[test]
    fn every_elite_gets_as_many_rows_to_within_one() {
        let mut rng = Streams::new(1).stream("test");
        for (count, expected) in [(10, [2; 5]), (6, [2, 1, 1, 1, 1]), (8, [2, 2, 2, 1, 1]), (2, [1, 1, 0, 0, 0])] {
            let dealt = deal(count, 5, &mut rng);
            let hands: Vec<usize> = dealt.chunks(dealt.len() / 5).map(|hand| hand.iter().flatten().count()).collect();
            assert_eq!(hands, expected, "{count} rows");
            let mut rows: Vec<usize> = dealt.into_iter().flatten().collect();
            rows.sort_unstable();
            assert_eq!(rows, (0..count).collect::<Vec<_>>());
        }
        let first: Vec<Option<usize>> = (0..40).map(|_| deal(100, 5, &mut rng)[0]).collect();
        assert!(first.iter().collect::<std::collections::HashSet<_>>().len() > 20, "dealt anew each time");
    }
}

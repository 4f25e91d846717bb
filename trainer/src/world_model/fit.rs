//! The world model: an ensemble with its normaliser and elites, and how it is fitted to data.
//!
//! ```text
//! normalise the inputs; shuffle, hold out a fifth; each member draws its own bootstrap of the rest
//! repeat
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
    rows: Stream,
    noise: Stream,
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
    /// networks know is in its units.
    pub fn begin_with(&mut self, other: WorldModelRecord) -> Result<()> {
        if other.normalizer.width() != self.normalizer.width() {
            return Err(Error::data("the world model that this run was to begin with is of another robot")
                .expected(format!("{} numbers of observation and action", self.normalizer.width()))
                .found(other.normalizer.width()));
        }
        let (rows, noise) = (self.rows.clone(), self.noise.clone());
        self.restore(WorldModelRecord { rows, noise, batches: 0, ..other })
    }

    /// Fits every member to `data`. A fit can take many minutes: between epochs it asks `stop`. Where that says so (`None`), and
    /// where a loss is no number any more (an error), the model is what it was before.
    pub fn fit(&mut self, data: &ModelData, stop: impl Fn() -> bool) -> Result<Option<FitMetrics>> {
        let before = self.record();
        let found = self.descend(data, stop);
        if !matches!(found, Ok(Some(_))) {
            self.restore(before)?;
        }
        found
    }

    fn descend(&mut self, data: &ModelData, stop: impl Fn() -> bool) -> Result<Option<FitMetrics>> {
        self.chosen = None;
        if self.config.from.is_none() {
            self.normalizer = Normalizer::fit(data.inputs(), data.input_width());
        }
        self.bounds = Bounds::of(data.inputs(), data.input_width(), self.observation_width, self.margin);
        let (inputs, targets) = self.send(data);
        let split = Split::new(data.len(), self.config.held_out, &mut self.rows);
        let mut rows = split.bootstrap(self.ensemble.members(), &mut self.rows);
        let mut best =
            Best { errors: self.errors(&inputs, &targets, &split.held_out)?, params: self.ensemble.params() };
        let (mut epochs, mut stale, mut loss) = (0, 0, 0.0);
        while stale < self.config.patience && self.config.max_epochs.is_none_or(|most| epochs < most) {
            if stop() {
                return Ok(None);
            }
            rows.iter_mut().for_each(|rows| shuffle(rows, &mut self.rows));
            loss = self.epoch(&inputs, &targets, &rows)?;
            let errors = self.errors(&inputs, &targets, &split.held_out)?;
            epochs += 1;
            stale = if self.keep_improved(&mut best, &errors) { 0 } else { stale + 1 };
        }
        self.ensemble.replace(best.params);
        self.elites = least(&best.errors, self.config.elites);
        let of_elites: f64 = self.elites.iter().map(|member| best.errors[*member]).sum();
        Ok(Some(FitMetrics {
            model_loss: loss,
            model_error: of_elites / self.elites.len() as f64,
            model_epochs: epochs,
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
            rows: self.rows.clone(),
            noise: self.noise.clone(),
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
        self.rows = record.rows;
        self.noise = record.noise;
        Ok(())
    }
}

impl<B: Train> Dynamics for WorldModel<B> {
    /// TS1 (Chua et al. 2018): the rows are dealt at random to the elites, equally many to each, anew in every step; each elite
    /// draws from its Gaussian.
    fn step(&mut self, observations: &[f32], actions: &[f32]) -> Result<Imagined> {
        let (width, elites) = (self.observation_width, self.elites.len());
        let count = observations.len() / width;
        let mut dealt: Vec<usize> = (0..count).collect();
        shuffle(&mut dealt, &mut self.noise);
        let rest = (elites - count % elites) % elites;
        dealt.extend(std::iter::repeat_n(0, rest));
        let inputs = self.inputs(observations, actions, &dealt, elites);
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
        for (row, drawn) in dealt[..count].iter().zip(drawn.chunks_exact(outputs)) {
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

/// Places of the `count` least of `errors`, the least first.
fn least(errors: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..errors.len()).collect();
    order.sort_by(|a, b| errors[*a].total_cmp(&errors[*b]));
    order.truncate(count);
    order
}

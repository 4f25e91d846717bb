//! The world model: an ensemble with its normaliser and elites, and what it predicts. How it is fitted to data: [`fit`].

mod fit;

pub use fit::{FitMetrics, FitProgress};

use super::dynamics::{Dynamics, Imagined};
use super::ensemble::{Chosen, Ensemble, EnsembleConfig};
use super::normalizer::{Bounds, Normalizer};
use super::sampling::shuffle;
use crate::config::WorldModelConfig;
use crate::error::{Error, Result};
use crate::nn::optimizer::{ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::replay::model_data::ModelData;
use crate::run::rng::{Stream, Streams};
use burn::tensor::{Tensor, TensorData};
use fit::Fitting;
use serde::{Deserialize, Serialize};

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
    /// Whether the model has ever learned anything, here or in the run that it was taken over from: a first fit brings the units.
    pub fn is_fitted(&self) -> bool {
        let held = self.fitting.as_ref().map_or(self, |fitting| &fitting.before);
        held.normalizer != Normalizer::identity(held.normalizer.width())
    }
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
    /// are this run's own, and so is what says the reward, unless that run's is of the `same_task`.
    pub fn begin_with(&mut self, other: WorldModelRecord, same_task: bool) -> Result<()> {
        let other = match other.fitting {
            Some(fitting) => *fitting.before,
            None => other,
        };
        if other.normalizer.width() != self.normalizer.width() {
            return Err(Error::data("the world model that this run was to begin with is of another robot")
                .expected(format!("{} numbers of observation and action", self.normalizer.width()))
                .found(other.normalizer.width()));
        }
        let fresh = (self.with_reward && !same_task).then(|| self.ensemble.record());
        let (rows, noise) = (self.rows.clone(), self.noise.clone());
        self.restore(WorldModelRecord { rows, noise, batches: 0, ..other })?;
        if let Some(fresh) = fresh {
            let mut ensemble = self.ensemble.record();
            ensemble.renew(&self.ensemble.parts_of_output(self.observation_width), &fresh);
            self.ensemble.restore(ensemble)?;
        }
        Ok(())
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

    /// The stream that imagined steps are drawn from: all of the model that [`Dynamics::step`] changes.
    pub fn noise(&self) -> &Stream {
        &self.noise
    }

    /// Puts back what [`WorldModel::noise`] gave: the same steps are imagined again.
    pub fn set_noise(&mut self, noise: Stream) {
        self.noise = noise;
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

    /// The units that inputs are in.
    #[cfg(test)]
    pub(super) fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    /// All parameters of the ensemble.
    #[cfg(test)]
    pub(crate) fn params(&self) -> Vec<f32> {
        self.ensemble.params()
    }

    /// What the members say, elites or not, of inputs in the model's units.
    #[cfg(test)]
    pub(super) fn predict(&self, inputs: Tensor<Inner<B>, 3>) -> (Tensor<Inner<B>, 3>, Tensor<Inner<B>, 3>) {
        self.ensemble.predict(inputs)
    }

    /// Places of the parameters that only the reward depends on.
    #[cfg(test)]
    pub(crate) fn parts_of_reward(&self) -> Vec<usize> {
        self.ensemble.parts_of_output(self.observation_width)
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
    /// The elites' [disagreement](WorldModel::disagreement).
    fn doubt(&mut self, observations: &[f32], actions: &[f32]) -> Option<Vec<f32>> {
        Some(self.disagreement(observations, actions))
    }

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

#[cfg(test)]
mod tests {
    use super::*;

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

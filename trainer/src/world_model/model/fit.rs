//! How a world model is fitted to data.
//!
//! ```text
//! normalise the inputs; shuffle, hold out a fifth; each member draws its own bootstrap of the rest
//! repeat (one call of `WorldModel::fit` each)
//!     an epoch: every member on its own rows, in a new order
//!     a member whose error on the held-out rows fell by 1 % keeps these parameters
//! until no member has improved for `patience` epochs and `patience_batches` batches, or `max_batches` are through
//! each member takes back its best parameters; the elites are the members with the least errors
//! ```

use super::{WorldModel, WorldModelRecord};
use crate::error::{Error, Result};
use crate::nn::optimizer::values;
use crate::nn::{Inner, Train};
use crate::replay::model_data::ModelData;
use crate::world_model::normalizer::{Bounds, Normalizer};
use crate::world_model::sampling::{Split, Weights, shuffle};
use crate::world_model::schedule::learning_rate;
use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Held-out rows that are predicted together.
const SCORED_TOGETHER: usize = 2048;

/// A fit that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Fitting {
    held_out: Vec<u32>,
    /// Each member's bootstrap.
    rows: Vec<Vec<u32>>,
    /// From before the first epoch on.
    best: Option<Best>,
    epochs: u64,
    /// Epochs since a member last improved.
    stale: u64,
    /// What a fit that diverges is undone to.
    pub(super) before: Box<WorldModelRecord>,
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

/// How far a fit has come that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FitProgress {
    /// Epochs so far.
    pub epochs: u64,
    /// Mean squared error of those that would be the elites now, on the held-out rows, mean over them.
    pub error: f64,
}

/// Best parameters so far, member by member. Errors begin at those from before the fit, which no parameters belong to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Best {
    errors: Vec<f64>,
    params: Vec<f32>,
    /// Whether `params` has any of the member's.
    noted: Vec<bool>,
}

impl Best {
    fn before(errors: Vec<f64>, params: Vec<f32>) -> Self {
        Self { noted: vec![false; errors.len()], errors, params }
    }

    /// The `count` best members, and their mean error.
    fn elites(&self, count: usize) -> (Vec<usize>, f64) {
        let elites = least(&self.errors, count);
        let error = elites.iter().map(|member| self.errors[*member]).sum::<f64>() / elites.len() as f64;
        (elites, error)
    }
}

impl<B: Train> WorldModel<B> {
    /// Where the fit stands that [`WorldModel::fit`] has begun and not ended.
    pub fn under_way(&self) -> Option<FitProgress> {
        let fitting = self.fitting.as_ref()?;
        let (_, error) = fitting.best.as_ref()?.elites(self.config.elites);
        Some(FitProgress { epochs: fitting.epochs, error })
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
        let is_learners = |row: u32| data.is_learners(data.origins()[row as usize]);
        let weights = Weights { is_learners: &is_learners, learner_share: self.config.learner_share };
        let rows = split.bootstrap(self.ensemble.members(), &weights, &mut self.rows);
        let held_out = split.judges(&weights, &mut self.rows);
        Ok(Fitting { held_out, rows, best: None, epochs: 0, stale: 0, before })
    }

    fn go_on(&mut self, data: &ModelData, fitting: &mut Fitting) -> Result<Option<FitMetrics>> {
        let (inputs, targets) = self.send(data);
        let mut best = match fitting.best.take() {
            Some(best) => best,
            None => Best::before(self.errors(&inputs, &targets, &fitting.held_out)?, self.ensemble.params()),
        };
        fitting.rows.iter_mut().for_each(|rows| shuffle(rows, &mut self.rows));
        let loss = self.epoch(&inputs, &targets, &fitting.rows)?;
        let errors = self.errors(&inputs, &targets, &fitting.held_out)?;
        fitting.epochs += 1;
        fitting.stale = if self.keep_improved(&mut best, &errors) { 0 } else { fitting.stale + 1 };
        if self.is_worthwhile(fitting) {
            fitting.best = Some(best);
            return Ok(None);
        }
        self.keep_the_others(&mut best, &errors);
        let (elites, model_error) = best.elites(self.config.elites);
        self.elites = elites;
        self.ensemble.replace(best.params);
        Ok(Some(FitMetrics {
            model_loss: loss,
            model_error,
            model_epochs: fitting.epochs,
            model_steps: self.batches,
            model_rate: learning_rate(&self.config, self.batches),
            model_rows: data.len() as u64,
        }))
    }

    /// Whether a fit has neither lost patience nor used up its batches.
    fn is_worthwhile(&self, fitting: &Fitting) -> bool {
        let epoch = fitting.rows[0].len().div_ceil(self.config.batch_size) as u64;
        let patient = fitting.stale < self.config.patience || fitting.stale * epoch < self.config.patience_batches;
        patient && self.config.max_batches.is_none_or(|most| fitting.epochs * epoch < most)
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

    /// Notes every member whose error improved; returns whether any did.
    fn keep_improved(&self, best: &mut Best, errors: &[f64]) -> bool {
        let improved = |member: &usize| {
            let (was, is) = (best.errors[*member], errors[*member]);
            was - is > self.config.improvement * was
        };
        let improved: Vec<usize> = (0..errors.len()).filter(improved).collect();
        self.note(best, &improved, errors);
        !improved.is_empty()
    }

    /// Notes the members that never improved as the last epoch left them: taken back instead, a fit to little that is new would be
    /// undone, and the model stand still.
    fn keep_the_others(&self, best: &mut Best, errors: &[f64]) {
        let others: Vec<usize> = (0..errors.len()).filter(|member| !best.noted[*member]).collect();
        self.note(best, &others, errors);
    }

    /// Errors and parameters of `members` as they are.
    fn note(&self, best: &mut Best, members: &[usize], errors: &[f64]) {
        if members.is_empty() {
            return;
        }
        let params = self.ensemble.params();
        for member in members.iter().copied() {
            best.errors[member] = errors[member];
            best.noted[member] = true;
            for part in self.ensemble.parts(member) {
                best.params[part.clone()].copy_from_slice(&params[part]);
            }
        }
    }

    /// All epochs of a fit; [`WorldModel::fit`] has its errors.
    pub fn whole_fit(&mut self, data: &ModelData) -> Result<FitMetrics> {
        loop {
            if let Some(metrics) = self.fit(data)? {
                return Ok(metrics);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WorldModelConfig;
    use crate::run::rng::Streams;

    #[test]
    fn each_member_keeps_the_parameters_of_its_own_best_epoch() {
        let rows = crate::replay::ReplayBuffer::new(1, 2, 1);
        let room = crate::replay::model_data::Room { capacity: 1, pinned: true, share: 1.0 };
        let data = ModelData::new(&rows, (2, 1), room, false);
        let config = WorldModelConfig { members: 3, elites: 2, improvement: 0.1, ..WorldModelConfig::example() };
        let mut model = WorldModel::<crate::nn::Cpu>::new(&config, &data, 0.0, Streams::new(1), &Default::default());
        let first = model.params();
        let mut best = Best::before(vec![1.0; 3], first);
        (0..3).for_each(|member| model.spoil(member, 1.0));
        let second = model.params();
        assert!(model.keep_improved(&mut best, &[0.5, 0.95, 2.0]), "the first improved, the second by too little");
        (0..3).for_each(|member| model.spoil(member, 1.0));
        assert!(model.keep_improved(&mut best, &[0.6, 0.5, 0.95]), "the first was better before");
        let third = model.params();
        (0..3).for_each(|member| model.spoil(member, 1.0));
        assert!(!model.keep_improved(&mut best, &[0.5, 0.5, 2.0]));
        assert_eq!(best.errors, [0.5, 0.5, 1.0]);
        model.keep_the_others(&mut best, &[0.7, 0.7, 2.0]);
        assert_eq!(best.errors, [0.5, 0.5, 2.0]);
        // The third never improved: it keeps its last.
        for (member, expected) in [(0, &second), (1, &third), (2, &model.params())] {
            for part in model.ensemble.parts(member) {
                assert_eq!(best.params[part.clone()], expected[part], "member {member}");
            }
        }
    }
}

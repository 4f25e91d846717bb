//! GAIL's discriminator (Ho & Ermon 2016; ikostrikov/pytorch-a2c-ppo-acktr-gail `algo/gail.py`): a classifier of pairs, the
//! expert's against the learner's, with a gradient penalty.
//!
//! Like every discriminator here its network gives a cost `f`, low where the expert goes; the classifier's logit is `-f`.
//! The reward is the logit `log D - log(1 - D)` or one side of it, as [`GailReward`] says.

use super::discriminator::{DiscriminatorMetrics, Pairs};
use crate::config::{GailConfig, GailReward, Optimizer};
use crate::error::Result;
use crate::nn::init::{self, Init};
use crate::nn::mlp::{self, Activation, MlpSpec};
use crate::nn::ops::MlpBackend;
use crate::nn::optimizer::{OptimizerConfig, Parameters, ParametersRecord, values};
use crate::nn::{Inner, Train, tanh};
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Keeps the norm differentiable at zero.
const NORM_EPSILON: f64 = 1e-12;

/// `log(1 + eˣ)` without overflow.
fn softplus<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    (x.clone().abs().neg().exp() + 1.0).log() + x.clamp_min(0.0)
}

/// The terms of the loss.
#[derive(Debug)]
pub struct Loss<B: Backend> {
    /// What is minimised.
    pub total: Tensor<B, 1>,
    /// `-mean log D(x_E) - mean log (1 - D(x_L))`.
    pub classification: Tensor<B, 1>,
    /// `mean (‖∇f(x̂)‖ - target)²`.
    pub penalty: Tensor<B, 1>,
    /// `mean ‖∇f(x̂)‖`.
    pub grad_norm: Tensor<B, 1>,
    /// `mean f(x_E)`.
    pub expert_mean: Tensor<B, 1>,
    /// `mean f(x_L)`.
    pub learner_mean: Tensor<B, 1>,
}

/// Cross-entropy of the logits `-f` (expert 1, learner 0) and the gradient penalty at pairs in between.
///
/// # Shapes
/// - `expert`, `learner`: `[1, batch, width]`
/// - `mixture`: `[1, batch, 1]`, the share of the expert row in each mixed row
pub fn loss<B: MlpBackend>(
    config: &GailConfig,
    spec: &MlpSpec,
    expert: Tensor<B, 3>,
    learner: Tensor<B, 3>,
    mixture: Tensor<B, 3>,
    params: Tensor<B, 1>,
) -> Loss<B> {
    let batch = expert.dims()[1];
    let costs = mlp::forward(spec, Tensor::cat(vec![expert.clone(), learner.clone()], 1), params.clone());
    let (of_expert, of_learner) = (costs.clone().narrow(1, 0, batch), costs.narrow(1, batch, batch));
    let classification = softplus(of_expert.clone()).mean() + softplus(of_learner.clone().neg()).mean();
    let mixed = learner.clone() + (expert - learner) * mixture;
    let gradient = tanh::input_gradient(spec, mixed, params);
    let norms = (gradient.clone() * gradient).sum_dim(2).add_scalar(NORM_EPSILON).sqrt();
    let excess = norms.clone() - config.gradient_target;
    let penalty = (excess.clone() * excess).mean();
    Loss {
        total: classification.clone() + penalty.clone() * config.gradient_penalty,
        classification,
        penalty,
        grad_norm: norms.mean(),
        expert_mean: of_expert.mean(),
        learner_mean: of_learner.mean(),
    }
}

/// `count` different rows of `pairs` in random order, one after the other.
fn shuffled(pairs: &Pairs, count: usize, rng: &mut Stream) -> Vec<f32> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    for index in 0..count {
        order.swap(index, index + rng.index(pairs.len() - index));
    }
    order[..count].iter().flat_map(|row| pairs.row(*row)).copied().collect()
}

/// The classifier with its optimiser, whose moments stay.
#[derive(Debug)]
pub struct Classifier<B: Train> {
    config: GailConfig,
    spec: MlpSpec,
    parameters: Parameters<Inner<B>>,
    rows: Stream,
    device: B::Device,
}

/// Everything of [`Classifier`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassifierRecord {
    parameters: ParametersRecord,
    rows: Stream,
}

impl<B: Train> Classifier<B> {
    /// A fresh classifier over pairs of `width` = observation + action.
    pub fn new(config: &GailConfig, width: usize, streams: Streams, device: &B::Device) -> Self {
        let spec = MlpSpec::new(1, width, &config.hidden, 1).with_activation(Activation::Tanh);
        let params = init::parameters(&spec, Init::Uniform, &mut streams.stream("gail/init"));
        Self {
            parameters: Parameters::new(params, false, OptimizerConfig::new(Optimizer::Adam), device),
            rows: streams.stream("gail/rows"),
            device: device.clone(),
            config: config.clone(),
            spec,
        }
    }

    /// `epochs` passes over both sides' pairs in shuffled minibatches of one size, side by side: a pass ends where the first
    /// of them has no full minibatch left. Gives what the last step saw.
    pub fn train(&mut self, expert: &Pairs, learner: &Pairs, epochs: u64) -> DiscriminatorMetrics {
        let size = self.config.batch_size.min(learner.len()).min(expert.len());
        let mut metrics = DiscriminatorMetrics::default();
        for epoch in 1..=epochs {
            let batches = learner.len().min(expert.len()) / size;
            let [learner, expert] = [learner, expert].map(|side| shuffled(side, batches * size, &mut self.rows));
            let chunk = size * self.spec.inputs();
            for (index, (learner, expert)) in learner.chunks(chunk).zip(expert.chunks(chunk)).enumerate() {
                let [learner, expert] = [learner, expert].map(|side| self.put(side.to_vec(), size));
                let mixture = (0..size).map(|_| self.rows.unit() as f32).collect();
                let mixture = self.put(mixture, size);
                let measure = epoch == epochs && index + 1 == batches;
                metrics = self.step(expert, learner, mixture, measure).unwrap_or(metrics);
            }
        }
        metrics
    }

    fn step(
        &mut self,
        expert: Tensor<Inner<B>, 3>,
        learner: Tensor<Inner<B>, 3>,
        mixture: Tensor<Inner<B>, 3>,
        measure: bool,
    ) -> Option<DiscriminatorMetrics> {
        let params = Tensor::<B, 1>::from_inner(self.parameters.get()).require_grad();
        let [expert, learner, mixture] = [expert, learner, mixture].map(Tensor::<B, 3>::from_inner);
        let loss = loss(&self.config, &self.spec, expert, learner, mixture, params.clone());
        let metrics = measure.then(|| {
            let read = |t: &Tensor<B, 1>| -> f64 { t.clone().inner().into_scalar().elem() };
            let (expert, learner) = (read(&loss.expert_mean), read(&loss.learner_mean));
            DiscriminatorMetrics {
                disc_loss: read(&loss.total),
                disc_gap: learner - expert,
                disc_penalty: read(&loss.penalty),
                disc_grad_norm: read(&loss.grad_norm),
                reward_mean_expert: -expert,
                reward_mean_learner: -learner,
            }
        });
        let gradient = params.grad_remove(&mut loss.total.backward());
        drop(params);
        if let Some(gradient) = gradient {
            self.parameters.step(gradient, self.config.learning_rate, 0.0);
        }
        metrics
    }

    /// The reward of each pair, of the configured form.
    pub fn rewards(&self, pairs: &Pairs) -> Vec<f32> {
        let rows = self.put(pairs.values.clone(), pairs.len());
        let cost = mlp::forward(&self.spec, rows, self.parameters.get());
        values(match self.config.reward {
            GailReward::Logit => cost.neg(),
            GailReward::Positive => softplus(cost.neg()),
            GailReward::Negative => softplus(cost).neg(),
        })
    }

    fn put(&self, values: Vec<f32>, count: usize) -> Tensor<Inner<B>, 3> {
        let width = values.len() / count;
        Tensor::from_data(TensorData::new(values, [1, count, width]), &self.device)
    }

    /// Sizes and parameters of the cost, for export.
    pub fn network(&self) -> (MlpSpec, Vec<f32>) {
        (self.spec.clone(), values(self.parameters.get()))
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> ClassifierRecord {
        ClassifierRecord { parameters: self.parameters.record().swap_remove(0), rows: self.rows.clone() }
    }

    /// Takes over a checkpoint's content.
    pub fn restore(&mut self, record: ClassifierRecord) -> Result<()> {
        self.parameters.restore(vec![record.parameters], &self.device)?;
        self.rows = record.rows;
        Ok(())
    }
}

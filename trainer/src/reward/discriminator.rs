//! The discriminator: a cost `f(s, a)`, low where the expert goes, trained by moment matching with a gradient penalty.
//!
//! `L = mean f(x_E) - mean f(x_L) + 10 · mean (‖∇f(x̂)‖ - 0.4)²` with `x̂` between expert and learner pairs (arXiv 2402.08848,
//! appendix; gkswamy98/fast_irl and jren03/garage agree). The penalty's gradient is written out, since Burn differentiates once.

use crate::config::{Optimizer, Reduction, RewardConfig};
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::mlp::{self, MlpSpec};
use crate::nn::optimizer::{Network, OptimizerConfig, ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Keeps the norm differentiable at zero.
const NORM_EPSILON: f64 = 1e-12;

/// State-action pairs on the host, `[rows, observation + action]`, actions in [-1, 1].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// Row-major values.
    pub values: Vec<f32>,
    /// Width of a row.
    pub width: usize,
}

impl Pairs {
    /// No pairs yet, of `observation + action` width.
    pub fn new(width: usize) -> Self {
        Self { values: Vec::new(), width }
    }

    /// Adds one pair.
    pub fn push(&mut self, observation: &[f32], action_unit: &[f32]) {
        self.values.extend_from_slice(observation);
        self.values.extend_from_slice(action_unit);
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn sample(&self, count: usize, rng: &mut Stream) -> Vec<f32> {
        let mut rows = Vec::with_capacity(count * self.width);
        for _ in 0..count {
            rows.extend_from_slice(&self.values[rng.index(self.len()) * self.width..][..self.width]);
        }
        rows
    }
}

/// What a discriminator step saw, before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct DiscriminatorMetrics {
    /// The whole loss.
    pub disc_loss: f64,
    /// `mean f(learner) - mean f(expert)`: what the discriminator can still tell apart.
    pub disc_gap: f64,
    /// The penalty before its coefficient.
    pub disc_penalty: f64,
    /// Mean of `‖∇f(x̂)‖`.
    pub disc_grad_norm: f64,
    /// Mean reward of the expert pairs.
    pub reward_mean_expert: f64,
    /// Mean reward of the learner pairs.
    pub reward_mean_learner: f64,
}

/// The cost network with its optimiser.
#[derive(Debug)]
pub struct Discriminator<B: Train> {
    config: RewardConfig,
    network: Network<B>,
    rows: Stream,
    device: B::Device,
}

/// Everything of [`Discriminator`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiscriminatorRecord {
    network: ParametersRecord,
    rows: Stream,
}

impl<B: Train> Discriminator<B> {
    /// A fresh discriminator over pairs of `width` = observation + action.
    pub fn new(config: &RewardConfig, width: usize, streams: Streams, device: &B::Device) -> Self {
        let spec = MlpSpec::new(config.members, width, &config.hidden, 1);
        let optimizer = OptimizerConfig { rule: Optimizer::OptimisticAdam, weight_decay: config.weight_decay };
        let rng = &mut streams.stream("reward/init");
        Self {
            network: Network::new(spec, Init::Orthogonal, false, optimizer, rng, device),
            rows: streams.stream("reward/rows"),
            device: device.clone(),
            config: config.clone(),
        }
    }

    /// `r(s, a) = -f(s, a)`, clipped where configured. `[1, batch, width]` to `[1, batch, 1]`.
    pub fn reward(&self, observation: Tensor<Inner<B>, 3>, action: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        let costs = self.network.infer(Tensor::cat(vec![observation, action], 2));
        cost(costs, self.config.clip, self.config.reduction).neg()
    }

    /// Outer iteration `iteration` (from 0): fresh optimiser, learning rate `lr0 / max(iteration, 1)`, then the
    /// configured number of steps on pairs drawn with replacement.
    pub fn ascend(&mut self, expert: &Pairs, learner: &Pairs, iteration: u64) -> DiscriminatorMetrics {
        self.network.parameters.restart();
        let learning_rate = self.config.learning_rate / iteration.max(1) as f64;
        let mut metrics = DiscriminatorMetrics::default();
        for _ in 0..self.config.grad_steps {
            let count = self.config.batch_size;
            let expert = expert.sample(count, &mut self.rows);
            let learner = learner.sample(count, &mut self.rows);
            let mixture = (0..count).map(|_| self.rows.unit() as f32).collect();
            let [expert, learner, mixture] = [expert, learner, mixture].map(|rows| self.put(rows, count));
            metrics = self.step(expert, learner, mixture, learning_rate);
        }
        metrics
    }

    /// One descent step on given rows `[1, batch, width]` and mixing weights `[1, batch, 1]`.
    fn step(
        &mut self,
        expert: Tensor<Inner<B>, 3>,
        learner: Tensor<Inner<B>, 3>,
        mixture: Tensor<Inner<B>, 3>,
        learning_rate: f64,
    ) -> DiscriminatorMetrics {
        let params = self.network.variable();
        let terms = loss::<B>(&self.config, self.network.spec(), expert, learner, mixture, params.clone());
        let metrics = terms.metrics();
        self.network.descend(terms.total, params, learning_rate, 0.0);
        metrics
    }

    fn put(&self, values: Vec<f32>, count: usize) -> Tensor<Inner<B>, 3> {
        let width = values.len() / count;
        Tensor::from_data(TensorData::new(values, [1, count, width]), &self.device)
    }

    /// Sizes and parameters, for export.
    pub fn network(&self) -> (MlpSpec, Vec<f32>) {
        (self.network.spec().clone(), values(self.network.parameters.get()))
    }

    /// Clip of the cost and reduction over members, for export.
    pub fn reading(&self) -> (Option<f64>, Reduction) {
        (self.config.clip, self.config.reduction)
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> DiscriminatorRecord {
        DiscriminatorRecord { network: self.network.parameters.record(), rows: self.rows.clone() }
    }

    /// Takes over a checkpoint's content.
    pub fn restore(&mut self, record: DiscriminatorRecord) -> Result<()> {
        self.network.parameters.restore(record.network, &self.device)?;
        self.rows = record.rows;
        Ok(())
    }
}

/// One cost per row from the members' outputs: clip, then reduce. `[members, batch, 1]` to `[1, batch, 1]`.
pub fn cost<B: Backend>(outputs: Tensor<B, 3>, clip: Option<f64>, reduction: Reduction) -> Tensor<B, 3> {
    let clipped = match clip {
        Some(limit) => outputs.clamp(-limit, limit),
        None => outputs,
    };
    match (clipped.dims()[0], reduction) {
        (1, _) => clipped,
        (_, Reduction::Min) => clipped.min_dim(0),
        (_, Reduction::Mean) => clipped.mean_dim(0),
        (_, Reduction::Max) => clipped.max_dim(0),
    }
}

/// The terms of the loss.
#[derive(Debug)]
pub struct Loss<B: Train> {
    /// What is minimised.
    pub total: Tensor<B, 1>,
    /// `mean f(x_E)`.
    pub expert_mean: Tensor<B, 1>,
    /// `mean f(x_L)`.
    pub learner_mean: Tensor<B, 1>,
    /// `mean (‖∇f(x̂)‖ - target)²`.
    pub penalty: Tensor<B, 1>,
    /// `mean ‖∇f(x̂)‖`.
    pub grad_norm: Tensor<B, 1>,
}

impl<B: Train> Loss<B> {
    fn metrics(&self) -> DiscriminatorMetrics {
        let read = |t: &Tensor<B, 1>| -> f64 { t.clone().inner().into_scalar().elem() };
        let (expert, learner) = (read(&self.expert_mean), read(&self.learner_mean));
        DiscriminatorMetrics {
            disc_loss: read(&self.total),
            disc_gap: learner - expert,
            disc_penalty: read(&self.penalty),
            disc_grad_norm: read(&self.grad_norm),
            reward_mean_expert: -expert,
            reward_mean_learner: -learner,
        }
    }
}

/// The moment-matching loss with its gradient penalty, differentiable in `params`.
///
/// # Shapes
/// - `expert`, `learner`: `[1, batch, width]`
/// - `mixture`: `[1, batch, 1]`, the share of the expert row in each mixed row
pub fn loss<B: Train>(
    config: &RewardConfig,
    spec: &MlpSpec,
    expert: Tensor<Inner<B>, 3>,
    learner: Tensor<Inner<B>, 3>,
    mixture: Tensor<Inner<B>, 3>,
    params: Tensor<B, 1>,
) -> Loss<B> {
    let batch = expert.dims()[1];
    let pairs = Tensor::<B, 3>::from_inner(Tensor::cat(vec![expert.clone(), learner.clone()], 1));
    let costs = cost(mlp::forward(spec, pairs, params.clone()), config.clip, config.reduction);
    let expert_mean = costs.clone().narrow(1, 0, batch).mean();
    let learner_mean = costs.narrow(1, batch, batch).mean();

    let mixed = learner.clone() + (expert - learner) * mixture;
    let norms = gradient_norm::<B>(config, spec, mixed, params);
    let excess = norms.clone() - config.gradient_target;
    let penalty = (excess.clone() * excess).mean();
    let total = expert_mean.clone() - learner_mean.clone() + penalty.clone() * config.gradient_penalty;
    Loss { total, expert_mean, learner_mean, penalty, grad_norm: norms.mean() }
}

/// `‖∇_x f(x)‖` per row, `[1, batch, 1]`: the member gradients weighted by how each member's output enters the cost.
fn gradient_norm<B: Train>(
    config: &RewardConfig,
    spec: &MlpSpec,
    x: Tensor<Inner<B>, 3>,
    params: Tensor<B, 1>,
) -> Tensor<B, 3> {
    let gradients = mlp::input_gradient(spec, Tensor::<B, 3>::from_inner(x.clone()), params.clone());
    let gradient = if spec.members == 1 && config.clip.is_none() {
        gradients
    } else {
        let outputs = mlp::forward(spec, x, params.inner());
        (gradients * Tensor::from_inner(entry_weights(outputs, config))).sum_dim(0)
    };
    (gradient.clone() * gradient).sum_dim(2).add_scalar(NORM_EPSILON).sqrt()
}

/// Derivative of the cost with respect to each member's output, `[members, batch, 1]`.
fn entry_weights<B: Backend>(outputs: Tensor<B, 3>, config: &RewardConfig) -> Tensor<B, 3> {
    let [members, batch, _] = outputs.dims();
    let inside = match config.clip {
        Some(limit) => outputs.clone().abs().lower_equal_elem(limit).float(),
        None => Tensor::ones([members, batch, 1], &outputs.device()),
    };
    if members == 1 {
        return inside;
    }
    let clipped = match config.clip {
        Some(limit) => outputs.clamp(-limit, limit),
        None => outputs,
    };
    let chosen = match config.reduction {
        Reduction::Mean => return inside / members as f64,
        Reduction::Min => clipped.argmin(0),
        Reduction::Max => clipped.argmax(0),
    };
    let index = Tensor::<B, 1, burn::tensor::Int>::arange(0..members as i64, &inside.device())
        .reshape([members, 1, 1])
        .expand([members, batch, 1]);
    inside * index.equal(chosen.expand([members, batch, 1])).float()
}

//! The discriminator: a cost `f(s, a)`, low where the expert goes, trained by moment matching with a gradient penalty.
//!
//! `L = mean f(x_E) - mean f(x_L) + 10 · mean (‖∇f(x̂)‖ - 0.4)²` with `x̂` between expert and learner pairs (arXiv 2402.08848,
//! appendix; gkswamy98/fast_irl and jren03/garage agree). The penalty's gradient is written out, since Burn differentiates once.

use crate::config::{Optimizer, Reduction, RewardConfig};
use crate::error::Result;
use crate::learners::Batch;
use crate::learners::block::send;
use crate::learners::mean_by_seed;
use crate::learners::running::moments;
use crate::nn::init::Init;
use crate::nn::mlp::{self, MlpSpec};
use crate::nn::ops::MlpBackend;
use crate::nn::optimizer::{Network, OptimizerConfig, ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::run::parallel;
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Keeps the norm differentiable at zero.
const NORM_EPSILON: f64 = 1e-12;

/// When a turn is.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Turns before it: the outer iteration, from 0.
    pub number: u64,
    /// How much of the run is over, 0 to 1.
    pub over: f64,
}

/// State-action pairs on the host, `[rows, observation + action]`, actions in [-1, 1].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// Row-major values.
    pub values: Vec<f32>,
    /// Width of a row.
    pub width: usize,
    /// Whether the last column tells what comes after an episode's end, the absorbing state, from true pairs.
    pub with_end: bool,
}

impl Pairs {
    /// No pairs yet, of `observation + action` width.
    pub fn new(width: usize) -> Self {
        Self { values: Vec::new(), width, with_end: false }
    }

    /// No pairs yet, of `observation + action` width and a column that is 1 in the absorbing state.
    pub fn with_end(width: usize) -> Self {
        Self { values: Vec::new(), width: width + 1, with_end: true }
    }

    /// No pairs yet, of the same kind.
    pub fn none(&self) -> Self {
        Self { values: Vec::new(), ..*self }
    }

    /// Adds one pair.
    pub fn push(&mut self, observation: &[f32], action_unit: &[f32]) {
        self.values.extend_from_slice(observation);
        self.values.extend_from_slice(action_unit);
        self.values.extend(self.with_end.then_some(0.0));
    }

    /// Adds `steps` in the absorbing state, where there is such.
    pub fn push_end(&mut self, steps: usize) {
        if self.with_end {
            for _ in 0..steps {
                self.values.resize(self.values.len() + self.width - 1, 0.0);
                self.values.push(1.0);
            }
        }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Pair `row`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }

    pub(super) fn sample(&self, count: usize, rng: &mut Stream) -> Vec<f32> {
        let mut rows = Vec::with_capacity(count * self.width);
        for _ in 0..count {
            rows.extend_from_slice(self.row(rng.index(self.len())));
        }
        rows
    }
}

/// What a discriminator step saw of one seed, before it.
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

/// The cost networks of stacked seeds with their optimiser.
#[derive(Debug)]
pub struct Discriminator<B: Train> {
    config: RewardConfig,
    /// `config.members` for each seed, in a row.
    network: Network<B>,
    rows: Vec<Stream>,
    /// What the absorbing state is worth in units of its reward, `γ / (1 - γ)` seen from the step that leads there.
    end_worth: Option<f64>,
    units: Option<Units<Inner<B>>>,
    device: B::Device,
}

/// The units in which pairs are seen: `(x - mean) / deviation`, channel by channel.
#[derive(Debug)]
struct Units<B: MlpBackend> {
    /// `[1, 1, width]`.
    mean: Tensor<B, 3>,
    /// One over the deviations, `[1, 1, width]`.
    inverse: Tensor<B, 3>,
}

/// A channel that moves less than this is left in its own units.
const LEAST_DEVIATION: f64 = 1e-6;

impl<B: MlpBackend> Units<B> {
    /// Mean and deviation of `pairs`; the column of the absorbing state stays as it is.
    fn of(pairs: &Pairs, device: &B::Device) -> Self {
        let (centres, squares) = moments(&pairs.values, pairs.width);
        let rows = pairs.len() as f64;
        let of_channel = |(channel, (centre, sum)): (usize, (f64, f64))| {
            let deviation = (sum / rows).sqrt();
            let is_end = pairs.with_end && channel + 1 == pairs.width;
            let seen = !is_end && deviation > LEAST_DEVIATION;
            if seen { (centre as f32, (1.0 / deviation) as f32) } else { (0.0, 1.0) }
        };
        let (mean, inverse) = centres.into_iter().zip(squares).enumerate().map(of_channel).unzip();
        let row = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [1, 1, pairs.width]), device);
        Self { mean: row(mean), inverse: row(inverse) }
    }

    fn apply(&self, pairs: Tensor<B, 3>) -> Tensor<B, 3> {
        (pairs - self.mean.clone()) * self.inverse.clone()
    }

    /// `params` of a network over such rows as those of one over true pairs.
    fn fold_into(&self, spec: &MlpSpec, params: &mut [f32]) {
        let Some(layer) = spec.layers().next() else { return };
        let (mean, inverse) = (values(self.mean.clone()), values(self.inverse.clone()));
        for member in 0..spec.members {
            for (input, (mean, inverse)) in mean.iter().zip(&inverse).enumerate() {
                for output in 0..layer.outputs {
                    let weight = &mut params[layer.weight_of(member).start + input * layer.outputs + output];
                    *weight *= inverse;
                    let shift = mean * *weight;
                    params[layer.bias_of(member).start + output] -= shift;
                }
            }
        }
    }
}

/// Everything of one seed's [`Discriminator`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiscriminatorRecord {
    network: ParametersRecord,
    rows: Stream,
}

impl<B: Train> Discriminator<B> {
    /// A fresh discriminator over pairs of `width` = observation + action for each of `seeds`.
    pub fn new(config: &RewardConfig, width: usize, seeds: &[Streams], device: &B::Device) -> Self {
        let spec = MlpSpec::new(config.members, width, &config.hidden, 1);
        let optimizer = OptimizerConfig { rule: Optimizer::OptimisticAdam, weight_decay: config.weight_decay };
        let rngs: &mut [Stream] = &mut seeds.iter().map(|streams| streams.stream("reward/init")).collect::<Vec<_>>();
        Self {
            network: Network::new(spec, Init::Orthogonal, false, optimizer, rngs, device),
            rows: seeds.iter().map(|streams| streams.stream("reward/rows")).collect(),
            end_worth: None,
            units: None,
            device: device.clone(),
            config: config.clone(),
        }
    }

    /// The same over pairs that know an absorbing state ([`Pairs::with_end`]), for a learner of discount `discount`.
    pub fn knows_the_end(self, discount: f64) -> Self {
        Self { end_worth: Some(discount / (1.0 - discount)), ..self }
    }

    /// The same over pairs in the units of `expert`'s, where the configuration asks for it; another run's network is one over
    /// true pairs ([`Discriminator::begin_with`]) and stays so.
    pub fn in_units_of(self, expert: &Pairs) -> Self {
        let units = (self.config.normalized && self.config.from.is_none()).then(|| Units::of(expert, &self.device));
        Self { units, ..self }
    }

    /// Rows as the network sees them.
    fn seen(&self, pairs: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        match &self.units {
            Some(units) => units.apply(pairs),
            None => pairs,
        }
    }

    /// `r(s, a) = -f(s, a)`, clipped where configured. `[seeds, batch, width]` to `[seeds, batch, 1]`.
    pub fn reward(&self, observation: Tensor<Inner<B>, 3>, action: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        let mut columns = vec![observation, action];
        if self.end_worth.is_some() {
            let [seeds, batch, _] = columns[0].dims();
            columns.push(Tensor::zeros([seeds, batch, 1], &self.device));
        }
        self.of_pairs(Tensor::cat(columns, 2))
    }

    fn of_pairs(&self, pairs: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        let costs = self.network.infer(self.seen(pairs));
        cost(costs, self.config.members, self.config.clip, self.config.reduction).neg()
    }

    /// The reward of one step in the absorbing state. `[seeds, 1, 1]`.
    fn reward_of_the_end(&self) -> Tensor<Inner<B>, 3> {
        let (seeds, width) = (self.rows.len(), self.network.spec().inputs());
        let pair = Tensor::zeros([seeds, 1, width - 1], &self.device);
        self.of_pairs(Tensor::cat(vec![pair, Tensor::ones([seeds, 1, 1], &self.device)], 2))
    }

    /// The rewards of a batch. Where there is an absorbing state, a step that ends the task also gets all that comes after it:
    /// `γ / (1 - γ)` times the reward there, where a learner that stops at ends would see nothing.
    pub fn label(&self, batch: &Batch<Inner<B>>) -> Tensor<Inner<B>, 3> {
        let reward = self.reward(batch.observation.clone(), batch.action.clone());
        match self.end_worth {
            None => reward,
            Some(worth) => reward + batch.continues.clone().neg().add_scalar(1.0) * (self.reward_of_the_end() * worth),
        }
    }

    /// A turn: fresh optimiser, the rate of this turn ([`RewardConfig::rate`]), then the configured number of steps on pairs
    /// drawn with replacement, each seed's learner pairs being its own.
    pub fn ascend(&mut self, expert: &Pairs, learners: &[Pairs], turn: Turn) -> Vec<DiscriminatorMetrics> {
        self.network.parameters.restart();
        let learning_rate = self.config.rate(turn.number, turn.over);
        let mut terms = None;
        for _ in 0..self.config.grad_steps {
            let count = self.config.batch_size;
            let drawn = parallel::each(&mut self.rows, |seed, stream| {
                let expert = expert.sample(count, stream);
                let learner = learners[seed].sample(count, stream);
                [expert, learner, (0..count).map(|_| stream.unit() as f32).collect()]
            });
            terms = Some(self.step(drawn, learning_rate));
        }
        terms.map_or_else(Vec::new, read)
    }

    /// One descent step on each seed's expert rows, learner rows and mixing weights; returns the terms of its loss.
    fn step(&mut self, seeds: Vec<[Vec<f32>; 3]>, learning_rate: f64) -> [Tensor<Inner<B>, 1>; 5] {
        let mut columns: [Vec<Vec<f32>>; 3] = Default::default();
        for seed in seeds {
            columns.iter_mut().zip(seed).for_each(|(column, rows)| column.push(rows));
        }
        let [expert, learner, mixture] = columns.map(|rows| send(rows, self.config.batch_size, &self.device));
        let (expert, learner) = (self.seen(expert), self.seen(learner));
        let params = self.network.variable();
        let terms = loss::<B>(&self.config, self.network.spec(), expert, learner, mixture, params.clone());
        let seen = terms.values();
        self.network.descend_variable(terms.total, params, learning_rate, 0.0);
        seen
    }

    /// Takes over a trained network's parameters over true pairs, for every seed.
    pub fn begin_with(&mut self, params: Vec<f32>) {
        self.network.parameters.replace(vec![params; self.rows.len()], &self.device);
    }

    /// Sizes and parameters of each seed's network over true pairs, for export.
    pub fn networks(&self) -> Vec<(MlpSpec, Vec<f32>)> {
        let spec = self.network.seed_spec();
        let seeds = self.network.parameters.by_seed().into_iter().map(|mut params| {
            if let Some(units) = &self.units {
                units.fold_into(spec, &mut params);
            }
            params
        });
        match self.end_worth {
            None => seeds.map(|params| (spec.clone(), params)).collect(),
            Some(_) => seeds.map(|params| spec.without_last_input(&params)).collect(),
        }
    }

    /// Clip of the cost and reduction over members, for export.
    pub fn reading(&self) -> (Option<f64>, Reduction) {
        (self.config.clip, self.config.reduction)
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<DiscriminatorRecord> {
        let networks = self.network.parameters.record().into_iter();
        networks.zip(&self.rows).map(|(network, rows)| DiscriminatorRecord { network, rows: rows.clone() }).collect()
    }

    /// Takes over the seeds' checkpoints, in their order.
    pub fn restore(&mut self, records: Vec<DiscriminatorRecord>) -> Result<()> {
        let networks;
        (networks, self.rows) = records.into_iter().map(|record| (record.network, record.rows)).unzip();
        self.network.parameters.restore(networks, &self.device)
    }
}

/// One cost per row from the outputs of each seed's `members`: clip, then reduce. `[seeds·members, batch, 1]` to
/// `[seeds, batch, 1]`.
pub fn cost<B: Backend>(
    outputs: Tensor<B, 3>,
    members: usize,
    clip: Option<f64>,
    reduction: Reduction,
) -> Tensor<B, 3> {
    let clipped = match clip {
        Some(limit) => outputs.clamp(-limit, limit),
        None => outputs,
    };
    if members == 1 {
        return clipped;
    }
    let [all, batch, _] = clipped.dims();
    let by_seed = clipped.reshape([all / members, members, batch]);
    let reduced = match reduction {
        Reduction::Min => by_seed.min_dim(1),
        Reduction::Mean => by_seed.mean_dim(1),
        Reduction::Max => by_seed.max_dim(1),
    };
    reduced.reshape([all / members, batch, 1])
}

/// The terms of the loss, one number per seed each.
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
    fn values(&self) -> [Tensor<Inner<B>, 1>; 5] {
        [&self.total, &self.expert_mean, &self.learner_mean, &self.penalty, &self.grad_norm].map(|t| t.clone().inner())
    }
}

/// Brings the terms of a loss to the host, which waits for the device.
fn read<B: MlpBackend>(terms: [Tensor<B, 1>; 5]) -> Vec<DiscriminatorMetrics> {
    let seeds = terms[0].dims()[0];
    let read = values(Tensor::cat(terms.into(), 0));
    let term = |index: usize, seed: usize| f64::from(read[index * seeds + seed]);
    let of_seed = |seed| DiscriminatorMetrics {
        disc_loss: term(0, seed),
        disc_gap: term(2, seed) - term(1, seed),
        disc_penalty: term(3, seed),
        disc_grad_norm: term(4, seed),
        reward_mean_expert: -term(1, seed),
        reward_mean_learner: -term(2, seed),
    };
    (0..seeds).map(of_seed).collect()
}

/// The moment-matching loss with its gradient penalty, differentiable in `params`.
///
/// # Shapes
/// - `expert`, `learner`: `[seeds, batch, width]`
/// - `mixture`: `[seeds, batch, 1]`, the share of the expert row in each mixed row
/// - `spec`: `config.members` members for each seed
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
    let outputs = mlp::forward(spec, pairs, params.clone());
    let costs = cost(outputs, config.members, config.clip, config.reduction);
    let expert_mean = mean_by_seed(costs.clone().narrow(1, 0, batch));
    let learner_mean = mean_by_seed(costs.narrow(1, batch, batch));

    let mixed = learner.clone() + (expert - learner) * mixture;
    let norms = gradient_norm::<B>(config, spec, mixed, params);
    let excess = norms.clone() - config.gradient_target;
    let penalty = mean_by_seed(excess.clone() * excess);
    let total = expert_mean.clone() - learner_mean.clone() + penalty.clone() * config.gradient_penalty;
    Loss { total, expert_mean, learner_mean, penalty, grad_norm: mean_by_seed(norms) }
}

/// `‖∇_x f(x)‖` per row, `[seeds, batch, 1]`: the member gradients weighted by how each member's output enters the cost.
fn gradient_norm<B: Train>(
    config: &RewardConfig,
    spec: &MlpSpec,
    x: Tensor<Inner<B>, 3>,
    params: Tensor<B, 1>,
) -> Tensor<B, 3> {
    let gradients = mlp::input_gradient(spec, Tensor::<B, 3>::from_inner(x.clone()), params.clone());
    let gradient = if config.members == 1 && config.clip.is_none() {
        gradients
    } else {
        let [seeds, batch, width] = x.dims();
        let outputs = mlp::forward(spec, x, params.inner());
        let weighted = gradients * Tensor::from_inner(entry_weights(outputs, config));
        weighted.reshape([seeds, config.members, batch * width]).sum_dim(1).reshape([seeds, batch, width])
    };
    (gradient.clone() * gradient).sum_dim(2).add_scalar(NORM_EPSILON).sqrt()
}

/// Derivative of the cost with respect to each member's output, `[seeds·members, batch, 1]`.
fn entry_weights<B: Backend>(outputs: Tensor<B, 3>, config: &RewardConfig) -> Tensor<B, 3> {
    let [all, batch, _] = outputs.dims();
    let (members, seeds) = (config.members, all / config.members);
    let inside = match config.clip {
        Some(limit) => outputs.clone().abs().lower_equal_elem(limit).float(),
        None => Tensor::ones([all, batch, 1], &outputs.device()),
    };
    if members == 1 {
        return inside;
    }
    let clipped = match config.clip {
        Some(limit) => outputs.clamp(-limit, limit),
        None => outputs,
    };
    let by_seed = clipped.reshape([seeds, members, batch]);
    let chosen = match config.reduction {
        Reduction::Mean => return inside / members as f64,
        Reduction::Min => by_seed.argmin(1),
        Reduction::Max => by_seed.argmax(1),
    };
    let index = Tensor::<B, 1, burn::tensor::Int>::arange(0..members as i64, &inside.device())
        .reshape([1, members, 1])
        .expand([seeds, members, batch]);
    inside * index.equal(chosen.expand([seeds, members, batch])).float().reshape([all, batch, 1])
}

//! Generalised state-dependent exploration (Raffin, Kober, Stulp 2020, arXiv 2005.05719; gSDE) with the semantics of
//! Stable-Baselines3 0.8.0: noise is a linear function of the policy's last features, drawn anew now and then instead of at every
//! step, so that a policy explores along smooth paths.

use super::actor::Actor;
use super::gaussian::Sample;
use crate::error::Result;
use crate::nn::init::{Init, parameters};
use crate::nn::mlp::MlpSpec;
use crate::nn::optimizer::{Applied, Network, OptimizerConfig, Parameters, ParametersRecord};
use crate::nn::{Inner, Train};
use crate::run::rng::Stream;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// Log deviation of the exploration weights at the start (SB3 SAC, `log_std_init`).
const INITIAL_LOG_STD: f32 = -3.0;

/// Means are held within ± this (SB3 SAC, `clip_mean`).
const MEAN_CLIP: f32 = 2.0;

/// Added to the variance (SB3, `StateDependentNoiseDistribution`).
const VARIANCE_FLOOR: f32 = 1e-6;

/// Added to `1 - a²` in the density, as in [`super::gaussian`].
const SQUASH_FLOOR: f32 = 1e-6;

/// Widths of the head: features of the last hidden layer, actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// Features.
    pub features: usize,
    /// Actions.
    pub actions: usize,
}

impl Widths {
    /// Lengths of the pieces of a seed's head: weights of the mean `[features, actions]`, its bias, log deviations
    /// `[features, actions]`.
    pub fn pieces(self) -> [usize; 3] {
        let matrix = self.features * self.actions;
        [matrix, self.actions, matrix]
    }
}

/// Draws `a = tanh(clip(h W + b, ±2) + h M)` with exploration weights `M = e^L ε`, and its log density
/// `Σ log N(u; clip(h W + b), √(h² e^2L + 1e-6)) - Σ log(1 - a² + 1e-6)`.
///
/// # Shapes
/// - `features`: h, `[seeds, batch, features]`
/// - `head`: W, b, L of all seeds, piece by piece ([`Widths::pieces`])
/// - `noise`: ε, `[seeds, features, actions]`, standard normal: one for all rows
pub fn sample<B: Backend>(features: Tensor<B, 3>, head: Tensor<B, 1>, noise: Tensor<B, 3>) -> Sample<B> {
    let [seeds, width, actions] = noise.dims();
    let pieces = Widths { features: width, actions }.pieces().map(|piece| seeds * piece);
    let weights = head.clone().narrow(0, 0, pieces[0]).reshape([seeds, width, actions]);
    let bias = head.clone().narrow(0, pieces[0], pieces[1]).reshape([seeds, 1, actions]);
    let deviations = head.narrow(0, pieces[0] + pieces[1], pieces[2]).reshape([seeds, width, actions]).exp();
    let mean = (features.clone().matmul(weights) + bias).clamp(-MEAN_CLIP, MEAN_CLIP);
    let drawn = features.clone().matmul(deviations.clone() * noise);
    let variance = (features.clone() * features).matmul(deviations.clone() * deviations) + VARIANCE_FLOOR;
    let half_log_tau = 0.5 * (2.0 * std::f32::consts::PI).ln();
    let gaussian = (drawn.clone() * drawn.clone() / variance.clone() + variance.log()) * -0.5 - half_log_tau;
    let action = (mean + drawn).tanh();
    let squash = ((action.clone() * action.clone()).neg() + (1.0 + SQUASH_FLOOR)).log();
    Sample { action, log_prob: (gaussian - squash).sum_dim(2) }
}

/// What [`StateDependent::sample`] leaves for the backward pass.
#[derive(Debug)]
pub struct Pass<B: Train> {
    trunk: Applied<B>,
    head: Tensor<B, 1>,
}

/// The policies of stacked seeds.
#[derive(Debug)]
pub struct StateDependent<B: Train> {
    /// Features before their ReLU.
    trunk: Network<B>,
    head: Parameters<Inner<B>>,
    widths: Widths,
    /// Each seed's ε while it acts.
    acting: Vec<Vec<f32>>,
}

/// Everything of one seed's [`StateDependent`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateDependentRecord {
    trunk: ParametersRecord,
    head: ParametersRecord,
    acting: Vec<f32>,
}

impl<B: Train> StateDependent<B> {
    /// Fresh policies of `observations` wide rows with `hidden` layers, one at least; one for each stream in `rngs`.
    pub fn new(
        observations: usize,
        hidden: &[usize],
        actions: usize,
        optimizer: OptimizerConfig,
        rngs: &mut [Stream],
        device: &B::Device,
    ) -> Self {
        let (features, below) =
            hidden.split_last().unwrap_or_else(|| unreachable!("a configuration without hidden layers is refused"));
        let widths = Widths { features: *features, actions };
        let trunk = MlpSpec::new(1, observations, below, *features);
        let trunk = Network::new(trunk, Init::Uniform, false, optimizer, rngs, device);
        let mean = MlpSpec::new(1, *features, &[], actions);
        let head = |rng: &mut Stream| {
            let mut head = parameters(&mean, Init::Uniform, rng);
            head.resize(head.len() + features * actions, INITIAL_LOG_STD);
            head
        };
        let heads = rngs.iter_mut().map(head).collect();
        let head = Parameters::stacked(heads, widths.pieces().to_vec(), false, optimizer, device);
        let mut acting = vec![vec![0.0; features * actions]; rngs.len()];
        acting.iter_mut().zip(rngs).for_each(|(acting, rng)| rng.fill_normal(acting));
        Self { trunk, head, widths, acting }
    }

    /// Features of the last hidden layer, actions.
    pub fn widths(&self) -> Widths {
        self.widths
    }

    /// Each seed acts with this ε from now on.
    pub fn explore_with<'a>(&mut self, noise: impl Iterator<Item = &'a [f32]>) {
        self.acting.iter_mut().zip(noise).for_each(|(acting, noise)| acting.copy_from_slice(noise));
    }

    /// [`sample`] for constant rows as part of a loss; [`StateDependent::descend`] wants the pass.
    pub fn sample(&self, observation: Tensor<Inner<B>, 3>, noise: Tensor<Inner<B>, 3>) -> (Sample<B>, Pass<B>) {
        let trunk = self.trunk.apply(observation);
        let head = Tensor::from_inner(self.head.get()).require_grad();
        let drawn = sample(relu(trunk.output.clone()), head.clone(), Tensor::from_inner(noise));
        (drawn, Pass { trunk, head })
    }

    /// [`sample`] without gradients.
    pub fn infer(&self, observation: Tensor<Inner<B>, 3>, noise: Tensor<Inner<B>, 3>) -> Sample<Inner<B>> {
        sample(relu(self.trunk.infer(observation)), self.head.get(), noise)
    }

    /// One optimiser step down the gradient of the sum of `losses`, one per seed, in which the actions of `passes` are.
    pub fn descend(&mut self, losses: Tensor<B, 1>, passes: Vec<Pass<B>>, learning_rate: f64) {
        let mut gradients = losses.backward();
        let (trunks, heads): (Vec<_>, Vec<_>) = passes.into_iter().map(|pass| (pass.trunk, pass.head)).unzip();
        let parts = heads.into_iter().filter_map(|head| head.grad_remove(&mut gradients));
        if let Some(gradient) = parts.reduce(|sum, part| sum + part) {
            self.head.step(gradient, learning_rate, 0.0);
        }
        self.trunk.follow(&mut gradients, trunks, learning_rate, 0.0);
    }

    /// Fresh optimisers on the same parameters.
    pub fn restart_optimizers(&mut self) {
        self.trunk.parameters.restart();
        self.head.restart();
    }

    /// Each seed's policy as it stands: its mode, and the function that it explores with until [`StateDependent::explore_with`].
    pub fn policies(&self) -> Vec<Actor> {
        let seeds = self.trunk.parameters.by_seed().into_iter().zip(self.head.by_seed()).zip(&self.acting);
        seeds
            .map(|((trunk, head), acting)| {
                let mode = self.perceptron(&trunk, &head, None);
                Actor::exploring(mode, self.perceptron(&trunk, &head, Some(acting)), self.widths.actions)
            })
            .collect()
    }

    /// Sizes and parameters of each seed's mode before the tanh, `[observation]` to `[actions]`.
    pub fn modes(&self) -> Vec<(MlpSpec, Vec<f32>)> {
        let seeds = self.trunk.parameters.by_seed().into_iter().zip(self.head.by_seed());
        seeds.map(|(trunk, head)| self.perceptron(&trunk, &head, None)).collect()
    }

    /// One seed's policy as an ordinary perceptron: bounds and signed noise are one more ReLU layer, since
    /// `clip(x, ±2) = relu(x + 2) - relu(x - 2) - 2` and `x = relu(x) - relu(-x)`.
    fn perceptron(&self, trunk: &[f32], head: &[f32], acting: Option<&Vec<f32>>) -> (MlpSpec, Vec<f32>) {
        let Widths { features, actions } = self.widths;
        let [matrix, ..] = self.widths.pieces();
        let (weights, rest) = head.split_at(matrix);
        let (bias, log_std) = rest.split_at(actions);
        let explores = |noise: &Vec<f32>| noise.iter().zip(log_std).map(|(e, l)| l.exp() * e).collect::<Vec<f32>>();
        let explores = acting.map(explores);
        let parts = if explores.is_some() { 4 } else { 2 };
        let mut params = trunk.to_vec();
        for feature in 0..features {
            let row = feature * actions..(feature + 1) * actions;
            params.extend_from_slice(&weights[row.clone()]);
            params.extend_from_slice(&weights[row.clone()]);
            if let Some(explores) = &explores {
                params.extend_from_slice(&explores[row.clone()]);
                params.extend(explores[row].iter().map(|weight| -weight));
            }
        }
        params.extend(bias.iter().map(|bias| bias + MEAN_CLIP));
        params.extend(bias.iter().map(|bias| bias - MEAN_CLIP));
        params.resize(params.len() + (parts - 2) * actions, 0.0);
        for part in 0..parts {
            let sign = if part % 2 == 0 { 1.0 } else { -1.0 };
            for action in 0..actions {
                params.extend((0..actions).map(|other| if other == action { sign } else { 0.0 }));
            }
        }
        params.resize(params.len() + actions, -MEAN_CLIP);
        let mut widths = self.trunk.seed_spec().widths.clone();
        widths.extend([parts * actions, actions]);
        (MlpSpec { members: 1, widths, ..self.trunk.seed_spec().clone() }, params)
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<StateDependentRecord> {
        let seeds = self.trunk.parameters.record().into_iter().zip(self.head.record()).zip(&self.acting);
        seeds.map(|((trunk, head), acting)| StateDependentRecord { trunk, head, acting: acting.clone() }).collect()
    }

    /// Takes over the seeds' checkpoints, in their order.
    pub fn restore(&mut self, records: Vec<StateDependentRecord>, device: &B::Device) -> Result<()> {
        let (mut trunks, mut heads) = (Vec::new(), Vec::new());
        self.acting.clear();
        for record in records {
            trunks.push(record.trunk);
            heads.push(record.head);
            self.acting.push(record.acting);
        }
        self.trunk.parameters.restore(trunks, device)?;
        self.head.restore(heads, device)
    }
}

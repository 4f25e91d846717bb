//! Proximal policy optimisation (Schulman et al. 2017) as ikostrikov/pytorch-a2c-ppo-acktr-gail has it: a Gaussian policy whose
//! deviation does not depend on the state, a value network apart, both with tanh.

use super::gae::{self, Moment};
use crate::config::{Optimizer, PpoConfig};
use crate::error::Result;
use crate::nn::mlp::{self, Activation, MlpSpec};
use crate::nn::ops::MlpBackend;
use crate::nn::optimizer::{OptimizerConfig, Parameters, ParametersRecord, values};
use crate::nn::{Inner, Train, tanh};
use crate::run::rng::{Stream, Streams};
use burn::backend::Flex;
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Added to the deviation by which advantages are divided, and to the norm when gradients are clipped (PyTorch's
/// `clip_grad_norm_` has 1e-6).
const ADVANTAGE_EPSILON: f64 = 1e-5;
const NORM_EPSILON: f64 = 1e-6;

/// `log π(a|s) = Σ log N(a; mean, std)`, not squashed.
///
/// # Shapes
/// - `mean`, `action`: `[1, batch, actions]`; `log_std`: `[1, 1, actions]`
/// - output: `[1, batch, 1]`
pub fn log_prob<B: Backend>(mean: Tensor<B, 3>, log_std: Tensor<B, 3>, action: Tensor<B, 3>) -> Tensor<B, 3> {
    let half_log_tau = 0.5 * (2.0 * std::f64::consts::PI).ln();
    let noise = (action - mean) * log_std.clone().neg().exp();
    (noise.clone() * noise * -0.5 - log_std - half_log_tau).sum_dim(2)
}

/// Entropy of the policy, the same in every state: `Σ (log std + ½ log 2πe)`.
pub fn entropy<B: Backend>(log_std: Tensor<B, 3>) -> Tensor<B, 1> {
    log_std.add_scalar(0.5 * (1.0 + (2.0 * std::f64::consts::PI).ln())).sum()
}

/// `-mean min(ρ A, clip(ρ, 1 ± ε) A)` with `ρ = π(a|s) / π_old(a|s)`.
pub fn policy_loss<B: Backend>(
    log_prob: Tensor<B, 3>,
    old_log_prob: Tensor<B, 3>,
    advantage: Tensor<B, 3>,
    clip: f64,
) -> Tensor<B, 1> {
    let ratio = (log_prob - old_log_prob).exp();
    let clipped = ratio.clone().clamp(1.0 - clip, 1.0 + clip) * advantage.clone();
    (ratio * advantage).min_pair(clipped).mean().neg()
}

/// `½ mean max((V - G)², (V_old + clip(V - V_old, ±ε) - G)²)`; without `clip`, `½ mean (V - G)²`.
pub fn value_loss<B: Backend>(
    value: Tensor<B, 3>,
    old_value: Tensor<B, 3>,
    target: Tensor<B, 3>,
    clip: Option<f64>,
) -> Tensor<B, 1> {
    let square = |x: Tensor<B, 3>| x.clone() * x;
    let plain = square(value.clone() - target.clone());
    let error = match clip {
        None => plain,
        Some(clip) => {
            let near = old_value.clone() + (value - old_value).clamp(-clip, clip);
            plain.max_pair(square(near - target))
        }
    };
    error.mean() * 0.5
}

/// `gradient` scaled down to `limit` where its norm is larger.
pub fn clip_norm<B: Backend>(gradient: Tensor<B, 1>, limit: f64) -> Tensor<B, 1> {
    let norm = (gradient.clone() * gradient.clone()).sum().sqrt();
    let scale = norm.add_scalar(NORM_EPSILON).recip().mul_scalar(limit).clamp_max(1.0);
    gradient * scale
}

/// Advantages with mean 0 and deviation 1 (n - 1 in its denominator, as PyTorch's `std`).
pub fn normalized(advantages: &[f64]) -> Vec<f32> {
    let count = advantages.len() as f64;
    let mean = advantages.iter().sum::<f64>() / count;
    let variance = advantages.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    advantages.iter().map(|a| ((a - mean) / (variance.sqrt() + ADVANTAGE_EPSILON)) as f32).collect()
}

/// The steps of one rollout, column by column, observations as the networks see them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rollout {
    /// `[steps, observation]`.
    pub observations: Vec<f32>,
    /// `[steps, action]`, as drawn: not clamped.
    pub actions: Vec<f32>,
    /// `[steps]`.
    pub log_probs: Vec<f32>,
    /// `[steps]`.
    pub moments: Vec<Moment>,
}

/// What an update saw; means over its gradient steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PpoMetrics {
    /// [`policy_loss`].
    pub policy_loss: f64,
    /// [`value_loss`].
    pub value_loss: f64,
    /// [`entropy`].
    pub policy_entropy: f64,
    /// Mean of `log π_old - log π`, an estimate of the Kullback-Leibler divergence.
    pub approx_kl: f64,
}

/// An action drawn from the policy, and what the update will need of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// `[action]`, not clamped.
    pub action: Vec<f32>,
    /// `log π(a|s)`.
    pub log_prob: f32,
    /// `V(s)`.
    pub value: f32,
}

/// The learner of a single seed. Its parameters are one vector: policy, log deviation, value.
#[derive(Debug)]
pub struct Ppo<B: Train> {
    config: PpoConfig,
    policy: MlpSpec,
    value: MlpSpec,
    parameters: Parameters<Inner<B>>,
    order: Stream,
    device: B::Device,
}

/// Everything of [`Ppo`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PpoRecord {
    parameters: ParametersRecord,
    order: Stream,
}

impl<B: Train> Ppo<B> {
    /// A fresh learner for `observations` and `actions` wide rows.
    pub fn new(config: &PpoConfig, observations: usize, actions: usize, streams: Streams, device: &B::Device) -> Self {
        let policy = MlpSpec::new(1, observations, &config.hidden, actions).with_activation(Activation::Tanh);
        let value = MlpSpec::new(1, observations, &config.hidden, 1).with_activation(Activation::Tanh);
        let rng = &mut streams.stream("ppo/init");
        let root = std::f64::consts::SQRT_2;
        let mut params = tanh::orthogonal(&policy, root, config.initial_mean_gain, rng);
        params.extend(std::iter::repeat_n(config.initial_log_std as f32, actions));
        params.extend(tanh::orthogonal(&value, root, root, rng));
        Self {
            parameters: Parameters::new(params, false, OptimizerConfig::new(Optimizer::Adam), device),
            order: streams.stream("ppo/order"),
            device: device.clone(),
            config: config.clone(),
            policy,
            value,
        }
    }

    /// Mean `[1, batch, actions]`, log deviation `[1, 1, actions]` and value `[1, batch, 1]`.
    fn apply<C: MlpBackend>(&self, x: Tensor<C, 3>, params: Tensor<C, 1>) -> [Tensor<C, 3>; 3] {
        let (policy, actions) = (self.policy.len(), self.policy.outputs());
        let log_std = params.clone().narrow(0, policy, actions).reshape([1, 1, actions]);
        let value = params.clone().narrow(0, policy + actions, self.value.len());
        let mean = mlp::forward(&self.policy, x.clone(), params.narrow(0, 0, policy));
        [mean, log_std, mlp::forward(&self.value, x, value)]
    }

    fn put(&self, values: Vec<f32>, rows: usize) -> Tensor<Inner<B>, 3> {
        let width = values.len() / rows;
        Tensor::from_data(TensorData::new(values, [1, rows, width]), &self.device)
    }

    /// Draws an action for one observation.
    pub fn draw(&self, observation: &[f32], noise: &mut Stream) -> Draw {
        let [mean, log_std, value] = self.apply(self.put(observation.to_vec(), 1), self.parameters.get());
        let mut draw = vec![0.0; self.policy.outputs()];
        noise.fill_normal(&mut draw);
        let action = mean.clone() + log_std.clone().exp() * self.put(draw, 1);
        let log_prob = log_prob(mean, log_std, action.clone());
        Draw { action: values(action), log_prob: values(log_prob)[0], value: values(value)[0] }
    }

    /// The policy's mean as it stands, on the host.
    pub fn policy(&self) -> MeanPolicy {
        let (spec, params) = self.actor();
        let params = TensorData::new(params, [spec.len()]);
        MeanPolicy { params: Tensor::from_data(params, &Default::default()), spec }
    }

    /// `V(s)` of one observation.
    pub fn value(&self, observation: &[f32]) -> f32 {
        let [.., value] = self.apply(self.put(observation.to_vec(), 1), self.parameters.get());
        values(value)[0]
    }

    /// Several passes over the rollout in shuffled minibatches, each one clipped gradient step. Gives what they saw, and
    /// how many they were.
    pub fn update(&mut self, rollout: &Rollout, learning_rate: f64) -> (PpoMetrics, u64) {
        let config = self.config.clone();
        let steps = rollout.moments.len();
        let advantages = gae::advantages(&rollout.moments, config.discount, config.gae_lambda, config.time_limits);
        let targets: Vec<f32> =
            advantages.iter().zip(&rollout.moments).map(|(a, moment)| (a + moment.value) as f32).collect();
        let advantages = normalized(&advantages);
        let old_values: Vec<f32> = rollout.moments.iter().map(|moment| moment.value as f32).collect();
        let size = steps.div_ceil(config.minibatches).max(1);
        let mut order: Vec<usize> = (0..steps).collect();
        let mut batches = Vec::new();
        for _ in 0..config.epochs {
            for last in (1..steps).rev() {
                order.swap(last, self.order.index(last + 1));
            }
            for rows in order.chunks(size) {
                let pick = |column: &[f32]| {
                    let width = column.len() / steps;
                    let picked = rows.iter().flat_map(|row| &column[row * width..][..width]).copied().collect();
                    self.put(picked, rows.len())
                };
                let batch = Minibatch {
                    observation: pick(&rollout.observations),
                    action: pick(&rollout.actions),
                    old_log_prob: pick(&rollout.log_probs),
                    old_value: pick(&old_values),
                    advantage: pick(&advantages),
                    target: pick(&targets),
                };
                batches.push(self.step(batch, learning_rate));
            }
        }
        (mean_of(&batches), batches.len() as u64)
    }

    fn step(&mut self, batch: Minibatch<Inner<B>>, learning_rate: f64) -> PpoMetrics {
        let config = &self.config;
        let params = Tensor::<B, 1>::from_inner(self.parameters.get()).require_grad();
        let [mean, log_std, value] = self.apply(Tensor::from_inner(batch.observation), params.clone());
        let log_prob = log_prob(mean, log_std.clone(), Tensor::from_inner(batch.action));
        let [old_log_prob, old_value, advantage, target] =
            [batch.old_log_prob, batch.old_value, batch.advantage, batch.target].map(Tensor::<B, 3>::from_inner);
        let approx_kl = scalar((old_log_prob.clone() - log_prob.clone()).mean().inner());
        let policy = policy_loss(log_prob, old_log_prob, advantage, config.clip);
        let value = value_loss(value, old_value, target, config.clip_values.then_some(config.clip));
        let entropy = entropy(log_std);
        let total =
            policy.clone() + value.clone() * config.value_coefficient - entropy.clone() * config.entropy_coefficient;
        let metrics = PpoMetrics {
            policy_loss: scalar(policy.inner()),
            value_loss: scalar(value.inner()),
            policy_entropy: scalar(entropy.inner()),
            approx_kl,
        };
        let limit = config.max_grad_norm;
        let gradient = params.grad_remove(&mut total.backward());
        drop(params);
        if let Some(gradient) = gradient {
            self.parameters.step(clip_norm(gradient, limit), learning_rate, 0.0);
        }
        metrics
    }

    /// Sizes and parameters of the policy's mean, for export and for acting elsewhere.
    pub fn actor(&self) -> (MlpSpec, Vec<f32>) {
        let mut params = values(self.parameters.get());
        params.truncate(self.policy.len());
        (self.policy.clone(), params)
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> PpoRecord {
        PpoRecord { parameters: self.parameters.record().swap_remove(0), order: self.order.clone() }
    }

    /// Takes over a checkpoint's content.
    pub fn restore(&mut self, record: PpoRecord) -> Result<()> {
        self.parameters.restore(vec![record.parameters], &self.device)?;
        self.order = record.order;
        Ok(())
    }
}

/// A policy's mean, on the host wherever its learner computes.
#[derive(Debug, Clone)]
pub struct MeanPolicy {
    spec: MlpSpec,
    params: Tensor<Flex, 1>,
}

impl MeanPolicy {
    /// The mean action for one observation, not clamped.
    pub fn act(&self, observation: &[f32]) -> Vec<f32> {
        let x = TensorData::new(observation.to_vec(), [1, 1, observation.len()]);
        values(mlp::forward(&self.spec, Tensor::from_data(x, &Default::default()), self.params.clone()))
    }
}

/// Rows of one gradient step, `[1, rows, width]` each.
struct Minibatch<B: Backend> {
    observation: Tensor<B, 3>,
    action: Tensor<B, 3>,
    old_log_prob: Tensor<B, 3>,
    old_value: Tensor<B, 3>,
    advantage: Tensor<B, 3>,
    target: Tensor<B, 3>,
}

fn mean_of(batches: &[PpoMetrics]) -> PpoMetrics {
    let mean = |read: fn(&PpoMetrics) -> f64| batches.iter().map(read).sum::<f64>() / batches.len().max(1) as f64;
    PpoMetrics {
        policy_loss: mean(|m| m.policy_loss),
        value_loss: mean(|m| m.value_loss),
        policy_entropy: mean(|m| m.policy_entropy),
        approx_kl: mean(|m| m.approx_kl),
    }
}

fn scalar<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.into_scalar().elem()
}

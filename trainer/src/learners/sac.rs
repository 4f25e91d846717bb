//! Soft actor-critic (Haarnoja et al. 2018) with the semantics of Stable-Baselines3 0.8.0: three losses and an update.
//! Losses are one per seed.

use super::actor::Actor;
use super::block::Column;
use super::gaussian::{self, Sample};
use super::{Batch, mean_by_seed};
use crate::config::{Optimizer, SacConfig};
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::mlp::{self, MlpSpec};
use crate::nn::ops::MlpBackend;
use crate::nn::optimizer::{Network, OptimizerConfig, Parameters, ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::run::parallel;
use crate::run::rng::{Stream, Streams};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// `y = r + γ·continues·(min_i Q̂_i(s', a') - α log π(a'|s'))` with `a' ~ π(s')`.
pub fn target_value<B: Backend>(
    batch: &Batch<B>,
    next_q: Tensor<B, 3>,
    next_log_prob: Tensor<B, 3>,
    temperature: Tensor<B, 3>,
    discount: f64,
) -> Tensor<B, 3> {
    let next_value = minimum(next_q) - temperature * next_log_prob;
    batch.reward.clone() + batch.continues.clone() * next_value * discount
}

/// `½ Σ_i mean (Q_i(s, a) - y)²`.
///
/// # Shapes
/// - `q`: `[2·seeds, batch, 1]`
/// - `target`: `[seeds, batch, 1]`
/// - loss: `[seeds]`
pub fn critic_loss<B: Backend>(q: Tensor<B, 3>, target: Tensor<B, 3>) -> Tensor<B, 1> {
    let [seeds, batch, _] = target.dims();
    let error = q.reshape([seeds, 2, batch]) - target.reshape([seeds, 1, batch]);
    let squares = (error.clone() * error).reshape([seeds, 2 * batch]);
    squares.sum_dim(1).reshape([seeds]) * (0.5 / batch as f64)
}

/// `mean (α log π(a|s) - min_i Q_i(s, a))` with `a ~ π(s)` reparametrised.
pub fn actor_loss<B: Backend>(q: Tensor<B, 3>, log_prob: Tensor<B, 3>, temperature: Tensor<B, 3>) -> Tensor<B, 1> {
    mean_by_seed(temperature * log_prob - minimum(q))
}

/// Gradient of the temperature loss `-(log α · (log π + H̄)).mean()` with respect to `log α`.
pub fn temperature_gradient<B: Backend>(log_prob: Tensor<B, 3>, target_entropy: f64) -> Tensor<B, 1> {
    mean_by_seed(log_prob).add_scalar(target_entropy).neg()
}

/// Smaller of the twin critics: `[2·seeds, batch, 1]`, twins in a row, to `[seeds, batch, 1]`.
fn minimum<B: Backend>(q: Tensor<B, 3>) -> Tensor<B, 3> {
    let [critics, batch, _] = q.dims();
    let twins = q.reshape([critics / 2, 2, batch]);
    twins.clone().narrow(1, 0, 1).min_pair(twins.narrow(1, 1, 1)).reshape([critics / 2, batch, 1])
}

/// What a gradient step measured of one seed; read only when asked for, since it waits for the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SacMetrics {
    /// [`critic_loss`].
    pub critic_loss: f64,
    /// [`actor_loss`].
    pub actor_loss: f64,
    /// α.
    pub temperature: f64,
    /// Mean of `-log π`.
    pub entropy: f64,
    /// Mean of the smaller critic at the policy's actions.
    pub q_mean: f64,
}

/// Standard normal numbers for one gradient step: `[seeds, batch, actions]` each.
#[derive(Debug, Clone)]
pub struct Noise<B: Backend> {
    /// For the actions at the batch's observations.
    pub action: Tensor<B, 3>,
    /// For those at the next observations.
    pub next_action: Tensor<B, 3>,
}

/// The learner: for each seed an actor, twin critics with targets, and the temperature.
#[derive(Debug)]
pub struct Sac<B: Train> {
    config: SacConfig,
    actions: usize,
    /// `seeds` members.
    actor: Network<B>,
    /// `2·seeds` members, a seed's twins in a row.
    critics: Network<B>,
    /// `[seeds]`.
    log_temperature: Parameters<Inner<B>>,
    noise: Vec<Stream>,
    /// Made when first needed after a gradient step.
    policies: OnceLock<Vec<Actor>>,
    device: B::Device,
}

/// Everything of one seed's [`Sac`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SacRecord {
    actor: ParametersRecord,
    critics: ParametersRecord,
    log_temperature: ParametersRecord,
    noise: Stream,
}

impl<B: Train> Sac<B> {
    /// A fresh learner for `observations` and `actions` wide rows; one seed for each of `seeds`.
    pub fn new(config: &SacConfig, observations: usize, actions: usize, seeds: &[Streams], device: &B::Device) -> Self {
        let actor = MlpSpec::new(1, observations, &config.hidden, 2 * actions);
        let critics = MlpSpec::new(2, observations + actions, &config.hidden, 1);
        let rngs: &mut [Stream] = &mut seeds.iter().map(|streams| streams.stream("sac/init")).collect::<Vec<_>>();
        let optimizer = OptimizerConfig::new(config.optimizer);
        let log_temperature = vec![config.initial_temperature.ln() as f32];
        Self {
            actions,
            actor: Network::new(actor, Init::Uniform, false, optimizer, rngs, device),
            critics: Network::new(critics, Init::Uniform, true, optimizer, rngs, device),
            log_temperature: Parameters::stacked(
                vec![log_temperature; seeds.len()],
                vec![1],
                false,
                OptimizerConfig::new(Optimizer::Adam),
                device,
            ),
            noise: seeds.iter().map(|streams| streams.stream("sac/noise")).collect(),
            policies: OnceLock::new(),
            device: device.clone(),
            config: config.clone(),
        }
    }

    /// Seeds side by side.
    pub fn seeds(&self) -> usize {
        self.noise.len()
    }

    /// The target entropy H̄: `-dim(A)` unless configured.
    fn target_entropy(&self) -> f64 {
        self.config.target_entropy.unwrap_or(-(self.actions as f64))
    }

    /// One gradient step on everything; see [`Sac::step`].
    pub fn update(&mut self, batch: &Batch<Inner<B>>, learning_rate: f64, measure: bool) -> Option<Vec<SacMetrics>> {
        let noise = self.draw_noise(&[batch.observation.dims()[1]]);
        noise.into_iter().fold(None, |_, noise| self.step(batch, noise, learning_rate, measure))
    }

    /// Noise for gradient steps on batches of `sizes` rows: each seed's from its own stream, sent to the device together.
    pub fn draw_noise(&mut self, sizes: &[usize]) -> Vec<Noise<Inner<B>>> {
        let twice: Vec<usize> = sizes.iter().flat_map(|size| [*size; 2]).collect();
        let count = twice.iter().sum::<usize>() * self.actions;
        let drawn = parallel::each(&mut self.noise, |_, stream| {
            let mut noise = vec![0.0; count];
            stream.fill_normal(&mut noise);
            noise
        });
        let column = Column::<Inner<B>>::send(drawn, &twice, &self.device);
        let take = |index| column.take(&twice, index);
        (0..sizes.len()).map(|step| Noise { action: take(2 * step), next_action: take(2 * step + 1) }).collect()
    }

    /// One gradient step on everything, in the order of Stable-Baselines3: temperature, critics, actor, targets. Returns
    /// each seed's figures where `measure` asks for them.
    pub fn step(
        &mut self,
        batch: &Batch<Inner<B>>,
        noise: Noise<Inner<B>>,
        learning_rate: f64,
        measure: bool,
    ) -> Option<Vec<SacMetrics>> {
        self.policies.take();
        let temperature = self.log_temperature.get().exp().reshape([self.seeds(), 1, 1]);

        let actor = self.actor.variable();
        let observation = Tensor::<B, 3>::from_inner(batch.observation.clone());
        let head = mlp::forward(self.actor.spec(), observation.clone(), actor.clone());
        let Sample { action, log_prob } = gaussian::sample(head, Tensor::from_inner(noise.action));
        if self.config.learn_temperature {
            let gradient = temperature_gradient(log_prob.clone().inner(), self.target_entropy());
            self.log_temperature.step(gradient, learning_rate, 0.0);
        }

        let target = self.target(batch, noise.next_action, temperature.clone());
        let critics = self.critics.variable();
        let rows = Tensor::cat(vec![batch.observation.clone(), batch.action.clone()], 2);
        let q = mlp::forward(self.critics.spec(), Tensor::from_inner(rows), critics.clone());
        let critic_losses = critic_loss(q, Tensor::from_inner(target));
        let measured_critic = measure.then(|| critic_losses.clone().inner());
        self.critics.descend(critic_losses, critics, learning_rate, self.config.polyak_rate);

        let q = self.critics.frozen(Tensor::cat(vec![observation, action], 2));
        let actor_losses = actor_loss(q.clone(), log_prob.clone(), Tensor::from_inner(temperature.clone()));
        let measured = measured_critic.map(|critic_losses| {
            let entropy = mean_by_seed(log_prob.inner()).neg();
            let q_mean = mean_by_seed(minimum(q.inner()));
            [critic_losses, actor_losses.clone().inner(), temperature.reshape([-1]), entropy, q_mean]
        });
        self.actor.descend(actor_losses, actor, learning_rate, 0.0);
        measured.map(read)
    }

    fn target(
        &self,
        batch: &Batch<Inner<B>>,
        noise: Tensor<Inner<B>, 3>,
        temperature: Tensor<Inner<B>, 3>,
    ) -> Tensor<Inner<B>, 3> {
        let head = self.actor.infer(batch.next_observation.clone());
        let Sample { action, log_prob } = gaussian::sample(head, noise);
        let next_q = self.critics.infer_target(Tensor::cat(vec![batch.next_observation.clone(), action], 2));
        target_value(batch, next_q, log_prob, temperature, self.config.discount)
    }

    /// Each seed's policy as it stands, on the host. The first call after a gradient step waits for the device.
    pub fn policies(&self) -> &[Actor] {
        self.policies.get_or_init(|| Actor::of_seeds(&self.actor))
    }

    /// Smaller critic's value of `action` at `observation`, `[seeds, batch, width]`, for checks.
    pub fn value(&self, observation: Tensor<Inner<B>, 3>, action: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        minimum(self.critics.infer(Tensor::cat(vec![observation, action], 2)))
    }

    /// Sizes and parameters of each seed's actor, for export.
    pub fn actors(&self) -> Vec<(MlpSpec, Vec<f32>)> {
        let spec = self.actor.seed_spec();
        self.actor.parameters.by_seed().into_iter().map(|params| (spec.clone(), params)).collect()
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<SacRecord> {
        let networks = self.actor.parameters.record().into_iter().zip(self.critics.parameters.record());
        let rest = self.log_temperature.record().into_iter().zip(&self.noise);
        networks
            .zip(rest)
            .map(|((actor, critics), (log_temperature, noise))| SacRecord {
                actor,
                critics,
                log_temperature,
                noise: noise.clone(),
            })
            .collect()
    }

    /// Takes over the seeds' checkpoints, in their order.
    pub fn restore(&mut self, records: Vec<SacRecord>) -> Result<()> {
        let (mut actors, mut critics, mut log_temperatures) = (Vec::new(), Vec::new(), Vec::new());
        self.noise.clear();
        for record in records {
            actors.push(record.actor);
            critics.push(record.critics);
            log_temperatures.push(record.log_temperature);
            self.noise.push(record.noise);
        }
        self.policies.take();
        self.actor.parameters.restore(actors, &self.device)?;
        self.critics.parameters.restore(critics, &self.device)?;
        self.log_temperature.restore(log_temperatures, &self.device)
    }
}

/// Brings a step's figures, `[seeds]` each, to the host: the one place where learning waits for the device.
fn read<B: MlpBackend>(figures: [Tensor<B, 1>; 5]) -> Vec<SacMetrics> {
    let seeds = figures[0].dims()[0];
    let read = values(Tensor::cat(figures.into(), 0));
    let figure = |index: usize, seed: usize| f64::from(read[index * seeds + seed]);
    let of_seed = |seed| SacMetrics {
        critic_loss: figure(0, seed),
        actor_loss: figure(1, seed),
        temperature: figure(2, seed),
        entropy: figure(3, seed),
        q_mean: figure(4, seed),
    };
    (0..seeds).map(of_seed).collect()
}

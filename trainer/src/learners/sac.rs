//! Soft actor-critic (Haarnoja et al. 2018) with the semantics of Stable-Baselines3 0.8.0: three losses and an update.
//! Losses are one per seed.

use super::actor::Actor;
use super::block::Column;
use super::gaussian::Sample;
use super::stochastic::{Stochastic, StochasticRecord};
use super::{Batch, Pull, cloning, mean_by_seed, read};
use crate::config::{Optimizer, SacConfig};
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::mlp::MlpSpec;
use crate::nn::optimizer::{Network, OptimizerConfig, Parameters, ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::run::parallel;
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
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
    /// [`cloning::loss`] at the rows of a [`Pull`], before its weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bc_loss: Option<f64>,
}

/// Standard normal numbers for one gradient step, `[seeds, batch, actions]` each (`[seeds, features, actions]` with gSDE).
#[derive(Debug, Clone)]
pub struct Noise<B: Backend> {
    /// For the actions at the batch's observations.
    pub action: Tensor<B, 3>,
    /// For those at the next observations.
    pub next_action: Tensor<B, 3>,
    /// For those at the rows of a [`Pull`].
    pub pulled: Option<Tensor<B, 3>>,
}

/// The learner: for each seed an actor, twin critics with targets, and the temperature.
#[derive(Debug)]
pub struct Sac<B: Train> {
    config: SacConfig,
    observations: usize,
    actions: usize,
    actor: Stochastic<B>,
    /// `2·seeds` members, a seed's twins in a row.
    pub(super) critics: Network<B>,
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
    actor: StochasticRecord,
    critics: ParametersRecord,
    log_temperature: ParametersRecord,
    noise: Stream,
}

impl<B: Train> Sac<B> {
    /// A fresh learner for `observations` and `actions` wide rows; one seed for each of `seeds`.
    pub fn new(config: &SacConfig, observations: usize, actions: usize, seeds: &[Streams], device: &B::Device) -> Self {
        let critics = MlpSpec::new(2, observations + actions, &config.hidden, 1);
        let rngs: &mut [Stream] = &mut seeds.iter().map(|streams| streams.stream("sac/init")).collect::<Vec<_>>();
        let optimizer = OptimizerConfig::new(config.optimizer);
        let log_temperature = vec![config.initial_temperature.ln() as f32];
        Self {
            observations,
            actions,
            actor: Stochastic::new(config, observations, actions, rngs, device),
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
        let noise = self.draw_noise(&[batch.observation.dims()[1]], 0);
        noise.into_iter().fold(None, |_, noise| self.step(batch, noise, None, learning_rate, measure))
    }

    /// Noise for gradient steps on batches of `sizes` rows, each with a [`Pull`] of `pulled` rows (none where that is 0): each
    /// seed's from its own stream, sent to the device together.
    pub fn draw_noise(&mut self, sizes: &[usize], pulled: usize) -> Vec<Noise<Inner<B>>> {
        let (rows, lasting) = (|count| self.actor.noise_rows(count), self.actor.lasting_noise_rows());
        let of_step = |size: &usize| [rows(*size), rows(*size), rows(pulled), lasting];
        let parts: Vec<usize> = sizes.iter().flat_map(of_step).collect();
        let count = parts.iter().sum::<usize>() * self.actions;
        let drawn = parallel::each(&mut self.noise, |_, stream| {
            let mut noise = vec![0.0; count];
            stream.fill_normal(&mut noise);
            noise
        });
        self.actor.explore_with(drawn.iter().map(|noise| &noise[count - lasting * self.actions..]));
        let column = Column::<Inner<B>>::send(drawn, &parts, &self.device);
        let take = |index| column.take(&parts, index);
        let noise = |step| Noise {
            action: take(4 * step),
            next_action: take(4 * step + 1),
            pulled: (pulled > 0).then(|| take(4 * step + 2)),
        };
        (0..sizes.len()).map(noise).collect()
    }

    /// One gradient step on everything, in the order of Stable-Baselines3: temperature, critics, actor (with the pull towards
    /// expert rows where there is one), targets. Returns each seed's figures where `measure` asks for them.
    pub fn step(
        &mut self,
        batch: &Batch<Inner<B>>,
        noise: Noise<Inner<B>>,
        pull: Option<&Pull<Inner<B>>>,
        learning_rate: f64,
        measure: bool,
    ) -> Option<Vec<SacMetrics>> {
        self.policies.take();
        let temperature = self.log_temperature.get().exp().reshape([self.seeds(), 1, 1]);

        let (Sample { action, log_prob }, pass) = self.actor.sample(batch.observation.clone(), noise.action);
        if self.config.learn_temperature {
            let gradient = temperature_gradient(log_prob.clone().inner(), self.target_entropy());
            self.log_temperature.step(gradient, learning_rate, 0.0);
        }

        let target = self.target(batch, noise.next_action, temperature.clone());
        let critics = self.critics.apply(Tensor::cat(vec![batch.observation.clone(), batch.action.clone()], 2));
        let critic_losses = critic_loss(critics.output.clone(), Tensor::from_inner(target));
        let measured_critic = measure.then(|| critic_losses.clone().inner());
        let follows = u64::from(self.critics.parameters.steps()).is_multiple_of(self.config.target_every);
        let polyak_rate = if follows { self.config.polyak_rate } else { 0.0 };
        self.critics.descend(critic_losses, [critics], learning_rate, polyak_rate);

        let observation = Tensor::from_inner(batch.observation.clone());
        let q = self.critics.frozen(Tensor::cat(vec![observation, action], 2));
        let mut actor_losses = actor_loss(q.clone(), log_prob.clone(), Tensor::from_inner(temperature.clone()));
        let mut passes = vec![pass];
        let bc_losses = pull.zip(noise.pulled).map(|(pull, noise)| {
            let (drawn, pass) = self.actor.sample(pull.observation.clone(), noise);
            passes.push(pass);
            (cloning::loss(drawn.action, Tensor::from_inner(pull.action.clone())), pull.weight)
        });
        if let Some((bc_losses, weight)) = &bc_losses {
            actor_losses = actor_losses + bc_losses.clone() * *weight;
        }
        let measured = measured_critic.map(|critic_losses| {
            let entropy = mean_by_seed(log_prob.inner()).neg();
            let q_mean = mean_by_seed(minimum(q.inner()));
            let bc =
                bc_losses.as_ref().map_or_else(|| critic_losses.zeros_like(), |(losses, _)| losses.clone().inner());
            [critic_losses, actor_losses.clone().inner(), temperature.reshape([-1]), entropy, q_mean, bc]
        });
        let pulls = bc_losses.is_some();
        drop(bc_losses);
        self.actor.descend(actor_losses, passes, learning_rate);
        let of_seed = |[critic_loss, actor_loss, temperature, entropy, q_mean, bc]: [f64; 6]| SacMetrics {
            critic_loss,
            actor_loss,
            temperature,
            entropy,
            q_mean,
            bc_loss: pulls.then_some(bc),
        };
        measured.map(|figures| read(figures).into_iter().map(of_seed).collect())
    }

    fn target(
        &self,
        batch: &Batch<Inner<B>>,
        noise: Tensor<Inner<B>, 3>,
        temperature: Tensor<Inner<B>, 3>,
    ) -> Tensor<Inner<B>, 3> {
        let Sample { action, log_prob } = self.actor.infer(batch.next_observation.clone(), noise);
        let next_q = self.critics.infer_target(Tensor::cat(vec![batch.next_observation.clone(), action], 2));
        target_value(batch, next_q, log_prob, temperature, self.config.discount)
    }

    /// Each seed's policy as it stands, on the host. The first call after a gradient step waits for the device.
    pub fn policies(&self) -> &[Actor] {
        self.policies.get_or_init(|| self.actor.policies(self.actions))
    }

    /// Actions drawn by the first seed's policy for `rows` `[rows, observation]` on the host, all at once.
    pub fn draw(&self, rows: &[f32], stream: &mut Stream) -> Vec<f32> {
        let count = rows.len() / self.observations;
        let mut noise = vec![0.0; self.actor.noise_rows(count) * self.actions];
        stream.fill_normal(&mut noise);
        let send = |values: Vec<f32>, width| {
            let rows = values.len() / width;
            Tensor::from_data(TensorData::new(values, [1, rows, width]), &self.device)
        };
        values(self.actor.infer(send(rows.to_vec(), self.observations), send(noise, self.actions)).action)
    }

    /// The first seed's actor, where the device has it.
    pub fn actor_parameters(&self) -> (MlpSpec, Tensor<Inner<B>, 1>) {
        self.actor.network(&self.device)
    }

    /// Fresh optimisers of actor and critics, on the same parameters.
    pub fn restart_optimizers(&mut self) {
        self.actor.restart_optimizers();
        self.critics.parameters.restart();
    }

    /// Smaller critic's value of `action` at `observation`, `[seeds, batch, width]`, for checks.
    pub fn value(&self, observation: Tensor<Inner<B>, 3>, action: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        minimum(self.critics.infer(Tensor::cat(vec![observation, action], 2)))
    }

    /// Sizes and parameters of each seed's actor, for export.
    pub fn actors(&self) -> Vec<(MlpSpec, Vec<f32>)> {
        self.actor.networks()
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<SacRecord> {
        let networks = self.actor.record().into_iter().zip(self.critics.parameters.record());
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
        self.actor.restore(actors, &self.device)?;
        self.critics.parameters.restore(critics, &self.device)?;
        self.log_temperature.restore(log_temperatures, &self.device)
    }
}

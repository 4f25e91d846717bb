//! Soft actor-critic (Haarnoja et al. 2018) with the semantics of Stable-Baselines3 0.8.0: three losses and an update.

use super::Batch;
use super::gaussian::{self, Sample};
use crate::config::{Optimizer, SacConfig};
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::mlp::MlpSpec;
use crate::nn::optimizer::{Network, OptimizerConfig, Parameters, ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

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
/// - `q`: `[2, batch, 1]`
/// - `target`: `[1, batch, 1]`
pub fn critic_loss<B: Backend>(q: Tensor<B, 3>, target: Tensor<B, 3>) -> Tensor<B, 1> {
    let batch = target.dims()[1];
    let error = q - target;
    (error.clone() * error).sum() * (0.5 / batch as f64)
}

/// `mean (α log π(a|s) - min_i Q_i(s, a))` with `a ~ π(s)` reparametrised.
pub fn actor_loss<B: Backend>(q: Tensor<B, 3>, log_prob: Tensor<B, 3>, temperature: Tensor<B, 3>) -> Tensor<B, 1> {
    (temperature * log_prob - minimum(q)).mean()
}

/// Gradient of the temperature loss `-(log α · (log π + H̄)).mean()` with respect to `log α`.
pub fn temperature_gradient<B: Backend>(log_prob: Tensor<B, 3>, target_entropy: f64) -> Tensor<B, 1> {
    log_prob.mean().add_scalar(target_entropy).neg()
}

/// Smaller of the twin critics: `[2, batch, 1]` to `[1, batch, 1]`.
fn minimum<B: Backend>(q: Tensor<B, 3>) -> Tensor<B, 3> {
    q.clone().narrow(0, 0, 1).min_pair(q.narrow(0, 1, 1))
}

/// What a gradient step measured; read only when asked for, since it waits for the device.
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

/// The learner: an actor, twin critics with targets, and the temperature.
#[derive(Debug)]
pub struct Sac<B: Train> {
    config: SacConfig,
    actions: usize,
    actor: Network<B>,
    critics: Network<B>,
    log_temperature: Parameters<Inner<B>>,
    noise: Stream,
    device: B::Device,
}

/// Everything of [`Sac`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SacRecord {
    actor: ParametersRecord,
    critics: ParametersRecord,
    log_temperature: ParametersRecord,
    noise: Stream,
}

impl<B: Train> Sac<B> {
    /// A fresh learner for `observations` and `actions` wide rows.
    pub fn new(config: &SacConfig, observations: usize, actions: usize, streams: Streams, device: &B::Device) -> Self {
        let actor = MlpSpec::new(1, observations, &config.hidden, 2 * actions);
        let critics = MlpSpec::new(2, observations + actions, &config.hidden, 1);
        let rng = &mut streams.stream("sac/init");
        let optimizer = OptimizerConfig::new(config.optimizer);
        Self {
            actions,
            actor: Network::new(actor, Init::Uniform, false, optimizer, rng, device),
            critics: Network::new(critics, Init::Uniform, true, optimizer, rng, device),
            log_temperature: Parameters::new(
                vec![config.initial_temperature.ln() as f32],
                false,
                OptimizerConfig::new(Optimizer::Adam),
                device,
            ),
            noise: streams.stream("sac/noise"),
            device: device.clone(),
            config: config.clone(),
        }
    }

    /// The target entropy H̄: `-dim(A)` unless configured.
    fn target_entropy(&self) -> f64 {
        self.config.target_entropy.unwrap_or(-(self.actions as f64))
    }

    /// One gradient step on everything, in the order of Stable-Baselines3: temperature, critics, actor, targets.
    pub fn update(&mut self, batch: &Batch<Inner<B>>, learning_rate: f64, measure: bool) -> Option<SacMetrics> {
        let temperature = self.log_temperature.get().exp().reshape([1, 1, 1]);

        let actor = self.actor.variable();
        let head = crate::nn::mlp::forward(
            self.actor.spec(),
            Tensor::<B, 3>::from_inner(batch.observation.clone()),
            actor.clone(),
        );
        let rows = batch.observation.dims()[1];
        let noise = Tensor::from_inner(self.draw_noise(rows));
        let Sample { action, log_prob } = gaussian::sample(head, noise);
        if self.config.learn_temperature {
            let gradient = temperature_gradient(log_prob.clone().inner(), self.target_entropy());
            self.log_temperature.step(gradient, learning_rate, 0.0);
        }

        let target = self.target(batch, temperature.clone());
        let critics = self.critics.variable();
        let rows_in = Tensor::cat(vec![batch.observation.clone(), batch.action.clone()], 2);
        let q = crate::nn::mlp::forward(self.critics.spec(), Tensor::from_inner(rows_in), critics.clone());
        let critic_loss = critic_loss(q, Tensor::from_inner(target));
        let measured_critic = measure.then(|| scalar(critic_loss.clone().inner()));
        self.critics.descend(critic_loss, critics, learning_rate, self.config.polyak_rate);

        let observation = Tensor::from_inner(batch.observation.clone());
        let q = self.critics.frozen(Tensor::cat(vec![observation, action], 2));
        let actor_loss = actor_loss(q.clone(), log_prob.clone(), Tensor::from_inner(temperature.clone()));
        let metrics = measured_critic.map(|critic_loss| SacMetrics {
            critic_loss,
            actor_loss: scalar(actor_loss.clone().inner()),
            temperature: scalar(temperature.reshape([1])),
            entropy: -scalar(log_prob.inner().mean()),
            q_mean: scalar(minimum(q.inner()).mean()),
        });
        self.actor.descend(actor_loss, actor, learning_rate, 0.0);
        metrics
    }

    fn target(&mut self, batch: &Batch<Inner<B>>, temperature: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        let noise = self.draw_noise(batch.next_observation.dims()[1]);
        let head = self.actor.infer(batch.next_observation.clone());
        let Sample { action, log_prob } = gaussian::sample(head, noise);
        let next_q = self.critics.infer_target(Tensor::cat(vec![batch.next_observation.clone(), action], 2));
        target_value(batch, next_q, log_prob, temperature, self.config.discount)
    }

    fn draw_noise(&mut self, rows: usize) -> Tensor<Inner<B>, 3> {
        let mut noise = vec![0.0; rows * self.actions];
        self.noise.fill_normal(&mut noise);
        Tensor::from_data(TensorData::new(noise, [1, rows, self.actions]), &self.device)
    }

    /// The action for one raw observation: the mode, or with `noise` a draw from the policy.
    pub fn act(&self, observation: &[f32], noise: Option<&mut Stream>) -> Vec<f32> {
        let x = TensorData::new(observation.to_vec(), [1, 1, observation.len()]);
        let head = self.actor.infer(Tensor::from_data(x, &self.device));
        values(match noise {
            None => gaussian::mode(head),
            Some(stream) => {
                let mut draw = vec![0.0; self.actions];
                stream.fill_normal(&mut draw);
                let draw = Tensor::from_data(TensorData::new(draw, [1, 1, self.actions]), &self.device);
                gaussian::sample(head, draw).action
            }
        })
    }

    /// Smaller critic's value of `action` at `observation`, for checks.
    pub fn value(&self, observation: Tensor<Inner<B>, 3>, action: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        minimum(self.critics.infer(Tensor::cat(vec![observation, action], 2)))
    }

    /// Sizes and parameters of the actor, for export and for acting elsewhere.
    pub fn actor(&self) -> (MlpSpec, Vec<f32>) {
        (self.actor.spec().clone(), values(self.actor.parameters.get()))
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> SacRecord {
        SacRecord {
            actor: self.actor.parameters.record(),
            critics: self.critics.parameters.record(),
            log_temperature: self.log_temperature.record(),
            noise: self.noise.clone(),
        }
    }

    /// Takes over a checkpoint's content.
    pub fn restore(&mut self, record: SacRecord) -> Result<()> {
        self.actor.parameters.restore(record.actor, &self.device)?;
        self.critics.parameters.restore(record.critics, &self.device)?;
        self.log_temperature.restore(record.log_temperature, &self.device)?;
        self.noise = record.noise;
        Ok(())
    }
}

fn scalar<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    use burn::tensor::ElementConversion;
    tensor.into_scalar().elem()
}

//! TD3+BC (Fujimoto & Gu 2021) as the published hybrid methods run it on antmaze: deterministic actor, twin critics with smoothed
//! targets, delayed actor, and a cloning term where the batch holds expert rows.

use super::actor::Actor;
use super::block::Column;
use super::{Batch, Pull, cloning, mean_by_seed, read};
use crate::config::Td3BcConfig;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::mlp::MlpSpec;
use crate::nn::optimizer::{Network, OptimizerConfig, ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::run::parallel;
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// `clip(a + clip(scale·noise, ±limit), ±1)`: the next action of the target, smoothed.
///
/// # Shapes
/// All `[seeds, batch, actions]`; `noise` is standard normal.
pub fn smoothed_action<B: Backend>(action: Tensor<B, 3>, noise: Tensor<B, 3>, scale: f64, limit: f64) -> Tensor<B, 3> {
    (action + (noise * scale).clamp(-limit, limit)).clamp(-1.0, 1.0)
}

/// `y = r + γ·continues·min_i Q̂_i(s', a')`.
///
/// # Shapes
/// - `next_q`: `[2·seeds, batch, 1]`, the twins of a seed side by side
/// - output: `[seeds, batch, 1]`
pub fn target_value<B: Backend>(batch: &Batch<B>, next_q: Tensor<B, 3>, discount: f64) -> Tensor<B, 3> {
    let next_value = twin(next_q.clone(), 0).min_pair(twin(next_q, 1));
    batch.reward.clone() + batch.continues.clone() * next_value * discount
}

/// `Σ_i mean (Q_i(s, a) - y)²`.
///
/// # Shapes
/// - `q`: `[2·seeds, batch, 1]`
/// - `target`: `[seeds, batch, 1]`
/// - loss: `[seeds]`
pub fn critic_loss<B: Backend>(q: Tensor<B, 3>, target: Tensor<B, 3>) -> Tensor<B, 1> {
    let [seeds, batch, _] = target.dims();
    let error = q.reshape([seeds, 2, batch]) - target.reshape([seeds, 1, batch]);
    let squares = (error.clone() * error).reshape([seeds, 2 * batch]);
    squares.sum_dim(1).reshape([seeds]) / batch as f64
}

/// `λ = α / mean |Q₁(s, π(s))|`, a constant of the actor's loss: the scale of the rewards cancels.
///
/// # Shapes
/// `[seeds, batch, 1]` to `[seeds]`
pub fn value_scale<B: Backend>(q: Tensor<B, 3>, alpha: f64) -> Tensor<B, 1> {
    mean_by_seed(q.detach().abs()).recip() * alpha
}

/// `-λ mean Q₁(s, π(s))`. `[seeds, batch, 1]` to `[seeds]`.
pub fn actor_loss<B: Backend>(q: Tensor<B, 3>, alpha: f64) -> Tensor<B, 1> {
    (value_scale(q.clone(), alpha) * mean_by_seed(q)).neg()
}

/// One twin's values: `[2·seeds, batch, 1]`, twins in a row, to `[seeds, batch, 1]`.
fn twin<B: Backend>(q: Tensor<B, 3>, index: usize) -> Tensor<B, 3> {
    let [critics, batch, _] = q.dims();
    q.reshape([critics / 2, 2, batch]).narrow(1, index, 1).reshape([critics / 2, batch, 1])
}

/// What the actor's loss is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// `-λ Q₁`: TD3, for batches of the learner's own rows.
    Value,
    /// `-λ Q₁ + (π(s) - a)²` over all rows: hybrid batches.
    ValueAndCloning,
    /// `(π(s) - a)²` at every step: expert batches of the first `bc_steps`. The critics learn beside it.
    Cloning,
}

/// What a gradient step measured of one seed; the actor's figures where it moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Td3BcMetrics {
    /// [`critic_loss`].
    pub critic_loss: f64,
    /// All terms of the actor's loss.
    pub actor_loss: f64,
    /// Mean of the first critic at the policy's actions.
    pub q_mean: f64,
    /// λ.
    pub value_scale: f64,
    /// `mean (π(s) - a)²` over the batch.
    pub bc_loss: f64,
}

/// The learner: for each seed a deterministic actor and twin critics, all with targets.
#[derive(Debug)]
pub struct Td3Bc<B: Train> {
    config: Td3BcConfig,
    actions: usize,
    /// `seeds` members.
    actor: Network<B>,
    /// `2·seeds` members, a seed's twins in a row.
    critics: Network<B>,
    noise: Vec<Stream>,
    updates: u64,
    /// The policies as they act, made when first needed after they moved.
    policies: OnceLock<Vec<Actor>>,
    device: B::Device,
}

/// Everything of one seed's [`Td3Bc`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Td3BcRecord {
    actor: ParametersRecord,
    critics: ParametersRecord,
    noise: Stream,
    updates: u64,
}

impl<B: Train> Td3Bc<B> {
    /// A fresh learner for `observations` and `actions` wide rows; one seed for each of `seeds`.
    pub fn new(
        config: &Td3BcConfig,
        observations: usize,
        actions: usize,
        seeds: &[Streams],
        device: &B::Device,
    ) -> Self {
        let actor = MlpSpec::new(1, observations, &config.hidden, actions);
        let critics = MlpSpec::new(2, observations + actions, &config.hidden, 1);
        let rngs: &mut [Stream] = &mut seeds.iter().map(|streams| streams.stream("td3_bc/init")).collect::<Vec<_>>();
        let optimizer = OptimizerConfig::new(config.optimizer);
        Self {
            actions,
            actor: Network::new(actor, Init::Uniform, true, optimizer, rngs, device),
            critics: Network::new(critics, Init::Uniform, true, optimizer, rngs, device),
            noise: seeds.iter().map(|streams| streams.stream("td3_bc/noise")).collect(),
            updates: 0,
            policies: OnceLock::new(),
            device: device.clone(),
            config: config.clone(),
        }
    }

    /// Standard normal numbers for the targets of gradient steps on batches of `sizes` rows, `[seeds, batch, actions]` each:
    /// each seed's from its own stream, sent to the device together.
    pub fn draw_noise(&mut self, sizes: &[usize]) -> Vec<Tensor<Inner<B>, 3>> {
        let count = sizes.iter().sum::<usize>() * self.actions;
        let drawn = parallel::each(&mut self.noise, |_, stream| {
            let mut noise = vec![0.0; count];
            stream.fill_normal(&mut noise);
            noise
        });
        let column = Column::<Inner<B>>::send(drawn, sizes, &self.device);
        (0..sizes.len()).map(|step| column.take(sizes, step)).collect()
    }

    /// One gradient step on the critics; on the actor and all targets every `policy_delay`-th time, or always while
    /// cloning. Steps of cloning do not count towards the delay. Returns each seed's figures where `measure` asks for them.
    pub fn step(
        &mut self,
        batch: &Batch<Inner<B>>,
        noise: Tensor<Inner<B>, 3>,
        objective: Objective,
        pull: Option<&Pull<Inner<B>>>,
        learning_rate: f64,
        measure: bool,
    ) -> Option<Vec<Td3BcMetrics>> {
        if objective != Objective::Cloning {
            self.updates += 1;
        }
        let moves_actor = objective == Objective::Cloning || self.updates.is_multiple_of(self.config.policy_delay);
        let polyak_rate = if moves_actor { self.config.polyak_rate } else { 0.0 };

        let target = self.target(batch, noise);
        let critics = self.critics.apply(Tensor::cat(vec![batch.observation.clone(), batch.action.clone()], 2));
        let critic_losses = critic_loss(critics.output.clone(), Tensor::from_inner(target));
        let measured_critic = measure.then(|| critic_losses.clone().inner());
        self.critics.descend(critic_losses, [critics], learning_rate, polyak_rate);

        let measured_actor =
            if moves_actor { self.improve_actor(batch, objective, pull, learning_rate, measure) } else { None };
        measured_critic.map(|critic_losses| {
            let nothing = || critic_losses.zeros_like();
            let [actor_losses, q, scale, bc] =
                measured_actor.unwrap_or_else(|| [nothing(), nothing(), nothing(), nothing()]);
            let of_seed = |[critic_loss, actor_loss, q_mean, value_scale, bc_loss]: [f64; 5]| Td3BcMetrics {
                critic_loss,
                actor_loss,
                q_mean,
                value_scale,
                bc_loss,
            };
            read([critic_losses, actor_losses, q, scale, bc]).into_iter().map(of_seed).collect()
        })
    }

    /// Returns the losses, mean values, λ and distances to the batch's actions where `measure` asks for them.
    fn improve_actor(
        &mut self,
        batch: &Batch<Inner<B>>,
        objective: Objective,
        pull: Option<&Pull<Inner<B>>>,
        learning_rate: f64,
        measure: bool,
    ) -> Option<[Tensor<Inner<B>, 1>; 4]> {
        self.policies.take();
        let actor = self.actor.apply(batch.observation.clone());
        let action = actor.output.clone().tanh();
        let mut applied = vec![actor];
        let bc_losses = cloning::loss(action.clone(), Tensor::from_inner(batch.action.clone()));
        let pairs = Tensor::cat(vec![Tensor::from_inner(batch.observation.clone()), action], 2);
        let q = twin(self.critics.frozen(pairs), 0);
        let values = actor_loss(q.clone(), self.config.alpha);
        let mut losses = match objective {
            Objective::Value => values,
            Objective::ValueAndCloning => values + bc_losses.clone(),
            Objective::Cloning => bc_losses.clone(),
        };
        if let Some(pull) = pull {
            let actor = self.actor.apply(pull.observation.clone());
            let pulled = cloning::loss(actor.output.clone().tanh(), Tensor::from_inner(pull.action.clone()));
            applied.push(actor);
            losses = losses + pulled * pull.weight;
        }
        let measured = measure.then(|| {
            let scale = value_scale(q.clone().inner(), self.config.alpha);
            [losses.clone().inner(), mean_by_seed(q.inner()), scale, bc_losses.inner()]
        });
        self.actor.descend(losses, applied, learning_rate, self.config.polyak_rate);
        measured
    }

    fn target(&self, batch: &Batch<Inner<B>>, noise: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        let action = self.actor.infer_target(batch.next_observation.clone()).tanh();
        let action = smoothed_action(action, noise, self.config.target_noise, self.config.target_noise_clip);
        let next_q = self.critics.infer_target(Tensor::cat(vec![batch.next_observation.clone(), action], 2));
        target_value(batch, next_q, self.config.discount)
    }

    /// Each seed's policy as it stands, on the host. The first call after a gradient step waits for the device.
    pub fn policies(&self) -> &[Actor] {
        self.policies.get_or_init(|| Actor::of_seeds(&self.actor, self.actions))
    }

    /// First critic's value of `action` at `observation`, `[seeds, batch, width]`, for checks.
    pub fn value(&self, observation: Tensor<Inner<B>, 3>, action: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        twin(self.critics.infer(Tensor::cat(vec![observation, action], 2)), 0)
    }

    /// Actions of the first seed's policy for `rows` `[rows, observation]` on the host, all at once.
    pub fn act_on(&self, rows: &[f32]) -> Vec<f32> {
        let width = self.actor.spec().inputs();
        let rows = TensorData::new(rows.to_vec(), [1, rows.len() / width, width]);
        values(self.actor.infer(Tensor::from_data(rows, &self.device)).tanh())
    }

    /// Sizes and parameters of the first seed's actor, where the device has them.
    pub fn actor_parameters(&self) -> (MlpSpec, Tensor<Inner<B>, 1>) {
        (self.actor.seed_spec().clone(), self.actor.parameters.get())
    }

    /// Sizes and parameters of each seed's actor, for export.
    pub fn actors(&self) -> Vec<(MlpSpec, Vec<f32>)> {
        let spec = self.actor.seed_spec();
        self.actor.parameters.by_seed().into_iter().map(|params| (spec.clone(), params)).collect()
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<Td3BcRecord> {
        let networks = self.actor.parameters.record().into_iter().zip(self.critics.parameters.record());
        let record = |((actor, critics), noise): (_, &Stream)| Td3BcRecord {
            actor,
            critics,
            noise: noise.clone(),
            updates: self.updates,
        };
        networks.zip(&self.noise).map(record).collect()
    }

    /// Takes over the seeds' checkpoints, in their order.
    pub fn restore(&mut self, records: Vec<Td3BcRecord>) -> Result<()> {
        let (mut actors, mut critics) = (Vec::new(), Vec::new());
        self.noise.clear();
        for record in records {
            actors.push(record.actor);
            critics.push(record.critics);
            self.noise.push(record.noise);
            self.updates = record.updates;
        }
        self.policies.take();
        self.actor.parameters.restore(actors, &self.device)?;
        self.critics.parameters.restore(critics, &self.device)
    }
}

#[cfg(test)]
#[path = "td3_bc_tests.rs"]
mod tests;

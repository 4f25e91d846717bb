//! Cloning: the policy's actions drawn to the expert's, by themselves (BC) or beside another loss (BC-Reg, TD3+BC).

use super::actor::Actor;
use super::block::Column;
use super::{gaussian, mean_by_seed, read};
use crate::config::Optimizer;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::mlp::MlpSpec;
use crate::nn::optimizer::{Network, OptimizerConfig, ParametersRecord};
use crate::nn::{Inner, Train};
use crate::run::parallel;
use crate::run::rng::{Stream, Streams};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// `mean (a - a_E)²` over rows and channels.
///
/// # Shapes
/// Both `[seeds, batch, actions]` to `[seeds]`
pub fn loss<B: Backend>(action: Tensor<B, 3>, demonstrated: Tensor<B, 3>) -> Tensor<B, 1> {
    let error = action - demonstrated;
    mean_by_seed(error.clone() * error)
}

/// What a gradient step measured of one seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CloningMetrics {
    /// [`loss`], of sampled actions where the policy is a Gaussian one.
    pub bc_loss: f64,
}

/// The policy to be cloned into.
#[derive(Debug, Clone, Copy)]
pub struct ActorShape<'a> {
    /// Hidden widths.
    pub hidden: &'a [usize],
    /// A squashed Gaussian whose samples are compared (the actor of SAC), or a deterministic one (that of TD3).
    pub gaussian: bool,
    /// Update rule.
    pub optimizer: Optimizer,
}

/// For each seed a squashed Gaussian policy, or a deterministic one, that is cloned from an expert.
#[derive(Debug)]
pub struct Cloning<B: Train> {
    actions: usize,
    actor: Network<B>,
    noise: Vec<Stream>,
    /// The policies as they act, made when first needed after a gradient step.
    policies: OnceLock<Vec<Actor>>,
    device: B::Device,
}

/// Everything of one seed's [`Cloning`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloningRecord {
    actor: ParametersRecord,
    noise: Stream,
}

impl<B: Train> Cloning<B> {
    /// Fresh policies of the seeds that `seeds` belong to.
    pub fn new(
        shape: &ActorShape<'_>,
        observations: usize,
        actions: usize,
        seeds: &[Streams],
        device: &B::Device,
    ) -> Self {
        let outputs = if shape.gaussian { 2 * actions } else { actions };
        let spec = MlpSpec::new(1, observations, shape.hidden, outputs);
        let rngs: &mut [Stream] = &mut seeds.iter().map(|streams| streams.stream("bc/init")).collect::<Vec<_>>();
        Self {
            actions,
            actor: Network::new(spec, Init::Uniform, false, OptimizerConfig::new(shape.optimizer), rngs, device),
            noise: seeds.iter().map(|streams| streams.stream("bc/noise")).collect(),
            policies: OnceLock::new(),
            device: device.clone(),
        }
    }

    /// One gradient step down [`loss`] on expert rows `[seeds, batch, width]`.
    pub fn step(
        &mut self,
        observation: Tensor<Inner<B>, 3>,
        demonstrated: Tensor<Inner<B>, 3>,
        learning_rate: f64,
        measure: bool,
    ) -> Option<Vec<CloningMetrics>> {
        self.policies.take();
        let rows = observation.dims()[1];
        let actor = self.actor.apply(observation);
        let head = actor.output.clone();
        let action = if self.actor.spec().outputs() == self.actions {
            head.tanh()
        } else {
            gaussian::sample(head, Tensor::from_inner(self.draw_noise(rows))).action
        };
        let losses = loss(action, Tensor::from_inner(demonstrated));
        let measured = measure.then(|| losses.clone().inner());
        self.actor.descend(losses, [actor], learning_rate, 0.0);
        measured.map(|losses| read([losses]).into_iter().map(|[bc_loss]| CloningMetrics { bc_loss }).collect())
    }

    fn draw_noise(&mut self, rows: usize) -> Tensor<Inner<B>, 3> {
        let count = rows * self.actions;
        let drawn = parallel::each(&mut self.noise, |_, stream| {
            let mut noise = vec![0.0; count];
            stream.fill_normal(&mut noise);
            noise
        });
        Column::<Inner<B>>::send(drawn, &[rows], &self.device).take(&[rows], 0)
    }

    /// Each seed's policy as it stands, on the host. The first call after a gradient step waits for the device.
    pub fn policies(&self) -> &[Actor] {
        self.policies.get_or_init(|| Actor::of_seeds(&self.actor, self.actions))
    }

    /// Sizes and parameters of each seed's actor, for export.
    pub fn actors(&self) -> Vec<(MlpSpec, Vec<f32>)> {
        let spec = self.actor.seed_spec();
        self.actor.parameters.by_seed().into_iter().map(|params| (spec.clone(), params)).collect()
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<CloningRecord> {
        let actors = self.actor.parameters.record().into_iter();
        actors.zip(&self.noise).map(|(actor, noise)| CloningRecord { actor, noise: noise.clone() }).collect()
    }

    /// Takes over the seeds' checkpoints, in their order.
    pub fn restore(&mut self, records: Vec<CloningRecord>) -> Result<()> {
        let (actors, noise) = records.into_iter().map(|record| (record.actor, record.noise)).unzip();
        self.noise = noise;
        self.policies.take();
        self.actor.parameters.restore(actors, &self.device)
    }
}

#[cfg(test)]
#[path = "cloning_tests.rs"]
mod tests;

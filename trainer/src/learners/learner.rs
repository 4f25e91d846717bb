//! The learner that a configuration names.

use super::actor::Actor;
use super::sac::{self, Sac, SacMetrics, SacRecord};
use super::td3_bc::{Objective, Td3Bc, Td3BcMetrics, Td3BcRecord};
use super::{Batch, Pull};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::nn::mlp::MlpSpec;
use crate::nn::{Inner, Train};
use crate::run::rng::{Stream, Streams};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// A policy learner of stacked seeds.
#[derive(Debug)]
pub enum Learner<B: Train> {
    /// Soft actor-critic.
    Sac(Sac<B>),
    /// TD3+BC.
    Td3Bc(Td3Bc<B>),
}

/// Random numbers of one gradient step, as the learner that drew them wants them.
#[derive(Debug, Clone)]
pub enum Noise<B: Backend> {
    /// Soft actor-critic's.
    Sac(sac::Noise<B>),
    /// TD3+BC's: that of the target's action.
    Td3Bc(Tensor<B, 3>),
}

/// What a gradient step measured of one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LearnerMetrics {
    /// Soft actor-critic's figures.
    Sac(SacMetrics),
    /// TD3+BC's figures.
    Td3Bc(Td3BcMetrics),
}

impl LearnerMetrics {
    /// Soft actor-critic's figures, where these are.
    pub fn sac(self) -> Option<SacMetrics> {
        match self {
            Self::Sac(metrics) => Some(metrics),
            Self::Td3Bc(_) => None,
        }
    }

    /// TD3+BC's figures, where these are.
    pub fn td3_bc(self) -> Option<Td3BcMetrics> {
        match self {
            Self::Sac(_) => None,
            Self::Td3Bc(metrics) => Some(metrics),
        }
    }
}

/// Everything of one seed's learner, for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LearnerRecord {
    /// Soft actor-critic's.
    Sac(SacRecord),
    /// TD3+BC's.
    Td3Bc(Td3BcRecord),
}

impl<B: Train> Learner<B> {
    /// A fresh learner, as `config.learner` says, for `observations` and `actions` wide rows; one seed for each of `seeds`.
    pub fn new(config: &RunConfig, observations: usize, actions: usize, seeds: &[Streams], device: &B::Device) -> Self {
        match config.td3_bc() {
            Some(td3_bc) => Self::Td3Bc(Td3Bc::new(td3_bc, observations, actions, seeds, device)),
            None => Self::Sac(Sac::new(&config.sac, observations, actions, seeds, device)),
        }
    }

    /// Noise for gradient steps on batches of `sizes` rows, each with a [`Pull`] of `pulled` rows.
    pub fn draw_noise(&mut self, sizes: &[usize], pulled: usize) -> Vec<Noise<Inner<B>>> {
        match self {
            Self::Sac(sac) => sac.draw_noise(sizes, pulled).into_iter().map(Noise::Sac).collect(),
            Self::Td3Bc(td3_bc) => td3_bc.draw_noise(sizes).into_iter().map(Noise::Td3Bc).collect(),
        }
    }

    /// One gradient step. Soft actor-critic has one objective, TD3+BC follows `objective`. Returns each seed's figures where
    /// `measure` asks for them.
    pub fn step(
        &mut self,
        batch: &Batch<Inner<B>>,
        noise: Noise<Inner<B>>,
        objective: Objective,
        pull: Option<&Pull<Inner<B>>>,
        learning_rate: f64,
        measure: bool,
    ) -> Option<Vec<LearnerMetrics>> {
        match (self, noise) {
            (Self::Sac(sac), Noise::Sac(noise)) => {
                let measured = sac.step(batch, noise, pull, learning_rate, measure);
                measured.map(|figures| figures.into_iter().map(LearnerMetrics::Sac).collect())
            }
            (Self::Td3Bc(td3_bc), Noise::Td3Bc(noise)) => {
                let measured = td3_bc.step(batch, noise, objective, pull, learning_rate, measure);
                measured.map(|figures| figures.into_iter().map(LearnerMetrics::Td3Bc).collect())
            }
            _ => unreachable!("a learner takes the noise that it drew"),
        }
    }

    /// Actions of the first seed's policy for `rows` `[rows, observation]`, all at once: drawn ones, where it draws.
    pub fn draw(&self, rows: &[f32], stream: &mut Stream) -> Vec<f32> {
        match self {
            Self::Sac(sac) => sac.draw(rows, stream),
            Self::Td3Bc(td3_bc) => td3_bc.act_on(rows),
        }
    }

    /// Sizes and parameters of the first seed's actor, where the device has them.
    pub fn actor_parameters(&self) -> (MlpSpec, Tensor<Inner<B>, 1>) {
        match self {
            Self::Sac(sac) => sac.actor_parameters(),
            Self::Td3Bc(td3_bc) => td3_bc.actor_parameters(),
        }
    }

    /// Fresh optimisers, where the learner is SAC: the published code does so for no other.
    pub fn restart_optimizers(&mut self) {
        if let Self::Sac(sac) = self {
            sac.restart_optimizers();
        }
    }

    /// Each seed's policy as it stands, on the host. The first call after a gradient step waits for the device.
    pub fn policies(&self) -> &[Actor] {
        match self {
            Self::Sac(sac) => sac.policies(),
            Self::Td3Bc(td3_bc) => td3_bc.policies(),
        }
    }

    /// Sizes and parameters of each seed's actor, for export.
    pub fn actors(&self) -> Vec<(MlpSpec, Vec<f32>)> {
        match self {
            Self::Sac(sac) => sac.actors(),
            Self::Td3Bc(td3_bc) => td3_bc.actors(),
        }
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<LearnerRecord> {
        match self {
            Self::Sac(sac) => sac.record().into_iter().map(LearnerRecord::Sac).collect(),
            Self::Td3Bc(td3_bc) => td3_bc.record().into_iter().map(LearnerRecord::Td3Bc).collect(),
        }
    }

    /// Takes over the seeds' checkpoints, in their order.
    pub fn restore(&mut self, records: Vec<LearnerRecord>) -> Result<()> {
        let other = || {
            Error::data("the checkpoint is another learner's")
                .hint("resume with the configuration that the run was started with")
        };
        match self {
            Self::Sac(sac) => {
                let of_sac = |record| match record {
                    LearnerRecord::Sac(record) => Ok(record),
                    LearnerRecord::Td3Bc(_) => Err(other()),
                };
                sac.restore(records.into_iter().map(of_sac).collect::<Result<_>>()?)
            }
            Self::Td3Bc(td3_bc) => {
                let of_td3_bc = |record| match record {
                    LearnerRecord::Td3Bc(record) => Ok(record),
                    LearnerRecord::Sac(_) => Err(other()),
                };
                td3_bc.restore(records.into_iter().map(of_td3_bc).collect::<Result<_>>()?)
            }
        }
    }
}

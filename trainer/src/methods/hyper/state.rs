//! What [`Hyper`] works on: its tables, buffers, random streams and progress, and what a checkpoint has of them.

use super::Hyper;
use crate::config::{HyperConfig, ImaginationConfig, RewardConfig, WorldModelConfig};
use crate::envs::{StepCounts, WorldCheckpoint};
use crate::error::Result;
use crate::learners::ema::{Ema, EmaRecord};
use crate::learners::learner::LearnerRecord;
use crate::methods::DiscriminatorNetwork;
use crate::methods::demonstrated::Demonstrated;
use crate::nn::Train;
use crate::replay::ReplayBuffer;
use crate::replay::model_data::ModelData;
use crate::reward::discriminator::DiscriminatorRecord;
use crate::run::rng::Stream;
use crate::world_model::model::{FitMetrics, WorldModelRecord};
use crate::world_model::rollout::Imagination;
use serde::{Deserialize, Serialize};

/// The tables of the configuration that HyPER reads beside the learner's.
#[derive(Debug, Clone)]
pub struct Tables {
    /// The model.
    pub world_model: WorldModelConfig,
    /// Rollouts in it.
    pub imagination: ImaginationConfig,
    /// The rest.
    pub hyper: HyperConfig,
    /// The discriminator.
    pub reward: RewardConfig,
}

/// Dynamics that another run learned.
#[derive(Debug)]
pub struct GivenModel {
    /// The ensemble.
    pub record: WorldModelRecord,
    /// Whether the reward that it says, if it does, is that of this run's task.
    pub same_task: bool,
}

/// What another run learned.
#[derive(Debug, Default)]
pub struct Given {
    /// Dynamics to begin with.
    pub model: Option<GivenModel>,
    /// The reward, for good: with it there is no game.
    pub reward: Option<DiscriminatorNetwork>,
}

/// The four buffers, by what they are for (in the published code `expert_buffer`, `policy_buffer`, `hybrid_buffer` and
/// `learner_buffer`).
pub(super) struct Buffers {
    /// Demonstrations: states to start from, rows for the model, pairs for the discriminator.
    pub(super) to_start_from_expert: Demonstrated,
    /// The learner's real steps: states to start from.
    pub(super) to_start_from_policy: ReplayBuffer,
    /// Demonstrations and real steps, as the model is fitted to them.
    pub(super) to_fit_model: ModelData,
    /// Imagined steps.
    pub(super) to_train_policy: ReplayBuffer,
}

/// Random streams of the loop itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Draws {
    /// Actions in the environment.
    pub(super) act: Stream,
    /// Expert steps that accompany real ones.
    pub(super) accompany: Stream,
    /// Start states.
    pub(super) start: Stream,
    /// Actions in imagination.
    pub(super) imagine: Stream,
    /// Rows of the policy's batches.
    pub(super) rows: Stream,
}

/// What the last real step is still to be followed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Owed {
    #[default]
    Nothing,
    /// A fit, begun or not, and the imagination after it.
    Fit,
    /// Imagination.
    Imagination,
}

/// How far the run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) env_steps: u64,
    pub(super) grad_steps: u64,
    /// Those since the discriminator last moved.
    pub(super) iteration_steps: u64,
    pub(super) iteration: u64,
    pub(super) needs_reset: bool,
    pub(super) owed: Owed,
    /// Real steps of the policy since the discriminator last moved.
    pub(super) fresh_steps: u64,
    pub(super) rollout_counts: StepCounts,
    pub(super) imagination: Imagination,
    pub(super) fit: Option<FitMetrics>,
}

/// Everything of [`Hyper`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct HyperRecord<R, D> {
    pub(super) policy: LearnerRecord,
    pub(super) ema: Option<EmaRecord>,
    pub(super) discriminator: Option<DiscriminatorRecord>,
    pub(super) model: WorldModelRecord,
    pub(super) to_start_from_policy: R,
    pub(super) to_fit_model: D,
    pub(super) to_train_policy: R,
    pub(super) world: WorldCheckpoint,
    pub(super) draws: Draws,
    pub(super) stale: Option<Vec<f32>>,
    pub(super) progress: Progress,
}

impl<R, D> HyperRecord<R, D> {
    /// The dynamics that the run learned.
    pub fn into_model(self) -> WorldModelRecord {
        self.model
    }
}

impl<B: Train> Hyper<B> {
    /// For a checkpoint.
    pub(super) fn as_it_stands(&self) -> HyperRecord<&ReplayBuffer, &ModelData> {
        HyperRecord {
            policy: self.policy.record().swap_remove(0),
            ema: self.ema.as_ref().map(Ema::record),
            discriminator: self.discriminator.as_ref().map(|discriminator| discriminator.record().swap_remove(0)),
            model: self.model.record(),
            to_start_from_policy: &self.buffers.to_start_from_policy,
            to_fit_model: &self.buffers.to_fit_model,
            to_train_policy: &self.buffers.to_train_policy,
            world: self.world.checkpoint(),
            draws: self.draws.clone(),
            stale: self.stale.clone(),
            progress: self.progress,
        }
    }

    /// Takes up what a checkpoint has.
    pub(super) fn go_on_from(&mut self, record: HyperRecord<ReplayBuffer, ModelData>) -> Result<()> {
        self.policy.restore(vec![record.policy])?;
        if let (Some(ema), Some(record)) = (&mut self.ema, record.ema) {
            ema.restore(record);
        }
        if let (Some(discriminator), Some(record)) = (&mut self.discriminator, record.discriminator) {
            discriminator.restore(vec![record])?;
        }
        self.model.restore(record.model)?;
        self.buffers.to_start_from_policy = record.to_start_from_policy;
        self.buffers.to_fit_model = record.to_fit_model;
        self.buffers.to_train_policy = record.to_train_policy;
        self.world.restore(&record.world)?;
        self.draws = record.draws;
        self.stale = record.stale;
        self.progress = record.progress;
        Ok(())
    }
}

//! Methods: each a page that assembles named parts. A driver owns evaluation, checkpoints, budget and stop signals.

pub mod demonstrated;
pub mod expert;
pub mod hype;
pub mod off_policy;

use crate::config::Reduction;
use crate::envs::StepCounts;
use crate::error::Result;
use crate::learners::sac::SacMetrics;
use crate::nn::mlp::MlpSpec;
use crate::reward::discriminator::DiscriminatorMetrics;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A method as the driver sees it: learning in bounded pieces, saved and restored between them.
pub trait Method {
    /// What a checkpoint keeps, read back.
    type Record: DeserializeOwned;

    /// Learns on: some environment steps and what follows from them.
    fn advance(&mut self) -> Result<Report>;
    /// Real environment steps so far, by purpose.
    fn counts(&self) -> StepCounts;
    /// The mean action for one raw observation.
    fn act(&self, observation: &[f32]) -> Vec<f32>;
    /// The networks, for export and evaluation elsewhere.
    fn networks(&self) -> Networks;
    /// Everything that the rest of the run depends on.
    fn record(&self) -> impl Serialize + '_;
    /// Takes over what [`Method::record`] gave.
    fn restore(&mut self, record: Self::Record) -> Result<()>;
}

/// What one call of [`Method::advance`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Environment steps of learning so far.
    pub env_steps: u64,
    /// Gradient steps of the policy so far.
    pub grad_steps: u64,
    /// The policy learner's figures, once it learns.
    pub sac: Option<SacMetrics>,
    /// The discriminator's figures, where it took a step.
    pub discriminator: Option<DiscriminatorMetrics>,
    /// Share of expert rows in the last batch.
    pub expert_ratio: Option<f64>,
}

/// Parameters on the host, with what is needed to read them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Networks {
    /// The policy: `[observation]` to `[2·action]`, means first.
    pub actor: (MlpSpec, Vec<f32>),
    /// The cost, where one is learned.
    pub discriminator: Option<DiscriminatorNetwork>,
}

/// A discriminator's parameters and how its members become one cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiscriminatorNetwork {
    /// Sizes.
    pub spec: MlpSpec,
    /// Flat parameters.
    pub params: Vec<f32>,
    /// Costs are clamped to ±this.
    pub clip: Option<f64>,
    /// How members become one.
    pub reduction: Reduction,
}

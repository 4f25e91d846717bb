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

/// A method as the driver sees it: a stack of seeds that learn in lockstep, in bounded pieces, saved and restored between
/// them. Seeds are numbered by their place in the stack, and never influence each other.
pub trait Method {
    /// What one seed's checkpoint keeps, read back.
    type Record: DeserializeOwned;

    /// Whether several seeds can be one stack. Where they cannot, the driver makes stacks of one.
    const STACKS: bool = true;

    /// Learns on: some environment steps, equally many for every seed, and what follows from them. One report per seed.
    fn advance(&mut self) -> Result<Vec<Report>>;
    /// Real environment steps of one seed so far, by purpose.
    fn counts(&self, seed: usize) -> StepCounts;
    /// One seed's policy as it stands: from a raw observation to the mean action in [-1, 1].
    fn policy(&self, seed: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_;
    /// Each seed's networks, for export and evaluation elsewhere.
    fn networks(&self) -> Vec<Networks>;
    /// Everything that the rest of each seed's run depends on.
    fn record(&self) -> Vec<impl Serialize + '_>;
    /// Takes over what [`Method::record`] gave, in the same order of seeds.
    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()>;
}

/// What one call of [`Method::advance`] did for one seed.
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

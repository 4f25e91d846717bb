//! Methods: each a page that assembles named parts. A driver owns evaluation, checkpoints, budget and stop signals.

pub mod adril;
#[cfg(test)]
mod baseline_tests;
pub mod bc;
pub mod demonstrated;
pub mod expert;
pub mod gail;
pub mod hype;
pub mod hyper;
pub mod iq_learn;
pub mod off_policy;
pub mod on_policy;
mod rollouts;
pub mod sqil;

use crate::config::Reduction;
use crate::envs::StepCounts;
use crate::error::{Error, Result};
use crate::learners::cloning::CloningMetrics;
use crate::learners::iq::IqMetrics;
use crate::learners::ppo::PpoMetrics;
use crate::learners::sac::SacMetrics;
use crate::learners::td3_bc::Td3BcMetrics;
use crate::nn::mlp::MlpSpec;
use crate::reward::discriminator::DiscriminatorMetrics;
use crate::world_model::model::{FitMetrics, FitProgress};
use crate::world_model::rollout::Imagination;
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
    /// How much of the budget `env_steps` one seed has spent: environment steps, unless the method takes none.
    fn spent(&self, seed: usize) -> u64 {
        self.counts(seed).env_steps()
    }
    /// One seed's policy as it stands: from a raw observation to the mean action in [-1, 1].
    fn policy(&self, seed: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_;
    /// Each seed's networks, for export and evaluation elsewhere.
    fn networks(&self) -> Vec<Networks>;
    /// Everything that the rest of each seed's run depends on.
    fn record(&self) -> Vec<impl Serialize + '_>;
    /// Takes over what [`Method::record`] gave, in the same order of seeds.
    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()>;
}

/// The only record of a method whose seeds do not stack.
fn one<R>(records: Vec<R>) -> Result<R> {
    let count = records.len();
    records
        .into_iter()
        .next()
        .filter(|_| count == 1)
        .ok_or_else(|| Error::data("checkpoints of a method whose seeds do not stack").expected("one").found(count))
}

/// What one call of [`Method::advance`] did for one seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The last step is in the middle of what follows from it, which took long enough to look up: it is neither written down nor
    /// evaluated yet.
    pub unfinished: bool,
    /// The fit of the world model that the last step waits for.
    pub fitting: Option<FitProgress>,
    /// Environment steps of learning so far, or what [`Method::spent`] counts in their place.
    pub env_steps: u64,
    /// Gradient steps of the policy so far.
    pub grad_steps: u64,
    /// The policy learner's figures, once it learns and where it is SAC.
    pub sac: Option<SacMetrics>,
    /// Those of TD3+BC.
    pub td3_bc: Option<Td3BcMetrics>,
    /// Those of cloning.
    pub cloning: Option<CloningMetrics>,
    /// The discriminator's figures, where it took a step.
    pub discriminator: Option<DiscriminatorMetrics>,
    /// Share of expert rows in the last batch.
    pub expert_ratio: Option<f64>,
    /// IQ-Learn's figures beside those of its actor-critic.
    pub iq: Option<IqMetrics>,
    /// PPO's figures, where it updated.
    pub ppo: Option<PpoMetrics>,
    /// The world model's latest fit.
    pub world_model: Option<FitMetrics>,
    /// What was imagined so far.
    pub imagination: Option<Imagination>,
    /// Steps of an imagined rollout, at most.
    pub rollout_length: Option<u64>,
}

impl Report {
    /// Errors where a loss is no number any more: then no parameters are worth going on with.
    pub fn check(&self) -> Result<()> {
        let losses = [
            ("critic_loss", self.sac.map(|sac| sac.critic_loss)),
            ("actor_loss", self.sac.map(|sac| sac.actor_loss)),
            ("critic_loss", self.td3_bc.map(|td3_bc| td3_bc.critic_loss)),
            ("actor_loss", self.td3_bc.map(|td3_bc| td3_bc.actor_loss)),
            ("bc_loss", self.cloning.map(|cloning| cloning.bc_loss)),
            ("disc_loss", self.discriminator.map(|discriminator| discriminator.disc_loss)),
            ("policy_loss", self.ppo.map(|ppo| ppo.policy_loss)),
            ("value_loss", self.ppo.map(|ppo| ppo.value_loss)),
        ];
        let lost = losses.into_iter().find_map(|(name, loss)| Some((name, loss.filter(|loss| !loss.is_finite())?)));
        lost.map_or(Ok(()), |(name, loss)| Err(diverged(&format!("{name} {loss} at {} steps", self.env_steps))))
    }
}

/// Learning went astray, which `found` shows.
pub fn diverged(found: &str) -> Error {
    Error::diverged("the learner diverged").expected("finite numbers").found(found).hint(
        "lower the learning rates (sac., td3_bc., ppo. or reward.learning_rate); the last checkpoint is of before, if there is one; if the first steps diverge, look at the demonstrations (hype demos inspect)",
    )
}

/// Parameters on the host, with what is needed to read them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Networks {
    /// The policy: `[observation]` to `[action]` or more. The first `action` outputs are the mean, which `reading` turns into
    /// an action.
    pub actor: (MlpSpec, Vec<f32>),
    /// How the policy's numbers are read, where it is not a squashed Gaussian of raw observations.
    pub reading: Reading,
    /// The cost, where one is learned.
    pub discriminator: Option<DiscriminatorNetwork>,
}

impl Networks {
    /// Whether all parameters are numbers.
    pub fn are_finite(&self) -> bool {
        let of_discriminator = self.discriminator.iter().flat_map(|discriminator| &discriminator.params);
        self.actor.1.iter().chain(of_discriminator).all(|value| value.is_finite())
    }
}

/// How networks turn observations into numbers, and an actor's numbers into an action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Reading {
    /// Raw observations; an actor's action is `tanh` of its means.
    #[default]
    Squashed,
    /// Normalised observations; an actor's outputs are means alone, clamped to [-1, 1].
    Clamped {
        /// Subtracted from each observation channel.
        mean: Vec<f32>,
        /// Each channel is divided by this.
        std: Vec<f32>,
    },
}

impl Reading {
    /// Observations `[rows, observation]` as the network sees them.
    pub fn seen(&self, observations: &[f32]) -> Vec<f32> {
        match self {
            Self::Squashed => observations.to_vec(),
            Self::Clamped { mean, std } => {
                let channels = mean.iter().zip(std).cycle();
                observations.iter().zip(channels).map(|(x, (mean, std))| (x - mean) / std).collect()
            }
        }
    }
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
    /// How the network reads an observation.
    pub reading: Reading,
    /// Whether it has had a turn: the random network that a run begins with is nobody's reward.
    pub learned: bool,
}

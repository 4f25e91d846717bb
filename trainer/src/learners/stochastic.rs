//! The stochastic policies of soft actor-critic: a Gaussian drawn at every step, or state-dependent exploration.

use super::actor::Actor;
use super::gaussian::{self, Sample};
use super::state_dependent::{Pass as StateDependentPass, StateDependent, StateDependentRecord};
use crate::config::SacConfig;
use crate::error::{Error, Result};
use crate::nn::init::Init;
use crate::nn::mlp::MlpSpec;
use crate::nn::optimizer::{Applied, Network, OptimizerConfig, ParametersRecord};
use crate::nn::{Inner, Train};
use crate::run::rng::Stream;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// The policies of stacked seeds, squashed by tanh.
#[derive(Debug)]
pub enum Stochastic<B: Train> {
    /// Means and log deviations are heads of one network.
    Gaussian(Network<B>),
    /// gSDE.
    StateDependent(StateDependent<B>),
}

/// What [`Stochastic::sample`] leaves for the backward pass.
#[derive(Debug)]
pub enum Pass<B: Train> {
    /// Of the Gaussian.
    Gaussian(Applied<B>),
    /// Of gSDE.
    StateDependent(StateDependentPass<B>),
}

/// Everything of one seed's policy, for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum StochasticRecord {
    /// Of the Gaussian.
    Gaussian(ParametersRecord),
    /// Of gSDE.
    StateDependent(Box<StateDependentRecord>),
}

impl<B: Train> Stochastic<B> {
    /// Fresh policies as `config` says, for `observations` and `actions` wide rows; one for each stream in `rngs`.
    pub fn new(
        config: &SacConfig,
        observations: usize,
        actions: usize,
        rngs: &mut [Stream],
        device: &B::Device,
    ) -> Self {
        let (hidden, optimizer) = (config.actor_widths(), OptimizerConfig::new(config.optimizer));
        if config.gsde {
            let policies = StateDependent::new(observations, hidden, actions, optimizer, rngs, device);
            return Self::StateDependent(policies);
        }
        let spec = MlpSpec::new(1, observations, hidden, 2 * actions);
        Self::Gaussian(Network::new(spec, Init::Uniform, false, optimizer, rngs, device))
    }

    /// Rows of standard normal numbers, each as wide as an action, that one draw for `rows` rows takes.
    pub fn noise_rows(&self, rows: usize) -> usize {
        match self {
            Self::Gaussian(_) => rows,
            Self::StateDependent(policies) if rows > 0 => policies.widths().features,
            Self::StateDependent(_) => 0,
        }
    }

    /// Actions for constant rows `[seeds, batch, observation]` as part of a loss; [`Stochastic::descend`] wants the pass.
    pub fn sample(&self, observation: Tensor<Inner<B>, 3>, noise: Tensor<Inner<B>, 3>) -> (Sample<B>, Pass<B>) {
        match self {
            Self::Gaussian(network) => {
                let applied = network.apply(observation);
                let drawn = gaussian::sample(applied.output.clone(), Tensor::from_inner(noise));
                (drawn, Pass::Gaussian(applied))
            }
            Self::StateDependent(policies) => {
                let (drawn, pass) = policies.sample(observation, noise);
                (drawn, Pass::StateDependent(pass))
            }
        }
    }

    /// [`Stochastic::sample`] without gradients.
    pub fn infer(&self, observation: Tensor<Inner<B>, 3>, noise: Tensor<Inner<B>, 3>) -> Sample<Inner<B>> {
        match self {
            Self::Gaussian(network) => gaussian::sample(network.infer(observation), noise),
            Self::StateDependent(policies) => policies.infer(observation, noise),
        }
    }

    /// One optimiser step down the gradient of the sum of `losses`, one per seed, in which the actions of `passes` are.
    pub fn descend(&mut self, losses: Tensor<B, 1>, passes: Vec<Pass<B>>, learning_rate: f64) {
        match self {
            Self::Gaussian(network) => {
                let applied = passes.into_iter().map(|pass| match pass {
                    Pass::Gaussian(applied) => applied,
                    Pass::StateDependent(_) => unreachable!("a policy takes the passes that it made"),
                });
                network.descend(losses, applied, learning_rate, 0.0);
            }
            Self::StateDependent(policies) => {
                let own = passes.into_iter().map(|pass| match pass {
                    Pass::StateDependent(pass) => pass,
                    Pass::Gaussian(_) => unreachable!("a policy takes the passes that it made"),
                });
                policies.descend(losses, own.collect(), learning_rate);
            }
        }
    }

    /// Rows of standard normal numbers, each as wide as an action, that last from one gradient step to the next while a policy acts.
    pub fn lasting_noise_rows(&self) -> usize {
        match self {
            Self::Gaussian(_) => 0,
            Self::StateDependent(policies) => policies.widths().features,
        }
    }

    /// Each seed acts with these of its [`Stochastic::lasting_noise_rows`] from now on.
    pub fn explore_with<'a>(&mut self, noise: impl Iterator<Item = &'a [f32]>) {
        if let Self::StateDependent(policies) = self {
            policies.explore_with(noise);
        }
    }

    /// Fresh optimisers on the same parameters.
    pub fn restart_optimizers(&mut self) {
        match self {
            Self::Gaussian(network) => network.parameters.restart(),
            Self::StateDependent(policies) => policies.restart_optimizers(),
        }
    }

    /// Each seed's policy as it stands, on the host.
    pub fn policies(&self, actions: usize) -> Vec<Actor> {
        match self {
            Self::Gaussian(network) => Actor::of_seeds(network, actions),
            Self::StateDependent(policies) => policies.policies(),
        }
    }

    /// Sizes and parameters of each seed's network: `[observation]` to means with whatever else stands behind them.
    pub fn networks(&self) -> Vec<(MlpSpec, Vec<f32>)> {
        match self {
            Self::Gaussian(network) => {
                let spec = network.seed_spec();
                network.parameters.by_seed().into_iter().map(|params| (spec.clone(), params)).collect()
            }
            Self::StateDependent(policies) => policies.modes(),
        }
    }

    /// The first seed's, where the device has it.
    pub fn network(&self, device: &B::Device) -> (MlpSpec, Tensor<Inner<B>, 1>) {
        match self {
            Self::Gaussian(network) => (network.seed_spec().clone(), network.parameters.get()),
            Self::StateDependent(policies) => {
                let (spec, params) = policies.modes().swap_remove(0);
                let len = params.len();
                (spec, Tensor::from_data(TensorData::new(params, [len]), device))
            }
        }
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<StochasticRecord> {
        match self {
            Self::Gaussian(network) => {
                network.parameters.record().into_iter().map(StochasticRecord::Gaussian).collect()
            }
            Self::StateDependent(policies) => {
                policies.record().into_iter().map(|record| StochasticRecord::StateDependent(Box::new(record))).collect()
            }
        }
    }

    /// Takes over the seeds' checkpoints, in their order.
    pub fn restore(&mut self, records: Vec<StochasticRecord>, device: &B::Device) -> Result<()> {
        let other = || {
            Error::data("the checkpoint has another kind of policy")
                .hint("resume with the configuration that the run was started with (sac.gsde)")
        };
        match self {
            Self::Gaussian(network) => {
                let own = |record| match record {
                    StochasticRecord::Gaussian(record) => Ok(record),
                    StochasticRecord::StateDependent(_) => Err(other()),
                };
                network.parameters.restore(records.into_iter().map(own).collect::<Result<_>>()?, device)
            }
            Self::StateDependent(policies) => {
                let own = |record| match record {
                    StochasticRecord::StateDependent(record) => Ok(*record),
                    StochasticRecord::Gaussian(_) => Err(other()),
                };
                policies.restore(records.into_iter().map(own).collect::<Result<_>>()?, device)
            }
        }
    }
}

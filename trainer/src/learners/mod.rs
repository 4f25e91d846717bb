//! Policy learners. Each learns for a stack of seeds at once: every tensor has a leading `seeds` axis, every seed its own
//! random streams, and a loss is one number per seed.

pub mod actor;
pub mod block;
pub mod cloning;
pub mod ema;
pub mod gae;
pub mod gaussian;
pub mod iq;
#[cfg(test)]
mod iq_tests;
pub mod learner;
#[cfg(test)]
mod lqr_tests;
pub mod ppo;
#[cfg(test)]
mod ppo_tests;
pub mod running;
pub mod sac;
pub mod squashed;
#[cfg(test)]
mod stack_tests;
pub mod state_dependent;
pub mod stochastic;
pub mod td3_bc;
#[cfg(test)]
mod tests;

use crate::nn::ops::MlpBackend;
use crate::nn::optimizer::values;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// A batch of transitions for each seed, already relabelled by the reward in force.
///
/// # Shapes
/// All `[seeds, batch, width]`; widths are the observation's, the action's, or 1.
#[derive(Debug, Clone)]
pub struct Batch<B: Backend> {
    /// Raw observations.
    pub observation: Tensor<B, 3>,
    /// Actions in [-1, 1].
    pub action: Tensor<B, 3>,
    /// Reward of the step.
    pub reward: Tensor<B, 3>,
    /// The observation that followed.
    pub next_observation: Tensor<B, 3>,
    /// 1 where the next state has a value, 0 where the task terminated.
    pub continues: Tensor<B, 3>,
}

/// Expert rows that a policy is pulled towards beside its own loss (BC-Reg): `weight · mean (a - a_E)²` with `a ~ π(s_E)`.
///
/// # Shapes
/// `[seeds, batch, width]`
#[derive(Debug, Clone)]
pub struct Pull<B: Backend> {
    /// λ.
    pub weight: f64,
    /// Raw observations.
    pub observation: Tensor<B, 3>,
    /// The expert's actions in [-1, 1].
    pub action: Tensor<B, 3>,
}

/// Mean over everything but the leading seeds axis: `[seeds, …]` to `[seeds]`.
pub fn mean_by_seed<B: Backend>(values: Tensor<B, 3>) -> Tensor<B, 1> {
    let [seeds, batch, width] = values.dims();
    values.reshape([seeds, batch * width]).mean_dim(1).reshape([seeds])
}

/// Brings a step's figures, `[seeds]` each, to the host, seed by seed: the one place where learning waits for the device.
fn read<B: MlpBackend, const N: usize>(figures: [Tensor<B, 1>; N]) -> Vec<[f64; N]> {
    let seeds = figures[0].dims()[0];
    let read = values(Tensor::cat(figures.into(), 0));
    (0..seeds).map(|seed| std::array::from_fn(|index| f64::from(read[index * seeds + seed]))).collect()
}

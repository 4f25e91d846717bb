//! Policy learners. Each learns for a stack of seeds at once: every tensor has a leading `seeds` axis, every seed its own
//! random streams, and a loss is one number per seed.

pub mod actor;
pub mod block;
pub mod gaussian;
pub mod sac;
#[cfg(test)]
mod stack_tests;
#[cfg(test)]
mod tests;

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

/// Mean over everything but the leading seeds axis: `[seeds, …]` to `[seeds]`.
pub fn mean_by_seed<B: Backend>(values: Tensor<B, 3>) -> Tensor<B, 1> {
    let [seeds, batch, width] = values.dims();
    values.reshape([seeds, batch * width]).mean_dim(1).reshape([seeds])
}

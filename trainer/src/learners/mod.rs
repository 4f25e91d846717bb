//! Policy learners.

pub mod gaussian;
pub mod sac;
#[cfg(test)]
mod tests;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// A batch of transitions, already relabelled by the reward in force.
///
/// # Shapes
/// All `[1, batch, width]`; widths are the observation's, the action's, or 1.
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

//! The tanh-squashed Gaussian policy head.

use crate::nn::ops::{self, MlpBackend};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Actions drawn from a policy, with their log-probabilities.
#[derive(Debug, Clone)]
pub struct Sample<B: Backend> {
    /// `[seeds, batch, actions]`, in (-1, 1).
    pub action: Tensor<B, 3>,
    /// `[seeds, batch, 1]`.
    pub log_prob: Tensor<B, 3>,
}

/// Draws `a = tanh(mean + std·noise)` and `log π(a|s) = Σ log N(u; mean, std) - Σ log(1 - a² + 1e-6)`
/// (Haarnoja et al. 2018, appendix C, with Stable-Baselines3's constant).
///
/// # Shapes
/// - `head`: `[seeds, batch, 2·actions]`, means first, then log standard deviations
/// - `noise`: `[seeds, batch, actions]`, standard normal
pub fn sample<B: MlpBackend>(head: Tensor<B, 3>, noise: Tensor<B, 3>) -> Sample<B> {
    let actions = noise.dims()[2];
    let drawn = ops::squash(head, noise);
    Sample { action: drawn.clone().narrow(2, 0, actions), log_prob: drawn.narrow(2, actions, 1) }
}

/// The action without noise: `tanh(mean)`.
pub fn mode<B: Backend>(head: Tensor<B, 3>) -> Tensor<B, 3> {
    let actions = head.dims()[2] / 2;
    head.narrow(2, 0, actions).tanh()
}

//! The tanh-squashed Gaussian policy head.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Keeps the logarithm of `1 - tanh²` finite (Stable-Baselines3 0.8.0, `SquashedDiagGaussianDistribution`).
const SQUASH_EPSILON: f64 = 1e-6;

/// Bounds of the log standard deviation (Stable-Baselines3 0.8.0, `LOG_STD_MIN` and `LOG_STD_MAX`).
const LOG_STD_BOUNDS: (f64, f64) = (-20.0, 2.0);

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
pub fn sample<B: Backend>(head: Tensor<B, 3>, noise: Tensor<B, 3>) -> Sample<B> {
    let actions = noise.dims()[2];
    let mean = head.clone().narrow(2, 0, actions);
    let log_std = head.narrow(2, actions, actions).clamp(LOG_STD_BOUNDS.0, LOG_STD_BOUNDS.1);
    let action = (mean + log_std.clone().exp() * noise.clone()).tanh();
    let half_log_tau = 0.5 * (2.0 * std::f64::consts::PI).ln();
    let gaussian = noise.clone() * noise * -0.5 - log_std - half_log_tau;
    let squash = (action.clone() * action.clone()).neg().add_scalar(1.0 + SQUASH_EPSILON).log();
    Sample { action, log_prob: (gaussian - squash).sum_dim(2) }
}

/// The action without noise: `tanh(mean)`.
pub fn mode<B: Backend>(head: Tensor<B, 3>) -> Tensor<B, 3> {
    let actions = head.dims()[2] / 2;
    head.narrow(2, 0, actions).tanh()
}

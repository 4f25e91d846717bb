//! The tanh-squashed Gaussian head of IQ-Learn's code: a bounded log deviation and the exact density.

pub use super::gaussian::Sample;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// Bounds between which the log standard deviation moves (Div99/IQ-Learn `conf/agent/sac.yaml`, `log_std_bounds`).
const LOG_STD_BOUNDS: (f64, f64) = (-5.0, 2.0);

/// Draws `a = tanh(mean + std·noise)` with `log std = -5 + 3.5 (tanh z + 1)` and
/// `log π(a|s) = Σ log N(u; mean, std) - Σ 2 (log 2 - |u| - log(1 + exp(-2|u|)))`: the logarithm of `1 - tanh² u` without
/// cancellation or overflow.
///
/// # Shapes
/// - `head`: `[1, batch, 2·actions]`, means first, then `z`
/// - `noise`: `[1, batch, actions]`, standard normal
pub fn sample<B: Backend>(head: Tensor<B, 3>, noise: Tensor<B, 3>) -> Sample<B> {
    let actions = noise.dims()[2];
    let (low, high) = LOG_STD_BOUNDS;
    let mean = head.clone().narrow(2, 0, actions);
    let log_std = (head.narrow(2, actions, actions).tanh() + 1.0) * (0.5 * (high - low)) + low;
    let u = mean + log_std.clone().exp() * noise.clone();
    let half_log_tau = 0.5 * (2.0 * std::f64::consts::PI).ln();
    let gaussian = noise.clone() * noise * -0.5 - log_std - half_log_tau;
    let size = u.clone().abs();
    let squash = (size.clone() + ((size * -2.0).exp() + 1.0).log()).neg().add_scalar(std::f64::consts::LN_2) * 2.0;
    Sample { action: u.tanh(), log_prob: (gaussian - squash).sum_dim(2) }
}

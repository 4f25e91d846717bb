//! Element-wise loops, compiled for the widest vectors that the processor has. They never contract to fused multiply-add,
//! so that every width gives the same bits.
#![allow(unsafe_code)]

use super::elementary::{exp, ln, sigmoid, tanh};
use super::ops::{AdamStep, LOG_STD_BOUNDS, SQUASH_EPSILON};

/// Compiles a loop for AVX-512, AVX2 and the baseline, chosen at run time.
macro_rules! simd {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) {
            #[inline(always)]
            fn plain($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512($($arg: $type),*) { plain($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) { plain($($arg),*) }
                if std::is_x86_feature_detected!("avx512bw") && std::is_x86_feature_detected!("avx512dq")
                    && std::is_x86_feature_detected!("avx512vl") {
                    // SAFETY: the processor has the features.
                    return unsafe { avx512($($arg),*) };
                }
                if std::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the feature.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*);
        }
    };
}

simd! {
    /// Adds `bias` to every row.
    fn add_bias(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (value, bias) in row.iter_mut().zip(bias) {
                *value += bias;
            }
        }
    }
}

simd! {
    /// Adds `bias` to every row and clips below zero.
    fn add_bias_relu(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (value, bias) in row.iter_mut().zip(bias) {
                let sum = *value + bias;
                *value = if sum > 0.0 { sum } else { 0.0 };
            }
        }
    }
}

simd! {
    /// Zeroes the entries whose activation is zero.
    fn mask(values: &mut [f32], activations: &[f32]) {
        for (value, activation) in values.iter_mut().zip(activations) {
            *value = if *activation > 0.0 { *value } else { 0.0 };
        }
    }
}

simd! {
    /// Adds all rows to `sums`.
    fn add_rows(rows: &[f32], sums: &mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// The vectors that one optimiser step updates in place.
pub(super) struct Moments<'a> {
    pub(super) params: &'a mut [f32],
    pub(super) first: &'a mut [f32],
    pub(super) second: &'a mut [f32],
    pub(super) target: Option<&'a mut [f32]>,
}

/// Gradients and moments below this count as zero. Their effect on a parameter is beyond f32 (epsilon is 1e-8), while
/// what dead units leave behind would decay into denormal numbers, on which some processors are ten times slower.
const NEGLIGIBLE: f32 = 1e-15;

/// Elements that stay in the first cache from the step to the target's.
const PIECE: usize = 1024;

#[inline(always)]
fn flush(value: f32, least: f32) -> f32 {
    if value.abs() < least { 0.0 } else { value }
}

/// Adam or Optimistic Adam and the target's step, in one pass; see [`AdamStep`].
pub(super) fn adam(step: &AdamStep, moments: Moments<'_>, gradient: &[f32]) {
    let Moments { params, first, second, mut target } = moments;
    let rule = if step.optimistic { optimistic_adam } else { plain_adam };
    for start in (0..params.len()).step_by(PIECE) {
        let range = start..params.len().min(start + PIECE);
        let params = &mut params[range.clone()];
        rule(step, params, &mut first[range.clone()], &mut second[range.clone()], &gradient[range.clone()]);
        if let Some(target) = &mut target {
            polyak(step.polyak_rate as f32, params, &mut target[range]);
        }
    }
}

simd! {
    fn plain_adam(step: &AdamStep, params: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        let (b1, b2) = (step.beta1 as f32, step.beta2 as f32);
        let (c1, c2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
        let (rate, root, epsilon) = (step.rate() as f32, step.root_scale() as f32, step.epsilon as f32);
        let (decay, len) = (step.weight_decay as f32, params.len());
        let (first, second, gradient) = (&mut first[..len], &mut second[..len], &gradient[..len]);
        for i in 0..len {
            let g = flush(gradient[i] + decay * params[i], NEGLIGIBLE);
            let m = b1 * first[i] + c1 * g;
            let v = b2 * second[i] + c2 * (g * g);
            params[i] -= rate * (m / (v.sqrt() * root + epsilon));
            first[i] = flush(m, NEGLIGIBLE);
            second[i] = flush(v, NEGLIGIBLE * NEGLIGIBLE);
        }
    }
}

simd! {
    fn optimistic_adam(step: &AdamStep, params: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        let (b1, b2) = (step.beta1 as f32, step.beta2 as f32);
        let (c1, c2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
        let (rate, epsilon) = (step.rate() as f32, step.epsilon as f32);
        let (twice, decay, len) = ((2.0 * step.rate()) as f32, step.weight_decay as f32, params.len());
        let (first, second, gradient) = (&mut first[..len], &mut second[..len], &gradient[..len]);
        for i in 0..len {
            let g = flush(gradient[i] + decay * params[i], NEGLIGIBLE);
            let start = params[i] + rate * (first[i] / (second[i].sqrt() + epsilon));
            let m = b1 * first[i] + c1 * g;
            let v = b2 * second[i] + c2 * (g * g);
            params[i] = start - twice * (m / (v.sqrt() + epsilon));
            first[i] = flush(m, NEGLIGIBLE);
            second[i] = flush(v, NEGLIGIBLE * NEGLIGIBLE);
        }
    }
}

simd! {
    /// `target = (1-rate)·target + rate·params`.
    fn polyak(rate: f32, params: &[f32], target: &mut [f32]) {
        let keep = 1.0 - rate;
        for (target, param) in target.iter_mut().zip(params) {
            *target = keep * *target + rate * param;
        }
    }
}

simd! {
    /// `values *= factors`.
    fn scale(values: &mut [f32], factors: &[f32]) {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    }
}

simd! {
    /// `y = tanh(y)`, and the slope there.
    fn tanh_slopes(values: &mut [f32], slopes: &mut [f32]) {
        for (value, slope) in values.iter_mut().zip(slopes) {
            let y = tanh(*value);
            (*value, *slope) = (y, 1.0 - y * y);
        }
    }
}

simd! {
    /// `y = y·sigmoid(y)`, and the slope there.
    fn silu_slopes(values: &mut [f32], slopes: &mut [f32]) {
        for (value, slope) in values.iter_mut().zip(slopes) {
            let gate = sigmoid(*value);
            let y = *value * gate;
            (*value, *slope) = (y, gate + y * (1.0 - gate));
        }
    }
}

/// A squashed Gaussian, one element per action of each row; see `learners::gaussian`.
#[derive(Clone, Copy)]
pub(super) struct Gaussian<'a> {
    pub(super) mean: &'a [f32],
    pub(super) log_std: &'a [f32],
    pub(super) noise: &'a [f32],
}

simd! {
    /// Actions, and each one's part of the log-probability.
    fn squash(gaussian: Gaussian<'_>, action: &mut [f32], terms: &mut [f32]) {
        let half_log_tau = (0.5 * (2.0 * std::f64::consts::PI).ln()) as f32;
        let len = action.len();
        let (mean, log_std, noise) = (&gaussian.mean[..len], &gaussian.log_std[..len], &gaussian.noise[..len]);
        let terms = &mut terms[..len];
        for i in 0..len {
            let log_std = log_std[i].clamp(LOG_STD_BOUNDS.0 as f32, LOG_STD_BOUNDS.1 as f32);
            let a = tanh(mean[i] + exp(log_std) * noise[i]);
            action[i] = a;
            terms[i] = -0.5 * noise[i] * noise[i] - log_std - half_log_tau - ln(1.0 - a * a + SQUASH_EPSILON as f32);
        }
    }
}

/// Gradients of the mean and of the log deviation; they come in holding those of the action and of the log-probability.
pub(super) struct GaussianGradient<'a> {
    pub(super) mean: &'a mut [f32],
    pub(super) log_std: &'a mut [f32],
}

simd! {
    /// The backward pass of [`squash`].
    fn squash_gradient(gaussian: Gaussian<'_>, gradient: GaussianGradient<'_>) {
        let len = gradient.mean.len();
        let (mean, log_std, noise) = (&gaussian.mean[..len], &gaussian.log_std[..len], &gaussian.noise[..len]);
        let (by_action, by_log_prob) = (gradient.mean, &mut gradient.log_std[..len]);
        for i in 0..len {
            let bounded = log_std[i].clamp(LOG_STD_BOUNDS.0 as f32, LOG_STD_BOUNDS.1 as f32);
            let spread = exp(bounded) * noise[i];
            let a = tanh(mean[i] + spread);
            let slope = 1.0 - a * a;
            let by_u = slope * (by_action[i] + by_log_prob[i] * 2.0 * a / (slope + SQUASH_EPSILON as f32));
            by_action[i] = by_u;
            by_log_prob[i] = if bounded == log_std[i] { by_u * spread - by_log_prob[i] } else { 0.0 };
        }
    }
}

/// The vector width in use, for reports.
pub fn vector_kind() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
        {
            return "avx512";
        }
        if std::is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "plain"
}

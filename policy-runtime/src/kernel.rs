//! Arithmetic of the layers, on slices, with one fixed order of operations.
//!
//! Multiplication and addition are never fused and transcendental functions come from `libm`, so the same inputs give
//! the same bits on every target. Allocation: none. Panics: never; rows that are too short leave the rest untouched,
//! since widths are checked once, where a network is built.

use serde::{Deserialize, Serialize};

/// The elementwise function after a dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `x` where positive, `exp(x) - 1` elsewhere.
    Elu,
}

impl Activation {
    /// Value at `x`. NaN stays NaN.
    pub fn at(self, x: f32) -> f32 {
        match self {
            Activation::Identity => x,
            // Written so that NaN passes through: f32::max would turn it into zero.
            Activation::Relu if x < 0.0 => 0.0,
            Activation::Relu => x,
            Activation::Tanh => libm::tanhf(x),
            Activation::Sigmoid => 1.0 / (1.0 + libm::expf(-x)),
            Activation::Silu => x / (1.0 + libm::expf(-x)),
            Activation::Elu if x < 0.0 => libm::expm1f(x),
            Activation::Elu => x,
        }
    }

    /// Applies the function to every element of `row`.
    pub fn apply(self, row: &mut [f32]) {
        if self != Activation::Identity {
            for value in row {
                *value = self.at(*value);
            }
        }
    }
}

/// `output[j] = bias[j] + Σ_i input[i] · weights[i · outputs + j]`, summed over ascending `i`.
///
/// # Shapes
/// `input`: `[inputs]`, `weights`: `[inputs, outputs]` row-major, `bias` and `output`: `[outputs]`.
pub fn dense(input: &[f32], weights: &[f32], bias: &[f32], output: &mut [f32]) {
    let outputs = output.len();
    if outputs == 0 || bias.len() != outputs {
        return;
    }
    output.copy_from_slice(bias);
    for (x, row) in input.iter().zip(weights.chunks_exact(outputs)) {
        for (sum, weight) in output.iter_mut().zip(row) {
            *sum += *x * *weight;
        }
    }
}

/// Largest magnitude in `row`; NaN counts as infinite.
pub fn peak(row: &[f32]) -> f32 {
    let bits = peak_bits(row);
    if bits > f32::INFINITY.to_bits() { f32::INFINITY } else { f32::from_bits(bits) }
}

/// The bits of the largest magnitude in `row`, which order as the magnitudes do; NaN comes after infinity.
#[inline(always)]
pub(crate) fn peak_bits(row: &[f32]) -> u32 {
    row.iter().fold(0, |peak, x| peak.max(x.to_bits() & 0x7fff_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_multiplies_in_by_out_weights() {
        let mut output = [0.0; 3];
        dense(&[2.0, -1.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[0.5, 0.0, -0.5], &mut output);
        assert_eq!(output, [-1.5, -1.0, -0.5]);
    }

    #[test]
    fn activations_meet_their_closed_forms() {
        for step in -40..=40 {
            let x = step as f32 * 0.25;
            let wide = f64::from(x);
            let near =
                |found: f32, wanted: f64| assert!((f64::from(found) - wanted).abs() < 4e-7 * wanted.abs().max(1.0));
            near(Activation::Relu.at(x), wide.max(0.0));
            near(Activation::Tanh.at(x), wide.tanh());
            near(Activation::Sigmoid.at(x), 1.0 / (1.0 + (-wide).exp()));
            near(Activation::Silu.at(x), wide / (1.0 + (-wide).exp()));
            near(Activation::Elu.at(x), if wide < 0.0 { wide.exp() - 1.0 } else { wide });
            assert_eq!(Activation::Identity.at(x), x);
        }
    }

    #[test]
    fn activations_keep_nan_visible() {
        use Activation::{Elu, Identity, Relu, Sigmoid, Silu, Tanh};
        for activation in [Identity, Relu, Tanh, Sigmoid, Silu, Elu] {
            assert!(activation.at(f32::NAN).is_nan(), "{activation:?} hides NaN");
        }
        assert_eq!(peak(&[1.0, f32::NAN]), f32::INFINITY);
        assert_eq!(peak(&[1.0, -3.0, 2.0]), 3.0);
    }
}

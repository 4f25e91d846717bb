//! Initial weights.

use super::mlp::MlpSpec;
use crate::run::rng::Stream;

/// How weights start; biases are, where not said otherwise, `U(±1/sqrt(fan_in))`, the PyTorch default of `nn.Linear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// `U(±1/sqrt(fan_in))`, the PyTorch default.
    Uniform,
    /// Orthogonal with gain 1 in every layer, the output included (the published discriminator).
    Orthogonal,
    /// The same with zero biases (Div99/IQ-Learn, `orthogonal_init_`).
    OrthogonalZeroBias,
    /// Normal with deviation `1 / (2 sqrt(fan_in))`, cut at two deviations, and zero biases (facebookresearch/mbrl-lib,
    /// `truncated_normal_init`).
    TruncatedNormal,
}

/// Where [`Init::TruncatedNormal`] is cut, in deviations.
const NORMAL_CUT: f64 = 2.0;

/// A fresh flat parameter vector.
pub fn parameters(spec: &MlpSpec, init: Init, rng: &mut Stream) -> Vec<f32> {
    let mut params = vec![0.0; spec.len()];
    for layer in spec.layers() {
        let bound = 1.0 / (layer.inputs as f64).sqrt();
        let size = layer.inputs * layer.outputs;
        for member in 0..spec.members {
            let weights = &mut params[layer.weight + member * size..][..size];
            match init {
                Init::Uniform => weights.fill_with(|| rng.uniform(-bound, bound) as f32),
                Init::Orthogonal | Init::OrthogonalZeroBias => orthogonal(weights, layer.inputs, layer.outputs, rng),
                Init::TruncatedNormal => weights.fill_with(|| (0.5 * bound * truncated_normal(rng)) as f32),
            }
            if !matches!(init, Init::OrthogonalZeroBias | Init::TruncatedNormal) {
                params[layer.bias + member * layer.outputs..][..layer.outputs]
                    .fill_with(|| rng.uniform(-bound, bound) as f32);
            }
        }
    }
    params
}

fn truncated_normal(rng: &mut Stream) -> f64 {
    loop {
        let draw = rng.normal();
        if draw.abs() < NORMAL_CUT {
            return draw;
        }
    }
}

/// Fills `weights[rows, cols]` with a matrix whose shorter side is orthonormal: Gram–Schmidt on a Gaussian matrix,
/// done twice for accuracy.
fn orthogonal(weights: &mut [f32], rows: usize, cols: usize, rng: &mut Stream) {
    let (count, length) = (rows.min(cols), rows.max(cols));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut vector: Vec<f64> = (0..length).map(|_| rng.normal()).collect();
        for _ in 0..2 {
            for other in &basis {
                let dot: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
            }
        }
        let norm = vector.iter().map(|a| a * a).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|a| *a /= norm);
        basis.push(vector);
    }
    for (index, weight) in weights.iter_mut().enumerate() {
        let (row, col) = (index / cols, index % cols);
        *weight = if rows <= cols { basis[row][col] } else { basis[col][row] } as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::rng::Streams;

    #[test]
    fn orthogonal_weights_are_orthonormal_and_the_output_is_a_unit_vector() {
        let spec = MlpSpec::new(1, 5, &[8], 1);
        let params = parameters(&spec, Init::Orthogonal, &mut Streams::new(0).stream("init"));
        let row = |i: usize| &params[i * 8..][..8];
        for i in 0..5 {
            for j in 0..5 {
                let dot: f32 = row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
                assert!((dot - f32::from(u8::from(i == j))).abs() < 1e-6, "rows {i} {j}: {dot}");
            }
        }
        let last = spec.layers().last().unwrap();
        let norm: f32 = params[last.weight..last.bias].iter().map(|w| w * w).sum();
        assert!((norm - 1.0).abs() < 1e-6);
    }

    #[test]
    fn truncated_normal_weights_have_their_deviation_and_no_tails() {
        let spec = MlpSpec::new(2, 16, &[64], 1);
        let params = parameters(&spec, Init::TruncatedNormal, &mut Streams::new(0).stream("init"));
        let first = &params[..2 * 16 * 64];
        assert!(first.iter().all(|w| w.abs() < 0.25), "cut at two deviations of 1/8");
        let variance = first.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / first.len() as f64;
        // A standard normal cut at two deviations has a variance of 0.7737.
        assert!((variance.sqrt() - 0.125 * 0.7737_f64.sqrt()).abs() < 0.004, "{}", variance.sqrt());
        let layer = spec.layers().next().unwrap();
        assert!(params[layer.bias_of(1)].iter().all(|b| *b == 0.0));
    }

    #[test]
    fn uniform_weights_stay_within_the_fan_in_bound_and_fill_it() {
        let spec = MlpSpec::new(2, 16, &[64], 1);
        let params = parameters(&spec, Init::Uniform, &mut Streams::new(0).stream("init"));
        let first = &params[..2 * 16 * 64];
        let largest = first.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
        assert!(largest <= 0.25 && largest > 0.24);
    }
}

//! Every set of kernels computes what f64 computes, and in deterministic mode all of them compute the same bits.

#![cfg(feature = "std")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use policy_runtime::engine::native::NativePolicy;
use policy_runtime::probe::Draws;
use policy_runtime::spec::{Activation, Affine, Clamp, Dense, Mlp, Normalizer, PolicyGraph, Squash};
use policy_runtime::{Kernels, Numerics, kernel};

const ACTIVATIONS: [Activation; 6] =
    [Activation::Identity, Activation::Relu, Activation::Tanh, Activation::Sigmoid, Activation::Silu, Activation::Elu];

fn policy(widths: &[usize], activation: Activation, seed: u64) -> PolicyGraph {
    let mut draws = Draws::new(seed);
    let mut row = |count: usize, scale: f32| -> Vec<f32> { (0..count).map(|_| scale * draws.normal()).collect() };
    let layers: Vec<Dense> = (widths.windows(2))
        .map(|pair| Dense {
            inputs: pair[0],
            outputs: pair[1],
            weights: row(pair[0] * pair[1], (1.0 / pair[0] as f32).sqrt()),
            bias: row(pair[1], 0.1),
            activation,
        })
        .collect();
    let outputs = *widths.last().unwrap();
    PolicyGraph {
        normalizer: Some(Normalizer {
            mean: row(widths[0], 1.0),
            std: row(widths[0], 1.0).iter().map(|x| x.abs() + 0.5).collect(),
        }),
        mlp: Mlp { layers },
        squash: Squash::Tanh,
        affine: Affine { scale: vec![2.0; outputs], offset: vec![0.25; outputs] },
        clamp: Some(Clamp { low: vec![-2.0; outputs], high: vec![2.1; outputs] }),
    }
}

/// The policy in f64, by its formula; the action and the largest magnitude inside.
fn exact(graph: &PolicyGraph, observation: &[f32]) -> (Vec<f64>, f64) {
    let normalizer = graph.normalizer.as_ref().unwrap();
    let mut values: Vec<f64> = (observation.iter().zip(&normalizer.mean).zip(&normalizer.std))
        .map(|((x, mean), std)| (f64::from(*x) - f64::from(*mean)) / f64::from(*std))
        .collect();
    let mut peak = values.iter().fold(1.0, |peak: f64, x| peak.max(x.abs()));
    for layer in &graph.mlp.layers {
        let sum = |j: usize| {
            let products = values.iter().enumerate().map(|(i, x)| x * f64::from(layer.weights[i * layer.outputs + j]));
            f64::from(layer.bias[j]) + products.sum::<f64>()
        };
        let sums: Vec<f64> = (0..layer.outputs).map(sum).collect();
        peak = sums.iter().fold(peak, |peak, x| peak.max(x.abs()));
        let activate = |x: f64| match layer.activation {
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Elu => {
                if x < 0.0 {
                    x.exp_m1()
                } else {
                    x
                }
            }
            _ => x,
        };
        values = sums.into_iter().map(activate).collect();
    }
    (values.iter().map(|x| (2.0 * x.tanh() + 0.25).clamp(-2.0, 2.1)).collect(), peak)
}

fn observations(width: usize) -> Vec<Vec<f32>> {
    let mut draws = Draws::new(9);
    let mut rows: Vec<Vec<f32>> = (0..20).map(|_| (0..width).map(|_| 2.0 * draws.normal()).collect()).collect();
    rows.extend([0.0, -0.0, 1e-40, 1e4, -1e4].map(|value| vec![value; width]));
    rows
}

#[test]
fn all_kernels_agree_with_f64() {
    let widths = [&[5, 1][..], &[1, 3], &[17, 64, 6], &[33, 100, 48, 17], &[4, 16, 32, 65], &[3, 130, 7]];
    for (seed, widths) in widths.into_iter().enumerate() {
        for activation in ACTIVATIONS {
            let graph = policy(widths, activation, seed as u64);
            for kernels in Kernels::available() {
                for numerics in [Numerics::Fast, Numerics::Deterministic] {
                    let mut native = NativePolicy::with(graph.clone(), kernels, numerics).unwrap();
                    let mut action = vec![f32::NAN; graph.action_width()];
                    for observation in observations(widths[0]) {
                        native.run(&observation, &mut action).unwrap();
                        let (wanted, scale) = exact(&graph, &observation);
                        let found_scale = f64::from(native.activation_scale()).max(1.0);
                        assert!((found_scale / scale - 1.0).abs() < 1e-3, "{found_scale} {scale}");
                        for (found, wanted) in action.iter().zip(wanted) {
                            let difference = (f64::from(*found) - wanted).abs();
                            assert!(
                                difference <= 2e-6 * 2.0 * scale,
                                "{widths:?} {activation:?} {kernels:?} {numerics:?}: {found} {wanted}, scale {scale}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The order of operations that a microcontroller follows, written as plain loops.
fn by_hand(graph: &PolicyGraph, observation: &[f32]) -> Vec<f32> {
    let normalizer = graph.normalizer.as_ref().unwrap();
    let mut values = vec![0.0; observation.len()];
    policy_runtime::normalize::standardize(observation, &normalizer.mean, &normalizer.std, &mut values);
    for layer in &graph.mlp.layers {
        let mut output = vec![0.0; layer.outputs];
        kernel::dense(&values, &layer.weights, &layer.bias, &mut output);
        layer.activation.apply(&mut output);
        values = output;
    }
    Activation::Tanh.apply(&mut values);
    policy_runtime::action::env_from_unit(&mut values, &graph.affine.scale, &graph.affine.offset);
    let clamp = graph.clamp.as_ref().unwrap();
    policy_runtime::action::clamp_row(&mut values, &clamp.low, &clamp.high);
    values
}

#[test]
fn deterministic_bits_are_those_of_plain_loops_with_all_kernels() {
    for (seed, widths) in [[17, 256, 64, 6], [11, 100, 33, 3], [2, 16, 80, 17]].iter().enumerate() {
        for activation in ACTIVATIONS {
            let graph = policy(widths, activation, seed as u64);
            for observation in observations(widths[0]) {
                let wanted: Vec<u32> = by_hand(&graph, &observation).iter().map(|x| x.to_bits()).collect();
                for kernels in Kernels::available() {
                    let mut native = NativePolicy::with(graph.clone(), kernels, Numerics::Deterministic).unwrap();
                    let mut action = vec![f32::NAN; graph.action_width()];
                    native.run(&observation, &mut action).unwrap();
                    let found: Vec<u32> = action.iter().map(|x| x.to_bits()).collect();
                    assert_eq!(found, wanted, "{widths:?} {activation:?} {kernels:?}");
                }
            }
        }
    }
}

#[test]
fn nan_reaches_the_action_with_all_kernels() {
    let graph = policy(&[17, 64, 6], Activation::Relu, 1);
    let mut observation = vec![0.5; 17];
    observation[7] = f32::NAN;
    for kernels in Kernels::available() {
        for numerics in [Numerics::Fast, Numerics::Deterministic] {
            let mut native = NativePolicy::with(graph.clone(), kernels, numerics).unwrap();
            let mut action = [0.0; 6];
            native.run(&observation, &mut action).unwrap();
            assert!(action.iter().all(|value| value.is_nan()), "{kernels:?} {numerics:?}: {action:?}");
            assert_eq!(native.activation_scale(), f32::INFINITY);
        }
    }
}

#[test]
fn this_machine_uses_what_it_has() {
    assert_eq!(Kernels::available().next(), Some(Kernels::PLAIN));
    assert_eq!(Kernels::available().last(), Some(Kernels::detect()));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
        assert_eq!(Kernels::detect().name(), "avx512");
    }
}

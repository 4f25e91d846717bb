//! The fused operations against plain Burn autodiff, closed forms and recorded traces.

use super::init::{Init, parameters};
use super::mlp::{self, Activation, MlpSpec};
use super::ops::{AdamStep, MlpBackend, Need};
use super::optimizer::{OptimizerConfig, Parameters, values};
use super::{Cpu, ops, reference};
use crate::config::Optimizer;
use crate::run::rng::{Stream, Streams};
use crate::world_model::ensemble::bounded_log_variance;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};

/// Members, inputs, hidden widths, outputs, batch, and how many inputs the members share.
const SPECS: [(usize, usize, [usize; 2], usize, usize, usize); 6] = [
    (1, 5, [16, 16], 1, 9, 1),
    (2, 7, [32, 24], 1, 300, 1),
    (7, 6, [8, 12], 4, 33, 7),
    (1, 3, [64, 64], 6, 513, 1),
    (3, 4, [5, 9], 1, 1, 1),
    (6, 5, [12, 10], 1, 260, 3),
];

fn random<const D: usize>(shape: [usize; D], rng: &mut Stream) -> Tensor<Flex, D> {
    let mut data = vec![0.0; shape.iter().product()];
    rng.fill_normal(&mut data);
    Tensor::from_data(TensorData::new(data, shape), &Default::default())
}

fn close(name: &str, a: Vec<f32>, b: Vec<f32>, tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{name}: lengths");
    let scale = b.iter().fold(1e-6_f32, |m, x| m.max(x.abs()));
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * scale, "{name}: differs by {worst} at scale {scale}");
}

#[test]
fn a_perceptron_without_hidden_layers_is_linear() {
    let mut rng = Streams::new(8).stream("test");
    let spec = MlpSpec::new(2, 3, &[], 4);
    let x = random([2, 5, 3], &mut rng);
    let p = parameters(&spec, Init::Uniform, &mut rng);
    let p = Tensor::<Flex, 1>::from_data(TensorData::new(p, [spec.len()]), &Default::default());
    let run = |fused: bool| {
        let x = Tensor::<Cpu, 3>::from_inner(x.clone()).require_grad();
        let p = Tensor::<Cpu, 1>::from_inner(p.clone()).require_grad();
        let y = if fused {
            mlp::forward(&spec, x.clone(), p.clone())
        } else {
            reference::perceptron::<Cpu>(&spec, x.clone(), &p).0
        };
        let mut grads = y.clone().powi_scalar(2).sum().backward();
        (values(y.inner()), values(x.grad_remove(&mut grads).unwrap()), values(p.grad_remove(&mut grads).unwrap()))
    };
    let (fused, plain) = (run(true), run(false));
    close("y", fused.0, plain.0, 1e-5);
    close("dx", fused.1, plain.1, 1e-5);
    close("dp", fused.2, plain.2, 1e-5);
}

#[test]
fn a_frozen_scalar_network_hands_its_gradient_to_a_shared_input() {
    let mut rng = Streams::new(9).stream("test");
    let spec = MlpSpec::new(4, 6, &[20, 17], 1);
    let x = random([2, 33, 6], &mut rng);
    let w = random([4, 33, 1], &mut rng);
    let p = parameters(&spec, Init::Uniform, &mut rng);
    let p = Tensor::<Cpu, 1>::from_data(TensorData::new(p, [spec.len()]), &Default::default());
    let run = |fused: bool| {
        let x = Tensor::<Cpu, 3>::from_inner(x.clone()).require_grad();
        let y = if fused {
            mlp::forward(&spec, x.clone(), p.clone())
        } else {
            reference::perceptron::<Cpu>(&spec, x.clone(), &p).0
        };
        let mut grads = (y.clone() * Tensor::from_inner(w.clone())).sum().backward();
        (values(y.inner()), values(x.grad_remove(&mut grads).unwrap()))
    };
    let (fused, plain) = (run(true), run(false));
    close("y", fused.0, plain.0, 1e-5);
    close("dx", fused.1, plain.1, 1e-5);
}

#[test]
fn the_fused_perceptron_has_the_gradients_of_plain_autodiff() {
    let cases = SPECS
        .iter()
        .flat_map(|spec| [Activation::Relu, Activation::Tanh, Activation::Silu].map(|activation| (*spec, activation)));
    for ((members, inputs, hidden, outputs, batch, groups), activation) in cases {
        let mut rng = Streams::new(7).stream("test");
        let spec = MlpSpec::new(members, inputs, &hidden, outputs).with_activation(activation);
        let x = random([groups, batch, inputs], &mut rng);
        let w = random([members, batch, outputs], &mut rng);
        let p = parameters(&spec, Init::Uniform, &mut rng);
        let p = Tensor::<Flex, 1>::from_data(TensorData::new(p, [spec.len()]), &Default::default());
        let run = |fused: bool| {
            let x = Tensor::<Cpu, 3>::from_inner(x.clone()).require_grad();
            let p = Tensor::<Cpu, 1>::from_inner(p.clone()).require_grad();
            let y = if fused {
                mlp::forward(&spec, x.clone(), p.clone())
            } else {
                reference::perceptron::<Cpu>(&spec, x.clone(), &p).0
            };
            let mut grads = (y.clone() * Tensor::from_inner(w.clone())).sum().backward();
            (values(y.inner()), values(x.grad_remove(&mut grads).unwrap()), values(p.grad_remove(&mut grads).unwrap()))
        };
        let (fused, plain) = (run(true), run(false));
        let inferred = mlp::forward(&spec, x.clone(), p.clone());
        close("output without gradients", values(inferred), fused.0.clone(), 1e-6);
        close("output", fused.0, plain.0, 1e-5);
        close("input gradient", fused.1, plain.1, 1e-5);
        close("parameter gradient", fused.2, plain.2, 1e-5);
    }
}

#[test]
fn the_tensor_bodies_agree_with_the_kernels() {
    for (members, inputs, hidden, outputs, batch, groups) in SPECS {
        let mut rng = Streams::new(8).stream("test");
        let spec = MlpSpec::new(members, inputs, &hidden, outputs);
        let x = mlp::primitive(random([groups, batch, inputs], &mut rng));
        let gy = mlp::primitive(random([members, batch, outputs], &mut rng));
        let p = parameters(&spec, Init::Uniform, &mut rng);
        let p = mlp::primitive(Tensor::<Flex, 1>::from_data(TensorData::new(p, [spec.len()]), &Default::default()));
        let flat = |t| values::<Flex, 3>(mlp::tensor(t));
        let need = Need { input: true, params: true };
        let (y, hidden) = Flex::mlp_forward(&spec, x.clone(), p.clone());
        let (z, plain) = reference::forward::<Flex>(&spec, x.clone(), p.clone());
        close("output", flat(y), flat(z), 1e-5);
        let (gx, gp) = Flex::mlp_backward(&spec, x.clone(), p.clone(), hidden, gy.clone(), need);
        let (rx, rp) = reference::backward::<Flex>(&spec, x.clone(), p.clone(), plain, gy, need);
        close("input gradient", flat(gx.unwrap()), flat(rx.unwrap()), 1e-5);
        let vector = |t: Option<_>| values::<Flex, 1>(mlp::tensor(t.unwrap()));
        close("parameter gradient", vector(gp), vector(rp), 1e-5);
        if outputs == 1 {
            let (g, hidden, signals) = Flex::input_gradient(&spec, x.clone(), p.clone());
            let (r, rh, rs) = reference::input_gradient::<Flex>(&spec, x, p.clone());
            close("df/dx", flat(g), flat(r), 1e-5);
            let gg = mlp::primitive(random([members, batch, inputs], &mut rng));
            let a = Flex::input_gradient_backward(&spec, p.clone(), hidden, signals, gg.clone());
            let b = reference::input_gradient_backward::<Flex>(&spec, p, rh, rs, gg);
            close("d(df/dx)/dp", vector(Some(a)), vector(Some(b)), 1e-5);
        }
    }
}

#[test]
fn the_input_gradient_is_that_of_autodiff() {
    let mut rng = Streams::new(9).stream("test");
    let spec = MlpSpec::new(3, 6, &[20, 20], 1);
    let p = parameters(&spec, Init::Orthogonal, &mut rng);
    let p = Tensor::<Flex, 1>::from_data(TensorData::new(p, [spec.len()]), &Default::default());
    let x = random([3, 40, 6], &mut rng);
    let tracked = Tensor::<Cpu, 3>::from_inner(x.clone()).require_grad();
    let y = mlp::forward(&spec, tracked.clone(), Tensor::from_inner(p.clone()));
    let expected = tracked.grad_remove(&mut y.sum().backward()).unwrap();
    close("df/dx", values(mlp::input_gradient(&spec, x, p)), values(expected), 1e-6);
}

#[test]
fn the_optimisers_follow_the_recorded_traces() {
    let gradients = [1.0_f32, 1.0, -0.5, 2.0];
    let traces = [
        (Optimizer::OptimisticAdam, [-0.001_999_999_4, -0.003_255_862_3, -0.003_428_706_6, -0.004_396_304_4]),
        (Optimizer::Adam, [-0.001, -0.002, -0.002_515_653, -0.003_233_997]),
    ];
    for (rule, trace) in traces {
        let mut parameters = Parameters::<Flex>::new(vec![0.0], true, OptimizerConfig::new(rule), &Default::default());
        for (gradient, expected) in gradients.into_iter().zip(trace) {
            parameters.step(Tensor::from_data([gradient], &Default::default()), 1e-3, 0.5);
            let theta = values(parameters.get())[0];
            assert!((theta - expected).abs() < 5e-9, "{rule:?}: {theta} instead of {expected}");
        }
    }
}

/// `min over x, max over y, of x·y`, both playing at once, without momentum: following the gradient leads around the solution,
/// optimism into it (Daskalakis et al. 2018). With momentum 0.9, as in the games here, neither converges.
#[test]
fn optimism_ends_the_bilinear_game() {
    let played = |optimistic: bool| {
        let from = |values: [f32; 2]| Tensor::<Flex, 1>::from_data(values, &Default::default());
        let mut state = [from([1.0, 0.5]), from([0.0; 2]), from([0.0; 2])];
        for time in 1..=6000 {
            let at = values(state[0].clone());
            let step = AdamStep {
                time,
                learning_rate: 0.01,
                beta1: 0.0,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.0,
                optimistic,
                polyak_rate: 0.0,
            };
            let [p, m, v] = state.map(mlp::primitive);
            let r = Flex::adam(&step, p, mlp::primitive(from([at[1], -at[0]])), m, v, None);
            state = [r.params, r.first, r.second].map(mlp::tensor);
        }
        values(state[0].clone()).iter().map(|x| x * x).sum::<f32>().sqrt()
    };
    let (plain, optimistic) = (played(false), played(true));
    assert!(plain > 0.7 && optimistic < 0.05, "{plain} from the solution, {optimistic} with optimism");
}

#[test]
fn the_fused_optimiser_agrees_with_its_tensor_body() {
    for optimistic in [false, true] {
        let mut rng = Streams::new(10).stream("test");
        let start: [Tensor<Flex, 1>; 2] = [random([97], &mut rng), random([97], &mut rng)];
        let zeros = Tensor::<Flex, 1>::zeros([97], &Default::default());
        let mut a = [start[0].clone(), zeros.clone(), zeros.clone(), start[1].clone()];
        let mut b = a.clone();
        for time in 1..6 {
            let gradient: Tensor<Flex, 1> = random([97], &mut rng);
            let step = AdamStep {
                time,
                learning_rate: 1e-2,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.01,
                optimistic,
                polyak_rate: 0.02,
            };
            let g = || mlp::primitive(gradient.clone());
            let [p, m, v, t] = a.map(mlp::primitive);
            let r = Flex::adam(&step, p, g(), m, v, Some(t));
            a = [r.params, r.first, r.second, r.target.unwrap()].map(mlp::tensor);
            let [p, m, v, t] = b.map(mlp::primitive);
            let r = reference::adam::<Flex>(&step, p, g(), m, v, Some(t));
            b = [r.params, r.first, r.second, r.target.unwrap()].map(mlp::tensor);
        }
        for (name, (a, b)) in ["params", "first", "second", "target"].iter().zip(a.into_iter().zip(b)) {
            close(name, values(a), values(b), 1e-6);
        }
    }
}

#[test]
fn the_fused_squashed_gaussian_has_the_gradients_of_plain_autodiff() {
    let mut rng = Streams::new(9).stream("test");
    let (rows, actions) = (37, 6);
    let head = random::<3>([2, rows, 2 * actions], &mut rng) * 0.4;
    let noise = random([2, rows, actions], &mut rng);
    let weights = random([2, rows, actions + 1], &mut rng);
    let run = |how: usize| {
        let head = Tensor::<Cpu, 3>::from_inner(head.clone()).require_grad();
        let noise = Tensor::<Cpu, 3>::from_inner(noise.clone());
        let drawn = match how {
            0 => ops::squash(head.clone(), noise),
            _ => {
                let (action, log_prob) = reference::squashed_gaussian(head.clone(), noise);
                Tensor::cat(vec![action, log_prob], 2)
            }
        };
        let mut grads = (drawn.clone() * Tensor::from_inner(weights.clone())).sum().backward();
        (values(drawn.inner()), values(head.grad_remove(&mut grads).unwrap()))
    };
    let (fused, plain) = (run(0), run(1));
    close("actions and log-probabilities", fused.0, plain.0, 1e-5);
    // `1 - tanh²` loses digits where tanh nears one, differently in the two.
    close("head gradient", fused.1.clone(), plain.1, 1e-4);
    let tensor_code = reference::squash_backward::<Flex>(
        head.into_primitive().tensor(),
        noise.into_primitive().tensor(),
        weights.into_primitive().tensor(),
    );
    let tensor_code = Tensor::<Flex, 3>::from_primitive(TensorPrimitive::Float(tensor_code));
    close("tensor code's head gradient", values(tensor_code), fused.1, 1e-4);
}

#[test]
fn the_fused_gaussian_loss_has_the_value_and_gradient_of_plain_autodiff() {
    let mut rng = Streams::new(10).stream("test");
    let (members, batch, outputs) = (3, 21, 4);
    let head = random::<3>([members, batch, 2 * outputs], &mut rng) * 2.0;
    let target = random::<3>([members, batch, outputs], &mut rng);
    let weights = random::<1>([members], &mut rng);
    let run = |fused: bool| {
        let head = Tensor::<Cpu, 3>::from_inner(head.clone()).require_grad();
        let target = Tensor::<Cpu, 3>::from_inner(target.clone());
        let losses = if fused {
            ops::gaussian_loss(head.clone(), target)
        } else {
            let error = head.clone().narrow(2, 0, outputs) - target;
            let log_variance = bounded_log_variance(head.clone().narrow(2, outputs, outputs));
            let terms = error.clone() * error * log_variance.clone().neg().exp() + log_variance;
            terms.mean_dim(2).mean_dim(1).reshape([members])
        };
        let mut grads = (losses.clone() * Tensor::from_inner(weights.clone())).sum().backward();
        (values(losses.inner()), values(head.grad_remove(&mut grads).unwrap()))
    };
    let (fused, plain) = (run(true), run(false));
    close("losses", fused.0, plain.0, 1e-5);
    close("head gradient", fused.1, plain.1, 1e-5);
    let (head, target) = (head.into_primitive().tensor(), target.into_primitive().tensor());
    let kernel = Flex::gaussian_loss(head.clone(), target.clone());
    let body = reference::gaussian_loss::<Flex>(head, target);
    for (name, kernel, body) in [("losses", kernel.0, body.0), ("gradient", kernel.1, body.1)] {
        let read = |t| values(Tensor::<Flex, 3>::from_primitive(TensorPrimitive::Float(t)));
        close(name, read(kernel), read(body), 1e-5);
    }
}

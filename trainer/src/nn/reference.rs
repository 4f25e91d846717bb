//! The perceptron operations in ordinary Burn tensor code: the CUDA bodies, and the oracle of the CPU kernels.

use super::mlp::{Activation, Layer, MlpSpec, primitive, tensor};
use super::ops::{AdamResult, AdamStep, Float, LOG_STD_BOUNDS, LOG_VARIANCE_BOUNDS, MlpBackend, Need, SQUASH_EPSILON};
use burn::tensor::{Tensor, activation};

fn weight<B: MlpBackend>(spec: &MlpSpec, layer: Layer, params: &Tensor<B, 1>) -> Tensor<B, 3> {
    let size = spec.members * layer.inputs * layer.outputs;
    params.clone().narrow(0, layer.weight, size).reshape([spec.members, layer.inputs, layer.outputs])
}

fn bias<B: MlpBackend>(spec: &MlpSpec, layer: Layer, params: &Tensor<B, 1>) -> Tensor<B, 3> {
    params.clone().narrow(0, layer.bias, spec.members * layer.outputs).reshape([spec.members, 1, layer.outputs])
}

/// 1 where a ReLU let its input through, 0 elsewhere.
fn mask<B: MlpBackend>(hidden: Tensor<B, 3>) -> Tensor<B, 3> {
    hidden.greater_elem(0.0).float()
}

/// One input per member from `[members / k, batch, inputs]`, each shared by k members in a row.
pub fn spread<B: MlpBackend>(spec: &MlpSpec, x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [groups, batch, inputs] = x.dims();
    match groups {
        1 => x.expand([spec.members, batch, inputs]),
        _ if groups == spec.members => x,
        _ => {
            let shared = spec.members / groups;
            let x = x.reshape([groups, 1, batch, inputs]).expand([groups, shared, batch, inputs]);
            x.reshape([spec.members, batch, inputs])
        }
    }
}

/// The perceptron as plain differentiable tensor code: output and what [`MlpBackend::mlp_forward`] calls `hidden`.
pub fn perceptron<B: MlpBackend>(
    spec: &MlpSpec,
    x: Tensor<B, 3>,
    params: &Tensor<B, 1>,
) -> (Tensor<B, 3>, Vec<Tensor<B, 3>>) {
    let mut y = spread(spec, x);
    let (mut hidden, mut slopes) = (Vec::with_capacity(spec.depth()), Vec::new());
    for (index, layer) in spec.layers().enumerate() {
        y = y.matmul(weight(spec, layer, params)) + bias(spec, layer, params);
        if index + 1 < spec.depth() {
            match spec.activation {
                Activation::Relu => y = activation::relu(y),
                Activation::Tanh => {
                    y = y.tanh();
                    slopes.push((y.clone() * y.clone()).neg().add_scalar(1.0));
                }
                Activation::Silu => {
                    let gate = activation::sigmoid(y.clone());
                    y = y * gate.clone();
                    slopes.push(gate.clone() + y.clone() * gate.neg().add_scalar(1.0));
                }
            }
            hidden.push(y.clone());
        }
    }
    hidden.append(&mut slopes);
    (y, hidden)
}

/// See [`MlpBackend::mlp_forward`].
pub fn forward<B: MlpBackend>(spec: &MlpSpec, x: Float<B>, params: Float<B>) -> (Float<B>, Vec<Float<B>>) {
    let (y, hidden) = perceptron::<B>(spec, tensor(x), &tensor(params));
    (primitive(y), hidden.into_iter().map(primitive).collect())
}

/// See [`MlpBackend::mlp_backward`].
pub fn backward<B: MlpBackend>(
    spec: &MlpSpec,
    x: Float<B>,
    params: Float<B>,
    hidden: Vec<Float<B>>,
    gy: Float<B>,
    need: Need,
) -> (Option<Float<B>>, Option<Float<B>>) {
    let (x, params): (Tensor<B, 3>, Tensor<B, 1>) = (tensor(x), tensor(params));
    let [groups, batch, inputs] = x.dims();
    let mut activations = vec![spread(spec, x)];
    activations.extend(hidden.into_iter().map(tensor::<B, 3>));
    let mut g: Tensor<B, 3> = tensor(gy);
    let mut pieces = Vec::with_capacity(2 * spec.depth());
    for (index, layer) in spec.layers().enumerate().rev() {
        let input = activations[index].clone();
        if need.params {
            pieces.push(g.clone().sum_dim(1).reshape([spec.members * layer.outputs]));
            let gw = input.clone().swap_dims(1, 2).matmul(g.clone());
            pieces.push(gw.reshape([spec.members * layer.inputs * layer.outputs]));
        }
        if index > 0 || need.input {
            g = g.matmul(weight(spec, layer, &params).swap_dims(1, 2));
        }
        if index > 0 {
            g = g * match activations.get(spec.depth() - 1 + index) {
                Some(slope) => slope.clone(),
                None => mask(input),
            };
        }
    }
    pieces.reverse();
    let gx = need.input.then(|| {
        primitive(match groups {
            _ if groups == spec.members => g,
            1 => g.sum_dim(0),
            _ => {
                let shared = spec.members / groups;
                g.reshape([groups, shared, batch * inputs]).sum_dim(1).reshape([groups, batch, inputs])
            }
        })
    });
    (gx, need.params.then(|| primitive(Tensor::cat(pieces, 0))))
}

/// See [`MlpBackend::input_gradient`].
pub fn input_gradient<B: MlpBackend>(
    spec: &MlpSpec,
    x: Float<B>,
    params: Float<B>,
) -> (Float<B>, Vec<Float<B>>, Vec<Float<B>>) {
    let (x, params): (Tensor<B, 3>, Tensor<B, 1>) = (tensor(x), tensor(params));
    let [_, batch, _] = x.dims();
    let (_, hidden) = perceptron::<B>(spec, x, &params);
    let mut g: Option<Tensor<B, 3>> = None;
    let mut signals = Vec::with_capacity(hidden.len());
    for (index, layer) in spec.layers().enumerate().rev() {
        let w = weight(spec, layer, &params).swap_dims(1, 2);
        let back = match g {
            None => w.expand([spec.members, batch, layer.inputs]),
            Some(g) => g.matmul(w),
        };
        g = Some(if index > 0 {
            let signal = back * mask(hidden[index - 1].clone());
            signals.push(primitive(signal.clone()));
            signal
        } else {
            back
        });
    }
    signals.reverse();
    let g = g.unwrap_or_else(|| Tensor::zeros([spec.members, batch, spec.inputs()], &params.device()));
    (primitive(g), hidden.into_iter().map(primitive).collect(), signals)
}

/// See [`MlpBackend::input_gradient_backward`].
pub fn input_gradient_backward<B: MlpBackend>(
    spec: &MlpSpec,
    params: Float<B>,
    hidden: Vec<Float<B>>,
    signals: Vec<Float<B>>,
    gg: Float<B>,
) -> Float<B> {
    let params: Tensor<B, 1> = tensor(params);
    let signals: Vec<Tensor<B, 3>> = signals.into_iter().map(tensor).collect();
    let mut g: Tensor<B, 3> = tensor(gg);
    let mut pieces = Vec::with_capacity(2 * spec.depth());
    for (index, layer) in spec.layers().enumerate() {
        let size = spec.members * layer.inputs * layer.outputs;
        let gw = match signals.get(index) {
            Some(signal) => g.clone().swap_dims(1, 2).matmul(signal.clone()),
            None => g.clone().sum_dim(1).swap_dims(1, 2),
        };
        pieces.push(gw.reshape([size]));
        pieces.push(Tensor::zeros([spec.members * layer.outputs], &params.device()));
        if index + 1 < spec.depth() {
            g = g.matmul(weight(spec, layer, &params)) * mask(tensor(hidden[index].clone()));
        }
    }
    primitive(Tensor::cat(pieces, 0))
}

/// The squashed Gaussian as plain differentiable tensor code: action and log-probability of `[.., batch, _]` rows.
pub fn squashed_gaussian<B: MlpBackend>(head: Tensor<B, 3>, noise: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let actions = noise.dims()[2];
    let mean = head.clone().narrow(2, 0, actions);
    let log_std = head.narrow(2, actions, actions).clamp(LOG_STD_BOUNDS.0, LOG_STD_BOUNDS.1);
    let action = (mean + log_std.clone().exp() * noise.clone()).tanh();
    let half_log_tau = 0.5 * (2.0 * std::f64::consts::PI).ln();
    let gaussian = noise.clone() * noise * -0.5 - log_std - half_log_tau;
    let squash = (action.clone() * action.clone()).neg().add_scalar(1.0 + SQUASH_EPSILON).log();
    (action, (gaussian - squash).sum_dim(2))
}

/// See [`MlpBackend::squash`].
pub fn squash<B: MlpBackend>(head: Float<B>, noise: Float<B>) -> Float<B> {
    let (action, log_prob) = squashed_gaussian::<B>(tensor(head), tensor(noise));
    primitive(Tensor::cat(vec![action, log_prob], 2))
}

/// See [`MlpBackend::squash_backward`].
pub fn squash_backward<B: MlpBackend>(head: Float<B>, noise: Float<B>, g: Float<B>) -> Float<B> {
    let (head, noise, g): (Tensor<B, 3>, Tensor<B, 3>, Tensor<B, 3>) = (tensor(head), tensor(noise), tensor(g));
    let actions = noise.dims()[2];
    let (by_action, by_log_prob) = (g.clone().narrow(2, 0, actions), g.narrow(2, actions, 1));
    let log_std = head.clone().narrow(2, actions, actions);
    let bounded = log_std.clone().clamp(LOG_STD_BOUNDS.0, LOG_STD_BOUNDS.1);
    let spread = bounded.clone().exp() * noise;
    let action = (head.narrow(2, 0, actions) + spread.clone()).tanh();
    let slope = (action.clone() * action.clone()).neg().add_scalar(1.0);
    let squash = action * 2.0 / slope.clone().add_scalar(SQUASH_EPSILON);
    let by_mean = slope * (by_action + by_log_prob.clone() * squash);
    let by_log_std = (by_mean.clone() * spread - by_log_prob) * bounded.equal(log_std).float();
    primitive(Tensor::cat(vec![by_mean, by_log_std], 2))
}

/// See [`MlpBackend::gaussian_loss`].
pub fn gaussian_loss<B: MlpBackend>(head: Float<B>, target: Float<B>) -> (Float<B>, Float<B>) {
    let (head, target): (Tensor<B, 3>, Tensor<B, 3>) = (tensor(head), tensor(target));
    let [_, batch, outputs] = target.dims();
    let (least, most) = LOG_VARIANCE_BOUNDS;
    let raw = head.clone().narrow(2, outputs, outputs);
    let to_most = raw.neg().add_scalar(most);
    let below = activation::softplus(to_most.clone(), 1.0).neg().add_scalar(most);
    let from_least = below.sub_scalar(least);
    let log_variance = activation::softplus(from_least.clone(), 1.0).add_scalar(least);
    let error = head.narrow(2, 0, outputs) - target;
    let precision = log_variance.clone().neg().exp();
    let scaled = error.clone() * precision;
    let squared = error * scaled.clone();
    let count = (batch * outputs) as f64;
    let loss = (squared.clone() + log_variance).sum_dim(2).sum_dim(1) / count;
    let slope = activation::sigmoid(to_most) * activation::sigmoid(from_least);
    let by_raw = squared.neg().add_scalar(1.0) * slope / count;
    (primitive(loss), primitive(Tensor::cat(vec![scaled * (2.0 / count), by_raw], 2)))
}

/// See [`MlpBackend::adam`].
pub fn adam<B: MlpBackend>(
    step: &AdamStep,
    params: Float<B>,
    gradient: Float<B>,
    first: Float<B>,
    second: Float<B>,
    target: Option<Float<B>>,
) -> AdamResult<B> {
    let (mut p, mut g): (Tensor<B, 1>, Tensor<B, 1>) = (tensor(params), tensor(gradient));
    let (mut m, mut v): (Tensor<B, 1>, Tensor<B, 1>) = (tensor(first), tensor(second));
    let (rate, root) = (step.rate(), step.root_scale());
    if step.weight_decay > 0.0 {
        g = g + p.clone() * step.weight_decay;
    }
    if step.optimistic {
        p = p + m.clone() / (v.clone().sqrt() + step.epsilon) * rate;
    }
    m = m * step.beta1 + g.clone() * (1.0 - step.beta1);
    v = v * step.beta2 + g.clone() * g * (1.0 - step.beta2);
    let rate = if step.optimistic { 2.0 * rate } else { rate };
    p = p - m.clone() / (v.clone().sqrt() * root + step.epsilon) * rate;
    let target = target.map(|target| {
        let target: Tensor<B, 1> = tensor(target);
        primitive(target * (1.0 - step.polyak_rate) + p.clone() * step.polyak_rate)
    });
    AdamResult { params: primitive(p), first: primitive(m), second: primitive(v), target }
}

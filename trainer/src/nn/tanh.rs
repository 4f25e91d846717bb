//! What GAIL's small tanh networks need beside [`super::mlp`]: their input gradient, in ordinary Burn tensor code, and how they
//! start.

use super::init;
use super::mlp::{Layer, MlpSpec};
use crate::run::rng::Stream;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

fn weight<B: Backend>(spec: &MlpSpec, layer: Layer, params: &Tensor<B, 1>) -> Tensor<B, 3> {
    let size = spec.members * layer.inputs * layer.outputs;
    params.clone().narrow(0, layer.weight, size).reshape([spec.members, layer.inputs, layer.outputs])
}

/// Output, and the activations of the hidden layers.
fn run<B: Backend>(spec: &MlpSpec, x: Tensor<B, 3>, params: &Tensor<B, 1>) -> (Tensor<B, 3>, Vec<Tensor<B, 3>>) {
    let batch = x.dims()[1];
    let mut y = x.expand([spec.members, batch, spec.inputs()]);
    let mut hidden = Vec::with_capacity(spec.depth());
    for (index, layer) in spec.layers().enumerate() {
        let bias = params.clone().narrow(0, layer.bias, spec.members * layer.outputs);
        y = y.matmul(weight(spec, layer, params)) + bias.reshape([spec.members, 1, layer.outputs]);
        if index + 1 < spec.depth() {
            y = y.tanh();
            hidden.push(y.clone());
        }
    }
    (y, hidden)
}

/// Gradient of the scalar output with respect to the input row, written out so that it is differentiable in the
/// parameters: `W₁ D₁ W₂ D₂ w₃` with `D = 1 - tanh²`.
///
/// # Shapes
/// - `x`: `[members | 1, batch, inputs]`, constant
/// - output: `[members, batch, inputs]`
pub fn input_gradient<B: Backend>(spec: &MlpSpec, x: Tensor<B, 3>, params: Tensor<B, 1>) -> Tensor<B, 3> {
    let batch = x.dims()[1];
    let (output, hidden) = run(spec, x, &params);
    let mut gradient = output.ones_like();
    for (index, layer) in spec.layers().enumerate().rev() {
        let back = weight(spec, layer, &params).swap_dims(1, 2);
        gradient = gradient.matmul(back).reshape([spec.members, batch, layer.inputs]);
        if index > 0 {
            let h = hidden[index - 1].clone();
            gradient = gradient * (h.clone() * h).neg().add_scalar(1.0);
        }
    }
    gradient
}

/// Fresh parameters of a single member: orthogonal weights, `gain` on hidden layers and `output_gain` on the last, zero
/// biases.
pub fn orthogonal(spec: &MlpSpec, gain: f64, output_gain: f64, rng: &mut Stream) -> Vec<f32> {
    let mut params = init::parameters(spec, init::Init::OrthogonalZeroBias, rng);
    for (index, layer) in spec.layers().enumerate() {
        let gain = if index + 1 < spec.depth() { gain } else { output_gain };
        params[layer.weight..layer.bias].iter_mut().for_each(|weight| *weight = (f64::from(*weight) * gain) as f32);
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Cpu;
    use crate::nn::mlp::{self, Activation};
    use crate::nn::optimizer::values;
    use crate::run::rng::Streams;
    use burn::tensor::TensorData;

    #[test]
    fn the_input_gradient_is_what_autodiff_finds() {
        let spec = MlpSpec::new(1, 3, &[8, 8], 1).with_activation(Activation::Tanh);
        let device = Default::default();
        let params = orthogonal(&spec, 1.4, 1.0, &mut Streams::new(2).stream("init"));
        let params = Tensor::<Cpu, 1>::from_data(TensorData::new(params, [spec.len()]), &device);
        let x = Tensor::<Cpu, 3>::from_data([[[0.3, -0.8, 1.2], [-1.5, 0.4, 0.0]]], &device).require_grad();
        let expected = x.grad(&mlp::forward(&spec, x.clone(), params.clone()).sum().backward()).unwrap();
        let found = input_gradient(&spec, x, params).inner();
        for (a, b) in values(found).iter().zip(values(expected)) {
            assert!((a - b).abs() < 1e-6, "{a} instead of {b}");
        }
    }
}

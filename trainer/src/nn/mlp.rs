//! The shape of a perceptron, its flat parameter vector, and applying it.

use super::ops::MlpBackend;
use burn::tensor::{Tensor, TensorPrimitive};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What stands between the layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `max(x, 0)`.
    #[default]
    Relu,
    /// `tanh x`.
    Tanh,
    /// `x / (1 + e^-x)`.
    Silu,
}

/// Sizes of a perceptron with an activation between its layers and a linear output.
///
/// Parameters lie layer by layer, `W0[members, in, out] b0[members, out] W1 …`, row-major.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MlpSpec {
    /// Independent networks side by side.
    pub members: usize,
    /// Inputs, hidden widths, outputs.
    pub widths: Vec<usize>,
    /// Between the layers.
    pub activation: Activation,
}

/// Where one layer lies in the flat parameter vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Input width.
    pub inputs: usize,
    /// Output width.
    pub outputs: usize,
    /// Offset of `W[members, inputs, outputs]`.
    pub weight: usize,
    /// Offset of `b[members, outputs]`.
    pub bias: usize,
}

impl Layer {
    /// Where one member's weights lie.
    pub fn weight_of(&self, member: usize) -> Range<usize> {
        let size = self.inputs * self.outputs;
        self.weight + member * size..self.weight + (member + 1) * size
    }

    /// Where one member's bias lies.
    pub fn bias_of(&self, member: usize) -> Range<usize> {
        self.bias + member * self.outputs..self.bias + (member + 1) * self.outputs
    }
}

impl MlpSpec {
    /// A ReLU perceptron of `members` copies with `inputs`, `hidden` and `outputs` widths.
    pub fn new(members: usize, inputs: usize, hidden: &[usize], outputs: usize) -> Self {
        let widths = [inputs].iter().chain(hidden).chain(&[outputs]).copied().collect();
        Self { members, widths, activation: Activation::Relu }
    }

    /// The same sizes with another activation.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Width of an input row.
    pub fn inputs(&self) -> usize {
        self.widths[0]
    }

    /// Width of an output row.
    pub fn outputs(&self) -> usize {
        self.widths[self.widths.len() - 1]
    }

    /// Number of linear layers.
    pub fn depth(&self) -> usize {
        self.widths.len() - 1
    }

    /// The layers with their places in the parameter vector.
    pub fn layers(&self) -> impl DoubleEndedIterator<Item = Layer> + ExactSizeIterator + '_ {
        (0..self.depth()).map(|index| {
            let before: usize = self.widths.windows(2).take(index).map(|w| (w[0] + 1) * w[1]).sum();
            let (inputs, outputs) = (self.widths[index], self.widths[index + 1]);
            let weight = before * self.members;
            Layer { inputs, outputs, weight, bias: weight + self.members * inputs * outputs }
        })
    }

    /// Length of the flat parameter vector.
    pub fn len(&self) -> usize {
        self.layers().last().map_or(0, |layer| layer.bias + self.members * layer.outputs)
    }

    /// The same network for each of `seeds` stacked seeds; a seed's members stay side by side.
    pub fn stacked(&self, seeds: usize) -> Self {
        Self { members: self.members * seeds, widths: self.widths.clone(), activation: self.activation }
    }

    /// Lengths of the pieces of the parameter vector that have a leading member axis: `W0, b0, W1, …`.
    pub fn pieces(&self) -> Vec<usize> {
        self.layers()
            .flat_map(|layer| [layer.inputs * layer.outputs, layer.outputs])
            .map(|size| self.members * size)
            .collect()
    }

    /// The network of `params` on inputs whose last number is 0, without that number.
    pub fn without_last_input(&self, params: &[f32]) -> (Self, Vec<f32>) {
        let mut spec = self.clone();
        spec.widths[0] -= 1;
        let mut left = Vec::with_capacity(spec.len());
        for (index, layer) in self.layers().enumerate() {
            let inputs = if index == 0 { layer.inputs - 1 } else { layer.inputs };
            for member in 0..self.members {
                left.extend_from_slice(&params[layer.weight_of(member)][..inputs * layer.outputs]);
            }
            left.extend_from_slice(&params[layer.bias..][..self.members * layer.outputs]);
        }
        (spec, left)
    }

    /// Whether there is nothing to learn.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Applies the perceptron.
///
/// # Shapes
/// - `x`: `[members / k, batch, inputs]`: k members in a row share an input
/// - `params`: `[spec.len()]`
/// - output: `[members, batch, outputs]`
pub fn forward<B: MlpBackend>(spec: &MlpSpec, x: Tensor<B, 3>, params: Tensor<B, 1>) -> Tensor<B, 3> {
    tensor(B::mlp(spec, primitive(x), primitive(params)))
}

/// Gradient of the scalar output with respect to the input row, differentiable in the parameters (first order).
///
/// # Shapes
/// - `x`: `[members / k, batch, inputs]`, constant
/// - output: `[members, batch, inputs]`
///
/// ReLU networks only: their activations' second derivative is zero almost everywhere.
pub fn input_gradient<B: MlpBackend>(spec: &MlpSpec, x: Tensor<B, 3>, params: Tensor<B, 1>) -> Tensor<B, 3> {
    assert_eq!(spec.activation, Activation::Relu, "input gradients are written out for ReLU");
    let (g, _, _) = B::input_gradient(spec, primitive(x), primitive(params));
    tensor(g)
}

pub(super) fn primitive<B: MlpBackend, const D: usize>(tensor: Tensor<B, D>) -> super::ops::Float<B> {
    tensor.into_primitive().tensor()
}

pub(super) fn tensor<B: MlpBackend, const D: usize>(primitive: super::ops::Float<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_tile_the_parameter_vector() {
        let spec = MlpSpec::new(2, 3, &[4, 5], 1);
        let layers: Vec<_> = spec.layers().collect();
        assert_eq!(layers[0], Layer { inputs: 3, outputs: 4, weight: 0, bias: 24 });
        assert_eq!(layers[1], Layer { inputs: 4, outputs: 5, weight: 32, bias: 72 });
        assert_eq!(layers[2], Layer { inputs: 5, outputs: 1, weight: 82, bias: 92 });
        assert_eq!(spec.len(), 94);
    }
}

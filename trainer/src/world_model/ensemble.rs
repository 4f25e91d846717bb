//! An ensemble of Gaussian networks and the step that fits it.

use crate::config::Optimizer;
use crate::nn::init::Init;
use crate::nn::mlp::{Activation, MlpSpec};
use crate::nn::ops::{self, LOG_VARIANCE_BOUNDS};
use crate::nn::optimizer::{Network, OptimizerConfig};
use crate::nn::{Inner, Train};
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

/// Sizes of an ensemble.
#[derive(Debug, Clone, PartialEq)]
pub struct EnsembleConfig {
    /// Models side by side: 7 in the paper.
    pub members: usize,
    /// Hidden widths: four of 200 or 400.
    pub hidden: Vec<usize>,
    /// Between the layers: SiLU in the published code.
    pub activation: Activation,
    /// L2 penalty on all parameters: 5e-5 in the published code.
    pub weight_decay: f64,
}

/// Models of `outputs` numbers from `inputs` numbers, each a mean and a variance per output.
#[derive(Debug)]
pub struct Ensemble<B: Train> {
    network: Network<B>,
    device: B::Device,
}

impl<B: Train> Ensemble<B> {
    /// Fresh models.
    pub fn new(config: &EnsembleConfig, inputs: usize, outputs: usize, streams: Streams, device: &B::Device) -> Self {
        let spec = MlpSpec::new(config.members, inputs, &config.hidden, 2 * outputs).with_activation(config.activation);
        let optimizer = OptimizerConfig { rule: Optimizer::Adam, weight_decay: config.weight_decay };
        let mut rng: [Stream; 1] = [streams.stream("world_model/init")];
        Self { network: Network::new(spec, Init::Uniform, false, optimizer, &mut rng, device), device: device.clone() }
    }

    /// Rows for [`Ensemble::step`] on the device: `[members, batch, width]`.
    pub fn rows(&self, values: Vec<f32>, width: usize) -> Tensor<Inner<B>, 3> {
        let members = self.network.spec().members;
        let batch = values.len() / (members * width);
        Tensor::from_data(TensorData::new(values, [members, batch, width]), &self.device)
    }

    /// Means and log variances, each `[members, batch, outputs]`, of `inputs` `[members | 1, batch, inputs]`.
    pub fn predict(&self, inputs: Tensor<Inner<B>, 3>) -> (Tensor<Inner<B>, 3>, Tensor<Inner<B>, 3>) {
        let head = self.network.infer(inputs);
        let outputs = head.dims()[2] / 2;
        (head.clone().narrow(2, 0, outputs), bounded_log_variance(head.narrow(2, outputs, outputs)))
    }

    /// One step of every model down its own loss, on its own rows: `inputs` `[members, batch, inputs]`, `targets` `[members,
    /// batch, outputs]`. Returns each model's loss before the step, `[members]`, still on the device.
    pub fn step(
        &mut self,
        inputs: Tensor<Inner<B>, 3>,
        targets: Tensor<Inner<B>, 3>,
        learning_rate: f64,
    ) -> Tensor<Inner<B>, 1> {
        let models = self.network.apply(inputs);
        let losses = ops::gaussian_loss(models.output.clone(), Tensor::from_inner(targets));
        let measured = losses.clone().inner();
        self.network.descend(losses.sum(), [models], learning_rate, 0.0);
        measured
    }
}

/// Log variances held softly between their bounds: `l ← max - softplus(max - l)`, then `l ← min + softplus(l - min)`
/// (Chua et al. 2018, appendix A.1, with fixed bounds as in facebookresearch/mbrl-lib).
pub fn bounded_log_variance<B: Backend>(raw: Tensor<B, 3>) -> Tensor<B, 3> {
    let (least, most) = LOG_VARIANCE_BOUNDS;
    let softplus = |x| burn::tensor::activation::softplus(x, 1.0);
    let below = softplus(raw.neg().add_scalar(most)).neg().add_scalar(most);
    softplus(below.sub_scalar(least)).add_scalar(least)
}

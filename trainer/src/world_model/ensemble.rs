//! An ensemble of Gaussian networks and the step that fits it.

use crate::config::{Optimizer, WorldModelConfig};
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::mlp::{self, Activation, MlpSpec};
use crate::nn::ops::{self, LOG_VARIANCE_BOUNDS, MlpBackend};
use crate::nn::optimizer::{Network, OptimizerConfig, ParametersRecord};
use crate::nn::{Inner, Train};
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use std::ops::Range;

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
    /// Means are clamped to ±this, in fitting and predicting: 40 on some tasks of the published code.
    pub mean_clip: Option<f64>,
}

impl From<&WorldModelConfig> for EnsembleConfig {
    fn from(config: &WorldModelConfig) -> Self {
        Self {
            members: config.members,
            hidden: config.hidden.clone(),
            activation: Activation::Silu,
            weight_decay: config.weight_decay,
            mean_clip: config.mean_clip,
        }
    }
}

/// Models of `outputs` numbers from `inputs` numbers, each a mean and a variance per output.
#[derive(Debug)]
pub struct Ensemble<B: Train> {
    network: Network<B>,
    mean_clip: Option<f64>,
    device: B::Device,
}

impl<B: Train> Ensemble<B> {
    /// Fresh models.
    pub fn new(config: &EnsembleConfig, inputs: usize, outputs: usize, streams: Streams, device: &B::Device) -> Self {
        let spec = MlpSpec::new(config.members, inputs, &config.hidden, 2 * outputs).with_activation(config.activation);
        let optimizer = OptimizerConfig { rule: Optimizer::Adam, weight_decay: config.weight_decay };
        let mut rng: [Stream; 1] = [streams.stream("world_model/init")];
        let network = Network::new(spec, Init::TruncatedNormal, false, optimizer, &mut rng, device);
        Self { network, mean_clip: config.mean_clip, device: device.clone() }
    }

    /// Models side by side.
    pub fn members(&self) -> usize {
        self.network.spec().members
    }

    /// Rows for [`Ensemble::step`] on the device: `[members, batch, width]`.
    pub fn rows(&self, values: Vec<f32>, width: usize) -> Tensor<Inner<B>, 3> {
        let members = self.members();
        let batch = values.len() / (members * width);
        Tensor::from_data(TensorData::new(values, [members, batch, width]), &self.device)
    }

    /// Means and log variances, each `[members, batch, outputs]`, of `inputs` `[members | 1, batch, inputs]`.
    pub fn predict(&self, inputs: Tensor<Inner<B>, 3>) -> (Tensor<Inner<B>, 3>, Tensor<Inner<B>, 3>) {
        read(self.network.infer(inputs), self.mean_clip)
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
        let head = match self.mean_clip {
            None => models.output.clone(),
            Some(limit) => {
                let (means, raw) = halves(models.output.clone());
                Tensor::cat(vec![means.clamp(-limit, limit), raw], 2)
            }
        };
        let losses = ops::gaussian_loss(head, Tensor::from_inner(targets));
        let measured = losses.clone().inner();
        self.network.descend(losses.sum(), [models], learning_rate, 0.0);
        measured
    }

    /// All parameters, on the host.
    pub fn params(&self) -> Vec<f32> {
        self.network.parameters.by_seed().swap_remove(0)
    }

    /// Puts `params` in the place of the present ones; the optimiser's moments stay.
    pub fn replace(&mut self, params: Vec<f32>) {
        self.network.parameters.replace(vec![params], &self.device);
    }

    /// Where the parameters of `member` lie among [`Ensemble::params`].
    pub fn parts(&self, member: usize) -> Vec<Range<usize>> {
        parts(self.network.spec(), member)
    }

    /// Where the parameters lie that nothing but the mean and the variance of `output` depend on.
    pub fn parts_of_output(&self, output: usize) -> Vec<usize> {
        let spec = self.network.spec();
        let Some(last) = spec.layers().next_back() else { return Vec::new() };
        let columns = [output, last.outputs / 2 + output];
        let of_member = |member| last.weight_of(member).chain(last.bias_of(member)).collect::<Vec<usize>>();
        let rows: Vec<usize> = (0..spec.members).flat_map(of_member).step_by(last.outputs).collect();
        rows.into_iter().flat_map(|row| columns.map(|column| row + column)).collect()
    }

    /// Some of the models, as they stand.
    pub fn chosen(&self, members: &[usize]) -> Chosen<Inner<B>> {
        let (all, params) = (self.network.spec(), self.params());
        let spec = MlpSpec { members: members.len(), ..all.clone() };
        let mut values = vec![0.0; spec.len()];
        for (place, member) in members.iter().enumerate() {
            for (to, from) in parts(&spec, place).into_iter().zip(parts(all, *member)) {
                values[to].copy_from_slice(&params[from]);
            }
        }
        let params = Tensor::from_data(TensorData::new(values, [spec.len()]), &self.device);
        Chosen { spec, params, mean_clip: self.mean_clip }
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> ParametersRecord {
        self.network.parameters.record().swap_remove(0)
    }

    /// Takes over a checkpoint.
    pub fn restore(&mut self, record: ParametersRecord) -> Result<()> {
        self.network.parameters.restore(vec![record], &self.device)
    }
}

/// Some models of an ensemble, for predicting.
#[derive(Debug)]
pub struct Chosen<B: MlpBackend> {
    spec: MlpSpec,
    params: Tensor<B, 1>,
    mean_clip: Option<f64>,
}

impl<B: MlpBackend> Chosen<B> {
    /// As [`Ensemble::predict`], for the chosen models.
    pub fn predict(&self, inputs: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
        read(mlp::forward(&self.spec, inputs, self.params.clone()), self.mean_clip)
    }
}

fn parts(spec: &MlpSpec, member: usize) -> Vec<Range<usize>> {
    spec.layers().flat_map(|layer| [layer.weight_of(member), layer.bias_of(member)]).collect()
}

fn halves<B: Backend>(head: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let outputs = head.dims()[2] / 2;
    (head.clone().narrow(2, 0, outputs), head.narrow(2, outputs, outputs))
}

fn read<B: Backend>(head: Tensor<B, 3>, mean_clip: Option<f64>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let (means, raw) = halves(head);
    let means = match mean_clip {
        Some(limit) => means.clamp(-limit, limit),
        None => means,
    };
    (means, bounded_log_variance(raw))
}

/// Log variances held softly between their bounds: `l ← max - softplus(max - l)`, then `l ← min + softplus(l - min)`
/// (Chua et al. 2018, appendix A.1, with fixed bounds as in facebookresearch/mbrl-lib).
pub fn bounded_log_variance<B: Backend>(raw: Tensor<B, 3>) -> Tensor<B, 3> {
    let (least, most) = LOG_VARIANCE_BOUNDS;
    let softplus = |x| burn::tensor::activation::softplus(x, 1.0);
    let below = softplus(raw.neg().add_scalar(most)).neg().add_scalar(most);
    softplus(below.sub_scalar(least)).add_scalar(least)
}

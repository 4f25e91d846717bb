//! Adam and Optimistic Adam on flat parameter vectors, and networks that carry their own optimiser.

use super::init::{Init, parameters};
use super::mlp::{self, MlpSpec, primitive, tensor};
use super::ops::{AdamStep, MlpBackend};
use super::{Inner, Train};
use crate::config::Optimizer;
use crate::error::{Error, Result};
use crate::run::rng::Stream;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Constants of an optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// Update rule.
    pub rule: Optimizer,
    /// L2 penalty added to the gradient.
    pub weight_decay: f64,
}

impl OptimizerConfig {
    /// `rule` without weight decay.
    pub fn new(rule: Optimizer) -> Self {
        Self { rule, weight_decay: 0.0 }
    }
}

/// A parameter vector with its moments, and with the target that follows it where there is one.
#[derive(Debug)]
pub struct Parameters<B: MlpBackend> {
    config: OptimizerConfig,
    time: u32,
    params: Slot<B>,
    first: Slot<B>,
    second: Slot<B>,
    target: Option<Slot<B>>,
}

/// A tensor that an update takes out and puts back, so that it is updated in place.
#[derive(Debug)]
struct Slot<B: MlpBackend>(Option<Tensor<B, 1>>);

impl<B: MlpBackend> Slot<B> {
    fn new(values: Vec<f32>, device: &B::Device) -> Self {
        let len = values.len();
        Self(Some(Tensor::from_data(TensorData::new(values, [len]), device)))
    }

    fn get(&self) -> Tensor<B, 1> {
        self.0.clone().unwrap_or_else(|| unreachable!("a slot is empty only inside an update"))
    }

    fn take(&mut self) -> Tensor<B, 1> {
        self.0.take().unwrap_or_else(|| unreachable!("a slot is empty only inside an update"))
    }

    fn values(&self) -> Vec<f32> {
        values(self.get())
    }
}

/// The elements of a tensor, on the host.
pub fn values<B: MlpBackend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap_or_else(|_| unreachable!("learners compute in f32"))
}

/// Everything of [`Parameters`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParametersRecord {
    config: OptimizerConfig,
    time: u32,
    params: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    target: Option<Vec<f32>>,
}

impl<B: MlpBackend> Parameters<B> {
    /// Starts from `params`; with `target`, a copy follows them.
    pub fn new(params: Vec<f32>, target: bool, config: OptimizerConfig, device: &B::Device) -> Self {
        let zeros = vec![0.0; params.len()];
        Self {
            config,
            time: 0,
            first: Slot::new(zeros.clone(), device),
            second: Slot::new(zeros, device),
            target: target.then(|| Slot::new(params.clone(), device)),
            params: Slot::new(params, device),
        }
    }

    /// The current vector.
    pub fn get(&self) -> Tensor<B, 1> {
        self.params.get()
    }

    /// The following vector (the current one where none follows).
    pub fn target(&self) -> Tensor<B, 1> {
        self.target.as_ref().map_or_else(|| self.get(), Slot::get)
    }

    /// Applies one step; `polyak_rate` moves the target in the same pass.
    pub fn step(&mut self, gradient: Tensor<B, 1>, learning_rate: f64, polyak_rate: f64) {
        self.time += 1;
        let step = AdamStep {
            time: self.time,
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: self.config.weight_decay,
            optimistic: self.config.rule == Optimizer::OptimisticAdam,
            polyak_rate,
        };
        let moves = self.target.is_some() && polyak_rate > 0.0;
        let target = if moves { self.target.as_mut().map(Slot::take) } else { None };
        let result = B::adam(
            &step,
            primitive(self.params.take()),
            primitive(gradient),
            primitive(self.first.take()),
            primitive(self.second.take()),
            target.map(primitive),
        );
        self.params = Slot(Some(tensor(result.params)));
        self.first = Slot(Some(tensor(result.first)));
        self.second = Slot(Some(tensor(result.second)));
        if let Some(target) = result.target {
            self.target = Some(Slot(Some(tensor(target))));
        }
    }

    /// Forgets the moments: a fresh optimiser on the same parameters.
    pub fn restart(&mut self) {
        self.time = 0;
        self.first = Slot(Some(self.first.take().zeros_like()));
        self.second = Slot(Some(self.second.take().zeros_like()));
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> ParametersRecord {
        ParametersRecord {
            config: self.config,
            time: self.time,
            params: self.params.values(),
            first: self.first.values(),
            second: self.second.values(),
            target: self.target.as_ref().map(Slot::values),
        }
    }

    /// Takes over a checkpoint's content; its sizes must fit.
    pub fn restore(&mut self, record: ParametersRecord, device: &B::Device) -> Result<()> {
        let len = self.params.get().dims()[0];
        let lengths = [&record.params, &record.first, &record.second].map(Vec::len);
        if lengths.iter().chain(record.target.as_ref().map(Vec::len).iter()).any(|l| *l != len) {
            return Err(Error::data("network parameters in the checkpoint")
                .expected(format!("{len} numbers"))
                .found(format!("{lengths:?}"))
                .hint("resume with the configuration that the run was started with"));
        }
        self.config = record.config;
        self.time = record.time;
        self.params = Slot::new(record.params, device);
        self.first = Slot::new(record.first, device);
        self.second = Slot::new(record.second, device);
        self.target = record.target.map(|target| Slot::new(target, device));
        Ok(())
    }
}

/// A perceptron with its optimiser.
#[derive(Debug)]
pub struct Network<B: Train> {
    spec: MlpSpec,
    /// Parameters, moments and target.
    pub parameters: Parameters<Inner<B>>,
}

impl<B: Train> Network<B> {
    /// A fresh network.
    pub fn new(
        spec: MlpSpec,
        init: Init,
        target: bool,
        config: OptimizerConfig,
        rng: &mut Stream,
        device: &B::Device,
    ) -> Self {
        let parameters = Parameters::new(parameters(&spec, init, rng), target, config, device);
        Self { spec, parameters }
    }

    /// Its sizes.
    pub fn spec(&self) -> &MlpSpec {
        &self.spec
    }

    /// Output without gradients. Shapes as in [`mlp::forward`].
    pub fn infer(&self, x: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        mlp::forward(&self.spec, x, self.parameters.get())
    }

    /// Output of the target parameters, without gradients.
    pub fn infer_target(&self, x: Tensor<Inner<B>, 3>) -> Tensor<Inner<B>, 3> {
        mlp::forward(&self.spec, x, self.parameters.target())
    }

    /// Output for a loss in which these parameters are constants.
    pub fn frozen(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        mlp::forward(&self.spec, x, Tensor::from_inner(self.parameters.get()))
    }

    /// The parameters as a variable of a loss; hand it to [`Network::descend`] afterwards.
    pub fn variable(&self) -> Tensor<B, 1> {
        Tensor::from_inner(self.parameters.get()).require_grad()
    }

    /// One optimiser step down the gradient of `loss` with respect to `variable`.
    pub fn descend(&mut self, loss: Tensor<B, 1>, variable: Tensor<B, 1>, learning_rate: f64, polyak_rate: f64) {
        let mut gradients = loss.backward();
        let gradient = variable.grad_remove(&mut gradients);
        drop((variable, gradients));
        if let Some(gradient) = gradient {
            self.parameters.step(gradient, learning_rate, polyak_rate);
        }
    }
}

//! Adam and Optimistic Adam on flat parameter vectors, and networks that carry their own optimiser.

use super::init::{Init, parameters};
use super::mlp::{self, MlpSpec, primitive, tensor};
use super::ops::{AdamStep, Float, MlpBackend, Need};
use super::stack::{stack, unstack};
use super::{Inner, Train};
use crate::config::Optimizer;
use crate::error::{Error, Result};
use crate::run::rng::Stream;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::any::Any;

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

/// The parameter vector of stacked seeds with its moments, and with the target that follows it where there is one. An
/// optimiser step is element by element, so that seeds side by side do not notice each other.
#[derive(Debug)]
pub struct Parameters<B: MlpBackend> {
    config: OptimizerConfig,
    seeds: usize,
    pieces: Vec<usize>,
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

/// Everything of one seed's [`Parameters`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParametersRecord {
    time: u32,
    params: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    target: Option<Vec<f32>>,
}

impl ParametersRecord {
    /// Puts those at `places` back to what they are in `fresh`, moments too.
    pub fn renew(&mut self, places: &[usize], fresh: &Self) {
        let vectors =
            [(&mut self.params, &fresh.params), (&mut self.first, &fresh.first), (&mut self.second, &fresh.second)];
        for (own, fresh) in vectors {
            places.iter().for_each(|place| own[*place] = fresh[*place]);
        }
    }
}

impl<B: MlpBackend> Parameters<B> {
    /// Starts a single seed from `params`; with `target`, a copy follows them.
    pub fn new(params: Vec<f32>, target: bool, config: OptimizerConfig, device: &B::Device) -> Self {
        let pieces = vec![params.len()];
        Self::stacked(vec![params], pieces, target, config, device)
    }

    /// Starts each seed from its vector in `seeds`, which consist of `pieces` ([`stack`]).
    pub fn stacked(
        seeds: Vec<Vec<f32>>,
        pieces: Vec<usize>,
        target: bool,
        config: OptimizerConfig,
        device: &B::Device,
    ) -> Self {
        let count = seeds.len();
        let params = stack(seeds, &pieces);
        let zeros = vec![0.0; params.len()];
        Self {
            config,
            seeds: count,
            pieces,
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

    /// Optimiser steps taken since the moments were empty.
    pub fn steps(&self) -> u32 {
        self.time
    }

    /// Puts each seed's `params` in the place of the current vector; moments and target stay. Lengths must fit.
    pub fn replace(&mut self, params: Vec<Vec<f32>>, device: &B::Device) {
        debug_assert!(params.iter().all(|params| params.len() == self.pieces.iter().sum::<usize>()));
        self.params = Slot::new(stack(params, &self.pieces), device);
    }

    /// The current vector of each seed, on the host.
    pub fn by_seed(&self) -> Vec<Vec<f32>> {
        self.apart(&self.params)
    }

    fn apart(&self, slot: &Slot<B>) -> Vec<Vec<f32>> {
        unstack(slot.values(), &self.pieces, self.seeds)
    }

    /// Everything, seed by seed, for checkpoints.
    pub fn record(&self) -> Vec<ParametersRecord> {
        let (first, second) = (self.apart(&self.first), self.apart(&self.second));
        let targets = match &self.target {
            Some(target) => self.apart(target).into_iter().map(Some).collect(),
            None => vec![None; self.seeds],
        };
        let moments = first.into_iter().zip(second).zip(targets);
        let record =
            |(params, ((first, second), target))| ParametersRecord { time: self.time, params, first, second, target };
        self.by_seed().into_iter().zip(moments).map(record).collect()
    }

    /// Takes over the content of the seeds' checkpoints; sizes must fit, and all must be of the same step.
    pub fn restore(&mut self, records: Vec<ParametersRecord>, device: &B::Device) -> Result<()> {
        let len: usize = self.pieces.iter().sum();
        let lengths = |record: &ParametersRecord| {
            let target = record.target.as_ref().map_or(len, Vec::len);
            [record.params.len(), record.first.len(), record.second.len(), target]
        };
        let times: Vec<u32> = records.iter().map(|record| record.time).collect();
        if let Some(found) = records.iter().map(lengths).find(|lengths| *lengths != [len; 4]) {
            return Err(Error::data("network parameters in the checkpoint")
                .expected(format!("{len} numbers"))
                .found(format!("{found:?}"))
                .hint("resume with the configuration that the run was started with"));
        }
        if times.len() != self.seeds || times.iter().any(|time| *time != times[0]) {
            return Err(Error::data("the checkpoints of stacked seeds are not of the same moment")
                .expected(format!("{} equal counts of gradient steps", self.seeds))
                .found(format!("{times:?}"))
                .hint("restore checkpoints that were written together, or resume with --device cpu"));
        }
        let targets: Option<Vec<_>> = records.iter().map(|record| record.target.clone()).collect();
        let slot = |parts: Vec<Vec<f32>>| Slot::new(stack(parts, &self.pieces), device);
        self.target = targets.map(slot);
        self.params = slot(records.iter().map(|record| record.params.clone()).collect());
        self.first = slot(records.iter().map(|record| record.first.clone()).collect());
        self.second = slot(records.iter().map(|record| record.second.clone()).collect());
        if let Some(record) = records.first() {
            self.time = record.time;
        }
        Ok(())
    }
}

/// A network's output as a variable of a loss, and what the network's own backward pass needs afterwards.
///
/// That pass is most of a step's work. It runs outside of Burn's tape: while one thread is in a backward pass there, others that
/// have finished theirs wait for it (burn-autodiff 0.21, `GraphCleaner::cleanup_orphaned_entries`).
#[derive(Debug)]
pub struct Applied<B: Train> {
    /// `[members, batch, outputs]`.
    pub output: Tensor<B, 3>,
    x: Float<Inner<B>>,
    params: Float<Inner<B>>,
    hidden: Vec<Float<Inner<B>>>,
}

/// The perceptrons of stacked seeds with their optimiser.
#[derive(Debug)]
pub struct Network<B: Train> {
    seed_spec: MlpSpec,
    spec: MlpSpec,
    /// Parameters, moments and target.
    pub parameters: Parameters<Inner<B>>,
}

impl<B: Train> Network<B> {
    /// A fresh network of sizes `spec` for each seed, initialised from that seed's stream in `rngs`.
    pub fn new(
        spec: MlpSpec,
        init: Init,
        target: bool,
        config: OptimizerConfig,
        rngs: &mut [Stream],
        device: &B::Device,
    ) -> Self {
        let seeds = rngs.iter_mut().map(|rng| parameters(&spec, init, rng)).collect();
        let parameters = Parameters::stacked(seeds, spec.pieces(), target, config, device);
        Self { spec: spec.stacked(rngs.len()), seed_spec: spec, parameters }
    }

    /// Sizes of all seeds' networks together: `members` counts them all.
    pub fn spec(&self) -> &MlpSpec {
        &self.spec
    }

    /// Sizes of one seed's network.
    pub fn seed_spec(&self) -> &MlpSpec {
        &self.seed_spec
    }

    /// Each seed's parameters where the host can compute with them; not copied where they are there already.
    pub fn on_host(&self) -> Vec<Tensor<Flex, 1>> {
        let params = self.parameters.get();
        if let (1, Some(host)) = (self.parameters.seeds, (&params as &dyn Any).downcast_ref::<Tensor<Flex, 1>>()) {
            return vec![host.clone()];
        }
        let put = |values: Vec<f32>| {
            let len = values.len();
            Tensor::from_data(TensorData::new(values, [len]), &Default::default())
        };
        self.parameters.by_seed().into_iter().map(put).collect()
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

    /// The parameters as a variable of a loss; hand it to [`Network::descend_variable`] afterwards.
    pub fn variable(&self) -> Tensor<B, 1> {
        Tensor::from_inner(self.parameters.get()).require_grad()
    }

    /// Applies the network to constant rows; hand the result to [`Network::descend`] after its output is in a loss.
    pub fn apply(&self, x: Tensor<Inner<B>, 3>) -> Applied<B> {
        let (x, params) = (primitive(x), primitive(self.parameters.get()));
        let (output, hidden) = Inner::<B>::mlp_forward(&self.spec, x.clone(), params.clone());
        let output = Tensor::from_inner(tensor::<Inner<B>, 3>(output)).require_grad();
        Applied { output, x, params, hidden }
    }

    /// One optimiser step down the gradient of the sum of `losses`, one per seed: since no seed's loss depends on another's
    /// parameters, each follows its own. Gradients of a network applied several times are added.
    pub fn descend(
        &mut self,
        losses: Tensor<B, 1>,
        applied: impl IntoIterator<Item = Applied<B>>,
        learning_rate: f64,
        polyak_rate: f64,
    ) {
        self.follow(&mut losses.backward(), applied, learning_rate, polyak_rate);
    }

    /// [`Network::descend`] by `gradients` that were computed already, where a loss has other variables too.
    pub fn follow(
        &mut self,
        gradients: &mut B::Gradients,
        applied: impl IntoIterator<Item = Applied<B>>,
        learning_rate: f64,
        polyak_rate: f64,
    ) {
        let need = Need { input: false, params: true };
        let parts = applied.into_iter().filter_map(|Applied { output, x, params, hidden }| {
            let by_output = primitive(output.grad_remove(gradients)?);
            let (_, by_params) = Inner::<B>::mlp_backward(&self.spec, x, params, hidden, by_output, need);
            by_params.map(tensor::<Inner<B>, 1>)
        });
        if let Some(gradient) = parts.reduce(|sum, part| sum + part) {
            self.parameters.step(gradient, learning_rate, polyak_rate);
        }
    }

    /// [`Network::descend`] with respect to a `variable` that the losses use in ways of their own.
    pub fn descend_variable(
        &mut self,
        losses: Tensor<B, 1>,
        variable: Tensor<B, 1>,
        learning_rate: f64,
        polyak_rate: f64,
    ) {
        let mut gradients = losses.backward();
        let gradient = variable.grad_remove(&mut gradients);
        drop((variable, gradients));
        if let Some(gradient) = gradient {
            self.parameters.step(gradient, learning_rate, polyak_rate);
        }
    }
}

//! Policies that act on the host, wherever their learner computes: single observations would have a GPU wait.

use super::gaussian;
use crate::nn::Train;
use crate::nn::mlp::{self, MlpSpec};
use crate::nn::optimizer::{Network, values};
use crate::run::rng::Stream;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};

/// One seed's tanh-squashed policy: a Gaussian one, a deterministic one, or one that explores with a function of its own.
#[derive(Debug, Clone)]
pub struct Actor {
    network: Perceptron,
    explorer: Option<Perceptron>,
    actions: usize,
}

#[derive(Debug, Clone)]
struct Perceptron {
    spec: MlpSpec,
    params: Tensor<Flex, 1>,
}

impl Perceptron {
    fn new(spec: MlpSpec, params: Vec<f32>) -> Self {
        let len = params.len();
        Self { spec, params: Tensor::from_data(TensorData::new(params, [len]), &Default::default()) }
    }

    fn forward(&self, observation: &[f32]) -> Tensor<Flex, 3> {
        let x = TensorData::new(observation.to_vec(), [1, 1, observation.len()]);
        mlp::forward(&self.spec, Tensor::from_data(x, &Default::default()), self.params.clone())
    }
}

impl Actor {
    /// The policy of sizes `spec` with `params`; its actions are `actions` wide.
    pub fn new(spec: MlpSpec, actions: usize, params: Vec<f32>) -> Self {
        Self { network: Perceptron::new(spec, params), explorer: None, actions }
    }

    /// A policy that takes `mode`'s actions, and `explorer`'s where it is asked to explore; both `[observation]` to `[actions]`.
    pub fn exploring(mode: (MlpSpec, Vec<f32>), explorer: (MlpSpec, Vec<f32>), actions: usize) -> Self {
        let perceptron = |(spec, params)| Perceptron::new(spec, params);
        Self { network: perceptron(mode), explorer: Some(perceptron(explorer)), actions }
    }

    /// The policies of all seeds of `network` as they stand: `[observation]` to `[2·actions]`, means first, or to `[actions]`
    /// where they are deterministic. On the CPU a single seed's shares the learner's memory: drop it before the next optimiser
    /// step, which otherwise has to copy.
    pub fn of_seeds<B: Train>(network: &Network<B>, actions: usize) -> Vec<Self> {
        let spec = network.seed_spec();
        let of_seed = |params| Perceptron { spec: spec.clone(), params };
        network.on_host().into_iter().map(|params| Self { network: of_seed(params), explorer: None, actions }).collect()
    }

    /// The action in [-1, 1] for one raw observation: the mode, or with `noise` a draw from a Gaussian policy, and the action of
    /// one that explores with a function of its own.
    pub fn act(&self, observation: &[f32], noise: Option<&mut Stream>) -> Vec<f32> {
        if let (Some(explorer), Some(_)) = (&self.explorer, &noise) {
            return values(explorer.forward(observation).tanh());
        }
        let head = self.network.forward(observation);
        values(match noise {
            _ if self.network.spec.outputs() == self.actions => head.tanh(),
            None => gaussian::mode(head),
            Some(stream) => {
                let actions = self.actions;
                let mut draw = vec![0.0; actions];
                stream.fill_normal(&mut draw);
                let draw = Tensor::from_data(TensorData::new(draw, [1, 1, actions]), &Default::default());
                gaussian::sample(head, draw).action
            }
        })
    }
}

//! Policies that act on the host, wherever their learner computes: single observations would have a GPU wait.

use super::gaussian;
use crate::nn::Train;
use crate::nn::mlp::{self, MlpSpec};
use crate::nn::optimizer::{Network, values};
use crate::run::rng::Stream;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};

/// One seed's tanh-squashed policy: a Gaussian one, or a deterministic one.
#[derive(Debug, Clone)]
pub struct Actor {
    spec: MlpSpec,
    actions: usize,
    params: Tensor<Flex, 1>,
}

impl Actor {
    /// The policy of sizes `spec` with `params`; its actions are `actions` wide.
    pub fn new(spec: MlpSpec, actions: usize, params: Vec<f32>) -> Self {
        let len = params.len();
        Self { spec, actions, params: Tensor::from_data(TensorData::new(params, [len]), &Default::default()) }
    }

    /// The policies of all seeds of `network` as they stand: `[observation]` to `[2·actions]`, means first, or to `[actions]`
    /// where they are deterministic. On the CPU a single seed's shares the learner's memory: drop it before the next optimiser
    /// step, which otherwise has to copy.
    pub fn of_seeds<B: Train>(network: &Network<B>, actions: usize) -> Vec<Self> {
        let spec = network.seed_spec();
        network.on_host().into_iter().map(|params| Self { spec: spec.clone(), actions, params }).collect()
    }

    /// The action in [-1, 1] for one raw observation: the mode, or with `noise` a draw from a Gaussian policy.
    pub fn act(&self, observation: &[f32], noise: Option<&mut Stream>) -> Vec<f32> {
        let device = Default::default();
        let x = TensorData::new(observation.to_vec(), [1, 1, observation.len()]);
        let head = mlp::forward(&self.spec, Tensor::from_data(x, &device), self.params.clone());
        values(match noise {
            _ if self.spec.outputs() == self.actions => head.tanh(),
            None => gaussian::mode(head),
            Some(stream) => {
                let actions = self.actions;
                let mut draw = vec![0.0; actions];
                stream.fill_normal(&mut draw);
                let draw = Tensor::from_data(TensorData::new(draw, [1, 1, actions]), &device);
                gaussian::sample(head, draw).action
            }
        })
    }
}

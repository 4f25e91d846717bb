//! From trained networks to what a robot runs: the only bridge from Burn to the runtime's graphs.

use crate::config::Reduction as CostReduction;
use crate::envs::Task;
use crate::error::{Error, Result};
use crate::methods::{DiscriminatorNetwork, Networks, Reading};
use crate::nn::mlp::{self, Activation as Between, MlpSpec};
use crate::nn::optimizer::values;
use crate::reward::discriminator;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use export::Reference;
use policy_runtime::contract::{Channel, default_max_observation_age_secs};
use policy_runtime::kernel::Activation;
use policy_runtime::spec::{Dense, Mlp, Normalizer, Reduction, Squash};
use policy_runtime::{Contract, DiscriminatorGraph, Fallback, PolicyGraph};

/// The contract of policies for `task`: its channels, bounds and control period.
pub fn contract(task: &Task) -> Contract {
    let channels = |channels: &[crate::envs::Channel]| {
        channels
            .iter()
            .map(|c| Channel {
                name: c.name.clone(),
                unit: c.unit.clone(),
                low: c.low.map(|v| v as f32),
                high: c.high.map(|v| v as f32),
            })
            .collect()
    };
    Contract {
        task: task.id.clone(),
        observation: channels(&task.observation),
        action: channels(&task.action),
        control_period_secs: task.control_period_secs,
        fallback: Fallback::default(),
        max_observation_age_secs: Some(default_max_observation_age_secs(task.control_period_secs)),
        guards: Default::default(),
    }
}

/// The deterministic policy: the mean of the actor, squashed or clamped, in environment units.
pub fn policy_graph(networks: &Networks, contract: &Contract) -> Result<PolicyGraph> {
    let (spec, params) = &networks.actor;
    let (inputs, outputs) = (contract.observation.len(), contract.action.len());
    if spec.inputs() != inputs || spec.outputs() < outputs {
        return Err(Error::data(format!("the trained networks do not fit the task {}", contract.task))
            .expected(format!("{inputs} inputs, and {outputs} outputs or more"))
            .found(format!("{} inputs and {} outputs", spec.inputs(), spec.outputs()))
            .hint("put the run's own checkpoint back: this one is another run's"));
    }
    let mut layers = dense_layers(spec, params, 0);
    if networks.reading != Reading::Squashed {
        return Ok(PolicyGraph::for_contract(contract, normalizer(&networks.reading), layers, Squash::None)?);
    }
    if let Some(head) = layers.last_mut() {
        *head = first_columns(head, contract.action.len());
    }
    Ok(PolicyGraph::for_contract(contract, None, layers, Squash::Tanh)?)
}

fn normalizer(reading: &Reading) -> Option<Normalizer> {
    match reading {
        Reading::Squashed => None,
        Reading::Clamped { mean, std } => Some(Normalizer { mean: mean.clone(), std: std.clone() }),
    }
}

/// The learned reward.
pub fn discriminator_graph(network: &DiscriminatorNetwork, contract: &Contract) -> Result<DiscriminatorGraph> {
    let members = (0..network.spec.members)
        .map(|member| Mlp { layers: dense_layers(&network.spec, &network.params, member) })
        .collect();
    let reduction = match network.reduction {
        CostReduction::Min => Reduction::Min,
        CostReduction::Mean => Reduction::Mean,
        CostReduction::Max => Reduction::Max,
    };
    let mut graph = DiscriminatorGraph::for_contract(contract, members, network.clip.map(|c| c as f32), reduction)?;
    graph.normalizer = normalizer(&network.reading);
    graph.validate_for(contract)?;
    Ok(graph)
}

fn dense_layers(spec: &MlpSpec, params: &[f32], member: usize) -> Vec<Dense> {
    let hidden = match spec.activation {
        Between::Relu => Activation::Relu,
        Between::Tanh => Activation::Tanh,
        Between::Silu => Activation::Silu,
    };
    spec.layers()
        .enumerate()
        .map(|(index, layer)| {
            let size = layer.inputs * layer.outputs;
            Dense {
                inputs: layer.inputs,
                outputs: layer.outputs,
                weights: params[layer.weight + member * size..][..size].to_vec(),
                bias: params[layer.bias + member * layer.outputs..][..layer.outputs].to_vec(),
                activation: if index + 1 < spec.depth() { hidden } else { Activation::Identity },
            }
        })
        .collect()
}

fn first_columns(layer: &Dense, outputs: usize) -> Dense {
    Dense {
        inputs: layer.inputs,
        outputs,
        weights: layer.weights.chunks_exact(layer.outputs).flat_map(|row| &row[..outputs]).copied().collect(),
        bias: layer.bias[..outputs].to_vec(),
        activation: layer.activation,
    }
}

/// The networks as training runs them, for the export to compare with.
#[derive(Debug)]
pub struct Trained<'a> {
    networks: &'a Networks,
    task: &'a Task,
}

impl<'a> Trained<'a> {
    /// `networks` of a run on `task`.
    pub fn new(networks: &'a Networks, task: &'a Task) -> Self {
        Self { networks, task }
    }
}

type Outcome = std::result::Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>>;

impl Reference for Trained<'_> {
    fn actions(&mut self, observations: &[f32], rows: usize) -> Outcome {
        let (spec, params) = &self.networks.actor;
        let seen = tensor(&self.networks.reading.seen(observations), rows);
        let width = self.task.action_width();
        let mean = mlp::forward(spec, seen, vector(params)).narrow(2, 0, width);
        let unit = values(match self.networks.reading {
            Reading::Squashed => mean.tanh(),
            Reading::Clamped { .. } => mean.clamp(-1.0, 1.0),
        });
        let (scale, mut env) = (self.task.action_scale(), vec![0.0; unit.len()]);
        for (unit, env) in unit.chunks_exact(width).zip(env.chunks_exact_mut(width)) {
            scale.to_env(unit, env)?;
        }
        Ok(env)
    }

    fn rewards(&mut self, observations: &[f32], actions: &[f32], rows: usize) -> Outcome {
        let network = self.networks.discriminator.as_ref().ok_or("the run learned no discriminator")?;
        let width = self.task.action_width();
        let (scale, mut unit) = (self.task.action_scale(), vec![0.0; actions.len()]);
        for (env, unit) in actions.chunks_exact(width).zip(unit.chunks_exact_mut(width)) {
            scale.to_unit(env, unit)?;
        }
        let seen = network.reading.seen(observations);
        let pairs = Tensor::cat(vec![tensor(&seen, rows), tensor(&unit, rows)], 2);
        let outputs = mlp::forward(&network.spec, pairs, vector(&network.params));
        Ok(values(discriminator::cost(outputs, network.spec.members, network.clip, network.reduction).neg()))
    }
}

fn tensor(values: &[f32], rows: usize) -> Tensor<Flex, 3> {
    let width = values.len() / rows;
    Tensor::from_data(TensorData::new(values.to_vec(), [1, rows, width]), &Default::default())
}

fn vector(values: &[f32]) -> Tensor<Flex, 1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Default::default())
}

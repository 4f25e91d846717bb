//! Networks for the ONNX tests, and an execution of them in f64 that shares no code with the product.

// Each test binary uses its own part of this module.
#![allow(dead_code, unreachable_pub)]

use std::error::Error;
use std::path::{Path, PathBuf};

use export::{BundleContents, Reference, write_bundle};
use policy_runtime::probe::{Demonstrations, Draws};
use policy_runtime::spec::{Activation, Affine, Clamp, Dense, Mlp, Normalizer, Reduction, Squash};
use policy_runtime::{Channel, Contract, DiscriminatorGraph, Fallback, PolicyGraph};

/// A contract with half of its observation channels bounded, and action channels of different sizes.
pub fn contract(observation: usize, action: usize) -> Contract {
    let observed = |index: usize| match index % 2 {
        0 => Channel::unbounded(format!("velocity_{index}"), "m/s"),
        _ => Channel::bounded(format!("angle_{index}"), "rad", -3.0, 3.0),
    };
    let acted =
        |index: usize| Channel::bounded(format!("torque_{index}"), "N*m", -0.4 - index as f32, 1.0 + index as f32);
    Contract {
        task: "test".into(),
        observation: (0..observation).map(observed).collect(),
        action: (0..action).map(acted).collect(),
        control_period_secs: 0.008,
        fallback: Fallback::Hold,
        max_observation_age_secs: None,
        guards: Default::default(),
    }
}

/// Dense layers with the variance of a trained network's.
pub fn mlp(widths: &[usize], hidden: Activation, draws: &mut Draws) -> Mlp {
    let last = widths.len() - 2;
    let layer = |(index, pair): (usize, &[usize])| {
        let spread = (2.0 / pair[0] as f32).sqrt();
        Dense {
            inputs: pair[0],
            outputs: pair[1],
            weights: (0..pair[0] * pair[1]).map(|_| spread * draws.normal()).collect(),
            bias: (0..pair[1]).map(|_| 0.1 * draws.normal()).collect(),
            activation: if index == last { Activation::Identity } else { hidden },
        }
    };
    Mlp { layers: widths.windows(2).enumerate().map(layer).collect() }
}

pub fn policy(contract: &Contract, hidden: Activation, squash: Squash, normalized: bool, seed: u64) -> PolicyGraph {
    let mut draws = Draws::new(seed);
    let (observation, action) = (contract.observation.len(), contract.action.len());
    let normalizer = normalized.then(|| Normalizer {
        mean: (0..observation).map(|_| draws.normal()).collect(),
        std: (0..observation).map(|_| 0.5 + draws.unit()).collect(),
    });
    let layers = mlp(&[observation, 32, 24, action], hidden, &mut draws).layers;
    PolicyGraph::for_contract(contract, normalizer, layers, squash).unwrap()
}

pub fn discriminator(
    contract: &Contract,
    members: usize,
    clip: Option<f32>,
    reduction: Reduction,
) -> DiscriminatorGraph {
    let mut draws = Draws::new(99);
    let inputs = contract.observation.len() + contract.action.len();
    let members = (0..members).map(|_| mlp(&[inputs, 16, 1], Activation::Tanh, &mut draws)).collect();
    DiscriminatorGraph::for_contract(contract, members, clip, reduction).unwrap()
}

pub fn demonstrations(contract: &Contract, rows: usize) -> Demonstrations {
    let mut draws = Draws::new(5);
    let mut rows_of = |width: usize, scale: f32| (0..rows * width).map(|_| scale * draws.normal()).collect();
    Demonstrations {
        observations: rows_of(contract.observation.len(), 1.0),
        actions: rows_of(contract.action.len(), 0.2),
    }
}

/// Training's side in f64, off by `error` on every output.
pub struct Wide<'a> {
    pub policy: &'a PolicyGraph,
    pub discriminator: Option<&'a DiscriminatorGraph>,
    pub error: f32,
}

type Answer = Result<Vec<f32>, Box<dyn Error + Send + Sync>>;

impl Reference for Wide<'_> {
    fn actions(&mut self, observations: &[f32], rows: usize) -> Answer {
        let width = observations.len() / rows;
        let actions = observations.chunks(width).flat_map(|row| act(self.policy, row));
        Ok(actions.map(|value| value + self.error).collect())
    }

    fn rewards(&mut self, observations: &[f32], actions: &[f32], rows: usize) -> Answer {
        let graph = self.discriminator.ok_or("no discriminator")?;
        let (width, action_width) = (observations.len() / rows, actions.len() / rows);
        let pairs = observations.chunks(width).zip(actions.chunks(action_width));
        Ok(pairs.map(|(observation, action)| judge(graph, observation, action) + self.error).collect())
    }
}

fn forward(mlp: &Mlp, mut row: Vec<f64>) -> Vec<f64> {
    for layer in &mlp.layers {
        let sum = |j: usize| -> f64 {
            let products = row.iter().enumerate().map(|(i, x)| x * f64::from(layer.weights[i * layer.outputs + j]));
            f64::from(layer.bias[j]) + products.sum::<f64>()
        };
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let activate = |x: f64| match layer.activation {
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => sigmoid(x),
            Activation::Silu => x * sigmoid(x),
            Activation::Elu => {
                if x < 0.0 {
                    x.exp() - 1.0
                } else {
                    x
                }
            }
            _ => x,
        };
        row = (0..layer.outputs).map(sum).map(activate).collect();
    }
    row
}

fn normalized(normalizer: Option<&Normalizer>, row: &[f32]) -> Vec<f64> {
    let value = |(index, x): (usize, &f32)| match normalizer {
        Some(n) => (f64::from(*x) - f64::from(n.mean[index])) / f64::from(n.std[index]),
        None => f64::from(*x),
    };
    row.iter().enumerate().map(value).collect()
}

pub fn act(graph: &PolicyGraph, observation: &[f32]) -> Vec<f32> {
    let outputs = forward(&graph.mlp, normalized(graph.normalizer.as_ref(), observation));
    let Affine { scale, offset } = &graph.affine;
    let Clamp { low, high } = graph.clamp.as_ref().unwrap();
    let action = |(j, x): (usize, f64)| {
        let unit = if graph.squash == Squash::Tanh { x.tanh() } else { x };
        (unit * f64::from(scale[j]) + f64::from(offset[j])).clamp(f64::from(low[j]), f64::from(high[j])) as f32
    };
    outputs.into_iter().enumerate().map(action).collect()
}

pub fn judge(graph: &DiscriminatorGraph, observation: &[f32], action: &[f32]) -> f32 {
    let mut input = normalized(graph.normalizer.as_ref(), observation);
    let Affine { scale, offset } = &graph.affine;
    let unit = |(j, a): (usize, &f32)| (f64::from(*a) - f64::from(offset[j])) / f64::from(scale[j]);
    input.extend(action.iter().enumerate().map(unit));
    let clip = graph.cost_clip.map_or(f64::INFINITY, f64::from);
    let costs: Vec<f64> =
        graph.members.iter().map(|member| forward(member, input.clone())[0].clamp(-clip, clip)).collect();
    let cost = match graph.reduction {
        Reduction::Mean => costs.iter().sum::<f64>() / costs.len() as f64,
        Reduction::Min => costs.iter().copied().fold(f64::INFINITY, f64::min),
        Reduction::Max => costs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    };
    -cost as f32
}

/// A bundle with a discriminator ensemble in a fresh folder.
pub fn bundle(folder: &Path) -> PathBuf {
    let contract = contract(11, 3);
    let policy = policy(&contract, Activation::Relu, Squash::Tanh, true, 1);
    let discriminator = discriminator(&contract, 3, Some(5.0), Reduction::Mean);
    let path = folder.join("test.bundle");
    let contents = BundleContents {
        contract: &contract,
        policy: &policy,
        discriminator: Some(&discriminator),
        demonstrations: &demonstrations(&contract, 40),
        provenance: serde_json::json!({"maker": "test"}),
        training: serde_json::json!({"method": "none"}),
    };
    let mut reference = Wide { policy: &policy, discriminator: Some(&discriminator), error: 0.0 };
    write_bundle(&path, &contents, &mut reference).unwrap();
    path
}

//! The scalar executor: plain Rust, one order of operations, no allocation after construction.

use crate::action;
use crate::error::{Error, Result};
use crate::kernel;
use crate::normalize;
use crate::spec::{DiscriminatorGraph, Mlp, PolicyGraph, Reduction, Squash};

/// Two rows that layers write in turn.
#[derive(Debug, Clone)]
struct Scratch {
    front: Vec<f32>,
    back: Vec<f32>,
}

impl Scratch {
    fn new(width: usize) -> Self {
        Self { front: vec![0.0; width], back: vec![0.0; width] }
    }

    /// Runs `mlp` on the first `mlp.inputs()` values of `front`; the output is the head of `front`. Returns the largest
    /// magnitude that any layer gave before its activation.
    fn run(&mut self, mlp: &Mlp) -> f32 {
        let mut peak = 0.0_f32;
        for layer in &mlp.layers {
            let output = &mut self.back[..layer.outputs];
            kernel::dense(&self.front[..layer.inputs], &layer.weights, &layer.bias, output);
            peak = peak.max(kernel::peak(output));
            layer.activation.apply(output);
            core::mem::swap(&mut self.front, &mut self.back);
        }
        peak
    }
}

/// A policy, executed natively.
#[derive(Debug, Clone)]
pub struct NativePolicy {
    graph: PolicyGraph,
    scratch: Scratch,
    activation_scale: f32,
}

impl NativePolicy {
    /// Checks the graph and allocates all that steps will need.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the graph is not valid.
    pub fn new(graph: PolicyGraph) -> Result<Self> {
        graph.validate()?;
        let scratch = Scratch::new(graph.mlp.widest());
        Ok(Self { graph, scratch, activation_scale: 0.0 })
    }

    /// The policy's layers.
    pub fn graph(&self) -> &PolicyGraph {
        &self.graph
    }

    /// One action, `[action]` in environment units, from one raw observation `[observation]`. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Width`] where a row has the wrong length.
    pub fn run(&mut self, observation: &[f32], action: &mut [f32]) -> Result<()> {
        let Self { graph, scratch, activation_scale } = self;
        let (inputs, outputs) = (graph.observation_width(), graph.action_width());
        check_width("observation", inputs, observation.len())?;
        check_width("action", outputs, action.len())?;
        match &graph.normalizer {
            Some(normalizer) => {
                normalize::standardize(observation, &normalizer.mean, &normalizer.std, &mut scratch.front[..inputs]);
            }
            None => scratch.front[..inputs].copy_from_slice(observation),
        }
        let input_peak = kernel::peak(&scratch.front[..inputs]);
        *activation_scale = input_peak.max(scratch.run(&graph.mlp));
        action.copy_from_slice(&scratch.front[..outputs]);
        if graph.squash == Squash::Tanh {
            kernel::Activation::Tanh.apply(action);
        }
        action::env_from_unit(action, &graph.affine.scale, &graph.affine.offset);
        if let Some(clamp) = &graph.clamp {
            action::clamp_row(action, &clamp.low, &clamp.high);
        }
        Ok(())
    }

    /// Largest magnitude inside the network at the last [`Self::run`]: of its normalised input and of what each layer
    /// gave before its activation. Rounding errors grow with it.
    pub fn activation_scale(&self) -> f32 {
        self.activation_scale
    }
}

/// A discriminator, executed natively.
#[derive(Debug, Clone)]
pub struct NativeDiscriminator {
    graph: DiscriminatorGraph,
    joined: Vec<f32>,
    scratch: Scratch,
    activation_scale: f32,
}

impl NativeDiscriminator {
    /// Checks the graph and allocates all that evaluations will need.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the graph is not valid.
    pub fn new(graph: DiscriminatorGraph) -> Result<Self> {
        graph.validate()?;
        let joined = vec![0.0; graph.observation_width + graph.action_width()];
        let scratch = Scratch::new(graph.members.iter().map(Mlp::widest).max().unwrap_or(0));
        Ok(Self { graph, joined, scratch, activation_scale: 0.0 })
    }

    /// The discriminator's layers.
    pub fn graph(&self) -> &DiscriminatorGraph {
        &self.graph
    }

    /// The reward of one raw observation `[observation]` and action `[action]` in environment units. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Width`] where a row has the wrong length.
    pub fn run(&mut self, observation: &[f32], action_env: &[f32]) -> Result<f32> {
        let Self { graph, joined, scratch, activation_scale } = self;
        check_width("observation", graph.observation_width, observation.len())?;
        check_width("action", graph.action_width(), action_env.len())?;
        let (observed, acted) = joined.split_at_mut(graph.observation_width);
        match &graph.normalizer {
            Some(normalizer) => normalize::standardize(observation, &normalizer.mean, &normalizer.std, observed),
            None => observed.copy_from_slice(observation),
        }
        action::unit_from_env(action_env, &graph.affine.scale, &graph.affine.offset, acted);
        *activation_scale = kernel::peak(joined);
        let mut reduced = None;
        for member in &graph.members {
            scratch.front[..joined.len()].copy_from_slice(joined);
            *activation_scale = activation_scale.max(scratch.run(member));
            let cost = graph.cost_clip.map_or(scratch.front[0], |clip| action::clamp(scratch.front[0], -clip, clip));
            reduced = Some(reduced.map_or(cost, |so_far| combine(graph.reduction, so_far, cost)));
        }
        let cost = reduced.unwrap_or(f32::NAN);
        let divisor = if graph.reduction == Reduction::Mean { graph.members.len() as f32 } else { 1.0 };
        Ok(-(cost / divisor))
    }

    /// Largest magnitude inside the networks at the last [`Self::run`].
    pub fn activation_scale(&self) -> f32 {
        self.activation_scale
    }
}

fn combine(reduction: Reduction, so_far: f32, cost: f32) -> f32 {
    match reduction {
        Reduction::Mean => so_far + cost,
        // Written so that NaN of either side survives.
        Reduction::Min if so_far < cost || so_far.is_nan() => so_far,
        Reduction::Max if so_far > cost || so_far.is_nan() => so_far,
        Reduction::Min | Reduction::Max => cost,
    }
}

pub(crate) fn check_width(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Width { what, expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Activation, Affine, Clamp, Dense, Normalizer};

    fn dense(inputs: usize, weights: &[f32], bias: &[f32], activation: Activation) -> Dense {
        Dense { inputs, outputs: bias.len(), weights: weights.to_vec(), bias: bias.to_vec(), activation }
    }

    fn policy() -> PolicyGraph {
        PolicyGraph {
            normalizer: Some(Normalizer { mean: vec![1.0, 0.0], std: vec![2.0, 0.5] }),
            mlp: Mlp {
                layers: vec![
                    dense(2, &[1.0, -1.0, 0.5, 2.0], &[0.0, 0.25], Activation::Relu),
                    dense(2, &[0.5, -0.25], &[0.125], Activation::Identity),
                ],
            },
            squash: Squash::Tanh,
            affine: Affine { scale: vec![2.0], offset: vec![0.5] },
            clamp: Some(Clamp { low: vec![-1.0], high: vec![1.5] }),
        }
    }

    #[test]
    fn a_policy_is_its_formula() {
        let mut native = NativePolicy::new(policy()).unwrap();
        let mut action = [0.0];
        native.run(&[3.0, -0.25], &mut action).unwrap();
        // Normalised (1, -0.5); hidden relu(0.75, -1.75) = (0.75, 0); output 0.5.
        assert!((action[0] - 1.424_234_3).abs() < 1e-6, "{action:?}");
        assert_eq!(native.activation_scale(), 1.75);
        native.run(&[9.0, 0.0], &mut action).unwrap();
        assert_eq!(action, [1.5], "clamped");
    }

    #[test]
    fn wrong_widths_are_errors() {
        let mut native = NativePolicy::new(policy()).unwrap();
        let error = native.run(&[1.0], &mut [0.0]).unwrap_err();
        assert!(matches!(error, Error::Width { what: "observation", expected: 2, found: 1 }));
        let error = native.run(&[1.0, 2.0], &mut [0.0; 2]).unwrap_err();
        assert!(matches!(error, Error::Width { what: "action", expected: 1, found: 2 }));
    }

    #[test]
    fn graphs_that_do_not_fit_are_refused() {
        type Spoil = fn(&mut PolicyGraph);
        let defects: [(Spoil, &str); 7] = [
            (|g| g.mlp.layers[0].weights[1] = f32::NAN, "layer 0 weights at index 1"),
            (|g| g.mlp.layers[1].bias[0] = f32::INFINITY, "layer 1 bias"),
            (|g| g.mlp.layers[1].inputs = 3, "layer 1 weights"),
            (|g| g.mlp.layers.clear(), "at least one layer"),
            (|g| g.affine.scale[0] = 0.0, "positive"),
            (|g| g.normalizer.as_mut().unwrap().std.truncate(1), "normaliser std"),
            (|g| g.clamp.as_mut().unwrap().low[0] = 2.0, "low below high"),
        ];
        for (spoil, wanted) in defects {
            let mut graph = policy();
            spoil(&mut graph);
            let message = NativePolicy::new(graph).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message:?} does not mention {wanted:?}");
        }
    }

    #[test]
    fn a_discriminator_clips_reduces_and_negates() {
        let member = |weight: f32| Mlp { layers: vec![dense(2, &[weight, 1.0], &[0.0], Activation::Identity)] };
        let mut graph = DiscriminatorGraph {
            observation_width: 1,
            normalizer: None,
            affine: Affine { scale: vec![2.0], offset: vec![1.0] },
            members: vec![member(1.0), member(-3.0)],
            cost_clip: Some(5.0),
            reduction: Reduction::Mean,
        };
        // Observation 2, action 2 is unit 0.5: costs 2.5 and -5.5, the latter clipped to -5.
        for (reduction, reward) in [(Reduction::Mean, 1.25), (Reduction::Min, 5.0), (Reduction::Max, -2.5)] {
            graph.reduction = reduction;
            let mut native = NativeDiscriminator::new(graph.clone()).unwrap();
            assert_eq!(native.run(&[2.0], &[2.0]).unwrap(), reward, "{reduction:?}");
            assert_eq!(native.activation_scale(), 5.5);
        }
    }
}

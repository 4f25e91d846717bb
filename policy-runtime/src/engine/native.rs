//! The crate's own executor: packed weights, kernels chosen when it is built, no allocation after that.

use super::build::{Builder, Tape};
use super::level::{Kernels, Numerics};
use super::program::{Binary, Span, Unary};
use crate::error::{Error, Result};
use crate::spec::{DiscriminatorGraph, PolicyGraph, Reduction, Squash};

/// A program with its memory.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    tape: Tape,
    memory: Vec<f32>,
    kernels: Kernels,
    numerics: Numerics,
    activation_scale: f32,
}

impl Machine {
    pub(crate) fn new(builder: Builder, kernels: Kernels, numerics: Numerics) -> Result<Self> {
        let tape = builder.finish()?;
        let memory = vec![0.0; tape.program().memory()];
        Ok(Self { tape, memory, kernels, numerics, activation_scale: 0.0 })
    }

    pub(crate) fn run(&mut self) -> Result<()> {
        self.activation_scale = self.tape.program().run(&mut self.memory, self.kernels, self.numerics)?;
        Ok(())
    }

    pub(crate) fn at(&self, span: Span) -> &[f32] {
        self.memory.get(span.start as usize..(span.start + span.len) as usize).unwrap_or(&[])
    }

    pub(crate) fn at_mut(&mut self, span: Span) -> &mut [f32] {
        self.memory.get_mut(span.start as usize..(span.start + span.len) as usize).unwrap_or(&mut [])
    }

    pub(crate) fn activation_scale(&self) -> f32 {
        self.activation_scale
    }

    pub(crate) fn tape(&self) -> &Tape {
        &self.tape
    }

    pub(crate) fn kernels(&self) -> Kernels {
        self.kernels
    }

    pub(crate) fn numerics(&self) -> Numerics {
        self.numerics
    }
}

/// A policy, executed natively.
#[derive(Debug, Clone)]
pub struct NativePolicy {
    graph: PolicyGraph,
    machine: Machine,
    input: Span,
    output: Span,
}

impl NativePolicy {
    /// Checks the graph and allocates all that steps will need; the best kernels of this machine.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the graph is not valid.
    pub fn new(graph: PolicyGraph) -> Result<Self> {
        Self::with(graph, Kernels::detect(), Numerics::Fast)
    }

    /// [`Self::new`] with these kernels and numerics.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the graph is not valid.
    pub fn with(graph: PolicyGraph, kernels: Kernels, numerics: Numerics) -> Result<Self> {
        graph.validate()?;
        let mut builder = Builder::default();
        let input = builder.slot(graph.observation_width());
        builder.normalizer(graph.normalizer.as_ref(), input);
        builder.peak(input);
        let output = builder.mlp(input, &graph.mlp);
        if graph.squash == Squash::Tanh {
            builder.unary(Unary::Tanh, output);
        }
        builder.affine(&graph.affine, output);
        if let Some(clamp) = &graph.clamp {
            builder.clamp(clamp, output);
        }
        Ok(Self { graph, machine: Machine::new(builder, kernels, numerics)?, input, output })
    }

    /// The policy's layers.
    pub fn graph(&self) -> &PolicyGraph {
        &self.graph
    }

    /// What it runs.
    pub fn tape(&self) -> &Tape {
        self.machine.tape()
    }

    /// The instructions that it uses.
    pub fn kernels(&self) -> Kernels {
        self.machine.kernels()
    }

    /// How it computes.
    pub fn numerics(&self) -> Numerics {
        self.machine.numerics()
    }

    /// One action, `[action]` in environment units, from one raw observation `[observation]`. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Width`] where a row has the wrong length.
    pub fn run(&mut self, observation: &[f32], action: &mut [f32]) -> Result<()> {
        check_width("observation", self.input.len as usize, observation.len())?;
        check_width("action", self.output.len as usize, action.len())?;
        self.machine.at_mut(self.input).copy_from_slice(observation);
        self.machine.run()?;
        action.copy_from_slice(self.machine.at(self.output));
        Ok(())
    }

    /// Largest magnitude inside the network at the last [`Self::run`]: of its normalised input and of what each layer
    /// gave before its activation. Rounding errors grow with it.
    pub fn activation_scale(&self) -> f32 {
        self.machine.activation_scale()
    }
}

/// A discriminator, executed natively.
#[derive(Debug, Clone)]
pub struct NativeDiscriminator {
    graph: DiscriminatorGraph,
    machine: Machine,
    observation: Span,
    action: Span,
    reward: Span,
}

impl NativeDiscriminator {
    /// Checks the graph and allocates all that evaluations will need; the best kernels of this machine.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the graph is not valid.
    pub fn new(graph: DiscriminatorGraph) -> Result<Self> {
        Self::with(graph, Kernels::detect(), Numerics::Fast)
    }

    /// [`Self::new`] with these kernels and numerics.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the graph is not valid.
    pub fn with(graph: DiscriminatorGraph, kernels: Kernels, numerics: Numerics) -> Result<Self> {
        graph.validate()?;
        let mut builder = Builder::default();
        let (observed, acted) = (graph.observation_width, graph.action_width());
        let joined = builder.slot(observed + acted);
        let (observation, action) = (Builder::part(joined, 0, observed), Builder::part(joined, observed, acted));
        builder.normalizer(graph.normalizer.as_ref(), observation);
        builder.constant(Binary::Sub, action, &graph.affine.offset);
        builder.constant(Binary::Div, action, &graph.affine.scale);
        builder.peak(joined);
        let mut reward: Option<Span> = None;
        for member in &graph.members {
            let cost = builder.mlp(joined, member);
            if let Some(clip) = graph.cost_clip {
                builder.constant(Binary::Max, cost, &[-clip]);
                builder.constant(Binary::Min, cost, &[clip]);
            }
            match reward {
                None => reward = Some(cost),
                Some(reduced) => builder.binary(
                    match graph.reduction {
                        Reduction::Mean => Binary::Add,
                        Reduction::Min => Binary::Min,
                        Reduction::Max => Binary::Max,
                    },
                    reduced,
                    cost,
                ),
            }
        }
        let reward = reward.ok_or_else(|| Error::malformed("discriminator", "at least one member", "none"))?;
        if graph.reduction == Reduction::Mean && graph.members.len() > 1 {
            builder.constant(Binary::Div, reward, &[graph.members.len() as f32]);
        }
        builder.unary(Unary::Neg, reward);
        Ok(Self { graph, machine: Machine::new(builder, kernels, numerics)?, observation, action, reward })
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
        check_width("observation", self.observation.len as usize, observation.len())?;
        check_width("action", self.action.len as usize, action_env.len())?;
        self.machine.at_mut(self.observation).copy_from_slice(observation);
        self.machine.at_mut(self.action).copy_from_slice(action_env);
        self.machine.run()?;
        Ok(self.machine.at(self.reward).first().copied().unwrap_or(f32::NAN))
    }

    /// Largest magnitude inside the networks at the last [`Self::run`].
    pub fn activation_scale(&self) -> f32 {
        self.machine.activation_scale()
    }
}

pub(crate) fn check_width(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Width { what, expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Activation, Affine, Clamp, Dense, Mlp, Normalizer};

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

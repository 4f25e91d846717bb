//! From an ONNX graph to the crate's own layers, where every node is recognised; otherwise one sentence that says why not.

use std::iter::Peekable;
use std::vec::IntoIter;

use tract_onnx::pb;

use super::Model;
use super::chain::{Reason, Step, Walk, broadcast, int_attribute};
use crate::kernel::Activation;
use crate::metadata::{ACTION, OBSERVATION};
use crate::spec::{Affine, Clamp, Dense, DiscriminatorGraph, Mlp, Normalizer, PolicyGraph, Reduction, Squash};

pub(super) type Steps = Peekable<IntoIter<Step>>;

impl Model {
    /// The policy from the only input to output 0, as layers that the native engine runs.
    ///
    /// # Errors
    /// A sentence that says which part is not recognised; such a model runs in tract.
    pub fn lower_policy(&self) -> Result<PolicyGraph, String> {
        let graph = self.graph().ok_or("the file has no graph")?;
        let [input] = self.inputs() else {
            return Err(format!("it has {} inputs instead of one", self.inputs().len()));
        };
        let output = self.outputs().first().map_or("", |output| output.name.as_str());
        let walk = Walk::new(graph);
        let chain = walk.follow(&input.name, None)?;
        if chain.end != output {
            return Err(not_a_chain(&walk, chain.end));
        }
        let policy = policy_from(chain.steps)?;
        policy.validate().map_err(|error| error.to_string())?;
        same_width("input", input.width, policy.observation_width())?;
        same_width("output", self.outputs().first().and_then(|output| output.width), policy.action_width())?;
        Ok(policy)
    }

    /// The discriminator from `observation` and `action` to output 0, as layers that the native engine runs.
    ///
    /// # Errors
    /// A sentence that says which part is not recognised; such a model runs in tract.
    pub fn lower_discriminator(&self) -> Result<DiscriminatorGraph, String> {
        let graph = self.graph().ok_or("the file has no graph")?;
        let walk = Walk::new(graph);
        let input = |name: &str| {
            let port = self.inputs().iter().find(|port| port.name == name);
            port.ok_or_else(|| format!("it has no input {name:?}"))
        };
        let (observation, action) = (input(OBSERVATION)?, input(ACTION)?);
        let observed = walk.follow(&observation.name, None)?;
        let acted = walk.follow(&action.name, None)?;
        let observation_width = observation.width.ok_or("its observation has no fixed width")?;
        let action_width = action.width.ok_or("its action has no fixed width")?;

        let mut steps = observed.steps.into_iter().peekable();
        let normalizer = normalizer_from(&mut steps, observation_width)?;
        no_more(&mut steps)?;
        let mut steps = acted.steps.into_iter().peekable();
        let inverse = normalizer_from(&mut steps, action_width)?;
        no_more(&mut steps)?;
        let affine = inverse.map_or_else(
            || Affine { scale: vec![1.0; action_width], offset: vec![0.0; action_width] },
            |inverse| Affine { scale: inverse.std, offset: inverse.mean },
        );

        let joined = joined(&walk, observed.end, acted.end)?;
        let mut ends = Vec::new();
        for &first in walk.consumers(joined) {
            let chain = walk.follow(joined, Some(first))?;
            let (member, clip) = member_from(chain.steps)?;
            ends.push((chain.end, member, clip));
        }
        let (cost, members, reduction) = reduced(&walk, &mut ends)?;
        let [negation] = walk.consumers(cost) else { return Err(not_a_chain(&walk, cost)) };
        let output = self.outputs().first().map_or("", |output| output.name.as_str());
        if negation.op_type != "Neg" || !matches!(negation.output.as_slice(), [name] if name == output) {
            return Err("its reward is not the negated cost".into());
        }
        let cost_clip = ends.first().and_then(|(_, _, clip)| *clip);
        if ends.iter().any(|(_, _, clip)| *clip != cost_clip) {
            return Err("its members are clipped differently".into());
        }
        let graph = DiscriminatorGraph { observation_width, normalizer, affine, members, cost_clip, reduction };
        graph.validate().map_err(|error| error.to_string())?;
        Ok(graph)
    }
}

fn policy_from(steps: Vec<Step>) -> Result<PolicyGraph, Reason> {
    let mut steps = steps.into_iter().peekable();
    let observation_width = steps.clone().find_map(|step| match step {
        Step::Dense { inputs, .. } => Some(inputs),
        _ => None,
    });
    let normalizer = normalizer_from(&mut steps, observation_width.ok_or("it has no dense layer")?)?;
    let mut layers = layers_from(&mut steps);
    let last = layers.last_mut().ok_or("something other than a normaliser stands before its first layer")?;
    let squash = if last.activation == Activation::Tanh {
        last.activation = Activation::Identity;
        Squash::Tanh
    } else {
        Squash::None
    };
    let width = last.outputs;
    let affine = scale_and_offset(&mut steps, width)?;
    let clamp = clamp_from(&mut steps, width)?;
    no_more(&mut steps)?;
    Ok(PolicyGraph { normalizer, mlp: Mlp { layers }, squash, affine, clamp })
}

/// What follows the squash, as far as it is there.
pub(super) fn scale_and_offset(steps: &mut Steps, width: usize) -> Result<Affine, Reason> {
    let scale = take(steps, width, |step| if let Step::Mul(row) = step { Some(row) } else { None })?;
    let offset = take(steps, width, |step| if let Step::Add(row) = step { Some(row) } else { None })?;
    let (scale, offset) = (scale.unwrap_or_else(|| vec![1.0; width]), offset.unwrap_or_else(|| vec![0.0; width]));
    Ok(Affine { scale, offset })
}

fn member_from(steps: Vec<Step>) -> Result<(Mlp, Option<f32>), Reason> {
    let mut steps = steps.into_iter().peekable();
    let layers = layers_from(&mut steps);
    let clip = match clamp_from(&mut steps, 1)? {
        None => None,
        Some(clamp) if clamp.low[0] == -clamp.high[0] => Some(clamp.high[0]),
        Some(_) => return Err("its cost is clipped unevenly".into()),
    };
    no_more(&mut steps)?;
    Ok((Mlp { layers }, clip))
}

pub(super) fn layers_from(steps: &mut Steps) -> Vec<Dense> {
    let mut layers: Vec<Dense> = Vec::new();
    while let Some(step) = steps.next_if(|step| matches!(step, Step::Dense { .. })) {
        if let Step::Dense { inputs, outputs, weights, mut bias } = step {
            // MatMul followed by the addition of a row is a dense layer with a bias.
            let added = |step: &Step| matches!(step, Step::Add(row) if row.len() == outputs);
            if bias.iter().all(|value| *value == 0.0)
                && let Some(Step::Add(row)) = steps.next_if(added)
            {
                bias = row;
            }
            let activation = match steps.next_if(|step| matches!(step, Step::Activation(_))) {
                Some(Step::Activation(activation)) => activation,
                _ => Activation::Identity,
            };
            layers.push(Dense { inputs, outputs, weights, bias, activation });
        }
    }
    layers
}

pub(super) fn normalizer_from(steps: &mut Steps, width: usize) -> Result<Option<Normalizer>, Reason> {
    let mean = take(steps, width, |step| if let Step::Sub(row) = step { Some(row) } else { None })?;
    let std = take(steps, width, |step| if let Step::Div(row) = step { Some(row) } else { None })?;
    Ok((mean.is_some() || std.is_some()).then(|| Normalizer {
        mean: mean.unwrap_or_else(|| vec![0.0; width]),
        std: std.unwrap_or_else(|| vec![1.0; width]),
    }))
}

pub(super) fn clamp_from(steps: &mut Steps, width: usize) -> Result<Option<Clamp>, Reason> {
    let low = take(steps, width, |step| if let Step::Max(row) = step { Some(row) } else { None })?;
    let high = take(steps, width, |step| if let Step::Min(row) = step { Some(row) } else { None })?;
    match (low, high) {
        (None, None) => Ok(None),
        (Some(low), Some(high)) => Ok(Some(Clamp { low, high })),
        _ => Err("its output is bounded on one side".into()),
    }
}

/// The row of the next step, where `row_of` knows it, at `width`.
fn take(steps: &mut Steps, width: usize, row_of: fn(Step) -> Option<Vec<f32>>) -> Result<Option<Vec<f32>>, Reason> {
    let Some(row) = steps.peek().cloned().and_then(row_of) else { return Ok(None) };
    steps.next();
    let found = row.len();
    broadcast(row, width).map(Some).ok_or_else(|| format!("a constant row has {found} values where {width} pass"))
}

pub(super) fn no_more(steps: &mut Steps) -> Result<(), Reason> {
    match steps.next() {
        None => Ok(()),
        Some(step) => {
            let name = format!("{step:?}");
            let name = name.split(['(', ' ']).next().unwrap_or_default();
            Err(format!("{name} stands where the native engine does not expect it"))
        }
    }
}

/// The output of the node that joins observation and action, in this order.
fn joined<'a>(walk: &Walk<'a>, observed: &str, acted: &str) -> Result<&'a str, Reason> {
    match walk.consumers(observed) {
        [node] if node.op_type == "Concat" && matches!(int_attribute(node, "axis"), 1 | -1) => {
            match (node.input.as_slice(), node.output.as_slice()) {
                ([first, second], [output]) if first == observed && second == acted => Ok(output),
                _ => Err("it does not join observation and action in this order".into()),
            }
        }
        _ => Err("observation and action do not meet in one Concat".into()),
    }
}

type Member<'a> = (&'a str, Mlp, Option<f32>);

/// The cost that the members' costs become, the members in the order of the reduction, and the reduction.
fn reduced<'a>(walk: &Walk<'a>, ends: &mut [Member<'a>]) -> Result<(&'a str, Vec<Mlp>, Reduction), Reason> {
    if let [(end, member, _)] = ends {
        return Ok((end, vec![member.clone()], Reduction::Mean));
    }
    let end = ends.first().ok_or("it has no member")?.0;
    let [node] = walk.consumers(end) else { return Err(not_a_chain(walk, end)) };
    let reduction = match node.op_type.as_str() {
        "Mean" => Reduction::Mean,
        "Min" => Reduction::Min,
        "Max" => Reduction::Max,
        other => return Err(format!("its members meet in {other}")),
    };
    let members: Option<Vec<Mlp>> = (node.input.iter())
        .map(|name| ends.iter().find(|(end, ..)| end == name).map(|(_, member, _)| member.clone()))
        .collect();
    match (members, node.output.as_slice()) {
        (Some(members), [output]) if members.len() == ends.len() => Ok((output, members, reduction)),
        _ => Err("its members do not all meet in one reduction".into()),
    }
}

/// What the file declares of a port must be what its layers read or write.
fn same_width(port: &str, declared: Option<usize>, found: usize) -> Result<(), Reason> {
    match declared {
        Some(declared) if declared != found => {
            Err(format!("its {port} is {declared} wide where its layers have {found}"))
        }
        _ => Ok(()),
    }
}

pub(super) fn not_a_chain(walk: &Walk<'_>, end: &str) -> Reason {
    let readers: Vec<&str> = walk.consumers(end).iter().map(|node: &&pb::NodeProto| node.op_type.as_str()).collect();
    match readers.as_slice() {
        [] => format!("the value {end:?} does not lead to the first output"),
        readers => format!("the native engine does not know {} after {end:?}", readers.join(" + ")),
    }
}

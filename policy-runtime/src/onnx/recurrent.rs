//! From an ONNX policy with LSTM or GRU layers to the layers of a blob, where every node is recognised; otherwise one sentence
//! that says why not. Dense policies are a special case.

use std::collections::HashMap;

use tract_onnx::pb;

use super::Model;
use super::chain::{Reason, Walk, int_attribute};
use super::lower::{clamp_from, layers_from, no_more, normalizer_from, not_a_chain, scale_and_offset};
use crate::embedded::write::{Network, Part, Recurrent};
use crate::kernel::Activation;
use crate::spec::{Clamp, Squash};

/// Nodes that change the shape of a single row and nothing else.
const SHAPES: [&str; 6] = ["Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Identity"];
/// Nodes through which recurrent state comes from its input.
const SELECTIONS: [&str; 9] =
    ["Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Identity", "Slice", "Split", "Gather"];
/// Most numbers of a layer's state: with four gates, its weights are the largest tensor that a file may have.
const MAX_HIDDEN: i64 = 1 << 13;
/// More nodes than a path through any policy has.
const LONGEST: usize = 1 << 12;

impl Model {
    /// The policy from the first input to output 0 as the layers of a blob; all other inputs are states of LSTM and GRU
    /// layers, which start as zeros. Where the file bounds its action nowhere, the clamp is infinite.
    ///
    /// That the file's state outputs lead back to the layers that they came from is not looked at: compare what the blob gives
    /// with the file over several steps.
    ///
    /// # Errors
    /// A sentence that says which part is not recognised.
    pub fn lower_network(&self) -> Result<Network, String> {
        let graph = self.graph().ok_or("the file has no graph")?;
        let (Some(input), Some(output)) = (self.inputs().first(), self.outputs().first()) else {
            return Err("it has no input or no output".into());
        };
        let walk = Walk::new(graph);
        let mut states = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let mut normalizer = None;
        let (mut value, mut first) = (input.name.as_str(), None);
        for _ in 0..LONGEST {
            let chain = walk.follow(value, first.take())?;
            let mut steps = chain.steps.into_iter().peekable();
            if parts.is_empty() && normalizer.is_none() {
                normalizer = normalizer_from(&mut steps, input.width.ok_or("its input has no fixed width")?)?;
            }
            parts.extend(layers_from(&mut steps).into_iter().map(Part::Dense));
            if chain.end == output.name {
                let unknown = self.inputs().iter().skip(1).find(|input| !states.contains(&input.name.as_str()));
                if let Some(unknown) = unknown {
                    return Err(format!("its input {:?} is no state of an LSTM or GRU", unknown.name));
                }
                let squash = squash(parts.last_mut());
                let width = parts.last().map_or(0, outputs);
                let affine = scale_and_offset(&mut steps, width)?;
                let clamp = clamp_from(&mut steps, width)?;
                no_more(&mut steps)?;
                let clamp = clamp
                    .unwrap_or_else(|| Clamp { low: vec![f32::NEG_INFINITY; width], high: vec![f32::INFINITY; width] });
                return Ok(Network { normalizer, parts, squash, affine, clamp });
            }
            no_more(&mut steps)?;
            let readers = walk.consumers(chain.end).iter().copied().filter(|node| node.op_type != "Shape");
            let reader = match readers.collect::<Vec<_>>().as_slice() {
                [node] => *node,
                _ => return Err(not_a_chain(&walk, chain.end)),
            };
            let reads = reader.input.first().is_some_and(|name| name == chain.end);
            value = match reader.op_type.as_str() {
                "LSTM" | "GRU" if reads => {
                    parts.push(recurrent(&walk, graph, reader, &mut states)?);
                    // One step: all outputs and the last one are the same.
                    let names = reader.output.iter().take(2).map(String::as_str).filter(|name| !name.is_empty());
                    let mut read = names.filter(|name| *name == output.name || !walk.consumers(name).is_empty());
                    read.next().ok_or_else(|| not_a_chain(&walk, chain.end))?
                }
                shape if reads && SHAPES.contains(&shape) => {
                    reader.output.first().ok_or_else(|| not_a_chain(&walk, chain.end))?
                }
                _ if chain.end == value => return Err(not_a_chain(&walk, value)),
                _ => {
                    first = Some(reader);
                    chain.end
                }
            };
        }
        Err("it goes in a circle".into())
    }
}

/// What the last dense layer's tanh is, which it loses.
fn squash(last: Option<&mut Part>) -> Squash {
    match last {
        Some(Part::Dense(layer)) if layer.activation == Activation::Tanh => {
            layer.activation = Activation::Identity;
            Squash::Tanh
        }
        _ => Squash::None,
    }
}

fn outputs(part: &Part) -> usize {
    match part {
        Part::Dense(layer) => layer.outputs,
        Part::Lstm(layer) | Part::Gru(layer) => layer.hidden,
    }
}

/// Whether an LSTM or GRU is the one that torch exports and this crate computes: forward, usual activations, no peepholes, of a GRU
/// the reset after the matrix, and of a size whose squares and multiples are numbers.
pub(super) fn is_usual(node: &pb::NodeProto) -> bool {
    let altered = ["activations", "activation_alpha", "activation_beta", "clip", "input_forget", "layout"];
    let usual = |attribute: &pb::AttributeProto| match attribute.name.as_str() {
        "direction" => attribute.s == b"forward",
        name => !altered.contains(&name) || (attribute.i == 0 && attribute.f == 0.0 && attribute.strings.is_empty()),
    };
    node.attribute.iter().all(usual)
        && (node.op_type == "LSTM" || int_attribute(node, "linear_before_reset") != 0)
        && node.input.get(7).is_none_or(String::is_empty)
        && (1..=MAX_HIDDEN).contains(&int_attribute(node, "hidden_size"))
}

fn recurrent<'a>(
    walk: &Walk<'a>,
    graph: &'a pb::GraphProto,
    node: &'a pb::NodeProto,
    states: &mut Vec<&'a str>,
) -> Result<Part, Reason> {
    let refuse = |what: &str| format!("{} {:?} {what}", node.op_type, node.name);
    if !is_usual(node) {
        return Err(refuse("is not of the usual kind"));
    }
    let lstm = node.op_type == "LSTM";
    let hidden = usize::try_from(int_attribute(node, "hidden_size")).unwrap_or(0);
    // ONNX: input, output, forget, cell; update, reset, new. Here: input, forget, cell, output; reset, update, new.
    let order: &[usize] = if lstm { &[0, 2, 3, 1] } else { &[1, 0, 2] };
    let gates = order.len();
    let row = |index: usize| node.input.get(index).and_then(|name| walk.numbers(name)).unwrap_or(&[]);
    let (weights, recurrence) = (row(1), row(2));
    let inputs = weights.len() / (gates * hidden);
    let lengths = [(weights.len(), gates * hidden * inputs), (recurrence.len(), gates * hidden * hidden)];
    if inputs == 0 || lengths.iter().any(|(found, wanted)| found != wanted) {
        return Err(refuse("has no constant weights of the usual shape"));
    }
    let bias = match node.input.get(3).filter(|name| !name.is_empty()) {
        Some(_) => row(3).to_vec(),
        None => vec![0.0; 2 * gates * hidden],
    };
    if bias.len() != 2 * gates * hidden {
        return Err(refuse("has no constant bias of the usual shape"));
    }
    let producers: HashMap<&str, &pb::NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
    for index in if lstm { 5..7 } else { 5..6 } {
        let mut name = node.input.get(index).map_or("", String::as_str);
        while let Some(producer) = producers.get(name).filter(|it| SELECTIONS.contains(&it.op_type.as_str())) {
            name = producer.input.first().map_or("", String::as_str);
        }
        if !graph.input.iter().any(|input| input.name == name) {
            return Err(refuse("starts from a state that is no input, so that it remembers nothing"));
        }
        states.push(name);
    }
    let ordered = |row: &[f32], width: usize| -> Vec<f32> {
        let gate = |gate: &usize| row[gate * hidden * width..(gate + 1) * hidden * width].to_vec();
        order.iter().flat_map(gate).collect()
    };
    let (of_input, of_state) = bias.split_at(gates * hidden);
    let layer = Recurrent {
        inputs,
        hidden,
        weight_ih: ordered(weights, inputs),
        weight_hh: ordered(recurrence, hidden),
        bias_ih: ordered(of_input, 1),
        bias_hh: ordered(of_state, 1),
    };
    Ok(if lstm { Part::Lstm(layer) } else { Part::Gru(layer) })
}

//! Which outputs are random, and a graph without what its outputs do not need.

use std::collections::HashSet;

use tract_onnx::pb;

/// Operators whose result is drawn.
const RANDOM: [&str; 6] =
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"];

/// Names of the outputs that depend on a drawn number. Nodes are in order, see [`super::Model`].
pub(super) fn sampled_outputs(graph: &pb::GraphProto) -> Vec<String> {
    let mut drawn: HashSet<&str> = HashSet::new();
    for node in &graph.node {
        if is_random(node) || node.input.iter().any(|name| drawn.contains(name.as_str())) {
            drawn.extend(node.output.iter().map(String::as_str));
        }
    }
    let outputs = graph.output.iter().map(|output| output.name.clone());
    outputs.filter(|name| drawn.contains(name.as_str())).collect()
}

fn is_random(node: &pb::NodeProto) -> bool {
    let inner = |graph: &pb::GraphProto| graph.node.iter().any(is_random);
    RANDOM.contains(&node.op_type.as_str())
        || node.attribute.iter().any(|attribute| attribute.g.iter().chain(&attribute.graphs).any(inner))
}

/// Keeps the outputs named `names`, in that order, and what they need.
pub(super) fn keep(graph: &mut pb::GraphProto, names: &[String]) {
    graph.output =
        (names.iter()).filter_map(|name| graph.output.iter().find(|output| output.name == *name).cloned()).collect();
    let mut needed: HashSet<String> = names.iter().cloned().collect();
    let mut nodes: Vec<pb::NodeProto> = Vec::new();
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|name| needed.contains(name)) {
            needed.extend(node.input.iter().cloned());
            // A graph inside of a node may read anything around it.
            for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
                read_inside(inner, &mut needed);
            }
            nodes.push(node);
        }
    }
    nodes.reverse();
    graph.node = nodes;
    let dropped: HashSet<String> = (graph.initializer.iter())
        .filter(|tensor| !needed.contains(&tensor.name))
        .map(|tensor| tensor.name.clone())
        .collect();
    graph.initializer.retain(|tensor| !dropped.contains(&tensor.name));
    // Files of the first versions list their constants among the inputs.
    graph.input.retain(|input| !dropped.contains(&input.name));
}

fn read_inside(graph: &pb::GraphProto, needed: &mut HashSet<String>) {
    needed.extend(graph.output.iter().map(|output| output.name.clone()));
    for node in &graph.node {
        needed.extend(node.input.iter().cloned());
        for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            read_inside(inner, needed);
        }
    }
}

//! Following one value through a graph as long as each node has a single, known effect on it.

use std::collections::HashMap;

use tract_onnx::pb;

use crate::kernel::Activation;

/// One recognised node, or the constant half of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Sub(Vec<f32>),
    Div(Vec<f32>),
    Mul(Vec<f32>),
    Add(Vec<f32>),
    /// Not below.
    Max(Vec<f32>),
    /// Not above.
    Min(Vec<f32>),
    Dense {
        inputs: usize,
        outputs: usize,
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
    Activation(Activation),
}

/// Where a chain of steps came to its end.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    pub steps: Vec<Step>,
    pub end: &'a str,
}

/// Why a graph cannot be lowered: one sentence for `inspect`.
pub(super) type Reason = String;

/// A graph, indexed for walking.
pub(super) struct Walk<'a> {
    constants: HashMap<&'a str, Constant<'a>>,
    consumers: HashMap<&'a str, Vec<&'a pb::NodeProto>>,
}

#[derive(Clone)]
struct Constant<'a> {
    dims: &'a [i64],
    values: Vec<f32>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(graph: &'a pb::GraphProto) -> Self {
        let mut constants = HashMap::new();
        let mut consumers: HashMap<&str, Vec<&pb::NodeProto>> = HashMap::new();
        for tensor in &graph.initializer {
            constants.extend(constant(tensor).map(|constant| (tensor.name.as_str(), constant)));
        }
        for node in &graph.node {
            if node.op_type == "Constant"
                && let [output] = node.output.as_slice()
            {
                let tensor = node.attribute.iter().find(|attribute| attribute.name == "value");
                let tensor = tensor.and_then(|attribute| attribute.t.as_ref()).and_then(constant);
                constants.extend(tensor.map(|constant| (output.as_str(), constant)));
            }
            for name in &node.input {
                consumers.entry(name).or_default().push(node);
            }
        }
        Self { constants, consumers }
    }

    pub(super) fn consumers(&self, value: &str) -> &[&'a pb::NodeProto] {
        self.consumers.get(value).map_or(&[], Vec::as_slice)
    }

    /// The numbers of an f32 constant, row-major.
    pub(super) fn numbers(&self, name: &str) -> Option<&[f32]> {
        self.constants.get(name).map(|constant| constant.values.as_slice())
    }

    /// Follows `value` from `first`, or from its only reader, until a node is not a step. SiLU is known by its two nodes.
    pub(super) fn follow(&self, value: &'a str, first: Option<&'a pb::NodeProto>) -> Result<Chain<'a>, Reason> {
        let mut chain = Chain { steps: Vec::new(), end: value };
        let mut next = first;
        loop {
            let readers = self.consumers(chain.end);
            let only_reader = if let [node] = readers { Some(*node) } else { None };
            let step = match (next.take().or(only_reader), readers) {
                (Some(node), _) => self.step(node, chain.end)?,
                (None, [one, other]) => (silu(one, other).or_else(|| silu(other, one)))
                    .map(|end| (vec![Step::Activation(Activation::Silu)], end)),
                (None, _) => None,
            };
            let Some((steps, end)) = step else { return Ok(chain) };
            chain.steps.extend(steps);
            chain.end = end;
        }
    }

    /// The effect of `node` on `value`, and the name of the result; `None` where the node is no step.
    fn step(&self, node: &'a pb::NodeProto, value: &str) -> Result<Option<(Vec<Step>, &'a str)>, Reason> {
        let [output] = node.output.as_slice() else { return Ok(None) };
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Ok(None);
        }
        let steps = match (node.op_type.as_str(), node.input.as_slice()) {
            ("Identity", [_]) => vec![],
            ("Relu", [_]) => vec![Step::Activation(Activation::Relu)],
            ("Tanh", [_]) => vec![Step::Activation(Activation::Tanh)],
            ("Sigmoid", [_]) => vec![Step::Activation(Activation::Sigmoid)],
            ("Elu", [_]) if float_attribute(node, "alpha", 1.0) == 1.0 => vec![Step::Activation(Activation::Elu)],
            ("Sub", [left, right]) if left == value => self.one(right, Step::Sub),
            ("Div", [left, right]) if left == value => self.one(right, Step::Div),
            ("Mul", [left, right]) => self.one(other(left, right, value), Step::Mul),
            ("Add", [left, right]) => self.one(other(left, right, value), Step::Add),
            ("Max", [left, right]) => self.one(other(left, right, value), Step::Max),
            ("Min", [left, right]) => self.one(other(left, right, value), Step::Min),
            ("Clip", [_, bounds @ ..]) => self.clip(node, bounds),
            ("Gemm", [left, weights, bias @ ..]) if left == value => vec![self.gemm(node, weights, bias.first())?],
            ("MatMul", [left, weights]) if left == value => vec![self.matmul(weights)?],
            _ => return Ok(None),
        };
        let recognised = !steps.is_empty() || node.op_type == "Identity";
        Ok(recognised.then_some((steps, output.as_str())))
    }

    fn one(&self, constant: &str, step: fn(Vec<f32>) -> Step) -> Vec<Step> {
        self.row(constant).map(step).into_iter().collect()
    }

    /// A constant that is one number or one row.
    fn row(&self, name: &str) -> Option<Vec<f32>> {
        let constant = self.constants.get(name)?;
        let leading = constant.dims.split_last().map_or(&[][..], |(_, leading)| leading);
        (leading.iter().all(|dim| *dim == 1) && !constant.values.is_empty()).then(|| constant.values.clone())
    }

    fn clip(&self, node: &pb::NodeProto, bounds: &[String]) -> Vec<Step> {
        let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name).map(|a| vec![a.f]);
        let bound = |index: usize, name: &str| match bounds.get(index).filter(|name| !name.is_empty()) {
            Some(constant) => self.row(constant),
            None => attribute(name),
        };
        let (low, high) = (bound(0, "min"), bound(1, "max"));
        low.map(Step::Max).into_iter().chain(high.map(Step::Min)).collect()
    }

    fn gemm(&self, node: &pb::NodeProto, weights: &str, bias: Option<&String>) -> Result<Step, Reason> {
        let plain = float_attribute(node, "alpha", 1.0) == 1.0
            && float_attribute(node, "beta", 1.0) == 1.0
            && int_attribute(node, "transA") == 0;
        if !plain {
            return Err(format!("Gemm {:?} scales or transposes its input", node.name));
        }
        let mut step = self.matrix(weights, int_attribute(node, "transB") != 0)?;
        if let (Step::Dense { outputs, bias, .. }, Some(name)) = (&mut step, bias.filter(|name| !name.is_empty())) {
            let row =
                self.row(name).ok_or_else(|| format!("the bias of Gemm {:?} is not a constant row", node.name))?;
            *bias = broadcast(row, *outputs)
                .ok_or_else(|| format!("the bias of Gemm {:?} has another width", node.name))?;
        }
        Ok(step)
    }

    fn matmul(&self, weights: &str) -> Result<Step, Reason> {
        self.matrix(weights, false)
    }

    fn matrix(&self, name: &str, transposed: bool) -> Result<Step, Reason> {
        let constant =
            self.constants.get(name).ok_or_else(|| format!("the weights {name:?} are not an f32 constant"))?;
        let &[rows, columns] = constant.dims else {
            return Err(format!("the weights {name:?} have {} axes instead of two", constant.dims.len()));
        };
        let (rows, columns) = (rows as usize, columns as usize);
        let (inputs, outputs, weights) = if transposed {
            let values = &constant.values;
            let turned = (0..columns).flat_map(|i| (0..rows).map(move |j| values[j * columns + i])).collect();
            (columns, rows, turned)
        } else {
            (rows, columns, constant.values.clone())
        };
        Ok(Step::Dense { inputs, outputs, weights, bias: vec![0.0; outputs] })
    }
}

/// `row` repeated to `width` where it is one number.
pub(super) fn broadcast(row: Vec<f32>, width: usize) -> Option<Vec<f32>> {
    match row.as_slice() {
        [one] => Some(vec![*one; width]),
        _ => (row.len() == width).then_some(row),
    }
}

fn other<'b>(left: &'b str, right: &'b str, value: &str) -> &'b str {
    if left == value { right } else { left }
}

fn silu<'a>(sigmoid: &'a pb::NodeProto, product: &'a pb::NodeProto) -> Option<&'a str> {
    let ([value], [gate]) = (sigmoid.input.as_slice(), sigmoid.output.as_slice()) else { return None };
    let known = sigmoid.op_type == "Sigmoid"
        && product.op_type == "Mul"
        && matches!(product.input.as_slice(), [a, b] if (a == value && b == gate) || (a == gate && b == value));
    match product.output.as_slice() {
        [output] if known => Some(output),
        _ => None,
    }
}

fn float_attribute(node: &pb::NodeProto, name: &str, default: f32) -> f32 {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(default, |attribute| attribute.f)
}

pub(super) fn int_attribute(node: &pb::NodeProto, name: &str) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(0, |attribute| attribute.i)
}

fn constant(tensor: &pb::TensorProto) -> Option<Constant<'_>> {
    if tensor.data_type != pb::tensor_proto::DataType::Float as i32 {
        return None;
    }
    let values = if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        tensor
            .raw_data
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect()
    };
    Some(Constant { dims: &tensor.dims, values })
}

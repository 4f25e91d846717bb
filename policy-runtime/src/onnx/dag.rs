//! From any ONNX graph over single rows to a program of the native engine: values are spans of memory, or known when the graph is
//! read. Recurrent layers become dense layers and elementwise operations.

mod cells;
mod elementwise;
mod products;
mod shapes;

use std::collections::HashMap;

use tract_onnx::pb::{self, tensor_proto::DataType};

use super::chain::Reason;
use crate::engine::build::Builder;
use crate::engine::program::{Binary, Reduce, Span, Unary};

/// Where a value is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// In memory, row-major. `owned` where no other name leads to that memory.
    Row { span: Span, shape: Vec<usize>, owned: bool },
    /// Known numbers.
    Known { values: Vec<f32>, shape: Vec<usize> },
    /// Known whole numbers: shapes, axes, indices.
    Whole { values: Vec<i64>, shape: Vec<usize> },
}

impl Value {
    fn known(&self) -> Option<&[f32]> {
        match self {
            Value::Known { values, .. } => Some(values),
            _ => None,
        }
    }

    fn whole(&self) -> Option<&[i64]> {
        match self {
            Value::Whole { values, .. } => Some(values),
            _ => None,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Value::Row { shape, .. } | Value::Known { shape, .. } | Value::Whole { shape, .. } => shape,
        }
    }
}

/// A graph on its way into a program.
pub(super) struct Dag<'a> {
    pub(super) builder: Builder,
    values: HashMap<&'a str, Value>,
    uses: HashMap<&'a str, usize>,
    /// How many known numbers nodes may still make. A small file must not grow without bound by repeating its constants.
    budget: usize,
}

/// Known numbers that nodes may make for each one in the file.
const MOST_GROWTH: usize = 16;
/// And beyond that.
const FREE_NUMBERS: usize = 1 << 16;

impl<'a> Dag<'a> {
    pub(super) fn new(graph: &'a pb::GraphProto) -> Self {
        let mut uses: HashMap<&str, usize> = HashMap::new();
        let read = graph.node.iter().flat_map(|node| &node.input).chain(graph.output.iter().map(|output| &output.name));
        read.for_each(|name| *uses.entry(name).or_default() += 1);
        let mut values = HashMap::new();
        let mut numbers = 0_usize;
        for tensor in &graph.initializer {
            let value = known(tensor);
            numbers += value.as_ref().map_or(0, |value| value.known().map_or(0, <[f32]>::len));
            values.extend(value.map(|value| (tensor.name.as_str(), value)));
        }
        let inside = graph.node.iter().flat_map(|node| &node.attribute).filter_map(|attribute| attribute.t.as_ref());
        numbers += inside.map(|tensor| tensor.float_data.len() + tensor.raw_data.len() / 4).sum::<usize>();
        let budget = numbers.saturating_mul(MOST_GROWTH).saturating_add(FREE_NUMBERS);
        Self { builder: Builder::default(), values, uses, budget }
    }

    /// Declares an input of this shape; where its values are to be written.
    pub(super) fn input(&mut self, name: &'a str, shape: &[usize]) -> Span {
        let span = self.builder.slot(shape.iter().product());
        self.values.insert(name, Value::Row { span, shape: shape.to_vec(), owned: true });
        span
    }

    /// Where an output is, and its shape.
    pub(super) fn output(&mut self, name: &str) -> Result<(Span, Vec<usize>), Reason> {
        match self.values.get(name).cloned() {
            Some(Value::Row { span, shape, .. }) => Ok((span, shape)),
            Some(Value::Known { values, shape }) => {
                let span = self.builder.slot(values.len());
                self.builder.copy_constant(&values, span);
                Ok((span, shape))
            }
            Some(Value::Whole { .. }) => Err(format!("its output {name:?} has whole numbers")),
            None => Err(format!("its output {name:?} is not computed")),
        }
    }

    /// Adds one node.
    pub(super) fn node(&mut self, node: &'a pb::NodeProto) -> Result<(), Reason> {
        let unknown = || format!("the native engine does not know {}", node.op_type);
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Err(unknown());
        }
        let output = node.output.first().map(String::as_str).ok_or_else(unknown)?;
        let value = match node.op_type.as_str() {
            "Constant" => self.constant(node).ok_or_else(unknown)?,
            "Identity" | "Dropout" => self.alias(node, 0)?,
            "Cast" => match (int(node, "to"), self.value(node, 0)?) {
                (1, Value::Row { .. } | Value::Known { .. }) => self.alias(node, 0)?,
                (1, Value::Whole { values, shape }) => {
                    Value::Known { values: values.iter().map(|value| *value as f32).collect(), shape: shape.clone() }
                }
                (7, Value::Whole { .. }) => self.alias(node, 0)?,
                _ => return Err(unknown()),
            },
            "Relu" => self.unary(node, Unary::Relu)?,
            "LeakyRelu" => self.unary(node, Unary::LeakyRelu { slope: float(node, "alpha", 0.01) })?,
            "Tanh" => self.unary(node, Unary::Tanh)?,
            "Sigmoid" => self.unary(node, Unary::Sigmoid)?,
            "Elu" => self.unary(node, Unary::Elu { alpha: float(node, "alpha", 1.0) })?,
            "Softplus" => self.unary(node, Unary::Softplus)?,
            "Exp" => self.unary(node, Unary::Exp)?,
            "Log" => self.unary(node, Unary::Ln)?,
            "Sqrt" => self.unary(node, Unary::Sqrt)?,
            "Erf" => self.unary(node, Unary::Erf)?,
            "Sin" => self.unary(node, Unary::Sin)?,
            "Cos" => self.unary(node, Unary::Cos)?,
            "Neg" => self.unary(node, Unary::Neg)?,
            "Abs" => self.unary(node, Unary::Abs)?,
            "Reciprocal" => self.unary(node, Unary::Reciprocal)?,
            "Selu" => {
                let alpha = float(node, "alpha", 1.673_263_2);
                let value = self.unary(node, Unary::Elu { alpha })?;
                self.scaled(value, Binary::Mul, float(node, "gamma", 1.050_701))
            }
            "Softsign" => {
                let (x, shape) = self.fresh(node, 0)?;
                let below = self.copied(x);
                self.builder.unary(Unary::Abs, below);
                self.builder.constant(Binary::Add, below, &[1.0]);
                self.builder.binary(Binary::Div, x, below);
                Value::Row { span: x, shape, owned: true }
            }
            "HardSigmoid" | "HardSwish" => {
                let (x, shape) = self.fresh(node, 0)?;
                let gate = self.copied(x);
                let swish = node.op_type == "HardSwish";
                let (alpha, beta) =
                    if swish { (1.0 / 6.0, 0.5) } else { (float(node, "alpha", 0.2), float(node, "beta", 0.5)) };
                self.builder.constant(Binary::Mul, gate, &[alpha]);
                self.builder.constant(Binary::Add, gate, &[beta]);
                self.builder.constant(Binary::Max, gate, &[0.0]);
                self.builder.constant(Binary::Min, gate, &[1.0]);
                if swish {
                    self.builder.binary(Binary::Mul, gate, x);
                }
                Value::Row { span: gate, shape, owned: true }
            }
            "Mish" => {
                let (x, shape) = self.fresh(node, 0)?;
                let gate = self.copied(x);
                self.builder.unary(Unary::Softplus, gate);
                self.builder.unary(Unary::Tanh, gate);
                self.builder.binary(Binary::Mul, x, gate);
                Value::Row { span: x, shape, owned: true }
            }
            "Gelu" if !node.attribute.iter().any(|a| a.name == "approximate" && a.s == b"tanh") => {
                let (x, shape) = self.fresh(node, 0)?;
                let gate = self.copied(x);
                self.builder.constant(Binary::Mul, gate, &[core::f32::consts::FRAC_1_SQRT_2]);
                self.builder.unary(Unary::Erf, gate);
                self.builder.constant(Binary::Add, gate, &[1.0]);
                self.builder.constant(Binary::Mul, gate, &[0.5]);
                self.builder.binary(Binary::Mul, x, gate);
                Value::Row { span: x, shape, owned: true }
            }
            "Add" => self.binary(node, Binary::Add, Binary::Add)?,
            "Sub" => self.binary(node, Binary::Sub, Binary::SubFrom)?,
            "Mul" => self.binary(node, Binary::Mul, Binary::Mul)?,
            "Div" => self.binary(node, Binary::Div, Binary::DivInto)?,
            "Min" if node.input.len() == 2 => self.binary(node, Binary::Min, Binary::Min)?,
            "Max" if node.input.len() == 2 => self.binary(node, Binary::Max, Binary::Max)?,
            "Pow" => match self.numbers(node, 1).as_deref() {
                Some([2.0]) => {
                    let (x, shape) = self.fresh(node, 0)?;
                    let same = self.copied(x);
                    self.builder.binary(Binary::Mul, x, same);
                    Value::Row { span: x, shape, owned: true }
                }
                Some([_]) => self.binary(node, Binary::Pow, Binary::Pow)?,
                _ => return Err(unknown()),
            },
            "Clip" => self.clip(node)?,
            "Gemm" => self.gemm(node)?,
            "MatMul" => self.matmul(node)?,
            "LayerNormalization" => self.layer_norm(node)?,
            "BatchNormalization" => self.batch_norm(node)?,
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Expand" => self.reshape(node)?,
            "Shape" => self.shape(node)?,
            "Gather" => self.gather(node)?,
            "Concat" => self.concat(node)?,
            "Split" => return self.split(node),
            "Slice" => self.slice(node)?,
            "ReduceMean" => self.reduce(node, Reduce::Mean)?,
            "ReduceSum" => self.reduce(node, Reduce::Sum)?,
            "LSTM" | "GRU" => return self.recurrent(node),
            _ => return Err(unknown()),
        };
        self.spend(value.known().map_or(0, <[f32]>::len))?;
        self.values.insert(output, value);
        Ok(())
    }

    fn spend(&mut self, numbers: usize) -> Result<(), Reason> {
        self.budget = self.budget.checked_sub(numbers).ok_or("it repeats its constants too often")?;
        Ok(())
    }

    fn value(&self, node: &pb::NodeProto, index: usize) -> Result<&Value, Reason> {
        let name = node.input.get(index).map_or("", String::as_str);
        self.values.get(name).ok_or_else(|| format!("{} reads {name:?}, which is no row of numbers", node.op_type))
    }

    /// Input `index` where it is known as numbers.
    fn numbers(&self, node: &pb::NodeProto, index: usize) -> Option<Vec<f32>> {
        match self.values.get(node.input.get(index)?.as_str())? {
            Value::Known { values, .. } => Some(values.clone()),
            _ => None,
        }
    }

    fn whole(&self, node: &pb::NodeProto, index: usize) -> Option<Vec<i64>> {
        match self.values.get(node.input.get(index)?.as_str())? {
            Value::Whole { values, .. } => Some(values.clone()),
            _ => None,
        }
    }

    fn row(&self, node: &pb::NodeProto, index: usize) -> Result<(Span, Vec<usize>), Reason> {
        match self.value(node, index)? {
            Value::Row { span, shape, .. } => Ok((*span, shape.clone())),
            _ => Err(format!("{} {:?} works on constants", node.op_type, node.name)),
        }
    }

    /// Input `index` in memory that may be changed: its own where nothing else reads it, a copy elsewhere.
    fn fresh(&mut self, node: &pb::NodeProto, index: usize) -> Result<(Span, Vec<usize>), Reason> {
        let (span, shape) = self.row(node, index)?;
        let name = node.input.get(index).map_or("", String::as_str);
        let owned = matches!(self.values.get(name), Some(Value::Row { owned: true, .. }));
        if owned && self.uses.get(name) == Some(&1) { Ok((span, shape)) } else { Ok((self.copied(span), shape)) }
    }

    fn copied(&mut self, span: Span) -> Span {
        let copy = self.builder.slot(span.len as usize);
        self.builder.copy(span, copy);
        copy
    }

    /// Another name for input `index`.
    fn alias(&mut self, node: &pb::NodeProto, index: usize) -> Result<Value, Reason> {
        let sole = node.input.get(index).is_some_and(|name| self.uses.get(name.as_str()) == Some(&1));
        Ok(match self.value(node, index)?.clone() {
            Value::Row { span, shape, owned } => Value::Row { span, shape, owned: owned && sole },
            other => other,
        })
    }

    fn constant(&self, node: &pb::NodeProto) -> Option<Value> {
        let attribute = node.attribute.first()?;
        match attribute.name.as_str() {
            "value" => known(attribute.t.as_ref()?),
            "value_float" => Some(Value::Known { values: vec![attribute.f], shape: vec![] }),
            "value_floats" => {
                Some(Value::Known { values: attribute.floats.clone(), shape: vec![attribute.floats.len()] })
            }
            "value_int" => Some(Value::Whole { values: vec![attribute.i], shape: vec![] }),
            "value_ints" => Some(Value::Whole { values: attribute.ints.clone(), shape: vec![attribute.ints.len()] }),
            _ => None,
        }
    }
}

fn float(node: &pb::NodeProto, name: &str, default: f32) -> f32 {
    node.attribute.iter().find(|attribute| attribute.name == name).map_or(default, |attribute| attribute.f)
}

fn int(node: &pb::NodeProto, name: &str) -> i64 {
    super::chain::int_attribute(node, name)
}

fn ints(node: &pb::NodeProto, name: &str) -> Option<Vec<i64>> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.ints.clone())
}

fn known(tensor: &pb::TensorProto) -> Option<Value> {
    let shape: Vec<usize> = tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect::<Option<_>>()?;
    let raw = &tensor.raw_data;
    match DataType::try_from(tensor.data_type).ok()? {
        DataType::Float => {
            let decoded = || raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            let values = if raw.is_empty() { tensor.float_data.clone() } else { decoded() };
            Some(Value::Known { values, shape })
        }
        DataType::Int64 => {
            let decoded = || raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
            let values = if raw.is_empty() { tensor.int64_data.clone() } else { decoded() };
            Some(Value::Whole { values, shape })
        }
        _ => None,
    }
}

/// A whole model as a program that is not finished yet.
#[derive(Debug)]
pub(crate) struct Lowered {
    pub(crate) builder: Builder,
    /// Where each input is written; `None` for one that nothing reads.
    pub(crate) inputs: Vec<Option<Span>>,
    /// Where each output is, and its shape.
    pub(crate) outputs: Vec<(Span, Vec<usize>)>,
}

impl super::Model {
    /// All outputs as operations on rows, where every node is recognised. `shapes` are those of the inputs, in order.
    ///
    /// # Errors
    /// A sentence that says which part is not recognised; such a model runs in tract.
    pub(crate) fn lower_graph(&self, shapes: &[Vec<usize>]) -> Result<Lowered, String> {
        let graph = self.graph().ok_or("the file has no graph")?;
        let mut dag = Dag::new(graph);
        let mut inputs = Vec::new();
        for (port, shape) in self.inputs().iter().zip(shapes) {
            inputs.push(match port.element.as_str() {
                _ if !self.reads(&port.name) => None,
                "float" => Some(dag.input(&port.name, shape)),
                other => return Err(format!("its input {:?} is {other}", port.name)),
            });
        }
        for node in &graph.node {
            dag.node(node)?;
        }
        let outputs = self.outputs().iter().map(|output| dag.output(&output.name)).collect::<Result<_, _>>()?;
        Ok(Lowered { builder: dag.builder, inputs, outputs })
    }
}

//! From any ONNX graph over single rows to a program of the native engine: values are spans of memory, or known when the graph is
//! read. Recurrent layers become dense layers and elementwise operations.

use std::collections::HashMap;

use tract_onnx::pb::{self, tensor_proto::DataType};

use super::chain::Reason;
use super::recurrent::is_usual;
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

    fn unary(&mut self, node: &pb::NodeProto, function: Unary) -> Result<Value, Reason> {
        if let Value::Known { values, shape } = self.value(node, 0)? {
            return Ok(Value::Known { values: values.iter().map(|x| function.at(*x)).collect(), shape: shape.clone() });
        }
        let (span, shape) = self.fresh(node, 0)?;
        self.builder.unary(function, span);
        Ok(Value::Row { span, shape, owned: true })
    }

    fn scaled(&mut self, value: Value, function: Binary, by: f32) -> Value {
        match value {
            Value::Known { values, shape } => {
                Value::Known { values: values.iter().map(|x| function.at(*x, by)).collect(), shape }
            }
            Value::Row { span, .. } => {
                self.builder.constant(function, span, &[by]);
                value
            }
            Value::Whole { .. } => value,
        }
    }

    /// `function` of both inputs; `turned` is the same with its sides changed.
    fn binary(&mut self, node: &pb::NodeProto, function: Binary, turned: Binary) -> Result<Value, Reason> {
        let refuse = |left: &[usize], right: &[usize]| format!("{} joins shapes {left:?} and {right:?}", node.op_type);
        match (self.value(node, 0)?.clone(), self.value(node, 1)?.clone()) {
            (Value::Known { values: a, shape }, Value::Known { values: b, shape: other }) => {
                let (shape, count) = broadcast(&shape, &other).ok_or_else(|| refuse(&shape, &other))?;
                let values = (0..count).map(|index| function.at(a[index % a.len()], b[index % b.len()])).collect();
                Ok(Value::Known { values, shape })
            }
            (Value::Row { shape, .. }, Value::Known { values, shape: other }) => {
                let (to, count) = broadcast(&shape, &other).ok_or_else(|| refuse(&shape, &other))?;
                let span = self.widened(node, 0, count)?;
                if function != Binary::Add || !self.builder.give_bias(span, &values) {
                    self.builder.constant(function, span, &values);
                }
                Ok(Value::Row { span, shape: to, owned: true })
            }
            (Value::Known { values, shape: other }, Value::Row { shape, .. }) => {
                let (to, count) = broadcast(&shape, &other).ok_or_else(|| refuse(&other, &shape))?;
                if function == Binary::Pow {
                    return Err("the native engine does not know Pow of a constant".into());
                }
                let span = self.widened(node, 1, count)?;
                if function != Binary::Add || !self.builder.give_bias(span, &values) {
                    self.builder.constant(turned, span, &values);
                }
                Ok(Value::Row { span, shape: to, owned: true })
            }
            (Value::Row { shape, span: left, .. }, Value::Row { shape: other, span: right, .. }) => {
                let (to, count) = broadcast(&shape, &other).ok_or_else(|| refuse(&shape, &other))?;
                // What changes has all the values, and is not what comes.
                let (span, function, with) = if left.len as usize == count {
                    (self.changeable(node, 0, right)?, function, right)
                } else {
                    (self.changeable(node, 1, left)?, turned, left)
                };
                self.builder.binary(function, span, with);
                Ok(Value::Row { span, shape: to, owned: true })
            }
            (Value::Whole { values: a, shape }, Value::Whole { values: b, shape: other }) => {
                let (shape, count) = broadcast(&shape, &other).ok_or_else(|| refuse(&shape, &other))?;
                let at = |index: usize| whole(function, a[index % a.len()], b[index % b.len()]);
                let values = (0..count).map(at).collect::<Option<_>>();
                let values =
                    values.ok_or_else(|| format!("{} {:?} works on whole numbers", node.op_type, node.name))?;
                Ok(Value::Whole { values, shape })
            }
            _ => Err(format!("{} {:?} works on whole numbers", node.op_type, node.name)),
        }
    }

    fn changeable(&mut self, node: &pb::NodeProto, index: usize, beside: Span) -> Result<Span, Reason> {
        let (span, _) = self.fresh(node, index)?;
        let apart = span.start + span.len <= beside.start || beside.start + beside.len <= span.start;
        Ok(if apart { span } else { self.copied(span) })
    }

    fn widened(&mut self, node: &pb::NodeProto, index: usize, count: usize) -> Result<Span, Reason> {
        let (span, _) = self.fresh(node, index)?;
        if span.len as usize == count {
            return Ok(span);
        }
        let wide = self.builder.slot(count);
        self.builder.copy(span, wide);
        Ok(wide)
    }

    fn clip(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let (span, shape) = self.fresh(node, 0)?;
        for (index, name, function) in [(1, "min", Binary::Max), (2, "max", Binary::Min)] {
            let attribute = node.attribute.iter().find(|attribute| attribute.name == name).map(|a| vec![a.f]);
            let named = node.input.get(index).is_some_and(|input| !input.is_empty());
            let bound = if named { self.numbers(node, index) } else { attribute };
            match bound.as_deref() {
                Some([bound]) => self.builder.constant(function, span, &[*bound]),
                None if !named => {}
                _ => return Err("the bounds of a Clip are not constants".into()),
            }
        }
        Ok(Value::Row { span, shape, owned: true })
    }

    fn gemm(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let (input, shape) = self.row(node, 0)?;
        let plain = float(node, "alpha", 1.0) == 1.0 && float(node, "beta", 1.0) == 1.0 && int(node, "transA") == 0;
        if !plain || shape.first() != Some(&1) {
            return Err(format!("Gemm {:?} scales or transposes its input, or has several rows", node.name));
        }
        let (weights, outputs) = self.matrix(node, input.len as usize, int(node, "transB") != 0)?;
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => vec![0.0; outputs],
            Some(_) => {
                let bias = self.numbers(node, 2).and_then(|row| super::chain::broadcast(row, outputs));
                bias.ok_or_else(|| format!("the bias of Gemm {:?} is not a constant row", node.name))?
            }
        };
        let span = self.dense(input, &weights, &bias)?;
        Ok(Value::Row { span, shape: vec![1, outputs], owned: true })
    }

    fn matmul(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let (input, mut shape) = self.row(node, 0)?;
        if shape.last() != Some(&(input.len as usize)) {
            return Err(format!("MatMul {:?} has several rows", node.name));
        }
        let (weights, outputs) = self.matrix(node, input.len as usize, false)?;
        let span = self.dense(input, &weights, &vec![0.0; outputs])?;
        shape.pop();
        shape.push(outputs);
        Ok(Value::Row { span, shape, owned: true })
    }

    fn dense(&mut self, input: Span, weights: &[f32], bias: &[f32]) -> Result<Span, Reason> {
        self.spend(weights.len())?;
        self.builder.peak(input);
        Ok(self.builder.dense(input, weights, bias))
    }

    /// Input 1 as `[inputs, outputs]`.
    fn matrix(&self, node: &pb::NodeProto, inputs: usize, transposed: bool) -> Result<(Vec<f32>, usize), Reason> {
        let refuse = || format!("the weights of {} {:?} are not a constant matrix that fits", node.op_type, node.name);
        let Value::Known { values, shape } = self.value(node, 1)? else { return Err(refuse()) };
        match (shape.as_slice(), transposed) {
            (&[rows, columns], false) if rows == inputs && columns > 0 => Ok((values.clone(), columns)),
            (&[rows, columns], true) if columns == inputs && rows > 0 => Ok((turned(values, rows, columns), rows)),
            _ => Err(refuse()),
        }
    }

    fn layer_norm(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let (span, shape) = self.fresh(node, 0)?;
        let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(-1, |attribute| attribute.i);
        let first = if axis < 0 { shape.len() as i64 + axis } else { axis };
        let whole =
            usize::try_from(first).is_ok_and(|first| shape.iter().skip(first).product::<usize>() == span.len as usize);
        if !whole || node.output.len() > 1 {
            return Err("its LayerNormalization covers a part of the values".into());
        }
        self.builder.normalize(span, float(node, "epsilon", 1e-5));
        for (index, function) in [(1, Binary::Mul), (2, Binary::Add)] {
            if node.input.get(index).is_some_and(|name| !name.is_empty()) {
                let row = self.numbers(node, index).filter(|row| row.len() == span.len as usize || row.len() == 1);
                self.builder.constant(function, span, &row.ok_or("its LayerNormalization has no constant scale")?);
            }
        }
        Ok(Value::Row { span, shape, owned: true })
    }

    fn batch_norm(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let (span, shape) = self.fresh(node, 0)?;
        let rows: Option<Vec<Vec<f32>>> = (1..5).map(|index| self.numbers(node, index)).collect();
        let rows = rows.filter(|rows| shape.len() == 2 && rows.iter().all(|row| row.len() == span.len as usize));
        let Some([scale, bias, mean, variance]) = rows.as_deref().and_then(|rows| rows.as_array()) else {
            return Err("its BatchNormalization is not over one row".into());
        };
        let epsilon = float(node, "epsilon", 1e-5);
        let deviation: Vec<f32> = variance.iter().map(|variance| (variance + epsilon).sqrt()).collect();
        self.builder.constant(Binary::Sub, span, mean);
        self.builder.constant(Binary::Div, span, &deviation);
        self.builder.constant(Binary::Mul, span, scale);
        self.builder.constant(Binary::Add, span, bias);
        Ok(Value::Row { span, shape, owned: true })
    }

    fn reshape(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let value = self.alias(node, 0)?;
        let (Value::Row { shape, .. } | Value::Known { shape, .. } | Value::Whole { shape, .. }) = &value;
        let from = shape.clone();
        let axes = self.whole(node, 1).or_else(|| ints(node, "axes"));
        let to = new_shape(node, &from, axes)
            .ok_or_else(|| format!("the native engine does not know this {}", node.op_type))?;
        if to.iter().product::<usize>() != from.iter().product::<usize>() {
            return Err(format!("{} {:?} repeats values", node.op_type, node.name));
        }
        Ok(match value {
            Value::Row { span, owned, .. } => Value::Row { span, shape: to, owned },
            Value::Known { values, .. } if node.op_type != "Transpose" => Value::Known { values, shape: to },
            Value::Known { values, shape } if shape.len() == 2 => {
                Value::Known { values: turned(&values, shape[0], shape[1]), shape: to }
            }
            Value::Whole { values, .. } if node.op_type != "Transpose" => Value::Whole { values, shape: to },
            _ => return Err("it transposes a constant of more than two axes".into()),
        })
    }

    fn shape(&self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let shape = self.value(node, 0)?.shape();
        let clamped = |index: i64| {
            let index = if index < 0 { index + shape.len() as i64 } else { index };
            index.clamp(0, shape.len() as i64) as usize
        };
        let end =
            node.attribute.iter().find(|attribute| attribute.name == "end").map_or(shape.len(), |it| clamped(it.i));
        let values: Vec<i64> =
            shape[clamped(int(node, "start")).min(end)..end].iter().map(|length| *length as i64).collect();
        Ok(Value::Whole { shape: vec![values.len()], values })
    }

    /// Entries of a list of known whole numbers, as graphs compute shapes.
    fn gather(&self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let refuse = || "the native engine does not know Gather of what is not a shape".to_owned();
        let (Value::Whole { values, shape }, Value::Whole { values: indices, shape: to }) =
            (self.value(node, 0)?, self.value(node, 1)?)
        else {
            return Err(refuse());
        };
        if shape.len() != 1 || indices.len() > values.len() {
            return Err(refuse());
        }
        let at = |index: &i64| axis(*index, values.len()).map(|index| values[index]);
        let values = indices.iter().map(at).collect::<Option<_>>().ok_or_else(refuse)?;
        Ok(Value::Whole { values, shape: to.clone() })
    }

    fn concat(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let parts: Vec<Value> =
            (0..node.input.len()).map(|index| self.value(node, index).cloned()).collect::<Result<_, _>>()?;
        let shape_of = |value: &Value| match value {
            Value::Row { shape, .. } | Value::Known { shape, .. } | Value::Whole { shape, .. } => shape.clone(),
        };
        let mut shape = parts.first().map(&shape_of).ok_or("it joins nothing")?;
        let axis = axis(int(node, "axis"), shape.len()).ok_or("it joins along an axis that is not there")?;
        if shape[..axis].iter().product::<usize>() != 1 {
            return Err("it joins values that do not lie side by side".into());
        }
        shape[axis] = parts.iter().map(|part| shape_of(part).get(axis).copied().unwrap_or(0)).sum();
        if let Some(values) = parts.iter().map(Value::whole).collect::<Option<Vec<_>>>() {
            self.spend(values.iter().map(|part| part.len()).sum())?;
            let values = values.concat();
            let fits = values.len() == shape.iter().product::<usize>();
            return if fits {
                Ok(Value::Whole { values, shape })
            } else {
                Err("it joins shapes that do not fit".into())
            };
        }
        if let Some(values) = parts.iter().map(Value::known).collect::<Option<Vec<_>>>() {
            self.spend(values.iter().map(|part| part.len()).sum())?;
            let values = values.concat();
            let fits = values.len() == shape.iter().product::<usize>();
            return if fits {
                Ok(Value::Known { values, shape })
            } else {
                Err("it joins shapes that do not fit".into())
            };
        }
        let span = self.builder.slot(shape.iter().product());
        let mut start = 0;
        for part in parts {
            let len = shape_of(&part).iter().product();
            let to = Builder::part(span, start, len);
            match part {
                Value::Row { span, .. } => self.builder.copy(span, to),
                Value::Known { values, .. } => self.builder.copy_constant(&values, to),
                Value::Whole { .. } => return Err("it joins whole numbers".into()),
            }
            start += len;
        }
        if start != span.len as usize {
            Err("it joins shapes that do not fit".into())
        } else {
            Ok(Value::Row { span, shape, owned: true })
        }
    }

    fn split(&mut self, node: &'a pb::NodeProto) -> Result<(), Reason> {
        let (span, shape) = self.row(node, 0)?;
        let axis = axis(int(node, "axis"), shape.len()).ok_or("it splits along an axis that is not there")?;
        if shape[..axis].iter().product::<usize>() != 1 {
            return Err("it splits values that do not lie side by side".into());
        }
        let count = node.output.len();
        let lengths = self.whole(node, 1).or_else(|| ints(node, "split"));
        let even = || {
            (0..count).map(|index| {
                let each = shape[axis].div_ceil(count);
                each.min(shape[axis].saturating_sub(index * each)) as i64
            })
        };
        let lengths = lengths.unwrap_or_else(|| even().collect());
        let inner: usize = shape[axis + 1..].iter().product();
        let mut start = 0;
        for (name, length) in node.output.iter().zip(lengths) {
            let length = usize::try_from(length).map_err(|_| "it splits into a negative number of parts")?;
            if length == 0 || start + length * inner > span.len as usize {
                return Err("it splits into more than there is".into());
            }
            let mut shape = shape.clone();
            shape[axis] = length;
            self.values
                .insert(name, Value::Row { span: Builder::part(span, start, length * inner), shape, owned: false });
            start += length * inner;
        }
        Ok(())
    }

    fn slice(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let refuse = || "the native engine does not know this Slice".to_owned();
        let value = self.value(node, 0)?.clone();
        let (Value::Row { mut shape, .. } | Value::Known { mut shape, .. } | Value::Whole { mut shape, .. }) =
            value.clone();
        let starts = self.whole(node, 1).or_else(|| ints(node, "starts")).ok_or_else(refuse)?;
        let ends = self.whole(node, 2).or_else(|| ints(node, "ends")).ok_or_else(refuse)?;
        let axes = self.whole(node, 3).or_else(|| ints(node, "axes")).unwrap_or_else(|| vec![0]);
        let steps = self.whole(node, 4).unwrap_or_else(|| vec![1]);
        let ([start], [end], [at], [1]) = (starts.as_slice(), ends.as_slice(), axes.as_slice(), steps.as_slice())
        else {
            return Err(refuse());
        };
        let at = axis(*at, shape.len()).ok_or_else(refuse)?;
        let length = shape[at] as i64;
        let clamped = |index: i64| (if index < 0 { index + length } else { index }).clamp(0, length) as usize;
        let (start, end) = (clamped(*start), clamped(*end));
        if start >= end || shape[..at].iter().product::<usize>() != 1 {
            return Err(refuse());
        }
        let inner: usize = shape[at + 1..].iter().product();
        shape[at] = end - start;
        let part = start * inner..end * inner;
        Ok(match value {
            Value::Row { span, .. } => {
                Value::Row { span: Builder::part(span, part.start, part.len()), shape, owned: false }
            }
            Value::Known { values, .. } => {
                Value::Known { values: values.get(part).ok_or_else(refuse)?.to_vec(), shape }
            }
            Value::Whole { values, .. } => {
                Value::Whole { values: values.get(part).ok_or_else(refuse)?.to_vec(), shape }
            }
        })
    }

    fn reduce(&mut self, node: &pb::NodeProto, function: Reduce) -> Result<Value, Reason> {
        let (span, shape) = self.row(node, 0)?;
        let axes = self.whole(node, 1).or_else(|| ints(node, "axes"));
        let axes: Option<Vec<usize>> = axes
            .map_or(Some((0..shape.len()).collect()), |axes| axes.iter().map(|at| axis(*at, shape.len())).collect());
        let axes = axes.filter(|axes| (0..shape.len()).all(|at| axes.contains(&at) || shape[at] == 1));
        let axes = axes.ok_or_else(|| format!("{} over a part of the values", node.op_type))?;
        let keep = node.attribute.iter().find(|attribute| attribute.name == "keepdims").is_none_or(|keep| keep.i != 0);
        let to = self.builder.reduce(function, span);
        let shape = (0..shape.len()).filter(|at| keep || !axes.contains(at)).map(|_| 1).collect();
        Ok(Value::Row { span: to, shape, owned: true })
    }

    /// One step of one layer in one direction, of torch's and ONNX's usual kind; in the blob's order of operations (docs/FORMAT.md,
    /// "Arithmetic").
    fn recurrent(&mut self, node: &'a pb::NodeProto) -> Result<(), Reason> {
        let refuse = |what: &str| format!("{} {:?} {what}", node.op_type, node.name);
        let lstm = node.op_type == "LSTM";
        let hidden = usize::try_from(int(node, "hidden_size")).unwrap_or(0);
        if !is_usual(node) {
            return Err(refuse("is not of the usual kind"));
        }
        let (x, shape) = self.row(node, 0)?;
        if shape.len() != 3 || shape[0] != 1 || shape[1] != 1 {
            return Err(refuse("runs over several steps at once"));
        }
        let (inputs, gates) = (x.len as usize, if lstm { 4 } else { 3 });
        let weights = self
            .numbers(node, 1)
            .filter(|w| w.len() == gates * hidden * inputs)
            .ok_or_else(|| refuse("has no constant weights"))?;
        let recurrence = self
            .numbers(node, 2)
            .filter(|r| r.len() == gates * hidden * hidden)
            .ok_or_else(|| refuse("has no constant weights"))?;
        // The lengths above bound this one.
        let bias = self.numbers(node, 3).unwrap_or_else(|| vec![0.0; 2 * gates * hidden]);
        if bias.len() != 2 * gates * hidden
            || node.input.get(4).is_some_and(|name| !name.is_empty() && self.whole(node, 4).is_none())
        {
            return Err(refuse("has a bias or lengths that are not constants"));
        }
        let state = |dag: &mut Self, index: usize| -> Result<Span, Reason> {
            match node.input.get(index).filter(|name| !name.is_empty()) {
                None => {
                    let span = dag.builder.slot(hidden);
                    dag.builder.copy_constant(&[0.0], span);
                    Ok(span)
                }
                Some(_) => match dag.value(node, index)?.clone() {
                    Value::Known { values, .. } if values.len() == hidden => {
                        let span = dag.builder.slot(hidden);
                        dag.builder.copy_constant(&values, span);
                        Ok(span)
                    }
                    Value::Row { span, .. } if span.len as usize == hidden => Ok(span),
                    _ => Err(refuse("has a state of another size")),
                },
            }
        };
        let h = state(self, 5)?;
        let from_input = turned(&weights, gates * hidden, inputs);
        let from_state = turned(&recurrence, gates * hidden, hidden);
        let (of_input, of_state) = bias.split_at(gates * hidden);
        let part = |span: Span, from: usize, count: usize| Builder::part(span, from * hidden, count * hidden);
        let next = if lstm {
            let c = state(self, 6)?;
            let joined = self.builder.slot(inputs + hidden);
            self.builder.copy(x, Builder::part(joined, 0, inputs));
            self.builder.copy(h, Builder::part(joined, inputs, hidden));
            let bias: Vec<f32> = of_input.iter().zip(of_state).map(|(a, b)| a + b).collect();
            let a = self.dense(joined, &[from_input, from_state].concat(), &bias)?;
            // ONNX's order: input, output, forget, cell.
            self.builder.unary(Unary::Sigmoid, part(a, 0, 3));
            self.builder.unary(Unary::Tanh, part(a, 3, 1));
            self.builder.binary(Binary::Mul, part(a, 3, 1), part(a, 0, 1));
            let cell = self.copied(c);
            self.builder.binary(Binary::Mul, cell, part(a, 2, 1));
            self.builder.binary(Binary::Add, cell, part(a, 3, 1));
            let next = self.copied(cell);
            self.builder.unary(Unary::Tanh, next);
            self.builder.binary(Binary::Mul, next, part(a, 1, 1));
            if let Some(name) = node.output.get(2).filter(|name| !name.is_empty()) {
                self.values.insert(name, Value::Row { span: cell, shape: vec![1, 1, hidden], owned: false });
            }
            next
        } else {
            let a = self.dense(x, &from_input, of_input)?;
            let b = self.dense(h, &from_state, of_state)?;
            // ONNX's order: update, reset, hidden; reset after the product.
            self.builder.binary(Binary::Add, part(a, 0, 2), part(b, 0, 2));
            self.builder.unary(Unary::Sigmoid, part(a, 0, 2));
            self.builder.binary(Binary::Mul, part(b, 2, 1), part(a, 1, 1));
            self.builder.binary(Binary::Add, part(a, 2, 1), part(b, 2, 1));
            self.builder.unary(Unary::Tanh, part(a, 2, 1));
            // (1 - z) · candidate + z · h
            let next = self.copied(h);
            self.builder.binary(Binary::Mul, next, part(a, 0, 1));
            self.builder.constant(Binary::SubFrom, part(a, 0, 1), &[1.0]);
            self.builder.binary(Binary::Mul, part(a, 0, 1), part(a, 2, 1));
            self.builder.binary(Binary::Add, next, part(a, 0, 1));
            next
        };
        for (index, shape) in [(0, vec![1, 1, 1, hidden]), (1, vec![1, 1, hidden])] {
            if let Some(name) = node.output.get(index).filter(|name| !name.is_empty()) {
                self.values.insert(name, Value::Row { span: next, shape, owned: false });
            }
        }
        Ok(())
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

fn new_shape(node: &pb::NodeProto, from: &[usize], axes: Option<Vec<i64>>) -> Option<Vec<usize>> {
    let count: usize = from.iter().product();
    match node.op_type.as_str() {
        "Flatten" => {
            let at =
                node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(1, |attribute| attribute.i);
            let at = if at == from.len() as i64 { from.len() } else { axis(at, from.len())? };
            Some(vec![from[..at].iter().product(), from[at..].iter().product()])
        }
        "Squeeze" => match axes {
            None => Some(from.iter().copied().filter(|length| *length != 1).collect()),
            Some(axes) => {
                let axes: Option<Vec<usize>> = axes.iter().map(|at| axis(*at, from.len())).collect();
                let axes = axes.filter(|axes| axes.iter().all(|at| from[*at] == 1))?;
                Some((0..from.len()).filter(|at| !axes.contains(at)).map(|at| from[at]).collect())
            }
        },
        "Unsqueeze" => {
            let axes = axes?;
            let rank = from.len() + axes.len();
            let axes: Vec<usize> = axes.iter().map(|at| axis(*at, rank)).collect::<Option<_>>()?;
            let mut lengths = from.iter().copied();
            (0..rank).map(|at| if axes.contains(&at) { Some(1) } else { lengths.next() }).collect()
        }
        "Transpose" => {
            let order = ints(node, "perm").unwrap_or_else(|| (0..from.len() as i64).rev().collect());
            let order: Vec<usize> = order.iter().map(|at| axis(*at, from.len())).collect::<Option<_>>()?;
            // A row stays in order where only axes of length 1 move; constants are turned by the caller.
            let moved: Vec<usize> = order.iter().copied().filter(|at| from[*at] != 1).collect();
            (moved.is_sorted() || from.len() == 2).then(|| order.iter().map(|at| from[*at]).collect())
        }
        "Expand" => {
            let to: Vec<usize> = axes?.iter().map(|length| usize::try_from(*length).ok()).collect::<Option<_>>()?;
            let (shape, _) = broadcast(from, &to)?;
            Some(shape)
        }
        _ => {
            let wanted = axes?;
            let mut shape: Vec<usize> = (wanted.iter().enumerate())
                .map(|(at, length)| match length {
                    0 => from.get(at).copied(),
                    -1 => Some(1),
                    length => usize::try_from(*length).ok(),
                })
                .collect::<Option<_>>()?;
            if let Some(open) = wanted.iter().position(|length| *length == -1) {
                shape[open] = count.checked_div(shape.iter().product())?;
            }
            Some(shape)
        }
    }
}

/// The common shape where one side has all values and the other as many, or one.
fn broadcast(left: &[usize], right: &[usize]) -> Option<(Vec<usize>, usize)> {
    let (a, b): (usize, usize) = (left.iter().product(), right.iter().product());
    let core = |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|length| *length != 1).collect() };
    let rank = left.len().max(right.len());
    let big = if a >= b { left } else { right };
    if a == 0 || b == 0 || !(a == 1 || b == 1 || core(left) == core(right) && core(left).len() <= 1) {
        return None;
    }
    // Axes of length 1 in another place would make a matrix of two rows.
    if a > 1 && b > 1 {
        let place = |shape: &[usize]| shape.iter().rev().position(|length| *length != 1);
        if place(left) != place(right) {
            return None;
        }
    }
    let mut shape = vec![1; rank - big.len()];
    shape.extend_from_slice(big);
    Some((shape, a.max(b)))
}

/// What graphs compute shapes with.
fn whole(function: Binary, a: i64, b: i64) -> Option<i64> {
    match function {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Min => Some(a.min(b)),
        Binary::Max => Some(a.max(b)),
        _ => None,
    }
}

fn axis(at: i64, rank: usize) -> Option<usize> {
    let at = if at < 0 { at + rank as i64 } else { at };
    usize::try_from(at).ok().filter(|at| *at < rank)
}

/// `[rows, columns]` as `[columns, rows]`.
fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
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

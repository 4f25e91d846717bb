//! Dense layers, and what normalises rows.

use super::{Dag, Value, float, int};
use crate::engine::program::{Binary, Span};
use crate::onnx::chain::Reason;
use tract_onnx::pb;

impl Dag<'_> {
    pub(super) fn gemm(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let (input, shape) = self.row(node, 0)?;
        let plain = float(node, "alpha", 1.0) == 1.0 && float(node, "beta", 1.0) == 1.0 && int(node, "transA") == 0;
        if !plain || shape.first() != Some(&1) {
            return Err(format!("Gemm {:?} scales or transposes its input, or has several rows", node.name));
        }
        let (weights, outputs) = self.matrix(node, input.len as usize, int(node, "transB") != 0)?;
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => vec![0.0; outputs],
            Some(_) => {
                let bias = self.numbers(node, 2).and_then(|row| crate::onnx::chain::broadcast(row, outputs));
                bias.ok_or_else(|| format!("the bias of Gemm {:?} is not a constant row", node.name))?
            }
        };
        let span = self.dense(input, &weights, &bias)?;
        Ok(Value::Row { span, shape: vec![1, outputs], owned: true })
    }

    pub(super) fn matmul(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
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

    pub(super) fn dense(&mut self, input: Span, weights: &[f32], bias: &[f32]) -> Result<Span, Reason> {
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

    pub(super) fn layer_norm(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
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

    pub(super) fn batch_norm(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
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
}

/// `[rows, columns]` as `[columns, rows]`.
pub(super) fn turned(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

//! LSTM and GRU as dense layers and elementwise operations.

use super::products::turned;
use super::{Dag, Value, int};
use crate::engine::build::Builder;
use crate::engine::program::{Binary, Span, Unary};
use crate::onnx::chain::Reason;
use crate::onnx::recurrent::is_usual;
use tract_onnx::pb;

impl<'a> Dag<'a> {
    /// One step of one layer in one direction, of torch's and ONNX's usual kind; in the blob's order of operations (docs/FORMAT.md,
    /// "Arithmetic").
    pub(super) fn recurrent(&mut self, node: &'a pb::NodeProto) -> Result<(), Reason> {
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
}

//! Operations value by value: functions of one value, and of two with the shapes that join.

use super::{Dag, Value};
use crate::engine::program::{Binary, Span, Unary};
use crate::onnx::chain::Reason;
use tract_onnx::pb;

impl Dag<'_> {
    pub(super) fn unary(&mut self, node: &pb::NodeProto, function: Unary) -> Result<Value, Reason> {
        if let Value::Known { values, shape } = self.value(node, 0)? {
            return Ok(Value::Known { values: values.iter().map(|x| function.at(*x)).collect(), shape: shape.clone() });
        }
        let (span, shape) = self.fresh(node, 0)?;
        self.builder.unary(function, span);
        Ok(Value::Row { span, shape, owned: true })
    }

    pub(super) fn scaled(&mut self, value: Value, function: Binary, by: f32) -> Value {
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
    pub(super) fn binary(&mut self, node: &pb::NodeProto, function: Binary, turned: Binary) -> Result<Value, Reason> {
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

    pub(super) fn clip(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
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
}

/// The common shape where one side has all values and the other as many, or one.
pub(super) fn broadcast(left: &[usize], right: &[usize]) -> Option<(Vec<usize>, usize)> {
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
pub(super) fn whole(function: Binary, a: i64, b: i64) -> Option<i64> {
    match function {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Min => Some(a.min(b)),
        Binary::Max => Some(a.max(b)),
        _ => None,
    }
}

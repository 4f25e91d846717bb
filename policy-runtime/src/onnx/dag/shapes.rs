//! What moves, joins, parts and sums values, and computes shapes.

use super::elementwise::broadcast;
use super::products::turned;
use super::{Dag, Value, int, ints};
use crate::engine::build::Builder;
use crate::engine::program::Reduce;
use crate::onnx::chain::Reason;
use tract_onnx::pb;

impl<'a> Dag<'a> {
    pub(super) fn reshape(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let value = self.alias(node, 0)?;
        let from = value.shape().to_vec();
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

    pub(super) fn shape(&self, node: &pb::NodeProto) -> Result<Value, Reason> {
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
    pub(super) fn gather(&self, node: &pb::NodeProto) -> Result<Value, Reason> {
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

    pub(super) fn concat(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let parts: Vec<Value> =
            (0..node.input.len()).map(|index| self.value(node, index).cloned()).collect::<Result<_, _>>()?;
        let mut shape = parts.first().map(|part| part.shape().to_vec()).ok_or("it joins nothing")?;
        let axis = axis(int(node, "axis"), shape.len()).ok_or("it joins along an axis that is not there")?;
        if shape[..axis].iter().product::<usize>() != 1 {
            return Err("it joins values that do not lie side by side".into());
        }
        shape[axis] = parts.iter().map(|part| part.shape().get(axis).copied().unwrap_or(0)).sum();
        if let Some(values) = parts.iter().map(Value::whole).collect::<Option<Vec<_>>>() {
            return Ok(Value::Whole { values: self.joined(&values, &shape)?, shape });
        }
        if let Some(values) = parts.iter().map(Value::known).collect::<Option<Vec<_>>>() {
            return Ok(Value::Known { values: self.joined(&values, &shape)?, shape });
        }
        let span = self.builder.slot(shape.iter().product());
        let mut start = 0;
        for part in parts {
            let len = part.shape().iter().product();
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

    /// Known values one behind the other, where they fill `shape`.
    fn joined<T: Clone>(&mut self, parts: &[&[T]], shape: &[usize]) -> Result<Vec<T>, Reason> {
        self.spend(parts.iter().map(|part| part.len()).sum())?;
        let values = parts.concat();
        if values.len() == shape.iter().product::<usize>() {
            Ok(values)
        } else {
            Err("it joins shapes that do not fit".into())
        }
    }

    pub(super) fn split(&mut self, node: &'a pb::NodeProto) -> Result<(), Reason> {
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

    pub(super) fn slice(&mut self, node: &pb::NodeProto) -> Result<Value, Reason> {
        let refuse = || "the native engine does not know this Slice".to_owned();
        let value = self.value(node, 0)?.clone();
        let mut shape = value.shape().to_vec();
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

    pub(super) fn reduce(&mut self, node: &pb::NodeProto, function: Reduce) -> Result<Value, Reason> {
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

fn axis(at: i64, rank: usize) -> Option<usize> {
    let at = if at < 0 { at + rank as i64 } else { at };
    usize::try_from(at).ok().filter(|at| *at < rank)
}

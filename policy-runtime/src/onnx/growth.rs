//! Files of a few bytes that ask for gigabytes: shapes that a graph computes, followed as far as they are constant, before tract makes them.
//!
//! What is not followed is not refused, except shapes that depend on the values of inputs: those would be made at every step.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{self, tensor_proto::DataType};

use crate::error::{Error, Result};

/// Most values that one computed tensor may hold: 64 MiB of f32, a hundred times what the largest known policy needs.
const MOST_VALUES: f64 = (1 << 24) as f64;
/// Longest constant whose numbers are followed: a shape.
const MOST_FOLLOWED: usize = 64;
/// Most of a stride, a padding, a dilation or a length of a kernel.
const MOST_STRIDE: i64 = 1 << 12;

/// What is known of a tensor.
#[derive(Debug, Clone, Default)]
struct Known {
    dims: Option<Vec<f64>>,
    numbers: Option<Vec<f64>>,
}

impl Known {
    fn of(tensor: &pb::TensorProto) -> Self {
        let dims: Vec<f64> = tensor.dims.iter().map(|dim| *dim as f64).collect();
        let count: f64 = dims.iter().product();
        let numbers = if count <= MOST_FOLLOWED as f64 { numbers(tensor) } else { None };
        Self { dims: Some(dims), numbers }
    }

    fn shaped(dims: Vec<f64>) -> Self {
        Self { dims: Some(dims), numbers: None }
    }

    fn row(numbers: Vec<f64>) -> Self {
        Self { dims: Some(vec![numbers.len() as f64]), numbers: Some(numbers) }
    }
}

fn numbers(tensor: &pb::TensorProto) -> Option<Vec<f64>> {
    let raw = tensor.raw_data.as_slice();
    Some(match DataType::try_from(tensor.data_type).ok()? {
        DataType::Int64 if raw.is_empty() => tensor.int64_data.iter().map(|value| *value as f64).collect(),
        DataType::Int64 => raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as f64).collect(),
        DataType::Int32 if raw.is_empty() => tensor.int32_data.iter().map(|value| f64::from(*value)).collect(),
        DataType::Int32 => raw.as_chunks().0.iter().map(|bytes| f64::from(i32::from_le_bytes(*bytes))).collect(),
        DataType::Float if raw.is_empty() => tensor.float_data.iter().map(|value| f64::from(*value)).collect(),
        DataType::Float => raw.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        _ => return None,
    })
}

/// What is known of the values of a graph, by name.
#[derive(Debug, Clone, Default)]
struct Scope<'a> {
    known: HashMap<&'a str, Known>,
    /// Values that depend on those of the inputs.
    measured: HashSet<&'a str>,
}

/// Refuses a graph that makes a tensor of more than [`MOST_VALUES`] values.
pub(super) fn vet(graph: &pb::GraphProto) -> Result<()> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut scope = Scope::default();
    for input in graph.input.iter().filter(|input| !constants.contains(input.name.as_str())) {
        scope.measured.insert(&input.name);
        // One step: axes of any length are 1.
        let dims = super::vet::port(input).shape;
        let dims = dims.map(|dims| dims.iter().map(|dim| dim.unwrap_or(1) as f64).collect());
        scope.known.insert(&input.name, Known { dims, numbers: None });
    }
    follow(graph, scope)
}

fn follow<'a>(graph: &'a pb::GraphProto, mut scope: Scope<'a>) -> Result<()> {
    scope.known.extend(graph.initializer.iter().map(|tensor| (tensor.name.as_str(), Known::of(tensor))));
    for (index, node) in graph.node.iter().enumerate() {
        let thing = || format!("ONNX node {index} ({} {:?})", node.op_type, node.name);
        if let Some(stride) = outsized_stride(node) {
            return Err(Error::malformed(thing(), format!("strides, pads and kernels up to {MOST_STRIDE}"), stride));
        }
        let shape_at = shape_operands(&node.op_type);
        let measured = |name: &&String| scope.measured.contains(name.as_str());
        if let Some(name) = node.input.iter().skip(shape_at.start).take(shape_at.len()).find(measured) {
            let expected = "a shape that is the same at every step";
            return Err(Error::malformed(thing(), expected, format!("one that depends on the values of {name:?}")));
        }
        let result = result(node, &scope);
        let count = result.dims.as_ref().map_or(0.0, |dims| dims.iter().product());
        if count.is_nan() || count > MOST_VALUES {
            return Err(Error::malformed(thing(), format!("a result of at most {MOST_VALUES} values"), count));
        }
        let depends =
            !matches!(node.op_type.as_str(), "Shape" | "Size") && node.input.iter().any(|name| measured(&name));
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                follow(inner, scope.clone())?;
            }
        }
        if let Some(first) = node.output.first() {
            scope.known.insert(first, result);
        }
        if depends {
            scope.measured.extend(node.output.iter().map(String::as_str));
        }
    }
    Ok(())
}

/// Which operands say how large the result becomes.
fn shape_operands(operator: &str) -> std::ops::Range<usize> {
    match operator {
        "ConstantOfShape" => 0..1,
        "Expand" | "Tile" | "Pad" => 1..2,
        "Range" => 0..3,
        "Upsample" => 1..2,
        "Resize" => 2..4,
        "OneHot" => 1..2,
        _ => 0..0,
    }
}

fn outsized_stride(node: &pb::NodeProto) -> Option<i64> {
    let slides = matches!(node.op_type.as_str(), "Conv" | "ConvTranspose" | "Pad") || node.op_type.ends_with("Pool");
    let outsized = |value: &i64| value.unsigned_abs() > MOST_STRIDE as u64;
    if slides { node.attribute.iter().flat_map(|it| &it.ints).copied().find(outsized) } else { None }
}

fn result(node: &pb::NodeProto, scope: &Scope<'_>) -> Known {
    let operand = |index: usize| node.input.get(index).and_then(|name| scope.known.get(name.as_str()));
    let dims = |index: usize| operand(index).and_then(|known| known.dims.clone());
    let numbers = |index: usize| operand(index).and_then(|known| known.numbers.clone());
    let or_nothing = |known: Option<Known>| known.unwrap_or_default();
    match node.op_type.as_str() {
        "Constant" => or_nothing(node.attribute.iter().find_map(|attribute| match attribute.name.as_str() {
            "value" => attribute.t.as_ref().map(Known::of),
            "value_int" => Some(Known { dims: Some(Vec::new()), numbers: Some(vec![attribute.i as f64]) }),
            "value_ints" if attribute.ints.len() <= MOST_FOLLOWED => {
                Some(Known::row(attribute.ints.iter().map(|value| *value as f64).collect()))
            }
            "value_float" => Some(Known { dims: Some(Vec::new()), numbers: Some(vec![f64::from(attribute.f)]) }),
            _ => None,
        })),
        "Shape" if node.attribute.is_empty() => or_nothing(dims(0).map(Known::row)),
        "Size" => {
            or_nothing(dims(0).map(|dims| Known { dims: Some(Vec::new()), numbers: Some(vec![dims.iter().product()]) }))
        }
        "ConstantOfShape" => {
            let dims = numbers(0);
            let count = dims.as_ref().map_or(f64::INFINITY, |dims| dims.iter().product());
            let fill = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
            let fill =
                fill.map_or(Some(0.0), |tensor| self::numbers(tensor).and_then(|numbers| numbers.first().copied()));
            let numbers =
                fill.filter(|_| count <= MOST_FOLLOWED as f64).map(|fill| vec![fill; count.max(0.0) as usize]);
            Known { dims, numbers }
        }
        "Expand" => or_nothing(dims(0).zip(numbers(1)).map(|(one, other)| Known::shaped(broadcast(&one, &other)))),
        "Tile" => or_nothing(dims(0).zip(numbers(1)).map(|(dims, repeats)| {
            Known::shaped(dims.iter().zip(repeats).map(|(dim, repeats)| dim * repeats).collect())
        })),
        "Range" => or_nothing(numbers(0).zip(numbers(1)).zip(numbers(2)).and_then(|((from, to), by)| {
            let steps = (to.first()? - from.first()?) / by.first()?;
            Some(Known::shaped(vec![if steps.is_nan() { f64::INFINITY } else { steps.ceil().max(0.0) }]))
        })),
        "Pad" => or_nothing(dims(0).zip(numbers(1)).map(|(dims, pads)| {
            let (before, after) = pads.split_at(pads.len() / 2);
            // Axes that the operator leaves alone are not among the pads; too few of them make a shape that is too large at worst.
            let added = |axis: usize| before.get(axis).unwrap_or(&0.0).abs() + after.get(axis).unwrap_or(&0.0).abs();
            Known::shaped(dims.iter().enumerate().map(|(axis, dim)| dim + added(axis)).collect())
        })),
        "Upsample" | "Resize" => {
            let (scales_at, sizes_at) = if node.op_type == "Resize" && node.input.len() > 2 { (2, 3) } else { (1, 9) };
            match (numbers(sizes_at).filter(|sizes| !sizes.is_empty()), dims(0), numbers(scales_at)) {
                (Some(sizes), ..) => Known::shaped(sizes),
                (None, Some(dims), Some(scales)) if !scales.is_empty() => {
                    Known::shaped(dims.iter().zip(scales).map(|(dim, scale)| (dim * scale).floor()).collect())
                }
                _ => Known::default(),
            }
        }
        "Concat" => {
            let parts: Option<Vec<Vec<f64>>> = (0..node.input.len()).map(numbers).collect();
            or_nothing(parts.map(|parts| parts.concat()).filter(|row| row.len() <= MOST_FOLLOWED).map(Known::row))
        }
        "Gather" => or_nothing(numbers(0).zip(operand(1)).and_then(|(row, indices)| {
            let at =
                |index: &f64| row.get(if *index < 0.0 { *index + row.len() as f64 } else { *index } as usize).copied();
            let picked = indices.numbers.as_ref()?.iter().map(at).collect::<Option<_>>()?;
            Some(Known { dims: indices.dims.clone(), numbers: Some(picked) })
        })),
        "ReduceProd" => or_nothing(numbers(0).map(|row| Known::row(vec![row.iter().product()]))),
        "Unsqueeze" | "Squeeze" | "Flatten" => or_nothing(numbers(0).map(Known::row)),
        "Reshape" => match (numbers(0), numbers(1)) {
            (Some(row), _) => Known::row(row),
            (None, Some(shape)) if shape.iter().all(|dim| *dim > 0.0) => Known::shaped(shape),
            _ => Known::default(),
        },
        "MatMul" => or_nothing(dims(0).zip(dims(1)).and_then(|(left, right)| {
            let ([outer @ .., rows, _], [others @ .., _, columns]) = (left.as_slice(), right.as_slice()) else {
                return None;
            };
            Some(Known::shaped([broadcast(outer, others), vec![*rows, *columns]].concat()))
        })),
        "Cast" | "Identity" | "Neg" | "Abs" | "Floor" | "Ceil" | "Relu" | "Tanh" | "Sigmoid" | "Exp" | "Sqrt"
        | "Clip" => {
            let mut same = or_nothing(operand(0).cloned());
            if !matches!(node.op_type.as_str(), "Cast" | "Identity") {
                same.numbers = None;
            }
            same
        }
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Sum" | "Mean" | "Where" | "Equal" | "Less"
        | "Greater" | "And" | "Or" | "PRelu" | "Mod" => {
            let all: Option<Vec<Vec<f64>>> = (0..node.input.len()).map(dims).collect();
            let dims = all.and_then(|all| all.into_iter().reduce(|one, other| broadcast(&one, &other)));
            let numbers = numbers(0).zip(numbers(1)).and_then(|(left, right)| combined(&node.op_type, &left, &right));
            Known { dims, numbers }
        }
        _ => Known::default(),
    }
}

/// The shape of two tensors side by side, as numpy has it; where they do not fit, the larger.
fn broadcast(one: &[f64], other: &[f64]) -> Vec<f64> {
    let rank = one.len().max(other.len());
    let at = |dims: &[f64], axis: usize| (axis + dims.len()).checked_sub(rank).and_then(|axis| dims.get(axis)).copied();
    (0..rank).map(|axis| at(one, axis).unwrap_or(1.0).max(at(other, axis).unwrap_or(1.0))).collect()
}

fn combined(operator: &str, left: &[f64], right: &[f64]) -> Option<Vec<f64>> {
    let of = |left: f64, right: f64| {
        Some(match operator {
            "Add" | "Sum" => left + right,
            "Sub" => left - right,
            "Mul" => left * right,
            "Div" => left / right,
            "Pow" => libm::pow(left, right),
            "Max" => left.max(right),
            "Min" => left.min(right),
            _ => return None,
        })
    };
    match (left, right) {
        ([one], _) => right.iter().map(|other| of(*one, *other)).collect(),
        (_, [other]) => left.iter().map(|one| of(*one, *other)).collect(),
        _ if left.len() == right.len() => left.iter().zip(right).map(|(one, other)| of(*one, *other)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

    fn whole(name: &str, values: &[i64]) -> TensorProto {
        TensorProto {
            name: name.into(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: values.to_vec(),
            ..TensorProto::default()
        }
    }

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: operator.into(),
            input: inputs.iter().map(|name| (*name).into()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    fn refusal(initializer: Vec<TensorProto>, nodes: Vec<NodeProto>) -> Option<String> {
        let input = pb::ValueInfoProto { name: "x".into(), ..pb::ValueInfoProto::default() };
        let graph = GraphProto { initializer, node: nodes, input: vec![input], ..GraphProto::default() };
        vet(&graph).err().map(|error| error.to_string())
    }

    #[test]
    fn shapes_out_of_proportion_are_refused_however_they_are_made() {
        let big = || whole("s", &[400_000_000]);
        let cases: Vec<(Vec<TensorProto>, Vec<NodeProto>)> = vec![
            (vec![big()], vec![node("ConstantOfShape", &["s"], "y")]),
            (vec![big(), whole("v", &[1])], vec![node("Expand", &["v", "s"], "y")]),
            (vec![big(), whole("v", &[1])], vec![node("Tile", &["v", "s"], "y")]),
            (vec![big(), whole("a", &[0]), whole("b", &[1])], vec![node("Range", &["a", "s", "b"], "y")]),
            (vec![whole("v", &[1, 2]), whole("s", &[1 << 30, 0])], vec![node("Pad", &["v", "s"], "y")]),
            (vec![whole("v", &[1, 2]), whole("s", &[1 << 40])], vec![node("Resize", &["v", "", "", "s"], "y")]),
            // By arithmetic, by a shape of a shape, and by putting two axes side by side.
            (
                vec![whole("a", &[20_000])],
                vec![node("Mul", &["a", "a"], "s"), node("Cast", &["s"], "t"), node("ConstantOfShape", &["t"], "y")],
            ),
            (
                vec![whole("a", &[10_000])],
                vec![
                    node("ConstantOfShape", &["a"], "b"),
                    node("Shape", &["b"], "c"),
                    node("Concat", &["c", "c"], "d"),
                    node("ConstantOfShape", &["d"], "y"),
                ],
            ),
            (
                vec![whole("a", &[10_000, 1]), whole("b", &[1, 10_000])],
                vec![
                    node("ConstantOfShape", &["a"], "c"),
                    node("ConstantOfShape", &["b"], "d"),
                    node("Add", &["c", "d"], "y"),
                ],
            ),
            (
                vec![whole("a", &[10_000, 1]), whole("b", &[1, 10_000])],
                vec![
                    node("ConstantOfShape", &["a"], "c"),
                    node("ConstantOfShape", &["b"], "d"),
                    node("MatMul", &["c", "d"], "y"),
                ],
            ),
        ];
        for (initializer, nodes) in cases {
            let context = format!("{:?}", nodes.iter().map(|node| &node.op_type).collect::<Vec<_>>());
            let message = refusal(initializer, nodes).unwrap_or_else(|| panic!("{context} is let through"));
            assert!(message.contains("a result of at most 16777216 values"), "{context}: {message}");
        }
        let sizes = vec![whole("s", &[4096, 4096])];
        assert_eq!(refusal(sizes, vec![node("ConstantOfShape", &["s"], "y")]), None, "just small enough");
    }

    #[test]
    fn shapes_that_an_observation_decides_and_long_strides_are_refused() {
        let message = refusal(vec![], vec![node("Cast", &["x"], "s"), node("ConstantOfShape", &["s"], "y")]).unwrap();
        assert!(message.contains("depends on the values of \"s\""), "{message}");
        assert_eq!(refusal(vec![], vec![node("Shape", &["x"], "s"), node("ConstantOfShape", &["s"], "y")]), None);
        let mut pool = node("AveragePool", &["x"], "y");
        pool.attribute.push(AttributeProto {
            name: "pads".into(),
            ints: vec![1, 1 << 40],
            ..AttributeProto::default()
        });
        assert!(refusal(vec![], vec![pool]).unwrap().contains("strides, pads and kernels"));
    }
}

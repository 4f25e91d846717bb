//! Soundness checks on a decoded file, so that what comes later may rely on its structure.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{self, tensor_proto::DataType, tensor_shape_proto::dimension, type_proto};

use super::Port;
use crate::error::{Error, Result};

/// Most values that one tensor may hold.
const MAX_TENSOR_VALUES: usize = 1 << 28;

pub(super) fn vet(proto: &pb::ModelProto) -> Result<(Vec<Port>, Vec<Port>)> {
    let graph = proto.graph.as_ref().ok_or_else(|| Error::malformed("ONNX file", "a graph", "none"))?;
    if proto.opset_import.is_empty() {
        return Err(Error::malformed("ONNX file", "an operator set", "none"));
    }
    vet_graph(graph, &HashSet::new())?;
    vet_weights(graph)?;
    super::growth::vet(graph)?;
    let constants: HashMap<&str, ()> = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), ())).collect();
    let inputs = graph.input.iter().filter(|input| !constants.contains_key(input.name.as_str())).map(port).collect();
    let outputs: Vec<Port> = graph.output.iter().map(port).collect();
    if outputs.is_empty() {
        return Err(Error::malformed("ONNX graph", "at least one output", "none"));
    }
    Ok((inputs, outputs))
}

/// Checks one graph; `outer` are the names that an enclosing graph offers it.
fn vet_graph(graph: &pb::GraphProto, outer: &HashSet<&str>) -> Result<()> {
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::malformed("ONNX graph", "dense constants", "sparse ones"));
    }
    let mut known = outer.clone();
    for tensor in &graph.initializer {
        vet_tensor(tensor)?;
        known.insert(&tensor.name);
    }
    known.extend(graph.input.iter().map(|input| input.name.as_str()));
    for (index, node) in graph.node.iter().enumerate() {
        let thing = || format!("ONNX node {index} ({} {:?})", node.op_type, node.name);
        if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !known.contains(name.as_str())) {
            return Err(Error::malformed(thing(), "inputs that exist before it", format!("{name:?}")));
        }
        for attribute in &node.attribute {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                vet_tensor(tensor)?;
            }
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                vet_graph(inner, &known)?;
            }
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !known.insert(name) {
                return Err(Error::malformed(thing(), "a new name for each output", format!("{name:?} again")));
            }
        }
    }
    match graph.output.iter().find(|output| !known.contains(output.name.as_str())) {
        None => Ok(()),
        Some(output) => {
            Err(Error::malformed("ONNX graph", "outputs that a node computes", format!("{:?}", output.name)))
        }
    }
}

/// Weights must be finite; other constants (masks, for instance) need not be.
fn vet_weights(graph: &pb::GraphProto) -> Result<()> {
    let layers =
        graph.node.iter().filter(|node| matches!(node.op_type.as_str(), "Gemm" | "MatMul" | "Conv" | "LSTM" | "GRU"));
    let weights: HashSet<&str> = layers.flat_map(|node| node.input.iter().skip(1)).map(String::as_str).collect();
    for tensor in graph.initializer.iter().filter(|tensor| weights.contains(tensor.name.as_str())) {
        let raw = tensor.raw_data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let mut values = tensor.float_data.iter().copied().chain(raw);
        if tensor.data_type == DataType::Float as i32
            && let Some(index) = values.position(|value| !value.is_finite())
        {
            let found = format!("NaN or an infinity at index {index}");
            return Err(Error::malformed(format!("ONNX tensor {:?}", tensor.name), "finite weights", found));
        }
    }
    Ok(())
}

fn vet_tensor(tensor: &pb::TensorProto) -> Result<()> {
    let thing = || format!("ONNX tensor {:?}", tensor.name);
    if tensor.data_location.unwrap_or(0) != 0 || !tensor.external_data.is_empty() {
        return Err(Error::Unsupported {
            thing: thing(),
            reason: "its values lie in another file".into(),
            hint: "save the model with its weights inside (onnx.save without external data)",
        });
    }
    let count = tensor.dims.iter().try_fold(1_usize, |count, dim| {
        count.checked_mul(usize::try_from(*dim).ok()?).filter(|count| *count <= MAX_TENSOR_VALUES)
    });
    let Some(count) = count else {
        let expected = format!("a shape of at most {MAX_TENSOR_VALUES} values");
        return Err(Error::malformed(thing(), expected, format!("{:?}", tensor.dims)));
    };
    let data_type = DataType::try_from(tensor.data_type)
        .map_err(|_| Error::malformed(thing(), "a known data type", tensor.data_type))?;
    let (value_bytes, typed) = match data_type {
        DataType::Float => (4, tensor.float_data.len()),
        DataType::Double => (8, tensor.double_data.len()),
        DataType::Int64 => (8, tensor.int64_data.len()),
        DataType::Uint64 => (8, tensor.uint64_data.len()),
        DataType::Uint32 => (4, tensor.uint64_data.len()),
        DataType::Int32 => (4, tensor.int32_data.len()),
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => (2, tensor.int32_data.len()),
        DataType::Int8 | DataType::Uint8 | DataType::Bool => (1, tensor.int32_data.len()),
        DataType::String => (0, tensor.string_data.len()),
        _ => return Err(Error::malformed(thing(), "a plain number type", data_type.as_str_name())),
    };
    let found = if tensor.raw_data.is_empty() || value_bytes == 0 {
        typed
    } else if tensor.raw_data.len().is_multiple_of(value_bytes) {
        tensor.raw_data.len() / value_bytes
    } else {
        return Err(Error::malformed(thing(), "whole values", format!("{} bytes", tensor.raw_data.len())));
    };
    if found == count {
        return Ok(());
    }
    Err(Error::malformed(thing(), format!("{count} values for shape {:?}", tensor.dims), found))
}

pub(super) fn port(info: &pb::ValueInfoProto) -> Port {
    let tensor = match info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor),
        _ => None,
    };
    let element = tensor.and_then(|tensor| DataType::try_from(tensor.elem_type).ok()).unwrap_or(DataType::Undefined);
    let dims = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| shape.dim.as_slice());
    let shape: Option<Vec<Option<usize>>> = dims.map(|dims| dims.iter().map(length).collect());
    let width = match shape.as_deref() {
        Some([_, Some(width)]) if element == DataType::Float && *width > 0 => Some(*width),
        _ => None,
    };
    Port { name: info.name.clone(), width, shape, element: element.as_str_name().to_lowercase() }
}

/// Length of an axis; `None` where it is symbolic.
fn length(dim: &pb::tensor_shape_proto::Dimension) -> Option<usize> {
    match dim.value.as_ref()? {
        dimension::Value::DimValue(length) => {
            usize::try_from(*length).ok().filter(|length| *length <= MAX_TENSOR_VALUES)
        }
        dimension::Value::DimParam(_) => None,
    }
}

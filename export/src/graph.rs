//! A small writer of ONNX graphs: nodes in order, constants as raw little-endian f32.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_proto::DataType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use policy_runtime::spec::{Activation, Mlp};
use protobuf::{Enum, MessageField};

/// Name of the dynamic axis.
const BATCH: &str = "batch";

/// Builds one graph; values are known by their names.
pub(crate) struct GraphWriter {
    graph: GraphProto,
}

impl GraphWriter {
    pub(crate) fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: name.into(), ..GraphProto::default() } }
    }

    /// Declares an input, f32 `[batch, width]`.
    pub(crate) fn input(&mut self, name: &str, width: usize) -> String {
        self.graph.input.push(row_info(name, width));
        name.into()
    }

    /// Declares an output, f32 `[batch, width]`.
    pub(crate) fn output(&mut self, name: &str, width: usize) {
        self.graph.output.push(row_info(name, width));
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            data_type: DataType::FLOAT.value(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
        name.into()
    }

    /// Adds a node with one output, whose name is also the node's.
    pub(crate) fn node(&mut self, operator: &str, inputs: &[&str], output: &str) -> String {
        self.node_with(operator, inputs, output, Vec::new())
    }

    /// [`Self::node`] with whole-number attributes.
    pub(crate) fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<(&str, i64)>,
    ) -> String {
        self.graph.node.push(NodeProto {
            op_type: operator.into(),
            name: output.into(),
            input: inputs.iter().map(|name| (*name).into()).collect(),
            output: vec![output.into()],
            attribute: attributes.into_iter().map(|(name, value)| int_attribute(name, value)).collect(),
            ..NodeProto::default()
        });
        output.into()
    }

    /// `operator(value, row)` with a constant row.
    pub(crate) fn with_row(&mut self, operator: &str, value: &str, row: &[f32], output: &str) -> String {
        let row = self.constant(&format!("{output}.row"), &[row.len()], row);
        self.node(operator, &[value, &row], output)
    }

    /// Dense layers as Gemm nodes and activations; returns the name of the last value.
    pub(crate) fn mlp(&mut self, value: &str, mlp: &Mlp, name: &str) -> String {
        let mut value = value.to_owned();
        for (index, layer) in mlp.layers.iter().enumerate() {
            let output = format!("{name}.{index}");
            let weights = self.constant(&format!("{output}.weight"), &[layer.inputs, layer.outputs], &layer.weights);
            let bias = self.constant(&format!("{output}.bias"), &[layer.outputs], &layer.bias);
            value = self.node("Gemm", &[&value, &weights, &bias], &output);
            value = self.activation(&value, layer.activation, &output);
        }
        value
    }

    fn activation(&mut self, value: &str, activation: Activation, name: &str) -> String {
        let operator = match activation {
            Activation::Relu => "Relu",
            Activation::Tanh => "Tanh",
            Activation::Sigmoid => "Sigmoid",
            Activation::Elu => "Elu",
            Activation::Silu => {
                let gate = self.node("Sigmoid", &[value], &format!("{name}.gate"));
                return self.node("Mul", &[value, &gate], &format!("{name}.silu"));
            }
            _ => return value.to_owned(),
        };
        self.node(operator, &[value], &format!("{name}.{}", operator.to_lowercase()))
    }

    pub(crate) fn finish(self) -> GraphProto {
        self.graph
    }
}

fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: value, type_: AttributeType::INT.into(), ..AttributeProto::default() }
}

fn row_info(name: &str, width: usize) -> ValueInfoProto {
    let batch = dimension::Value::DimParam(BATCH.into());
    let width = dimension::Value::DimValue(width as i64);
    let dim = [batch, width].map(|value| Dimension { value: Some(value), ..Dimension::default() }).to_vec();
    let tensor = type_proto::Tensor {
        elem_type: DataType::FLOAT.value(),
        shape: MessageField::some(TensorShapeProto { dim, ..TensorShapeProto::default() }),
        ..type_proto::Tensor::default()
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), type_: MessageField::some(kind), ..ValueInfoProto::default() }
}

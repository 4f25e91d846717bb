//! ONNX files: reading, vetting, and lowering what is recognised into the crate's own layers.

mod chain;
mod dag;
mod growth;
mod lower;
mod prune;
mod recurrent;
mod vet;

use std::io::Cursor;

use tract_onnx::pb;
use tract_onnx::prelude::Framework;

use crate::contract::Contract;
use crate::error::{Error, Result};
use crate::metadata::{FORMAT_VERSION, KEY_CONTRACT, KEY_FORMAT_VERSION, KEY_KIND};

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the file.
    pub name: String,
    /// Length of its last axis, where it is an f32 `[batch, width]` with a fixed width.
    pub width: Option<usize>,
    /// Length of each axis, `None` for a symbolic one; `None` where the file does not say.
    pub shape: Option<Vec<Option<usize>>>,
    /// ONNX's name of the number type, in lower case: `float`, `int64`, …
    pub element: String,
}

/// A model file that was read and vetted, not yet prepared to run.
///
/// Holding one means: it has a graph whose nodes are in order and read only what exists, its tensors hold as many bytes
/// as their shapes say, and nothing in it refers to another file.
#[derive(Debug, Clone)]
pub struct Model {
    proto: pb::ModelProto,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

impl Model {
    /// Decodes and vets an ONNX file.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is not ONNX or not sound, [`Error::Unsupported`] where its tensors lie outside.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let proto = tract_onnx::onnx().proto_model_for_read(&mut Cursor::new(bytes)).map_err(|error| {
            Error::malformed("ONNX file", "an ONNX model", format!("{} bytes that do not decode: {error}", bytes.len()))
        })?;
        let (inputs, outputs) = vet::vet(&proto)?;
        let model = Self { proto, inputs, outputs };
        if let Some(version) = model.metadata(KEY_FORMAT_VERSION)
            && version != FORMAT_VERSION.to_string()
        {
            return Err(Error::malformed(format!("metadata {KEY_FORMAT_VERSION:?}"), FORMAT_VERSION, version));
        }
        Ok(model)
    }

    /// Inputs that the caller must give, in the file's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Outputs, in the file's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The value of a `metadata_props` entry.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.proto.metadata_props.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// The contract in the metadata; other people's files have none.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the entry is there and not valid.
    pub fn contract(&self) -> Result<Option<Contract>> {
        self.metadata(KEY_CONTRACT).map(Contract::from_json).transpose()
    }

    /// What the metadata says the file is, see [`crate::metadata`].
    pub fn kind(&self) -> Option<&str> {
        self.metadata(KEY_KIND)
    }

    /// Version of the ONNX operators.
    pub fn opset(&self) -> i64 {
        let imports = &self.proto.opset_import;
        imports
            .iter()
            .find(|import| matches!(import.domain.as_str(), "" | "ai.onnx"))
            .map_or(0, |import| import.version)
    }

    /// The operators of the graph, in order.
    pub fn operators(&self) -> Vec<&str> {
        self.graph().map_or_else(Vec::new, |graph| graph.node.iter().map(|node| node.op_type.as_str()).collect())
    }

    /// Names of the outputs that depend on random numbers, in the file's order.
    pub fn sampled_outputs(&self) -> Vec<String> {
        self.graph().map_or_else(Vec::new, prune::sampled_outputs)
    }

    /// The same model with these outputs only, and without what they do not need; its inputs stay.
    #[must_use]
    pub fn with_outputs(&self, names: &[String]) -> Self {
        let mut model = self.clone();
        if let Some(graph) = &mut model.proto.graph {
            prune::keep(graph, names);
        }
        model.outputs = (names.iter())
            .filter_map(|name| self.outputs.iter().find(|output| output.name == *name).cloned())
            .collect();
        model
    }

    /// Whether a node reads this value.
    pub fn reads(&self, name: &str) -> bool {
        self.graph().is_some_and(|graph| graph.node.iter().any(|node| node.input.iter().any(|input| input == name)))
    }

    pub(crate) fn proto(&self) -> &pb::ModelProto {
        &self.proto
    }

    fn graph(&self) -> Option<&pb::GraphProto> {
        self.proto.graph.as_ref()
    }
}

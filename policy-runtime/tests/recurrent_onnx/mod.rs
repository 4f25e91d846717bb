//! ONNX files with LSTM and GRU layers, written field by field ("Protocol Buffers: Encoding", onnx.proto), so that tests can have any
//! number of layers, and sizes that no exporter writes.

#![allow(dead_code, reason = "each test uses a part")]

use policy_runtime::probe::Draws;

/// What to write; `Default` is a sound file.
#[derive(Debug, Clone)]
pub(crate) struct RecurrentFile {
    /// `LSTM` or `GRU`.
    pub(crate) kind: &'static str,
    pub(crate) observation: usize,
    /// Of each layer.
    pub(crate) hidden: Vec<usize>,
    pub(crate) action: usize,
    /// What every layer's attribute `hidden_size` says, where that is not true.
    pub(crate) hidden_size: Option<i64>,
    pub(crate) bias: bool,
    /// Every layer reads the state that the other one leaves. Two layers of one width.
    pub(crate) crossed: bool,
    /// `MatMul` and `Add` in place of `Gemm` at the end.
    pub(crate) apart: bool,
}

impl Default for RecurrentFile {
    fn default() -> Self {
        let (kind, hidden) = ("LSTM", vec![9]);
        Self { kind, observation: 5, hidden, action: 3, hidden_size: None, bias: true, crossed: false, apart: false }
    }
}

const FLOAT: u64 = 1;
const INT64: u64 = 7;

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn number(bytes: &mut Vec<u8>, field: u64, value: u64) {
    varint(bytes, field << 3);
    varint(bytes, value);
}

fn block(bytes: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(bytes, field << 3 | 2);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn tensor(name: &str, dims: &[usize], kind: u64, raw: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    dims.iter().for_each(|dim| number(&mut bytes, 1, *dim as u64));
    number(&mut bytes, 2, kind);
    block(&mut bytes, 8, name.as_bytes());
    block(&mut bytes, 9, raw);
    bytes
}

/// A value of type f32 and this shape.
fn port(name: &str, dims: &[usize]) -> Vec<u8> {
    let mut shape = Vec::new();
    for dim in dims {
        let mut axis = Vec::new();
        number(&mut axis, 1, *dim as u64);
        block(&mut shape, 1, &axis);
    }
    let mut floats = Vec::new();
    number(&mut floats, 1, FLOAT);
    block(&mut floats, 2, &shape);
    let mut kind = Vec::new();
    block(&mut kind, 1, &floats);
    let mut bytes = Vec::new();
    block(&mut bytes, 1, name.as_bytes());
    block(&mut bytes, 2, &kind);
    bytes
}

fn node(kind: &str, inputs: &[&str], outputs: &[&str], whole: &[(&str, i64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    inputs.iter().for_each(|name| block(&mut bytes, 1, name.as_bytes()));
    outputs.iter().for_each(|name| block(&mut bytes, 2, name.as_bytes()));
    block(&mut bytes, 4, kind.as_bytes());
    for (name, value) in whole {
        let mut attribute = Vec::new();
        block(&mut attribute, 1, name.as_bytes());
        number(&mut attribute, 3, *value as u64);
        number(&mut attribute, 20, 2);
        block(&mut bytes, 5, &attribute);
    }
    bytes
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

impl Graph {
    fn random(&mut self, name: &str, dims: &[usize], draws: &mut Draws) {
        let count: usize = dims.iter().product();
        let spread = 1.0 / (*dims.last().unwrap() as f32).sqrt();
        let raw: Vec<u8> = (0..count).flat_map(|_| (spread * draws.normal()).to_le_bytes()).collect();
        self.tensors.push(tensor(name, dims, FLOAT, &raw));
    }
}

impl RecurrentFile {
    /// The file, with weights from `draws`.
    pub(crate) fn bytes(&self, draws: &mut Draws) -> Vec<u8> {
        let gates = if self.kind == "LSTM" { 4 } else { 3 };
        let mut graph = Graph::default();
        graph.inputs.push(port("obs", &[1, self.observation]));
        graph.outputs.push(port("actions", &[1, self.action]));
        graph.tensors.push(tensor("first", &[1], INT64, &0_i64.to_le_bytes()));
        graph.tensors.push(tensor("second", &[1], INT64, &1_i64.to_le_bytes()));
        graph.nodes.push(node("Unsqueeze", &["obs", "first"], &["x0"], &[]));
        let mut inputs = self.observation;
        for (layer, hidden) in self.hidden.iter().enumerate() {
            let named = |word: &str| format!("{word}{layer}");
            let names = ["x", "W", "R", "B"].map(named);
            graph.random(&names[1], &[1, gates * hidden, inputs], draws);
            graph.random(&names[2], &[1, gates * hidden, *hidden], draws);
            if self.bias {
                graph.random(&names[3], &[1, 2 * gates * hidden], draws);
            }
            let states: &[&str] = if gates == 4 { &["h", "c"] } else { &["h"] };
            let named = |way: &str, layer: usize| -> Vec<String> {
                states.iter().map(|it| format!("{it}{layer}_{way}")).collect()
            };
            let (from, to) = (named("in", layer), named("out", layer));
            let read = if self.crossed { named("in", 1 - layer) } else { from.clone() };
            let mut reads: Vec<&str> = names.iter().map(String::as_str).collect();
            if !self.bias {
                reads[3] = "";
            }
            reads.push("");
            reads.extend(read.iter().map(String::as_str));
            let all = format!("all{layer}");
            let writes: Vec<&str> = [all.as_str()].into_iter().chain(to.iter().map(String::as_str)).collect();
            let size = self.hidden_size.unwrap_or(*hidden as i64);
            graph.nodes.push(node(self.kind, &reads, &writes, &[("hidden_size", size), ("linear_before_reset", 1)]));
            graph.nodes.push(node("Squeeze", &[&all, "second"], &[&format!("x{}", layer + 1)], &[]));
            graph.inputs.extend(from.iter().map(|name| port(name, &[1, 1, *hidden])));
            graph.outputs.extend(to.iter().map(|name| port(name, &[1, 1, *hidden])));
            inputs = *hidden;
        }
        let last = format!("x{}", self.hidden.len());
        graph.nodes.push(node("Squeeze", &[&last, "first"], &["features"], &[]));
        graph.random("head", &[inputs, self.action], draws);
        graph.random("offset", &[self.action], draws);
        if self.apart {
            graph.nodes.push(node("MatMul", &["features", "head"], &["product"], &[]));
            graph.nodes.push(node("Add", &["product", "offset"], &["actions"], &[]));
        } else {
            graph.nodes.push(node("Gemm", &["features", "head", "offset"], &["actions"], &[]));
        }

        let mut content = Vec::new();
        for (field, parts) in [(1, graph.nodes), (5, graph.tensors), (11, graph.inputs), (12, graph.outputs)] {
            parts.iter().for_each(|part| block(&mut content, field, part));
        }
        let mut opset = Vec::new();
        block(&mut opset, 1, b"");
        number(&mut opset, 2, 17);
        let mut model = Vec::new();
        number(&mut model, 1, 8);
        block(&mut model, 7, &content);
        block(&mut model, 8, &opset);
        model
    }
}

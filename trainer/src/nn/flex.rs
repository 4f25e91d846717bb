//! The perceptron operations on the CPU: one call per network, rows in blocks that stay in the cache through all layers.
#![allow(unsafe_code)]

pub use super::kernels::vector_kind;
use super::kernels::{self, Moments, Output, View};
use super::mlp::{Layer, MlpSpec};
use super::ops::{AdamResult, AdamStep, MlpBackend, Need};
use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

/// Rows that pass through all layers together.
const BLOCK: usize = 256;

impl MlpBackend for Flex {
    const STEPS_PER_TRANSFER: usize = 1;

    fn mlp_forward(spec: &MlpSpec, x: FlexTensor, params: FlexTensor) -> (FlexTensor, Vec<FlexTensor>) {
        let (x, params) = (x.to_contiguous(), params.to_contiguous());
        let (x, params) = (Input::new(spec, &x), slice(&params));
        let (y, hidden) = forward(spec, &x, params, true);
        (tensor(y, [spec.members, x.batch, spec.outputs()]), hidden_tensors(spec, x.batch, hidden))
    }

    fn mlp_backward(
        spec: &MlpSpec,
        x: FlexTensor,
        params: FlexTensor,
        hidden: Vec<FlexTensor>,
        gy: FlexTensor,
        need: Need,
    ) -> (Option<FlexTensor>, Option<FlexTensor>) {
        let (x, params, gy) = (x.to_contiguous(), params.to_contiguous(), gy.to_contiguous());
        let (x, params, gy) = (Input::new(spec, &x), slice(&params), slice(&gy));
        let hidden: Vec<&[f32]> = hidden.iter().map(slice).collect();
        let mut gp = if need.params { vec![0.0; spec.len()] } else { Vec::new() };
        let mut gx = if need.input { vec![0.0; x.groups * x.batch * spec.inputs()] } else { Vec::new() };
        let widest = spec.widths.iter().copied().max().unwrap_or(0);
        let (mut signal, mut next) = (vec![0.0; BLOCK * widest], vec![0.0; BLOCK * widest]);
        for member in 0..spec.members {
            for (start, rows) in blocks(x.batch) {
                let out = spec.outputs();
                signal[..rows * out].copy_from_slice(&gy[(member * x.batch + start) * out..][..rows * out]);
                for (index, layer) in spec.layers().enumerate().rev() {
                    let g = &signal[..rows * layer.outputs];
                    let input = match index {
                        0 => x.rows(member, start, rows),
                        _ => &hidden[index - 1][(member * x.batch + start) * layer.inputs..][..rows * layer.inputs],
                    };
                    let gv = View::new(g, rows, layer.outputs);
                    if need.params {
                        let (gw, gb) = gradient_parts(&mut gp, layer, member, spec.members);
                        kernels::product(View::new(input, rows, layer.inputs).transpose(), gv, gw, true);
                        kernels::add_rows(g, gb);
                    }
                    let w = View::new(weight(params, layer, member), layer.inputs, layer.outputs).transpose();
                    if index > 0 {
                        let back = &mut next[..rows * layer.inputs];
                        kernels::product(gv, w, back, false);
                        kernels::mask(back, input);
                        std::mem::swap(&mut signal, &mut next);
                    } else if need.input {
                        let back = &mut gx[x.first_row(member, start) * layer.inputs..][..rows * layer.inputs];
                        kernels::product(gv, w, back, true);
                    }
                }
            }
        }
        let gx = need.input.then(|| tensor(gx, [x.groups, x.batch, spec.inputs()]));
        let gp = need.params.then(|| tensor(gp, [spec.len()]));
        (gx, gp)
    }

    fn input_gradient(
        spec: &MlpSpec,
        x: FlexTensor,
        params: FlexTensor,
    ) -> (FlexTensor, Vec<FlexTensor>, Vec<FlexTensor>) {
        let (x, params) = (x.to_contiguous(), params.to_contiguous());
        let (x, params) = (Input::new(spec, &x), slice(&params));
        let (_, hidden) = forward(spec, &x, params, false);
        let mut g = vec![0.0; spec.members * x.batch * spec.inputs()];
        let mut signals: Vec<Vec<f32>> =
            spec.widths[1..spec.depth()].iter().map(|w| vec![0.0; spec.members * x.batch * w]).collect();
        for member in 0..spec.members {
            for (start, rows) in blocks(x.batch) {
                let place = member * x.batch + start;
                for (index, layer) in spec.layers().enumerate().rev() {
                    let w = weight(params, layer, member);
                    let (below, above) = signals.split_at_mut(index);
                    let back = match below.last_mut() {
                        Some(signal) => &mut signal[place * layer.inputs..][..rows * layer.inputs],
                        None => &mut g[place * layer.inputs..][..rows * layer.inputs],
                    };
                    match above.first() {
                        Some(signal) => {
                            let signal = &signal[place * layer.outputs..][..rows * layer.outputs];
                            let w = View::new(w, layer.inputs, layer.outputs).transpose();
                            kernels::product(View::new(signal, rows, layer.outputs), w, back, false);
                        }
                        None => back.chunks_exact_mut(layer.inputs).for_each(|row| row.copy_from_slice(w)),
                    }
                    if index > 0 {
                        kernels::mask(back, &hidden[index - 1][place * layer.inputs..][..rows * layer.inputs]);
                    }
                }
            }
        }
        let signals = hidden_tensors(spec, x.batch, signals);
        let hidden = hidden_tensors(spec, x.batch, hidden);
        (tensor(g, [spec.members, x.batch, spec.inputs()]), hidden, signals)
    }

    fn input_gradient_backward(
        spec: &MlpSpec,
        params: FlexTensor,
        hidden: Vec<FlexTensor>,
        signals: Vec<FlexTensor>,
        gg: FlexTensor,
    ) -> FlexTensor {
        let (params, gg) = (params.to_contiguous(), gg.to_contiguous());
        let (params, gg) = (slice(&params), slice(&gg));
        let hidden: Vec<&[f32]> = hidden.iter().map(slice).collect();
        let signals: Vec<&[f32]> = signals.iter().map(slice).collect();
        let batch = gg.len() / (spec.members * spec.inputs());
        let mut gp = vec![0.0; spec.len()];
        let widest = spec.widths.iter().copied().max().unwrap_or(0);
        let (mut g, mut next) = (vec![0.0; BLOCK * widest], vec![0.0; BLOCK * widest]);
        for member in 0..spec.members {
            for (start, rows) in blocks(batch) {
                let place = member * batch + start;
                g[..rows * spec.inputs()].copy_from_slice(&gg[place * spec.inputs()..][..rows * spec.inputs()]);
                for (index, layer) in spec.layers().enumerate() {
                    let current = &g[..rows * layer.inputs];
                    let (gw, _) = gradient_parts(&mut gp, layer, member, spec.members);
                    let Some(signal) = signals.get(index) else {
                        kernels::add_rows(current, gw);
                        continue;
                    };
                    let signal = &signal[place * layer.outputs..][..rows * layer.outputs];
                    let current = View::new(current, rows, layer.inputs);
                    kernels::product(current.transpose(), View::new(signal, rows, layer.outputs), gw, true);
                    let forward = &mut next[..rows * layer.outputs];
                    let w = View::new(weight(params, layer, member), layer.inputs, layer.outputs);
                    kernels::product(current, w, forward, false);
                    kernels::mask(forward, &hidden[index][place * layer.outputs..][..rows * layer.outputs]);
                    std::mem::swap(&mut g, &mut next);
                }
            }
        }
        tensor(gp, [spec.len()])
    }

    fn adam(
        step: &AdamStep,
        params: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        target: Option<FlexTensor>,
    ) -> AdamResult<Self> {
        let [mut params, mut first, mut second] = [params, first, second].map(|t| t.to_contiguous());
        let gradient = gradient.to_contiguous();
        let moments =
            Moments { params: params.storage_mut(), first: first.storage_mut(), second: second.storage_mut() };
        kernels::adam(step, moments, slice(&gradient));
        let target = target.map(|target| {
            let mut target = target.to_contiguous();
            kernels::polyak(step.polyak_rate as f32, slice(&params), target.storage_mut());
            target
        });
        AdamResult { params, first, second, target }
    }
}

/// The input of a perceptron: `[groups, batch, width]`, each group shared by `members / groups` members in a row.
struct Input<'a> {
    data: &'a [f32],
    groups: usize,
    /// Members that share a group.
    shared: usize,
    batch: usize,
    width: usize,
}

impl<'a> Input<'a> {
    fn new(spec: &MlpSpec, x: &'a FlexTensor) -> Self {
        let shape = x.layout().shape();
        let (groups, batch) = (shape[0], shape[1]);
        assert_eq!(spec.members % groups, 0, "each input belongs to equally many members");
        Self { data: slice(x), groups, shared: spec.members / groups, batch, width: spec.inputs() }
    }

    fn rows(&self, member: usize, start: usize, rows: usize) -> &'a [f32] {
        &self.data[self.first_row(member, start) * self.width..][..rows * self.width]
    }

    /// Where the rows of `member` from its row `start` on lie.
    fn first_row(&self, member: usize, start: usize) -> usize {
        member / self.shared * self.batch + start
    }
}

/// Output (skipped unless `output`: then empty) and hidden activations.
fn forward(spec: &MlpSpec, x: &Input<'_>, params: &[f32], output: bool) -> (Vec<f32>, Vec<Vec<f32>>) {
    let depth = if output { spec.depth() } else { spec.depth() - 1 };
    let rows_in_all = spec.members * x.batch;
    let mut values: Vec<Output> = spec.widths[1..=depth].iter().map(|w| Output::new(rows_in_all * w)).collect();
    for member in 0..spec.members {
        for (start, rows) in blocks(x.batch) {
            let place = member * x.batch + start;
            for (index, layer) in spec.layers().take(depth).enumerate() {
                let (below, above) = values.split_at_mut(index);
                let input = match below.last() {
                    None => x.rows(member, start, rows),
                    // SAFETY: the previous turn of this loop wrote these rows.
                    Some(hidden) => unsafe { hidden.part(place * layer.inputs, rows * layer.inputs) },
                };
                let a = View::new(input, rows, layer.inputs);
                let w = View::new(weight(params, layer, member), layer.inputs, layer.outputs);
                let y = above[0].product(place * layer.outputs, a, w);
                let bias = &params[layer.bias + member * layer.outputs..][..layer.outputs];
                if index + 1 < spec.depth() {
                    kernels::add_bias_relu(y, bias);
                } else {
                    kernels::add_bias(y, bias);
                }
            }
        }
    }
    // SAFETY: the loops above covered every row of every layer.
    let mut values: Vec<Vec<f32>> = values.into_iter().map(|v| unsafe { v.finish() }).collect();
    let y = if output { values.pop().unwrap_or_default() } else { Vec::new() };
    (y, values)
}

fn blocks(batch: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..batch).step_by(BLOCK).map(move |start| (start, BLOCK.min(batch - start)))
}

fn weight(params: &[f32], layer: Layer, member: usize) -> &[f32] {
    let size = layer.inputs * layer.outputs;
    &params[layer.weight + member * size..][..size]
}

/// One member's part of a gradient: weights and bias of `layer`.
fn gradient_parts(gp: &mut [f32], layer: Layer, member: usize, members: usize) -> (&mut [f32], &mut [f32]) {
    let size = layer.inputs * layer.outputs;
    let (weights, biases) = gp[layer.weight..][..members * (size + layer.outputs)].split_at_mut(members * size);
    (&mut weights[member * size..][..size], &mut biases[member * layer.outputs..][..layer.outputs])
}

/// The elements of a contiguous tensor.
fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_else(|| unreachable!("callers make their tensors contiguous"))
}

fn tensor<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(data), Layout::contiguous(Shape::from(shape)), DType::F32)
}

fn hidden_tensors(spec: &MlpSpec, batch: usize, hidden: Vec<Vec<f32>>) -> Vec<FlexTensor> {
    let widths = &spec.widths[1..];
    hidden.into_iter().zip(widths).map(|(data, width)| tensor(data, [spec.members, batch, *width])).collect()
}

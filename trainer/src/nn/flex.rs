//! The perceptron operations on the CPU: one call per network, rows in blocks that stay in the cache through all layers.
#![allow(unsafe_code)]

pub use super::kernels::vector_kind;
use super::kernels::{self, Gaussian, GaussianGradient, Moments};
use super::memory::{Aligned, Buffer};
use super::mlp::{Activation, MlpSpec};
use super::ops::{AdamResult, AdamStep, MlpBackend, Need};
use super::product::{self, Engine, Finish, Right, View, product};
use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};
use std::cell::RefCell;

/// Rows that pass through all layers together.
const BLOCK: usize = 256;

/// What multiplies matrices on this processor, for reports; [`vector_kind`] says what the element-wise loops use.
pub fn product_kind() -> &'static str {
    match Engine::best() {
        #[cfg(target_arch = "x86_64")]
        Engine::Avx512 => "own AVX-512 kernels",
        Engine::Library => "gemm crate",
    }
}

/// `out = a·b` for square matrices by the `gemm` crate on one thread: the yardstick of the benches.
pub fn library_product(a: &[f32], b: &[f32], out: &mut [f32], size: usize) {
    let (left, right) = (View::new(a, size, size), View::new(b, size, size));
    assert_eq!(out.len(), size * size, "a square result");
    // SAFETY: `out` has the product's size.
    unsafe { product::library(left, right, out.as_mut_ptr(), false) };
}

/// Working memory of a thread, kept between calls.
#[derive(Default)]
struct Scratch {
    weights: Aligned,
    right: Aligned,
    left: Aligned,
    here: Aligned,
    there: Aligned,
}

fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(work)
}

impl MlpBackend for Flex {
    const STEPS_PER_TRANSFER: usize = 1;

    fn mlp(spec: &MlpSpec, x: FlexTensor, params: FlexTensor) -> FlexTensor {
        let (x, params) = (x.to_contiguous(), params.to_contiguous());
        let (x, params) = (Input::new(spec, &x), slice(&params));
        tensor(infer(spec, &x, params), [spec.members, x.batch, spec.outputs()])
    }

    fn mlp_forward(spec: &MlpSpec, x: FlexTensor, params: FlexTensor) -> (FlexTensor, Vec<FlexTensor>) {
        let (x, params) = (x.to_contiguous(), params.to_contiguous());
        let (x, params) = (Input::new(spec, &x), slice(&params));
        let (mut values, slopes) = forward(spec, &x, params, spec.depth());
        let y = values.pop().unwrap_or_default();
        let mut hidden = hidden_tensors(spec, x.batch, values);
        hidden.append(&mut hidden_tensors(spec, x.batch, slopes));
        (tensor(y, [spec.members, x.batch, spec.outputs()]), hidden)
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
        let (gx, gp) = backward(spec, &x, params, &hidden, gy, need);
        let gx = need.input.then(|| tensor(gx, [x.groups, x.batch, spec.inputs()]));
        (gx, need.params.then(|| tensor(gp, [spec.len()])))
    }

    fn input_gradient(
        spec: &MlpSpec,
        x: FlexTensor,
        params: FlexTensor,
    ) -> (FlexTensor, Vec<FlexTensor>, Vec<FlexTensor>) {
        let (x, params) = (x.to_contiguous(), params.to_contiguous());
        let (x, params) = (Input::new(spec, &x), slice(&params));
        let (hidden, _) = forward(spec, &x, params, spec.depth() - 1);
        let (g, signals) = input_gradient(spec, params, &hidden, x.batch);
        let (hidden, signals) = (hidden_tensors(spec, x.batch, hidden), hidden_tensors(spec, x.batch, signals));
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
        let hidden: Vec<&[f32]> = hidden.iter().map(slice).collect();
        let signals: Vec<&[f32]> = signals.iter().map(slice).collect();
        tensor(input_gradient_backward(spec, slice(&params), &hidden, &signals, slice(&gg)), [spec.len()])
    }

    fn squash(head: FlexTensor, noise: FlexTensor) -> FlexTensor {
        let (head, noise) = (head.to_contiguous(), noise.to_contiguous());
        let shape = noise.layout().shape();
        let (members, batch, actions) = (shape[0], shape[1], shape[2]);
        let noise = slice(&noise);
        let (mean, log_std) = halves(slice(&head), actions);
        let (mut action, mut terms) = (vec![0.0; noise.len()], vec![0.0; noise.len()]);
        kernels::squash(Gaussian { mean: &mean, log_std: &log_std, noise }, &mut action, &mut terms);
        let mut out = Vec::with_capacity(members * batch * (actions + 1));
        for (action, terms) in action.chunks_exact(actions).zip(terms.chunks_exact(actions)) {
            out.extend_from_slice(action);
            out.push(terms.iter().sum());
        }
        tensor(out, [members, batch, actions + 1])
    }

    fn squash_backward(head: FlexTensor, noise: FlexTensor, g: FlexTensor) -> FlexTensor {
        let (head, noise, g) = (head.to_contiguous(), noise.to_contiguous(), g.to_contiguous());
        let shape = head.layout().shape();
        let (members, batch, actions) = (shape[0], shape[1], shape[2] / 2);
        let (mean, log_std) = halves(slice(&head), actions);
        let (mut by_mean, mut by_log_std) = (Vec::with_capacity(mean.len()), Vec::with_capacity(mean.len()));
        for row in slice(&g).chunks_exact(actions + 1) {
            by_mean.extend_from_slice(&row[..actions]);
            by_log_std.extend(std::iter::repeat_n(row[actions], actions));
        }
        let gaussian = Gaussian { mean: &mean, log_std: &log_std, noise: slice(&noise) };
        kernels::squash_gradient(gaussian, GaussianGradient { mean: &mut by_mean, log_std: &mut by_log_std });
        let mut out = Vec::with_capacity(2 * mean.len());
        for (by_mean, by_log_std) in by_mean.chunks_exact(actions).zip(by_log_std.chunks_exact(actions)) {
            out.extend_from_slice(by_mean);
            out.extend_from_slice(by_log_std);
        }
        tensor(out, [members, batch, 2 * actions])
    }

    fn gaussian_loss(head: FlexTensor, target: FlexTensor) -> (FlexTensor, FlexTensor) {
        let (head, target) = (head.to_contiguous(), target.to_contiguous());
        let shape = target.layout().shape();
        let (members, batch, outputs) = (shape[0], shape[1], shape[2]);
        let count = batch * outputs;
        let (mut means, mut raw) = halves(slice(&head), outputs);
        let mut terms = vec![0.0; means.len()];
        kernels::gaussian_loss(&mut means, &mut raw, slice(&target), &mut terms);
        let losses = terms.chunks_exact(count).map(|terms| terms.iter().sum::<f32>() / count as f32).collect();
        let mut gradient = Vec::with_capacity(2 * means.len());
        for (means, raw) in means.chunks_exact(outputs).zip(raw.chunks_exact(outputs)) {
            gradient.extend(means.iter().chain(raw).map(|g| g / count as f32));
        }
        (tensor(losses, [members, 1, 1]), tensor(gradient, [members, batch, 2 * outputs]))
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
        let (gradient, mut target) = (gradient.to_contiguous(), target.map(|target| target.to_contiguous()));
        let moments = Moments {
            params: params.storage_mut(),
            first: first.storage_mut(),
            second: second.storage_mut(),
            target: target.as_mut().map(|target| target.storage_mut()),
        };
        kernels::adam(step, moments, slice(&gradient));
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

/// One member's weights as right factors.
struct Weights<'a> {
    lowest: usize,
    layers: Vec<Right<'a>>,
}

impl<'a> Weights<'a> {
    /// Packs the layers of `range`, transposed for the way back.
    fn pack(
        spec: &MlpSpec,
        params: &'a [f32],
        member: usize,
        range: std::ops::Range<usize>,
        transposed: bool,
        room: &'a mut Aligned,
    ) -> Self {
        let views: Vec<View<'a>> = spec
            .layers()
            .take(range.end)
            .skip(range.start)
            .map(|layer| {
                let view = View::new(&params[layer.weight_of(member)], layer.inputs, layer.outputs);
                if transposed { view.transpose() } else { view }
            })
            .collect();
        let mut room = room.get(views.iter().map(|view| Right::room(*view)).sum());
        let layers = views.into_iter().map(|view| {
            let (here, rest) = std::mem::take(&mut room).split_at_mut(Right::room(view));
            room = rest;
            Right::new(view, here)
        });
        Self { lowest: range.start, layers: layers.collect() }
    }

    fn of(&self, layer: usize) -> Right<'a> {
        self.layers[layer - self.lowest]
    }
}

/// How a layer ends in the forward pass.
fn finish<'a>(spec: &MlpSpec, layer: usize, bias: &'a [f32]) -> Finish<'a> {
    if spec.activation == Activation::Relu && layer + 1 < spec.depth() {
        Finish::BiasRelu(bias)
    } else {
        Finish::Bias(bias)
    }
}

/// The activations that a product does not finish with, and their slopes.
fn activate(spec: &MlpSpec, values: &mut [f32], slopes: &mut [f32]) {
    match spec.activation {
        Activation::Relu => {}
        Activation::Tanh => kernels::tanh_slopes(values, slopes),
        Activation::Silu => kernels::silu_slopes(values, slopes),
    }
}

/// Values of the first `depth` layers, and the slopes of the activations among them unless they are ReLUs.
fn forward(spec: &MlpSpec, x: &Input<'_>, params: &[f32], depth: usize) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let rows_in_all = spec.members * x.batch;
    let mut values: Vec<Buffer> = spec.widths[1..=depth].iter().map(|w| Buffer::new(rows_in_all * w)).collect();
    let smooth = if spec.activation == Activation::Relu { 0 } else { depth.min(spec.depth() - 1) };
    let mut slopes: Vec<Vec<f32>> = spec.widths[1..=smooth].iter().map(|w| vec![0.0; rows_in_all * w]).collect();
    with_scratch(|scratch| {
        for member in 0..spec.members {
            let weights = Weights::pack(spec, params, member, 0..depth, false, &mut scratch.weights);
            for (start, rows) in blocks(x.batch) {
                let place = member * x.batch + start;
                for (index, layer) in spec.layers().take(depth).enumerate() {
                    let (below, above) = values.split_at_mut(index);
                    let input = match below.last() {
                        None => x.rows(member, start, rows),
                        // SAFETY: the previous turn of this loop wrote these rows.
                        Some(hidden) => unsafe { hidden.written(place * layer.inputs, rows * layer.inputs) },
                    };
                    let finish = finish(spec, index, &params[layer.bias_of(member)]);
                    let (at, size) = (place * layer.outputs, rows * layer.outputs);
                    let input = View::new(input, rows, layer.inputs);
                    // SAFETY: the part has the product's size; afterwards it is written.
                    let y = unsafe {
                        let y = above[0].part(at, size);
                        product(input, weights.of(index), y, false, finish, &mut scratch.left);
                        std::slice::from_raw_parts_mut(y, size)
                    };
                    if let Some(slopes) = slopes.get_mut(index) {
                        activate(spec, y, &mut slopes[at..][..size]);
                    }
                }
            }
        }
    });
    // SAFETY: the loops above covered every row of every layer.
    (values.into_iter().map(|v| unsafe { v.finish() }).collect(), slopes)
}

/// The output alone: hidden values stay in working memory.
fn infer(spec: &MlpSpec, x: &Input<'_>, params: &[f32]) -> Vec<f32> {
    let mut y = Buffer::new(spec.members * x.batch * spec.outputs());
    let widest = spec.widths.iter().copied().max().unwrap_or(0);
    with_scratch(|Scratch { weights, right, left, here, there }| {
        let (mut hidden, mut next) = (here.get(BLOCK * widest), there.get(BLOCK * widest));
        for member in 0..spec.members {
            let weights = Weights::pack(spec, params, member, 0..spec.depth(), false, weights);
            for (start, rows) in blocks(x.batch) {
                for (index, layer) in spec.layers().enumerate() {
                    let input = if index == 0 { x.rows(member, start, rows) } else { &hidden[..rows * layer.inputs] };
                    let input = View::new(input, rows, layer.inputs);
                    let finish = finish(spec, index, &params[layer.bias_of(member)]);
                    let size = rows * layer.outputs;
                    let last = index + 1 == spec.depth();
                    let out = match last {
                        true => y.part((member * x.batch + start) * layer.outputs, size),
                        false => next[..size].as_mut_ptr(),
                    };
                    // SAFETY: `out` has the product's size.
                    unsafe { product(input, weights.of(index), out, false, finish, left) };
                    if !last {
                        if spec.activation != Activation::Relu {
                            activate(spec, &mut next[..size], right.get(size));
                        }
                        std::mem::swap(&mut hidden, &mut next);
                    }
                }
            }
        }
    });
    // SAFETY: the loops above covered every row.
    unsafe { y.finish() }
}

/// Gradients of input and parameters; empty where not needed.
fn backward(
    spec: &MlpSpec,
    x: &Input<'_>,
    params: &[f32],
    hidden: &[&[f32]],
    gy: &[f32],
    need: Need,
) -> (Vec<f32>, Vec<f32>) {
    let (values, slopes) = hidden.split_at(spec.depth() - 1);
    let mut gp = if need.params { Buffer::for_batch(spec.len(), x.batch) } else { Buffer::new(0) };
    let mut gx = vec![0.0; if need.input { x.groups * x.batch * spec.inputs() } else { 0 }];
    let widest = spec.widths.iter().copied().max().unwrap_or(0);
    with_scratch(|Scratch { weights, right, left, here, there }| {
        let (mut signal, mut next) = (here.get(BLOCK * widest), there.get(BLOCK * widest));
        for member in 0..spec.members {
            let lowest = usize::from(!need.input);
            let weights = Weights::pack(spec, params, member, lowest..spec.depth(), true, weights);
            for (start, rows) in blocks(x.batch) {
                let place = member * x.batch + start;
                for (index, layer) in spec.layers().enumerate().rev() {
                    let last = index + 1 == spec.depth();
                    let g = if last { &gy[place * layer.outputs..] } else { &*signal };
                    let g = View::new(&g[..rows * layer.outputs], rows, layer.outputs);
                    let (at, size) = (place * layer.inputs, rows * layer.inputs);
                    let input = if index == 0 { x.rows(member, start, rows) } else { &values[index - 1][at..][..size] };
                    if need.params {
                        let again = start > 0;
                        kernels::add_rows(g.data, gp.sums(layer.bias_of(member), again));
                        let input = View::new(input, rows, layer.inputs).transpose();
                        let right = Right::for_transpose(layer.inputs, g, right.get(Right::room(g)));
                        let weight = layer.weight_of(member);
                        let out = gp.part(weight.start, weight.len());
                        // SAFETY: the part has the weight's size; the first block wrote what later ones add to.
                        unsafe { product(input, right, out, again, Finish::Plain, left) };
                    }
                    if index > 0 {
                        let finish = match slopes.get(index - 1) {
                            Some(slopes) => Finish::Scale(&slopes[at..][..size]),
                            None => Finish::Mask(input),
                        };
                        // SAFETY: the slice has the product's size.
                        unsafe { product(g, weights.of(index), next[..size].as_mut_ptr(), false, finish, left) };
                        std::mem::swap(&mut signal, &mut next);
                    } else if need.input {
                        let out = gx[x.first_row(member, start) * layer.inputs..][..size].as_mut_ptr();
                        // SAFETY: as above; the gradient began as zeros, to which sharing members add.
                        unsafe { product(g, weights.of(0), out, true, Finish::Plain, left) };
                    }
                }
            }
        }
    });
    // SAFETY: the first block of every member wrote its part of every layer.
    (gx, unsafe { gp.finish() })
}

/// Gradient of the scalar output by the input, and the signals after each mask.
fn input_gradient(spec: &MlpSpec, params: &[f32], hidden: &[Vec<f32>], batch: usize) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mut layers: Vec<Vec<f32>> =
        spec.widths[..spec.depth()].iter().map(|w| vec![0.0; spec.members * batch * w]).collect();
    with_scratch(|Scratch { weights, left, .. }| {
        for member in 0..spec.members {
            let weights = Weights::pack(spec, params, member, 0..spec.depth() - 1, true, weights);
            for (start, rows) in blocks(batch) {
                let place = member * batch + start;
                for (index, layer) in spec.layers().enumerate().rev() {
                    let (below, above) = layers.split_at_mut(index + 1);
                    let (at, size) = (place * layer.inputs, rows * layer.inputs);
                    let back = &mut below[index][at..][..size];
                    let mask = index.checked_sub(1).map(|before| &hidden[before][at..][..size]);
                    match above.first() {
                        Some(signal) => {
                            let signal = &signal[place * layer.outputs..][..rows * layer.outputs];
                            let signal = View::new(signal, rows, layer.outputs);
                            let finish = mask.map_or(Finish::Plain, Finish::Mask);
                            // SAFETY: the slice has the product's size.
                            unsafe { product(signal, weights.of(index), back.as_mut_ptr(), false, finish, left) };
                        }
                        None => {
                            let w = &params[layer.weight_of(member)];
                            back.chunks_exact_mut(layer.inputs).for_each(|row| row.copy_from_slice(w));
                            if let Some(mask) = mask {
                                kernels::mask(back, mask);
                            }
                        }
                    }
                }
            }
        }
    });
    let g = layers.remove(0);
    (g, layers)
}

/// Parameter gradient of [`input_gradient`] from `gg`, the gradient of its result.
fn input_gradient_backward(
    spec: &MlpSpec,
    params: &[f32],
    hidden: &[&[f32]],
    signals: &[&[f32]],
    gg: &[f32],
) -> Vec<f32> {
    let batch = gg.len() / (spec.members * spec.inputs());
    let mut gp = Buffer::for_batch(spec.len(), batch);
    let widest = spec.widths.iter().copied().max().unwrap_or(0);
    with_scratch(|Scratch { weights, right, left, here, there }| {
        let (mut g, mut next) = (here.get(BLOCK * widest), there.get(BLOCK * widest));
        for member in 0..spec.members {
            let weights = Weights::pack(spec, params, member, 0..spec.depth() - 1, false, weights);
            for (start, rows) in blocks(batch) {
                let (place, again) = (member * batch + start, start > 0);
                for (index, layer) in spec.layers().enumerate() {
                    let current = if index == 0 { &gg[place * layer.inputs..] } else { &*g };
                    let current = View::new(&current[..rows * layer.inputs], rows, layer.inputs);
                    gp.sums(layer.bias_of(member), again);
                    let weight = layer.weight_of(member);
                    let Some(signal) = signals.get(index) else {
                        kernels::add_rows(current.data, gp.sums(weight, again));
                        continue;
                    };
                    let (at, size) = (place * layer.outputs, rows * layer.outputs);
                    let signal = View::new(&signal[at..][..size], rows, layer.outputs);
                    let signal = Right::for_transpose(layer.inputs, signal, right.get(Right::room(signal)));
                    let out = gp.part(weight.start, weight.len());
                    let mask = Finish::Mask(&hidden[index][at..][..size]);
                    // SAFETY: the part has the weight's size; the first block wrote what later ones add to. The slice has the
                    // second product's size.
                    unsafe {
                        product(current.transpose(), signal, out, again, Finish::Plain, left);
                        product(current, weights.of(index), next[..size].as_mut_ptr(), false, mask, left);
                    }
                    std::mem::swap(&mut g, &mut next);
                }
            }
        }
    });
    // SAFETY: the first block of every member wrote its part of every layer.
    unsafe { gp.finish() }
}

fn blocks(batch: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..batch).step_by(BLOCK).map(move |start| (start, BLOCK.min(batch - start)))
}

/// First and second halves of rows that are twice `width` long.
fn halves(rows: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut first, mut second) = (Vec::with_capacity(rows.len() / 2), Vec::with_capacity(rows.len() / 2));
    for row in rows.chunks_exact(2 * width) {
        first.extend_from_slice(&row[..width]);
        second.extend_from_slice(&row[width..]);
    }
    (first, second)
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

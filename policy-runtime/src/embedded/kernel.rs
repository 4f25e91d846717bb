//! f32 kernels of a blob. One order of operations: every sum starts at the bias and takes one product after another, the
//! product rounded before it is added.
//!
//! Weights are packed in blocks of 8, 4, 2 and 1 outputs, which a core with 32 registers sums side by side; each output's own
//! order is not touched by that.

/// Sizes of the blocks of outputs, greedily from the front.
#[cfg(feature = "std")]
pub(super) const BLOCKS: [usize; 4] = [8, 4, 2, 1];

/// `output[j] = bias[j] + Σ_i input[i] · w(i, j)`, over ascending `i`. All lengths were checked when the blob was opened.
pub(super) fn dense(input: &[f32], mut weights: &[f32], bias: &[f32], output: &mut [f32]) {
    let (eights, bias_rest) = bias.as_chunks::<8>();
    let (outputs, output_rest) = output.as_chunks_mut::<8>();
    for (output, bias) in outputs.iter_mut().zip(eights) {
        *output = block(input, &mut weights, *bias);
    }
    let (fours, bias_rest) = bias_rest.as_chunks::<4>();
    let (outputs, output_rest) = output_rest.as_chunks_mut::<4>();
    for (output, bias) in outputs.iter_mut().zip(fours) {
        *output = block(input, &mut weights, *bias);
    }
    let (twos, bias_rest) = bias_rest.as_chunks::<2>();
    let (outputs, output_rest) = output_rest.as_chunks_mut::<2>();
    for (output, bias) in outputs.iter_mut().zip(twos) {
        *output = block(input, &mut weights, *bias);
    }
    for (output, bias) in output_rest.iter_mut().zip(bias_rest) {
        [*output] = block(input, &mut weights, [*bias]);
    }
}

#[inline(always)]
fn block<const N: usize>(input: &[f32], weights: &mut &[f32], bias: [f32; N]) -> [f32; N] {
    let mut sums = bias;
    let (rows, _) = weights.as_chunks::<N>();
    for (x, row) in input.iter().zip(rows) {
        // Written out: a compiler that saves flash would keep a loop.
        let mut add = |k: usize| {
            if k < N {
                sums[k] += *x * row[k];
            }
        };
        add(0);
        add(1);
        add(2);
        add(3);
        add(4);
        add(5);
        add(6);
        add(7);
    }
    *weights = weights.get(input.len() * N..).unwrap_or(&[]);
    sums
}

/// `1 / (1 + exp(-x))`
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

/// One step of an LSTM: `gates` are `[4 · hidden]` in the order input, forget, cell, output.
pub(super) fn lstm(gates: &[f32], hidden: usize, state: &mut [f32], output: &mut [f32]) {
    let (input, rest) = gates.split_at(hidden);
    let (forget, rest) = rest.split_at(hidden);
    let (candidate, out) = rest.split_at(hidden);
    let (h, c) = state.split_at_mut(hidden);
    let gates = input.iter().zip(forget).zip(candidate).zip(out);
    for (((h, c), y), (((input, forget), candidate), out)) in h.iter_mut().zip(c).zip(output).zip(gates) {
        let kept = sigmoid(*forget) * *c;
        let added = sigmoid(*input) * libm::tanhf(*candidate);
        *c = kept + added;
        *h = sigmoid(*out) * libm::tanhf(*c);
        *y = *h;
    }
}

/// One step of a GRU: `of_input` and `of_state` are `[3 · hidden]` in the order reset, update, new.
pub(super) fn gru(of_input: &[f32], of_state: &[f32], hidden: usize, state: &mut [f32], output: &mut [f32]) {
    let split = |row| {
        let (reset, rest) = <[f32]>::split_at(row, hidden);
        let (update, new) = rest.split_at(hidden);
        reset.iter().zip(update).zip(new)
    };
    let gates = split(of_input).zip(split(of_state));
    for ((h, y), (((r, z), n), ((r_h, z_h), n_h))) in state.iter_mut().zip(output).zip(gates) {
        let reset = sigmoid(*r + *r_h);
        let update = sigmoid(*z + *z_h);
        let new = libm::tanhf(*n + reset * *n_h);
        *h = (1.0 - update) * new + update * *h;
        *y = *h;
    }
}

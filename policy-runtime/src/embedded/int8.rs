//! int8 kernels of a blob: weights with one scale per output, activations quantised anew for every layer and step.
//!
//! Sums are whole numbers, so that no order of operations matters; what surrounds them has one order.

use crate::kernel::peak;

/// Adding it to a number of magnitude up to 2^22 rounds that to the nearest whole number, ties to even, and leaves it in
/// the low bits.
const ROUND: f32 = 12_582_912.0;

/// Largest magnitude of a quantised value.
pub(super) const MOST: f32 = 127.0;

/// Words that hold one row of weights, or half of the quantised input.
pub(super) const fn words(inputs: usize) -> usize {
    inputs.div_ceil(4)
}

/// Quantises the first `inputs` values of `row` where they lie and returns their scale: value = scale · quantised.
///
/// Every four values become two words: the first and third value in the halves of one, the second and fourth in those of
/// the next, so that four weights in one word meet them without shuffling. NaN where a value is not finite.
pub(super) fn quantize(row: &mut [f32], inputs: usize) -> f32 {
    let Some(values) = row.get(..inputs) else { return f32::NAN };
    let peak = peak(values);
    // Below this, 127 / peak would overflow.
    let factor = if peak < 1e-36 { 0.0 } else { MOST / peak };
    let at = |row: &[f32], index: usize| -> u32 {
        let value = if index < inputs { row.get(index).copied().unwrap_or(0.0) } else { 0.0 };
        u32::from(((value * factor + ROUND).to_bits() as i8 as i16) as u16)
    };
    for group in 0..words(inputs) {
        let first = 4 * group;
        let even = at(row, first) | at(row, first + 2) << 16;
        let odd = at(row, first + 1) | at(row, first + 3) << 16;
        if let Some([a, b]) = row.get_mut(2 * group..2 * group + 2) {
            (*a, *b) = (f32::from_bits(even), f32::from_bits(odd));
        }
    }
    if peak == f32::INFINITY { f32::NAN } else { peak / MOST }
}

/// `output[j] = bias[j] + sum_j · (scales[j] · scale)`, where `sum_j` is the whole-number product of row `j` of `weights`
/// with `input`, which [`quantize`] left.
pub(super) fn dense(input: &[f32], scale: f32, weights: &[u32], scales: &[f32], bias: &[f32], output: &mut [f32]) {
    let input: &[u32] = bytemuck::cast_slice(input);
    let (pairs, _) = input.as_chunks::<2>();
    let row_words = pairs.len().max(1);
    let mut rows = weights.chunks_exact(row_words);
    let mut outputs = output.iter_mut().zip(scales.iter().zip(bias));
    let mut finish = |sum: i32| {
        if let Some((output, (row_scale, bias))) = outputs.next() {
            *output = *bias + sum as f32 * (*row_scale * scale);
        }
    };
    while let Some(first) = rows.next() {
        let Some(second) = rows.next() else {
            finish(first.iter().zip(pairs).fold(0, |sum, (word, pair)| dot4(*word, *pair, sum)));
            break;
        };
        let (mut sum, mut sum_second) = (0, 0);
        for ((word, word_second), pair) in first.iter().zip(second).zip(pairs) {
            sum = dot4(*word, *pair, sum);
            sum_second = dot4(*word_second, *pair, sum_second);
        }
        finish(sum);
        finish(sum_second);
    }
}

#[cfg(all(feature = "dsp", target_arch = "arm"))]
use super::smlad::dot4;

/// `sum + Σ_k weight_k · value_k` over the four weights of a word.
#[cfg(not(all(feature = "dsp", target_arch = "arm")))]
#[inline(always)]
fn dot4(word: u32, [even, odd]: [u32; 2], sum: i32) -> i32 {
    let [w0, w1, w2, w3] = word.to_le_bytes().map(|byte| i32::from(byte as i8));
    let low = |pair: u32| i32::from(pair as i16);
    let high = |pair: u32| (pair as i32) >> 16;
    sum.wrapping_add(w0 * low(even))
        .wrapping_add(w2 * high(even))
        .wrapping_add(w1 * low(odd))
        .wrapping_add(w3 * high(odd))
}

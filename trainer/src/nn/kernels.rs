//! The arithmetic under [`super::flex`]: matrix products by the `gemm` crate, and element-wise loops compiled for the
//! widest vectors that the processor has. The loops never contract to fused multiply-add, so every width gives the same bits.
#![allow(unsafe_code)]

use super::ops::AdamStep;

/// A row-major matrix in memory, or its transpose.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    transposed: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a view covers its matrix");
        Self { data, rows, cols, transposed: false }
    }

    pub(super) fn transpose(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    fn strides(&self) -> (isize, isize) {
        if self.transposed { (1, self.rows as isize) } else { (self.cols as isize, 1) }
    }
}

/// A vector under construction: written through products of [`Output::product`], then taken whole.
pub(super) struct Output {
    data: Vec<f32>,
    len: usize,
}

impl Output {
    pub(super) fn new(len: usize) -> Self {
        Self { data: Vec::with_capacity(len), len }
    }

    /// Writes `a·b` row-major at `offset` (which may be uninitialised) and returns that part.
    pub(super) fn product(&mut self, offset: usize, a: View<'_>, b: View<'_>) -> &mut [f32] {
        let size = a.rows * b.cols;
        assert!(offset + size <= self.len && a.cols == b.rows, "product fits its output");
        // SAFETY: the range lies within the capacity and is written by the product before it is read.
        unsafe {
            let target = self.data.as_mut_ptr().add(offset);
            multiply(a, b, target, false);
            std::slice::from_raw_parts_mut(target, size)
        }
    }

    /// A part that was written before.
    ///
    /// # Safety
    /// The range has been covered by [`Output::product`].
    pub(super) unsafe fn part(&self, offset: usize, len: usize) -> &[f32] {
        assert!(offset + len <= self.len, "part of the output");
        // SAFETY: within the capacity, and written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().add(offset), len) }
    }

    /// The vector. Every element must have been written by [`Output::product`].
    ///
    /// # Safety
    /// The caller has covered `0..len` with products.
    pub(super) unsafe fn finish(mut self) -> Vec<f32> {
        // SAFETY: the caller covered the range.
        unsafe { self.data.set_len(self.len) };
        self.data
    }
}

/// `out = a·b`, or `out += a·b`.
pub(super) fn product(a: View<'_>, b: View<'_>, out: &mut [f32], accumulate: bool) {
    assert!(out.len() == a.rows * b.cols && a.cols == b.rows, "product fits its output");
    // SAFETY: the shapes were checked.
    unsafe { multiply(a, b, out.as_mut_ptr(), accumulate) };
}

/// # Safety
/// `out` has room for `a.rows * b.cols` elements (initialised ones if `accumulate`), and `a.cols == b.rows`.
unsafe fn multiply(a: View<'_>, b: View<'_>, out: *mut f32, accumulate: bool) {
    let ((a_rows, a_cols), (b_rows, b_cols)) = (a.strides(), b.strides());
    // SAFETY: pointers and strides describe matrices that the views cover; `out` by the caller's promise.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out,
            1,
            b.cols as isize,
            accumulate,
            a.data.as_ptr(),
            a_cols,
            a_rows,
            b.data.as_ptr(),
            b_cols,
            b_rows,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Compiles a loop for AVX-512, AVX2 and the baseline, chosen at run time.
macro_rules! simd {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) {
            #[inline(always)]
            fn plain($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512($($arg: $type),*) { plain($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) { plain($($arg),*) }
                if std::is_x86_feature_detected!("avx512bw") && std::is_x86_feature_detected!("avx512dq")
                    && std::is_x86_feature_detected!("avx512vl") {
                    // SAFETY: the processor has the features.
                    return unsafe { avx512($($arg),*) };
                }
                if std::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has the feature.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*);
        }
    };
}

simd! {
    /// Adds `bias` to every row.
    fn add_bias(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (value, bias) in row.iter_mut().zip(bias) {
                *value += bias;
            }
        }
    }
}

simd! {
    /// Adds `bias` to every row and clips below zero.
    fn add_bias_relu(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (value, bias) in row.iter_mut().zip(bias) {
                let sum = *value + bias;
                *value = if sum > 0.0 { sum } else { 0.0 };
            }
        }
    }
}

simd! {
    /// Zeroes the entries whose activation is zero.
    fn mask(values: &mut [f32], activations: &[f32]) {
        for (value, activation) in values.iter_mut().zip(activations) {
            *value = if *activation > 0.0 { *value } else { 0.0 };
        }
    }
}

simd! {
    /// Adds all rows to `sums`.
    fn add_rows(rows: &[f32], sums: &mut [f32]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// The vectors that one optimiser step updates in place.
pub(super) struct Moments<'a> {
    pub(super) params: &'a mut [f32],
    pub(super) first: &'a mut [f32],
    pub(super) second: &'a mut [f32],
}

/// Gradients and moments below this count as zero. Their effect on a parameter is beyond f32 (epsilon is 1e-8), while
/// what dead units leave behind would decay into denormal numbers, on which some processors are ten times slower.
const NEGLIGIBLE: f32 = 1e-15;

#[inline(always)]
fn flush(value: f32, least: f32) -> f32 {
    if value.abs() < least { 0.0 } else { value }
}

simd! {
    /// Adam or Optimistic Adam in one pass; see [`AdamStep`].
    fn adam(step: &AdamStep, moments: Moments<'_>, gradient: &[f32]) {
        let (b1, b2) = (step.beta1 as f32, step.beta2 as f32);
        let (c1, c2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
        let (rate, root, epsilon) = (step.rate() as f32, step.root_scale() as f32, step.epsilon as f32);
        let decay = step.weight_decay as f32;
        let (extrapolation, rate) = if step.optimistic { (rate, (2.0 * step.rate()) as f32) } else { (0.0, rate) };
        let Moments { params, first, second } = moments;
        let len = params.len();
        let (first, second, gradient) = (&mut first[..len], &mut second[..len], &gradient[..len]);
        for i in 0..len {
            let g = flush(gradient[i] + decay * params[i], NEGLIGIBLE);
            let start = params[i] + extrapolation * (first[i] / (second[i].sqrt() + epsilon));
            let m = b1 * first[i] + c1 * g;
            let v = b2 * second[i] + c2 * (g * g);
            params[i] = start - rate * (m / (v.sqrt() * root + epsilon));
            first[i] = flush(m, NEGLIGIBLE);
            second[i] = flush(v, NEGLIGIBLE * NEGLIGIBLE);
        }
    }
}

simd! {
    /// `target = (1-rate)·target + rate·params`.
    fn polyak(rate: f32, params: &[f32], target: &mut [f32]) {
        let keep = 1.0 - rate;
        for (target, param) in target.iter_mut().zip(params) {
            *target = keep * *target + rate * param;
        }
    }
}

/// The vector width in use, for reports.
pub fn vector_kind() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
        {
            return "avx512";
        }
        if std::is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "plain"
}

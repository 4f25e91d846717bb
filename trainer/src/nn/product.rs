//! Matrix products: our AVX-512 kernels where the processor has them, the `gemm` crate elsewhere.
//!
//! Every product of a perceptron is `left · right` with a short way of finishing each element. The right factor is
//! packed once and serves all blocks of rows.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::kernels;
use super::memory::Aligned;

/// A row-major matrix in memory, or its transpose.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) transposed: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a view covers its matrix");
        Self { data, rows, cols, transposed: false }
    }

    pub(super) fn transpose(self) -> Self {
        Self { rows: self.cols, cols: self.rows, transposed: !self.transposed, ..self }
    }

    /// Steps in memory from row to row and from column to column.
    pub(super) fn strides(&self) -> (usize, usize) {
        if self.transposed { (1, self.rows) } else { (self.cols, 1) }
    }
}

/// What happens to each element of a product before it is stored.
#[derive(Clone, Copy)]
pub(super) enum Finish<'a> {
    /// Nothing.
    Plain,
    /// The column's bias is added.
    Bias(&'a [f32]),
    /// The column's bias is added, then everything below zero becomes zero.
    BiasRelu(&'a [f32]),
    /// Zero where this matrix of the product's shape is not positive: the backward pass of a ReLU.
    Mask(&'a [f32]),
    /// Multiplied by this matrix of the product's shape: the backward pass of any other activation.
    Scale(&'a [f32]),
}

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// [`avx512`].
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The `gemm` crate, which chooses among its own kernels.
    Library,
}

impl Engine {
    /// The fastest that this processor runs.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx512f") {
            return Self::Avx512;
        }
        Self::Library
    }

    fn room(self, view: View<'_>) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::panels_len(view.rows, view.cols),
            Self::Library => 0,
        }
    }
}

/// A right factor, ready for use.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    engine: Engine,
    view: View<'a>,
    panels: &'a [f32],
}

impl<'a> Right<'a> {
    /// Numbers that packing `view` takes, at most.
    pub(super) fn room(view: View<'_>) -> usize {
        Engine::best().room(view)
    }

    /// Packs `view`, at the beginning of `room`, for products with any number of rows.
    pub(super) fn new(view: View<'a>, room: &'a mut [f32]) -> Self {
        Self::for_engine(if view.cols == 1 { Engine::Library } else { Engine::best() }, view, room)
    }

    /// Packs `view` for one product with the transpose of a matrix of `cols` columns. Where the result is narrow, packing both
    /// factors costs more than it saves (measured: 256×256×12 takes 28 µs against 21, 23×256×256 takes 25 against 17).
    pub(super) fn for_transpose(cols: usize, view: View<'a>, room: &'a mut [f32]) -> Self {
        let narrow = cols.min(view.cols) < 64;
        Self::for_engine(if narrow { Engine::Library } else { Engine::best() }, view, room)
    }

    fn for_engine(engine: Engine, view: View<'a>, room: &'a mut [f32]) -> Self {
        let panels = &mut room[..engine.room(view)];
        match engine {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the engine is chosen only where the processor has the feature.
            Engine::Avx512 => unsafe { avx512::pack(view, panels) },
            Engine::Library => {}
        }
        Self { engine, view, panels }
    }
}

/// `out = finish(left · right)`, or with `accumulate` `out = finish(out + left · right)`; `scratch` is working memory.
///
/// # Safety
/// `out` has room for `left.rows × right.cols` numbers (initialised ones if `accumulate`) that nothing else refers to.
pub(super) unsafe fn product(
    left: View<'_>,
    right: Right<'_>,
    out: *mut f32,
    accumulate: bool,
    finish: Finish<'_>,
    scratch: &mut Aligned,
) {
    let (rows, cols) = (left.rows, right.view.cols);
    assert_eq!(left.cols, right.view.rows, "the factors fit");
    match finish {
        Finish::Plain => {}
        Finish::Bias(bias) | Finish::BiasRelu(bias) => assert_eq!(bias.len(), cols, "one bias per column"),
        Finish::Mask(other) | Finish::Scale(other) => assert_eq!(other.len(), rows * cols, "of the product's shape"),
    }
    match right.engine {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as for packing; shapes were checked, `out` by the caller's promise.
        Engine::Avx512 => unsafe {
            avx512::product(left, right.panels, cols, out, accumulate, finish, scratch);
        },
        Engine::Library => {
            // SAFETY: by the caller's promise.
            let out = unsafe {
                library(left, right.view, out, accumulate);
                std::slice::from_raw_parts_mut(out, rows * cols)
            };
            match finish {
                Finish::Plain => {}
                Finish::Bias(bias) => kernels::add_bias(out, bias),
                Finish::BiasRelu(bias) => kernels::add_bias_relu(out, bias),
                Finish::Mask(other) => kernels::mask(out, other),
                Finish::Scale(other) => kernels::scale(out, other),
            }
        }
    }
}

/// # Safety
/// As for [`product`].
pub(super) unsafe fn library(left: View<'_>, right: View<'_>, out: *mut f32, accumulate: bool) {
    let ((left_rows, left_cols), (right_rows, right_cols)) = (left.strides(), right.strides());
    // SAFETY: pointers and strides describe matrices that the views cover; `out` by the caller's promise.
    unsafe {
        gemm::gemm(
            left.rows,
            right.cols,
            left.cols,
            out,
            1,
            right.cols as isize,
            accumulate,
            left.data.as_ptr(),
            left_cols as isize,
            left_rows as isize,
            right.data.as_ptr(),
            right_cols as isize,
            right_rows as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::rng::Streams;

    fn element(view: View<'_>, row: usize, col: usize) -> f64 {
        let (rows, cols) = view.strides();
        f64::from(view.data[row * rows + col * cols])
    }

    /// Every engine, layout, remainder of tile and panel, and way of finishing, against f64 sums.
    #[test]
    fn products_are_sums_of_products() {
        let mut rng = Streams::new(3).stream("test");
        let mut draw = |len: usize| {
            let mut values = vec![0.0; len];
            rng.fill_normal(&mut values);
            values
        };
        let engines = if Engine::best() == Engine::Library {
            vec![Engine::Library]
        } else {
            vec![Engine::best(), Engine::Library]
        };
        let sizes = [(1, 1, 1), (14, 32, 8), (29, 33, 17), (27, 16, 40), (5, 48, 600), (64, 71, 1100), (3, 6, 256)];
        for (rows, cols, depth) in sizes {
            for layout in 0..4 {
                let (a, b) = (draw(rows * depth), draw(depth * cols));
                let left =
                    if layout & 1 == 0 { View::new(&a, rows, depth) } else { View::new(&a, depth, rows).transpose() };
                let right =
                    if layout & 2 == 0 { View::new(&b, depth, cols) } else { View::new(&b, cols, depth).transpose() };
                let (bias, other, start) = (draw(cols), draw(rows * cols), draw(rows * cols));
                let finishes = [
                    Finish::Plain,
                    Finish::Bias(&bias),
                    Finish::BiasRelu(&bias),
                    Finish::Mask(&other),
                    Finish::Scale(&other),
                ];
                for (engine, finish, accumulate) in
                    engines.iter().flat_map(|e| finishes.iter().flat_map(move |f| [(*e, *f, false), (*e, *f, true)]))
                {
                    let mut room = Aligned::default();
                    let right = Right::for_engine(engine, right, room.get(engine.room(right)));
                    let mut out = if accumulate { start.clone() } else { vec![f32::NAN; rows * cols] };
                    // SAFETY: `out` has the product's size.
                    unsafe { product(left, right, out.as_mut_ptr(), accumulate, finish, &mut Aligned::default()) };
                    for (index, found) in out.iter().enumerate() {
                        let (row, col) = (index / cols, index % cols);
                        let sum: f64 = (0..depth).map(|k| element(left, row, k) * element(right.view, k, col)).sum();
                        let sum = sum + if accumulate { f64::from(start[index]) } else { 0.0 };
                        let expected = match finish {
                            Finish::Plain => sum,
                            Finish::Bias(bias) => sum + f64::from(bias[col]),
                            Finish::BiasRelu(bias) => (sum + f64::from(bias[col])).max(0.0),
                            Finish::Mask(other) => {
                                if other[index] > 0.0 {
                                    sum
                                } else {
                                    0.0
                                }
                            }
                            Finish::Scale(other) => sum * f64::from(other[index]),
                        };
                        let tolerance = 1e-5 * (depth as f64).sqrt() * (1.0 + expected.abs());
                        assert!(
                            (f64::from(*found) - expected).abs() < tolerance,
                            "{engine:?} {rows}x{depth}x{cols} layout {layout} at {row},{col}: {found}, not {expected}"
                        );
                    }
                }
            }
        }
    }
}

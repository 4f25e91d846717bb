//! Registers full of f32, for the inner loop of [`super::dense`].
//!
//! Left to itself the compiler turns the same loop over arrays into code that is 2 to 15 times slower (AVX-512, Rust 1.95).

#![allow(unsafe_code)]

#[cfg(all(feature = "std", target_arch = "aarch64"))]
use core::arch::aarch64 as arch;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
use core::arch::x86_64 as arch;

use super::dense::LANE;

/// Some columns side by side in one register.
pub(super) trait Vector: Copy {
    /// Columns in one.
    const COLUMNS: usize;
    /// Lanes of [`LANE`] columns to sum in one pass, so that the sums stay in registers.
    const LANES: usize;
    /// Sums per column where they may be split: enough for additions not to wait for each other.
    const CHAINS: usize;
    /// One in so many lanes is prefetched; a processor fetches lines in pairs, and narrow registers need the issue slots.
    const PREFETCH_EVERY: usize;
    /// Whether there is an instruction that multiplies and adds, rounding once.
    #[cfg_attr(
        not(feature = "std"),
        allow(dead_code, reason = "for fast arithmetic, which needs std to know the machine")
    )]
    const FUSES: bool;

    /// The same number in each column.
    fn splat(value: f32) -> Self;

    /// Columns from `first` on of a lane.
    fn load(lane: &[f32; LANE], first: usize) -> Self;

    /// Writes the columns from `first` on of a lane.
    fn store(self, lane: &mut [f32; LANE], first: usize);

    /// `self · b + c`, rounded once where `FUSED`.
    fn mul_add<const FUSED: bool>(self, b: Self, c: Self) -> Self;

    /// Sum.
    fn add(self, other: Self) -> Self;

    /// Asks for the weights that come two kilobytes after this lane. Fetching from the second-level cache is what a step
    /// waits for; at this distance it took 4 % less time than at one kilobyte, on an Intel Xeon with AVX-512.
    #[inline(always)]
    fn prefetch(_lane: &[f32; LANE]) {}
}

/// Plain numbers: the compiler puts them into whatever registers there are.
#[derive(Clone, Copy)]
pub(super) struct Plain<const COLUMNS: usize, const LANES: usize>([f32; COLUMNS]);

impl<const COLUMNS: usize, const LANES: usize> Vector for Plain<COLUMNS, LANES> {
    const COLUMNS: usize = COLUMNS;
    const LANES: usize = LANES;
    const CHAINS: usize = 1;
    const PREFETCH_EVERY: usize = 1;
    const FUSES: bool = false;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; COLUMNS])
    }

    #[inline(always)]
    fn load(lane: &[f32; LANE], first: usize) -> Self {
        Self(core::array::from_fn(|column| lane[first + column]))
    }

    #[inline(always)]
    fn store(self, lane: &mut [f32; LANE], first: usize) {
        lane[first..first + COLUMNS].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn mul_add<const FUSED: bool>(self, b: Self, c: Self) -> Self {
        Self(core::array::from_fn(|column| self.0[column] * b.0[column] + c.0[column]))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(core::array::from_fn(|column| self.0[column] + other.0[column]))
    }
}

/// A register of the processor. `fused` is `(a, b, c) -> a · b + c`.
#[cfg(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64")))]
macro_rules! register {
    ($name:ident, $type:ident, $columns:literal, $chains:literal, $splat:ident, $load:ident, $store:ident, $mul:ident, $add:ident,
     |$a:ident, $b:ident, $c:ident| $fused:expr, |$lane:ident| $prefetch:expr) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name(arch::$type);

        // The instructions of each method are there: only the functions of `level` use this type, each of which is compiled for
        // them and called where the processor reports them.
        impl Vector for $name {
            const COLUMNS: usize = $columns;
            const LANES: usize = 4;
            const CHAINS: usize = $chains;
            const PREFETCH_EVERY: usize = 16 / $columns;
            const FUSES: bool = true;

            #[inline(always)]
            fn splat(value: f32) -> Self {
                // SAFETY: no memory is touched; for the instructions see above.
                Self(unsafe { arch::$splat(value) })
            }

            #[inline(always)]
            fn load(lane: &[f32; LANE], first: usize) -> Self {
                let columns = &lane[first..first + $columns];
                // SAFETY: the slice is as long as the register, and the load takes any alignment; instructions as above.
                Self(unsafe { arch::$load(columns.as_ptr()) })
            }

            #[inline(always)]
            fn store(self, lane: &mut [f32; LANE], first: usize) {
                let columns = &mut lane[first..first + $columns];
                // SAFETY: the slice is as long as the register, and the store takes any alignment; instructions as above.
                unsafe { arch::$store(columns.as_mut_ptr(), self.0) }
            }

            #[inline(always)]
            fn mul_add<const FUSED: bool>(self, b: Self, c: Self) -> Self {
                let ($a, $b, $c) = (self.0, b.0, c.0);
                // SAFETY: no memory is touched; instructions as above.
                Self(unsafe { if FUSED { $fused } else { arch::$add(arch::$mul($a, $b), $c) } })
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: no memory is touched; instructions as above.
                Self(unsafe { arch::$add(self.0, other.0) })
            }

            #[inline(always)]
            fn prefetch($lane: &[f32; LANE]) {
                $prefetch
            }
        }
    };
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
#[inline(always)]
fn prefetch(lane: &[f32; LANE]) {
    const AHEAD_BYTES: usize = 2048;
    // SAFETY: a prefetch touches no memory as far as the program can see, whatever the address.
    unsafe { arch::_mm_prefetch::<{ arch::_MM_HINT_T0 }>(lane.as_ptr().cast::<i8>().wrapping_add(AHEAD_BYTES)) }
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
register!(
    Avx2,
    __m256,
    8,
    1,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_mul_ps,
    _mm256_add_ps,
    |a, b, c| arch::_mm256_fmadd_ps(a, b, c),
    |lane| prefetch(lane)
);
#[cfg(all(feature = "std", target_arch = "x86_64"))]
register!(
    Avx512,
    __m512,
    16,
    2,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_mul_ps,
    _mm512_add_ps,
    |a, b, c| arch::_mm512_fmadd_ps(a, b, c),
    |lane| prefetch(lane)
);
#[cfg(all(feature = "std", target_arch = "aarch64"))]
register!(
    Neon,
    float32x4_t,
    4,
    1,
    vdupq_n_f32,
    vld1q_f32,
    vst1q_f32,
    vmulq_f32,
    vaddq_f32,
    |a, b, c| arch::vfmaq_f32(c, a, b),
    |_lane| ()
);

//! What an executor is made of: how it multiplies and adds, in which registers, and its elementwise functions.

use core::marker::PhantomData;

#[cfg(feature = "std")]
use super::elementary;
use super::program::{Binary, Unary};
use super::vector::Vector;

/// One way of computing, fixed when the executor is compiled.
pub(super) trait Arithmetic {
    /// Registers of the inner loop.
    type Vector: Vector;
    /// Whether sums may be split and added in the end.
    const SPLIT: bool;

    /// `a · b + c`.
    fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// Value of `function` at `x`.
    fn unary(function: Unary, x: f32) -> f32;
}

/// Multiplication and addition apart, sums over ascending inputs, functions of `libm`: the same bits on every machine.
pub(super) struct Deterministic<V>(PhantomData<V>);

/// As fast as the machine is: fused multiplication and addition where there are instructions for it, sums in parts.
#[cfg(feature = "std")]
pub(super) struct Fast<V>(PhantomData<V>);

impl<V: Vector> Arithmetic for Deterministic<V> {
    type Vector = V;
    const SPLIT: bool = false;

    #[inline(always)]
    fn mul_add(a: V, b: V, c: V) -> V {
        a.mul_add::<false>(b, c)
    }

    #[inline(always)]
    fn unary(function: Unary, x: f32) -> f32 {
        function.at(x)
    }
}

#[cfg(feature = "std")]
impl<V: Vector> Arithmetic for Fast<V> {
    type Vector = V;
    const SPLIT: bool = true;

    #[inline(always)]
    fn mul_add(a: V, b: V, c: V) -> V {
        if V::FUSES { a.mul_add::<true>(b, c) } else { a.mul_add::<false>(b, c) }
    }

    #[inline(always)]
    fn unary(function: Unary, x: f32) -> f32 {
        match function {
            Unary::Tanh => elementary::tanh(x),
            Unary::Sigmoid => elementary::sigmoid(x),
            Unary::Silu => x * elementary::sigmoid(x),
            Unary::Elu { alpha } => {
                let below = alpha * (elementary::exp(x) - 1.0);
                if x < 0.0 { below } else { x }
            }
            other => other.at(x),
        }
    }
}

impl Binary {
    /// Value at `x` (what is there) and `y` (what comes). NaN of either side survives.
    #[inline(always)]
    pub(crate) fn at(self, x: f32, y: f32) -> f32 {
        match self {
            Binary::Add => x + y,
            Binary::Sub => x - y,
            Binary::SubFrom => y - x,
            Binary::Mul => x * y,
            Binary::Div => x / y,
            Binary::DivInto => y / x,
            Binary::Max => {
                if x < y || y.is_nan() {
                    y
                } else {
                    x
                }
            }
            Binary::Min => {
                if x > y || y.is_nan() {
                    y
                } else {
                    x
                }
            }
            Binary::Pow => libm::powf(x, y),
        }
    }
}

impl Unary {
    /// Value at `x`, with the functions of `libm`. NaN stays NaN.
    #[inline(always)]
    pub fn at(self, x: f32) -> f32 {
        match self {
            // Written so that NaN passes through: f32::max would turn it into zero.
            Unary::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Unary::LeakyRelu { slope } => {
                if x < 0.0 {
                    slope * x
                } else {
                    x
                }
            }
            Unary::Tanh => libm::tanhf(x),
            Unary::Sigmoid => 1.0 / (1.0 + libm::expf(-x)),
            Unary::Silu => x / (1.0 + libm::expf(-x)),
            Unary::Elu { alpha } => {
                if x < 0.0 {
                    alpha * libm::expm1f(x)
                } else {
                    x
                }
            }
            Unary::Softplus => {
                let above = if x < 0.0 { 0.0 } else { x };
                above + libm::log1pf(libm::expf(-libm::fabsf(x)))
            }
            Unary::Exp => libm::expf(x),
            Unary::Ln => libm::logf(x),
            Unary::Sqrt => libm::sqrtf(x),
            Unary::Erf => libm::erff(x),
            Unary::Sin => libm::sinf(x),
            Unary::Cos => libm::cosf(x),
            Unary::Neg => -x,
            Unary::Abs => libm::fabsf(x),
            Unary::Reciprocal => 1.0 / x,
        }
    }
}

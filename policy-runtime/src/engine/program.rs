//! A network as a straight list of operations on one row of memory: what the native engine runs.
//!
//! There is no branch, loop or allocation in a program, so a run does the same work whatever the values are. All positions are
//! checked once, by [`Program::new`]; the executor itself has no `unsafe` and would rather skip an operation than panic.

use serde::{Deserialize, Serialize};

use super::arithmetic::Arithmetic;
use super::dense::{LANE, dense, padded};
use crate::error::{Error, Result};
use crate::kernel;

/// Most numbers in a program's memory.
pub const MAX_MEMORY: usize = 1 << 24;

/// A part of the memory, or of the constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First position.
    pub start: u32,
    /// Number of values.
    pub len: u32,
}

impl Span {
    fn range(self) -> core::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    fn disjoint(self, other: Span) -> bool {
        self.range().end <= other.range().start || other.range().end <= self.range().start
    }
}

/// An elementwise function of one value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "named as in ONNX")]
pub enum Unary {
    Relu,
    /// `x` where positive, `slope · x` elsewhere.
    LeakyRelu {
        slope: f32,
    },
    Tanh,
    Sigmoid,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `x` where positive, `alpha · (exp(x) - 1)` elsewhere.
    Elu {
        alpha: f32,
    },
    Softplus,
    Exp,
    Ln,
    Sqrt,
    Erf,
    Sin,
    Cos,
    Neg,
    Abs,
    Reciprocal,
}

/// An elementwise function of what is there (`x`) and what comes (`y`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "named as in ONNX")]
pub enum Binary {
    Add,
    /// `x - y`
    Sub,
    /// `y - x`
    SubFrom,
    Mul,
    /// `x / y`
    Div,
    /// `y / x`
    DivInto,
    Max,
    Min,
    /// `x^y`
    Pow,
}

/// How a row becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "named as in ONNX")]
pub enum Reduce {
    Sum,
    Mean,
    Max,
    Min,
}

/// Where the second value of a [`Binary`] comes from: one number for all, or as many as there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    /// From the memory, outside of what is changed.
    Memory(Span),
    /// From the constants.
    Constant(Span),
}

/// One operation. Positions are in the memory where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Op {
    /// `output = input · weights + bias`, packed as [`super::dense`] says; `output` starts at a multiple of [`LANE`] and has
    /// room for its length rounded up to one.
    Dense {
        /// What is multiplied.
        input: Span,
        /// Where it goes.
        output: Span,
        /// First packed weight among the constants.
        weights: u32,
        /// First of the padded bias among the constants.
        bias: u32,
    },
    /// `at = function(at)`
    Unary {
        /// Which.
        function: Unary,
        /// What changes.
        at: Span,
    },
    /// `at = function(at, with)`
    Binary {
        /// Which.
        function: Binary,
        /// What changes.
        at: Span,
        /// What comes.
        with: Operand,
    },
    /// `to = from`, repeated where `from` is one number.
    Copy {
        /// Source.
        from: Operand,
        /// Target.
        to: Span,
    },
    /// `at = (at - mean(at)) / sqrt(variance(at) + epsilon)`
    Normalize {
        /// What changes.
        at: Span,
        /// Added to the variance.
        epsilon: f32,
    },
    /// `to = function(from)`, one number.
    Reduce {
        /// Which.
        function: Reduce,
        /// Source.
        from: Span,
        /// Target.
        to: u32,
    },
    /// The largest magnitude in `at` counts for the run's activation scale.
    Peak {
        /// What is looked at.
        at: Span,
    },
}

/// Operations with their constants, checked.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    ops: &'a [Op],
    constants: &'a [f32],
    memory: usize,
}

impl<'a> Program<'a> {
    /// A program on `memory` values, whose every position was found to lie where it may.
    ///
    /// # Errors
    /// [`Error::Operation`] with the number of the first operation that reaches outside.
    pub fn new(ops: &'a [Op], constants: &'a [f32], memory: usize) -> Result<Self> {
        let program = Self { ops, constants, memory };
        if memory > MAX_MEMORY {
            return Err(Error::Width { what: "the program's memory", expected: MAX_MEMORY, found: memory });
        }
        match ops.iter().position(|op| !program.holds(op)) {
            None => Ok(program),
            Some(index) => Err(Error::Operation { index }),
        }
    }

    /// What was checked before, by [`Self::new`] with the same parts.
    #[cfg(feature = "std")]
    pub(super) fn checked(ops: &'a [Op], constants: &'a [f32], memory: usize) -> Self {
        Self { ops, constants, memory }
    }

    /// Length of the memory.
    pub fn memory(&self) -> usize {
        self.memory
    }

    fn holds(&self, op: &Op) -> bool {
        let inside = |span: Span| span.len > 0 && span.range().end <= self.memory;
        let constant =
            |start: u32, len: usize| len.checked_add(start as usize).is_some_and(|end| end <= self.constants.len());
        let operand = |with: Operand, at: Span| match with {
            Operand::Memory(span) => inside(span) && span.disjoint(at) && (span.len == 1 || span.len == at.len),
            Operand::Constant(span) => {
                span.len > 0 && constant(span.start, span.len as usize) && (span.len == 1 || span.len == at.len)
            }
        };
        match *op {
            Op::Dense { input, output, weights, bias } => {
                let room = Span { start: output.start, len: padded(output.len as usize) as u32 };
                let count = (input.len as usize).checked_mul(padded(output.len as usize));
                inside(input)
                    && (output.len as usize) <= MAX_MEMORY
                    && inside(room)
                    && room.disjoint(input)
                    && (output.start as usize).is_multiple_of(LANE)
                    && count.is_some_and(|count| constant(weights, count))
                    && constant(bias, padded(output.len as usize))
            }
            Op::Unary { at, .. } | Op::Normalize { at, .. } | Op::Peak { at } => inside(at),
            Op::Binary { at, with, .. } => inside(at) && operand(with, at),
            Op::Copy { from, to } => inside(to) && operand(from, to),
            Op::Reduce { from, to, .. } => {
                let to = Span { start: to, len: 1 };
                inside(from) && inside(to) && from.disjoint(to)
            }
        }
    }

    /// Runs all operations in order; the largest magnitude that a [`Op::Peak`] saw, infinite for NaN.
    #[inline(always)]
    pub(super) fn run_with<A: Arithmetic>(&self, memory: &mut [f32]) -> f32 {
        let mut peak = 0;
        for op in self.ops {
            peak = self.step::<A>(*op, memory, peak).unwrap_or(peak);
        }
        if peak > f32::INFINITY.to_bits() { f32::INFINITY } else { f32::from_bits(peak) }
    }

    #[inline(always)]
    fn step<A: Arithmetic>(&self, op: Op, memory: &mut [f32], peak: u32) -> Option<u32> {
        match op {
            Op::Dense { input, output, weights, bias } => {
                let room = Span { start: output.start, len: padded(output.len as usize) as u32 };
                let (input, output) = two(memory, input, room)?;
                let weights = self.constants.get(weights as usize..)?.get(..input.len() * output.len())?;
                let bias = self.constants.get(bias as usize..)?.get(..output.len())?;
                dense::<A>(input, weights, bias, output);
            }
            Op::Unary { function, at } => unary::<A>(function, memory.get_mut(at.range())?),
            Op::Binary { function, at, with: Operand::Constant(with) } => {
                binary(function, memory.get_mut(at.range())?, self.constants.get(with.range())?);
            }
            Op::Binary { function, at, with: Operand::Memory(with) } => {
                let (with, at) = two(memory, with, at)?;
                binary(function, at, with);
            }
            Op::Copy { from: Operand::Constant(from), to } => {
                copy(self.constants.get(from.range())?, memory.get_mut(to.range())?);
            }
            Op::Copy { from: Operand::Memory(from), to } => {
                let (from, to) = two(memory, from, to)?;
                copy(from, to);
            }
            Op::Normalize { at, epsilon } => normalize(memory.get_mut(at.range())?, epsilon),
            Op::Reduce { function, from, to } => {
                let row = memory.get(from.range())?;
                let reduced = reduce(function, row);
                *memory.get_mut(to as usize)? = reduced;
            }
            Op::Peak { at } => return Some(peak.max(kernel::peak_bits(memory.get(at.range())?))),
        }
        Some(peak)
    }
}

/// One span to read and another to write.
#[inline(always)]
fn two(memory: &mut [f32], read: Span, write: Span) -> Option<(&[f32], &mut [f32])> {
    let (read, write) = (read.range(), write.range());
    if read.end <= write.start {
        let (low, high) = memory.split_at_mut_checked(write.start)?;
        Some((low.get(read)?, high.get_mut(..write.len())?))
    } else {
        let (low, high) = memory.split_at_mut_checked(read.start)?;
        Some((high.get(..read.len())?, low.get_mut(write)?))
    }
}

#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    match from {
        [one] => to.fill(*one),
        _ if from.len() == to.len() => to.copy_from_slice(from),
        _ => {}
    }
}

/// Each function gets a loop of its own, so that it becomes vector code.
#[inline(always)]
fn unary<A: Arithmetic>(function: Unary, row: &mut [f32]) {
    macro_rules! loops {
        ($($pattern:pat => $function:expr),* $(,)?) => {
            match function {
                $($pattern => row.iter_mut().for_each(|x| *x = A::unary($function, *x)),)*
                other => row.iter_mut().for_each(|x| *x = A::unary(other, *x)),
            }
        };
    }
    loops! {
        Unary::Relu => Unary::Relu,
        Unary::LeakyRelu { slope } => Unary::LeakyRelu { slope },
        Unary::Tanh => Unary::Tanh,
        Unary::Sigmoid => Unary::Sigmoid,
        Unary::Silu => Unary::Silu,
        Unary::Elu { alpha } => Unary::Elu { alpha },
    }
}

#[inline(always)]
fn binary(function: Binary, row: &mut [f32], with: &[f32]) {
    macro_rules! loops {
        ($($name:ident),*) => {
            match (function, with) {
                $((Binary::$name, [one]) => row.iter_mut().for_each(|x| *x = Binary::$name.at(*x, *one)),
                (Binary::$name, _) => row.iter_mut().zip(with).for_each(|(x, y)| *x = Binary::$name.at(*x, *y)),)*
            }
        };
    }
    loops!(Add, Sub, SubFrom, Mul, Div, DivInto, Max, Min, Pow);
}

#[inline(always)]
fn normalize(row: &mut [f32], epsilon: f32) {
    let count = row.len() as f32;
    let mean = row.iter().sum::<f32>() / count;
    row.iter_mut().for_each(|x| *x -= mean);
    let variance = row.iter().map(|x| *x * *x).sum::<f32>() / count;
    let deviation = libm::sqrtf(variance + epsilon);
    row.iter_mut().for_each(|x| *x /= deviation);
}

#[inline(always)]
fn reduce(function: Reduce, row: &[f32]) -> f32 {
    let first = row.first().copied().unwrap_or(f32::NAN);
    let rest = row.iter().skip(1);
    match function {
        Reduce::Sum => rest.fold(first, |sum, x| sum + x),
        Reduce::Mean => rest.fold(first, |sum, x| sum + x) / row.len() as f32,
        Reduce::Max => rest.fold(first, |most, x| Binary::Max.at(most, *x)),
        Reduce::Min => rest.fold(first, |least, x| Binary::Min.at(least, *x)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_that_reach_outside_are_refused_by_number() {
        let span = |start, len| Span { start, len };
        let good = Op::Dense { input: span(0, 2), output: span(16, 3), weights: 0, bias: 32 };
        let constants = [0.0; 48];
        assert!(Program::new(&[good], &constants, 32).is_ok());
        let bad = [
            Op::Dense { input: span(0, 2), output: span(16, 17), weights: 0, bias: 0 },
            Op::Dense { input: span(0, 2), output: span(8, 3), weights: 0, bias: 32 },
            Op::Dense { input: span(15, 2), output: span(16, 3), weights: 0, bias: 32 },
            Op::Dense { input: span(0, 3), output: span(16, 3), weights: 8, bias: 32 },
            Op::Dense { input: span(0, 2), output: span(16, 3), weights: 0, bias: 33 },
            Op::Dense { input: span(0, u32::MAX), output: span(16, u32::MAX), weights: 0, bias: 0 },
            Op::Unary { function: Unary::Relu, at: span(31, 2) },
            Op::Unary { function: Unary::Relu, at: span(u32::MAX, u32::MAX) },
            Op::Peak { at: span(0, 0) },
            Op::Binary { function: Binary::Add, at: span(0, 4), with: Operand::Memory(span(2, 4)) },
            Op::Binary { function: Binary::Add, at: span(0, 4), with: Operand::Memory(span(4, 3)) },
            Op::Binary { function: Binary::Add, at: span(0, 4), with: Operand::Constant(span(46, 4)) },
            Op::Copy { from: Operand::Memory(span(0, 2)), to: span(1, 2) },
            Op::Reduce { function: Reduce::Sum, from: span(0, 4), to: 3 },
            Op::Reduce { function: Reduce::Sum, from: span(0, 4), to: 32 },
        ];
        for op in bad {
            let error = Program::new(&[good, op], &constants, 32).unwrap_err();
            assert!(matches!(error, Error::Operation { index: 1 }), "{op:?}: {error}");
        }
        assert!(Program::new(&[], &[], MAX_MEMORY + 1).is_err());
    }
}

//! Putting programs together: slots, packed weights, operations in order.

use super::dense::{LANE, pack, padded};
use super::program::{Binary, MAX_MEMORY, Op, Operand, Program, Reduce, Span, Unary};
use crate::error::{Error, Result};
use crate::spec::{Activation, Affine, Clamp, Mlp, Normalizer};

/// f32 that start at a cache line.
#[derive(Debug)]
struct Aligned {
    values: Vec<f32>,
    skip: usize,
    len: usize,
}

impl Aligned {
    fn new(content: &[f32]) -> Self {
        let mut values = vec![0.0; content.len() + LANE];
        // Where the allocator gave less than f32's alignment, which it may not, this is off by less than a line: only slower.
        let skip = values.as_ptr().align_offset(LANE * size_of::<f32>()).min(LANE);
        values[skip..skip + content.len()].copy_from_slice(content);
        Self { values, skip, len: content.len() }
    }

    fn as_slice(&self) -> &[f32] {
        self.values.get(self.skip..self.skip + self.len).unwrap_or(&[])
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        Self::new(self.as_slice())
    }
}

/// A checked program that owns its parts.
#[derive(Debug, Clone)]
pub struct Tape {
    ops: Vec<Op>,
    constants: Aligned,
    memory: usize,
}

impl Tape {
    /// The program.
    pub fn program(&self) -> Program<'_> {
        Program::checked(&self.ops, self.constants.as_slice(), self.memory)
    }

    /// The operations, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Packed weights and rows.
    pub fn constants(&self) -> &[f32] {
        self.constants.as_slice()
    }

    /// Products of one run.
    pub fn multiplications(&self) -> usize {
        let products = |op: &Op| match op {
            Op::Dense { input, output, .. } => input.len as usize * output.len as usize,
            _ => 0,
        };
        self.ops.iter().map(products).sum()
    }
}

/// Collects a program.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    ops: Vec<Op>,
    constants: Vec<f32>,
    memory: usize,
}

#[cfg_attr(not(feature = "onnx"), allow(dead_code, reason = "operations that only foreign models need"))]
impl Builder {
    /// Room for `len` values, at a multiple of [`LANE`]. What exceeds [`MAX_MEMORY`] is found in the end.
    pub(crate) fn slot(&mut self, len: usize) -> Span {
        let start = self.memory;
        self.memory = self.memory.saturating_add(padded(len.min(MAX_MEMORY + 1))).min(2 * MAX_MEMORY);
        Span { start: start as u32, len: len.min(MAX_MEMORY + 1) as u32 }
    }

    /// A part of `of`.
    pub(crate) fn part(of: Span, start: usize, len: usize) -> Span {
        Span { start: of.start + start as u32, len: len as u32 }
    }

    fn row(&mut self, values: &[f32]) -> Operand {
        let start = self.constants.len() as u32;
        self.constants.extend_from_slice(values);
        Operand::Constant(Span { start, len: values.len() as u32 })
    }

    /// `input · weights + bias`, weights `[inputs, outputs]` row-major; its magnitudes count.
    pub(crate) fn dense(&mut self, input: Span, weights: &[f32], bias: &[f32]) -> Span {
        let outputs = bias.len();
        let output = self.slot(outputs);
        self.constants.resize(padded(self.constants.len()), 0.0);
        let first_weight = self.constants.len() as u32;
        pack(weights, input.len as usize, outputs, &mut self.constants);
        let first_bias = self.constants.len() as u32;
        self.constants.extend_from_slice(bias);
        self.constants.resize(padded(self.constants.len()), 0.0);
        self.ops.push(Op::Dense { input, output, weights: first_weight, bias: first_bias });
        self.peak(output);
        output
    }

    /// `row` added to what the last operation, a product without a bias, writes to `at`: as the product's bias, with which its sums
    /// begin. Whether it was that operation.
    pub(crate) fn give_bias(&mut self, at: Span, row: &[f32]) -> bool {
        let [.., Op::Dense { output, bias, .. }, Op::Peak { .. }] = self.ops.as_slice() else { return false };
        let first = *bias as usize;
        let place = self.constants.get_mut(first..first + row.len());
        match place.filter(|place| *output == at && row.len() == at.len as usize && place.iter().all(|it| *it == 0.0)) {
            Some(place) => {
                place.copy_from_slice(row);
                true
            }
            None => false,
        }
    }

    pub(crate) fn unary(&mut self, function: Unary, at: Span) {
        self.ops.push(Op::Unary { function, at });
    }

    pub(crate) fn binary(&mut self, function: Binary, at: Span, with: Span) {
        self.ops.push(Op::Binary { function, at, with: Operand::Memory(with) });
    }

    /// With a constant row, or one constant for all.
    pub(crate) fn constant(&mut self, function: Binary, at: Span, with: &[f32]) {
        let with = self.row(with);
        self.ops.push(Op::Binary { function, at, with });
    }

    pub(crate) fn copy(&mut self, from: Span, to: Span) {
        self.ops.push(Op::Copy { from: Operand::Memory(from), to });
    }

    pub(crate) fn copy_constant(&mut self, from: &[f32], to: Span) {
        let from = self.row(from);
        self.ops.push(Op::Copy { from, to });
    }

    pub(crate) fn normalize(&mut self, at: Span, epsilon: f32) {
        self.ops.push(Op::Normalize { at, epsilon });
    }

    pub(crate) fn reduce(&mut self, function: Reduce, from: Span) -> Span {
        let to = self.slot(1);
        self.ops.push(Op::Reduce { function, from, to: to.start });
        to
    }

    pub(crate) fn peak(&mut self, at: Span) {
        self.ops.push(Op::Peak { at });
    }

    pub(crate) fn activation(&mut self, activation: Activation, at: Span) {
        match activation {
            Activation::Identity => {}
            Activation::Relu => self.unary(Unary::Relu, at),
            Activation::Tanh => self.unary(Unary::Tanh, at),
            Activation::Sigmoid => self.unary(Unary::Sigmoid, at),
            Activation::Silu => self.unary(Unary::Silu, at),
            Activation::Elu => self.unary(Unary::Elu { alpha: 1.0 }, at),
        }
    }

    /// All layers; where the last one's output is.
    pub(super) fn mlp(&mut self, mut at: Span, mlp: &Mlp) -> Span {
        for layer in &mlp.layers {
            at = self.dense(at, &layer.weights, &layer.bias);
            self.activation(layer.activation, at);
        }
        at
    }

    pub(super) fn normalizer(&mut self, normalizer: Option<&Normalizer>, at: Span) {
        if let Some(Normalizer { mean, std }) = normalizer {
            self.constant(Binary::Sub, at, mean);
            self.constant(Binary::Div, at, std);
        }
    }

    pub(super) fn affine(&mut self, Affine { scale, offset }: &Affine, at: Span) {
        if scale.iter().any(|scale| *scale != 1.0) {
            self.constant(Binary::Mul, at, scale);
        }
        if offset.iter().any(|offset| *offset != 0.0) {
            self.constant(Binary::Add, at, offset);
        }
    }

    pub(super) fn clamp(&mut self, Clamp { low, high }: &Clamp, at: Span) {
        self.constant(Binary::Max, at, low);
        self.constant(Binary::Min, at, high);
    }

    /// The finished program, checked.
    pub(crate) fn finish(self) -> Result<Tape> {
        if u32::try_from(self.constants.len()).is_err() {
            return Err(Error::malformed("the native program", "less than 4 billion weights", self.constants.len()));
        }
        Program::new(&self.ops, &self.constants, self.memory)?;
        Ok(Tape { constants: Aligned::new(&self.constants), ops: self.ops, memory: self.memory })
    }
}

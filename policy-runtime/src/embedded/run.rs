//! One action per observation from an opened blob.

use super::{Blob, BlobError, Layer, Matrix, Weights, int8, kernel};
use crate::action;
use crate::error::{Error, Result};
use crate::normalize;

/// The memory of an execution, borrowed from whoever has it.
#[derive(Debug)]
pub struct Scratch<'a> {
    /// At least [`Blob::width`] numbers.
    pub front: &'a mut [f32],
    /// At least [`Blob::width`] numbers.
    pub back: &'a mut [f32],
    /// At least [`Blob::state_width`] numbers, kept from step to step.
    pub state: &'a mut [f32],
}

/// Forgets what was carried from step to step.
pub fn reset(scratch: &mut Scratch<'_>) {
    scratch.state.fill(0.0);
}

/// Writes the action, `[action]` in environment units, for a raw observation `[observation]`. The order of its operations
/// is that of docs/FORMAT.md, on every machine.
///
/// # Errors
/// [`Error::Width`] where a row or the scratch is too short; [`Error::NotFinite`] where state would not be finite: it is then set to
/// zero, since it could not recover.
pub fn run(blob: &Blob<'_>, scratch: &mut Scratch<'_>, observation: &[f32], action: &mut [f32]) -> Result<()> {
    check_width("action", blob.action_width(), action.len())?;
    action.copy_from_slice(evaluate(blob, scratch, observation)?);
    Ok(())
}

/// The action, in one of the scratch's rows.
fn evaluate<'s>(blob: &Blob<'_>, scratch: &'s mut Scratch<'_>, observation: &[f32]) -> Result<&'s [f32]> {
    check_width("observation", blob.observation_width(), observation.len())?;
    let (width, state_width) = (blob.width(), blob.state_width());
    for (what, expected, found) in [
        ("scratch", width, scratch.front.len().min(scratch.back.len())),
        ("recurrent state", state_width, scratch.state.len()),
    ] {
        if found < expected {
            return Err(Error::Width { what, expected, found });
        }
    }
    let (mut front, mut back) = (&mut *scratch.front, &mut *scratch.back);
    let mut state = &mut *scratch.state;
    match blob.normalizer() {
        Some([mean, std]) => normalize::standardize(observation, mean, std, front),
        None => front.iter_mut().zip(observation).for_each(|(value, raw)| *value = *raw),
    }
    for view in blob.layers() {
        let (inputs, outputs) = (view.layer.inputs(), view.layer.outputs());
        match view.layer {
            Layer::Dense { activation, .. } => {
                multiply(&view.matrix, front, back);
                activation.apply(&mut back[..outputs]);
                core::mem::swap(&mut front, &mut back);
            }
            Layer::Lstm { .. } => {
                let (own, rest) = state.split_at_mut(2 * outputs);
                front[inputs..inputs + outputs].copy_from_slice(&own[..outputs]);
                multiply(&view.matrix, front, back);
                kernel::lstm(&back[..4 * outputs], outputs, own, front);
                state = rest;
            }
            Layer::Gru { .. } => {
                let (own, rest) = state.split_at_mut(outputs);
                multiply(&view.matrix, front, back);
                front[..outputs].copy_from_slice(own);
                if let Some(of_state) = &view.of_state {
                    multiply(of_state, front, &mut back[3 * outputs..]);
                }
                let (of_input, of_state) = back[..6 * outputs].split_at(3 * outputs);
                kernel::gru(of_input, of_state, outputs, own, front);
                state = rest;
            }
        }
    }
    let state = &mut scratch.state[..state_width];
    if let Some(index) = state.iter().position(|value| !value.is_finite()) {
        state.fill(0.0);
        return Err(Error::NotFinite { what: "recurrent state", index });
    }
    let action = &mut front[..blob.action_width()];
    blob.header().squash.apply(action);
    let ([scale, offset], [low, high]) = (blob.affine(), blob.clamp());
    action::env_from_unit(action, scale, offset);
    action::clamp_row(action, low, high);
    Ok(action)
}

/// `output = input · weights + bias`; an int8 matrix leaves its quantised input in `input`.
fn multiply(matrix: &Matrix<'_>, input: &mut [f32], output: &mut [f32]) {
    let Matrix { inputs, outputs, weights, bias } = *matrix;
    let output = &mut output[..outputs];
    match weights {
        Weights::F32(weights) => kernel::dense(&input[..inputs], weights, bias, output),
        Weights::Int8 { words, scales } => {
            let scale = int8::quantize(input, inputs);
            int8::dense(&input[..2 * int8::words(inputs)], scale, words, scales, bias, output);
        }
    }
}

fn check_width(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Width { what, expected, found }) }
}

/// A policy and its memory.
#[derive(Debug)]
pub struct Executor<'a> {
    blob: Blob<'a>,
    scratch: Scratch<'a>,
}

impl<'a> Executor<'a> {
    /// Takes a blob and memory that it fits, and replays its golden vectors: they must give the recorded bits.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] or [`BlobError::Golden`].
    pub fn new(blob: Blob<'a>, mut scratch: Scratch<'a>) -> Result<Self, BlobError> {
        replay(&blob, &mut scratch)?;
        Ok(Self { blob, scratch })
    }

    /// Replays the golden vectors and forgets what they left in the state.
    ///
    /// # Errors
    /// [`BlobError::Golden`] where one gives other bits than recorded.
    pub fn replay(&mut self) -> Result<(), BlobError> {
        replay(&self.blob, &mut self.scratch)
    }

    /// The blob.
    pub fn blob(&self) -> &Blob<'a> {
        &self.blob
    }

    /// Forgets what was carried from step to step.
    pub fn reset(&mut self) {
        reset(&mut self.scratch);
    }

    /// See [`run`].
    ///
    /// # Errors
    /// As there.
    pub fn run(&mut self, observation: &[f32], action: &mut [f32]) -> Result<()> {
        run(&self.blob, &mut self.scratch, observation, action)
    }
}

/// Replays a blob's golden vectors in order from a fresh state, and compares bits.
pub(super) fn replay(blob: &Blob<'_>, scratch: &mut Scratch<'_>) -> Result<(), BlobError> {
    reset(scratch);
    for (observation, wanted) in blob.golden() {
        let found = evaluate(blob, scratch, observation).map_err(|error| match error {
            Error::NotFinite { .. } => BlobError::Golden,
            _ => BlobError::TooLarge,
        })?;
        if found.iter().zip(wanted).any(|(found, wanted)| found.to_bits() != wanted.to_bits()) {
            return Err(BlobError::Golden);
        }
    }
    reset(scratch);
    Ok(())
}

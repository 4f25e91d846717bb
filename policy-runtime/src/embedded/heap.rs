//! Runs a blob on a machine with a heap: what the host checks, prices and compares a policy with before a microcontroller does.

use super::run::replay;
use super::{ALIGNMENT, Blob, BlobError, Scratch, reset, run};
use crate::error::Result;

/// A blob in memory of its own, aligned.
#[derive(Debug)]
pub struct BlobFile {
    /// Long enough that the content fits from its first multiple of 16 bytes on.
    blocks: Vec<[u32; 4]>,
    bytes: usize,
}

impl Clone for BlobFile {
    /// The copy lies elsewhere, so that its content may start elsewhere in its blocks.
    fn clone(&self) -> Self {
        Self::new(self.bytes())
    }
}

impl BlobFile {
    /// Takes the content of a file. Says nothing of what is in it.
    pub fn new(content: &[u8]) -> Self {
        let mut blocks = vec![[0; 4]; content.len().div_ceil(ALIGNMENT) + 1];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut blocks);
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        bytes[start..start + content.len()].copy_from_slice(content);
        Self { blocks, bytes: content.len() }
    }

    /// The content, aligned.
    pub fn bytes(&self) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.blocks);
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        &bytes[start..start + self.bytes]
    }

    /// Opens it and replays its golden vectors.
    ///
    /// # Errors
    /// The first defect.
    pub fn open(&self) -> Result<HeapExecutor<'_>, BlobError> {
        let mut executor = HeapExecutor::unchecked(Blob::open(self.bytes())?);
        replay(&executor.blob, &mut executor.memory.scratch())?;
        Ok(executor)
    }
}

#[derive(Debug, Clone)]
struct Memory {
    front: Vec<f32>,
    back: Vec<f32>,
    state: Vec<f32>,
}

impl Memory {
    fn scratch(&mut self) -> Scratch<'_> {
        Scratch { front: &mut self.front, back: &mut self.back, state: &mut self.state }
    }
}

/// [`Executor`](super::Executor) for machines with a heap. Allocates when it is made, not when it runs.
#[derive(Debug, Clone)]
pub struct HeapExecutor<'a> {
    blob: Blob<'a>,
    memory: Memory,
}

impl<'a> HeapExecutor<'a> {
    /// Ready to run, its golden vectors not yet replayed.
    pub(super) fn unchecked(blob: Blob<'a>) -> Self {
        let row = vec![0.0; blob.width()];
        let memory = Memory { front: row.clone(), back: row, state: vec![0.0; blob.state_width()] };
        Self { blob, memory }
    }

    /// The blob.
    pub fn blob(&self) -> &Blob<'a> {
        &self.blob
    }

    /// Forgets what was carried from step to step.
    pub fn reset(&mut self) {
        reset(&mut self.memory.scratch());
    }

    /// See [`run`].
    ///
    /// # Errors
    /// As there.
    pub fn run(&mut self, observation: &[f32], action: &mut [f32]) -> Result<()> {
        run(&self.blob, &mut self.memory.scratch(), observation, action)
    }
}

//! Memory that the kernels write before they read it.
#![allow(unsafe_code)]

use std::ops::Range;

/// Memory aligned to cache lines that grows with use and is kept.
#[derive(Default)]
pub(super) struct Aligned(Vec<Line>);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Aligned {
    /// The first `len` numbers, whatever they hold.
    pub(super) fn get(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; 16]));
        }
        // SAFETY: a line is sixteen numbers without padding, and there are enough of them.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}

/// A vector under construction: every part is written once through its pointer, then the whole is taken.
pub(super) struct Buffer {
    data: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// Room for `len` numbers.
    pub(super) fn new(len: usize) -> Self {
        Self { data: Vec::with_capacity(len), len }
    }

    /// Room for what the rows of a batch write; zeros where there are no rows.
    pub(super) fn for_batch(len: usize, batch: usize) -> Self {
        Self { data: if batch == 0 { vec![0.0; len] } else { Vec::with_capacity(len) }, len }
    }

    /// Where `size` numbers from `offset` lie, written or not.
    pub(super) fn part(&mut self, offset: usize, size: usize) -> *mut f32 {
        assert!(offset + size <= self.len, "part of the buffer");
        // SAFETY: within the capacity.
        unsafe { self.data.as_mut_ptr().add(offset) }
    }

    /// A part that sums are added to: zeros, or with `again` what it holds since a call without.
    pub(super) fn sums(&mut self, range: Range<usize>, again: bool) -> &mut [f32] {
        let part = self.part(range.start, range.len());
        // SAFETY: `part` checked the range; it is written here, or was by the earlier call.
        unsafe {
            if !again {
                part.write_bytes(0, range.len());
            }
            std::slice::from_raw_parts_mut(part, range.len())
        }
    }

    /// A part that was written before.
    ///
    /// # Safety
    /// It was.
    pub(super) unsafe fn written(&self, offset: usize, size: usize) -> &[f32] {
        assert!(offset + size <= self.len, "part of the buffer");
        // SAFETY: within the capacity, and written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().add(offset), size) }
    }

    /// The vector.
    ///
    /// # Safety
    /// Every part has been written.
    pub(super) unsafe fn finish(mut self) -> Vec<f32> {
        // SAFETY: within the capacity, and written by the caller's promise.
        unsafe { self.data.set_len(self.len) };
        self.data
    }
}

//! A policy in one piece of read-only memory, for machines without an allocator: the blob `policy.hpb`.
//!
//! * [`Blob::open`] reads it in place, without copying a weight; docs/FORMAT.md describes it byte by byte.
//! * [`Executor`] works in a few rows that it is lent, and gives one action per observation. The order
//!   of its operations is fixed (docs/FORMAT.md, "Arithmetic"): the same blob gives the same bits on every machine.
//! * [`write`](mod@write) makes a blob from a policy's layers, in f32 or in int8.
//! * [`heap`] holds a blob and runs it on a machine with a heap.
//!
//! Allocation: none outside of `write` and `heap`. Panics: never; what does not fit is a [`BlobError`] with a code.

mod crc;
mod decode;
mod error;
mod header;
mod int8;
mod kernel;
mod reader;
mod run;
#[cfg(all(feature = "dsp", target_arch = "arm"))]
mod smlad;
mod watch;

#[cfg(feature = "std")]
pub mod heap;
#[cfg(feature = "std")]
pub mod write;

#[cfg(all(test, feature = "std"))]
mod mutation_tests;
#[cfg(all(test, feature = "std"))]
mod tests;

pub use crc::{Crc32, crc32};
pub use error::BlobError;
pub use header::{Header, Layer, Precision, Text};
pub use reader::{Blob, Channels, LayerView, Matrix, Weights};
pub use run::{Executor, Scratch, reset, run};
#[cfg(feature = "std")]
pub use watch::watch_section;
pub use watch::{WATCH_MAGIC, WATCH_VERSION, Watch};

/// First bytes of every blob.
pub const MAGIC: [u8; 8] = *b"HYPEBLOB";
/// The version that this crate writes and reads.
pub const VERSION: u16 = 1;
/// Bytes before the header.
pub const PREFIX_BYTES: usize = 64;
/// Alignment of the blob, of its data section and of every row in it, bytes.
pub const ALIGNMENT: usize = 16;
/// Most layers of a network.
pub const MAX_LAYERS: usize = 16;
/// Most golden vectors.
pub const MAX_GOLDEN: u16 = 64;

/// What makes a blob that is compiled into a program start at a multiple of [`ALIGNMENT`]:
/// `static POLICY: &Aligned<[u8]> = &Aligned(*include_bytes!("policy.hpb"));`
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct Aligned<T: ?Sized>(pub T);

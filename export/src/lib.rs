//! Writes a policy and its discriminator as ONNX files and a manifest, reads them back, and proves that all views agree.
//!
//! * [`onnx_policy`], [`onnx_discriminator`]: one graph as the bytes of an ONNX file.
//! * [`write_bundle`]: a whole bundle, compared with training's own outputs before it replaces anything.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

mod blob;
mod bundle;
mod error;
#[cfg(test)]
mod foreign_tests;
mod graph;
mod onnx;
mod replace;
mod verify;

pub use bundle::{BundleContents, Report, write_bundle};
pub use error::{Error, Result};
pub use onnx::{IR_VERSION, OPSET, onnx_discriminator, onnx_policy};
pub use verify::{RANDOM_ROWS, Reference};

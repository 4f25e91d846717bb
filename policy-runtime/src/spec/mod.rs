//! The layers of a policy and of a discriminator.
//!
//! These are the single source: the ONNX file, the manifest and the native executor are views of them.

mod discriminator;
mod layers;
mod policy;

pub use crate::kernel::Activation;
pub use discriminator::{DiscriminatorGraph, Reduction};
pub use layers::{Affine, Clamp, Dense, MAX_WIDTH, Mlp, Normalizer};
#[cfg(feature = "onnx")]
pub(crate) use policy::check_widths;
pub use policy::{PolicyGraph, Squash};

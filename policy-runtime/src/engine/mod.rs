//! Executors of a policy. They answer the same calls and agree to 1e-5 relative to activation scale.
//!
//! The native engine runs a [`program`]: operations in order on one row of memory, weights packed as [`dense`] says, loops
//! compiled for several sets of instructions ([`level`]). All of that is `no_std` and allocates nothing; [`build`] puts
//! programs together, [`native`] keeps one with its memory, and [`tract`] runs what has no program.

mod arithmetic;
#[cfg(feature = "std")]
pub mod build;
pub mod dense;
#[cfg(feature = "std")]
pub mod elementary;
#[cfg(feature = "onnx")]
pub(crate) mod foreign;
#[cfg(feature = "onnx")]
pub mod layout;
pub mod level;
#[cfg(feature = "std")]
pub mod native;
pub mod program;
#[cfg(feature = "onnx")]
mod quiet;
#[cfg(feature = "onnx")]
pub mod session;
#[cfg(feature = "onnx")]
pub mod tract;
mod vector;

pub use level::{Kernels, Numerics};

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which executor to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineChoice {
    /// Native where every part of the model is recognised, tract otherwise.
    #[default]
    Auto,
    /// The crate's own executor, or an error that says why it cannot be used.
    Native,
    /// The native engine with one order of operations: the bits of a microcontroller on every machine.
    Deterministic,
    /// tract, which runs any ONNX policy; it allocates in every step.
    Tract,
}

impl EngineChoice {
    /// How the native engine computes when it is chosen this way.
    pub fn numerics(self) -> Numerics {
        if self == EngineChoice::Deterministic { Numerics::Deterministic } else { Numerics::Fast }
    }

    /// What to call the engine `ran`, the executor that was taken by this choice: the deterministic bits are the native engine's
    /// in one of its two modes.
    pub fn told(self, ran: &'static str) -> &'static str {
        if self == EngineChoice::Deterministic { "deterministic" } else { ran }
    }

    /// Whether the native engine must do it.
    pub fn insists_on_native(self) -> bool {
        matches!(self, EngineChoice::Native | EngineChoice::Deterministic)
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Native => "native",
            EngineChoice::Deterministic => "deterministic",
            EngineChoice::Tract => "tract",
        })
    }
}

impl FromStr for EngineChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "auto" => Ok(EngineChoice::Auto),
            "native" => Ok(EngineChoice::Native),
            "deterministic" => Ok(EngineChoice::Deterministic),
            "tract" => Ok(EngineChoice::Tract),
            _ => Err("expected auto, native, deterministic or tract"),
        }
    }
}

//! Executors of a policy. They answer the same calls and agree to 1e-5 relative to activation scale.

pub mod native;
#[cfg(feature = "onnx")]
pub mod tract;

use std::fmt;
use std::str::FromStr;

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
    /// tract, which runs any ONNX policy; it allocates in every step.
    Tract,
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Native => "native",
            EngineChoice::Tract => "tract",
        })
    }
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(EngineChoice::Auto),
            "native" => Ok(EngineChoice::Native),
            "tract" => Ok(EngineChoice::Tract),
            _ => Err("expected auto, native or tract".into()),
        }
    }
}

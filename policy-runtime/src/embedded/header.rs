//! What a blob says about itself, in postcard encoding; [`decode`](super::decode) reads it.

use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::MAX_LAYERS;
use crate::guard::Fallback;
use crate::kernel::Activation;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As they are.
    F32,
    /// Eight bits with one scale per output; activations are quantised anew for every layer and step.
    Int8,
}

/// One layer's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer {
    /// `activation(input · weights + bias)`
    Dense {
        /// Width of the input.
        inputs: u16,
        /// Width of the output.
        outputs: u16,
        /// What follows.
        activation: Activation,
    },
    /// Long short-term memory; its output is its hidden state.
    Lstm {
        /// Width of the input.
        inputs: u16,
        /// Width of state and output.
        hidden: u16,
    },
    /// Gated recurrent unit whose reset gate acts after the matrix; its output is its state.
    Gru {
        /// Width of the input.
        inputs: u16,
        /// Width of state and output.
        hidden: u16,
    },
}

/// A text that nobody has looked at yet: whether it is UTF-8 is no concern of a microcontroller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Text<'a>(pub(super) &'a [u8]);

impl<'a> Text<'a> {
    /// The text; `None` where it is not UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        core::str::from_utf8(self.0).ok()
    }
}

/// Everything about a policy but its numbers and the names of its channels. Times are whole nanoseconds, or ticks of the
/// control period.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Header<'a> {
    /// What the policy was trained for.
    pub task: Text<'a>,
    /// Number of observation channels.
    pub observation: u16,
    /// Number of action channels.
    pub action: u16,
    /// Time between two actions.
    pub control_period_nanos: u64,
    /// Greatest age of an observation.
    pub max_age_nanos: Option<u64>,
    /// What replaces a refused action.
    pub fallback: Fallback,
    /// Ticks from rest to the policy's action.
    pub entry_ticks: u32,
    /// Ticks from the policy's action to rest.
    pub exit_ticks: u32,
    /// When an action is too late, counted from the tick's release.
    pub deadline_nanos: Option<u64>,
    /// Faults in a row that stop for good.
    pub max_faults: Option<NonZeroU32>,
    /// sha256 of the contract as JSON.
    pub contract_sha256: &'a [u8; 32],
    /// sha256 of the model file that the blob was made from; zeros where there is none.
    pub model_sha256: &'a [u8; 32],
    /// How weights are stored.
    pub precision: Precision,
    /// Whether the data section has rows `mean` and `std`.
    pub normalized: bool,
    /// Whether the data section has rows `observation low` and `observation high`.
    pub ranges: bool,
    /// Whether the data section has the row `fixed`.
    pub fixed: bool,
    /// Whether the data section has the rows `damper velocity` and `damper gain`.
    pub dampers: bool,
    /// Whether the data section has the row `max change`.
    pub max_change: bool,
    /// What brings the network's output into `[-1, 1]`.
    pub squash: Activation,
    /// First to last.
    pub layers: heapless::Vec<Layer, MAX_LAYERS>,
    /// Number of golden vectors.
    pub golden: u16,
}

impl Layer {
    /// Width of the input.
    pub fn inputs(self) -> usize {
        match self {
            Layer::Dense { inputs, .. } | Layer::Lstm { inputs, .. } | Layer::Gru { inputs, .. } => inputs.into(),
        }
    }

    /// Width of the output.
    pub fn outputs(self) -> usize {
        match self {
            Layer::Dense { outputs, .. } => outputs.into(),
            Layer::Lstm { hidden, .. } | Layer::Gru { hidden, .. } => hidden.into(),
        }
    }

    /// Numbers that it keeps from step to step.
    pub fn state(self) -> usize {
        match self {
            Layer::Dense { .. } => 0,
            Layer::Lstm { hidden, .. } => 2 * usize::from(hidden),
            Layer::Gru { hidden, .. } => hidden.into(),
        }
    }

    /// Width of the rows that it works in.
    pub fn width(self) -> usize {
        let widest = match self {
            Layer::Dense { inputs, outputs, .. } => inputs.max(outputs).into(),
            Layer::Lstm { inputs, hidden } => (usize::from(inputs) + usize::from(hidden)).max(4 * usize::from(hidden)),
            Layer::Gru { inputs, hidden } => usize::from(inputs).max(6 * usize::from(hidden)),
        };
        // Quantised inputs are written over the input in pairs of words.
        widest.max(2)
    }

    /// Multiplications of one step.
    pub fn multiplications(self) -> usize {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        match self {
            Layer::Dense { .. } => inputs * outputs,
            Layer::Lstm { .. } => 4 * outputs * (inputs + outputs),
            Layer::Gru { .. } => 3 * outputs * (inputs + outputs),
        }
    }
}

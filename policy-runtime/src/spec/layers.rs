//! The parts that policies and discriminators are made of.

use crate::error::{Error, Result};
use crate::kernel::Activation;

/// Largest width of a layer that readers accept.
pub const MAX_WIDTH: usize = 65_536;

/// `activation(input · weights + bias)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
    /// `[inputs, outputs]`, row-major: `weights[i * outputs + j]` leads from input `i` to output `j`.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
    /// What follows.
    pub activation: Activation,
}

impl Dense {
    pub(super) fn validate(&self, name: &str) -> Result<()> {
        if self.inputs == 0 || self.outputs == 0 || self.inputs > MAX_WIDTH || self.outputs > MAX_WIDTH {
            let found = format!("{} inputs and {} outputs", self.inputs, self.outputs);
            return Err(Error::malformed(name, format!("widths from 1 to {MAX_WIDTH}"), found));
        }
        check_row(&format!("{name} weights"), &self.weights, self.inputs * self.outputs)?;
        check_row(&format!("{name} bias"), &self.bias, self.outputs)
    }
}

/// Dense layers, each reading what the one before it wrote.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mlp {
    /// First to last.
    pub layers: Vec<Dense>,
}

impl Mlp {
    /// Width of the last layer's output; zero without layers.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// Width of the first layer's input; zero without layers.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    /// Width of the widest layer.
    pub fn widest(&self) -> usize {
        self.layers.iter().map(|layer| layer.inputs.max(layer.outputs)).max().unwrap_or(0)
    }

    pub(super) fn validate(&self, name: &str) -> Result<()> {
        if self.layers.is_empty() {
            return Err(Error::malformed(name, "at least one layer", "none"));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            layer.validate(&format!("{name} layer {index}"))?;
        }
        for (index, pair) in self.layers.windows(2).enumerate() {
            if pair[0].outputs != pair[1].inputs {
                let thing = format!("{name} layer {} input", index + 1);
                return Err(Error::malformed(thing, format!("width {}", pair[0].outputs), pair[1].inputs));
            }
        }
        Ok(())
    }
}

/// `(observation - mean) / std`, channel by channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalizer {
    /// `[observation]`, raw units.
    pub mean: Vec<f32>,
    /// `[observation]`, raw units, positive; whatever epsilon training used is inside.
    pub std: Vec<f32>,
}

impl Normalizer {
    pub(crate) fn validate(&self, name: &str, width: usize) -> Result<()> {
        check_row(&format!("{name} mean"), &self.mean, width)?;
        check_row(&format!("{name} std"), &self.std, width)?;
        check_positive(&format!("{name} std"), &self.std)
    }
}

/// `action_env = action_unit · scale + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `[action]`, positive.
    pub scale: Vec<f32>,
    /// `[action]`.
    pub offset: Vec<f32>,
}

impl Affine {
    /// The map that takes `[-1, 1]` to `[low, high]`, channel by channel.
    pub fn from_bounds(low: &[f32], high: &[f32]) -> Self {
        let halved = |sum: fn(f64, f64) -> f64| {
            low.iter().zip(high).map(|(low, high)| (0.5 * sum(f64::from(*high), f64::from(*low))) as f32).collect()
        };
        Self { scale: halved(|high, low| high - low), offset: halved(|high, low| high + low) }
    }

    pub(crate) fn validate(&self, name: &str, width: usize) -> Result<()> {
        check_row(&format!("{name} scale"), &self.scale, width)?;
        check_row(&format!("{name} offset"), &self.offset, width)?;
        check_positive(&format!("{name} scale"), &self.scale)
    }
}

/// Bounds of the action in environment units.
#[derive(Debug, Clone, PartialEq)]
pub struct Clamp {
    /// `[action]`.
    pub low: Vec<f32>,
    /// `[action]`, each above its `low`.
    pub high: Vec<f32>,
}

impl Clamp {
    pub(super) fn validate(&self, name: &str, width: usize) -> Result<()> {
        check_row(&format!("{name} low"), &self.low, width)?;
        check_row(&format!("{name} high"), &self.high, width)?;
        match self.low.iter().zip(&self.high).position(|(low, high)| low >= high) {
            None => Ok(()),
            Some(index) => {
                let found = format!("low {}, high {}", self.low[index], self.high[index]);
                Err(Error::malformed(format!("{name} channel {index}"), "low below high", found))
            }
        }
    }
}

pub(super) fn check_row(name: &str, row: &[f32], width: usize) -> Result<()> {
    if row.len() != width {
        return Err(Error::malformed(name, format!("{width} numbers"), row.len()));
    }
    match row.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::malformed(format!("{name} at index {index}"), "a finite number", row[index])),
    }
}

fn check_positive(name: &str, row: &[f32]) -> Result<()> {
    match row.iter().position(|value| *value <= 0.0) {
        None => Ok(()),
        Some(index) => Err(Error::malformed(format!("{name} at index {index}"), "a positive number", row[index])),
    }
}

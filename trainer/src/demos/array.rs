//! Arrays as files hold them: any numeric element type, any shape, until a reader says what it needs.

use crate::error::{Error, Result};

/// The elements, in the type of the file (integers widened).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Elements {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Int(Vec<i64>),
}

/// Whether `factors`, a shape and what an element takes, multiply to at most `most`.
pub(super) fn is_within(factors: impl IntoIterator<Item = usize>, most: u64) -> bool {
    let product = factors.into_iter().try_fold(1_u64, |product, factor| product.checked_mul(factor as u64));
    product.is_some_and(|product| product <= most)
}

/// A named array of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    /// File and dataset, for errors.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
}

impl Array {
    /// Width of a row of a matrix; a plain column counts as width 1.
    pub(super) fn width(&self) -> Result<usize> {
        match self.shape[..] {
            [_] => Ok(1),
            [_, width] => Ok(width),
            _ => Err(self.shape_error("rows and columns")),
        }
    }

    pub(super) fn into_f32(self) -> Vec<f32> {
        match self.elements {
            Elements::F32(values) => values,
            Elements::F64(values) => values.into_iter().map(|v| v as f32).collect(),
            Elements::Int(values) => values.into_iter().map(|v| v as f32).collect(),
        }
    }

    pub(super) fn into_f64(self) -> Vec<f64> {
        match self.elements {
            Elements::F32(values) => values.into_iter().map(f64::from).collect(),
            Elements::F64(values) => values,
            Elements::Int(values) => values.into_iter().map(|v| v as f64).collect(),
        }
    }

    /// One value per step: shape `[steps]` or `[steps, 1]`.
    fn check_column(&self) -> Result<()> {
        match self.shape[..] {
            [_] | [_, 1] => Ok(()),
            _ => Err(self.shape_error("one value per row")),
        }
    }

    pub(super) fn into_column(self) -> Result<Vec<f32>> {
        self.check_column()?;
        Ok(self.into_f32())
    }

    pub(super) fn into_flags(self) -> Result<Vec<bool>> {
        self.check_column()?;
        let name = self.name.clone();
        let flag = |value: f64| match value {
            0.0 => Ok(false),
            1.0 => Ok(true),
            other => {
                Err(Error::data(format!("{name} holds something else than flags")).expected("0 or 1").found(other))
            }
        };
        self.into_f64().into_iter().map(flag).collect()
    }

    /// One whole number from 0 per step.
    pub(super) fn into_indices(self) -> Result<Vec<usize>> {
        self.check_column()?;
        let name = self.name.clone();
        let index = |value: f64| {
            let whole = value >= 0.0 && value.fract() == 0.0 && value <= f64::from(u32::MAX);
            whole
                .then_some(value as usize)
                .ok_or_else(|| Error::data(&name).expected("whole numbers from 0").found(value))
        };
        self.into_f64().into_iter().map(index).collect()
    }

    fn shape_error(&self, expected: &str) -> Error {
        Error::data(format!("{} has a wrong shape", self.name)).expected(expected).found(format!("{:?}", self.shape))
    }
}

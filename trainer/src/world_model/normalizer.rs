//! The inputs of a model, brought to zero mean and unit deviation; and the box that the data lies in.

use crate::learners::running::moments;
use serde::{Deserialize, Serialize};

/// Deviations below this count as none: the channel is divided by 1 (facebookresearch/mbrl-lib, `Normalizer`).
const LEAST_STD: f64 = 1e-12;

/// Mean and deviation of each input channel, in f64 as in mbrl-lib.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalizer {
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Normalizer {
    /// Changes nothing in rows of `width`.
    pub fn identity(width: usize) -> Self {
        Self { mean: vec![0.0; width], std: vec![1.0; width] }
    }

    /// Means and unbiased deviations of `rows`, `[rows, width]`.
    pub fn fit(rows: &[f32], width: usize) -> Self {
        let (mean, squares) = moments(rows, width);
        let count = (rows.len() / width) as f64;
        let std = |sum: f64| {
            let std = (sum / (count - 1.0)).sqrt();
            if std >= LEAST_STD { std } else { 1.0 }
        };
        Self { mean, std: squares.into_iter().map(std).collect() }
    }

    /// Width of a row.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// The deviations.
    pub fn std(&self) -> &[f64] {
        &self.std
    }

    /// Appends the normalised `row` to `out`; `row` may come in parts.
    pub fn apply<'a>(&self, row: impl Iterator<Item = &'a f32>, out: &mut Vec<f32>) {
        let channels = self.mean.iter().zip(&self.std);
        out.extend(row.zip(channels).map(|(x, (mean, std))| ((f64::from(*x) - mean) / std) as f32));
    }
}

/// Least and greatest value of each observation channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    low: Vec<f32>,
    high: Vec<f32>,
}

impl Bounds {
    /// Everything is within these.
    pub fn unbounded(width: usize) -> Self {
        Self { low: vec![f32::NEG_INFINITY; width], high: vec![f32::INFINITY; width] }
    }

    /// The box of the states that `inputs` (each `stride` wide, the state first) begin in and that `changes` (`[rows, width]`,
    /// perhaps wider than a state) lead to, wider on each side by `margin` of its own width.
    pub fn of(inputs: &[f32], stride: usize, changes: &[f32], width: usize, margin: f64) -> Self {
        let (mut low, mut high) = (vec![f32::INFINITY; width], vec![f32::NEG_INFINITY; width]);
        let rows = inputs.len() / stride;
        for (input, change) in inputs.chunks_exact(stride).zip(changes.chunks_exact(changes.len() / rows)) {
            for ((low, high), (now, change)) in low.iter_mut().zip(&mut high).zip(input.iter().zip(change)) {
                let next = now + change;
                *low = low.min(*now).min(next);
                *high = high.max(*now).max(next);
            }
        }
        for (low, high) in low.iter_mut().zip(&mut high) {
            let room = ((*high - *low) as f64 * margin) as f32;
            *low -= room;
            *high += room;
        }
        Self { low, high }
    }

    /// Whether every channel of `observation` is within.
    pub fn contain(&self, observation: &[f32]) -> bool {
        observation.iter().zip(self.low.iter().zip(&self.high)).all(|(x, (low, high))| low <= x && x <= high)
    }

    /// Moves every channel to the nearest value within.
    pub fn clip(&self, observation: &mut [f32]) {
        for (x, (low, high)) in observation.iter_mut().zip(self.low.iter().zip(&self.high)) {
            *x = x.max(*low).min(*high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_the_unbiased_ones_and_constant_channels_stay() {
        let rows = [1.0, 5.0, 2.0, 5.0, 4.0, 5.0, 5.0, 5.0];
        let normalizer = Normalizer::fit(&rows, 2);
        assert_eq!(normalizer.mean, [3.0, 5.0]);
        assert!((normalizer.std[0] - (10.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(normalizer.std[1], 1.0, "a column without deviation is divided by 1");
        let mut out = Vec::new();
        normalizer.apply([4.0, 7.0].iter(), &mut out);
        assert!((f64::from(out[0]) - 1.0 / (10.0_f64 / 3.0).sqrt()).abs() < 1e-6);
        assert_eq!(out[1], 2.0);
    }

    #[test]
    fn the_box_has_its_margin() {
        // States 0 to 2 and 1 to 3; the last leads the second channel to 5. What stands behind the states counts for nothing.
        let (inputs, changes) = ([0.0, 1.0, 9.0, 2.0, 3.0, 9.0], [0.5, 0.5, -99.0, 0.0, 2.0, 99.0]);
        let bounds = Bounds::of(&inputs, 3, &changes, 2, 0.5);
        assert!(bounds.contain(&[-1.0, 7.0]) && !bounds.contain(&[-1.01, 2.0]) && !bounds.contain(&[0.0, f32::NAN]));
        let mut outside = [7.0, -7.0];
        bounds.clip(&mut outside);
        assert_eq!(outside, [3.0, -1.0]);
        assert!(Bounds::unbounded(1).contain(&[1e30]));
    }
}

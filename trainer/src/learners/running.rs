//! Mean and variance of channels in f64 on the host: of all rows at once, and running (Chan et al. 1979).

use serde::{Deserialize, Serialize};

/// Means of the channels of `rows`, `[rows, width]`, and sums of squared distances to them.
pub fn moments(rows: &[f32], width: usize) -> (Vec<f64>, Vec<f64>) {
    let count = (rows.len() / width) as f64;
    let mut mean = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    mean.iter_mut().for_each(|sum| *sum /= count);
    let mut squares = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        for ((sum, x), mean) in squares.iter_mut().zip(row).zip(&mean) {
            *sum += (f64::from(*x) - mean).powi(2);
        }
    }
    (mean, squares)
}

/// What the published code starts from, so that the first observation has a deviation to be divided by
/// (openai/baselines `RunningMeanStd`).
const INITIAL_COUNT: f64 = 1e-4;

/// Mean and variance of every channel of the rows seen so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    count: f64,
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl Running {
    /// No row yet of `width` channels.
    pub fn new(width: usize) -> Self {
        Self { count: INITIAL_COUNT, mean: vec![0.0; width], variance: vec![1.0; width] }
    }

    /// Takes one row in.
    pub fn push(&mut self, row: impl IntoIterator<Item = f64>) {
        let total = self.count + 1.0;
        for ((mean, variance), x) in self.mean.iter_mut().zip(&mut self.variance).zip(row) {
            let delta = x - *mean;
            *mean += delta / total;
            *variance = (*variance * self.count + delta * delta * self.count / total) / total;
        }
        self.count = total;
    }

    /// Mean of each channel.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Variance of each channel (n in its denominator).
    pub fn variance(&self) -> &[f64] {
        &self.variance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_mean_and_variance_of_all_rows() {
        let mut running = Running::new(1);
        (1..=1000).for_each(|i| running.push([f64::from(i)]));
        assert!((running.mean()[0] - 500.5).abs() < 1e-3);
        // (n² - 1) / 12, but for what it started from.
        assert!((running.variance()[0] - 999_999.0 / 12.0).abs() < 0.1);
    }
}

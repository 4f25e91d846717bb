//! The arithmetic of the monitor: a distance and a running statistic. One order of operations, functions of `libm`: the same
//! bits on every machine. Allocation: none. Panics: never.

use serde::{Deserialize, Serialize};

/// Squared Mahalanobis distance per channel of the pair of `observation` and `action` from pairs with this `mean` and
/// `whitening`; NaN where the pair is shorter than the mean.
///
/// # Shapes
/// `mean`: `[width]`, observation first; `whitening`: inverse of the covariance's Cholesky factor, lower triangle by rows,
/// `[width · (width + 1) / 2]`.
pub fn distance(mean: &[f32], whitening: &[f32], observation: &[f32], action: &[f32]) -> f32 {
    let mut rest = whitening;
    let mut sum = 0.0;
    for channels in 1..=mean.len() {
        let Some((row, later)) = rest.split_at_checked(channels) else { return f32::NAN };
        rest = later;
        let pair = observation.iter().chain(action);
        let (mut part, mut met) = (0.0, 0);
        for ((factor, value), mean) in row.iter().zip(pair).zip(mean) {
            part += *factor * (*value - *mean);
            met += 1;
        }
        if met < channels {
            return f32::NAN;
        }
        sum += part * part;
    }
    sum / mean.len() as f32
}

/// What the running statistic is fed: the logarithm of 1 + `distance`, since a single outlier's distance knows no bound.
pub fn score(distance: f32) -> f32 {
    libm::log1pf(distance)
}

/// A one-sided cumulative sum: what lies more than `slack` deviations above the mean adds up, anything less wears off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cusum {
    /// Mean of the score where all is well.
    pub mean: f32,
    /// Its standard deviation there.
    pub deviation: f32,
    /// Deviations that are ordinary.
    pub slack: f32,
    /// Most that one score may add, deviations; keeps a single outlier from being an alarm.
    pub most: f32,
    /// Sum at which it raises.
    pub threshold: f32,
    /// The sum so far.
    #[serde(skip)]
    pub sum: f32,
}

impl Cusum {
    /// Adds one score; returns whether the sum is above the threshold. A score that is no number counts as the most.
    pub fn add(&mut self, score: f32) -> bool {
        let deviations = (score - self.mean) / self.deviation - self.slack;
        // NaN is not ordinary.
        let step = if deviations.is_nan() || deviations > self.most { self.most } else { deviations };
        // The sum forgets what is beyond twice the threshold, so that an alarm can end.
        self.sum = crate::action::clamp(self.sum + step, 0.0, 2.0 * self.threshold);
        self.sum > self.threshold
    }

    /// Forgets.
    pub fn reset(&mut self) {
        self.sum = 0.0;
    }

    /// Whether it can be used: finite, and positive where that is needed.
    pub fn is_sane(&self) -> bool {
        let Self { mean, deviation, slack, most, threshold, .. } = *self;
        let finite = [mean, deviation, slack, most, threshold].iter().all(|value| value.is_finite());
        finite && slack >= 0.0 && most > 0.0 && deviation > 0.0 && threshold > 0.0
    }
}

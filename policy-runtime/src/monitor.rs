//! Has the robot left what the demonstrations showed? A score per observation-action pair, and a running statistic.
//!
//! Two scores answer that question: the Mahalanobis distance from the demonstrations' pairs, and the cost that the
//! learned discriminator gives. docs/RUNTIME.md says which of them found changed bodies, and how soon.

use serde::{Deserialize, Serialize};

use crate::contract::Contract;
use crate::discriminator::Discriminator;
use crate::drift;
pub use crate::drift::Cusum;
use crate::error::{Error, Result};

/// Deviations that the shipped monitor takes for ordinary, and the most that one score adds.
pub const SLACK_AND_MOST: (f32, f32) = (0.5, 10.0);
/// Time in which a fitted monitor raises at most one false alarm.
pub const SECS_PER_FALSE_ALARM: f64 = 600.0;

/// Most channels of observation and action together that have a full covariance here.
pub const MAX_WIDTH: usize = 512;
/// Added to each variance, as a share of it: keeps channels that hardly move from deciding alone.
const RIDGE: f64 = 1e-3;
/// Smallest variance, in the square of the channel's unit.
const LEAST_VARIANCE: f64 = 1e-8;

/// Which score is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Logarithm of 1 + the squared Mahalanobis distance per channel.
    Mahalanobis,
    /// The discriminator's cost, the negative reward.
    Discriminator,
}

/// Mean and spread of some pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// `[width]`, observation first.
    pub mean: Vec<f32>,
    /// Inverse of the covariance's Cholesky factor, lower triangle by rows, `[width · (width + 1) / 2]`.
    pub whitening: Vec<f32>,
}

impl Shape {
    /// The shape of `pairs`, `[rows, width]`.
    ///
    /// # Errors
    /// [`Error::Malformed`] where there are fewer rows than twice the width, or the numbers have no covariance.
    pub fn of(pairs: &[f32], width: usize) -> Result<Self> {
        let rows = pairs.len() / width.max(1);
        if width == 0 || width > MAX_WIDTH || rows < 2 * width || pairs.len() != rows * width {
            let expected = format!("at least {} whole rows of at most {MAX_WIDTH} channels", 2 * width);
            return Err(Error::malformed("pairs for the monitor", expected, format!("{rows} rows of {width}")));
        }
        let mut mean = vec![0.0_f64; width];
        for row in pairs.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / rows as f64);
        }
        let mut covariance = vec![0.0_f64; width * width];
        for row in pairs.chunks_exact(width) {
            for i in 0..width {
                let left = f64::from(row[i]) - mean[i];
                for j in 0..=i {
                    covariance[i * width + j] += left * (f64::from(row[j]) - mean[j]) / rows as f64;
                }
            }
        }
        for i in 0..width {
            let variance = covariance[i * width + i];
            covariance[i * width + i] = variance * (1.0 + RIDGE) + LEAST_VARIANCE;
        }
        let whitening = inverse_cholesky(covariance, width).ok_or_else(|| {
            Error::malformed("pairs for the monitor", "numbers with a covariance", "NaN or infinities")
        })?;
        Ok(Self { mean: mean.into_iter().map(|value| value as f32).collect(), whitening })
    }

    /// Checks lengths and that every number is finite.
    ///
    /// # Errors
    /// [`Error::Malformed`] says which does not fit.
    pub fn validate(&self, width: usize) -> Result<()> {
        if self.mean.len() != width || self.whitening.len() != width * (width + 1) / 2 || width > MAX_WIDTH {
            let found = format!("{} and {}", self.mean.len(), self.whitening.len());
            let expected = format!("{width} means and {} factors", width * (width + 1) / 2);
            return Err(Error::malformed("monitor: shape", expected, found));
        }
        if self.mean.iter().chain(&self.whitening).any(|value| !value.is_finite()) {
            return Err(Error::malformed("monitor: shape", "finite numbers", "NaN or an infinity"));
        }
        Ok(())
    }

    /// Squared Mahalanobis distance per channel of a pair; about 1 on average over the pairs that it was made from, less
    /// where channels nearly determine each other. Allocates nothing.
    pub fn distance(&self, observation: &[f32], action: &[f32]) -> f32 {
        drift::distance(&self.mean, &self.whitening, observation, action)
    }
}

/// What a bundle holds for watching its policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorRecord {
    /// The pairs that distances are measured from, raw observations and actions in environment units: the demonstrations',
    /// unless the monitor was fitted with a shape of its own.
    pub shape: Shape,
    /// Which score is watched.
    pub score: Score,
    /// The running statistic; absent until nominal episodes of the deployed policy were seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cusum: Option<Cusum>,
}

impl MonitorRecord {
    /// The shape of demonstrated pairs, `[rows, observation]` and `[rows, action]`; `None` where there are too few.
    pub fn of_demonstrations(contract: &Contract, observations: &[f32], actions: &[f32]) -> Option<Self> {
        let (width, action_width) = (contract.observation.len(), contract.action.len());
        let rows = observations.chunks_exact(width).zip(actions.chunks_exact(action_width));
        let pairs: Vec<f32> =
            rows.flat_map(|(observation, action)| observation.iter().chain(action).copied()).collect();
        let shape = Shape::of(&pairs, width + action_width).ok()?;
        Some(Self { shape, score: Score::Mahalanobis, cusum: None })
    }

    /// Checks lengths and numbers.
    ///
    /// # Errors
    /// [`Error::Malformed`] says what does not fit.
    pub fn validate(&self, contract: &Contract) -> Result<()> {
        self.shape.validate(contract.observation.len() + contract.action.len())?;
        if self.cusum.is_none_or(|cusum| cusum.is_sane()) {
            return Ok(());
        }
        Err(Error::malformed("monitor: cusum", "positive finite numbers", format!("{:?}", self.cusum)))
    }
}

/// A score and its running statistic, at work. Allocates nothing with the distance, or with a discriminator in the native
/// engine.
#[derive(Debug)]
pub struct Monitor {
    shape: Shape,
    discriminator: Option<Discriminator>,
    cusum: Cusum,
    alarms: u64,
    raised: bool,
}

impl Monitor {
    /// A monitor from a bundle's record; `None` where it was not fitted yet, or where the score needs a discriminator
    /// that is not given.
    pub fn new(record: &MonitorRecord, discriminator: Option<Discriminator>) -> Option<Self> {
        let discriminator = match record.score {
            Score::Mahalanobis => None,
            Score::Discriminator => Some(discriminator?),
        };
        Some(Self { shape: record.shape.clone(), discriminator, cusum: record.cusum?, alarms: 0, raised: false })
    }

    /// Scores one raw observation and the action for it, in environment units; returns whether the alarm is raised.
    pub fn watch(&mut self, observation: &[f32], action: &[f32]) -> bool {
        let score = score(&self.shape, self.discriminator.as_mut(), observation, action);
        let raised = self.cusum.add(score);
        self.alarms += u64::from(raised && !self.raised);
        self.raised = raised;
        raised
    }

    /// The running sum, deviations.
    pub fn sum(&self) -> f32 {
        self.cusum.sum
    }

    /// How often the alarm was raised.
    pub fn alarms(&self) -> u64 {
        self.alarms
    }

    /// Whether it is raised now.
    pub fn is_raised(&self) -> bool {
        self.raised
    }

    /// Forgets the running statistic, as at the start of an episode.
    pub fn reset(&mut self) {
        self.cusum.reset();
        self.raised = false;
    }
}

/// The score of one pair: the discriminator's where one is given, the distance's otherwise. NaN where it has none.
pub fn score(shape: &Shape, discriminator: Option<&mut Discriminator>, observation: &[f32], action: &[f32]) -> f32 {
    match discriminator {
        Some(discriminator) => discriminator.reward(observation, action).map_or(f32::NAN, |reward| -reward),
        None => drift::score(shape.distance(observation, action)),
    }
}

/// Inverse of the Cholesky factor of a symmetric matrix given by its lower triangle; `None` where it has none.
fn inverse_cholesky(mut matrix: Vec<f64>, width: usize) -> Option<Vec<f32>> {
    for i in 0..width {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| matrix[i * width + k] * matrix[j * width + k]).sum();
            let rest = matrix[i * width + j] - sum;
            matrix[i * width + j] = if i == j {
                if !(rest > 0.0 && rest.is_finite()) {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / matrix[j * width + j]
            };
        }
    }
    let mut inverse = vec![0.0_f64; width * width];
    for column in 0..width {
        for i in column..width {
            let unit = if i == column { 1.0 } else { 0.0 };
            let sum: f64 = (column..i).map(|k| matrix[i * width + k] * inverse[k * width + column]).sum();
            inverse[i * width + column] = (unit - sum) / matrix[i * width + i];
        }
    }
    let lower = (0..width).flat_map(|i| (0..=i).map(move |j| (i, j)));
    let packed: Vec<f32> = lower.map(|(i, j)| inverse[i * width + j] as f32).collect();
    packed.iter().all(|value| value.is_finite()).then_some(packed)
}

impl Cusum {
    /// Fits mean, deviation and threshold to `episodes` of scores from the deployed policy where all was well: the
    /// smallest threshold that gives at most `alarms_per_tick` false alarms there, and a tenth more.
    ///
    /// # Errors
    /// [`Error::Malformed`] where there are fewer than 100 scores or they do not vary.
    pub fn fit(episodes: &[Vec<f32>], slack: f32, most: f32, alarms_per_tick: f64) -> Result<Self> {
        let scores = || episodes.iter().flatten().map(|score| f64::from(*score));
        let count = scores().count();
        let mean = scores().sum::<f64>() / count as f64;
        let deviation = (scores().map(|score| (score - mean).powi(2)).sum::<f64>() / count as f64).sqrt();
        if count < 100 || !(deviation.is_finite() && deviation > 0.0) {
            let found = format!("{count} scores with deviation {deviation}");
            return Err(Error::malformed("nominal episodes for the monitor", "at least 100 scores that vary", found));
        }
        let mut cusum =
            Self { mean: mean as f32, deviation: deviation as f32, slack, most, threshold: f32::INFINITY, sum: 0.0 };
        // The peak of each excursion of the sum above zero would be one alarm.
        let mut peaks = Vec::new();
        for episode in episodes {
            cusum.reset();
            let mut peak = 0.0_f32;
            for score in episode {
                let _ = cusum.add(*score);
                if cusum.sum == 0.0 {
                    peaks.push(std::mem::take(&mut peak));
                }
                peak = peak.max(cusum.sum);
            }
            peaks.push(peak);
        }
        peaks.sort_unstable_by(|left, right| right.total_cmp(left));
        let allowed = (alarms_per_tick * count as f64).floor() as usize;
        // With no alarm allowed in this much data, a margin above the highest sum that was seen.
        let highest = peaks.get(allowed).copied().unwrap_or(0.0);
        cusum.threshold = (highest * 1.1).max(most);
        cusum.reset();
        Ok(cusum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Draws;

    /// Two correlated channels and an action.
    fn pairs(rows: usize, shift: f32, seed: u64) -> Vec<f32> {
        let mut draws = Draws::new(seed);
        let row = |_| {
            let (a, b, c) = (draws.normal(), draws.normal(), draws.normal());
            [3.0 + 2.0 * a, 1.9 * a + 0.1 * b + shift, 0.01 * c]
        };
        (0..rows).flat_map(row).collect()
    }

    #[test]
    fn distances_are_one_on_average_and_see_broken_correlations() {
        let shape = Shape::of(&pairs(5000, 0.0, 1), 3).unwrap();
        shape.validate(3).unwrap();
        let mean = |pairs: &[f32]| {
            let rows = pairs.len() as f32 / 3.0;
            pairs.chunks_exact(3).map(|row| shape.distance(&row[..2], &row[2..])).sum::<f32>() / rows
        };
        let fresh = mean(&pairs(2000, 0.0, 2));
        // The ridge takes some where channels nearly determine each other.
        assert!((0.75..1.1).contains(&fresh), "{fresh}");
        // 0.5 is a quarter of the channel's own deviation, but five of what the other channel leaves open.
        let shifted = mean(&pairs(2000, 0.5, 3));
        assert!(shifted > 5.0, "{shifted}");
        assert!(shape.distance(&[f32::NAN, 0.0], &[0.0]).is_nan());
    }

    #[test]
    fn too_few_or_impossible_rows_are_refused() {
        assert!(Shape::of(&pairs(5, 0.0, 1), 3).is_err());
        assert!(Shape::of(&[f32::NAN; 300], 3).is_err());
        assert!(Shape::of(&[1.0; 300], 3).is_ok(), "channels that never move are allowed for");
    }

    #[test]
    fn a_fitted_sum_is_quiet_on_nominal_scores_and_raises_soon_after_a_shift() {
        let mut draws = Draws::new(4);
        let mut episode = |shift: f32| (0..1000).map(|_| 5.0 + 2.0 * (draws.normal() + shift)).collect::<Vec<f32>>();
        let nominal: Vec<Vec<f32>> = (0..50).map(|_| episode(0.0)).collect();
        let mut cusum = Cusum::fit(&nominal, 0.5, 10.0, 1e-4).unwrap();
        let held_out: Vec<Vec<f32>> = (0..50).map(|_| episode(0.0)).collect();
        let mut alarms = 0;
        for scores in &held_out {
            cusum.reset();
            alarms += usize::from(scores.iter().any(|score| cusum.add(*score)));
        }
        assert!(alarms <= 10, "{alarms} of 50 episodes");
        cusum.reset();
        let delay = episode(1.5).iter().position(|score| cusum.add(*score));
        assert!(delay.is_some_and(|ticks| ticks < 40), "{delay:?}");
        assert!(cusum.add(f32::NAN) || cusum.sum > 0.0);
        assert!(Cusum::fit(&[vec![1.0; 200]], 0.5, 10.0, 1e-4).is_err());
    }
}

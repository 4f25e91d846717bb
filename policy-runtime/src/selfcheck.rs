//! Golden vectors, and what it means that two executions agree.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contract::Contract;
use crate::error::{Error, Result};

/// Greatest difference between two executions, as a share of activation scale and of the output's unit.
pub const TOLERANCE: f32 = 1e-5;

/// Where an input came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// Drawn around the middle of the observation channels.
    Random,
    /// Channels at their bounds or far outside their usual range.
    Boundary,
    /// Seen in a demonstration.
    Demonstration,
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProbeKind::Random => "random",
            ProbeKind::Boundary => "boundary",
            ProbeKind::Demonstration => "demonstration",
        })
    }
}

/// A recorded input with the outputs that training computed for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Where the observation came from.
    pub kind: ProbeKind,
    /// `[observation]`, raw units.
    pub observation: Vec<f32>,
    /// The policy's action for it, `[action]`, environment units.
    pub action: Vec<f32>,
    /// Largest magnitude inside the policy, see [`NativePolicy::activation_scale`](crate::engine::native::NativePolicy).
    pub activation_scale: f32,
    /// What the discriminator said, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgement: Option<Judgement>,
}

/// The discriminator's part of a golden vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The action that was judged, `[action]`, environment units; not the policy's.
    pub action: Vec<f32>,
    /// The reward for it and the golden observation.
    pub reward: f32,
    /// Largest magnitude inside the discriminator.
    pub activation_scale: f32,
}

impl Golden {
    /// Checks that widths fit and that every number is finite.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the part that does not fit.
    pub fn validate(&self, index: usize, contract: &Contract) -> Result<()> {
        let mut rows =
            vec![("observation", &self.observation, &contract.observation), ("action", &self.action, &contract.action)];
        rows.extend(self.judgement.as_ref().map(|judged| ("judged action", &judged.action, &contract.action)));
        for (name, row, channels) in rows {
            let thing = format!("golden vector {index}: {name}");
            if row.len() != channels.len() {
                return Err(Error::malformed(thing, format!("{} numbers", channels.len()), row.len()));
            }
            if row.iter().any(|value| !value.is_finite()) {
                return Err(Error::malformed(thing, "finite numbers", "NaN or an infinity"));
            }
        }
        let scales = [Some(self.activation_scale), self.judgement.as_ref().map(|judged| judged.activation_scale)];
        let rewards = self.judgement.as_ref().map(|judged| judged.reward.abs());
        if scales.into_iter().chain([rewards]).flatten().any(|value| !(value.is_finite() && value >= 0.0)) {
            return Err(Error::malformed(format!("golden vector {index}"), "finite numbers", "NaN or an infinity"));
        }
        Ok(())
    }
}

/// The first thing on which two executions differ too much.
#[derive(Debug, Clone, PartialEq)]
pub struct Disagreement {
    /// `policy` or `discriminator`.
    pub what: String,
    /// Name of the first execution and its value.
    pub left: (String, f32),
    /// Name of the second execution and its value.
    pub right: (String, f32),
    /// Output channel.
    pub channel: String,
    /// Number of the input among those that were compared.
    pub row: usize,
    /// Where that input came from.
    pub kind: ProbeKind,
    /// Difference that would have passed.
    pub tolerance: f32,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, left, right, channel, row, kind, tolerance } = self;
        write!(
            f,
            "{what}: {} and {} disagree on channel {channel:?} of {kind} input {row}; expected a difference of at most \
             {tolerance:e}; found {:e} ({} against {})\n  try: export the run again; if it persists, report it with the bundle",
            left.0,
            right.0,
            (left.1 - right.1).abs(),
            left.1,
            right.1
        )
    }
}

/// How well two executions agree over many inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// `policy` or `discriminator`.
    pub what: String,
    /// Name of the first execution.
    pub left: String,
    /// Name of the second execution.
    pub right: String,
    /// Number of inputs.
    pub rows: usize,
    /// Largest difference, in the output's unit.
    pub largest_difference: f32,
    /// Largest difference as a share of what would have passed; at most 1.
    pub largest_share_of_tolerance: f32,
    /// Channel, kind and number of the input where that share was reached.
    pub worst: String,
}

/// Collects differences between two executions of one network.
#[derive(Debug)]
pub struct Comparison {
    agreement: Agreement,
    channels: Vec<(String, f32)>,
    worst: Option<Disagreement>,
}

impl Comparison {
    /// A comparison of two policies' actions, in the contract's units.
    pub fn of_policies(contract: &Contract, left: &str, right: &str) -> Self {
        let unit = |(low, high): (f32, f32)| low.abs().max(high.abs());
        let channels = (contract.action.iter())
            .map(|channel| (channel.name.clone(), channel.bounds().map_or(1.0, unit)))
            .collect();
        Self::new("policy", channels, left, right)
    }

    /// A comparison of two policies of unknown bounds.
    pub fn of_unbounded(width: usize, left: &str, right: &str) -> Self {
        Self::new("policy", (0..width).map(|index| (index.to_string(), 1.0)).collect(), left, right)
    }

    /// A comparison of two discriminators' rewards.
    pub fn of_discriminators(left: &str, right: &str) -> Self {
        Self::new("discriminator", vec![(crate::metadata::REWARD.into(), 1.0)], left, right)
    }

    fn new(what: &str, channels: Vec<(String, f32)>, left: &str, right: &str) -> Self {
        let agreement = Agreement {
            what: what.into(),
            left: left.into(),
            right: right.into(),
            rows: 0,
            largest_difference: 0.0,
            largest_share_of_tolerance: 0.0,
            worst: String::new(),
        };
        Self { agreement, channels, worst: None }
    }

    /// Adds the two outputs for one input. NaN agrees with nothing.
    pub fn add(&mut self, kind: ProbeKind, activation_scale: f32, left: &[f32], right: &[f32]) {
        let row = self.agreement.rows;
        self.agreement.rows += 1;
        for (((channel, unit), left), right) in self.channels.iter().zip(left).zip(right) {
            let tolerance = TOLERANCE * unit * activation_scale.max(1.0);
            let difference = (left - right).abs();
            let share = difference / tolerance;
            // NaN passes no comparison, so it must be looked for.
            if difference.is_nan() || difference > self.agreement.largest_difference {
                self.agreement.largest_difference = difference;
            }
            if share.is_nan() || share > self.agreement.largest_share_of_tolerance {
                self.agreement.largest_share_of_tolerance = share;
                self.agreement.worst = format!("{channel} of {kind} input {row}");
                self.worst = (share.is_nan() || share > 1.0).then(|| Disagreement {
                    what: self.agreement.what.clone(),
                    left: (self.agreement.left.clone(), *left),
                    right: (self.agreement.right.clone(), *right),
                    channel: channel.clone(),
                    row,
                    kind,
                    tolerance,
                });
            }
            if share.is_nan() {
                return;
            }
        }
    }

    /// The agreement, where every difference passed.
    ///
    /// # Errors
    /// [`Error::Disagreement`] with the largest difference and where it is.
    pub fn finish(self) -> Result<Agreement> {
        match self.worst {
            None => Ok(self.agreement),
            Some(worst) => Err(Error::Disagreement(Box::new(worst))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(scale: f32, pairs: &[(f32, f32)]) -> Result<Agreement> {
        let mut comparison = Comparison::of_unbounded(1, "burn", "native");
        for (left, right) in pairs {
            comparison.add(ProbeKind::Random, scale, &[*left], &[*right]);
        }
        comparison.finish()
    }

    #[test]
    fn small_differences_pass_and_are_reported() {
        let agreement = compare(1.0, &[(1.0, 1.0), (0.5, 0.500_005), (0.0, 0.0)]).unwrap();
        assert_eq!((agreement.rows, agreement.worst.as_str()), (3, "0 of random input 1"));
        assert!((agreement.largest_share_of_tolerance - 0.5).abs() < 0.01);
    }

    #[test]
    fn the_tolerance_grows_with_activation_scale_and_never_below_one() {
        assert!(compare(0.01, &[(0.5, 0.500_005)]).is_ok());
        assert!(compare(1.0, &[(0.5, 0.5001)]).is_err());
        assert!(compare(20.0, &[(0.5, 0.5001)]).is_ok());
    }

    #[test]
    fn the_largest_difference_is_named() {
        let message = compare(1.0, &[(1.0, 1.001), (0.25, 0.75), (1.0, 1.002)]).unwrap_err().to_string();
        assert!(message.contains("random input 1") && message.contains("0.25 against 0.75"), "{message}");
    }

    #[test]
    fn nan_agrees_with_nothing_and_is_not_forgotten() {
        for pairs in [[(f32::NAN, 1.0), (1.0, 1.0)], [(1.0, 1.0), (1.0, f32::NAN)], [(f32::NAN, f32::NAN), (0.0, 5.0)]]
        {
            assert!(compare(1.0, &pairs).is_err(), "{pairs:?}");
        }
    }
}

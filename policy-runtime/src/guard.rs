//! What stands between numbers that cannot be trusted and the actuators. Allocation: none. Panics: never.

use serde::{Deserialize, Serialize};

use crate::action::Bounds;

/// One reading of the sensors.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// Raw values in the contract's order and units, `[observation]`.
    pub values: &'a [f32],
    /// When they were taken, on the clock that `now_nanos` comes from.
    pub stamp_nanos: u64,
}

/// The action that takes the policy's place when a check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fallback {
    /// Zero on every channel, or the bound nearest to it.
    #[default]
    Zero,
    /// The last action that passed all checks; [`Fallback::Zero`] until there is one.
    Hold,
}

/// Why the policy's action was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The observation has another number of values than the policy takes.
    ObservationWidth {
        /// Values that the policy takes.
        expected: usize,
        /// Values that were given.
        found: usize,
    },
    /// The observation holds NaN or an infinity.
    ObservationNotFinite {
        /// First such channel.
        index: usize,
    },
    /// The observation is older than the contract allows.
    ObservationStale {
        /// Its age.
        age_nanos: u64,
        /// The greatest allowed age.
        limit_nanos: u64,
    },
    /// The caller's action buffer has another length than the policy's action.
    ActionWidth {
        /// Values that the policy gives.
        expected: usize,
        /// Length of the buffer.
        found: usize,
    },
    /// The policy gave NaN or an infinity.
    ActionNotFinite {
        /// First such channel.
        index: usize,
    },
    /// The policy gave an action outside the contract's bounds.
    ActionOutOfBounds {
        /// First such channel.
        index: usize,
    },
    /// The engine itself failed.
    Engine,
}

/// What one step of a policy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a fault means that the action is a fallback, not the policy's"]
pub enum Verdict {
    /// The action is the policy's own.
    Good,
    /// The action is the declared fallback, for this reason.
    Fallback(Fault),
}

impl Verdict {
    /// Whether the action is the policy's own.
    pub fn is_good(self) -> bool {
        self == Verdict::Good
    }
}

/// The checks around a policy. Holds no buffers: the caller owns the last good action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Number of observation channels.
    pub observation_width: usize,
    /// Number of action channels.
    pub action_width: usize,
    /// Greatest age of an observation; no limit when absent.
    pub max_age_nanos: Option<u64>,
    /// What replaces a refused action.
    pub fallback: Fallback,
}

impl Guard {
    /// Checks an observation before it reaches the policy. A stamp later than `now_nanos` has age zero.
    pub fn check_observation(&self, now_nanos: u64, observation: &Observation<'_>) -> Result<(), Fault> {
        let found = observation.values.len();
        if found != self.observation_width {
            return Err(Fault::ObservationWidth { expected: self.observation_width, found });
        }
        if let Some(index) = first_not_finite(observation.values) {
            return Err(Fault::ObservationNotFinite { index });
        }
        match self.max_age_nanos {
            Some(limit_nanos) => match now_nanos.saturating_sub(observation.stamp_nanos) {
                age_nanos if age_nanos > limit_nanos => Err(Fault::ObservationStale { age_nanos, limit_nanos }),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Checks the length of the buffer that is to receive the action.
    pub fn check_action_width(&self, found: usize) -> Result<(), Fault> {
        if found == self.action_width { Ok(()) } else { Err(Fault::ActionWidth { expected: self.action_width, found }) }
    }

    /// Checks an action before it reaches the actuators.
    pub fn check_action(&self, action: &[f32], bounds: Bounds<'_>) -> Result<(), Fault> {
        self.check_action_width(action.len())?;
        if let Some(index) = first_not_finite(action) {
            return Err(Fault::ActionNotFinite { index });
        }
        match bounds.first_outside(action) {
            Some(index) => Err(Fault::ActionOutOfBounds { index }),
            None => Ok(()),
        }
    }

    /// Writes the fallback action. `last_good` is empty until there was a good action. A buffer of the wrong length
    /// is filled as far as channels and buffer reach; what is left over becomes zero.
    pub fn write_fallback(&self, last_good: &[f32], bounds: Bounds<'_>, action: &mut [f32]) {
        for (index, value) in action.iter_mut().enumerate() {
            let wanted = match self.fallback {
                Fallback::Hold => last_good.get(index).copied().unwrap_or(0.0),
                Fallback::Zero => 0.0,
            };
            *value = bounds.clamp(index, wanted);
        }
    }
}

/// Index of the first NaN or infinity.
pub fn first_not_finite(row: &[f32]) -> Option<usize> {
    row.iter().position(|value| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Guard =
        Guard { observation_width: 2, action_width: 2, max_age_nanos: Some(100), fallback: Fallback::Hold };
    const BOUNDS: Bounds<'static> = Bounds { low: &[-1.0, 0.5], high: &[1.0, 1.0] };

    fn observed(values: &[f32], stamp_nanos: u64) -> Result<(), Fault> {
        GUARD.check_observation(1000, &Observation { values, stamp_nanos })
    }

    #[test]
    fn observations_are_checked_for_width_finiteness_and_age() {
        assert_eq!(observed(&[0.0, 1.0], 950), Ok(()));
        assert_eq!(observed(&[0.0, 1.0], 2000), Ok(()));
        assert_eq!(observed(&[0.0], 950), Err(Fault::ObservationWidth { expected: 2, found: 1 }));
        assert_eq!(observed(&[0.0, f32::NAN], 950), Err(Fault::ObservationNotFinite { index: 1 }));
        assert_eq!(observed(&[f32::INFINITY, 0.0], 950), Err(Fault::ObservationNotFinite { index: 0 }));
        assert_eq!(observed(&[0.0, 1.0], 899), Err(Fault::ObservationStale { age_nanos: 101, limit_nanos: 100 }));
    }

    #[test]
    fn actions_are_checked_for_width_finiteness_and_bounds() {
        assert_eq!(GUARD.check_action(&[0.0, 0.5], BOUNDS), Ok(()));
        assert_eq!(GUARD.check_action(&[0.0], BOUNDS), Err(Fault::ActionWidth { expected: 2, found: 1 }));
        assert_eq!(GUARD.check_action(&[0.0, f32::NAN], BOUNDS), Err(Fault::ActionNotFinite { index: 1 }));
        assert_eq!(GUARD.check_action(&[0.0, 0.4], BOUNDS), Err(Fault::ActionOutOfBounds { index: 1 }));
    }

    #[test]
    fn fallbacks_stay_inside_the_bounds() {
        let mut action = [f32::NAN; 2];
        GUARD.write_fallback(&[0.25, 0.75], BOUNDS, &mut action);
        assert_eq!(action, [0.25, 0.75]);
        GUARD.write_fallback(&[], BOUNDS, &mut action);
        assert_eq!(action, [0.0, 0.5]);
        let zero = Guard { fallback: Fallback::Zero, ..GUARD };
        let mut long = [f32::NAN; 3];
        zero.write_fallback(&[0.25, 0.75], BOUNDS, &mut long);
        assert_eq!(long, [0.0, 0.5, 0.0]);
    }
}

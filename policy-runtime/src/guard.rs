//! What stands between numbers that cannot be trusted and the actuators. Allocation: none. Panics: never.

use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::action::Bounds;

/// How far outside its bounds an observation may lie, as a share of their span: readings at a sensor's stop, rounded.
pub const RANGE_MARGIN: f32 = 1e-3;

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
    /// The last action that passed all checks; until there is one, [`Rules::fixed`] where it is declared, else zero.
    Hold,
    /// The declared action, [`Rules::fixed`].
    Fixed,
    /// Against the declared velocities, [`Rules::dampers`]; [`Fallback::Zero`] on channels without a damper, and on all
    /// while the observation itself cannot be trusted.
    Damping,
}

/// One action channel under [`Fallback::Damping`]: `action = -gain · observation[velocity]`, brought into bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damper {
    /// Index of the velocity among the observation channels.
    pub velocity: usize,
    /// Action unit per velocity unit.
    pub gain: f32,
}

/// The dampers of all action channels, or of none where the rows are empty. Two rows of numbers, as a blob holds them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dampers<'a> {
    /// [`Damper::velocity`], `[action]`; [`Dampers::NONE`] where a channel has no damper.
    pub velocity: &'a [u32],
    /// [`Damper::gain`], `[action]`.
    pub gain: &'a [f32],
}

impl Dampers<'_> {
    /// The velocity of a channel without a damper.
    pub const NONE: u32 = u32::MAX;

    /// The damper of action channel `index`, where it has one.
    pub fn at(&self, index: usize) -> Option<Damper> {
        let velocity = *self.velocity.get(index)?;
        let gain = *self.gain.get(index)?;
        (velocity != Self::NONE).then_some(Damper { velocity: velocity as usize, gain })
    }
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
    /// No observation has arrived yet.
    NoObservation,
    /// The observation lies outside the contract's bounds by more than [`RANGE_MARGIN`] of their span.
    ObservationOutOfRange {
        /// First such channel.
        index: usize,
    },
    /// The observation's stamp lies further in the future than its age may lie in the past: two clocks are mixed up.
    ObservationAhead {
        /// How far.
        ahead_nanos: u64,
        /// The greatest allowed age.
        limit_nanos: u64,
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
    /// The action came after its deadline.
    Late {
        /// Time since the tick's release.
        elapsed_nanos: u64,
        /// The deadline, counted from the release.
        limit_nanos: u64,
    },
}

/// A [`Fault`] without its details, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "named as the faults are")]
pub enum FaultKind {
    ObservationWidth,
    ObservationNotFinite,
    NoObservation,
    ObservationOutOfRange,
    ObservationAhead,
    ObservationStale,
    ActionWidth,
    ActionNotFinite,
    ActionOutOfBounds,
    Engine,
    Late,
}

impl FaultKind {
    /// Every kind; `ALL[kind as usize] == kind`.
    pub const ALL: [Self; 11] = [
        Self::ObservationWidth,
        Self::ObservationNotFinite,
        Self::NoObservation,
        Self::ObservationOutOfRange,
        Self::ObservationAhead,
        Self::ObservationStale,
        Self::ActionWidth,
        Self::ActionNotFinite,
        Self::ActionOutOfBounds,
        Self::Engine,
        Self::Late,
    ];
}

impl Fault {
    /// What kind of fault it is.
    pub fn kind(self) -> FaultKind {
        match self {
            Fault::ObservationWidth { .. } => FaultKind::ObservationWidth,
            Fault::ObservationNotFinite { .. } => FaultKind::ObservationNotFinite,
            Fault::NoObservation => FaultKind::NoObservation,
            Fault::ObservationOutOfRange { .. } => FaultKind::ObservationOutOfRange,
            Fault::ObservationAhead { .. } => FaultKind::ObservationAhead,
            Fault::ObservationStale { .. } => FaultKind::ObservationStale,
            Fault::ActionWidth { .. } => FaultKind::ActionWidth,
            Fault::ActionNotFinite { .. } => FaultKind::ActionNotFinite,
            Fault::ActionOutOfBounds { .. } => FaultKind::ActionOutOfBounds,
            Fault::Engine => FaultKind::Engine,
            Fault::Late { .. } => FaultKind::Late,
        }
    }

    /// Whether the observation passed its checks, so that a fallback may read it.
    pub fn spares_the_observation(self) -> bool {
        self.kind() as usize >= FaultKind::ActionWidth as usize
    }
}

/// Why a supervisor stopped for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// Somebody asked for it.
    Requested,
    /// Too many faults, see [`Rules::max_faults`]; this was the last.
    Faults(Fault),
}

/// What one step of a policy, or one tick of a [`Supervisor`](crate::supervisor::Supervisor), did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a fault means that the action is a fallback, not the policy's"]
#[non_exhaustive]
pub enum Verdict {
    /// The action is the policy's own.
    Good,
    /// The action is the declared fallback, for this reason.
    Fallback(Fault),
    /// The policy's action, slowed down by the limit on its change.
    Limited {
        /// First such channel.
        index: usize,
    },
    /// On the way to the policy's action, or from it to rest.
    Ramping {
        /// Ticks until the ramp ends.
        remaining_ticks: u32,
    },
    /// Not entered: the action is the fallback.
    Idle,
    /// Latched: the action is the fallback until somebody rearms.
    Stopped(Stop),
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
    /// Checks an observation before it reaches the policy. A stamp somewhat later than `now_nanos` has age zero.
    pub fn check_observation(&self, now_nanos: u64, observation: &Observation<'_>) -> Result<(), Fault> {
        let found = observation.values.len();
        if found != self.observation_width {
            return Err(Fault::ObservationWidth { expected: self.observation_width, found });
        }
        if let Some(index) = first_not_finite(observation.values) {
            return Err(Fault::ObservationNotFinite { index });
        }
        match self.max_age_nanos {
            Some(limit_nanos) => {
                let age_nanos = now_nanos.saturating_sub(observation.stamp_nanos);
                let ahead_nanos = observation.stamp_nanos.saturating_sub(now_nanos);
                if age_nanos > limit_nanos {
                    Err(Fault::ObservationStale { age_nanos, limit_nanos })
                } else if ahead_nanos > limit_nanos {
                    Err(Fault::ObservationAhead { ahead_nanos, limit_nanos })
                } else {
                    Ok(())
                }
            }
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
}

/// All that a robot wants checked and kept, borrowed from whoever owns the buffers. What is empty or absent is not
/// checked: [`Rules::new`] has widths and action bounds only.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Widths, age and the kind of fallback.
    pub guard: Guard,
    /// Bounds of the action, `[action]`.
    pub action: Bounds<'a>,
    /// Bounds of the observation, `[observation]`, infinite where a channel has none; or empty.
    pub observation: Bounds<'a>,
    /// The action of [`Fallback::Fixed`], `[action]`.
    pub fixed: &'a [f32],
    /// The dampers of [`Fallback::Damping`].
    pub dampers: Dampers<'a>,
    /// Greatest change from tick to tick, `[action]`, action units, infinite where a channel has none; or empty.
    pub max_change: &'a [f32],
    /// Ticks from rest, or from a fallback, to the policy's action; none when zero.
    pub entry_ticks: u32,
    /// Ticks from the policy's action to rest; none when zero.
    pub exit_ticks: u32,
    /// When an action is too late, counted from the tick's release.
    pub deadline_nanos: Option<u64>,
    /// Faults that stop for good; forgotten after as many ticks in a row with the policy's own action.
    pub max_faults: Option<NonZeroU32>,
}

impl<'a> Rules<'a> {
    /// The checks of `guard` and the bounds of the action, and nothing else.
    pub const fn new(guard: Guard, action: Bounds<'a>) -> Self {
        Self {
            guard,
            action,
            observation: Bounds { low: &[], high: &[] },
            fixed: &[],
            dampers: Dampers { velocity: &[], gain: &[] },
            max_change: &[],
            entry_ticks: 0,
            exit_ticks: 0,
            deadline_nanos: None,
            max_faults: None,
        }
    }

    /// Checks an observation before it reaches the policy.
    pub fn check_observation(&self, now_nanos: u64, observation: &Observation<'_>) -> Result<(), Fault> {
        self.guard.check_observation(now_nanos, observation)?;
        let ranges = self.observation.low.iter().zip(self.observation.high);
        let mut each = observation.values.iter().zip(ranges);
        // Without a branch in it, the first pass takes many channels at once; only a fault is worth a second one that finds its place.
        if !each.clone().fold(false, |any, it| any | outside(it)) {
            return Ok(());
        }
        each.position(outside).map_or(Ok(()), |index| Err(Fault::ObservationOutOfRange { index }))
    }

    /// Checks an action before it reaches the actuators.
    pub fn check_action(&self, action: &[f32]) -> Result<(), Fault> {
        self.guard.check_action(action, self.action)
    }

    /// Checks the time that a tick took, from its release until its action was ready.
    pub fn check_deadline(&self, elapsed_nanos: u64) -> Result<(), Fault> {
        match self.deadline_nanos {
            Some(limit_nanos) if elapsed_nanos > limit_nanos => Err(Fault::Late { elapsed_nanos, limit_nanos }),
            _ => Ok(()),
        }
    }

    /// Writes the fallback action, finite and within bounds whatever is given. `last` is the action to hold, empty
    /// when there is none; `observation` is empty unless it passed its checks. A buffer of the wrong length is filled
    /// as far as channels and buffer reach; what is left over becomes zero.
    pub fn write_fallback(&self, last: &[f32], observation: &[f32], action: &mut [f32]) {
        for (index, value) in action.iter_mut().enumerate() {
            let wanted = match self.guard.fallback {
                Fallback::Hold => last.get(index).or(self.fixed.get(index)).copied(),
                Fallback::Zero => None,
                Fallback::Fixed => self.fixed.get(index).copied(),
                Fallback::Damping => {
                    (self.dampers.at(index)).and_then(|damper| Some(-damper.gain * observation.get(damper.velocity)?))
                }
            };
            *value = self.action.clamp(index, wanted.filter(|wanted| wanted.is_finite()).unwrap_or(0.0));
        }
    }
}

/// Index of the first NaN or infinity.
pub fn first_not_finite(row: &[f32]) -> Option<usize> {
    if !row.iter().fold(false, |any, value| any | !value.is_finite()) {
        return None;
    }
    row.iter().position(|value| !value.is_finite())
}

/// Whether a value lies outside of a channel's bounds by more than the margin. Comparisons and choices only, no branch.
fn outside((value, (low, high)): (&f32, (&f32, &f32))) -> bool {
    let span = *high - *low;
    let margin = if span < f32::INFINITY { RANGE_MARGIN * span } else { 0.0 };
    (*value < *low - margin) | (*value > *high + margin)
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
        assert_eq!(observed(&[0.0, 1.0], 1100), Ok(()));
        assert_eq!(observed(&[0.0, 1.0], 1101), Err(Fault::ObservationAhead { ahead_nanos: 101, limit_nanos: 100 }));
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
        let with = |fallback| Rules::new(Guard { fallback, ..GUARD }, BOUNDS);
        let mut action = [f32::NAN; 2];
        with(Fallback::Hold).write_fallback(&[0.25, 0.75], &[], &mut action);
        assert_eq!(action, [0.25, 0.75]);
        with(Fallback::Hold).write_fallback(&[], &[], &mut action);
        assert_eq!(action, [0.0, 0.5]);
        let mut long = [f32::NAN; 3];
        with(Fallback::Zero).write_fallback(&[0.25, 0.75], &[], &mut long);
        assert_eq!(long, [0.0, 0.5, 0.0]);
        let fixed = Rules { fixed: &[-3.0, 0.6], ..with(Fallback::Fixed) };
        fixed.write_fallback(&[0.25, 0.75], &[], &mut action);
        assert_eq!(action, [-1.0, 0.6]);
    }

    #[test]
    fn damping_works_against_a_velocity_that_can_be_trusted() {
        let dampers = Dampers { velocity: &[1, Dampers::NONE], gain: &[2.0, 0.0] };
        let guard = Guard { fallback: Fallback::Damping, ..GUARD };
        let rules = Rules { dampers, ..Rules::new(guard, BOUNDS) };
        let mut action = [f32::NAN; 2];
        for (observation, wanted) in [
            (&[9.0, 0.25][..], [-0.5, 0.5]),
            (&[9.0, -7.0], [1.0, 0.5]),
            (&[9.0, f32::NAN], [0.0, 0.5]),
            (&[], [0.0, 0.5]),
        ] {
            rules.write_fallback(&[0.9, 0.9], observation, &mut action);
            assert_eq!(action, wanted, "{observation:?}");
        }
    }

    #[test]
    fn ranges_have_a_margin_for_rounding_only() {
        let observation = Bounds { low: &[-1.0, f32::NEG_INFINITY], high: &[1.0, f32::INFINITY] };
        let rules = Rules { observation, ..Rules::new(GUARD, BOUNDS) };
        let check = |values: &[f32]| rules.check_observation(0, &Observation { values, stamp_nanos: 0 });
        assert_eq!(check(&[1.001, 1e30]), Ok(()));
        assert_eq!(check(&[1.01, 0.0]), Err(Fault::ObservationOutOfRange { index: 0 }));
        assert_eq!(check(&[-1.01, 0.0]), Err(Fault::ObservationOutOfRange { index: 0 }));
    }

    #[test]
    fn kinds_index_their_table_and_late_means_after_the_deadline() {
        assert!(FaultKind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        let rules = Rules { deadline_nanos: Some(10), ..Rules::new(GUARD, BOUNDS) };
        assert_eq!(rules.check_deadline(10), Ok(()));
        let late = rules.check_deadline(11).unwrap_err();
        assert_eq!(late, Fault::Late { elapsed_nanos: 11, limit_nanos: 10 });
        assert!(late.spares_the_observation() && !Fault::NoObservation.spares_the_observation());
    }
}

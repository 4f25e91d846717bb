//! One tick: check the newest observation, ask the policy, check its action, keep the books.

use core::num::NonZeroU64;

use policy_runtime::action::Bounds;
use policy_runtime::guard::{Guard, Rules, first_not_finite};
use policy_runtime::timing::FixedRate;
use policy_runtime::{Fallback, Fault, Observation, Verdict};

/// Whatever turns an observation into an action.
pub trait Policy<const OBSERVATION: usize, const ACTION: usize> {
    /// Writes the action in environment units for a raw observation.
    fn act(&mut self, observation: &[f32; OBSERVATION], action: &mut [f32; ACTION]);
}

impl<F, const OBSERVATION: usize, const ACTION: usize> Policy<OBSERVATION, ACTION> for F
where
    F: FnMut(&[f32; OBSERVATION], &mut [f32; ACTION]),
{
    fn act(&mut self, observation: &[f32; OBSERVATION], action: &mut [f32; ACTION]) {
        self(observation, action);
    }
}

/// What one tick decided.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct Tick<const ACTION: usize> {
    /// For the actuators, environment units, always within the bounds.
    pub action: [f32; ACTION],
    /// Whether it is the policy's own.
    pub verdict: Verdict,
}

/// The state of a control loop between two ticks.
#[derive(Debug, Clone)]
pub struct ControlLoop<const OBSERVATION: usize, const ACTION: usize> {
    guard: Guard,
    low: [f32; ACTION],
    high: [f32; ACTION],
    rate: FixedRate,
    newest: Option<([f32; OBSERVATION], u64)>,
    last_good: Option<[f32; ACTION]>,
    fallbacks: u32,
}

impl<const OBSERVATION: usize, const ACTION: usize> ControlLoop<OBSERVATION, ACTION> {
    /// A loop whose first tick is due at `start_nanos`. Actions outside `low` to `high` and observations older than
    /// `max_age_nanos` lead to the fallback action. `None` where a bound is not finite or `low` is above `high`.
    pub fn new(
        period_nanos: NonZeroU64,
        start_nanos: u64,
        [low, high]: [[f32; ACTION]; 2],
        max_age_nanos: u64,
        fallback: Fallback,
    ) -> Option<Self> {
        let ordered = low.iter().zip(&high).all(|(low, high)| low <= high);
        if !ordered || first_not_finite(&low).is_some() || first_not_finite(&high).is_some() {
            return None;
        }
        let guard = Guard {
            observation_width: OBSERVATION,
            action_width: ACTION,
            max_age_nanos: Some(max_age_nanos),
            fallback,
        };
        let rate = FixedRate::new(period_nanos, start_nanos);
        Some(Self { guard, low, high, rate, newest: None, last_good: None, fallbacks: 0 })
    }

    /// Takes a frame from the sensors; the next tick uses the newest.
    pub fn observe(&mut self, values: [f32; OBSERVATION], stamp_nanos: u64) {
        self.newest = Some((values, stamp_nanos));
    }

    /// When the next tick is due.
    pub fn due_nanos(&self) -> u64 {
        self.rate.release_nanos()
    }

    /// One tick. Before the first frame, and whenever a check fails, the action is the fallback.
    pub fn tick(&mut self, now_nanos: u64, policy: &mut impl Policy<OBSERVATION, ACTION>) -> Tick<ACTION> {
        let mut action = [0.0; ACTION];
        let verdict = match self.try_tick(now_nanos, policy, &mut action) {
            Ok(()) => {
                self.last_good = Some(action);
                Verdict::Good
            }
            Err(fault) => {
                self.fallbacks = self.fallbacks.saturating_add(1);
                let last_good = self.last_good.as_ref().map_or(&[][..], |row| row);
                let bounds = Bounds { low: &self.low, high: &self.high };
                Rules::new(self.guard, bounds).write_fallback(last_good, &[], &mut action);
                Verdict::Fallback(fault)
            }
        };
        Tick { action, verdict }
    }

    fn try_tick(
        &mut self,
        now_nanos: u64,
        policy: &mut impl Policy<OBSERVATION, ACTION>,
        action: &mut [f32; ACTION],
    ) -> Result<(), Fault> {
        let Some((values, stamp_nanos)) = &self.newest else {
            return Err(Fault::NoObservation);
        };
        self.guard.check_observation(now_nanos, &Observation { values, stamp_nanos: *stamp_nanos })?;
        policy.act(values, action);
        self.guard.check_action(action, Bounds { low: &self.low, high: &self.high })
    }

    /// Records that the actuators have the tick's action; returns whether that was in time.
    pub fn complete(&mut self, now_nanos: u64) -> bool {
        self.rate.complete(now_nanos)
    }

    /// Deadlines without an action.
    pub fn missed_deadlines(&self) -> u64 {
        self.rate.missed_deadlines()
    }

    /// Ticks whose action was the fallback.
    pub fn fallbacks(&self) -> u32 {
        self.fallbacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_NANOS: u64 = 2_000_000;

    fn control(fallback: Fallback) -> ControlLoop<2, 1> {
        let period = NonZeroU64::new(PERIOD_NANOS).unwrap();
        ControlLoop::new(period, 0, [[-1.0], [1.0]], 2 * PERIOD_NANOS, fallback).unwrap()
    }

    /// A spring with damping; beyond its bounds far from the origin.
    fn spring(observation: &[f32; 2], action: &mut [f32; 1]) {
        action[0] = -0.5 * observation[0] - 0.25 * observation[1];
    }

    #[test]
    fn a_silent_sensor_leads_from_hold_to_counted_fallbacks() {
        let mut control = control(Fallback::Hold);
        let silent = control.tick(0, &mut spring);
        assert_eq!(silent.action, [0.0]);
        assert_eq!(silent.verdict, Verdict::Fallback(Fault::NoObservation));
        control.observe([1.0, 0.0], 0);
        assert_eq!(control.tick(0, &mut spring), Tick { action: [-0.5], verdict: Verdict::Good });
        let late = control.tick(3 * PERIOD_NANOS, &mut spring);
        assert_eq!(late.action, [-0.5], "the last good action is held");
        let stale = Fault::ObservationStale { age_nanos: 3 * PERIOD_NANOS, limit_nanos: 2 * PERIOD_NANOS };
        assert_eq!(late.verdict, Verdict::Fallback(stale));
        assert_eq!(control.fallbacks(), 2);
    }

    #[test]
    fn bad_frames_and_wild_actions_never_reach_the_actuators() {
        let mut control = control(Fallback::Zero);
        for (frame, fault) in [
            ([f32::NAN, 0.0], Fault::ObservationNotFinite { index: 0 }),
            ([0.0, f32::INFINITY], Fault::ObservationNotFinite { index: 1 }),
            ([100.0, 0.0], Fault::ActionOutOfBounds { index: 0 }),
        ] {
            control.observe(frame, 0);
            assert_eq!(control.tick(0, &mut spring), Tick { action: [0.0], verdict: Verdict::Fallback(fault) });
        }
        control.observe([0.0, 0.0], 0);
        let mut broken = |_: &[f32; 2], action: &mut [f32; 1]| action[0] = f32::NAN;
        let tick = control.tick(0, &mut broken);
        assert_eq!((tick.action, tick.verdict), ([0.0], Verdict::Fallback(Fault::ActionNotFinite { index: 0 })));
    }

    #[test]
    fn the_loop_stabilises_a_mass_on_a_fake_clock_and_counts_overruns() {
        let mut control = control(Fallback::Zero);
        let (mut position, mut velocity) = (1.0_f32, 0.0_f32);
        let step_secs = PERIOD_NANOS as f32 * 1e-9;
        for tick in 0..20_000_u64 {
            let now = control.due_nanos();
            control.observe([position, velocity], now);
            let Tick { action, verdict } = control.tick(now, &mut spring);
            assert!(verdict.is_good());
            velocity += action[0] * step_secs;
            position += velocity * step_secs;
            let overrun = if tick % 1000 == 999 { PERIOD_NANOS } else { 0 };
            assert_eq!(control.complete(now + PERIOD_NANOS / 2 + overrun), overrun == 0);
        }
        assert!(position.abs() < 0.05 && velocity.abs() < 0.05, "{position} {velocity}");
        assert_eq!(control.missed_deadlines(), 2 * 20);
    }

    #[test]
    fn bounds_that_make_no_sense_are_refused() {
        let period = NonZeroU64::MIN;
        assert!(ControlLoop::<2, 1>::new(period, 0, [[1.0], [-1.0]], 0, Fallback::Zero).is_none());
        assert!(ControlLoop::<2, 1>::new(period, 0, [[f32::NAN], [1.0]], 0, Fallback::Zero).is_none());
    }
}

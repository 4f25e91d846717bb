//! Who drives: the policy, a ramp, the fallback, or nobody. Time is counted in ticks; docs/RUNTIME.md draws the states.
//! Allocation: none. Panics: never.

use crate::guard::{Fault, FaultKind, Rules, Stop, Verdict, first_not_finite};

/// Where a [`Supervisor`] stands between two ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// At rest: the fallback action. Left by [`Supervisor::enter`].
    Idle,
    /// On the ramp to the policy's action.
    Entering,
    /// The policy drives.
    Active,
    /// A check failed at the last tick: the fallback action. The next good tick starts the ramp again.
    Fallback,
    /// On the ramp to rest.
    Exiting,
    /// Stopped: the fallback action. Left by [`Supervisor::rearm`] and nothing else.
    Stopped,
}

/// Ticks by what they were; they add up to the number of ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// The policy's own action.
    pub good: u64,
    /// The policy's action, its change limited.
    pub limited: u64,
    /// On a ramp.
    pub ramping: u64,
    /// At rest.
    pub idle: u64,
    /// Stopped.
    pub stopped: u64,
    /// Fallback actions, by [`FaultKind`].
    pub fallbacks: [u64; FaultKind::ALL.len()],
}

impl Counters {
    /// All ticks.
    pub fn ticks(&self) -> u64 {
        self.good + self.limited + self.ramping + self.idle + self.stopped + self.fallback_ticks()
    }

    /// Ticks whose action was the fallback because of a fault.
    pub fn fallback_ticks(&self) -> u64 {
        self.fallbacks.iter().sum()
    }

    /// Ticks whose action was the fallback because of faults of one kind.
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.fallbacks.get(kind as usize).copied().unwrap_or(0)
    }

    fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Good => Some(&mut self.good),
            Verdict::Limited { .. } => Some(&mut self.limited),
            Verdict::Ramping { .. } => Some(&mut self.ramping),
            Verdict::Idle => Some(&mut self.idle),
            Verdict::Stopped(_) => Some(&mut self.stopped),
            Verdict::Fallback(fault) => self.fallbacks.get_mut(fault.kind() as usize),
        };
        if let Some(counter) = counter {
            *counter = counter.saturating_add(1);
        }
    }
}

/// The state machine around a policy. Rules and buffers are the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    phase: Phase,
    remaining_ticks: u32,
    faults: u32,
    /// Ticks in a row with the policy's own action since the last fault.
    good_in_a_row: u32,
    stop: Stop,
    has_last: bool,
    counters: Counters,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// At rest.
    pub const fn new() -> Self {
        let counters =
            Counters { good: 0, limited: 0, ramping: 0, idle: 0, stopped: 0, fallbacks: [0; FaultKind::ALL.len()] };
        let stop = Stop::Requested;
        Self { phase: Phase::Idle, remaining_ticks: 0, faults: 0, good_in_a_row: 0, stop, has_last: false, counters }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Ticks by what they were.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Lets the policy drive, by way of the entry ramp. From [`Phase::Idle`] and [`Phase::Exiting`] only; returns
    /// whether it did.
    pub fn enter(&mut self, rules: &Rules<'_>) -> bool {
        let may = matches!(self.phase, Phase::Idle | Phase::Exiting);
        if may {
            self.faults = 0;
            self.start_entry(rules);
        }
        may
    }

    /// Another policy took over: where one drives, the entry ramp starts again.
    pub fn restart_entry(&mut self, rules: &Rules<'_>) {
        if matches!(self.phase, Phase::Entering | Phase::Active) {
            self.start_entry(rules);
        }
    }

    /// Takes the policy out, by way of the exit ramp. Not from [`Phase::Idle`] or [`Phase::Stopped`]; returns whether it
    /// did.
    pub fn exit(&mut self, rules: &Rules<'_>) -> bool {
        let may = matches!(self.phase, Phase::Entering | Phase::Active | Phase::Fallback);
        if may {
            self.phase = if rules.exit_ticks == 0 { Phase::Idle } else { Phase::Exiting };
            self.remaining_ticks = rules.exit_ticks;
        }
        may
    }

    /// Stops at once, from any phase. Latched.
    pub fn stop(&mut self) {
        if self.phase != Phase::Stopped {
            (self.phase, self.stop) = (Phase::Stopped, Stop::Requested);
        }
    }

    /// Leaves [`Phase::Stopped`] for [`Phase::Idle`]; returns whether it did.
    pub fn rearm(&mut self) -> bool {
        let may = self.phase == Phase::Stopped;
        if may {
            (self.phase, self.faults) = (Phase::Idle, 0);
        }
        may
    }

    /// One tick. `action` holds the policy's proposal and gets the command for the actuators: finite, and within the
    /// rules' bounds. The proposal itself is checked here; `proposal` says what was found before it: the observation's
    /// fault, the engine's, or a missed deadline. `observation` is read by dampers, and only where no fault is about
    /// it. `last`, `[action]`, is the caller's memory of the last command.
    ///
    /// Fallback and stop take effect at once; the policy's actions and ramps keep within `max_change` of the last
    /// command.
    pub fn decide(
        &mut self,
        rules: &Rules<'_>,
        proposal: Result<(), Fault>,
        observation: &[f32],
        action: &mut [f32],
        last: &mut [f32],
    ) -> Verdict {
        let proposal = match rules.guard.check_action_width(action.len()) {
            Err(fault) => Err(fault),
            Ok(()) => proposal.and_then(|()| rules.check_action(action)),
        };
        let observation = match proposal {
            Err(fault) if !fault.spares_the_observation() => &[],
            _ => observation,
        };
        if !self.has_last {
            rules.write_fallback(&[], observation, last);
            self.has_last = true;
        }
        let verdict = match self.phase {
            Phase::Stopped => self.rest(rules, Verdict::Stopped(self.stop), observation, action, last),
            Phase::Idle => self.rest(rules, Verdict::Idle, observation, action, last),
            Phase::Exiting => self.exit_tick(rules, observation, action, last),
            Phase::Entering | Phase::Active | Phase::Fallback => match proposal {
                Ok(()) => self.drive(rules, action, last),
                Err(fault) => self.fall_back(rules, fault, observation, action, last),
            },
        };
        for (last, command) in last.iter_mut().zip(action.iter()) {
            *last = *command;
        }
        self.counters.count(verdict);
        verdict
    }

    fn rest(
        &self,
        rules: &Rules<'_>,
        verdict: Verdict,
        observation: &[f32],
        action: &mut [f32],
        last: &[f32],
    ) -> Verdict {
        rules.write_fallback(last, observation, action);
        verdict
    }

    fn fall_back(
        &mut self,
        rules: &Rules<'_>,
        fault: Fault,
        observation: &[f32],
        action: &mut [f32],
        last: &[f32],
    ) -> Verdict {
        rules.write_fallback(last, observation, action);
        self.phase = Phase::Fallback;
        self.faults = self.faults.saturating_add(1);
        self.good_in_a_row = 0;
        if rules.max_faults.is_some_and(|most| self.faults >= most.get()) {
            (self.phase, self.stop) = (Phase::Stopped, Stop::Faults(fault));
        }
        Verdict::Fallback(fault)
    }

    fn drive(&mut self, rules: &Rules<'_>, action: &mut [f32], last: &[f32]) -> Verdict {
        if self.phase == Phase::Fallback {
            self.start_entry(rules);
        }
        if self.phase == Phase::Entering {
            approach(self.remaining_ticks, action, last);
            self.remaining_ticks = self.remaining_ticks.saturating_sub(1);
            let _ = limit(rules, action, last);
            if self.remaining_ticks == 0 {
                self.phase = Phase::Active;
            }
            return Verdict::Ramping { remaining_ticks: self.remaining_ticks };
        }
        self.good_in_a_row = self.good_in_a_row.saturating_add(1);
        if rules.max_faults.is_some_and(|most| self.good_in_a_row >= most.get()) {
            self.faults = 0;
        }
        limit(rules, action, last).map_or(Verdict::Good, |index| Verdict::Limited { index })
    }

    fn exit_tick(&mut self, rules: &Rules<'_>, observation: &[f32], action: &mut [f32], last: &[f32]) -> Verdict {
        rules.write_fallback(last, observation, action);
        approach(self.remaining_ticks, action, last);
        self.remaining_ticks = self.remaining_ticks.saturating_sub(1);
        if limit(rules, action, last).is_none() && self.remaining_ticks == 0 {
            self.phase = Phase::Idle;
        }
        Verdict::Ramping { remaining_ticks: self.remaining_ticks }
    }

    fn start_entry(&mut self, rules: &Rules<'_>) {
        self.phase = if rules.entry_ticks == 0 { Phase::Active } else { Phase::Entering };
        self.remaining_ticks = rules.entry_ticks;
    }
}

/// `action` becomes the point one tick along the way from `last` to it that takes `remaining_ticks`.
fn approach(remaining_ticks: u32, action: &mut [f32], last: &[f32]) {
    if remaining_ticks <= 1 {
        return;
    }
    let share = 1.0 / remaining_ticks as f32;
    for (value, last) in action.iter_mut().zip(last) {
        let nearer = *last + (*value - *last) * share;
        // Channels without bounds may overflow.
        if nearer.is_finite() {
            *value = nearer;
        }
    }
}

/// Keeps `action` within `max_change` of `last`; returns the first channel that was held back.
fn limit(rules: &Rules<'_>, action: &mut [f32], last: &[f32]) -> Option<usize> {
    let mut first = None;
    for (index, ((value, last), most)) in action.iter_mut().zip(last).zip(rules.max_change).enumerate() {
        let limited = if *value > *last + *most {
            *last + *most
        } else if *value < *last - *most {
            *last - *most
        } else {
            continue;
        };
        *value = rules.action.clamp(index, limited);
        first.get_or_insert(index);
    }
    debug_assert!(first_not_finite(action).is_none());
    first
}

//! A new policy for a running loop: prepared on another thread, taken over between two ticks, the old one dropped
//! elsewhere. The loop's side waits for no lock, makes no system call and neither allocates nor frees.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::guard::Observation;
use crate::monitor::Monitor;
use crate::policy::Policy;
use crate::selfcheck::Golden;

/// Steps that a new policy makes before a loop may have it.
const WARM_UP_STEPS: usize = 200;
/// How often the preparing side looks for the old policy.
const POLL: Duration = Duration::from_millis(2);

/// How a new policy takes over from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handover {
    /// It starts from nothing, by way of the entry ramp from the last command.
    #[default]
    Reset,
    /// It goes on with the old one's state, and drives at once. Where the two states differ in name or shape this is a
    /// [`Handover::Reset`].
    Carry,
}

/// A policy on its way to or from a loop.
#[derive(Debug)]
pub struct Prepared {
    /// The new policy on the way in, the old one on the way out.
    pub policy: Policy,
    /// What watches it: the numbers are one policy's and not another's.
    pub monitor: Option<Monitor>,
    /// How it takes over.
    pub handover: Handover,
}

/// Where the two sides meet. Both only ever try the lock: whoever waited for it would have to be woken by the other, and a loop that is
/// refused takes the policy a tick later.
#[derive(Debug, Default)]
struct Slots {
    incoming: Option<Box<Prepared>>,
    retired: Option<Box<Prepared>>,
}

/// The preparing side.
#[derive(Debug)]
pub struct SwapSender(Arc<Mutex<Slots>>);

/// The loop's side.
#[derive(Debug)]
pub struct SwapPort(Arc<Mutex<Slots>>);

/// Both sides of a hot swap. One policy is under way at a time.
pub fn swap_line() -> (SwapSender, SwapPort) {
    let slots = Arc::new(Mutex::new(Slots::default()));
    (SwapSender(Arc::clone(&slots)), SwapPort(slots))
}

fn try_lock(slots: &Mutex<Slots>) -> Option<MutexGuard<'_, Slots>> {
    match slots.try_lock() {
        Ok(guard) => Some(guard),
        // Slots are whole at every moment.
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Checks that `next` can take the place of `current`, and warms it up on golden observations (zeros without any).
///
/// # Errors
/// [`Error::Malformed`] where channels, their order, units or bounds, or the control period differ.
pub fn prepare(current: &Policy, mut next: Policy, golden: &[Golden], handover: Handover) -> Result<Prepared> {
    let differs = |what: &str| Error::malformed("the new policy", format!("the running policy's {what}"), "another");
    match (current.contract(), next.contract()) {
        (Some(now), Some(new)) if now.observation != new.observation => return Err(differs("observation channels")),
        (Some(now), Some(new)) if now.action != new.action => return Err(differs("action channels")),
        (Some(now), Some(new)) if now.control_period_secs != new.control_period_secs => {
            return Err(differs("control period"));
        }
        (Some(_), None) | (None, Some(_)) => return Err(differs("contract")),
        _ => {}
    }
    if current.observation_width() != next.observation_width() || current.action_width() != next.action_width() {
        return Err(differs("widths"));
    }
    let zeros = vec![0.0; next.observation_width()];
    let mut action = vec![0.0; next.action_width()];
    for step in 0..WARM_UP_STEPS {
        let values = golden.get(step % golden.len().max(1)).map_or(&zeros, |golden| &golden.observation);
        // Verdicts of a warm-up mean nothing.
        let _ = next.step(0, &Observation { values, stamp_nanos: 0 }, &mut action);
    }
    next.reset();
    Ok(Prepared { policy: next, monitor: None, handover })
}

impl Prepared {
    /// With what watches it, where there is something.
    #[must_use]
    pub fn with_monitor(mut self, monitor: Option<Monitor>) -> Self {
        self.monitor = monitor;
        self
    }
}

impl SwapSender {
    /// Hands a policy to the loop, waits until it has taken over, and drops the old one here. `false` where the loop
    /// has ended or `give_up` says so; what was handed over may then still take over, unless a later call brings another one first.
    pub fn swap(&mut self, prepared: Prepared, give_up: impl Fn() -> bool) -> bool {
        let mut waiting = Some(Box::new(prepared));
        loop {
            // What comes out is dropped behind the lock, which the loop may want meanwhile.
            let mut out = [None, None];
            let mut done = false;
            if let Some(mut slots) = try_lock(&self.0) {
                match waiting.take() {
                    Some(next) => out = [slots.retired.take(), slots.incoming.replace(next)],
                    None => {
                        out[0] = slots.retired.take();
                        done = out[0].is_some();
                    }
                }
            }
            drop(out);
            if done {
                return true;
            }
            if Arc::strong_count(&self.0) < 2 || waiting.is_none() && give_up() {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl SwapPort {
    /// Between two ticks: the new policy takes `current`'s place, and its monitor `monitor`'s, where there is one. Returns how it takes over.
    pub fn accept(&mut self, current: &mut Policy, monitor: &mut Option<Monitor>) -> Option<Handover> {
        let mut slots = try_lock(&self.0)?;
        // Until the other side has fetched the old one there is no room for another.
        if slots.retired.is_some() {
            return None;
        }
        let mut prepared = slots.incoming.take()?;
        if prepared.handover == Handover::Carry && !prepared.policy.carry_from(current) {
            prepared.handover = Handover::Reset;
        }
        std::mem::swap(current, &mut prepared.policy);
        std::mem::swap(monitor, &mut prepared.monitor);
        let handover = prepared.handover;
        slots.retired = Some(prepared);
        Some(handover)
    }
}

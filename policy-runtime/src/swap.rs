//! A new policy for a running loop: prepared on another thread, taken over between two ticks, the old one dropped
//! elsewhere. The loop's side takes no lock, makes no system call and neither allocates nor frees.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::guard::Observation;
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
    /// How it takes over.
    pub handover: Handover,
}

/// The preparing side.
#[derive(Debug)]
pub struct SwapSender {
    outgoing: SyncSender<Box<Prepared>>,
    retired: Receiver<Box<Prepared>>,
}

/// The loop's side.
#[derive(Debug)]
pub struct SwapPort {
    incoming: Receiver<Box<Prepared>>,
    outgoing: SyncSender<Box<Prepared>>,
    /// Only where the other side has gone: dropping is not for the loop.
    stranded: Option<Box<Prepared>>,
}

/// Both sides of a hot swap. One policy is under way at a time.
pub fn swap_line() -> (SwapSender, SwapPort) {
    let (outgoing, incoming) = sync_channel(1);
    let (retire, retired) = sync_channel(1);
    (SwapSender { outgoing, retired }, SwapPort { incoming, outgoing: retire, stranded: None })
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
    Ok(Prepared { policy: next, handover })
}

impl SwapSender {
    /// Hands a policy to the loop, waits until it has taken over, and drops the old one here. `false` where the loop
    /// has ended or `give_up` says so; the new policy is then dropped here as well, or by whoever drops the loop.
    pub fn swap(&self, prepared: Prepared, give_up: impl Fn() -> bool) -> bool {
        if self.outgoing.try_send(Box::new(prepared)).is_err() {
            return false;
        }
        loop {
            match self.retired.try_recv() {
                Ok(old) => {
                    drop(old);
                    return true;
                }
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) if give_up() => return false,
                // Waiting inside `recv` would make the loop's send wake this thread by a system call.
                Err(TryRecvError::Empty) => std::thread::sleep(POLL),
            }
        }
    }
}

impl SwapPort {
    /// Between two ticks: the new policy takes `current`'s place, where there is one. Returns how it takes over.
    pub fn accept(&mut self, current: &mut Policy) -> Option<Handover> {
        if self.stranded.is_some() {
            return None;
        }
        let mut prepared = self.incoming.try_recv().ok()?;
        if prepared.handover == Handover::Carry && !prepared.policy.carry_from(current) {
            prepared.handover = Handover::Reset;
        }
        std::mem::swap(current, &mut prepared.policy);
        let handover = prepared.handover;
        if let Err(refused) = self.outgoing.try_send(prepared) {
            let (std::sync::mpsc::TrySendError::Full(old) | std::sync::mpsc::TrySendError::Disconnected(old)) = refused;
            self.stranded = Some(old);
        }
        Some(handover)
    }
}

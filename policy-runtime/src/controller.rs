//! A policy, the supervisor around it, and the place where a new policy can take over: one tick of a control loop.

use crate::error::{Error, Result};
use crate::guard::{Fault, Observation, Verdict};
use crate::monitor::Monitor;
use crate::policy::Policy;
use crate::supervisor::{Counters, Phase, Supervisor};
use crate::swap::{Handover, SwapPort};

/// What a control loop on a robot calls at every tick. Allocates nothing after [`Controller::new`] with the native
/// engine; no locks, no clock of its own.
///
/// ```no_run
/// use std::num::NonZeroU64;
///
/// use policy_runtime::timing::FixedRate;
/// use policy_runtime::{Controller, EngineChoice, Observation, Policy, Verdict};
///
/// # fn sensors() -> (Vec<f32>, u64) { (vec![0.0; 11], 0) }
/// # fn actuate(_: &[f32]) {}
/// # fn clock_nanos() -> u64 { 0 }
/// # fn sleep_until(_: u64) {}
/// # fn main() -> Result<(), policy_runtime::Error> {
/// const PERIOD_NANOS: NonZeroU64 = NonZeroU64::new(8_000_000).unwrap();
/// let mut controller = Controller::new(Policy::load("hopper.bundle", EngineChoice::Auto)?)?;
/// let mut action = vec![0.0; controller.policy().action_width()];
/// controller.enter();
/// let mut rate = FixedRate::new(PERIOD_NANOS, clock_nanos());
/// loop {
///     sleep_until(rate.release_nanos());
///     let (values, stamp_nanos) = sensors();
///     let observation = Observation { values: &values, stamp_nanos };
///     let verdict = controller.tick(rate.release_nanos(), Some(&observation), &clock_nanos, &mut action);
///     actuate(&action); // finite and within bounds whatever the verdict
///     if let Verdict::Stopped(reason) = verdict {
///         eprintln!("stopped: {reason:?}");
///         break;
///     }
///     rate.complete(clock_nanos()); // after a stall it skips to the next release
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Controller {
    policy: Policy,
    supervisor: Supervisor,
    last: Vec<f32>,
    port: Option<SwapPort>,
    swaps: u64,
    monitor: Option<Monitor>,
    alarms: u64,
}

impl Controller {
    /// At rest: the action is the fallback until [`Self::enter`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a policy without a contract: its channels, units and bounds would be guesses.
    pub fn new(policy: Policy) -> Result<Self> {
        if policy.contract().is_some() {
            return Ok(Self::without_contract(policy));
        }
        Err(Error::Unsupported {
            thing: "the policy has no contract".into(),
            reason: policy.why_no_contract().unwrap_or("its actions have no bounds, units or rate").into(),
            hint: "load a bundle; Controller::without_contract is for loops that move nothing",
        })
    }

    /// The same for a policy that need not have a contract. Without one the action is finite and else unbounded, the fallback is zero, and
    /// neither age nor deadline is checked: for simulations and measurements, not for motors.
    pub fn without_contract(policy: Policy) -> Self {
        let last = vec![0.0; policy.action_width()];
        Self { policy, supervisor: Supervisor::new(), last, port: None, swaps: 0, monitor: None, alarms: 0 }
    }

    /// Scores what the policy does by `monitor`, see [`Self::watch`].
    #[must_use]
    pub fn with_monitor(mut self, monitor: Monitor) -> Self {
        self.monitor = Some(monitor);
        self
    }

    /// Takes new policies from `port`, between two ticks.
    #[must_use]
    pub fn with_swaps(mut self, port: SwapPort) -> Self {
        self.port = Some(port);
        self
    }

    /// One tick: a waiting policy takes over, the observation is checked, the policy asked, the time and its action
    /// checked, and `action`, `[action]`, is what the actuators get, environment units.
    ///
    /// `release_nanos` is when the tick was due: the deadline counts from there. `clock` gives the same monotonic clock
    /// as the observation's stamp; it is read twice. `None` where nothing was observed yet.
    pub fn tick(
        &mut self,
        release_nanos: u64,
        observation: Option<&Observation<'_>>,
        clock: &impl Fn() -> u64,
        action: &mut [f32],
    ) -> Verdict {
        if let Some(handover) = self.port.as_mut().and_then(|port| port.accept(&mut self.policy, &mut self.monitor)) {
            self.swaps += 1;
            if handover == Handover::Reset {
                self.supervisor.restart_entry(&self.policy.rules());
            }
        }
        let proposed = match observation {
            Some(observation) => self.policy.propose(clock(), observation, action),
            None => Err(Fault::NoObservation),
        };
        let rules = self.policy.rules();
        let proposed = proposed.and_then(|()| rules.check_deadline(clock().saturating_sub(release_nanos)));
        let values = observation.map_or(&[][..], |observation| observation.values);
        self.supervisor.decide(&rules, proposed, values, action, &mut self.last)
    }

    /// Scores a tick, after its action was sent: `verdict` and `action` of [`Self::tick`], `observation` its values. Only what the policy itself
    /// did is scored. Returns whether the alarm was raised or came down, where it did either.
    pub fn watch(&mut self, verdict: Verdict, observation: &[f32], action: &[f32]) -> Option<bool> {
        let monitor = self.monitor.as_mut()?;
        if !matches!(verdict, Verdict::Good | Verdict::Limited { .. }) {
            return None;
        }
        let before = monitor.is_raised();
        let raised = monitor.watch(observation, action);
        self.alarms += u64::from(raised && !before);
        (raised != before).then_some(raised)
    }

    /// What scores the policy that drives, where anything does.
    pub fn monitor(&self) -> Option<&Monitor> {
        self.monitor.as_ref()
    }

    /// How often an alarm was raised, by the monitors of all policies so far.
    pub fn alarms(&self) -> u64 {
        self.alarms
    }

    /// Lets the policy drive, from a fresh state, by way of the entry ramp; see [`Supervisor::enter`].
    pub fn enter(&mut self) -> bool {
        let may = self.supervisor.enter(&self.policy.rules());
        if may {
            self.policy.reset();
            if let Some(monitor) = &mut self.monitor {
                monitor.reset();
            }
        }
        may
    }

    /// Takes the policy out by way of the exit ramp; see [`Supervisor::exit`].
    pub fn exit(&mut self) -> bool {
        self.supervisor.exit(&self.policy.rules())
    }

    /// Stops at once and for good; see [`Supervisor::stop`].
    pub fn stop(&mut self) {
        self.supervisor.stop();
    }

    /// Leaves a stop, to rest; see [`Supervisor::rearm`].
    pub fn rearm(&mut self) -> bool {
        self.supervisor.rearm()
    }

    /// Where the supervisor stands.
    pub fn phase(&self) -> Phase {
        self.supervisor.phase()
    }

    /// Ticks by what they were.
    pub fn counters(&self) -> &Counters {
        self.supervisor.counters()
    }

    /// How often another policy took over.
    pub fn swaps(&self) -> u64 {
        self.swaps
    }

    /// The policy that drives.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Steps the policy `steps` times on `observations` without any effect, so that the first tick finds caches and
    /// branch predictors warm.
    pub fn warm_up(&mut self, observations: &[Vec<f32>], steps: usize) {
        let mut action = vec![0.0; self.policy.action_width()];
        for values in observations.iter().cycle().take(steps) {
            // Verdicts count from the first tick on.
            let _ = self.policy.step(0, &Observation { values, stamp_nanos: 0 }, &mut action);
        }
        self.policy.reset();
    }
}

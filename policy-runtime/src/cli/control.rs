//! The loop of `hype-policy run`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::latency::Latency;
use super::notices::Notices;
use super::report::{Measured, Setting, extend, report};
use super::subject::Opened;
use super::watch::{Watch, fingerprint, watching};
use super::{Outcome, rounded};
use crate::contract::{DEFAULT_MAX_AGE_PERIODS, default_max_observation_age_secs, nanos_from_secs};
use crate::controller::Controller;
use crate::engine::EngineChoice;
use crate::engine::layout::LayoutOptions;
use crate::error::{Error, Result};
use crate::frame::{MONITOR_RAISED, verdict_code};
use crate::guard::{Observation, Verdict};
use crate::link::{Inbox, Sink, Source, Stamps};
use crate::policy::Policy;
use crate::realtime::{enter_realtime, leave_realtime, now_nanos, sleep_until};
use crate::robot::{Mapping, RobotFile};
use crate::safety::Terms;
use crate::signature::Trust;
use crate::swap::Handover;
use crate::telemetry::{Telemetry, Tick};
use crate::timing::{FixedRate, Spread};

/// Steps before the clock counts: caches, branch predictors and the engine's own buffers.
const WARM_UP_STEPS: usize = 200;
/// How long a loop on recorded observations runs, unless told.
const DEFAULT_SECONDS: f64 = 5.0;
/// Most ticks that the way out may take after the end, beyond the exit ramp.
const MOST_EXIT_TICKS: u32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Observe {
    Golden,
    Stdin,
    Udp(SocketAddr),
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    None,
    Stdout,
    Udp(SocketAddr),
    File(PathBuf),
}

#[derive(Debug)]
pub(super) struct LoopOptions<'a> {
    pub(super) path: &'a Path,
    pub(super) engine: EngineChoice,
    pub(super) rate_hz: Option<f64>,
    pub(super) seconds: Option<f64>,
    pub(super) observe: Observe,
    pub(super) act: Act,
    pub(super) stamps: Stamps,
    pub(super) max_age_secs: Option<f64>,
    pub(super) realtime: Option<(i32, Option<usize>)>,
    pub(super) telemetry: Option<&'a Path>,
    pub(super) watch: Option<Handover>,
    pub(super) robot: Option<&'a RobotFile>,
    pub(super) trust: Option<&'a Trust>,
    pub(super) names: LayoutOptions,
}

impl<'a> LoopOptions<'a> {
    /// Golden observations, actions to nowhere.
    pub(super) fn at(path: &'a Path) -> Self {
        Self {
            path,
            engine: EngineChoice::Auto,
            rate_hz: None,
            seconds: None,
            observe: Observe::Golden,
            act: Act::None,
            stamps: Stamps::Sender,
            max_age_secs: None,
            realtime: None,
            telemetry: None,
            watch: None,
            robot: None,
            trust: None,
            names: LayoutOptions::default(),
        }
    }

    fn source(&self, rows: Vec<Vec<f32>>, width: usize) -> Result<Source> {
        match &self.observe {
            Observe::Golden => Ok(Source::Rows { rows, next: 0 }),
            Observe::Stdin => Ok(Source::stream(std::io::stdin(), width)),
            Observe::Udp(address) => Source::udp(*address, width),
            Observe::File(path) => Source::recorded(path, width),
        }
    }

    fn sink(&self, width: usize) -> Result<Sink> {
        match &self.act {
            Act::None => Ok(Sink::None),
            Act::Stdout => Ok(Sink::stream(std::io::stdout(), width)),
            Act::Udp(address) => Sink::udp(*address, width),
            Act::File(path) => {
                let file = File::create(path).map_err(|source| Error::file("create", path, source))?;
                Ok(Sink::stream(BufWriter::new(file), width))
            }
        }
    }

    /// What this robot declares instead of the contract, and what was assumed where neither says.
    fn terms(&self, policy: &Policy, control_period_secs: f64) -> (Terms, Option<String>) {
        let robot = self.robot.map(RobotFile::terms).unwrap_or_default();
        let live = matches!(self.observe, Observe::Stdin | Observe::Udp(_));
        let assumed = live.then(|| default_max_observation_age_secs(control_period_secs));
        let terms = Terms {
            control_period_secs: Some(control_period_secs),
            max_observation_age_secs: self.max_age_secs.or(robot.max_observation_age_secs),
            assumed_max_observation_age_secs: assumed,
            ..robot
        };
        let declared = policy.contract().and_then(|contract| contract.max_observation_age_secs);
        let note = assumed.filter(|_| terms.max_observation_age_secs.or(declared).is_none()).map(|secs| {
            format!(
                "note: the contract has no max_observation_age_secs; {DEFAULT_MAX_AGE_PERIODS} control periods, {} s, are assumed \
                 (--max-age SECS says otherwise)",
                rounded(secs)
            )
        });
        (terms, note)
    }

    /// When the loop ends of itself, after its start.
    fn seconds(&self) -> Option<f64> {
        self.seconds.or((self.observe == Observe::Golden).then_some(DEFAULT_SECONDS))
    }
}

pub(super) fn run_loop(options: &LoopOptions<'_>, interrupted: &AtomicBool) -> Result<Outcome> {
    let path = options.path;
    if options.observe == Observe::Golden && matches!(options.act, Act::Stdout | Act::Udp(_)) {
        return Err(Error::Unsupported {
            thing: "--act with --observe golden".into(),
            reason: "it would drive actuators by made-up observations".into(),
            hint: "say where observations come from with --observe, or write the actions to a file with --act file:PATH",
        });
    }
    let seen = options.watch.and_then(|_| fingerprint(path, options.trust.is_some()));
    let opened = Opened::read(path, options.trust)?;
    let mut policy = opened.policy(options.engine, &options.names)?;
    let monitor = opened.bundle().map(|bundle| watching(bundle, options.engine)).transpose()?.flatten();
    let (rows, rows_from) = opened.observations(&policy);
    let contract_rate = policy.contract().map(|contract| 1.0 / contract.control_period_secs);
    if contract_rate.is_none() && (options.observe != Observe::Golden || options.act != Act::None) {
        return Err(Error::Unsupported {
            thing: path.display().to_string(),
            reason: policy.why_no_contract().map(str::to_owned).unwrap_or_else(|| {
                "the model has no contract: names, units, bounds, normaliser and scale of a robot's channels would be guesses".into()
            }),
            hint: "export it with a contract; without --observe and --act it runs on made-up observations",
        });
    }
    let rate_hz = options.rate_hz.or(contract_rate).ok_or_else(|| Error::Unsupported {
        thing: path.display().to_string(),
        reason: "the model has no contract, so its control rate is not known".into(),
        hint: "give --rate",
    })?;
    let period = NonZeroU64::new(nanos_from_secs(1.0 / rate_hz)).unwrap_or(NonZeroU64::MIN);
    let (terms, note) = options.terms(&policy, 1.0 / rate_hz);
    policy.adopt(&terms)?;
    if let Some(note) = &note {
        // Standard error may be closed; the report says it too.
        let _ = writeln!(std::io::stderr(), "{note}");
    }
    let mapping = match (options.robot, policy.contract()) {
        (Some(robot), Some(contract)) => Some(robot.mapping(contract)?),
        _ => None,
    };
    let mapping = mapping.as_ref();
    // Golden observations are the policy's own.
    let observe = mapping.filter(|_| options.observe != Observe::Golden);

    let (observation_width, action_width) = (policy.observation_width(), policy.action_width());
    let wire_observation = observe.map_or(observation_width, Mapping::robot_observation_width);
    let wire_action = mapping.map_or(action_width, Mapping::robot_action_width);
    let engine = options.engine.told(policy.engine_name());
    let watch = match options.watch {
        Some(handover) => {
            let trust = options.trust.cloned();
            Some(Watch::start(&opened, seen, options.engine, terms, trust, handover)?)
        }
        None => None,
    };
    let mut controller = match policy.contract() {
        Some(_) => Controller::new(policy)?,
        None => Controller::without_contract(policy),
    };
    controller.warm_up(&rows, WARM_UP_STEPS);
    let (watch, port) = watch.unzip();
    if let Some(port) = port {
        controller = controller.with_swaps(port);
    }
    if let Some(monitor) = monitor {
        controller = controller.with_monitor(monitor);
    }
    let source = options.source(rows, wire_observation)?;
    let sink = options.sink(wire_action)?;
    let to_file = |path| Telemetry::to_file(path, observation_width, action_width);
    let telemetry = options.telemetry.map(to_file).transpose()?;
    let max_age_nanos = controller.policy().rules().guard.max_age_nanos;
    let patience_nanos =
        max_age_nanos.unwrap_or_else(|| nanos_from_secs(default_max_observation_age_secs(1.0 / rate_hz)));
    let inbox = Inbox::new(wire_observation, options.stamps, patience_nanos);

    let mut ends = Ends { inbox, source, sink, telemetry, notices: Notices::start(), observe, act: mapping };
    let measured = drive(options, &mut controller, &mut ends, period, interrupted)?;
    let swaps_refused = watch.map(Watch::finish).unwrap_or_default();
    ends.notices.finish();
    let observations_dropped = ends.source.dropped();
    let actions_dropped = ends.sink.finish()?;
    let telemetry_dropped = ends.telemetry.map(Telemetry::finish).transpose()?;

    let observations = match &options.observe {
        Observe::Golden => rows_from.to_owned(),
        Observe::Stdin => "standard input".into(),
        Observe::Udp(address) => format!("UDP {address}"),
        Observe::File(path) => path.display().to_string(),
    };
    let setting = Setting { path, engine, rate_hz, contract_rate, observations: &observations };
    let mut outcome = report(&measured, &controller, &setting);
    let told = json!({
        "observations_dropped": observations_dropped,
        "actions_dropped": actions_dropped,
        "telemetry_dropped": telemetry_dropped,
        "swaps_refused": swaps_refused,
        "note": note,
    });
    extend(&mut outcome.json, told);
    outcome.text += &note.map_or_else(String::new, |note| format!("{note}\n"));
    for refused in &swaps_refused {
        outcome.text += &format!("a new bundle was refused: {refused}\n");
    }
    let lines = telemetry_dropped.unwrap_or(0);
    if observations_dropped + actions_dropped + lines > 0 {
        outcome.text += &format!(
            "dropped rather than waited: {observations_dropped} observations, {actions_dropped} actions, {lines} lines of telemetry\n"
        );
    }
    Ok(outcome)
}

/// What a loop reads from and writes to.
struct Ends<'a> {
    inbox: Inbox,
    source: Source,
    sink: Sink,
    telemetry: Option<Telemetry>,
    notices: Notices,
    /// From the robot's observations to the policy's, where they differ.
    observe: Option<&'a Mapping>,
    /// From the policy's actions to the robot's, where they differ.
    act: Option<&'a Mapping>,
}

fn drive(
    options: &LoopOptions<'_>,
    controller: &mut Controller,
    ends: &mut Ends<'_>,
    period: NonZeroU64,
    interrupted: &AtomicBool,
) -> Result<Measured> {
    let Ends { inbox, source, sink, telemetry, notices, observe, act } = ends;
    let mut observed = vec![0.0; controller.policy().observation_width()];
    let mut commanded = act.map(|mapping| vec![0.0; mapping.robot_action_width()]);
    let mut action = vec![0.0; controller.policy().action_width()];
    let (mut step, mut wake) = (Latency::new()?, Latency::new()?);
    let (mut lateness, mut spacing) = (Spread::default(), Spread::default());
    let mut first_fault = None;
    let mut exit_ticks: Option<u32> = None;
    let mut last_woke_nanos = None;
    let grants = options.realtime.map(|(priority, core)| enter_realtime(priority, core)).unwrap_or_default();

    let start_nanos = now_nanos() + period.get();
    let end_nanos = options.seconds().map_or(u64::MAX, |secs| start_nanos.saturating_add(nanos_from_secs(secs)));
    let mut rate = FixedRate::new(period, start_nanos);
    let mut entered = false;
    for tick in 0.. {
        let release_nanos = rate.release_nanos();
        // Half a period of slack: rounding of the period must not add a tick.
        let mut leaving = release_nanos.saturating_add(period.get() / 2) >= end_nanos;
        while now_nanos() < release_nanos && !interrupted.load(Ordering::Relaxed) {
            sleep_until(release_nanos);
        }
        // Where nobody takes the actions there is nothing to drive.
        leaving |= interrupted.load(Ordering::Relaxed) || sink.is_broken();
        // A signal cuts the sleep short; on the way out the rate is kept.
        while now_nanos() < release_nanos && exit_ticks.is_some() {
            sleep_until(release_nanos);
        }
        let woke_nanos = now_nanos();
        leaving |= !source.poll(woke_nanos, inbox);
        if leaving && exit_ticks.is_none() {
            controller.exit();
            exit_ticks = Some(controller.policy().rules().exit_ticks.saturating_add(MOST_EXIT_TICKS));
        }
        if let Some(left) = &mut exit_ticks {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => controller.stop(),
            }
        }
        // Waiting for the first observation is no fault.
        if !entered && inbox.stamp_nanos.is_some() && exit_ticks.is_none() {
            entered = controller.enter();
        }
        match observe {
            Some(mapping) => mapping.observe(&inbox.values, &mut observed),
            None => observed.copy_from_slice(&inbox.values),
        }
        let observation = inbox.stamp_nanos.map(|stamp_nanos| Observation { values: &observed, stamp_nanos });
        let verdict = controller.tick(release_nanos, observation.as_ref(), &now_nanos, &mut action);
        let command = match (*act, &mut commanded) {
            (Some(mapping), Some(commanded)) => {
                mapping.act(&action, commanded);
                commanded.as_slice()
            }
            _ => action.as_slice(),
        };
        let done_nanos = now_nanos();
        let raised = controller.monitor().is_some_and(|monitor| monitor.is_raised());
        sink.send(tick, done_nanos, verdict_code(verdict) | if raised { MONITOR_RAISED } else { 0 }, command);
        let edge = controller.watch(verdict, &observed, &action);
        let monitor = controller.monitor().map(|monitor| (monitor.sum(), monitor.is_raised()));
        if let (Some(raised), Some((sum, _))) = (edge, monitor) {
            notices.monitor(tick, raised, sum);
        }
        if let Some(telemetry) = telemetry {
            let (observation, action) = (observed.as_slice(), action.as_slice());
            let line = Tick { tick, release_nanos, woke_nanos, done_nanos, verdict, observation, action, monitor };
            telemetry.push(&line);
        }
        if let Verdict::Fallback(fault) = verdict {
            first_fault.get_or_insert(fault);
        }
        let late_nanos = woke_nanos.saturating_sub(release_nanos);
        lateness.add(late_nanos);
        if let Some(last) = last_woke_nanos.replace(woke_nanos) {
            spacing.add(woke_nanos.saturating_sub(last));
        }
        wake.record(late_nanos);
        step.record(done_nanos.saturating_sub(woke_nanos));
        rate.complete(now_nanos());
        // Not before: what the actuators got last is the action at rest.
        if exit_ticks.is_some() && matches!(verdict, Verdict::Idle | Verdict::Stopped(_)) {
            break;
        }
    }
    if options.realtime.is_some() {
        leave_realtime();
    }
    Ok(Measured {
        step,
        wake,
        lateness,
        period: spacing,
        ticks: rate.completed_ticks(),
        missed: rate.missed_deadlines(),
        first_fault,
        arrivals: inbox.arrivals(),
        interrupted: interrupted.load(Ordering::Relaxed),
        grants,
    })
}

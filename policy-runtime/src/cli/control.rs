//! The loop of `hype-policy run`, and what it reports.

use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::latency::{Latency, head};
use super::watch::Watch;
use super::{Outcome, recorded_observations, rounded};
use crate::bundle::Bundle;
use crate::contract::nanos_from_secs;
use crate::controller::Controller;
use crate::discriminator::Discriminator;
use crate::engine::EngineChoice;
use crate::engine::layout::LayoutOptions;
use crate::error::{Error, Kind, Result};
use crate::frame::{Arrivals, verdict_code};
use crate::guard::{Fault, FaultKind, Observation, Verdict};
use crate::link::{Inbox, Sink, Source, Stamps};
use crate::monitor::{Monitor, Score};
use crate::policy::Policy;
use crate::realtime::{Grant, enter_realtime, leave_realtime, now_nanos, sleep_until};
use crate::robot::{Mapping, RobotFile};
use crate::safety::Terms;
use crate::signature::Trust;
use crate::supervisor::Phase;
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

    /// When the loop ends of itself, after its start.
    fn seconds(&self) -> Option<f64> {
        self.seconds.or((self.observe == Observe::Golden).then_some(DEFAULT_SECONDS))
    }
}

/// What the loop measured.
struct Measured {
    step: Latency,
    wake: Latency,
    lateness: Spread,
    period: Spread,
    ticks: u64,
    missed: u64,
    first_fault: Option<Fault>,
    arrivals: Arrivals,
    interrupted: bool,
    grants: Vec<Grant>,
}

pub(super) fn run_loop(options: &LoopOptions<'_>, interrupted: &AtomicBool) -> Result<Outcome> {
    let path = options.path;
    let bundle = match options.trust {
        Some(trust) => Some(trust.open(path)?.0),
        None if path.is_dir() => Some(Bundle::open(path)?),
        None => None,
    };
    let mut policy = match &bundle {
        Some(bundle) => Policy::from_bundle(bundle, options.engine).map_err(|error| error.within(path.display()))?,
        None => Policy::load_as(path, options.engine, &options.names)?,
    };
    let mut monitor = bundle.as_ref().map(|bundle| watching(bundle, options.engine)).transpose()?.flatten();
    let (rows, rows_from) = recorded_observations(path, &policy)?;
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
    let terms =
        Terms { control_period_secs: Some(1.0 / rate_hz), ..options.robot.map(RobotFile::terms).unwrap_or_default() };
    policy.adopt(&terms)?;
    let mapping = match (options.robot, policy.contract()) {
        // Golden observations are the policy's own.
        (Some(robot), Some(contract)) if options.observe != Observe::Golden => Some(robot.mapping(contract)?),
        (Some(robot), Some(contract)) => robot.mapping(contract).map(|_| None)?,
        _ => None,
    };

    let (observation_width, action_width) = (policy.observation_width(), policy.action_width());
    let robot_widths = mapping
        .as_ref()
        .map_or((observation_width, action_width), |map| (map.robot_observation_width(), map.robot_action_width()));
    let engine = policy.engine_name();
    let watch = match options.watch {
        Some(handover) => Some(Watch::start(path, options.engine, terms, options.trust.cloned(), handover)?),
        None => None,
    };
    let mut controller = Controller::new(policy);
    controller.warm_up(&rows, WARM_UP_STEPS);
    let (watch, port) = watch.unzip();
    if let Some(port) = port {
        controller = controller.with_swaps(port);
    }
    let mut source = options.source(rows, robot_widths.0)?;
    let mut sink = options.sink(robot_widths.1)?;
    let to_file = |path| Telemetry::to_file(path, observation_width, action_width);
    let mut telemetry = options.telemetry.map(to_file).transpose()?;
    let inbox = Inbox::new(robot_widths.0, options.stamps);

    let ends = (&mut source, &mut sink, &mut telemetry);
    let measured =
        drive(options, (&mut controller, monitor.as_mut()), inbox, ends, mapping.as_ref(), period, interrupted)?;
    let swaps_refused = watch.map(Watch::finish).unwrap_or_default();
    let actions_dropped = sink.finish()?;
    let telemetry_dropped = telemetry.map(Telemetry::finish).transpose()?;

    let observations = match &options.observe {
        Observe::Golden => rows_from.to_owned(),
        Observe::Stdin => "standard input".into(),
        Observe::Udp(address) => format!("UDP {address}"),
        Observe::File(path) => path.display().to_string(),
    };
    let mut outcome = report(&measured, &controller, rate_hz, contract_rate, &observations, path, engine);
    if let Some(monitor) = &monitor {
        let now = if monitor.is_raised() { ", and is raised now" } else { "" };
        outcome.text += &format!("monitor: raised {} times{now}\n", monitor.alarms());
    }
    let told = json!({
        "monitor_alarms": monitor.as_ref().map(Monitor::alarms),
        "monitor_raised": monitor.as_ref().map(Monitor::is_raised),
        "actions_dropped": actions_dropped,
        "telemetry_dropped": telemetry_dropped,
        "swaps_refused": swaps_refused,
    });
    extend(&mut outcome.json, told);
    for refused in &swaps_refused {
        outcome.text += &format!("a new bundle was refused: {refused}\n");
    }
    if actions_dropped + telemetry_dropped.unwrap_or(0) > 0 {
        let lines = telemetry_dropped.unwrap_or(0);
        outcome.text += &format!("dropped rather than waited: {actions_dropped} actions, {lines} lines of telemetry\n");
    }
    Ok(outcome)
}

/// The bundle's monitor, where it was fitted.
fn watching(bundle: &Bundle, engine: EngineChoice) -> Result<Option<Monitor>> {
    let Some(record) = &bundle.manifest.monitor else { return Ok(None) };
    let discriminator = match record.score {
        Score::Discriminator => Discriminator::from_bundle(bundle, engine)?,
        Score::Mahalanobis => None,
    };
    Ok(Monitor::new(record, discriminator))
}

fn drive(
    options: &LoopOptions<'_>,
    (controller, mut monitor): (&mut Controller, Option<&mut Monitor>),
    mut inbox: Inbox,
    (source, sink, telemetry): (&mut Source, &mut Sink, &mut Option<Telemetry>),
    mapping: Option<&Mapping>,
    period: NonZeroU64,
    interrupted: &AtomicBool,
) -> Result<Measured> {
    let mut observed = vec![0.0; controller.policy().observation_width()];
    let mut commanded = mapping.map(|mapping| vec![0.0; mapping.robot_action_width()]);
    let mut action = vec![0.0; controller.policy().action_width()];
    let (mut step, mut wake) = (Latency::new()?, Latency::new()?);
    let (mut lateness, mut spacing) = (Spread::default(), Spread::default());
    let mut first_fault = None;
    let mut exit_ticks = None;
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
        leaving |= interrupted.load(Ordering::Relaxed);
        // A signal cuts the sleep short; on the way out the rate is kept.
        while now_nanos() < release_nanos && exit_ticks.is_some() {
            sleep_until(release_nanos);
        }
        let woke_nanos = now_nanos();
        leaving |= !source.poll(woke_nanos, &mut inbox);
        if leaving && exit_ticks.is_none() {
            controller.exit();
            exit_ticks = Some(controller.policy().rules().exit_ticks.saturating_add(MOST_EXIT_TICKS));
        }
        if let Some(left) = &mut exit_ticks {
            if *left == 0 || matches!(controller.phase(), Phase::Idle | Phase::Stopped) {
                break;
            }
            *left -= 1;
        }
        // Waiting for the first observation is no fault.
        if !entered && inbox.stamp_nanos.is_some() && exit_ticks.is_none() {
            entered = controller.enter();
        }
        match mapping {
            Some(mapping) => mapping.observe(&inbox.values, &mut observed),
            None => observed.copy_from_slice(&inbox.values),
        }
        let observation = inbox.stamp_nanos.map(|stamp_nanos| Observation { values: &observed, stamp_nanos });
        let verdict = controller.tick(release_nanos, observation.as_ref(), &now_nanos, &mut action);
        let command = match (mapping, &mut commanded) {
            (Some(mapping), Some(commanded)) => {
                mapping.act(&action, commanded);
                commanded.as_slice()
            }
            _ => action.as_slice(),
        };
        if let (Some(monitor), Verdict::Good | Verdict::Limited { .. }) = (&mut monitor, verdict) {
            monitor.watch(&observed, &action);
        }
        let done_nanos = now_nanos();
        sink.send(tick, done_nanos, verdict_code(verdict), command);
        if let Some(telemetry) = telemetry {
            let (observation, action) = (observed.as_slice(), action.as_slice());
            telemetry.push(&Tick { tick, release_nanos, woke_nanos, done_nanos, verdict, observation, action });
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

fn report(
    measured: &Measured,
    controller: &Controller,
    rate_hz: f64,
    contract_rate: Option<f64>,
    observations: &str,
    path: &Path,
    engine: &str,
) -> Outcome {
    let Measured { ticks, missed, first_fault, arrivals, grants, .. } = measured;
    let (step, wake) = (measured.step.summary(), measured.wake.summary());
    let counters = controller.counters();
    let (fallbacks, late) = (counters.fallback_ticks(), counters.of(FaultKind::Late));
    let period_micros = 1e6 / rate_hz;
    let bias_micros =
        if measured.period.count() == 0 { 0.0 } else { measured.period.mean_nanos() / 1e3 - period_micros };
    let jitter_micros = measured.period.deviation_nanos() / 1e3;

    let mut text =
        format!("{}: {ticks} ticks at {} Hz on {observations}, engine {engine}\n", path.display(), rounded(rate_hz));
    if let Some(trained) = contract_rate.filter(|trained| (trained / rate_hz - 1.0).abs() > 1e-3) {
        text += &format!("note: the policy was trained at {} Hz\n", rounded(trained));
    }
    for Grant { what, refused } in grants {
        text += &refused.as_ref().map_or_else(
            || format!("real time: {what}\n"),
            |why| format!("not real time: {what} was refused: {why}\n"),
        );
    }
    text += &head();
    text += &step.row("step");
    text += &wake.row("wake-up");
    text += &format!(
        "period {period_micros:.1} µs: bias {bias_micros:+.2} µs, jitter {jitter_micros:.2} µs (standard deviation), wake-up \
         {:.1} µs late on average\n",
        measured.lateness.mean_nanos() / 1e3
    );
    text += &format!("missed deadlines {missed}, fallback actions {fallbacks}");
    text += &first_fault.map_or_else(String::new, |fault| format!(" (first: {fault:?})"));
    text += &format!(", late {late}, limited {}, ramping {}", counters.limited, counters.ramping);
    text += &if counters.stopped > 0 { format!(", STOPPED for {} ticks\n", counters.stopped) } else { "\n".into() };
    if *arrivals != Arrivals::default() {
        let Arrivals { accepted, lost, duplicated, reordered, malformed, restarts } = arrivals;
        text += &format!(
            "frames: {accepted} used, {lost} lost, {duplicated} duplicated, {reordered} out of order, {malformed} \
             malformed, {restarts} restarts of the sender\n"
        );
    }
    if controller.swaps() > 0 {
        text += &format!("policies taken over while running: {}\n", controller.swaps());
    }
    text += if measured.interrupted { "interrupted\n" } else { "" };

    let by_kind: serde_json::Map<String, Value> = FaultKind::ALL
        .iter()
        .filter(|kind| counters.of(**kind) > 0)
        .map(|kind| (format!("{kind:?}"), counters.of(*kind).into()))
        .collect();
    let json = json!({
        "bundle": path,
        "engine": engine,
        "rate_hz": rate_hz,
        "contract_rate_hz": contract_rate,
        "observations": observations,
        "ticks": ticks,
        "missed_deadlines": missed,
        "fallbacks": fallbacks,
        "fallbacks_by_fault": by_kind,
        "late": late,
        "limited": counters.limited,
        "ramping": counters.ramping,
        "stopped": counters.stopped,
        "first_fault": first_fault.map(|fault| format!("{fault:?}")),
        "step": step,
        "wake_up": wake,
        "period_bias_micros": bias_micros,
        "period_jitter_micros": jitter_micros,
        "frames": {
            "accepted": arrivals.accepted,
            "lost": arrivals.lost,
            "duplicated": arrivals.duplicated,
            "reordered": arrivals.reordered,
            "malformed": arrivals.malformed,
            "restarts": arrivals.restarts,
        },
        "realtime": grants,
        "swaps": controller.swaps(),
        "interrupted": measured.interrupted,
    });
    Outcome { text, json, kind: measured.interrupted.then_some(Kind::Interrupted) }
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

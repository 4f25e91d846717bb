//! `hype-policy run`: a fixed-rate control loop on this machine.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::control::{Act, LoopOptions, Observe, run_loop};
use super::{Outcome, Subject, parse_engine};
use crate::engine::EngineChoice;
use crate::error::{Error, Result};
use crate::link::Stamps;
use crate::robot::RobotFile;
use crate::swap::Handover;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) subject: Subject,
    /// Actions per second; the contract's rate when not given.
    #[arg(long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<f64>,
    /// How long to run; 5 seconds on recorded observations, to the end of a file or stream, and without end on UDP.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    seconds: Option<f64>,
    /// auto, native, deterministic (the same bits on every machine) or tract.
    #[arg(long, default_value = "auto", value_parser = parse_engine)]
    engine: EngineChoice,
    /// Where observations come from: golden, stdin, udp:ADDRESS:PORT or file:PATH (frames, see docs/RUNTIME.md).
    #[arg(long, value_name = "SOURCE", default_value = "golden", value_parser = parse_observe)]
    observe: Observe,
    /// Where actions go: none, stdout, udp:ADDRESS:PORT or file:PATH.
    #[arg(long, value_name = "SINK", default_value = "none", value_parser = parse_act)]
    act: Act,
    /// Measure the age of observations from their arrival: their sender has another clock.
    #[arg(long)]
    stamp_arrival: bool,
    /// Greatest age of an observation, seconds; the robot file's, else the contract's, else 3 control periods.
    #[arg(long, value_name = "SECONDS", value_parser = parse_age)]
    max_age: Option<f64>,
    /// Lock memory, schedule first in first out; what is not permitted is said and done without.
    #[arg(long)]
    realtime: bool,
    /// Priority of --realtime, below the kernel's own threads.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(i32).range(1..=99))]
    priority: i32,
    /// Core of --realtime.
    #[arg(long)]
    core: Option<usize>,
    /// The robot's channels, their names, order and units, and its guards (TOML, see docs/RUNTIME.md).
    #[arg(long, value_name = "FILE")]
    robot: Option<PathBuf>,
    /// One line of JSON per tick, into this file; never waited for.
    #[arg(long, value_name = "FILE")]
    telemetry: Option<PathBuf>,
    /// Load the bundle again when it is replaced, and change over between two ticks.
    #[arg(long)]
    watch: bool,
    /// How a new policy takes over: reset or carry.
    #[arg(long, default_value = "reset", value_parser = parse_handover)]
    handover: Handover,
}

pub(super) fn run(args: &RunArgs) -> Result<Outcome> {
    if args.act == Act::Stdout && args.subject.json {
        return Err(Error::Unsupported {
            thing: "--act stdout --json".into(),
            reason: "both would write to standard output".into(),
            hint: "leave out --json, or send actions elsewhere",
        });
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Error::malformed("signal handler", "one that can be installed", error))?;
    let robot = args.robot.as_deref().map(RobotFile::read).transpose()?;
    let trust = args.subject.trust()?;
    let options = LoopOptions {
        robot: robot.as_ref(),
        trust: trust.as_ref(),
        engine: args.engine,
        rate_hz: args.rate,
        seconds: args.seconds,
        observe: args.observe.clone(),
        act: args.act.clone(),
        stamps: if args.stamp_arrival { Stamps::Arrival } else { Stamps::Sender },
        max_age_secs: args.max_age,
        realtime: args.realtime.then_some((args.priority, args.core)),
        telemetry: args.telemetry.as_deref(),
        watch: args.watch.then_some(args.handover),
        names: args.subject.names.options(),
        ..LoopOptions::at(&args.subject.path)
    };
    let mut outcome = run_loop(&options, &interrupted)?;
    if args.act == Act::Stdout {
        // Standard error may be closed; actions went out all the same.
        let _ = write!(std::io::stderr(), "{}", std::mem::take(&mut outcome.text));
    }
    Ok(outcome)
}

/// Runs the policy at `path` at a fixed rate (its contract's where none is given) on recorded observations, until
/// `seconds` are over or `interrupted` is set.
///
/// # Errors
/// When the policy cannot be loaded, or neither it nor the caller says at which rate to run.
pub fn control_loop(
    path: &Path,
    engine: EngineChoice,
    rate_hz: Option<f64>,
    seconds: f64,
    interrupted: &AtomicBool,
) -> Result<Outcome> {
    let options = LoopOptions { engine, rate_hz, seconds: Some(seconds), ..LoopOptions::at(path) };
    run_loop(&options, interrupted)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    parse_between(text, 0.01, 100_000.0, "Hz")
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    parse_between(text, 0.001, 1e7, "seconds")
}

fn parse_age(text: &str) -> Result<f64, String> {
    parse_between(text, 1e-6, 3600.0, "seconds")
}

fn parse_between(text: &str, low: f64, high: f64, unit: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("expected a number from {low} to {high} {unit}")),
    }
}

fn parse_observe(text: &str) -> Result<Observe, String> {
    match text.split_once(':') {
        None if text == "golden" => Ok(Observe::Golden),
        None if text == "stdin" => Ok(Observe::Stdin),
        Some(("udp", address)) => parse_address(address).map(Observe::Udp),
        Some(("file", path)) => Ok(Observe::File(path.into())),
        _ => Err("expected golden, stdin, udp:ADDRESS:PORT or file:PATH".into()),
    }
}

fn parse_act(text: &str) -> Result<Act, String> {
    match text.split_once(':') {
        None if text == "none" => Ok(Act::None),
        None if text == "stdout" => Ok(Act::Stdout),
        Some(("udp", address)) => parse_address(address).map(Act::Udp),
        Some(("file", path)) => Ok(Act::File(path.into())),
        _ => Err("expected none, stdout, udp:ADDRESS:PORT or file:PATH".into()),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("expected an address and port such as 127.0.0.1:9000, found {text:?}"))
}

fn parse_handover(text: &str) -> Result<Handover, String> {
    match text {
        "reset" => Ok(Handover::Reset),
        "carry" => Ok(Handover::Carry),
        _ => Err("expected reset or carry".into()),
    }
}

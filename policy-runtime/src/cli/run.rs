//! `hype-policy run`: a fixed-rate control loop on this machine.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::json;

use super::latency::{Latency, head};
use super::{Outcome, Subject, parse_engine, recorded_observations, rounded};
use crate::contract::nanos_from_secs;
use crate::engine::EngineChoice;
use crate::error::{Error, Kind, Result};
use crate::guard::{Observation, Verdict};
use crate::policy::Policy;
use crate::realtime::{now_nanos, sleep_until};
use crate::timing::FixedRate;

/// Steps before the clock counts: caches, branch predictors and the engine's own buffers.
const WARM_UP_STEPS: usize = 200;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) subject: Subject,
    /// Actions per second; the contract's rate when not given.
    #[arg(long, value_name = "HZ", value_parser = parse_rate)]
    rate: Option<f64>,
    /// How long to run.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    seconds: f64,
    /// auto, native or tract.
    #[arg(long, default_value = "auto", value_parser = parse_engine)]
    engine: EngineChoice,
}

pub(super) fn run(args: &RunArgs) -> Result<Outcome> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Error::malformed("signal handler", "one that can be installed", error))?;
    control_loop(&args.subject.path, args.engine, args.rate, args.seconds, &interrupted)
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
    let mut policy = Policy::load(path, engine)?;
    let (observations, source) = recorded_observations(path, &policy)?;
    let contract_rate = policy.contract().map(|contract| 1.0 / contract.control_period_secs);
    let rate_hz = rate_hz.or(contract_rate).ok_or_else(|| Error::Unsupported {
        thing: path.display().to_string(),
        reason: "the model has no contract, so its control rate is not known".into(),
        hint: "give --rate",
    })?;
    let period = NonZeroU64::new(nanos_from_secs(1.0 / rate_hz)).unwrap_or(NonZeroU64::MIN);

    let mut action = vec![0.0; policy.action_width()];
    for values in observations.iter().cycle().take(WARM_UP_STEPS) {
        // Verdicts count from the first tick on.
        let _ = policy.step(0, &Observation { values, stamp_nanos: 0 }, &mut action);
    }
    policy.reset();

    let (mut step, mut wake) = (Latency::new()?, Latency::new()?);
    let mut fallbacks = 0_u64;
    let mut first_fault = None;
    let start_nanos = now_nanos() + period.get();
    let end_nanos = start_nanos.saturating_add(nanos_from_secs(seconds));
    let mut rate = FixedRate::new(period, start_nanos);
    for values in observations.iter().cycle() {
        let release_nanos = rate.release_nanos();
        // Half a period of slack: rounding of the period must not add a tick.
        if release_nanos + period.get() / 2 >= end_nanos {
            break;
        }
        while now_nanos() < release_nanos && !interrupted.load(Ordering::Relaxed) {
            sleep_until(release_nanos);
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let woke_nanos = now_nanos();
        let verdict = policy.step(woke_nanos, &Observation { values, stamp_nanos: woke_nanos }, &mut action);
        let done_nanos = now_nanos();
        if let Verdict::Fallback(fault) = verdict {
            fallbacks += 1;
            first_fault.get_or_insert(fault);
        }
        wake.record(woke_nanos.saturating_sub(release_nanos));
        step.record(done_nanos.saturating_sub(woke_nanos));
        rate.complete(done_nanos);
    }

    let was_interrupted = interrupted.load(Ordering::Relaxed);
    let (ticks, missed) = (rate.completed_ticks(), rate.missed_deadlines());
    let (step, wake) = (step.summary(), wake.summary());
    let mut text = format!("{}: {ticks} ticks at {} Hz", path.display(), rounded(rate_hz));
    text += &format!(" on {source}, engine {}\n", policy.engine_name());
    if let Some(trained) = contract_rate.filter(|trained| (trained / rate_hz - 1.0).abs() > 1e-3) {
        text += &format!("note: the policy was trained at {} Hz\n", rounded(trained));
    }
    text += &head();
    text += &step.row("step");
    text += &wake.row("wake-up");
    text += &format!("missed deadlines {missed}, fallback actions {fallbacks}");
    text += &first_fault.map_or_else(String::new, |fault| format!(" (first: {fault:?})"));
    text += if was_interrupted { "\ninterrupted\n" } else { "\n" };
    let json = json!({
        "bundle": path,
        "engine": policy.engine_name(),
        "rate_hz": rate_hz,
        "contract_rate_hz": contract_rate,
        "observations": source,
        "ticks": ticks,
        "missed_deadlines": missed,
        "fallbacks": fallbacks,
        "first_fault": first_fault.map(|fault| format!("{fault:?}")),
        "step": step,
        "wake_up": wake,
        "interrupted": was_interrupted,
    });
    Ok(Outcome { text, json, kind: was_interrupted.then_some(Kind::Interrupted) })
}

fn parse_rate(text: &str) -> Result<f64, String> {
    parse_between(text, 0.01, 100_000.0, "Hz")
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    parse_between(text, 0.001, 1e7, "seconds")
}

fn parse_between(text: &str, low: f64, high: f64, unit: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("expected a number from {low} to {high} {unit}")),
    }
}

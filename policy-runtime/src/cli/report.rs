//! What `hype-policy run` measured, and what it says about that.

use serde_json::{Value, json};

use super::latency::{Latency, head};
use super::{Outcome, rounded};
use crate::controller::Controller;
use crate::error::Kind;
use crate::frame::Arrivals;
use crate::guard::{Fault, FaultKind};
use crate::monitor::Monitor;
use crate::realtime::Grant;
use crate::timing::Spread;

/// What the loop measured.
pub(super) struct Measured {
    pub(super) step: Latency,
    pub(super) wake: Latency,
    pub(super) lateness: Spread,
    pub(super) period: Spread,
    pub(super) ticks: u64,
    pub(super) missed: u64,
    pub(super) first_fault: Option<Fault>,
    pub(super) arrivals: Arrivals,
    pub(super) interrupted: bool,
    pub(super) grants: Vec<Grant>,
}

/// What was run.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    pub(super) path: &'a std::path::Path,
    pub(super) engine: &'static str,
    pub(super) rate_hz: f64,
    pub(super) contract_rate: Option<f64>,
    pub(super) observations: &'a str,
}

pub(super) fn report(measured: &Measured, controller: &Controller, setting: &Setting<'_>) -> Outcome {
    let Setting { path, engine, rate_hz, contract_rate, observations } = *setting;
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
        let Arrivals { accepted, lost, duplicated, reordered, ahead, malformed, restarts } = arrivals;
        text += &format!(
            "frames: {accepted} used, {lost} lost, {duplicated} duplicated, {reordered} out of order, {malformed} \
             malformed, {restarts} restarts of the sender\n"
        );
        if *ahead > 0 {
            text += &format!("{ahead} frames were ahead of this machine's clock; another one's need --stamp-arrival\n");
        }
    }
    if controller.monitor().is_some() || controller.alarms() > 0 {
        let now = if controller.monitor().is_some_and(Monitor::is_raised) { ", and is raised now" } else { "" };
        text += &format!("monitor: raised {} times{now}\n", controller.alarms());
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
            "ahead": arrivals.ahead,
            "malformed": arrivals.malformed,
            "restarts": arrivals.restarts,
        },
        "realtime": grants,
        "monitor_alarms": controller.monitor().map(|_| controller.alarms()),
        "monitor_raised": controller.monitor().map(Monitor::is_raised),
        "max_observation_age_secs": controller.policy().rules().guard.max_age_nanos.map(|nanos| nanos as f64 * 1e-9),
        "swaps": controller.swaps(),
        "interrupted": measured.interrupted,
    });
    Outcome { text, json, kind: measured.interrupted.then_some(Kind::Interrupted) }
}

pub(super) fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

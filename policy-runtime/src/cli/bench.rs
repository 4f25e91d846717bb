//! `hype-policy bench`: the latency of a policy, back to back and in a loop that sleeps, beside its peers.

use std::hint::black_box;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::latency::{Latency, head};
use super::ort::Onnxruntime;
use super::subject::Opened;
use super::{Outcome, Subject, counting};
use crate::engine::layout::LayoutOptions;
use crate::engine::{EngineChoice, Kernels};
use crate::error::{Error, Result};
use crate::guard::Observation;
use crate::policy::Policy;
use crate::realtime::{now_nanos, sleep_until};
use crate::timing::FixedRate;

/// Calls of one contestant before the next has its turn, so that a slow moment of the machine hits all.
const BLOCK_CALLS: usize = 500;
/// Ticks of one contestant in the paced loop before the next has its turn.
const BLOCK_TICKS: usize = 100;
/// Steps on which the contestants' actions are compared.
const AGREEMENT_STEPS: usize = 32;
/// Names the shared library of onnxruntime.
const ORT_DYLIB_PATH: &str = "ORT_DYLIB_PATH";

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    pub(super) subject: Subject,
    /// Measured calls of each engine, back to back.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,
    /// Measured ticks of each engine in a loop that sleeps until the next one; 0 leaves it out.
    #[arg(long, default_value_t = 2000)]
    ticks: u32,
    /// Ticks per second of that loop.
    #[arg(long, value_name = "HZ", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// The same inputs through tract too, and through onnxruntime where ORT_DYLIB_PATH names its shared library.
    #[arg(long)]
    peers: bool,
}

enum Engine {
    Policy(Box<Policy>),
    Onnxruntime(Box<Onnxruntime>),
}

struct Contestant {
    name: String,
    engine: Engine,
    back_to_back: Latency,
    paced: Latency,
    allocations: u64,
    missed: u64,
}

impl Contestant {
    fn new(name: impl Into<String>, engine: Engine) -> Result<Self> {
        let (back_to_back, paced) = (Latency::new()?, Latency::new()?);
        Ok(Self { name: name.into(), engine, back_to_back, paced, allocations: 0, missed: 0 })
    }

    fn reset(&mut self) {
        match &mut self.engine {
            Engine::Policy(policy) => policy.reset(),
            Engine::Onnxruntime(ort) => ort.reset(),
        }
    }

    /// One call; the nanoseconds that it took.
    fn call(&mut self, values: &[f32], action: &mut [f32]) -> Result<u64> {
        let allocated = counting::calls();
        let start_nanos = now_nanos();
        match &mut self.engine {
            Engine::Policy(policy) => {
                let observation = Observation { values: black_box(values), stamp_nanos: start_nanos };
                let _ = black_box(policy.step(start_nanos, &observation, action));
            }
            Engine::Onnxruntime(ort) => ort.run(black_box(values), action)?,
        }
        black_box(&*action);
        let nanos = now_nanos() - start_nanos;
        self.allocations += counting::calls() - allocated;
        Ok(nanos)
    }
}

pub(super) fn bench(args: &BenchArgs) -> Result<Outcome> {
    let path = &args.subject.path;
    let opened = args.subject.open()?;
    let (mut contestants, mut notes) = contestants(&opened, &args.subject.names.options(), args.peers)?;
    let Some(Engine::Policy(first)) = contestants.first().map(|contestant| &contestant.engine) else {
        return Err(Error::malformed(path.display().to_string(), "a policy that an engine runs", notes.join("; ")));
    };
    let (observations, source) = opened.observations(first);
    let mut action = vec![0.0; first.action_width()];
    let differences = differences(&mut contestants, &observations, &mut action, &mut notes)?;

    let blocks = (args.calls as usize).div_ceil(BLOCK_CALLS);
    // The first block of each contestant warms it up and is not counted.
    for block in 0..=blocks {
        let calls = BLOCK_CALLS.min((args.calls as usize + BLOCK_CALLS).saturating_sub(block * BLOCK_CALLS));
        for contestant in &mut contestants {
            for values in observations.iter().cycle().take(calls) {
                let nanos = contestant.call(values, &mut action)?;
                if block > 0 {
                    contestant.back_to_back.record(nanos);
                } else {
                    contestant.allocations = 0;
                }
            }
        }
    }
    let allocations: Vec<f64> =
        contestants.iter().map(|contestant| contestant.allocations as f64 / f64::from(args.calls)).collect();
    pace(&mut contestants, &observations, args, &mut action)?;

    let kernels = Kernels::detect().name();
    let mut text = format!("{}: {source}, kernels {kernels}\nback to back\n{}", path.display(), head());
    text += &contestants.iter().map(|c| c.back_to_back.summary().row(&c.name)).collect::<String>();
    if args.ticks > 0 {
        text += &format!("in a loop of {} Hz that sleeps\n{}", args.rate, head());
        text += &contestants.iter().map(|c| c.paced.summary().row(&c.name)).collect::<String>();
    }
    text += &format!("{:<16} {:>16} {:>16}\n", "", "allocations/call", "missed deadlines");
    for (contestant, allocations) in contestants.iter().zip(&allocations) {
        text += &format!("{:<16} {allocations:>16} {:>16}\n", contestant.name, contestant.missed);
    }
    let first = if args.ticks > 0 { &contestants[0].paced } else { &contestants[0].back_to_back };
    text += &format!(
        "{}, {}\n{}",
        contestants[0].name,
        if args.ticks > 0 { "paced" } else { "back to back" },
        first.bars()
    );
    for (contestant, difference) in contestants.iter().zip(&differences).skip(1) {
        let (first, name) = (&contestants[0].name, &contestant.name);
        text += &format!("{name} and {first} differ by at most {difference:.1e} on {AGREEMENT_STEPS} steps\n");
    }
    text += &notes.iter().map(|note| format!("note: {note}\n")).collect::<String>();

    let engines: Vec<Value> = (contestants.iter().zip(&allocations))
        .zip(&differences)
        .map(|((contestant, allocations), difference)| {
            json!({
                "largest_difference": difference,
                "engine": contestant.name,
                "step": contestant.back_to_back.summary(),
                "paced": (args.ticks > 0).then(|| contestant.paced.summary()),
                "allocations_per_call": allocations,
                "missed_deadlines": contestant.missed,
                "histogram": contestant.back_to_back.buckets(),
                "paced_histogram": contestant.paced.buckets(),
            })
        })
        .collect();
    let json = json!({
        "bundle": path, "observations": source, "kernels": kernels, "rate_hz": args.rate, "engines": engines, "notes": notes,
    });
    Ok(Outcome { text, json, kind: None })
}

/// Each contestant's largest difference from the first one over some steps from a fresh state. One that fails is sent away with a note, unless
/// it is the first.
fn differences(
    contestants: &mut Vec<Contestant>,
    observations: &[Vec<f32>],
    action: &mut [f32],
    notes: &mut Vec<String>,
) -> Result<Vec<f32>> {
    let mut first: Vec<f32> = Vec::new();
    let mut differences = Vec::new();
    let mut index = 0;
    while let Some(contestant) = contestants.get_mut(index) {
        contestant.reset();
        let mut actions = Vec::new();
        let mut ran = Ok(());
        for values in observations.iter().cycle().take(AGREEMENT_STEPS) {
            ran = contestant.call(values, action).map(drop);
            if ran.is_err() {
                break;
            }
            actions.extend_from_slice(action);
        }
        contestant.reset();
        match ran {
            Err(error) if index == 0 => return Err(error),
            Err(error) => {
                notes.push(format!("{} takes no part: {error}", contestant.name));
                contestants.remove(index);
                continue;
            }
            Ok(()) => {}
        }
        if first.is_empty() {
            first.clone_from(&actions);
        }
        differences.push(largest_difference(&actions, &first));
        index += 1;
    }
    Ok(differences)
}

/// Infinite where one of them is no number and the other is one.
fn largest_difference(ones: &[f32], others: &[f32]) -> f32 {
    let difference = |(one, other): (&f32, &f32)| {
        let same = one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan();
        let difference = if same { 0.0 } else { (one - other).abs() };
        if difference.is_nan() { f32::INFINITY } else { difference }
    };
    ones.iter().zip(others).map(difference).fold(0.0, f32::max)
}

/// Who takes part, the policy as it would be loaded first; and who cannot, with the reason.
fn contestants(opened: &Opened, names: &LayoutOptions, peers: bool) -> Result<(Vec<Contestant>, Vec<String>)> {
    let (mut contestants, mut notes) = (Vec::new(), Vec::new());
    let mut add = |choice: EngineChoice| -> Result<()> {
        match opened.policy(choice, names) {
            Ok(policy) => contestants.push(Contestant::new(choice.to_string(), Engine::Policy(Box::new(policy)))?),
            Err(Error::Unsupported { reason, .. }) => notes.push(format!("{choice} cannot run it: {reason}")),
            Err(error) => return Err(error),
        }
        Ok(())
    };
    add(EngineChoice::Native)?;
    add(EngineChoice::Deterministic)?;
    add(EngineChoice::Tract)?;
    if peers {
        match std::env::var_os(ORT_DYLIB_PATH).map(PathBuf::from) {
            None => notes.push(format!("onnxruntime takes no part: {ORT_DYLIB_PATH} names no shared library")),
            Some(library) => {
                let layout = contestants.first().and_then(|contestant| match &contestant.engine {
                    Engine::Policy(policy) => Some((policy.layout()?, policy.action_width())),
                    Engine::Onnxruntime(_) => None,
                });
                let none = || Error::malformed("the model", "known inputs and outputs", "none");
                let (layout, action_width) = layout.ok_or_else(none)?;
                match Onnxruntime::new(&library, opened.model(), layout, action_width) {
                    Ok(ort) => {
                        notes.push(format!("onnxruntime {}, one thread; its own heap is not counted", ort.version()));
                        contestants.push(Contestant::new("onnxruntime", Engine::Onnxruntime(Box::new(ort)))?);
                    }
                    Err(error) => notes.push(format!("onnxruntime takes no part: {error}")),
                }
            }
        }
    }
    Ok((contestants, notes))
}

/// The honest number: caches and clock are cold after sleep, as on a robot.
fn pace(contestants: &mut [Contestant], observations: &[Vec<f32>], args: &BenchArgs, action: &mut [f32]) -> Result<()> {
    let period = NonZeroU64::new(1_000_000_000 / u64::from(args.rate)).unwrap_or(NonZeroU64::MIN);
    for block in 0..(args.ticks as usize).div_ceil(BLOCK_TICKS) {
        let ticks = BLOCK_TICKS.min(args.ticks as usize - block * BLOCK_TICKS);
        for contestant in contestants.iter_mut() {
            let mut rate = FixedRate::new(period, now_nanos() + period.get());
            for values in observations.iter().cycle().skip(block % observations.len().max(1)).take(ticks) {
                while now_nanos() < rate.release_nanos() {
                    sleep_until(rate.release_nanos());
                }
                let nanos = contestant.call(values, action)?;
                contestant.paced.record(nanos);
                rate.complete(now_nanos());
            }
            contestant.missed += rate.missed_deadlines();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::largest_difference;

    #[test]
    fn an_answer_that_is_no_number_differs() {
        assert_eq!(largest_difference(&[1.0, 2.0], &[1.0, 2.5]), 0.5);
        assert_eq!(largest_difference(&[f32::NAN, 2.0], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(largest_difference(&[1.0, f32::INFINITY], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(largest_difference(&[f32::INFINITY, f32::NAN], &[f32::INFINITY, f32::NAN]), 0.0);
    }
}

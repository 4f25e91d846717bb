//! `hype-policy bench`: both engines, one call after the other.

use std::hint::black_box;

use clap::Args;
use serde_json::json;

use super::latency::{Latency, head};
use super::{Outcome, Subject, recorded_observations};
use crate::engine::EngineChoice;
use crate::error::{Error, Result};
use crate::guard::Observation;
use crate::policy::Policy;
use crate::realtime::now_nanos;

/// Calls of one engine before the other has its turn, so that a slow moment of the machine hits both.
const BLOCK_CALLS: usize = 500;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    pub(super) subject: Subject,
    /// Measured calls of each engine.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,
}

pub(super) fn bench(args: &BenchArgs) -> Result<Outcome> {
    let path = &args.subject.path;
    let mut contestants = Vec::new();
    let mut absent = None;
    for choice in [EngineChoice::Native, EngineChoice::Tract] {
        match Policy::load(path, choice) {
            Ok(policy) => contestants.push((policy, Latency::new()?)),
            Err(Error::Unsupported { reason, .. }) if choice == EngineChoice::Native => absent = Some(reason),
            Err(error) => return Err(error),
        }
    }
    let Some((first, _)) = contestants.first() else {
        return Err(Error::malformed(path.display().to_string(), "a policy that an engine runs", "none"));
    };
    let (observations, source) = recorded_observations(path, first)?;

    let mut action = vec![0.0; first.action_width()];
    let blocks = (args.calls as usize).div_ceil(BLOCK_CALLS);
    // The first block of each engine warms it up and is not counted.
    for block in 0..=blocks {
        let calls = BLOCK_CALLS.min((args.calls as usize + BLOCK_CALLS).saturating_sub(block * BLOCK_CALLS));
        for (policy, latency) in &mut contestants {
            for values in observations.iter().cycle().take(calls) {
                let start_nanos = now_nanos();
                let observation = Observation { values: black_box(values), stamp_nanos: start_nanos };
                let verdict = policy.step(start_nanos, &observation, &mut action);
                let _ = black_box((verdict, &action));
                if block > 0 {
                    latency.record(now_nanos() - start_nanos);
                }
            }
        }
    }

    let mut text = format!("{}: back-to-back calls on {source}\n{}", path.display(), head());
    let mut engines = Vec::new();
    for (policy, latency) in &contestants {
        let summary = latency.summary();
        text += &summary.row(policy.engine_name());
        engines.push(json!({"engine": policy.engine_name(), "step": summary}));
    }
    if let Some(reason) = &absent {
        text += &format!("native       cannot run it: {reason}\n");
    }
    let json = json!({"bundle": path, "observations": source, "engines": engines, "why_not_native": absent});
    Ok(Outcome { text, json, kind: None })
}

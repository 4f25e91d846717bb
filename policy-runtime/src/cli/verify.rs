//! `hype-policy verify`: does this bundle, on this machine, compute what training computed?

use serde_json::json;

use super::subject::Opened;
use super::{Outcome, Subject};
use crate::bundle::Bundle;
use crate::discriminator::Discriminator;
use crate::embedded::Precision;
use crate::embedded::heap::BlobFile;
use crate::embedded::write::contract_digest;
use crate::engine::EngineChoice;
use crate::error::{Error, Kind, Result};
use crate::guard::{Observation, Verdict};
use crate::policy::Policy;
use crate::probe::{Demonstrations, Probe, probes};
use crate::selfcheck::{Agreement, Comparison};

/// Random inputs beside the boundary ones.
const RANDOM_ROWS: usize = 1000;
/// Another seed than the exporter's, so that other inputs are compared.
const PROBE_SEED: u64 = 0x7665_7269;

pub(super) fn verify(subject: &Subject) -> Result<Outcome> {
    let path = &subject.path;
    if !path.is_dir() {
        let found = if path.exists() { "a file" } else { "nothing" };
        return Err(Error::malformed(
            path.display().to_string(),
            "a bundle's folder: a lone file holds nothing to compare it with",
            found,
        ));
    }
    let trust = subject.trust()?;
    let checked = Opened::read(path, trust.as_ref())
        .and_then(|opened| check(opened.insist_on_bundle()?).map_err(|error| error.within(path.display())));
    let (agreement, notes) = match checked {
        Ok(checked) => checked,
        Err(error) if error.kind() == Kind::Verification => {
            let json = json!({"bundle": path, "ok": false, "error": error.to_string()});
            let text = format!("{}: FAILED\n{error}\n", path.display());
            return Ok(Outcome { text, json, kind: Some(Kind::Verification) });
        }
        Err(error) => return Err(error),
    };
    let mut text = format!("{}: good\n", path.display());
    for Agreement { what, left, right, rows, largest_difference, largest_share_of_tolerance, worst } in &agreement {
        text += &format!(
            "  {what}: {left} and {right} agree on {rows} inputs; largest difference {largest_difference:.2e}, {:.1} % of \
             the tolerance at most",
            100.0 * largest_share_of_tolerance
        );
        text += &if worst.is_empty() { "\n".into() } else { format!(" ({worst})\n") };
    }
    for note in &notes {
        text += &format!("  note: {note}\n");
    }
    let json = json!({"bundle": path, "ok": true, "agreement": agreement, "notes": notes});
    Ok(Outcome { text, json, kind: None })
}

fn check(bundle: &Bundle) -> Result<(Vec<Agreement>, Vec<String>)> {
    let mut agreement = Vec::new();
    let mut notes = Vec::new();
    let contract = &bundle.manifest.contract;
    let seen = Demonstrations {
        observations: bundle.manifest.golden.iter().flat_map(|golden| golden.observation.iter().copied()).collect(),
        actions: Vec::new(),
    };
    let rows = probes(contract, &seen, RANDOM_ROWS, PROBE_SEED);

    let mut tract = Policy::from_bundle(bundle, EngineChoice::Tract)?;
    agreement.extend(tract.golden_agreement().cloned());
    match Policy::from_bundle(bundle, EngineChoice::Native) {
        Ok(mut native) => {
            agreement.extend(native.golden_agreement().cloned());
            agreement.push(compare_policies(&mut native, &mut tract, &rows)?);
        }
        Err(Error::Unsupported { reason, .. }) => notes.push(format!("policy runs in tract only: {reason}")),
        Err(error) => return Err(error),
    }

    check_blobs(bundle, &mut agreement)?;

    let Some(mut tract) = Discriminator::from_bundle(bundle, EngineChoice::Tract)? else {
        notes.push("there is no discriminator".into());
        return Ok((agreement, notes));
    };
    agreement.push(tract.replay(&bundle.manifest.golden)?);
    match Discriminator::from_bundle(bundle, EngineChoice::Native) {
        Ok(Some(mut native)) => {
            agreement.push(native.replay(&bundle.manifest.golden)?);
            agreement.push(compare_discriminators(&mut native, &mut tract, &rows)?);
        }
        Ok(None) => {}
        Err(Error::Unsupported { reason, .. }) => notes.push(format!("discriminator runs in tract only: {reason}")),
        Err(error) => return Err(error),
    }
    Ok((agreement, notes))
}

/// Replays the golden vectors of the blobs, and compares the one in f32 with training's golden actions.
fn check_blobs(bundle: &Bundle, agreement: &mut Vec<Agreement>) -> Result<()> {
    for (name, content) in &bundle.blobs {
        let refused = |error| Error::malformed(*name, "a blob that runs", error);
        let file = BlobFile::new(content);
        let mut executor = file.open().map_err(refused)?;
        if *executor.blob().header().contract_sha256 != contract_digest(&bundle.manifest.contract)? {
            return Err(Error::malformed(*name, "the manifest's contract", "another contract"));
        }
        let mut action = vec![0.0; executor.blob().action_width()];
        if executor.blob().header().precision == Precision::F32 {
            let mut comparison = Comparison::of_policies(&bundle.manifest.contract, "golden", name);
            for golden in &bundle.manifest.golden {
                executor.reset();
                executor.run(&golden.observation, &mut action)?;
                comparison.add(golden.kind, golden.activation_scale, &golden.action, &action);
            }
            agreement.push(comparison.finish()?);
        }
    }
    Ok(())
}

fn compare_policies(native: &mut Policy, tract: &mut Policy, rows: &[Probe]) -> Result<Agreement> {
    let mut comparison = match native.contract() {
        Some(contract) => Comparison::of_policies(contract, "native", "tract"),
        None => Comparison::of_unbounded(native.action_width(), "native", "tract"),
    };
    let mut actions = [vec![0.0; native.action_width()], vec![0.0; native.action_width()]];
    for probe in rows {
        let observation = Observation { values: &probe.observation, stamp_nanos: 0 };
        for (policy, action) in [&mut *native, &mut *tract].into_iter().zip(&mut actions) {
            if let Verdict::Fallback(_) = policy.step(0, &observation, action) {
                // No usable action agrees with nothing.
                action.fill(f32::NAN);
            }
        }
        comparison.add(probe.kind, native.activation_scale().unwrap_or(1.0), &actions[0], &actions[1]);
    }
    comparison.finish()
}

fn compare_discriminators(native: &mut Discriminator, tract: &mut Discriminator, rows: &[Probe]) -> Result<Agreement> {
    let mut comparison = Comparison::of_discriminators("native", "tract");
    for probe in rows {
        let rewards = [&mut *native, &mut *tract].map(|engine| engine.reward(&probe.observation, &probe.action));
        let [left, right] = rewards;
        comparison.add(probe.kind, native.activation_scale().unwrap_or(1.0), &[left?], &[right?]);
    }
    comparison.finish()
}

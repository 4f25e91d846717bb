//! A whole bundle, from graphs to a verified folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use policy_runtime::bundle::{
    Bundle, DISCRIMINATOR_FILE, FORMAT, FORMAT_VERSION, FileRecord, MANIFEST_FILE, Manifest, POLICY_FILE,
};
use policy_runtime::monitor::MonitorRecord;
use policy_runtime::probe::{Demonstrations, Probe, probes};
use policy_runtime::selfcheck::{Agreement, Golden, Judgement, ProbeKind};
use policy_runtime::{Contract, DiscriminatorGraph, PolicyGraph};
use serde_json::Value;

use crate::blob::{Blob, blobs, check_blobs};
use crate::error::{Error, Result};
use crate::onnx::{onnx_discriminator, onnx_policy};
use crate::replace::Staged;
use crate::verify::{Answers, RANDOM_ROWS, Reference, compare_files, compare_with_training};

/// Golden vectors of each kind.
const GOLDEN_ROWS_PER_KIND: usize = 8;
/// Seed of the random probes.
const PROBE_SEED: u64 = 0x6879_7065;

/// What a bundle is made from.
#[derive(Debug)]
pub struct BundleContents<'a> {
    /// What the policy reads and writes.
    pub contract: &'a Contract,
    /// The policy.
    pub policy: &'a PolicyGraph,
    /// The discriminator, where one was learned.
    pub discriminator: Option<&'a DiscriminatorGraph>,
    /// Rows to compare on beside random and boundary ones; may be empty.
    pub demonstrations: &'a Demonstrations,
    /// Who made it, from what, with which versions: any JSON.
    pub provenance: Value,
    /// Method, preset, step counts, returns: any JSON.
    pub training: Value,
}

/// What was written, and how well everything agreed.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The bundle's folder.
    pub path: PathBuf,
    /// Inputs of each comparison.
    pub rows: usize,
    /// Each pair of executions that was compared.
    pub agreement: Vec<Agreement>,
}

/// Writes a bundle to `path`, reads it back, and compares training's outputs with the native engine and tract on
/// demonstration, random and boundary inputs. Only then does it take its place; a bundle that was there is replaced,
/// anything else that is there is refused.
///
/// # Errors
/// Kind `Verification` with the largest difference where executions disagree, `Data` where graphs or contract are not
/// valid, `System` where files cannot be written. Nothing is left behind, and what was there before is untouched.
pub fn write_bundle(path: &Path, contents: &BundleContents<'_>, reference: &mut dyn Reference) -> Result<Report> {
    let contract = contents.contract;
    let policy_bytes = onnx_policy(contents.policy, contract)?;
    let discriminator_bytes =
        contents.discriminator.map(|discriminator| onnx_discriminator(discriminator, contract)).transpose()?;
    check_demonstrations(contract, contents.demonstrations)?;

    let rows = probes(contract, contents.demonstrations, RANDOM_ROWS, PROBE_SEED);
    let (answers, mut agreement) =
        compare_with_training(contract, contents.policy, contents.discriminator, reference, &rows)?;

    let staged = Staged::beside(path)?;
    let mut files = BTreeMap::from([(POLICY_FILE.to_owned(), FileRecord::of(&policy_bytes))]);
    staged.write(POLICY_FILE, &policy_bytes)?;
    if let Some(bytes) = &discriminator_bytes {
        files.insert(DISCRIMINATOR_FILE.to_owned(), FileRecord::of(bytes));
        staged.write(DISCRIMINATOR_FILE, bytes)?;
    }
    let mut manifest = Manifest {
        format: FORMAT.into(),
        format_version: FORMAT_VERSION,
        contract: contract.clone(),
        files,
        golden: golden(&rows, &answers, discriminator_bytes.is_some()),
        monitor: MonitorRecord::of_demonstrations(
            contract,
            &contents.demonstrations.observations,
            &contents.demonstrations.actions,
        ),
        agreement: agreement.clone(),
        embedded: Vec::new(),
        provenance: contents.provenance.clone(),
        training: contents.training.clone(),
    };
    for Blob { name, content, record, compared } in blobs(contents, &policy_bytes, &rows, &answers)? {
        manifest.files.insert(name.to_owned(), FileRecord::of(&content));
        staged.write(name, &content)?;
        manifest.embedded.push(record);
        agreement.extend(compared);
    }
    write_manifest(&staged, &manifest)?;
    agreement.extend(compare_files(&Bundle::open(staged.folder())?, &rows, &answers)?);

    manifest.agreement.clone_from(&agreement);
    write_manifest(&staged, &manifest)?;
    let written = Bundle::open(staged.folder())?;
    check_blobs(&written)?;
    if written.manifest != manifest {
        let found = "other values after reading it back";
        return Err(policy_runtime::Error::malformed(MANIFEST_FILE, "what was written", found).into());
    }
    staged.commit()?;
    Ok(Report { path: path.to_path_buf(), rows: rows.len(), agreement })
}

fn write_manifest(staged: &Staged, manifest: &Manifest) -> Result<()> {
    manifest.validate()?;
    let text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| Error::Encode { file: MANIFEST_FILE, reason: error.to_string() })?;
    staged.write(MANIFEST_FILE, &text)
}

fn check_demonstrations(contract: &Contract, demonstrations: &Demonstrations) -> Result<()> {
    let rows = demonstrations.observations.len() / contract.observation.len();
    for (name, values, width) in [
        ("demonstration observations", &demonstrations.observations, contract.observation.len()),
        ("demonstration actions", &demonstrations.actions, contract.action.len()),
    ] {
        if values.len() != rows * width {
            let expected = format!("{rows} rows of {width}");
            return Err(policy_runtime::Error::malformed(name, expected, format!("{} numbers", values.len())).into());
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let thing = format!("{name} at row {}", index / width);
            return Err(policy_runtime::Error::malformed(thing, "finite numbers", values[index]).into());
        }
    }
    Ok(())
}

/// Some probes of each kind, evenly spread, with training's answers.
fn golden(probes: &[Probe], answers: &Answers, judged: bool) -> Vec<Golden> {
    let mut golden = Vec::new();
    for kind in [ProbeKind::Demonstration, ProbeKind::Random, ProbeKind::Boundary] {
        let rows: Vec<usize> = (0..probes.len()).filter(|row| probes[*row].kind == kind).collect();
        let taken = rows.len().min(GOLDEN_ROWS_PER_KIND);
        for index in 0..taken {
            let row = rows[index * rows.len() / taken];
            golden.push(Golden {
                kind,
                observation: probes[row].observation.clone(),
                action: answers.actions[row].clone(),
                activation_scale: answers.action_scales[row],
                judgement: judged.then(|| Judgement {
                    action: probes[row].action.clone(),
                    reward: answers.rewards[row],
                    activation_scale: answers.reward_scales[row],
                }),
            });
        }
    }
    golden
}

//! `hype-policy blob`: another exporter's ONNX policy, with memory or without, as a blob for a microcontroller.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Outcome;
use crate::bundle::Bundle;
use crate::contract::Contract;
use crate::embedded::Precision;
use crate::embedded::heap::BlobFile;
use crate::embedded::write::{Network, blob};
use crate::engine::EngineChoice;
use crate::error::{Error, Kind, Result};
use crate::files::{MAX_ONNX_BYTES, read_bounded};
use crate::guard::Observation;
use crate::onnx::Model;
use crate::policy::Policy;
use crate::probe::{Demonstrations, probes};
use crate::selfcheck::ProbeKind;

/// Steps that blob and file are compared over, state carried from one to the next.
const STEPS: usize = 64;
const SEED: u64 = 0x626c_6f62;
/// Golden vectors in the blob: the first of those steps.
const GOLDEN: usize = 4;
/// Greatest difference, as a share of the larger of 1 and the action's magnitude, with weights as they are.
const TOLERANCE: f32 = 1e-5;

#[derive(Debug, Args)]
pub(super) struct BlobArgs {
    /// An ONNX policy: dense, LSTM and GRU layers.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Channels, bounds and rate as JSON, where the file has no contract of its own; `hype-policy inspect` of a bundle shows one.
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Eight bits for each weight.
    #[arg(long)]
    int8: bool,
    /// The blob.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON object on standard output and nothing else there.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn write(args: &BlobArgs) -> Result<Outcome> {
    let name = args.model.display().to_string();
    let bytes = read_bounded(&args.model, MAX_ONNX_BYTES)?;
    let model = Model::parse(&bytes).map_err(|error| error.within(&name))?;
    let contract = match &args.contract {
        Some(path) => {
            let text = String::from_utf8_lossy(&read_bounded(path, MAX_ONNX_BYTES)?).into_owned();
            Contract::from_json(&text).map_err(|error| error.within(path.display()))?
        }
        None => model
            .contract()?
            .ok_or_else(|| Error::malformed(format!("{name}: metadata"), "a contract, or --contract FILE", "none"))?,
    };
    let network = model.lower_network().map_err(|reason| Error::Unsupported {
        thing: format!("{name} cannot become a blob"),
        reason,
        hint: "export the policy alone, with dense, LSTM and GRU layers",
    })?;
    let rows: Vec<Vec<f32>> = probes(&contract, &Demonstrations::default(), STEPS, SEED)
        .into_iter()
        .take(STEPS)
        .map(|probe| probe.observation)
        .collect();
    let precision = if args.int8 { Precision::Int8 } else { Precision::F32 };
    let golden: Vec<&[f32]> = rows.iter().take(GOLDEN).map(Vec::as_slice).collect();
    let shown = demonstrated(&args.model);
    let shown: Vec<&[f32]> =
        shown.iter().map(Vec::as_slice).filter(|row| row.len() == contract.observation.len()).collect();
    let written = |precision| -> Result<(BlobFile, f32)> {
        let network = match precision {
            Precision::F32 => network.clone(),
            Precision::Int8 => network.clone().with_even_inputs(&shown),
        };
        let file = blob(&contract, &network, precision, Sha256::digest(&bytes).into(), &golden)?;
        let off = largest_difference(&bytes, &file, &network, &rows).map_err(|error| error.within(&name))?;
        Ok((file, off))
    };
    // Whether it is the same policy at all: rounded weights would hide that.
    let (as_it_is, off_as_it_is) = written(Precision::F32)?;
    let (file, off) = if args.int8 { written(precision)? } else { (as_it_is, off_as_it_is) };
    let good = off_as_it_is <= TOLERANCE && off.is_finite();
    let json = json!({"model": args.model, "blob": args.output, "bytes": file.bytes().len(), "ok": good,
        "precision": precision, "steps": rows.len(), "largest_difference": off, "largest_difference_f32": off_as_it_is});
    if !good {
        let text = format!(
            "{name}: FAILED\nfile and blob differ by {off_as_it_is:e} with weights as they are, within {STEPS} steps; expected at most \
             {TOLERANCE:e}: state that is carried otherwise than it is named, or actions that metadata scales\n"
        );
        return Ok(Outcome { text, json, kind: Some(Kind::Verification) });
    }
    fs::write(&args.output, file.bytes()).map_err(|source| Error::file("write", &args.output, source))?;
    let rounded = if args.int8 { " with weights of eight bits" } else { "" };
    let text = format!(
        "{}: {} bytes; differs from {name} by {off:.1e} at most over {} steps of random observations{rounded}\n",
        args.output.display(),
        file.bytes().len(),
        rows.len()
    );
    Ok(Outcome { text, json, kind: None })
}

/// Observations of demonstrations, where the model lies in a bundle whose golden vectors have some.
fn demonstrated(model: &Path) -> Vec<Vec<f32>> {
    let bundle = model.parent().filter(|folder| Bundle::is_at(folder)).and_then(|folder| Bundle::open(folder).ok());
    let golden = bundle.map(|bundle| bundle.manifest.golden).unwrap_or_default();
    golden.into_iter().filter(|it| it.kind == ProbeKind::Demonstration).map(|it| it.observation).collect()
}

/// The largest difference between the file's actions and the blob's, as a share of the larger of 1 and the action's magnitude;
/// infinite where an action is no number.
fn largest_difference(bytes: &[u8], file: &BlobFile, network: &Network, rows: &[Vec<f32>]) -> Result<f32> {
    // In the blob's order of operations, where the file has nothing that only tract knows.
    let mut policy = Policy::from_onnx(bytes, EngineChoice::Deterministic)
        .or_else(|_| Policy::from_onnx(bytes, EngineChoice::Auto))?;
    let mut board = file.open().map_err(|error| Error::malformed("the blob", "one that can be read", error))?;
    let mut wanted = vec![0.0; network.affine.scale.len()];
    let mut found = wanted.clone();
    let mut most = 0.0_f32;
    for values in rows {
        let proposed = policy.propose(0, &Observation { values, stamp_nanos: 0 }, &mut wanted);
        proposed.map_err(|fault| {
            Error::malformed("the file's action", "one for every observation", format!("{fault:?}"))
        })?;
        board.run(values, &mut found)?;
        let scale = wanted.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
        for (found, wanted) in found.iter().zip(&wanted) {
            let off = (found - wanted).abs() / scale;
            most = if off.is_nan() { f32::INFINITY } else { most.max(off) };
        }
    }
    Ok(most)
}

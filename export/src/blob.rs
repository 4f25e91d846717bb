//! The policy as blobs for microcontrollers, compared with training before they are written.

use policy_runtime::bundle::{BLOB_FILE, BLOB_INT8_FILE, Bundle, EmbeddedRecord};
use policy_runtime::embedded::Precision;
use policy_runtime::embedded::heap::BlobFile;
use policy_runtime::embedded::write::{Network, blob};
use policy_runtime::probe::Probe;
use policy_runtime::selfcheck::{Agreement, Comparison, ProbeKind};
use sha2::{Digest, Sha256};

use crate::bundle::BundleContents;
use crate::error::Result;
use crate::verify::Answers;

/// Golden vectors of a blob: few, since they lie in flash and are replayed whenever the board starts.
const GOLDEN_ROWS: usize = 4;
/// Widest layer that becomes a blob; wider ones have no place on a microcontroller.
const WIDEST: usize = 8192;

/// One blob and what is to be said about it.
pub(crate) struct Blob {
    pub name: &'static str,
    pub content: Vec<u8>,
    pub record: EmbeddedRecord,
    /// Agreement with training, where the numbers are the same.
    pub compared: Option<Agreement>,
}

/// Both blobs of the policy; none where it is too large for any microcontroller.
pub(crate) fn blobs(
    contents: &BundleContents<'_>,
    model: &[u8],
    probes: &[Probe],
    answers: &Answers,
) -> Result<Vec<Blob>> {
    if contents.policy.mlp.widest() > WIDEST {
        return Ok(Vec::new());
    }
    let network = Network::from_graph(contents.policy)?;
    let digest = Sha256::digest(model).into();
    let mut blobs = Vec::new();
    let shown = probes.iter().filter(|probe| probe.kind == ProbeKind::Demonstration);
    let shown: Vec<&[f32]> = shown.map(|probe| probe.observation.as_slice()).collect();
    let even = network.clone().with_even_inputs(&shown);
    for (name, precision, network) in [(BLOB_FILE, Precision::F32, &network), (BLOB_INT8_FILE, Precision::Int8, &even)]
    {
        let file = blob(contents.contract, network, precision, digest, &golden(probes))?;
        blobs.push(compare(contents, name, precision, &file, probes, answers)?);
    }
    Ok(blobs)
}

/// Rows spread evenly over all probes, and so over their kinds.
fn golden(probes: &[Probe]) -> Vec<&[f32]> {
    let stride = probes.len().div_ceil(GOLDEN_ROWS).max(1);
    probes.iter().step_by(stride).map(|probe| probe.observation.as_slice()).collect()
}

fn compare(
    contents: &BundleContents<'_>,
    name: &'static str,
    precision: Precision,
    file: &BlobFile,
    probes: &[Probe],
    answers: &Answers,
) -> Result<Blob> {
    let contract = contents.contract;
    let mut executor = file.open().map_err(|error| malformed(name, error))?;
    let kinds = |kind| probes.iter().filter(|probe| probe.kind == kind).count();
    let measured_on = if kinds(ProbeKind::Demonstration) > 0 { ProbeKind::Demonstration } else { ProbeKind::Random };
    let mut comparison = Comparison::of_policies(contract, "training", name);
    let mut action = vec![0.0; contract.action.len()];
    let (mut rows, mut largest, mut squares) = (0, 0.0_f32, 0.0_f64);
    for ((probe, expected), scale) in probes.iter().zip(&answers.actions).zip(&answers.action_scales) {
        executor.reset();
        executor.run(&probe.observation, &mut action)?;
        comparison.add(probe.kind, *scale, expected, &action);
        if probe.kind != measured_on {
            continue;
        }
        rows += 1;
        for ((channel, found), expected) in contract.action.iter().zip(&action).zip(expected) {
            let range = channel.bounds().map_or(1.0, |(low, high)| high - low);
            let error = (found - expected).abs() / range;
            // NaN must not get lost in a maximum.
            largest = if error.is_nan() || error > largest { error } else { largest };
            squares += f64::from(error) * f64::from(error);
        }
    }
    let blob = executor.blob();
    let record = EmbeddedRecord {
        file: name.to_owned(),
        precision,
        width: blob.width(),
        state: blob.state_width(),
        multiplications: blob.multiplications(),
        measured_on,
        rows,
        largest_error: largest,
        rms_error: (squares / (rows * action.len()).max(1) as f64).sqrt() as f32,
    };
    if !largest.is_finite() {
        let found = format!("a difference of {largest}");
        return Err(policy_runtime::Error::malformed(format!("{name}: actions"), "finite numbers", found).into());
    }
    let compared = (precision == Precision::F32).then(|| comparison.finish()).transpose()?;
    Ok(Blob { name, content: file.bytes().to_vec(), record, compared })
}

/// Opens the blobs of a bundle that was read back and replays their golden vectors.
pub(crate) fn check_blobs(bundle: &Bundle) -> Result<()> {
    for (name, content) in &bundle.blobs {
        BlobFile::new(content).open().map_err(|error| malformed(name, error))?;
    }
    Ok(())
}

fn malformed(name: &str, error: policy_runtime::embedded::BlobError) -> policy_runtime::Error {
    policy_runtime::Error::malformed(name, "a blob that runs on a microcontroller", error)
}

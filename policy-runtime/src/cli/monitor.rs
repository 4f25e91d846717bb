//! `hype-policy monitor`: fits the running statistic to what the deployed policy does where all is well.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Outcome, Subject};
use crate::bundle::MANIFEST_FILE;
use crate::discriminator::Discriminator;
use crate::embedded::watch_section;
use crate::engine::EngineChoice;
use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::monitor::{Cusum, SECS_PER_FALSE_ALARM, SLACK_AND_MOST, Score, Shape, score};

/// Largest telemetry file that is read.
const MAX_TELEMETRY_BYTES: u64 = 1 << 30;

#[derive(Debug, Args)]
pub(super) struct MonitorArgs {
    #[command(flatten)]
    pub(super) subject: Subject,
    /// Telemetry of `hype-policy run` where all was well; each file is an episode of its own.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    nominal: Vec<PathBuf>,
    /// Measure the distance from these episodes instead of from the demonstrations: for a policy that acts otherwise than
    /// the expert did.
    #[arg(long, conflicts_with = "discriminator")]
    own_shape: bool,
    /// Watch the discriminator's cost instead of the Mahalanobis distance.
    #[arg(long)]
    discriminator: bool,
    /// Write what a board's monitor needs to this file as well, to be flashed behind policy.hpb or policy-int8.hpb.
    #[arg(long, value_name = "FILE", conflicts_with = "discriminator")]
    board: Option<PathBuf>,
}

pub(super) fn monitor(args: &MonitorArgs) -> Result<Outcome> {
    let path = &args.subject.path;
    let opened = args.subject.open()?;
    let bundle = opened.insist_on_bundle()?;
    let mut manifest = bundle.manifest.clone();
    let missing = |what: &str| Error::malformed(path.display().to_string(), what, "none");
    let record = manifest.monitor.as_mut();
    let record = record.ok_or_else(|| missing("the demonstrations' shape, which `hype export` stores"))?;
    let mut discriminator = if args.discriminator {
        let discriminator = Discriminator::from_bundle(bundle, EngineChoice::Auto)?;
        Some(discriminator.ok_or_else(|| missing("a discriminator"))?)
    } else {
        None
    };
    let (width, action_width) = (bundle.manifest.contract.observation.len(), bundle.manifest.contract.action.len());
    let read = |file: &PathBuf| driven_rows(file, width, action_width);
    let episodes: Vec<Vec<Pair>> = args.nominal.iter().map(read).collect::<Result<_>>()?;
    if args.own_shape {
        let pairs: Vec<f32> = episodes.iter().flatten().flat_map(|(o, a)| o.iter().chain(a).copied()).collect();
        record.shape = Shape::of(&pairs, width + action_width)?;
    }
    let mut of = |(observation, action): &Pair| score(&record.shape, discriminator.as_mut(), observation, action);
    let episodes: Vec<Vec<f32>> = episodes.iter().map(|rows| rows.iter().map(&mut of).collect()).collect();
    let ticks: usize = episodes.iter().map(Vec::len).sum();
    let alarms_per_tick = manifest.contract.control_period_secs / SECS_PER_FALSE_ALARM;
    let (slack, most) = SLACK_AND_MOST;
    let cusum = Cusum::fit(&episodes, slack, most, alarms_per_tick)?;
    record.score = if args.discriminator { Score::Discriminator } else { Score::Mahalanobis };
    record.cusum = Some(cusum);
    manifest.validate()?;
    write_manifest(
        path,
        &serde_json::to_vec_pretty(&manifest).map_err(|e| Error::malformed(MANIFEST_FILE, "JSON", e))?,
    )?;

    let section = match &manifest.monitor {
        Some(record) if args.board.is_some() => watch_section(&manifest.contract, record)?,
        _ => None,
    };
    if let (Some(file), Some(section)) = (&args.board, section) {
        fs::write(file, section).map_err(|source| Error::file("write", file, source))?;
    }

    let minutes = ticks as f64 * manifest.contract.control_period_secs / 60.0;
    let mut text = format!(
        "{}: watches {:?} from now on; threshold {:.1} after {minutes:.1} nominal minutes\n",
        path.display(),
        if args.discriminator { Score::Discriminator } else { Score::Mahalanobis },
        cusum.threshold
    );
    if minutes * 60.0 < SECS_PER_FALSE_ALARM {
        text += "note: less than the 10 minutes in which one false alarm is allowed; record more\n";
    }
    text += "note: sign the bundle again\n";
    let json = json!({"bundle": path, "nominal_minutes": minutes, "cusum": cusum});
    Ok(Outcome { text, json, kind: None })
}

/// An observation and the action for it.
type Pair = (Vec<f32>, Vec<f32>);

/// Observations and actions of the ticks at which the policy drove.
fn driven_rows(path: &Path, width: usize, action_width: usize) -> Result<Vec<Pair>> {
    let bytes = read_bounded(path, MAX_TELEMETRY_BYTES)?;
    let mut rows = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let thing = || format!("{}: line {}", path.display(), index + 1);
        let line: Value =
            serde_json::from_slice(line).map_err(|error| Error::malformed(thing(), "a line of telemetry", error))?;
        if !matches!(line["verdict"].as_str(), Some("good" | "limited")) {
            continue;
        }
        let row = |name: &str, width: usize| -> Result<Vec<f32>> {
            let values = line[name].as_array().map(Vec::as_slice).unwrap_or_default();
            let values: Vec<f32> = values.iter().filter_map(|value| value.as_f64().map(|value| value as f32)).collect();
            if values.len() == width {
                return Ok(values);
            }
            Err(Error::malformed(thing(), format!("{width} numbers of {name}"), values.len()))
        };
        rows.push((row("observation", width)?, row("action", action_width)?));
    }
    Ok(rows)
}

fn write_manifest(bundle: &Path, text: &[u8]) -> Result<()> {
    let (target, staged) = (bundle.join(MANIFEST_FILE), bundle.join(".manifest.json.new"));
    let write = || {
        fs::write(&staged, text)?;
        fs::File::open(&staged)?.sync_all()?;
        fs::rename(&staged, &target)
    };
    write().map_err(|source| Error::file("write", &target, source))
}

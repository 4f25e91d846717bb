//! `hype-policy`: everything that a robot needs to do with a policy, without the trainer.
//!
//! Exit codes: 0 good, 1 the machine refused, 2 usage, 3 a file does not fit, 4 a verification failed, 130 interrupted.

mod bench;
mod blob;
mod control;
mod counting;
mod infer;
mod inspect;
mod keys;
mod latency;
mod monitor;
mod notices;
mod npz;
mod ort;
mod report;
mod run;
mod subject;
mod verify;
mod watch;

pub use counting::CountingAllocator;
pub use run::control_loop;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use subject::Opened;

use crate::engine::EngineChoice;
use crate::engine::layout::LayoutOptions;
use crate::error::{Error, Kind, Result};
use crate::signature::Trust;

/// Inspects, verifies and runs policies that `hype export` wrote.
#[derive(Debug, Parser)]
#[command(name = "hype-policy", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows contract, layers, engine, provenance and recorded agreement of a bundle or an ONNX policy.
    Inspect(Subject),
    /// Re-reads a bundle, checks digests, replays golden vectors and compares both engines.
    Verify(Subject),
    /// Runs a policy in a fixed-rate control loop, from and to files, streams or UDP, and reports how well it kept time.
    Run(run::RunArgs),
    /// Measures latency back to back and in a loop that sleeps, allocations and missed deadlines, beside peers.
    Bench(bench::BenchArgs),
    /// Fits a bundle's monitor to the telemetry of its policy where all was well, and writes it into the bundle.
    Monitor(monitor::MonitorArgs),
    /// Writes an ONNX policy, recurrent or not, as a blob for a microcontroller, and compares the two over several steps.
    Blob(blob::BlobArgs),
    /// Makes a key pair for signing bundles.
    Keygen(keys::KeygenArgs),
    /// Signs a bundle, every file of it.
    Sign(keys::SignArgs),
    /// Checks that a trusted key signed a bundle, and that it is the one that was signed.
    Check(Subject),
    /// Runs a recorded log through a bundle or any ONNX policy, recurrent state carried from step to step.
    Infer(infer::InferArgs),
}

#[derive(Debug, Args)]
struct Subject {
    /// A bundle's folder, or an ONNX file.
    #[arg(value_name = "BUNDLE")]
    path: PathBuf,
    /// Print one JSON object on standard output and nothing else there.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    trusted: Trusted,
    #[command(flatten)]
    names: Names,
}

/// Whose bundles are read.
#[derive(Debug, Args)]
struct Trusted {
    /// Public key that must have signed the bundle; any of several. A model file cannot be signed, and is then refused.
    #[arg(long, value_name = "KEY")]
    trust: Vec<PathBuf>,
    /// Lowest serial number of a signed bundle.
    #[arg(long, value_name = "N", requires = "trust", default_value_t = 0)]
    min_serial: u64,
}

impl Trusted {
    /// The trust that is asked for, where any is.
    fn trust(&self) -> Result<Option<Trust>> {
        if self.trust.is_empty() { Ok(None) } else { Trust::read(&self.trust, self.min_serial).map(Some) }
    }
}

/// For ONNX files whose names do not tell what is what; `inspect` shows what was found.
#[derive(Debug, Args)]
struct Names {
    /// The output that is the action, where an ONNX file's names do not say.
    #[arg(long, value_name = "OUTPUT")]
    action: Option<String>,
    /// Carry this output to this input at the next step, beside pairs known by name (h_in, h_out and the like).
    #[arg(long, value_name = "INPUT=OUTPUT", value_parser = infer::parse_pair)]
    carry: Vec<(String, String)>,
    /// What the metadata of rsl_rl and mjlab leaves out, control_period_secs for one; see docs/RUNTIME.md.
    #[arg(long, value_name = "KEY=VALUE", value_parser = infer::parse_pair, allow_hyphen_values = true)]
    declare: Vec<(String, String)>,
}

impl Names {
    fn options(&self) -> LayoutOptions {
        let declared = self.declare.iter().cloned().collect();
        LayoutOptions { action: self.action.clone(), carry: self.carry.clone(), declared }
    }
}

impl Subject {
    /// The trust that is asked for, where any is.
    fn trust(&self) -> Result<Option<Trust>> {
        self.trusted.trust()
    }

    /// Reads it, once: what is checked is what is used.
    fn open(&self) -> Result<Opened> {
        Opened::read(&self.path, self.trust()?.as_ref())
    }
}

/// What a command found, for people and for programs.
#[derive(Debug)]
pub struct Outcome {
    /// Lines to print.
    pub text: String,
    /// The same as one JSON object.
    pub json: serde_json::Value,
    /// Why the exit code is not zero, where it is not.
    pub kind: Option<Kind>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let (result, json) = match &cli.command {
        Command::Inspect(subject) => {
            (subject.open().and_then(|opened| inspect::inspect(&opened, &subject.names.options())), subject.json)
        }
        Command::Verify(subject) => (verify::verify(subject), subject.json),
        Command::Run(args) => (run::run(args), args.subject.json),
        Command::Bench(args) => (bench::bench(args), args.subject.json),
        Command::Monitor(args) => (monitor::monitor(args), args.subject.json),
        Command::Blob(args) => (blob::write(args), args.json),
        Command::Keygen(args) => (keys::keygen(args), args.json),
        Command::Sign(args) => (keys::sign(args), args.json),
        Command::Check(subject) => (keys::check(subject), subject.json),
        Command::Infer(args) => (infer::infer(args), args.json),
    };
    match result.and_then(|outcome| print(&outcome, json).map(|()| outcome.kind)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(kind)) => ExitCode::from(kind.exit_code()),
        Err(error) => {
            // Standard error may be closed; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn print(outcome: &Outcome, json: bool) -> Result<()> {
    let text = if json { format!("{}\n", outcome.json) } else { outcome.text.clone() };
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // The reader has seen enough, as in `hype-policy inspect … | head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|source| Error::file("write to", Path::new("standard output"), source)),
    }
}

/// To six decimals, for people.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn parse_engine(text: &str) -> Result<EngineChoice, String> {
    text.parse().map_err(str::to_owned)
}

//! The command line of `hype`.

use super::device_check::DeviceCheck;
use super::plot::PlotArgs;
use super::train::Device;
use crate::config::method_names;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// From expert demonstrations to a policy on a robot: hybrid inverse reinforcement learning (arXiv 2402.08848).
#[derive(Debug, Parser)]
#[command(name = "hype", version, propagate_version = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole line on one task: demonstrations, training, evaluation, export, control loop
    Quickstart(Quickstart),
    /// The tasks, with their widths, horizons and reference returns
    Tasks {
        /// One JSON object per task
        #[arg(long)]
        json: bool,
    },
    /// Trains an expert: SAC on the task's own reward
    Expert(Expert),
    /// Collects and inspects demonstrations
    #[command(subcommand)]
    Demos(Demos),
    /// Trains a policy from demonstrations
    Train(Train),
    /// Continues a run from its last checkpoint
    Resume(Resume),
    /// Plays a policy and reports its returns
    Eval(Eval),
    /// Draws learning curves: IQM over seeds with a 95 % bootstrap interval
    Plot(PlotArgs),
    /// Writes a verified bundle: ONNX files and manifest
    Export(Export),
    /// Whether a device learns what the CPU learns, and how fast; see trainer/scripts/cuda.sh
    #[command(hide = true)]
    DeviceCheck(DeviceCheck),
    /// What is here, what is missing, and the line that mends it
    Doctor {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// `hype quickstart`
#[derive(Debug, Args)]
pub struct Quickstart {
    /// Minutes that the training may take
    #[arg(long, default_value_t = 6.0)]
    pub minutes: f64,
    /// Folder for everything that it makes
    #[arg(short, long, default_value = "runs/quickstart")]
    pub output: PathBuf,
    /// Seed of the training
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Settings that every training takes.
#[derive(Debug, Args)]
pub struct Settings {
    /// Environment steps per seed, exploration included; gradient steps of bc
    #[arg(long, allow_negative_numbers = true)]
    pub env_steps: Option<u64>,
    /// A TOML file of settings, for instance another run's config.toml
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// One setting, for instance sac.batch_size=128; repeatable, the last one counts
    #[arg(long, value_name = "A.B=C")]
    pub set: Vec<String>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t)]
    pub device: Device,
}

/// `hype expert`
#[derive(Debug, Args)]
pub struct Expert {
    /// Task name; see `hype tasks`
    pub task: String,
    /// Settings of the training
    #[command(flatten)]
    pub settings: Settings,
    /// Seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Policy file to write [default: TASK-expert.onnx]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Run folder [default: runs/expert-TASK-SEED]
    #[arg(long)]
    pub run: Option<PathBuf>,
}

/// `hype demos`
#[derive(Debug, Subcommand)]
pub enum Demos {
    /// Plays a policy and writes its episodes
    Collect(Collect),
    /// Describes a demonstration file: D4RL, Minari or npz, recognised by content
    Inspect {
        /// The file
        file: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// `hype demos collect`
#[derive(Debug, Args)]
pub struct Collect {
    /// Task name
    pub task: String,
    /// File to write (HDF5)
    #[arg(short, long)]
    pub output: PathBuf,
    /// Episodes to keep
    #[arg(long, default_value_t = 64, allow_negative_numbers = true)]
    pub episodes: usize,
    /// A policy file, run, bundle, `expert`, `expert:TASK` or `random`
    #[arg(long, default_value = "expert")]
    pub policy: String,
    /// Checkpoint of a run
    #[arg(long, value_enum, default_value_t)]
    pub checkpoint: Checkpoint,
    /// Which seed of a run [default: the first]
    #[arg(long, value_name = "SEED")]
    pub policy_seed: Option<u64>,
    /// Keep only episodes that reach the horizon (the default for an expert without noise)
    #[arg(long)]
    pub full_length: bool,
    /// Add normal noise of this standard deviation to every action, in units of [-1, 1]
    #[arg(long, default_value_t = 0.0, value_name = "S", allow_negative_numbers = true)]
    pub noise: f64,
    /// Remove this share of the steps at random
    #[arg(long, default_value_t = 0.0, value_name = "FRACTION", allow_negative_numbers = true)]
    pub drop_states: f64,
    /// Chooses the start states
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `hype train`
#[derive(Debug, Args)]
pub struct Train {
    #[arg(help = format!("One of {}", method_names().join(", ")))]
    pub method: String,
    /// Task name
    pub task: String,
    /// Demonstration file
    #[arg(long)]
    pub demos: Option<PathBuf>,
    /// Use its first so many episodes
    #[arg(long, allow_negative_numbers = true)]
    pub demos_limit: Option<usize>,
    /// Seeds: 3, 0..5 (half-open) or 0,4 [default: those of --config, else 0]
    #[arg(long)]
    pub seeds: Option<String>,
    /// fixed (right), code (as published code runs), paper (as written); hyper also has small (a fraction of the cost)
    /// [default: that of --config, else fixed]
    #[arg(long)]
    pub preset: Option<String>,
    /// hyper: `true` learns from the task's own reward instead of demonstrations (MBPO); a run: from the reward it learned
    #[arg(long, value_name = "true|RUN")]
    pub reward: Option<String>,
    /// hyper: begin with the dynamics that another run learned
    #[arg(long, value_name = "RUN")]
    pub world_model: Option<PathBuf>,
    /// Whole real episodes per discriminator update
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub disc_episodes: Option<u64>,
    /// hyper: where the discriminator's pairs of the learner come from (policy-buffer: steps already taken)
    #[arg(long, value_name = "SOURCE", value_parser = ["episodes", "policy-buffer"])]
    pub disc_from: Option<String>,
    /// Settings of the training
    #[command(flatten)]
    pub settings: Settings,
    /// Run folder [default: runs/METHOD-TASK]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// `hype resume`
#[derive(Debug, Args)]
pub struct Resume {
    /// Run folder
    pub run: PathBuf,
    /// The run's demonstrations, where they have moved
    #[arg(long, value_name = "FILE")]
    pub demos: Option<PathBuf>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t)]
    pub device: Device,
}

/// Which engine executes a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Our own executor
    Native,
    /// tract
    Tract,
}

/// Which checkpoint of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Checkpoint {
    /// The newest
    #[default]
    Last,
    /// The best by true return: an oracle's choice, which inverse RL may not see
    Best,
}

/// `hype eval`
#[derive(Debug, Args)]
pub struct Eval {
    /// A policy file, run, bundle, `expert:TASK` or `random`
    pub policy: String,
    /// Task [default: the policy's own]
    #[arg(long)]
    pub task: Option<String>,
    /// Episodes
    #[arg(long, default_value_t = 10, allow_negative_numbers = true)]
    pub episodes: u64,
    /// Probability that an action is replaced by a random one
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub tremble: f64,
    /// Chooses the episodes
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Engine [default: native where it can, else tract]
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// Checkpoint of a run
    #[arg(long, value_enum, default_value_t)]
    pub checkpoint: Checkpoint,
    /// Which seed of a run [default: the first]
    #[arg(long, value_name = "SEED")]
    pub policy_seed: Option<u64>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `hype export`
#[derive(Debug, Args)]
pub struct Export {
    /// A run folder or `expert:TASK`
    pub source: String,
    /// Bundle folder to write
    #[arg(short, long)]
    pub output: PathBuf,
    /// Which seed of the run [default: the first]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Checkpoint of the run
    #[arg(long, value_enum, default_value_t)]
    pub checkpoint: Checkpoint,
}

//! Where a run comes from: everything that one needs to make it again, or to doubt it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// What made a run; `provenance.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this program.
    pub hype_version: String,
    /// Git commit it was built from, where the build was told (`HYPE_GIT_COMMIT`).
    pub commit: Option<String>,
    /// Cargo features that change what it can do.
    pub features: Vec<String>,
    /// The command line.
    pub command: Vec<String>,
    /// Method name.
    pub method: String,
    /// Task id.
    pub task: String,
    /// All seeds of the run.
    pub seeds: Vec<u64>,
    /// The CPU's own name.
    pub cpu: String,
    /// Logical processors that this process may use.
    pub cpu_threads: usize,
    /// The accelerator, where one is used.
    pub gpu: Option<String>,
    /// Operating system and architecture.
    pub platform: String,
    /// Seconds since 1970 at the start.
    pub started_unix_secs: u64,
    /// Version of the physics library, where it is used.
    pub mujoco_version: Option<String>,
    /// SHA-256 digest of `config.toml`: a run goes on as it was begun, or not at all.
    #[serde(default)]
    pub config_sha256: Option<String>,
    /// The demonstration file.
    pub demos_path: Option<String>,
    /// Its SHA-256 digest.
    pub demos_sha256: Option<String>,
    /// Episodes of it that are used.
    pub demos_episodes: Option<usize>,
    /// Return of the expert on this task, where it is known.
    pub expert_return: Option<f64>,
    /// Return of uniformly random actions on this task, where it is known.
    pub random_return: Option<f64>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
}

impl Provenance {
    /// What the program and the machine know by themselves.
    #[allow(clippy::disallowed_methods, reason = "provenance says when a run began")]
    pub fn detect() -> Self {
        let features = [("cuda", cfg!(feature = "cuda"))];
        Self {
            hype_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("HYPE_GIT_COMMIT").map(str::to_owned),
            features: features.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect(),
            command: std::env::args().collect(),
            cpu: cpu_name(),
            cpu_threads: std::thread::available_parallelism().map_or(1, usize::from),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            started_unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            ..Self::default()
        }
    }
}

fn cpu_name() -> String {
    let lines = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = lines.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

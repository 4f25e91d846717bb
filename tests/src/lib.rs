//! What whole-product tests share: the real binaries, and tiny trainings that they can do in seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing helper is a failing test")]

pub mod board;
pub mod tree;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// A binary that the same build made: `target/PROFILE/deps/this-test` lies one folder below it.
pub fn binary(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name);
    assert!(path.exists(), "{} is missing; build it with `cargo build --workspace --bins`", path.display());
    path
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    /// Panics unless the command ended well.
    #[track_caller]
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// The one JSON object on standard output; panics if anything else is there.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.stdout.lines().count(), 1, "one object and nothing else: {}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Panics unless the command was refused with `code` and an error that contains all of `wanted`, without a trace of a
    /// panic.
    #[track_caller]
    pub fn refused(&self, code: i32, wanted: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for part in wanted {
            assert!(self.stderr.contains(part), "{part:?} is missing in: {}", self.stderr);
        }
        assert_eq!(
            self.stderr.lines().filter(|line| line.starts_with("error: ")).count(),
            1,
            "one error: {}",
            self.stderr
        );
        for foreign in ["panicked", "RUST_BACKTRACE", "unwrap", "rust-hdf5:"] {
            assert!(!self.stderr.contains(foreign), "{foreign:?} is no message for people: {}", self.stderr);
        }
        assert!(self.stdout.is_empty(), "nothing on standard output: {}", self.stdout);
    }
}

/// `hype ARGS`, to be run in `folder`.
pub fn hype_command<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binary("hype"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs `hype LINE` in `folder` to its end. Words are parted by spaces.
pub fn hype(folder: &Path, line: &str) -> Ended {
    hype_command(folder, line.split_whitespace()).output().unwrap().into()
}

/// Runs `hype-policy LINE` in `folder` to its end.
pub fn hype_policy(folder: &Path, line: &str) -> Ended {
    let mut command = Command::new(binary("hype-policy"));
    command.args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null()).output().unwrap().into()
}

/// A started command; killed where a test fails before its end.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// The process.
    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("it is taken by `end` only")
    }

    /// Sends `signal` (`INT`, `TERM`, …).
    pub fn signal(&mut self, signal: &str) {
        let id = self.child().id().to_string();
        assert!(Command::new("kill").args([format!("-{signal}"), id]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        self.0.take().expect("it is taken here only").wait_with_output().unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts `hype LINE` in `folder`, its output kept.
pub fn start(folder: &Path, line: &str) -> Running {
    let mut command = hype_command(folder, line.split_whitespace());
    Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
}

/// Waits until the file at `path` has `lines` lines or the command ends; panics after two minutes.
pub fn wait_for_lines(running: &mut Running, path: &Path, lines: usize) {
    for _ in 0..60_000 {
        let there = fs::read_to_string(path).is_ok_and(|text| text.lines().count() >= lines);
        if there || running.child().try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{} never had {lines} lines", path.display());
}

/// Settings of a policy learner that a test can train in a second.
pub const TINY: &str = "--set sac.hidden=[32,32] --set sac.batch_size=32 --set eval.every=500 --set eval.episodes=2";

/// Settings of a discriminator of the same kind.
pub const TINY_REWARD: &str = "--set reward.hidden=[32,32] --set reward.batch_size=64";

/// `train METHOD pendulum` with tiny networks on [`demonstrations`].
pub fn train_line(method: &str) -> String {
    format!("train {method} pendulum --demos {} {TINY} {TINY_REWARD}", demonstrations().display())
}

/// Settings of GAIL's two players of the same kind.
pub const TINY_GAIL: &str = "--set ppo.hidden=[16] --set ppo.rollout_steps=128 --set ppo.epochs=2 --set gail.hidden=[16] --set \
                             gail.warmup_epochs=2 --set eval.every=500 --set eval.episodes=2";

/// `train METHOD pendulum` for the methods without a discriminator network of the adversarial family.
pub fn baseline_line(method: &str) -> String {
    let settings = if method == "gail" { TINY_GAIL } else { TINY };
    format!("train {method} pendulum --demos {} {settings}", demonstrations().display())
}

/// Five episodes of the shipped expert on `pendulum`, collected once per test program.
pub fn demonstrations() -> &'static Path {
    static FILE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_folder, path) = FILE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let told = hype(folder.path(), "demos collect pendulum --episodes 5 -o demos.hdf5").good();
        assert!(told.stdout.contains("5 episodes, 1000 steps"), "{}", told.stdout);
        let path = folder.path().join("demos.hdf5");
        (folder, path)
    });
    path
}

/// Every file below `folder` with its content and the time of its last change.
pub fn files_in(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(here) = open.pop() {
        for entry in fs::read_dir(&here).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let changed = entry.metadata().unwrap().modified().unwrap();
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), (fs::read(&path).unwrap(), changed));
            }
        }
    }
    found
}

//! The folder of a run, and the lock that keeps a second process out.

use super::files;
use super::journal::{Journal, JournalLengths, SeedJournals};
use super::provenance::Provenance;
use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Which checkpoint of a seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Slot {
    /// The newest: what `resume`, `export` and `eval` take.
    #[default]
    Last,
    /// The one with the best true return: an oracle's choice, labelled as such wherever it shows.
    Best,
}

impl Slot {
    fn folder(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

/// A run's folder, locked for this process as long as the value lives.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Closing the file releases the lock, even when the process is killed.
    _lock: File,
    merging: Mutex<()>,
}

const CONFIG: &str = "config.toml";
const PROVENANCE: &str = "provenance.json";
const FINISHED: &str = "finished";
const LOCK: &str = "lock";
const JOURNALS: [&str; 2] = ["eval.jsonl", "metrics.jsonl"];

impl RunDirectory {
    /// Makes `path` the folder of a new run with the resolved configuration `config`.
    ///
    /// # Errors
    /// When there is a run already, another process has it, or other files are in the folder.
    pub fn create(path: &Path, config: &str, provenance: &Provenance) -> Result<Self> {
        files::create_folder(path)?;
        refuse_other_files(path)?;
        let run = Self::lock(path)?;
        if path.join(CONFIG).exists() {
            return Err(Error::config(format!("{} already holds a run", path.display()))
                .hint(format!("hype resume {}, or another folder with -o", path.display())));
        }
        run.write_provenance(&Provenance {
            config_sha256: Some(files::sha256(config.as_bytes())),
            ..provenance.clone()
        })?;
        files::write(&path.join(CONFIG), config.as_bytes())?;
        Ok(run)
    }

    /// Opens the run at `path` to continue it.
    ///
    /// # Errors
    /// When there is no run, or another process has it.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join(CONFIG).is_file() {
            return Err(no_run(path));
        }
        let run = Self::lock(path)?;
        read_config(path)?;
        Ok(run)
    }

    fn lock(path: &Path) -> Result<Self> {
        let file = path.join(LOCK);
        let failed = |source| Error::io("lock", &file, source);
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "unknown" } else { holder.trim() };
                return Err(Error::config(format!("{} is in use by another process (pid {holder})", path.display()))
                    .hint("wait until it ends, or stop it with Ctrl-C: it writes a checkpoint first"));
            }
        }
        let pid = format!("{}\n", std::process::id());
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(pid.as_bytes())).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock, merging: Mutex::new(()) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces `provenance.json`.
    pub fn write_provenance(&self, provenance: &Provenance) -> Result<()> {
        let path = self.path.join(PROVENANCE);
        let mut text = serde_json::to_vec_pretty(provenance)
            .map_err(|source| Error::system(format!("cannot encode {}", path.display())).source(source))?;
        text.push(b'\n');
        files::write(&path, &text)
    }

    /// Path of a seed's checkpoint; its folder exists afterwards.
    pub fn checkpoint(&self, slot: Slot, seed: u64) -> Result<PathBuf> {
        let path = checkpoint_path(&self.path, slot, seed);
        if let Some(folder) = path.parent() {
            files::create_folder(folder)?;
        }
        Ok(path)
    }

    /// A seed's journals, cut back to `lengths` (all zeros for a seed that has no checkpoint yet).
    pub fn journals(&self, seed: u64, lengths: JournalLengths) -> Result<SeedJournals> {
        let folder = self.path.join("seeds").join(seed.to_string());
        files::create_folder(&folder)?;
        let [eval, metrics] = JOURNALS;
        Ok(SeedJournals {
            eval: Journal::open(&folder.join(eval), lengths.eval_bytes)?,
            metrics: Journal::open(&folder.join(metrics), lengths.metrics_bytes)?,
        })
    }

    /// Rebuilds `eval.jsonl` and `metrics.jsonl` from the seeds' journals, seed by seed in ascending order.
    pub fn merge(&self) -> Result<()> {
        let _one_at_a_time = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.path.join("seeds");
        let mut seeds: Vec<u64> = match fs::read_dir(&folder) {
            Ok(entries) => entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect(),
            Err(_) => Vec::new(),
        };
        seeds.sort_unstable();
        for name in JOURNALS {
            let mut whole = Vec::new();
            for seed in &seeds {
                let path = folder.join(seed.to_string()).join(name);
                let lines = match fs::read(&path) {
                    Ok(lines) => lines,
                    // The seed is about to begin, or was killed while it did.
                    Err(source) if source.kind() == ErrorKind::NotFound => continue,
                    Err(source) => return Err(Error::io("read", &path, source)),
                };
                let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
                whole.extend_from_slice(&lines[..end]);
            }
            files::write(&self.path.join(name), &whole)?;
        }
        Ok(())
    }

    /// Records that every seed is done.
    pub fn finish(&self) -> Result<()> {
        self.merge()?;
        files::write(&self.path.join(FINISHED), b"")
    }
}

/// Before anything is written there: somebody's own folder stays as it was.
fn refuse_other_files(path: &Path) -> Result<()> {
    if path.join(CONFIG).exists() {
        return Ok(());
    }
    let ours = |name: &str| name == LOCK || name.starts_with(PROVENANCE) || name.starts_with(CONFIG);
    let entries = fs::read_dir(path).map_err(|source| Error::io("read the folder", path, source))?;
    match entries.flatten().map(|e| e.file_name()).find(|n| !ours(&n.to_string_lossy())) {
        None => Ok(()),
        Some(other) => Err(Error::config(format!("{} is neither empty nor a run", path.display()))
            .found(other.to_string_lossy())
            .hint("name another folder with -o")),
    }
}

fn no_run(path: &Path) -> Error {
    let error = Error::config(format!("there is no run in {}", path.display()))
        .expected("a folder with a config.toml, as hype train writes it");
    if path.exists() { error } else { error.found("no such folder") }
}

/// Path of a seed's checkpoint in the run at `run`.
pub fn checkpoint_path(run: &Path, slot: Slot, seed: u64) -> PathBuf {
    run.join("checkpoints").join(slot.folder()).join(format!("seed-{seed}.ckpt"))
}

/// True once every seed of the run at `run` is done.
pub fn is_finished(run: &Path) -> bool {
    run.join(FINISHED).is_file()
}

/// The resolved configuration of the run at `run`, without locking it.
///
/// # Errors
/// When there is none, or it is not the one that the run was started with: checkpoints mean nothing under another.
pub fn read_config(run: &Path) -> Result<String> {
    let path = run.join(CONFIG);
    if !path.is_file() {
        return Err(no_run(run));
    }
    let config = fs::read_to_string(&path).map_err(|source| Error::io("read", &path, source))?;
    let found = files::sha256(config.as_bytes());
    match read_provenance(run)?.config_sha256 {
        Some(begun) if begun != found => {
            Err(Error::config(format!("{} is not what the run was started with", path.display()))
                .expected(format!("SHA-256 {begun}"))
                .found(found)
                .hint("undo the change; for another configuration start another run: hype train … --config FILE"))
        }
        _ => Ok(config),
    }
}

/// The provenance of the run at `run`, without locking it.
pub fn read_provenance(run: &Path) -> Result<Provenance> {
    if !run.join(CONFIG).is_file() {
        return Err(no_run(run));
    }
    let path = run.join(PROVENANCE);
    let text = fs::read_to_string(&path).map_err(|source| {
        let error = Error::io("read", &path, source);
        error.hint("every run has this file beside config.toml: put it back from a copy, or start the run again")
    })?;
    serde_json::from_str(&text).map_err(|source| Error::data(format!("{} is damaged", path.display())).source(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, RunDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(&folder.path().join("run"), "task = \"toy\"\n", &Provenance::detect()).unwrap();
        (folder, run)
    }

    #[test]
    fn a_run_is_held_by_one_process_and_made_once() {
        let (_folder, run) = fresh();
        let path = run.path().to_owned();
        let busy = RunDirectory::open(&path).unwrap_err();
        assert!(
            busy.to_string().contains(&format!("in use by another process (pid {})", std::process::id())),
            "{busy}"
        );
        assert_eq!(busy.exit_code(), 2);
        drop(run);
        RunDirectory::open(&path).unwrap();
        let again = RunDirectory::create(&path, "", &Provenance::default()).unwrap_err();
        assert!(again.to_string().contains("hype resume"), "{again}");
        assert_eq!(read_config(&path).unwrap(), "task = \"toy\"\n");
        assert_eq!(read_provenance(&path).unwrap().hype_version, env!("CARGO_PKG_VERSION"));
        fs::write(path.join(CONFIG), "task = \"other\"\n").unwrap();
        let changed = RunDirectory::open(&path).unwrap_err();
        assert!(changed.to_string().contains("not what the run was started with"), "{changed}");
        fs::remove_file(path.join(PROVENANCE)).unwrap();
        let lost = RunDirectory::open(&path).unwrap_err();
        assert!(lost.to_string().contains("provenance.json") && lost.to_string().contains("try:"), "{lost}");
    }

    #[test]
    fn folders_without_a_run_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(RunDirectory::open(folder.path()).unwrap_err().to_string().contains("there is no run in"));
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let error = RunDirectory::create(folder.path(), "", &Provenance::default()).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left in a folder of others");
    }

    #[test]
    fn seeds_write_apart_and_are_merged_in_order() {
        let (_folder, run) = fresh();
        for seed in [10, 2] {
            let mut journals = run.journals(seed, JournalLengths::default()).unwrap();
            journals.eval.append(&seed).unwrap();
            journals.metrics.append(&"m").unwrap();
        }
        run.merge().unwrap();
        let path = run.path().join("eval.jsonl");
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n10\n");
        OpenOptions::new().append(true).open(run.path().join("seeds/2/eval.jsonl")).unwrap().write_all(b"hal").unwrap();
        assert!(!is_finished(run.path()));
        run.finish().unwrap();
        assert!(is_finished(run.path()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n10\n", "half a line is not merged");
        fs::create_dir(run.path().join("seeds/3")).unwrap();
        run.merge().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "2\n10\n", "a seed that is about to begin has no lines");
    }
}

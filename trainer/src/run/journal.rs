//! Append-only JSON lines that a resumed run cuts back to its checkpoint, so that no line is lost or written twice.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One file of JSON lines.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Journal {
    /// Opens the journal at `path` and cuts it back to its first `bytes` bytes: 0 for a new run, and for a resumed one the
    /// length that its checkpoint holds.
    ///
    /// # Errors
    /// When fewer bytes than that are there, or the file cannot be opened.
    pub fn open(path: &Path, bytes: u64) -> Result<Self> {
        let failed = |source| Error::io("open", path, source);
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found < bytes {
            return Err(Error::data(format!("{} is shorter than its checkpoint says", path.display()))
                .expected(format!("at least {bytes} bytes"))
                .found(format!("{found} bytes"))
                .hint("put the file back as the run wrote it, or start the run again"));
        }
        file.set_len(bytes).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// Appends `line` as one line of JSON. After an error the file ends where it ended before.
    pub fn append<T: Serialize>(&mut self, line: &T) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|source| {
            Error::system(format!("cannot encode a line of {}", self.path.display())).source(source)
        })?;
        text.push(b'\n');
        if let Err(source) = self.file.write_all(&text) {
            // Half a line may be there; the length in the next checkpoint does not count it either.
            let _ = self.file.set_len(self.bytes);
            return Err(Error::io("write", &self.path, source));
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Length so far; goes into the checkpoint.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the lines durable; to be called before the checkpoint that counts them is written.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|source| Error::io("write", &self.path, source))
    }
}

/// How far the journals of a seed had come at a checkpoint; part of the checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLengths {
    /// Bytes of `eval.jsonl`.
    pub eval_bytes: u64,
    /// Bytes of `metrics.jsonl`.
    pub metrics_bytes: u64,
}

/// The journals of one seed.
#[derive(Debug)]
pub struct SeedJournals {
    /// Evaluation episodes.
    pub eval: Journal,
    /// Metrics of the learner.
    pub metrics: Journal,
}

impl SeedJournals {
    /// Makes all lines durable and returns the lengths for the checkpoint.
    pub fn sync(&self) -> Result<JournalLengths> {
        self.eval.sync()?;
        self.metrics.sync()?;
        Ok(JournalLengths { eval_bytes: self.eval.bytes(), metrics_bytes: self.metrics.bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_journal_forgets_what_came_after_its_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval.jsonl");
        let mut journal = Journal::open(&path, 0).unwrap();
        journal.append(&1).unwrap();
        journal.append(&"two").unwrap();
        let checkpoint = journal.bytes();
        journal.append(&3).unwrap();
        drop(journal);
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"half a li").unwrap();
        let mut resumed = Journal::open(&path, checkpoint).unwrap();
        resumed.append(&4).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n\"two\"\n4\n");
        let error = Journal::open(&path, 1000).unwrap_err();
        assert!(error.to_string().contains("at least 1000 bytes"), "{error}");
    }
}

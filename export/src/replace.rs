//! Writing a folder whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use policy_runtime::bundle::Bundle;

use crate::error::{Error, Result};

/// A folder beside the target that takes its place once it is complete; removed again otherwise.
pub(crate) struct Staged {
    target: PathBuf,
    staging: PathBuf,
    previous: PathBuf,
    done: bool,
}

impl Staged {
    /// An empty folder beside `target`. Puts back what an interrupted replacement left aside.
    pub(crate) fn beside(target: &Path) -> Result<Self> {
        let (Some(name), Some(parent)) = (target.file_name(), target.parent()) else {
            return Err(Error::NotABundle { path: target.to_path_buf() });
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        fs::create_dir_all(parent).map_err(|source| Error::file("create", parent, source))?;
        let hidden = |suffix: &str| parent.join(format!(".{}.{suffix}", name.to_string_lossy()));
        let staging = hidden(&format!("new-{}", std::process::id()));
        let staged = Self { target: parent.join(name), staging, previous: hidden("previous"), done: false };
        if staged.previous.exists() && !staged.target.exists() {
            rename(&staged.previous, &staged.target)?;
        }
        if staged.target.exists() && !Bundle::is_at(&staged.target) && !is_empty_folder(&staged.target) {
            return Err(Error::NotABundle { path: staged.target.clone() });
        }
        if staged.staging.exists() {
            remove(&staged.staging)?;
        }
        fs::create_dir(&staged.staging).map_err(|source| Error::file("create", &staged.staging, source))?;
        Ok(staged)
    }

    /// Where the files go.
    pub(crate) fn folder(&self) -> &Path {
        &self.staging
    }

    /// Writes one file and waits until the disk has it.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.staging.join(name);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(|source| Error::file("write", &path, source))
    }

    /// Puts the folder in the target's place.
    pub(crate) fn commit(mut self) -> Result<()> {
        sync_folder(&self.staging)?;
        let replaces = self.target.exists();
        if replaces {
            if self.previous.exists() {
                remove(&self.previous)?;
            }
            rename(&self.target, &self.previous)?;
        }
        if let Err(error) = rename(&self.staging, &self.target) {
            if replaces {
                rename(&self.previous, &self.target)?;
            }
            return Err(error);
        }
        self.done = true;
        sync_folder(self.target.parent().unwrap_or(Path::new(".")))?;
        if replaces { remove(&self.previous) } else { Ok(()) }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.done {
            // Nothing more can be done about a folder that cannot be removed.
            let _ = fs::remove_dir_all(&self.staging);
        }
    }
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|source| Error::file("rename to", to, source))
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).map_err(|source| Error::file("remove", path, source))
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|source| Error::file("sync", path, source))
}

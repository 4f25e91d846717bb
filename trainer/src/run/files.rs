//! Files that are either complete or absent: temporary file in the same folder, fsync, rename, fsync of the folder.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The temporary name under which `path` is written. One writer per path at a time: a leftover of a killed process is
/// overwritten by the next writer.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(|| OsString::from("file"), OsString::from);
    name.push(".tmp");
    path.with_file_name(name)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename or a new file in `folder` durable.
fn sync_folder(folder: &Path) -> Result<()> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(|source| Error::io("make durable the folder", folder, source))
}

/// Lets `fill` write a temporary file at the path it is given, then puts it in the place of `path`.
///
/// If `fill` fails (a full disk, for instance) the temporary file is removed and what was at `path` stays as it was.
pub fn replace(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut fill = Some(fill);
    replace_all(&[path.to_owned()], |_, temporary| fill.take().map_or(Ok(()), |fill| fill(temporary)))
}

/// [`replace`] for files that belong together: `fill` writes the one of each index, and the first takes its place when all
/// are complete and durable.
pub fn replace_all(paths: &[PathBuf], mut fill: impl FnMut(usize, &Path) -> Result<()>) -> Result<()> {
    let temporaries: Vec<PathBuf> = paths.iter().map(|path| temporary_of(path)).collect();
    let mut replace = || {
        for (index, (path, temporary)) in paths.iter().zip(&temporaries).enumerate() {
            fill(index, temporary)?;
            let sync = || File::open(temporary)?.sync_all();
            sync().map_err(|source| Error::io("write", path, source))?;
        }
        for (path, temporary) in paths.iter().zip(&temporaries) {
            fs::rename(temporary, path).map_err(|source| Error::io("write", path, source))?;
        }
        Ok(())
    };
    let outcome: Result<()> = replace();
    if outcome.is_err() {
        // The first error is the one to report; a leftover temporary file does no harm.
        temporaries.iter().for_each(|temporary| _ = fs::remove_file(temporary));
    }
    outcome?;
    paths.iter().try_for_each(|path| sync_folder(folder_of(path)))
}

/// Writes `bytes` to `path`, whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |temporary| {
        let fill = || File::create(temporary)?.write_all(bytes);
        fill().map_err(|source| Error::io("write", path, source))
    })
}

/// Creates `folder` and its parents.
pub fn create_folder(folder: &Path) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        return Err(Error::config(format!("{} is a file", folder.display())).expected("a folder, there or to be made"));
    }
    fs::create_dir_all(folder).map_err(|source| Error::io("create the folder", folder, source))
}

/// Refuses a file that could not be written in the end, before the work whose result it is to hold.
pub fn check_folder_of(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    let refused = || Error::system(format!("cannot write {}", path.display()));
    if path.is_dir() {
        return Err(refused().expected("the name of a file").found("a folder"));
    }
    if folder.is_dir() {
        return Ok(());
    }
    if folder.exists() {
        return Err(refused().expected("a folder before the last /").found(format!("{}, a file", folder.display())));
    }
    Err(refused()
        .found(format!("no folder {}", folder.display()))
        .hint(format!("make its folder first: mkdir -p {}", folder.display())))
}

/// A SHA-256 digest in lower-case hexadecimal digits.
pub fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 digest of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 digest of a file's content, in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String> {
    let digest = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; 1 << 16];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(hex(&hasher.finalize())),
                count => hasher.update(&block[..count]),
            }
        }
    };
    digest().map_err(|source| Error::io("read", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        write(&path, b"old").unwrap();
        let failure = replace(&path, |temporary| {
            fs::write(temporary, b"half of the ne").unwrap();
            Err(Error::io("write", &path, io::Error::from(io::ErrorKind::StorageFull)))
        })
        .unwrap_err();
        assert!(failure.to_string().contains("free some space"), "{failure}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn digests_are_those_of_fips_180() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        write(&path, b"abc").unwrap();
        assert_eq!(sha256_of(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}

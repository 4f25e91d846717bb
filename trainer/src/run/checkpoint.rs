//! Checkpoint files: one per seed, whole or absent, and recognised when damaged.
//!
//! Layout: 8 bytes magic, u32 format version, u64 payload length, 32 bytes SHA-256 of the payload (integers
//! little-endian), then the payload: the value in postcard encoding.

use super::files;
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"HYPECKPT";
const FORMAT_VERSION: u32 = 4;
const HEADER_BYTES: usize = 8 + 4 + 8 + 32;
const BUFFER_BYTES: usize = 1 << 20;

/// Writes `value` to `path` through a temporary file, so that the checkpoint before it stays until this one is complete.
/// The payload is streamed: beside the value itself one buffer of a mebibyte is needed.
///
/// # Errors
/// When the machine refuses (a full disk, for instance); the old file is then untouched.
pub fn save<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    files::replace(path, |temporary| write(path, temporary, value))
}

/// [`save`] for checkpoints that belong together: either all take their places, or, short of a power cut in that very
/// moment, none.
pub fn save_all<T: Serialize>(paths: &[PathBuf], values: &[T]) -> Result<()> {
    files::replace_all(paths, |index, temporary| write(&paths[index], temporary, &values[index]))
}

fn write<T: Serialize>(path: &Path, temporary: &Path, value: &T) -> Result<()> {
    let failed = |source| Error::io("write the checkpoint", path, source);
    let mut file = File::create(temporary).map_err(failed)?;
    file.write_all(&[0; HEADER_BYTES]).map_err(failed)?;
    let mut payload =
        BufWriter::with_capacity(BUFFER_BYTES, Hashing { file, hasher: Sha256::new(), bytes: 0, error: None });
    if let Err(encoding) = postcard::to_io(value, &mut payload) {
        // The encoder swallows the cause; the writer kept it.
        return Err(match payload.get_mut().error.take() {
            Some(source) => failed(source),
            None => Error::system(format!("cannot encode the checkpoint {}", path.display())).source(encoding),
        });
    }
    let Hashing { mut file, hasher, bytes, .. } = payload.into_inner().map_err(|error| failed(error.into_error()))?;
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    header.extend_from_slice(&bytes.to_le_bytes());
    header.extend_from_slice(&hasher.finalize());
    file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header)).map_err(failed)
}

/// Reads the value that [`save`] wrote to `path`.
///
/// # Errors
/// Says whether the file is missing, no checkpoint, of another format version, truncated, damaged, or holds another kind
/// of value.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let payload = read_payload(path)?;
    match postcard::take_from_bytes(&payload) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(other_kind(path).found(format!("{} bytes too many", rest.len()))),
        Err(source) => Err(other_kind(path).source(source)),
    }
}

/// Reads the first part of what [`save`] wrote: a `T` that the whole value begins with.
///
/// # Errors
/// As [`load`].
pub fn load_start<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let payload = read_payload(path)?;
    postcard::take_from_bytes(&payload).map(|(value, _)| value).map_err(|source| other_kind(path).source(source))
}

fn other_kind(path: &Path) -> Error {
    Error::data(format!("{} is whole, but holds another kind of state", path.display()))
        .expected("a checkpoint of the same method and program version")
        .hint("resume with the program that wrote it (provenance.json names its version), or start the run again")
}

fn read_payload(path: &Path) -> Result<Vec<u8>> {
    let name = path.display();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => Error::data(format!("there is no checkpoint {name}")),
        _ => Error::io("read the checkpoint", path, source),
    };
    let again = "copy the file back from a backup, or delete it (and the run's file `finished`) and resume: its seed then starts again";
    let mut file = File::open(path).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    let mut header = Vec::with_capacity(HEADER_BYTES);
    Read::by_ref(&mut file).take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(failed)?;
    if !header.starts_with(MAGIC) {
        return Err(Error::data(format!("{name} is not a checkpoint"))
            .expected("a file that starts with HYPECKPT")
            .hint(again));
    }
    let Some((version, length, digest)) = parse(&header) else {
        return Err(truncated(path, HEADER_BYTES as u64, file_bytes).hint(again));
    };
    if version != FORMAT_VERSION {
        return Err(Error::data(format!("{name} has another format version"))
            .expected(FORMAT_VERSION)
            .found(version)
            .hint("resume with the program that wrote it (provenance.json names its version)"));
    }
    let expected_bytes = length.saturating_add(HEADER_BYTES as u64);
    if file_bytes < expected_bytes {
        return Err(truncated(path, expected_bytes, file_bytes).hint(again));
    }
    let mut payload = Vec::with_capacity(length as usize);
    file.read_to_end(&mut payload).map_err(failed)?;
    let found = Sha256::digest(&payload);
    if found[..] != digest || payload.len() as u64 != length {
        return Err(Error::data(format!("the checkpoint {name} is damaged"))
            .expected(format!("SHA-256 {}", files::hex(&digest)))
            .found(files::hex(&found))
            .hint(again));
    }
    Ok(payload)
}

fn parse(header: &[u8]) -> Option<(u32, u64, [u8; 32])> {
    let rest = header.get(MAGIC.len()..)?;
    let (version, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (digest, _) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*version), u64::from_le_bytes(*length), *digest))
}

fn truncated(path: &Path, expected: u64, found: u64) -> Error {
    Error::data(format!("the checkpoint {} is truncated", path.display()))
        .expected(format!("{expected} bytes"))
        .found(format!("{found} bytes"))
}

struct Hashing {
    file: File,
    hasher: Sha256,
    bytes: u64,
    error: Option<io::Error>,
}

impl Write for Hashing {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        match self.file.write(block) {
            Ok(count) => {
                self.hasher.update(&block[..count]);
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) => {
                let kind = error.kind();
                if kind != io::ErrorKind::Interrupted {
                    self.error = Some(error);
                }
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct State {
        step: u64,
        weights: Vec<f32>,
        name: String,
    }

    fn state() -> State {
        State { step: 1 << 40, weights: vec![0.1, -2.5, f32::MIN_POSITIVE], name: "actor".to_owned() }
    }

    #[test]
    fn a_value_comes_back_equal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed-0.ckpt");
        save(&path, &state()).unwrap();
        assert_eq!(load::<State>(&path).unwrap(), state());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn every_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed-0.ckpt");
        save(&path, &state()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let fault = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error = load::<State>(&path).unwrap_err();
            assert_eq!(error.exit_code(), 3, "{error}");
            assert!(error.to_string().contains("seed-0.ckpt"), "{error}");
            error.to_string()
        };
        for length in MAGIC.len()..whole.len() {
            assert!(fault(&whole[..length]).contains("truncated"), "{length} bytes");
        }
        for position in 0..whole.len() {
            let mut copy = whole.clone();
            copy[position] ^= 1;
            fault(&copy);
        }
        let mut flipped = whole.clone();
        flipped[HEADER_BYTES + 3] ^= 0x10;
        assert!(fault(&flipped).contains("damaged"));
        assert!(fault(b"hello").contains("not a checkpoint"));
        let mut newer = whole.clone();
        newer[8] = 9;
        assert!(fault(&newer).contains("format version"));
        std::fs::write(&path, &whole).unwrap();
        let other = load::<Vec<String>>(&path).unwrap_err();
        assert!(other.to_string().contains("another kind of state"), "{other}");
        assert!(
            load::<State>(&folder.path().join("seed-9.ckpt"))
                .unwrap_err()
                .to_string()
                .contains("there is no checkpoint")
        );
    }

    #[test]
    fn a_full_disk_leaves_the_old_checkpoint() {
        if !Path::new("/dev/full").exists() {
            println!("SKIPPED a_full_disk_leaves_the_old_checkpoint: no /dev/full here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed-0.ckpt");
        save(&path, &state()).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("seed-0.ckpt.tmp")).unwrap();
        // Large enough for the buffer to be written while the value is being encoded, too.
        for length in [3, 2 * BUFFER_BYTES] {
            let larger = State { step: 2, weights: vec![1.0; length], name: String::new() };
            let error = save(&path, &larger).unwrap_err();
            assert!(
                error.to_string().contains("free some space") && error.to_string().contains("seed-0.ckpt"),
                "{error}"
            );
            assert_eq!(load::<State>(&path).unwrap(), state());
            std::os::unix::fs::symlink("/dev/full", folder.path().join("seed-0.ckpt.tmp")).unwrap();
        }
    }
}

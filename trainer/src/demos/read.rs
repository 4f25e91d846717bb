//! Recognises a demonstration file by its content and reads it.

use super::assemble::assemble;
use super::hdf5::Reader;
use super::{Demonstrations, d4rl, minari, npz};
use crate::error::{Error, Result};
use crate::run::files::sha256_of;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// HDF5's signature stands at byte 0, 512, 1024, 2048, … of the file.
const HDF5_SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
const NPY_SIGNATURE: &[u8] = b"\x93NUMPY";
const ZIP_SIGNATURES: [&[u8; 4]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

enum Format {
    Hdf5,
    Npz,
}

/// Reads demonstrations: D4RL-shaped HDF5, Minari (its HDF5 file or the dataset's folder), or npz.
///
/// # Errors
/// Names the file and, where it applies, the dataset, row and episode, what was expected and what was found.
pub fn read(path: &Path) -> Result<Demonstrations> {
    let file = locate(path)?;
    let origin = file.display().to_string();
    let (columns, attributes) = match recognise(&file)? {
        Format::Npz => npz::read(&file, &origin)?,
        Format::Hdf5 => {
            let reader = Reader::open(&file)?;
            let names = reader.dataset_names()?;
            if minari::episode_numbers(&names).is_empty() {
                d4rl::read(&reader, &names, &origin)?
            } else {
                minari::read(&reader, &names, &origin)?
            }
        }
    };
    let mut demonstrations = assemble(columns, attributes, &origin)?;
    demonstrations.sha256 = Some(sha256_of(&file)?);
    demonstrations.source = Some(file);
    Ok(demonstrations)
}

fn locate(path: &Path) -> Result<PathBuf> {
    if path.is_dir() {
        let inside = path.join("data").join("main_data.hdf5");
        if inside.is_file() {
            return Ok(inside);
        }
        return Err(Error::data(format!("{} is a folder", path.display()))
            .expected("a demonstration file, or a Minari dataset's folder with data/main_data.hdf5 in it"));
    }
    if !path.exists() {
        return Err(Error::data(format!("there is no demonstration file {}", path.display()))
            .hint("hype demos collect TASK -o FILE.hdf5 records demonstrations"));
    }
    Ok(path.to_owned())
}

/// Whether the file looks like one of demonstrations.
pub fn is_one(path: &Path) -> bool {
    recognise(path).is_ok()
}

fn recognise(path: &Path) -> Result<Format> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(1 << 16).read_to_end(&mut start))
        .map_err(|source| Error::io("read", path, source))?;
    let hdf5_at = |offset: usize| start.get(offset..offset + 8).is_some_and(|bytes| bytes == HDF5_SIGNATURE);
    if hdf5_at(0) || (9..16).any(|power| hdf5_at(1 << power)) {
        return Ok(Format::Hdf5);
    }
    if ZIP_SIGNATURES.iter().any(|signature| start.starts_with(*signature)) {
        return Ok(Format::Npz);
    }
    Err(Error::data(format!("{} is not a demonstration file", path.display()))
        .expected("HDF5 (D4RL or Minari) or npz, recognised by content")
        .found(if start.is_empty() {
            "an empty file".to_owned()
        } else {
            format!("bytes that start with {:02x?}", &start[..start.len().min(8)])
        })
        .hint(if start.starts_with(NPY_SIGNATURE) {
            "a .npy file is one array; save all of them in one file: np.savez"
        } else {
            "hype demos collect TASK -o FILE.hdf5 records demonstrations; docs/demonstrations.md describes the formats"
        }))
}

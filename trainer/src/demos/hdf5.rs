//! The only page that knows the HDF5 library: a young crate behind a narrow door.
//!
//! Damaged files end in an error, even where the library would panic or believe a size that the file cannot hold.

use super::array::{Array, Elements, is_within};
use crate::error::{Error, Result};
use rust_hdf5::types::HBool;
use rust_hdf5::{DatatypeMessage, H5Dataset, H5File, Hdf5Error};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Deflate cannot shrink data further than about 1032 times.
const LARGEST_COMPRESSION: u64 = 1100;

/// The attribute that tells our own files, in which every attribute is a text.
const WRITER: &str = "writer";
const WRITER_PREFIX: &str = "hype ";

/// An open file.
pub(super) struct Reader {
    path: PathBuf,
    file: H5File,
    bytes: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::metadata(path).map_err(|source| Error::io("read", path, source))?.len();
        let file = guarded(|| H5File::options().best_effort_locking().open(path))
            .map_err(|fault| damaged(&path.display().to_string(), fault))?;
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    /// Full paths of all datasets.
    pub(super) fn dataset_names(&self) -> Result<Vec<String>> {
        guarded(|| Ok(self.file.dataset_names())).map_err(|fault| damaged(&self.path.display().to_string(), fault))
    }

    /// The text attributes of the file itself.
    ///
    /// The library hands out a numeric attribute as the text of its bytes: in files of other programs, everything that is
    /// or may be a number is left out. Bytes that are no text come as replacement characters.
    pub(super) fn attributes(&self) -> BTreeMap<String, String> {
        let names = guarded(|| self.file.attr_names()).unwrap_or_default();
        let value = |name: &String| guarded(|| self.file.attr_string(name)).ok();
        let mut attributes: BTreeMap<String, String> =
            names.into_iter().filter_map(|name| value(&name).map(|text| (name, text))).collect();
        if !attributes.get(WRITER).is_some_and(|writer| writer.starts_with(WRITER_PREFIX)) {
            attributes.retain(|name, text| {
                let is_binary = |c: char| c == char::REPLACEMENT_CHARACTER || c.is_control() && !c.is_whitespace();
                let is_number = ["seed", "id", "total_episodes", "total_steps"].contains(&name.as_str())
                    || name == "control_period_secs" && text.trim().parse::<f64>().is_err();
                !is_number && !text.chars().any(is_binary)
            });
        }
        attributes
    }

    /// A numeric dataset.
    pub(super) fn array(&self, dataset: &str) -> Result<Array> {
        let name = format!("{}: dataset `{dataset}`", self.path.display());
        guarded(|| self.read(dataset, &name)).map_err(|fault| damaged(&name, fault))
    }

    fn read(&self, dataset: &str, name: &str) -> rust_hdf5::Result<Array> {
        let handle = self.file.dataset(dataset)?;
        let shape = handle.shape();
        self.check_size(&handle, &shape)?;
        let elements = match handle.datatype()? {
            DatatypeMessage::FloatingPoint { size: 8, .. } => Elements::F64(handle.read_numeric_as()?),
            DatatypeMessage::FloatingPoint { .. } => Elements::F32(handle.read_numeric_as()?),
            DatatypeMessage::Enum { .. } if handle.element_size() == 1 => {
                Elements::Int(handle.read_raw_bytes()?.into_iter().map(i64::from).collect())
            }
            _ => Elements::Int(handle.read_numeric_as()?),
        };
        let count = match &elements {
            Elements::F32(values) => values.len(),
            Elements::F64(values) => values.len(),
            Elements::Int(values) => values.len(),
        };
        if shape.iter().product::<usize>() != count {
            return Err(Hdf5Error::InvalidState(format!("shape {shape:?} with {count} values")));
        }
        Ok(Array { name: name.to_owned(), shape, elements })
    }

    /// Refuses a size that cannot be true before anything is allocated for it.
    fn check_size(&self, handle: &H5Dataset, shape: &[usize]) -> rust_hdf5::Result<()> {
        let declared = shape.iter().copied().chain([handle.element_size()]);
        if is_within(declared, self.bytes.saturating_mul(LARGEST_COMPRESSION)) {
            return Ok(());
        }
        Err(Hdf5Error::InvalidState(format!(
            "it declares the shape {shape:?}, more than a file of {} bytes can hold",
            self.bytes
        )))
    }

    /// A dataset of one text, as D4RL stores its metadata.
    pub(super) fn text(&self, dataset: &str) -> Option<String> {
        guarded(|| self.file.dataset(dataset)?.read_strings()).ok()?.into_iter().next()
    }
}

/// A file being written.
pub(super) struct Writer {
    path: PathBuf,
    file: H5File,
}

impl Writer {
    /// Begins the file `temporary`, which is called `path` in messages.
    pub(super) fn create(temporary: &Path, path: &Path) -> Result<Self> {
        let file = guarded(|| H5File::options().best_effort_locking().create(temporary))
            .map_err(|fault| unwritten(path, fault))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn done<T>(&self, outcome: std::result::Result<T, Fault>) -> Result<T> {
        outcome.map_err(|fault| unwritten(&self.path, fault))
    }

    pub(super) fn group(&self, name: &str) -> Result<()> {
        self.done(guarded(|| self.file.create_group(name).map(|_| ())))
    }

    pub(super) fn f32(&self, dataset: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        self.done(guarded(|| self.file.new_dataset::<f32>().shape(shape).create(dataset)?.write_raw(values)))
    }

    pub(super) fn f64(&self, group: &str, dataset: &str, shape: &[usize], values: &[f64]) -> Result<()> {
        self.done(guarded(|| {
            let group = self.file.root_group().group(group)?;
            group.new_dataset::<f64>().shape(shape).create(dataset)?.write_raw(values)
        }))
    }

    pub(super) fn flags(&self, dataset: &str, values: &[bool]) -> Result<()> {
        let values: Vec<HBool> = values.iter().copied().map(HBool::from).collect();
        self.done(guarded(|| {
            self.file.new_dataset::<HBool>().shape([values.len()]).create(dataset)?.write_raw(&values)
        }))
    }

    pub(super) fn attribute(&self, name: &str, value: &str) -> Result<()> {
        self.done(guarded(|| self.file.set_attr_string(name, value)))
    }

    /// Completes the file after `fill` wrote into it. It is closed even where that failed: dropped open, the library would
    /// try again and print its own complaint.
    pub(super) fn complete(self, fill: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let filled =
            fill(&self).and_then(|()| self.attribute(WRITER, &format!("{WRITER_PREFIX}{}", env!("CARGO_PKG_VERSION"))));
        let Self { path, file } = self;
        let closed = guarded(|| file.close()).map_err(|fault| unwritten(&path, fault));
        filled.and(closed)
    }
}

enum Fault {
    Library(Hdf5Error),
    Panic,
}

fn guarded<T>(work: impl FnOnce() -> rust_hdf5::Result<T>) -> std::result::Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Fault::Library(error)),
        Err(_) => Err(Fault::Panic),
    }
}

fn damaged(name: &str, fault: Fault) -> Error {
    let error =
        Error::data(format!("{name} cannot be read: truncated, damaged, or of a kind this reader does not know"))
            .hint("compare the file's size and checksum with its origin's, or collect the demonstrations again");
    match fault {
        Fault::Library(error_of_library) => error.source(error_of_library),
        Fault::Panic => error,
    }
}

fn unwritten(path: &Path, fault: Fault) -> Error {
    match fault {
        Fault::Library(Hdf5Error::Io(source)) => Error::io("write", path, source),
        // The library's own input/output layer is not public: its text is all there is to go by.
        Fault::Library(error) => {
            let text = error.to_string();
            let known = [
                ("No space left", ErrorKind::StorageFull),
                ("quota exceeded", ErrorKind::QuotaExceeded),
                ("File too large", ErrorKind::FileTooLarge),
                ("Permission denied", ErrorKind::PermissionDenied),
            ];
            match known.into_iter().find(|(words, _)| text.contains(words)) {
                Some((_, kind)) => Error::io("write", path, kind.into()),
                None if text.contains("No such file") => Error::system(format!("cannot write {}", path.display()))
                    .source(std::io::Error::from(ErrorKind::NotFound))
                    .hint("make its folder first, or name another file with -o"),
                None => Error::system(format!("cannot write {}", path.display())).source(error),
            }
        }
        Fault::Panic => Error::system(format!("cannot write {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As h5py writes `file.attrs["control_period_secs"] = 0.05`: 64 or 32 bits that are no text, or look like some.
    #[test]
    fn numeric_attributes_of_other_programs_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.hdf5");
        let name = "control_period_secs";
        let found = |write: &dyn Fn(&H5File) -> rust_hdf5::Result<()>| {
            let file = H5File::create(&path).unwrap();
            write(&file).unwrap();
            drop(file);
            Reader::open(&path).unwrap().attributes().remove(name)
        };
        for period in [0.05, 0.008, 0.015, 0.02] {
            assert_eq!(found(&|file| file.set_attr_numeric(name, &period)), None, "{period}");
            assert_eq!(found(&|file| file.set_attr_numeric(name, &(period as f32))), None, "{period}");
            let text = period.to_string();
            assert_eq!(found(&|file| file.set_attr_string(name, &text)), Some(text.clone()));
        }
    }
}

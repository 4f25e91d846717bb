//! A policy with all that belongs to it, in one folder.
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | [`Manifest`]: contract, provenance, digests of the other files, golden vectors, agreement of the engines |
//! | `policy.onnx` | input `observation`, output 0 `action`, see [`crate::metadata`] |
//! | `policy.hpb`, `policy-int8.hpb` | the policy for microcontrollers, see [`crate::embedded`] |
//! | `discriminator.onnx` | inputs `observation` and `action`, output `reward`; only where one was learned |

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::Contract;
use crate::embedded::Precision;
use crate::error::{Error, Result};
use crate::files::{MAX_MANIFEST_BYTES, MAX_ONNX_BYTES, read_bounded, sha256_hex};
use crate::monitor::MonitorRecord;
use crate::selfcheck::{Agreement, Golden, ProbeKind};

/// Name of the manifest.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the policy's model file.
pub const POLICY_FILE: &str = "policy.onnx";
/// Name of the discriminator's model file.
pub const DISCRIMINATOR_FILE: &str = "discriminator.onnx";
/// Name of the policy's blob for microcontrollers, weights in f32.
pub const BLOB_FILE: &str = "policy.hpb";
/// Name of the policy's blob for microcontrollers, weights in int8.
pub const BLOB_INT8_FILE: &str = "policy-int8.hpb";
/// Every file that a bundle may have beside its manifest.
pub const FILES: [&str; 4] = [POLICY_FILE, DISCRIMINATOR_FILE, BLOB_FILE, BLOB_INT8_FILE];
/// First entry of every manifest.
pub const FORMAT: &str = "hype-bundle";
/// The version that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// What `manifest.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What the policy reads and writes.
    pub contract: Contract,
    /// The other files of the bundle by name.
    pub files: BTreeMap<String, FileRecord>,
    /// Recorded inputs and outputs, replayed at load.
    pub golden: Vec<Golden>,
    /// For watching the policy at work, where demonstrations were at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<MonitorRecord>,
    /// How well training, native engine and tract agreed when the bundle was written.
    pub agreement: Vec<Agreement>,
    /// What the policy costs and how exact it is on a microcontroller, one entry for each blob.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embedded: Vec<EmbeddedRecord>,
    /// Who made it, from what, with which versions.
    pub provenance: Value,
    /// Method, preset, step counts, returns: whatever training wants to tell.
    pub training: Value,
}

/// One blob: its needs, and how far its actions are from those that training computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedRecord {
    /// [`BLOB_FILE`] or [`BLOB_INT8_FILE`].
    pub file: String,
    /// How weights are stored.
    pub precision: Precision,
    /// Numbers in each of the two rows of activations.
    pub width: usize,
    /// Numbers of recurrent state.
    pub state: usize,
    /// Multiplications of one step.
    pub multiplications: usize,
    /// Where the inputs of the comparison came from: demonstrations, or random where there were none.
    pub measured_on: ProbeKind,
    /// How many there were.
    pub rows: usize,
    /// Largest difference of an action channel, as a share of the channel's range.
    pub largest_error: f32,
    /// Root mean square of the same.
    pub rms_error: f32,
}

/// Size and digest of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Length in bytes.
    pub bytes: u64,
    /// sha256, 64 hexadecimal digits.
    pub sha256: String,
}

impl FileRecord {
    /// The record of a file with this content.
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len() as u64, sha256: sha256_hex(content) }
    }
}

impl Manifest {
    /// Reads and validates a manifest.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is not JSON, of another version, or not valid.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            format_version: u32,
        }
        let not_json = |error: serde_json::Error| Error::malformed(MANIFEST_FILE, "JSON of a bundle's manifest", error);
        let head: Head = serde_json::from_slice(text).map_err(not_json)?;
        if (head.format.as_str(), head.format_version) != (FORMAT, FORMAT_VERSION) {
            let found = format!("{} version {}", head.format, head.format_version);
            return Err(Error::malformed(MANIFEST_FILE, format!("{FORMAT} version {FORMAT_VERSION}"), found));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(not_json)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// Checks contract, file names and golden vectors.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the part that does not fit.
    pub fn validate(&self) -> Result<()> {
        self.contract.validate()?;
        if !self.files.contains_key(POLICY_FILE) {
            return Err(Error::malformed("manifest: files", format!("{POLICY_FILE:?} among them"), "no such entry"));
        }
        if let Some(name) = self.files.keys().find(|name| !FILES.contains(&name.as_str())) {
            let expected = format!("names among {FILES:?}");
            return Err(Error::malformed("manifest: files", expected, format!("{name:?}")));
        }
        if self.golden.is_empty() {
            return Err(Error::malformed("manifest: golden", "at least one golden vector", "none"));
        }
        for (index, golden) in self.golden.iter().enumerate() {
            golden.validate(index, &self.contract)?;
        }
        self.monitor.as_ref().map_or(Ok(()), |monitor| monitor.validate(&self.contract))
    }
}

/// A bundle that was read: the files are those that the manifest describes, bit for bit.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// Content of `policy.onnx`.
    pub policy: Vec<u8>,
    /// Content of `discriminator.onnx`, where the manifest has it.
    pub discriminator: Option<Vec<u8>>,
    /// Content of the blobs by file name, where the manifest has them.
    pub blobs: BTreeMap<&'static str, Vec<u8>>,
}

impl Bundle {
    /// Reads a bundle and checks digests. Says nothing yet about what the model files compute.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::TooLarge`], [`Error::Malformed`] or [`Error::Digest`], naming the file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, &mut |_, _| Ok(()))
    }

    /// As [`Self::open`]; `check` sees name and content of each file before anything is made of it.
    pub(crate) fn open_with(path: &Path, check: &mut dyn FnMut(&str, &[u8]) -> Result<()>) -> Result<Self> {
        let text = read_bounded(&path.join(MANIFEST_FILE), MAX_MANIFEST_BYTES)?;
        check(MANIFEST_FILE, &text)?;
        let manifest = Manifest::from_json(&text).map_err(|error| error.within(path.display()))?;
        let mut read = |name: &str| {
            manifest.files.get(name).map(|record| {
                let file = path.join(name);
                let content = read_bounded(&file, MAX_ONNX_BYTES)?;
                check(name, &content)?;
                let found = FileRecord::of(&content);
                if found == *record {
                    return Ok(content);
                }
                let describe = |record: &FileRecord| format!("{} bytes, sha256 {}", record.bytes, record.sha256);
                Err(Error::Digest { path: file, expected: describe(record), found: describe(&found) })
            })
        };
        let policy = read(POLICY_FILE).transpose()?.unwrap_or_default();
        let discriminator = read(DISCRIMINATOR_FILE).transpose()?;
        let mut blobs = BTreeMap::new();
        for name in [BLOB_FILE, BLOB_INT8_FILE] {
            if let Some(content) = read(name).transpose()? {
                blobs.insert(name, content);
            }
        }
        Ok(Self { path: path.to_path_buf(), manifest, policy, discriminator, blobs })
    }

    /// Whether `path` looks like a bundle: a folder with a manifest.
    pub fn is_at(path: &Path) -> bool {
        path.join(MANIFEST_FILE).is_file()
    }
}

//! The one error type of this crate: what thing, what was expected, what was found, what to try.

#[cfg(feature = "std")]
use std::path::{Path, PathBuf};

/// Result of anything that can go wrong because of a file, a caller or the machine.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What kind of failure it is; decides the exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wrong command line, or an engine that this build does not have (exit code 2).
    Usage,
    /// A file or a value that does not fit (exit code 3).
    Data,
    /// A check of the product's own output failed (exit code 4).
    Verification,
    /// Stopped by a signal (exit code 130).
    Interrupted,
    /// The machine refused (exit code 1).
    System,
}

impl Kind {
    /// The exit code that scripts see.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::System => 1,
            Kind::Usage => 2,
            Kind::Data => 3,
            Kind::Verification => 4,
            Kind::Interrupted => 130,
        }
    }
}

/// Why a policy could not be read, built or checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A row of numbers has another length than the policy needs.
    #[error("{what} has the wrong width; expected {expected}, found {found}")]
    Width {
        /// The row.
        what: &'static str,
        /// Length that fits.
        expected: usize,
        /// Length that was given.
        found: usize,
    },

    /// A number is NaN or infinite.
    #[error("{what} is not finite at index {index}")]
    NotFinite {
        /// The row.
        what: &'static str,
        /// First offending index.
        index: usize,
    },

    /// An operation of a program reaches outside of its memory or constants.
    #[error("operation {index} of the program reaches outside of its memory or its constants")]
    Operation {
        /// Its number.
        index: usize,
    },

    /// A file operation failed.
    #[cfg(feature = "std")]
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// A file is larger than any that this reader accepts.
    #[cfg(feature = "std")]
    #[error("{} is too large; expected at most {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The reader's limit.
        limit_bytes: u64,
    },

    /// Content that does not fit.
    #[cfg(feature = "std")]
    #[error("{thing}; expected {expected}; found {found}")]
    Malformed {
        /// Which part of which thing.
        thing: String,
        /// What would have been right.
        expected: String,
        /// What was there.
        found: String,
    },

    /// A file of a bundle is not the one that its manifest describes.
    #[cfg(feature = "std")]
    #[error(
        "{} was altered or truncated; expected {expected}; found {found}\n  try: copy or export the bundle again",
        path.display()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Size and sha256 in the manifest.
        expected: String,
        /// Size and sha256 of the file.
        found: String,
    },

    /// A bundle that a trusted key should have signed.
    #[cfg(feature = "std")]
    #[error("{} is not loaded: {reason}\n  try: get it from its maker again, or sign it with a trusted key", path.display())]
    Untrusted {
        /// The bundle.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// This build or this engine cannot run the model.
    #[cfg(feature = "std")]
    #[error("{thing}: {reason}\n  try: {hint}")]
    Unsupported {
        /// What was asked for.
        thing: String,
        /// Why it cannot be had.
        reason: String,
        /// What to do.
        hint: &'static str,
    },

    /// Two executions of the same network gave different numbers.
    #[cfg(feature = "std")]
    #[error("{0}")]
    Disagreement(Box<crate::selfcheck::Disagreement>),
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Width { .. } | Error::NotFinite { .. } | Error::Operation { .. } => Kind::Data,
            #[cfg(feature = "std")]
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Kind::Data,
            #[cfg(feature = "std")]
            Error::File { .. } => Kind::System,
            #[cfg(feature = "std")]
            Error::TooLarge { .. } | Error::Malformed { .. } | Error::Digest { .. } => Kind::Data,
            #[cfg(feature = "std")]
            Error::Unsupported { .. } => Kind::Usage,
            #[cfg(feature = "std")]
            Error::Disagreement(_) | Error::Untrusted { .. } => Kind::Verification,
        }
    }
}

#[cfg(feature = "std")]
impl Error {
    /// Content that does not fit.
    pub fn malformed(thing: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Error::Malformed { thing: thing.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// A file operation failed.
    pub fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::File { action, path: path.to_path_buf(), source }
    }

    /// The same error, said about `context` ("policy.onnx: …") where the message does not name its file yet.
    #[must_use]
    pub fn within(self, context: impl core::fmt::Display) -> Self {
        match self {
            Error::Malformed { thing, expected, found } => {
                Error::Malformed { thing: format!("{context}: {thing}"), expected, found }
            }
            Error::Unsupported { thing, reason, hint } => {
                Error::Unsupported { thing: format!("{context}: {thing}"), reason, hint }
            }
            other => other,
        }
    }
}

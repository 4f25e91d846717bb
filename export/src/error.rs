//! Why a bundle was not written.

use std::path::{Path, PathBuf};

use policy_runtime::Kind;

/// Result of an export.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a bundle was not written. Whatever was there before is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Contract or graphs are not valid, or two executions of them disagree.
    #[error("cannot export: {0}")]
    Policy(#[from] policy_runtime::Error),

    /// Training's own network could not compute the outputs to compare with.
    #[error("cannot compute reference outputs: {0}")]
    Reference(Box<dyn std::error::Error + Send + Sync>),

    /// Training's own network gave something else than one row per input.
    #[error("reference {what} have the wrong size; expected {expected} numbers; found {found}")]
    ReferenceSize {
        /// `actions` or `rewards`.
        what: &'static str,
        /// Rows times width.
        expected: usize,
        /// Numbers that were given.
        found: usize,
    },

    /// A file could not be written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was attempted, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },

    /// The target exists and is no bundle.
    #[error("{} exists; expected a bundle or nothing there; found something else\n  try: another path", path.display())]
    NotABundle {
        /// The target.
        path: PathBuf,
    },

    /// The ONNX message could not be encoded.
    #[error("cannot encode {file}: {reason}")]
    Encode {
        /// Which file.
        file: &'static str,
        /// The encoder's answer.
        reason: String,
    },
}

impl Error {
    /// What kind of failure it is; gives the exit code.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Policy(error) => error.kind(),
            Error::Reference(_) | Error::Encode { .. } => Kind::System,
            Error::ReferenceSize { .. } => Kind::Verification,
            Error::File { .. } => Kind::System,
            Error::NotABundle { .. } => Kind::Usage,
        }
    }

    pub(crate) fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Error::File { action, path: path.to_path_buf(), source }
    }
}

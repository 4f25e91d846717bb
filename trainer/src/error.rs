//! The one error type of the trainer: it names the thing, what was expected, what was found, and what to try.

use std::fmt;

/// Result of anything that can go wrong because of a user, a file or the machine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wrong command line or configuration (exit code 2).
    Config,
    /// Demonstrations, checkpoints or model files that do not fit (exit code 3).
    Data,
    /// A check of the product's own output failed (exit code 4).
    Verification,
    /// Stopped by a signal, with a checkpoint written (exit code 130).
    Interrupted,
    /// Learning left the numbers that it can go on with; a checkpoint from before was written (exit code 1).
    Diverged,
    /// The machine: files, libraries, network (exit code 1).
    System,
}

/// An error with its context. Build it with [`Error::config`] and friends, then add what is known.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    thing: String,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(kind: Kind, thing: impl Into<String>) -> Self {
        Self { kind, thing: thing.into(), expected: None, found: None, hint: None, source: None }
    }

    /// Wrong usage or configuration; `thing` says what is wrong.
    pub fn config(thing: impl Into<String>) -> Self {
        Self::new(Kind::Config, thing)
    }

    /// A file's content does not fit.
    pub fn data(thing: impl Into<String>) -> Self {
        Self::new(Kind::Data, thing)
    }

    /// A verification failed.
    pub fn verification(thing: impl Into<String>) -> Self {
        Self::new(Kind::Verification, thing)
    }

    /// The user stopped the run.
    pub fn interrupted(thing: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, thing)
    }

    /// Learning diverged.
    pub fn diverged(thing: impl Into<String>) -> Self {
        Self::new(Kind::Diverged, thing)
    }

    /// The machine refused.
    pub fn system(thing: impl Into<String>) -> Self {
        Self::new(Kind::System, thing)
    }

    /// A file operation failed.
    pub fn io(action: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let error = Self::system(format!("cannot {action} {}", path.display()));
        let error = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => error
                .hint("free some space on that disk, then repeat the command (hype resume for a run that has begun)"),
            std::io::ErrorKind::FileTooLarge => {
                error.hint("raise the limit on file sizes (ulimit -f), or write to another disk")
            }
            std::io::ErrorKind::PermissionDenied => error.hint("check the permissions of that path"),
            _ => error,
        };
        error.source(source)
    }

    /// What would have been right.
    #[must_use]
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.expected = Some(expected.to_string());
        self
    }

    /// What was there instead.
    #[must_use]
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.found = Some(found.to_string());
        self
    }

    /// What the user can try.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The underlying error.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is only that the reader of the output went away.
    pub fn is_closed_pipe(&self) -> bool {
        let source = self.source.as_deref().and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|source| source.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The exit code that scripts see.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Config => 2,
            Kind::Data => 3,
            Kind::Verification => 4,
            Kind::Interrupted => 130,
            Kind::System | Kind::Diverged => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.thing)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(found) = &self.found {
            write!(f, "; found {found}")?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  try: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// The name in `known` nearest to `name`, if any is near enough to be a slip of the pen.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn kind_of(kind: policy_runtime::Kind) -> Kind {
    match kind {
        policy_runtime::Kind::Usage => Kind::Config,
        policy_runtime::Kind::Data => Kind::Data,
        policy_runtime::Kind::Verification => Kind::Verification,
        policy_runtime::Kind::Interrupted => Kind::Interrupted,
        _ => Kind::System,
    }
}

impl From<policy_runtime::Error> for Error {
    fn from(error: policy_runtime::Error) -> Self {
        Self::new(kind_of(error.kind()), error.to_string())
    }
}

impl From<export::Error> for Error {
    fn from(error: export::Error) -> Self {
        Self::new(kind_of(error.kind()), error.to_string())
    }
}

//! Watching a run: its events, who shows them, and the curves drawn from them.

pub mod curves;
pub mod evaluations;
mod event;
mod pace;
mod scale;
mod source;
pub mod statistics;
pub mod svg;
mod terminal;
pub mod text;

use std::io::Write;

pub use evaluations::EvaluationLine;
pub use event::{Event, MetricsLine, Observer};
pub use scale::Scale;
pub use terminal::Terminal;

/// Writes a line to stderr. A reader that went away is no reason to stop, as it would be for `eprintln!`.
pub fn progress_line(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

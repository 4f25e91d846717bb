//! Watching a run: its events, who shows them, and the curves drawn from them.

pub mod curves;
pub mod evaluations;
mod event;
mod pace;
mod scale;
pub mod statistics;
pub mod svg;
mod terminal;
pub mod text;

pub use evaluations::EvaluationLine;
pub use event::{Event, MetricsLine, Observer};
pub use scale::Scale;
pub use terminal::Terminal;

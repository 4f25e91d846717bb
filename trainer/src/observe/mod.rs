//! Watching a run: its events, and who shows them.

mod event;

pub use event::{EvalLine, Event, MetricsLine, Observer};

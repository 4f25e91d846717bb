//! Lines on standard error out of a running loop, which never waits for them.

use std::io::Write;

use crate::link::Writer;
use crate::ring::{Producer, ring};

/// Notices between the loop and the writing thread.
const RING_NOTICES: usize = 64;

/// The loop's side.
#[derive(Debug)]
pub(super) struct Notices {
    rows: Producer,
    writer: Writer,
}

impl Notices {
    /// Starts the writing thread.
    pub(super) fn start() -> Self {
        let (rows, taken) = ring(RING_NOTICES, 3);
        let writer = Writer::start(taken, |row| {
            if let Some([tick, raised, sum]) = row {
                let (word, sum) = if *raised == 0 { ("is quiet again", *sum) } else { ("RAISED", *sum) };
                let sum = f32::from_bits(sum as u32);
                // Standard error may be closed; frames and telemetry say it too.
                let _ = writeln!(std::io::stderr(), "tick {tick}: the monitor {word} (sum {sum:.1})");
            }
            Ok(())
        });
        Self { rows, writer }
    }

    /// The monitor was raised, or came down.
    pub(super) fn monitor(&mut self, tick: u64, raised: bool, sum: f32) {
        self.rows.push([tick, u64::from(raised), u64::from(sum.to_bits())].into_iter());
    }

    /// Waits a little while until everything is written.
    pub(super) fn finish(self) {
        // Nobody reads standard error; there is no better place to say so.
        let _ = self.writer.finish();
    }
}

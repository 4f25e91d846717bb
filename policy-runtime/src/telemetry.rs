//! What happened at each tick, as lines of JSON, written by a thread of its own behind a bounded ring.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Error, Result};
use crate::frame::verdict_code;
use crate::guard::{FaultKind, Verdict};
use crate::link::Writer;
use crate::ring::{Producer, pack, ring, unpack};

/// Ticks between the loop and the writing thread: four seconds at 1 kHz.
const RING_TICKS: usize = 4096;
/// Words before the packed values.
const HEAD_WORDS: usize = 6;

/// Above the monitor's sum: there is one, and it is raised.
const MONITORED: u64 = 1 << 32;
const RAISED: u64 = 1 << 33;

/// One tick.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// Counts from zero.
    pub tick: u64,
    /// When it was due.
    pub release_nanos: u64,
    /// When it began.
    pub woke_nanos: u64,
    /// When its action was ready.
    pub done_nanos: u64,
    /// What it did.
    pub verdict: Verdict,
    /// `[observation]`, the policy's channels.
    pub observation: &'a [f32],
    /// `[action]`, the policy's channels.
    pub action: &'a [f32],
    /// The monitor's sum after this tick, and whether it is raised; `None` without a monitor.
    pub monitor: Option<(f32, bool)>,
}

/// The loop's side.
#[derive(Debug)]
pub struct Telemetry {
    ticks: Producer,
    writer: Writer,
    path: PathBuf,
}

impl Telemetry {
    /// Lines go to a new file at `path`.
    ///
    /// # Errors
    /// Where it cannot be created.
    pub fn to_file(path: &Path, observation_width: usize, action_width: usize) -> Result<Self> {
        let file = File::create(path).map_err(|source| Error::file("create", path, source))?;
        let mut file = BufWriter::new(file);
        let (observation_words, action_words) = (observation_width.div_ceil(2), action_width.div_ceil(2));
        let (ticks, rows) = ring(RING_TICKS, HEAD_WORDS + observation_words + action_words);
        let (mut observation, mut action) = (vec![0.0; observation_width], vec![0.0; action_width]);
        let writer = Writer::start(rows, move |row| match row {
            Some(row) => {
                unpack(&row[HEAD_WORDS..], &mut observation);
                unpack(&row[HEAD_WORDS + observation_words..], &mut action);
                let watched = row[5] & MONITORED != 0;
                let line = json!({
                    "monitor_sum": watched.then(|| f32::from_bits(row[5] as u32)),
                    "monitor_raised": watched.then_some(row[5] & RAISED != 0),
                    "tick": row[0],
                    "release_nanos": row[1],
                    "wake_nanos": row[2].saturating_sub(row[1]),
                    "step_nanos": row[3].saturating_sub(row[2]),
                    "verdict": verdict_name(row[4] as u32),
                    "fault": fault_name(row[4] as u32),
                    // NaN and infinities become null.
                    "observation": observation,
                    "action": action,
                });
                writeln!(file, "{line}")
            }
            None => file.flush(),
        });
        Ok(Self { ticks, writer, path: path.to_path_buf() })
    }

    /// Hands over one tick; dropped and counted when the writing thread is behind.
    pub fn push(&mut self, tick: &Tick<'_>) {
        let code = u64::from(verdict_code(tick.verdict));
        let monitor = tick
            .monitor
            .map_or(0, |(sum, raised)| u64::from(sum.to_bits()) | MONITORED | if raised { RAISED } else { 0 });
        let head = [tick.tick, tick.release_nanos, tick.woke_nanos, tick.done_nanos, code, monitor];
        self.ticks.push(head.into_iter().chain(pack(tick.observation)).chain(pack(tick.action)));
    }

    /// Waits until everything is written; returns how many ticks were dropped.
    ///
    /// # Errors
    /// [`Error::File`] where writing failed.
    pub fn finish(self) -> Result<u64> {
        let failed = |source| Error::file("write", &self.path, source);
        self.writer.finish().map_err(failed)?;
        Ok(self.ticks.dropped())
    }
}

/// The verdict in a frame's or a row's code.
pub fn verdict_name(code: u32) -> &'static str {
    match code & 0xff {
        0 => "good",
        1 => "limited",
        2 => "ramping",
        3 => "idle",
        4 => "stopped",
        5 => "fallback",
        _ => "unknown",
    }
}

/// The fault in a frame's or a row's code.
pub fn fault_name(code: u32) -> Option<FaultKind> {
    FaultKind::ALL.get(((code >> 8) as usize & 0xff).checked_sub(1)?).copied()
}

//! Frames in, one tick after another, frames out.

use core::num::NonZeroU64;

use policy_runtime::embedded::{Blob, BlobError, Executor};
use policy_runtime::guard::{Damper, Rules};
use policy_runtime::timing::FixedRate;
use policy_runtime::{Fault, Observation, Supervisor, Verdict};

use crate::frame::{self, ActionKind, FromBoard, PROTOCOL, Receiver, ToBoard};
use crate::{MAX_ACTION, MAX_FRAME, MAX_OBSERVATION, MAX_STATE, MAX_WIDTH};

/// What the logic needs of a machine.
pub trait Board {
    /// Time since any fixed moment; never runs backwards.
    fn now_nanos(&mut self) -> u64;
    /// A byte that arrived, where there is one.
    fn receive(&mut self) -> Option<u8>;
    /// Sends a byte.
    fn send(&mut self, byte: u8);
    /// Puts off the watchdog. Called after a tick's action was sent, and while time comes by message; by nothing
    /// else where a policy is there.
    fn feed_watchdog(&mut self);
}

/// Whose time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The board's.
    Own,
    /// The messages'.
    Messages,
}

/// A policy and everything around it.
#[derive(Debug, Clone)]
pub struct Station<'a> {
    executor: Executor<'a, MAX_WIDTH, MAX_STATE>,
    supervisor: Supervisor,
    dampers: [Option<Damper>; MAX_ACTION],
    rate: FixedRate,
    clock: Clock,
    receiver: Receiver<MAX_FRAME>,
    observation: [f32; MAX_OBSERVATION],
    stamp_nanos: Option<u64>,
    sequence: u32,
    last: [f32; MAX_ACTION],
    ticks: u32,
    buffer: [u8; 4 * MAX_ACTION + 32],
}

impl<'a> Station<'a> {
    /// Opens the blob at the start of `memory` and replays its golden vectors; the first tick is due at `start_nanos`.
    /// The policy does not drive before [`ToBoard::Enter`].
    ///
    /// # Errors
    /// The blob's first defect.
    pub fn new(memory: &'a [u8], start_nanos: u64) -> Result<Self, BlobError> {
        let blob = Blob::open(memory)?;
        if blob.observation_width() > MAX_OBSERVATION || blob.action_width() > MAX_ACTION {
            return Err(BlobError::TooLarge);
        }
        let period = NonZeroU64::new(blob.header().control_period_nanos).ok_or(BlobError::Number)?;
        let dampers = core::array::from_fn(|index| blob.damper(index));
        Ok(Self {
            executor: Executor::new(blob)?,
            supervisor: Supervisor::new(),
            dampers,
            rate: FixedRate::new(period, start_nanos),
            clock: Clock::Own,
            receiver: Receiver::new(),
            observation: [0.0; MAX_OBSERVATION],
            stamp_nanos: None,
            sequence: 0,
            last: [0.0; MAX_ACTION],
            ticks: 0,
            buffer: [0; 4 * MAX_ACTION + 32],
        })
    }

    /// Says that the board started.
    pub fn greet(&mut self, board: &mut impl Board) {
        let blob = self.executor.blob();
        let header = blob.header();
        let ready = FromBoard::Ready {
            protocol: PROTOCOL,
            policy_crc32: blob.crc32(),
            widths: [header.observation, header.action],
            period_nanos: header.control_period_nanos,
            contract: core::array::from_fn(|index| header.contract_sha256[index]),
        };
        frame::send(&ready, &mut self.buffer, |byte| board.send(byte));
    }

    /// Takes what arrived, and makes the tick that is due. Call it over and over.
    pub fn poll(&mut self, board: &mut impl Board) {
        while let Some(byte) = board.receive() {
            if self.receiver.take(byte) {
                self.answer(board);
            }
            if self.is_due(board) {
                break;
            }
        }
        if self.clock == Clock::Messages {
            // Between two messages a simulated world takes the time that it takes.
            board.feed_watchdog();
        }
        if self.is_due(board) {
            let release = self.rate.release_nanos();
            let now = board.now_nanos();
            self.tick(board, now, Some(release));
        }
    }

    fn is_due(&self, board: &mut impl Board) -> bool {
        self.clock == Clock::Own && board.now_nanos() >= self.rate.release_nanos()
    }

    /// Counters and state.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Whose time it is.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    fn answer(&mut self, board: &mut impl Board) {
        let rules = rules(&self.executor, &self.dampers);
        match self.receiver.message() {
            Some(ToBoard::Observation { sequence, stamp_nanos, values }) => {
                let width = self.executor.blob().observation_width();
                if self.observation.get_mut(..width).is_some_and(|row| frame::from_bytes(values, row)) {
                    let arrived = if self.clock == Clock::Own { board.now_nanos() } else { stamp_nanos };
                    (self.stamp_nanos, self.sequence) = (Some(arrived), sequence);
                }
            }
            Some(ToBoard::Enter) => {
                self.executor.reset();
                self.supervisor.enter(&rules);
            }
            Some(ToBoard::Exit) => drop_answer(self.supervisor.exit(&rules)),
            Some(ToBoard::Stop) => self.supervisor.stop(),
            Some(ToBoard::Rearm) => drop_answer(self.supervisor.rearm()),
            Some(ToBoard::Status) => {
                let counters = self.supervisor.counters();
                let status = FromBoard::Status {
                    ticks: self.ticks,
                    fallbacks: u32::try_from(counters.fallback_ticks()).unwrap_or(u32::MAX),
                    missed_deadlines: u32::try_from(self.rate.missed_deadlines()).unwrap_or(u32::MAX),
                    dropped_frames: self.receiver.dropped(),
                };
                frame::send(&status, &mut self.buffer, |byte| board.send(byte));
            }
            #[cfg(feature = "hil")]
            Some(ToBoard::Advance { now_nanos }) => {
                self.clock = Clock::Messages;
                self.tick(board, now_nanos, None);
            }
            #[cfg(feature = "hil")]
            Some(ToBoard::Time { repeats }) => {
                let (observation, action) =
                    (self.executor.blob().observation_width(), self.executor.blob().action_width());
                let begin = board.now_nanos();
                let mut row = [0.0; MAX_ACTION];
                for _ in 0..repeats {
                    drop_answer(self.executor.run(&self.observation[..observation], &mut row[..action]));
                    core::hint::black_box(&row);
                }
                let timed = FromBoard::Timed { nanos: board.now_nanos() - begin };
                frame::send(&timed, &mut self.buffer, |byte| board.send(byte));
            }
            #[cfg(feature = "hil")]
            Some(ToBoard::Hang) => loop {
                core::hint::spin_loop();
            },
            _ => {}
        }
    }

    /// One tick at `now_nanos`; `release_nanos` where the board's own clock released it and a deadline counts.
    fn tick(&mut self, board: &mut impl Board, now_nanos: u64, release_nanos: Option<u64>) {
        let rules = rules(&self.executor, &self.dampers);
        let blob = self.executor.blob();
        let (observation_width, action_width) = (blob.observation_width(), blob.action_width());
        // Both fit: `new` saw to it.
        let observation = &self.observation[..observation_width];
        let mut action = [0.0; MAX_ACTION];
        let action = &mut action[..action_width];
        let proposal = match self.stamp_nanos {
            None => Err(Fault::NoObservation),
            Some(stamp_nanos) => rules
                .check_observation(now_nanos, &Observation { values: observation, stamp_nanos })
                .and_then(|()| self.executor.run(observation, action).map_err(|_| Fault::Engine))
                .and_then(|()| match release_nanos {
                    Some(release) => rules.check_deadline(board.now_nanos().saturating_sub(release)),
                    None => Ok(()),
                }),
        };
        let verdict = self.supervisor.decide(&rules, proposal, observation, action, &mut self.last[..action_width]);
        let (kind, fault) = kind(verdict);
        let mut bytes = [0; 4 * MAX_ACTION];
        let values = frame::to_bytes(action, &mut bytes);
        let sent = FromBoard::Action { tick: self.ticks, sequence: self.sequence, kind, fault, values };
        frame::send(&sent, &mut self.buffer, |byte| board.send(byte));
        self.ticks = self.ticks.wrapping_add(1);
        if release_nanos.is_some() {
            self.rate.complete(board.now_nanos());
        }
        board.feed_watchdog();
    }
}

/// Says over and over why there is no policy; whoever holds the actuators sees no action. Call it instead of
/// [`Station::poll`].
pub fn refuse(board: &mut impl Board, error: BlobError) {
    while board.receive().is_some() {}
    frame::send(&FromBoard::Refused { code: error.code() }, &mut [0; 32], |byte| board.send(byte));
    board.feed_watchdog();
}

fn rules<'r>(executor: &Executor<'r, MAX_WIDTH, MAX_STATE>, dampers: &'r [Option<Damper>; MAX_ACTION]) -> Rules<'r> {
    let blob = executor.blob();
    blob.rules(dampers.get(..blob.action_width()).unwrap_or(dampers))
}

fn kind(verdict: Verdict) -> (ActionKind, u8) {
    match verdict {
        Verdict::Good => (ActionKind::Good, 0),
        Verdict::Fallback(fault) => (ActionKind::Fallback, fault.kind() as u8),
        Verdict::Limited { .. } => (ActionKind::Limited, 0),
        Verdict::Ramping { .. } => (ActionKind::Ramping, 0),
        Verdict::Idle => (ActionKind::Idle, 0),
        _ => (ActionKind::Stopped, 0),
    }
}

/// What follows from the answer is seen in the next tick's verdict.
fn drop_answer<T>(_: T) {}

//! Frames in, one tick after another, frames out.

use core::num::NonZeroU64;

#[cfg(any(test, feature = "monitor"))]
use policy_runtime::embedded::Watch;
use policy_runtime::embedded::{Blob, BlobError, Executor, Scratch};
use policy_runtime::frame::verdict_code;
use policy_runtime::timing::FixedRate;
use policy_runtime::{Fault, Observation, Supervisor, Verdict};

use crate::frame::{self, ActionKind, FromBoard, PROTOCOL, Receiver, ToBoard};
use crate::{MAX_ACTION, MAX_FRAME, MAX_OBSERVATION, MAX_STATE, MAX_WIDTH};

/// What the logic needs of a machine.
pub trait Board {
    /// What passes at least, after the watchdog was fed, before it bites, nanoseconds.
    const WATCHDOG_NANOS: u64;

    /// Time since any fixed moment; never runs backwards.
    fn now_nanos(&mut self) -> u64;
    /// A byte that arrived, where there is one.
    fn receive(&mut self) -> Option<u8>;
    /// Sends a byte.
    fn send(&mut self, byte: u8);
    /// Puts off the watchdog. Called after a tick's action was sent, and while time comes by message; by nothing
    /// else where a policy is there.
    fn feed_watchdog(&mut self);
    /// How deep the stack has been since the start; zero where nobody looks.
    fn deepest_stack_bytes(&mut self) -> u32 {
        0
    }
}

/// Whose time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The board's.
    Own,
    /// The messages'.
    Messages,
}

/// Longest message of the board's, without its framing: an action with its counters and digest.
const MAX_ANSWER: usize = 4 * MAX_ACTION + 32;

/// All rows that a [`Station`] works in, of the largest policy that it takes. Starts as zeros, so that a program can have it in
/// memory that takes no flash.
#[derive(Debug)]
pub struct Memory {
    front: [f32; MAX_WIDTH],
    back: [f32; MAX_WIDTH],
    state: [f32; MAX_STATE],
    receiver: Receiver<MAX_FRAME>,
    observation: [f32; MAX_OBSERVATION],
    last: [f32; MAX_ACTION],
    buffer: [u8; MAX_ANSWER],
}

impl Memory {
    /// Zeros.
    pub const fn new() -> Self {
        Self {
            front: [0.0; MAX_WIDTH],
            back: [0.0; MAX_WIDTH],
            state: [0.0; MAX_STATE],
            receiver: Receiver::new(),
            observation: [0.0; MAX_OBSERVATION],
            last: [0.0; MAX_ACTION],
            buffer: [0; MAX_ANSWER],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// A policy and everything around it.
#[derive(Debug)]
pub struct Station<'a> {
    executor: Executor<'a>,
    #[cfg(any(test, feature = "monitor"))]
    watch: Option<Watch<'a>>,
    supervisor: Supervisor,
    rate: FixedRate,
    clock: Clock,
    receiver: &'a mut Receiver<MAX_FRAME>,
    observation: &'a mut [f32],
    stamp_nanos: Option<u64>,
    sequence: u32,
    last: &'a mut [f32],
    ticks: u32,
    buffer: &'a mut [u8],
}

impl<'a> Station<'a> {
    /// Opens the blob at the start of `flash` and replays its golden vectors; the first tick is due then.
    /// The policy does not drive before [`ToBoard::Enter`]. With the feature `monitor`, what follows the blob may be the
    /// monitor's numbers.
    ///
    /// # Errors
    /// The blob's first defect; [`BlobError::Period`] where two control periods are longer than [`Board::WATCHDOG_NANOS`].
    pub fn new<B: Board>(memory: &'a mut Memory, flash: &'a [u8], board: &mut B) -> Result<Self, BlobError> {
        let Memory { front, back, state, receiver, observation, last, buffer } = memory;
        let blob = Blob::open(flash)?;
        let observation = observation.get_mut(..blob.observation_width()).ok_or(BlobError::TooLarge)?;
        let last = last.get_mut(..blob.action_width()).ok_or(BlobError::TooLarge)?;
        let period = NonZeroU64::new(blob.header().control_period_nanos).ok_or(BlobError::Number)?;
        // The watchdog is fed once per tick, and a tick may be late by all of a period.
        if period.get() > B::WATCHDOG_NANOS / 2 {
            return Err(BlobError::Period);
        }
        Ok(Self {
            #[cfg(any(test, feature = "monitor"))]
            watch: Watch::open(flash, &blob)?,
            executor: Executor::new(blob, Scratch { front, back, state })?,
            supervisor: Supervisor::new(),
            rate: FixedRate::new(period, board.now_nanos()),
            clock: Clock::Own,
            receiver,
            observation,
            stamp_nanos: None,
            sequence: 0,
            last,
            ticks: 0,
            buffer,
        })
    }

    /// Says that there is a policy, and which.
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
        say(board, self.buffer, &ready);
    }

    /// Takes what arrived, and makes the tick that is due. Call it over and over.
    pub fn poll(&mut self, board: &mut impl Board) {
        // All that arrived, so that an order waits for one tick at most; bounded, so that no noise puts off the tick.
        for _ in 0..MAX_FRAME {
            let Some(byte) = board.receive() else { break };
            if self.receiver.take(byte) {
                self.answer(board);
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
        match self.receiver.message() {
            Some(ToBoard::Observation { sequence, stamp_nanos, values })
                if frame::from_bytes(values, self.observation) =>
            {
                let arrived = if self.clock == Clock::Own { board.now_nanos() } else { stamp_nanos };
                (self.stamp_nanos, self.sequence) = (Some(arrived), sequence);
            }
            Some(ToBoard::Enter) => self.enter(board),
            Some(ToBoard::Exit) => drop_answer(self.supervisor.exit(&self.executor.blob().rules())),
            Some(ToBoard::Stop) => self.supervisor.stop(),
            Some(ToBoard::Rearm) => drop_answer(self.supervisor.rearm()),
            Some(ToBoard::Hello) => self.greet(board),
            Some(ToBoard::Status) => {
                let counters = self.supervisor.counters();
                let status = FromBoard::Status {
                    ticks: self.ticks,
                    fallbacks: u32::try_from(counters.fallback_ticks()).unwrap_or(u32::MAX),
                    missed_deadlines: u32::try_from(self.rate.missed_deadlines()).unwrap_or(u32::MAX),
                    dropped_frames: self.receiver.dropped(),
                    alarm: self.alarm(),
                };
                say(board, self.buffer, &status);
            }
            #[cfg(feature = "hil")]
            Some(ToBoard::Advance { now_nanos }) => {
                self.clock = Clock::Messages;
                self.tick(board, now_nanos, None);
            }
            #[cfg(feature = "hil")]
            Some(ToBoard::Time { repeats }) => {
                let begin = board.now_nanos();
                let mut row = [0.0; MAX_ACTION];
                for _ in 0..repeats {
                    let action = row.get_mut(..self.last.len()).unwrap_or_default();
                    drop_answer(self.executor.run(self.observation, action));
                    core::hint::black_box(&row);
                }
                let timed = FromBoard::Timed { nanos: board.now_nanos() - begin };
                say(board, self.buffer, &timed);
            }
            #[cfg(feature = "hil")]
            Some(ToBoard::Stack) => {
                let bytes = board.deepest_stack_bytes();
                say(board, self.buffer, &FromBoard::Stack { bytes });
            }
            #[cfg(feature = "hil")]
            Some(ToBoard::Hang) => loop {
                core::hint::spin_loop();
            },
            Some(_) => self.receiver.drop_message(),
            None => {}
        }
    }

    /// Lets the policy drive, from a fresh state; nothing where it drives already or may not.
    fn enter(&mut self, board: &mut impl Board) {
        if !self.supervisor.enter(&self.executor.blob().rules()) {
            return;
        }
        self.executor.reset();
        if self.alarm() == Some(true) {
            say(board, self.buffer, &FromBoard::Alarm { tick: self.ticks, raised: false });
        }
        #[cfg(any(test, feature = "monitor"))]
        if let Some(watch) = &mut self.watch {
            watch.reset();
        }
    }

    fn alarm(&self) -> Option<bool> {
        #[cfg(any(test, feature = "monitor"))]
        return self.watch.as_ref().map(Watch::is_raised);
        #[cfg(not(any(test, feature = "monitor")))]
        None
    }

    /// One tick at `now_nanos`; `release_nanos` where the board's own clock released it and a deadline counts.
    fn tick(&mut self, board: &mut impl Board, now_nanos: u64, release_nanos: Option<u64>) {
        let rules = self.executor.blob().rules();
        let observation = &*self.observation;
        let mut row = [0.0; MAX_ACTION];
        // `new` saw to it that it fits.
        let action = row.get_mut(..self.last.len()).unwrap_or_default();
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
        let verdict = self.supervisor.decide(&rules, proposal, observation, action, self.last);
        let (kind, fault) = kind(verdict);
        let mut bytes = [0; 4 * MAX_ACTION];
        let values = frame::to_bytes(action, &mut bytes);
        let sent = FromBoard::Action { tick: self.ticks, sequence: self.sequence, kind, fault, values };
        say(board, self.buffer, &sent);
        #[cfg(any(test, feature = "monitor"))]
        if let (Some(watch), Verdict::Good | Verdict::Limited { .. }) = (&mut self.watch, verdict)
            && let Some(raised) = watch.watch(observation, action)
        {
            say(board, self.buffer, &FromBoard::Alarm { tick: self.ticks, raised });
        }
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
    say(board, &mut [0; 32], &FromBoard::Refused { code: error.code() });
    board.feed_watchdog();
}

#[inline(never)]
fn say(board: &mut impl Board, buffer: &mut [u8], message: &FromBoard<'_>) {
    frame::send(message, buffer, |byte| board.send(byte));
}

fn kind(verdict: Verdict) -> (ActionKind, u8) {
    let [kind, fault, ..] = verdict_code(verdict).to_le_bytes();
    let kind = match kind {
        0 => ActionKind::Good,
        1 => ActionKind::Limited,
        2 => ActionKind::Ramping,
        3 => ActionKind::Idle,
        4 => ActionKind::Stopped,
        _ => ActionKind::Fallback,
    };
    (kind, fault)
}

/// What follows from the answer is seen in the next tick's verdict.
fn drop_answer<T>(_: T) {}

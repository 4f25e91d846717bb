//! Messages as they go over the wire: postcard, a CRC-32 of it (little-endian), both framed by COBS and ended by a zero.
//!
//! A serial line has no datagrams and drops bytes, so that frames must be found again by their zeros, and a board says more than
//! actions: that is why these are not the frames of [`policy_runtime::frame`]. Rows, digest and the numbers of verdicts are.
//! A frame that is too long, damaged, unknown or does not fit the policy is dropped and counted; the next zero begins a new one.

use policy_runtime::embedded::crc32;
pub use policy_runtime::frame::{bytes_to_row as from_bytes, row_to_bytes as to_bytes};
use serde::{Deserialize, Serialize};

/// Version of these messages.
pub const PROTOCOL: u8 = 2;

/// From the host, or from whatever reads the sensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ToBoard<'a> {
    /// The newest reading of the sensors.
    Observation {
        /// Comes back with the action that was computed from it.
        sequence: u32,
        /// When it was taken, where time comes by message; the board's own clock at arrival counts otherwise.
        stamp_nanos: u64,
        /// `[observation]`, raw units.
        #[serde(borrow)]
        values: &'a [u8],
    },
    /// Lets the policy drive.
    Enter,
    /// Takes it out, by way of the exit ramp.
    Exit,
    /// Stops at once, for good.
    Stop,
    /// Leaves the stop.
    Rearm,
    /// Asks for [`FromBoard::Status`].
    Status,
    /// Asks for [`FromBoard::Ready`].
    Hello,
    /// Time comes by message from now on, and this one is a tick. Feature `hil`.
    Advance {
        /// What time it is.
        now_nanos: u64,
    },
    /// Computes the newest observation's action so many times and answers [`FromBoard::Timed`]. Feature `hil`.
    Time {
        /// How many times.
        repeats: u16,
    },
    /// Never returns, so that the watchdog must. Feature `hil`.
    Hang,
    /// Asks for [`FromBoard::Stack`]. Feature `hil`.
    Stack,
}

/// From the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FromBoard<'a> {
    /// The policy is good: after the start, and in answer to [`ToBoard::Hello`].
    Ready {
        /// [`PROTOCOL`].
        protocol: u8,
        /// CRC-32 of the policy's data section.
        policy_crc32: u32,
        /// Widths of observation and action.
        widths: [u16; 2],
        /// Time between ticks.
        period_nanos: u64,
        /// First bytes of the sha256 of the contract's JSON.
        contract: [u8; 8],
    },
    /// The policy cannot be used; the board does nothing but say so.
    Refused {
        /// [`policy_runtime::embedded::BlobError::code`]
        code: u8,
    },
    /// A tick's action.
    Action {
        /// Number of the tick, from zero.
        tick: u32,
        /// Of the observation that it was computed from; of the newest where it is a fallback, zero without any.
        sequence: u32,
        /// What it is.
        kind: ActionKind,
        /// 1 + [`FaultKind`](policy_runtime::guard::FaultKind) where a fault is the reason, zero otherwise.
        fault: u8,
        /// `[action]`, environment units.
        #[serde(borrow)]
        values: &'a [u8],
    },
    /// Counters.
    Status {
        /// Ticks since the start.
        ticks: u32,
        /// Ticks whose action was a fallback because of a fault.
        fallbacks: u32,
        /// Deadlines without an action.
        missed_deadlines: u32,
        /// Frames that were too long, damaged, unknown, not for this board, or observations of another width.
        dropped_frames: u32,
        /// Whether the monitor's alarm is raised; none without a monitor.
        alarm: Option<bool>,
    },
    /// How long the actions took that [`ToBoard::Time`] asked for.
    Timed {
        /// All of them together, on the board's clock.
        nanos: u64,
    },
    /// The robot left what the demonstrations showed, or came back. Feature `monitor`.
    Alarm {
        /// Number of the tick.
        tick: u32,
        /// Which of the two.
        raised: bool,
    },
    /// How deep the stack has been.
    Stack {
        /// [`Board::deepest_stack_bytes`](crate::Board::deepest_stack_bytes)
        bytes: u32,
    },
}

/// What an action is: the lowest byte of [`verdict_code`](policy_runtime::frame::verdict_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "named as the verdicts are")]
pub enum ActionKind {
    Good,
    Limited,
    Ramping,
    Idle,
    Stopped,
    Fallback,
}

/// Sends `message` byte by byte. `buffer` holds it meanwhile; nothing is sent where it is too short.
pub fn send<T: Serialize>(message: &T, buffer: &mut [u8], mut put: impl FnMut(u8)) {
    let Ok(used) = postcard::to_slice(message, buffer).map(|used| used.len()) else { return };
    let crc = crc32(&buffer[..used]).to_le_bytes();
    let Some(room) = buffer.get_mut(used..used + 4) else { return };
    room.copy_from_slice(&crc);
    encode(&buffer[..used + 4], &mut put);
}

/// COBS: every zero becomes the distance to the next, so that the zero at the end is the only one.
fn encode(mut rest: &[u8], put: &mut impl FnMut(u8)) {
    const LONGEST: usize = 254;
    loop {
        let head = &rest[..rest.len().min(LONGEST)];
        let run = head.iter().position(|byte| *byte == 0).unwrap_or(head.len());
        put(run as u8 + 1);
        rest[..run].iter().for_each(|byte| put(*byte));
        if run == rest.len() {
            break;
        }
        // A full run carries no zero with it.
        rest = &rest[run + usize::from(run < LONGEST)..];
    }
    put(0);
}

/// Undoes [`encode`] where the bytes lie, without their final zero; returns the length.
fn decode(frame: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while from < frame.len() {
        let code = usize::from(frame[from]);
        let end = from + code;
        if code == 0 || end > frame.len() {
            return None;
        }
        // Byte by byte: what moves overlapping memory at once takes more flash than all of this file.
        for index in from + 1..end {
            frame[to] = frame[index];
            to += 1;
        }
        from = end;
        if code < 255 && from < frame.len() {
            frame[to] = 0;
            to += 1;
        }
    }
    Some(to)
}

/// Collects bytes to frames of at most `N` bytes.
#[derive(Debug, Clone)]
pub struct Receiver<const N: usize> {
    buffer: [u8; N],
    used: usize,
    dropped: u32,
}

impl<const N: usize> Default for Receiver<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Receiver<N> {
    /// Nothing received yet.
    pub const fn new() -> Self {
        Self { buffer: [0; N], used: 0, dropped: 0 }
    }

    /// Frames that were dropped.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Counts a frame as dropped whose message cannot be used.
    pub fn drop_message(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// Takes a byte; whether it ended a frame that [`Self::message`] can read.
    pub fn take(&mut self, byte: u8) -> bool {
        if byte != 0 {
            if let Some(place) = self.buffer.get_mut(self.used) {
                *place = byte;
            }
            self.used = (self.used + 1).min(N + 1);
            return false;
        }
        let used = core::mem::take(&mut self.used);
        if used == 0 {
            return false;
        }
        let payload = self.buffer.get_mut(..used).and_then(|frame| {
            let length = decode(frame)?;
            let (payload, crc) = frame.get(..length)?.split_last_chunk::<4>()?;
            (*crc == crc32(payload).to_le_bytes()).then_some(payload.len())
        });
        match payload {
            Some(length) => self.used = length,
            None => self.drop_message(),
        }
        payload.is_some()
    }

    /// The frame that [`Self::take`] announced; none where it is no such message. Makes room for the next.
    pub fn message<'a, T: Deserialize<'a>>(&'a mut self) -> Option<T> {
        let length = core::mem::take(&mut self.used);
        let message = postcard::from_bytes(self.buffer.get(..length)?).ok();
        if message.is_none() {
            self.dropped = self.dropped.saturating_add(1);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        encode(payload, &mut |byte| wire.push(byte));
        wire
    }

    #[test]
    fn framing_is_cobs() {
        // The examples of Cheshire and Baker's paper, as far as they differ, and full runs.
        assert_eq!(framed(&[]), [1, 0]);
        assert_eq!(framed(&[0]), [1, 1, 0]);
        assert_eq!(framed(&[0x11, 0x22, 0, 0x33]), [3, 0x11, 0x22, 2, 0x33, 0]);
        let long: Vec<u8> = (0..600_usize).map(|index| (index % 255) as u8 + 1).collect();
        for length in [253, 254, 255, 508, 509, 600] {
            for zero_at in [None, Some(0), Some(length / 2), Some(length - 1)] {
                let mut payload = long[..length].to_vec();
                if let Some(at) = zero_at {
                    payload[at] = 0;
                }
                let mut wire = framed(&payload);
                assert_eq!(wire.pop(), Some(0));
                assert!(!wire.contains(&0));
                let decoded = decode(&mut wire).unwrap();
                assert_eq!(wire[..decoded], payload, "{length} {zero_at:?}");
            }
        }
    }

    #[test]
    fn postcard_reads_our_framing() {
        let mut wire = framed(postcard::to_slice(&(7_u32, [0_u8, 0, 9]), &mut [0; 16]).unwrap());
        let back: (u32, [u8; 3]) = postcard::from_bytes_cobs(&mut wire).unwrap();
        assert_eq!(back, (7, [0, 0, 9]));
    }

    #[test]
    fn messages_survive_and_damage_is_dropped_alone() {
        let message = ToBoard::Observation { sequence: 9, stamp_nanos: 1 << 40, values: &[0, 0, 128, 63] };
        let mut wire = Vec::new();
        send(&message, &mut [0; 64], |byte| wire.push(byte));
        for spoiled in 0..wire.len() {
            let mut receiver = Receiver::<64>::new();
            let mut noise = wire.clone();
            noise[spoiled] ^= 0x10;
            let mut good = 0;
            for byte in noise.iter().chain(&[0]).chain(&wire) {
                if receiver.take(*byte) {
                    assert_eq!(receiver.message::<ToBoard<'_>>(), Some(message));
                    good += 1;
                }
            }
            assert_eq!(good, 1, "byte {spoiled}");
            assert!((1..=2).contains(&receiver.dropped()), "byte {spoiled}");
        }
    }

    #[test]
    fn frames_that_are_too_long_are_dropped() {
        let mut receiver = Receiver::<16>::new();
        assert!([7; 1000].iter().all(|byte| !receiver.take(*byte)));
        assert!(!receiver.take(0));
        assert_eq!(receiver.dropped(), 1);
        let mut wire = Vec::new();
        send(&ToBoard::Enter, &mut [0; 16], |byte| wire.push(byte));
        assert!(wire.iter().any(|byte| receiver.take(*byte)));
        assert_eq!(receiver.message(), Some(ToBoard::Enter));
    }
}

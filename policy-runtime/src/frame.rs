//! Observations and actions on a wire: fixed header, f32 values, checksum; docs/RUNTIME.md has the table.
//! Allocation: none. Panics: never, whatever the bytes.

use crate::embedded::Crc32;
use core::ops::Range;

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"HYPF";
/// The version that this crate writes and reads.
pub const VERSION: u8 = 1;
/// Bytes before the values.
pub const HEADER_BYTES: usize = 32;
/// Where the checksum stands.
const CHECKSUM: Range<usize> = 28..32;
/// Most values in a frame, as many as a contract may have channels.
pub const MAX_VALUES: usize = 4096;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Raw observation, to the policy.
    Observation = 1,
    /// Action in environment units, from the policy.
    Action = 2,
}

/// The header of a frame, less what only serves to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it carries.
    pub kind: FrameKind,
    /// Counts up by one from frame to frame.
    pub sequence: u64,
    /// When the values were taken or made, nanoseconds on the sender's monotonic clock.
    pub stamp_nanos: u64,
    /// Zero in observations; [`verdict_code`] in actions.
    pub code: u32,
}

/// Why bytes are not the frame that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Fewer bytes than the header, or than the header announces, or more.
    Length {
        /// Bytes that it should have.
        expected: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// It does not start with [`MAGIC`].
    Magic,
    /// Another version.
    Version(u8),
    /// An action where an observation was expected, or neither.
    Kind(u8),
    /// Another number of values.
    Values {
        /// Values that were expected.
        expected: usize,
        /// Values that the header announces.
        found: usize,
    },
    /// The checksum does not fit.
    Checksum,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            FrameError::Length { expected, found } => write!(f, "expected {expected} bytes; found {found}"),
            FrameError::Magic => write!(f, "expected a frame that starts with \"HYPF\"; found other bytes"),
            FrameError::Version(found) => write!(f, "expected frame version {VERSION}; found {found}"),
            FrameError::Kind(found) => write!(f, "unexpected frame kind {found} (1 observation, 2 action)"),
            FrameError::Values { expected, found } => write!(f, "expected {expected} values; found {found}"),
            FrameError::Checksum => write!(f, "the checksum does not fit: altered on the way"),
        }
    }
}

/// Bytes of a frame with `values` values.
pub const fn frame_bytes(values: usize) -> usize {
    HEADER_BYTES + 4 * values
}

/// Writes a frame to the front of `bytes`; returns its length, or `None` where it does not fit into `bytes` or has more
/// than [`MAX_VALUES`] values.
pub fn encode(header: &FrameHeader, values: &[f32], bytes: &mut [u8]) -> Option<usize> {
    let count = u16::try_from(values.len()).ok().filter(|count| usize::from(*count) <= MAX_VALUES)?;
    let frame = bytes.get_mut(..frame_bytes(values.len()))?;
    frame[..4].copy_from_slice(&MAGIC);
    frame[4] = VERSION;
    frame[5] = header.kind as u8;
    frame[6..8].copy_from_slice(&count.to_le_bytes());
    frame[8..16].copy_from_slice(&header.sequence.to_le_bytes());
    frame[16..24].copy_from_slice(&header.stamp_nanos.to_le_bytes());
    frame[24..28].copy_from_slice(&header.code.to_le_bytes());
    row_to_bytes(values, &mut frame[HEADER_BYTES..]);
    let checksum = checksum(frame);
    frame[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    Some(frame.len())
}

/// Reads a header alone and returns the length of its whole frame, for streams. The checksum is not looked at.
///
/// # Errors
/// Where it cannot be the header of a frame of this kind with `expected_values` values.
pub fn announced_bytes(header: &[u8], kind: FrameKind, expected_values: usize) -> Result<usize, FrameError> {
    let found = header.len();
    let Some(header) = header.first_chunk::<HEADER_BYTES>() else {
        return Err(FrameError::Length { expected: HEADER_BYTES, found });
    };
    if header[..4] != MAGIC {
        return Err(FrameError::Magic);
    }
    if header[4] != VERSION {
        return Err(FrameError::Version(header[4]));
    }
    if header[5] != kind as u8 {
        return Err(FrameError::Kind(header[5]));
    }
    let found = usize::from(u16::from_le_bytes([header[6], header[7]]));
    if found != expected_values {
        return Err(FrameError::Values { expected: expected_values, found });
    }
    Ok(frame_bytes(found))
}

/// Reads the frame that `bytes` consists of into `values`, which is written only where everything fits. NaN and
/// infinities pass: judging values is the guards' work.
///
/// # Errors
/// Where it is not a frame of this kind with `values.len()` values.
pub fn decode(bytes: &[u8], kind: FrameKind, values: &mut [f32]) -> Result<FrameHeader, FrameError> {
    let expected = announced_bytes(bytes, kind, values.len())?;
    if bytes.len() != expected {
        return Err(FrameError::Length { expected, found: bytes.len() });
    }
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let (sequence, stamp_nanos, last) = (word(8), word(16), word(24));
    if (last >> 32) as u32 != checksum(bytes) {
        return Err(FrameError::Checksum);
    }
    bytes_to_row(&bytes[HEADER_BYTES..], values);
    Ok(FrameHeader { kind, sequence, stamp_nanos, code: last as u32 })
}

/// A row of numbers as every wire of ours carries it, little-endian: fills `bytes` as far as both reach, and returns what it filled.
pub fn row_to_bytes<'b>(row: &[f32], bytes: &'b mut [u8]) -> &'b [u8] {
    let (places, _) = bytes.as_chunks_mut::<4>();
    let count = places.len().min(row.len());
    for (place, value) in places.iter_mut().zip(row) {
        *place = value.to_le_bytes();
    }
    bytes.get(..4 * count).unwrap_or(&[])
}

/// Undoes [`row_to_bytes`]; whether there were as many bytes as `row` needs. Writes nothing otherwise.
pub fn bytes_to_row(bytes: &[u8], row: &mut [f32]) -> bool {
    let fits = bytes.len() == 4 * row.len();
    if fits {
        for (value, bytes) in row.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    fits
}

/// CRC-32 (IEEE 802.3) of a frame without its checksum field.
fn checksum(frame: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(frame.get(..CHECKSUM.start).unwrap_or(frame));
    crc.update(frame.get(CHECKSUM.end..).unwrap_or_default());
    crc.finish()
}

/// Set in an action's code while the monitor is raised; see [`crate::drift`].
pub const MONITOR_RAISED: u32 = 1 << 16;

/// A verdict as a number: 0 good, 1 limited, 2 ramping, 3 idle, 4 stopped, 5 fallback in the lowest byte; in the next
/// one 1 + [`FaultKind`](crate::guard::FaultKind) where a fault is the reason.
pub fn verdict_code(verdict: crate::Verdict) -> u32 {
    use crate::Verdict;
    use crate::guard::Stop;
    let because = |fault: crate::Fault| (1 + fault.kind() as u32) << 8;
    match verdict {
        Verdict::Good => 0,
        Verdict::Limited { .. } => 1,
        Verdict::Ramping { .. } => 2,
        Verdict::Idle => 3,
        Verdict::Stopped(Stop::Requested) => 4,
        Verdict::Stopped(Stop::Faults(fault)) => 4 | because(fault),
        Verdict::Fallback(fault) => 5 | because(fault),
    }
}

/// What became of the frames of one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrivals {
    /// Newer than all before: used.
    pub accepted: u64,
    /// Sequence numbers that were skipped; some may arrive later and then count as reordered too.
    pub lost: u64,
    /// The newest one again.
    pub duplicated: u64,
    /// Older than the newest: not used.
    pub reordered: u64,
    /// Stamped later than the loop's own clock can explain: not used. Only where sender and loop share a clock.
    pub ahead: u64,
    /// Not a frame, see [`FrameError`].
    pub malformed: u64,
    /// The sender began to count again.
    pub restarts: u64,
}

/// Whose clock an observation's age is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stamps {
    /// The frame's stamp: sender and loop share the machine's monotonic clock.
    #[default]
    Sender,
    /// The moment at which the loop took the frame: another machine's sender.
    Arrival,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Newest {
    sequence: u64,
    stamp_nanos: u64,
    arrived_nanos: u64,
}

/// Tells newer frames from older ones. No frame, whatever it says, keeps later ones out for longer than the patience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    stamps: Stamps,
    patience_nanos: u64,
    newest: Option<Newest>,
    /// What became of all frames.
    pub arrivals: Arrivals,
}

impl Order {
    /// For frames whose age is measured by `stamps`. After `patience_nanos` without a newer frame (the greatest age of an observation) any
    /// other one will do; a stamp that lies further ahead of the clock than that is not believed.
    pub fn new(stamps: Stamps, patience_nanos: u64) -> Self {
        Self { stamps, patience_nanos, newest: None, arrivals: Arrivals::default() }
    }

    /// Counts a frame that was taken at `now_nanos`; returns whether it is newer than all before. A lower sequence number is a sender that was
    /// restarted where nothing newer came for longer than the patience, or where its stamp is later and on the loop's own clock.
    pub fn accept(&mut self, header: &FrameHeader, now_nanos: u64) -> bool {
        let arrivals = &mut self.arrivals;
        let shared = self.stamps == Stamps::Sender;
        if shared && header.stamp_nanos.saturating_sub(now_nanos) > self.patience_nanos {
            arrivals.ahead += 1;
            return false;
        }
        match self.newest {
            Some(newest) if header.sequence == newest.sequence => {
                arrivals.duplicated += 1;
                return false;
            }
            Some(newest) if header.sequence < newest.sequence => {
                let silent = now_nanos.saturating_sub(newest.arrived_nanos) > self.patience_nanos;
                if !(silent || shared && header.stamp_nanos > newest.stamp_nanos) {
                    arrivals.reordered += 1;
                    return false;
                }
                arrivals.restarts += 1;
            }
            Some(newest) => arrivals.lost = arrivals.lost.saturating_add(header.sequence - newest.sequence - 1),
            None => {}
        }
        arrivals.accepted += 1;
        let FrameHeader { sequence, stamp_nanos, .. } = *header;
        self.newest = Some(Newest { sequence, stamp_nanos, arrived_nanos: now_nanos });
        true
    }

    /// Counts bytes that were no frame.
    pub fn malformed(&mut self) {
        self.arrivals.malformed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FrameHeader =
        FrameHeader { kind: FrameKind::Observation, sequence: 7, stamp_nanos: 1 << 40, code: 0 };

    fn frame() -> [u8; frame_bytes(2)] {
        let mut bytes = [0; frame_bytes(2)];
        assert_eq!(encode(&HEADER, &[1.5, f32::NEG_INFINITY], &mut bytes), Some(40));
        bytes
    }

    #[test]
    fn frames_come_back_as_they_went() {
        let mut values = [0.0; 2];
        assert_eq!(decode(&frame(), FrameKind::Observation, &mut values), Ok(HEADER));
        assert_eq!(values, [1.5, f32::NEG_INFINITY]);
        assert_eq!(encode(&HEADER, &[0.0; 3], &mut [0; 40]), None);
    }

    #[test]
    fn the_checksum_is_the_usual_crc() {
        // The check value of CRC-32/ISO-HDLC in the catalogue of parametrised CRC algorithms.
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn every_single_altered_bit_and_every_other_length_is_refused() {
        let good = frame();
        for bit in 0..8 * good.len() {
            let (mut bytes, mut values) = (good, [9.0; 2]);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes, FrameKind::Observation, &mut values).is_err(), "bit {bit}");
            assert_eq!(values, [9.0; 2], "nothing is written before everything fits");
        }
        for length in 0..good.len() {
            let error = decode(&good[..length], FrameKind::Observation, &mut [0.0; 2]).unwrap_err();
            assert!(matches!(error, FrameError::Length { found, .. } if found == length));
        }
        let mut long = [0; 41];
        long[..40].copy_from_slice(&good);
        assert!(matches!(decode(&long, FrameKind::Observation, &mut [0.0; 2]), Err(FrameError::Length { .. })));
        assert_eq!(decode(&good, FrameKind::Action, &mut [0.0; 2]), Err(FrameError::Kind(1)));
        assert_eq!(
            decode(&good, FrameKind::Observation, &mut [0.0; 3]),
            Err(FrameError::Values { expected: 3, found: 2 })
        );
    }

    fn of(sequence: u64, stamp_nanos: u64) -> FrameHeader {
        FrameHeader { sequence, stamp_nanos, ..HEADER }
    }

    #[test]
    fn only_newer_frames_are_accepted() {
        let mut order = Order::new(Stamps::Sender, 1000);
        let mut accept = |sequence, stamp_nanos| order.accept(&of(sequence, stamp_nanos), stamp_nanos);
        assert!(accept(5, 50) && accept(6, 60) && accept(9, 90));
        assert!(!accept(9, 90) && !accept(8, 80));
        assert!(accept(0, 95), "a restarted sender");
        let wanted = Arrivals { accepted: 4, lost: 2, duplicated: 1, reordered: 1, restarts: 1, ..Arrivals::default() };
        assert_eq!(order.arrivals, wanted);
    }

    #[test]
    fn a_sender_whose_clock_starts_again_is_heard_again() {
        for stamps in [Stamps::Sender, Stamps::Arrival] {
            let mut order = Order::new(stamps, 1000);
            assert!(order.accept(&of(100_000, 5_000_000), 5_000_000));
            // It was rebooted: sequence and clock begin at zero.
            assert!(!order.accept(&of(1, 1), 5_000_500), "{stamps:?}: as yet it may be an old one");
            assert!(order.accept(&of(2, 2), 5_001_001), "{stamps:?}");
            assert!(order.accept(&of(3, 3), 5_001_002) && order.arrivals.restarts == 1, "{stamps:?}");
        }
        let mut order = Order::new(Stamps::Arrival, 1000);
        assert!(
            order.accept(&of(7, u64::MAX), 10) && !order.accept(&of(6, 3), 20),
            "another clock's stamp tells nothing"
        );
    }

    #[test]
    fn no_single_frame_locks_out_the_others() {
        let mut order = Order::new(Stamps::Sender, 1000);
        assert!(!order.accept(&of(3, 1 << 60), 50), "the far future");
        assert!(order.accept(&of(4, 60), 60) && order.arrivals.ahead == 1);
        for stamps in [Stamps::Sender, Stamps::Arrival] {
            let mut order = Order::new(stamps, 1000);
            assert!(order.accept(&of(u64::MAX, 100), 100), "the last number there is");
            assert!(order.accept(&of(5, 1500), 1500) && order.accept(&of(6, 1600), 1600), "{stamps:?}");
        }
    }
}

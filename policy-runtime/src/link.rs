//! Where a loop's observations come from and its actions go: rows in memory, a file or stream of frames, UDP.
//!
//! Nothing here waits on the loop's thread. A stream is read, and one is written, by a thread of its own behind a
//! bounded [`ring`](crate::ring); a socket is asked without blocking.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::frame::{
    Arrivals, FrameHeader, FrameKind, HEADER_BYTES, Order, announced_bytes, decode, encode, frame_bytes,
};
use crate::ring::{Consumer, Producer, pack, ring, unpack};

/// Largest recorded file that is replayed.
pub const MAX_RECORD_BYTES: u64 = 1 << 30;
/// Most datagrams that one tick takes from the socket.
const DATAGRAMS_PER_TICK: usize = 256;
/// Frames between a stream's thread and the loop.
const STREAM_FRAMES: usize = 256;
/// How often a writing thread looks for work, and a reading one for room.
const POLL: Duration = Duration::from_millis(1);
/// Longest that a writing thread may take over what is left when the loop has ended.
const FINISH_LIMIT: Duration = Duration::from_secs(3);
/// Words before the packed values in a ring.
const HEAD_WORDS: usize = 3;

pub use crate::frame::Stamps;

/// The newest observation, in place.
#[derive(Debug)]
pub struct Inbox {
    /// `[observation]`, as the robot sends them.
    pub values: Vec<f32>,
    /// Its time on the loop's clock; `None` before the first.
    pub stamp_nanos: Option<u64>,
    order: Order,
    arriving: Vec<f32>,
    stamps: Stamps,
}

impl Inbox {
    /// For observations of `width` values that may be `max_age_nanos` old, see [`Order::new`].
    pub fn new(width: usize, stamps: Stamps, max_age_nanos: u64) -> Self {
        Self {
            values: vec![0.0; width],
            stamp_nanos: None,
            order: Order::new(stamps, max_age_nanos),
            arriving: vec![0.0; width],
            stamps,
        }
    }

    /// What became of the frames so far.
    pub fn arrivals(&self) -> Arrivals {
        self.order.arrivals
    }

    fn take(&mut self, header: &FrameHeader, now_nanos: u64) {
        if self.order.accept(header, now_nanos) {
            std::mem::swap(&mut self.values, &mut self.arriving);
            self.stamp_nanos = Some(if self.stamps == Stamps::Sender { header.stamp_nanos } else { now_nanos });
        }
    }

    fn offer(&mut self, bytes: &[u8], now_nanos: u64) {
        match decode(bytes, FrameKind::Observation, &mut self.arriving) {
            Ok(header) => self.take(&header, now_nanos),
            Err(_) => self.order.malformed(),
        }
    }
}

/// Where observations come from.
#[derive(Debug)]
pub enum Source {
    /// One row per tick, again and again.
    Rows {
        /// `[rows][observation]`.
        rows: Vec<Vec<f32>>,
        /// The next one.
        next: usize,
    },
    /// One recorded row per tick, once; each is as old as the tick.
    Recorded {
        /// `[rows][observation]`.
        rows: Vec<Vec<f32>>,
        /// The next one.
        next: usize,
    },
    /// Datagrams of one frame each.
    Udp {
        /// Bound, and not blocking.
        socket: UdpSocket,
        /// One byte longer than a frame, so that a longer datagram is seen to be.
        datagram: Vec<u8>,
    },
    /// A stream of frames, read by another thread.
    Stream(Stream),
}

/// The loop's side of a stream of frames.
#[derive(Debug)]
pub struct Stream {
    frames: Consumer,
    row: Vec<u64>,
    end: Arc<StreamEnd>,
}

#[derive(Debug, Default)]
struct StreamEnd {
    ended: AtomicBool,
    malformed: AtomicBool,
    /// Frames that found the ring full.
    dropped: AtomicU64,
}

impl Source {
    /// Datagrams that arrive at `address`.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub fn udp(address: SocketAddr, width: usize) -> Result<Self> {
        let failed = |source| Error::file("listen on UDP", Path::new(&address.to_string()), source);
        let socket = UdpSocket::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self::Udp { socket, datagram: vec![0; frame_bytes(width) + 1] })
    }

    /// Frames that another thread reads from `reader` until it ends or breaks. That thread may outlive the loop: it
    /// cannot be woken while it waits for the reader.
    pub fn stream(mut reader: impl Read + Send + 'static, width: usize) -> Self {
        let row_words = HEAD_WORDS + width.div_ceil(2);
        let (mut producer, frames) = ring(STREAM_FRAMES, row_words);
        let end = Arc::new(StreamEnd::default());
        let told = Arc::clone(&end);
        std::thread::spawn(move || {
            let mut bytes = vec![0; frame_bytes(width)];
            let mut values = vec![0.0; width];
            loop {
                match read_frame(&mut reader, &mut bytes, &mut values) {
                    Ok(Some(header)) => {
                        let row = [header.sequence, header.stamp_nanos, 0].into_iter().chain(pack(&values));
                        if !producer.push(row) {
                            told.dropped.store(producer.dropped(), Ordering::Relaxed);
                        }
                    }
                    Ok(None) => break,
                    Err(_) => {
                        told.malformed.store(true, Ordering::Relaxed);
                        break;
                    }
                }
            }
            told.ended.store(true, Ordering::Release);
        });
        Self::Stream(Stream { frames, row: vec![0; row_words], end })
    }

    /// A file of frames, one after the other.
    ///
    /// # Errors
    /// Where it cannot be read, is longer than [`MAX_RECORD_BYTES`], or is not frames of `width` observations.
    pub fn recorded(path: &Path, width: usize) -> Result<Self> {
        let bytes = read_bounded(path, MAX_RECORD_BYTES)?;
        let rows = recorded_rows(&bytes, width).map_err(|error| error.within(path.display()))?;
        Ok(Self::Recorded { rows, next: 0 })
    }

    /// Frames that were read and found no room on their way to the loop.
    pub fn dropped(&self) -> u64 {
        match self {
            Source::Stream(stream) => stream.end.dropped.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    /// Brings the newest observation into `inbox`; returns whether there may be more, now or later.
    pub fn poll(&mut self, now_nanos: u64, inbox: &mut Inbox) -> bool {
        match self {
            Source::Rows { rows, next } => {
                if let Some(row) = rows.get(*next % rows.len().max(1)) {
                    put(row, now_nanos, inbox);
                }
                *next += 1;
                !rows.is_empty()
            }
            Source::Recorded { rows, next } => match rows.get(*next) {
                Some(row) => {
                    put(row, now_nanos, inbox);
                    *next += 1;
                    true
                }
                None => false,
            },
            Source::Udp { socket, datagram } => {
                for _ in 0..DATAGRAMS_PER_TICK {
                    match socket.recv(datagram) {
                        Ok(length) => inbox.offer(&datagram[..length], now_nanos),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(_) => break,
                    }
                }
                true
            }
            Source::Stream(stream) => {
                // Asked first: what was pushed before the end is still taken.
                let ended = stream.end.ended.load(Ordering::Acquire);
                while stream.frames.pop(&mut stream.row) {
                    unpack(&stream.row[HEAD_WORDS..], &mut inbox.arriving);
                    let (sequence, stamp_nanos) = (stream.row[0], stream.row[1]);
                    let header = FrameHeader { kind: FrameKind::Observation, sequence, stamp_nanos, code: 0 };
                    inbox.take(&header, now_nanos);
                }
                if ended && stream.end.malformed.swap(false, Ordering::Relaxed) {
                    inbox.order.malformed();
                }
                !ended
            }
        }
    }
}

fn put(row: &[f32], now_nanos: u64, inbox: &mut Inbox) {
    for (value, row) in inbox.values.iter_mut().zip(row) {
        *value = *row;
    }
    inbox.stamp_nanos = Some(now_nanos);
}

/// Reads the values of all frames of a recording.
///
/// # Errors
/// [`Error::Malformed`] with the first frame that is none, or where there is not even one.
pub fn recorded_rows(mut bytes: &[u8], width: usize) -> Result<Vec<Vec<f32>>> {
    let mut rows = Vec::new();
    while !bytes.is_empty() {
        let mut values = vec![0.0; width];
        let (frame, rest) = bytes.split_at(bytes.len().min(frame_bytes(width)));
        decode(frame, FrameKind::Observation, &mut values).map_err(|error| {
            Error::malformed(format!("frame {}", rows.len()), format!("an observation of {width} values"), error)
        })?;
        rows.push(values);
        bytes = rest;
    }
    if rows.is_empty() {
        return Err(Error::malformed("the recording", "at least one frame", "none"));
    }
    Ok(rows)
}

/// The next frame of a stream; `None` at its end, where that lies between two frames. Reads no more than one frame, by
/// way of `bytes`, which must have room for it.
///
/// # Errors
/// [`Error::Malformed`] where the bytes are no frame, [`Error::File`] where the reader fails.
pub fn read_frame(reader: &mut impl Read, bytes: &mut [u8], values: &mut [f32]) -> Result<Option<FrameHeader>> {
    let what = || "a frame of the stream";
    let room = frame_bytes(values.len());
    if bytes.len() < room {
        return Err(Error::malformed("the buffer for frames", format!("{room} bytes"), bytes.len()));
    }
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match reader.read(&mut bytes[filled..HEADER_BYTES]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(Error::malformed(what(), format!("{HEADER_BYTES} bytes of header"), filled)),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::file("read", Path::new("the stream"), source)),
        }
    }
    let wrong = |error: crate::frame::FrameError| Error::malformed(what(), "an observation", error);
    let length = announced_bytes(&bytes[..HEADER_BYTES], FrameKind::Observation, values.len()).map_err(wrong)?;
    let rest = &mut bytes[HEADER_BYTES..length];
    reader
        .read_exact(rest)
        .map_err(|_| Error::malformed(what(), format!("{length} bytes"), "the end of the stream"))?;
    decode(&bytes[..length], FrameKind::Observation, values).map(Some).map_err(wrong)
}

/// Where actions go.
#[derive(Debug)]
pub enum Sink {
    /// Nowhere.
    None,
    /// Datagrams of one frame each; those that cannot be sent at once are dropped.
    Udp {
        /// Connected, and not blocking.
        socket: UdpSocket,
        /// One frame.
        datagram: Vec<u8>,
        /// Frames that were dropped.
        dropped: u64,
    },
    /// A stream of frames, written by another thread.
    Stream {
        /// The loop's side.
        frames: Producer,
        /// The thread, and the wish that it ends.
        writer: Writer,
    },
}

/// A thread that writes rows of a ring until it is told to finish.
#[derive(Debug)]
pub struct Writer {
    finish: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Writer {
    /// Starts a thread that hands each row to `write`, then flushes.
    pub fn start(
        mut rows: Consumer,
        mut write: impl FnMut(Option<&[u64]>) -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        let finish = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&finish);
        let thread = std::thread::spawn(move || {
            let mut row = vec![0; rows.row_words()];
            loop {
                // Asked first: what was pushed before the end is still written.
                let finishing = told.load(Ordering::Acquire);
                while rows.pop(&mut row) {
                    write(Some(&row))?;
                }
                write(None)?;
                if finishing {
                    return Ok(());
                }
                std::thread::sleep(POLL);
            }
        });
        Self { finish, thread }
    }

    /// Whether it has ended of itself, which only a failure makes it do.
    pub fn is_broken(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until everything is written, but not for ever: where nobody reads at the other end, the thread is left alone.
    ///
    /// # Errors
    /// The first failure to write; [`ErrorKind::TimedOut`] after three seconds.
    pub fn finish(self) -> std::io::Result<()> {
        self.finish.store(true, Ordering::Release);
        let mut polls_left = FINISH_LIMIT.as_millis() / POLL.as_millis();
        while !self.thread.is_finished() {
            if polls_left == 0 {
                return Err(std::io::Error::new(ErrorKind::TimedOut, "nobody takes what is written"));
            }
            polls_left -= 1;
            std::thread::sleep(POLL);
        }
        self.thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the writing thread panicked")))
    }
}

impl Sink {
    /// Datagrams to `address`.
    ///
    /// # Errors
    /// Where no socket can be had for it.
    pub fn udp(address: SocketAddr, width: usize) -> Result<Self> {
        let failed = |source| Error::file("send UDP to", Path::new(&address.to_string()), source);
        let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).map_err(failed)?;
        socket.connect(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self::Udp { socket, datagram: vec![0; frame_bytes(width)], dropped: 0 })
    }

    /// Frames that another thread writes to `writer`.
    pub fn stream(mut writer: impl Write + Send + 'static, width: usize) -> Self {
        let (frames, rows) = ring(STREAM_FRAMES, HEAD_WORDS + width.div_ceil(2));
        let (mut bytes, mut values) = (vec![0; frame_bytes(width)], vec![0.0; width]);
        let writer = Writer::start(rows, move |row| match row {
            Some(row) => {
                unpack(&row[HEAD_WORDS..], &mut values);
                let code = row[2] as u32;
                let header = FrameHeader { kind: FrameKind::Action, sequence: row[0], stamp_nanos: row[1], code };
                let length = encode(&header, &values, &mut bytes).unwrap_or(0);
                writer.write_all(&bytes[..length])
            }
            None => writer.flush(),
        });
        Self::Stream { frames, writer }
    }

    /// Sends one action, without waiting.
    pub fn send(&mut self, sequence: u64, stamp_nanos: u64, code: u32, action: &[f32]) {
        match self {
            Sink::None => {}
            Sink::Udp { socket, datagram, dropped } => {
                let header = FrameHeader { kind: FrameKind::Action, sequence, stamp_nanos, code };
                let sent = encode(&header, action, datagram).and_then(|length| socket.send(&datagram[..length]).ok());
                *dropped += u64::from(sent.is_none());
            }
            Sink::Stream { frames, .. } => {
                frames.push([sequence, stamp_nanos, u64::from(code)].into_iter().chain(pack(action)));
            }
        }
    }

    /// Whether writing has failed for good. Datagrams never do: their receiver may start later.
    pub fn is_broken(&self) -> bool {
        matches!(self, Sink::Stream { writer, .. } if writer.is_broken())
    }

    /// Waits until everything is written; returns how many actions were dropped.
    ///
    /// # Errors
    /// [`Error::File`] where writing failed.
    pub fn finish(self) -> Result<u64> {
        match self {
            Sink::None => Ok(0),
            Sink::Udp { dropped, .. } => Ok(dropped),
            Sink::Stream { frames, writer } => {
                let failed = |source| Error::file("write", Path::new("the actions"), source);
                writer.finish().map_err(failed)?;
                Ok(frames.dropped())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_that_find_no_room_are_counted() {
        let mut bytes = [0; frame_bytes(1)];
        let mut stream = Vec::new();
        for sequence in 0..STREAM_FRAMES as u64 + 50 {
            let header = FrameHeader { kind: FrameKind::Observation, sequence, stamp_nanos: 0, code: 0 };
            encode(&header, &[0.5], &mut bytes).unwrap();
            stream.extend(bytes);
        }
        let mut source = Source::stream(std::io::Cursor::new(stream), 1);
        let Source::Stream(Stream { end, .. }) = &source else { unreachable!() };
        while !end.ended.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let mut inbox = Inbox::new(1, Stamps::Arrival, 1000);
        assert!(!source.poll(1, &mut inbox), "what is there is taken, and there will be no more");
        assert_eq!((source.dropped(), inbox.arrivals().accepted), (50, STREAM_FRAMES as u64));
    }

    #[test]
    fn a_writer_that_nobody_reads_is_given_up() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                std::thread::sleep(Duration::from_secs(60));
                Ok(1)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut sink = Sink::stream(Stuck, 1);
        sink.send(0, 0, 0, &[0.5]);
        assert!(sink.finish().unwrap_err().to_string().contains("nobody takes"));
        // A slice of four bytes has no room for a frame.
        let room: &'static mut [u8] = Box::leak(Box::new([0; 4]));
        let mut full = Sink::stream(room, 1);
        full.send(0, 0, 0, &[0.5]);
        while !full.is_broken() {
            std::thread::yield_now();
        }
        assert!(full.finish().is_err());
    }
}

//! A bounded queue of rows of numbers between two threads. Neither side waits, locks or allocates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[derive(Debug)]
struct Shared {
    /// `[rows, row_words]`.
    words: Box<[AtomicU64]>,
    row_words: usize,
    rows: usize,
    /// Rows that were read, of all time.
    read: AtomicUsize,
    /// Rows that were written, of all time.
    written: AtomicUsize,
}

/// The side that writes.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    dropped: u64,
}

/// The side that reads.
#[derive(Debug)]
pub struct Consumer(Arc<Shared>);

/// A queue of at most `rows` rows of `row_words` words.
pub fn ring(rows: usize, row_words: usize) -> (Producer, Consumer) {
    let words = (0..rows * row_words).map(|_| AtomicU64::new(0)).collect();
    let (read, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let shared = Arc::new(Shared { words, row_words, rows, read, written });
    (Producer { shared: Arc::clone(&shared), dropped: 0 }, Consumer(shared))
}

impl Shared {
    fn row(&self, index: usize) -> &[AtomicU64] {
        let start = (index % self.rows) * self.row_words;
        &self.words[start..start + self.row_words]
    }
}

impl Producer {
    /// Appends a row; one that finds the queue full is dropped and counted. Missing words are zero, further ones are
    /// ignored. Returns whether it was appended.
    pub fn push(&mut self, row: impl Iterator<Item = u64>) -> bool {
        let written = self.shared.written.load(Ordering::Relaxed);
        if written.wrapping_sub(self.shared.read.load(Ordering::Acquire)) >= self.shared.rows {
            self.dropped += 1;
            return false;
        }
        let mut row = row.fuse();
        for slot in self.shared.row(written) {
            slot.store(row.next().unwrap_or(0), Ordering::Relaxed);
        }
        self.shared.written.store(written.wrapping_add(1), Ordering::Release);
        true
    }

    /// Rows that found the queue full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Consumer {
    /// Takes the oldest row; returns whether there was one.
    pub fn pop(&mut self, row: &mut [u64]) -> bool {
        let read = self.0.read.load(Ordering::Relaxed);
        if read == self.0.written.load(Ordering::Acquire) {
            return false;
        }
        for (word, slot) in row.iter_mut().zip(self.0.row(read)) {
            *word = slot.load(Ordering::Relaxed);
        }
        self.0.read.store(read.wrapping_add(1), Ordering::Release);
        true
    }

    /// Words in a row.
    pub fn row_words(&self) -> usize {
        self.0.row_words
    }
}

/// Two f32 values in each word, bit for bit; the last may be half empty.
pub fn pack(values: &[f32]) -> impl Iterator<Item = u64> + '_ {
    values.chunks(2).map(|pair| {
        let bits = |index: usize| u64::from(pair.get(index).map_or(0, |value| value.to_bits()));
        bits(0) | bits(1) << 32
    })
}

/// The reverse of [`pack`].
pub fn unpack(words: &[u64], values: &mut [f32]) {
    for (pair, word) in values.chunks_mut(2).zip(words) {
        for (value, bits) in pair.iter_mut().zip([*word as u32, (*word >> 32) as u32]) {
            *value = f32::from_bits(bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (mut producer, mut consumer) = ring(2, 2);
        assert!(producer.push([1, 2].into_iter()) && producer.push([3].into_iter()));
        assert!(!producer.push([5, 6].into_iter()) && producer.dropped() == 1);
        let mut row = [0; 2];
        assert!(consumer.pop(&mut row) && row == [1, 2]);
        assert!(producer.push([7, 8, 9].into_iter()));
        assert!(consumer.pop(&mut row) && row == [3, 0]);
        assert!(consumer.pop(&mut row) && row == [7, 8]);
        assert!(!consumer.pop(&mut row));
    }

    #[test]
    fn rows_arrive_whole_and_in_order_from_another_thread() {
        const ROWS: u64 = 5_000;
        let (mut producer, mut consumer) = ring(8, 3);
        let writer = std::thread::spawn(move || {
            let mut next = 0;
            while next < ROWS {
                if producer.push([next, next * 3, !next].into_iter()) {
                    next += 1;
                } else {
                    std::thread::yield_now();
                }
            }
        });
        let (mut row, mut next) = ([0; 3], 0);
        while next < ROWS {
            if consumer.pop(&mut row) {
                assert_eq!(row, [next, next * 3, !next]);
                next += 1;
            } else {
                std::thread::yield_now();
            }
        }
        writer.join().unwrap();
    }

    #[test]
    fn values_survive_packing() {
        let values = [1.5, -0.0, f32::INFINITY];
        let words: Vec<u64> = pack(&values).collect();
        let mut back = [9.0; 3];
        unpack(&words, &mut back);
        assert_eq!(back.map(f32::to_bits), values.map(f32::to_bits));
    }
}

//! Book-keeping of a fixed-rate loop. Time is an argument; nothing here reads a clock. Allocation: none. Panics: never.

use core::num::NonZeroU64;

/// Releases and deadlines of a loop with a constant period.
///
/// Tick `k` is released at `start + k · period` and must be complete when the next one is released. A tick that
/// completes late counts as late; releases that passed meanwhile are skipped, since running them in a burst would feed
/// the actuators several actions for one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedRate {
    period_nanos: NonZeroU64,
    release_nanos: u64,
    completed_ticks: u64,
    late_ticks: u64,
    skipped_ticks: u64,
}

impl FixedRate {
    /// A loop whose first tick is released at `start_nanos`.
    pub fn new(period_nanos: NonZeroU64, start_nanos: u64) -> Self {
        Self { period_nanos, release_nanos: start_nanos, completed_ticks: 0, late_ticks: 0, skipped_ticks: 0 }
    }

    /// When the next tick is released: sleep until then.
    pub fn release_nanos(&self) -> u64 {
        self.release_nanos
    }

    /// Records that the tick released at [`Self::release_nanos`] is complete; returns whether it met its deadline.
    pub fn complete(&mut self, now_nanos: u64) -> bool {
        let period = self.period_nanos.get();
        let elapsed = now_nanos.saturating_sub(self.release_nanos);
        self.completed_ticks += 1;
        let in_time = elapsed <= period;
        let mut passed = 0;
        if !in_time {
            let (skipped, rest) = whole_periods(elapsed - 1, period);
            self.late_ticks += 1;
            self.skipped_ticks += skipped;
            passed = elapsed - 1 - rest;
        }
        self.release_nanos = self.release_nanos.saturating_add(passed).saturating_add(period);
        in_time
    }

    /// Ticks that ran.
    pub fn completed_ticks(&self) -> u64 {
        self.completed_ticks
    }

    /// Deadlines without an action: ticks that completed late and releases that were skipped because of them.
    pub fn missed_deadlines(&self) -> u64 {
        self.late_ticks + self.skipped_ticks
    }
}

/// Quotient and rest of `nanos / period`, bit by bit: a division of 64 bits takes a kilobyte of a microcontroller's flash, and
/// this is rare.
fn whole_periods(nanos: u64, period: u64) -> (u64, u64) {
    let (mut part, mut count) = (period, 1_u64);
    while part <= nanos >> 1 {
        (part, count) = (part << 1, count << 1);
    }
    let (mut whole, mut rest) = (0, nanos);
    while count > 0 {
        if rest >= part {
            (whole, rest) = (whole + count, rest - part);
        }
        (part, count) = (part >> 1, count >> 1);
    }
    (whole, rest)
}

/// Mean, deviation and extremes of durations, without keeping them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    count: u64,
    mean_nanos: f64,
    squares: f64,
    max_nanos: u64,
}

impl Spread {
    /// Adds one duration (Welford's update).
    pub fn add(&mut self, nanos: u64) {
        self.count += 1;
        let difference = nanos as f64 - self.mean_nanos;
        self.mean_nanos += difference / self.count as f64;
        self.squares += difference * (nanos as f64 - self.mean_nanos);
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 without any.
    pub fn mean_nanos(&self) -> f64 {
        self.mean_nanos
    }

    /// Their standard deviation; 0 without any.
    pub fn deviation_nanos(&self) -> f64 {
        if self.count == 0 { 0.0 } else { libm::sqrt(self.squares / self.count as f64) }
    }

    /// The longest; 0 without any.
    pub fn max_nanos(&self) -> u64 {
        self.max_nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loop_from(start_nanos: u64) -> FixedRate {
        FixedRate::new(NonZeroU64::new(100).unwrap(), start_nanos)
    }

    #[test]
    fn ticks_in_time_keep_the_grid() {
        let mut rate = loop_from(1000);
        assert!(rate.complete(1040));
        assert_eq!(rate.release_nanos(), 1100);
        assert!(rate.complete(1200), "complete exactly at the deadline is in time");
        assert_eq!((rate.release_nanos(), rate.completed_ticks(), rate.missed_deadlines()), (1200, 2, 0));
    }

    #[test]
    fn an_overrun_is_counted_and_skips_to_the_grid() {
        let mut rate = loop_from(0);
        assert!(!rate.complete(350));
        assert_eq!(rate.release_nanos(), 400);
        assert_eq!((rate.completed_ticks(), rate.missed_deadlines()), (1, 4));
        assert!(rate.complete(450));
        assert_eq!(rate.missed_deadlines(), 4);
    }

    #[test]
    fn whole_periods_are_those_of_a_division() {
        let numbers = [1, 2, 3, 7, 100, 8_000_000, u64::from(u32::MAX), 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
        for (nanos, period) in numbers.iter().flat_map(|nanos| numbers.map(|period| (*nanos, period))) {
            assert_eq!(whole_periods(nanos, period), (nanos / period, nanos % period), "{nanos} / {period}");
        }
        assert_eq!(whole_periods(0, 5), (0, 0));
    }

    #[test]
    fn every_deadline_is_either_met_or_missed() {
        let mut rate = loop_from(0);
        let mut now = 0;
        for tick in 0..1000_u64 {
            now = now.max(rate.release_nanos()) + (tick * 37) % 260;
            rate.complete(now);
        }
        let met = rate.completed_ticks() - rate.late_ticks;
        assert_eq!(met + rate.missed_deadlines(), rate.release_nanos() / 100);
    }

    #[test]
    fn spread_is_mean_and_deviation() {
        let mut spread = Spread::default();
        [2_000_000_000, 2_000_000_004, 2_000_000_004, 2_000_000_006].into_iter().for_each(|nanos| spread.add(nanos));
        assert_eq!((spread.count(), spread.max_nanos()), (4, 2_000_000_006));
        assert!((spread.mean_nanos() - 2_000_000_003.5).abs() < 1e-6);
        assert!((spread.deviation_nanos() - 4.75_f64.sqrt()).abs() < 1e-6);
    }
}

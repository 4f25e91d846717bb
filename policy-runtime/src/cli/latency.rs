//! Latency histograms with fixed memory, and their summary.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::error::{Error, Result};

/// Longest duration that is told apart: one minute.
const LONGEST_NANOS: u64 = 60_000_000_000;
/// Significant decimal digits that are kept.
const DIGITS: u8 = 3;

/// Limit of the first bucket.
const FIRST_BUCKET_NANOS: u64 = 500;
/// Characters of the longest bar.
const WIDEST_BAR: u64 = 50;

/// Durations up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Bucket {
    pub up_to_nanos: u64,
    pub count: u64,
}

/// Durations of one kind. Recording allocates nothing.
#[derive(Debug)]
pub(super) struct Latency(Histogram<u64>);

/// The usual quantiles, nanoseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Summary {
    pub count: u64,
    pub mean_nanos: f64,
    pub p50_nanos: u64,
    pub p99_nanos: u64,
    pub p999_nanos: u64,
    pub max_nanos: u64,
}

impl Latency {
    pub(super) fn new() -> Result<Self> {
        Histogram::new_with_bounds(1, LONGEST_NANOS, DIGITS)
            .map(Self)
            .map_err(|error| Error::malformed("latency histogram", "valid bounds", error))
    }

    pub(super) fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.max(1));
    }

    /// Counts of durations up to doubling limits, from the first to the last that has any.
    pub(super) fn buckets(&self) -> Vec<Bucket> {
        let mut counted = 0;
        let steps = self.0.iter_log(FIRST_BUCKET_NANOS, 2.0);
        let all = steps
            .map(|step| Bucket { up_to_nanos: step.value_iterated_to(), count: step.count_since_last_iteration() });
        all.skip_while(|bucket| bucket.count == 0)
            .take_while(|bucket| {
                let more = counted < self.0.len();
                counted += bucket.count;
                more
            })
            .collect()
    }

    /// [`Self::buckets`] as bars, one line each.
    pub(super) fn bars(&self) -> String {
        let buckets = self.buckets();
        let most = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1).max(1);
        let bar = |Bucket { up_to_nanos, count }: &Bucket| {
            let length = (count * WIDEST_BAR).div_ceil(most) as usize;
            format!("  <= {:>12.2} us {count:>9} {}\n", *up_to_nanos as f64 / 1e3, "#".repeat(length))
        };
        buckets.iter().map(bar).collect()
    }

    pub(super) fn summary(&self) -> Summary {
        let at = |quantile: f64| self.0.value_at_quantile(quantile);
        Summary {
            count: self.0.len(),
            mean_nanos: self.0.mean(),
            p50_nanos: at(0.5),
            p99_nanos: at(0.99),
            p999_nanos: at(0.999),
            max_nanos: self.0.max(),
        }
    }
}

/// Head of a table of [`Summary::row`]s.
pub(super) fn head() -> String {
    format!("{:<16} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "microseconds", "count", "p50", "p99", "p99.9", "max")
}

impl Summary {
    pub(super) fn row(&self, name: &str) -> String {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        format!(
            "{name:<16} {:>10} {:>10.2} {:>10.2} {:>10.2} {:>10.2}\n",
            self.count,
            micros(self.p50_nanos),
            micros(self.p99_nanos),
            micros(self.p999_nanos),
            micros(self.max_nanos)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_a_known_ramp() {
        let mut latency = Latency::new().unwrap();
        (1..=1000).for_each(|step| latency.record(step * 1000));
        latency.record(u64::MAX);
        let summary = latency.summary();
        let near = |found: u64, wanted: f64| assert!((found as f64 - wanted).abs() < 0.003 * wanted, "{summary:?}");
        near(summary.p50_nanos, 501e3);
        near(summary.p99_nanos, 991e3);
        near(summary.max_nanos, LONGEST_NANOS as f64);
        assert_eq!(summary.count, 1001);
        let buckets = latency.buckets();
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 1001);
        assert!(buckets.windows(2).all(|pair| pair[0].up_to_nanos < pair[1].up_to_nanos));
        assert_eq!(latency.bars().lines().count(), buckets.len());
    }
}

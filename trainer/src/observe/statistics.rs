//! Statistics over seeds.

use crate::run::rng::Streams;

/// Resamples of a bootstrap interval.
pub const BOOTSTRAP_RESAMPLES: usize = 2000;

/// Interquartile mean: a quarter of the values, rounded down, is dropped at each end (scipy's `trim_mean(x, 0.25)`), the
/// rest is averaged. Of 10 values 2 low and 2 high ones go; a single value is itself. NaN without values.
pub fn interquartile_mean(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    let kept = &sorted[cut..sorted.len() - cut];
    kept.iter().sum::<f64>() / kept.len() as f64
}

/// Fewer values than these have no bootstrap interval of their own: with three, all resamples are the least value in one of
/// 27 cases, more than the 2.5 % that the interval cuts off, so that it would be their range whatever they are.
pub const LEAST_FOR_INTERVAL: usize = 4;

/// 95 % percentile bootstrap interval of the interquartile mean, resampling `values` with replacement; the values' range where
/// they are fewer than [`LEAST_FOR_INTERVAL`]. The random numbers depend on `stream_name` alone. None for fewer than two values.
pub fn bootstrap_interval(values: &[f64], stream_name: &str) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    if values.len() < LEAST_FOR_INTERVAL {
        let range = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        return Some(range);
    }
    let mut stream = Streams::new(0).stream(stream_name);
    let mut resample = vec![0.0; values.len()];
    let mut means: Vec<f64> = (0..BOOTSTRAP_RESAMPLES)
        .map(|_| {
            resample.fill_with(|| values[stream.index(values.len())]);
            interquartile_mean(&resample)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some((quantile(&means, 0.025), quantile(&means, 0.975)))
}

/// Linear interpolation between the order statistics of `sorted`, which is not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hand values; scipy.stats.trim_mean gives the same.
    #[test]
    fn the_middle_half_is_averaged() {
        let ten = [100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -50.0, 8.0];
        assert_eq!(interquartile_mean(&ten), (2.0 + 3.0 + 4.0 + 5.0 + 6.0 + 7.0) / 6.0);
        assert_eq!(interquartile_mean(&[7.5]), 7.5);
        assert_eq!(interquartile_mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(interquartile_mean(&[9.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(interquartile_mean(&[9.0, 1.0, 2.0, 4.0, 6.0]), 4.0);
        assert!(interquartile_mean(&[]).is_nan());
    }

    #[test]
    fn intervals_are_the_same_each_time_and_hold_the_mean() {
        let values = [1.0, 2.13, 3.37, 4.41, 5.59, 6.71, 7.83, 8.0];
        let (low, high) = bootstrap_interval(&values, "plot/hype/0").unwrap();
        assert_eq!(bootstrap_interval(&values, "plot/hype/0"), Some((low, high)));
        assert_ne!(bootstrap_interval(&values, "plot/hype/1"), Some((low, high)));
        let mean = interquartile_mean(&values);
        assert!(1.0 <= low && low < mean && mean < high && high <= 8.0, "{low} {high}");
        assert_eq!(bootstrap_interval(&[3.0; 5], "x"), Some((3.0, 3.0)));
        assert_eq!(bootstrap_interval(&[3.0], "x"), None);
    }

    #[test]
    fn the_interval_of_two_or_three_values_is_their_range() {
        assert_eq!(bootstrap_interval(&[0.0, 1.0], "two"), Some((0.0, 1.0)));
        assert_eq!(bootstrap_interval(&[5.0, -1.0, 1.0], "three"), Some((-1.0, 5.0)));
        assert_eq!(quantile(&[0.0, 10.0, 20.0], 0.25), 5.0);
    }
}

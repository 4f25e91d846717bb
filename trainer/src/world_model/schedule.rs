//! What changes with time: the model's learning rate, and how far ahead is imagined.

use crate::config::{Lengths, ModelRate, WorldModelConfig};
use std::f64::consts::PI;

/// The learning rate after `batches` batches of all fits together. The published code's cosine is PyTorch's, which rises again
/// after its last batch (hyper.md 5); the held one stays at its least.
pub fn learning_rate(config: &WorldModelConfig, batches: u64) -> f64 {
    let (most, least) = (config.learning_rate, config.least_learning_rate);
    let progress = batches as f64 / config.rate_batches as f64;
    let cosine = |progress: f64| least + (most - least) * 0.5 * (1.0 + (PI * progress).cos());
    match config.learning_rate_schedule {
        ModelRate::Constant => most,
        ModelRate::Cosine => cosine(progress.min(1.0)),
        ModelRate::PeriodicCosine => cosine(progress),
    }
}

/// Steps that a rollout takes in `epoch` (from 1): `l0` until epoch `e0`, then linear to `l1` at `e1`, rounded down (mbrl-lib,
/// `truncated_linear`).
pub fn rollout_length(lengths: Lengths, epoch: u64) -> u64 {
    let Lengths(from, until, least, most) = lengths;
    if epoch <= from {
        return least;
    }
    let progress = ((epoch - from) as f64 / (until - from) as f64).min(1.0);
    (least as f64 + progress * (most as f64 - least as f64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollouts_lengthen_as_published() {
        let found: Vec<u64> =
            [1, 20, 24, 40, 60, 80, 100, 500].map(|epoch| rollout_length(Lengths(20, 100, 1, 25), epoch)).into();
        assert_eq!(found, [1, 1, 2, 7, 13, 19, 25, 25]);
        assert_eq!(rollout_length(Lengths(20, 300, 1, 25), 300), 25);
    }

    #[test]
    fn the_cosine_ends_at_its_least_and_only_the_published_one_rises_again() {
        let config = |schedule| WorldModelConfig { learning_rate_schedule: schedule, ..WorldModelConfig::example() };
        let (held, periodic) = (config(ModelRate::Cosine), config(ModelRate::PeriodicCosine));
        for schedule in [&held, &periodic] {
            assert!((learning_rate(schedule, 0) - 3e-4).abs() < 1e-12);
            assert!((learning_rate(schedule, 15_000) - 1.500_005e-4).abs() < 1e-9);
            assert!((learning_rate(schedule, 30_000) - 1e-9).abs() < 1e-15);
        }
        assert!((learning_rate(&held, 60_000) - 1e-9).abs() < 1e-15);
        assert!((learning_rate(&periodic, 60_000) - 3e-4).abs() < 1e-12);
        assert_eq!(learning_rate(&config(ModelRate::Constant), 12_345), 3e-4);
    }
}

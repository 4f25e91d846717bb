//! Hybrid batches: a scheduled share of expert rows, the rest from the learner's own experience.

use super::{ReplayBuffer, Rows};
use crate::config::Stage;
use crate::run::rng::Stream;

/// Share ρ of expert rows after `batches` sampled batches: linear within each stage from where the stage before ended
/// (garage `sampling_schedule`). No stages: no expert rows.
pub fn expert_ratio(stages: &[Stage], batches: u64) -> f64 {
    let mut entered = 0;
    let mut ratio = 0.0;
    for Stage(start, end, until) in stages.iter().copied() {
        let progress = (batches - entered) as f64 / (until - entered) as f64;
        ratio = start - progress.min(1.0) * (start - end);
        if batches < until {
            break;
        }
        entered = until;
    }
    ratio
}

/// Rows from expert and learner for a batch of `size` at share `ratio`: `⌊ρ·size⌋` and `⌊(1-ρ)·size⌋`, which may leave
/// one row out (51 + 204 at ρ = 0.2 of 256, as the published code has it).
pub fn split(size: usize, ratio: f64) -> (usize, usize) {
    ((size as f64 * ratio).floor() as usize, (size as f64 * (1.0 - ratio)).floor() as usize)
}

/// Draws one hybrid batch behind `rows`, expert rows first; returns its size.
pub fn sample_into(
    expert: &ReplayBuffer,
    learner: &ReplayBuffer,
    stages: &[Stage],
    batches: u64,
    size: usize,
    rng: &mut Stream,
    rows: &mut Rows,
) -> usize {
    let before = rows.len();
    let (from_expert, from_learner) =
        if expert.is_empty() || stages.is_empty() { (0, size) } else { split(size, expert_ratio(stages, batches)) };
    expert.sample_into(from_expert, rng, rows);
    rows.ages[before..].fill(None);
    learner.sample_into(from_learner, rng, rows);
    rows.len() - before
}

#[cfg(test)]
mod tests {
    use super::super::Transition;
    use super::*;
    use crate::nn::Cpu;
    use crate::reward::{Origin, Reward};
    use crate::run::rng::Streams;

    /// Rows whose observation is `mark`.
    fn marked(mark: f32) -> ReplayBuffer {
        let mut buffer = ReplayBuffer::new(8, 1, 1);
        for _ in 0..8 {
            let (observation, next_observation) = (&[mark], &[mark]);
            let (action_unit, task_reward) = (&[0.0], f32::NAN);
            buffer.push(Transition { observation, action_unit, task_reward, next_observation, terminated: false });
        }
        buffer
    }

    #[test]
    fn the_experts_rows_stand_first_and_fixed_rewards_know_them() {
        let (expert, learner) = (marked(1.0), marked(-1.0));
        let mut rng = Streams::new(0).stream("test");
        let mut rows = Rows::default();
        learner.sample_into(2, &mut rng, &mut rows);
        let mut draw = |stages: &[Stage]| sample_into(&expert, &learner, stages, 0, 256, &mut rng, &mut rows);
        assert_eq!((draw(&[Stage(0.2, 0.2, 10)]), draw(&[])), (255, 256));
        let marks = [(-1.0, 2), (1.0, 51), (-1.0, 204 + 256)].map(|(mark, count)| vec![mark; count]).concat();
        assert_eq!(rows.observations, marks);
        let known: Vec<bool> = rows.ages.iter().map(Option::is_none).collect();
        assert_eq!(known, marks.iter().map(|mark| *mark == 1.0).collect::<Vec<_>>());
        Reward::<Cpu>::ByOrigin(Origin::SQIL).mark(&mut rows);
        assert_eq!(rows.task_rewards, marks.iter().map(|mark| mark.max(0.0)).collect::<Vec<_>>());
        Reward::<Cpu>::ByOrigin(Origin::adril(4, 0)).mark(&mut rows);
        assert_eq!(rows.task_rewards, marks.iter().map(|mark| mark.max(-0.25)).collect::<Vec<_>>());
    }

    #[test]
    fn the_hopper_schedule_has_the_published_values() {
        let hopper = [Stage(0.2, 0.1, 200_000), Stage(0.1, 0.01, 1_000_000)];
        for (batches, expected) in
            [(0, 0.2), (100_000, 0.15), (200_000, 0.1), (600_000, 0.055), (1_000_000, 0.01), (2_000_000, 0.01)]
        {
            assert!((expert_ratio(&hopper, batches) - expected).abs() < 1e-12, "ρ({batches})");
        }
        assert_eq!(expert_ratio(&[], 5), 0.0);
    }

    #[test]
    fn the_split_is_the_published_one() {
        assert_eq!(split(256, 0.2), (51, 204));
        assert_eq!(split(256, 0.5), (128, 128));
        assert_eq!(split(256, 0.0), (0, 256));
    }
}

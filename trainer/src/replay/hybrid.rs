//! Hybrid batches: expert rows beside the learner's own experience.

use super::{ReplayBuffer, Rows};
use crate::config::Stage;
use crate::run::rng::Stream;

/// How expert rows come into a batch.
#[derive(Debug, Clone, Copy)]
pub enum Mix<'a> {
    /// Their share follows stages; none: no expert rows.
    Scheduled(&'a [Stage]),
    /// They lie among the learner's rows and are drawn as often as any of those: fewer and fewer as it plays.
    Pooled,
}

impl Mix<'_> {
    /// Whether there can be expert rows.
    pub fn has_expert(self) -> bool {
        !matches!(self, Self::Scheduled([]))
    }

    /// The expected share of expert rows after `batches` sampled batches, where so many rows of both are stored.
    pub fn expert_ratio(self, batches: u64, expert_rows: usize, learner_rows: usize) -> f64 {
        match self {
            Self::Scheduled(stages) => expert_ratio(stages, batches),
            Self::Pooled => expert_rows as f64 / (expert_rows + learner_rows).max(1) as f64,
        }
    }

    /// Rows from expert and learner for a batch of `size`.
    fn deal(self, batches: u64, size: usize, rows: (usize, usize), rng: &mut Stream) -> (usize, usize) {
        match (self, rows) {
            (_, (0, _)) | (Self::Scheduled([]), _) => (0, size),
            (Self::Scheduled(stages), _) => split(size, expert_ratio(stages, batches)),
            (Self::Pooled, (expert, learner)) => {
                let from_expert = (0..size).filter(|_| rng.index(expert + learner) < expert).count();
                (from_expert, size - from_expert)
            }
        }
    }
}

/// Share ρ of expert rows after `batches` sampled batches: linear within each stage from where the stage before ended
/// (garage `sampling_schedule`). No stages: no expert rows.
fn expert_ratio(stages: &[Stage], batches: u64) -> f64 {
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
    mix: Mix<'_>,
    batches: u64,
    size: usize,
    rng: &mut Stream,
    rows: &mut Rows,
) -> usize {
    let before = rows.len();
    let (from_expert, from_learner) = mix.deal(batches, size, (expert.len(), learner.len()), rng);
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

    /// Eight rows whose observation is `mark`.
    fn marked(mark: f32) -> ReplayBuffer {
        rows_of(mark, 8)
    }

    fn rows_of(mark: f32, count: usize) -> ReplayBuffer {
        let mut buffer = ReplayBuffer::new(count, 1, 1);
        for _ in 0..count {
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
        let mut draw =
            |stages: &[Stage]| sample_into(&expert, &learner, Mix::Scheduled(stages), 0, 256, &mut rng, &mut rows);
        assert_eq!((draw(&[Stage(0.2, 0.2, 10)]), draw(&[])), (255, 256));
        let marks = [(-1.0, 2), (1.0, 51), (-1.0, 204 + 256)].map(|(mark, count)| vec![mark; count]).concat();
        assert_eq!(rows.observations, marks);
        let known: Vec<bool> = rows.ages.iter().map(Option::is_none).collect();
        assert_eq!(known, marks.iter().map(|mark| *mark == 1.0).collect::<Vec<_>>());
        Reward::<Cpu>::ByOrigin(&[Origin::SQIL]).mark(0, &mut rows);
        assert_eq!(rows.task_rewards, marks.iter().map(|mark| mark.max(0.0)).collect::<Vec<_>>());
        Reward::<Cpu>::ByOrigin(&[Origin::adril(1, 4, 0)]).mark(0, &mut rows);
        assert_eq!(rows.task_rewards, marks.iter().map(|mark| mark.max(-0.25)).collect::<Vec<_>>());
    }

    /// A twentieth of the pool is the expert's, and so of what is drawn: 1,000 of 20,000 rows, give or take 31.
    #[test]
    fn pooled_rows_are_drawn_as_often_as_any() {
        let (expert, learner) = (rows_of(1.0, 5), rows_of(-1.0, 95));
        let mut rng = Streams::new(0).stream("test");
        let mut rows = Rows::default();
        let drawn = sample_into(&expert, &learner, Mix::Pooled, 0, 20_000, &mut rng, &mut rows);
        let of_expert = rows.ages.iter().filter(|age| age.is_none()).count();
        assert_eq!((drawn, rows.observations.iter().filter(|mark| **mark == 1.0).count()), (20_000, of_expert));
        assert!((875..=1_125).contains(&of_expert), "{of_expert}");
        assert_eq!(Mix::Pooled.expert_ratio(7, expert.len(), learner.len()), 0.05);
        assert_eq!(sample_into(&ReplayBuffer::new(1, 1, 1), &learner, Mix::Pooled, 0, 9, &mut rng, &mut rows), 9);
        assert!(rows.ages[20_000..].iter().all(Option::is_some), "nobody demonstrated anything");
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

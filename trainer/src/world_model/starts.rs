//! Where imagination starts: states of the learner, or of the expert, all of them or those of a sliding window.

use crate::config::ResetConfig;
use crate::methods::demonstrated::Demonstrated;
use crate::replay::ReplayBuffer;
use crate::run::rng::Stream;
use std::ops::Range;

/// Width of the published code's window, as a share of the demonstrations' length.
const WINDOW: f64 = 0.1;

/// Steps of a demonstration of `length` steps that are start states after a share `progress` of the run: a window of share
/// `width` that slides from the end to the beginning (jren03/garage).
pub fn sliding_window(progress: f64, length: usize, width: f64) -> Range<usize> {
    let left = (1.0 - progress).clamp(0.0, 1.0);
    let at = |share: f64| (share * length as f64 + 1e-9) as usize;
    let low = at(left).min(length - 1);
    low..at(left + width).clamp(low + 1, length)
}

/// The step of an episode of `length` steps that stands at `column` when the episode is stretched to `longest` columns by
/// repeating its steps, the first ones once more where it does not come out even.
pub fn stretched(length: usize, longest: usize, column: usize) -> usize {
    let (times, rest) = (longest / length, longest % length);
    let of_first = rest * (times + 1);
    if column < of_first { column / (times + 1) } else { rest + (column - of_first) / times }
}

/// Where the start states of a phase come from.
#[derive(Debug)]
pub struct Starts<'a> {
    /// Demonstrated rows and their episodes.
    pub expert: &'a Demonstrated,
    /// The learner's real steps.
    pub policy: &'a ReplayBuffer,
    /// How often which.
    pub reset: &'a ResetConfig,
    /// Share of the learning that is over, exploration aside.
    pub progress: f64,
}

/// Start states, and whose they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// `[count, observation]`.
    pub observations: Vec<f32>,
    /// Whether they are the expert's.
    pub from_expert: bool,
}

impl Starts<'_> {
    /// Draws `count` start states. One coin decides for all of them whose they are, as published.
    pub fn draw(&self, count: usize, rng: &mut Stream) -> Started {
        let wants_expert = rng.unit() < self.reset.probability;
        let from_expert = !self.expert.rows.is_empty() && (wants_expert || self.policy.is_empty());
        let rows = if from_expert { &self.expert.rows } else { self.policy };
        let mut observations = Vec::new();
        for _ in 0..if rows.is_empty() { 0 } else { count } {
            let row = if from_expert { self.expert_row(rng) } else { rng.index(rows.len()) };
            observations.extend_from_slice(rows.row(row).observation);
        }
        Started { observations, from_expert }
    }

    fn expert_row(&self, rng: &mut Stream) -> usize {
        if self.reset.schedule.is_uniform() {
            return rng.index(self.expert.rows.len());
        }
        let episodes = &self.expert.segments;
        let longest = episodes.iter().map(Range::len).max().unwrap_or(1);
        let window = sliding_window(self.progress, longest, self.reset.window.unwrap_or(WINDOW));
        let episode = &episodes[rng.index(episodes.len())];
        let column = window.start + rng.index(window.len());
        episode.start + stretched(episode.len(), longest, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ResetSchedule;
    use crate::replay::Transition;
    use crate::reward::discriminator::Pairs;
    use crate::run::rng::Streams;

    #[test]
    fn the_window_slides_as_published() {
        let at = |step: f64| sliding_window(step / 150_000.0, 1000, 0.1);
        assert_eq!(at(30_000.0), 800..900);
        assert_eq!(at(1_999.0), 986..1000);
        assert_eq!(at(0.0), 999..1000);
        assert_eq!(at(149_999.0), 0..100);
        assert_eq!(at(300_000.0), 0..100);
        assert_eq!(sliding_window(0.5, 3, 0.0), 1..2, "never empty");
    }

    #[test]
    fn short_episodes_are_stretched_by_repeating_their_steps() {
        let columns: Vec<usize> = (0..8).map(|column| stretched(3, 8, column)).collect();
        assert_eq!(columns, [0, 0, 0, 1, 1, 1, 2, 2]);
        assert_eq!((0..5).map(|column| stretched(5, 5, column)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    fn rows(values: impl Iterator<Item = f32>) -> ReplayBuffer {
        let mut rows = ReplayBuffer::new(1000, 1, 1);
        values.for_each(|value| {
            rows.push(Transition {
                observation: &[value],
                action_unit: &[0.0],
                task_reward: f32::NAN,
                next_observation: &[value],
                terminated: false,
            });
        });
        rows
    }

    #[test]
    fn a_coin_chooses_between_expert_and_learner() {
        let mut expert = Demonstrated::of_rows(rows((0..300).map(|i| i as f32)), Pairs::new(2), Pairs::new(1));
        expert.segments = vec![0..100, 100..300];
        let policy = rows((0..50).map(|i| -1.0 - i as f32));
        let mut reset = ResetConfig { probability: 0.25, schedule: ResetSchedule::Uniform, window: None };
        let mut rng = Streams::new(1).stream("test");
        let mut draw = |reset: &ResetConfig, policy: &ReplayBuffer, progress| {
            Starts { expert: &expert, policy, reset, progress }.draw(20, &mut rng)
        };
        let mut of_expert = 0;
        for _ in 0..1000 {
            let started = draw(&reset, &policy, 0.0);
            assert!(started.observations.len() == 20);
            assert!(started.observations.iter().all(|x| (*x >= 0.0) == started.from_expert), "never mixed");
            of_expert += usize::from(started.from_expert);
        }
        assert!((200..300).contains(&of_expert), "{of_expert} of 1000");
        assert!(draw(&reset, &rows(std::iter::empty()), 0.0).from_expert, "a learner without states has none to offer");
        reset = ResetConfig { probability: 1.0, schedule: ResetSchedule::SlidingWindow, window: Some(0.2) };
        let started = draw(&reset, &policy, 0.5);
        // The window is steps 100..140 of the episode of 200, and 50..70 of that of 100, whose steps count twice.
        assert!(started.observations.iter().all(|x| (50.0..70.0).contains(x) || (200.0..240.0).contains(x)));
    }
}

//! What a world model is fitted to: demonstrations and real steps, as inputs and the changes that followed.

use super::{ReplayBuffer, Transition, put};
use crate::run::rng::Stream;
use serde::{Deserialize, Serialize};

/// The published code's `hybrid_buffer`. Rows are `[s; a]` and `[s' - s]`, with the reward behind it where that is learned too.
///
/// The first rows are the demonstrations. Every real step adds itself and one random demonstrated step. Where the demonstrations
/// are pinned, what is added goes round in a ring of its own behind them; else all goes round in one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelData {
    room: Room,
    pinned: usize,
    next: usize,
    offered: Offered,
    /// The number that the learner's next step gets; demonstrated ones are numbered before them.
    next_origin: u32,
    with_reward: bool,
    widths: (usize, usize),
    inputs: Vec<f32>,
    targets: Vec<f32>,
    origins: Vec<u32>,
}

/// Rows that were to be stored, kept or not, by where they come from: a share is kept of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Offered {
    demonstrated: u64,
    real: u64,
    accompanying: u64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Room {
    /// Rows of the ring.
    pub capacity: usize,
    /// Whether demonstrations stay beside it.
    pub pinned: bool,
    /// Share of the rows that are kept, evenly spread over the demonstrations, the real steps and those that accompany them; 1: all.
    pub share: f64,
}

impl ModelData {
    /// The rows of `demonstrations` (none where that is empty) and `room` for more, of which they take their part unless they
    /// are pinned. `widths` are those of observation and action.
    pub fn new(demonstrations: &ReplayBuffer, widths: (usize, usize), room: Room, with_reward: bool) -> Self {
        // Pinned demonstrations take no part of the ring, however many they are.
        let filled = if room.pinned { Room { capacity: demonstrations.len().max(1), ..room } } else { room };
        let mut data = Self {
            room: filled,
            pinned: 0,
            next: 0,
            offered: Offered::default(),
            next_origin: demonstrations.len() as u32,
            with_reward,
            widths,
            inputs: Vec::new(),
            targets: Vec::new(),
            origins: Vec::new(),
        };
        (0..demonstrations.len())
            .for_each(|row| data.push(demonstrations.row(row), row as u32, |offered| &mut offered.demonstrated));
        if room.pinned {
            data.pinned = data.len();
            data.next = 0;
        }
        data.room = room;
        data
    }

    /// Width of an input: observation and action.
    pub fn input_width(&self) -> usize {
        self.widths.0 + self.widths.1
    }

    /// Width of a target: observation, and reward where that is learned.
    pub fn target_width(&self) -> usize {
        self.widths.0 + usize::from(self.with_reward)
    }

    /// Rows stored.
    pub fn len(&self) -> usize {
        self.inputs.len() / self.input_width()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// All inputs, `[rows, input_width]`.
    pub fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    /// All targets, `[rows, target_width]`.
    pub fn targets(&self) -> &[f32] {
        &self.targets
    }

    /// For each row the number of the step that it is a copy of.
    pub fn origins(&self) -> &[u32] {
        &self.origins
    }

    /// Whether the step that has the number `origin` is the learner's.
    pub fn is_learners(&self, origin: u32) -> bool {
        u64::from(origin) >= self.offered.demonstrated
    }

    /// Width of an observation.
    pub fn observation_width(&self) -> usize {
        self.widths.0
    }

    /// Stores a real step and, where there are any, a random one of `demonstrations`.
    pub fn push_real(&mut self, step: Transition<'_>, demonstrations: &ReplayBuffer, rng: &mut Stream) {
        self.push(step, self.next_origin, |offered| &mut offered.real);
        self.next_origin += 1;
        if !demonstrations.is_empty() {
            let row = rng.index(demonstrations.len());
            self.push(demonstrations.row(row), row as u32, |offered| &mut offered.accompanying);
        }
    }

    fn push(&mut self, step: Transition<'_>, origin: u32, kind: fn(&mut Offered) -> &mut u64) {
        let whole = |offered: u64| (offered as f64 * self.room.share) as u64;
        let offered = kind(&mut self.offered);
        *offered += 1;
        if whole(*offered) == whole(*offered - 1) {
            return;
        }
        // Where a file does not say what a last step led to, its own observation stands in, which no world would have done.
        if step.terminated && step.next_observation == step.observation {
            return;
        }
        let row = self.pinned + self.next;
        let input = [step.observation, step.action_unit].concat();
        let mut target: Vec<f32> =
            step.next_observation.iter().zip(step.observation).map(|(next, now)| next - now).collect();
        if self.with_reward {
            target.push(step.task_reward);
        }
        put(&mut self.inputs, row, &input);
        put(&mut self.targets, row, &target);
        put(&mut self.origins, row, &[origin]);
        self.next = (self.next + 1) % self.room.capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::rng::Streams;
    use std::collections::HashSet;

    fn step(value: &f32) -> Transition<'_> {
        let observation = std::slice::from_ref(value);
        Transition {
            observation,
            action_unit: &[0.5],
            task_reward: 10.0 + value,
            next_observation: &[1.0],
            terminated: false,
        }
    }

    fn demonstrations() -> ReplayBuffer {
        let mut rows = ReplayBuffer::new(3, 1, 1);
        [100.0, 101.0, 102.0].iter().for_each(|value| rows.push(step(value)));
        rows
    }

    fn observations(data: &ModelData) -> Vec<f32> {
        data.inputs().chunks(2).map(|row| row[0]).collect()
    }

    #[test]
    fn real_steps_come_with_random_demonstrated_ones() {
        let (expert, mut rng) = (demonstrations(), Streams::new(1).stream("test"));
        let mut data = ModelData::new(&expert, (1, 1), Room { capacity: 100, pinned: true, share: 1.0 }, true);
        (0..20).for_each(|value| data.push_real(step(&(value as f32)), &expert, &mut rng));
        assert_eq!((data.len(), data.target_width()), (43, 2));
        let seen = observations(&data);
        assert_eq!(seen[..4], [100.0, 101.0, 102.0, 0.0]);
        let demonstrated = seen[3..].iter().filter(|value| **value >= 100.0).count();
        assert_eq!(demonstrated, 20, "half of what is added is the expert's");
        assert_eq!(data.targets()[2 * 3..][..2], [1.0, 10.0], "change and reward");
        let steps: HashSet<u32> = data.origins().iter().copied().collect();
        assert_eq!(steps.len(), 23, "three demonstrated ones, however often copied, and twenty of the learner");
        let agree = |(origin, seen): (&u32, f32)| {
            if seen < 100.0 { *origin == seen as u32 + 3 } else { *origin == seen as u32 - 100 }
        };
        assert!(data.origins().iter().zip(&seen).all(|(origin, seen)| agree((origin, *seen))));
        let learners: Vec<bool> = data.origins().iter().map(|origin| data.is_learners(*origin)).collect();
        assert_eq!(learners, seen.iter().map(|value| *value < 100.0).collect::<Vec<_>>());
    }

    #[test]
    fn ends_that_nobody_saw_are_no_data() {
        let mut rows = ReplayBuffer::new(2, 1, 1);
        let unseen = Transition { terminated: true, next_observation: &[5.0], ..step(&5.0) };
        rows.push(unseen);
        rows.push(Transition { next_observation: &[6.0], ..unseen });
        let room = Room { capacity: 100, pinned: true, share: 1.0 };
        assert_eq!(observations(&ModelData::new(&rows, (1, 1), room, false)), [5.0], "the second, which moved");
    }

    #[test]
    fn a_share_of_the_rows_is_kept_evenly() {
        let mut data =
            ModelData::new(&demonstrations(), (1, 1), Room { capacity: 100, pinned: true, share: 0.4 }, false);
        let (none, mut rng) = (ReplayBuffer::new(1, 1, 1), Streams::new(1).stream("test"));
        (0..7).for_each(|value| data.push_real(step(&(value as f32)), &none, &mut rng));
        assert_eq!(observations(&data), [102.0, 2.0, 4.0], "the 3rd of three, the 3rd and 5th of seven");
    }

    #[test]
    fn a_share_is_kept_of_the_learners_steps_and_of_the_experts() {
        let (expert, mut rng) = (demonstrations(), Streams::new(1).stream("test"));
        for share in [0.1, 0.25, 0.3, 0.5] {
            let mut data = ModelData::new(&expert, (1, 1), Room { capacity: 1000, pinned: true, share }, false);
            let pinned = data.len();
            (0..100).for_each(|value| data.push_real(step(&(value as f32)), &expert, &mut rng));
            let added = &observations(&data)[pinned..];
            let real = added.iter().filter(|value| **value < 100.0).count();
            let expected = (100.0 * share) as usize;
            assert_eq!((real, added.len() - real), (expected, expected), "share {share}");
        }
    }

    #[test]
    fn only_the_published_ring_overwrites_demonstrations() {
        for (pinned, capacity, expected) in [
            (true, 4, vec![100.0, 101.0, 102.0, 4.0, 1.0, 2.0, 3.0]),
            (true, 2, vec![100.0, 101.0, 102.0, 4.0, 3.0]),
            (false, 4, vec![2.0, 3.0, 4.0, 1.0]),
        ] {
            let room = Room { capacity, pinned, share: 1.0 };
            let mut data = ModelData::new(&demonstrations(), (1, 1), room, false);
            let none = ReplayBuffer::new(0, 1, 1);
            let mut rng = Streams::new(1).stream("test");
            let first = if pinned { 0 } else { 1 };
            (first..5).for_each(|value| data.push_real(step(&(value as f32)), &none, &mut rng));
            assert_eq!(observations(&data), expected, "pinned: {pinned}");
        }
    }
}

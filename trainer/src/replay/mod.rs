//! Stored transitions: the learner's own, the expert's, and the mixture of both.

pub mod hybrid;
pub mod model_data;

use crate::run::rng::Stream;
use serde::{Deserialize, Serialize};

/// One transition on its way into a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Transition<'a> {
    /// Raw observation.
    pub observation: &'a [f32],
    /// Intended action in [-1, 1].
    pub action_unit: &'a [f32],
    /// The task's own reward; read by forward reinforcement learning only.
    pub task_reward: f32,
    /// The true next observation, never one after a reset.
    pub next_observation: &'a [f32],
    /// Whether the next state has no value.
    pub terminated: bool,
}

/// A ring of transitions. Memory grows with use, up to `capacity` rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayBuffer {
    capacity: usize,
    observation_width: usize,
    action_width: usize,
    next: usize,
    observations: Vec<f32>,
    actions: Vec<f32>,
    next_observations: Vec<f32>,
    task_rewards: Vec<f32>,
    terminated: Vec<bool>,
}

impl ReplayBuffer {
    /// An empty buffer.
    pub fn new(capacity: usize, observation_width: usize, action_width: usize) -> Self {
        Self {
            capacity,
            observation_width,
            action_width,
            next: 0,
            observations: Vec::new(),
            actions: Vec::new(),
            next_observations: Vec::new(),
            task_rewards: Vec::new(),
            terminated: Vec::new(),
        }
    }

    /// Rows stored.
    pub fn len(&self) -> usize {
        self.task_rewards.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.task_rewards.is_empty()
    }

    /// Rows whose next state has no value.
    #[cfg(test)]
    pub fn terminations(&self) -> usize {
        self.terminated.iter().filter(|terminated| **terminated).count()
    }

    /// Stores one row, over the oldest one when full.
    pub fn push(&mut self, row: Transition<'_>) {
        put(&mut self.observations, self.next, row.observation);
        put(&mut self.actions, self.next, row.action_unit);
        put(&mut self.next_observations, self.next, row.next_observation);
        put(&mut self.task_rewards, self.next, &[row.task_reward]);
        put(&mut self.terminated, self.next, &[row.terminated]);
        self.next = (self.next + 1) % self.capacity;
    }

    /// Stores the rows of `other`, which has never been full, in their order.
    pub fn append(&mut self, other: &Self) {
        (0..other.len()).for_each(|row| self.push(other.row(row)));
    }

    /// Most rows that it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The row stored at place `row`, below [`ReplayBuffer::len`].
    pub fn row(&self, row: usize) -> Transition<'_> {
        Transition {
            observation: part(&self.observations, row, self.observation_width),
            action_unit: part(&self.actions, row, self.action_width),
            task_reward: self.task_rewards[row],
            next_observation: part(&self.next_observations, row, self.observation_width),
            terminated: self.terminated[row],
        }
    }

    /// Places of the newest `count` rows, fewer where fewer are stored, from the newest back.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = usize> + '_ {
        (0..count.min(self.len())).map(|age| (self.next + self.capacity - 1 - age) % self.capacity)
    }

    /// Puts `rewards` in the place of the task rewards stored, which must be as many.
    pub fn set_task_rewards(&mut self, rewards: &[f32]) {
        self.task_rewards.copy_from_slice(rewards);
    }

    /// Makes the ring one of another capacity, in place: where it is smaller, the newest rows stay.
    pub fn resize(&mut self, capacity: usize) {
        if capacity == self.capacity {
            return;
        }
        let stored = self.len();
        let (oldest, lost) = (if stored < self.capacity { 0 } else { self.next }, stored.saturating_sub(capacity));
        unroll(&mut self.observations, oldest * self.observation_width, lost * self.observation_width);
        unroll(&mut self.actions, oldest * self.action_width, lost * self.action_width);
        unroll(&mut self.next_observations, oldest * self.observation_width, lost * self.observation_width);
        unroll(&mut self.task_rewards, oldest, lost);
        unroll(&mut self.terminated, oldest, lost);
        self.capacity = capacity;
        self.next = self.len() % capacity;
    }

    /// How many rows have been stored after `row`.
    fn age(&self, row: usize) -> u64 {
        ((self.next + self.capacity - 1 - row) % self.capacity) as u64
    }

    /// Appends `count` rows drawn uniformly with replacement (none where the buffer is empty).
    pub fn sample_into(&self, count: usize, rng: &mut Stream, rows: &mut Rows) {
        for _ in 0..if self.is_empty() { 0 } else { count } {
            let row = rng.index(self.len());
            rows.observations.extend_from_slice(part(&self.observations, row, self.observation_width));
            rows.actions.extend_from_slice(part(&self.actions, row, self.action_width));
            rows.next_observations.extend_from_slice(part(&self.next_observations, row, self.observation_width));
            rows.task_rewards.push(self.task_rewards[row]);
            rows.continues.push(if self.terminated[row] { 0.0 } else { 1.0 });
            rows.ages.push(Some(self.age(row)));
        }
    }
}

/// Puts the value at `oldest` first, with all that follow it in a ring, and drops the first `lost` of them.
fn unroll<T>(column: &mut Vec<T>, oldest: usize, lost: usize) {
    column.rotate_left(oldest);
    column.drain(..lost);
}

fn put<T: Copy>(column: &mut Vec<T>, row: usize, values: &[T]) {
    let start = row * values.len();
    if start == column.len() {
        column.extend_from_slice(values);
    } else {
        column[start..start + values.len()].copy_from_slice(values);
    }
}

fn part(column: &[f32], row: usize, width: usize) -> &[f32] {
    &column[row * width..][..width]
}

/// Sampled rows on the host, column by column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// `[rows, observation]`.
    pub observations: Vec<f32>,
    /// `[rows, action]`, in [-1, 1].
    pub actions: Vec<f32>,
    /// `[rows, observation]`.
    pub next_observations: Vec<f32>,
    /// `[rows]`; not a number for expert rows.
    pub task_rewards: Vec<f32>,
    /// `[rows]`: 1 where the next state has a value.
    pub continues: Vec<f32>,
    /// `[rows]`: how many rows have been stored after it in the learner's replay; none for expert rows of a hybrid batch.
    pub ages: Vec<Option<u64>>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.continues.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.continues.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::rng::Streams;

    #[test]
    fn a_resized_ring_keeps_its_newest_rows_in_order() {
        let mut buffer = ReplayBuffer::new(4, 1, 1);
        let push = |buffer: &mut ReplayBuffer, value: f32| {
            let value = [value];
            buffer.push(Transition {
                observation: &value,
                action_unit: &value,
                task_reward: value[0],
                next_observation: &value,
                terminated: false,
            });
        };
        (0..6).for_each(|value| push(&mut buffer, value as f32));
        let mut larger = buffer.clone();
        larger.resize(5);
        push(&mut larger, 6.0);
        assert_eq!(larger.task_rewards, [2.0, 3.0, 4.0, 5.0, 6.0]);
        push(&mut larger, 7.0);
        assert_eq!(larger.task_rewards, [7.0, 3.0, 4.0, 5.0, 6.0]);
        let mut smaller = buffer;
        smaller.resize(2);
        assert_eq!(smaller.task_rewards, [4.0, 5.0]);
        push(&mut smaller, 6.0);
        let newest: Vec<f32> = smaller.newest(9).map(|row| smaller.row(row).task_reward).collect();
        assert_eq!(newest, [6.0, 5.0]);
        let mut young = ReplayBuffer::new(9, 1, 1);
        (0..3).for_each(|value| push(&mut young, value as f32));
        young.resize(4);
        (3..5).for_each(|value| push(&mut young, value as f32));
        assert_eq!(young.task_rewards, [4.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn the_ring_overwrites_its_oldest_rows() {
        let mut buffer = ReplayBuffer::new(3, 1, 1);
        for i in 0..5 {
            let value = [i as f32];
            buffer.push(Transition {
                observation: &value,
                action_unit: &value,
                task_reward: i as f32,
                next_observation: &value,
                terminated: i == 4,
            });
        }
        assert_eq!((buffer.len(), buffer.task_rewards.clone()), (3, vec![3.0, 4.0, 2.0]));
        let mut rows = Rows::default();
        buffer.sample_into(200, &mut Streams::new(0).stream("replay"), &mut rows);
        assert_eq!(rows.len(), 200);
        for i in 0..200 {
            assert_eq!(rows.continues[i] == 0.0, rows.observations[i] == 4.0, "termination travels with its row");
            assert_eq!(rows.ages[i], Some(4 - rows.observations[i] as u64), "the newest row has age 0");
        }
        assert!([2.0, 3.0, 4.0].iter().all(|v| rows.actions.contains(v)), "every row is drawn");
    }
}

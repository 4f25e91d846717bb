//! Stored transitions: the learner's own, the expert's, and the mixture of both.

pub mod hybrid;

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

//! Where a batch's rewards come from: the task itself, or the current discriminator. Never from storage.

pub mod discriminator;
#[cfg(test)]
mod tests;

use crate::learners::Batch;
use crate::nn::{Inner, Train};
use crate::replay::Rows;
use burn::tensor::{Tensor, TensorData};
use discriminator::Discriminator;

/// The reward that a learner sees.
#[derive(Debug)]
pub enum Reward<'a, B: Train> {
    /// The task's own reward: forward reinforcement learning.
    Task,
    /// `r(s, a) = -f(s, a)` of the discriminator as it stands now.
    Learned(&'a Discriminator<B>),
}

impl<B: Train> Reward<'_, B> {
    /// Puts sampled rows on the device and labels every one of them, expert and learner alike.
    pub fn label(&self, rows: Rows, device: &B::Device) -> Batch<Inner<B>> {
        let count = rows.len();
        let put = |values: Vec<f32>| {
            let width = values.len() / count;
            Tensor::<Inner<B>, 3>::from_data(TensorData::new(values, [1, count, width]), device)
        };
        let (observation, action) = (put(rows.observations), put(rows.actions));
        let reward = match self {
            Self::Task => put(rows.task_rewards),
            Self::Learned(discriminator) => discriminator.reward(observation.clone(), action.clone()),
        };
        Batch {
            observation,
            action,
            reward,
            next_observation: put(rows.next_observations),
            continues: put(rows.continues),
        }
    }
}

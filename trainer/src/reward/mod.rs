//! Where a batch's rewards come from: the task itself, or the current discriminator. Never from storage.

pub mod discriminator;
#[cfg(test)]
mod tests;

use crate::learners::Batch;
use crate::nn::{Inner, Train};
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
    /// Labels every row of a batch that holds the task's rewards, expert and learner rows alike.
    pub fn label(&self, batch: Batch<Inner<B>>) -> Batch<Inner<B>> {
        match self {
            Self::Task => batch,
            Self::Learned(discriminator) => {
                let reward = discriminator.reward(batch.observation.clone(), batch.action.clone());
                Batch { reward, ..batch }
            }
        }
    }
}

//! Where a batch's rewards come from: the task itself, the current discriminator, or where the row comes from. Never from
//! storage.

pub mod discriminator;
pub mod logistic;
#[cfg(test)]
mod logistic_tests;
#[cfg(test)]
mod tests;

use crate::learners::Batch;
use crate::nn::{Inner, Train};
use crate::replay::Rows;
use discriminator::Discriminator;

/// The reward that a learner sees.
#[derive(Debug)]
pub enum Reward<'a, B: Train> {
    /// The task's own reward: forward reinforcement learning.
    Task,
    /// `r(s, a) = -f(s, a)` of the discriminator as it stands now.
    Learned(&'a Discriminator<B>),
    /// A constant by the row's origin, seed by seed: SQIL and AdRIL.
    ByOrigin(&'a [Origin]),
}

/// Rewards by where a row comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Origin {
    /// The expert's rows.
    pub expert: f32,
    /// The learner's rows, except for the newest ones.
    pub earlier: f32,
    /// The learner's newest rows.
    pub newest: f32,
    /// How many rows are the newest.
    pub newest_rows: u64,
}

impl Origin {
    /// Soft Q imitation learning (Reddy et al. 2019): 1 for the expert, 0 for the learner.
    pub const SQIL: Self = Self { expert: 1.0, earlier: 0.0, newest: 0.0, newest_rows: 0 };

    /// Adversarial reward-moment imitation learning (Swamy et al. 2021): `1/n` for the expert's rows, of which there are `n`
    /// of what rewards are counted by, 0 for the learner's newest, `-1/m` for its earlier ones, of `m`. Nothing earlier: 1.
    pub fn adril(n: u64, m: u64, newest_rows: u64) -> Self {
        Self { expert: 1.0 / n.max(1) as f32, earlier: -1.0 / m.max(1) as f32, newest: 0.0, newest_rows }
    }

    /// The reward of each row.
    pub fn rewards(&self, rows: &Rows) -> Vec<f32> {
        let reward = |age: &Option<u64>| match age {
            None => self.expert,
            Some(age) if *age < self.newest_rows => self.newest,
            Some(_) => self.earlier,
        };
        rows.ages.iter().map(reward).collect()
    }
}

impl<B: Train> Reward<'_, B> {
    /// Labels every row of a batch that holds the task's rewards, or those of its rows' origin, expert and learner rows alike.
    pub fn label(&self, batch: Batch<Inner<B>>) -> Batch<Inner<B>> {
        match self {
            Self::Task | Self::ByOrigin(_) => batch,
            Self::Learned(discriminator) => {
                let reward = discriminator.label(&batch);
                Batch { reward, ..batch }
            }
        }
    }

    /// Puts rewards into the rows sampled for a seed where their origin alone decides; on the host, where it is known.
    pub fn mark(&self, seed: usize, rows: &mut Rows) {
        if let Self::ByOrigin(origins) = self {
            rows.task_rewards = origins[seed].rewards(rows);
        }
    }
}

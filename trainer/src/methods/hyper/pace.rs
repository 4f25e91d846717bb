//! When [`Hyper`] does what: its clocks, periods and schedules.

use super::Hyper;
use crate::config::RateSchedule;
use crate::nn::Train;
use crate::world_model::schedule::rollout_length;

impl<B: Train> Hyper<B> {
    pub(super) fn explores(&self) -> bool {
        self.progress.env_steps < self.config.rhythm().exploration_steps
    }

    /// Real steps after exploration: the published code's clock.
    pub(super) fn learned_steps(&self) -> u64 {
        self.progress.env_steps - self.config.rhythm().exploration_steps.min(self.progress.env_steps)
    }

    /// How much of the learning is over.
    pub(super) fn learned_share(&self) -> f64 {
        let all = self.config.env_steps.saturating_sub(self.config.rhythm().exploration_steps);
        self.learned_steps() as f64 / all.max(1) as f64
    }

    /// Never after the last step: nothing would be learned from it any more.
    pub(super) fn fit_is_due(&self) -> bool {
        let steps = self.progress.env_steps;
        self.learned_steps().is_multiple_of(self.tables.world_model.fit_every) && steps < self.config.env_steps
    }

    pub(super) fn has_imagined(&self) -> bool {
        self.progress.imagination.imagined_steps > 0
    }

    pub(super) fn rollout_length(&self) -> u64 {
        let epoch = self.learned_steps().saturating_sub(1) / self.tables.imagination.epoch_steps + 1;
        rollout_length(self.tables.imagination.lengths, epoch)
    }

    pub(super) fn learning_rate(&self) -> f64 {
        let rhythm = self.config.rhythm();
        let share = |steps: u64, of: u64| (1.0 - steps as f64 / of as f64).max(1e-8);
        rhythm.learning_rate
            * match rhythm.learning_rate_schedule {
                RateSchedule::Constant => 1.0,
                RateSchedule::Linear => share(self.progress.env_steps, self.config.env_steps),
                RateSchedule::Sawtooth => share(self.progress.iteration_steps, self.tables.reward.update_every),
            }
    }

    /// Iterations end where the discriminator moves; without a game they are as long, for the schedules that begin anew in each.
    pub(super) fn iteration_is_over(&self) -> bool {
        self.progress.iteration_steps >= self.tables.reward.update_every
    }

    /// Whether the reward is learned here.
    pub(super) fn plays(&self) -> bool {
        self.discriminator.is_some() && self.tables.reward.from.is_none()
    }
}

//! The moving average of an actor, which acts in its place (ema-pytorch 0.x as jren03/garage calls it).

use super::actor::Actor;
use crate::nn::mlp::MlpSpec;
use crate::nn::ops::MlpBackend;
use crate::nn::optimizer::values;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Gradient steps from one move of the average to the next.
const EVERY: u64 = 10;

/// Gradient steps during which the average is a plain copy.
const COPIES_UNTIL: u64 = 100;

/// Exponent of the decay's approach to 1.
const POWER: f64 = 2.0 / 3.0;

/// Largest decay.
const MOST: f64 = 0.9999;

/// Share of the average that stays when it moves after `updates` gradient steps: 0 while it copies.
pub fn decay(updates: u64) -> f64 {
    if updates <= COPIES_UNTIL {
        return 0.0;
    }
    (1.0 - ((updates - COPIES_UNTIL) as f64).powf(-POWER)).min(MOST)
}

/// The average, and the host's copy of it for acting.
#[derive(Debug)]
pub struct Ema<B: MlpBackend> {
    spec: MlpSpec,
    actions: usize,
    average: Tensor<B, 1>,
    updates: u64,
    actor: OnceLock<Actor>,
    device: B::Device,
}

/// Everything of an [`Ema`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmaRecord {
    average: Vec<f32>,
    updates: u64,
}

impl<B: MlpBackend> Ema<B> {
    /// Begins as the actor of sizes `spec` with `params`, whose actions are `actions` wide.
    pub fn new((spec, params): (MlpSpec, Tensor<B, 1>), actions: usize, device: &B::Device) -> Self {
        Self { spec, actions, average: params, updates: 0, actor: OnceLock::new(), device: device.clone() }
    }

    /// Follows the actor after one of its gradient steps. `params` is asked for when the average moves.
    pub fn follow(&mut self, params: impl FnOnce() -> Tensor<B, 1>) {
        self.updates += 1;
        if !self.updates.is_multiple_of(EVERY) {
            return;
        }
        let decay = decay(self.updates);
        let average = std::mem::replace(&mut self.average, Tensor::zeros([0], &self.device));
        // Never the learner's own memory, which it would then have to copy at its next step.
        self.average = average * decay + params() * (1.0 - decay);
        self.actor.take();
    }

    /// The average on the host, for acting.
    pub fn actor(&self) -> &Actor {
        self.actor.get_or_init(|| Actor::new(self.spec.clone(), self.actions, values(self.average.clone())))
    }

    /// Sizes and parameters, for export.
    pub fn network(&self) -> (MlpSpec, Vec<f32>) {
        (self.spec.clone(), values(self.average.clone()))
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> EmaRecord {
        EmaRecord { average: values(self.average.clone()), updates: self.updates }
    }

    /// Takes over a checkpoint.
    pub fn restore(&mut self, record: EmaRecord) {
        let len = record.average.len();
        self.average = Tensor::from_data(TensorData::new(record.average, [len]), &self.device);
        self.updates = record.updates;
        self.actor.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;

    fn vector(value: f32) -> Tensor<Flex, 1> {
        Tensor::from_data([value, 2.0 * value, 0.0], &Default::default())
    }

    #[test]
    fn the_decay_has_the_published_values() {
        for (updates, expected) in [(50, 0.0), (100, 0.0), (200, 0.9536), (1_000, 0.9893), (10_000, 0.9978)] {
            assert!((decay(updates) - expected).abs() < 6e-5, "decay({updates}) = {}", decay(updates));
        }
        assert_eq!(decay(100_000_000), 0.9999);
    }

    #[test]
    fn the_average_copies_at_first_and_lags_afterwards() {
        let spec = MlpSpec::new(1, 1, &[], 1);
        let mut ema = Ema::<Flex>::new((spec, vector(0.0)), 1, &Default::default());
        (1..=100).for_each(|update| ema.follow(|| vector(update as f32)));
        assert_eq!(ema.network().1, [100.0, 200.0, 0.0], "online weights for the first hundred updates");
        (101..=109).for_each(|update| ema.follow(|| vector(update as f32)));
        assert_eq!(ema.network().1[0], 100.0, "every tenth update moves it");
        ema.follow(|| vector(200.0));
        let kept = 1.0 - 10.0_f32.powf(-2.0 / 3.0);
        assert!((ema.network().1[0] - (100.0 * kept + 200.0 * (1.0 - kept))).abs() < 1e-3);
        let mut other = Ema::<Flex>::new((ema.spec.clone(), vector(0.0)), 1, &Default::default());
        other.restore(ema.record());
        assert!(other.record() == ema.record() && other.actor().act(&[1.0], None) == ema.actor().act(&[1.0], None));
    }
}

//! GAIL: generative adversarial imitation learning (Ho & Ermon 2016, arXiv 1606.03476), with proximal policy optimisation.
//!
//! A classifier learns to tell the expert's pairs from the learner's; what it says is the learner's reward. The policy learner
//! is on-policy: it forgets each rollout after learning from it, which is why GAIL needs many more steps than its relatives
//! here.
//!
//! ```text
//! repeat
//!     act with π for `ppo.rollout_steps` steps                            play
//!     classifier: some passes over expert pairs (1) and the rollout's (0) train
//!     reward the rollout, scaled by the deviation of its returns          reward
//!     PPO on the rollout                                                  update
//! ```

use super::demonstrated::Demonstrated;
use super::on_policy::{OnPolicy, OnPolicyRecord, Played};
use super::{DiscriminatorNetwork, Method, Networks, Report, one};
use crate::config::{GailConfig, PpoConfig, RateSchedule, Reduction, RunConfig};
use crate::envs::{StepCounts, World, WorldConfig};
use crate::error::Result;
use crate::nn::Train;
use crate::reward::discriminator::Pairs;
use crate::reward::logistic::{Classifier, ClassifierRecord};
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};

/// GAIL.
pub struct Gail<B: Train> {
    config: RunConfig,
    ppo: PpoConfig,
    pub(super) gail: GailConfig,
    actions: usize,
    expert: Pairs,
    pub(super) learner: OnPolicy<B>,
    classifier: Classifier<B>,
    progress: Progress,
}

/// What the loop itself remembers between updates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    env_steps: u64,
    grad_steps: u64,
    updates: u64,
}

/// Everything of [`Gail`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct GailRecord {
    learner: OnPolicyRecord,
    classifier: ClassifierRecord,
    progress: Progress,
}

impl<B: Train> Gail<B> {
    /// A fresh game of the first of `seeds` against the demonstrations: they do not stack.
    pub fn new(
        config: &RunConfig,
        (ppo, gail): (&PpoConfig, &GailConfig),
        expert: &Demonstrated,
        seeds: &[u64],
        device: &B::Device,
    ) -> Result<Self> {
        let streams = Streams::new(seeds[0]);
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: expert.resets(config.reset.probability)? };
        let world = World::new(&config.task, world, streams, "env/train")?;
        Ok(Self {
            actions: world.task().action_width(),
            learner: OnPolicy::new(ppo, world, &expert.pairs, streams, device),
            classifier: Classifier::new(gail, expert.pairs.width, streams, device),
            expert: thinned(&expert.pairs, gail.expert_every, &mut streams.stream("gail/expert")),
            progress: Progress::default(),
            config: config.clone(),
            ppo: ppo.clone(),
            gail: gail.clone(),
        })
    }

    /// The rollout's pairs as the classifier sees them: through the filter that the expert's go through.
    pub(super) fn judged(&self, played: &Played) -> Pairs {
        let mut judged = self.learner.seen(&played.pairs);
        let (observations, actions) = (judged.width - self.actions, self.actions);
        for (row, pair) in judged.values.chunks_mut(observations + actions).enumerate() {
            if self.gail.sees_observations_as_acted {
                pair[..observations]
                    .copy_from_slice(&played.rollout.observations[row * observations..][..observations]);
            }
            if self.gail.sees_unclamped_actions {
                pair[observations..].copy_from_slice(&played.rollout.actions[row * actions..][..actions]);
            }
        }
        judged
    }
}

/// Every `every`-th pair from a random one on; all of them where that is 1.
pub(super) fn thinned(pairs: &Pairs, every: usize, rng: &mut Stream) -> Pairs {
    let first = rng.index(every.min(pairs.len()));
    let mut kept = Pairs::new(pairs.width);
    (first..pairs.len()).step_by(every).for_each(|row| kept.push(pairs.row(row), &[]));
    kept
}

impl<B: Train> Method for Gail<B> {
    const STACKS: bool = false;
    type Record = GailRecord;

    fn advance(&mut self) -> Result<Vec<Report>> {
        let done = self.progress.env_steps as f64 / self.config.env_steps as f64;
        let rate = match self.ppo.learning_rate_schedule {
            RateSchedule::Constant => self.ppo.learning_rate,
            _ => self.ppo.learning_rate * (1.0 - done),
        };
        let warms_up = self.progress.updates < self.gail.warmup_updates;
        let watches = self.progress.updates < self.ppo.normalizer_updates;
        let steps = self.ppo.rollout_steps.min(self.config.env_steps - self.progress.env_steps);
        let mut played = self.learner.play(steps, watches)?;
        let judged = self.judged(&played);
        let epochs = if warms_up { self.gail.warmup_epochs } else { self.gail.epochs };
        let discriminator = self.classifier.train(&self.learner.seen(&self.expert), &judged, epochs);
        played.reward(&self.classifier.rewards(&judged));
        self.learner.scale_rewards(&mut played, self.gail.scales_rewards_as_it_goes);
        let (ppo, grad_steps) = self.learner.update(&played.rollout, rate);
        self.progress.env_steps += steps;
        self.progress.grad_steps += grad_steps;
        self.progress.updates += 1;
        Ok(vec![Report {
            env_steps: self.progress.env_steps,
            grad_steps: self.progress.grad_steps,
            discriminator: Some(discriminator),
            ppo: Some(ppo),
            ..Report::default()
        }])
    }

    fn counts(&self, _: usize) -> StepCounts {
        self.learner.counts()
    }

    fn policy(&self, _: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_ {
        self.learner.policy()
    }

    fn networks(&self) -> Vec<Networks> {
        let (spec, params) = self.classifier.network();
        let reading = self.learner.reading();
        let learned = self.progress.updates > 0;
        let discriminator =
            DiscriminatorNetwork { spec, params, clip: None, reduction: Reduction::Mean, reading, learned };
        vec![Networks { discriminator: Some(discriminator), ..self.learner.networks() }]
    }

    fn record(&self) -> Vec<impl Serialize + '_> {
        vec![GailRecord {
            learner: self.learner.record(),
            classifier: self.classifier.record(),
            progress: self.progress,
        }]
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        let record = one(records)?;
        self.learner.restore(record.learner)?;
        self.classifier.restore(record.classifier)?;
        self.progress = record.progress;
        Ok(())
    }
}

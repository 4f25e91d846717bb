//! GAIL: generative adversarial imitation learning (Ho & Ermon 2016, arXiv 1606.03476), with proximal policy optimisation.
//!
//! A classifier learns to tell the expert's pairs from the learner's; its logit is the learner's reward. The policy learner is
//! on-policy: it forgets each rollout after learning from it, which is why GAIL needs many more steps than its relatives here.
//!
//! ```text
//! repeat
//!     act with π for `ppo.rollout_steps` steps                            rollout
//!     classifier: some passes over expert pairs (1) and the rollout's (0) classify
//!     label the rollout r = log D - log(1 - D), scaled by its returns     label
//!     PPO on the rollout                                                  learn
//! ```

use super::demonstrated::Demonstrated;
use super::{DiscriminatorNetwork, Method, Networks, Reading, Report, one};
use crate::config::{GailConfig, PpoConfig, RateSchedule, Reduction, RunConfig};
use crate::envs::{Ending, Purpose, StepCounts, World, WorldCheckpoint, WorldConfig};
use crate::error::Result;
use crate::learners::gae::Moment;
use crate::learners::ppo::{Ppo, PpoRecord, Rollout};
use crate::learners::running::Running;
use crate::nn::Train;
use crate::reward::discriminator::Pairs;
use crate::reward::logistic::{Classifier, ClassifierRecord};
use crate::run::rng::{Stream, Streams};
use serde::{Deserialize, Serialize};

/// Smallest deviation by which an observation channel is divided: a channel that has not moved yet may move later.
const STD_FLOOR: f64 = 1e-2;

/// Added to the variance of returns (openai/baselines `VecNormalize`).
const RETURN_EPSILON: f64 = 1e-8;

/// GAIL.
pub struct Gail<B: Train> {
    config: RunConfig,
    ppo: PpoConfig,
    gail: GailConfig,
    expert: Pairs,
    learner: Ppo<B>,
    classifier: Classifier<B>,
    world: World,
    noise: Stream,
    progress: Progress,
}

/// What the loop itself remembers between updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Progress {
    env_steps: u64,
    grad_steps: u64,
    updates: u64,
    needs_reset: bool,
    observations: Running,
    returns: Running,
    discounted_return: f64,
}

/// Everything of [`Gail`], for a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct GailRecord {
    learner: PpoRecord,
    classifier: ClassifierRecord,
    world: WorldCheckpoint,
    noise: Stream,
    progress: Progress,
}

/// A rollout with the pairs that the classifier judges and where episodes begin.
struct Played {
    rollout: Rollout,
    pairs: Pairs,
    begins: Vec<bool>,
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
        let (observations, actions) = (world.task().observation_width(), world.task().action_width());
        Ok(Self {
            learner: Ppo::new(ppo, observations, actions, streams, device),
            classifier: Classifier::new(gail, expert.pairs.width, streams, device),
            expert: thinned(&expert.pairs, gail.expert_every, &mut streams.stream("gail/expert")),
            noise: streams.stream("policy_noise"),
            progress: Progress {
                env_steps: 0,
                grad_steps: 0,
                updates: 0,
                needs_reset: true,
                observations: Running::new(observations),
                returns: Running::new(1),
                discounted_return: 0.0,
            },
            config: config.clone(),
            ppo: ppo.clone(),
            gail: gail.clone(),
            world,
        })
    }

    fn reading(&self) -> Reading {
        let running = &self.progress.observations;
        Reading::Clamped {
            mean: running.mean().iter().map(|mean| *mean as f32).collect(),
            std: running.variance().iter().map(|variance| variance.sqrt().max(STD_FLOOR) as f32).collect(),
        }
    }

    fn warms_up(&self) -> bool {
        self.progress.updates < self.gail.warmup_updates
    }

    /// Environment steps of the policy as it stands. Observations enter the normaliser as they come, during the first updates.
    fn rollout(&mut self) -> Result<Played> {
        let steps = self.ppo.rollout_steps.min(self.config.env_steps - self.progress.env_steps);
        let mut played =
            Played { rollout: Rollout::default(), pairs: Pairs::new(self.expert.width), begins: Vec::new() };
        let Played { rollout, pairs, begins } = &mut played;
        for index in 1..=steps {
            begins.push(self.progress.needs_reset);
            if std::mem::take(&mut self.progress.needs_reset) {
                self.world.reset()?;
            }
            if self.warms_up() {
                self.progress.observations.push(self.world.observation().iter().map(|x| f64::from(*x)));
            }
            let seen = self.reading().seen(self.world.observation());
            let draw = self.learner.draw(&seen, &mut self.noise);
            if let Some(before) = rollout.moments.last_mut().filter(|before| before.ending == Ending::Continues) {
                before.next_value = f64::from(draw.value);
            }
            let clamped: Vec<f32> = draw.action.iter().map(|a| a.clamp(-1.0, 1.0)).collect();
            let ending = self.world.step(&clamped, Purpose::Policy)?.ending;
            let open = ending == Ending::Truncated || (ending == Ending::Continues && index == steps);
            let next_value =
                if open { self.learner.value(&self.reading().seen(self.world.observation())) } else { 0.0 };
            pairs.push(&seen, if self.gail.sees_unclamped_actions { &draw.action } else { &clamped });
            rollout.moments.push(Moment {
                reward: 0.0,
                value: f64::from(draw.value),
                next_value: f64::from(next_value),
                ending,
            });
            rollout.observations.extend(seen);
            rollout.actions.extend(draw.action);
            rollout.log_probs.push(draw.log_prob);
            self.progress.needs_reset = ending != Ending::Continues;
            self.progress.env_steps += 1;
        }
        Ok(played)
    }

    /// The expert's pairs as the networks see them now.
    fn expert_pairs(&self) -> Pairs {
        let (reading, observations) = (self.reading(), self.progress.observations.mean().len());
        let mut pairs = Pairs::new(self.expert.width);
        for row in 0..self.expert.len() {
            let (observation, action) = self.expert.row(row).split_at(observations);
            pairs.push(&reading.seen(observation), action);
        }
        pairs
    }

    /// Rewards of the rollout's pairs, divided by the running deviation of their discounted sums.
    fn label(&mut self, played: &mut Played) {
        let progress = &mut self.progress;
        for ((moment, reward), begins) in
            played.rollout.moments.iter_mut().zip(self.classifier.rewards(&played.pairs)).zip(&played.begins)
        {
            moment.reward = f64::from(reward);
            let before = if *begins { 0.0 } else { progress.discounted_return };
            progress.discounted_return = moment.reward + self.ppo.discount * before;
            progress.returns.push([progress.discounted_return]);
            if self.gail.scales_rewards_as_it_goes {
                moment.reward /= deviation(&progress.returns);
            }
        }
        if !self.gail.scales_rewards_as_it_goes {
            let deviation = deviation(&progress.returns);
            played.rollout.moments.iter_mut().for_each(|moment| moment.reward /= deviation);
        }
    }
}

fn deviation(returns: &Running) -> f64 {
    (returns.variance()[0] + RETURN_EPSILON).sqrt()
}

/// Every `every`-th pair from a random one on; all of them where that is 1.
fn thinned(pairs: &Pairs, every: usize, rng: &mut Stream) -> Pairs {
    let first = rng.index(every.min(pairs.len()));
    let mut kept = Pairs::new(pairs.width);
    (first..pairs.len()).step_by(every).for_each(|row| kept.push(pairs.row(row), &[]));
    kept
}

impl<B: Train> Method for Gail<B> {
    const STACKS: bool = false;
    type Record = GailRecord;

    fn advance(&mut self) -> Result<Vec<Report>> {
        let rate = match self.ppo.learning_rate_schedule {
            RateSchedule::Constant => self.ppo.learning_rate,
            _ => self.ppo.learning_rate * (1.0 - self.progress.env_steps as f64 / self.config.env_steps as f64),
        };
        let epochs = if self.warms_up() { self.gail.warmup_epochs } else { self.gail.epochs };
        let mut played = self.rollout()?;
        let discriminator = self.classifier.train(&self.expert_pairs(), &played.pairs, epochs);
        self.label(&mut played);
        let (ppo, grad_steps) = self.learner.update(&played.rollout, rate);
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
        self.world.counts()
    }

    fn policy(&self, _: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_ {
        let (policy, reading) = (self.learner.policy(), self.reading());
        move |observation| {
            let mean = policy.act(&reading.seen(observation));
            mean.into_iter().map(|a| a.clamp(-1.0, 1.0)).collect()
        }
    }

    fn networks(&self) -> Vec<Networks> {
        let (spec, params) = self.classifier.network();
        let reading = self.reading();
        vec![Networks {
            actor: self.learner.actor(),
            discriminator: Some(DiscriminatorNetwork {
                spec,
                params,
                clip: None,
                reduction: Reduction::Mean,
                reading: reading.clone(),
            }),
            reading,
        }]
    }

    fn record(&self) -> Vec<impl Serialize + '_> {
        vec![GailRecord {
            learner: self.learner.record(),
            classifier: self.classifier.record(),
            world: self.world.checkpoint(),
            noise: self.noise.clone(),
            progress: self.progress.clone(),
        }]
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        let record = one(records)?;
        self.learner.restore(record.learner)?;
        self.classifier.restore(record.classifier)?;
        self.world.restore(&record.world)?;
        self.noise = record.noise;
        self.progress = record.progress;
        Ok(())
    }
}

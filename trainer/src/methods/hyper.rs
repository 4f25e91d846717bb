//! HyPER: inverse reinforcement learning inside a learned world (arXiv 2402.08848, algorithm 4).
//!
//! Real steps teach a model of the dynamics. The search for a better policy goes on in that model, from states of the expert
//! and of the learner, so that hardly any exploration of the real world is left.
//!
//! ```text
//! f ← random cost;  π ← random policy;  explore with π
//! for each real step:
//!     act with π's mean, remember the step (and a random one of the expert)    act
//!     every `world_model.fit_every` steps:
//!         fit the ensemble to expert and learner steps, epoch by epoch         fit_model
//!         from expert or learner states, roll π out in the model               imagine
//!     actor-critic steps on imagined rows, labelled r = -f as it stands now    improve_policy
//!     every `reward.update_every` of those:
//!         roll out π for whole real episodes                                   rollout_current_policy
//!         one step of f down  E_expert[f] - E_π[f] + penalty                   ascend_reward
//! ```
//!
//! | paper | here |
//! |---|---|
//! | `f`, `F` | [`Discriminator`], an ensemble; `reward.reduction` says how its costs become one |
//! | `M`: the model | [`WorldModel`], behind [`Dynamics`](crate::world_model::dynamics::Dynamics) |
//! | policy optimiser | [`Learner`], as in the other methods; [`Ema`] acts where the preset averages |
//! | resets to expert states | [`Starts`]: `reset.probability`, `reset.schedule` |
//!
//! With `imagination.reward = "task"` there is no discriminator: the ensemble predicts the task's own reward as one more output,
//! demonstrations are optional, and the page is MBPO (Janner et al. 2019); with demonstrations LAMPS on the true reward.
//!
//! Seeds do not stack: fits take as many epochs as they need, another number for each seed.

mod begin;
mod pace;
mod state;
#[cfg(test)]
mod tests;

pub use state::{Given, GivenModel, HyperRecord, Tables};

use super::rollouts::whole_episodes;
use super::{DiscriminatorNetwork, Method, Networks, Reading, Report, one};
use crate::config::{Acting, PairSource, RunConfig};
use crate::envs::{Ending, Purpose, StepCounts, Termination, World, WorldConfig};
use crate::error::Result;
use crate::learners::Batch;
use crate::learners::actor::Actor;
use crate::learners::block::Block;
use crate::learners::ema::Ema;
use crate::learners::learner::{Learner, LearnerMetrics};
use crate::learners::td3_bc::Objective;
use crate::nn::{Inner, Train};
use crate::replay::model_data::ModelData;
use crate::replay::{ReplayBuffer, Rows, Transition, hybrid};
use crate::reward::discriminator::{Discriminator, DiscriminatorMetrics, Pairs, Turn};
use crate::run::rng::Streams;
use crate::world_model::dynamics::Dynamics;
use crate::world_model::model::WorldModel;
use crate::world_model::rollout::{Imagination, Rules, imagine};
use crate::world_model::simulator::Simulator;
use crate::world_model::starts::Starts;
use serde::Serialize;
use state::{Buffers, Draws, Owed, Progress};

/// [`Method::advance`] ends at multiples of so many environment steps: evaluations are at the same steps, however often a run was
/// stopped.
const PIECE: u64 = 25;

/// HyPER of one seed.
pub struct Hyper<B: Train> {
    config: RunConfig,
    tables: Tables,
    policy: Learner<B>,
    ema: Option<Ema<Inner<B>>>,
    discriminator: Option<Discriminator<B>>,
    model: WorldModel<B>,
    /// The physics in the model's place (`imagination.dynamics`).
    simulator: Option<Simulator>,
    buffers: Buffers,
    world: World,
    termination: Termination,
    streams: Streams,
    draws: Draws,
    /// What the policy believes to see next where the discriminator's episodes went on in its world (a fault of the published code).
    stale: Option<Vec<f32>>,
    progress: Progress,
    device: B::Device,
}

impl<B: Train> Method for Hyper<B> {
    type Record = HyperRecord<ReplayBuffer, ModelData>;

    const STACKS: bool = false;

    fn advance(&mut self) -> Result<Vec<Report>> {
        let rhythm = self.config.rhythm();
        let (mut policy, mut discriminator, mut unfinished) = (None, None, false);
        let finished_steps = self.progress.env_steps - u64::from(self.progress.owed != Owed::Nothing);
        let end = ((finished_steps / PIECE + 1) * PIECE).min(self.config.env_steps);
        while discriminator.is_none() && (self.progress.env_steps < end || self.progress.owed != Owed::Nothing) {
            if self.progress.owed == Owed::Nothing {
                let explores = self.explores();
                self.act()?;
                if explores {
                    continue;
                }
                if self.fit_is_due() {
                    self.progress.owed = Owed::Fit;
                }
            }
            if self.progress.owed == Owed::Fit {
                self.fit_model()?;
                unfinished = true;
                break;
            }
            if self.progress.owed == Owed::Imagination {
                self.imagine()?;
            }
            if self.learned_steps().is_multiple_of(rhythm.train_every) {
                policy = self.improve_policy().or(policy);
            }
            if self.iteration_is_over() {
                if self.plays() {
                    let pairs = self.rollout_current_policy()?;
                    discriminator = self.ascend_reward(pairs);
                }
                self.begin_iteration();
            }
        }
        Ok(vec![Report {
            unfinished,
            fitting: self.model.under_way(),
            env_steps: self.progress.env_steps,
            grad_steps: self.progress.grad_steps,
            sac: policy.and_then(LearnerMetrics::sac),
            td3_bc: policy.and_then(LearnerMetrics::td3_bc),
            discriminator,
            world_model: self.progress.fit,
            imagination: self.has_imagined().then_some(self.progress.imagination),
            rollout_length: self.has_imagined().then(|| self.rollout_length()),
            ..Report::default()
        }])
    }

    fn counts(&self, _seed: usize) -> StepCounts {
        self.world.counts() + self.progress.rollout_counts
    }

    fn policy(&self, _seed: usize) -> impl Fn(&[f32]) -> Vec<f32> + Send + Sync + '_ {
        let actor = self.actor();
        move |observation| actor.act(observation, None)
    }

    fn networks(&self) -> Vec<Networks> {
        let actor = match &self.ema {
            Some(ema) => ema.network(),
            None => self.policy.actors().swap_remove(0),
        };
        let discriminator = self.discriminator.as_ref().map(|discriminator| {
            let (clip, reduction) = discriminator.reading();
            let (spec, params) = discriminator.networks().swap_remove(0);
            let learned = self.progress.iteration > 0 || self.tables.reward.from.is_some();
            DiscriminatorNetwork { spec, params, clip, reduction, reading: Reading::Squashed, learned }
        });
        vec![Networks { actor, reading: Reading::Squashed, discriminator }]
    }

    fn record(&self) -> Vec<impl Serialize + '_> {
        vec![self.as_it_stands()]
    }

    fn restore(&mut self, records: Vec<Self::Record>) -> Result<()> {
        self.go_on_from(one(records)?)
    }
}

impl<B: Train> Hyper<B> {
    /// The policy that acts, is evaluated and is exported.
    fn actor(&self) -> &Actor {
        match &self.ema {
            Some(ema) => ema.actor(),
            None => &self.policy.policies()[0],
        }
    }

    /// One real step, remembered: with drawn actions while exploring, with the mean afterwards.
    fn act(&mut self) -> Result<()> {
        if std::mem::take(&mut self.progress.needs_reset) {
            self.world.reset()?;
        }
        let observation = self.stale.take().unwrap_or_else(|| self.world.observation().to_vec());
        let (action, purpose) = if self.explores() {
            (self.policy.policies()[0].act(&observation, Some(&mut self.draws.act)), Purpose::Exploration)
        } else if self.tables.hyper.acting == Acting::Sample {
            (self.policy.policies()[0].act(&observation, Some(&mut self.draws.act)), Purpose::Policy)
        } else {
            (self.actor().act(&observation, None), Purpose::Policy)
        };
        let step = self.world.step(&action, purpose)?;
        self.progress.needs_reset = step.ending != Ending::Continues;
        let transition = Transition {
            observation: &observation,
            action_unit: &action,
            task_reward: step.reward as f32,
            next_observation: self.world.observation(),
            terminated: step.ending == Ending::Terminated,
        };
        self.buffers.to_start_from_policy.push(transition);
        let expert = &self.buffers.to_start_from_expert.rows;
        self.buffers.to_fit_model.push_real(transition, expert, &mut self.draws.accompany);
        self.progress.env_steps += 1;
        self.progress.fresh_steps += u64::from(purpose == Purpose::Policy);
        Ok(())
    }

    /// An epoch of the ensemble on everything that is known of the world; imagination follows the last one.
    fn fit_model(&mut self) -> Result<()> {
        if self.simulator.is_some() {
            self.progress.owed = Owed::Imagination;
        } else if let Some(fit) = self.model.fit(&self.buffers.to_fit_model)? {
            self.progress.fit = Some(fit);
            self.progress.owed = Owed::Imagination;
        }
        Ok(())
    }

    /// Imagination, all of it or none: a model that leads nowhere leaves everything as it was.
    fn imagine(&mut self) -> Result<()> {
        let before = (self.model.noise().clone(), self.draws.clone());
        match self.imagined() {
            Ok((imagined, counted)) => {
                self.buffers.to_train_policy.append(&imagined);
                self.progress.imagination += counted;
                self.progress.owed = Owed::Nothing;
                Ok(())
            }
            Err(error) => {
                self.model.set_noise(before.0);
                self.draws = before.1;
                Err(error)
            }
        }
    }

    /// Rollouts of the policy, which samples, in the elites or the simulator.
    fn imagined(&mut self) -> Result<(ReplayBuffer, Imagination)> {
        let rollouts = self.tables.imagination.starts_per_step * self.tables.world_model.fit_every as usize;
        let length = self.rollout_length();
        let capacity = self.tables.imagination.capacity(self.tables.world_model.fit_every, length);
        self.buffers.to_train_policy.resize(capacity as usize);
        let starts = Starts {
            expert: &self.buffers.to_start_from_expert,
            policy: &self.buffers.to_start_from_policy,
            reset: &self.config.reset,
            progress: self.learned_share(),
        };
        let started = starts.draw(rollouts, &mut self.draws.start);
        let bounds = self.model.bounds().clone();
        let rules = Rules {
            termination: &self.termination,
            bounds: &bounds,
            out_of_bounds: self.tables.imagination.out_of_bounds,
        };
        let (pessimism, learns_reward) = (self.tables.imagination.pessimism, self.discriminator.is_none());
        let widths = (self.world.task().observation_width(), self.world.task().action_width());
        let mut remember = ReplayBuffer::new(rollouts * length as usize, widths.0, widths.1);
        let (policy, stream) = (&self.policy, &mut self.draws.imagine);
        let world: &mut dyn Dynamics = match &mut self.simulator {
            Some(simulator) => simulator,
            None => &mut self.model,
        };
        let counted = imagine(
            world,
            started.observations,
            length,
            rules,
            |observations| policy.draw(observations, stream),
            |world, steps| {
                let doubt = if pessimism > 0.0 { world.doubt(steps.observations, steps.actions) } else { None };
                for (row, step) in steps.kept() {
                    let penalty = doubt.as_ref().map(|doubt| pessimism as f32 * doubt[row]);
                    let reward = if learns_reward { step.task_reward } else { 0.0 };
                    // A learned reward is computed when a row is drawn; what is stored beside it is never read without pessimism.
                    let stored = match penalty {
                        None if !learns_reward => f32::NAN,
                        penalty => reward - penalty.unwrap_or(0.0),
                    };
                    remember.push(Transition { task_reward: stored, ..step });
                }
            },
            widths.0,
        )?;
        Ok((remember, counted))
    }

    /// The gradient steps that follow a real one, each on a fresh imagined batch (with demonstrated rows where
    /// `hybrid.schedule` asks for them).
    fn improve_policy(&mut self) -> Option<LearnerMetrics> {
        let rhythm = self.config.rhythm();
        if self.buffers.to_train_policy.len() < rhythm.batch_size {
            return None;
        }
        let is_hybrid = self.config.mix().has_expert();
        let objective = if is_hybrid { Objective::ValueAndCloning } else { Objective::Value };
        let (mut measured, mut left) = (None, rhythm.grad_steps);
        while left > 0 {
            let steps = left.min(B::STEPS_PER_TRANSFER as u64);
            let (rows, sizes) = self.draw_rows(steps);
            let noise = self.policy.draw_noise(&sizes, 0);
            let block = Block::new(vec![rows], sizes, &self.device);
            for (index, noise) in noise.into_iter().enumerate() {
                left -= 1;
                let (batch, rate) = (self.label(block.batch(index)), self.learning_rate());
                let figures = self.policy.step(&batch, noise, objective, None, rate, left == 0);
                measured = figures.map(|mut figures| figures.swap_remove(0)).or(measured);
                self.progress.grad_steps += 1;
                self.progress.iteration_steps += 1;
                if let Some(ema) = &mut self.ema {
                    ema.follow(|| self.policy.actor_parameters().1);
                }
            }
        }
        measured
    }

    /// Rows for `steps` batches, and the sizes of those: in each demonstrated and imagined ones, then the learner's real ones.
    fn draw_rows(&mut self, steps: u64) -> (Rows, Vec<usize>) {
        let Buffers { to_start_from_expert, to_start_from_policy, to_train_policy: imagined, .. } = &self.buffers;
        let (size, mix) = (self.config.rhythm().batch_size, self.config.mix());
        let from_world = (size as f64 * self.tables.imagination.real_ratio).floor() as usize;
        let (stream, plays) = (&mut self.draws.rows, self.discriminator.is_some());
        let mut rows = Rows::default();
        let batches = self.progress.grad_steps..self.progress.grad_steps + steps;
        let draw = |batch| {
            let (expert, rest) = (&to_start_from_expert.rows, size - from_world);
            let drawn = hybrid::sample_into(expert, imagined, mix, batch, rest, stream, &mut rows);
            let real = rows.len();
            to_start_from_policy.sample_into(from_world, stream, &mut rows);
            if plays {
                // A reward of the task's, which is none here, and no penalty.
                rows.task_rewards[real..].fill(0.0);
            }
            drawn + rows.len() - real
        };
        let sizes = batches.map(draw).collect();
        if plays {
            // Demonstrated rows carry no penalty.
            rows.task_rewards.iter_mut().filter(|reward| reward.is_nan()).for_each(|reward| *reward = 0.0);
        }
        (rows, sizes)
    }

    /// A batch with the reward in force; what was stored with its rows is the task's reward or the penalty for doubt.
    fn label(&self, batch: Batch<Inner<B>>) -> Batch<Inner<B>> {
        let Some(discriminator) = &self.discriminator else { return batch };
        let reward = discriminator.reward(batch.observation.clone(), batch.action.clone());
        let reward = if self.tables.imagination.pessimism > 0.0 { reward + batch.reward } else { reward };
        Batch { reward, ..batch }
    }

    fn begin_iteration(&mut self) {
        self.progress.iteration += 1;
        self.progress.iteration_steps = 0;
        self.progress.fresh_steps = 0;
        if self.tables.hyper.restarts_optimizers {
            self.policy.restart_optimizers();
        }
    }

    /// Pairs of the policy as it stands: whole episodes in an environment of their own, all of them counted; or the newest real
    /// steps, at least an episode's worth of them where it has taken so many: random ones are not its own.
    fn rollout_current_policy(&mut self) -> Result<Pairs> {
        let mut pairs = Pairs::new(self.buffers.to_start_from_expert.pairs.width);
        if self.tables.hyper.pairs == PairSource::PolicyBuffer {
            let fresh = (self.progress.fresh_steps as usize).max(self.world.task().horizon);
            let newest = fresh.min(self.learned_steps() as usize);
            for row in self.buffers.to_start_from_policy.newest(newest) {
                let step = self.buffers.to_start_from_policy.row(row);
                pairs.push(step.observation, step.action_unit);
            }
            return Ok(pairs);
        }
        let (episodes, actor) = (self.tables.reward.rollout_episodes, self.actor().clone());
        let act = |observation: &[f32]| actor.act(observation, None);
        if self.config.faults.rollouts_in_training_world {
            // An episode that had just ended begins anew, as it should.
            self.stale = (!self.progress.needs_reset).then(|| self.world.observation().to_vec());
            whole_episodes(&mut self.world, episodes, &mut pairs, false, act)?;
            self.world.run_on();
            return Ok(pairs);
        }
        let name = format!("env/discriminator/{}", self.progress.iteration);
        let config = WorldConfig { tremble: self.config.env.tremble, demo_resets: None };
        let mut world = World::new(&self.config.task, config, self.streams, &name)?;
        whole_episodes(&mut world, episodes, &mut pairs, false, act)?;
        self.progress.rollout_counts += world.counts();
        Ok(pairs)
    }

    /// The discriminator's turn: expert cost down, learner cost up, gradients held near their target norm.
    fn ascend_reward(&mut self, learner: Pairs) -> Option<DiscriminatorMetrics> {
        let turn = Turn { number: self.progress.iteration, over: self.learned_share() };
        let expert = &self.buffers.to_start_from_expert.pairs;
        Some(self.discriminator.as_mut()?.ascend(expert, &[learner], turn).swap_remove(0))
    }
}

//! IQ-Learn (Garg et al. 2021): a critic from which the expert's reward can be read, `R(s, a) = Q(s, a) - γ V(s')`.
//!
//! Nothing adversarial is trained: the critic descends one loss in which the expert's implied reward is large, the
//! policy's is small, and both are held near zero; the actor follows the critic as in soft actor-critic.

use super::actor::Actor;
use super::squashed::{self, Sample};
use crate::config::{Divergence, IqConfig, IqObjective, IqPenaltyRows, Optimizer, SacConfig};
use crate::error::Result;
use crate::learners::sac::SacMetrics;
use crate::nn::init::Init;
use crate::nn::mlp::MlpSpec;
use crate::nn::optimizer::{Applied, Network, OptimizerConfig, Parameters, ParametersRecord, values};
use crate::nn::{Inner, Train};
use crate::replay::Rows;
use crate::run::rng::{Stream, Streams};
use burn::tensor::backend::Backend;
use burn::tensor::{ElementConversion, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// What the loss needs to know of the rows of one side, the expert's or the policy's.
///
/// # Shapes
/// `q` and `penalty_q` are `[critics, rows, 1]`, the rest `[1, rows, 1]`.
#[derive(Debug, Clone)]
pub struct Side<B: Backend> {
    /// `Q(s, a)` at the rows' own actions.
    pub q: Tensor<B, 3>,
    /// `Q` as the penalty sees it: at the rows' own actions, or at the policy's (`iq.penalty_rows`).
    pub penalty_q: Tensor<B, 3>,
    /// `V(s) = Q(s, a') - α log π(a'|s)`, `a' ~ π`.
    pub value: Tensor<B, 3>,
    /// `y = γ · continues · V̂(s')`.
    pub next_value: Tensor<B, 3>,
    /// Weight of each row; they sum to one.
    pub weight: Tensor<B, 3>,
}

impl<B: Backend> Side<B> {
    /// Expectation of `values` `[critics | 1, rows, 1]` over the rows, averaged over critics.
    fn mean(&self, values: Tensor<B, 3>) -> Tensor<B, 1> {
        let critics = values.dims()[0] as f64;
        (values * self.weight.clone()).sum() / critics
    }

    /// `R(s, a) = Q(s, a) - y`.
    pub fn reward(&self) -> Tensor<B, 3> {
        self.q.clone() - self.next_value.clone()
    }

    fn telescoped(&self) -> Tensor<B, 1> {
        self.mean(self.value.clone() - self.next_value.clone())
    }

    fn square(&self) -> Tensor<B, 1> {
        let reward = self.penalty_q.clone() - self.next_value.clone();
        self.mean(reward.clone() * reward)
    }
}

/// The terms of the critic's loss.
#[derive(Debug, Clone)]
pub struct Terms<B: Backend> {
    /// What is minimised.
    pub total: Tensor<B, 1>,
    /// `-E_expert[φ'(R) R]`.
    pub expert: Tensor<B, 1>,
    /// `T`: the value term of `iq.objective`.
    pub value: Tensor<B, 1>,
    /// `E[R²] / (4α)`, zero where there is none.
    pub penalty: Tensor<B, 1>,
}

/// `φ'(R)`, a constant weight of the expert's reward: 1 for χ² (whose penalty is the regulariser), and the published
/// forms for the other divergences.
pub fn divergence_weight<B: Backend>(divergence: Divergence, reward: Tensor<B, 3>) -> Tensor<B, 3> {
    let reward = reward.detach();
    match divergence {
        Divergence::Chi2 => reward.ones_like(),
        Divergence::Hellinger => (reward + 1.0).powi_scalar(2).recip(),
        Divergence::Kl => (reward + 1.0).neg().exp(),
        Divergence::KlFix => reward.neg().exp(),
        Divergence::Js => {
            let e = reward.neg().exp();
            e.clone() / (e.neg() + 2.0)
        }
    }
}

/// `L = -E_E[φ'(R) R] + T + E[R²] / (4α)` (IQ-Learn, equation 9 and section 5; Div99/IQ-Learn `iq.py`), over the expert's rows
/// E and the policy's rows P, half and half where both enter.
///
/// `start` is `(values, weights)` of the states that stand for the episodes' first; read by the objective `v0` alone.
pub fn loss<B: Backend>(
    config: &IqConfig,
    discount: f64,
    expert: &Side<B>,
    policy: &Side<B>,
    start: (Tensor<B, 3>, Tensor<B, 3>),
) -> Terms<B> {
    let reward = expert.reward();
    let weight = divergence_weight(config.divergence, reward.clone());
    let gained = expert.mean(weight * reward).neg();
    let value = match config.objective {
        IqObjective::Value => (expert.telescoped() + policy.telescoped()) * 0.5,
        IqObjective::ValueExpert => expert.telescoped(),
        IqObjective::V0 => (start.0 * start.1).sum() * (1.0 - discount),
    };
    let scale = 1.0 / (4.0 * config.alpha);
    let mut penalty = gained.zeros_like();
    if config.expert_penalty {
        let reward = expert.reward();
        penalty = penalty + expert.mean(reward.clone() * reward) * scale;
    }
    if config.penalty {
        penalty = penalty + (expert.square() + policy.square()) * (0.5 * scale);
    }
    Terms { total: gained.clone() + value.clone() + penalty.clone(), expert: gained, value, penalty }
}

/// `mean (α log π(a|s) - Q(s, a))` with `a ~ π(s)` reparametrised, over the states of both sides.
pub fn actor_loss<B: Backend>(q: Tensor<B, 3>, log_prob: Tensor<B, 3>, temperature: Tensor<B, 3>) -> Tensor<B, 1> {
    (temperature * log_prob - q).mean()
}

/// What an update saw, beside [`SacMetrics`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct IqMetrics {
    /// Mean of `R` on the expert's rows.
    pub iq_reward_expert: f64,
    /// Mean of `R` on the policy's rows.
    pub iq_reward_learner: f64,
    /// [`Terms::value`].
    pub iq_value_term: f64,
    /// [`Terms::penalty`].
    pub iq_penalty: f64,
}

/// The learner of a single seed: an actor, one or two critics with targets, and the temperature.
#[derive(Debug)]
pub struct Iq<B: Train> {
    config: IqConfig,
    shared: SacConfig,
    actions: usize,
    actor: Network<B>,
    critics: Network<B>,
    log_temperature: Parameters<Inner<B>>,
    noise: Stream,
    device: B::Device,
}

/// Everything of [`Iq`], for a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IqRecord {
    actor: ParametersRecord,
    critics: ParametersRecord,
    log_temperature: ParametersRecord,
    noise: Stream,
}

impl<B: Train> Iq<B> {
    /// A fresh learner for `observations` and `actions` wide rows; `shared` holds what it has in common with SAC.
    pub fn new(
        config: &IqConfig,
        shared: &SacConfig,
        observations: usize,
        actions: usize,
        streams: Streams,
        device: &B::Device,
    ) -> Self {
        let actor = MlpSpec::new(1, observations, shared.actor_widths(), 2 * actions);
        let critics = MlpSpec::new(config.critics, observations + actions, &shared.hidden, 1);
        let rng = &mut [streams.stream("iq/init")];
        let optimizer = OptimizerConfig::new(shared.optimizer);
        Self {
            actions,
            actor: Network::new(actor, Init::OrthogonalZeroBias, false, optimizer, rng, device),
            critics: Network::new(critics, Init::OrthogonalZeroBias, true, optimizer, rng, device),
            log_temperature: Parameters::new(
                vec![shared.initial_temperature.ln() as f32],
                false,
                OptimizerConfig::new(Optimizer::Adam),
                device,
            ),
            noise: streams.stream("iq/noise"),
            device: device.clone(),
            config: config.clone(),
            shared: shared.clone(),
        }
    }

    /// One gradient step: critic on the loss, then actor (and temperature where it is learned), then targets.
    ///
    /// `expert` and `policy` are equally many rows; rewards are not read. `start` are first observations of demonstrations,
    /// `[rows, observation]`. Learning rates are multiplied by `rate_scale`.
    pub fn update(
        &mut self,
        expert: Rows,
        policy: Rows,
        start: Vec<f32>,
        rate_scale: f64,
        measure: bool,
    ) -> Option<(SacMetrics, IqMetrics)> {
        let start = self.put(start, expert.len());
        let (expert, policy) = (&self.batch(expert), &self.batch(policy));
        let temperature = self.log_temperature.get().exp().reshape([1, 1, 1]);
        let rows = expert.observation.dims()[1];
        let observation = Tensor::cat(vec![expert.observation.clone(), policy.observation.clone()], 1);
        let terms = self.critic_terms(expert, policy, observation.clone(), start, &temperature);
        let CriticTerms { terms, reward, critics } = terms;
        let measured = measure.then(|| {
            (
                scalar(terms.total.clone().inner()),
                IqMetrics {
                    iq_reward_expert: scalar(reward.clone().narrow(1, 0, rows).mean()),
                    iq_reward_learner: scalar(reward.narrow(1, rows, rows).mean()),
                    iq_value_term: scalar(terms.value.clone().inner()),
                    iq_penalty: scalar(terms.penalty.clone().inner()),
                },
            )
        });
        self.critics.descend(terms.total, [critics], self.shared.learning_rate * rate_scale, self.shared.polyak_rate);
        let sac = self.improve_actor(observation, temperature, rate_scale, measure);
        measured.zip(sac).map(|((critic_loss, iq), sac)| (SacMetrics { critic_loss, ..sac }, iq))
    }

    fn critic_terms(
        &mut self,
        expert: &RowTensors<Inner<B>>,
        policy: &RowTensors<Inner<B>>,
        observation: Tensor<Inner<B>, 3>,
        start: Tensor<Inner<B>, 3>,
        temperature: &Tensor<Inner<B>, 3>,
    ) -> CriticTerms<B> {
        let rows = expert.observation.dims()[1];
        let join = |a: &Tensor<Inner<B>, 3>, b: &Tensor<Inner<B>, 3>| Tensor::cat(vec![a.clone(), b.clone()], 1);
        let next = self.draw(join(&expert.next_observation, &policy.next_observation));
        let next_value = minimum(self.critics.infer_target(next.pair)) - temperature.clone() * next.log_prob;
        let target = join(&expert.continues, &policy.continues) * next_value * self.shared.discount;

        let start = match self.config.objective {
            IqObjective::V0 if self.config.v0_from_all_expert_states => expert.observation.clone(),
            IqObjective::V0 => start,
            // Not read by the loss.
            IqObjective::Value | IqObjective::ValueExpert => start.narrow(1, 0, 1),
        };
        let starts = start.dims()[1];
        let pairs = Tensor::cat(vec![observation.clone(), join(&expert.action, &policy.action)], 2);
        let drawn = self.draw(Tensor::cat(vec![observation, start], 1));
        let critics = self.critics.apply(Tensor::cat(vec![pairs, drawn.pair], 1));
        let q = critics.output.clone();
        let own = q.clone().narrow(1, 0, 2 * rows);
        let sampled = q.narrow(1, 2 * rows, 2 * rows + starts);
        let entropy = Tensor::<B, 3>::from_inner(temperature.clone() * drawn.log_prob);
        let value = minimum(sampled.clone()) - entropy;
        let target = Tensor::<B, 3>::from_inner(target);
        let reward = (own.clone() - target.clone()).inner().mean_dim(0);
        let side = |from: usize, penalty_q: &Tensor<B, 3>| Side {
            q: own.clone().narrow(1, from, rows),
            penalty_q: penalty_q.clone().narrow(1, from, rows),
            value: value.clone().narrow(1, from, rows),
            next_value: target.clone().narrow(1, from, rows),
            weight: uniform(rows, &self.device),
        };
        let policy_q = match self.config.penalty_rows {
            IqPenaltyRows::Replay => &own,
            IqPenaltyRows::Policy => &sampled,
        };
        let (expert, policy) = (side(0, &own), side(rows, policy_q));
        let start = (value.narrow(1, 2 * rows, starts), uniform(starts, &self.device));
        CriticTerms { terms: loss(&self.config, self.shared.discount, &expert, &policy, start), reward, critics }
    }

    fn improve_actor(
        &mut self,
        observation: Tensor<Inner<B>, 3>,
        temperature: Tensor<Inner<B>, 3>,
        rate_scale: f64,
        measure: bool,
    ) -> Option<SacMetrics> {
        let noise = Tensor::from_inner(self.draw_noise(observation.dims()[1]));
        let actor = self.actor.apply(observation.clone());
        let Sample { action, log_prob } = squashed::sample(actor.output.clone(), noise);
        let q = minimum(self.critics.frozen(Tensor::cat(vec![Tensor::from_inner(observation), action], 2)));
        let loss = actor_loss(q.clone(), log_prob.clone(), Tensor::from_inner(temperature.clone()));
        let metrics = measure.then(|| SacMetrics {
            critic_loss: 0.0,
            actor_loss: scalar(loss.clone().inner()),
            temperature: scalar(temperature.clone().reshape([1])),
            entropy: -scalar(log_prob.clone().inner().mean()),
            q_mean: scalar(q.inner().mean()),
            bc_loss: None,
        });
        self.actor.descend(loss, [actor], self.config.actor_learning_rate * rate_scale, 0.0);
        if self.shared.learn_temperature {
            let target = self.shared.target_entropy.unwrap_or(-(self.actions as f64));
            let gradient = log_prob.inner().mean().add_scalar(target).neg() * temperature.reshape([1]);
            self.log_temperature.step(gradient, self.shared.learning_rate * rate_scale, 0.0);
        }
        metrics
    }

    fn put(&self, values: Vec<f32>, rows: usize) -> Tensor<Inner<B>, 3> {
        let width = values.len() / rows;
        Tensor::from_data(TensorData::new(values, [1, rows, width]), &self.device)
    }

    fn batch(&self, rows: Rows) -> RowTensors<Inner<B>> {
        let count = rows.len();
        RowTensors {
            observation: self.put(rows.observations, count),
            action: self.put(rows.actions, count),
            next_observation: self.put(rows.next_observations, count),
            continues: self.put(rows.continues, count),
        }
    }

    /// Actions of the policy as it stands, beside their observations.
    fn draw(&mut self, observation: Tensor<Inner<B>, 3>) -> Drawn<B> {
        let noise = self.draw_noise(observation.dims()[1]);
        let Sample { action, log_prob } = squashed::sample(self.actor.infer(observation.clone()), noise);
        Drawn { pair: Tensor::cat(vec![observation, action], 2), log_prob }
    }

    fn draw_noise(&mut self, rows: usize) -> Tensor<Inner<B>, 3> {
        let mut noise = vec![0.0; rows * self.actions];
        self.noise.fill_normal(&mut noise);
        Tensor::from_data(TensorData::new(noise, [1, rows, self.actions]), &self.device)
    }

    /// The action for one raw observation: the mode, or with `noise` a draw from the policy.
    pub fn act(&self, observation: &[f32], noise: Option<&mut Stream>) -> Vec<f32> {
        let x = TensorData::new(observation.to_vec(), [1, 1, observation.len()]);
        let head = self.actor.infer(Tensor::from_data(x, &self.device));
        values(match noise {
            None => super::gaussian::mode(head),
            Some(stream) => {
                let mut draw = vec![0.0; self.actions];
                stream.fill_normal(&mut draw);
                let draw = Tensor::from_data(TensorData::new(draw, [1, 1, self.actions]), &self.device);
                squashed::sample(head, draw).action
            }
        })
    }

    /// The policy as it stands, for acting without noise: its mode is that of soft actor-critic.
    pub fn policy(&self) -> Actor {
        Actor::of_seeds(&self.actor, self.actions).swap_remove(0)
    }

    /// Sizes and parameters of the actor, for export and for acting elsewhere.
    pub fn actor(&self) -> (MlpSpec, Vec<f32>) {
        (self.actor.seed_spec().clone(), values(self.actor.parameters.get()))
    }

    /// Everything, for a checkpoint.
    pub fn record(&self) -> IqRecord {
        IqRecord {
            actor: self.actor.parameters.record().swap_remove(0),
            critics: self.critics.parameters.record().swap_remove(0),
            log_temperature: self.log_temperature.record().swap_remove(0),
            noise: self.noise.clone(),
        }
    }

    /// Takes over a checkpoint's content.
    pub fn restore(&mut self, record: IqRecord) -> Result<()> {
        self.actor.parameters.restore(vec![record.actor], &self.device)?;
        self.critics.parameters.restore(vec![record.critics], &self.device)?;
        self.log_temperature.restore(vec![record.log_temperature], &self.device)?;
        self.noise = record.noise;
        Ok(())
    }
}

/// Transitions without a reward, `[1, rows, width]` each.
struct RowTensors<B: Backend> {
    observation: Tensor<B, 3>,
    action: Tensor<B, 3>,
    next_observation: Tensor<B, 3>,
    continues: Tensor<B, 3>,
}

struct CriticTerms<B: Train> {
    terms: Terms<B>,
    reward: Tensor<Inner<B>, 3>,
    critics: Applied<B>,
}

struct Drawn<B: Train> {
    pair: Tensor<Inner<B>, 3>,
    log_prob: Tensor<Inner<B>, 3>,
}

fn uniform<B: Backend>(rows: usize, device: &B::Device) -> Tensor<B, 3> {
    Tensor::full([1, rows, 1], 1.0 / rows as f64, device)
}

/// Smallest of the critics: `[critics, rows, 1]` to `[1, rows, 1]`.
fn minimum<B: Backend>(q: Tensor<B, 3>) -> Tensor<B, 3> {
    if q.dims()[0] == 1 { q } else { q.clone().narrow(0, 0, 1).min_pair(q.narrow(0, 1, 1)) }
}

fn scalar<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.into_scalar().elem()
}

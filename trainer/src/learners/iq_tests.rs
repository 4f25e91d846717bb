//! IQ-Learn on a table whose optimum is known, and its learner's switches.

use super::iq::{Iq, IqMetrics, Side, Terms, loss};
use super::sac::SacMetrics;
use crate::config::{Divergence, IqConfig, IqObjective, IqPenaltyRows, Optimizer, RateSchedule, SacConfig};
use crate::nn::Cpu;
use crate::nn::optimizer::{OptimizerConfig, Parameters, values};
use crate::replay::Rows;
use crate::run::rng::{Stream, Streams};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};

const STATES: usize = 4;
const ACTIONS: usize = 2;
const PAIRS: usize = STATES * ACTIONS;
const DISCOUNT: f64 = 0.8;
const TEMPERATURE: f64 = 0.1;

fn config(objective: IqObjective) -> IqConfig {
    IqConfig {
        objective,
        divergence: Divergence::Chi2,
        alpha: 0.5,
        penalty: true,
        expert_penalty: false,
        penalty_rows: IqPenaltyRows::Replay,
        critics: 1,
        actor_learning_rate: 1e-3,
        warmup_steps: 0,
        v0_from_all_expert_states: false,
    }
}

/// A random finite problem, an expert and another policy, with everything exact.
struct Table {
    start: [f64; STATES],
    transitions: Vec<[f64; STATES]>,
    policy: Vec<f64>,
    expert_occupancy: Vec<f64>,
    policy_occupancy: Vec<f64>,
}

fn distribution<const N: usize>(rng: &mut Stream) -> [f64; N] {
    let mut weights = [0.0; N];
    weights.fill_with(|| 0.1 + rng.unit());
    let total: f64 = weights.iter().sum();
    weights.map(|w| w / total)
}

impl Table {
    fn new(seed: u64) -> Self {
        let rng = &mut Streams::new(seed).stream("table");
        let mut table = Self {
            start: distribution(rng),
            transitions: (0..PAIRS).map(|_| distribution(rng)).collect(),
            policy: (0..STATES).flat_map(|_| distribution::<ACTIONS>(rng)).collect(),
            expert_occupancy: Vec::new(),
            policy_occupancy: Vec::new(),
        };
        let expert: Vec<f64> = (0..STATES).flat_map(|_| distribution::<ACTIONS>(rng)).collect();
        table.expert_occupancy = table.occupancy(&expert);
        table.policy_occupancy = table.occupancy(&table.policy);
        table
    }

    /// `ρ(s, a) = (1 - γ) Σ_t γ^t P(s_t = s, a_t = a)`, by iteration of its flow equation.
    fn occupancy(&self, policy: &[f64]) -> Vec<f64> {
        let mut states = self.start;
        for _ in 0..300 {
            let mut next = self.start.map(|p| (1.0 - DISCOUNT) * p);
            for pair in 0..PAIRS {
                let mass = DISCOUNT * states[pair / ACTIONS] * policy[pair];
                next.iter_mut().zip(self.transitions[pair]).for_each(|(n, p)| *n += mass * p);
            }
            states = next;
        }
        (0..PAIRS).map(|pair| states[pair / ACTIONS] * policy[pair]).collect()
    }

    /// `4α (ρ_E - ρ_π) / (ρ_E + ρ_π)` at α = ½.
    fn best_reward(&self) -> Vec<f64> {
        self.expert_occupancy.iter().zip(&self.policy_occupancy).map(|(e, p)| 2.0 * (e - p) / (e + p)).collect()
    }

    /// `V(s) = Σ_a π(a|s) (Q(s, a) - α_T log π(a|s))` as `[1, states, 1]`.
    fn value(&self, q: Tensor<Cpu, 3>) -> Tensor<Cpu, 3> {
        let mut mix = vec![0.0; STATES * PAIRS];
        (0..PAIRS).for_each(|pair| mix[pair / ACTIONS * PAIRS + pair] = self.policy[pair]);
        let entropy = (0..STATES)
            .map(|s| self.policy[s * ACTIONS..][..ACTIONS].iter().map(|p| -TEMPERATURE * p * p.ln()).sum())
            .collect();
        matrix(mix, STATES).matmul(q) + matrix(entropy, STATES)
    }

    /// The loss with expectations over all pairs in place of batches; the value of the next state is the same network's.
    fn loss(&self, config: &IqConfig, q: Tensor<Cpu, 3>, start: &[f64]) -> (Terms<Cpu>, Vec<f32>) {
        let value = self.value(q.clone());
        let next = matrix(self.transitions.concat(), PAIRS).matmul(value.clone()) * DISCOUNT;
        let of_pair = Tensor::cat((0..PAIRS).map(|pair| value.clone().narrow(1, pair / ACTIONS, 1)).collect(), 1);
        let side = |occupancy: &[f64]| Side {
            q: q.clone(),
            penalty_q: q.clone(),
            value: of_pair.clone(),
            next_value: next.clone(),
            weight: matrix(occupancy.to_vec(), PAIRS),
        };
        let (expert, policy) = (side(&self.expert_occupancy), side(&self.policy_occupancy));
        let reward = values(expert.reward().inner());
        (loss(config, DISCOUNT, &expert, &policy, (value, matrix(start.to_vec(), STATES))), reward)
    }

    /// The implied reward where descent on the loss ends.
    fn descend(&self, config: &IqConfig, start: &[f64]) -> Vec<f32> {
        let steps = 2500;
        let rng = &mut Streams::new(9).stream("q");
        let first = (0..PAIRS).map(|_| rng.normal() as f32).collect();
        let adam = OptimizerConfig::new(Optimizer::Adam);
        let mut parameters = Parameters::<Flex>::new(first, false, adam, &Default::default());
        for step in 0..steps {
            let q = Tensor::<Cpu, 1>::from_inner(parameters.get()).require_grad();
            let (terms, _) = self.loss(config, q.clone().reshape([1, PAIRS, 1]), start);
            let gradient = q.grad_remove(&mut terms.total.backward()).unwrap();
            drop(q);
            parameters.step(gradient, 0.05 * (1.0 - f64::from(step) / f64::from(steps)), 0.0);
        }
        let q = Tensor::<Cpu, 1>::from_inner(parameters.get()).reshape([1, PAIRS, 1]);
        self.loss(config, q, start).1
    }

    fn expert_states(&self) -> Vec<f64> {
        self.expert_occupancy.chunks(ACTIONS).map(|pair| pair.iter().sum()).collect()
    }
}

fn matrix(values: Vec<f64>, rows: usize) -> Tensor<Cpu, 3> {
    let width = values.len() / rows;
    let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, [1, rows, width]), &Default::default())
}

fn distance(found: &[f32], expected: &[f64]) -> f64 {
    found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn descent_finds_the_reward_in_closed_form() {
    let table = Table::new(1);
    let expected = table.best_reward();
    assert!(expected.iter().any(|r| r.abs() > 0.3), "a problem with something to find");
    for objective in [IqObjective::Value, IqObjective::V0, IqObjective::ValueExpert] {
        let found = table.descend(&config(objective), &table.start);
        assert!(distance(&found, &expected) < 5e-3, "{objective:?}: {found:?} instead of {expected:?}");
    }
}

/// Spec 7.19: with every expert state in place of the first ones, `v0` has another optimum.
#[test]
fn v0_over_all_expert_states_finds_another_reward() {
    let table = Table::new(1);
    let found = table.descend(&config(IqObjective::V0), &table.expert_states());
    assert!(distance(&found, &table.best_reward()) > 0.02, "{found:?}");
}

/// `E_ρ[V(s) - γ V(s')] = (1 - γ) E V(s₀)` for the occupancy of any policy: the three value terms are one number.
#[test]
fn value_terms_telescope() {
    let table = Table::new(3);
    let rng = &mut Streams::new(4).stream("q");
    let q = matrix((0..PAIRS).map(|_| rng.normal()).collect(), PAIRS);
    let term = |objective| values(table.loss(&config(objective), q.clone(), &table.start).0.value.inner())[0];
    let expected = term(IqObjective::V0);
    for objective in [IqObjective::Value, IqObjective::ValueExpert] {
        assert!((term(objective) - expected).abs() < 1e-6, "{objective:?}: {} and {expected}", term(objective));
    }
}

fn shared(learn_temperature: bool) -> SacConfig {
    SacConfig {
        hidden: vec![16],
        actor_hidden: None,
        discount: 0.9,
        polyak_rate: 0.05,
        target_every: 1,
        batch_size: 32,
        replay_capacity: 1,
        train_every: 1,
        grad_steps: 1,
        exploration_steps: 0,
        learning_rate: 3e-3,
        learning_rate_schedule: RateSchedule::Constant,
        initial_temperature: 0.01,
        learn_temperature,
        target_entropy: None,
        optimizer: Optimizer::Adam,
        gsde: false,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    }
}

/// The expert acts +0.6 everywhere, the replay holds uniform actions; the first states are at -1.
fn train(config: &IqConfig, shared: &SacConfig, steps: usize) -> (Iq<Cpu>, SacMetrics, IqMetrics) {
    let mut iq = Iq::<Cpu>::new(config, shared, 1, 1, Streams::new(2), &Default::default());
    let rng = &mut Streams::new(2).stream("test");
    let mut last = None;
    for _ in 0..steps {
        let mut rows = |act: fn(&mut Stream) -> f32| {
            let mut rows = Rows { continues: vec![1.0; 32], ..Rows::default() };
            for _ in 0..32 {
                rows.observations.push(rng.uniform(-1.0, 1.0) as f32);
                rows.actions.push(act(rng));
                rows.next_observations.push(rng.uniform(-1.0, 1.0) as f32);
            }
            rows
        };
        let (expert, policy) = (rows(|_| 0.6), rows(|rng| rng.uniform(-1.0, 1.0) as f32));
        last = iq.update(expert, policy, vec![-1.0; 32], 1.0, true);
    }
    let (sac, metrics) = last.unwrap();
    (iq, sac, metrics)
}

#[test]
fn the_actor_follows_the_expert() {
    for critics in [1, 2] {
        let (iq, _, metrics) = train(&IqConfig { critics, ..config(IqObjective::Value) }, &shared(false), 600);
        for state in [-0.8, 0.0, 0.8] {
            let action = iq.act(&[state], None)[0];
            assert!((action - 0.6).abs() < 0.15, "{critics} critics: acts {action} at {state}");
        }
        assert!(metrics.iq_reward_expert > metrics.iq_reward_learner + 0.05, "{metrics:?}");
    }
}

#[test]
fn the_switches_change_what_is_learned() {
    let base = config(IqObjective::V0);
    let term = |config: &IqConfig| train(config, &shared(false), 1).2.iq_value_term;
    assert_ne!(term(&base), term(&IqConfig { v0_from_all_expert_states: true, ..base.clone() }));
    let critic_loss = |config: &IqConfig| train(config, &shared(false), 2).1.critic_loss;
    assert_ne!(critic_loss(&base), critic_loss(&IqConfig { penalty_rows: IqPenaltyRows::Policy, ..base.clone() }));
    let temperature = |learn| train(&base, &shared(learn), 20).1.temperature;
    assert!((temperature(false) - 0.01).abs() < 1e-9);
    assert!((temperature(true) - 0.01).abs() > 1e-5, "a learned temperature moves");
}

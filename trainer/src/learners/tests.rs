//! Soft actor-critic on problems whose solution is known.

use super::Batch;
use super::sac::Sac;
use crate::config::{Optimizer, RateSchedule, SacConfig};
use crate::nn::Cpu;
use crate::nn::optimizer::values;
use crate::run::rng::{Stream, Streams};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};

const ROWS: usize = 128;

fn config(temperature: f64, discount: f64) -> SacConfig {
    SacConfig {
        hidden: vec![32, 32],
        actor_hidden: None,
        discount,
        polyak_rate: 0.05,
        target_every: 1,
        batch_size: ROWS,
        replay_capacity: 1,
        train_every: 1,
        grad_steps: 1,
        exploration_steps: 0,
        learning_rate: 3e-3,
        learning_rate_schedule: RateSchedule::Constant,
        initial_temperature: temperature,
        learn_temperature: false,
        target_entropy: None,
        optimizer: Optimizer::Adam,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    }
}

fn column(values: Vec<f32>) -> Tensor<Flex, 3> {
    let rows = values.len();
    Tensor::from_data(TensorData::new(values, [1, rows, 1]), &Default::default())
}

/// One state, uniform actions, `reward(action)`; every step ends as `continues` says.
fn batch(rng: &mut Stream, reward: impl Fn(f32) -> f32, continues: f32) -> Batch<Flex> {
    let actions: Vec<f32> = (0..ROWS).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
    Batch {
        observation: column(vec![0.3; ROWS]),
        reward: column(actions.iter().map(|a| reward(*a)).collect()),
        action: column(actions),
        next_observation: column(vec![0.3; ROWS]),
        continues: column(vec![continues; ROWS]),
    }
}

fn train(config: &SacConfig, steps: usize, reward: impl Fn(f32) -> f32 + Copy, continues: f32) -> Sac<Cpu> {
    let mut sac = Sac::<Cpu>::new(config, 1, 1, &[Streams::new(5)], &Default::default());
    let mut rng = Streams::new(5).stream("test");
    for _ in 0..steps {
        sac.update(&batch(&mut rng, reward, continues), config.learning_rate, false);
    }
    sac
}

/// The target takes part of the critic in every third step and stands still in between.
#[test]
fn targets_follow_every_so_many_steps() {
    let config = SacConfig { target_every: 3, ..config(0.2, 0.9) };
    let mut sac = Sac::<Cpu>::new(&config, 1, 1, &[Streams::new(5)], &Default::default());
    let mut rng = Streams::new(5).stream("test");
    let target = |sac: &Sac<Cpu>| values(sac.critics.parameters.target());
    let mut moved = Vec::new();
    for _ in 0..7 {
        let before = target(&sac);
        sac.update(&batch(&mut rng, |a| a, 1.0), config.learning_rate, false);
        moved.push(before != target(&sac));
    }
    assert_eq!(moved, [true, false, false, true, false, false, true]);
}

#[test]
fn a_bandit_is_solved_and_its_critic_is_the_reward() {
    let reward = |a: f32| -(a - 0.5).powi(2);
    let sac = train(&config(0.005, 0.9), 1500, reward, 0.0);
    let action = sac.policies()[0].act(&[0.3], None)[0];
    assert!((action - 0.5).abs() < 0.06, "acts {action} instead of 0.5");
    for a in [-0.8_f32, -0.2, 0.4, 0.9] {
        let value = values(sac.value(column(vec![0.3]), column(vec![a])))[0];
        assert!((value - reward(a)).abs() < 0.05, "Q({a}) = {value} instead of {}", reward(a));
    }
}

#[test]
fn the_temperature_brings_the_entropy_to_its_target() {
    let config = SacConfig { learn_temperature: true, target_entropy: Some(-0.5), ..config(0.2, 0.9) };
    let mut sac = Sac::<Cpu>::new(&config, 1, 1, &[Streams::new(6)], &Default::default());
    let mut rng = Streams::new(6).stream("test");
    let mut entropy = 0.0;
    for step in 0..2000 {
        let rows = batch(&mut rng, |a| -(a - 0.5).powi(2), 0.0);
        let metrics = sac.update(&rows, config.learning_rate, step >= 1900);
        entropy += metrics.map_or(0.0, |m| m[0].entropy / 100.0);
    }
    assert!((entropy + 0.5).abs() < 0.15, "entropy {entropy} instead of -0.5");
}

/// A reward of 1 for ever is worth 1/(1-γ); cut by a time limit it still is, ended by the task it is worth 1.
#[test]
fn time_limits_bootstrap_and_terminal_states_do_not() {
    for (continues, expected) in [(1.0, 10.0), (0.0, 1.0)] {
        let sac = train(&config(1e-4, 0.9), 1500, |_| 1.0, continues);
        let value = values(sac.value(column(vec![0.3]), column(vec![0.1])))[0];
        assert!((value - expected).abs() < 0.05 * expected, "continues {continues}: {value} instead of {expected}");
    }
}

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

/// `E[value(a)]` and entropy of `a = tanh(mean + std n)`, `n` standard normal: integrals, by the midpoint rule.
fn expectation(mean: f64, std: f64, value: impl Fn(f64) -> f64) -> (f64, f64) {
    let width = 0.01;
    let (mut expected, mut entropy) = (0.0, 0.0);
    for index in 0..1200 {
        let n = -6.0 + (f64::from(index) + 0.5) * width;
        let weight = (-0.5 * n * n).exp() / (2.0 * std::f64::consts::PI).sqrt() * width;
        let u = mean + std * n;
        // log(1 - tanh² u), without cancellation.
        let slope = 2.0 * (std::f64::consts::LN_2 - u.abs() - (-2.0 * u.abs()).exp().ln_1p());
        expected += weight * value(u.tanh());
        entropy += weight * (0.5 * (2.0 * std::f64::consts::PI).ln() + std.ln() + 0.5 * n * n + slope);
    }
    (expected, entropy)
}

/// The mean and deviation of a squashed Gaussian with the largest `E[value] + temperature · entropy`, and its entropy.
fn best_in_family(temperature: f64, value: impl Fn(f64) -> f64 + Copy) -> (f64, f64, f64) {
    let mut best = (f64::MIN, 0.0, 0.0, 0.0);
    for (mean, std) in
        (-20..=40).flat_map(|mean| (2..=80).map(move |std| (0.03 * f64::from(mean), 0.02 * f64::from(std))))
    {
        let (expected, entropy) = expectation(mean, std, value);
        if expected + temperature * entropy > best.0 {
            best = (expected + temperature * entropy, mean, std, entropy);
        }
    }
    (best.1, best.2, best.3)
}

/// One step, a reward with one peak, and a fixed temperature: the best policy is the widest that the reward allows, close to
/// `exp(r / α)` among all densities; here within the family, found by search.
#[test]
fn a_bandits_policy_is_as_wide_as_the_temperature_asks() {
    let (temperature, rows) = (0.1, 4000);
    let reward = |a: f64| -(a - 0.5).powi(2);
    let (mean, std, _) = best_in_family(temperature, reward);
    let moments = |power: i32| expectation(mean, std, |a| a.powi(power)).0;
    let (expected, deviation) = (moments(1), (moments(2) - moments(1).powi(2)).sqrt());
    let sac = train(&config(temperature, 0.9), 2500, |a| reward(f64::from(a)) as f32, 0.0);
    let (policy, mut noise) = (&sac.policies()[0], Streams::new(8).stream("test"));
    let drawn: Vec<f64> = (0..rows).map(|_| f64::from(policy.act(&[0.3], Some(&mut noise))[0])).collect();
    let found = drawn.iter().sum::<f64>() / f64::from(rows);
    let spread = (drawn.iter().map(|a| (a - found).powi(2)).sum::<f64>() / f64::from(rows)).sqrt();
    assert!((found - expected).abs() < 0.05, "mean {found} instead of {expected}");
    assert!((spread / deviation - 1.0).abs() < 0.15, "deviation {spread} instead of {deviation}");
}

/// Two states that follow each other whatever is done, with rewards 1 and 0: the policy is as random as it can be, and
/// `Q(s) = r(s) + γ (Q(s') + α H)` with that entropy H.
#[test]
fn a_chain_of_two_states_has_its_soft_values() {
    let (temperature, discount) = (0.5, 0.8);
    let (_, _, entropy) = best_in_family(temperature, |_| 0.0);
    assert!((0.6..std::f64::consts::LN_2).contains(&entropy), "nearly uniform: {entropy}");
    let bonus = discount * temperature * entropy;
    let of_paying = (1.0 + bonus + discount * bonus) / (1.0 - discount * discount);
    let of_other = bonus + discount * of_paying;
    let config = config(temperature, discount);
    let mut sac = Sac::<Cpu>::new(&config, 1, 1, &[Streams::new(5)], &Default::default());
    let mut rng = Streams::new(5).stream("test");
    let state = |paying: bool| if paying { 1.0 } else { -1.0 };
    for _ in 0..3000 {
        let paying = |row: usize| row.is_multiple_of(2);
        let rows = Batch {
            observation: column((0..ROWS).map(|row| state(paying(row))).collect()),
            action: column((0..ROWS).map(|_| rng.uniform(-1.0, 1.0) as f32).collect()),
            reward: column((0..ROWS).map(|row| if paying(row) { 1.0 } else { 0.0 }).collect()),
            next_observation: column((0..ROWS).map(|row| state(!paying(row))).collect()),
            continues: column(vec![1.0; ROWS]),
        };
        sac.update(&rows, config.learning_rate, false);
    }
    for (paying, expected) in [(true, of_paying), (false, of_other)] {
        for action in [-0.7, 0.0, 0.6] {
            let value = f64::from(values(sac.value(column(vec![state(paying)]), column(vec![action])))[0]);
            assert!((value / expected - 1.0).abs() < 0.03, "Q({paying}, {action}) = {value} instead of {expected}");
        }
    }
}

/// What `log_prob` says belongs to a density: over all actions it integrates to one.
#[test]
fn both_squashed_gaussians_integrate_to_one() {
    for (mean, log_std) in [(0.0_f32, 0.0_f32), (0.3, -0.5), (-1.0, 0.7)] {
        let width = 0.01;
        let grid: Vec<f32> = (0..1200).map(|index| -6.0 + (index as f32 + 0.5) * width).collect();
        // IQ-Learn's head has its own way to write a log deviation: -5 + 3.5 (tanh z + 1).
        let written = ((log_std + 5.0) / 3.5 - 1.0).atanh();
        type Draw = fn(Tensor<Flex, 3>, Tensor<Flex, 3>) -> super::gaussian::Sample<Flex>;
        for (draw, second) in [(super::gaussian::sample as Draw, log_std), (super::squashed::sample as Draw, written)] {
            let head: Vec<f32> = grid.iter().flat_map(|_| [mean, second]).collect();
            let head = Tensor::from_data(TensorData::new(head, [1, grid.len(), 2]), &Default::default());
            let drawn = draw(head, column(grid.clone()));
            let mass: f32 = values(drawn.action)
                .iter()
                .zip(values(drawn.log_prob))
                // da = (1 - a²) std dn
                .map(|(a, log_prob)| log_prob.exp() * (1.0 - a * a) * log_std.exp() * width)
                .sum();
            assert!((mass - 1.0).abs() < 2e-3, "mean {mean}, log deviation {log_std}: {mass}");
        }
    }
}

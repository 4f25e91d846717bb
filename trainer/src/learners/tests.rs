//! Soft actor-critic on problems whose solution is known.

use super::Batch;
use super::sac::Sac;
use super::state_dependent::StateDependent;
use crate::config::{Optimizer, RateSchedule, SacConfig};
use crate::nn::Cpu;
use crate::nn::optimizer::{OptimizerConfig, values};
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
        gsde: false,
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
    a_bandit_is_solved(&config(0.005, 0.9), 1500);
    // A mean that has left its bounds has no gradient any more: slower, so that the critic is right before it gets there.
    a_bandit_is_solved(&SacConfig { gsde: true, learning_rate: 1e-3, ..config(0.005, 0.9) }, 3000);
}

fn a_bandit_is_solved(config: &SacConfig, steps: usize) {
    let reward = |a: f32| -(a - 0.5).powi(2);
    let (sac, gsde) = (train(config, steps, reward, 0.0), config.gsde);
    let action = sac.policies()[0].act(&[0.3], None)[0];
    assert!((action - 0.5).abs() < 0.06, "acts {action} instead of 0.5, gSDE {gsde}");
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

/// One state's features are numbers like any: its policy is a Gaussian of the variance that they give, and explores the same way
/// until the next gradient step.
#[test]
fn state_dependent_noise_lasts_and_has_the_variance_of_its_features() {
    let mut streams = [Streams::new(3).stream("test")];
    let optimizer = OptimizerConfig::new(Optimizer::Adam);
    let mut policies = StateDependent::<Cpu>::new(2, &[8, 16], 1, optimizer, &mut streams, &Default::default());
    let (observation, rows) = ([0.4, -0.9], 4000);
    let acted = |policies: &StateDependent<Cpu>, observation: &[f32]| {
        policies.policies()[0].act(observation, Some(&mut Streams::new(0).stream("unused")))[0]
    };
    let mean = policies.policies()[0].act(&observation, None)[0].atanh();
    let mut noise = vec![0.0; 16];
    let (mut sum, mut squares, mut log_probs) = (0.0, 0.0, Vec::new());
    for _ in 0..rows {
        streams[0].fill_normal(&mut noise);
        policies.explore_with([noise.as_slice()].into_iter());
        let action = acted(&policies, &observation);
        assert_eq!(action, acted(&policies, &observation), "the same state, the same action");
        let device = Default::default();
        let x = Tensor::from_data(TensorData::new(observation.to_vec(), [1, 1, 2]), &device);
        let epsilon = Tensor::from_data(TensorData::new(noise.clone(), [1, 16, 1]), &device);
        let drawn = policies.infer(x, epsilon);
        assert!((values(drawn.action)[0] - action).abs() < 1e-5, "on the host as in a batch");
        let u = f64::from(action.atanh() - mean);
        (sum, squares) = (sum + u, squares + u * u);
        log_probs.push((u, f64::from(action), f64::from(values(drawn.log_prob)[0])));
    }
    let deviation = (squares / f64::from(rows)).sqrt();
    assert!((sum / f64::from(rows)).abs() < 4.0 * deviation / f64::from(rows).sqrt(), "around the mode");
    // Two draws' densities give the variance without the features: log p(u) + log(1 - a²) = c - u² / 2σ².
    let flat = |(_, action, log_prob): (f64, f64, f64)| log_prob + (1.0 - action * action + 1e-6).ln();
    let (near, far) = (log_probs[0], *log_probs.iter().max_by(|a, b| a.0.abs().total_cmp(&b.0.abs())).unwrap());
    let stated = ((far.0.powi(2) - near.0.powi(2)) / (2.0 * (flat(near) - flat(far)))).sqrt();
    assert!((deviation / stated - 1.0).abs() < 0.05, "drawn {deviation}, stated {stated}");
}

/// The mode keeps within tanh(±2), wherever the mean goes.
#[test]
fn state_dependent_means_are_clipped() {
    let config = SacConfig { gsde: true, ..config(1e-4, 0.9) };
    let mut sac = Sac::<Cpu>::new(&config, 1, 1, &[Streams::new(5)], &Default::default());
    let mut rng = Streams::new(5).stream("test");
    let rows = |rng: &mut Stream| batch(rng, |a| 10.0 * a, 0.0);
    (0..1200).for_each(|_| drop(sac.update(&rows(&mut rng), config.learning_rate, false)));
    let action = sac.policies()[0].act(&[0.3], None)[0];
    assert!((action - 2.0_f32.tanh()).abs() < 1e-5, "{action} instead of tanh 2");
}

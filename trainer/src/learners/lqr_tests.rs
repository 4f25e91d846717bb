//! A linear system with a known quadratic cost: the greedy policy must come near the Riccati equation's answer.

use super::Batch;
use super::sac::Sac;
use super::td3_bc::{Objective, Td3Bc};
use crate::config::{Optimizer, RateSchedule, SacConfig, Td3BcConfig};
use crate::nn::Cpu;
use crate::nn::optimizer::values;
use crate::run::rng::{Stream, Streams};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};

/// `s' = DRIFT s + GAIN a`, cost `s² + PRICE a²`, discounted.
const DRIFT: f64 = 0.9;
const GAIN: f64 = 0.5;
const PRICE: f64 = 0.3;
const DISCOUNT: f64 = 0.8;

const ROWS: usize = 128;
const STEPS: usize = 3000;

/// `P` of the value `-P s²` and `K` of the policy `-K s`.
fn riccati() -> (f64, f64) {
    let mut p = 1.0;
    for _ in 0..200 {
        let cross = DISCOUNT * DRIFT * GAIN * p;
        p = 1.0 + DISCOUNT * DRIFT * DRIFT * p - cross * cross / (PRICE + DISCOUNT * GAIN * GAIN * p);
    }
    (p, DISCOUNT * DRIFT * GAIN * p / (PRICE + DISCOUNT * GAIN * GAIN * p))
}

fn column(values: Vec<f64>) -> Tensor<Flex, 3> {
    let rows = values.len();
    let values = values.into_iter().map(|value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, [1, rows, 1]), &Default::default())
}

fn batch(rng: &mut Stream) -> Batch<Flex> {
    let pairs: Vec<[f64; 2]> = (0..ROWS).map(|_| [rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0)]).collect();
    let of = |f: fn(f64, f64) -> f64| column(pairs.iter().map(|[s, a]| f(*s, *a)).collect());
    Batch {
        observation: of(|s, _| s),
        action: of(|_, a| a),
        reward: of(|s, a| -(s * s + PRICE * a * a)),
        next_observation: of(|s, a| DRIFT * s + GAIN * a),
        continues: of(|_, _| 1.0),
    }
}

/// Checks greedy actions, and values at actions that are not greedy.
fn check(name: &str, act: impl Fn(f64) -> f64, value: impl Fn(f64, f64) -> f64) {
    let (p, k) = riccati();
    assert!(k > 0.5 && k < 1.0, "an answer inside the bounds, and not a trivial one: {k}");
    let states = [-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8];
    let actions = states.map(|s| (act(s), -k * s));
    let errors = actions.map(|(found, expected)| (found - expected).abs());
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(mean < 0.08 && errors.iter().all(|error| *error < 0.15), "{name}: found and expected {actions:?}");
    for (s, a) in states.iter().flat_map(|s| [(*s, -0.5), (*s, 0.5)]) {
        let next: f64 = DRIFT * s + GAIN * a;
        let (found, expected) = (value(s, a), -(s * s + PRICE * a * a + DISCOUNT * p * next * next));
        assert!((found - expected).abs() < 0.12, "{name}: Q({s}, {a}) = {found} instead of {expected}");
    }
}

#[test]
fn td3_solves_a_linear_quadratic_problem() {
    let config = Td3BcConfig {
        hidden: vec![64, 64],
        discount: DISCOUNT,
        polyak_rate: 0.05,
        batch_size: ROWS,
        replay_capacity: 1,
        train_every: 1,
        grad_steps: 1,
        exploration_steps: 0,
        learning_rate: 3e-3,
        learning_rate_schedule: RateSchedule::Constant,
        optimizer: Optimizer::Adam,
        target_noise: 0.02,
        target_noise_clip: 0.5,
        policy_delay: 2,
        alpha: 2.5,
        bc_steps: 0,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    };
    let mut td3 = Td3Bc::<Cpu>::new(&config, 1, 1, &[Streams::new(1)], &Default::default());
    let mut rng = Streams::new(1).stream("test");
    for step in 0..STEPS {
        let rate = 3e-3 * (1.0 - step as f64 / STEPS as f64);
        let noise = td3.draw_noise(&[ROWS]).remove(0);
        td3.step(&batch(&mut rng), noise, Objective::Value, None, rate, false);
    }
    let act = |s: f64| f64::from(td3.policies()[0].act(&[s as f32], None)[0]);
    check("TD3", act, |s, a| f64::from(values(td3.value(column(vec![s]), column(vec![a])))[0]));
}

#[test]
fn sac_solves_a_linear_quadratic_problem() {
    let config = SacConfig {
        hidden: vec![64, 64],
        actor_hidden: None,
        discount: DISCOUNT,
        polyak_rate: 0.05,
        target_every: 1,
        batch_size: ROWS,
        replay_capacity: 1,
        train_every: 1,
        grad_steps: 1,
        exploration_steps: 0,
        learning_rate: 3e-3,
        learning_rate_schedule: RateSchedule::Constant,
        initial_temperature: 0.002,
        learn_temperature: false,
        target_entropy: None,
        optimizer: Optimizer::Adam,
        gsde: false,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    };
    let mut sac = Sac::<Cpu>::new(&config, 1, 1, &[Streams::new(1)], &Default::default());
    let mut rng = Streams::new(1).stream("test");
    for step in 0..STEPS {
        sac.update(&batch(&mut rng), 3e-3 * (1.0 - step as f64 / STEPS as f64), false);
    }
    let act = |s: f64| f64::from(sac.policies()[0].act(&[s as f32], None)[0]);
    check("SAC", act, |s, a| f64::from(values(sac.value(column(vec![s]), column(vec![a])))[0]));
}

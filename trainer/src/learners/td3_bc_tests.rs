//! TD3+BC on problems whose solution is known.

use super::*;
use crate::config::{Optimizer, RateSchedule, Td3BcConfig};
use crate::nn::Cpu;
use crate::nn::mlp;
use crate::nn::optimizer::values;
use burn::backend::Flex;
use burn::tensor::TensorData;

const ROWS: usize = 128;

fn config() -> Td3BcConfig {
    Td3BcConfig {
        hidden: vec![32, 32],
        discount: 0.9,
        polyak_rate: 0.05,
        batch_size: ROWS,
        replay_capacity: 1,
        train_every: 1,
        grad_steps: 1,
        exploration_steps: 0,
        learning_rate: 3e-3,
        learning_rate_schedule: RateSchedule::Constant,
        optimizer: Optimizer::Adam,
        target_noise: 0.2,
        target_noise_clip: 0.5,
        policy_delay: 2,
        alpha: 2.5,
        bc_steps: 0,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    }
}

fn learner(config: &Td3BcConfig) -> Td3Bc<Cpu> {
    Td3Bc::new(config, 1, 1, &[Streams::new(5)], &Default::default())
}

fn update(td3: &mut Td3Bc<Cpu>, batch: &Batch<Flex>, objective: Objective, rate: f64) -> Option<Vec<Td3BcMetrics>> {
    let noise = td3.draw_noise(&[batch.observation.dims()[1]]).remove(0);
    td3.step(batch, noise, objective, None, rate, true)
}

fn column(values: Vec<f32>) -> Tensor<Flex, 3> {
    let rows = values.len();
    Tensor::from_data(TensorData::new(values, [1, rows, 1]), &Default::default())
}

/// Uniform states and actions, `reward(state, action)`; every step ends.
fn batch(rng: &mut Stream, reward: impl Fn(f32, f32) -> f32) -> Batch<Flex> {
    let mut draw = || (0..ROWS).map(|_| rng.uniform(-1.0, 1.0) as f32).collect::<Vec<_>>();
    let (states, actions) = (draw(), draw());
    Batch {
        reward: column(states.iter().zip(&actions).map(|(s, a)| reward(*s, *a)).collect()),
        observation: column(states.clone()),
        action: column(actions),
        next_observation: column(states),
        continues: column(vec![0.0; ROWS]),
    }
}

fn rng() -> Stream {
    Streams::new(5).stream("test")
}

/// Actor, its target, critics, their targets.
fn vectors(td3: &Td3Bc<Cpu>) -> [Vec<f32>; 4] {
    let of = |network: &Network<Cpu>| [values(network.parameters.get()), values(network.parameters.target())];
    let ([actor, actor_target], [critics, critic_targets]) = (of(&td3.actor), of(&td3.critics));
    [actor, actor_target, critics, critic_targets]
}

/// Which of [`vectors`] one step moves.
fn moved_by(td3: &mut Td3Bc<Cpu>, rng: &mut Stream, objective: Objective) -> [bool; 4] {
    let before = vectors(td3);
    update(td3, &batch(rng, |s, a| s * a), objective, 1e-3);
    let after = vectors(td3);
    std::array::from_fn(|index| before[index] != after[index])
}

#[test]
fn a_contextual_bandit_is_solved() {
    let mut td3 = learner(&config());
    let (mut rng, best) = (rng(), |s: f32| 0.5 * s + 0.1);
    for _ in 0..1500 {
        update(&mut td3, &batch(&mut rng, |s, a| -(a - best(s)).powi(2)), Objective::Value, 3e-3);
    }
    for s in [-0.8, -0.3, 0.2, 0.7] {
        let action = td3.policies()[0].act(&[s], None)[0];
        assert!((action - best(s)).abs() < 0.06, "acts {action} at {s} instead of {}", best(s));
        let value = values(td3.value(column(vec![s]), column(vec![0.0])))[0];
        assert!((value + best(s).powi(2)).abs() < 0.05, "Q({s}, 0) = {value} instead of {}", -best(s).powi(2));
    }
}

/// `λ` divides the scale of the values out: critics of rewards that are `c` times as large move the actor alike.
#[test]
fn the_scale_of_the_rewards_does_not_reach_the_actor() {
    let td3 = learner(&config());
    let gradient = |scale: f64| {
        let actor = td3.actor.variable();
        let observation = Tensor::<Cpu, 3>::from_inner(column((0..ROWS).map(|i| i as f32 / 64.0 - 1.0).collect()));
        let action = mlp::forward(td3.actor.spec(), observation.clone(), actor.clone()).tanh();
        let q = twin(td3.critics.frozen(Tensor::cat(vec![observation, action], 2)), 0) * scale;
        values(actor.grad_remove(&mut actor_loss(q, 2.5).backward()).unwrap())
    };
    let (one, hundred) = (gradient(1.0), gradient(100.0));
    let size = one.iter().fold(0.0_f32, |m, g| m.max(g.abs()));
    assert!(size > 1e-3, "a gradient to compare");
    for (a, b) in one.iter().zip(&hundred) {
        assert!((a - b).abs() < 1e-5 * size, "{a} and {b}");
    }
}

#[test]
fn cloning_does_not_see_the_critics() {
    let clone = |scale: f32, objective| {
        let mut td3 = learner(&config());
        let mut rng = rng();
        for _ in 0..20 {
            update(&mut td3, &batch(&mut rng, |s, a| scale * (s + a).sin()), objective, 3e-3);
        }
        td3.actors().remove(0).1
    };
    assert_eq!(clone(1.0, Objective::Cloning), clone(-7.0, Objective::Cloning));
    assert_ne!(clone(1.0, Objective::ValueAndCloning), clone(-7.0, Objective::ValueAndCloning));
}

#[test]
fn the_actor_and_all_targets_wait_for_every_second_step() {
    let mut td3 = learner(&config());
    let mut rng = rng();
    for _ in 0..3 {
        assert_eq!(moved_by(&mut td3, &mut rng, Objective::Value), [false, false, true, false]);
        assert_eq!(moved_by(&mut td3, &mut rng, Objective::ValueAndCloning), [true; 4]);
    }
    // Cloning moves the actor each time and leaves the count alone.
    for _ in 0..3 {
        assert_eq!(moved_by(&mut td3, &mut rng, Objective::Cloning), [true; 4]);
    }
    assert_eq!(moved_by(&mut td3, &mut rng, Objective::Value), [false, false, true, false]);
}

#[test]
fn noise_on_the_target_is_clipped_and_the_action_too() {
    let noise = column(vec![-10.0, -1.0, 0.0, 1.0, 2.4, 2.6, 10.0, 10.0]);
    let action = column(vec![0.0, 0.0, 0.3, 0.1, 0.0, 0.0, 0.2, 0.9]);
    let found = values(smoothed_action(action, noise, 0.2, 0.5));
    let expected = [-0.5, -0.2, 0.3, 0.3, 0.48, 0.5, 0.7, 1.0];
    assert!(found.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{found:?}");
}

#[test]
fn a_restored_learner_continues_bit_for_bit() {
    let mut rng = rng();
    let rows: Vec<_> = (0..9).map(|_| batch(&mut rng, |s, a| s - a * a)).collect();
    let learn = |td3: &mut Td3Bc<Cpu>, rows: &[Batch<Flex>]| {
        rows.iter().for_each(|rows| assert!(update(td3, rows, Objective::Value, 1e-3).is_some()));
    };
    let mut whole = learner(&config());
    learn(&mut whole, &rows);
    let (mut first, mut second) = (learner(&config()), learner(&config()));
    learn(&mut first, &rows[..5]);
    second.restore(first.record()).unwrap();
    learn(&mut second, &rows[5..]);
    assert_eq!(whole.record(), second.record());
}

#[test]
fn stacked_seeds_learn_as_they_would_alone() {
    let streams = [Streams::new(5), Streams::new(8)];
    let make = |streams: &[Streams]| Td3Bc::<Cpu>::new(&config(), 1, 1, streams, &Default::default());
    let mut alone = streams.map(|streams| make(&[streams]));
    let mut stacked = make(&streams);
    let mut rng = rng();
    for _ in 0..6 {
        let rows = [0, 1].map(|_| batch(&mut rng, |s, a| s - a * a));
        let join =
            |column: fn(&Batch<Flex>) -> &Tensor<Flex, 3>| Tensor::cat(rows.iter().map(column).cloned().collect(), 0);
        let together = Batch {
            observation: join(|rows| &rows.observation),
            action: join(|rows| &rows.action),
            reward: join(|rows| &rows.reward),
            next_observation: join(|rows| &rows.next_observation),
            continues: join(|rows| &rows.continues),
        };
        let measured = update(&mut stacked, &together, Objective::ValueAndCloning, 1e-3).unwrap();
        for ((td3, rows), found) in alone.iter_mut().zip(&rows).zip(measured) {
            let expected = update(td3, rows, Objective::ValueAndCloning, 1e-3).unwrap()[0];
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1e-3);
            assert!(near(found.critic_loss, expected.critic_loss) && near(found.actor_loss, expected.actor_loss));
            assert!(near(found.value_scale, expected.value_scale), "{found:?} {expected:?}");
        }
    }
    for (stacked, alone) in stacked.actors().iter().zip(alone.iter().map(|td3| td3.actors().remove(0))) {
        assert_eq!(stacked.0, alone.0);
        assert!(stacked.1.iter().zip(&alone.1).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

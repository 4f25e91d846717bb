//! Seeds side by side learn what each learns alone: stacking regroups sums at most, so that only rounding may differ.

use super::Batch;
use super::block::Block;
use super::sac::{Sac, SacMetrics};
use crate::config::{Optimizer, RateSchedule, Reduction, RewardConfig, SacConfig, TurnRate};
use crate::nn::Cpu;
use crate::replay::Rows;
use crate::reward::discriminator::{Discriminator, Pairs, Turn};
use crate::run::rng::{Stream, Streams};
use burn::backend::Flex;

const SEEDS: [u64; 3] = [4, 0, 9];
const OBSERVATIONS: usize = 5;
const ACTIONS: usize = 2;
const UPDATES: usize = 50;

/// Parameters may differ by this share of the largest one, and figures by this share of theirs.
const TOLERANCE: f64 = 1e-5;

fn config(gsde: bool) -> SacConfig {
    SacConfig {
        gsde,
        hidden: vec![24, 24],
        actor_hidden: None,
        discount: 0.98,
        polyak_rate: 0.02,
        target_every: 1,
        batch_size: 64,
        replay_capacity: 1,
        train_every: 1,
        grad_steps: 1,
        exploration_steps: 0,
        learning_rate: 1e-3,
        learning_rate_schedule: RateSchedule::Constant,
        initial_temperature: 0.5,
        learn_temperature: true,
        target_entropy: None,
        optimizer: Optimizer::OptimisticAdam,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    }
}

fn normal(count: usize, rng: &mut Stream) -> Vec<f32> {
    let mut values = vec![0.0; count];
    rng.fill_normal(&mut values);
    values
}

/// Random rows of one seed for batches of `sizes`; the reward depends on the action.
fn rows(sizes: &[usize], rng: &mut Stream) -> Rows {
    let count = sizes.iter().sum();
    let actions: Vec<f32> = normal(count * ACTIONS, rng).into_iter().map(f32::tanh).collect();
    Rows {
        observations: normal(count * OBSERVATIONS, rng),
        next_observations: normal(count * OBSERVATIONS, rng),
        task_rewards: actions.chunks(ACTIONS).map(|a| 1.0 - a[0] * a[0] + a[1]).collect(),
        continues: (0..count).map(|_| if rng.unit() < 0.1 { 0.0 } else { 1.0 }).collect(),
        actions,
        ..Rows::default()
    }
}

/// Trains the stack of `seeds` on batches of alternating sizes, sent in blocks of `steps_per_block`.
fn train(gsde: bool, seeds: &[u64], steps_per_block: usize) -> (Sac<Cpu>, Vec<SacMetrics>) {
    let config = config(gsde);
    let streams: Vec<Streams> = seeds.iter().copied().map(Streams::new).collect();
    let device = Default::default();
    let mut sac = Sac::<Cpu>::new(&config, OBSERVATIONS, ACTIONS, &streams, &device);
    let mut rngs: Vec<Stream> = streams.iter().map(|streams| streams.stream("test")).collect();
    let all: Vec<usize> = (0..UPDATES).map(|step| 64 - step % 2).collect();
    let per_seed: Vec<Rows> = rngs.iter_mut().map(|rng| rows(&all, rng)).collect();
    let mut metrics = None;
    let mut first = 0;
    for sizes in all.chunks(steps_per_block) {
        let count: usize = sizes.iter().sum();
        let part = |rows: &Rows| {
            let cut = |values: &[f32]| {
                let width = values.len() / rows.len();
                values[first * width..(first + count) * width].to_vec()
            };
            Rows {
                observations: cut(&rows.observations),
                actions: cut(&rows.actions),
                next_observations: cut(&rows.next_observations),
                task_rewards: cut(&rows.task_rewards),
                continues: cut(&rows.continues),
                ..Rows::default()
            }
        };
        let block = Block::<Flex>::new(per_seed.iter().map(part).collect(), sizes.to_vec(), &device);
        for (index, noise) in sac.draw_noise(sizes, 0).into_iter().enumerate() {
            let batch: Batch<Flex> = block.batch(index);
            metrics = sac.step(&batch, noise, None, config.learning_rate, true);
        }
        first += count;
    }
    (sac, metrics.unwrap())
}

fn assert_close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(f64::from(worst) <= TOLERANCE * f64::from(scale), "{name}: differs by {worst} at scale {scale}");
}

#[test]
fn stacked_actor_critics_are_the_single_ones() {
    [false, true].into_iter().for_each(a_stack_is_the_single_ones);
}

fn a_stack_is_the_single_ones(gsde: bool) {
    let (stack, stacked_metrics) = train(gsde, &SEEDS, 1);
    let mut actors = Vec::new();
    for (place, seed) in SEEDS.iter().enumerate() {
        let (alone, metrics) = train(gsde, &[*seed], 1);
        let (found, expected) = (&stack.actors()[place], &alone.actors()[0]);
        assert_eq!(found.0, expected.0);
        assert_close("actor", &found.1, &expected.1);
        let probe = [0.3, -0.2, 0.9, 0.0, -1.1];
        let (found, expected) = (&stack.policies()[place], &alone.policies()[0]);
        assert_close("action", &found.act(&probe, None), &expected.act(&probe, None));
        let mut draws = [Streams::new(1).stream("test"), Streams::new(1).stream("test")];
        let [one, other] = &mut draws;
        assert_close("drawn", &found.act(&probe, Some(one)), &expected.act(&probe, Some(other)));
        let figures = |m: &SacMetrics| [m.critic_loss, m.actor_loss, m.temperature, m.entropy, m.q_mean];
        for (a, b) in figures(&stacked_metrics[place]).into_iter().zip(figures(&metrics[0])) {
            assert!((a - b).abs() <= TOLERANCE * (1.0 + b.abs()), "{stacked_metrics:?} {metrics:?}");
        }
        actors.push(alone.actors().remove(0).1);
    }
    assert_ne!(actors[0], actors[1], "seeds differ from each other");
}

#[test]
fn blocks_of_steps_change_nothing() {
    for gsde in [false, true] {
        let (expected, _) = train(gsde, &SEEDS, 1);
        for steps_per_block in [7, UPDATES] {
            let (found, _) = train(gsde, &SEEDS, steps_per_block);
            assert_eq!(found.record(), expected.record(), "{steps_per_block} steps per block, gSDE {gsde}");
        }
    }
}

#[test]
fn seeds_come_apart_for_checkpoints_and_together_again() {
    for gsde in [false, true] {
        seeds_come_apart_and_together(gsde);
    }
    let mut gaussian = train(false, &SEEDS[..1], 1).0;
    let error = gaussian.restore(train(true, &SEEDS[..1], 1).0.record()).unwrap_err();
    assert!(error.to_string().contains("another kind of policy"), "{error}");
}

fn seeds_come_apart_and_together(gsde: bool) {
    let (stack, _) = train(gsde, &SEEDS, 1);
    let streams = SEEDS.map(Streams::new);
    let mut restored = Sac::<Cpu>::new(&config(gsde), OBSERVATIONS, ACTIONS, &streams, &Default::default());
    assert_ne!(restored.record(), stack.record());
    restored.restore(stack.record()).unwrap();
    assert_eq!(restored.record(), stack.record());
    let single = |place: usize| {
        let mut single = Sac::<Cpu>::new(&config(gsde), OBSERVATIONS, ACTIONS, &streams[..1], &Default::default());
        single.restore(vec![stack.record().swap_remove(place)]).unwrap();
        single
    };
    assert_eq!(single(2).actors()[0], stack.actors()[2]);
    let fresh = Sac::<Cpu>::new(&config(gsde), OBSERVATIONS, ACTIONS, &streams, &Default::default());
    let mut mixed = stack.record();
    mixed[1] = fresh.record().swap_remove(1);
    let error = restored.restore(mixed).unwrap_err();
    assert!(error.to_string().contains("not of the same moment"), "{error}");
}

#[test]
fn stacked_discriminators_are_the_single_ones() {
    for (members, reduction) in [(1, Reduction::Min), (3, Reduction::Min), (2, Reduction::Mean), (2, Reduction::Max)] {
        let config = RewardConfig {
            hidden: vec![16, 16],
            members,
            reduction,
            clip: Some(2.0),
            learning_rate: 2e-3,
            learning_rate_schedule: TurnRate::Harmonic,
            weight_decay: 1e-3,
            batch_size: 32,
            grad_steps: UPDATES as u64,
            gradient_penalty: 10.0,
            gradient_target: 0.4,
            update_every: 1,
            rollout_episodes: 1,
            absorbing: false,
            normalized: false,
            from: None,
        };
        let width = OBSERVATIONS + ACTIONS;
        let pairs = |name: &str, seed: u64, count: usize| {
            let mut rng = Streams::new(seed).stream(name);
            Pairs { values: normal(count * width, &mut rng), ..Pairs::new(width) }
        };
        let expert = pairs("expert", 0, 50);
        let learn = |seeds: &[u64]| {
            let streams: Vec<Streams> = seeds.iter().copied().map(Streams::new).collect();
            // Episodes end early: learners bring unequal numbers of pairs.
            let learners: Vec<Pairs> = seeds.iter().map(|seed| pairs("learner", *seed, 20 + *seed as usize)).collect();
            let mut game = Discriminator::<Cpu>::new(&config, width, &streams, &Default::default());
            let metrics = game.ascend(&expert, &learners, Turn { number: 0, over: 0.0 });
            (game, metrics)
        };
        let (stack, stacked_metrics) = learn(&SEEDS);
        for (place, seed) in SEEDS.iter().enumerate() {
            let (alone, metrics) = learn(&[*seed]);
            assert_close("cost", &stack.networks()[place].1, &alone.networks()[0].1);
            let (a, b) = (stacked_metrics[place], metrics[0]);
            for (a, b) in [(a.disc_loss, b.disc_loss), (a.disc_gap, b.disc_gap), (a.disc_grad_norm, b.disc_grad_norm)] {
                assert!((a - b).abs() <= TOLERANCE * (1.0 + b.abs()), "{stacked_metrics:?} {metrics:?}");
            }
        }
        assert_ne!(stack.networks()[0], stack.networks()[1]);
    }
}

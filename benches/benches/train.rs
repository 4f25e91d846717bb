//! Learner steps on one thread, replay sampling included. Sizes are in the ids.
#![allow(clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use trainer::config::{Optimizer, RateSchedule, Reduction, RewardConfig, SacConfig};
use trainer::learners::block::Block;
use trainer::learners::sac::Sac;
use trainer::nn::Cpu;
use trainer::replay::{ReplayBuffer, Rows, Transition};
use trainer::reward::Reward;
use trainer::reward::discriminator::{Discriminator, Pairs};
use trainer::run::rng::{Stream, Streams};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OBSERVATIONS: usize = 17;
const ACTIONS: usize = 6;

fn replay(rng: &mut Stream, rows: usize) -> ReplayBuffer {
    let mut buffer = ReplayBuffer::new(rows, OBSERVATIONS, ACTIONS);
    for row in 0..rows {
        let mut draw = |count: usize| {
            let mut values = vec![0.0; count];
            rng.fill_normal(&mut values);
            values
        };
        let (observation, next_observation) = (draw(OBSERVATIONS), draw(OBSERVATIONS));
        let action_unit: Vec<f32> = draw(ACTIONS).iter().map(|a| a.tanh()).collect();
        buffer.push(Transition {
            observation: &observation,
            action_unit: &action_unit,
            task_reward: 0.5,
            next_observation: &next_observation,
            terminated: row % 100 == 0,
        });
    }
    buffer
}

fn sac_step(criterion: &mut Criterion) {
    let config = SacConfig {
        hidden: vec![256, 256],
        discount: 0.99,
        polyak_rate: 0.005,
        batch_size: 256,
        replay_capacity: 1_000_000,
        train_every: 1,
        grad_steps: 1,
        exploration_steps: 0,
        learning_rate: 3e-4,
        learning_rate_schedule: RateSchedule::Constant,
        initial_temperature: 1.0,
        learn_temperature: true,
        target_entropy: None,
        optimizer: Optimizer::Adam,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    };
    let streams = Streams::new(0);
    let mut rng = streams.stream("bench");
    let buffer = replay(&mut rng, 100_000);
    let mut sac = Sac::<Cpu>::new(&config, OBSERVATIONS, ACTIONS, &[streams], &Default::default());
    criterion.bench_function("sac_step/obs17-act6-h256-b256", |bencher| {
        bencher.iter(|| {
            let mut rows = Rows::default();
            buffer.sample_into(config.batch_size, &mut rng, &mut rows);
            let batch = Reward::<Cpu>::Task
                .label(Block::new(vec![rows], vec![config.batch_size], &Default::default()).batch(0));
            black_box(sac.update(&batch, config.learning_rate, false))
        });
    });
}

fn discriminator_step(criterion: &mut Criterion) {
    let config = RewardConfig {
        hidden: vec![256, 256],
        members: 1,
        reduction: Reduction::Min,
        clip: None,
        learning_rate: 8e-4,
        weight_decay: 0.0,
        batch_size: 4096,
        grad_steps: 1,
        gradient_penalty: 10.0,
        gradient_target: 0.4,
        update_every: 1,
        rollout_episodes: 1,
    };
    let streams = Streams::new(0);
    let mut rng = streams.stream("bench");
    let mut pairs = || {
        let mut pairs = Pairs::new(OBSERVATIONS + ACTIONS);
        let mut row = vec![0.0; OBSERVATIONS + ACTIONS];
        for _ in 0..4000 {
            rng.fill_normal(&mut row);
            pairs.push(&row[..OBSERVATIONS], &row[OBSERVATIONS..]);
        }
        pairs
    };
    let (expert, learner) = (pairs(), [pairs()]);
    let width = OBSERVATIONS + ACTIONS;
    let mut discriminator = Discriminator::<Cpu>::new(&config, width, &[streams], &Default::default());
    criterion.bench_function("discriminator_step/obs17-act6-h256-b4096", |bencher| {
        bencher.iter(|| black_box(discriminator.ascend(&expert, &learner, 1_000_000)));
    });
}

criterion_group!(benches, sac_step, discriminator_step);
criterion_main!(benches);

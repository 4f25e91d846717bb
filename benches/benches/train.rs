//! Learner steps on one thread, replay sampling included. Sizes are in the ids; beside each time stands its share of what matrix
//! products alone would allow here.
#![allow(clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use trainer::config::{Optimizer, Overrides, RateSchedule, Reduction, RewardConfig, SacConfig, TurnRate, resolve};
use trainer::learners::block::Block;
use trainer::learners::sac::Sac;
use trainer::nn::Cpu;
use trainer::nn::flex::library_product;
use trainer::nn::mlp::Activation;
use trainer::replay::model_data::{ModelData, Room};
use trainer::replay::{ReplayBuffer, Rows, Transition};
use trainer::reward::Reward;
use trainer::reward::discriminator::{Discriminator, Pairs, Turn};
use trainer::run::rng::{Stream, Streams};
use trainer::world_model::dynamics::Dynamics;
use trainer::world_model::ensemble::{Ensemble, EnsembleConfig};
use trainer::world_model::model::WorldModel;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sizes of a policy learner's step.
#[derive(Clone, Copy)]
struct Sizes {
    observations: usize,
    actions: usize,
    hidden: usize,
    batch: usize,
}

impl Sizes {
    const fn new(observations: usize, actions: usize, hidden: usize, batch: usize) -> Self {
        Self { observations, actions, hidden, batch }
    }

    fn id(self, name: &str) -> String {
        let Self { observations, actions, hidden, batch } = self;
        format!("{name}/obs{observations}-act{actions}-h{hidden}-b{batch}")
    }

    /// Floating-point operations of a SAC step with two hidden layers, none of them superfluous: no gradient of the critics'
    /// weights in the actor's loss, none of any input but the actions there.
    fn sac_flop(self) -> f64 {
        let [observations, actions, hidden, batch] =
            [self.observations, self.actions, self.hidden, self.batch].map(|size| size as f64);
        let middle = hidden * hidden;
        let (actor_in, actor_out) = (observations * hidden, 2.0 * actions * hidden);
        let critic_in = (observations + actions) * hidden;
        let actor = actor_in + middle + actor_out;
        let critic = critic_in + middle + hidden;
        // Forward: the actor on both observations; both critics three times, once of them with target weights.
        let forward = 2.0 * actor + 6.0 * critic;
        let critics = 2.0 * (critic + middle + hidden);
        let through_critics = 2.0 * (hidden + middle + actions * hidden);
        2.0 * batch * (forward + critics + through_critics + actor + middle + actor_out)
    }

    /// Of a discriminator step: two batches forward and back, and the gradient penalty on a third.
    fn discriminator_flop(self) -> f64 {
        let (hidden, batch) = (self.hidden as f64, self.batch as f64);
        let (first, middle) = ((self.observations + self.actions) as f64 * hidden, hidden * hidden);
        2.0 * 2.0 * batch * (2.0 * first + 3.0 * middle + 3.0 * hidden) + 2.0 * batch * (4.0 * first + 4.0 * middle)
    }
}

/// What a single-precision product reaches here: 256 × 256 × 256, one thread, the `gemm` crate, at its best.
fn gemm_limit() -> f64 {
    let size = 256;
    let (a, b, mut c) = (vec![0.5; size * size], vec![0.5; size * size], vec![0.0; size * size]);
    let mut best = Duration::MAX;
    for _ in 0..300 {
        let begin = now();
        library_product(&a, &b, &mut c, size);
        best = best.min(now().duration_since(begin));
        black_box(&mut c);
    }
    2.0 * (size * size * size) as f64 / best.as_secs_f64()
}

/// Times `step` under `id` and prints its share of the time that `flop` would take at `limit`.
fn time(criterion: &mut Criterion, id: &str, flop: f64, limit: f64, mut step: impl FnMut()) {
    let mut median = Vec::new();
    criterion.bench_function(id, |bencher| {
        bencher.iter_custom(|count| {
            let begin = now();
            (0..count).for_each(|_| step());
            let taken = now().duration_since(begin);
            median.push(taken.as_secs_f64() / count as f64);
            taken
        });
    });
    median.sort_by(f64::total_cmp);
    if let Some(seconds) = median.get(median.len() / 2) {
        println!(
            "{id}: {:.2} ms, {:.0} % of the {:.2} ms at the gemm limit of {:.0} GFLOP/s",
            seconds * 1e3,
            100.0 * flop / limit / seconds,
            flop / limit * 1e3,
            limit / 1e9,
        );
    }
}

fn replay(rng: &mut Stream, rows: usize, sizes: Sizes) -> ReplayBuffer {
    let mut buffer = ReplayBuffer::new(rows, sizes.observations, sizes.actions);
    for row in 0..rows {
        let mut draw = |count: usize| {
            let mut values = vec![0.0; count];
            rng.fill_normal(&mut values);
            values
        };
        let (observation, next_observation) = (draw(sizes.observations), draw(sizes.observations));
        let action_unit: Vec<f32> = draw(sizes.actions).iter().map(|a| a.tanh()).collect();
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

fn sac_steps(criterion: &mut Criterion) {
    let limit = gemm_limit();
    let sizes = [
        Sizes::new(17, 6, 256, 256),
        Sizes::new(11, 3, 256, 256),
        Sizes::new(105, 8, 256, 256),
        Sizes::new(376, 17, 256, 256),
        Sizes::new(17, 6, 512, 256),
        Sizes::new(17, 6, 1024, 256),
        Sizes::new(17, 6, 256, 1024),
        Sizes::new(17, 6, 256, 4096),
    ];
    for sizes in sizes {
        let config = SacConfig {
            hidden: vec![sizes.hidden; 2],
            actor_hidden: None,
            discount: 0.99,
            polyak_rate: 0.005,
            target_every: 1,
            batch_size: sizes.batch,
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
            gsde: false,
            timeouts_are_terminal: false,
            restarts_each_iteration: false,
        };
        let streams = Streams::new(0);
        let mut rng = streams.stream("bench");
        let buffer = replay(&mut rng, 20_000, sizes);
        let device = Default::default();
        let mut sac = Sac::<Cpu>::new(&config, sizes.observations, sizes.actions, &[streams], &device);
        time(criterion, &sizes.id("sac_step"), sizes.sac_flop(), limit, || {
            let mut rows = Rows::default();
            buffer.sample_into(config.batch_size, &mut rng, &mut rows);
            let block = Block::new(vec![rows], vec![config.batch_size], &device);
            let batch = Reward::<Cpu>::Task.label(block.batch(0));
            black_box(sac.update(&batch, config.learning_rate, false));
        });
    }
}

fn discriminator_steps(criterion: &mut Criterion) {
    let limit = gemm_limit();
    for sizes in [Sizes::new(17, 6, 256, 4096), Sizes::new(376, 17, 256, 4096)] {
        let config = RewardConfig {
            hidden: vec![sizes.hidden; 2],
            members: 1,
            reduction: Reduction::Min,
            clip: None,
            learning_rate: 8e-4,
            learning_rate_schedule: TurnRate::Harmonic,
            weight_decay: 0.0,
            batch_size: sizes.batch,
            grad_steps: 1,
            gradient_penalty: 10.0,
            gradient_target: 0.4,
            update_every: 1,
            rollout_episodes: 1,
            absorbing: false,
            normalized: false,
            from: None,
        };
        let streams = Streams::new(0);
        let mut rng = streams.stream("bench");
        let width = sizes.observations + sizes.actions;
        let mut pairs = || {
            let mut pairs = Pairs::new(width);
            let mut row = vec![0.0; width];
            for _ in 0..4000 {
                rng.fill_normal(&mut row);
                pairs.push(&row[..sizes.observations], &row[sizes.observations..]);
            }
            pairs
        };
        let (expert, learner) = (pairs(), pairs());
        let mut discriminator = Discriminator::<Cpu>::new(&config, width, &[streams], &Default::default());
        let turn = Turn { number: 1_000_000, over: 0.0 };
        time(criterion, &sizes.id("discriminator_step"), sizes.discriminator_flop(), limit, || {
            black_box(discriminator.ascend(&expert, std::slice::from_ref(&learner), turn));
        });
    }
}

fn ensemble_steps(criterion: &mut Criterion) {
    let limit = gemm_limit();
    let (members, inputs, outputs, batch, layers) = (7, 23, 18, 256, 4);
    for (width, activation, name) in
        [(200, Activation::Relu, "relu"), (200, Activation::Silu, "silu"), (400, Activation::Silu, "silu")]
    {
        let config =
            EnsembleConfig { members, hidden: vec![width; layers], activation, weight_decay: 5e-5, mean_clip: None };
        let streams = Streams::new(0);
        let mut rng = streams.stream("bench");
        let device = Default::default();
        let mut ensemble = Ensemble::<Cpu>::new(&config, inputs, outputs, streams, &device);
        let mut draw = |width: usize| {
            let mut values = vec![0.0; members * batch * width];
            rng.fill_normal(&mut values);
            ensemble.rows(values, width)
        };
        let (x, y) = (draw(inputs), draw(outputs));
        let (first, middle, last) = (inputs * width, (layers - 1) * width * width, 2 * outputs * width);
        let flop = (2 * members * batch * (2 * first + 3 * middle + 3 * last)) as f64;
        let id = format!("ensemble_step/members{members}-in{inputs}-out{outputs}-{layers}x{width}-b{batch}-{name}");
        time(criterion, &id, flop, limit, || {
            black_box(ensemble.step(x.clone(), y.clone(), 3e-4));
        });
    }
}

/// Rows of one imagined step in which every elite takes its part, noise and dealing included.
fn imagined_steps(criterion: &mut Criterion) {
    let limit = gemm_limit();
    let (observations, actions, rows) = (11, 3, 10_000);
    for preset in ["small", "fixed"] {
        let overrides = Overrides { preset: Some(preset.into()), seeds: Some(vec![0]), ..Overrides::default() };
        let config = resolve("hyper", "hopper", &overrides).unwrap().world_model.unwrap();
        let mut rng = Streams::new(0).stream("bench");
        let mut draw = |count: usize| {
            let mut values = vec![0.0; count];
            rng.fill_normal(&mut values);
            values
        };
        let (x, a) = (draw(rows * observations), draw(rows * actions));
        let room = Room { capacity: 1, pinned: true, share: 1.0 };
        let data = ModelData::new(&ReplayBuffer::new(1, observations, actions), (observations, actions), room, false);
        let mut world = WorldModel::<Cpu>::new(&config, &data, 1.0, Streams::new(0), &Default::default());
        let (width, layers) = (config.hidden[0], config.hidden.len());
        let weights = (observations + actions + 2 * observations) * width + (layers - 1) * width * width;
        let id = format!("imagined_step/obs{observations}-act{actions}-{layers}x{width}-rows{rows}");
        time(criterion, &id, (2 * rows * weights) as f64, limit, || {
            black_box(world.step(&x, &a).unwrap());
        });
    }
}

#[allow(clippy::disallowed_methods, reason = "benches measure time")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, sac_steps, discriminator_steps, ensemble_steps, imagined_steps);
criterion_main!(benches);

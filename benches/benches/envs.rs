//! One control step of each MuJoCo task, resets of ended episodes included, random actions, one thread.
//!
//! Against Gymnasium: `benches/python/envs.py`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trainer::envs::{Ending, Purpose, World, WorldConfig};
use trainer::run::rng::Streams;

fn env_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("env_step");
    group.throughput(Throughput::Elements(1));
    for task in ["pendulum", "hopper", "walker2d", "half-cheetah", "ant", "humanoid"] {
        let streams = Streams::new(0);
        let mut world = World::new(task, WorldConfig::default(), streams, "bench").unwrap();
        let mut actions = streams.stream("bench/action");
        let mut action_unit = vec![0.0; world.task().action_width()];
        world.reset().unwrap();
        group.bench_function(task, |b| {
            b.iter(|| {
                action_unit.fill_with(|| actions.uniform(-1.0, 1.0) as f32);
                let step = world.step(&action_unit, Purpose::Policy).unwrap();
                if step.ending != Ending::Continues {
                    world.reset().unwrap();
                }
                step.reward
            });
        });
    }
    group.finish();
}

criterion_group!(benches, env_step);
criterion_main!(benches);

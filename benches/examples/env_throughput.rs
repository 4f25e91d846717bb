//! Steps per second of CPU time of one task: `env_throughput TASK STEPS`. Called by `benches/python/envs.py`.

use trainer::envs::{Ending, Purpose, World, WorldConfig};
use trainer::error::{Error, Result};
use trainer::run::rng::Streams;

/// CPU time of this process's only busy thread, in seconds, as Linux counts it.
fn cpu_secs() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")
        .map_err(|e| Error::io("read", std::path::Path::new("/proc/thread-self/schedstat"), e))?;
    let nanos: u64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(nanos as f64 * 1e-9)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, task, steps] = arguments.as_slice() else {
        return Err(Error::config("usage: env_throughput TASK STEPS"));
    };
    let steps: u64 = steps.parse().map_err(|_| Error::config("STEPS is not a number").found(steps))?;
    let streams = Streams::new(0);
    let mut world = World::new(task, WorldConfig::default(), streams, "bench")?;
    let mut actions = streams.stream("bench/action");
    let width = world.task().action_width();
    let drawn: Vec<f32> = (0..steps as usize * width).map(|_| actions.uniform(-1.0, 1.0) as f32).collect();
    world.reset()?;
    let start_secs = cpu_secs()?;
    for action_unit in drawn.chunks_exact(width) {
        if world.step(action_unit, Purpose::Policy)?.ending != Ending::Continues {
            world.reset()?;
        }
    }
    println!("{}", steps as f64 / (cpu_secs()? - start_secs));
    Ok(())
}

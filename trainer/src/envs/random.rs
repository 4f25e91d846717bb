//! What uniformly random actions earn: the zero of a score.

use super::{Ending, Purpose, World, WorldConfig};
use crate::error::Result;
use crate::run::rng::Streams;

/// Episodes behind a task's random return.
pub const RANDOM_RETURN_EPISODES: usize = 100;

/// Mean return of `episodes` episodes of actions uniform between the bounds, from the streams `random/*` of `seed`.
pub fn random_return(task: &str, episodes: usize, seed: u64) -> Result<f64> {
    let streams = Streams::new(seed);
    let mut world = World::new(task, WorldConfig::default(), streams, "random")?;
    let mut actions = streams.stream("random/action");
    let mut action_unit = vec![0.0; world.task().action_width()];
    let mut total = 0.0;
    for _ in 0..episodes {
        world.reset()?;
        loop {
            action_unit.fill_with(|| actions.uniform(-1.0, 1.0) as f32);
            let step = world.step(&action_unit, Purpose::Evaluation)?;
            total += step.reward;
            if step.ending != Ending::Continues {
                break;
            }
        }
    }
    Ok(total / episodes as f64)
}

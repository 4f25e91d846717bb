//! Evaluation: whole episodes with the mean action, in an environment of its own, that cannot touch training.

use crate::config::EnvConfig;
use crate::envs::{Ending, Purpose, Step, StepCounts, World, WorldConfig};
use crate::error::Result;
use crate::run::rng::Streams;
use serde::{Deserialize, Serialize};

/// How one evaluation episode went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Sum of the task's own rewards, undiscounted.
    #[serde(rename = "return")]
    pub total_reward: f64,
    /// Steps.
    pub length: u64,
}

/// Plays `episodes` episodes of `task` with actions in [-1, 1]. `name` chooses the random streams, so that equal names give equal
/// episodes.
pub fn play(
    task: &str,
    env: &EnvConfig,
    streams: Streams,
    name: &str,
    episodes: u64,
    mut act: impl FnMut(&[f32]) -> Result<Vec<f32>>,
) -> Result<(Vec<Episode>, StepCounts)> {
    let mut world = World::new(task, WorldConfig { tremble: env.tremble, demo_resets: None }, streams, name)?;
    let played = play_in(&mut world, episodes, |world| {
        let action = act(world.observation())?;
        world.step(&action, Purpose::Evaluation)
    })?;
    Ok((played, world.counts()))
}

/// Plays `episodes` episodes in `world`, whose steps `step` takes.
pub fn play_in(
    world: &mut World,
    episodes: u64,
    mut step: impl FnMut(&mut World) -> Result<Step>,
) -> Result<Vec<Episode>> {
    let mut played = Vec::new();
    for _ in 0..episodes {
        world.reset()?;
        let mut episode = Episode { total_reward: 0.0, length: 0 };
        let mut ending = Ending::Continues;
        while ending == Ending::Continues {
            let step = step(world)?;
            episode.total_reward += step.reward;
            episode.length += 1;
            ending = step.ending;
        }
        played.push(episode);
    }
    Ok(played)
}

/// Mean return of some episodes.
pub fn mean_return(episodes: &[Episode]) -> f64 {
    episodes.iter().map(|e| e.total_reward).sum::<f64>() / episodes.len().max(1) as f64
}

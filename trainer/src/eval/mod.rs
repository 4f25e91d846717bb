//! Evaluation: whole episodes with the mean action, in an environment of its own, that cannot touch training.

use crate::config::EnvConfig;
use crate::envs::{Ending, Purpose, StepCounts, World, WorldConfig};
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

/// Plays `episodes` episodes of `task`. `name` chooses the random streams, so that equal names give equal episodes.
pub fn play(
    task: &str,
    env: &EnvConfig,
    streams: Streams,
    name: &str,
    episodes: u64,
    mut act: impl FnMut(&[f32]) -> Result<Vec<f32>>,
) -> Result<(Vec<Episode>, StepCounts)> {
    let mut world = World::new(task, WorldConfig { tremble: env.tremble, demo_resets: None }, streams, name)?;
    let mut played = Vec::new();
    for _ in 0..episodes {
        world.reset()?;
        let mut episode = Episode { total_reward: 0.0, length: 0 };
        let mut ending = Ending::Continues;
        while ending == Ending::Continues {
            let action = act(world.observation())?;
            let step = world.step(&action, Purpose::Evaluation)?;
            episode.total_reward += step.reward;
            episode.length += 1;
            ending = step.ending;
        }
        played.push(episode);
    }
    Ok((played, world.counts()))
}

/// Mean return of some episodes.
pub fn mean_return(episodes: &[Episode]) -> f64 {
    episodes.iter().map(|e| e.total_reward).sum::<f64>() / episodes.len().max(1) as f64
}

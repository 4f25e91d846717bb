//! `hype demos collect`: plays a policy and writes its episodes as demonstrations.

use super::policy::Loaded;
use crate::demos::{RecordedStep, Recorder, write};
use crate::envs::{Ending, Purpose, Task, World, WorldConfig};
use crate::error::{Error, Result};
use crate::run::rng::Streams;
use std::collections::BTreeMap;
use std::path::Path;

/// What to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// Episodes to keep.
    pub episodes: usize,
    /// Keep only episodes that reach the horizon, as the paper's demonstrations do.
    pub full_length: bool,
    /// Chooses the start states.
    pub seed: u64,
}

/// What was collected.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// Episodes kept.
    pub episodes: usize,
    /// Steps kept.
    pub steps: usize,
    /// Episodes that ended early and were discarded.
    pub discarded: usize,
    /// Mean return of the kept ones.
    pub mean_return: f64,
}

/// Gives up when so many episodes in a row (per episode wanted) end early.
const PATIENCE: usize = 20;

/// Plays `loaded` on `task` without trembling and writes the episodes to `path`.
pub fn collect(loaded: &mut Loaded, task: &Task, collection: Collection, path: &Path) -> Result<Collected> {
    let streams = Streams::new(collection.seed);
    let mut world = World::new(&task.id, WorldConfig { tremble: 0.0, demo_resets: None }, streams, "env/demos")?;
    let states = (!world.qpos().is_empty()).then(|| (world.qpos().len(), world.qvel().len()));
    let mut recorder = Recorder::new(task.observation_width(), task.action_width(), states);
    let mut action = vec![0.0; task.action_width()];
    let (mut discarded, mut returns) = (0, 0.0);
    while recorder.episodes() < collection.episodes {
        world.reset()?;
        let mut total_reward = 0.0;
        let mut ending = Ending::Continues;
        while ending == Ending::Continues {
            let observation = world.observation().to_vec();
            let state = (world.qpos().to_vec(), world.qvel().to_vec());
            loaded.player.act(task, world.full_observation(), &mut action)?;
            let step = world.step_env(&action, Purpose::Policy)?;
            recorder.step(&RecordedStep {
                observation: &observation,
                action_env: &action,
                next_observation: world.observation(),
                reward: step.reward,
                terminated: step.ending == Ending::Terminated,
                truncated: step.ending == Ending::Truncated,
                state: states.map(|_| (state.0.as_slice(), state.1.as_slice())),
            });
            total_reward += step.reward;
            ending = step.ending;
        }
        if collection.full_length && ending == Ending::Terminated {
            recorder.discard_episode();
            discarded += 1;
            if discarded > PATIENCE * collection.episodes {
                return Err(Error::data(format!(
                    "{} reached the horizon in {} of {} episodes",
                    loaded.label,
                    recorder.episodes(),
                    recorder.episodes() + discarded
                ))
                .hint("collect without --full-length, or with a better policy"));
            }
        } else {
            recorder.keep_episode();
            returns += total_reward;
        }
    }
    let (episodes, steps) = (recorder.episodes(), recorder.steps());
    let attributes: BTreeMap<String, String> = [
        ("policy", loaded.label.clone()),
        ("seed", collection.seed.to_string()),
        ("mujoco_version", crate::envs::mujoco::VERSION.to_string()),
        ("hype_version", env!("CARGO_PKG_VERSION").to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value))
    .collect();
    write(path, &recorder.finish(&task.id, attributes)?)?;
    Ok(Collected { episodes, steps, discarded, mean_return: returns / episodes as f64 })
}

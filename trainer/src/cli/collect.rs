//! `hype demos collect`: plays a policy and writes its episodes as demonstrations.

use super::policy::Loaded;
use crate::demos::{self, RecordedStep, Recorder, write};
use crate::envs::{ActionScale, Ending, Purpose, Task, World, WorldConfig};
use crate::error::{Error, Result};
use crate::run::files;
use crate::run::rng::{Stream, Streams};
use std::path::Path;

/// What to collect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Collection {
    /// Episodes to keep.
    pub episodes: usize,
    /// Keep only episodes that reach the horizon, as the paper's demonstrations do.
    pub full_length: bool,
    /// Chooses the start states.
    pub seed: u64,
    /// Standard deviation of normal noise on every action, in units of [-1, 1], where the sum is clamped. It is executed, and recorded
    /// as executed.
    pub noise: f64,
    /// Share of the steps that the file then lacks, see [`crate::demos::Demonstrations::drop_states`].
    pub drop_states: f64,
}

impl Default for Collection {
    /// The paper's number of episodes, whatever their length, of the policy as it is.
    fn default() -> Self {
        Self { episodes: 64, full_length: false, seed: 0, noise: 0.0, drop_states: 0.0 }
    }
}

impl Collection {
    fn check(&self) -> Result<()> {
        if self.episodes == 0 {
            return Err(Error::config("--episodes 0").expected("at least 1"));
        }
        if !(self.noise >= 0.0 && self.noise.is_finite()) {
            return Err(Error::config("--noise")
                .expected("a standard deviation of 0 or more, in units of [-1, 1]")
                .found(self.noise));
        }
        if !(0.0..1.0).contains(&self.drop_states) {
            return Err(Error::config("--drop-states")
                .expected("a share of the steps, 0 to below 1")
                .found(self.drop_states));
        }
        Ok(())
    }
}

/// What was collected.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// Episodes kept.
    pub episodes: usize,
    /// Steps in the file.
    pub steps: usize,
    /// Episodes that ended early and were discarded.
    pub discarded: usize,
    /// Mean return of the kept ones.
    pub mean_return: f64,
}

/// Gives up when so many episodes in a row (per episode wanted) end early.
const PATIENCE: usize = 20;

/// Plays `loaded` on `task` without trembling and writes the episodes to `path`.
///
/// # Errors
/// When a setting is out of range, the policy does not fit, too few episodes reach the horizon, or the file cannot be written.
pub fn collect(loaded: &mut Loaded, task: &Task, collection: Collection, path: &Path) -> Result<Collected> {
    collection.check()?;
    check_output(path)?;
    let streams = Streams::new(collection.seed);
    let mut noise = Noise::new(task, collection.noise, streams.stream("demos/noise"));
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
            loaded.act(&world, &mut action)?;
            noise.disturb(&mut action)?;
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
                .hint("collect without --full-length, with less --noise, or with a better policy"));
            }
        } else {
            recorder.keep_episode();
            returns += total_reward;
        }
    }
    let mut attributes = vec![
        ("policy", loaded.label.clone()),
        ("seed", collection.seed.to_string()),
        ("full_length", collection.full_length.to_string()),
        ("control_period_secs", task.control_period_secs.to_string()),
        ("mujoco_version", crate::envs::mujoco::VERSION.to_string()),
        ("hype_version", env!("CARGO_PKG_VERSION").to_string()),
    ];
    for (name, value) in [("noise", collection.noise), ("drop_states", collection.drop_states)] {
        if value > 0.0 {
            attributes.push((name, value.to_string()));
        }
    }
    if let Some(chosen) = &loaded.chosen {
        attributes.push(("policy_seed", chosen.seed.to_string()));
        attributes.push(("policy_env_steps", chosen.env_steps.to_string()));
    }
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let demonstrations = recorder
        .finish(&task.id, attributes)?
        .drop_states(collection.drop_states, &mut streams.stream("demos/drop_states"))?;
    write(path, &demonstrations)?;
    Ok(Collected {
        episodes: demonstrations.episodes.len(),
        steps: demonstrations.len(),
        discarded,
        mean_return: returns / collection.episodes as f64,
    })
}

/// Demonstrations are replaced by those that are collected anew; any other file stays.
fn check_output(path: &Path) -> Result<()> {
    files::check_folder_of(path)?;
    if !path.exists() || demos::is_one(path) {
        return Ok(());
    }
    Err(Error::config(format!("{} is there, and is no demonstration file", path.display()))
        .hint("another name with -o, or move that file away"))
}

/// Normal noise on actions.
struct Noise {
    scale: ActionScale,
    deviation: f64,
    unit: Vec<f32>,
    stream: Stream,
}

impl Noise {
    fn new(task: &Task, deviation: f64, stream: Stream) -> Self {
        Self { scale: task.action_scale(), deviation, unit: vec![0.0; task.action_width()], stream }
    }

    /// Without noise, the action stays as it is to the last bit.
    fn disturb(&mut self, action_env: &mut [f32]) -> Result<()> {
        if self.deviation == 0.0 {
            return Ok(());
        }
        self.scale.to_unit(action_env, &mut self.unit)?;
        for value in &mut self.unit {
            *value += (self.deviation * self.stream.normal()) as f32;
        }
        self.scale.to_env(&self.unit, action_env)
    }
}

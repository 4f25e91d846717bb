//! POLICY on the command line: a file, a run, a bundle, `expert:TASK` or `random`.

use crate::envs::{Task, World, task};
use crate::error::{Error, Result};
use crate::experts::expert;
use crate::run::directory::{Slot, checkpoint_path, is_finished, read_config};
use crate::run::driver::{Snapshot, read_snapshot};
use crate::run::rng::Stream;
use crate::{config::RunConfig, to_policy};
use policy_runtime::{EngineChoice, Observation, Policy};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A policy that can play.
pub enum Player {
    /// A network, executed as a robot would.
    Network(Box<Policy>),
    /// Uniform random actions.
    Random(Box<Stream>),
}

/// A policy with what is known about it.
pub struct Loaded {
    /// The policy.
    pub player: Player,
    /// The task that it was trained on, where it says so.
    pub task: Option<String>,
    /// What to call it.
    pub label: String,
    /// Where it is one of a run's: which.
    pub chosen: Option<Chosen>,
}

/// One of a run's policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chosen {
    /// Its seed.
    pub seed: u64,
    /// All seeds of the run.
    pub seeds: Vec<u64>,
    /// Environment steps after which it was stored.
    pub env_steps: u64,
    /// The run's own probability of a random action.
    pub tremble: f64,
}

impl Player {
    /// Writes the action for one raw observation, in environment units.
    fn act(&mut self, task: &Task, observation: &[f32], action_env: &mut [f32]) -> Result<()> {
        match self {
            Self::Network(policy) => {
                let observation = Observation { values: observation, stamp_nanos: 0 };
                let verdict = policy.step(0, &observation, action_env);
                if verdict.is_good() {
                    return Ok(());
                }
                Err(Error::data(format!("the policy refused an observation of {}: {verdict:?}", task.id))
                    .hint("check that the policy was trained on this task"))
            }
            Self::Random(stream) => {
                for (value, (low, high)) in action_env.iter_mut().zip(task.action_low().iter().zip(task.action_high()))
                {
                    *value = stream.uniform(f64::from(*low), f64::from(high)) as f32;
                }
                Ok(())
            }
        }
    }
}

/// Which policy of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct OfRun {
    /// The newest checkpoint or the best.
    pub slot: Slot,
    /// The seed; the run's first where absent.
    pub seed: Option<u64>,
}

/// Opens POLICY. `for_task` completes a bare `expert`; `of_run` chooses among a run's checkpoints.
pub fn open(name: &str, for_task: Option<&str>, engine: EngineChoice, of_run: OfRun, random: Stream) -> Result<Loaded> {
    let is_run = Path::new(name).join("config.toml").is_file();
    let only_of_runs = match of_run {
        OfRun { seed: Some(seed), .. } => Some(format!("--policy-seed {seed}")),
        OfRun { slot: Slot::Best, .. } => Some("--checkpoint best".to_owned()),
        OfRun { slot: Slot::Last, seed: None } => None,
    };
    if let (Some(flag), false) = (only_of_runs, is_run) {
        return Err(Error::config(flag).expected("a run folder").found(format!("`{name}`")));
    }
    if name == "random" {
        return Ok(Loaded {
            player: Player::Random(Box::new(random)),
            task: None,
            label: "random".into(),
            chosen: None,
        });
    }
    if is_expert(name) {
        let task = match (name.strip_prefix("expert:"), for_task) {
            (Some(task), _) | (None, Some(task)) => task,
            (None, None) => return Err(Error::config("POLICY `expert` without a task").hint("write expert:TASK")),
        };
        let policy = Policy::from_onnx(expert(task)?.onnx, engine)?;
        return Ok(network(policy, format!("expert:{task}")));
    }
    let path = Path::new(name);
    if is_run {
        let (config, snapshot) = read_run(path, of_run.slot, of_run.seed)?;
        let task = task(&config.task)?;
        let contract = to_policy::contract(&task);
        let graph = to_policy::policy_graph(&snapshot.networks, &contract)?;
        let policy = match engine {
            EngineChoice::Tract => Policy::from_onnx(&::export::onnx_policy(&graph, &contract)?, engine)?,
            _ => Policy::from_graph(contract, graph)?,
        };
        let oracle = if of_run.slot == Slot::Best { " (best checkpoint: oracle)" } else { "" };
        let chosen = Chosen {
            seed: of_run.seed.or_else(|| config.seeds.first().copied()).unwrap_or(0),
            seeds: config.seeds,
            env_steps: snapshot.env_steps,
            tremble: config.env.tremble,
        };
        return Ok(Loaded { chosen: Some(chosen), ..network(policy, format!("{name}{oracle}")) });
    }
    if !path.exists() {
        return Err(Error::config(format!("there is no policy `{name}`"))
            .expected("a policy file, a run folder, a bundle, expert:TASK or random")
            .hint("hype eval expert:pendulum plays the expert that comes with the program"));
    }
    if path.is_dir() && !path.join("manifest.json").is_file() {
        return Err(Error::config(format!("the folder {name} holds no policy"))
            .expected("a run, which has a config.toml, or a bundle, which has a manifest.json"));
    }
    Ok(network(Policy::load(path, engine)?, name.into()))
}

/// Whether POLICY means a shipped expert.
pub fn is_expert(name: &str) -> bool {
    name == "expert" || name.starts_with("expert:")
}

fn network(policy: Policy, label: String) -> Loaded {
    let task = policy.contract().map(|contract| contract.task.clone());
    Loaded { player: Player::Network(Box::new(policy)), task, label, chosen: None }
}

/// A run's configuration, and the newest (or best) checkpoint of one of its seeds: the given one, else the first.
pub fn read_run(path: &Path, slot: Slot, seed: Option<u64>) -> Result<(RunConfig, Snapshot)> {
    let config = read_run_config(path)?;
    let seed = match seed {
        Some(seed) if !config.seeds.contains(&seed) => {
            return Err(Error::config(format!("{} has no seed {seed}", path.display()))
                .expected(format!("one of {:?}", config.seeds)));
        }
        Some(seed) => seed,
        None => config.seeds.first().copied().unwrap_or(0),
    };
    Ok((config, read_snapshot(&written_checkpoint(path, slot, seed)?)?))
}

/// The checkpoint of one of a run's seeds, which must have been written.
pub fn written_checkpoint(run: &Path, slot: Slot, seed: u64) -> Result<PathBuf> {
    let path = checkpoint_path(run, slot, seed);
    if path.exists() {
        return Ok(path);
    }
    let name = run.display();
    if is_finished(run) {
        return Err(Error::data(format!("{name} is finished, and its checkpoint of seed {seed} is gone"))
            .expected(path.display())
            .hint(format!(
                "put it back from a copy, or delete {name}/finished and resume: the seed then starts again"
            )));
    }
    if slot == Slot::Best && checkpoint_path(run, Slot::Last, seed).exists() {
        return Err(Error::data(format!("{name} has no best checkpoint of seed {seed} yet: nothing was evaluated"))
            .hint(format!("--checkpoint last, or hype resume {name}")));
    }
    Err(Error::data(format!("{name} has no checkpoint of seed {seed} yet")).hint(format!("hype resume {name}")))
}

/// A run's resolved configuration, as it was started.
pub fn read_run_config(path: &Path) -> Result<RunConfig> {
    toml::from_str(&read_config(path)?).map_err(|e| {
        Error::data(format!("{} does not fit this version of the program", path.join("config.toml").display()))
            .source(e)
    })
}

impl Loaded {
    /// Writes the action for what `world` shows, in environment units. A policy of the full task sees all of a `-truncated` one.
    pub fn act(&mut self, world: &World, action_env: &mut [f32]) -> Result<()> {
        let sees = |observation: &[f32]| match &self.player {
            Player::Network(policy) => policy.observation_width() == observation.len(),
            Player::Random(_) => true,
        };
        let observation = if sees(world.observation()) { world.observation() } else { world.full_observation() };
        self.player.act(world.task(), observation, action_env)
    }

    /// Refuses a network that fits neither `task` nor the full task of which it shows a part.
    pub fn check_fits_world(&self, task: &Task) -> Result<()> {
        let fits = self.check_fits(task);
        match task.id.strip_suffix("-truncated") {
            Some(whole) if fits.is_err() => self.check_fits(&crate::envs::task(whole)?),
            _ => fits,
        }
    }

    /// Refuses a network that was made for another task: other widths, or other channels.
    pub fn check_fits(&self, task: &Task) -> Result<()> {
        let Player::Network(policy) = &self.player else { return Ok(()) };
        let other = self.task.as_deref().filter(|id| *id != task.id).and_then(|id| crate::envs::task(id).ok());
        let found = (policy.observation_width(), policy.action_width());
        let expected = (task.observation_width(), task.action_width());
        if found == expected && other.as_ref().is_none_or(|other| other.has_channels_of(task)) {
            return Ok(());
        }
        let words = |(observation, action): (usize, usize)| format!("{observation} observations and {action} actions");
        let error = Error::data(format!("{} does not fit the task {}", self.label, task.id)).expected(words(expected));
        Err(match &other {
            Some(other) => error
                .found(format!("{} of {}", words(found), other.id))
                .hint(format!("the task {}, or another policy", other.id)),
            None => error.found(words(found)).hint("a policy that was made for this task"),
        })
    }
}

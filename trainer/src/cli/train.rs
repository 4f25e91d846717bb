//! `hype train`, `hype resume` and `hype expert`.

use super::memory::{Sizes, check_memory};
use super::policy::{Loaded, Player, read_run, read_run_config};
use super::transfer;
use crate::backend::{self, Gpu};
use crate::config::{self, RunConfig};
use crate::demos::{self, Demonstrations};
use crate::envs::{Task, World, WorldConfig, task};
use crate::error::{Error, Result};
use crate::methods::adril::Adril;
use crate::methods::bc::Bc;
use crate::methods::demonstrated::Demonstrated;
use crate::methods::expert::Expert;
use crate::methods::gail::Gail;
use crate::methods::hype::Hype;
use crate::methods::hyper::{Hyper, Tables};
use crate::methods::iq_learn::IqLearn;
use crate::methods::sqil::Sqil;
use crate::nn::{Cpu, Train};
use crate::observe::{Observer, progress_line};
use crate::run::directory::{Slot, is_finished, read_provenance};
use crate::run::driver::{Layout, Outcome, run_cohort};
use crate::run::rng::Streams;
use crate::run::{Provenance, RunDirectory};
use crate::{envs, run, to_policy};
use policy_runtime::Policy;
use std::path::Path;

/// Where to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Device {
    /// This machine's processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU; needs a program built with `--features cuda`.
    Cuda,
}

/// Starts a run in `directory`. Everything that can be refused is refused before the folder is made.
pub fn train(config: &RunConfig, directory: &Path, device: Device, observer: &dyn Observer) -> Result<Outcome> {
    let gpu = gpu_of(device)?;
    let task = task(&config.task)?;
    let demonstrations = load_demonstrations(config, &task)?;
    let mut provenance = Provenance::detect();
    provenance.gpu = gpu.map(|gpu| gpu.name);
    provenance.method.clone_from(&config.method);
    provenance.task.clone_from(&config.task);
    provenance.seeds.clone_from(&config.seeds);
    provenance.mujoco_version = Some(envs::mujoco::VERSION.to_string());
    provenance.expert_return = task.expert_return;
    provenance.random_return = task.random_return;
    if let Some(demonstrations) = &demonstrations {
        provenance.demos_path = config.demos.as_ref().map(|path| path.display().to_string());
        provenance.demos_sha256.clone_from(&demonstrations.sha256);
        provenance.demos_episodes = Some(demonstrations.episodes.len());
    }
    transfer::check(config, &task)?;
    let sizes = Sizes {
        observation: task.observation_width(),
        action: task.action_width(),
        demonstrated: demonstrations.as_ref().map_or(0, Demonstrations::len),
        horizon: task.horizon,
    };
    check_memory(config, sizes)?;
    let text = toml::to_string(config).map_err(|e| Error::system("cannot encode the configuration").source(e))?;
    let expert = demonstrated(config, demonstrations, &task)?;
    let directory = RunDirectory::create(directory, &text, &provenance)?;
    go(config, expert, &directory, device, observer)
}

fn demonstrated(
    config: &RunConfig,
    demonstrations: Option<Demonstrations>,
    task: &Task,
) -> Result<Option<Demonstrated>> {
    let Some(demonstrations) = demonstrations else {
        return Ok((config.method == "hyper").then(|| Demonstrated::none(task)));
    };
    let mut expert = if config.faults.demonstrations_in_env_units {
        Demonstrated::in_env_units(&demonstrations)?
    } else {
        Demonstrated::new(&demonstrations, task)?
    };
    if config.learns_from_task() {
        expert.rows.set_task_rewards(&demonstrations.rewards);
    }
    if config.world_model.is_none() {
        let demo_resets = expert.resets(config.reset.probability)?;
        if demo_resets.is_some() {
            let world = WorldConfig { tremble: config.env.tremble, demo_resets };
            World::new(&config.task, world, Streams::new(0), "env/check").map_err(|error| {
                let states = format!("{}: episodes cannot start in its physics states", demonstrations.described());
                Error::data(states).source(error).hint("record them again, or take a method without resets: hype, mm")
            })?;
        }
    }
    Ok(Some(expert))
}

/// Continues a run from its last checkpoints; a finished one is left as it is. `demos` is where its demonstrations are now.
pub fn resume(
    path: &Path,
    demos: Option<&Path>,
    device: Device,
    observer: impl Fn(&Task) -> Box<dyn Observer>,
) -> Result<Outcome> {
    gpu_of(device)?;
    let config = read_run_config(path)?;
    if is_finished(path) {
        return Ok(Outcome::Finished);
    }
    let directory = RunDirectory::open(path)?;
    let task = task(&config.task)?;
    let demonstrations = load_demonstrations(&with_demos_at(&config, demos, path)?, &task)?;
    let recorded = read_provenance(path)?.demos_sha256;
    let found = demonstrations.as_ref().and_then(|d| d.sha256.clone());
    if recorded != found {
        return Err(Error::data("the demonstrations are not the ones that the run was started with")
            .expected(format!("SHA-256 {}", recorded.unwrap_or_default()))
            .found(found.unwrap_or_default())
            .hint(format!("hype resume {} --demos FILE, with the original one, or a new run", path.display())));
    }
    let expert = demonstrated(&config, demonstrations, &task)?;
    let observer = observer(&task);
    go(&config, expert, &directory, device, &*observer)
}

/// `config` with its demonstrations where they are now.
fn with_demos_at(config: &RunConfig, demos: Option<&Path>, run: &Path) -> Result<RunConfig> {
    let moved = demos.map(Path::to_owned);
    match (&config.demos, &moved) {
        (None, Some(file)) => Err(Error::config(format!("--demos {}", file.display()))
            .expected("nothing: the run has no demonstrations")
            .hint(format!("hype resume {}", run.display()))),
        (Some(begun), None) if !begun.exists() => {
            Err(Error::data(format!("the demonstrations of {} are gone", run.display()))
                .expected(begun.display())
                .hint(format!("hype resume {} --demos FILE, where they are now", run.display())))
        }
        _ => Ok(RunConfig { demos: moved.or_else(|| config.demos.clone()), ..config.clone() }),
    }
}

/// Refuses to continue the run in `path` with other settings than it was started with.
pub fn check_same_settings(config: &RunConfig, path: &Path) -> Result<()> {
    let Some((key, started, asked)) = config::difference(&read_run_config(path)?, config)? else { return Ok(()) };
    Err(Error::config(format!("{} holds a run with other settings", path.display()))
        .expected(format!("`{key}` = {started}, as it was started"))
        .found(asked)
        .hint("train into another folder (--run), or move this one away"))
}

fn gpu_of(device: Device) -> Result<Option<Gpu>> {
    match device {
        Device::Cpu => Ok(None),
        Device::Cuda => backend::gpu().map(Some),
    }
}

fn go(
    config: &RunConfig,
    expert: Option<Demonstrated>,
    directory: &RunDirectory,
    device: Device,
    observer: &dyn Observer,
) -> Result<Outcome> {
    run::signals::install()?;
    match device {
        Device::Cpu => learn::<Cpu>(config, expert, directory, observer, Layout::SeedPerCore, &Default::default()),
        Device::Cuda => learn_on_gpu(config, expert, directory, observer),
    }
}

/// The one place where training is compiled for GPUs, which takes minutes: only builds that ask for it do.
#[cfg(feature = "cuda")]
fn learn_on_gpu(
    config: &RunConfig,
    expert: Option<Demonstrated>,
    directory: &RunDirectory,
    observer: &dyn Observer,
) -> Result<Outcome> {
    learn::<crate::nn::Gpu>(config, expert, directory, observer, Layout::Stacked, &Default::default())
}

#[cfg(not(feature = "cuda"))]
fn learn_on_gpu(_: &RunConfig, _: Option<Demonstrated>, _: &RunDirectory, _: &dyn Observer) -> Result<Outcome> {
    Err(backend::not_built())
}

/// Runs the configured method on the backend `B`.
fn learn<B: Train>(
    config: &RunConfig,
    expert: Option<Demonstrated>,
    directory: &RunDirectory,
    observer: &dyn Observer,
    layout: Layout,
    device: &B::Device,
) -> Result<Outcome> {
    let Some(expert) = expert else {
        return run_cohort(config, directory, observer, layout, |seeds| Expert::<B>::new(config, seeds, device));
    };
    let fresh = || expert.clone();
    match config.method.as_str() {
        "bc" => {
            run_cohort(config, directory, observer, layout, |seeds| Ok(Bc::<B>::new(config, fresh(), seeds, device)))
        }
        "gail" => run_cohort(config, directory, observer, layout, |seeds| {
            let tables = (needed(config, "ppo", &config.ppo)?, needed(config, "gail", &config.gail)?);
            Gail::<B>::new(config, tables, &expert, seeds, device)
        }),
        "hyper" => run_cohort(config, directory, observer, layout, |seeds| {
            let tables = Tables {
                world_model: needed(config, "world_model", &config.world_model)?.clone(),
                imagination: needed(config, "imagination", &config.imagination)?.clone(),
                hyper: needed(config, "hyper", &config.hyper)?.clone(),
                reward: needed(config, "reward", &config.reward)?.clone(),
            };
            let given = transfer::given(config, directory, seeds[0])?;
            Hyper::<B>::new(config, tables, fresh(), given, seeds, device)
        }),
        "iq-learn" => run_cohort(config, directory, observer, layout, |seeds| {
            IqLearn::<B>::new(config, needed(config, "iq", &config.iq)?, fresh(), seeds, device)
        }),
        "sqil" => {
            run_cohort(config, directory, observer, layout, |seeds| Sqil::<B>::new(config, fresh(), seeds, device))
        }
        "adril" => run_cohort(config, directory, observer, layout, |seeds| {
            Adril::<B>::new(config, needed(config, "adril", &config.adril)?, fresh(), seeds, device)
        }),
        _ => run_cohort(config, directory, observer, layout, |seeds| {
            Hype::<B>::new(config, needed(config, "reward", &config.reward)?, fresh(), seeds, device)
        }),
    }
}

/// The table of the configuration that the method cannot do without.
fn needed<'a, T>(config: &RunConfig, name: &str, table: &'a Option<T>) -> Result<&'a T> {
    table.as_ref().ok_or_else(|| {
        Error::config(format!("the configuration of {} lacks the table `{name}`", config.method))
            .hint("start from a preset: hype train METHOD TASK")
    })
}

/// The demonstrations that `config` names, checked against the task; none for forward reinforcement learning.
fn load_demonstrations(config: &RunConfig, task: &Task) -> Result<Option<Demonstrations>> {
    if config.method == "expert" {
        return Ok(None);
    }
    if config.demos.is_none() && config.learns_from_task() {
        return Ok(None);
    }
    let path = config.demos.as_ref().ok_or_else(|| {
        Error::config(format!("{} learns from demonstrations", config.method))
            .expected("--demos FILE")
            .hint(format!("hype demos collect {} -o demos.hdf5", config.task))
    })?;
    let mut demonstrations = demos::read(path)?;
    if let Some(limit) = config.demos_limit {
        demonstrations = demonstrations.limit(limit)?;
    }
    if config.learns_from_task() {
        demos::check_rewards(&demonstrations, task)?;
    }
    for warning in demos::check_fit(&demonstrations, task)? {
        progress_line(format!("warning: {}: {warning}", path.display()));
    }
    Ok(Some(demonstrations))
}

/// Seed of the episodes that an expert's reported score comes from: none that training or selection used.
const REPORT_SEED: u64 = 1_000_003;

/// Episodes of an expert's report.
const REPORT_EPISODES: u64 = 20;

/// Writes the best checkpoint (by true return: only experts may be chosen so) of a finished expert run as a policy file,
/// with its provenance beside it, and returns its score on fresh episodes.
pub fn write_expert(run: &Path, file: &Path) -> Result<super::evaluate::Evaluation> {
    let (config, snapshot) = read_run(run, Slot::Best, None)?;
    let task = task(&config.task)?;
    let contract = to_policy::contract(&task);
    let graph = to_policy::policy_graph(&snapshot.networks, &contract)?;
    let bytes = ::export::onnx_policy(&graph, &contract)?;
    let player = Player::Network(Box::new(Policy::from_graph(contract, graph)?));
    let mut loaded = Loaded { player, task: Some(task.id.clone()), label: file.display().to_string(), chosen: None };
    let env = crate::config::EnvConfig { tremble: 0.0 };
    let evaluation = super::evaluate::evaluate(&mut loaded, &task, &env, REPORT_EPISODES, REPORT_SEED)?;
    let provenance = read_provenance(run)?;
    let certificate = serde_json::json!({
        "task": task.id,
        "command": provenance.command,
        "seed": config.seeds.first(),
        "commit": provenance.commit,
        "hype_version": provenance.hype_version,
        "cpu": provenance.cpu,
        "mujoco_version": provenance.mujoco_version,
        "chosen_at_env_steps": snapshot.env_steps,
        "chosen_by": "largest mean true return of the run's evaluations",
        "return_mean": evaluation.mean_return,
        "return_std": evaluation.std_return,
        "return_episodes": REPORT_EPISODES,
        "return_seed": REPORT_SEED,
        "sha256": run::files::sha256(&bytes),
    });
    let mut text = serde_json::to_string_pretty(&certificate)
        .map_err(|e| Error::system("cannot encode the expert's provenance").source(e))?;
    text.push('\n');
    run::files::write(file, &bytes)?;
    run::files::write(&file.with_extension("json"), text.as_bytes())?;
    Ok(evaluation)
}

//! From parsed arguments to the commands, and from their results to exit codes.

use super::arguments::{Arguments, Checkpoint, Collect, Command, Demos, Engine, Eval, Expert, Settings, Train};
use super::policy::OfRun;
use super::{collect, device_check, doctor, evaluate, export, plot, policy, quickstart, tasks, train};
use crate::config::{self, EnvConfig, Overrides, RunConfig};
use crate::envs::{self, Task, mujoco};
use crate::error::{Error, Result};
use crate::observe::{Observer, Scale, Terminal, progress_line};
use crate::run::directory::Slot;
use crate::run::driver::Outcome;
use crate::run::files;
use crate::run::rng::Streams;
use policy_runtime::EngineChoice;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Runs a command. Results go to `out`, progress to stderr.
pub fn dispatch(arguments: Arguments, out: &mut dyn Write) -> Result<()> {
    match arguments.command {
        Command::Quickstart(arguments) => quickstart::quickstart(&arguments, out),
        Command::Tasks { json } => tasks::list(json, out),
        Command::Expert(arguments) => expert(&arguments, out),
        Command::Demos(Demos::Collect(arguments)) => collect_demonstrations(&arguments, out),
        Command::Demos(Demos::Inspect { file, json }) => super::demos::inspect(&file, json, out),
        Command::Train(arguments) => start(&arguments, out),
        Command::Resume(arguments) => {
            let outcome = train::resume(&arguments.run, arguments.demos.as_deref(), arguments.device, watch)?;
            ended(outcome, &arguments.run, out)?;
            say_how_to_write_an_expert(&arguments.run, out)
        }
        Command::Eval(arguments) => play(&arguments, out),
        Command::Plot(arguments) => plot::plot(&arguments, out),
        Command::Export(arguments) => {
            let slot = slot(arguments.checkpoint);
            let report = export::export(&arguments.source, arguments.seed, slot, &arguments.output)?;
            say(out, &format!("{} written and verified on {} inputs:", report.path.display(), report.rows))?;
            report.agreement.iter().try_for_each(|a| {
                say(
                    out,
                    &format!(
                        "  {}: {} and {} agree to {:.1e} ({:.0} % of what is allowed)",
                        a.what,
                        a.left,
                        a.right,
                        a.largest_difference,
                        100.0 * a.largest_share_of_tolerance
                    ),
                )
            })
        }
        Command::DeviceCheck(arguments) => device_check::device_check(&arguments),
        Command::Doctor { json } => {
            let report = doctor::examine(&mujoco::Sources::from_env());
            report.write(json, out)?;
            if report.is_good() { Ok(()) } else { Err(Error::system("something is missing on this machine")) }
        }
    }
}

fn say(out: &mut dyn Write, line: &str) -> Result<()> {
    writeln!(out, "{line}").map_err(|e| Error::system("cannot write to standard output").source(e))
}

fn slot(checkpoint: Checkpoint) -> Slot {
    match checkpoint {
        Checkpoint::Last => Slot::Last,
        Checkpoint::Best => Slot::Best,
    }
}

fn watch(task: &Task) -> Box<dyn Observer> {
    Box::new(Terminal::new(Scale { expert_return: task.expert_return, random_return: task.random_return }))
}

fn ended(outcome: Outcome, run: &Path, out: &mut dyn Write) -> Result<()> {
    match outcome {
        Outcome::Finished => say(out, &format!("finished: {}", run.display())),
        Outcome::Interrupted => Err(Error::interrupted(format!("stopped; a checkpoint is in {}", run.display()))
            .hint(format!("hype resume {}", run.display()))),
    }
}

fn say_how_to_write_an_expert(run: &Path, out: &mut dyn Write) -> Result<()> {
    let config = policy::read_run_config(run)?;
    if config.method != "expert" {
        return Ok(());
    }
    say(out, &format!("its policy file: hype expert {} --run {}", config.task, run.display()))
}

fn overrides(settings: &Settings, seeds: Option<Vec<u64>>) -> Overrides {
    Overrides {
        config_file: settings.config.clone(),
        set: settings.set.clone(),
        env_steps: settings.env_steps,
        seeds,
        ..Overrides::default()
    }
}

fn start(arguments: &Train, out: &mut dyn Write) -> Result<()> {
    config::check_method(&arguments.method)?;
    let task = envs::task(&arguments.task)?;
    let overrides = Overrides {
        preset: arguments.preset.clone(),
        demos: arguments.demos.as_ref().map(|path| absolute(path)).transpose()?,
        demos_limit: arguments.demos_limit,
        flags: flags(arguments)?,
        implied: implied(arguments),
        ..overrides(&arguments.settings, arguments.seeds.as_deref().map(config::parse_seeds).transpose()?)
    };
    let config = config::resolve(&arguments.method, &task.id, &overrides)?;
    warn_of_idle_settings(&overrides, &config)?;
    let default = || Path::new("runs").join(format!("{}-{}", config.method, config.task));
    let run = arguments.output.clone().unwrap_or_else(default);
    let outcome = train::train(&config, &run, arguments.settings.device, &*watch(&task))?;
    ended(outcome, &run, out)
}

fn warn_of_idle_settings(overrides: &Overrides, config: &RunConfig) -> Result<()> {
    config::idle_settings(overrides, config)?.into_iter().for_each(|idle| progress_line(format!("warning: {idle}")));
    Ok(())
}

/// The flags of `hype train` that are settings by other names.
fn flags(arguments: &Train) -> Result<Vec<(&'static str, String)>> {
    let mut flags = Vec::new();
    match arguments.reward.as_deref() {
        None => {}
        Some("true") => flags.push(("--reward", "imagination.reward=task".into())),
        Some(run) => flags.push(("--reward", format!("reward.from={}", absolute(Path::new(run))?.display()))),
    }
    if let Some(run) = &arguments.world_model {
        flags.push(("--world-model", format!("world_model.from={}", absolute(run)?.display())));
    }
    if let Some(episodes) = arguments.disc_episodes {
        flags.push(("--disc-episodes", format!("reward.rollout_episodes={episodes}")));
    }
    if let Some(source) = &arguments.disc_from {
        flags.push(("--disc-from", format!("hyper.pairs={source}")));
    }
    Ok(flags)
}

/// What these bring along: MBPO's policy samples in the real world too and learns from no expert's rows (Janner et al. 2019), and
/// another run's reward comes in networks of its shape.
fn implied(arguments: &Train) -> Vec<(&'static str, String)> {
    let settings = match arguments.reward.as_deref().filter(|_| arguments.method == "hyper") {
        None => Vec::new(),
        Some("true") => vec!["hyper.acting=sample".into(), "hybrid.schedule=[]".into()],
        // A run that cannot be read is refused later, with its reason.
        Some(run) => policy::read_run_config(Path::new(run)).ok().and_then(|other| other.reward).map_or_else(
            Vec::new,
            |reward| {
                let table = toml::Table::try_from(reward).unwrap_or_default();
                let shape = ["members", "hidden", "reduction", "clip"];
                shape.iter().filter_map(|key| Some(format!("reward.{key}={}", table.get(*key)?))).collect()
            },
        ),
    };
    settings.into_iter().map(|setting| ("--reward", setting)).collect()
}

/// Runs are resumed from other folders too.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("resolve", path, e))
}

fn expert(arguments: &Expert, out: &mut dyn Write) -> Result<()> {
    let task = envs::task(&arguments.task)?;
    let overrides = overrides(&arguments.settings, Some(vec![arguments.seed]));
    let config = config::resolve("expert", &task.id, &overrides)?;
    warn_of_idle_settings(&overrides, &config)?;
    let name = format!("expert-{}-{}", task.id, arguments.seed);
    let run = arguments.run.clone().unwrap_or_else(|| Path::new("runs").join(name));
    let file = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}-expert.onnx", task.id)));
    files::check_folder_of(&file)?;
    let device = arguments.settings.device;
    let outcome = if run.join("config.toml").is_file() {
        train::check_same_settings(&config, &run)?;
        train::resume(&run, None, device, watch)?
    } else {
        train::train(&config, &run, device, &*watch(&task))?
    };
    if outcome == Outcome::Interrupted {
        return ended(outcome, &run, out);
    }
    let evaluation = train::write_expert(&run, &file)?;
    say(out, &format!("{} written", file.display()))?;
    evaluation.write(false, out).map_err(|e| Error::system("cannot write to standard output").source(e))
}

fn collect_demonstrations(arguments: &Collect, out: &mut dyn Write) -> Result<()> {
    let task = envs::task(&arguments.task)?;
    let random = Streams::new(arguments.seed).stream("random_policy");
    let of_run = OfRun { slot: slot(arguments.checkpoint), seed: arguments.policy_seed };
    let mut loaded = policy::open(&arguments.policy, Some(&task.id), EngineChoice::Auto, of_run, random)?;
    loaded.check_fits_world(&task)?;
    let as_the_paper = policy::is_expert(&arguments.policy) && arguments.noise == 0.0;
    let collection = collect::Collection {
        episodes: arguments.episodes,
        full_length: arguments.full_length || as_the_paper,
        seed: arguments.seed,
        noise: arguments.noise,
        drop_states: arguments.drop_states,
    };
    let collected = collect::collect(&mut loaded, &task, collection, &arguments.output)?;
    say(
        out,
        &format!(
            "{}: {} episodes, {} steps, mean return {:.1}; {} episodes that ended early were discarded",
            arguments.output.display(),
            collected.episodes,
            collected.steps,
            collected.mean_return,
            collected.discarded
        ),
    )
}

fn play(arguments: &Eval, out: &mut dyn Write) -> Result<()> {
    let engine = match arguments.engine {
        None => EngineChoice::Auto,
        Some(Engine::Native) => EngineChoice::Native,
        Some(Engine::Tract) => EngineChoice::Tract,
    };
    let random = Streams::new(arguments.seed).stream("random_policy");
    let of_run = OfRun { slot: slot(arguments.checkpoint), seed: arguments.policy_seed };
    let mut loaded = policy::open(&arguments.policy, arguments.task.as_deref(), engine, of_run, random)?;
    let name = arguments.task.clone().or_else(|| loaded.task.clone()).ok_or_else(|| {
        Error::config(format!("{} does not say which task it is for", arguments.policy)).hint("name it: --task hopper")
    })?;
    if !(0.0..=1.0).contains(&arguments.tremble) {
        return Err(Error::config("--tremble").expected("0 to 1").found(arguments.tremble));
    }
    if arguments.episodes == 0 {
        return Err(Error::config("--episodes 0").expected("at least 1"));
    }
    let task = envs::task(&name)?;
    loaded.check_fits_world(&task)?;
    let env = EnvConfig { tremble: arguments.tremble };
    let evaluation = evaluate::evaluate(&mut loaded, &task, &env, arguments.episodes, arguments.seed)?;
    evaluation.write(arguments.json, out).map_err(|e| Error::system("cannot write to standard output").source(e))
}

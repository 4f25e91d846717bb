//! `hype quickstart`: the whole line once, on real physics, in minutes.

use super::arguments::Quickstart;
use super::plot::{PlotArgs, plot};
use super::{collect, evaluate, export, policy, train};
use crate::config::{self, EnvConfig, Overrides, RunConfig};
use crate::envs::{self, Task};
use crate::error::{Error, Result};
use crate::methods::Method;
use crate::methods::expert::Expert;
use crate::nn::Cpu;
use crate::observe::{Scale, Terminal, progress_line};
use crate::run::directory::Slot;
use crate::run::driver::Outcome;
use crate::run::rng::Streams;
use crate::run::signals;
use policy_runtime::EngineChoice;
use policy_runtime::cli::control_loop;
use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

const TASK: &str = "hopper";
const STEPS: usize = 7;

/// Episodes of demonstrations.
const DEMONSTRATIONS: usize = 32;

/// Episodes of each evaluation at the end.
const EPISODES: u64 = 10;

/// Evaluations along the learning curve.
const CURVE_POINTS: u64 = 10;

/// Runs it. What it makes lies under `arguments.output`; a folder of an earlier quickstart is not overwritten.
pub fn quickstart(arguments: &Quickstart, out: &mut dyn Write) -> Result<()> {
    if !(arguments.minutes.is_finite() && arguments.minutes > 0.0 && arguments.minutes <= 1e5) {
        return Err(Error::config("--minutes").expected("a number above 0").found(arguments.minutes));
    }
    let folder = &arguments.output;
    if folder.exists() {
        return Err(Error::config(format!("{} is there already", folder.display()))
            .hint("name another folder with -o, or remove that one"));
    }
    let mut tell =
        |step: usize, title: &str, why: &str| writeln!(out, "\n[{step}/{STEPS}] {title}\n      {why}").map_err(closed);

    tell(
        1,
        "physics",
        "Hopper, a one-legged robot, in MuJoCo. The first use fetches the library and the robot model with pip.",
    )?;
    let task = envs::task(TASK)?;
    drop(envs::make(TASK)?);

    tell(
        2,
        "demonstrations",
        "An expert that ships with Hype plays; HyPE will see its observations and actions, never its rewards.",
    )?;
    let demos = folder.join("demos.hdf5");
    crate::run::files::create_folder(folder)?;
    let mut expert = open("expert", &task)?;
    let collection = collect::Collection {
        episodes: DEMONSTRATIONS,
        full_length: true,
        seed: arguments.seed,
        ..collect::Collection::default()
    };
    let collected = collect::collect(&mut expert, &task, collection, &demos)?;
    progress_line(format_args!(
        "      {} episodes, {} steps, mean return {:.0}",
        collected.episodes, collected.steps, collected.mean_return
    ));

    tell(
        3,
        "learning with HyPE",
        "A discriminator learns what the expert prefers; the policy learns from its own steps and the expert's together.",
    )?;
    let run = folder.join("run");
    let config = configure(arguments, &task, demos)?;
    let observer = Terminal::new(Scale { expert_return: task.expert_return, random_return: task.random_return });
    if train::train(&config, &run, train::Device::Cpu, &observer)? == Outcome::Interrupted {
        return Err(Error::interrupted(format!("stopped; a checkpoint is in {}", run.display()))
            .hint(format!("hype resume {}", run.display())));
    }

    tell(
        4,
        "evaluation",
        "Fresh episodes with the true reward, which learning never saw, beside the expert's and a random policy's.",
    )?;
    let run_name = run.display().to_string();
    let mut rows = Vec::new();
    for (label, name) in [("random", "random"), ("HyPE", run_name.as_str()), ("expert", "expert")] {
        let env = EnvConfig { tremble: 0.0 };
        let seed = arguments.seed + 1;
        rows.push((label, evaluate::evaluate(&mut open(name, &task)?, &task, &env, EPISODES, seed)?));
    }

    tell(
        5,
        "export",
        "The policy as ONNX: raw observation in, action in the robot's units out. Burn, our engine and tract must agree.",
    )?;
    let bundle = folder.join("bundle");
    let report = export::export(&run_name, None, Slot::Last, &bundle)?;
    let worst = report.agreement.iter().map(|a| a.largest_difference).fold(0.0, f32::max);
    progress_line(format_args!(
        "      {} comparisons on {} inputs; the largest difference is {worst:.1e}",
        report.agreement.len(),
        report.rows
    ));

    tell(
        6,
        "control loop",
        "The exported policy at 500 Hz on this machine, as on a robot: what a step costs, and whether one came late.",
    )?;
    let looped = control_loop(&bundle, EngineChoice::Auto, Some(500.0), 3.0, &AtomicBool::new(false))?;
    progress_line(looped.text.trim_end());

    tell(7, "results", "Returns per episode; the same numbers come out again with the same seed and number of steps.")?;
    let curve = folder.join("curve.svg");
    let args = PlotArgs {
        runs: vec![run.clone()],
        task: None,
        output: curve.clone(),
        as_published: false,
        reference: None,
        expert_return: None,
    };
    plot(&args, &mut std::io::sink())?;
    let mut table = format!("      {:<10}{:>10}{:>10}{:>10}\n", "policy", "return", "± std", "steps");
    for (label, e) in &rows {
        table += &format!("      {label:<10}{:>10.0}{:>10.0}{:>10.0}\n", e.mean_return, e.std_return, e.mean_length);
    }
    writeln!(
        out,
        "{table}\n      curve   {}\n      bundle  {}\n      run     {}   (longer: hype train hype hopper --demos {} --env-steps 1000000)",
        curve.display(),
        bundle.display(),
        run.display(),
        folder.join("demos.hdf5").display()
    )
    .map_err(closed)
}

fn closed(error: std::io::Error) -> Error {
    Error::system("cannot write to standard output").source(error)
}

fn open(name: &str, task: &Task) -> Result<policy::Loaded> {
    let random = Streams::new(0).stream("random_policy");
    policy::open(name, Some(&task.id), EngineChoice::Auto, policy::OfRun::default(), random)
}

/// The preset, with as many steps as fit into the minutes on this machine.
fn configure(arguments: &Quickstart, task: &Task, demos: std::path::PathBuf) -> Result<RunConfig> {
    let secs_per_step = measure(task)?;
    let steps = ((arguments.minutes * 60.0 / secs_per_step / 1000.0) as u64).max(2) * 1000;
    progress_line(format_args!(
        "      {:.1} ms per step here: {steps} environment steps in {} minutes",
        1e3 * secs_per_step,
        arguments.minutes
    ));
    let demos = std::path::absolute(&demos).map_err(|e| Error::io("resolve", &demos, e))?;
    let overrides = Overrides {
        env_steps: Some(steps),
        seeds: Some(vec![arguments.seed]),
        demos: Some(demos),
        set: vec![
            format!("eval.every={}", (steps / CURVE_POINTS).max(1)),
            "eval.episodes=5".into(),
            "reward.update_every=2000".into(),
        ],
        ..Overrides::default()
    };
    config::resolve("hype", TASK, &overrides)
}

/// Seconds per environment step with its gradient step, rollouts and evaluations included, by a short trial.
#[allow(clippy::disallowed_methods, reason = "the number of steps follows the speed of this machine")]
fn measure(task: &Task) -> Result<f64> {
    let overrides = Overrides { seeds: Some(vec![0]), env_steps: Some(1_000_000), ..Overrides::default() };
    let mut config = config::resolve("expert", &task.id, &overrides)?;
    config.sac.exploration_steps = 256;
    let mut trial = Expert::<Cpu>::new(&config, &[0], &Default::default())?;
    for _ in 0..6 {
        trial.advance()?;
    }
    let (start, before) = (Instant::now(), trial.counts(0).env_steps());
    for _ in 0..6 {
        if signals::stop_requested() {
            break;
        }
        trial.advance()?;
    }
    let steps = trial.counts(0).env_steps() - before;
    // Rollouts for the discriminator and evaluations add about a tenth.
    Ok(1.1 * start.elapsed().as_secs_f64() / steps.max(1) as f64)
}

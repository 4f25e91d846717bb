//! The command line as scripts use it, from training to the robot's side.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hype_tests::{hype, hype_policy, train_line};
use serde_json::Value;

/// Not a multiple of the 64 steps between bursts of gradient steps.
const ENV_STEPS: u64 = 1700;
const EVAL_EVERY: u64 = 300;
const EVAL_EPISODES: u64 = 3;

/// A finished run of seeds 0 and 1, made once: a folder with `run` in it.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("--set eval.every={EVAL_EVERY} --set eval.episodes={EVAL_EPISODES}");
        let line = format!("{} --seeds 0..2 --env-steps {ENV_STEPS} {settings} -o run", train_line("hype"));
        let told = hype(folder.path(), &line).good();
        assert_eq!(told.stdout, "finished: run\n", "progress goes to stderr");
        assert!(told.stderr.contains("evaluated at 1,700 steps"), "{}", told.stderr);
        folder
    });
    folder.path()
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn count(line: &Value, key: &str) -> u64 {
    line[key].as_u64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

#[test]
fn tasks_are_one_object_a_line() {
    let told = hype(Path::new("."), "tasks --json").good();
    assert_eq!(told.stderr, "");
    let tasks: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: BTreeSet<&str> = tasks.iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), tasks.len());
    for id in ["pendulum", "hopper", "walker2d", "half-cheetah", "ant", "humanoid", "hopper-v3", "ant-truncated"] {
        assert!(ids.contains(id), "{id}");
    }
    let hopper = tasks.iter().find(|task| task["id"] == "hopper").unwrap();
    let widths = ["observation", "action"].map(|key| hopper[key].as_array().unwrap().len());
    assert_eq!((widths, count(hopper, "horizon")), ([11, 3], 1000));
    assert!(hopper["expert_return"].as_f64().unwrap() > 3000.0);
}

#[test]
fn doctor_and_version_speak_json_and_text() {
    let told = hype(Path::new("."), "doctor --json");
    let findings = told.json()["findings"].as_array().unwrap().clone();
    let missing = findings.iter().any(|finding| finding["state"] == "missing");
    assert_eq!(told.code, Some(i32::from(missing)), "{}", told.stderr);
    assert!(findings.iter().any(|finding| finding["part"] == "mujoco"));
    let version = hype(Path::new("."), "--version").good();
    assert_eq!(version.stdout, format!("hype {}\n", env!("CARGO_PKG_VERSION")));
    let help = hype(Path::new("."), "--help").good();
    for command in ["quickstart", "tasks", "expert", "demos", "train", "resume", "eval", "plot", "export", "doctor"] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn seeds_are_one_a_range_or_a_list() {
    for (seeds, expected) in [("3", &[3][..]), ("0..3", &[0, 1, 2]), ("0,4", &[0, 4]), ("7,2", &[7, 2])] {
        let folder = tempfile::tempdir().unwrap();
        hype(folder.path(), &format!("{} --seeds {seeds} --env-steps 120 -o run", train_line("hype"))).good();
        let run = folder.path().join("run");
        let config: toml::Table = fs::read_to_string(run.join("config.toml")).unwrap().parse().unwrap();
        let found: Vec<i64> = config["seeds"].as_array().unwrap().iter().map(|s| s.as_integer().unwrap()).collect();
        assert_eq!(found, expected, "--seeds {seeds}");
        let trained: Vec<u64> = lines(&run.join("eval.jsonl")).iter().map(|line| count(line, "seed")).collect();
        let mut ascending: Vec<u64> = expected.iter().flat_map(|seed| [*seed as u64; 2]).collect();
        ascending.sort_unstable();
        assert_eq!(trained, ascending, "two episodes of each seed");
    }
}

#[test]
fn there_may_be_more_seeds_than_cores() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = std::thread::available_parallelism().unwrap().get() as u64 + 2;
    hype(folder.path(), &format!("{} --seeds 0..{seeds} --env-steps 70 -o run", train_line("mm"))).good();
    let trained: BTreeSet<u64> =
        lines(&folder.path().join("run/eval.jsonl")).iter().map(|line| count(line, "seed")).collect();
    assert_eq!(trained, (0..seeds).collect());
}

/// Multiples of 64, and the end: the steps after which learning looks up.
fn bursts() -> impl Iterator<Item = u64> + Clone {
    (1..).map(|burst| (64 * burst).min(ENV_STEPS)).take(ENV_STEPS.div_ceil(64) as usize)
}

#[test]
fn evaluations_come_at_the_first_step_at_or_after_each_multiple_and_at_the_end() {
    let found = lines(&folder().join("run/eval.jsonl"));
    let multiples = (1..=ENV_STEPS / EVAL_EVERY).map(|n| n * EVAL_EVERY);
    let mut expected: BTreeSet<u64> = multiples.map(|m| bursts().find(|steps| *steps >= m).unwrap()).collect();
    expected.insert(ENV_STEPS);
    assert_eq!(expected.iter().copied().collect::<Vec<_>>(), [320, 640, 960, 1216, 1536, 1700]);
    let expected: Vec<(u64, u64, u64)> = (0..2)
        .flat_map(|seed| expected.iter().flat_map(move |steps| (0..EVAL_EPISODES).map(move |e| (seed, *steps, e))))
        .collect();
    let told = |line: &Value| (count(line, "seed"), count(line, "env_steps"), count(line, "episode"));
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected);
    for line in &found {
        assert_eq!(count(line, "length"), 200);
        assert!((-2000.0..0.0).contains(&line["return"].as_f64().unwrap()), "{line}");
        let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys.iter().copied().collect::<BTreeSet<_>>(),
            BTreeSet::from(["seed", "env_steps", "env_steps_total", "episode", "return", "length"]),
            "nothing of the wall clock"
        );
    }
}

#[test]
fn every_real_step_is_counted() {
    // Two episodes of 200 steps each time the discriminator learns: every 500 steps, at the end of a burst.
    let rollout_steps = 2 * 200;
    let updates: Vec<u64> = (1..=3).map(|n| 512 * n).collect();
    let metrics = lines(&folder().join("run/metrics.jsonl"));
    for seed in 0..2 {
        let learned = metrics.iter().filter(|line| count(line, "seed") == seed && line.get("disc_loss").is_some());
        let found: Vec<u64> = learned.map(|line| count(line, "env_steps")).collect();
        assert_eq!(found, updates, "seed {seed}");
    }
    for line in metrics.iter().chain(&lines(&folder().join("run/eval.jsonl"))) {
        let (steps, total) = (count(line, "env_steps"), count(line, "env_steps_total"));
        let rollouts = updates.iter().filter(|update| **update <= steps).count() as u64;
        assert_eq!(total - steps, rollouts * rollout_steps, "{line}");
    }
}

#[test]
fn a_budget_is_spent_exactly() {
    let spent = |line: &str, run: &str, steps: u64| {
        let folder = tempfile::tempdir().unwrap();
        hype(folder.path(), line).good();
        let found = lines(&folder.path().join(run).join("eval.jsonl"));
        assert_eq!(count(found.last().unwrap(), "env_steps"), steps, "{line}");
        folder
    };
    for steps in [1, 64, 101, 130] {
        spent(&format!("{} --env-steps {steps} -o run", train_line("mm")), "run", steps);
    }
    let line = format!("expert pendulum {} --env-steps 77 --run run -o policy.onnx", hype_tests::TINY);
    let folder = spent(&line, "run", 77);
    let told = hype(folder.path(), "eval policy.onnx --episodes 1 --json").good().json();
    assert_eq!(told["task"], "pendulum");
    let certificate: Value = serde_json::from_slice(&fs::read(folder.path().join("policy.json")).unwrap()).unwrap();
    assert_eq!((count(&certificate, "chosen_at_env_steps"), count(&certificate, "return_episodes")), (77, 20));
}

#[test]
fn a_run_becomes_a_bundle_that_every_engine_plays_alike() {
    let here = tempfile::tempdir().unwrap();
    let run = folder().join("run").display().to_string();
    let told = hype(here.path(), &format!("export {run} --seed 1 -o bundle")).good();
    assert!(told.stdout.contains("written and verified"), "{}", told.stdout);
    let names: BTreeSet<PathBuf> = hype_tests::files_in(&here.path().join("bundle")).into_keys().collect();
    for name in ["policy.onnx", "discriminator.onnx", "manifest.json"] {
        assert!(names.contains(Path::new(name)), "{names:?}");
    }
    let manifest: Value = serde_json::from_slice(&fs::read(here.path().join("bundle/manifest.json")).unwrap()).unwrap();
    assert_eq!((count(&manifest["training"], "seed"), count(&manifest["training"], "env_steps")), (1, ENV_STEPS));

    hype(here.path(), &format!("export {run} -o first")).good();
    let play = |line: &str| hype(here.path(), &format!("eval {line} --episodes 3 --seed 5 --json")).good().json();
    let native = play("first");
    assert_eq!(native["task"], "pendulum");
    assert_eq!(native["episodes"].as_array().unwrap().len(), 3);
    for other in
        [run.clone(), format!("{run} --engine tract"), "first --engine tract".into(), "first/policy.onnx".into()]
    {
        let (ours, theirs) = (native["mean_return"].as_f64().unwrap(), play(&other)["mean_return"].as_f64().unwrap());
        assert!((ours - theirs).abs() < 0.5, "{other}: {ours} and {theirs}");
    }
    assert_ne!(play("bundle")["mean_return"], native["mean_return"], "another seed is another policy");
    let best = play(&format!("{run} --checkpoint best"));
    assert!(best["policy"].as_str().unwrap().contains("oracle"), "{best}");
    let other = play(&format!("{run} --policy-seed 1"))["mean_return"].as_f64().unwrap();
    assert!((other - play("bundle")["mean_return"].as_f64().unwrap()).abs() < 0.5);
    for policy in ["--policy-seed 1", "--checkpoint best"] {
        let line = format!("demos collect pendulum --episodes 2 --policy {run} {policy} -o played.hdf5");
        assert!(hype(here.path(), &line).good().stdout.contains("2 episodes"));
    }
    hype(here.path(), &format!("eval {run} --policy-seed 7")).refused(2, &["has no seed 7", "one of [0, 1]"]);
    hype(here.path(), "eval first --policy-seed 1").refused(2, &["--policy-seed 1", "a run folder"]);

    let verified = hype_policy(here.path(), "verify bundle --json").good().json();
    assert_eq!(verified["agreement"].as_array().unwrap().len(), 7);
    let ran = hype_policy(here.path(), "run bundle --rate 500 --seconds 0.3 --json").good().json();
    // On a busy machine some actions come late.
    assert_eq!((count(&ran, "fallbacks"), ran["interrupted"].as_bool()), (count(&ran, "late"), Some(false)));
    assert!(count(&ran, "ticks") > 0);
}

#[test]
fn a_shipped_expert_is_exported_and_played() {
    let here = tempfile::tempdir().unwrap();
    hype(here.path(), "export expert:pendulum -o bundle").good();
    hype_policy(here.path(), "verify bundle").good();
    let told = hype(here.path(), "eval bundle --json").good().json();
    let (mean, expert) = (told["mean_return"].as_f64().unwrap(), told["expert_return"].as_f64().unwrap());
    assert!(mean > -250.0 && expert > -250.0, "{told}");
    let random = hype(here.path(), "eval random --task pendulum --json").good().json();
    assert!(random["mean_return"].as_f64().unwrap() < -700.0, "{random}");
    let again = hype(here.path(), "eval random --task pendulum --json").good().json();
    assert_eq!(random, again, "equal seeds give equal episodes");
    let trembling = hype(here.path(), "eval bundle --tremble 0.5 --json").good().json();
    assert!(trembling["mean_return"].as_f64().unwrap() < mean, "{trembling}");
}

#[test]
fn demonstrations_are_described_and_the_same_each_time() {
    let here = tempfile::tempdir().unwrap();
    for name in ["one.hdf5", "two.hdf5"] {
        hype(here.path(), &format!("demos collect pendulum --episodes 3 --seed 9 -o {name}")).good();
    }
    let bytes = |name: &str| fs::read(here.path().join(name)).unwrap();
    assert!(bytes("one.hdf5") == bytes("two.hdf5"));
    hype(here.path(), "demos collect pendulum --episodes 3 --seed 8 -o one.hdf5").good();
    assert!(bytes("one.hdf5") != bytes("two.hdf5"), "another seed, in the place of the old file");
    let told = hype(here.path(), "demos inspect two.hdf5 --json").good().json();
    assert!(told.to_string().contains("pendulum"), "{told}");
}

#[test]
fn curves_are_drawn_from_runs() {
    let here = tempfile::tempdir().unwrap();
    hype(here.path(), &format!("{} --env-steps {ENV_STEPS} --set eval.every={EVAL_EVERY} -o mm", train_line("mm")))
        .good();
    let told = hype(here.path(), &format!("plot {} mm -o curves.svg", folder().join("run").display())).good();
    assert!(told.stdout.contains("HyPE, n=2, at 1,700 steps") && told.stdout.contains("MM, n=1"), "{}", told.stdout);
    let svg = fs::read_to_string(here.path().join("curves.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("HyPE (n=2)"));
    let table = fs::read_to_string(here.path().join("curves.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 6 + 6, "{table}");
}

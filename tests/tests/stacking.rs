//! A cohort as one stack, which is how a GPU trains it, on the CPU backend: the same runs as seed by seed.

#![allow(clippy::unwrap_used)]

use hype_tests::{demonstrations, files_in, hype};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use trainer::config::{Overrides, RunConfig, resolve};
use trainer::envs;
use trainer::methods::demonstrated::Demonstrated;
use trainer::methods::hype::Hype;
use trainer::nn::Cpu;
use trainer::observe::{EvaluationLine, Event, Observer, evaluations};
use trainer::run::directory::checkpoint_path;
use trainer::run::driver::{Layout, Outcome, read_snapshot, run_cohort};
use trainer::run::{Provenance, RunDirectory, Slot};

const SEEDS: [u64; 3] = [5, 0, 2];

/// Returns and parameters may differ by this share: stacking may regroup sums. On this backend nothing does so yet.
const TOLERANCE: f64 = 1e-3;

fn config(set: &[&str]) -> RunConfig {
    let tiny = ["sac.hidden=[24,24]", "sac.batch_size=32", "reward.hidden=[16,16]", "reward.batch_size=64"];
    let rhythm = ["reward.update_every=300", "eval.every=300", "eval.episodes=2"];
    let overrides = Overrides {
        seeds: Some(SEEDS.to_vec()),
        env_steps: Some(900),
        demos: Some(demonstrations().to_owned()),
        set: tiny.iter().chain(&rhythm).chain(set).map(|setting| (*setting).to_owned()).collect(),
        ..Overrides::default()
    };
    resolve("hype", "pendulum", &overrides).unwrap()
}

fn expert() -> Demonstrated {
    let task = envs::task("pendulum").unwrap();
    Demonstrated::new(&trainer::demos::read(demonstrations()).unwrap(), &task).unwrap()
}

fn train(config: &RunConfig, directory: &RunDirectory, layout: Layout, observer: &dyn Observer) -> Vec<usize> {
    let (expert, reward) = (expert(), config.reward.clone().unwrap());
    let stacks = Mutex::new(Vec::new());
    let outcome = run_cohort(config, directory, observer, layout, |seeds| {
        stacks.lock().unwrap().push(seeds.len());
        Hype::<Cpu>::new(config, &reward, expert.clone(), seeds, &Default::default())
    });
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    stacks.into_inner().unwrap()
}

fn create(path: &Path) -> RunDirectory {
    RunDirectory::create(path, "task = \"pendulum\"\n", &Provenance::default()).unwrap()
}

fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= TOLERANCE * (1.0 + expected.abs()), "{found} instead of {expected}");
}

/// The same lines, returns and networks.
fn assert_same_run(found: &Path, expected: &Path) {
    let key = |line: &EvaluationLine| (line.seed, line.env_steps, line.env_steps_total, line.episode, line.length);
    let (a, b) = (evaluations::read(found).unwrap(), evaluations::read(expected).unwrap());
    assert_eq!(a.iter().map(key).collect::<Vec<_>>(), b.iter().map(key).collect::<Vec<_>>());
    assert!(a.len() >= 18);
    a.iter().zip(&b).for_each(|(a, b)| assert_close(a.episode_return, b.episode_return));
    for seed in SEEDS {
        let read = |run: &Path| read_snapshot(&checkpoint_path(run, Slot::Last, seed)).unwrap();
        let (a, b) = (read(found), read(expected));
        assert_eq!((a.env_steps, a.env_steps_total, a.driver.finished), (b.env_steps, b.env_steps_total, true));
        assert_eq!(a.networks.actor.0, b.networks.actor.0);
        let pairs = a.networks.actor.1.iter().zip(&b.networks.actor.1);
        pairs.for_each(|(a, b)| assert_close(f64::from(*a), f64::from(*b)));
        assert!(checkpoint_path(found, Slot::Best, seed).is_file());
    }
}

/// Keeps a copy of the run as it is when a checkpoint of the given number of steps is there: a run that was killed then.
struct Copies<'a> {
    run: &'a Path,
    wanted: Mutex<Vec<(u64, PathBuf)>>,
}

impl Observer for Copies<'_> {
    fn observe(&self, event: &Event) {
        let Event::Saved { env_steps, .. } = event else { return };
        let mut wanted = self.wanted.lock().unwrap();
        if let Some(place) = wanted.iter().position(|(steps, _)| steps == env_steps) {
            copy(self.run, &wanted.swap_remove(place).1);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for (name, (content, _)) in files_in(from) {
        fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
        fs::write(to.join(&name), content).unwrap();
    }
}

#[test]
fn a_stacked_cohort_is_its_seeds_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let (single, stacked) = (folder.path().join("single"), folder.path().join("stacked"));
    assert_eq!(train(&config(&[]), &create(&single), Layout::SeedPerCore, &()), [1, 1, 1]);

    // Checkpoints after each piece of learning, two of which are kept.
    let (early, late) = (folder.path().join("early"), folder.path().join("late"));
    let wanted = Mutex::new(vec![(256, early.clone()), (640, late.clone())]);
    let often = config(&["checkpoint_every_secs=0"]);
    let stacks = train(&often, &create(&stacked), Layout::Stacked, &Copies { run: &stacked, wanted });
    assert_eq!(stacks, [3]);
    assert_same_run(&stacked, &single);

    // Killed while one seed had come further than the others: they go on apart.
    let mixed = folder.path().join("mixed");
    copy(&early, &mixed);
    let journals = Path::new("seeds").join(SEEDS[1].to_string());
    copy(&late.join(&journals), &mixed.join(&journals));
    for slot in [Slot::Last, Slot::Best] {
        let checkpoint = checkpoint_path(Path::new(""), slot, SEEDS[1]);
        fs::create_dir_all(mixed.join(&checkpoint).parent().unwrap()).unwrap();
        fs::copy(late.join(&checkpoint), mixed.join(&checkpoint)).unwrap();
    }
    assert_eq!(train(&config(&[]), &RunDirectory::open(&mixed).unwrap(), Layout::Stacked, &()), [2, 1]);
    assert_same_run(&mixed, &single);

    // Killed and resumed as a stack.
    assert_eq!(train(&config(&[]), &RunDirectory::open(&late).unwrap(), Layout::Stacked, &()), [3]);
    assert_same_run(&late, &single);

    // A stack's checkpoints are a single seed's, too.
    assert_eq!(train(&config(&[]), &RunDirectory::open(&early).unwrap(), Layout::SeedPerCore, &()), [1, 1, 1]);
    assert_same_run(&early, &single);
}

#[test]
fn a_device_check_finds_the_cpu_equal_to_itself() {
    let folder = tempfile::tempdir().unwrap();
    let line = "device-check --steps 40 --width 16 --stacks 1,3 --secs 0.01 -o check.jsonl";
    hype(folder.path(), line).good();
    let text = fs::read_to_string(folder.path().join("check.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    assert_eq!(of("machine").len(), 1);
    assert_eq!(of("agreement").last().unwrap()["grad_steps"], 40);
    for line in of("agreement") {
        assert_eq!(line["agrees"], true, "{line}");
        assert!(line["actions_nudged"].as_f64().unwrap() > 0.0, "the comparison sees a nudge: {line}");
    }
    let [model] = of("model_agreement")[..] else { panic!("{text}") };
    assert_eq!((&model["agrees"], model["figures_relative"].as_f64()), (&true.into(), Some(0.0)), "{model}");
    for nudged in ["figures_nudged", "imagined_nudged"] {
        assert!(model[nudged].as_f64().unwrap() > 0.0, "the comparison sees a nudge: {model}");
    }
    let [model] = of("model_speed")[..] else { panic!("{text}") };
    assert!(
        model["grad_steps_per_sec"].as_f64().unwrap() > 0.0 && model["imagined_steps_per_sec"].as_f64().unwrap() > 0.0
    );
    let speeds: Vec<u64> = of("speed").iter().map(|line| line["seeds"].as_u64().unwrap()).collect();
    assert_eq!(speeds, [1, 3]);
}

#[test]
fn a_gpu_that_is_not_there_is_refused_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    let train = format!("train hype pendulum --demos {} --device cuda -o run", demonstrations().display());
    for line in [train.as_str(), "device-check --device cuda -o check.jsonl"] {
        hype(folder.path(), line).refused(2, &["--device cuda", "try: CUDARC_CUDA_VERSION", "--features cuda"]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "refused before anything is written");
}

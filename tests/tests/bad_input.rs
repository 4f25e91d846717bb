//! What people get wrong, and what machines do to files: each case ends in one message that names the thing and says what
//! to do, with the exit code of its kind, and leaves nothing half written.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hype_tests::{Ended, binary, demonstrations, files_in, hype, hype_command, train_line};
use trainer::demos::{self, Demonstrations, RecordedStep, Recorder};
use trainer::run::directory::{Slot, checkpoint_path};
use trainer::run::driver::read_snapshot;

/// Names of the files below `folder`.
fn names(folder: &Path) -> Vec<PathBuf> {
    files_in(folder).into_keys().collect()
}

#[test]
fn wrong_words_and_values_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (train, demos) = (train_line("hype"), demonstrations().display().to_string());
    let cases: Vec<(String, &[&str])> = vec![
        ("train hype hopper2".into(), &["unknown task 'hopper2'", "did you mean 'hopper'"]),
        ("eval random --task pendulm".into(), &["unknown task 'pendulm'", "did you mean 'pendulum'"]),
        ("demos collect zebra -o run".into(), &["unknown task 'zebra'", "hype tasks"]),
        ("train hyp pendulum".into(), &["unknown method `hyp`", "one of bc-reg, filter, hype", "did you mean `hype`"]),
        ("train hype pendulum -o run".into(), &["--demos FILE", "hype demos collect pendulum"]),
        (format!("{train} --preset fxed -o run"), &["unknown preset `fxed`", "did you mean `fixed`"]),
        (
            format!("{train} --set sac.batch_sise=3 -o run"),
            &["unknown configuration key `sac.batch_sise` in --set", "did you mean `sac.batch_size`"],
        ),
        (format!("{train} --set sac.batch_size -o run"), &["--set sac.batch_size", "key=value"]),
        (
            format!("{train} --set sac.batch_size=many -o run"),
            &["`sac.batch_size` does not fit", "a whole number", "many"],
        ),
        (
            format!("{train} --set sac.batch_size=1 -o run"),
            &["`sac.batch_size` is out of range", "at least 2", "found 1"],
        ),
        (
            format!("{train} --set sac.batch_size=99999999999 -o run"),
            &["of memory", "batch_size", "lower those settings"],
        ),
        (format!("{train} --world-model other -o run"), &["hype has no --world-model", "hyper"]),
        (
            format!("train hyper pendulum --demos {demos} --set imagination.lengths=[1,2] -o run"),
            &["`imagination.lengths`", "four whole numbers", "[1, 2]"],
        ),
        (format!("{train} --set sac.discount=1.0 -o run"), &["`sac.discount`", "discount < 1", "found 1"]),
        (format!("{train} --set env.tremble=nan -o run"), &["`env.tremble`", "0 to 1"]),
        (format!("{train} --set seeds=[1] -o run"), &["--set sets `seeds`", "on the command line"]),
        (format!("{train} --env-steps 0 -o run"), &["`env_steps`", "at least 1"]),
        (format!("{train} --demos-limit 6 -o run"), &["cannot take 6 episodes", "from 1 to 5"]),
        (format!("{train} --seeds 5..2 -o run"), &["--seeds 5..2", "half-open range"]),
        (format!("{train} --seeds 1,1 -o run"), &["--seeds 1,1", "seed 1 twice"]),
        (format!("{train} --seeds all -o run"), &["--seeds all"]),
        (format!("{train} --seeds 0..99999999999999 -o run"), &["99999999999999 seeds, more than"]),
        (format!("{train} --device cuda -o run"), &["--device cuda", "--features cuda"]),
        (format!("train mm pendulum --demos {demos} --config none.toml -o run"), &["configuration file none.toml"]),
        ("resume run".into(), &["there is no run in run", "no such folder"]),
        ("eval nothing.onnx".into(), &["there is no policy `nothing.onnx`", "expert:TASK"]),
        ("eval random".into(), &["does not say which task", "--task"]),
        (
            "eval expert:zebra".into(),
            &[
                "no shipped expert for `zebra`",
                "one of ant, half-cheetah, half-cheetah-backward, half-cheetah-speed-2, hopper, humanoid, pendulum, walker2d",
            ],
        ),
        ("eval expert:pendulum --episodes 0".into(), &["--episodes 0", "at least 1"]),
        ("eval expert:pendulum --tremble 1.5".into(), &["--tremble", "0 to 1", "1.5"]),
        ("demos collect pendulum --episodes 0 -o run".into(), &["--episodes 0"]),
        ("demos collect pendulum --noise -1 -o run".into(), &["--noise", "0 or more", "found -1"]),
        ("demos collect pendulum --drop-states -0.1 -o run".into(), &["--drop-states", "found -0.1"]),
        (format!("{train} --demos-limit -1 -o run"), &["'-1'", "--demos-limit"]),
        ("demos collect pendulum --noise inf -o run".into(), &["--noise", "found inf"]),
        ("demos collect pendulum --drop-states 1 -o run".into(), &["--drop-states", "0 to below 1", "found 1"]),
        ("demos collect pendulum --drop-states nan -o run".into(), &["--drop-states", "NaN"]),
        ("demos collect pendulum --policy expert:zebra -o run".into(), &["no shipped expert for `zebra`"]),
        ("demos collect pendulum --policy expertly -o run".into(), &["there is no policy `expertly`"]),
        ("export run -o bundle".into(), &["there is no run in run"]),
        ("plot run -o curves.png".into(), &[".svg", "curves.png"]),
    ];
    for (line, wanted) in cases {
        hype(folder.path(), &line).refused(2, wanted);
        assert_eq!(names(folder.path()), Vec::<PathBuf>::new(), "{line}");
    }
    let usage = hype(folder.path(), "trane hype pendulum");
    assert_eq!(usage.code, Some(2));
    assert!(usage.stderr.contains("similar subcommand") && usage.stderr.contains("train"), "{}", usage.stderr);
}

#[test]
fn a_configuration_file_is_checked_like_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let cases: [(&str, &[&str]); 6] = [
        ("[sac]\nbatch_sise = 3\n", &["`sac.batch_sise` in mine.toml", "did you mean `sac.batch_size`"]),
        ("[reward]\nmembers = 0\n", &["`reward.members` is out of range", "at least 1"]),
        ("task = \"hopper\"\n", &["mine.toml is of another task", "expected pendulum", "found hopper"]),
        ("seeds = []\n", &["`seeds` in mine.toml", "a list like", "no seed"]),
        ("seeds = [1, 2, 1]\n", &["`seeds` in mine.toml", "seed 1 twice"]),
        ("[sac\n", &["mine.toml is not valid TOML"]),
    ];
    for (text, wanted) in cases {
        fs::write(&file, text).unwrap();
        hype(folder.path(), &format!("{} --config mine.toml -o run", train_line("hype"))).refused(2, wanted);
        assert!(!folder.path().join("run").exists());
    }
}

/// Trains on `demos.hdf5` in `folder`, which must be refused as data, and inspects it likewise where `inspect` says so.
#[track_caller]
fn refuses_demonstrations(folder: &Path, task: &str, inspect: bool, wanted: &[&str]) {
    hype(folder, &format!("train hype {task} --demos demos.hdf5 --env-steps 50 -o run")).refused(3, wanted);
    assert!(!folder.join("run").exists());
    if inspect {
        hype(folder, "demos inspect demos.hdf5 --json").refused(3, wanted);
    }
}

#[test]
fn damaged_demonstrations_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("demos.hdf5");
    refuses_demonstrations(folder.path(), "pendulum", true, &["there is no demonstration file", "hype demos collect"]);
    let whole = fs::read(demonstrations()).unwrap();
    for length in [0, 5, 8, 100, 1000, whole.len() / 4, whole.len() / 2, whole.len() - 700, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        refuses_demonstrations(folder.path(), "pendulum", true, &["demos.hdf5"]);
    }
    fs::write(&file, "observations,actions\n").unwrap();
    refuses_demonstrations(folder.path(), "pendulum", true, &["is not a demonstration file", "HDF5"]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refuses_demonstrations(folder.path(), "pendulum", true, &["is a folder"]);
}

/// One episode of zeros.
fn zeros(task: &str, observation: usize, action: usize) -> Demonstrations {
    let mut recorder = Recorder::new(observation, action, None);
    for step in 0..3 {
        recorder.step(&RecordedStep {
            observation: &vec![0.0; observation],
            action_env: &vec![0.0; action],
            next_observation: &vec![0.0; observation],
            reward: 0.0,
            terminated: false,
            truncated: step == 2,
            state: None,
        });
    }
    recorder.keep_episode();
    recorder.finish(task, BTreeMap::new()).unwrap()
}

#[test]
fn demonstrations_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("demos.hdf5");
    demos::write(&file, &zeros("hopper", 11, 3)).unwrap();
    let wanted = ["demos.hdf5", "`observations`", "width 3", "width 11", "recorded on hopper"];
    refuses_demonstrations(folder.path(), "pendulum", false, &wanted);
    demos::write(&file, &zeros("pendulum", 3, 2)).unwrap();
    refuses_demonstrations(folder.path(), "pendulum", false, &["`actions`", "width 1", "width 2"]);
    // Equal widths, other channels.
    demos::write(&file, &zeros("walker2d", 17, 6)).unwrap();
    refuses_demonstrations(folder.path(), "half-cheetah", false, &["demonstrations of walker2d", "train on walker2d"]);
    let mut faulty = demos::read(demonstrations()).unwrap();
    faulty.observations[3 * 205 + 1] = f32::NAN;
    demos::write(&file, &faulty).unwrap();
    let wanted = ["demos.hdf5", "`observations`, row 205 (episode 1), column 1", "a finite number", "NaN"];
    refuses_demonstrations(folder.path(), "pendulum", true, &wanted);
    // Resets to the expert's states need states.
    demos::write(&file, &zeros("pendulum", 3, 1)).unwrap();
    hype(folder.path(), "train hype pendulum --demos demos.hdf5 --set reset.probability=0.5 -o run")
        .refused(3, &["physics states", "infos/qpos", "reset.probability=0"]);
    assert!(!folder.path().join("run").exists());
}

/// [`demonstrations`], changed and written as `demos.hdf5` in `folder`.
fn write_changed(folder: &Path, change: impl FnOnce(&mut Demonstrations)) {
    let mut changed = demos::read(demonstrations()).unwrap();
    change(&mut changed);
    demos::write(&folder.join("demos.hdf5"), &changed).unwrap();
}

#[test]
fn demonstrations_in_other_units_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write_changed(folder.path(), |demos| demos.actions_env.iter_mut().for_each(|action| *action *= 2.0));
    let wanted = ["demos.hdf5", "of 1000 actions lie outside the bounds of pendulum", "`torque` from -2 to 2", "try: "];
    refuses_demonstrations(folder.path(), "pendulum", false, &wanted);
    write_changed(folder.path(), |demos| {
        demos.attributes.insert("control_period_secs".into(), "0.02".into());
    });
    let wanted = ["demos.hdf5", "control period", "expected 0.05 s", "0.02 s (attribute"];
    refuses_demonstrations(folder.path(), "pendulum", false, &wanted);
    // A file of another program that says nothing of time: its states do. Here every second step is left out.
    write_changed(folder.path(), |demos| {
        demos.attributes.remove("control_period_secs");
        let mut slow = Recorder::new(3, 1, Some((1, 1)));
        for rows in &demos.episodes {
            for row in rows.clone().step_by(2) {
                slow.step(&RecordedStep {
                    observation: demos.observation(row),
                    action_env: demos.action_env(row),
                    next_observation: demos.next_observation(row + 1),
                    reward: f64::from(demos.rewards[row]),
                    terminated: false,
                    truncated: row + 2 == rows.end,
                    state: demos.state(row),
                });
            }
            slow.keep_episode();
        }
        *demos = slow.finish("pendulum", BTreeMap::new()).unwrap();
    });
    refuses_demonstrations(folder.path(), "pendulum", false, &["control period", "about 0.10 s", "velocities"]);
}

#[test]
fn demonstrations_of_nothing_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let python = std::env::var_os("HYPE_PYTHON");
    for (name, script) in EMPTY_FILES {
        let Some(python) = &python else {
            println!("SKIPPED demonstrations_of_nothing_are_named, {name}: HYPE_PYTHON is not set");
            continue;
        };
        let made = Command::new(python).args(["-c", script]).current_dir(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        refuses_demonstrations(folder.path(), "pendulum", true, &["demos.hdf5", "no episode in it", "demos collect"]);
    }
    hype(folder.path(), "demos collect hopper --policy random --episodes 5 -o demos.hdf5").good();
    let wanted =
        ["demos.hdf5 holds only failures of the task hopper", "random 18", "5 episodes", "demos collect hopper"];
    refuses_demonstrations(folder.path(), "hopper", false, &wanted);
    hype(folder.path(), "demos collect hopper --policy random --episodes 20 --drop-states 0.3 -o demos.hdf5").good();
    refuses_demonstrations(folder.path(), "hopper", false, &["only failures", "20 episodes"]);
    hype(folder.path(), "demos collect half-cheetah-v4 --policy random --episodes 2 -o demos.hdf5").good();
    refuses_demonstrations(folder.path(), "half-cheetah-v4", false, &["only failures", "random -271, expert 98"]);
    hype(folder.path(), "demos collect hopper --policy random --episodes 5 -o demos.hdf5").good();
    // One success is enough, but it must be among those that are used.
    hype(folder.path(), "demos collect hopper --episodes 1 -o good.hdf5").good();
    let (mut all, good) = (
        demos::read(&folder.path().join("demos.hdf5")).unwrap(),
        demos::read(&folder.path().join("good.hdf5")).unwrap(),
    );
    let start = all.len();
    all.episodes.push(start..start + good.len());
    all.observations.extend(good.observations);
    all.actions_env.extend(good.actions_env);
    all.next_observations.extend(good.next_observations);
    all.rewards.extend(good.rewards);
    all.terminals.extend(good.terminals);
    all.timeouts.extend(good.timeouts);
    all.states = None;
    demos::write(&folder.path().join("demos.hdf5"), &all).unwrap();
    hype(folder.path(), "train hype hopper --demos demos.hdf5 --demos-limit 5 -o run").refused(3, &["only failures"]);
    let told =
        hype(folder.path(), "train hype hopper --demos demos.hdf5 --env-steps 1 --set eval.episodes=1 -o run").good();
    assert!(told.stderr.contains("5 of 6 episodes are shorter than the horizon of 1000 steps"), "{}", told.stderr);
}

/// Files without a step, as h5py writes them: name and script.
const EMPTY_FILES: [(&str, &str); 2] = [
    (
        "D4RL",
        "import h5py, numpy as np
with h5py.File('demos.hdf5', 'w') as f:
    for name, shape in dict(observations=(0, 3), actions=(0, 1), next_observations=(0, 3), rewards=(0,)).items():
        f.create_dataset(name, shape, 'f4')
    for name in ['terminals', 'timeouts']: f.create_dataset(name, (0,), '?')",
    ),
    (
        "Minari",
        "import h5py, numpy as np
with h5py.File('demos.hdf5', 'w') as f:
    g = f.create_group('episode_0')
    g['observations'] = np.zeros((1, 3)); g['actions'] = np.zeros((0, 1)); g['rewards'] = np.zeros(0)
    g['terminations'] = np.zeros(0, '?'); g['truncations'] = np.zeros(0, '?')",
    ),
];

#[test]
fn odd_demonstrations_are_warned_about_with_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let line = train_line("hype").replace(&demonstrations().display().to_string(), "demos.hdf5");
    write_changed(folder.path(), |demos| demos.actions_env.fill(0.5));
    let told = hype(folder.path(), &format!("{line} --env-steps 100 -o constant")).good();
    for part in ["warning: ", "action channel 0 is constant (0.5)", "imitation holds it at that value"] {
        assert!(told.stderr.contains(part), "{part:?} in {}", told.stderr);
    }
    write_changed(folder.path(), |demos| demos.timeouts[449] = true);
    let told = hype(folder.path(), &format!("{line} --env-steps 100 -o short")).good();
    for part in ["warning: ", "2 of 6 episodes are shorter than the horizon of 200 steps", "has 50", "what comes later"]
    {
        assert!(told.stderr.contains(part), "{part:?} in {}", told.stderr);
    }
    let quiet = hype(folder.path(), &format!("{} --env-steps 200 -o quiet", train_line("hype"))).good();
    assert!(!quiet.stderr.contains("warning"), "{}", quiet.stderr);
}

#[test]
fn states_of_another_robot_are_refused_before_a_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let line = train_line("filter").replace(&demonstrations().display().to_string(), "demos.hdf5");
    write_changed(folder.path(), |demos| {
        let states = demos.states.as_mut().unwrap();
        states.qpos = states.qpos.iter().flat_map(|q| [*q, 0.0]).collect();
        states.nq = 2;
    });
    let wanted = ["demos.hdf5", "cannot start in its physics states", "1 finite positions", "without resets"];
    hype(folder.path(), &format!("{line} -o run")).refused(3, &wanted);
    assert_eq!(names(folder.path()), [PathBuf::from("demos.hdf5")]);
    let mixed = train_line("hype").replace(&demonstrations().display().to_string(), "demos.hdf5");
    hype(folder.path(), &format!("{mixed} --env-steps 100 -o run")).good();
}

#[test]
fn a_folder_of_others_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("thesis")).unwrap();
    fs::write(folder.path().join("thesis/chapter.tex"), "text").unwrap();
    let before = files_in(folder.path());
    hype(folder.path(), &format!("{} -o thesis", train_line("hype")))
        .refused(2, &["thesis is neither empty nor a run", "chapter.tex", "-o"]);
    hype(folder.path(), "resume thesis").refused(2, &["there is no run in thesis", "config.toml"]);
    assert!(files_in(folder.path()) == before);
}

#[test]
fn policies_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), "export expert:pendulum -o bundle").good();
    let model = folder.path().join("bundle/policy.onnx");
    let whole = fs::read(&model).unwrap();
    let wanted = [
        "does not fit the task hopper",
        "11 observations",
        "3 observations and 1 actions of pendulum",
        "the task pendulum",
    ];
    for policy in ["bundle", "bundle/policy.onnx", "expert:pendulum"] {
        hype(folder.path(), &format!("eval {policy} --task hopper")).refused(3, &wanted);
    }
    for length in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&model, &whole[..length]).unwrap();
        hype(folder.path(), "eval bundle/policy.onnx").refused(3, &["policy.onnx"]);
        hype(folder.path(), "eval bundle")
            .refused(3, &["policy.onnx was altered or truncated", "export the bundle again"]);
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&model, flipped).unwrap();
    hype(folder.path(), "eval bundle").refused(3, &["policy.onnx was altered or truncated"]);
    fs::write(&model, "print('hello')\n").unwrap();
    hype(folder.path(), "eval bundle/policy.onnx").refused(3, &["policy.onnx", "ONNX"]);
    fs::remove_file(&model).unwrap();
    assert!([Some(1), Some(3)].contains(&hype(folder.path(), "eval bundle").code));
}

/// A tiny file system of its own; none where this user may not mount one.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(kibibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kibibytes}k");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| Self(folder))
    }

    fn grow(&self, kibibytes: u32) {
        let option = format!("remount,size={kibibytes}k");
        assert!(Command::new("mount").args(["-o", &option]).arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Checks a run that ran out of room while it wrote: what is there is whole.
fn assert_whole(run: &Path) {
    assert!(read_snapshot(&checkpoint_path(run, Slot::Last, 0)).unwrap().env_steps > 0);
    for (name, (bytes, _)) in files_in(run) {
        assert!(name.extension().is_none_or(|extension| extension != "tmp"), "{} stays", name.display());
        if name.extension().is_some_and(|extension| extension == "jsonl") {
            for line in String::from_utf8(bytes).unwrap().lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(disk) = Disk::mount(300) else {
        println!("SKIPPED a_full_disk_loses_nothing: this user may not mount a tmpfs");
        return;
    };
    let (small, roomy) = (disk.0.path(), tempfile::tempdir().unwrap());
    let line = format!("{} --env-steps 3000 --set checkpoint_every_secs=0 -o run", train_line("hype"));
    hype(small, &line).refused(1, &["cannot write", "run/", "free some space", "try: "]);
    let run = small.join("run");
    assert_whole(&run);
    hype(small, "eval run --episodes 1 --json").good();
    hype(small, "resume run").refused(1, &["free some space"]);
    assert_whole(&run);
    disk.grow(3000);
    hype(small, "resume run").good();
    hype(roomy.path(), &line).good();
    for name in ["eval.jsonl", "metrics.jsonl", "checkpoints/last/seed-0.ckpt"] {
        assert!(fs::read(run.join(name)).unwrap() == fs::read(roomy.path().join("run").join(name)).unwrap(), "{name}");
    }

    hype(small, "demos collect pendulum --policy random --episodes 2 -o demos.hdf5").good();
    let before = fs::read(small.join("demos.hdf5")).unwrap();
    hype(small, "demos collect pendulum --policy random --episodes 400 -o demos.hdf5")
        .refused(1, &["cannot write demos.hdf5", "free some space"]);
    assert!(fs::read(small.join("demos.hdf5")).unwrap() == before);
    assert!(!small.join("demos.hdf5.tmp").exists());
}

/// `hype LINE` where files may not grow beyond `blocks` (of 512 or 1024 bytes, as the shell counts).
fn limited(folder: &Path, blocks: u32, line: &str) -> Ended {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" {line}");
    Command::new("sh").args(["-c", &script]).arg(binary("hype")).current_dir(folder).output().unwrap().into()
}

#[test]
fn a_limit_on_file_sizes_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{} --env-steps 6000 --set checkpoint_every_secs=0 -o run", train_line("hype"));
    // Brackets are patterns to a shell, but none that matches a file.
    limited(folder.path(), 200, &line).refused(1, &["seed-0.ckpt", "ulimit -f"]);
    assert_whole(&folder.path().join("run"));
    hype(folder.path(), "resume run").good();

    hype(folder.path(), "demos collect pendulum --policy random --episodes 2 -o demos.hdf5").good();
    let before = fs::read(folder.path().join("demos.hdf5")).unwrap();
    limited(folder.path(), 150, "demos collect pendulum --policy random --episodes 50 -o demos.hdf5")
        .refused(1, &["cannot write demos.hdf5", "ulimit -f"]);
    assert!(fs::read(folder.path().join("demos.hdf5")).unwrap() == before);
    assert!(!folder.path().join("demos.hdf5.tmp").exists());
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), "demos collect pendulum --episodes 1 -o no/such/demos.hdf5")
        .refused(1, &["cannot write no/such/demos.hdf5", "make its folder first: mkdir -p no/such"]);
    // An expert's training is not begun for a file that cannot be written in the end.
    hype(folder.path(), "expert pendulum -o no/expert.onnx")
        .refused(1, &["cannot write no/expert.onnx", "mkdir -p no"]);
    assert!(!folder.path().join("runs").exists());
    fs::write(folder.path().join("file"), "").unwrap();
    hype(folder.path(), &format!("{} -o file/run", train_line("hype")))
        .refused(1, &["cannot create the folder file/run"]);
    hype(folder.path(), &format!("{} -o file", train_line("hype"))).refused(2, &["file is a file", "a folder"]);
    let collect = "demos collect pendulum --episodes 1 -o";
    hype(folder.path(), &format!("{collect} file/x")).refused(1, &["cannot write file/x", "file, a file"]);
    hype(folder.path(), &format!("{collect} file")).refused(2, &["file is there", "no demonstration file"]);
    hype(folder.path(), &format!("{collect} .")).refused(1, &["cannot write .", "a folder"]);
    for _ in 0..2 {
        hype(folder.path(), &format!("{collect} again.hdf5")).good();
    }
    hype(folder.path(), "demos collect hopper --policy expert:pendulum --episodes 1 -o demos.hdf5")
        .refused(3, &["expert:pendulum does not fit the task hopper", "11 observations"]);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let inspect = format!("demos inspect {}", demonstrations().display());
    for line in ["tasks", "tasks --json", "eval expert:pendulum --episodes 1", &inspect] {
        let mut command = hype_command(folder.path(), line.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended: Ended = child.wait_with_output().unwrap().into();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{line}");
    }
    // Whoever watches a run may go away too.
    let line = format!("{} --env-steps 600 -o run", train_line("hype"));
    let mut command = hype_command(folder.path(), line.split_whitespace());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(folder.path().join("run/finished").is_file());
}

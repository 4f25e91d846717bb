//! A run that was stopped, killed or cut off anywhere and then resumed is, byte for byte, the run that nobody disturbed.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use hype_tests::{files_in, hype, start, train_line, wait_for_lines};
use trainer::run::directory::{Slot, checkpoint_path};
use trainer::run::driver::read_snapshot;

const STEPS: &str = "--env-steps 2500";
const JOURNALS: [&str; 2] = ["eval.jsonl", "metrics.jsonl"];

/// An undisturbed run of seeds 0 and 1, made once.
fn undisturbed() -> &'static Path {
    static RUN: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_folder, run) = RUN.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        hype(folder.path(), &format!("{} {STEPS} --seeds 0..2 -o run", train_line("hype"))).good();
        let run = folder.path().join("run");
        (folder, run)
    });
    run
}

/// Everything that a run learned: journals and both checkpoints of its seeds. Nothing of the wall clock is in them.
#[track_caller]
fn assert_same_run(found: &Path, expected: &Path, seeds: &[u64]) {
    let mut names: Vec<PathBuf> = JOURNALS.iter().map(PathBuf::from).collect();
    for seed in seeds {
        names.extend(JOURNALS.map(|name| Path::new("seeds").join(seed.to_string()).join(name)));
        names.extend([Slot::Last, Slot::Best].map(|slot| checkpoint_path(Path::new(""), slot, *seed)));
    }
    for name in names {
        let (left, right) = (fs::read(found.join(&name)).unwrap(), fs::read(expected.join(&name)).unwrap());
        assert!(!right.is_empty());
        let first = left.iter().zip(&right).position(|(l, r)| l != r);
        assert!(
            left == right,
            "{} differs: {} and {} bytes, first at {first:?}",
            name.display(),
            left.len(),
            right.len()
        );
    }
    assert!(found.join("finished").is_file());
    let leftover = files_in(found).into_keys().find(|path| path.extension().is_some_and(|e| e == "tmp"));
    assert_eq!(leftover, None, "no temporary file stays");
}

/// Starts `hype LINE`, a run in `folder/run`, and stops it with signal `name` once seed 0 has `lines` evaluation lines.
fn interrupt(folder: &Path, line: &str, name: &str, lines: usize) {
    let run = folder.join("run");
    for _ in 0..5 {
        let mut child = start(folder, line);
        wait_for_lines(&mut child, &run.join("seeds/0/eval.jsonl"), lines);
        child.signal(name);
        let ended = child.end();
        if ended.code == Some(0) {
            // The signal came too late, on a busy machine.
            fs::remove_dir_all(&run).unwrap();
            continue;
        }
        ended.refused(130, &["stopped; a checkpoint is in run", "hype resume run"]);
        assert!(!run.join("finished").exists());
        return;
    }
    panic!("the run always ended before SIG{name} came");
}

#[test]
fn a_stopped_run_continues_bit_for_bit() {
    for (name, lines) in [("TERM", 2), ("INT", 4), ("TERM", 6), ("HUP", 1)] {
        let folder = tempfile::tempdir().unwrap();
        interrupt(folder.path(), &format!("{} {STEPS} --seeds 0..2 -o run", train_line("hype")), name, lines);
        let told = hype(folder.path(), "resume run").good();
        assert!(told.stdout.contains("finished: run"), "{}", told.stdout);
        assert_same_run(&folder.path().join("run"), undisturbed(), &[0, 1]);
    }
}

#[test]
fn a_run_may_be_stopped_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    interrupt(folder.path(), &format!("{} {STEPS} --seeds 0..2 -o run", train_line("hype")), "INT", 2);
    for lines in [4, 6, 7] {
        let mut child = start(folder.path(), "resume run");
        wait_for_lines(&mut child, &folder.path().join("run/seeds/0/eval.jsonl"), lines);
        child.signal("TERM");
        // 0: it came too late; none: so early that it was not caught yet.
        let ended = child.end();
        assert!([Some(130), Some(0), None].contains(&ended.code), "{}", ended.stderr);
    }
    hype(folder.path(), "resume run").good();
    assert_same_run(&folder.path().join("run"), undisturbed(), &[0, 1]);
}

/// Pseudo-random delays (xorshift), the same ones each time.
struct Delays(u64);

impl Delays {
    fn next(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        most.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// What others may read of a run at any moment: whole checkpoints and whole lines.
fn assert_readable(run: &Path) {
    for (seed, slot) in [(0, Slot::Last), (0, Slot::Best), (1, Slot::Last), (1, Slot::Best)] {
        let path = checkpoint_path(run, slot, seed);
        if path.exists() {
            read_snapshot(&path).unwrap();
        }
    }
    for name in JOURNALS {
        let text = fs::read_to_string(run.join(name)).unwrap_or_default();
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
        }
        assert!(text.is_empty() || text.ends_with('\n'));
    }
}

/// Kills the run with SIGKILL after a random time, again and again, until it has come to its end.
fn kill_until_finished(every_secs: u64, most: Duration, delays: &mut Delays) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let line = format!("{} {STEPS} --seeds 0..2 --set checkpoint_every_secs={every_secs} -o run", train_line("hype"));
    let mut kills = 0;
    let mut most = most;
    while !run.join("finished").exists() {
        // Killed before the run's configuration was there, it is a new run again.
        let begun = run.join("config.toml").exists();
        let mut child = start(folder.path(), if begun { "resume run" } else { &line });
        std::thread::sleep(delays.next(most));
        if child.child().try_wait().unwrap().is_some() {
            child.end().good();
            break;
        }
        child.child().kill().unwrap();
        let ended = child.end();
        assert!(ended.code.is_none() || ended.code == Some(0), "{}", ended.stderr);
        kills += 1;
        assert_readable(&run);
        // On a slow machine the time to the first checkpoint must be exceeded some day.
        most = most.mul_f64(1.08);
    }
    let played = hype(folder.path(), "eval run --episodes 1 --json").good().json();
    assert_eq!(played["task"], "pendulum");
    hype(folder.path(), "resume run").good();
    assert_same_run(&run, undisturbed(), &[0, 1]);
    kills
}

#[test]
fn a_killed_run_stays_readable_and_continues_bit_for_bit() {
    let mut delays = Delays(0x9e37_79b9_7f4a_7c15);
    let kills: u32 = (0..2).map(|_| kill_until_finished(1, Duration::from_millis(2000), &mut delays)).sum();
    assert!(kills > 0, "nothing was killed");
}

#[test]
fn killed_while_checkpoints_are_being_written() {
    // With 0 a checkpoint follows each piece of learning, so that most moments lie within one.
    let mut delays = Delays(0x2545_f491_4f6c_dd1d);
    let kills: u32 = (0..2).map(|_| kill_until_finished(0, Duration::from_millis(400), &mut delays)).sum();
    assert!(kills >= 10, "only {kills} kills");
}

#[test]
fn a_seed_alone_is_the_seed_in_a_cohort() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), &format!("{} {STEPS} --seeds 1 -o run", train_line("hype"))).good();
    let (alone, cohort) = (folder.path().join("run"), undisturbed());
    for name in ["seeds/1/eval.jsonl", "seeds/1/metrics.jsonl", "checkpoints/last/seed-1.ckpt"] {
        assert!(fs::read(alone.join(name)).unwrap() == fs::read(cohort.join(name)).unwrap(), "{name}");
    }
    assert!(!alone.join("seeds/0").exists());
    let lines = |seed: u64| fs::read(cohort.join(format!("seeds/{seed}/eval.jsonl"))).unwrap();
    assert_ne!(lines(0), lines(1), "seeds are different runs");
    assert!(fs::read(cohort.join("eval.jsonl")).unwrap() == [lines(0), lines(1)].concat());
}

#[test]
fn the_same_command_gives_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), &format!("{} {STEPS} --seeds 0..2 -o run", train_line("hype"))).good();
    assert_same_run(&folder.path().join("run"), undisturbed(), &[0, 1]);
}

#[test]
fn resuming_a_finished_run_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let line = train_line("hype");
    hype(folder.path(), &format!("{line} --env-steps 300 -o run")).good();
    let before = files_in(folder.path());
    let told = hype(folder.path(), "resume run").good();
    assert!(told.stdout.contains("finished: run"), "{}", told.stdout);
    let after = files_in(folder.path());
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (path, was) in &before {
        assert!(was == &after[path], "{} changed", path.display());
    }
}

#[test]
fn a_run_resumes_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(hype_tests::demonstrations(), folder.path().join("here.hdf5")).unwrap();
    let line = train_line("hype").replace(&hype_tests::demonstrations().display().to_string(), "here.hdf5");
    interrupt(folder.path(), &format!("{line} {STEPS} --seeds 0..2 -o run"), "INT", 2);
    let run = folder.path().join("run");
    hype(Path::new("/"), &format!("resume {}", run.display())).good();
    assert_same_run(&run, undisturbed(), &[0, 1]);
}

/// Runs `hype LINE` undisturbed and stopped after `lines` evaluation lines, compares, and returns its evaluations.
fn resumes(line: &str, lines: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), &format!("{line} -o whole")).good();
    interrupt(folder.path(), &format!("{line} -o run"), "TERM", lines);
    hype(folder.path(), "resume run").good();
    let whole = folder.path().join("whole");
    assert_same_run(&folder.path().join("run"), &whole, &[0]);
    fs::read(whole.join("seeds/0/eval.jsonl")).unwrap()
}

#[test]
fn the_whole_family_resumes_too() {
    let mut seen = vec![fs::read(undisturbed().join("seeds/0/eval.jsonl")).unwrap()];
    for method in ["mm", "bc-reg", "filter", "hype-resets"] {
        let lines = resumes(&format!("{} --env-steps 1500", train_line(method)), 4);
        assert!(!seen.contains(&lines), "{method} is another method than those before");
        seen.push(lines);
    }
}

#[test]
fn td3_bc_resumes_too() {
    let tiny = "--set td3_bc.hidden=[16,16] --set td3_bc.batch_size=16 --set td3_bc.bc_steps=300";
    for method in ["hype", "bc-reg"] {
        resumes(&format!("{} --set learner=td3-bc {tiny} --env-steps 1200", train_line(method)), 2);
    }
}

/// What a policy explores with lasts beyond a stop.
#[test]
fn state_dependent_exploration_resumes_too() {
    resumes(&format!("{} --set sac.gsde=true --env-steps 1500", train_line("bc-reg")), 4);
}

/// Its budget is one of gradient steps, and so is what its journals count.
#[test]
fn cloning_resumes_too() {
    let line = format!("train bc pendulum --demos {} {}", hype_tests::demonstrations().display(), hype_tests::TINY);
    for learner in ["sac", "td3-bc"] {
        let lines = String::from_utf8(resumes(&format!("{line} --set learner={learner} --env-steps 2300"), 4)).unwrap();
        let steps = |line: &str| -> [u64; 2] {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            ["env_steps", "env_steps_total"].map(|key| line[key].as_u64().unwrap())
        };
        let found: Vec<_> = lines.lines().map(steps).collect();
        let at = [500, 500, 1000, 1000, 1500, 1500, 2000, 2000, 2300, 2300];
        assert_eq!(found, at.map(|steps| [steps, 0]), "{learner}");
    }
}

#[test]
fn the_baselines_resume_too() {
    for method in ["iq-learn", "gail", "sqil", "adril"] {
        let folder = tempfile::tempdir().unwrap();
        let line = hype_tests::baseline_line(method);
        hype(folder.path(), &format!("{line} {STEPS} -o whole")).good();
        interrupt(folder.path(), &format!("{line} {STEPS} -o run"), "TERM", 4);
        hype(folder.path(), "resume run").good();
        assert_same_run(&folder.path().join("run"), &folder.path().join("whole"), &[0]);
    }
}

#[test]
fn an_expert_resumes_too() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("expert pendulum {} --env-steps 2500", hype_tests::TINY);
    hype(folder.path(), &format!("{line} --run whole -o whole.onnx")).good();
    let stopped = format!("{line} --run run -o run.onnx");
    interrupt(folder.path(), &stopped, "TERM", 4);
    assert!(!folder.path().join("run.onnx").exists());
    // The same command goes on where it was stopped, and writes the policy.
    let mut child = start(folder.path(), &stopped);
    wait_for_lines(&mut child, &folder.path().join("run/seeds/0/eval.jsonl"), 6);
    child.signal("INT");
    let ended = child.end();
    assert!([Some(0), Some(130), None].contains(&ended.code), "{}", ended.stderr);
    hype(folder.path(), "resume run").good();
    hype(folder.path(), &stopped).good();
    assert_same_run(&folder.path().join("run"), &folder.path().join("whole"), &[0]);
    let bytes = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("run.onnx") == bytes("whole.onnx"));
    // Another command does not pass for it.
    let other = stopped.replace("2500", "2600");
    hype(folder.path(), &other)
        .refused(2, &["run holds a run with other settings", "`env_steps` = 2500", "found 2600", "--run"]);
    assert!(bytes("run.onnx") == bytes("whole.onnx"));
}

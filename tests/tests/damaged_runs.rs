//! Runs that are damaged, moved, edited or taken by another process: what is wrong is named, and nothing is lost.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::fs;
use std::path::{Path, PathBuf};

use hype_tests::{demonstrations, files_in, hype, start, train_line, wait_for_lines};
use trainer::run::directory::{Slot, checkpoint_path};

#[test]
fn changed_demonstrations_are_noticed_on_resume() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.hdf5");
    fs::copy(demonstrations(), &file).unwrap();
    let line = train_line("hype").replace(&demonstrations().display().to_string(), "mine.hdf5");
    hype(folder.path(), &format!("{line} --env-steps 200 -o run")).good();
    fs::remove_file(folder.path().join("run/finished")).unwrap();
    hype(folder.path(), "demos collect pendulum --episodes 1 -o mine.hdf5").good();
    hype(folder.path(), "resume run").refused(3, &["not the ones", "SHA-256", "hype resume run --demos FILE"]);
    fs::remove_file(&file).unwrap();
    hype(folder.path(), "resume run").refused(3, &["are gone", "mine.hdf5", "hype resume run --demos FILE"]);
    let original = demonstrations().display();
    hype(folder.path(), &format!("resume run --demos {original}")).good();
    hype(folder.path(), "train hyper pendulum --reward true --env-steps 100 -o free").good();
    fs::remove_file(folder.path().join("free/finished")).unwrap();
    hype(folder.path(), &format!("resume free --demos {original}")).refused(2, &["has no demonstrations"]);
}

#[test]
fn a_run_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("{} --env-steps 500000 -o run", train_line("hype"));
    let mut running = start(folder.path(), &line);
    wait_for_lines(&mut running, &folder.path().join("run/seeds/0/metrics.jsonl"), 1);
    let pid = running.child().id().to_string();
    for other in [line.as_str(), "resume run"] {
        hype(folder.path(), other).refused(2, &["run is in use by another process", &pid, "Ctrl-C"]);
    }
    running.signal("TERM");
    assert_eq!(running.end().code, Some(130));
    // The lock is of whoever looked last.
    let files = || {
        let mut files = files_in(&folder.path().join("run"));
        assert!(files.remove(Path::new("lock")).is_some());
        files
    };
    let before = files();
    hype(folder.path(), &line).refused(2, &["run already holds a run", "hype resume run", "-o"]);
    assert!(files() == before);
}

/// A finished run of one seed in `folder/run`, its mark of being finished taken away.
fn unfinished_run(folder: &Path) -> PathBuf {
    hype(folder, &format!("{} --env-steps 600 -o run", train_line("hype"))).good();
    fs::remove_file(folder.join("run/finished")).unwrap();
    folder.join("run")
}

#[test]
fn damaged_checkpoints_are_named_and_can_be_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let run = unfinished_run(folder.path());
    let (path, lines) = (checkpoint_path(&run, Slot::Last, 0), fs::read(run.join("eval.jsonl")).unwrap());
    let whole = fs::read(&path).unwrap();
    let flipped = |position: usize| {
        let mut copy = whole.clone();
        copy[position] ^= 0x40;
        copy
    };
    let cases = [
        (whole[..whole.len() / 2].to_vec(), "truncated"),
        (whole[..20].to_vec(), "truncated"),
        (Vec::new(), "is not a checkpoint"),
        (flipped(0), "is not a checkpoint"),
        (flipped(9), "format version"),
        (flipped(whole.len() / 3), "is damaged"),
        (flipped(whole.len() - 1), "is damaged"),
    ];
    for (bytes, wanted) in cases {
        fs::write(&path, &bytes).unwrap();
        for line in ["resume run", "eval run", "export run -o bundle"] {
            hype(folder.path(), line).refused(3, &["seed-0.ckpt", wanted, "try: "]);
        }
        assert!(!folder.path().join("bundle").exists());
        assert!(fs::read(&path).unwrap() == bytes, "evidence is not touched");
    }
    // What the messages propose helps.
    fs::remove_file(&path).unwrap();
    fs::write(run.join("finished"), "").unwrap();
    hype(folder.path(), "eval run").refused(3, &["run is finished", "seed 0 is gone", "delete run/finished"]);
    fs::remove_file(run.join("finished")).unwrap();
    hype(folder.path(), "eval run").refused(3, &["no checkpoint of seed 0", "hype resume run"]);
    hype(folder.path(), "resume run").good();
    assert!(fs::read(run.join("eval.jsonl")).unwrap() == lines);
    assert!(fs::read(&path).unwrap() == whole);
}

#[test]
fn damaged_runs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = unfinished_run(folder.path());
    hype(folder.path(), "export run --seed 7 -o bundle").refused(2, &["run has no seed 7", "[0]"]);
    let journal = run.join("seeds/0/eval.jsonl");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let provenance = fs::read(run.join("provenance.json")).unwrap();
    fs::write(run.join("config.toml"), config.replace("\"pendulum\"", "\"hopper\"")).unwrap();
    for mark in [false, true] {
        for line in ["resume run", "eval run", "export run -o bundle", "plot run -o run.svg"] {
            hype(folder.path(), line).refused(2, &["config.toml is not what the run was started with", "undo"]);
        }
        let finished = run.join("finished");
        if mark { fs::remove_file(finished).unwrap() } else { fs::write(finished, "").unwrap() }
    }
    // What another version of the program wrote is as it was started, and not known here.
    fs::write(run.join("config.toml"), config.replace("batch_size", "batch_sise")).unwrap();
    let mut of_version: serde_json::Value = serde_json::from_slice(&provenance).unwrap();
    of_version["config_sha256"] = serde_json::Value::Null;
    fs::write(run.join("provenance.json"), of_version.to_string()).unwrap();
    for line in ["resume run", "eval run"] {
        hype(folder.path(), line).refused(3, &["config.toml", "batch_sise"]);
    }
    fs::write(run.join("provenance.json"), &provenance).unwrap();
    fs::write(run.join("config.toml"), config).unwrap();
    fs::write(run.join("provenance.json"), &provenance[..40]).unwrap();
    hype(folder.path(), "resume run").refused(3, &["provenance.json is damaged"]);
    fs::write(run.join("provenance.json"), provenance).unwrap();
    // A run whose last checkpoint is not its end, and whose journal lost lines.
    fs::copy(checkpoint_path(&run, Slot::Last, 0), folder.path().join("end.ckpt")).unwrap();
    fs::remove_dir_all(&run).unwrap();
    let mut running = start(folder.path(), &format!("{} --env-steps 500000 -o run", train_line("hype")));
    wait_for_lines(&mut running, &journal, 2);
    running.signal("INT");
    assert_eq!(running.end().code, Some(130));
    fs::write(&journal, "").unwrap();
    hype(folder.path(), "resume run").refused(3, &["seeds/0/eval.jsonl is shorter", "0 bytes", "put the file back"]);
}

#[test]
fn a_checkpoint_of_another_task_is_named() {
    let folder = tempfile::tempdir().unwrap();
    unfinished_run(folder.path());
    hype(folder.path(), "train hyper hopper --reward true --env-steps 20 -o other").good();
    let checkpoint = |run: &str| checkpoint_path(&folder.path().join(run), Slot::Last, 0);
    fs::copy(checkpoint("run"), checkpoint("other")).unwrap();
    for line in ["eval other --episodes 1", "export other -o bundle"] {
        hype(folder.path(), line).refused(3, &["do not fit the task hopper", "11 inputs", "found 3 inputs", "try: "]);
    }
    assert!(!folder.path().join("bundle").exists());
}

#[test]
fn the_best_checkpoint_is_one_of_an_evaluated_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut running =
        start(folder.path(), &format!("{} --set eval.every=400000 --env-steps 500000 -o run", train_line("hype")));
    wait_for_lines(&mut running, &folder.path().join("run/seeds/0/metrics.jsonl"), 1);
    running.signal("INT");
    assert_eq!(running.end().code, Some(130));
    hype(folder.path(), "eval run --checkpoint best").refused(3, &["no best checkpoint", "--checkpoint last"]);
    hype(folder.path(), "eval expert:pendulum --checkpoint best").refused(2, &["--checkpoint best", "a run folder"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    hype(folder.path(), "eval empty").refused(2, &["empty holds no policy", "config.toml", "manifest.json"]);
}

//! HyPER as users run it: the whole line on Pendulum with tiny networks, its options, and what it refuses.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::fs;
use std::path::Path;

use hype_tests::{demonstrations, hype, hype_policy, start, train_line, wait_for_lines};
use trainer::run::directory::{Slot, checkpoint_path};

const TINY: &str = "--set sac.hidden=[16,16] --set sac.batch_size=32 --set sac.grad_steps=2 --set sac.exploration_steps=60 \
                    --set eval.every=100 --set eval.episodes=1 --set world_model.hidden=[16,16] --set world_model.members=3 \
                    --set world_model.elites=2 --set world_model.patience=1 --set world_model.patience_batches=0 \
                    --set world_model.fit_every=20 --set imagination.starts_per_step=5 --set reward.hidden=[16,16] --set reward.batch_size=64 \
                    --set reward.members=3 --set reward.update_every=160 --set reward.rollout_episodes=1";

fn line(more: &str) -> String {
    format!("train hyper pendulum --demos {} {TINY} --env-steps 420 {more}", demonstrations().display())
}

fn read(run: &Path, name: &str) -> Vec<u8> {
    fs::read(run.join(name)).unwrap()
}

fn last_metrics(run: &Path) -> serde_json::Value {
    let text = String::from_utf8(read(run, "metrics.jsonl")).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[track_caller]
fn assert_same_run(found: &Path, expected: &Path) {
    for name in ["eval.jsonl", "metrics.jsonl"] {
        assert!(!read(expected, name).is_empty() && read(found, name) == read(expected, name), "{name} differs");
    }
    for slot in [Slot::Last, Slot::Best] {
        let path = checkpoint_path(Path::new(""), slot, 0);
        let path = path.to_str().unwrap();
        assert!(read(found, path) == read(expected, path), "{path} differs");
    }
}

#[test]
fn killed_and_stopped_runs_continue_bit_for_bit() {
    for more in [
        "--set hyper.ema=true --set imagination.pessimism=0.5",
        "--preset code --set reset.schedule=sliding-window",
        // Fits so long that the signals fall into them.
        "--set world_model.patience=15 --set world_model.improvement=0",
    ] {
        let folder = tempfile::tempdir().unwrap();
        hype(folder.path(), &line(&format!("{more} -o whole"))).good();
        let often = "--set checkpoint_every_secs=0";
        let mut child = start(folder.path(), &line(&format!("{more} {often} -o run")));
        wait_for_lines(&mut child, &folder.path().join("run/seeds/0/eval.jsonl"), 2);
        child.signal("KILL");
        assert_eq!(child.end().code, None, "killed before its end");
        let mut child = start(folder.path(), "resume run");
        wait_for_lines(&mut child, &folder.path().join("run/seeds/0/eval.jsonl"), 3);
        child.signal("TERM");
        assert!([Some(0), Some(130)].contains(&child.end().code));
        hype(folder.path(), "resume run").good();
        assert_same_run(&folder.path().join("run"), &folder.path().join("whole"));
    }
}

#[test]
fn every_step_is_counted_and_the_bundle_is_what_acts() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), &line("--set hyper.ema=true -o run")).good();
    let run = folder.path().join("run");
    let metrics = last_metrics(&run);
    let evaluations = String::from_utf8(read(&run, "eval.jsonl")).unwrap();
    let at = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["env_steps"].as_u64().unwrap();
    assert_eq!(evaluations.lines().map(at).collect::<Vec<_>>(), [100, 200, 300, 400, 420]);
    // 60 steps explore; fits follow every 20 of the other 360, two gradient steps each of them once there is something imagined.
    let grad_steps = 2 * (360 - 19);
    assert_eq!(metrics["grad_steps"], 2 * (grad_steps / 160) * 80, "the line of the last discriminator update");
    let updates = u64::from(grad_steps as u32 / 160);
    let total = metrics["env_steps_total"].as_u64().unwrap() - metrics["env_steps"].as_u64().unwrap();
    assert_eq!(total, 200 * updates, "an episode of 200 real steps for each of {updates} discriminator updates");
    assert!(metrics["model_error"].as_f64().unwrap() > 0.0 && metrics["rollout_length"].as_u64().unwrap() >= 1);
    assert!(metrics["imagined_steps"].as_u64().unwrap() >= 1000 && metrics["imagined_terminals"] == 0);

    hype(folder.path(), "export run -o bundle").good();
    hype_policy(folder.path(), "verify bundle").good();
    let manifest: serde_json::Value =
        serde_json::from_slice(&read(&folder.path().join("bundle"), "manifest.json")).unwrap();
    assert!(manifest.to_string().contains("hyper"), "{manifest}");
    assert!(folder.path().join("bundle/discriminator.onnx").exists());
    // The run's own evaluation of the average, and the exported policy's, are of one policy.
    let play = |policy: &str| hype(folder.path(), &format!("eval {policy} --episodes 2 --json")).good().json();
    let (of_run, of_bundle) = (play("run"), play("bundle"));
    assert!(
        (of_run["mean_return"].as_f64().unwrap() - of_bundle["mean_return"].as_f64().unwrap()).abs() < 1.0,
        "{of_run} {of_bundle}"
    );
}

/// `hyper.ema` and `hyper.restarts_optimizers` are switches: each changes what a run does, from where it may.
#[test]
fn switches_make_their_difference() {
    let folder = tempfile::tempdir().unwrap();
    for (name, more) in
        [("plain", ""), ("average", "--set hyper.ema=true"), ("restart", "--set hyper.restarts_optimizers=true")]
    {
        hype(folder.path(), &line(&format!("{more} -o {name}"))).good();
    }
    let evaluations = |name: &str| String::from_utf8(read(&folder.path().join(name), "eval.jsonl")).unwrap();
    let (plain, average, restart) = (evaluations("plain"), evaluations("average"), evaluations("restart"));
    assert_ne!(plain, average, "the average acts");
    // The discriminator moves for the first time after 80 steps of learning: until then all is as it was.
    let first = |text: &str| text.lines().next().unwrap().to_owned();
    assert_eq!(first(&plain), first(&restart));
    assert_ne!(plain, restart);
}

#[test]
fn pairs_from_the_policy_buffer_cost_no_steps() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), &line("--disc-from policy-buffer -o run")).good();
    let metrics = last_metrics(&folder.path().join("run"));
    assert_eq!(metrics["env_steps_total"], metrics["env_steps"]);
    assert!(metrics["disc_gap"].is_number());
    hype(folder.path(), &line("--disc-episodes 2 -o two")).good();
    let metrics = last_metrics(&folder.path().join("two"));
    let extra = metrics["env_steps_total"].as_u64().unwrap() - metrics["env_steps"].as_u64().unwrap();
    assert_eq!(extra % 400, 0, "two whole episodes each time");
    assert!(extra > 0);
}

#[test]
fn the_tasks_own_reward_needs_neither_demonstrations_nor_discriminator() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = format!("{TINY} --env-steps 300 --reward true");
    hype(folder.path(), &format!("train hyper pendulum {tiny} -o run")).good();
    let last = String::from_utf8(read(&folder.path().join("run"), "eval.jsonl")).unwrap();
    assert_eq!(last.lines().count(), 3);
    hype(folder.path(), "export run -o bundle").good();
    assert!(!folder.path().join("bundle/discriminator.onnx").exists());
    hype(folder.path(), &line("--reward true --set hyper.acting=mean -o lamps")).good();
    let acts = |run: &str| fs::read_to_string(folder.path().join(run).join("config.toml")).unwrap();
    assert!(acts("run").contains("acting = \"sample\"") && acts("lamps").contains("acting = \"mean\""));

    // Of an expert's rows MBPO's policy knows nothing, whatever the preset mixes in.
    let small = "train hyper half-cheetah --preset small --reward true --env-steps 10 --set eval.episodes=1 -o small";
    hype(folder.path(), small).good();
    assert!(acts("small").contains("schedule = []"));

    // Another run begins with its dynamics.
    let from = format!("train hyper pendulum {tiny} --world-model run -o second");
    hype(folder.path(), &from).good();
    let config = fs::read_to_string(folder.path().join("second/config.toml")).unwrap();
    assert!(config.contains("from = \"/"), "an absolute path, for a resume from elsewhere: {config}");
    hype(folder.path(), &line("--world-model run -o third")).refused(3, &["--reward true in both"]);
    let other = line("--reward true --world-model run --set world_model.members=4 -o third");
    hype(folder.path(), &other).refused(3, &["4 members", "3 members"]);
    hype(folder.path(), &line("--world-model none -o third")).refused(2, &["there is no run"]);
    let explored = format!("train hyper pendulum {TINY} --env-steps 50 --reward true -o explored");
    hype(folder.path(), &explored).good();
    let from = format!("train hyper pendulum {tiny} --world-model explored -o third");
    hype(folder.path(), &from).refused(3, &["learned nothing yet", "hype resume"]);
    fs::remove_dir_all(folder.path().join("run/checkpoints")).unwrap();
    hype(folder.path(), &format!("train hyper pendulum {tiny} --world-model run -o third"))
        .refused(3, &["its checkpoint of seed 0 is gone"]);
    let zeros = line("--reward true --set world_model.data_share=0.00001 -o nothing");
    hype(folder.path(), &zeros).refused(2, &["nothing to fit", "world_model.data_share"]);
    assert!(!folder.path().join("third").exists());
}

/// LAMPS: the same page, the reward that another run learned standing still.
#[test]
fn a_reward_that_another_run_learned_stands_still() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), &line("-o game")).good();
    hype(folder.path(), &line("--reward game -o lamps")).good();
    let evaluations = String::from_utf8(read(&folder.path().join("lamps"), "eval.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(evaluations.lines().last().unwrap()).unwrap();
    assert_eq!(last["env_steps_total"], last["env_steps"], "no episodes for a discriminator");
    for run in ["game", "lamps"] {
        hype(folder.path(), &format!("export {run} -o {run}-bundle")).good();
    }
    let discriminator = |bundle: &str| fs::read(folder.path().join(bundle).join("discriminator.onnx")).unwrap();
    assert_eq!(discriminator("game-bundle"), discriminator("lamps-bundle"));

    // Its networks come in the other run's shape, not in the preset's 7 of [256, 256].
    let unshaped = line("--reward game -o shaped")
        .replace("--set reward.hidden=[16,16]", "")
        .replace("--set reward.members=3", "");
    assert!(!unshaped.contains("reward.members") && !unshaped.contains("reward.hidden"));
    hype(folder.path(), &unshaped).good();
    hype(folder.path(), &line("--reward game --set reward.hidden=[8] -o bad"))
        .refused(3, &["read in another way", "[8]"]);
    let demos = demonstrations().display();
    let mm = format!("train mm pendulum --demos {demos} --set reward.from=game -o bad");
    hype(folder.path(), &mm).refused(3, &["always learns its own"]);
    hype(folder.path(), &line("-o random").replace("--env-steps 420", "--env-steps 60")).good();
    hype(folder.path(), &line("--reward random -o bad")).refused(3, &["learned nothing yet", "reward.update_every"]);
    let absorbing = format!("{} --set reward.absorbing=true", train_line("hype"));
    hype(folder.path(), &format!("{absorbing} --env-steps 200 -o absorbing")).good();
    hype(folder.path(), &line("--reward absorbing -o bad")).refused(3, &["reward.absorbing"]);
    hype(folder.path(), &line("--set faults.demonstrations_in_env_units=true -o bad"))
        .refused(2, &["demonstrations_in_env_units", "both sides"]);
    assert!(!folder.path().join("bad").exists());
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let demos = demonstrations().display();
    for (line, words) in [
        ("train hyper pendulum".to_owned(), vec!["learns from demonstrations"]),
        (line("--reward nonsense"), vec!["no run in", "nonsense"]),
        (format!("train hype pendulum --demos {demos} --reward true"), vec!["hype has no --reward", "hyper"]),
        (format!("train mm pendulum --demos {demos} --preset small"), vec!["small", "fixed"]),
        (format!("train filter pendulum --demos {demos} --set reset.schedule=sliding-window"), vec!["reset.schedule"]),
        (line("--set world_model.elites=9"), vec!["world_model.elites", "1 to 3"]),
        (line("--set imagination.lengths=[20,10,1,2]"), vec!["imagination.lengths"]),
        (line("--set reset.window=0.2"), vec!["reset.window", "sliding-window"]),
        (line("--set imagination.pessimism=1 --set world_model.elites=1"), vec!["pessimism", "never disagrees"]),
        (line("--disc-episodes 2 --disc-from policy-buffer"), vec!["--disc-episodes has no effect", "policy-buffer"]),
        (line("--disc-episodes 2 --reward true"), vec!["--disc-episodes has no effect", "the task's"]),
    ] {
        hype(folder.path(), &format!("{line} -o run")).refused(2, &words);
        assert!(!folder.path().join("run").exists(), "{line}");
    }
}

/// So does a policy without bounds, which leaves the last checkpoint as it is.
#[test]
fn a_diverging_policy_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let often = "--set checkpoint_every_secs=0 --set sac.learning_rate=1e12 -o run";
    hype(folder.path(), &line(often)).refused(1, &["the learner diverged", "learning rates"]);
    let played = hype(folder.path(), "eval run --episodes 1 --json").good().json();
    assert!(played["mean_return"].as_f64().unwrap().is_finite());
    let demos = demonstrations().display();
    let hype_too = format!(
        "train hype pendulum --demos {demos} --set sac.hidden=[8] --set sac.exploration_steps=50 --set env_steps=2000 \
         --set sac.learning_rate=1e12 -o other"
    );
    hype(folder.path(), &hype_too).refused(1, &["the learner diverged"]);
}

/// A learning rate without bounds: the run ends with a message and a checkpoint of the last good state.
#[test]
fn a_diverging_model_stops_the_run_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let told = hype(folder.path(), &line("--set world_model.learning_rate=1e30 -o run"));
    told.refused(1, &["diverged", "world_model.learning_rate"]);
    let played = hype(folder.path(), "eval run --episodes 1 --json").good().json();
    assert!(played["mean_return"].as_f64().unwrap().is_finite());
}

//! `hype demos collect` with its options, as a user sees the files that come out.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::path::Path;

use hype_tests::{demonstrations, hype, train_line};
use trainer::demos::{Demonstrations, read};
use trainer::envs::{Ending, Purpose, ResetState, World, WorldConfig};
use trainer::run::rng::Streams;

fn collected(folder: &Path, line: &str) -> Demonstrations {
    hype(folder, &format!("demos collect {line} -o made.hdf5")).good();
    read(&folder.join("made.hdf5")).unwrap()
}

/// Executes each row from its own physics state and compares what follows with the row's next observation and reward.
fn assert_rows_replay(demonstrations: &Demonstrations, task: &str) {
    let mut world = World::new(task, WorldConfig::default(), Streams::new(0), "test").unwrap();
    for row in 0..demonstrations.len() {
        let (qpos, qvel) = demonstrations.state(row).unwrap();
        world.reset_to(&ResetState { qpos: qpos.to_vec(), qvel: qvel.to_vec(), warmstart: None }, 0).unwrap();
        assert_eq!(world.observation(), demonstrations.observation(row), "row {row}");
        let step = world.step_env(demonstrations.action_env(row), Purpose::Evaluation).unwrap();
        assert_eq!(world.observation(), demonstrations.next_observation(row), "row {row}");
        assert_eq!(step.reward as f32, demonstrations.rewards[row], "row {row}");
        assert_eq!(step.ending == Ending::Terminated, demonstrations.terminals[row], "row {row}");
    }
}

#[test]
fn noise_is_executed_and_recorded_as_executed() {
    let folder = tempfile::tempdir().unwrap();
    let clean = read(demonstrations()).unwrap();
    let noisy = collected(folder.path(), "pendulum --episodes 5 --noise 0.25");
    assert_eq!((noisy.len(), noisy.attributes["noise"].as_str()), (1000, "0.25"));
    assert!(!clean.attributes.contains_key("noise") && clean.attributes["control_period_secs"] == "0.05");
    assert_rows_replay(&noisy, "pendulum");
    // Both begin in the same state; the first action is the expert's plus noise, in units of a torque of 2.
    assert_eq!(noisy.observation(0), clean.observation(0));
    assert_ne!(noisy.action_env(0), clean.action_env(0));
    assert!(noisy.actions_env.iter().all(|action| action.abs() <= 2.0));
    let mean = |demonstrations: &Demonstrations| demonstrations.returns().iter().sum::<f64>() / 5.0;
    let drowned = mean(&collected(folder.path(), "pendulum --episodes 5 --noise 2"));
    assert!(drowned < mean(&clean) - 300.0, "{drowned} with noise, {} without", mean(&clean));
    let again = collected(folder.path(), "pendulum --episodes 5 --noise 0.25");
    assert_eq!((again.sha256, again.actions_env), (noisy.sha256, noisy.actions_env), "the seed decides the noise");
}

#[test]
fn noise_has_the_deviation_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    // The expert's own action in every state of the noisy file: near the top it is small, so that nothing is clamped there.
    let noisy = collected(folder.path(), "pendulum --episodes 20 --noise 0.1");
    let streams = Streams::new(0).stream("random_policy");
    let engine = policy_runtime::EngineChoice::Auto;
    let mut expert =
        trainer::cli::policy::open("expert", Some("pendulum"), engine, Default::default(), streams).unwrap();
    let mut world = World::new("pendulum", WorldConfig::default(), Streams::new(0), "test").unwrap();
    let (mut squares, mut count, mut action) = (0.0, 0.0, [0.0]);
    for row in 0..noisy.len() {
        let (qpos, qvel) = noisy.state(row).unwrap();
        world.reset_to(&ResetState { qpos: qpos.to_vec(), qvel: qvel.to_vec(), warmstart: None }, 0).unwrap();
        expert.act(&world, &mut action).unwrap();
        if action[0].abs() < 1.0 {
            squares += (f64::from(noisy.action_env(row)[0] - action[0]) / 2.0).powi(2);
            count += 1.0;
        }
    }
    let deviation = f64::sqrt(squares / count);
    assert!(count > 1000.0 && (deviation - 0.1).abs() < 4.0 * 0.1 / f64::sqrt(2.0 * count), "{deviation} of {count}");
}

#[test]
fn dropped_steps_leave_true_rows() {
    let folder = tempfile::tempdir().unwrap();
    let whole = read(demonstrations()).unwrap();
    let thin = collected(folder.path(), "pendulum --episodes 5 --drop-states 0.3");
    assert_eq!((thin.len(), thin.episodes.len(), thin.attributes["drop_states"].as_str()), (700, 5, "0.3"));
    assert_rows_replay(&thin, "pendulum");
    for (before, after) in whole.episodes.iter().zip(&thin.episodes) {
        for row in after.clone() {
            let same = before.start + thin.step_number(after, row);
            assert_eq!(thin.observation(row), whole.observation(same));
            assert_eq!(thin.action_env(row), whole.action_env(same));
        }
        assert!(thin.timeouts[after.end - 1] && (after.start..after.end - 1).all(|row| !thin.timeouts[row]));
    }
    let told = hype(folder.path(), "demos inspect made.hdf5").good();
    assert!(told.stdout.contains("steps or more were dropped"), "{}", told.stdout);
    assert!(!told.stdout.contains("differ from") && !told.stdout.contains("shorter than"), "{}", told.stdout);
    // Training takes them, resets to their states included.
    let demos = demonstrations().display().to_string();
    let line = train_line("mm").replace(&demos, "made.hdf5");
    let told = hype(folder.path(), &format!("{line} --set reset.probability=1.0 --env-steps 500 -o run")).good();
    assert!(told.stderr.contains("warning: ") && told.stderr.contains("were dropped"), "{}", told.stderr);
}

#[test]
fn any_policy_can_demonstrate() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), &format!("{} --env-steps 300 -o run", train_line("hype"))).good();
    hype(folder.path(), "export run -o bundle").good();
    let [run, bundle, file] = ["run", "bundle", "bundle/policy.onnx"].map(|policy| {
        let made = collected(folder.path(), &format!("pendulum --episodes 1 --policy {policy}"));
        assert_eq!((made.len(), made.attributes["policy"].as_str()), (200, policy));
        assert_rows_replay(&made, "pendulum");
        made
    });
    assert_eq!(bundle.actions_env, file.actions_env);
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3;
    assert!(run.actions_env[..20].iter().zip(&bundle.actions_env[..20]).all(near));
    let expert = collected(folder.path(), "pendulum --episodes 1 --policy expert:pendulum");
    assert_eq!(expert.actions_env, read(demonstrations()).unwrap().actions_env[..200]);
    let random = collected(folder.path(), "pendulum --episodes 1 --policy random");
    assert!(random.actions_env.iter().any(|action| action.abs() > 1.5));
    // A file that is only called like the expert is a file.
    std::fs::copy(folder.path().join("bundle/policy.onnx"), folder.path().join("expert.onnx")).unwrap();
    let named = collected(folder.path(), "pendulum --episodes 1 --policy expert.onnx");
    assert_eq!(named.actions_env, file.actions_env);
}

#[test]
fn a_limit_trains_on_the_first_episodes() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), &format!("{} --demos-limit 2 --env-steps 300 -o limited", train_line("hype"))).good();
    let provenance = std::fs::read_to_string(folder.path().join("limited/provenance.json")).unwrap();
    let provenance: serde_json::Value = serde_json::from_str(&provenance).unwrap();
    assert_eq!(provenance["demos_episodes"], 2);
    // The same as a file of those two alone.
    let two = read(demonstrations()).unwrap().limit(2).unwrap();
    trainer::demos::write(&folder.path().join("two.hdf5"), &two).unwrap();
    let line = train_line("hype").replace(&demonstrations().display().to_string(), "two.hdf5");
    hype(folder.path(), &format!("{line} --env-steps 300 -o alone")).good();
    let evaluations =
        ["limited", "alone"].map(|run| std::fs::read(folder.path().join(run).join("eval.jsonl")).unwrap());
    assert_eq!(evaluations[0], evaluations[1]);
}

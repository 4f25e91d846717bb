//! GAIL learns, and what kept it from learning is measured: on a task that ends episodes early, a reward that may be negative
//! makes an early end the best thing to do.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use hype_tests::hype;
use std::fs;
use std::path::Path;

/// Trains on one demonstrated episode and gives the mean return and length of the last evaluation.
fn trained(folder: &Path, task: &str, env_steps: u64, more: &str) -> (f64, f64) {
    let demos = format!("{task}.hdf5");
    if !folder.join(&demos).exists() {
        hype(folder, &format!("demos collect {task} --episodes 1 -o {demos}")).good();
    }
    let settings =
        "--set ppo.rollout_steps=512 --set ppo.minibatches=8 --set gail.batch_size=128 --set eval.episodes=4";
    let line = format!(
        "train gail {task} --demos {demos} --env-steps {env_steps} --set eval.every={env_steps} {settings} {more} -o run{}",
        more.len()
    );
    hype(folder, &line).good();
    let lines = fs::read_to_string(folder.join(format!("run{}/eval.jsonl", more.len()))).unwrap();
    let last: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["env_steps"] == env_steps)
        .collect();
    assert_eq!(last.len(), 4, "{lines}");
    let mean = |key: &str| last.iter().map(|line| line[key].as_f64().unwrap()).sum::<f64>() / 4.0;
    (mean("return"), mean("length"))
}

/// Random actions last 22 steps on Hopper. The preset's reward keeps the learner alive for longer; the published logit has it
/// fall as fast as it can, in 7.
#[test]
fn a_reward_that_is_never_negative_does_not_teach_to_fall() {
    let folder = tempfile::tempdir().unwrap();
    let (reward, length) = trained(folder.path(), "hopper", 6_144, "");
    assert!(length > 30.0 && reward > 40.0, "{reward} in {length} steps");
    let (published, length) = trained(folder.path(), "hopper", 6_144, "--set gail.reward=logit");
    assert!(length < 15.0 && published < reward / 2.0, "{published} in {length} steps");
}

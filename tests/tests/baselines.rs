//! IQ-Learn, GAIL, SQIL and AdRIL from the command line to a bundle that was verified.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use hype_tests::{baseline_line, hype, hype_policy};
use std::fs;

#[test]
fn every_baseline_trains_and_exports() {
    for (method, preset, figure, learns_a_reward) in [
        ("iq-learn", "fixed", "iq_reward_expert", false),
        ("gail", "fixed", "approx_kl", true),
        ("sqil", "fixed", "critic_loss", false),
        ("adril", "fixed", "critic_loss", false),
        ("adril", "code", "critic_loss", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let line = format!("{} --demos-limit 5 --preset {preset} --env-steps 1100 -o run", baseline_line(method));
        hype(folder.path(), &line).good();
        let metrics = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        assert!(last[figure].as_f64().unwrap().is_finite(), "{method}: {last}");
        // The export compares Burn, the native engine and tract before it says yes.
        hype(folder.path(), "export run -o bundle").good();
        hype_policy(folder.path(), "verify bundle").good();
        assert_eq!(folder.path().join("bundle/discriminator.onnx").exists(), learns_a_reward, "{method}");
        let played = |policy: &str| hype(folder.path(), &format!("eval {policy} --episodes 2 --json")).good().json();
        let (run, bundle) = (played("run"), played("bundle"));
        assert!(run["mean_return"].as_f64().unwrap() < 0.0, "{method}: {run}");
        assert_eq!(run["mean_return"], bundle["mean_return"], "{method}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (method, setting, wanted) in [
        ("iq-learn", "iq.critics=3", "1 or 2"),
        ("iq-learn", "iq.objective=v1", "does not fit"),
        ("gail", "ppo.learning_rate_schedule=sawtooth", "constant or linear"),
        ("gail", "sac.batch_size=32", "sac.batch_size"),
        ("gail", "learner=sac", "gail has no other"),
        ("hype", "learner=ppo", "hype has no other"),
        ("gail", "gail.reward=linear", "does not fit"),
        ("adril", "adril.update_every=0", "at least 1"),
        ("sqil", "sac.learning_rate_schedule=sawtooth", "sqil has no outer iterations"),
        ("iq-learn", "sac.learning_rate_schedule=sawtooth", "iq-learn has no outer iterations"),
        ("iq-learn", "hybrid.schedule=[[0.5,0.5,100]]", "does not mix expert rows"),
        ("gail", "hybrid.schedule=[[0.5,0.5,100]]", "does not mix expert rows"),
        ("sqil", "hybrid.schedule=[]", "pays for expert rows alone"),
        ("adril", "hybrid.schedule=[[0.0,0.0,100]]", "no share above 0"),
    ] {
        let line = format!("{} --set {setting} -o run", baseline_line(method));
        hype(folder.path(), &line).refused(2, &[wanted]);
    }
    assert!(!folder.path().join("run").exists());
}

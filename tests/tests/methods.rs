//! Every method trains, is evaluated and exported through the command line. Export compares networks and bundle by itself.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use hype_tests::{TINY, TINY_REWARD, demonstrations, hype, train_line};

const TD3_BC: &str = "--set learner=td3-bc --set td3_bc.hidden=[16,16] --set td3_bc.batch_size=16";

#[test]
fn policies_of_every_kind_are_exported_and_played() {
    let cloning = format!("train bc pendulum --demos {} {TINY}", demonstrations().display());
    let lines = [
        format!("{cloning} --env-steps 300 -o run"),
        format!("{cloning} {TD3_BC} --env-steps 300 -o run"),
        format!("{} {TD3_BC} --set td3_bc.bc_steps=50 --env-steps 600 -o run", train_line("hype")),
        format!("{} --env-steps 600 -o run", train_line("bc-reg")),
    ];
    let figures = [None, None, Some("value_scale"), Some("bc_loss")];
    for (line, figure) in lines.iter().zip(figures) {
        let folder = tempfile::tempdir().unwrap();
        hype(folder.path(), &format!("{line} --seeds 0..2")).good();
        let told = hype(folder.path(), "export run -o bundle").good();
        assert!(told.stdout.contains("agree"), "{line}: {}", told.stdout);
        let returns = ["run", "bundle"].map(|policy| {
            let played =
                hype(folder.path(), &format!("eval {policy} --task pendulum --episodes 2 --json")).good().json();
            played["mean_return"].as_f64().unwrap()
        });
        assert!((returns[0] - returns[1]).abs() < 1e-3 * returns[0].abs(), "{line}: {returns:?}");
        let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
        assert!(figure.is_none_or(|figure| metrics.contains(figure)), "{line}: {metrics}");
    }
}

/// Hopper's episodes end in falls: what comes after them is learned, counted nowhere, exported without its column, and resumed.
#[test]
fn absorbing_states_train_and_export() {
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), "demos collect hopper --episodes 2 -o demos.hdf5").good();
    let line = format!(
        "train mm hopper --demos demos.hdf5 {TINY} {TINY_REWARD} --set reward.update_every=200 --env-steps 700"
    );
    hype(folder.path(), &format!("{line} -o plain")).good();
    hype(folder.path(), &format!("{line} --set reward.absorbing=true -o run")).good();
    let read = |run: &str| std::fs::read_to_string(folder.path().join(run).join("eval.jsonl")).unwrap();
    assert_ne!(read("plain"), read("run"));
    let told = hype(folder.path(), "export run -o bundle").good();
    assert!(told.stdout.contains("agree"), "{}", told.stdout);
    let more = format!("{line} --set reward.absorbing=true");
    let hyper = more.replace("train mm", "train hyper");
    hype(folder.path(), &format!("{hyper} -o none")).refused(2, &["reward.absorbing", "hyper"]);
}

/// Pendulum's torques are ±2: in those units the demonstrations ask for actions beyond what the policy can do.
#[test]
fn the_fault_of_units_reaches_what_is_cloned() {
    let folder = tempfile::tempdir().unwrap();
    let loss = |name: &str, more: &str| {
        let line = format!("train bc pendulum --demos {} {TINY} --env-steps 1200", demonstrations().display());
        hype(folder.path(), &format!("{line} {more} -o {name}")).good();
        let text = std::fs::read_to_string(folder.path().join(name).join("metrics.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        last["bc_loss"].as_f64().unwrap()
    };
    let (right, wrong) = (loss("right", ""), loss("wrong", "--set faults.demonstrations_in_env_units=true"));
    assert!(wrong > 1.5 * right, "{wrong} and {right}");
}

#[test]
fn cloning_knows_no_discriminator() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("train bc pendulum --demos {} --set reward.learning_rate=1e-3", demonstrations().display());
    hype(folder.path(), &line).refused(2, &["reward.learning_rate"]);
    let line = format!("{} --set learner=td3", train_line("hype"));
    hype(folder.path(), &line).refused(2, &["\"td3\"", "`td3-bc`"]);
}

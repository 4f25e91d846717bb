//! The experts that ship play as their certificates say.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use hype_tests::hype;
use std::fs;
use std::path::Path;

/// Five fresh episodes each. Their mean may be below the certificate's by three deviations of single episodes: some experts fall
/// now and then, and then five episodes say little.
#[test]
fn every_expert_plays_as_its_certificate_says() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/experts");
    let mut tasks = 0;
    for file in fs::read_dir(shipped).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let certificate: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let number = |key: &str| certificate[key].as_f64().unwrap();
        let task = certificate["task"].as_str().unwrap();
        let told = hype(folder.path(), &format!("eval expert:{task} --episodes 5 --json")).good().json();
        let (found, mean) = (told["mean_return"].as_f64().unwrap(), number("return_mean"));
        let least = mean - 3.0 * number("return_std") - 0.02 * mean.abs();
        assert!(found >= least, "{task}: {found}, the certificate says {mean}");
        tasks += 1;
    }
    assert!(tasks >= 8, "{tasks} certificates");
}

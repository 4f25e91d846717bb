//! The command line without a bundle: usage, and files that are not there.

#![cfg(feature = "cli")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::process::{Command, Output};

fn hype_policy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hype-policy")).args(args).output().unwrap()
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [
        &[][..],
        &["fly", "bundle"],
        &["run", "bundle", "--rate", "0"],
        &["run", "bundle", "--rate", "NaN"],
        &["run", "bundle", "--seconds", "-1"],
        &["run", "bundle", "--engine", "steam"],
        &["bench", "bundle", "--calls", "0"],
    ] {
        let output = hype_policy(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
    assert_eq!(hype_policy(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_missing_bundle_exits_with_3_and_is_named() {
    for command in ["inspect", "verify", "run", "bench"] {
        let output = hype_policy(&[command, "no/such.bundle", "--json"]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8(output.stderr).unwrap().contains("no/such.bundle"), "{command}");
    }
}

//! What the environment variables HYPE_MUJOCO_LIB, HYPE_MJCF_DIR, HYPE_CACHE and PATH do to a process that wants MuJoCo:
//! every wrong value gives an error to read, never a crash. Each case is a process of its own, since a library is loaded once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::path::Path;
use std::process::Command;
use trainer::envs::mujoco::{Sources, fetch};
use trainer::envs::{Purpose, World, WorldConfig};
use trainer::run::rng::Streams;

const CHILD: &str = "HYPE_TEST_CHILD";

/// The child's part; as an ordinary test it only checks that hopper works here.
#[test]
fn child_takes_a_step() {
    let result = World::new("hopper", WorldConfig::default(), Streams::new(0), "test").and_then(|mut world| {
        world.reset()?;
        world.step(&[0.0; 3], Purpose::Policy)
    });
    if std::env::var_os(CHILD).is_some() {
        let line =
            result.map_or_else(|e| format!("error({}): {e}", e.exit_code()), |step| format!("stepped: {step:?}"));
        println!("CHILD {}", line.replace('\n', " "));
    } else {
        result.unwrap();
    }
}

/// Runs the child with these variables; what it says. Fails if the process does not end well.
fn child(variables: &[(&str, &Path)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_takes_a_step", "--nocapture"]).env(CHILD, "1");
    command.env_remove("HYPE_MUJOCO_LIB").env_remove("HYPE_MJCF_DIR");
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{variables:?}: {:?}\n{text}", output.status);
    text.split_once("CHILD ").unwrap().1.lines().next().unwrap().to_owned()
}

#[test]
fn wrong_values_give_errors_and_right_ones_need_no_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (empty, nothing) = (at("empty"), Path::new(""));
    std::fs::create_dir(&empty).unwrap();
    let sources = Sources::from_env();
    let (library, models) = (fetch::mujoco_library(&sources).unwrap(), fetch::mjcf_folder(&sources).unwrap());

    let missing = child(&[("HYPE_MUJOCO_LIB", &at("no-such-file"))]);
    assert!(missing.starts_with("error(1)") && missing.contains("no-such-file"), "{missing}");

    let bytes = std::fs::read(&library).unwrap();
    std::fs::write(at("short.so"), &bytes[..bytes.len() / 3]).unwrap();
    let truncated = child(&[("HYPE_MUJOCO_LIB", &at("short.so"))]);
    assert!(truncated.starts_with("error(1)") && truncated.contains("short.so is truncated"), "{truncated}");

    let nothing_there = child(&[("HYPE_CACHE", &empty), ("PATH", nothing)]);
    assert!(nothing_there.contains("apt-get install -y python3-pip"), "{nothing_there}");

    let no_models = child(&[("HYPE_MJCF_DIR", &empty)]);
    assert!(no_models.starts_with("error(3)") && no_models.contains("hopper.xml"), "{no_models}");

    let strange = at("strange");
    std::fs::create_dir(&strange).unwrap();
    std::fs::copy(models.join("walker2d.xml"), strange.join("hopper.xml")).unwrap();
    let strange = child(&[("HYPE_MJCF_DIR", &strange)]);
    assert!(strange.starts_with("error(3)") && strange.contains("not the model that Gymnasium"), "{strange}");

    let own = [("HYPE_MUJOCO_LIB", library.as_path()), ("HYPE_MJCF_DIR", &models)];
    let own = child(&[own[0], own[1], ("HYPE_CACHE", &at("untouched")), ("PATH", nothing)]);
    assert!(own.starts_with("stepped"), "{own}");
    assert!(!at("untouched").exists());
    assert!(!Path::new("MUJOCO_LOG.TXT").exists());
}

#[test]
fn struct_offsets_are_what_a_c_compiler_says_about_the_headers() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/scripts/mujoco_layout.py");
    let usable = |program: &str, argument: &str| {
        Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
    };
    if !usable("python3", "--version") || !usable("cc", "--version") {
        let _ = writeln!(std::io::stdout(), "\nSKIPPED struct offsets: apt-get install -y python3-pip gcc");
        return;
    }
    let output = Command::new("python3").arg(script).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

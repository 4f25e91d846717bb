//! `hype-policy` on real bundles: what it prints, and its exit codes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod onnx_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use onnx_support::bundle;
use policy_runtime::bundle::{MANIFEST_FILE, POLICY_FILE};
use serde_json::Value;

/// The binary that the same build made: `target/PROFILE/deps/this-test` lies one folder below it.
fn binary() -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("hype-policy");
    assert!(path.exists(), "{} is missing; build it with `cargo build --workspace --bins`", path.display());
    path
}

fn hype_policy(command: &str, path: &Path, args: &[&str]) -> Output {
    Command::new(binary()).arg(command).arg(path).args(args).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one object and nothing else: {text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn inspect_tells_contract_layers_and_provenance() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let output = hype_policy("inspect", &path, &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let told = json(&output);
    assert_eq!(told["engine"], "native");
    assert_eq!(told["contract"]["action"][2]["name"], "torque_2");
    assert_eq!(told["layers"], "normaliser, 11 → 32 Relu → 24 Relu → 3 Identity, squash Tanh; 1192 multiplications");
    assert_eq!(told["manifest"]["provenance"]["maker"], "test");
    assert_eq!(told["manifest"]["golden_vectors"], 24);
    let text = String::from_utf8(hype_policy("inspect", &path, &[]).stdout).unwrap();
    for wanted in ["angle_3", "[-3, 3]", "[-inf, inf]", "125 Hz", "discriminator.onnx", "sha256"] {
        assert!(text.contains(wanted), "{wanted:?} is missing in {text}");
    }
    let model = hype_policy("inspect", &path.join(POLICY_FILE), &["--json"]);
    assert_eq!(json(&model)["contract"], told["contract"], "the ONNX file alone tells the contract too");
}

#[test]
fn verify_compares_every_pair_of_executions() {
    let folder = tempfile::tempdir().unwrap();
    let output = hype_policy("verify", &bundle(folder.path()), &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let told = json(&output);
    let pairs: Vec<String> = (told["agreement"].as_array().unwrap().iter())
        .map(|pair| format!("{} {} {}", pair["what"], pair["left"], pair["right"]).replace('"', ""))
        .collect();
    let both = |what: &str| ["golden tract", "golden native", "native tract"].map(|pair| format!("{what} {pair}"));
    let blob = vec!["policy golden policy.hpb".to_owned()];
    assert_eq!(pairs, [both("policy").to_vec(), blob, both("discriminator").to_vec()].concat());
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a loop in real time is tested")]
fn run_keeps_the_rate_and_counts_every_tick() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    for engine in ["native", "tract"] {
        let args = ["--rate", "200", "--seconds", "0.5", "--engine", engine, "--json"];
        let start = std::time::Instant::now();
        let output = hype_policy("run", &path, &args);
        assert_eq!(output.status.code(), Some(0));
        assert!(start.elapsed() >= Duration::from_millis(490));
        let told = json(&output);
        // On a busy machine some actions come late.
        assert_eq!((told["engine"].as_str(), told["fallbacks"].as_u64()), (Some(engine), told["late"].as_u64()));
        // A hundred and one at rest. A busy machine may skip releases; each is then a missed deadline.
        let ticks = told["ticks"].as_u64().unwrap();
        assert!(ticks <= 101 && ticks + told["missed_deadlines"].as_u64().unwrap() >= 100, "{told}");
        let step = |name: &str| told["step"][name].as_u64().unwrap();
        assert!(
            0 < step("p50_nanos") && step("p50_nanos") <= step("p99_nanos") && step("p999_nanos") <= step("max_nanos")
        );
    }
    let text = String::from_utf8(hype_policy("run", &path, &["--seconds", "0.1"]).stdout).unwrap();
    assert!(text.contains("ticks at 125 Hz") && text.contains("p99.9") && text.contains("missed deadlines"), "{text}");
}

#[test]
fn an_interrupted_run_reports_and_exits_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let child = Command::new(binary())
        .args(["run".as_ref(), path.as_os_str(), "--seconds".as_ref(), "60".as_ref(), "--json".as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let told = json(&output);
    assert_eq!(told["interrupted"], true);
    assert!(told["ticks"].as_u64().unwrap() > 0);
}

#[test]
fn bench_measures_every_engine() {
    let folder = tempfile::tempdir().unwrap();
    let told = json(&hype_policy("bench", &bundle(folder.path()), &["--calls", "700", "--json"]));
    let engines: Vec<_> = (told["engines"].as_array().unwrap().iter())
        .map(|row| (row["engine"].as_str().unwrap(), row["step"]["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(engines, [("native", 700), ("deterministic", 700), ("tract", 700)]);
}

#[test]
fn defects_have_their_exit_codes() {
    type Spoil<'a> = &'a dyn Fn(&Path);
    let edit = |path: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(path.join(MANIFEST_FILE)).unwrap();
        assert!(text.contains(from));
        fs::write(path.join(MANIFEST_FILE), text.replacen(from, to, 1)).unwrap();
    };
    let truncate = |path: &Path| {
        let bytes = fs::read(path.join(POLICY_FILE)).unwrap();
        fs::write(path.join(POLICY_FILE), &bytes[..100]).unwrap();
    };
    let wrong_digest = |path: &Path| edit(path, "\"sha256\": \"", "\"sha256\": \"0");
    let golden_off = |path: &Path| {
        let mut manifest: Value = serde_json::from_slice(&fs::read(path.join(MANIFEST_FILE)).unwrap()).unwrap();
        let action = &mut manifest["golden"][0]["action"][0];
        *action = (action.as_f64().unwrap() + 1e-3).into();
        fs::write(path.join(MANIFEST_FILE), manifest.to_string()).unwrap();
    };
    let cases: [(Spoil<'_>, i32, &str); 3] = [
        (&truncate, 3, "altered or truncated"),
        (&wrong_digest, 3, "altered or truncated"),
        (&golden_off, 4, "disagree on channel \"torque_0\""),
    ];
    for (spoil, code, wanted) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = bundle(folder.path());
        spoil(&path);
        for command in ["verify", "run", "bench", "inspect"] {
            let output = hype_policy(command, &path, &[]);
            assert_eq!(output.status.code(), Some(code), "{command}: {wanted}");
            let said = [output.stdout, output.stderr].concat();
            assert!(String::from_utf8(said).unwrap().contains(wanted), "{command}");
        }
    }
}

#[test]
fn a_truncated_model_file_exits_with_3() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let bytes = fs::read(path.join(POLICY_FILE)).unwrap();
    let file = folder.path().join("cut.onnx");
    for length in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).unwrap();
        let output = hype_policy("inspect", &file, &[]);
        assert_eq!(output.status.code(), Some(3), "{length} bytes");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("cut.onnx"), "{message}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let mut child = Command::new(binary())
        .args(["inspect".as_ref(), path.as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

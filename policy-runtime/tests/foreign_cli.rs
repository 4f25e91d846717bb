//! `hype-policy` on other people's files: recurrent ones run, inspect, bench and infer; what is not trusted or not complete is refused.

#![cfg(all(feature = "cli", feature = "signature"))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use policy_runtime::bundle::{FORMAT, FORMAT_VERSION, FileRecord, MANIFEST_FILE, Manifest, POLICY_FILE};
use policy_runtime::metadata::{KEY_CONTRACT, KEY_FORMAT_VERSION, KEY_KIND, KIND_POLICY};
use policy_runtime::selfcheck::{Golden, ProbeKind};
use policy_runtime::{Channel, Contract, EngineChoice, Fallback, Observation, Policy};
use serde_json::Value;
use support::{recorded, with_metadata};

const LSTM: &str = "rsl_rl_lstm-legacy11-static";

fn hype_policy(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hype-policy")).args(args).output().unwrap()
}

fn told(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn path(name: &str) -> String {
    recorded(name).display().to_string()
}

#[test]
fn a_recurrent_policy_is_inspected_run_and_timed() {
    let lstm = path(LSTM);
    let told_inspect = told(&hype_policy(&["inspect", &lstm, "--json"]));
    assert_eq!(
        (told_inspect["engine"].as_str(), told_inspect["observation_width"].as_u64()),
        (Some("native"), Some(48))
    );
    assert_eq!(told_inspect["layout"]["state"], serde_json::json!({"h_in": "h_out", "c_in": "c_out"}));
    let told_bench = told(&hype_policy(&["bench", &lstm, "--calls", "500", "--ticks", "0", "--json"]));
    let engines = told_bench["engines"].as_array().unwrap();
    assert_eq!(engines.len(), 3);
    for engine in engines {
        assert!(engine["largest_difference"].as_f64().unwrap() < 1e-5, "{engine}");
    }
    assert_eq!(engines[0]["allocations_per_call"], 0.0);
    let told_run = told(&hype_policy(&["run", &lstm, "--rate", "200", "--seconds", "0.1", "--json"]));
    assert_eq!((told_run["engine"].as_str(), told_run["first_fault"].as_str()), (Some("native"), None));
}

#[test]
fn a_loop_on_a_robot_wants_what_the_metadata_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.onnx");
    let joints = |value: &str| [value; 12].join(",");
    let names: Vec<String> = (0..12).map(|index| format!("joint_{index}")).collect();
    let terms = "base_lin_vel,base_ang_vel,projected_gravity,command,joint_pos,joint_vel,actions";
    let written = [
        ("joint_names", names.join(",")),
        ("default_joint_pos", joints("0.1")),
        ("action_scale", "0.25".into()),
        ("observation_names", terms.into()),
        ("command_names", "twist".into()),
    ];
    fs::write(&file, with_metadata("rsl_rl_mlp-legacy17-static", &written)).unwrap();
    let file = file.display().to_string();
    let refused = hype_policy(&["run", &file, "--observe", "stdin", "--rate", "100"]);
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("--declare control_period_secs="), "{message}");
    let (low, high) = (format!("action_low={}", joints("-1")), format!("action_high={}", joints("1")));
    let complete = ["--declare", "control_period_secs=0.01", "--declare", &low, "--declare", &high];
    let empty = hype_policy(&[&["run", &file, "--observe", "stdin", "--json"], &complete[..]].concat());
    assert_eq!(told(&empty)["contract_rate_hz"], 100.0, "its standard input ends at once");
}

/// A bundle of a file that torch exported.
fn bundle(folder: &Path) -> String {
    let contract = Contract {
        task: "legs".into(),
        observation: (0..48).map(|index| Channel::unbounded(format!("o{index}"), "1")).collect(),
        action: (0..12).map(|index| Channel::bounded(format!("a{index}"), "1", -100.0, 100.0)).collect(),
        control_period_secs: 0.02,
        fallback: Fallback::Hold,
        max_observation_age_secs: None,
        guards: Default::default(),
    };
    let metadata =
        [(KEY_FORMAT_VERSION, "1".into()), (KEY_KIND, KIND_POLICY.into()), (KEY_CONTRACT, contract.to_json().unwrap())];
    let bytes = with_metadata(LSTM, &metadata);
    let mut policy = Policy::from_onnx(&bytes, EngineChoice::Native).unwrap();
    let golden = (0..3).map(|row| {
        let observation: Vec<f32> = (0..48).map(|index| ((5 * row + index) as f32).sin()).collect();
        let mut action = vec![0.0; 12];
        policy.reset();
        assert!(policy.step(0, &Observation { values: &observation, stamp_nanos: 0 }, &mut action).is_good());
        Golden { kind: ProbeKind::Random, observation, action, activation_scale: 1.0, judgement: None }
    });
    let manifest = Manifest {
        format: FORMAT.into(),
        format_version: FORMAT_VERSION,
        golden: golden.collect(),
        files: BTreeMap::from([(POLICY_FILE.into(), FileRecord::of(&bytes))]),
        contract,
        monitor: None,
        embedded: Vec::new(),
        agreement: Vec::new(),
        provenance: Value::Null,
        training: Value::Null,
    };
    let path = folder.join("legs.bundle");
    fs::create_dir(&path).unwrap();
    fs::write(path.join(POLICY_FILE), bytes).unwrap();
    fs::write(path.join(MANIFEST_FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
    path.display().to_string()
}

/// An npz file with one array `obs`, `[4, 48]`.
fn recording(path: &Path) {
    let mut header = String::from("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 48), }");
    header += &" ".repeat(117 - header.len());
    header += "\n";
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.bytes());
    npy.extend((0..4 * 48).flat_map(|index| (index as f32).cos().to_le_bytes()));
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    archive.start_file("obs.npy", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(&npy).unwrap();
    archive.finish().unwrap();
}

#[test]
fn infer_reads_what_a_trusted_key_signed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (bundle, inputs, output) = (bundle(folder.path()), at("inputs.npz"), at("outputs.npz"));
    recording(Path::new(&inputs));
    for name in ["maker", "stranger"] {
        assert_eq!(hype_policy(&["keygen", "-o", &at(name)]).status.code(), Some(0));
    }
    let infer = |model: &str, key: &str, serial: &str| {
        let key = at(key);
        let trust = ["--trust", &key, "--min-serial", serial];
        hype_policy(&[&["infer", model, "--inputs", &inputs, "-o", &output, "--json"], &trust[..]].concat())
    };
    assert_eq!(infer(&bundle, "maker.pub", "0").status.code(), Some(4), "not signed");
    assert_eq!(hype_policy(&["sign", &bundle, "--key", &at("maker.key"), "--serial", "7"]).status.code(), Some(0));
    assert_eq!(infer(&bundle, "stranger.pub", "0").status.code(), Some(4), "a stranger's");
    assert_eq!(infer(&bundle, "maker.pub", "8").status.code(), Some(4), "too old");
    assert_eq!(infer(&path(LSTM), "maker.pub", "0").status.code(), Some(4), "a model file has no signature");
    assert!(!Path::new(&output).exists());
    let good = told(&infer(&bundle, "maker.pub", "7"));
    assert_eq!((good["steps"].as_u64(), good["outputs"]["actions"].clone()), (Some(4), serde_json::json!([4, 12])));
    assert!(Path::new(&output).exists());
}

//! Other people's recurrent policies as blobs: what onnxruntime recorded for their files (`tests/foreign.rs` says how) comes out
//! of the executor that runs on a microcontroller.

#![cfg(feature = "onnx")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod recurrent_onnx;

use std::collections::BTreeMap;
use std::path::PathBuf;

use policy_runtime::embedded::heap::BlobFile;
use policy_runtime::embedded::write::{Part, blob};
use policy_runtime::embedded::{Layer, Precision};
use policy_runtime::onnx::Model;
use policy_runtime::safety::GuardRules;
use policy_runtime::{Channel, Contract, Fallback};
use serde::Deserialize;

/// Greatest difference, as a share of the larger of 1 and the action's magnitude.
const TOLERANCE: f32 = 1e-5;
/// The same of eight-bit weights, four steps after fresh states.
const INT8_TOLERANCE: f32 = 3e-2;

#[derive(Deserialize)]
struct Vectors {
    certificate: Certificate,
    inputs: BTreeMap<String, BTreeMap<String, Vec<f32>>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Certificate {
    steps: usize,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    family: String,
    sha256: String,
    outputs: BTreeMap<String, Vec<f32>>,
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign"))
}

fn vectors() -> Vectors {
    serde_json::from_slice(&std::fs::read(folder().join("vectors.json")).unwrap()).unwrap()
}

fn model(case: &Case) -> Model {
    let bytes = std::fs::read(folder().join(&case.file)).unwrap();
    assert_eq!(policy_runtime::files::sha256_hex(&bytes), case.sha256, "{}", case.file);
    Model::parse(&bytes).unwrap()
}

fn contract(observation: usize, action: usize) -> Contract {
    Contract {
        task: "test".into(),
        observation: (0..observation).map(|index| Channel::unbounded(format!("angle_{index}"), "rad")).collect(),
        action: (0..action).map(|index| Channel::bounded(format!("torque_{index}"), "N*m", -9.0, 9.0)).collect(),
        control_period_secs: 0.02,
        fallback: Fallback::Zero,
        max_observation_age_secs: None,
        guards: GuardRules::default(),
    }
}

fn actions(file: &BlobFile, rows: &[&[f32]]) -> Vec<f32> {
    let mut executor = file.open().unwrap();
    let mut row = vec![0.0; executor.blob().action_width()];
    let mut act = |observation: &&[f32]| {
        executor.run(observation, &mut row).unwrap();
        row.clone()
    };
    rows.iter().flat_map(&mut act).collect()
}

fn off_by(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let scale = wanted.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs() / scale).fold(0.0, f32::max)
}

#[test]
fn recurrent_policies_become_blobs_that_give_what_onnxruntime_recorded() {
    let Vectors { certificate, inputs, cases } = vectors();
    let mut seen = BTreeMap::<String, usize>::new();
    for case in cases.iter().filter(|case| case.family.starts_with("rsl_rl_")) {
        let network = model(case).lower_network().unwrap_or_else(|reason| panic!("{}: {reason}", case.file));
        let rows: Vec<&[f32]> = {
            let values = &inputs[&case.family]["obs"];
            values.chunks_exact(values.len() / certificate.steps).collect()
        };
        let wanted = &case.outputs["actions"];
        let contract = contract(rows[0].len(), wanted.len() / certificate.steps);
        let written = |precision| blob(&contract, &network, precision, [0; 32], &rows).unwrap();
        let file = written(Precision::F32);
        let off = off_by(&actions(&file, &rows), wanted);
        assert!(off <= TOLERANCE, "{}: off by {off:e}", case.file);
        let off = off_by(&actions(&written(Precision::Int8), &rows), wanted);
        assert!(off <= INT8_TOLERANCE, "{}: off by {off:e} in int8", case.file);

        let remembers = network.parts.iter().any(|part| !matches!(part, Part::Dense(_)));
        if remembers {
            // Without its memory, or with another weight, it is another policy: a test of the test.
            let forgets: Vec<f32> = rows.iter().flat_map(|row| actions(&file, &[*row])).collect();
            assert!(off_by(&forgets, wanted) > 10.0 * TOLERANCE, "{}: state does nothing", case.file);
            let mut altered = network.clone();
            for part in &mut altered.parts {
                if let Part::Lstm(layer) | Part::Gru(layer) = part {
                    layer.weight_hh.iter_mut().for_each(|weight| *weight += 1e-3);
                }
            }
            let altered = blob(&contract, &altered, Precision::F32, [0; 32], &rows).unwrap();
            assert!(off_by(&actions(&altered, &rows), wanted) > TOLERANCE, "{}", case.file);
        }
        let opened = file.open().unwrap();
        let recurrent = opened.blob().layers().filter(|view| !matches!(view.layer, Layer::Dense { .. })).count();
        *seen.entry(case.family.clone()).or_default() += recurrent.max(1);
    }
    let families: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(families, ["rsl_rl_gru", "rsl_rl_lstm", "rsl_rl_lstm2", "rsl_rl_mlp"], "{seen:?}");
}

#[test]
fn what_is_no_such_policy_is_refused_with_a_sentence() {
    let mut refused = 0;
    for case in vectors().cases.iter().filter(|case| !case.family.starts_with("rsl_rl_")) {
        if let Err(reason) = model(case).lower_network() {
            assert!(reason.len() > 10, "{}: {reason}", case.file);
            refused += 1;
        }
    }
    assert!(refused > 10, "{refused}");
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_writes_a_blob_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("contract.json"), contract(48, 12).to_json().unwrap()).unwrap();
    let model = |name: &str| self::folder().join(name).display().to_string();
    let run = |args: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_hype-policy")).arg("blob").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (contract, out) = (at("contract.json"), at("policy.hpb"));
    for (file, more) in
        [("rsl_rl_gru-legacy17-static.onnx", None), ("rsl_rl_lstm2-dynamo18-dynamic.onnx", Some("--int8"))]
    {
        let model = model(file);
        let mut args = vec![model.as_str(), "--contract", &contract, "-o", &out];
        args.extend(more);
        assert_eq!(run(&args), (Some(0), String::new()), "{file}");
        let written = BlobFile::new(&std::fs::read(&out).unwrap());
        assert!(written.open().unwrap().blob().state_width() > 0, "{file}");
    }
    let (code, message) = run(&[&model("rsl_rl_gru-legacy17-static.onnx"), "-o", &out]);
    assert!(code == Some(3) && message.contains("--contract"), "{code:?} {message}");
    let (code, message) = run(&[&model("transformer-legacy17-static.onnx"), "--contract", &contract, "-o", &out]);
    assert!(code == Some(2) && message.contains("cannot become a blob"), "{code:?} {message}");
}

/// State that leads to another layer than it came from: whatever the weights' precision, no blob is that policy.
#[cfg(feature = "cli")]
#[test]
fn a_blob_that_is_another_policy_is_not_written_in_int8_either() {
    use recurrent_onnx::RecurrentFile;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("contract.json"), contract(5, 3).to_json().unwrap()).unwrap();
    for (crossed, code) in [(false, 0), (true, 4)] {
        let file = RecurrentFile { hidden: vec![9, 9], crossed, ..RecurrentFile::default() };
        std::fs::write(at("policy.onnx"), file.bytes(&mut policy_runtime::probe::Draws::new(7))).unwrap();
        for precision in [None, Some("--int8")] {
            let _ = std::fs::remove_file(at("policy.hpb"));
            let (model, contract, out) = (at("policy.onnx"), at("contract.json"), at("policy.hpb"));
            let mut args = vec!["blob", &model, "--contract", &contract, "-o", &out, "--json"];
            args.extend(precision);
            let run = std::process::Command::new(env!("CARGO_BIN_EXE_hype-policy")).args(&args).output().unwrap();
            assert_eq!(run.status.code(), Some(code), "{crossed} {precision:?} {run:?}");
            assert_eq!(std::path::Path::new(&out).exists(), !crossed, "{precision:?}");
            let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
            let of_f32 = json["largest_difference_f32"].as_f64().unwrap();
            assert_eq!(of_f32 <= 1e-5, !crossed, "{json}");
            if let (Some(_), false) = (precision, crossed) {
                let of_int8 = json["largest_difference"].as_f64().unwrap();
                assert!(of_int8 > 1e-4 && of_int8 < 0.1, "{json}");
            }
        }
    }
}

//! The exported files in other people's hands: onnx.checker accepts them, and onnxruntime computes what the native engine
//! computes. `HYPE_PYTHON` names an interpreter with onnx, onnxruntime and numpy, else it is `python/bin/python` in the
//! cache folder.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod onnx_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use export::{onnx_discriminator, onnx_policy};
use onnx_support::{contract, demonstrations, discriminator, policy};
use policy_runtime::probe::probes;
use policy_runtime::selfcheck::TOLERANCE;
use policy_runtime::spec::{Activation, Reduction, Squash};
use policy_runtime::{Contract, Discriminator, DiscriminatorGraph, Observation, Policy, PolicyGraph, Verdict};
use serde_json::{Value, json};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

/// An interpreter that has the packages; `None`, with a line that says how to get it, where there is none.
fn python() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("HYPE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("hype")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/hype")));
    let python = variable("HYPE_PYTHON").or_else(|| cache.map(|cache| cache.join("python/bin/python")))?;
    let imports = Command::new(&python).args(["-c", "import numpy, onnx, onnxruntime"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    println!("SKIPPED comparison with onnxruntime: {} does not import onnx and onnxruntime", python.display());
    println!("  to run it: sh tests/python/setup.sh && cargo test --workspace --test onnx_foreign");
    None
}

/// Asks Python about the cases; the report, and whether all was equal.
fn check(python: &Path, folder: &Path, cases: &[Value]) -> (Value, bool) {
    let file = folder.join("cases.json");
    fs::write(&file, serde_json::to_vec(cases).unwrap()).unwrap();
    let output = Command::new(python).arg(format!("{SCRIPTS}/check_onnx.py")).arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("no report: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.success())
}

fn policy_case(folder: &Path, name: &str, contract: &Contract, graph: PolicyGraph) -> Value {
    let file = folder.join(format!("{name}.onnx"));
    fs::write(&file, onnx_policy(&graph, contract).unwrap()).unwrap();
    let mut policy = Policy::from_graph(contract.clone(), graph).unwrap();
    let (mut observations, mut expected, mut tolerance) = (vec![], vec![], vec![]);
    for probe in probes(contract, &demonstrations(contract, 30), 60, 4) {
        let mut action = vec![0.0; contract.action.len()];
        let observation = Observation { values: &probe.observation, stamp_nanos: 0 };
        assert_eq!(policy.step(0, &observation, &mut action), Verdict::Good);
        let scale = policy.activation_scale().unwrap().max(1.0);
        let unit = |(low, high): (f32, f32)| low.abs().max(high.abs());
        let row: Vec<f32> = contract.action.iter().map(|c| TOLERANCE * scale * unit(c.bounds().unwrap())).collect();
        observations.push(probe.observation);
        expected.push(action);
        tolerance.push(row);
    }
    json!({"file": file, "inputs": {"observation": observations}, "output": "action", "expected": expected,
        "tolerance": tolerance})
}

fn discriminator_case(folder: &Path, name: &str, contract: &Contract, graph: DiscriminatorGraph) -> Value {
    let file = folder.join(format!("{name}.onnx"));
    fs::write(&file, onnx_discriminator(&graph, contract).unwrap()).unwrap();
    let mut discriminator = Discriminator::from_graph(contract.clone(), graph).unwrap();
    let (mut observations, mut actions, mut expected, mut tolerance) = (vec![], vec![], vec![], vec![]);
    for probe in probes(contract, &demonstrations(contract, 30), 60, 5) {
        expected.push([discriminator.reward(&probe.observation, &probe.action).unwrap()]);
        tolerance.push([TOLERANCE * discriminator.activation_scale().unwrap().max(1.0)]);
        observations.push(probe.observation);
        actions.push(probe.action);
    }
    json!({"file": file, "inputs": {"observation": observations, "action": actions}, "output": "reward",
        "expected": expected, "tolerance": tolerance})
}

fn cases(folder: &Path) -> Vec<Value> {
    let mut cases = Vec::new();
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Silu,
        Activation::Elu,
    ];
    for (index, activation) in activations.into_iter().enumerate() {
        let contract = contract(5 + index, 1 + index);
        for (squash, normalized) in [(Squash::Tanh, true), (Squash::None, false)] {
            let graph = policy(&contract, activation, squash, normalized, index as u64);
            cases.push(policy_case(folder, &format!("policy_{activation:?}_{squash:?}"), &contract, graph));
        }
    }
    for (members, clip, reduction) in [
        (1, None, Reduction::Mean),
        (1, Some(0.5), Reduction::Mean),
        (7, Some(2.0), Reduction::Mean),
        (3, None, Reduction::Min),
        (3, Some(1.0), Reduction::Max),
    ] {
        let contract = contract(6, 2);
        let graph = discriminator(&contract, members, clip, reduction);
        let name = format!("discriminator_{members}_{reduction:?}_{}", clip.is_some());
        cases.push(discriminator_case(folder, &name, &contract, graph));
    }
    cases
}

#[test]
fn onnxruntime_computes_what_the_native_engine_computes() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (report, equal) = check(&python, folder.path(), &cases(folder.path()));
    println!("{report}");
    assert!(equal, "{report:#}");
    assert_eq!(report["cases"], 17);
}

#[test]
fn the_comparison_notices_a_thousandth() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut cases = cases(folder.path());
    // Of every file one number is off, in another row each time.
    for (index, case) in cases.iter_mut().enumerate() {
        let value = &mut case["expected"][index][0];
        let exact = value.as_f64().unwrap();
        *value = (exact + 1e-3 * (1.0 + exact.abs())).into();
        case["tolerance"][index] = case["tolerance"][index].as_array().unwrap().iter().map(|_| 1e-5).collect();
    }
    let (report, equal) = check(&python, folder.path(), &cases);
    assert!(!equal);
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), cases.len(), "{report:#}");
    for (index, failure) in failures.iter().enumerate() {
        let place = format!("in row {index}, column 0");
        let failure = failure.as_str().unwrap();
        assert!(failure.contains(&place) && failure.contains("times the tolerance"), "{failure}");
    }
}

//! ONNX files and bundles: written, read back, lowered, executed by both engines, and refused when they are not right.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod onnx_support;

use std::fs;
use std::path::Path;

use export::{BundleContents, onnx_discriminator, onnx_policy, write_bundle};
use onnx_support::{Wide, act, bundle, contract, demonstrations, discriminator, judge, policy};
use policy_runtime::bundle::{Bundle, MANIFEST_FILE, POLICY_FILE};
use policy_runtime::onnx::Model;
use policy_runtime::probe::{Demonstrations, Draws, probes};
use policy_runtime::selfcheck::ProbeKind;
use policy_runtime::spec::{Activation, Reduction, Squash};
use policy_runtime::{Discriminator, EngineChoice, Error, Fault, Kind, Observation, Policy, Verdict};

const ENGINES: [EngineChoice; 2] = [EngineChoice::Native, EngineChoice::Tract];
const ACTIVATIONS: [Activation; 6] =
    [Activation::Identity, Activation::Relu, Activation::Tanh, Activation::Sigmoid, Activation::Silu, Activation::Elu];

#[test]
fn a_policy_survives_onnx_exactly() {
    let contract = contract(7, 3);
    for (seed, activation) in ACTIVATIONS.into_iter().enumerate() {
        for (squash, normalized) in [(Squash::Tanh, true), (Squash::None, false)] {
            let graph = policy(&contract, activation, squash, normalized, seed as u64);
            let model = Model::parse(&onnx_policy(&graph, &contract).unwrap()).unwrap();
            assert_eq!(model.lower_policy(), Ok(graph), "{activation:?} {squash:?}");
            assert_eq!(model.contract().unwrap(), Some(contract.clone()));
            assert_eq!(model.opset(), 17);
        }
    }
}

#[test]
fn a_discriminator_survives_onnx_exactly() {
    let contract = contract(7, 3);
    for (members, clip, reduction) in [
        (1, None, Reduction::Mean),
        (1, Some(2.0), Reduction::Mean),
        (4, Some(1.0), Reduction::Min),
        (7, None, Reduction::Max),
    ] {
        let graph = discriminator(&contract, members, clip, reduction);
        let model = Model::parse(&onnx_discriminator(&graph, &contract).unwrap()).unwrap();
        assert_eq!(model.lower_discriminator(), Ok(graph), "{members} members");
    }
}

#[test]
fn both_engines_give_what_f64_gives() {
    let contract = contract(7, 3);
    let rows = probes(&contract, &demonstrations(&contract, 30), 50, 3);
    for (seed, activation) in ACTIVATIONS.into_iter().enumerate() {
        let graph = policy(&contract, activation, Squash::Tanh, true, seed as u64);
        let bytes = onnx_policy(&graph, &contract).unwrap();
        let judge_graph = discriminator(&contract, 3, Some(1.5), Reduction::Max);
        let judge_bytes = onnx_discriminator(&judge_graph, &contract).unwrap();
        for engine in ENGINES {
            let mut policy = Policy::from_onnx(&bytes, engine).unwrap();
            let mut discriminator = Discriminator::from_onnx(&judge_bytes, engine).unwrap();
            assert_eq!(policy.engine_name(), engine.to_string());
            let mut scales = Policy::from_graph(contract.clone(), graph.clone()).unwrap();
            let mut action = [0.0; 3];
            for probe in &rows {
                let observation = Observation { values: &probe.observation, stamp_nanos: 0 };
                assert_eq!(scales.step(0, &observation, &mut action), Verdict::Good);
                let scale = scales.activation_scale().unwrap().max(1.0);
                assert_eq!(policy.step(0, &observation, &mut action), Verdict::Good);
                for (found, wanted) in action.iter().zip(act(&graph, &probe.observation)) {
                    let tolerance = 1e-5 * scale * 3.0;
                    assert!((found - wanted).abs() <= tolerance, "{activation:?} in {engine}: {found} {wanted}");
                }
                let reward = discriminator.reward(&probe.observation, &probe.action).unwrap();
                let wanted = judge(&judge_graph, &probe.observation, &probe.action);
                assert!((reward - wanted).abs() <= 1e-5 * 100.0, "{engine}: {reward} {wanted}");
            }
        }
    }
}

#[test]
fn a_bundle_is_written_verified_and_played() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let read = Bundle::open(&path).unwrap();
    let compared: Vec<&str> = read.manifest.agreement.iter().map(|agreement| agreement.right.as_str()).collect();
    let files = [
        "policy.onnx in native",
        "discriminator.onnx in native",
        "policy.onnx in tract",
        "discriminator.onnx in tract",
    ];
    assert_eq!(compared, [["native", "native", "policy.hpb"].as_slice(), &files].concat());
    assert!(read.manifest.agreement.iter().all(|a| a.rows > 290 && a.largest_share_of_tolerance <= 1.0));
    assert_eq!(read.manifest.golden.len(), 24);
    let blobs: Vec<_> = read.manifest.embedded.iter().map(|it| (it.file.as_str(), it.rows, it.width)).collect();
    assert_eq!(blobs, [("policy.hpb", 40, 32), ("policy-int8.hpb", 40, 32)]);
    let measured: Vec<_> = read.manifest.embedded.iter().map(|it| it.measured_on).collect();
    assert_eq!(measured, [ProbeKind::Demonstration; 2], "on demonstrations where there are some");
    let errors: Vec<_> = read.manifest.embedded.iter().map(|it| it.largest_error).collect();
    assert!(errors[0] < 1e-6 && errors[1] > 1e-4 && errors[1] < 0.1, "{errors:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the bundle is left");

    for engine in ENGINES {
        let mut policy = Policy::load(&path, engine).unwrap();
        assert_eq!(policy.golden_agreement().unwrap().rows, 24);
        let golden = &read.manifest.golden[0];
        let mut action = [0.0; 3];
        let observation = Observation { values: &golden.observation, stamp_nanos: 0 };
        assert!(policy.step(0, &observation, &mut action).is_good());
        let mut discriminator = Discriminator::load(&path, engine).unwrap().unwrap();
        let judged = golden.judgement.as_ref().unwrap();
        assert!((discriminator.reward(&golden.observation, &judged.action).unwrap() - judged.reward).abs() < 1e-4);
    }
    assert_eq!(Policy::load(&path, EngineChoice::Auto).unwrap().engine_name(), "native");
}

#[test]
fn a_step_answers_bad_input_with_the_fallback() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    for engine in ENGINES {
        let mut policy = Policy::load(&path, engine).unwrap();
        let good = [0.1; 11];
        let mut action = [f32::NAN; 3];
        let mut step =
            |values: &[f32], action: &mut [f32]| policy.step(0, &Observation { values, stamp_nanos: 0 }, action);
        assert_eq!(
            step(&good[..10], &mut action),
            Verdict::Fallback(Fault::ObservationWidth { expected: 11, found: 10 })
        );
        assert_eq!(action, [0.0; 3], "nothing to hold yet");
        assert!(step(&good, &mut action).is_good());
        let held = action;
        let mut bad = good;
        bad[4] = f32::NAN;
        action = [f32::NAN; 3];
        assert_eq!(step(&bad, &mut action), Verdict::Fallback(Fault::ObservationNotFinite { index: 4 }));
        assert_eq!(action, held);
        let mut short = [f32::NAN; 2];
        assert_eq!(step(&good, &mut short), Verdict::Fallback(Fault::ActionWidth { expected: 3, found: 2 }));
        assert_eq!(short, held[..2]);
    }
}

#[test]
fn a_disagreement_writes_nothing_and_keeps_the_old_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let before = fs::read(path.join(MANIFEST_FILE)).unwrap();
    let contract = contract(11, 3);
    let graph = policy(&contract, Activation::Relu, Squash::Tanh, true, 2);
    let contents = BundleContents {
        contract: &contract,
        policy: &graph,
        discriminator: None,
        demonstrations: &Demonstrations::default(),
        provenance: serde_json::Value::Null,
        training: serde_json::Value::Null,
    };
    let mut reference = Wide { policy: &graph, discriminator: None, error: 1e-3 };
    let error = write_bundle(&path, &contents, &mut reference).unwrap_err();
    assert_eq!(error.kind(), Kind::Verification);
    let message = error.to_string();
    assert!(message.contains("training and native disagree on channel \"torque_0\""), "{message}");
    assert_eq!(fs::read(path.join(MANIFEST_FILE)).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    reference.error = 0.0;
    write_bundle(&path, &contents, &mut reference).unwrap();
    assert_ne!(fs::read(path.join(MANIFEST_FILE)).unwrap(), before, "replaced");
    assert!(Discriminator::load(&path, EngineChoice::Auto).unwrap().is_none());
    let embedded = Bundle::open(&path).unwrap().manifest.embedded;
    assert!(embedded.len() == 2 && embedded.iter().all(|it| it.measured_on == ProbeKind::Random && it.rows > 0));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_bundle_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    let contract = contract(4, 1);
    let graph = policy(&contract, Activation::Relu, Squash::Tanh, false, 2);
    let contents = BundleContents {
        contract: &contract,
        policy: &graph,
        discriminator: None,
        demonstrations: &Demonstrations::default(),
        provenance: serde_json::Value::Null,
        training: serde_json::Value::Null,
    };
    let mut reference = Wide { policy: &graph, discriminator: None, error: 0.0 };
    let error = write_bundle(folder.path(), &contents, &mut reference).unwrap_err();
    assert!(matches!(error, export::Error::NotABundle { .. }), "{error}");
    assert!(folder.path().join("thesis.tex").exists());
}

#[test]
fn networks_that_do_not_fit_are_not_exported() {
    let contract = contract(4, 1);
    let mut graph = policy(&contract, Activation::Relu, Squash::Tanh, false, 2);
    let other = onnx_support::contract(5, 1);
    let message = onnx_policy(&graph, &other).unwrap_err().to_string();
    assert!(message.contains("width of `observation`; expected 5"), "{message}");
    graph.mlp.layers[1].weights[3] = f32::NAN;
    let error = onnx_policy(&graph, &contract).unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.to_string().contains("layer 1 weights at index 3; expected a finite number; found NaN"), "{error}");
}

fn spoiled(spoil: impl Fn(&Path)) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    spoil(&path);
    let error = Policy::load(&path, EngineChoice::Auto).unwrap_err();
    assert!(!error.to_string().is_empty());
    error
}

fn edit_manifest(path: &Path, edit: impl Fn(&mut serde_json::Value)) {
    let file = path.join(MANIFEST_FILE);
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edit(&mut manifest);
    fs::write(file, manifest.to_string()).unwrap();
}

#[test]
fn altered_and_truncated_files_are_named() {
    let error = spoiled(|path| {
        let file = path.join(POLICY_FILE);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    });
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    let error = spoiled(|path| {
        let file = path.join(POLICY_FILE);
        let bytes = fs::read(&file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    let error = spoiled(|path| fs::remove_file(path.join(POLICY_FILE)).unwrap());
    assert!(matches!(error, Error::File { .. }) && error.kind() == Kind::Data, "{error}");
    let error = spoiled(|path| {
        let file = path.join(MANIFEST_FILE);
        let text = fs::read(&file).unwrap();
        fs::write(file, &text[..text.len() / 2]).unwrap();
    });
    assert!(error.to_string().contains("manifest.json") && error.kind() == Kind::Data, "{error}");
}

#[test]
fn manifests_that_do_not_fit_are_refused() {
    let error = spoiled(|path| edit_manifest(path, |manifest| manifest["format_version"] = 2.into()));
    assert!(error.to_string().contains("found hype-bundle version 2"), "{error}");
    let error = spoiled(|path| edit_manifest(path, |manifest| manifest["contract"]["task"] = "walker2d".into()));
    assert!(error.to_string().contains("expected the manifest's contract"), "{error}");
    let error = spoiled(|path| edit_manifest(path, |manifest| manifest["golden"] = serde_json::json!([])));
    assert!(error.to_string().contains("golden"), "{error}");
    let error = spoiled(|path| {
        edit_manifest(path, |manifest| {
            let action = &mut manifest["golden"][3]["action"][1];
            *action = (action.as_f64().unwrap() + 1e-3).into();
        });
    });
    assert_eq!(error.kind(), Kind::Verification, "{error}");
    assert!(error.to_string().contains("torque_1") && error.to_string().contains("input 3"), "{error}");
    let error = spoiled(|path| {
        edit_manifest(path, |manifest| manifest["golden"][0]["observation"].as_array_mut().unwrap().truncate(2));
    });
    assert!(error.to_string().contains("golden vector 0: observation; expected 11 numbers; found 2"), "{error}");
    let error = spoiled(|path| {
        edit_manifest(path, |manifest| {
            manifest["files"]["../../etc/passwd"] = manifest["files"]["policy.onnx"].clone()
        });
    });
    assert!(error.to_string().contains("etc/passwd"), "{error}");
}

/// Loads damaged bytes every way there is; errors are fine, panics and endless work are not.
fn load_every_way(bytes: &[u8]) {
    let _ = Policy::from_onnx(bytes, EngineChoice::Native);
    let _ = Policy::from_onnx(bytes, EngineChoice::Tract);
    let _ = Discriminator::from_onnx(bytes, EngineChoice::Native);
    let _ = policy_runtime::bundle::Manifest::from_json(bytes);
    let _ = policy_runtime::Contract::from_json(&String::from_utf8_lossy(bytes));
}

#[test]
fn damaged_bytes_never_panic() {
    let contract = contract(3, 2);
    let graph = policy(&contract, Activation::Silu, Squash::Tanh, true, 2);
    let mut sources = vec![
        onnx_policy(&graph, &contract).unwrap(),
        onnx_discriminator(&discriminator(&contract, 2, Some(1.0), Reduction::Min), &contract).unwrap(),
    ];
    let folder = tempfile::tempdir().unwrap();
    sources.push(fs::read(bundle(folder.path()).join(MANIFEST_FILE)).unwrap());
    let mut draws = Draws::new(11);
    for round in 0..2000 {
        let source = &sources[round % sources.len()];
        let mut bytes = source.clone();
        let mut place = |len: usize| (draws.next_u64() % len as u64) as usize;
        match round % 4 {
            0 => bytes.truncate(place(source.len())),
            1 => bytes = (0..place(400)).map(|_| place(256) as u8).collect(),
            _ => {
                for _ in 0..=place(4) {
                    let at = place(bytes.len());
                    bytes[at] = place(256) as u8;
                }
            }
        }
        load_every_way(&bytes);
    }
}

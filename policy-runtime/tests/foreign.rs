//! Other people's policies, as `tests/python/foreign_policies.py --record` wrote them: real exporters' files, with inputs and what
//! onnxruntime computed from them, state carried.

#![cfg(feature = "onnx")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod counting;

use std::collections::BTreeMap;
use std::path::PathBuf;

use counting::allocations_in;
use policy_runtime::array::Numbers;
use policy_runtime::engine::layout::{Layout, LayoutOptions, Role};
use policy_runtime::engine::session::{Session, SessionOptions};
use policy_runtime::onnx::Model;
use policy_runtime::swap::{Handover, prepare, swap_line};
use policy_runtime::{Controller, EngineChoice, Fault, Observation, Policy, Verdict};
use serde::Deserialize;

// To record them again: tests/python/foreign_policies.py FOLDER --record policy-runtime/tests/foreign

/// Greatest difference, as a share of the larger of 1 and the output's magnitude.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Case {
    file: String,
    family: String,
    sha256: String,
    action: String,
    states: Vec<String>,
    #[serde(rename = "inputs")]
    input_names: Vec<String>,
    /// By name, steps one after the other.
    #[serde(skip)]
    inputs: BTreeMap<String, Vec<f32>>,
    outputs: BTreeMap<String, Vec<f32>>,
}

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

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign"))
}

fn vectors() -> Vectors {
    let mut vectors: Vectors = serde_json::from_slice(&std::fs::read(folder().join("vectors.json")).unwrap()).unwrap();
    for case in &mut vectors.cases {
        let given = &vectors.inputs[&case.family];
        case.inputs = case.input_names.iter().map(|name| (name.clone(), given[name].clone())).collect();
    }
    vectors
}

fn bytes(case: &Case) -> Vec<u8> {
    let bytes = std::fs::read(folder().join(&case.file)).unwrap();
    assert_eq!(policy_runtime::files::sha256_hex(&bytes), case.sha256, "{}", case.file);
    bytes
}

/// Observation rows, the case's inputs side by side as the layout says.
fn observations(case: &Case, layout: &Layout, steps: usize) -> Vec<Vec<f32>> {
    let row = |step: usize| {
        let mut row = vec![0.0; layout.observation_width()];
        for piece in &layout.observation {
            let values = &case.inputs[&layout.inputs[piece.input].name];
            let count = values.len() / steps;
            let part = &values[step * count..][piece.at..piece.at + piece.len];
            row[piece.from..piece.from + piece.len].copy_from_slice(part);
        }
        row
    };
    (0..steps).map(row).collect()
}

fn close(found: &[f32], wanted: &[f32]) -> Result<(), String> {
    let scale = wanted.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    let worst = found.iter().zip(wanted).map(|(found, wanted)| (found - wanted).abs()).fold(0.0, f32::max);
    if found.len() == wanted.len() && worst <= TOLERANCE * scale { Ok(()) } else { Err(format!("off by {worst:e}")) }
}

fn policy(case: &Case, engine: EngineChoice) -> Policy {
    Policy::from_onnx(&bytes(case), engine).unwrap_or_else(|error| panic!("{}: {error}", case.file))
}

fn steps(policy: &mut Policy, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let step = |values: &Vec<f32>| {
        let mut action = vec![f32::NAN; policy.action_width()];
        assert!(policy.step(0, &Observation { values, stamp_nanos: 0 }, &mut action).is_good());
        action
    };
    rows.iter().map(step).collect()
}

fn recurrent(word: &str) -> Case {
    vectors().cases.into_iter().find(|case| case.file.starts_with(word)).unwrap()
}

#[test]
fn policies_give_onnxruntimes_actions_with_both_engines() {
    let Vectors { certificate, cases, .. } = vectors();
    let (mut native, mut wrong) = (0, Vec::new());
    for case in &cases {
        for engine in [EngineChoice::Auto, EngineChoice::Tract, EngineChoice::Deterministic] {
            let loaded = Policy::from_onnx(&bytes(case), engine);
            let mut policy = match loaded {
                Ok(policy) => policy,
                Err(error) if engine == EngineChoice::Deterministic => {
                    assert!(error.to_string().contains("use --engine tract"), "{}: {error}", case.file);
                    continue;
                }
                Err(error) => panic!("{}, {engine}: {error}", case.file),
            };
            native += usize::from(engine == EngineChoice::Auto && policy.engine_name() == "native");
            let layout = policy.layout().unwrap().clone();
            assert_eq!(layout.outputs[0], case.action, "{}", case.file);
            let states: Vec<&str> = layout.states().map(|(_, feed)| feed.name.as_str()).collect();
            assert_eq!(states, case.states, "{}", case.file);
            let rows = observations(case, &layout, certificate.steps);
            let found = steps(&mut policy, &rows).concat();
            wrong.extend(
                close(&found, &case.outputs[&case.action]).err().map(|why| format!("{} {engine}: {why}", case.file)),
            );
            policy.reset();
            assert_eq!(steps(&mut policy, &rows).concat(), found, "{}: reset starts again", case.file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{} files, {native} of them native", cases.len());
    assert!(cases.len() >= 50 && native >= 40, "{} files, {native} native", cases.len());
}

#[test]
fn sessions_give_every_deterministic_output() {
    let Vectors { certificate, cases, .. } = vectors();
    for case in &cases {
        let model = Model::parse(&bytes(case)).unwrap();
        let shapes = model.inputs().iter().filter(|input| case.inputs.contains_key(&input.name)).map(|input| {
            let shape = input.shape.as_ref().unwrap().iter().map(|length| length.unwrap_or(1)).collect();
            (input.name.clone(), shape)
        });
        let options = SessionOptions { shapes: shapes.collect(), ..SessionOptions::default() };
        let mut session = Session::new(&model, &options).unwrap();
        let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for step in 0..certificate.steps {
            for index in 0..session.inputs().len() {
                if let Some(values) = case.inputs.get(&session.inputs()[index].name) {
                    let count = values.len() / certificate.steps;
                    session.set(index, &Numbers::F32(values[step * count..][..count].to_vec())).unwrap();
                }
            }
            session.run().unwrap();
            for index in 0..session.outputs().len() {
                let numbers = session.result(index).unwrap().numbers.to_f64();
                found.entry(session.outputs()[index].clone()).or_default().extend(numbers);
            }
        }
        assert_eq!(found.keys().collect::<Vec<_>>(), case.outputs.keys().collect::<Vec<_>>(), "{}", case.file);
        for (name, wanted) in &case.outputs {
            let found: Vec<f32> = found[name].iter().map(|value| *value as f32).collect();
            close(&found, wanted).unwrap_or_else(|why| panic!("{} {name}: {why}", case.file));
        }
    }
}

#[test]
fn what_came_before_is_noticed() {
    let Vectors { certificate, cases, .. } = vectors();
    for case in cases.iter().filter(|case| !case.states.is_empty()) {
        let mut policy = policy(case, EngineChoice::Auto);
        let mut rows = observations(case, policy.layout().unwrap(), certificate.steps);
        rows[2].iter_mut().for_each(|value| *value += 1.0);
        let found = steps(&mut policy, &rows);
        let wanted = &case.outputs[&case.action];
        let last = wanted.len() - policy.action_width();
        assert!(close(&found[3], &wanted[last..]).is_err(), "{}: state carries what came before", case.file);
    }
}

#[test]
fn steps_with_state_allocate_nothing() {
    for word in ["rsl_rl_lstm-", "rsl_rl_gru-", "rsl_rl_lstm2-", "sb3_ppo-", "unity_memory-"] {
        let case = recurrent(word);
        let mut policy = policy(&case, EngineChoice::Native);
        let rows = observations(&case, policy.layout().unwrap(), 4);
        let mut action = vec![0.0; policy.action_width()];
        let calls = allocations_in(|| {
            for values in &rows {
                assert!(policy.step(0, &Observation { values, stamp_nanos: 0 }, &mut action).is_good());
            }
            policy.reset();
        });
        assert_eq!(calls, 0, "{word}");
    }
}

#[test]
fn a_swap_carries_state_of_the_same_shape_and_resets_any_other() {
    let (lstm, gru) = (recurrent("rsl_rl_lstm-legacy17"), recurrent("rsl_rl_gru-"));
    let mut reference = policy(&lstm, EngineChoice::Native);
    let rows = observations(&lstm, reference.layout().unwrap(), 4);
    let through = steps(&mut reference, &rows);
    let observe = |values| Observation { values, stamp_nanos: 0 };
    for (engine, handover, next, continues) in [
        (EngineChoice::Native, Handover::Carry, &lstm, true),
        (EngineChoice::Tract, Handover::Carry, &lstm, true),
        (EngineChoice::Native, Handover::Reset, &lstm, false),
        (EngineChoice::Native, Handover::Carry, &gru, false),
    ] {
        let (mut sender, port) = swap_line();
        let mut controller = Controller::without_contract(policy(&lstm, EngineChoice::Native)).with_swaps(port);
        controller.enter();
        let mut action = vec![0.0; through[0].len()];
        for values in &rows[..2] {
            assert!(controller.tick(0, Some(&observe(values)), &|| 0, &mut action).is_good());
        }
        assert_eq!(action, through[1]);
        let prepared = prepare(controller.policy(), policy(next, engine), &[], handover).unwrap();
        assert!(!sender.swap(prepared, || true));
        let _ = controller.tick(0, Some(&observe(&rows[2])), &|| 0, &mut action);
        let fresh = steps(&mut policy(next, engine), &rows[2..3]).concat();
        let wanted = if continues { &through[2] } else { &fresh };
        close(&action, wanted).unwrap_or_else(|why| panic!("{engine} {handover:?} {}: {why}", next.file));
        assert!(close(&fresh, &through[2]).is_err(), "the two can be told apart");
    }
}

#[test]
fn state_that_is_not_finite_is_set_back() {
    let case = recurrent("rsl_rl_gru-legacy17");
    let mut policy = policy(&case, EngineChoice::Native);
    let rows = observations(&case, policy.layout().unwrap(), 4);
    let fresh = steps(&mut policy, &rows);
    let mut action = vec![0.0; policy.action_width()];
    // Finite, so that it passes the checks, and too large for the normaliser: infinities become NaN in the state. (tract's own
    // sigmoid and tanh clamp what they get, so that its state stays finite.)
    let huge: Vec<f32> = (0..rows[0].len()).map(|index| if index % 2 == 0 { f32::MAX } else { -f32::MAX }).collect();
    let verdict = policy.step(0, &Observation { values: &huge, stamp_nanos: 0 }, &mut action);
    assert_eq!(verdict, Verdict::Fallback(Fault::Engine));
    policy.reset();
    let _ = policy.step(0, &Observation { values: &rows[0], stamp_nanos: 0 }, &mut action);
    let verdict = policy.step(0, &Observation { values: &huge, stamp_nanos: 0 }, &mut action);
    assert_eq!(verdict, Verdict::Fallback(Fault::Engine));
    assert_eq!(steps(&mut policy, &rows), fresh, "from a fresh state, without a reset by the caller");
}

#[test]
fn names_that_are_not_there_are_refused() {
    let case = recurrent("sb3_ppo-legacy17");
    let load = |action: &str, carry: &[(&str, &str)]| {
        let carry = carry.iter().map(|(input, output)| ((*input).to_owned(), (*output).to_owned())).collect();
        let options =
            LayoutOptions { action: (!action.is_empty()).then(|| action.into()), carry, ..LayoutOptions::default() };
        Policy::from_onnx_as(&bytes(&case), EngineChoice::Auto, &options)
    };
    assert_eq!(load("value", &[]).unwrap().action_width(), 1);
    assert!(load("values", &[]).unwrap_err().to_string().contains("\"log_prob\""));
    assert!(load("", &[("input", "h")]).unwrap_err().to_string().contains("--carry input=h"));
    let error = load("", &[("input", "value")]).unwrap_err().to_string();
    assert!(error.contains("state \"input\"") || error.contains("an input that the action depends on"), "{error}");

    let unity = recurrent("unity-legacy17");
    let options = LayoutOptions { action: Some("continuous_actions".into()), ..LayoutOptions::default() };
    let error = Policy::from_onnx_as(&bytes(&unity), EngineChoice::Auto, &options).unwrap_err();
    assert!(error.to_string().contains("depends on random numbers"), "{error}");
    let policy = Policy::from_onnx(&bytes(&unity), EngineChoice::Auto).unwrap();
    let layout = policy.layout().unwrap();
    assert!(layout.left_out.contains(&("continuous_actions".into(), "drawn at random")), "{layout:?}");
    assert!(layout.inputs.iter().all(|feed| feed.role == Role::Observation));
}

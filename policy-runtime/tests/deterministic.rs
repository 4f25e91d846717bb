//! The host's deterministic engine gives the bits of the blob that runs on a microcontroller, with every set of
//! instructions that this machine has.

#![cfg(feature = "std")]
#![allow(clippy::unwrap_used)]

#[cfg(feature = "onnx")]
mod recurrent_onnx;

use policy_runtime::embedded::Precision;
use policy_runtime::embedded::heap::BlobFile;
use policy_runtime::embedded::write::{Network, blob};
use policy_runtime::engine::native::NativePolicy;
use policy_runtime::probe::Draws;
use policy_runtime::safety::GuardRules;
use policy_runtime::spec::{Activation, Affine, Clamp, Dense, Mlp, Normalizer, Squash};
use policy_runtime::{Channel, Contract, EngineChoice, Fallback, Kernels, PolicyGraph};

fn row(draws: &mut Draws, length: usize, spread: f32) -> Vec<f32> {
    (0..length).map(|_| spread * draws.normal()).collect()
}

/// A policy with these widths, first to last.
fn graph(widths: &[usize], activation: Activation, squash: Squash, normalized: bool, draws: &mut Draws) -> PolicyGraph {
    let last = widths.len() - 2;
    let mut layer = |index: usize| {
        let (inputs, outputs) = (widths[index], widths[index + 1]);
        let activation = if index == last { Activation::Identity } else { activation };
        let weights = row(draws, inputs * outputs, (2.0 / inputs as f32).sqrt());
        Dense { inputs, outputs, weights, bias: row(draws, outputs, 0.3), activation }
    };
    let layers = (0..=last).map(&mut layer).collect();
    let (observation, action) = (widths[0], widths[last + 1]);
    PolicyGraph {
        normalizer: normalized.then(|| Normalizer {
            mean: row(draws, observation, 0.5),
            std: (0..observation).map(|_| 0.1 + draws.unit()).collect(),
        }),
        mlp: Mlp { layers },
        squash,
        affine: Affine { scale: (0..action).map(|_| 0.5 + draws.unit()).collect(), offset: row(draws, action, 0.3) },
        clamp: Some(Clamp { low: vec![-0.9; action], high: vec![0.8; action] }),
    }
}

fn contract(graph: &PolicyGraph) -> Contract {
    let channels = |count: usize, channel: fn(usize) -> Channel| (0..count).map(channel).collect();
    Contract {
        task: "test".into(),
        observation: channels(graph.observation_width(), |index| Channel::unbounded(format!("angle_{index}"), "rad")),
        action: channels(graph.action_width(), |index| Channel::bounded(format!("torque_{index}"), "N*m", -1.0, 1.0)),
        control_period_secs: 0.01,
        fallback: Fallback::Zero,
        max_observation_age_secs: None,
        guards: GuardRules::default(),
    }
}

fn blob_of(graph: &PolicyGraph, draws: &mut Draws) -> BlobFile {
    let golden = row(draws, graph.observation_width(), 1.0);
    blob(&contract(graph), &Network::from_graph(graph).unwrap(), Precision::F32, [0; 32], &[&golden]).unwrap()
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_deterministic_engine_gives_the_bits_of_the_blob() {
    let mut draws = Draws::new(41);
    let shapes: [&[usize]; 8] = [
        &[1, 1],
        &[3, 7, 2],
        &[11, 256, 256, 3],
        &[17, 33, 64, 6],
        &[45, 31, 30, 29, 17],
        &[5, 128, 1],
        &[376, 65, 17],
        &[8, 1, 100, 9],
    ];
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Silu,
        Activation::Elu,
    ];
    let mut differs = false;
    for (index, (shape, activation)) in
        shapes.iter().flat_map(|shape| activations.map(|activation| (shape, activation))).enumerate()
    {
        let squash = if index % 2 == 0 { Squash::Tanh } else { Squash::None };
        let graph = graph(shape, activation, squash, index % 3 > 0, &mut draws);
        let file = blob_of(&graph, &mut draws);
        let mut board = file.open().unwrap();
        let numerics = EngineChoice::Deterministic.numerics();
        let engine = |kernels| NativePolicy::with(graph.clone(), kernels, numerics).unwrap();
        let mut engines: Vec<NativePolicy> = Kernels::available().map(engine).collect();
        let mut fast = NativePolicy::new(graph.clone()).unwrap();
        let mut wanted = vec![0.0; graph.action_width()];
        let mut found = wanted.clone();
        for step in 0..20 {
            // Small, usual and far outside, where functions end and sums cancel.
            let spread = [1.0, 1.0, 1e-3, 30.0, 1e4][step % 5];
            let observation = row(&mut draws, graph.observation_width(), spread);
            board.run(&observation, &mut wanted).unwrap();
            for engine in &mut engines {
                engine.run(&observation, &mut found).unwrap();
                let kernels = engine.kernels().name();
                assert_eq!(bits(&found), bits(&wanted), "{kernels} {shape:?} {activation:?} {found:?} {wanted:?}");
            }
            fast.run(&observation, &mut found).unwrap();
            differs |= bits(&found) != bits(&wanted);
        }
    }
    // Otherwise nothing here could have told one order of operations from another.
    assert!(differs || Kernels::detect() == Kernels::PLAIN, "the fast engine gives the same bits everywhere");
}

#[test]
fn one_altered_weight_is_seen() {
    let mut draws = Draws::new(42);
    let mut graph = graph(&[6, 20, 2], Activation::Relu, Squash::Tanh, true, &mut draws);
    let file = blob_of(&graph, &mut draws);
    let weight = &mut graph.mlp.layers[1].weights[0];
    *weight = f32::from_bits(weight.to_bits() ^ 0x1000);
    let mut engine = NativePolicy::with(graph, Kernels::detect(), EngineChoice::Deterministic.numerics()).unwrap();
    let mut board = file.open().unwrap();
    let seen = (0..20).any(|_| {
        let observation = row(&mut draws, 6, 1.0);
        let (mut wanted, mut found) = ([0.0; 2], [0.0; 2]);
        board.run(&observation, &mut wanted).unwrap();
        engine.run(&observation, &mut found).unwrap();
        bits(&found) != bits(&wanted)
    });
    assert!(seen);
}

/// Where the blob and the file's policy give other bits, over many steps from fresh states.
#[cfg(feature = "onnx")]
fn differences(bytes: &[u8], choice: EngineChoice, draws: &mut Draws) -> usize {
    let mut policy = policy_runtime::Policy::from_onnx(bytes, choice).unwrap();
    assert_eq!((policy.engine_name(), policy.is_recurrent()), ("native", true));
    let network = policy_runtime::onnx::Model::parse(bytes).unwrap().lower_network().unwrap();
    let (observation, action) = (policy.observation_width(), policy.action_width());
    let channels = |count: usize, channel: fn(usize) -> Channel| (0..count).map(channel).collect();
    let contract = Contract {
        task: "test".into(),
        observation: channels(observation, |index| Channel::unbounded(format!("angle_{index}"), "rad")),
        action: channels(action, |index| Channel::bounded(format!("torque_{index}"), "N*m", -9.0, 9.0)),
        control_period_secs: 0.01,
        fallback: Fallback::Zero,
        max_observation_age_secs: None,
        guards: GuardRules::default(),
    };
    let golden = row(draws, observation, 1.0);
    let file = blob(&contract, &network, Precision::F32, [0; 32], &[&golden]).unwrap();
    let mut board = file.open().unwrap();
    let (mut wanted, mut found) = (vec![0.0; action], vec![0.0; action]);
    let mut differences = 0;
    for step in 0..40 {
        let values = row(draws, observation, [1.0, 1.0, 1e-3, 30.0][step % 4]);
        board.run(&values, &mut wanted).unwrap();
        policy.propose(0, &policy_runtime::Observation { values: &values, stamp_nanos: 0 }, &mut found).unwrap();
        differences += bits(&found).iter().zip(bits(&wanted)).filter(|(found, wanted)| **found != *wanted).count();
    }
    differences
}

#[cfg(feature = "onnx")]
#[test]
fn recurrent_layers_have_the_bits_of_the_blob() {
    use recurrent_onnx::RecurrentFile;
    let mut draws = Draws::new(43);
    let mut differs = false;
    for kind in ["LSTM", "GRU"] {
        for hidden in [vec![9], vec![64], vec![17, 12]] {
            for (bias, apart) in [(true, false), (true, true), (false, false)] {
                let file = RecurrentFile { kind, hidden: hidden.clone(), bias, apart, ..RecurrentFile::default() };
                let bytes = file.bytes(&mut draws);
                assert_eq!(differences(&bytes, EngineChoice::Deterministic, &mut draws), 0, "{file:?}");
                differs |= differences(&bytes, EngineChoice::Auto, &mut draws) > 0;
            }
        }
    }
    assert!(differs || Kernels::detect() == Kernels::PLAIN, "the fast engine gives the same bits everywhere");
}

#[cfg(feature = "onnx")]
#[test]
fn other_peoples_recurrent_policies_have_the_bits_of_the_blob() {
    let mut draws = Draws::new(44);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if ["rsl_rl_lstm-", "rsl_rl_lstm2-", "rsl_rl_gru-"].iter().any(|word| name.starts_with(word)) {
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(differences(&bytes, EngineChoice::Deterministic, &mut draws), 0, "{name}");
            files += 1;
        }
    }
    assert!(files >= 6, "{files} files");
}

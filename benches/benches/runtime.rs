//! One step of a policy in both engines, and in the native one's deterministic form, guards included.
//!
//! Ids are `ENGINE/OBSERVATION-HIDDEN-HIDDEN-ACTION`. Weights have the variance of a trained network's; their values do not
//! change the work.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use policy_runtime::probe::{Demonstrations, Draws, probes};
use policy_runtime::spec::{Activation, Dense, Squash};
use policy_runtime::{Channel, Contract, EngineChoice, Fallback, Observation, Policy, PolicyGraph};

const SIZES: [[usize; 4]; 2] = [[17, 256, 256, 6], [376, 256, 256, 17]];

fn contract(observation: usize, action: usize) -> Contract {
    Contract {
        task: "bench".into(),
        observation: (0..observation).map(|index| Channel::unbounded(format!("o{index}"), "1")).collect(),
        action: (0..action).map(|index| Channel::bounded(format!("a{index}"), "1", -1.0, 1.0)).collect(),
        control_period_secs: 0.002,
        fallback: Fallback::Zero,
        max_observation_age_secs: None,
        guards: Default::default(),
    }
}

fn graph(contract: &Contract, widths: &[usize]) -> PolicyGraph {
    let mut draws = Draws::new(1);
    let layer = |pair: &[usize]| Dense {
        inputs: pair[0],
        outputs: pair[1],
        weights: (0..pair[0] * pair[1]).map(|_| (2.0 / pair[0] as f32).sqrt() * draws.normal()).collect(),
        bias: vec![0.1; pair[1]],
        activation: Activation::Relu,
    };
    let mut layers: Vec<Dense> = widths.windows(2).map(layer).collect();
    layers.last_mut().unwrap().activation = Activation::Identity;
    PolicyGraph::for_contract(contract, None, layers, Squash::Tanh).unwrap()
}

fn step(criterion: &mut Criterion) {
    for widths in SIZES {
        let contract = contract(widths[0], widths[3]);
        let bytes = export::onnx_policy(&graph(&contract, &widths), &contract).unwrap();
        let rows = probes(&contract, &Demonstrations::default(), 64, 1);
        for engine in [EngineChoice::Native, EngineChoice::Deterministic, EngineChoice::Tract] {
            let mut policy = Policy::from_onnx(&bytes, engine).unwrap();
            let mut action = vec![0.0; widths[3]];
            let mut rows = rows.iter().cycle();
            let id = format!("{engine}/{}", widths.map(|width| width.to_string()).join("-"));
            criterion.bench_function(&id, |bencher| {
                bencher.iter(|| {
                    let values = &rows.next().unwrap().observation;
                    let observation = Observation { values: black_box(values), stamp_nanos: 0 };
                    let verdict = policy.step(0, &observation, black_box(&mut action));
                    assert!(verdict.is_good());
                });
            });
        }
    }
}

criterion_group!(benches, step);
criterion_main!(benches);

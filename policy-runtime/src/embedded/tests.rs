use super::heap::BlobFile;
use super::write::{Network, Part, Recurrent, blob};
use super::*;
use crate::contract::{Channel, Contract};
use crate::engine::native::NativePolicy;
use crate::error::Error;
use crate::guard::Fallback;
use crate::kernel::Activation;
use crate::probe::Draws;
use crate::safety::{DamperRule, GuardRules};
use crate::spec::{Affine, Clamp, Dense, Normalizer, PolicyGraph, Squash};

pub(super) fn contract(observation: usize, action: usize) -> Contract {
    let channel = |index: usize| match index % 2 {
        0 => Channel::unbounded(format!("velocity_{index}"), "rad/s"),
        _ => Channel::bounded(format!("angle_{index}"), "rad", -9.0, 9.0),
    };
    Contract {
        task: "test".into(),
        observation: (0..observation).map(channel).collect(),
        action: (0..action).map(|index| Channel::bounded(format!("torque_{index}"), "N*m", -1.0, 2.0)).collect(),
        control_period_secs: 0.008,
        fallback: Fallback::Damping,
        max_observation_age_secs: Some(0.02),
        guards: GuardRules {
            dampers: [("torque_0".into(), DamperRule { velocity: "velocity_0".into(), gain: 0.5 })].into(),
            max_rate_per_sec: [("torque_0".into(), 125.0)].into(),
            ..GuardRules::default()
        },
    }
}

fn row(draws: &mut Draws, length: usize, spread: f32) -> Vec<f32> {
    (0..length).map(|_| spread * draws.normal()).collect()
}

pub(super) fn dense(inputs: usize, outputs: usize, activation: Activation, draws: &mut Draws) -> Dense {
    let weights = row(draws, inputs * outputs, (2.0 / inputs as f32).sqrt());
    Dense { inputs, outputs, weights, bias: row(draws, outputs, 0.1), activation }
}

pub(super) fn recurrent(gates: usize, inputs: usize, hidden: usize, draws: &mut Draws) -> Recurrent {
    let spread = 1.0 / (hidden as f32).sqrt();
    Recurrent {
        inputs,
        hidden,
        weight_ih: row(draws, gates * hidden * inputs, spread),
        weight_hh: row(draws, gates * hidden * hidden, spread),
        bias_ih: row(draws, gates * hidden, spread),
        bias_hh: row(draws, gates * hidden, spread),
    }
}

pub(super) fn network(observation: usize, action: usize, parts: Vec<Part>, draws: &mut Draws) -> Network {
    Network {
        normalizer: Some(Normalizer {
            mean: row(draws, observation, 0.5),
            std: (0..observation).map(|_| 0.5 + draws.unit()).collect(),
        }),
        parts,
        squash: Squash::Tanh,
        affine: Affine { scale: vec![1.5; action], offset: vec![0.5; action] },
        clamp: Clamp { low: vec![-1.0; action], high: vec![1.75; action] },
    }
}

pub(super) fn kinds(draws: &mut Draws) -> Vec<Network> {
    let head = |inputs, draws: &mut Draws| Part::Dense(dense(inputs, 3, Activation::Identity, draws));
    let mut networks = Vec::new();
    for (width, activation) in
        [(1, Activation::Relu), (15, Activation::Tanh), (16, Activation::Silu), (30, Activation::Elu)]
    {
        let first = Part::Dense(dense(5, width, activation, draws));
        networks.push(vec![first, head(width, draws)]);
    }
    networks.push(vec![Part::Lstm(recurrent(4, 5, 9, draws)), head(9, draws)]);
    networks.push(vec![Part::Gru(recurrent(3, 5, 6, draws)), Part::Gru(recurrent(3, 6, 7, draws)), head(7, draws)]);
    networks.into_iter().map(|parts| network(5, 3, parts, draws)).collect()
}

pub(super) fn written(network: &Network, precision: Precision, draws: &mut Draws) -> BlobFile {
    let rows: Vec<_> = (0..4).map(|_| row(draws, 5, 1.0)).collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    blob(&contract(5, 3), network, precision, [7; 32], &rows).unwrap()
}

/// One network in f64, written from the layers' definitions, with its recurrent state.
struct Wide<'a> {
    network: &'a Network,
    states: Vec<(Vec<f64>, Vec<f64>)>,
}

impl<'a> Wide<'a> {
    fn new(network: &'a Network) -> Self {
        let state = |part: &Part| match part {
            Part::Dense(_) => (vec![], vec![]),
            Part::Lstm(it) | Part::Gru(it) => (vec![0.0; it.hidden], vec![0.0; it.hidden]),
        };
        Self { network, states: network.parts.iter().map(state).collect() }
    }

    #[allow(clippy::needless_range_loop, reason = "gates are numbered as in the definition")]
    fn act(&mut self, observation: &[f32]) -> Vec<f64> {
        let Normalizer { mean, std } = self.network.normalizer.as_ref().unwrap();
        let mut values: Vec<f64> = (observation.iter().zip(mean).zip(std))
            .map(|((x, mean), std)| (f64::from(*x) - f64::from(*mean)) / f64::from(*std))
            .collect();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for (part, (h, c)) in self.network.parts.iter().zip(&mut self.states) {
            let gate = |it: &Recurrent, x: &[f64], h: &[f64], j: usize| -> (f64, f64) {
                let of = |weights: &[f32], bias: &[f32], x: &[f64]| -> f64 {
                    let row = &weights[j * x.len()..(j + 1) * x.len()];
                    f64::from(bias[j]) + row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>()
                };
                (of(&it.weight_ih, &it.bias_ih, x), of(&it.weight_hh, &it.bias_hh, h))
            };
            values = match part {
                Part::Dense(layer) => (0..layer.outputs)
                    .map(|j| {
                        let sum: f64 = (values.iter().enumerate())
                            .map(|(i, x)| f64::from(layer.weights[i * layer.outputs + j]) * x)
                            .sum();
                        let x = sum + f64::from(layer.bias[j]);
                        match layer.activation {
                            Activation::Relu => x.max(0.0),
                            Activation::Tanh => x.tanh(),
                            Activation::Silu => x * sigmoid(x),
                            Activation::Elu if x < 0.0 => x.exp() - 1.0,
                            _ => x,
                        }
                    })
                    .collect(),
                Part::Lstm(it) => {
                    let old = h.clone();
                    for k in 0..it.hidden {
                        let sum = |gate_index: usize| {
                            let (a, b) = gate(it, &values, &old, gate_index * it.hidden + k);
                            a + b
                        };
                        c[k] = sigmoid(sum(1)) * c[k] + sigmoid(sum(0)) * sum(2).tanh();
                        h[k] = sigmoid(sum(3)) * c[k].tanh();
                    }
                    h.clone()
                }
                Part::Gru(it) => {
                    let old = h.clone();
                    for k in 0..it.hidden {
                        let sums = |gate_index: usize| gate(it, &values, &old, gate_index * it.hidden + k);
                        let (reset, update) = (sums(0), sums(1));
                        let (reset, update) = (sigmoid(reset.0 + reset.1), sigmoid(update.0 + update.1));
                        let (of_input, of_state) = sums(2);
                        h[k] = (1.0 - update) * (of_input + reset * of_state).tanh() + update * h[k];
                    }
                    h.clone()
                }
            };
        }
        let Network { affine, clamp, .. } = self.network;
        let action = |(j, x): (usize, &f64)| {
            (x.tanh() * f64::from(affine.scale[j]) + f64::from(affine.offset[j]))
                .clamp(f64::from(clamp.low[j]), f64::from(clamp.high[j]))
        };
        values.iter().enumerate().map(action).collect()
    }
}

#[test]
fn every_kind_of_layer_gives_what_f64_gives_over_many_steps() {
    let mut draws = Draws::new(1);
    for network in kinds(&mut draws) {
        for (precision, tolerance) in [(Precision::F32, 3e-6), (Precision::Int8, 0.08)] {
            let file = written(&network, precision, &mut draws);
            let mut executor = file.open().unwrap();
            let mut wide = Wide::new(&network);
            let mut action = [0.0; 3];
            for step in 0..40 {
                let observation = row(&mut draws, 5, 1.0);
                executor.run(&observation, &mut action).unwrap();
                for (found, wanted) in action.iter().zip(wide.act(&observation)) {
                    let difference = (f64::from(*found) - wanted).abs();
                    assert!(
                        difference < tolerance,
                        "{precision:?} step {step}: {found} {wanted}\n{:?}",
                        executor.blob().header()
                    );
                }
            }
            executor.reset();
            let observation = row(&mut draws, 5, 1.0);
            executor.run(&observation, &mut action).unwrap();
            let fresh = Wide::new(&network).act(&observation);
            assert!((f64::from(action[0]) - fresh[0]).abs() < tolerance, "reset forgets the state");
        }
    }
}

#[test]
fn a_blob_has_the_bits_of_the_plain_order_of_operations() {
    let mut draws = Draws::new(2);
    let contract = contract(5, 3);
    for width in [1, 7, 8, 23, 64] {
        let layers = vec![
            dense(5, width, Activation::Relu, &mut draws),
            dense(width, width, Activation::Tanh, &mut draws),
            dense(width, 3, Activation::Identity, &mut draws),
        ];
        let graph = PolicyGraph::for_contract(&contract, None, layers, Squash::Tanh).unwrap();
        let file = written(&Network::from_graph(&graph).unwrap(), Precision::F32, &mut draws);
        let mut executor = file.open().unwrap();
        for _ in 0..20 {
            let observation = row(&mut draws, 5, 2.0);
            let mut found = [0.0; 3];
            executor.run(&observation, &mut found).unwrap();
            assert_eq!(found.map(f32::to_bits), plain(&graph, &observation).map(f32::to_bits));
        }
    }
}

/// docs/FORMAT.md, "Arithmetic", word for word.
fn plain(graph: &PolicyGraph, observation: &[f32]) -> [f32; 3] {
    let mut values = observation.to_vec();
    for layer in &graph.mlp.layers {
        values = (0..layer.outputs)
            .map(|j| {
                let mut sum = layer.bias[j];
                for (i, x) in values.iter().enumerate() {
                    let product = x * layer.weights[i * layer.outputs + j];
                    sum += product;
                }
                layer.activation.at(sum)
            })
            .collect();
    }
    let (affine, clamp) = (&graph.affine, graph.clamp.as_ref().unwrap());
    [0, 1, 2].map(|j| {
        let scaled = libm::tanhf(values[j]) * affine.scale[j];
        (scaled + affine.offset[j]).clamp(clamp.low[j], clamp.high[j])
    })
}

#[test]
fn int8_is_its_formula() {
    let mut draws = Draws::new(3);
    for inputs in [1, 2, 3, 4, 5, 17] {
        let layer = dense(inputs, 3, Activation::Identity, &mut draws);
        let contract = contract(inputs, 3);
        let graph = PolicyGraph::for_contract(&contract, None, vec![layer.clone()], Squash::None).unwrap();
        let observation = row(&mut draws, inputs, 1.0);
        let network = Network::from_graph(&graph).unwrap();
        let file = blob(&contract, &network, Precision::Int8, [0; 32], &[&observation]).unwrap();
        let mut action = [0.0; 3];
        file.open().unwrap().run(&observation, &mut action).unwrap();
        let largest = observation.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        for (j, found) in action.iter().enumerate() {
            let weight = |i: usize| layer.weights[i * 3 + j];
            let largest_weight = (0..inputs).fold(0.0_f32, |largest, i| largest.max(weight(i).abs()));
            let sum: i32 = (0..inputs)
                .map(|i| {
                    let value = (observation[i] * (127.0 / largest)).round_ties_even() as i32;
                    let weight = (weight(i) * (127.0 / largest_weight)).round_ties_even() as i32;
                    value * weight
                })
                .sum();
            let wanted = layer.bias[j] + sum as f32 * ((largest_weight / 127.0) * (largest / 127.0));
            let wanted = (wanted * graph.affine.scale[j] + graph.affine.offset[j]).clamp(-1.0, 2.0);
            assert_eq!(found.to_bits(), wanted.to_bits(), "{inputs} inputs");
        }
    }
}

#[test]
fn a_blob_says_what_the_contract_says() {
    let mut draws = Draws::new(4);
    let network = &kinds(&mut draws)[2];
    let contract = contract(5, 3);
    let file = written(network, Precision::F32, &mut draws);
    let executor = file.open().unwrap();
    let blob = executor.blob();
    assert_eq!((blob.header().task.as_str(), blob.header().control_period_nanos), (Some("test"), 8_000_000));
    assert_eq!(blob.header().model_sha256, &[7; 32]);
    let channel = |texts: Option<(Text<'_>, Text<'_>)>| {
        let (name, unit) = texts.unwrap();
        (name.as_str().unwrap().to_owned(), unit.as_str().unwrap().to_owned())
    };
    let channels: Vec<_> = blob.channels().map(channel).collect();
    assert_eq!(channels.len(), 8);
    assert_eq!(channels[1], ("angle_1".to_owned(), "rad".to_owned()));
    assert_eq!(channels[7], ("torque_2".to_owned(), "N*m".to_owned()));
    let safety = crate::safety::Safety::of(&contract);
    let (found, wanted) = (format!("{:?}", blob.rules()), format!("{:?}", safety.rules()));
    // The contract declares no fixed action, so that the blob has none.
    assert_eq!(found, wanted.replace("fixed: [0.0, 0.0, 0.0]", "fixed: []"));
}

#[test]
fn numbers_that_are_not_finite_come_out_as_nan_not_as_a_panic() {
    let mut draws = Draws::new(5);
    for network in kinds(&mut draws) {
        for precision in [Precision::F32, Precision::Int8] {
            let file = written(&network, precision, &mut draws);
            for value in [f32::NAN, f32::INFINITY, f32::MAX] {
                let mut executor = file.open().unwrap();
                let mut action = [0.0; 3];
                let ran = executor.run(&[0.0, value, 0.0, 0.0, 0.0], &mut action);
                if executor.blob().state_width() > 0 && value.is_nan() {
                    assert!(matches!(ran, Err(Error::NotFinite { what: "recurrent state", .. })), "{ran:?}");
                } else if value.is_nan() {
                    assert!(action.iter().all(|value| value.is_nan()), "{precision:?} {action:?}");
                }
            }
        }
    }
}

#[test]
fn what_no_blob_can_hold_is_named() {
    let mut draws = Draws::new(8);
    let good = kinds(&mut draws)[0].clone();
    let refused = |spoil: fn(&mut Network)| {
        let mut network = good.clone();
        spoil(&mut network);
        blob(&contract(5, 3), &network, Precision::F32, [0; 32], &[&[0.1; 5]]).unwrap_err().to_string()
    };
    for (spoil, wanted) in [
        ((|network| network.affine.scale[1] = -1.5) as fn(&mut Network), ["policy action scale at index 1", "-1.5"]),
        (|network| network.affine.offset[2] = f32::NAN, ["policy action offset at index 2", "NaN"]),
        (|network| network.clamp.low[0] = 9.0, ["policy clamp of action channel 0", "low 9"]),
        (|network| network.normalizer.as_mut().unwrap().std[4] = 0.0, ["policy normaliser std at index 4", "0"]),
        (|network| network.clamp.high.truncate(2), ["policy clamp high", "2"]),
    ] {
        let message = refused(spoil);
        assert!(wanted.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn eight_bits_serve_inputs_of_different_magnitude_better_when_these_are_evened_out() {
    let mut draws = Draws::new(9);
    let magnitudes = [10.0, 0.1, 1.0, 0.0, 5.0];
    let observe = |draws: &mut Draws| -> Vec<f32> { magnitudes.iter().map(|it| it * draws.normal()).collect() };
    let rows: Vec<_> = (0..200).map(|_| observe(&mut draws)).collect();
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    for mut network in kinds(&mut draws) {
        network.normalizer = None;
        // Training made every input matter.
        match &mut network.parts[0] {
            Part::Dense(layer) => {
                let outputs = layer.outputs;
                layer.weights.iter_mut().enumerate().for_each(|(at, it)| *it /= magnitudes[at / outputs].max(0.1));
            }
            Part::Lstm(layer) | Part::Gru(layer) => {
                layer.weight_ih.iter_mut().enumerate().for_each(|(at, it)| *it /= magnitudes[at % 5].max(0.1));
            }
        }
        let even = network.clone().with_even_inputs(&rows);
        assert_eq!(even.normalizer.as_ref().unwrap().std.len(), 5);
        assert_eq!(even.clone().with_even_inputs(&rows), even, "a normaliser stays");
        let file =
            |network: &Network, precision| blob(&contract(5, 3), network, precision, [0; 32], &rows[..4]).unwrap();
        let wanted = file(&network, Precision::F32);
        let squares = |network: &Network, precision| -> f32 {
            let (found, wanted) = (file(network, precision), &wanted);
            let (mut found, mut wanted) = (found.open().unwrap(), wanted.open().unwrap());
            let mut off = |row: &&[f32]| -> f32 {
                let (mut a, mut b) = ([0.0; 3], [0.0; 3]);
                found.run(row, &mut a).unwrap();
                wanted.run(row, &mut b).unwrap();
                a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
            };
            rows.iter().map(&mut off).sum()
        };
        assert!(squares(&even, Precision::F32) < 1e-8, "the same policy");
        let (plain, evened) = (squares(&network, Precision::Int8), squares(&even, Precision::Int8));
        assert!(evened < 0.5 * plain, "{evened} {plain}");
    }
}

#[test]
fn state_that_would_not_be_finite_starts_again() {
    let mut draws = Draws::new(7);
    let kinds = kinds(&mut draws);
    for network in kinds.iter().filter(|network| !matches!(network.parts[0], Part::Dense(_))) {
        let file = written(network, Precision::F32, &mut draws);
        let (mut fresh, mut executor) = (file.open().unwrap(), file.open().unwrap());
        let usual = row(&mut draws, 5, 1.0);
        let (mut wanted, mut action) = ([0.0; 3], [0.0; 3]);
        executor.run(&usual, &mut action).unwrap();
        // Finite, as the checks want it.
        let huge = [f32::MAX, -f32::MAX, f32::MAX, -f32::MAX, f32::MAX];
        let error = executor.run(&huge, &mut action).unwrap_err();
        assert!(matches!(error, Error::NotFinite { what: "recurrent state", .. }), "{error}");
        for _ in 0..3 {
            executor.run(&usual, &mut action).unwrap();
            fresh.run(&usual, &mut wanted).unwrap();
            assert_eq!(action.map(f32::to_bits), wanted.map(f32::to_bits), "from a fresh state");
        }
    }
}

#[test]
fn an_executor_keeps_within_its_memory() {
    let mut draws = Draws::new(6);
    let network = &kinds(&mut draws)[4];
    let file = written(network, Precision::Int8, &mut draws);
    let opened = Blob::open(file.bytes()).unwrap();
    assert_eq!((opened.width(), opened.state_width()), (36, 18));
    let (mut front, mut back, mut state) = ([0.0; 36], [0.0; 36], [0.0; 18]);
    for [front_width, back_width, state_width] in [[35, 36, 18], [36, 35, 18], [36, 36, 17]] {
        let (front, back) = (&mut front[..front_width], &mut back[..back_width]);
        let scratch = Scratch { front, back, state: &mut state[..state_width] };
        assert_eq!(Executor::new(opened.clone(), scratch).unwrap_err(), BlobError::TooLarge);
    }
    let scratch = Scratch { front: &mut front, back: &mut back, state: &mut state };
    let mut executor = Executor::new(opened, scratch).unwrap();
    assert!(executor.run(&[0.0; 4], &mut [0.0; 3]).is_err() && executor.run(&[0.0; 5], &mut [0.0; 2]).is_err());
    executor.replay().unwrap();
}

#[test]
fn native_and_blob_agree() {
    let mut draws = Draws::new(7);
    let contract = contract(5, 3);
    let layers = vec![dense(5, 40, Activation::Relu, &mut draws), dense(40, 3, Activation::Identity, &mut draws)];
    let graph = PolicyGraph::for_contract(&contract, None, layers, Squash::Tanh).unwrap();
    let file = written(&Network::from_graph(&graph).unwrap(), Precision::F32, &mut draws);
    let (mut executor, mut native) = (file.open().unwrap(), NativePolicy::new(graph).unwrap());
    for _ in 0..50 {
        let observation = row(&mut draws, 5, 1.0);
        let (mut left, mut right) = ([0.0; 3], [0.0; 3]);
        executor.run(&observation, &mut left).unwrap();
        native.run(&observation, &mut right).unwrap();
        assert!(left.iter().zip(&right).all(|(left, right)| (left - right).abs() < 1e-6), "{left:?} {right:?}");
    }
}

//! Readers on damaged bytes: an error or a value, never a panic, and no allocation out of proportion to the input.

#![cfg(all(feature = "onnx", feature = "robot"))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod counting;
mod recurrent_onnx;

use std::collections::BTreeMap;

use counting::largest_allocation_in;
use policy_runtime::bundle::{FORMAT, FORMAT_VERSION, FileRecord, Manifest, POLICY_FILE};
use policy_runtime::frame::{FrameHeader, FrameKind, decode, encode, frame_bytes};
use policy_runtime::link::{read_frame, recorded_rows};
use policy_runtime::onnx::Model;
use policy_runtime::probe::Draws;
use policy_runtime::robot::RobotFile;
use policy_runtime::selfcheck::{Golden, ProbeKind};
use policy_runtime::{Channel, Contract, EngineChoice, Observation, Policy};
use recurrent_onnx::RecurrentFile;

/// Most bytes of one allocation per byte of input, beyond a fixed share for messages and tables.
const BYTES_PER_BYTE: usize = 64;
const FIXED_BYTES: usize = 1 << 16;

/// Flipped bits, other bytes, removed, doubled and moved pieces, extreme numbers.
fn mutate(good: &[u8], draws: &mut Draws) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..1 + draws.next_u64() % 4 {
        let at = |draws: &mut Draws, length: usize| (draws.next_u64() % length.max(1) as u64) as usize;
        let (from, piece) = (at(draws, bytes.len()), 1 + at(draws, 16));
        let to = (from + piece).min(bytes.len());
        match draws.next_u64() % 8 {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(from..to)),
            2 => {
                let copy = bytes[from..to].to_vec();
                bytes.splice(from..from, copy);
            }
            3 => bytes[from..to].fill(0xff),
            4 => bytes[from..to].fill(b'9'),
            5 => {
                let words: [&[u8]; 8] = [b"NaN", b"-1", b"1e999", b"null", b"{", b"[[", b"\"", b"\x80\x80\x80\x80\x08"];
                let word = words[at(draws, words.len())];
                bytes.splice(from..to, word.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(from) {
                    *byte ^= 1 << (draws.next_u64() % 8);
                }
            }
        }
    }
    bytes
}

/// Reads `good`, which must work, and `rounds` damaged forms of it.
fn survive(name: &str, good: &[u8], rounds: usize, mut read: impl FnMut(&[u8]) -> bool) {
    assert!(read(good), "{name}: the whole thing is read");
    // HYPE_MUTATION_ROUNDS=100 does a hundred times as much.
    let factor = std::env::var("HYPE_MUTATION_ROUNDS").ok().and_then(|text| text.parse::<usize>().ok());
    let rounds = rounds * factor.unwrap_or(1);
    let mut draws = Draws::new(11);
    let mut refused = 0;
    for round in 0..rounds {
        let bytes = mutate(good, &mut draws);
        let mut accepted = false;
        let largest = largest_allocation_in(|| accepted = read(&bytes));
        let limit = BYTES_PER_BYTE * bytes.len() + FIXED_BYTES;
        assert!(largest <= limit, "{name}, round {round}: {largest} bytes at once for {} of input", bytes.len());
        refused += usize::from(!accepted);
    }
    assert!(refused > rounds / 20, "{name}: mutations too tame, {refused} of {rounds} refused");
}

fn contract() -> Contract {
    Contract {
        task: "leg".into(),
        observation: vec![Channel::unbounded("angle", "rad"), Channel::bounded("velocity", "rad/s", -9.0, 9.0)],
        action: vec![Channel::bounded("torque", "N*m", -2.0, 2.0)],
        control_period_secs: 0.01,
        fallback: policy_runtime::Fallback::Zero,
        max_observation_age_secs: Some(0.02),
        guards: Default::default(),
    }
}

#[test]
fn manifests() {
    let golden = Golden {
        kind: ProbeKind::Random,
        observation: vec![0.5, -1.0],
        action: vec![0.25],
        activation_scale: 1.0,
        judgement: None,
    };
    let manifest = Manifest {
        format: FORMAT.into(),
        format_version: FORMAT_VERSION,
        contract: contract(),
        files: BTreeMap::from([(POLICY_FILE.into(), FileRecord::of(b"model"))]),
        golden: vec![golden; 3],
        monitor: None,
        embedded: Vec::new(),
        agreement: Vec::new(),
        provenance: serde_json::json!({"maker": "test"}),
        training: serde_json::Value::Null,
    };
    let good = serde_json::to_vec(&manifest).unwrap();
    survive("manifest", &good, 5000, |bytes| Manifest::from_json(bytes).is_ok());
    let contract = contract().to_json().unwrap().into_bytes();
    survive("contract", &contract, 5000, |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| Contract::from_json(text).is_ok())
    });
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    assert!(Manifest::from_json(&deep).is_err(), "nesting does not exhaust the stack");
}

#[test]
fn frames() {
    let header = FrameHeader { kind: FrameKind::Observation, sequence: 3, stamp_nanos: 5, code: 0 };
    let mut frame = vec![0; frame_bytes(5)];
    encode(&header, &[1.0, f32::NAN, 3.0, -4.0, 0.5], &mut frame).unwrap();
    let recording = frame.repeat(4);
    survive("frame", &frame, 20_000, |bytes| decode(bytes, FrameKind::Observation, &mut [0.0; 5]).is_ok());
    survive("recording", &recording, 5000, |bytes| recorded_rows(bytes, 5).is_ok());
    survive("stream", &recording, 5000, |mut bytes| {
        let (mut buffer, mut values) = (vec![0; frame_bytes(5)], [0.0; 5]);
        loop {
            match read_frame(&mut bytes, &mut buffer, &mut values) {
                Ok(Some(_)) => {}
                ended => return ended.is_ok(),
            }
        }
    });
}

#[test]
fn robot_files() {
    let good = br#"
        robot = "leg"
        max_observation_age_secs = 0.03
        [guards]
        entry_secs = 0.5
        max_rate_per_sec = { torque = 40.0 }
        [[observation]]
        name = "deg"
        unit = "deg"
        channel = "angle"
        scale = 0.0174
        [[constant]]
        channel = "velocity"
        value = 0.7
        [[action]]
        name = "m1"
        unit = "N*m"
        channel = "torque"
    "#;
    survive("robot file", good, 5000, |bytes| {
        RobotFile::from_toml(bytes).is_ok_and(|file| {
            file.mapping(&contract()).is_ok() && file.terms().applied_to(&contract()).validate().is_ok()
        })
    });
    let deep = [&b"robot = "[..], &b"[".repeat(100_000), &b"]".repeat(100_000)].concat();
    assert!(RobotFile::from_toml(&deep).is_err(), "nesting does not exhaust the stack");
}

#[test]
fn onnx_files() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../trainer/experts/pendulum.onnx");
    let good = std::fs::read(path).unwrap();
    // Damage to the weights is no damage to the format: begin and end have the structure.
    survive("onnx", &good, 60, |bytes| Policy::from_onnx(bytes, EngineChoice::Native).is_ok());
    // Recurrent, with several inputs and outputs; small, so that most damage is to the structure.
    for name in ["rsl_rl_gru-legacy17-static", "rsl_rl_lstm-dynamo18-dynamic", "unity_memory-legacy17-static"] {
        let path = format!("{}/tests/foreign/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
        survive(name, &std::fs::read(path).unwrap(), 1500, |bytes| {
            if let Ok(model) = Model::parse(bytes) {
                let _ = model.lower_network();
            }
            let policy = Policy::from_onnx(bytes, EngineChoice::Native);
            policy.is_ok_and(|mut policy| {
                let (values, mut action) = (vec![0.5; policy.observation_width()], vec![0.0; policy.action_width()]);
                let _ = policy.step(0, &Observation { values: &values, stamp_nanos: 0 }, &mut action);
                action.iter().all(|value| value.is_finite())
            })
        });
    }
    // tract gets what is damaged too; its own tables are larger than ours.
    let path = format!("{}/tests/foreign/rsl_rl_gru-legacy17-static.onnx", env!("CARGO_MANIFEST_DIR"));
    let small = std::fs::read(path).unwrap();
    let mut draws = Draws::new(5);
    for round in 0..250 {
        let bytes = mutate(&small, &mut draws);
        let largest = largest_allocation_in(|| drop(Policy::from_onnx(&bytes, EngineChoice::Auto)));
        assert!(largest <= BYTES_PER_BYTE * bytes.len() + (1 << 22), "round {round}: {largest} bytes at once");
    }
    survive(
        "two layers",
        &RecurrentFile { hidden: vec![3, 2], ..RecurrentFile::default() }.bytes(&mut Draws::new(5)),
        1500,
        |bytes| Model::parse(bytes).is_ok_and(|model| model.lower_network().is_ok()),
    );
    let mut draws = Draws::new(3);
    for _ in 0..60 {
        let cut = good.len() - 4096;
        let end = [&good[..cut], &mutate(&good[cut..], &mut draws)].concat();
        let largest = largest_allocation_in(|| drop(Policy::from_onnx(&end, EngineChoice::Native)));
        assert!(largest <= BYTES_PER_BYTE * end.len() + FIXED_BYTES, "{largest} bytes at once");
    }
}

/// `ConstantOfShape([values]) → ReduceSum → Add(x)` as an ONNX file of less than 200 bytes.
fn one_that_grows(values: u64) -> Vec<u8> {
    let field = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
    let number = |number: u8, mut value: u64| {
        let mut bytes = vec![number << 3];
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let node = |operator: &str, inputs: &[&str], output: &str| {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
        field(1, &[inputs, field(2, output.as_bytes()), field(4, operator.as_bytes())].concat())
    };
    let shape = [number(1, 1), number(2, 7), field(8, b"s"), field(9, &values.to_le_bytes())].concat();
    let port = |name: &str| {
        let dims = field(1, &number(1, 1)).repeat(2);
        let tensor = field(1, &[number(1, 1), field(2, &dims)].concat());
        [field(1, name.as_bytes()), field(2, &tensor)].concat()
    };
    let nodes =
        [node("ConstantOfShape", &["s"], "c"), node("ReduceSum", &["c"], "r"), node("Add", &["x", "r"], "y")].concat();
    let graph = [nodes, field(2, b"g"), field(5, &shape), field(11, &port("x")), field(12, &port("y"))].concat();
    [
        number(1, 8),
        vec![7 << 3 | 2, graph.len() as u8 & 0x7f | 0x80, (graph.len() >> 7) as u8],
        graph,
        field(8, &number(2, 17)),
    ]
    .concat()
}

#[test]
fn a_tiny_file_does_not_become_gigabytes_in_any_engine() {
    for choice in [EngineChoice::Auto, EngineChoice::Tract] {
        let mut small = Policy::from_onnx(&one_that_grows(3), choice).unwrap();
        let mut action = [9.0];
        let verdict = small.step(0, &Observation { values: &[0.5], stamp_nanos: 0 }, &mut action);
        assert!(verdict.is_good() && action == [0.5], "the same with three values runs: {action:?}");
        let file = one_that_grows(400_000_000);
        let mut message = String::new();
        let largest = largest_allocation_in(|| message = Policy::from_onnx(&file, choice).unwrap_err().to_string());
        assert!(largest < 1 << 20 && file.len() < 200, "{largest} bytes at once for {} of input", file.len());
        assert!(message.contains("ConstantOfShape") && message.contains("at most 16777216 values"), "{message}");
    }
}

#[test]
fn sizes_that_no_layer_has_are_refused_before_anything_grows() {
    for kind in ["LSTM", "GRU"] {
        for bias in [true, false] {
            for size in [-1, 0, 1, 8, 10, 1 << 13, 1 << 20, 1 << 31, 1 << 40, 1 << 61, 1 << 62, (1 << 62) + 9, i64::MAX]
            {
                let file = RecurrentFile { kind, bias, hidden_size: Some(size), ..RecurrentFile::default() };
                let bytes = file.bytes(&mut Draws::new(4));
                let model = Model::parse(&bytes).unwrap();
                let largest = largest_allocation_in(|| {
                    assert!(model.lower_network().is_err(), "{file:?}");
                    assert!(Policy::from_onnx(&bytes, EngineChoice::Native).is_err(), "{file:?}");
                });
                assert!(largest <= BYTES_PER_BYTE * bytes.len() + FIXED_BYTES, "{file:?}: {largest} bytes at once");
            }
        }
    }
}

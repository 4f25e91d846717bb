//! Metadata as rsl_rl's and mjlab's exporters write it, on a file that torch exported: a contract where it is complete, and the name of what
//! is missing where not.

#![cfg(feature = "onnx")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use policy_runtime::engine::layout::LayoutOptions;
use policy_runtime::{EngineChoice, Fallback, Observation, Policy};

const JOINTS: usize = 12;
/// Base velocity, turn rate, gravity, command; then positions, velocities, last actions.
const ROBOT_WIDTH: usize = 12 + 2 * JOINTS;

fn file() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/rsl_rl_mlp-legacy17-static.onnx")).unwrap()
}

/// A length or a tag of protobuf.
fn varint(mut value: usize, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn field(number: usize, content: &[u8], bytes: &mut Vec<u8>) {
    varint(number << 3 | 2, bytes);
    varint(content.len(), bytes);
    bytes.extend_from_slice(content);
}

/// The file with these `metadata_props`, field 14 of a model: protobuf's messages may be continued at their end.
fn with_metadata(entries: &[(&str, String)]) -> Vec<u8> {
    let mut bytes = file();
    for (key, value) in entries {
        let mut entry = Vec::new();
        field(1, key.as_bytes(), &mut entry);
        field(2, value.as_bytes(), &mut entry);
        field(14, &entry, &mut bytes);
    }
    bytes
}

fn csv(item: impl Fn(usize) -> String) -> String {
    (0..JOINTS).map(item).collect::<Vec<_>>().join(",")
}

/// What mjlab's exporter writes for a velocity task.
fn written() -> Vec<(&'static str, String)> {
    vec![
        ("run_path", "team/project/run".into()),
        ("joint_names", csv(|index| format!("joint_{index}"))),
        ("joint_stiffness", csv(|_| "20.000".into())),
        ("joint_damping", csv(|_| "1.500".into())),
        ("default_joint_pos", csv(|index| format!("{:.3}", 0.1 * index as f64 - 0.5))),
        ("command_names", "twist".into()),
        ("observation_names", "base_lin_vel,base_ang_vel,projected_gravity,command,joint_pos,joint_vel,actions".into()),
        ("action_scale", csv(|index| if index % 2 == 0 { "0.250".into() } else { "0.500".into() })),
    ]
}

fn declared() -> Vec<(&'static str, String)> {
    vec![
        ("control_period_secs", "0.02".into()),
        ("action_low", csv(|_| "-9".into())),
        ("action_high", csv(|_| "9".into())),
    ]
}

fn load(written: &[(&str, String)], declared: &[(&str, String)]) -> Result<Policy, String> {
    let declared = declared.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let options = LayoutOptions { declared, ..LayoutOptions::default() };
    Policy::from_onnx_as(&with_metadata(written), EngineChoice::Native, &options).map_err(|error| error.to_string())
}

fn step(policy: &mut Policy, values: &[f32]) -> Vec<f32> {
    let mut action = vec![f32::NAN; JOINTS];
    let verdict = policy.step(0, &Observation { values, stamp_nanos: 0 }, &mut action);
    assert!(verdict.is_good(), "{verdict:?}");
    action
}

#[test]
fn complete_metadata_is_a_contract() {
    for policy in [load(&written(), &declared()), load(&[written(), declared()].concat(), &[])] {
        let policy = policy.unwrap();
        let contract = policy.contract().unwrap();
        assert_eq!((contract.observation.len(), contract.action.len()), (ROBOT_WIDTH, JOINTS));
        let named =
            |index: usize| (contract.observation[index].name.as_str(), contract.observation[index].unit.as_str());
        assert_eq!(named(0), ("base_lin_vel/x", "m/s"));
        assert_eq!(named(11), ("command/yaw", "rad/s"));
        assert_eq!(named(13), ("joint_pos/joint_1", "rad"));
        assert_eq!(named(ROBOT_WIDTH - 1), ("joint_vel/joint_11", "rad/s"));
        assert_eq!((contract.action[3].name.as_str(), contract.action[3].bounds()), ("joint_3", Some((-9.0, 9.0))));
        assert_eq!((contract.control_period_secs, contract.fallback), (0.02, Fallback::Hold));
        assert_eq!(contract.guards.fixed_action["joint_0"], -0.5);
        let joints = policy.joints().unwrap();
        assert_eq!((joints.stiffness[0], joints.damping[0], joints.action_scale[1]), (20.0, 1.5, 0.5));
        assert!(policy.is_recurrent(), "the last action is the policy's own");
        let mut standing = [f32::NAN; JOINTS];
        policy.rules().write_fallback(&[], &[], &mut standing);
        assert_eq!(standing[2..4], [-0.3, -0.2], "there is nothing to hold yet: the default position");
    }
}

#[test]
fn targets_are_scaled_once_and_the_last_action_comes_back() {
    let mut policy = load(&written(), &declared()).unwrap();
    let mut plain = Policy::from_onnx(&file(), EngineChoice::Native).unwrap();
    let (scale, rest) =
        (policy.joints().unwrap().action_scale.clone(), policy.joints().unwrap().default_position.clone());
    let mut last = vec![0.0; JOINTS];
    for tick in 0..6 {
        if tick == 3 {
            policy.reset();
            last.fill(0.0);
        }
        let robot: Vec<f32> = (0..ROBOT_WIDTH).map(|index| ((7 * index + 3 * tick) as f32).sin()).collect();
        last = step(&mut plain, &[robot.as_slice(), &last].concat());
        let wanted: Vec<f32> = (0..JOINTS).map(|index| rest[index] + scale[index] * last[index]).collect();
        assert_eq!(step(&mut policy, &robot), wanted, "tick {tick}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let without = |key: &str| {
        let keep = |entries: Vec<(&'static str, String)>| -> Vec<(&'static str, String)> {
            entries.into_iter().filter(|(name, _)| *name != key).collect()
        };
        load(&keep(written()), &keep(declared()))
    };
    for key in
        ["default_joint_pos", "action_scale", "control_period_secs", "action_low", "action_high", "observation_names"]
    {
        let policy = without(key).unwrap();
        assert!(policy.contract().is_none() && policy.observation_width() == 48, "{key}");
        let reason = policy.why_no_contract().unwrap();
        assert!(reason.contains(&format!("--declare {key}=")), "{key}: {reason}");
    }
    let replaced = |key: &str, value: &str| {
        let mut entries = written();
        entries.iter_mut().filter(|(name, _)| *name == key).for_each(|entry| entry.1 = value.into());
        entries
    };
    let terms = "base_lin_vel,base_ang_vel,projected_gravity,command,joint_pos,joint_vel,height_scan";
    let unknown = load(&replaced("observation_names", terms), &declared()).unwrap();
    assert!(unknown.why_no_contract().unwrap().contains("\"height_scan\""), "{:?}", unknown.why_no_contract());
    let more = [
        ("observation_widths", "3,3,3,3,12,12,12".to_owned()),
        ("observation_units", "m/s,rad/s,1,m/s,rad,rad/s,m".to_owned()),
    ];
    let told = load(&replaced("observation_names", terms), &[declared(), more.to_vec()].concat()).unwrap();
    let contract = told.contract().unwrap_or_else(|| panic!("{:?}", told.why_no_contract()));
    assert_eq!(
        (contract.observation[47].name.as_str(), contract.observation[47].unit.as_str()),
        ("height_scan/11", "m")
    );
    let commands = load(&replaced("command_names", "motion"), &declared()).unwrap();
    assert!(commands.why_no_contract().unwrap().contains("\"command\""));
    let short = load(&replaced("observation_names", "joint_pos,joint_vel"), &declared()).unwrap();
    assert!(short.why_no_contract().unwrap().contains("24 values where the model takes 48"));
}

#[test]
fn numbers_that_cannot_be_right_do_not_load() {
    for (key, value, wanted) in [
        ("joint_damping", csv(|index| if index == 4 { "-0.000".into() } else { "1.0".into() }), "gains from 0"),
        ("joint_stiffness", csv(|_| "nan".into()), "finite"),
        ("joint_stiffness", csv(|_| "1e9".into()), "gains from 0"),
        ("default_joint_pos", "0.1,0.2".into(), "12 numbers"),
        ("action_scale", csv(|index| if index == 1 { "0.000".into() } else { "0.25".into() }), "not zero"),
        ("joint_names", csv(|_| "hip".into()), "unique names"),
    ] {
        let mut entries = written();
        entries.iter_mut().filter(|(name, _)| *name == key).for_each(|entry| entry.1.clone_from(&value));
        let error = load(&entries, &declared()).unwrap_err();
        assert!(error.contains(wanted) && error.contains(key), "{key}: {error}");
    }
    let error = load(&written(), &[("action_scale", "0.3".into())]).unwrap_err();
    assert!(error.contains("the file's own"), "{error}");
    assert!(load(&written(), &[("speed", "3".into())]).unwrap_err().contains("speed"));
    assert!(load(&[], &declared()).unwrap_err().contains("joint_names"));
    let narrow =
        [declared()[0].clone(), ("action_low", csv(|_| "-0.1".into())), ("action_high", csv(|_| "0.1".into()))];
    let policy = load(&written(), &narrow).unwrap();
    assert!(policy.why_no_contract().unwrap().contains("fixed_action"), "the default position is out of bounds");
}

//! A robot file and the mapping that it makes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_runtime::robot::RobotFile;
use policy_runtime::{Channel, Contract, Fallback};

fuzz_target!(|bytes: &[u8]| {
    let contract = Contract {
        task: "leg".into(),
        observation: vec![Channel::unbounded("angle", "rad"), Channel::unbounded("velocity", "rad/s")],
        action: vec![Channel::bounded("torque", "N*m", -2.0, 2.0)],
        control_period_secs: 0.01,
        fallback: Fallback::Zero,
        max_observation_age_secs: None,
        guards: Default::default(),
    };
    let Ok(file) = RobotFile::from_toml(bytes) else { return };
    let _ = file.terms().applied_to(&contract).validate();
    let Ok(mapping) = file.mapping(&contract) else { return };
    let (mut observation, mut action) = ([f32::NAN; 2], vec![f32::NAN; mapping.robot_action_width()]);
    mapping.observe(&vec![0.5; mapping.robot_observation_width()], &mut observation);
    mapping.act(&[1.0], &mut action);
    assert!(action.iter().all(|value| value.is_finite()));
});

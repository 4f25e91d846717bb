//! Other people's model files: parsed, lowered, and run where that succeeds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_runtime::{EngineChoice, Observation, Policy};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut policy) = Policy::from_onnx(bytes, EngineChoice::Native) else { return };
    let values = vec![0.5; policy.observation_width()];
    let mut action = vec![0.0; policy.action_width()];
    let _ = policy.step(0, &Observation { values: &values, stamp_nanos: 0 }, &mut action);
    assert!(action.iter().all(|value| value.is_finite()));
});

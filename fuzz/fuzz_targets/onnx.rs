//! Other people's model files: parsed, laid out, lowered, and run where the native engine takes them. tract, which the engine `auto` asks for
//! the rest, is not this house's to fuzz.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_runtime::engine::session::{Session, SessionOptions};
use policy_runtime::onnx::Model;
use policy_runtime::{EngineChoice, Observation, Policy};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(mut policy) = Policy::from_onnx(bytes, EngineChoice::Native) {
        let values = vec![0.5; policy.observation_width()];
        let mut action = vec![0.0; policy.action_width()];
        for _ in 0..2 {
            let _ = policy.step(0, &Observation { values: &values, stamp_nanos: 0 }, &mut action);
            assert!(action.iter().all(|value| value.is_finite()));
        }
        policy.reset();
    }
    if let Ok(model) = Model::parse(bytes) {
        let _ = model.lower_network();
    }
    let options = SessionOptions { engine: EngineChoice::Native, ..SessionOptions::default() };
    if let Ok(mut session) = Model::parse(bytes).and_then(|model| Session::new(&model, &options)) {
        let _ = session.run();
        let _ = session.result(0);
    }
});

//! A bundle's manifest and the contract in a model's metadata.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_runtime::Contract;
use policy_runtime::bundle::Manifest;
use policy_runtime::safety::Safety;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::from_json(bytes) {
        let _ = Safety::of(&manifest.contract);
    }
    if let Some(contract) = std::str::from_utf8(bytes).ok().and_then(|text| Contract::from_json(text).ok()) {
        let text = contract.to_json().expect("a valid contract has a JSON form");
        assert_eq!(Contract::from_json(&text).expect("and is read again"), contract);
        let _ = Safety::of(&contract);
    }
});

//! A bundle's signature. The corpus's is whole; nothing else may be without its secret key.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_runtime::signature::is_whole;

fuzz_target!(|bytes: &[u8]| {
    let _ = is_whole(bytes);
});

//! A microcontroller's blob, as it is, and with its digests made to fit again, so that what lies behind them is reached as well.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_runtime::Error;
use policy_runtime::embedded::heap::BlobFile;
use policy_runtime::embedded::{PREFIX_BYTES, crc32};

fn word(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_le_bytes(word.try_into().expect("four bytes")) as usize)
}

/// docs/FORMAT.md, "Prefix".
fn seal(bytes: &mut [u8]) {
    if bytes.len() < PREFIX_BYTES {
        return;
    }
    let (start, length) = (word(bytes, 20), word(bytes, 24));
    let header = bytes.get(PREFIX_BYTES..start).map_or(0, crc32);
    let data = bytes.get(start..start.saturating_add(length)).map_or(0, crc32);
    bytes[28..32].copy_from_slice(&header.to_le_bytes());
    bytes[32..36].copy_from_slice(&data.to_le_bytes());
    let prefix = crc32(&bytes[..60]);
    bytes[60..64].copy_from_slice(&prefix.to_le_bytes());
}

fn read(bytes: &[u8]) {
    let file = BlobFile::new(bytes);
    let Ok(mut executor) = file.open() else { return };
    let observation = vec![0.5; executor.blob().observation_width()];
    let mut action = vec![f32::NAN; executor.blob().action_width()];
    // Numbers of any size may take a recurrent state beyond all of them: that is the one thing a step may say.
    let ran = executor.run(&observation, &mut action);
    assert!(matches!(ran, Ok(()) | Err(Error::NotFinite { .. })), "what was opened runs: {ran:?}");
    executor.blob().channels().for_each(drop);
    executor.reset();
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    read(&sealed);
});

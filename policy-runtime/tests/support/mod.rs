//! Files that other people's exporters wrote, with metadata of our own.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::PathBuf;

/// A recorded file; see `tests/foreign.rs`.
pub(crate) fn recorded(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign")).join(format!("{name}.onnx"))
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

/// A recorded file with these `metadata_props`, field 14 of a model: protobuf's messages may be continued at their end.
pub(crate) fn with_metadata(name: &str, entries: &[(&str, String)]) -> Vec<u8> {
    let mut bytes = std::fs::read(recorded(name)).unwrap();
    for (key, value) in entries {
        let mut entry = Vec::new();
        field(1, key.as_bytes(), &mut entry);
        field(2, value.as_bytes(), &mut entry);
        field(14, &entry, &mut bytes);
    }
    bytes
}

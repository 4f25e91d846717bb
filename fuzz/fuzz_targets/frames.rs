//! A datagram, a recording and a stream of frames. What is accepted must come back as it went.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy_runtime::frame::{FrameKind, Order, Stamps, decode, encode, frame_bytes};
use policy_runtime::link::{read_frame, recorded_rows};

fuzz_target!(|bytes: &[u8]| {
    let width = bytes.get(6).map_or(0, |low| usize::from(*low) % 64);
    let mut values = vec![0.0; width];
    for kind in [FrameKind::Observation, FrameKind::Action] {
        if let Ok(header) = decode(bytes, kind, &mut values) {
            let mut again = vec![0; frame_bytes(width)];
            assert_eq!(encode(&header, &values, &mut again), Some(bytes.len()));
            assert_eq!(again, bytes);
        }
    }
    let _ = recorded_rows(bytes, width);
    let (mut reader, mut buffer) = (bytes, vec![0; frame_bytes(width)]);
    let mut order = Order::new(if width % 2 == 0 { Stamps::Sender } else { Stamps::Arrival }, 1000);
    let mut now_nanos = 0;
    while let Ok(Some(header)) = read_frame(&mut reader, &mut buffer, &mut values) {
        order.accept(&header, now_nanos);
        now_nanos += 300;
    }
});

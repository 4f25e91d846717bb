//! The control logic with a fake clock, serial port and watchdog.

use std::collections::VecDeque;

use policy_runtime::drift::Cusum;
use policy_runtime::embedded::heap::BlobFile;
use policy_runtime::embedded::write::{Network, Part, Recurrent, blob};
use policy_runtime::embedded::{BlobError, Precision, watch_section};
use policy_runtime::guard::FaultKind;
use policy_runtime::monitor::{MonitorRecord, Score, Shape};
use policy_runtime::probe::Draws;
use policy_runtime::safety::GuardRules;
use policy_runtime::spec::{Activation, Affine, Clamp, Dense, PolicyGraph, Squash};
use policy_runtime::{Channel, Contract, Fallback};

use crate::frame::{self, ActionKind, FromBoard, Receiver, ToBoard};
use crate::{Board, Memory, Station, refuse};

const PERIOD_NANOS: u64 = 2_000_000;

/// How a fault goes over the wire.
fn wire_fault(kind: FaultKind) -> u8 {
    1 + kind as u8
}

/// A machine whose time passes with each look at the clock.
#[derive(Default)]
struct Fake {
    now: u64,
    step: u64,
    to: VecDeque<u8>,
    from: Vec<u8>,
    feeds: usize,
    /// Looks at the clock after which each costs `step`.
    spared: usize,
}

impl Board for Fake {
    const WATCHDOG_NANOS: u64 = 500_000_000;

    fn now_nanos(&mut self) -> u64 {
        match self.spared.checked_sub(1) {
            Some(spared) => self.spared = spared,
            None => self.now += self.step,
        }
        self.now
    }

    fn receive(&mut self) -> Option<u8> {
        self.to.pop_front()
    }

    fn send(&mut self, byte: u8) {
        self.from.push(byte);
    }

    fn feed_watchdog(&mut self) {
        self.feeds += 1;
    }
}

impl Fake {
    fn say(&mut self, message: &ToBoard<'_>) {
        frame::send(message, &mut [0; 256], |byte| self.to.push_back(byte));
    }

    fn observe(&mut self, sequence: u32, values: [f32; 2]) {
        self.say(&ToBoard::Observation {
            sequence,
            stamp_nanos: 0,
            values: values.map(f32::to_le_bytes).as_flattened(),
        });
    }

    /// What `wanted` takes of the messages since the last call.
    fn heard<T>(&mut self, wanted: impl Fn(FromBoard<'_>) -> Option<T>) -> Vec<T> {
        let mut receiver = Receiver::<256>::new();
        let mut heard = Vec::new();
        for byte in self.from.drain(..) {
            if receiver.take(byte) {
                heard.extend(receiver.message().and_then(&wanted));
            }
        }
        assert_eq!(receiver.dropped(), 0);
        heard
    }

    /// The alarms since the last call: tick, and whether it was raised.
    fn alarms(&mut self) -> Vec<(u32, bool)> {
        self.heard(|message| if let FromBoard::Alarm { tick, raised } = message { Some((tick, raised)) } else { None })
    }

    /// The actions since the last call: sequence, kind, fault, value.
    fn actions(&mut self) -> Vec<(u32, ActionKind, u8, f32)> {
        self.heard(|message| {
            let FromBoard::Action { sequence, kind, fault, values, .. } = message else { return None };
            let mut row = [0.0];
            assert!(frame::from_bytes(values, &mut row));
            Some((sequence, kind, fault, row[0]))
        })
    }
}

fn spring_contract() -> Contract {
    Contract {
        task: "spring".into(),
        observation: vec![Channel::unbounded("position", "m"), Channel::unbounded("velocity", "m/s")],
        action: vec![Channel::bounded("force", "N", -1.0, 1.0)],
        control_period_secs: PERIOD_NANOS as f64 * 1e-9,
        fallback: Fallback::Hold,
        max_observation_age_secs: Some(2.0 * PERIOD_NANOS as f64 * 1e-9),
        guards: GuardRules::default(),
    }
}

/// `action = -0.5 · position - 0.25 · velocity`
fn spring() -> BlobFile {
    spring_of(&spring_contract())
}

fn spring_of(contract: &Contract) -> BlobFile {
    let layer =
        Dense { inputs: 2, outputs: 1, weights: vec![-0.5, -0.25], bias: vec![0.0], activation: Activation::Identity };
    let graph = PolicyGraph::for_contract(contract, None, vec![layer], Squash::None).unwrap();
    blob(contract, &Network::from_graph(&graph).unwrap(), Precision::F32, [0; 32], &[&[0.5, 0.5]]).unwrap()
}

#[test]
fn rest_drive_hold_and_drive_again() {
    let file = spring();
    let mut memory = Memory::new();
    let mut board = Fake::default();
    let mut station = Station::new(&mut memory, file.bytes(), &mut board).unwrap();
    station.poll(&mut board);
    assert_eq!(board.actions(), [(0, ActionKind::Idle, 0, 0.0)]);
    station.poll(&mut board);
    assert_eq!((board.actions().len(), board.feeds), (0, 1), "the next tick is not due, the watchdog not fed");

    board.say(&ToBoard::Enter);
    board.observe(7, [1.0, 1.0]);
    station.poll(&mut board);
    for (ticks, wanted) in [
        (1, (7, ActionKind::Good, 0, -0.75)),
        (2, (7, ActionKind::Good, 0, -0.75)),
        (3, (7, ActionKind::Fallback, wire_fault(FaultKind::ObservationStale), -0.75)),
    ] {
        board.now = ticks * PERIOD_NANOS;
        station.poll(&mut board);
        assert_eq!(board.actions(), [wanted], "tick {ticks}");
    }
    board.to.extend([1, 2, 3, 0]);
    board.observe(8, [-1.0, 0.0]);
    station.poll(&mut board);
    board.now += PERIOD_NANOS;
    station.poll(&mut board);
    assert_eq!(board.actions(), [(8, ActionKind::Good, 0, 0.5)], "noise costs nothing but itself");
    assert_eq!(board.feeds, 5);
}

#[test]
fn the_monitor_raises_when_the_robot_leaves_what_was_shown_and_ends_when_it_is_back() {
    let policy = spring();
    // Positions and velocities with deviation one, and the spring's force: pairs in one plane, widened a little.
    let mut draws = Draws::new(61);
    let mut rows = Vec::new();
    for _ in 0..1000 {
        let (position, velocity) = (draws.normal(), draws.normal());
        let force = -0.5 * position - 0.25 * velocity + 0.05 * draws.normal();
        rows.extend([position, velocity, force]);
    }
    let cusum = Cusum { mean: 0.6, deviation: 0.3, slack: 0.5, most: 10.0, threshold: 15.0, sum: 0.0 };
    let shape = Shape::of(&rows, 3).unwrap();
    let record = MonitorRecord { shape, score: Score::Mahalanobis, cusum: Some(cusum) };
    let section = watch_section(&spring_contract(), &record).unwrap().unwrap();
    let file = BlobFile::new(&[policy.bytes(), &section].concat());
    let mut memory = Memory::new();
    let mut board = Fake::default();
    let mut station = Station::new(&mut memory, file.bytes(), &mut board).unwrap();
    board.say(&ToBoard::Enter);
    let mut alarms = Vec::new();
    for tick in 0..60_u32 {
        let reading = if (20..25).contains(&tick) { [9.0, -19.0] } else { [0.3, -0.2] };
        board.observe(tick, reading);
        board.now = u64::from(tick) * PERIOD_NANOS;
        // Bytes first, then the tick that is due.
        while !board.to.is_empty() {
            station.poll(&mut board);
        }
        station.poll(&mut board);
        alarms.extend(board.alarms());
    }
    assert!(matches!(alarms[..], [(20..25, true), (25.., false)]), "{alarms:?}");

    // Raised again; its state can be asked for, and whoever lets the policy drive anew hears that it ended.
    let state = |message: FromBoard<'_>| if let FromBoard::Status { alarm, .. } = message { Some(alarm) } else { None };
    for (tick, raised) in [(60, false), (61, true)] {
        board.say(&ToBoard::Status);
        station.poll(&mut board);
        assert_eq!(board.heard(state), [Some(raised)]);
        for tick in tick..tick + 3 {
            board.observe(tick, [9.0, -19.0]);
            board.now = u64::from(tick) * PERIOD_NANOS;
            station.poll(&mut board);
        }
    }
    board.from.clear();
    board.say(&ToBoard::Enter);
    station.poll(&mut board);
    assert_eq!(board.alarms(), [], "it drives already");
    board.say(&ToBoard::Exit);
    board.say(&ToBoard::Enter);
    board.say(&ToBoard::Status);
    station.poll(&mut board);
    let heard = board.heard(|message| match message {
        FromBoard::Alarm { raised, .. } => Some(Some(raised)),
        other => state(other),
    });
    assert_eq!(heard, [Some(false), Some(false)]);

    let mut spoiled = [policy.bytes(), &section].concat();
    let last = spoiled.len() - 20;
    spoiled[last] ^= 1;
    let spoiled = BlobFile::new(&spoiled);
    assert_eq!(Station::new(&mut Memory::new(), spoiled.bytes(), &mut board).unwrap_err(), BlobError::DataDigest);
}

#[test]
fn a_late_action_is_not_the_policys() {
    let file = spring();
    let mut memory = Memory::new();
    let mut board = Fake::default();
    let mut station = Station::new(&mut memory, file.bytes(), &mut board).unwrap();
    board.say(&ToBoard::Enter);
    board.observe(1, [1.0, 0.0]);
    // The observation's arrival, whether a tick is due, and when it begins; then computing takes longer than a period.
    (board.spared, board.step) = (3, PERIOD_NANOS + 1);
    station.poll(&mut board);
    assert_eq!(board.actions(), [(1, ActionKind::Fallback, wire_fault(FaultKind::Late), 0.0)]);
}

#[test]
fn orders_are_heard_while_every_tick_is_late() {
    let file = spring();
    let mut memory = Memory::new();
    let mut board = Fake::default();
    let mut station = Station::new(&mut memory, file.bytes(), &mut board).unwrap();
    board.step = PERIOD_NANOS;
    board.say(&ToBoard::Enter);
    for sequence in 0..5 {
        board.observe(sequence, [1.0, 0.0]);
    }
    board.say(&ToBoard::Stop);
    station.poll(&mut board);
    assert_eq!(board.actions(), [(4, ActionKind::Stopped, 0, 0.0)], "at the next tick");
    // A line that never pauses puts no tick off.
    board.to.extend([9; 10_000]);
    station.poll(&mut board);
    assert_eq!(board.actions().len(), 1);
    assert!(!board.to.is_empty());
}

/// The observation goes through a GRU, so that an action shows what came before.
fn with_memory() -> BlobFile {
    let row = |count: usize| (0..count).map(|index| 0.3 - 0.1 * (index % 7) as f32).collect::<Vec<f32>>();
    let gru =
        Recurrent { inputs: 2, hidden: 2, weight_ih: row(12), weight_hh: row(12), bias_ih: row(6), bias_hh: row(6) };
    let head = Dense { inputs: 2, outputs: 1, weights: row(2), bias: vec![0.1], activation: Activation::Identity };
    let network = Network {
        normalizer: None,
        parts: vec![Part::Gru(gru), Part::Dense(head)],
        squash: Squash::None,
        affine: Affine { scale: vec![1.0], offset: vec![0.0] },
        clamp: Clamp { low: vec![-1.0], high: vec![1.0] },
    };
    blob(&spring_contract(), &network, Precision::F32, [0; 32], &[&[0.5, 0.5]]).unwrap()
}

#[test]
fn entering_while_driving_forgets_nothing() {
    let file = with_memory();
    let mut host = file.open().unwrap();
    let mut memory = Memory::new();
    let mut board = Fake::default();
    let mut station = Station::new(&mut memory, file.bytes(), &mut board).unwrap();
    let mut wanted = [0.0];
    for tick in 0..8_u32 {
        if [0, 4].contains(&tick) {
            board.say(&ToBoard::Enter);
        }
        if tick == 6 {
            // Out and in again: from a fresh state.
            board.say(&ToBoard::Exit);
            board.say(&ToBoard::Enter);
            host.reset();
        }
        board.observe(tick, [1.0, -0.5]);
        board.now = u64::from(tick) * PERIOD_NANOS;
        station.poll(&mut board);
        host.run(&[1.0, -0.5], &mut wanted).unwrap();
        assert_eq!(board.actions(), [(tick, ActionKind::Good, 0, wanted[0])]);
    }
}

#[test]
fn a_host_that_comes_late_can_ask_and_what_is_no_use_is_counted() {
    let file = spring();
    let mut memory = Memory::new();
    let mut board = Fake::default();
    let mut station = Station::new(&mut memory, file.bytes(), &mut board).unwrap();
    station.poll(&mut board);
    board.from.clear();
    board.say(&ToBoard::Hello);
    // Too narrow, too wide, and a message that this board has no use for.
    for values in [&[0; 4][..], &[0; 12]] {
        board.say(&ToBoard::Observation { sequence: 1, stamp_nanos: 0, values });
    }
    board.say(&ToBoard::Stack);
    board.to.extend([3, 1, 1, 0]);
    board.say(&ToBoard::Status);
    station.poll(&mut board);
    let heard = board.heard(|message| match message {
        FromBoard::Ready { protocol, widths, period_nanos, .. } => Some((u32::from(protocol), widths, period_nanos)),
        FromBoard::Status { dropped_frames, alarm, .. } => Some((dropped_frames, [0; 2], u64::from(alarm.is_some()))),
        _ => None,
    });
    assert_eq!(heard, [(2, [2, 1], PERIOD_NANOS), (4, [0, 0], 0)]);
}

#[test]
fn a_period_that_the_watchdog_would_bite_in_is_refused() {
    for (millis, error) in [(2, None), (250, None), (251, Some(BlobError::Period)), (1000, Some(BlobError::Period))] {
        let contract = Contract { control_period_secs: f64::from(millis) * 1e-3, ..spring_contract() };
        let file = spring_of(&contract);
        let opened = Station::new(&mut Memory::new(), file.bytes(), &mut Fake::default()).err();
        assert_eq!(opened, error, "{millis} ms");
    }
    assert_eq!(BlobError::Period.code(), 14);
}

#[test]
fn a_bad_policy_is_refused_with_its_code() {
    let file = spring();
    let mut bytes = file.bytes().to_vec();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    let spoiled = BlobFile::new(&bytes);
    let mut board = Fake::default();
    let error = Station::new(&mut Memory::new(), spoiled.bytes(), &mut board).unwrap_err();
    assert_eq!(error, BlobError::DataDigest);
    refuse(&mut board, error);
    let mut receiver = Receiver::<64>::new();
    assert!(board.from.iter().any(|byte| receiver.take(*byte)));
    assert_eq!(receiver.message(), Some(FromBoard::Refused { code: 7 }));
}

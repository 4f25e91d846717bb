//! The control logic with a fake clock, serial port and watchdog.

use std::collections::VecDeque;

use policy_runtime::drift::Cusum;
use policy_runtime::embedded::write::{BlobFile, Network, blob};
use policy_runtime::embedded::{BlobError, Precision, watch_section};
use policy_runtime::guard::FaultKind;
use policy_runtime::monitor::{MonitorRecord, Score, Shape};
use policy_runtime::probe::Draws;
use policy_runtime::safety::GuardRules;
use policy_runtime::spec::{Activation, Dense, PolicyGraph, Squash};
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
}

impl Board for Fake {
    fn now_nanos(&mut self) -> u64 {
        self.now += self.step;
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

    /// The alarms since the last call: tick, and whether it was raised.
    fn alarms(&mut self) -> Vec<(u32, bool)> {
        let mut receiver = Receiver::<256>::new();
        let mut alarms = Vec::new();
        for byte in self.from.drain(..) {
            if receiver.take(byte)
                && let Some(FromBoard::Alarm { tick, raised }) = receiver.message()
            {
                alarms.push((tick, raised));
            }
        }
        alarms
    }

    /// The actions since the last call: sequence, kind, fault, value.
    fn actions(&mut self) -> Vec<(u32, ActionKind, u8, f32)> {
        let mut receiver = Receiver::<256>::new();
        let mut actions = Vec::new();
        for byte in self.from.drain(..) {
            if receiver.take(byte)
                && let Some(FromBoard::Action { sequence, kind, fault, values, .. }) = receiver.message()
            {
                let mut row = [0.0];
                assert!(frame::from_bytes(values, &mut row));
                actions.push((sequence, kind, fault, row[0]));
            }
        }
        actions
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
    let contract = spring_contract();
    let layer =
        Dense { inputs: 2, outputs: 1, weights: vec![-0.5, -0.25], bias: vec![0.0], activation: Activation::Identity };
    let graph = PolicyGraph::for_contract(&contract, None, vec![layer], Squash::None).unwrap();
    blob(&contract, &Network::from_graph(&graph).unwrap(), Precision::F32, [0; 32], &[&[0.5, 0.5]]).unwrap()
}

#[test]
fn rest_drive_hold_and_drive_again() {
    let file = spring();
    let mut memory = Memory::new();
    let mut station = Station::new(&mut memory, file.bytes(), 0).unwrap();
    let mut board = Fake::default();
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
    let mut station = Station::new(&mut memory, file.bytes(), 0).unwrap();
    let mut board = Fake::default();
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

    let mut spoiled = [policy.bytes(), &section].concat();
    let last = spoiled.len() - 20;
    spoiled[last] ^= 1;
    let spoiled = BlobFile::new(&spoiled);
    assert_eq!(Station::new(&mut Memory::new(), spoiled.bytes(), 0).unwrap_err(), BlobError::DataDigest);
}

#[test]
fn a_late_action_is_not_the_policys() {
    let file = spring();
    let mut memory = Memory::new();
    let mut station = Station::new(&mut memory, file.bytes(), 0).unwrap();
    let mut board = Fake::default();
    board.say(&ToBoard::Enter);
    board.observe(1, [1.0, 0.0]);
    // Every look at the clock costs a period, so that the action is ready after its deadline.
    board.step = PERIOD_NANOS;
    for _ in 0..200 {
        station.poll(&mut board);
    }
    let actions = board.actions();
    assert!(actions.iter().all(|(_, kind, _, _)| *kind != ActionKind::Good), "{actions:?}");
    let late = actions.iter().any(|(_, _, fault, _)| *fault == wire_fault(FaultKind::Late));
    let stale = actions.iter().any(|(_, _, fault, _)| *fault == wire_fault(FaultKind::ObservationStale));
    assert!(late || stale, "{actions:?}");
}

#[test]
fn a_bad_policy_is_refused_with_its_code() {
    let file = spring();
    let mut bytes = file.bytes().to_vec();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    let spoiled = BlobFile::new(&bytes);
    let error = Station::new(&mut Memory::new(), spoiled.bytes(), 0).unwrap_err();
    assert_eq!(error, BlobError::DataDigest);
    let mut board = Fake::default();
    refuse(&mut board, error);
    let mut receiver = Receiver::<64>::new();
    assert!(board.from.iter().any(|byte| receiver.take(*byte)));
    assert_eq!(receiver.message(), Some(FromBoard::Refused { code: 7 }));
}

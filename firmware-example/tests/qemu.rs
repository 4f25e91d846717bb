//! The firmware in QEMU: the same bits as here, and the declared behaviour when something is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/src/board.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod board;

use std::path::{Path, PathBuf};

use ::firmware::frame::{ActionKind, ToBoard};
use board::{Heard, QemuBoard, built_firmware, wire};
use policy_runtime::drift::Cusum;
use policy_runtime::embedded::heap::BlobFile;
use policy_runtime::embedded::write::{Network, Part, Recurrent, blob};
use policy_runtime::embedded::{Precision, watch_section};
use policy_runtime::guard::FaultKind;
use policy_runtime::monitor::{Monitor, MonitorRecord, Score, Shape};
use policy_runtime::probe::Draws;
use policy_runtime::safety::GuardRules;
use policy_runtime::spec::{Activation, Affine, Clamp, Dense, Normalizer, Squash};
use policy_runtime::{Channel, Contract, Fallback};

const MACHINES: [&str; 2] = ["mps2-an386", "mps2-an500"];
const PERIOD_NANOS: u64 = 10_000_000;
const WIDTHS: (usize, usize) = (5, 3);

/// Bytes of flash beside the policy: a little above what it is. The goal is 16 KiB.
const CODE_BUDGET: usize = 15_360;
/// Bytes of flash that the monitor adds.
const MONITOR_BUDGET: usize = 1536;
/// Bytes of static RAM beside activations.
const RAM_BUDGET: usize = 4 << 10;
/// What USART2 of the STM32 receives into, beyond that budget.
const DMA_RING: usize = 1 << 10;
/// Bytes of stack, all frames together.
const STACK_BUDGET: usize = 2560;
/// Bytes of one function's variables.
const FRAME_BUDGET: usize = 1280;
/// Instructions per multiplication: a little above what they are. The goals are 3.7 and 3.0.
const F32_BUDGET: f64 = 2.95;
const INT8_BUDGET: f64 = 2.6;
/// Actions that are timed together.
const REPEATS: u16 = 20;

/// How a fault goes over the wire.
fn wire_fault(kind: FaultKind) -> u8 {
    1 + kind as u8
}

fn contract() -> Contract {
    Contract {
        task: "test".into(),
        observation: (0..WIDTHS.0).map(|index| Channel::unbounded(format!("angle_{index}"), "rad")).collect(),
        action: (0..WIDTHS.1).map(|index| Channel::bounded(format!("torque_{index}"), "N*m", -1.0, 2.0)).collect(),
        control_period_secs: PERIOD_NANOS as f64 * 1e-9,
        fallback: Fallback::Hold,
        max_observation_age_secs: Some(2.5 * PERIOD_NANOS as f64 * 1e-9),
        guards: GuardRules::default(),
    }
}

fn row(draws: &mut Draws, length: usize, spread: f32) -> Vec<f32> {
    (0..length).map(|_| spread * draws.normal()).collect()
}

fn dense(inputs: usize, outputs: usize, activation: Activation, draws: &mut Draws) -> Part {
    let weights = row(draws, inputs * outputs, (2.0 / inputs as f32).sqrt());
    Part::Dense(Dense { inputs, outputs, weights, bias: row(draws, outputs, 0.1), activation })
}

fn recurrent(gates: usize, inputs: usize, hidden: usize, draws: &mut Draws) -> Recurrent {
    Recurrent {
        inputs,
        hidden,
        weight_ih: row(draws, gates * hidden * inputs, 0.3),
        weight_hh: row(draws, gates * hidden * hidden, 0.3),
        bias_ih: row(draws, gates * hidden, 0.3),
        bias_hh: row(draws, gates * hidden, 0.3),
    }
}

fn policy(parts: Vec<Part>, precision: Precision, draws: &mut Draws) -> BlobFile {
    let network = Network {
        normalizer: Some(Normalizer { mean: row(draws, WIDTHS.0, 0.5), std: vec![0.7; WIDTHS.0] }),
        parts,
        squash: Squash::Tanh,
        affine: Affine { scale: vec![1.5; WIDTHS.1], offset: vec![0.5; WIDTHS.1] },
        clamp: Clamp { low: vec![-1.0; WIDTHS.1], high: vec![2.0; WIDTHS.1] },
    };
    let golden: Vec<_> = (0..3).map(|_| row(draws, WIDTHS.0, 1.0)).collect();
    let golden: Vec<&[f32]> = golden.iter().map(Vec::as_slice).collect();
    blob(&contract(), &network, precision, [0; 32], &golden).unwrap()
}

fn small(draws: &mut Draws) -> BlobFile {
    let parts = vec![dense(5, 16, Activation::Relu, draws), dense(16, 3, Activation::Identity, draws)];
    policy(parts, Precision::F32, draws)
}

fn saved(folder: &Path, blob: &[u8]) -> PathBuf {
    let path = folder.join("policy.hpb");
    std::fs::write(&path, blob).unwrap();
    path
}

#[test]
fn qemu_computes_the_bits_of_the_host_for_every_kind_of_layer() {
    let mut draws = Draws::new(21);
    let networks = [
        vec![dense(5, 31, Activation::Relu, &mut draws), dense(31, 3, Activation::Identity, &mut draws)],
        vec![
            dense(5, 16, Activation::Silu, &mut draws),
            dense(16, 14, Activation::Elu, &mut draws),
            dense(14, 3, Activation::Sigmoid, &mut draws),
        ],
        vec![Part::Lstm(recurrent(4, 5, 18, &mut draws)), dense(18, 3, Activation::Tanh, &mut draws)],
        vec![Part::Gru(recurrent(3, 5, 13, &mut draws)), dense(13, 3, Activation::Identity, &mut draws)],
    ];
    for machine in MACHINES {
        let Some(elf) = built_firmware("qemu_computes_the_bits_of_the_host_for_every_kind_of_layer", machine) else {
            return;
        };
        for (network, precision) in networks.iter().flat_map(|it| [(it, Precision::F32), (it, Precision::Int8)]) {
            let folder = tempfile::tempdir().unwrap();
            let file = policy(network.clone(), precision, &mut draws);
            let mut host = file.open().unwrap();
            let mut board = QemuBoard::start(machine, &elf, &saved(folder.path(), file.bytes()), false);
            board.enter();
            for step in 1..60_u32 {
                // Now and then far outside of what is usual, where functions end.
                let spread = if step % 7 == 0 { 1e3 } else { 1.0 };
                let observation = row(&mut draws, WIDTHS.0, spread);
                let (kind, _, action) = board.tick(step, u64::from(step) * PERIOD_NANOS, Some(&observation));
                let mut wanted = [0.0; WIDTHS.1];
                host.run(&observation, &mut wanted).unwrap();
                assert_eq!(kind, ActionKind::Good);
                let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&action), bits(&wanted), "{machine} {precision:?} step {step}: {action:?} {wanted:?}");
            }
        }
    }
}

#[test]
fn qemu_refuses_a_corrupted_policy_with_its_code() {
    let Some(elf) = built_firmware("qemu_refuses_a_corrupted_policy_with_its_code", MACHINES[0]) else { return };
    let good = small(&mut Draws::new(22)).bytes().to_vec();
    let mut weight = good.clone();
    let last = weight.len() - 100;
    weight[last] ^= 1;
    let mut version = good.clone();
    version[8] = 9;
    for (blob, code) in [(weight, 7), (version, 3), (good[..200].to_vec(), 6), (vec![0xff; 64], 2)] {
        let folder = tempfile::tempdir().unwrap();
        let mut board = QemuBoard::start(MACHINES[0], &elf, &saved(folder.path(), &blob), false);
        assert_eq!(board.hear(), Heard::Refused(code));
        board.say(&ToBoard::Enter);
        assert_eq!(board.hear(), Heard::Refused(code), "it goes on saying so, and gives no action");
    }
}

#[test]
fn qemu_holds_through_dropped_frames_and_a_silent_sensor() {
    let Some(elf) = built_firmware("qemu_holds_through_dropped_frames_and_a_silent_sensor", MACHINES[0]) else {
        return;
    };
    let mut draws = Draws::new(23);
    let folder = tempfile::tempdir().unwrap();
    let file = small(&mut draws);
    let mut board = QemuBoard::start(MACHINES[0], &elf, &saved(folder.path(), file.bytes()), false);
    board.enter();
    let at = |step: u32| u64::from(step) * PERIOD_NANOS;
    let mut host = file.open().unwrap();
    let mut act = |observation: &[f32]| {
        let mut action = vec![0.0; WIDTHS.1];
        host.run(observation, &mut action).unwrap();
        action
    };
    let (_, fault, action) = board.tick(1, at(1), None);
    assert_eq!((fault, action), (wire_fault(FaultKind::NoObservation), vec![0.0; 3]), "nothing to hold yet");
    let first = row(&mut draws, WIDTHS.0, 1.0);
    assert_eq!(board.tick(2, at(2), Some(&first)), (ActionKind::Good, 0, act(&first)));

    // A damaged frame: the one before it counts for as long as it may.
    let second = row(&mut draws, WIDTHS.0, 1.0);
    let bytes: Vec<u8> = second.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut damaged = wire(&ToBoard::Observation { sequence: 3, stamp_nanos: at(3), values: &bytes });
    damaged[9] ^= 0x40;
    board.say_bytes(&damaged);
    assert_eq!(board.tick(3, at(3), None), (ActionKind::Good, 0, act(&first)));
    assert_eq!(board.tick(4, at(4), None), (ActionKind::Good, 0, act(&first)));
    // Silence: older than two and a half periods.
    let held = act(&first);
    assert_eq!(
        board.tick(5, at(5), None),
        (ActionKind::Fallback, wire_fault(FaultKind::ObservationStale), held.clone())
    );
    let bad = [0.0, f32::NAN, 0.0, 0.0, 0.0];
    let not_finite = wire_fault(FaultKind::ObservationNotFinite);
    assert_eq!(board.tick(6, at(6), Some(&bad)), (ActionKind::Fallback, not_finite, held));
    assert_eq!(board.tick(7, at(7), Some(&second)), (ActionKind::Good, 0, act(&second)), "and it drives again");
    board.say(&ToBoard::Status);
    let (fallbacks, dropped) = board.hear_until(|heard| match heard {
        Heard::Status { fallbacks, dropped_frames, .. } => Some((*fallbacks, *dropped_frames)),
        _ => None,
    });
    assert_eq!((fallbacks, dropped), (3, 1));
    board.say(&ToBoard::Stop);
    let (kind, _, _) = board.tick(8, at(8), Some(&first));
    assert_eq!(kind, ActionKind::Stopped);
}

#[test]
fn qemu_forgets_a_state_that_is_not_finite() {
    let Some(elf) = built_firmware("qemu_forgets_a_state_that_is_not_finite", MACHINES[0]) else { return };
    let mut draws = Draws::new(27);
    let networks = [
        vec![Part::Lstm(recurrent(4, 5, 8, &mut draws)), dense(8, 3, Activation::Identity, &mut draws)],
        vec![Part::Gru(recurrent(3, 5, 8, &mut draws)), dense(8, 3, Activation::Identity, &mut draws)],
    ];
    for network in networks {
        let folder = tempfile::tempdir().unwrap();
        let file = policy(network, Precision::F32, &mut draws);
        let mut fresh = file.open().unwrap();
        let mut board = QemuBoard::start(MACHINES[0], &elf, &saved(folder.path(), file.bytes()), false);
        board.enter();
        let usual = row(&mut draws, WIDTHS.0, 1.0);
        let mut tick = |step: u32, values: &[f32]| board.tick(step, u64::from(step) * PERIOD_NANOS, Some(values));
        assert_eq!(tick(1, &usual).0, ActionKind::Good);
        // Finite, so that it passes the checks.
        let (kind, fault, _) = tick(2, &[f32::MAX, -f32::MAX, f32::MAX, -f32::MAX, f32::MAX]);
        assert_eq!((kind, fault), (ActionKind::Fallback, wire_fault(FaultKind::Engine)));
        for step in 3..6 {
            let mut wanted = vec![0.0; WIDTHS.1];
            fresh.run(&usual, &mut wanted).unwrap();
            assert_eq!(tick(step, &usual), (ActionKind::Good, 0, wanted), "step {step}");
        }
    }
}

#[test]
fn qemu_ticks_at_its_rate_and_bites_when_it_hangs() {
    let Some(elf) = built_firmware("qemu_ticks_at_its_rate_and_bites_when_it_hangs", MACHINES[0]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = small(&mut Draws::new(24));
    // In the board's own time, counted by instructions: nothing depends on how loaded this machine is.
    let mut board = QemuBoard::start(MACHINES[0], &elf, &saved(folder.path(), file.bytes()), true);
    let ready = board.hear();
    let Heard::Ready { widths: [5, 3], period_nanos: PERIOD_NANOS, .. } = ready else { panic!("{ready:?}") };
    for wanted in 0..20 {
        let heard = board.hear();
        let Heard::Action { tick, kind: ActionKind::Idle, values, .. } = heard else { panic!("{heard:?}") };
        assert_eq!((tick, values), (wanted, vec![0.0; 3]));
    }
    board.say(&ToBoard::Enter);
    let fault = board.hear_until(|heard| match heard {
        Heard::Action { kind: ActionKind::Fallback, fault, .. } => Some(*fault),
        _ => None,
    });
    assert_eq!(fault, wire_fault(FaultKind::NoObservation));
    board.say(&ToBoard::Status);
    let missed = board.hear_until(|heard| match heard {
        Heard::Status { missed_deadlines, .. } => Some(*missed_deadlines),
        _ => None,
    });
    assert_eq!(missed, 0);
    drop(board);

    let mut board = QemuBoard::start(MACHINES[0], &elf, &saved(folder.path(), file.bytes()), false);
    board.hear_until(|heard| matches!(heard, Heard::Ready { .. }).then_some(()));
    board.say(&ToBoard::Hang);
    board.hear_until(|heard| matches!(heard, Heard::Ready { .. }).then_some(()));
}

#[test]
fn qemu_raises_the_monitors_alarm_at_the_ticks_of_the_host() {
    let name = "qemu_raises_the_monitors_alarm_at_the_ticks_of_the_host";
    let Some(elf) = built_firmware(name, "mps2-an386,monitor") else { return };
    let mut draws = Draws::new(26);
    let file = small(&mut draws);
    let mut host = file.open().unwrap();
    let mut pairs = Vec::new();
    for _ in 0..400 {
        let (observation, mut action) = (row(&mut draws, WIDTHS.0, 1.0), [0.0; WIDTHS.1]);
        host.run(&observation, &mut action).unwrap();
        pairs.extend(observation.into_iter().chain(action));
    }
    let cusum = Cusum { mean: 0.65, deviation: 0.2, slack: 0.5, most: 10.0, threshold: 12.0, sum: 0.0 };
    let shape = Shape::of(&pairs, WIDTHS.0 + WIDTHS.1).unwrap();
    let record = MonitorRecord { shape, score: Score::Mahalanobis, cusum: Some(cusum) };
    let section = watch_section(&contract(), &record).unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let flash = saved(folder.path(), &[file.bytes(), &section].concat());

    let mut monitor = Monitor::new(&record, None).unwrap();
    let mut board = QemuBoard::start(MACHINES[0], &elf, &flash, false);
    board.enter();
    let (mut wanted, mut raised) = (Vec::new(), false);
    let mut found = Vec::new();
    for step in 1..80_u32 {
        let spread = if (30..35).contains(&step) { 6.0 } else { 1.0 };
        let observation = row(&mut draws, WIDTHS.0, spread);
        let (_, _, action) = board.tick(step, u64::from(step) * PERIOD_NANOS, Some(&observation));
        if monitor.watch(&observation, &action) != raised {
            raised = !raised;
            wanted.push((step, raised));
        }
        // The alarm follows its action.
        board.say(&ToBoard::Status);
        let status = |heard: &Heard| match heard {
            Heard::Alarm { raised, .. } => Some(Some(*raised)),
            Heard::Status { .. } => Some(None),
            _ => None,
        };
        while let Some(raised) = board.hear_until(status) {
            found.push((step, raised));
        }
    }
    assert_eq!(found, wanted);
    assert!(matches!(found[..], [(30..35, true), (35.., false), ..]), "{found:?}");
}

/// Contents of the sections of an ELF file for 32-bit machines, by name; those that a program only clears are zeros.
fn sections(elf: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    const NO_BITS: usize = 8;
    let bytes = std::fs::read(elf).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let half = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()) as usize;
    let (table, size, count, names) = (word(32), half(46), half(48), half(50));
    let header = |index: usize| table + index * size;
    let name = |index: usize| {
        let start = word(header(names) + 16) + word(header(index));
        bytes[start..].iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
    };
    let content = |index: usize| {
        let (kind, offset, length) = (word(header(index) + 4), word(header(index) + 16), word(header(index) + 20));
        if kind == NO_BITS { vec![0; length] } else { bytes[offset..offset + length].to_vec() }
    };
    (0..count).map(|index| (name(index), content(index))).collect()
}

/// The most that one function takes off the stack pointer for its variables: every `sub sp` of the program ("ARMv7-M
/// Architecture Reference Manual", SUB (SP minus immediate), encodings T1 to T3).
fn largest_frame_bytes(text: &[u8]) -> usize {
    let halves: Vec<usize> = text.as_chunks::<2>().0.iter().map(|half| u16::from_le_bytes(*half).into()).collect();
    let frame = |pair: &[usize]| {
        let constant = (pair[0] >> 10 & 1) << 11 | (pair[1] >> 12 & 7) << 8 | pair[1] & 0xff;
        match (pair[0] & 0xfbff, pair[1] & 0x8f00) {
            _ if pair[0] & 0xff80 == 0xb080 => 4 * (pair[0] & 0x7f),
            (0xf1ad, 0x0d00) if constant < 0x100 => constant,
            // Eight bits with a one in front, rotated.
            (0xf1ad, 0x0d00) if constant >= 0x400 => {
                (0x80 | constant as u32 & 0x7f).rotate_right((constant >> 7) as u32) as usize
            }
            (0xf2ad, 0x0d00) => constant,
            _ => 0,
        }
    };
    halves.windows(2).map(frame).max().unwrap_or(0)
}

/// Flash of a program beside the policy, its static memory, and its largest frame, bytes.
fn memory(elf: &Path) -> (usize, usize, usize) {
    let sections = sections(elf);
    let of = |names: &[&str]| names.iter().filter_map(|name| sections.get(*name)).map(Vec::len).sum::<usize>();
    let frame = largest_frame_bytes(&sections[".text"]);
    (of(&[".vector_table", ".text", ".rodata", ".data"]), of(&[".data", ".bss"]), frame)
}

/// A policy of dense layers for the bill.
fn priced(observation: usize, hidden: usize, action: usize, precision: Precision) -> (BlobFile, Vec<f32>) {
    let mut draws = Draws::new(25);
    let parts = vec![
        dense(observation, hidden, Activation::Relu, &mut draws),
        dense(hidden, hidden, Activation::Relu, &mut draws),
        dense(hidden, action, Activation::Identity, &mut draws),
    ];
    let mut contract = contract();
    contract.observation = (0..observation).map(|index| Channel::unbounded(format!("angle_{index}"), "rad")).collect();
    contract.action = (0..action).map(|index| Channel::bounded(format!("torque_{index}"), "N*m", -1.0, 2.0)).collect();
    let network = Network {
        normalizer: None,
        parts,
        squash: Squash::Tanh,
        affine: Affine { scale: vec![1.5; action], offset: vec![0.5; action] },
        clamp: Clamp { low: vec![-1.0; action], high: vec![2.0; action] },
    };
    let golden = row(&mut draws, observation, 1.0);
    (blob(&contract, &network, precision, [0; 32], &[&golden]).unwrap(), golden)
}

/// How deep the stack of a board was after it did everything once: start, golden vectors, driving, a damaged frame, a stale
/// and a wild observation, the way out and the stop.
fn deepest_stack_bytes(board: &mut QemuBoard, observation: &[f32]) -> usize {
    let at = |step: u32| u64::from(step) * PERIOD_NANOS;
    board.drive();
    let kinds = [
        board.tick(1, at(1), Some(observation)).0,
        board.tick(2, at(9), None).0,
        board.tick(3, at(10), Some(&vec![f32::NAN; observation.len()])).0,
        board.tick(4, at(11), Some(observation)).0,
    ];
    assert_eq!(kinds[1..], [ActionKind::Fallback, ActionKind::Fallback, ActionKind::Good]);
    board.say_bytes(&[9; 300]);
    board.say_bytes(&[0]);
    board.say(&ToBoard::Exit);
    board.say(&ToBoard::Stop);
    assert_eq!(board.tick(5, at(12), Some(observation)).0, ActionKind::Stopped);
    board.say(&ToBoard::Status);
    board.say(&ToBoard::Stack);
    board.hear_until(|heard| if let Heard::Stack(bytes) = heard { Some(*bytes as usize) } else { None })
}

/// The first half of the bill: what the linker knows, so that it needs the compiler's target alone.
#[test]
fn bill_of_memory_stays_within_its_budget() {
    if !board::has_target() {
        println!("SKIPPED bill_of_memory_stays_within_its_budget: rustup target add {}", board::TARGET);
        return;
    }
    // Two rows of activations and the recurrent state.
    let activations = 4 * (2 * ::firmware::MAX_WIDTH + ::firmware::MAX_STATE);
    for (name, ring) in [(MACHINES[0], 0), ("stm32f407", DMA_RING)] {
        let mut plain = None;
        for monitor in ["", ",monitor"] {
            let name = format!("{name}{monitor}");
            let (code, ram, frame) = memory(&board::build(&name));
            let rest = ram - activations - ring;
            println!(
                "{name}: code {code} B flash; static RAM {ram} B: activations {activations} B, DMA ring {ring} B, the rest {rest} B; \
                 largest stack frame {frame} B"
            );
            let budget = plain.map_or(CODE_BUDGET, |plain| plain + MONITOR_BUDGET);
            assert!(code <= budget, "{name}: {code} bytes of flash beside the policy; budget {budget}");
            assert!((100..=FRAME_BUDGET).contains(&frame), "{name}: a frame of {frame} bytes; budget {FRAME_BUDGET}");
            assert!(rest <= RAM_BUDGET, "{name}: {rest} bytes of RAM; budget {RAM_BUDGET}");
            plain = Some(code);
        }
    }
}

/// The second half: what QEMU counts. `cargo test -p hype-firmware --test qemu bill -- --nocapture` prints both.
#[test]
fn qemu_bill_stays_within_its_budget() {
    let Some(elf) = built_firmware("qemu_bill_stays_within_its_budget", MACHINES[0]) else { return };
    for (observation, hidden, action) in [(11, 256, 3), (17, 256, 6), (376, 256, 17)] {
        for (precision, budget) in [(Precision::F32, F32_BUDGET), (Precision::Int8, INT8_BUDGET)] {
            let (file, golden) = priced(observation, hidden, action, precision);
            let products = file.open().unwrap().blob().multiplications();
            let folder = tempfile::tempdir().unwrap();
            let mut board = QemuBoard::start(MACHINES[0], &elf, &saved(folder.path(), file.bytes()), true);
            board.hear_until(|heard| matches!(heard, Heard::Ready { .. }).then_some(()));
            let values: Vec<u8> = golden.iter().flat_map(|value| value.to_le_bytes()).collect();
            board.say(&ToBoard::Observation { sequence: 0, stamp_nanos: 0, values: &values });
            board.say(&ToBoard::Time { repeats: REPEATS });
            let nanos = board.hear_until(|heard| if let Heard::Timed(nanos) = heard { Some(*nanos) } else { None });
            // One nanosecond of the board's time is one instruction.
            let instructions = nanos as f64 / f64::from(REPEATS);
            let each = instructions / products as f64;
            let stack = deepest_stack_bytes(&mut board, &golden);
            println!(
                "{observation}-{hidden}-{hidden}-{action} {precision:?}: policy {} B flash, {instructions:.0} instructions, \
                 {each:.2} per multiplication, stack {stack} B",
                file.bytes().len()
            );
            assert!(each <= budget, "{each} instructions per multiplication; budget {budget}");
            assert!(stack <= STACK_BUDGET, "{stack} bytes of stack; budget {STACK_BUDGET}");
        }
    }
}

//! Hardware in the loop without hardware: the trained Hopper policy as firmware in QEMU, over the emulated serial port,
//! against MuJoCo on this machine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use firmware::frame::{ActionKind, ToBoard, to_bytes};
use hype_tests::board::{Heard, QemuBoard, built_firmware, wire};
use hype_tests::hype;
use policy_runtime::embedded::Precision;
use policy_runtime::embedded::heap::{BlobFile, HeapExecutor};
use policy_runtime::embedded::write::{Network, blob};
use policy_runtime::frame::verdict_code;
use policy_runtime::guard::FaultKind;
use policy_runtime::safety::Terms;
use policy_runtime::{Controller, EngineChoice, Fallback, Observation, Policy};
use trainer::envs::{Ending, Purpose, World, WorldConfig};
use trainer::run::rng::Streams;

const STEPS: u32 = 1000;

/// One control step after another; a new episode where one ends.
struct Walk {
    world: World,
    total: f64,
    episodes: usize,
}

impl Walk {
    fn new() -> Self {
        let config = WorldConfig { tremble: 0.0, demo_resets: None };
        let mut world = World::new("hopper", config, Streams::new(5), "qemu").unwrap();
        world.reset().unwrap();
        Self { world, total: 0.0, episodes: 1 }
    }

    fn step(&mut self, action: &[f32]) {
        let step = self.world.step_env(action, Purpose::Evaluation).unwrap();
        self.total += step.reward;
        if step.ending != Ending::Continues {
            self.world.reset().unwrap();
            self.episodes += 1;
        }
    }
}

/// Who says what the board should do.
enum Host<'a> {
    /// The runtime with its deterministic engine, from the bundle's ONNX file.
    Runtime(Box<Policy>),
    /// The board's own interpreter, where the blob alone has these weights.
    Interpreter(Box<HeapExecutor<'a>>),
}

impl Host<'_> {
    fn act(&mut self, values: &[f32], action: &mut [f32]) {
        match self {
            Host::Runtime(policy) => {
                let observation = Observation { values, stamp_nanos: 0 };
                assert!(policy.step(0, &observation, action).is_good());
            }
            Host::Interpreter(executor) => executor.run(values, action).unwrap(),
        }
    }
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|value| value.to_bits()).collect()
}

fn exported(folder: &Path) -> std::path::PathBuf {
    hype(folder, "export expert:hopper -o hopper.bundle").good();
    folder.join("hopper.bundle")
}

fn hopper_walks(test: &str, machine: &str, blob: &str) {
    let Some(elf) = built_firmware(test, machine) else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = exported(folder.path());
    let path = bundle.join(blob);
    let file = BlobFile::new(&std::fs::read(&path).unwrap());
    let opened = file.open().unwrap();
    let period_nanos = opened.blob().header().control_period_nanos;
    let mut host = match opened.blob().header().precision {
        Precision::F32 => {
            let policy = Policy::load(&bundle, EngineChoice::Deterministic).unwrap();
            assert_eq!(policy.engine_name(), "native");
            Host::Runtime(Box::new(policy))
        }
        Precision::Int8 => Host::Interpreter(Box::new(opened)),
    };

    let mut board = QemuBoard::start(machine, &elf, &path, false);
    board.enter();
    let (mut on_board, mut on_host) = (Walk::new(), Walk::new());
    let mut wanted = [0.0; 3];
    for step in 1..=STEPS {
        let observation = on_board.world.observation().to_vec();
        assert_eq!(observation, on_host.world.observation(), "step {step}");
        let (kind, fault, action) = board.tick(step, u64::from(step) * period_nanos, Some(&observation));
        host.act(&observation, &mut wanted);
        assert_eq!((kind, fault), (ActionKind::Good, 0), "step {step}");
        assert_eq!(bits(&action), bits(&wanted), "{machine} step {step}: {action:?} {wanted:?}");
        on_board.step(&action);
        on_host.step(&wanted);
    }
    println!("{machine} {blob}: return {} over {STEPS} steps, {} episodes", on_board.total, on_board.episodes);
    assert_eq!(on_board.total.to_bits(), on_host.total.to_bits());
    assert!(on_board.total > 2500.0, "a trained policy hops: {}", on_board.total);
}

#[test]
fn qemu_m4_hops_as_the_host_does_action_for_action() {
    hopper_walks("qemu_m4_hops_as_the_host_does_action_for_action", "mps2-an386", "policy.hpb");
}

#[test]
fn qemu_m7_hops_as_the_host_does_with_int8_weights() {
    hopper_walks("qemu_m7_hops_as_the_host_does_with_int8_weights", "mps2-an500", "policy-int8.hpb");
}

/// The trained policy with an age limit: what a dropped frame and a silent sensor do is what the host's controller does, and a
/// corrupted policy is refused.
#[test]
fn qemu_hopper_meets_its_faults_as_the_host_does() {
    let machine = "mps2-an386";
    let Some(elf) = built_firmware("qemu_hopper_meets_its_faults_as_the_host_does", machine) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut policy = Policy::load(exported(folder.path()), EngineChoice::Deterministic).unwrap();
    let contract = policy.contract().unwrap();
    let terms = Terms {
        max_observation_age_secs: Some(3.0 * contract.control_period_secs),
        fallback: Some(Fallback::Hold),
        ..Terms::default()
    };
    let contract = terms.applied_to(contract);
    policy.adopt(&terms).unwrap();
    let network = Network::from_graph(policy.graph().unwrap()).unwrap();
    let golden = vec![0.1; contract.observation.len()];
    let file = blob(&contract, &network, Precision::F32, [0; 32], &[&golden]).unwrap();
    let period_nanos = file.open().unwrap().blob().header().control_period_nanos;
    let path = folder.path().join("guarded.hpb");
    std::fs::write(&path, file.bytes()).unwrap();

    let mut board = QemuBoard::start(machine, &elf, &path, false);
    board.enter();
    let mut controller = Controller::new(policy).unwrap();
    assert!(controller.enter());
    let mut walk = Walk::new();
    let mut known = (Vec::new(), 0);
    let mut kinds = Vec::new();
    for step in 1..=60_u32 {
        let now = u64::from(step) * period_nanos;
        let (dropped, silent) = (step == 20, (40..45).contains(&step));
        let observation = walk.world.observation().to_vec();
        if dropped {
            let mut bytes = vec![0; 4 * observation.len()];
            let values = to_bytes(&observation, &mut bytes);
            let mut frame = wire(&ToBoard::Observation { sequence: step, stamp_nanos: now, values });
            frame[11] ^= 0x20;
            board.say_bytes(&frame);
        }
        let arrives = !dropped && !silent;
        if arrives {
            known = (observation, now);
        }
        let found = board.tick(step, now, arrives.then_some(known.0.as_slice()));
        let seen = Observation { values: &known.0, stamp_nanos: known.1 };
        let mut wanted = [0.0; 3];
        let verdict = controller.tick(now, Some(&seen), &|| now, &mut wanted);
        let [kind, fault, ..] = verdict_code(verdict).to_le_bytes();
        assert_eq!((found.0 as u8, found.1, bits(&found.2)), (kind, fault, bits(&wanted)), "step {step}: {verdict:?}");
        kinds.push((step, found.0, found.1));
        walk.step(&found.2);
    }
    let stale = 1 + FaultKind::ObservationStale as u8;
    let fallbacks: Vec<_> = kinds.into_iter().filter(|(_, kind, _)| *kind != ActionKind::Good).collect();
    let wanted = [43, 44].map(|step| (step, ActionKind::Fallback, stale));
    assert_eq!(fallbacks, wanted, "silence is borne for three periods, one dropped frame for one");
    board.say(&ToBoard::Status);
    let dropped = board.hear_until(|heard| match heard {
        Heard::Status { dropped_frames, fallbacks, .. } => Some((*dropped_frames, *fallbacks)),
        _ => None,
    });
    assert_eq!(dropped, (1, 2));
    drop(board);

    let mut spoiled = file.bytes().to_vec();
    let middle = spoiled.len() / 2;
    spoiled[middle] ^= 1;
    std::fs::write(&path, spoiled).unwrap();
    let mut board = QemuBoard::start(machine, &elf, &path, false);
    assert_eq!(board.hear(), Heard::Refused(7));
    board.say(&ToBoard::Enter);
    assert_eq!(board.hear(), Heard::Refused(7), "and it gives no action");
}

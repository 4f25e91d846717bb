//! Hardware in the loop without hardware: the trained Hopper policy as firmware in QEMU, over the emulated serial port,
//! against MuJoCo on this machine.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use firmware::frame::ActionKind;
use hype_tests::board::{QemuBoard, built_firmware};
use hype_tests::hype;
use policy_runtime::embedded::write::BlobFile;
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

fn hopper_walks(test: &str, machine: &str, blob: &str) {
    let Some(elf) = built_firmware(test, machine) else { return };
    let folder = tempfile::tempdir().unwrap();
    hype(folder.path(), "export expert:hopper -o hopper.bundle").good();
    let path = folder.path().join("hopper.bundle").join(blob);
    let file = BlobFile::new(&std::fs::read(&path).unwrap());
    let mut host = file.open().unwrap();
    let period_nanos = host.blob().header().control_period_nanos;

    let mut board = QemuBoard::start(machine, &elf, &path, false);
    board.enter();
    let (mut on_board, mut on_host) = (Walk::new(), Walk::new());
    let mut wanted = [0.0; 3];
    for step in 1..=STEPS {
        let observation = on_board.world.observation().to_vec();
        assert_eq!(observation, on_host.world.observation(), "step {step}");
        let (kind, fault, action) = board.tick(step, u64::from(step) * period_nanos, Some(&observation));
        host.run(&observation, &mut wanted).unwrap();
        assert_eq!((kind, fault), (ActionKind::Good, 0), "step {step}");
        let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
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

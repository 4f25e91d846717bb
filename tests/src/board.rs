//! The firmware in QEMU, over its emulated serial port.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use firmware::frame::{self, ActionKind, FromBoard, ToBoard};

/// What the firmware is compiled for.
pub const TARGET: &str = "thumbv7em-none-eabihf";
/// How long an answer may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// A message of the board's, with memory of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It started.
    Ready { widths: [u16; 2], period_nanos: u64, policy_crc32: u32 },
    /// It has no policy, for this reason.
    Refused(u8),
    /// A tick's action.
    Action { tick: u32, sequence: u32, kind: ActionKind, fault: u8, values: Vec<f32> },
    /// Its counters.
    Status { ticks: u32, fallbacks: u32, missed_deadlines: u32, dropped_frames: u32, alarm: Option<bool> },
    /// How long the actions took.
    Timed(u64),
    /// How deep its stack has been, bytes.
    Stack(u32),
    /// The monitor's alarm was raised at this tick, or ended.
    Alarm { tick: u32, raised: bool },
    /// Something else.
    Other,
}

impl From<FromBoard<'_>> for Heard {
    fn from(message: FromBoard<'_>) -> Self {
        match message {
            FromBoard::Ready { widths, period_nanos, policy_crc32, .. } => {
                Heard::Ready { widths, period_nanos, policy_crc32 }
            }
            FromBoard::Refused { code } => Heard::Refused(code),
            FromBoard::Action { tick, sequence, kind, fault, values } => {
                let mut row = vec![0.0; values.len() / 4];
                assert!(frame::from_bytes(values, &mut row), "{} bytes of values", values.len());
                Heard::Action { tick, sequence, kind, fault, values: row }
            }
            FromBoard::Status { ticks, fallbacks, missed_deadlines, dropped_frames, alarm } => {
                Heard::Status { ticks, fallbacks, missed_deadlines, dropped_frames, alarm }
            }
            FromBoard::Timed { nanos } => Heard::Timed(nanos),
            FromBoard::Stack { bytes } => Heard::Stack(bytes),
            FromBoard::Alarm { tick, raised } => Heard::Alarm { tick, raised },
            _ => Heard::Other,
        }
    }
}

/// The firmware for `machine` (`mps2-an386`, `mps2-an500`), built; none, with a line that says so, where QEMU or the
/// compiler's target is missing. `test` names who asks.
pub fn built_firmware(test: &str, machine: &str) -> Option<PathBuf> {
    if output("qemu-system-arm", &["--version"]).is_none() || !has_target() {
        println!("SKIPPED {test}: apt-get install -y qemu-system-arm && rustup target add {TARGET}");
        return None;
    }
    Some(build(machine))
}

/// What a program says; none where it is not here or fails.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether the compiler's target is here.
pub fn has_target() -> bool {
    let library = |sysroot: String| Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib").is_dir();
    output("rustc", &["--print", "sysroot"]).is_some_and(library)
}

/// Builds the firmware; panics with the compiler's words where that fails. `board` may have other features behind a comma.
pub fn build(board: &str) -> PathBuf {
    // Two builds at once would wait for each other anyway.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package of the workspace");
    let tests = std::env::current_exe().expect("this program has a path");
    let folder = tests.ancestors().nth(3).expect("target/PROFILE/deps/test").join("firmware-for-tests");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "-p", "hype-firmware", "--profile", "firmware", "--target", TARGET]);
    command.args(["--features", board, "--target-dir"]).arg(folder.join(board)).current_dir(root);
    let built = command.output().expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.join(board).join(TARGET).join("firmware/hype-firmware")
}

/// A running board.
#[derive(Debug)]
pub struct QemuBoard {
    child: Child,
    to: ChildStdin,
    from: Receiver<Heard>,
}

impl QemuBoard {
    /// Starts `firmware` on `machine` with `policy` in its flash. `exact`: one nanosecond of the board's time per
    /// instruction, otherwise the host's time.
    pub fn start(machine: &str, firmware: &Path, policy: &Path, exact: bool) -> Self {
        let mut command = Command::new("qemu-system-arm");
        command
            .args(["-M", machine, "-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel"])
            .arg(firmware);
        command.arg("-device");
        command.arg(format!("loader,file={},addr=0x100000,force-raw=on", policy.display()));
        if exact {
            command.args(["-icount", "shift=0"]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("QEMU starts");
        let to = child.stdin.take().expect("it was piped");
        let mut wire = child.stdout.take().expect("it was piped");
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut receiver = frame::Receiver::<4096>::new();
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = wire.read(&mut bytes) {
                for byte in &bytes[..count] {
                    if receiver.take(*byte)
                        && let Some(message) = receiver.message::<FromBoard<'_>>()
                        && sender.send(message.into()).is_err()
                    {
                        return;
                    }
                }
            }
        });
        Self { child, to, from }
    }

    /// Sends a message.
    pub fn say(&mut self, message: &ToBoard<'_>) {
        self.say_bytes(&wire(message));
    }

    /// Sends bytes as they are.
    pub fn say_bytes(&mut self, bytes: &[u8]) {
        self.to.write_all(bytes).and_then(|()| self.to.flush()).expect("the board takes bytes");
    }

    /// The next message; panics where none comes.
    pub fn hear(&mut self) -> Heard {
        match self.from.recv_timeout(PATIENCE) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => panic!("the board is silent"),
            Err(RecvTimeoutError::Disconnected) => panic!("QEMU ended: {:?}", self.child.try_wait()),
        }
    }

    /// The next message that `wanted` recognises; those before it are dropped.
    pub fn hear_until<T>(&mut self, mut wanted: impl FnMut(&Heard) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.hear()) {
                return found;
            }
        }
    }

    /// A tick in the messages' time: sends `observation`, where there is one, and what time it is; returns the action.
    pub fn tick(&mut self, sequence: u32, now_nanos: u64, observation: Option<&[f32]>) -> (ActionKind, u8, Vec<f32>) {
        if let Some(values) = observation {
            let mut bytes = vec![0; 4 * values.len()];
            let values = frame::to_bytes(values, &mut bytes);
            self.say(&ToBoard::Observation { sequence, stamp_nanos: now_nanos, values });
        }
        self.say(&ToBoard::Advance { now_nanos });
        self.hear_until(|heard| match heard {
            Heard::Action { kind, fault, values, .. } => Some((*kind, *fault, values.clone())),
            _ => None,
        })
    }

    /// Waits for the board's greeting, stops its own clock and lets the policy drive.
    pub fn enter(&mut self) {
        self.hear_until(|heard| matches!(heard, Heard::Ready { .. }).then_some(()));
        self.drive();
    }

    /// Stops the board's own clock and lets the policy drive.
    pub fn drive(&mut self) {
        self.say(&ToBoard::Advance { now_nanos: 0 });
        // Ticks of the board's own clock may have been on their way.
        self.say(&ToBoard::Status);
        self.hear_until(|heard| matches!(heard, Heard::Status { .. }).then_some(()));
        self.say(&ToBoard::Enter);
    }
}

impl Drop for QemuBoard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message as it goes over the wire.
pub fn wire(message: &ToBoard<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::send(message, &mut [0; 4096], |byte| bytes.push(byte));
    bytes
}

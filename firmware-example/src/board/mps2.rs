//! ARM MPS2+ as QEMU has it: CMSDK UART and watchdog ("Cortex-M System Design Kit", ARM DDI 0479).

use cortex_m::Peripherals;
use firmware::Board;

use super::{Timer, read, write};

/// Core clock.
pub(crate) const HZ: u32 = 25_000_000;
/// Start and length of the policy's memory.
pub(crate) const POLICY: (usize, usize) = (0x0010_0000, 3 << 20);

const UART_DATA: usize = 0x4000_4000;
const UART_STATE: usize = 0x4000_4004;
const UART_CTRL: usize = 0x4000_4008;
const UART_BAUDDIV: usize = 0x4000_4010;
const WATCHDOG_LOAD: usize = 0x4000_8000;
const WATCHDOG_CONTROL: usize = 0x4000_8008;
const WATCHDOG_CLEAR: usize = 0x4000_800c;
const WATCHDOG_LOCK: usize = 0x4000_8c00;

/// The first expiry is a non-maskable interrupt, whose handler never returns; the second, as long after it, resets.
const WATCH: u32 = HZ / 2;

pub(crate) struct Machine(Timer);

impl Machine {
    pub(crate) fn start(peripherals: Peripherals) -> Self {
        write(UART_BAUDDIV, 16);
        write(UART_CTRL, 0b11);
        Self(Timer::start(peripherals.SYST))
    }

    /// Starts the watchdog.
    pub(crate) fn watch(&mut self) {
        write(WATCHDOG_LOCK, 0x1acc_e551);
        write(WATCHDOG_LOAD, WATCH);
        write(WATCHDOG_CONTROL, 0b11);
    }
}

impl Board for Machine {
    const WATCHDOG_NANOS: u64 = WATCH as u64 * 1_000_000_000 / HZ as u64;

    fn now_nanos(&mut self) -> u64 {
        self.0.nanos()
    }

    fn receive(&mut self) -> Option<u8> {
        (read(UART_STATE) & 0b10 != 0).then(|| read(UART_DATA) as u8)
    }

    fn send(&mut self, byte: u8) {
        while read(UART_STATE) & 0b01 != 0 {}
        write(UART_DATA, byte.into());
    }

    fn feed_watchdog(&mut self) {
        write(WATCHDOG_CLEAR, 1);
    }

    fn deepest_stack_bytes(&mut self) -> u32 {
        super::deepest_stack_bytes()
    }
}

//! The thin part: start-up, one board, and the loop. A panic there stops feeding the watchdog, which restarts the board.

#![no_std]
#![no_main]

mod board;

use core::mem::MaybeUninit;

use cortex_m_rt::entry;
use policy_runtime::embedded::BlobError;

use firmware::{Board, Memory, Station, refuse};

use board::Machine;

/// How often a board without a policy says why.
const REFUSAL_NANOS: u64 = 100_000_000;

#[entry]
fn main() -> ! {
    static mut MEMORY: Memory = Memory::new();
    // Here rather than on the stack, so that the linker's figures show it.
    static mut STATION: MaybeUninit<Station<'static>> = MaybeUninit::uninit();
    let Some(peripherals) = cortex_m::Peripherals::take() else { halt() };
    let mut machine = Machine::start(peripherals);
    let opened = open(STATION, MEMORY, &mut machine);
    // Not before: how long the policy's digests and golden vectors take depends on the policy.
    machine.watch();
    match opened {
        Ok(station) => {
            station.greet(&mut machine);
            loop {
                station.poll(&mut machine);
            }
        }
        Err(error) => loop {
            refuse(&mut machine, error);
            let until = machine.now_nanos() + REFUSAL_NANOS;
            while machine.now_nanos() < until {}
        },
    }
}

/// A function of its own, so that its stack is free again when the loop starts.
#[inline(never)]
fn open(
    place: &'static mut MaybeUninit<Station<'static>>,
    memory: &'static mut Memory,
    machine: &mut Machine,
) -> Result<&'static mut Station<'static>, BlobError> {
    Ok(place.write(Station::new(memory, board::policy(), machine)?))
}

fn halt() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    halt()
}

//! The boards. Each has `HZ`, `POLICY` and a type `Machine`.
#![allow(unsafe_code)]

use core::ptr::{read_volatile, with_exposed_provenance, with_exposed_provenance_mut, write_volatile};
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{SCB, SYST};
use cortex_m_rt::exception;
use firmware::clock::{Counter, ticks};

mod memory;
#[cfg(any(feature = "mps2-an386", feature = "mps2-an500"))]
mod mps2;
#[cfg(feature = "stm32f407")]
mod stm32f407;

#[cfg(any(feature = "mps2-an386", feature = "mps2-an500"))]
pub(crate) use mps2::{HZ, Machine, POLICY};
#[cfg(feature = "stm32f407")]
pub(crate) use stm32f407::{HZ, Machine, POLICY};

/// The address range that the board's policy is flashed to, whether or not one is there.
pub(crate) fn policy() -> &'static [u8] {
    let (start, length) = POLICY;
    // SAFETY: the range is readable memory of the board, outside of the linker's regions, and nothing writes to it.
    unsafe { core::slice::from_raw_parts(with_exposed_provenance(start), length) }
}

/// Writes a register.
fn write(address: usize, value: u32) {
    // SAFETY: addresses are those of the board's reference manual; 32-bit registers, aligned.
    unsafe { write_volatile(with_exposed_provenance_mut(address), value) }
}

/// Bytes of the stack that no longer hold what start-up painted there. Between the end of the static memory and the first
/// such word nothing has ever been.
#[cfg(feature = "hil")]
pub(crate) fn deepest_stack_bytes() -> u32 {
    unsafe extern "C" {
        static _stack_end: u32;
        static _stack_start: u32;
    }
    let (mut at, top) = ((&raw const _stack_end).addr(), (&raw const _stack_start).addr());
    while at < top && read(at) == cortex_m_rt::STACK_PAINT_VALUE {
        at += 4;
    }
    (top - at) as u32
}

/// Reads a register.
fn read(address: usize) -> u32 {
    // SAFETY: as in `write`.
    unsafe { read_volatile(with_exposed_provenance(address)) }
}

/// Sets the bits of `mask`.
#[cfg(feature = "stm32f407")]
fn set(address: usize, mask: u32) {
    write(address, read(address) | mask);
}

/// No interrupt of the board's own is used; the linker wants a table that is not empty.
// SAFETY: the name is the one that cortex-m-rt's linker script knows, and the section its place for these handlers.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".vector_table.interrupts")]
static __INTERRUPTS: [unsafe extern "C" fn(); 1] = [DefaultHandler];

unsafe extern "C" {
    fn DefaultHandler();
}

/// `number / by`, where `by` is below 2^16, by four divisions that the core has: those of 64 bits take a kilobyte of flash.
fn divide(number: u64, by: u32) -> u64 {
    let (mut quotient, mut rest) = (0, 0);
    for two in number.to_be_bytes().as_chunks::<2>().0 {
        let digits = rest << 16 | u32::from(u16::from_be_bytes(*two));
        quotient = quotient << 16 | u64::from(digits / by);
        rest = digits % by;
    }
    quotient
}

const RELOAD: u32 = 0x00ff_ffff;

static LAPS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    LAPS.fetch_add(1, Ordering::Relaxed);
}

/// Time from the core's own timer.
pub(crate) struct Timer(SYST);

impl Timer {
    pub(crate) fn start(mut syst: SYST) -> Self {
        syst.set_clock_source(SystClkSource::Core);
        syst.set_reload(RELOAD);
        syst.clear_current();
        syst.enable_counter();
        syst.enable_interrupt();
        Self(syst)
    }

    pub(crate) fn nanos(&mut self) -> u64 {
        // Exact for a whole number of MHz.
        divide(ticks(self, RELOAD) * 1000, HZ / 1_000_000)
    }
}

impl Counter for Timer {
    fn laps(&mut self) -> u32 {
        LAPS.load(Ordering::Relaxed)
    }

    fn left(&mut self) -> u32 {
        self.0.cvr.read()
    }

    fn is_pending(&mut self) -> bool {
        SCB::is_pendst_pending()
    }
}

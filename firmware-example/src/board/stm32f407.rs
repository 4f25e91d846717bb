//! STM32F407 (Discovery board and many others): 168 MHz from the internal oscillator, USART2 on PA2 and PA3 at 1 Mbaud, received
//! by DMA, and the independent watchdog. Registers as in ST's RM0090.

use core::ptr::{addr_of_mut, read_volatile};

use cortex_m::Peripherals;
use firmware::Board;

use super::{Timer, read, set, write};

/// Core clock.
pub(crate) const HZ: u32 = 168_000_000;
/// Sectors 5 to 11.
pub(crate) const POLICY: (usize, usize) = (0x0802_0000, 896 << 10);

const APB1_HZ: u32 = HZ / 4;
/// A whole part of the clock: no error beside the oscillator's own.
const BAUD: u32 = 1_000_000;

const FLASH_ACR: usize = 0x4002_3c00;
const RCC_CR: usize = 0x4002_3800;
const RCC_PLLCFGR: usize = 0x4002_3804;
const RCC_CFGR: usize = 0x4002_3808;
const RCC_AHB1ENR: usize = 0x4002_3830;
const RCC_APB1ENR: usize = 0x4002_3840;
const GPIOA_MODER: usize = 0x4002_0000;
const GPIOA_OSPEEDR: usize = 0x4002_0008;
const GPIOA_PUPDR: usize = 0x4002_000c;
const GPIOA_AFRL: usize = 0x4002_0020;
const USART2_SR: usize = 0x4000_4400;
const USART2_DR: usize = 0x4000_4404;
const USART2_BRR: usize = 0x4000_4408;
const USART2_CR1: usize = 0x4000_440c;
const USART2_CR3: usize = 0x4000_4414;
/// DMA1 stream 5, channel 4 is USART2's receiver.
const DMA_CR: usize = 0x4002_6088;
const DMA_NDTR: usize = 0x4002_608c;
const DMA_PAR: usize = 0x4002_6090;
const DMA_M0AR: usize = 0x4002_6094;
const WATCHDOG_KR: usize = 0x4000_3000;
const WATCHDOG_PR: usize = 0x4000_3004;
const WATCHDOG_RLR: usize = 0x4000_3008;
const WATCHDOG_SR: usize = 0x4000_300c;

/// Counts of the watchdog's clock, and its greatest frequency after the prescaler: 17 to 47 kHz by the data sheet, 32 kHz as a rule.
const WATCH: u32 = 1024;
const WATCH_HZ: u64 = 47_000_u64.div_ceil(32);

/// Room for what arrives while an action is computed: 10 ms of a line that never pauses.
const RING: usize = 1024;
static mut RECEIVED: [u8; RING] = [0; RING];

pub(crate) struct Machine {
    timer: Timer,
    next: usize,
}

impl Machine {
    pub(crate) fn start(peripherals: Peripherals) -> Self {
        clock();
        serial();
        Self { timer: Timer::start(peripherals.SYST), next: 0 }
    }

    /// Starts the watchdog: about a second.
    pub(crate) fn watch(&mut self) {
        // The registers take values once the counter's clock runs.
        write(WATCHDOG_KR, 0xcccc);
        write(WATCHDOG_KR, 0x5555);
        write(WATCHDOG_PR, 3);
        write(WATCHDOG_RLR, WATCH);
        while read(WATCHDOG_SR) != 0 {}
        write(WATCHDOG_KR, 0xaaaa);
    }
}

/// 16 MHz / 16 · 336 / 2 = 168 MHz; buses at 42 and 84 MHz; five wait states, prefetch and both caches on.
fn clock() {
    write(FLASH_ACR, 5 | 1 << 8 | 1 << 9 | 1 << 10);
    write(RCC_PLLCFGR, 16 | 336 << 6 | 7 << 24);
    set(RCC_CR, 1 << 24);
    while read(RCC_CR) & 1 << 25 == 0 {}
    write(RCC_CFGR, 0b101 << 10 | 0b100 << 13);
    set(RCC_CFGR, 0b10);
    while read(RCC_CFGR) & 0b1100 != 0b1000 {}
}

fn serial() {
    set(RCC_AHB1ENR, 1 | 1 << 21);
    set(RCC_APB1ENR, 1 << 17);
    // The enabled clocks need two cycles; a reading takes longer.
    let _ = read(RCC_APB1ENR);
    set(GPIOA_MODER, 0b1010 << 4);
    set(GPIOA_OSPEEDR, 0b1010 << 4);
    // PA3 is high where nothing is connected.
    set(GPIOA_PUPDR, 0b01 << 6);
    set(GPIOA_AFRL, 0x77 << 8);
    const { assert!(APB1_HZ.is_multiple_of(BAUD)) };
    write(USART2_BRR, APB1_HZ / BAUD);
    write(USART2_CR3, 1 << 6);
    write(USART2_CR1, 1 << 13 | 1 << 3 | 1 << 2);
    write(DMA_PAR, USART2_DR as u32);
    write(DMA_M0AR, addr_of_mut!(RECEIVED).addr() as u32);
    write(DMA_NDTR, RING as u32);
    // Channel 4, bytes, memory incremented, circular, enabled.
    write(DMA_CR, 4 << 25 | 1 << 10 | 1 << 8 | 1);
}

impl Board for Machine {
    const WATCHDOG_NANOS: u64 = WATCH as u64 * 1_000_000_000 / WATCH_HZ;

    fn now_nanos(&mut self) -> u64 {
        self.timer.nanos()
    }

    fn receive(&mut self) -> Option<u8> {
        let written = (RING - read(DMA_NDTR) as usize) % RING;
        if self.next == written {
            return None;
        }
        // SAFETY: the index is below RING; only the DMA controller writes, and this byte it has written already. A host that
        // sends more than RING bytes between two calls overwrites bytes, which the frames' digests find.
        let byte = unsafe { read_volatile(addr_of_mut!(RECEIVED).cast::<u8>().add(self.next)) };
        self.next = (self.next + 1) % RING;
        Some(byte)
    }

    fn send(&mut self, byte: u8) {
        while read(USART2_SR) & 1 << 7 == 0 {}
        write(USART2_DR, byte.into());
    }

    fn feed_watchdog(&mut self) {
        write(WATCHDOG_KR, 0xaaaa);
    }
}

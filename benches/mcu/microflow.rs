//! microflow's policy on mps2-an386: instructions of one action, by semihosting. `peers.sh` makes a program of it.

#![no_std]
#![no_main]
use cortex_m::peripheral::{syst::SystClkSource, SYST};
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use microflow::buffer::Buffer2D;
use microflow::model;

#[model("int8.tflite")]
struct Policy;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}

#[entry]
fn main() -> ! {
    let Some(mut p) = cortex_m::Peripherals::take() else { loop {} };
    p.SYST.set_clock_source(SystClkSource::Core);
    p.SYST.set_reload(0xff_ffff);
    p.SYST.clear_current();
    p.SYST.enable_counter();
    let input: Buffer2D<f32, 1, 17> = Buffer2D::from_fn(|_, j| 0.1 * j as f32 - 0.8);
    let begin = SYST::get_current();
    let out = Policy::predict(core::hint::black_box(input));
    let ticks = begin.wrapping_sub(SYST::get_current()) & 0xff_ffff;
    // 25 MHz, one nanosecond per instruction.
    hprintln!("instructions {}", ticks as u64 * 40);
    hprintln!("actions / 1e-6: {:?}", out.map(|action| (action * 1e6) as i32).as_slice());
    debug::exit(debug::EXIT_SUCCESS);
    loop {}
}

//! The whole-number product by the DSP extension of Cortex-M4, M7, M33 and later.
#![allow(unsafe_code)]

use core::arch::asm;

/// `sum + Σ_k weight_k · value_k` over the four weights of a word.
#[inline(always)]
pub(super) fn dot4(word: u32, [even, odd]: [u32; 2], sum: i32) -> i32 {
    let result: i32;
    // SAFETY: arithmetic on registers only; the feature `dsp` promises a core that has these instructions. SMLAD may set the
    // sticky Q flag, which nothing reads.
    unsafe {
        asm!(
            "sxtb16 {low}, {word}",
            "sxtb16 {high}, {word}, ror #8",
            "smlad {sum}, {low}, {even}, {sum}",
            "smlad {sum}, {high}, {odd}, {sum}",
            word = in(reg) word,
            even = in(reg) even,
            odd = in(reg) odd,
            low = out(reg) _,
            high = out(reg) _,
            sum = inout(reg) sum => result,
            options(pure, nomem, nostack),
        );
    }
    result
}

//! Copying and clearing as the compiler asks for it ("Run-time ABI for the Arm Architecture", section 5.3.4). The compiler's own take
//! 1.4 KB of flash; here they are loops, of words where both sides are aligned. Assembly, since a compiler would recognise such a loop
//! in Rust and call itself.

use core::arch::global_asm;

global_asm!(
    ".section .text.aeabi_memory, \"ax\", %progbits",
    ".syntax unified",
    ".thumb",
    // r0: to, r1: from, r2: bytes.
    ".global __aeabi_memcpy8, __aeabi_memcpy4, __aeabi_memcpy",
    ".thumb_func",
    "__aeabi_memcpy8:",
    ".thumb_func",
    "__aeabi_memcpy4:",
    "0: subs r2, #4",
    "itt hs",
    "ldrhs r3, [r1], #4",
    "strhs r3, [r0], #4",
    "bhi 0b",
    "it eq",
    "bxeq lr",
    "adds r2, #4",
    ".thumb_func",
    "__aeabi_memcpy:",
    "cbz r2, 2f",
    "1: ldrb r3, [r1], #1",
    "strb r3, [r0], #1",
    "subs r2, #1",
    "bne 1b",
    "2: bx lr",
    // r0: to, r1: bytes.
    ".global __aeabi_memclr8, __aeabi_memclr4, __aeabi_memclr",
    ".thumb_func",
    "__aeabi_memclr8:",
    ".thumb_func",
    "__aeabi_memclr4:",
    ".thumb_func",
    "__aeabi_memclr:",
    "movs r2, #0",
    "cbz r1, 4f",
    "3: strb r2, [r0], #1",
    "subs r1, #1",
    "bne 3b",
    "4: bx lr",
    ".previous",
);

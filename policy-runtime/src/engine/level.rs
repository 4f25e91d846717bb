//! Which instructions the native engine's loops are compiled for, chosen when a policy is loaded.

#![allow(unsafe_code)]

use super::arithmetic::Deterministic;
#[cfg(feature = "std")]
use super::arithmetic::Fast;
use super::program::Program;
use super::vector::Plain;
use crate::error::{Error, Result};

/// How numbers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numerics {
    /// As fast as the machine is: fused multiplication and addition, sums in parts, functions as vector code. Equal bits on
    /// equal machines only.
    #[default]
    Fast,
    /// One order of operations and the functions of `libm`: the bits of a microcontroller on every machine.
    Deterministic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Plain,
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    Avx2,
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    Avx512,
    #[cfg(all(feature = "std", target_arch = "aarch64"))]
    Neon,
}

/// A set of instructions that this machine was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels(Level);

impl Kernels {
    /// What every machine has.
    pub const PLAIN: Self = Self(Level::Plain);

    /// The best that this machine has.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::PLAIN)
    }

    /// All that this machine has, the best last.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg_attr(not(feature = "std"), allow(unused_mut, reason = "nothing is asked without std"))]
        let mut found = [Some(Level::Plain), None, None];
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            found[1] = avx2.then_some(Level::Avx2);
            found[2] = (avx2 && avx512).then_some(Level::Avx512);
        }
        #[cfg(all(feature = "std", target_arch = "aarch64"))]
        {
            found[1] = std::arch::is_aarch64_feature_detected!("neon").then_some(Level::Neon);
        }
        found.into_iter().flatten().map(Self)
    }

    /// `plain`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Plain => "plain",
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Level::Avx2 => "avx2",
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Level::Avx512 => "avx512",
            #[cfg(all(feature = "std", target_arch = "aarch64"))]
            Level::Neon => "neon",
        }
    }
}

impl Program<'_> {
    /// Runs all operations in order on `memory`; the largest magnitude that an [`Op::Peak`](super::program::Op::Peak) saw,
    /// infinite for NaN. Allocates nothing.
    ///
    /// # Errors
    /// [`Error::Width`] where the memory is not [`Program::memory`] long.
    pub fn run(&self, memory: &mut [f32], kernels: Kernels, numerics: Numerics) -> Result<f32> {
        if memory.len() != self.memory() {
            return Err(Error::Width { what: "the program's memory", expected: self.memory(), found: memory.len() });
        }
        Ok(match (kernels.0, numerics) {
            // 16 sums in the 32 registers of a microcontroller's floating-point unit.
            #[cfg(not(feature = "std"))]
            (Level::Plain, _) => self.run_with::<Deterministic<Plain<16, 1>>>(memory),
            // 32 sums in 8 of the 16 registers of 128 bits that every 64-bit processor has.
            #[cfg(feature = "std")]
            (Level::Plain, Numerics::Deterministic) => self.run_with::<Deterministic<Plain<4, 2>>>(memory),
            #[cfg(feature = "std")]
            (Level::Plain, Numerics::Fast) => self.run_with::<Fast<Plain<4, 2>>>(memory),
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            // SAFETY: `Kernels` with this level are only made where the processor reports these instructions.
            (Level::Avx2, _) => unsafe { x86::avx2(self, memory, numerics) },
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            // SAFETY: as above.
            (Level::Avx512, _) => unsafe { x86::avx512(self, memory, numerics) },
            #[cfg(all(feature = "std", target_arch = "aarch64"))]
            // SAFETY: as above.
            (Level::Neon, _) => unsafe { arm::neon(self, memory, numerics) },
        })
    }
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod x86 {
    use super::super::vector::{Avx2, Avx512};
    use super::{Deterministic, Fast, Numerics, Program};

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(program: &Program<'_>, memory: &mut [f32], numerics: Numerics) -> f32 {
        match numerics {
            Numerics::Fast => program.run_with::<Fast<Avx2>>(memory),
            Numerics::Deterministic => program.run_with::<Deterministic<Avx2>>(memory),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn avx512(program: &Program<'_>, memory: &mut [f32], numerics: Numerics) -> f32 {
        match numerics {
            Numerics::Fast => program.run_with::<Fast<Avx512>>(memory),
            Numerics::Deterministic => program.run_with::<Deterministic<Avx512>>(memory),
        }
    }
}

#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod arm {
    use super::super::vector::Neon;
    use super::{Deterministic, Fast, Numerics, Program};

    #[target_feature(enable = "neon")]
    pub(super) fn neon(program: &Program<'_>, memory: &mut [f32], numerics: Numerics) -> f32 {
        match numerics {
            Numerics::Fast => program.run_with::<Fast<Neon>>(memory),
            Numerics::Deterministic => program.run_with::<Deterministic<Neon>>(memory),
        }
    }
}

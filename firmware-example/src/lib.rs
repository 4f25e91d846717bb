//! A policy on a microcontroller: observation frames in, action frames out, at a fixed rate.
//!
//! * [`Station`] is the whole logic without any hardware: clock, serial port and watchdog are a [`Board`], so the same code
//!   runs under test on the host.
//! * [`clock`] is time from a core's own counter.
//! * [`frame`] is what goes over the wire; docs/FORMAT.md describes it.
//!
//! The binary adds start-up code and one [`Board`]. Nothing here allocates or needs std.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

pub mod clock;
pub mod frame;
mod station;
#[cfg(test)]
mod station_tests;

pub use station::{Board, Clock, Memory, Station, refuse};

/// Most observation channels of a policy that the binary takes.
pub const MAX_OBSERVATION: usize = 384;
/// Most action channels.
pub const MAX_ACTION: usize = 32;
/// Widest row of activations.
pub const MAX_WIDTH: usize = 512;
/// Most numbers of recurrent state.
pub const MAX_STATE: usize = 256;
/// Longest frame: an observation with its counters and digest.
pub const MAX_FRAME: usize = 4 * MAX_OBSERVATION + 48;

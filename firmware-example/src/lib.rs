//! A fixed-rate control loop for a microcontroller around a policy.
//!
//! [`ControlLoop`] is the logic without any hardware: time, sensor frame and policy are arguments, so the same code runs
//! under test on the host. It allocates nothing and has no dependency on std.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod control;

pub use control::{ControlLoop, Policy, Tick};

//! What a policy is, and running it in bounded time.
//!
//! A *policy* maps one observation, in the units of the robot's sensors, to one action, in the units of its actuators.
//! Normalisation, squashing, scaling and clamping are part of it; nothing is left to a hand-kept file.
//!
//! * [`contract`]: named, unit-tagged observation and action channels in their order, with bounds and control period.
//! * [`spec`]: the layers of a policy and of a discriminator; an ONNX file and a manifest are views of these.
//! * [`engine`]: two executors that answer the same calls: `native` (plain Rust) and `tract` (any ONNX policy).
//! * [`embedded`]: the same policy as a blob for a microcontroller, and its executor.
//! * [`policy`], [`controller`]: what users call: [`Policy::load`], then [`Policy::step`] for an answer, or
//!   [`Controller::tick`] in a loop that drives motors; [`swap`] for a new policy while it runs.
//! * [`engine::layout`], [`joints`]: which inputs and outputs of other people's files are what, and the metadata of rsl_rl and mjlab.
//! * [`kernel`], [`normalize`], [`action`], [`guard`], [`supervisor`], [`timing`], [`frame`]: the arithmetic and the checks, without std or allocator.
//!
//! # A control loop
//! ```
//! # #[cfg(feature = "onnx")]
//! # fn main() -> Result<(), policy_runtime::Error> {
//! use std::num::NonZeroU64;
//!
//! use policy_runtime::timing::FixedRate;
//! use policy_runtime::{Controller, EngineChoice, Observation, Policy, Verdict};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../trainer/experts/pendulum.onnx");
//! // What `hype export` wrote: a bundle, or its policy.onnx. Everything is checked here, and all memory allocated; recurrent state is the
//! // policy's own affair. (Other people's ONNX files load as well; without names, units and bounds `Controller::new` refuses to drive.)
//! let policy = Policy::load(path, EngineChoice::Auto)?;
//! let Some(contract) = policy.contract() else { panic!("a bundle has one") };
//! let period = policy_runtime::contract::nanos_from_secs(contract.control_period_secs);
//! let mut values = vec![0.0; policy.observation_width()];
//! let mut action = vec![0.0; policy.action_width()];
//! let mut controller = Controller::new(policy)?;
//!
//! let start = std::time::Instant::now();
//! let clock = || start.elapsed().as_nanos() as u64;
//! // After a stall it skips to the next release, instead of a burst of late ticks.
//! let mut rate = FixedRate::new(NonZeroU64::new(period).unwrap_or(NonZeroU64::MIN), clock());
//! controller.enter();
//! for tick in 0..5 {
//!     let release_nanos = rate.release_nanos();
//!     // An absolute time; `clock_nanosleep` on a real robot.
//!     std::thread::sleep(std::time::Duration::from_nanos(release_nanos.saturating_sub(clock())));
//!     // Read the sensors.
//!     values[0] = 0.01 * tick as f32;
//!     let observation = Observation { values: &values, stamp_nanos: clock() };
//!     let verdict = controller.tick(release_nanos, Some(&observation), &clock, &mut action);
//!     // Command the motors: whatever the verdict, `action` is finite and within the contract's bounds.
//!     assert!((-2.0..=2.0).contains(&action[0]));
//!     if let Verdict::Fallback(fault) = verdict {
//!         eprintln!("tick {tick}: fallback action, {fault:?}");
//!     }
//!     rate.complete(clock());
//! }
//! assert_eq!((controller.counters().ticks(), controller.policy().engine_name()), (5, "native"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "onnx"))]
//! # fn main() {}
//! ```
//! `hype-policy run` is such a loop, with real-time scheduling, sockets and telemetry.
//!
//! # Rust
//! Rust 1.95 or newer (`rust-version`, which CI builds this crate with).
//!
//! # Features
//! `std` (contract, spec, bundle, policy), `onnx` (ONNX files, through tract), `signature` (ed25519), `robot`
//! (robot files, TOML), `cli` (the `hype-policy` binary). Without
//! any of them the crate is `no_std`, allocates nothing, and offers the last line of the list above.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
#![warn(missing_docs)]

pub mod action;
pub mod drift;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod frame;
pub mod guard;
pub mod kernel;
pub mod normalize;
pub mod supervisor;
pub mod timing;

#[cfg(feature = "std")]
pub mod bundle;
#[cfg(feature = "std")]
pub mod contract;
#[cfg(feature = "std")]
pub mod controller;
#[cfg(feature = "std")]
pub mod discriminator;
#[cfg(feature = "std")]
pub mod files;
#[cfg(feature = "onnx")]
pub mod joints;
#[cfg(feature = "std")]
pub mod link;
#[cfg(feature = "std")]
pub mod metadata;
#[cfg(feature = "std")]
pub mod monitor;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "std")]
pub mod policy;
#[cfg(feature = "std")]
pub mod probe;
#[cfg(feature = "std")]
pub mod ring;
#[cfg(feature = "std")]
pub mod robot;
#[cfg(feature = "std")]
pub mod safety;
#[cfg(feature = "std")]
pub mod selfcheck;
#[cfg(feature = "signature")]
pub mod signature;
#[cfg(feature = "std")]
pub mod spec;
#[cfg(feature = "std")]
pub mod swap;
#[cfg(feature = "std")]
pub mod telemetry;

#[cfg(feature = "onnx")]
pub mod array;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod realtime;

pub use engine::{EngineChoice, Kernels, Numerics};
pub use error::{Error, Kind, Result};
pub use guard::{Fallback, Fault, Observation, Verdict};
pub use supervisor::Supervisor;

#[cfg(feature = "std")]
pub use {
    contract::{Channel, Contract},
    controller::Controller,
    discriminator::Discriminator,
    policy::Policy,
    safety::{GuardRules, Safety},
    spec::{DiscriminatorGraph, PolicyGraph},
};

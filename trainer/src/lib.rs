//! Learns policies from expert demonstrations with hybrid inverse reinforcement learning (arXiv 2402.08848).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod cli;
pub mod envs;
pub mod error;
pub mod run;

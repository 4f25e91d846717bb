//! Learns policies from expert demonstrations with hybrid inverse reinforcement learning (arXiv 2402.08848).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod backend;
pub mod cli;
pub mod config;
pub mod demos;
pub mod envs;
pub mod error;
pub mod eval;
pub mod experts;
pub mod learners;
pub mod methods;
pub mod nn;
pub mod observe;
pub mod replay;
pub mod reward;
pub mod run;
pub mod to_policy;
pub mod world_model;

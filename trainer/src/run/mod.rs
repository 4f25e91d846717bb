//! A run: its directory, its random streams, its checkpoints.

pub mod files;
pub mod rng;

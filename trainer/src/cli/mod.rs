//! What the commands of `hype` do, apart from reading the command line.

pub mod collect;
pub mod doctor;
pub mod evaluate;
pub mod export;
pub mod policy;
pub mod tasks;
pub mod train;

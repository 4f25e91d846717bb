//! What the commands of `hype` do, apart from reading the command line.

pub mod doctor;
pub mod tasks;

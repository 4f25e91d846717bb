//! What the commands of `hype` do, apart from reading the command line.

pub mod arguments;
pub mod collect;
pub mod demos;
pub mod device_check;
mod dispatch;
pub mod doctor;
pub mod evaluate;
pub mod export;
mod memory;
pub mod plot;
pub mod policy;
pub mod quickstart;
pub mod tasks;
pub mod train;
mod transfer;

pub use dispatch::dispatch;

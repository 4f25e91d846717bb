//! MuJoCo 3.17.0, loaded at run time: fetched once, checked, bound by hand.
//!
//! `fetch` puts the library and the robot models into a cache, `library` loads it and owns error handling, `ffi` and `layout`
//! are the binding, `model` is the safe face that environments see.

/// The one version that the binding's layout is for.
pub const VERSION: &str = "3.17.0";

pub mod fetch;
mod ffi;
mod layout;
pub mod library;
pub mod model;
#[cfg(test)]
mod tests;

pub use fetch::Sources;
pub use library::{Library, warnings};
pub use model::{Field, Model, Simulation};

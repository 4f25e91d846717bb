//! Executors of a policy. They answer the same calls and agree to 1e-5 relative to activation scale.

pub mod native;

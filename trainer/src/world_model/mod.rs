//! The learned world: an ensemble of probabilistic dynamics models (Chua et al. 2018; Janner et al. 2019), and imagination in it.

pub mod dynamics;
pub mod ensemble;
pub mod model;
pub mod normalizer;
pub mod rollout;
pub mod sampling;
pub mod schedule;
pub mod simulator;
pub mod starts;
#[cfg(test)]
mod tests;

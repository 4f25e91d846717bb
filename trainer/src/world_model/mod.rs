//! The learned world: an ensemble of probabilistic dynamics models (Chua et al. 2018; Janner et al. 2019).

pub mod ensemble;
#[cfg(test)]
mod tests;

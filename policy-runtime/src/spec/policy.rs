//! A policy: raw observation in, action in environment units out.

use serde::{Deserialize, Serialize};

use super::{Affine, Clamp, Dense, Mlp, Normalizer};
use crate::contract::Contract;
use crate::error::{Error, Result};

/// What brings the network's last output into `[-1, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Squash {
    /// Nothing; the clamp alone bounds the action.
    None,
    /// `tanh`, the mode of a squashed Gaussian.
    #[default]
    Tanh,
}

/// A deterministic policy, whole: `clamp(affine(squash(mlp(normalizer(observation)))))`.
///
/// # Shapes
/// Input `[observation]` in raw units, output `[action]` in environment units.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyGraph {
    /// Input normaliser, where the policy was trained with one.
    pub normalizer: Option<Normalizer>,
    /// The network; its last layer gives the action before the squash.
    pub mlp: Mlp,
    /// From the network's output to `action_unit`.
    pub squash: Squash,
    /// From `action_unit` to `action_env`.
    pub affine: Affine,
    /// Bounds of `action_env`; only other people's policies lack them.
    pub clamp: Option<Clamp>,
}

impl PolicyGraph {
    /// A policy whose `[-1, 1]` is stretched over the contract's action bounds and clamped to them.
    ///
    /// # Errors
    /// [`Error::Malformed`] where contract or layers are not valid, or do not fit each other.
    pub fn for_contract(
        contract: &Contract,
        normalizer: Option<Normalizer>,
        layers: Vec<Dense>,
        squash: Squash,
    ) -> Result<Self> {
        contract.validate()?;
        let (low, high) = (contract.action_low(), contract.action_high());
        let affine = Affine::from_bounds(&low, &high);
        let graph = Self { normalizer, mlp: Mlp { layers }, squash, affine, clamp: Some(Clamp { low, high }) };
        graph.validate_for(contract)?;
        Ok(graph)
    }

    /// Number of observation channels.
    pub fn observation_width(&self) -> usize {
        self.mlp.inputs()
    }

    /// Number of action channels.
    pub fn action_width(&self) -> usize {
        self.mlp.outputs()
    }

    /// Checks that widths fit and that every number is finite.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first part that does not fit.
    pub fn validate(&self) -> Result<()> {
        self.mlp.validate("policy")?;
        if let Some(normalizer) = &self.normalizer {
            normalizer.validate("policy normaliser", self.observation_width())?;
        }
        self.affine.validate("policy action", self.action_width())?;
        self.clamp.as_ref().map_or(Ok(()), |clamp| clamp.validate("policy clamp", self.action_width()))
    }

    /// [`Self::validate`], and that the policy reads and writes what `contract` says, within its bounds.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first part that does not fit.
    pub fn validate_for(&self, contract: &Contract) -> Result<()> {
        self.validate()?;
        check_widths("policy", contract, self.observation_width(), self.action_width())?;
        let Some(clamp) = &self.clamp else {
            return Err(Error::malformed("policy clamp", "the contract's action bounds", "no clamp"));
        };
        for (index, channel) in contract.action.iter().enumerate() {
            let (low, high) = (clamp.low[index], clamp.high[index]);
            if channel.bounds().is_none_or(|(lowest, highest)| low < lowest || high > highest) {
                let thing = format!("policy clamp of {:?}", channel.name);
                let expected = format!("within {:?} to {:?}", channel.low, channel.high);
                return Err(Error::malformed(thing, expected, format!("{low} to {high}")));
            }
        }
        Ok(())
    }
}

pub(crate) fn check_widths(what: &str, contract: &Contract, observation: usize, action: usize) -> Result<()> {
    for (side, expected, found) in
        [("observation", contract.observation.len(), observation), ("action", contract.action.len(), action)]
    {
        if expected != found {
            let expected = format!("{expected}, the contract's number of channels");
            return Err(Error::malformed(format!("{what}: width of `{side}`"), expected, found));
        }
    }
    Ok(())
}

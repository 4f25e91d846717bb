//! A discriminator: observation and action in, reward out.

use serde::{Deserialize, Serialize};

use super::{Affine, Mlp, Normalizer};
use crate::contract::Contract;
use crate::error::{Error, Result};

/// How an ensemble's costs become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// The average of the members' costs.
    #[default]
    Mean,
    /// The lowest cost of any member.
    Min,
    /// The highest cost of any member.
    Max,
}

/// A learned reward: `-reduce(clip(member([normalizer(observation); action_unit])))` over the members.
///
/// # Shapes
/// Inputs `[observation]` in raw units and `[action]` in environment units; output one number.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscriminatorGraph {
    /// Number of observation channels.
    pub observation_width: usize,
    /// Input normaliser of the observation, where it was trained with one.
    pub normalizer: Option<Normalizer>,
    /// The affine map whose inverse takes `action_env` to the `action_unit` that the members read.
    pub affine: Affine,
    /// Each reads `[observation; action_unit]` and gives one cost.
    pub members: Vec<Mlp>,
    /// Each member's cost is clipped to `[-cost_clip, cost_clip]`.
    pub cost_clip: Option<f32>,
    /// How the members' costs become one; of no effect with a single member.
    pub reduction: Reduction,
}

impl DiscriminatorGraph {
    /// A discriminator over the contract's observation and action, with actions mapped back to `[-1, 1]`.
    ///
    /// # Errors
    /// [`Error::Malformed`] where contract or members are not valid, or do not fit each other.
    pub fn for_contract(
        contract: &Contract,
        members: Vec<Mlp>,
        cost_clip: Option<f32>,
        reduction: Reduction,
    ) -> Result<Self> {
        contract.validate()?;
        let graph = Self {
            observation_width: contract.observation.len(),
            normalizer: None,
            affine: Affine::from_bounds(&contract.action_low(), &contract.action_high()),
            members,
            cost_clip,
            reduction,
        };
        graph.validate_for(contract)?;
        Ok(graph)
    }

    /// Number of action channels.
    pub fn action_width(&self) -> usize {
        self.affine.scale.len()
    }

    /// Checks that widths fit and that every number is finite.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first part that does not fit.
    pub fn validate(&self) -> Result<()> {
        if self.observation_width == 0 || self.action_width() == 0 {
            let found = format!("{} and {}", self.observation_width, self.action_width());
            return Err(Error::malformed("discriminator: observation and action widths", "at least 1", found));
        }
        if self.members.is_empty() {
            return Err(Error::malformed("discriminator", "at least one member", "none"));
        }
        let inputs = self.observation_width + self.action_width();
        for (index, member) in self.members.iter().enumerate() {
            member.validate(&format!("discriminator member {index}"))?;
            if (member.inputs(), member.outputs()) != (inputs, 1) {
                let expected = format!("{inputs} inputs (observation and action) and 1 output");
                let found = format!("{} and {}", member.inputs(), member.outputs());
                return Err(Error::malformed(format!("discriminator member {index}"), expected, found));
            }
        }
        if let Some(normalizer) = &self.normalizer {
            normalizer.validate("discriminator normaliser", self.observation_width)?;
        }
        self.affine.validate("discriminator action", self.action_width())?;
        match self.cost_clip {
            Some(clip) if !(clip.is_finite() && clip > 0.0) => {
                Err(Error::malformed("discriminator: cost clip", "a positive number, or none", clip))
            }
            _ => Ok(()),
        }
    }

    /// [`Self::validate`], and that it reads what `contract` says.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first part that does not fit.
    pub fn validate_for(&self, contract: &Contract) -> Result<()> {
        self.validate()?;
        super::policy::check_widths("discriminator", contract, self.observation_width, self.action_width())
    }
}

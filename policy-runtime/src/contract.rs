//! What a policy reads and writes: named channels with units and bounds, in order, at a fixed rate.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::guard::{Fallback, Guard};
use crate::safety::GuardRules;

/// Longest time that a contract may declare, seconds.
const MOST_SECS: f64 = 3600.0;
/// Most channels that one side of a contract may have.
pub const MAX_CHANNELS: usize = 4096;

/// Greatest age of an observation that exporters declare, and that `hype-policy run` assumes where a contract declares none, control
/// periods: one for the sensor's own period, one for its way here, one to spare.
pub const DEFAULT_MAX_AGE_PERIODS: f64 = 3.0;

/// [`DEFAULT_MAX_AGE_PERIODS`] in seconds, no more than a contract may declare.
pub fn default_max_observation_age_secs(control_period_secs: f64) -> f64 {
    (DEFAULT_MAX_AGE_PERIODS * control_period_secs).min(MOST_SECS)
}

/// One number of an observation or of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Unique within its side, for instance `thigh_joint_velocity`.
    pub name: String,
    /// Unit of the raw value, for instance `rad/s`; `1` for a pure number.
    pub unit: String,
    /// Lowest value in that unit; absent where there is none. Actions always have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f32>,
    /// Highest value in that unit; absent where there is none. Actions always have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f32>,
}

impl Channel {
    /// A channel with both bounds.
    pub fn bounded(name: impl Into<String>, unit: impl Into<String>, low: f32, high: f32) -> Self {
        Self { name: name.into(), unit: unit.into(), low: Some(low), high: Some(high) }
    }

    /// A channel without bounds, as most simulated observations are.
    pub fn unbounded(name: impl Into<String>, unit: impl Into<String>) -> Self {
        Self { name: name.into(), unit: unit.into(), low: None, high: None }
    }

    /// Both bounds, where the channel has both.
    pub fn bounds(&self) -> Option<(f32, f32)> {
        self.low.zip(self.high)
    }
}

/// The agreement between a policy and the robot that it runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// What the policy was trained for, for instance `hopper`.
    pub task: String,
    /// Channels of the raw observation, in the order of the policy's input.
    pub observation: Vec<Channel>,
    /// Channels of the action in environment units, in the order of the policy's output. All are bounded.
    pub action: Vec<Channel>,
    /// Time between two actions, seconds.
    pub control_period_secs: f64,
    /// What replaces the policy's action when a check fails.
    #[serde(default)]
    pub fallback: Fallback,
    /// Greatest age of an observation, seconds; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_observation_age_secs: Option<f64>,
    /// What else is checked and kept while the policy drives a robot.
    #[serde(default, skip_serializing_if = "GuardRules::is_default")]
    pub guards: GuardRules,
}

impl Contract {
    /// Checks that names are unique and not empty, bounds finite and in order, actions bounded, and times positive.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first thing that does not fit.
    pub fn validate(&self) -> Result<()> {
        if self.task.trim().is_empty() {
            return Err(Error::malformed("contract: task", "a name", "an empty text"));
        }
        validate_channels("observation", &self.observation)?;
        validate_channels("action", &self.action)?;
        if let Some(channel) = self.action.iter().find(|channel| channel.bounds().is_none()) {
            let thing = format!("contract: action channel {:?}", channel.name);
            return Err(Error::malformed(thing, "both bounds", "a missing bound"));
        }
        validate_secs("control_period_secs", self.control_period_secs)?;
        self.max_observation_age_secs.map_or(Ok(()), |secs| validate_secs("max_observation_age_secs", secs))?;
        self.guards.validate_for(self)
    }

    /// Lowest value of each action channel, `[action]`, environment units.
    pub fn action_low(&self) -> Vec<f32> {
        self.action.iter().map(|channel| channel.low.unwrap_or(f32::NEG_INFINITY)).collect()
    }

    /// Highest value of each action channel, `[action]`, environment units.
    pub fn action_high(&self) -> Vec<f32> {
        self.action.iter().map(|channel| channel.high.unwrap_or(f32::INFINITY)).collect()
    }

    /// The checks that this contract asks for at every step.
    pub fn guard(&self) -> Guard {
        Guard {
            observation_width: self.observation.len(),
            action_width: self.action.len(),
            max_age_nanos: self.max_observation_age_secs.map(nanos_from_secs),
            fallback: self.fallback,
        }
    }

    /// The contract as one line of JSON, as it stands in ONNX metadata.
    ///
    /// # Errors
    /// [`Error::Malformed`] where a number has no JSON form, which [`Self::validate`] excludes.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::malformed("contract", "finite numbers", error))
    }

    /// Reads and validates a contract from JSON.
    ///
    /// # Errors
    /// [`Error::Malformed`] where the text is not JSON or the contract is not valid.
    pub fn from_json(text: &str) -> Result<Self> {
        let contract: Self =
            serde_json::from_str(text).map_err(|error| Error::malformed("contract", "JSON of a contract", error))?;
        contract.validate()?;
        Ok(contract)
    }
}

fn validate_channels(side: &str, channels: &[Channel]) -> Result<()> {
    if channels.is_empty() || channels.len() > MAX_CHANNELS {
        let expected = format!("1 to {MAX_CHANNELS} channels");
        return Err(Error::malformed(format!("contract: {side}"), expected, channels.len()));
    }
    let mut names = HashSet::new();
    for (index, channel) in channels.iter().enumerate() {
        let thing = || format!("contract: {side} channel {index} {:?}", channel.name);
        if channel.name.trim().is_empty() {
            return Err(Error::malformed(thing(), "a name", "an empty text"));
        }
        if !names.insert(channel.name.as_str()) {
            return Err(Error::malformed(thing(), "a unique name", "a second channel of that name"));
        }
        if channel.unit.trim().is_empty() {
            return Err(Error::malformed(thing(), "a unit, `1` for a pure number", "an empty text"));
        }
        if let Some(bound) = [channel.low, channel.high].into_iter().flatten().find(|bound| !bound.is_finite()) {
            return Err(Error::malformed(thing(), "finite bounds, or none", bound));
        }
        if let Some((low, high)) = channel.bounds().filter(|(low, high)| low >= high) {
            return Err(Error::malformed(thing(), "low below high", format!("low {low}, high {high}")));
        }
    }
    Ok(())
}

pub(crate) fn validate_secs(name: &str, secs: f64) -> Result<()> {
    if secs.is_finite() && (1e-6..=MOST_SECS).contains(&secs) {
        return Ok(());
    }
    Err(Error::malformed(format!("contract: {name}"), "between 1e-6 and 3600 seconds", secs))
}

/// `secs` in whole nanoseconds.
pub fn nanos_from_secs(secs: f64) -> u64 {
    (secs * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract() -> Contract {
        Contract {
            task: "pendulum".into(),
            observation: vec![
                Channel::bounded("cos_angle", "1", -1.0, 1.0),
                Channel::unbounded("angular_velocity", "rad/s"),
            ],
            action: vec![Channel::bounded("torque", "N*m", -2.0, 2.0)],
            control_period_secs: 0.05,
            fallback: Fallback::Zero,
            max_observation_age_secs: Some(0.1),
            guards: GuardRules::default(),
        }
    }

    #[test]
    fn json_round_trip_keeps_everything() {
        let contract = contract();
        contract.validate().unwrap();
        assert_eq!(Contract::from_json(&contract.to_json().unwrap()).unwrap(), contract);
        assert_eq!(contract.guard().max_age_nanos, Some(100_000_000));
    }

    #[test]
    fn each_defect_is_named() {
        type Spoil = fn(&mut Contract);
        let defects: [(Spoil, &str); 10] = [
            (|c| c.task.clear(), "task"),
            (|c| c.observation.clear(), "observation"),
            (|c| c.action.clear(), "action"),
            (|c| c.observation[1].name = "cos_angle".into(), "unique"),
            (|c| c.observation[0].name = " ".into(), "a name"),
            (|c| c.action[0].unit.clear(), "unit"),
            (|c| c.action[0].low = Some(f32::NAN), "finite"),
            (|c| c.action[0].low = Some(2.0), "low below high"),
            (|c| c.action[0].high = None, "both bounds"),
            (|c| c.control_period_secs = f64::NAN, "control_period_secs"),
        ];
        for (spoil, wanted) in defects {
            let mut spoiled = contract();
            spoil(&mut spoiled);
            let message = spoiled.validate().unwrap_err().to_string();
            assert!(message.contains(wanted), "{message:?} does not mention {wanted:?}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = contract().to_json().unwrap().replacen('{', "{\"max_torque\":3,", 1);
        assert!(Contract::from_json(&text).unwrap_err().to_string().contains("max_torque"));
    }
}

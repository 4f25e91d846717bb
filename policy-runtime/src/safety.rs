//! What a contract declares about fallback, ramps and limits, and the same with buffers of its own.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::action::Bounds;
use crate::contract::{Contract, nanos_from_secs, validate_secs};
use crate::error::{Error, Result};
use crate::guard::{Dampers, Fallback, Guard, Rules};

/// The part of a contract that only a loop on a robot needs. Everything is optional; the default checks nothing more.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardRules {
    /// The action of the fallback `fixed`, by action channel, environment units. Needs every channel.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed_action: BTreeMap<String, f32>,
    /// The dampers of the fallback `damping`, by action channel.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub dampers: BTreeMap<String, DamperRule>,
    /// Greatest change of an action channel, its unit per second.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub max_rate_per_sec: BTreeMap<String, f32>,
    /// Time from rest, or from a fallback, to the policy's own action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_secs: Option<f64>,
    /// Time from the policy's own action to rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_secs: Option<f64>,
    /// When an action is too late, counted from the tick's release; the control period when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_secs: Option<f64>,
    /// Faults that stop for good; forgotten after as many ticks in a row with the policy's own action. Never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_faults: Option<NonZeroU32>,
}

/// `action = -gain · velocity`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DamperRule {
    /// An observation channel.
    pub velocity: String,
    /// Action unit per velocity unit, positive.
    pub gain: f32,
}

impl GuardRules {
    /// Whether nothing is declared.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks names, signs and that the contract's fallback has what it needs.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first thing that does not fit.
    pub fn validate_for(&self, contract: &Contract) -> Result<()> {
        let action = |what: &str, name: &str| match contract.action.iter().find(|channel| channel.name == name) {
            Some(channel) => Ok(channel),
            None => {
                Err(Error::malformed(format!("contract: guards: {what}"), "an action channel", format!("{name:?}")))
            }
        };
        for (name, value) in &self.fixed_action {
            let channel = action("fixed_action", name)?;
            let (low, high) = channel.bounds().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
            if !(low..=high).contains(value) {
                let thing = format!("contract: guards: fixed_action of {name:?}");
                return Err(Error::malformed(thing, format!("within [{low}, {high}]"), value));
            }
        }
        for (name, damper) in &self.dampers {
            action("dampers", name)?;
            if !contract.observation.iter().any(|channel| channel.name == damper.velocity) {
                let thing = format!("contract: guards: velocity of the damper of {name:?}");
                return Err(Error::malformed(thing, "an observation channel", format!("{:?}", damper.velocity)));
            }
            positive(&format!("gain of the damper of {name:?}"), damper.gain)?;
        }
        for (name, rate) in &self.max_rate_per_sec {
            action("max_rate_per_sec", name)?;
            positive(&format!("max_rate_per_sec of {name:?}"), *rate)?;
        }
        for (name, secs) in
            [("entry_secs", self.entry_secs), ("exit_secs", self.exit_secs), ("deadline_secs", self.deadline_secs)]
        {
            secs.map_or(Ok(()), |secs| validate_secs(name, secs))?;
        }
        match contract.fallback {
            Fallback::Fixed => match contract.action.iter().find(|it| !self.fixed_action.contains_key(&it.name)) {
                Some(channel) => {
                    let thing = "contract: fallback \"fixed\": guards.fixed_action";
                    Err(Error::malformed(
                        thing,
                        "a value for every action channel",
                        format!("none for {:?}", channel.name),
                    ))
                }
                None => Ok(()),
            },
            Fallback::Damping if self.dampers.is_empty() => {
                Err(Error::malformed("contract: fallback \"damping\": guards.dampers", "at least one damper", "none"))
            }
            _ => Ok(()),
        }
    }
}

fn positive(what: &str, value: f32) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Error::malformed(format!("contract: guards: {what}"), "a positive finite number", value))
}

/// What a robot declares instead of the contract; what is absent stays the contract's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Terms {
    /// Time between two steps, seconds. Rates per second and ramps keep their meaning, and the deadline, unless
    /// declared, follows.
    pub control_period_secs: Option<f64>,
    /// What replaces a refused action.
    pub fallback: Option<Fallback>,
    /// Greatest age of an observation, seconds.
    pub max_observation_age_secs: Option<f64>,
    /// The same where neither the line above nor the contract says.
    pub assumed_max_observation_age_secs: Option<f64>,
    /// Ramps, limits and what the fallback needs.
    pub guards: Option<GuardRules>,
}

impl Terms {
    /// `contract` with these terms.
    pub fn applied_to(&self, contract: &Contract) -> Contract {
        let contract = contract.clone();
        let declared = self.max_observation_age_secs.or(contract.max_observation_age_secs);
        Contract {
            control_period_secs: self.control_period_secs.unwrap_or(contract.control_period_secs),
            fallback: self.fallback.unwrap_or(contract.fallback),
            max_observation_age_secs: declared.or(self.assumed_max_observation_age_secs),
            guards: self.guards.clone().unwrap_or(contract.guards),
            ..contract
        }
    }
}

/// [`Rules`] with buffers of its own, made from a contract once.
#[derive(Debug, Clone)]
pub struct Safety {
    guard: Guard,
    action_low: Vec<f32>,
    action_high: Vec<f32>,
    observation_low: Vec<f32>,
    observation_high: Vec<f32>,
    /// Whether any observation channel has a bound.
    ranged: bool,
    fixed: Vec<f32>,
    damper_velocity: Vec<u32>,
    damper_gain: Vec<f32>,
    max_change: Vec<f32>,
    entry_ticks: u32,
    exit_ticks: u32,
    deadline_nanos: Option<u64>,
    max_faults: Option<NonZeroU32>,
}

impl Safety {
    /// Everything that a valid contract declares, for a loop with the contract's control period.
    pub fn of(contract: &Contract) -> Self {
        let rules = &contract.guards;
        let by_action = |values: &BTreeMap<String, f32>, scale: f32, absent: f32| -> Vec<f32> {
            let value = |name: &String| values.get(name).map_or(absent, |value| value * scale);
            contract.action.iter().map(|channel| value(&channel.name)).collect()
        };
        let damper = |name: &String| {
            let rule = rules.dampers.get(name)?;
            let velocity = contract.observation.iter().position(|channel| channel.name == rule.velocity)?;
            Some((velocity as u32, rule.gain))
        };
        let dampers = contract.action.iter().map(|channel| damper(&channel.name).unwrap_or((Dampers::NONE, 0.0)));
        let (damper_velocity, damper_gain) = dampers.unzip();
        let ticks = |secs: Option<f64>| secs.map_or(0, |secs| (secs / contract.control_period_secs).ceil() as u32);
        let bound = |of: fn(&crate::Channel) -> Option<f32>, open: f32| -> Vec<f32> {
            contract.observation.iter().map(|channel| of(channel).unwrap_or(open)).collect()
        };
        Self {
            guard: contract.guard(),
            action_low: contract.action_low(),
            action_high: contract.action_high(),
            observation_low: bound(|channel| channel.low, f32::NEG_INFINITY),
            observation_high: bound(|channel| channel.high, f32::INFINITY),
            ranged: contract.observation.iter().any(|channel| channel.low.or(channel.high).is_some()),
            fixed: by_action(&rules.fixed_action, 1.0, 0.0),
            damper_velocity,
            damper_gain,
            max_change: by_action(&rules.max_rate_per_sec, contract.control_period_secs as f32, f32::INFINITY),
            entry_ticks: ticks(rules.entry_secs),
            exit_ticks: ticks(rules.exit_secs),
            deadline_nanos: Some(nanos_from_secs(rules.deadline_secs.unwrap_or(contract.control_period_secs))),
            max_faults: rules.max_faults,
        }
    }

    /// What can be checked of a policy of unknown channels: widths and finiteness; its fallback is zero.
    pub fn of_widths(observation_width: usize, action_width: usize) -> Self {
        Self {
            guard: Guard { observation_width, action_width, max_age_nanos: None, fallback: Fallback::Zero },
            action_low: vec![f32::NEG_INFINITY; action_width],
            action_high: vec![f32::INFINITY; action_width],
            observation_low: Vec::new(),
            observation_high: Vec::new(),
            ranged: false,
            fixed: Vec::new(),
            damper_velocity: Vec::new(),
            damper_gain: Vec::new(),
            max_change: Vec::new(),
            entry_ticks: 0,
            exit_ticks: 0,
            deadline_nanos: None,
            max_faults: None,
        }
    }

    /// The rules for running: those of [`Self::rules`], without a row of bounds that are all open, which would take time at every step.
    pub fn running_rules(&self) -> Rules<'_> {
        let rules = self.rules();
        if self.ranged { rules } else { Rules { observation: Bounds { low: &[], high: &[] }, ..rules } }
    }

    /// The rules, borrowed.
    pub fn rules(&self) -> Rules<'_> {
        Rules {
            guard: self.guard,
            action: Bounds { low: &self.action_low, high: &self.action_high },
            observation: Bounds { low: &self.observation_low, high: &self.observation_high },
            fixed: &self.fixed,
            dampers: Dampers { velocity: &self.damper_velocity, gain: &self.damper_gain },
            max_change: &self.max_change,
            entry_ticks: self.entry_ticks,
            exit_ticks: self.exit_ticks,
            deadline_nanos: self.deadline_nanos,
            max_faults: self.max_faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Channel;
    use crate::guard::Damper;

    fn contract() -> Contract {
        Contract {
            task: "leg".into(),
            observation: vec![Channel::unbounded("angle", "rad"), Channel::bounded("velocity", "rad/s", -9.0, 9.0)],
            action: vec![Channel::bounded("hip", "N*m", -2.0, 2.0), Channel::bounded("knee", "N*m", -1.0, 1.0)],
            control_period_secs: 0.01,
            fallback: Fallback::Damping,
            max_observation_age_secs: Some(0.03),
            guards: GuardRules {
                dampers: BTreeMap::from([("knee".into(), DamperRule { velocity: "velocity".into(), gain: 0.5 })]),
                max_rate_per_sec: BTreeMap::from([("hip".into(), 50.0)]),
                entry_secs: Some(0.095),
                max_faults: NonZeroU32::new(3),
                ..GuardRules::default()
            },
        }
    }

    #[test]
    fn names_become_indices_and_seconds_ticks() {
        let contract = contract();
        contract.validate().unwrap();
        assert_eq!(Contract::from_json(&contract.to_json().unwrap()).unwrap(), contract);
        let safety = Safety::of(&contract);
        let rules = safety.rules();
        assert_eq!([0, 1].map(|index| rules.dampers.at(index)), [None, Some(Damper { velocity: 1, gain: 0.5 })]);
        assert_eq!(rules.max_change, [0.5, f32::INFINITY]);
        assert_eq!((rules.entry_ticks, rules.exit_ticks, rules.deadline_nanos), (10, 0, Some(10_000_000)));
        assert_eq!(rules.observation.low, [f32::NEG_INFINITY, -9.0]);
        assert_eq!(safety.running_rules().observation.high, [f32::INFINITY, 9.0]);
        let open = Contract { observation: vec![Channel::unbounded("velocity", "rad/s")], ..contract };
        let safety = Safety::of(&open);
        assert_eq!((safety.rules().observation.low.len(), safety.running_rules().observation.low.len()), (1, 0));
    }

    #[test]
    fn each_defect_is_named() {
        type Spoil = fn(&mut Contract);
        let defects: [(Spoil, &str); 9] = [
            (|c| c.fallback = Fallback::Fixed, "a value for every action channel"),
            (|c| c.guards.dampers.clear(), "at least one damper"),
            (|c| c.guards.fixed_action = BTreeMap::from([("hip".into(), 2.5)]), "within [-2, 2]"),
            (|c| c.guards.fixed_action = BTreeMap::from([("hip".into(), f32::NAN)]), "within [-2, 2]"),
            (|c| c.guards.max_rate_per_sec = BTreeMap::from([("ankle".into(), 1.0)]), "ankle"),
            (|c| c.guards.max_rate_per_sec = BTreeMap::from([("hip".into(), 0.0)]), "positive"),
            (|c| c.guards.dampers.values_mut().for_each(|it| it.gain = -0.0), "positive"),
            (|c| c.guards.dampers.values_mut().for_each(|it| it.velocity = "speed".into()), "speed"),
            (|c| c.guards.entry_secs = Some(f64::INFINITY), "entry_secs"),
        ];
        for (spoil, wanted) in defects {
            let mut spoiled = contract();
            spoil(&mut spoiled);
            let message = spoiled.validate().unwrap_err().to_string();
            assert!(message.contains(wanted), "{message:?} does not mention {wanted:?}");
        }
    }
}

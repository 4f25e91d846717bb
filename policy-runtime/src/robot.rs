//! A robot's side of the contract: its channels in its order and units, mapped to a policy's by name.

use std::collections::HashSet;
#[cfg(feature = "robot")]
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::contract::{Channel, Contract, MAX_CHANNELS};
use crate::error::{Error, Result};
use crate::guard::Fallback;
use crate::safety::{GuardRules, Terms};

/// Largest robot file that is read.
pub const MAX_ROBOT_FILE_BYTES: u64 = 4 << 20;
/// Greatest relative difference between a robot's control period and the policy's.
const PERIOD_TOLERANCE: f64 = 1e-3;

/// What a robot file says; docs/RUNTIME.md has an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotFile {
    /// The robot's name, for messages.
    pub robot: String,
    /// The robot's control period. Must be the policy's.
    #[serde(default)]
    pub control_period_secs: Option<f64>,
    /// Takes the place of the contract's.
    #[serde(default)]
    pub fallback: Option<Fallback>,
    /// Takes the place of the contract's.
    #[serde(default)]
    pub max_observation_age_secs: Option<f64>,
    /// Takes the place of the contract's. In the policy's names and units.
    #[serde(default)]
    pub guards: Option<GuardRules>,
    /// The robot's observation channels, in the order in which it sends them.
    pub observation: Vec<Link>,
    /// The robot's action channels, in the order in which it takes them.
    pub action: Vec<Link>,
    /// Policy observations that this robot does not have.
    #[serde(default)]
    pub constant: Vec<Constant>,
}

/// One channel of the robot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The robot's name for it.
    pub name: String,
    /// The robot's unit.
    pub unit: String,
    /// The policy's channel. Absent where the policy has none: then `unused` or `value` says so.
    #[serde(default)]
    pub channel: Option<String>,
    /// Unit of the receiver per unit of the sender. Needed where the units differ; 1 where they are the same.
    #[serde(default)]
    pub scale: Option<f64>,
    /// Added after scaling, in the receiver's unit.
    #[serde(default)]
    pub offset: Option<f64>,
    /// Of an observation: the policy does not want it.
    #[serde(default)]
    pub unused: bool,
    /// Of an action that no policy channel drives: what the actuator always gets, in the robot's unit.
    #[serde(default)]
    pub value: Option<f64>,
}

/// A policy observation with a fixed value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// The policy's channel.
    pub channel: String,
    /// In the policy's unit.
    pub value: f64,
}

/// `output = input[from] · scale + offset`, or `offset` alone.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Term {
    from: Option<usize>,
    scale: f32,
    offset: f32,
}

impl Term {
    fn of(self, input: &[f32]) -> f32 {
        match self.from {
            Some(from) => input.get(from).map_or(f32::NAN, |value| value * self.scale + self.offset),
            None => self.offset,
        }
    }
}

/// Both directions between a robot's rows and a policy's. Applying it allocates nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    observation: Vec<Term>,
    action: Vec<Term>,
    robot_observation_width: usize,
}

impl RobotFile {
    /// Reads a robot file.
    ///
    /// # Errors
    /// Where it cannot be read, is too large or is not one.
    #[cfg(feature = "robot")]
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = crate::files::read_bounded(path, MAX_ROBOT_FILE_BYTES)?;
        Self::from_toml(&bytes).map_err(|error| error.within(path.display()))
    }

    /// Reads the content of a robot file.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is not UTF-8, not TOML, or has unknown or missing keys.
    #[cfg(feature = "robot")]
    pub fn from_toml(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|error| Error::malformed("robot file", "UTF-8", error))?;
        toml::from_str(text).map_err(|error| Error::malformed("robot file", "TOML of a robot's channels", error))
    }

    /// What it declares instead of the contract.
    pub fn terms(&self) -> Terms {
        Terms {
            control_period_secs: None,
            fallback: self.fallback,
            max_observation_age_secs: self.max_observation_age_secs,
            assumed_max_observation_age_secs: None,
            guards: self.guards.clone(),
        }
    }

    /// The mapping to a policy with `contract`. Nothing is guessed: every policy channel is fed exactly once, every
    /// actuator driven exactly once, and a unit that differs needs its scale.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the first channel that does not fit.
    pub fn mapping(&self, contract: &Contract) -> Result<Mapping> {
        if let Some(secs) = self.control_period_secs {
            let trained = contract.control_period_secs;
            let difference = (secs / trained - 1.0).abs();
            if difference.is_nan() || difference > PERIOD_TOLERANCE {
                let thing = format!("robot {:?}: control_period_secs", self.robot);
                return Err(Error::malformed(thing, format!("the policy's, {trained}"), secs));
            }
        }
        self.check_names("observation", &self.observation)?;
        self.check_names("action", &self.action)?;
        Ok(Mapping {
            observation: self.gather(contract)?,
            action: self.scatter(contract)?,
            robot_observation_width: self.observation.len(),
        })
    }

    fn check_names(&self, side: &str, links: &[Link]) -> Result<()> {
        if links.is_empty() || links.len() > MAX_CHANNELS {
            let thing = format!("robot {:?}: {side}", self.robot);
            return Err(Error::malformed(thing, format!("1 to {MAX_CHANNELS} channels"), links.len()));
        }
        let mut names = HashSet::new();
        match links.iter().find(|link| !names.insert(link.name.as_str())) {
            Some(twice) => Err(self.wrong(side, &twice.name, "a unique name", "a second channel of that name")),
            None => Ok(()),
        }
    }

    fn wrong(&self, side: &str, name: &str, expected: impl ToString, found: impl ToString) -> Error {
        Error::malformed(format!("robot {:?}: {side} channel {name:?}", self.robot), expected, found)
    }

    /// Policy observations from the robot's.
    fn gather(&self, contract: &Contract) -> Result<Vec<Term>> {
        let side = "observation";
        let mut terms: Vec<Option<Term>> = vec![None; contract.observation.len()];
        for (from, link) in self.observation.iter().enumerate() {
            if link.value.is_some() {
                return Err(self.wrong(side, &link.name, "no value: an observation is measured", "a value"));
            }
            let Some(channel) = &link.channel else {
                if link.unused {
                    continue;
                }
                return Err(self.wrong(side, &link.name, "`channel = …`, or `unused = true`", "neither"));
            };
            if link.unused {
                return Err(self.wrong(side, &link.name, "`channel` or `unused`", "both"));
            }
            let to = self.find(side, &link.name, channel, &contract.observation)?;
            let term = self.term(side, link, from, &contract.observation[to].unit)?;
            if terms[to].replace(term).is_some() {
                return Err(self.wrong(
                    side,
                    &link.name,
                    format!("{channel:?} to be fed once"),
                    "a second source of it",
                ));
            }
        }
        for Constant { channel, value } in &self.constant {
            let to = self.find("constant", channel, channel, &contract.observation)?;
            let offset = self.finite("constant", channel, *value)?;
            if terms[to].replace(Term { from: None, scale: 0.0, offset }).is_some() {
                return Err(self.wrong(
                    "constant",
                    channel,
                    "a channel that nothing else feeds",
                    "a second source of it",
                ));
            }
        }
        self.complete(terms, |at| contract.observation[at].name.as_str())
    }

    /// The robot's actions from the policy's.
    fn scatter(&self, contract: &Contract) -> Result<Vec<Term>> {
        let side = "action";
        let mut driven = HashSet::new();
        let mut terms = Vec::new();
        for link in &self.action {
            terms.push(match (&link.channel, link.value) {
                (Some(channel), None) => {
                    let from = self.find(side, &link.name, channel, &contract.action)?;
                    if !driven.insert(from) {
                        return Err(self.wrong(
                            side,
                            &link.name,
                            format!("{channel:?} to drive once"),
                            "a second use of it",
                        ));
                    }
                    let term = self.term(side, link, from, &contract.action[from].unit)?;
                    // Whatever the policy commands within its bounds is then a number for the actuator.
                    let (low, high) = contract.action[from].bounds().unwrap_or_default();
                    if ![low, high].iter().all(|bound| (bound * term.scale + term.offset).is_finite()) {
                        let expected = format!("a scale and an offset that keep [{low}, {high}] finite");
                        let found = format!("scale {} and offset {}", term.scale, term.offset);
                        return Err(self.wrong(side, &link.name, expected, found));
                    }
                    term
                }
                (None, Some(value)) => Term { from: None, scale: 0.0, offset: self.finite(side, &link.name, value)? },
                (Some(_), Some(_)) => return Err(self.wrong(side, &link.name, "`channel` or `value`", "both")),
                (None, None) => return Err(self.wrong(side, &link.name, "`channel = …`, or `value = …`", "neither")),
            });
            if link.unused {
                return Err(self.wrong(side, &link.name, "no `unused`: an actuator always gets something", "unused"));
            }
        }
        match (0..contract.action.len()).find(|index| !driven.contains(index)) {
            Some(idle) => {
                let thing = format!("robot {:?}: policy action {:?}", self.robot, contract.action[idle].name);
                Err(Error::malformed(thing, "an actuator that it drives", "none"))
            }
            None => Ok(terms),
        }
    }

    fn find(&self, side: &str, name: &str, channel: &str, channels: &[Channel]) -> Result<usize> {
        channels.iter().position(|known| known.name == channel).ok_or_else(|| {
            self.wrong(side, name, "a channel of the policy (`hype-policy inspect` lists them)", format!("{channel:?}"))
        })
    }

    fn term(&self, side: &str, link: &Link, from: usize, policy_unit: &str) -> Result<Term> {
        let scale = match link.scale {
            Some(scale) => scale,
            None if link.unit == policy_unit => 1.0,
            None => {
                let expected = format!("a scale between {:?} and the policy's unit {policy_unit:?}", link.unit);
                return Err(self.wrong(side, &link.name, expected, "none; it is not guessed"));
            }
        };
        let scale = self.finite(side, &link.name, scale)?;
        if scale == 0.0 {
            return Err(self.wrong(side, &link.name, "a scale that is not zero", scale));
        }
        Ok(Term { from: Some(from), scale, offset: self.finite(side, &link.name, link.offset.unwrap_or(0.0))? })
    }

    fn finite(&self, side: &str, name: &str, value: f64) -> Result<f32> {
        let value = value as f32;
        if value.is_finite() { Ok(value) } else { Err(self.wrong(side, name, "finite numbers", value)) }
    }

    fn complete<'a>(&self, terms: Vec<Option<Term>>, name: impl Fn(usize) -> &'a str) -> Result<Vec<Term>> {
        let all: Option<Vec<Term>> = terms.iter().copied().collect();
        all.ok_or_else(|| {
            let missing = terms.iter().position(Option::is_none).unwrap_or(0);
            let thing = format!("robot {:?}: policy observation {:?}", self.robot, name(missing));
            Error::malformed(thing, "a channel of the robot, or a `[[constant]]`", "none; it is not guessed")
        })
    }
}

impl Mapping {
    /// `policy`, `[observation]` of the policy, from `robot`, `[observation]` of the robot.
    pub fn observe(&self, robot: &[f32], policy: &mut [f32]) {
        for (value, term) in policy.iter_mut().zip(&self.observation) {
            *value = term.of(robot);
        }
    }

    /// `robot`, `[action]` of the robot, from `policy`, `[action]` of the policy.
    pub fn act(&self, policy: &[f32], robot: &mut [f32]) {
        for (value, term) in robot.iter_mut().zip(&self.action) {
            *value = term.of(policy);
        }
    }

    /// Number of values in the robot's observation.
    pub fn robot_observation_width(&self) -> usize {
        self.robot_observation_width
    }

    /// Number of values in the robot's action.
    pub fn robot_action_width(&self) -> usize {
        self.action.len()
    }
}

#[cfg(all(test, feature = "robot"))]
mod tests {
    use super::*;

    const FILE: &str = r#"
        robot = "leg"
        control_period_secs = 0.01
        fallback = "hold"
        max_observation_age_secs = 0.03
        [guards]
        entry_secs = 0.5
        max_rate_per_sec = { hip = 40.0 }
        [[observation]]
        name = "knee_deg"
        unit = "deg"
        channel = "knee_angle"
        scale = 0.017453292519943295
        [[observation]]
        name = "temperature"
        unit = "C"
        unused = true
        [[observation]]
        name = "hip"
        unit = "rad"
        channel = "hip_angle"
        offset = -0.5
        [[constant]]
        channel = "command"
        value = 0.7
        [[action]]
        name = "m1"
        unit = "mN*m"
        channel = "knee"
        scale = -1000.0
        [[action]]
        name = "light"
        unit = "1"
        value = 1.0
        [[action]]
        name = "m0"
        unit = "N*m"
        channel = "hip"
    "#;

    fn contract() -> Contract {
        Contract {
            task: "leg".into(),
            observation: vec![
                Channel::unbounded("hip_angle", "rad"),
                Channel::unbounded("command", "m/s"),
                Channel::unbounded("knee_angle", "rad"),
            ],
            action: vec![Channel::bounded("hip", "N*m", -2.0, 2.0), Channel::bounded("knee", "N*m", -1.0, 1.0)],
            control_period_secs: 0.01,
            fallback: Fallback::Zero,
            max_observation_age_secs: None,
            guards: GuardRules::default(),
        }
    }

    #[test]
    fn channels_are_renamed_reordered_and_scaled() {
        let file = RobotFile::from_toml(FILE.as_bytes()).unwrap();
        let mapping = file.mapping(&contract()).unwrap();
        assert_eq!((mapping.robot_observation_width(), mapping.robot_action_width()), (3, 3));
        let mut observation = [f32::NAN; 3];
        mapping.observe(&[180.0, 55.0, 2.0], &mut observation);
        assert_eq!(observation, [1.5, 0.7, core::f32::consts::PI]);
        let mut action = [f32::NAN; 3];
        mapping.act(&[0.25, 0.5], &mut action);
        assert_eq!(action, [-500.0, 1.0, 0.25]);
        assert_eq!((file.terms().fallback, file.terms().guards.unwrap().entry_secs), (Some(Fallback::Hold), Some(0.5)));
    }

    #[test]
    fn nothing_is_guessed() {
        for (from, to, wanted) in [
            ("scale = 0.017453292519943295", "", "a scale between \"deg\" and the policy's unit \"rad\""),
            ("scale = -1000.0", "scale = 0.0", "not zero"),
            ("scale = -1000.0", "scale = nan", "finite"),
            ("scale = -1000.0", "scale = 3e38\n        offset = 3e38", "keep [-1, 1] finite"),
            ("channel = \"hip_angle\"", "channel = \"hip_angel\"", "hip_angel"),
            ("channel = \"hip_angle\"", "channel = \"knee_angle\"\nscale = 1.0", "to be fed once"),
            ("channel = \"hip_angle\"\n        offset = -0.5", "unused = true", "policy observation \"hip_angle\""),
            ("channel = \"hip_angle\"", "", "neither"),
            ("unused = true", "", "neither"),
            ("[[constant]]\n        channel = \"command\"\n        value = 0.7", "", "policy observation \"command\""),
            ("channel = \"command\"", "channel = \"hip_angle\"", "a second source"),
            ("unit = \"1\"\n        value = 1.0", "unit = \"1\"", "neither"),
            (
                "unit = \"1\"\n        value = 1.0",
                "unit = \"1\"\nscale = 1.0\n        channel = \"hip\"",
                "a second use",
            ),
            ("channel = \"knee\"\n        scale = -1000.0", "value = 0.0", "policy action \"knee\""),
            ("name = \"m0\"", "name = \"m1\"", "a unique name"),
            ("control_period_secs = 0.01", "control_period_secs = 0.02", "the policy's, 0.01"),
            ("control_period_secs = 0.01", "control_period_secs = nan", "the policy's, 0.01"),
            ("robot = \"leg\"", "robot = \"leg\"\nspeed = 3", "speed"),
            ("name = \"hip\"\n        unit = \"rad\"", "name = \"hip\"", "unit"),
        ] {
            assert!(FILE.contains(from), "{from}");
            let spoiled = FILE.replacen(from, to, 1);
            let error = RobotFile::from_toml(spoiled.as_bytes()).and_then(|file| file.mapping(&contract()));
            let message = error.unwrap_err().to_string();
            assert!(message.contains(wanted), "{from:?} → {to:?}: {message:?} does not mention {wanted:?}");
        }
    }
}

//! What rsl_rl and mjlab write into an ONNX file's metadata about a robot with position-controlled joints, and the [`Contract`] that it
//! makes where it is complete.
//!
//! | key | value |
//! |---|---|
//! | `joint_names` | names, in the order of joint observations and actions |
//! | `default_joint_pos` | rad, one for each joint |
//! | `joint_stiffness`, `joint_damping` | gains of the motors' own loops, one for each joint |
//! | `action_scale` | rad, one for each joint or one for all: target = default position + scale · action |
//! | `observation_names` | names of the observation's terms, in order |
//! | `command_names` | names of the commands among them |
//!
//! Lists are separated by commas. No exporter writes the keys below, and a contract needs them: whoever deploys the policy declares them
//! (`--declare KEY=VALUE`), or adds them to the file.
//!
//! | key | value |
//! |---|---|
//! | `control_period_secs` | time between two actions |
//! | `action_low`, `action_high` | bounds of the joints' targets, rad, one for each joint |
//! | `observation_widths`, `observation_units` | one for each term; only where a term's name does not tell |

use std::collections::BTreeMap;

use crate::contract::{Channel, Contract, default_max_observation_age_secs};
use crate::engine::layout::Layout;
use crate::error::{Error, Result};
use crate::guard::Fallback;
use crate::onnx::Model;
use crate::safety::GuardRules;

/// Keys that exporters write.
const WRITTEN: [&str; 7] = [
    "joint_names",
    "default_joint_pos",
    "joint_stiffness",
    "joint_damping",
    "action_scale",
    "observation_names",
    "command_names",
];
/// Keys that they leave out.
const DECLARED: [&str; 5] =
    ["control_period_secs", "action_low", "action_high", "observation_widths", "observation_units"];
/// Terms of the last action, before scaling, which the policy keeps itself.
const LAST_ACTION: [&str; 3] = ["actions", "last_action", "prev_actions"];
/// Largest stiffness and damping that a joint of any robot has, N·m/rad and N·m·s/rad.
const MOST_GAIN: f32 = 1e5;

/// A robot's joints as the metadata has them; every list was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Joints {
    /// In the order of joint observations and actions.
    pub names: Vec<String>,
    /// Position that actions are relative to, rad.
    pub default_position: Vec<f32>,
    /// N·m/rad; empty where the file does not say.
    pub stiffness: Vec<f32>,
    /// N·m·s/rad; empty where the file does not say.
    pub damping: Vec<f32>,
    /// Rad for an action of 1.
    pub action_scale: Vec<f32>,
    /// The observation's terms in order; empty where the file does not say.
    pub observation_terms: Vec<String>,
    /// The commands among them.
    pub commands: Vec<String>,
    declared: BTreeMap<&'static str, String>,
}

impl Joints {
    /// Reads the metadata of `model`, completed by `declared`; `None` for a file without `joint_names`.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the list whose length or numbers cannot be right, and what was declared otherwise than the file has it.
    pub fn of(model: &Model, declared: &BTreeMap<String, String>) -> Result<Option<Self>> {
        if let Some(key) = declared.keys().find(|key| !WRITTEN.iter().chain(&DECLARED).any(|known| known == key)) {
            return Err(Error::malformed(
                "--declare",
                format!("one of {WRITTEN:?} and {DECLARED:?}"),
                format!("{key:?}"),
            ));
        }
        let mut values: BTreeMap<&'static str, String> = BTreeMap::new();
        for key in WRITTEN.into_iter().chain(DECLARED) {
            let (written, told) = (model.metadata(key), declared.get(key).map(String::as_str));
            if let (Some(written), Some(told)) = (written, told)
                && written != told
            {
                return Err(Error::malformed(
                    format!("--declare {key}"),
                    format!("the file's own {written:?}"),
                    format!("{told:?}"),
                ));
            }
            values.extend(written.or(told).map(|value| (key, value.to_owned())));
        }
        let Some(names) = values.get("joint_names").map(|text| list(text)) else { return Ok(None) };
        if let Some(name) =
            names.iter().enumerate().find(|(index, name)| name.is_empty() || names[..*index].contains(name))
        {
            return Err(malformed("joint_names", "unique names", format!("{:?}", name.1)));
        }
        let count = names.len();
        let numbers = |key: &'static str| -> Result<Vec<f32>> {
            values.get(key).map_or(Ok(Vec::new()), |text| numbers(key, text, count))
        };
        let gains = |key: &'static str| -> Result<Vec<f32>> {
            let row = numbers(key)?;
            // "-0.000" is a gain of the wrong sign that was rounded away.
            match row.iter().find(|gain| gain.is_sign_negative() || **gain > MOST_GAIN) {
                Some(gain) => Err(malformed(key, format!("gains from 0 to {MOST_GAIN}"), format!("{gain:?}"))),
                None => Ok(row),
            }
        };
        let action_scale = match values.get("action_scale").map(|text| list(text)) {
            Some(one) if one.len() == 1 => vec![numbers_of("action_scale", &one)?[0]; count],
            _ => numbers("action_scale")?,
        };
        if action_scale.contains(&0.0) {
            let expected = "scales that are not zero (exporters keep three decimals)";
            return Err(malformed("action_scale", expected, values.get("action_scale").cloned().unwrap_or_default()));
        }
        let terms = |key| values.get(key).map_or_else(Vec::new, |text: &String| list(text));
        Ok(Some(Self {
            default_position: numbers("default_joint_pos")?,
            stiffness: gains("joint_stiffness")?,
            damping: gains("joint_damping")?,
            action_scale,
            observation_terms: terms("observation_names"),
            commands: terms("command_names"),
            names,
            declared: values.into_iter().filter(|(key, _)| DECLARED.contains(key)).collect(),
        }))
    }

    /// The contract of a policy with this layout and that many actions, and the layout in which the policy keeps its own last action.
    ///
    /// # Errors
    /// One sentence that names the piece that is missing or does not fit, and how to give it.
    pub fn contract(&self, mut layout: Layout, action_width: usize) -> Result<(Contract, Layout), String> {
        let missing = |key: &str, what: &str| format!("its metadata has no {key}: --declare {key}=… ({what})");
        let count = self.names.len();
        if action_width != count {
            return Err(format!(
                "it has {action_width} actions for {count} joint_names; which joint each drives is not known"
            ));
        }
        if self.default_position.is_empty() {
            return Err(missing("default_joint_pos", "rad, one for each joint"));
        }
        if self.action_scale.is_empty() {
            return Err(missing("action_scale", "rad for an action of 1"));
        }
        let period =
            self.declared.get("control_period_secs").ok_or_else(|| missing("control_period_secs", "seconds"))?;
        let control_period_secs = period.trim().parse().map_err(|_| format!("control_period_secs is {period:?}"))?;
        let bounds = |key: &'static str| -> Result<Vec<f32>, String> {
            let text = self.declared.get(key).ok_or_else(|| missing(key, "rad, one for each joint"))?;
            numbers(key, text, count).map_err(|error| error.to_string())
        };
        let (low, high) = (bounds("action_low")?, bounds("action_high")?);
        let action: Vec<Channel> = (self.names.iter().zip(low.iter().zip(&high)))
            .map(|(name, (low, high))| Channel::bounded(name, "rad", *low, *high))
            .collect();
        let fixed_action = self.names.iter().cloned().zip(self.default_position.iter().copied()).collect();
        let observation = self.observe(&mut layout)?;
        let contract = Contract {
            task: "joint positions".into(),
            observation,
            action,
            control_period_secs,
            fallback: Fallback::Hold,
            max_observation_age_secs: Some(default_max_observation_age_secs(control_period_secs)),
            guards: GuardRules { fixed_action, ..GuardRules::default() },
        };
        contract.validate().map_err(|error| error.to_string())?;
        Ok((contract, layout))
    }

    fn observe(&self, layout: &mut Layout) -> Result<Vec<Channel>, String> {
        if self.observation_terms.is_empty() {
            return Err("its metadata has no observation_names: --declare observation_names=… (terms, in order)".into());
        }
        let terms = self.observation_terms.len();
        let per_term = |key: &'static str| -> Result<Option<Vec<String>>, String> {
            match self.declared.get(key).map(|text| list(text)) {
                Some(values) if values.len() != terms => {
                    Err(format!("{key} has {} entries for {terms} terms", values.len()))
                }
                values => Ok(values),
            }
        };
        let (widths, units) = (per_term("observation_widths")?, per_term("observation_units")?);
        let (mut channels, mut held, mut at) = (Vec::new(), Vec::new(), 0);
        for (index, term) in self.observation_terms.iter().enumerate() {
            let known = self.known(term);
            let told = widths.as_ref().map(|widths| {
                widths[index].parse::<usize>().map_err(|_| format!("observation_widths: {:?}", widths[index]))
            });
            let unit = units.as_ref().map(|units| units[index].clone());
            let entries: Vec<(String, String)> = match (known, told.transpose()?) {
                (Some(entries), told) if told.is_none_or(|told| told == entries.len()) => entries,
                (_, Some(width)) => {
                    let unit = unit.ok_or_else(|| {
                        format!("the unit of its observation {term:?} is not known: --declare observation_units=…")
                    })?;
                    (0..width).map(|index| (format!("{term}/{index}"), unit.clone())).collect()
                }
                (_, None) => {
                    return Err(format!(
                        "the width of its observation {term:?} is not known: --declare observation_widths=…"
                    ));
                }
            };
            if LAST_ACTION.contains(&term.as_str()) && entries.len() == self.names.len() {
                held.push((at, entries.len()));
            } else {
                channels.extend(entries.iter().map(|(name, unit)| Channel::unbounded(name, unit)));
            }
            at += entries.len();
        }
        let width = layout.observation_width();
        if at != width {
            return Err(format!(
                "its observation terms have {at} values where the model takes {width}: --declare observation_widths=… and observation_units=…"
            ));
        }
        if held.len() > 1 {
            return Err("its observation has the last action more than once".into());
        }
        for (from, len) in held {
            layout.hold_last_action(from, len);
        }
        Ok(channels)
    }

    /// Name and unit of each value of a term that every task of these libraries has with the same meaning.
    fn known(&self, term: &str) -> Option<Vec<(String, String)>> {
        let joints = |unit: &str| -> Vec<(String, String)> {
            self.names.iter().map(|joint| (format!("{term}/{joint}"), unit.to_owned())).collect()
        };
        let vector = |entries: &[(&str, &str)]| -> Vec<(String, String)> {
            entries.iter().map(|(axis, unit)| (format!("{term}/{axis}"), (*unit).to_owned())).collect()
        };
        let command = (term == "command" && self.commands.len() == 1).then(|| self.commands[0].as_str());
        Some(match command.unwrap_or(term) {
            "joint_pos" | "joint_pos_rel" => joints("rad"),
            "joint_vel" | "joint_vel_rel" => joints("rad/s"),
            term if LAST_ACTION.contains(&term) => joints("1"),
            "base_lin_vel" => vector(&[("x", "m/s"), ("y", "m/s"), ("z", "m/s")]),
            "base_ang_vel" => vector(&[("x", "rad/s"), ("y", "rad/s"), ("z", "rad/s")]),
            "projected_gravity" => vector(&[("x", "1"), ("y", "1"), ("z", "1")]),
            "twist" | "base_velocity" | "velocity_commands" => vector(&[("x", "m/s"), ("y", "m/s"), ("yaw", "rad/s")]),
            _ => return None,
        })
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|item| item.trim().to_owned()).collect()
}

fn numbers(key: &str, text: &str, count: usize) -> Result<Vec<f32>> {
    let items = list(text);
    if items.len() != count {
        return Err(malformed(key, format!("{count} numbers, one for each of joint_names"), items.len()));
    }
    numbers_of(key, &items)
}

fn numbers_of(key: &str, items: &[String]) -> Result<Vec<f32>> {
    let number = |item: &String| {
        let value = item.parse::<f32>().ok().filter(|value| value.is_finite());
        value.ok_or_else(|| malformed(key, "finite numbers", format!("{item:?}")))
    };
    items.iter().map(number).collect()
}

fn malformed(key: &str, expected: impl ToString, found: impl ToString) -> Error {
    Error::malformed(format!("metadata {key:?}"), expected, found)
}

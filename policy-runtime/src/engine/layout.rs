//! What a model's inputs and outputs are to a policy: observation, recurrent state, action.
//!
//! Only names and shapes decide, and [`Layout`] says what was decided, so that `hype-policy inspect` can show it:
//!
//! * State is an input whose partner among the outputs is known by name (`h_in` and `h_out`, and the other pairs of exporters), or
//!   named by the caller.
//! * The action is the output that the caller names, else the first of [`ACTION_NAMES`] that is there, else output 0. Outputs drawn at
//!   random are never it.
//! * Every other input that the action or the state depends on is part of the observation, in the file's order.

use std::collections::BTreeMap;

use crate::contract::Contract;
use crate::error::{Error, Result};
use crate::onnx::{Model, Port};

use super::program::MAX_MEMORY;

/// Names that exporters give to a state's input and output: Isaac Lab and rsl_rl (`h_in`, `h_out`), ML-Agents
/// (`recurrent_in`, `recurrent_out`), torch's own (`h0`, `hn`).
const STATE_NAMES: [(&str, &str); 6] =
    [("_in", "_out"), ("in_", "out_"), ("_input", "_output"), ("_prev", "_next"), ("0", "n"), ("", "_out")];

/// Names of the deterministic action in files with several outputs, the surest first: ML-Agents, Brax, rsl_rl, Stable-Baselines3.
pub const ACTION_NAMES: [&str; 6] = [
    "deterministic_continuous_actions",
    "deterministic_discrete_actions",
    "continuous_actions",
    "actions",
    "action",
    "mean_actions",
];

/// What the caller says about a model that does not say it itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayoutOptions {
    /// The output that is the action.
    pub action: Option<String>,
    /// Pairs of state input and output, beside those that are known by their names.
    pub carry: Vec<(String, String)>,
    /// What [`crate::joints`] needs and the file's metadata does not have, by key.
    pub declared: BTreeMap<String, String>,
}

/// An input of the model, for one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// Name in the file.
    pub name: String,
    /// Shape of one step, batch axis included.
    pub shape: Vec<usize>,
    /// ONNX's name of the number type, in lower case.
    pub element: String,
    /// What it is.
    pub role: Role,
}

impl Feed {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Part of the observation row.
    Observation,
    /// Recurrent state: the value that the output of this number had at the step before, zero at first.
    State {
        /// Among [`Layout::outputs`].
        output: usize,
    },
    /// Nothing that the action depends on.
    Unused,
}

/// A run of values in a row that goes to a place in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First position in the row.
    pub from: usize,
    /// Number of the input.
    pub input: usize,
    /// First position in the input.
    pub at: usize,
    /// Number of values.
    pub len: usize,
}

/// Which inputs and outputs of a model are what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// All inputs, in the file's order.
    pub inputs: Vec<Feed>,
    /// Outputs that are computed: the action first, then what state comes from.
    pub outputs: Vec<String>,
    /// Where the observation row goes.
    pub observation: Vec<Piece>,
    /// Where the policy's own last action goes, before scaling; see [`Layout::hold_last_action`].
    pub last_action: Vec<Piece>,
    /// Outputs that are not computed, each with the reason.
    pub left_out: Vec<(String, &'static str)>,
}

impl Layout {
    /// Reads the roles off `model`. A contract helps where the observation's width is not in the file.
    ///
    /// # Errors
    /// [`Error::Malformed`] where a name is not there or a shape not fixed, [`Error::Unsupported`] where no output is deterministic.
    pub fn of(model: &Model, contract: Option<&Contract>, options: &LayoutOptions) -> Result<Self> {
        let sampled = model.sampled_outputs();
        let action = action_of(model, &sampled, options, contract)?;
        let mut outputs = vec![action];
        let mut partners = Vec::new();
        for port in model.inputs() {
            let partner = partner(port, model.outputs(), &options.carry)?;
            if let Some(name) = &partner
                && sampled.contains(name)
            {
                return Err(Error::Unsupported {
                    thing: format!("state {:?}", port.name),
                    reason: format!("its output {name:?} depends on random numbers"),
                    hint: "export the model with a deterministic state",
                });
            }
            partners.push(partner);
        }
        for name in partners.iter().flatten() {
            if !outputs.contains(name) {
                outputs.push(name.clone());
            }
        }
        let pruned = model.with_outputs(&outputs);
        let mut layout =
            Self { inputs: Vec::new(), outputs, observation: vec![], last_action: vec![], left_out: vec![] };
        for (port, partner) in model.inputs().iter().zip(partners) {
            layout.add(port, partner, pruned.reads(&port.name), contract)?;
        }
        if layout.observation.is_empty() {
            let found: Vec<&str> = model.inputs().iter().map(|input| input.name.as_str()).collect();
            return Err(Error::malformed("the model", "an input that the action depends on", format!("{found:?}")));
        }
        for output in model.outputs().iter().filter(|output| !layout.outputs.contains(&output.name)) {
            let why = if sampled.contains(&output.name) { "drawn at random" } else { "not the action" };
            layout.left_out.push((output.name.clone(), why));
        }
        Ok(layout)
    }

    fn add(&mut self, port: &Port, partner: Option<String>, read: bool, contract: Option<&Contract>) -> Result<()> {
        let output = partner.and_then(|name| self.outputs.iter().position(|output| *output == name));
        let role = match output {
            _ if !read => Role::Unused,
            Some(output) => Role::State { output },
            None => Role::Observation,
        };
        let shape = shape_of(port, role, contract)?;
        let feed = Feed { name: port.name.clone(), shape, element: port.element.clone(), role };
        // All inputs together: a small file may declare many large ones.
        let before: usize = self.inputs.iter().map(Feed::count).sum();
        let count = feed.shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        let count =
            count.filter(|count| *count > 0 && count.saturating_add(before) <= MAX_MEMORY).ok_or_else(|| {
                let expected = format!("1 or more values, all inputs together {MAX_MEMORY} at most");
                Error::malformed(format!("input {:?}", port.name), expected, format!("shape {:?}", feed.shape))
            })?;
        if role == Role::Observation {
            let from = self.observation_width();
            self.observation.push(Piece { from, input: self.inputs.len(), at: 0, len: count });
        }
        self.inputs.push(feed);
        Ok(())
    }

    /// Number of values in an observation row.
    pub fn observation_width(&self) -> usize {
        self.observation.last().map_or(0, |piece| piece.from + piece.len)
    }

    /// Numbers of the inputs that are state.
    pub fn states(&self) -> impl Iterator<Item = (usize, &Feed)> {
        self.inputs.iter().enumerate().filter(|(_, feed)| matches!(feed.role, Role::State { .. }))
    }

    /// Number of values in all state.
    pub fn state_width(&self) -> usize {
        self.states().map(|(_, feed)| feed.count()).sum()
    }

    /// Whether both have state of the same names and shapes, so that one can go on with the other's.
    pub fn carries_like(&self, other: &Self) -> bool {
        let same =
            |((_, one), (_, two)): ((usize, &Feed), (usize, &Feed))| (&one.name, &one.shape) == (&two.name, &two.shape);
        self.states().count() == other.states().count()
            && self.states().zip(other.states()).all(same)
            && self.last_action == other.last_action
    }

    /// The values `from .. from + len` of the observation row are the policy's own last action: the policy keeps it, and callers leave it
    /// out of their observations.
    pub fn hold_last_action(&mut self, from: usize, len: usize) {
        let (mut kept, mut held) = (Vec::new(), 0);
        let mut next = 0;
        for piece in std::mem::take(&mut self.observation) {
            let end = piece.from + piece.len;
            let (cut, cut_end) = (from.clamp(piece.from, end), (from + len).clamp(piece.from, end));
            let mut keep = |from: usize, end: usize| {
                if from < end {
                    kept.push(Piece { from: next, at: piece.at + from - piece.from, len: end - from, ..piece });
                    next += end - from;
                }
            };
            keep(piece.from, cut);
            keep(cut_end, end);
            if cut < cut_end {
                self.last_action.push(Piece {
                    from: held,
                    at: piece.at + cut - piece.from,
                    len: cut_end - cut,
                    ..piece
                });
                held += cut_end - cut;
            }
        }
        self.observation = kept;
    }
}

fn action_of(
    model: &Model,
    sampled: &[String],
    options: &LayoutOptions,
    contract: Option<&Contract>,
) -> Result<String> {
    let names: Vec<&str> = model.outputs().iter().map(|output| output.name.as_str()).collect();
    if let Some(wanted) = &options.action {
        if !names.contains(&wanted.as_str()) {
            return Err(Error::malformed("--action", format!("one of {names:?}"), format!("{wanted:?}")));
        }
        if sampled.contains(wanted) {
            return Err(random(format!("output {wanted:?} depends on random numbers")));
        }
        return Ok(wanted.clone());
    }
    let deterministic = |name: &&str| !sampled.iter().any(|sampled| sampled == name);
    let first = names.first().filter(|name| contract.is_some() && deterministic(name));
    let known = || ACTION_NAMES.into_iter().find(|name| names.contains(name) && deterministic(name));
    // Without a name, the recipes of exporters put the action first.
    let by_place = || names.first().copied().filter(deterministic);
    first.copied().or_else(known).or_else(by_place).map(str::to_owned).ok_or_else(|| {
        let rest: Vec<&str> = names.iter().copied().filter(deterministic).collect();
        random(if rest.is_empty() {
            format!("{names:?} depend on random numbers")
        } else {
            format!("its first output depends on random numbers, and which of {rest:?} is the action is not known")
        })
    })
}

fn random(reason: String) -> Error {
    Error::Unsupported {
        thing: "the model has no deterministic action".into(),
        reason,
        hint: "name the output with --action, or export the deterministic action (the mean) as an output",
    }
}

/// The output whose value this input has at the next step: named by the caller in `carry`, or known by its name.
///
/// # Errors
/// [`Error::Malformed`] where the caller names an output that is not there.
pub(super) fn partner(port: &Port, outputs: &[Port], carry: &[(String, String)]) -> Result<Option<String>> {
    let at = |name: &str| outputs.iter().find(|output| output.name == name);
    if let Some((_, output)) = carry.iter().find(|(input, _)| *input == port.name) {
        let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        let known = at(output).map(|output| Some(output.name.clone()));
        return known.ok_or_else(|| {
            Error::malformed(format!("--carry {}={output}", port.name), format!("one of {names:?}"), output)
        });
    }
    let rank = |port: &Port| port.shape.as_ref().map(Vec::len);
    for (from, to) in STATE_NAMES {
        let renamed = match from {
            "in_" => port.name.strip_prefix(from).map(|rest| format!("{to}{rest}")),
            _ => port.name.strip_suffix(from).map(|rest| format!("{rest}{to}")),
        };
        let Some(output) = renamed.as_deref().and_then(at) else { continue };
        let ranks = rank(output).is_none() || rank(port).is_none() || rank(output) == rank(port);
        if output.element == port.element && ranks {
            return Ok(Some(output.name.clone()));
        }
    }
    Ok(None)
}

fn shape_of(port: &Port, role: Role, contract: Option<&Contract>) -> Result<Vec<usize>> {
    let width = contract.map(|contract| contract.observation.len());
    let wrong =
        |expected: &str, found: String| Err(Error::malformed(format!("input {:?}", port.name), expected, found));
    let Some(declared) = &port.shape else {
        return match (role, width) {
            (Role::Unused, _) => Ok(vec![1]),
            (Role::Observation, Some(width)) => Ok(vec![1, width]),
            _ => wrong("a declared shape", "none".into()),
        };
    };
    let free = declared.iter().skip(1).filter(|length| length.is_none()).count();
    match (role, declared.as_slice()) {
        (Role::Observation, [Some(batch @ 2..), Some(_)]) => {
            wrong("a batch of 1 or any (export it so)", format!("a fixed batch of {batch}"))
        }
        (Role::Observation, [batch, None]) if width.is_some() => {
            Ok(vec![batch.unwrap_or(1), width.unwrap_or_default()])
        }
        (Role::Observation, _) if free > 0 => {
            wrong("f32 [batch, observation] of fixed width, or another shape of which only the batch is free", {
                format!("{} free axes", free)
            })
        }
        _ => Ok(declared.iter().map(|length| length.unwrap_or(1)).collect()),
    }
}

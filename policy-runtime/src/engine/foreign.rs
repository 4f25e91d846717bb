//! Any ONNX policy as one row in, one row out: several inputs, recurrent state held between steps, other outputs left out.

use std::fmt;

use super::layout::{Feed, Layout, Piece, Role};
use super::native::{Machine, check_width};
use super::program::Span;
use super::tract::TractModel;
use super::{EngineChoice, Kernels};
use crate::error::{Error, Result};
use crate::onnx::Model;

enum Engine {
    Native { machine: Box<Machine>, inputs: Vec<Option<Span>>, outputs: Vec<Span> },
    Tract { model: Box<TractModel> },
}

/// A model with its [`Layout`], prepared to run step by step. With the native engine a step allocates nothing.
pub(crate) struct ForeignPolicy {
    engine: Engine,
    layout: Layout,
    /// One row for each input, in the file's order; state inputs hold what the last step left.
    rows: Vec<Vec<f32>>,
    /// One row for each output: the action as the model gives it, then state.
    results: Vec<Vec<f32>>,
    last_action: Vec<f32>,
    /// Scale and offset from the model's action to the contract's.
    affine: Option<(Vec<f32>, Vec<f32>)>,
    why_not_native: Option<String>,
}

impl ForeignPolicy {
    /// Prepares `model` for its action and state, and runs it once.
    ///
    /// # Errors
    /// [`Error::Malformed`] where a state has another shape than its output, [`Error::Unsupported`] where no engine takes it.
    pub(crate) fn new(model: &Model, layout: Layout, choice: EngineChoice) -> Result<Self> {
        let model = model.with_outputs(&layout.outputs);
        let shapes: Vec<Vec<usize>> = layout.inputs.iter().map(|feed| feed.shape.clone()).collect();
        let lowered = if choice == EngineChoice::Tract {
            Err("tract was asked for".to_owned())
        } else {
            model.lower_graph(&shapes)
        };
        let (engine, widths, why_not_native) = match lowered {
            Ok(lowered) => {
                let machine = Machine::new(lowered.builder, Kernels::detect(), choice.numerics())?;
                let outputs: Vec<Span> = lowered.outputs.iter().map(|(span, _)| *span).collect();
                let widths: Vec<usize> = outputs.iter().map(|span| span.len as usize).collect();
                (Engine::Native { machine: Box::new(machine), inputs: lowered.inputs, outputs }, widths, None)
            }
            Err(reason) if choice.insists_on_native() => {
                return Err(Error::Unsupported {
                    thing: "the native engine cannot run this model".into(),
                    reason,
                    hint: "use --engine tract",
                });
            }
            Err(reason) => {
                let ports: Vec<(&str, &[usize])> =
                    layout.inputs.iter().map(|feed| (feed.element.as_str(), feed.shape.as_slice())).collect();
                let model = TractModel::with_inputs(&model, &ports)?;
                let widths = model.output_widths().to_vec();
                (Engine::Tract { model: Box::new(model) }, widths, Some(reason))
            }
        };
        for (_, feed) in layout.states() {
            let Role::State { output } = feed.role else { continue };
            let found = widths.get(output).copied().unwrap_or(0);
            if found != feed.count() {
                let thing = format!("state {:?}, which {:?} becomes", feed.name, layout.outputs[output]);
                return Err(Error::malformed(thing, format!("{} values, shape {:?}", feed.count(), feed.shape), found));
            }
        }
        let rows = layout.inputs.iter().map(|feed| vec![0.0; feed.count()]).collect();
        let results: Vec<Vec<f32>> = widths.iter().map(|width| vec![0.0; *width]).collect();
        let action_width = widths.first().copied().unwrap_or(0);
        let last_action = vec![0.0; action_width];
        let mut policy = Self { engine, layout, rows, results, last_action, affine: None, why_not_native };
        if let Some(piece) = policy.layout.last_action.last()
            && piece.from + piece.len != action_width
        {
            let expected = format!("{action_width} values, the action's");
            return Err(Error::malformed("the last action in the observation", expected, piece.from + piece.len));
        }
        let zeros = vec![0.0; policy.layout.observation_width()];
        match policy.run(&zeros, &mut vec![0.0; action_width]) {
            Ok(()) | Err(Error::NotFinite { .. }) => {}
            Err(error) => return Err(error),
        }
        policy.reset();
        Ok(policy)
    }

    /// The same with its actions scaled and moved, `offset + scale · action`, each `[action]`.
    #[must_use]
    pub(crate) fn with_affine(mut self, scale: Vec<f32>, offset: Vec<f32>) -> Self {
        self.affine = Some((scale, offset));
        self
    }

    /// One action from one observation row; then state moves on.
    ///
    /// # Errors
    /// [`Error::Width`] where a row has the wrong length, [`Error::NotFinite`] where state would not be finite: it is then set to
    /// zero, since it could not recover; [`Error::Unsupported`] where tract fails.
    pub(crate) fn run(&mut self, observation: &[f32], action: &mut [f32]) -> Result<()> {
        check_width("observation", self.layout.observation_width(), observation.len())?;
        check_width("action", self.last_action.len(), action.len())?;
        fill(&mut self.rows, &self.layout.observation, observation);
        fill(&mut self.rows, &self.layout.last_action, &self.last_action);
        match &mut self.engine {
            Engine::Native { machine, inputs, outputs } => {
                for (row, span) in self.rows.iter().zip(inputs.iter()) {
                    if let Some(span) = span {
                        machine.at_mut(*span).copy_from_slice(row);
                    }
                }
                machine.run()?;
                for (result, span) in self.results.iter_mut().zip(outputs.iter()) {
                    result.copy_from_slice(machine.at(*span));
                }
            }
            Engine::Tract { model } => model.run_all(&self.rows, &mut self.results)?,
        }
        let raw = self.results.first().map_or(&[][..], Vec::as_slice);
        action.copy_from_slice(raw);
        if let Some((scale, offset)) = &self.affine {
            for ((value, scale), offset) in action.iter_mut().zip(scale).zip(offset) {
                *value = offset + scale * *value;
            }
        }
        if !self.layout.last_action.is_empty() && raw.iter().all(|value| value.is_finite()) {
            self.last_action.copy_from_slice(raw);
        }
        let broken = |feed: &Feed| state_of(feed.role, &self.results)?.iter().position(|value| !value.is_finite());
        if let Some(index) = self.layout.inputs.iter().find_map(broken) {
            self.reset();
            return Err(Error::NotFinite { what: "recurrent state", index });
        }
        for (feed, row) in self.layout.inputs.iter().zip(&mut self.rows) {
            if let Some(next) = state_of(feed.role, &self.results) {
                row.copy_from_slice(next);
            }
        }
        Ok(())
    }

    /// State and last action are zero.
    pub(crate) fn reset(&mut self) {
        self.last_action.fill(0.0);
        for (feed, row) in self.layout.inputs.iter().zip(&mut self.rows) {
            if matches!(feed.role, Role::State { .. }) {
                row.fill(0.0);
            }
        }
    }

    /// Takes over the other's state, where names and shapes are the same; whether they were. Allocates nothing.
    pub(crate) fn carry_from(&mut self, other: &Self) -> bool {
        if !self.layout.carries_like(&other.layout) || self.last_action.len() != other.last_action.len() {
            return false;
        }
        self.last_action.copy_from_slice(&other.last_action);
        let theirs = other.layout.states().filter_map(|(index, _)| other.rows.get(index));
        let is_state = |feed: &Feed| matches!(feed.role, Role::State { .. });
        let mine = self.layout.inputs.iter().zip(&mut self.rows).filter(|(feed, _)| is_state(feed));
        for ((_, mine), theirs) in mine.zip(theirs) {
            mine.copy_from_slice(theirs);
        }
        true
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn action_width(&self) -> usize {
        self.last_action.len()
    }

    pub(crate) fn engine_name(&self) -> &'static str {
        match self.engine {
            Engine::Native { .. } => "native",
            Engine::Tract { .. } => "tract",
        }
    }

    pub(crate) fn why_not_native(&self) -> Option<&str> {
        self.why_not_native.as_deref()
    }

    /// Products of one step, where the native engine runs it.
    pub(crate) fn multiplications(&self) -> Option<usize> {
        match &self.engine {
            Engine::Native { machine, .. } => Some(machine.tape().multiplications()),
            Engine::Tract { .. } => None,
        }
    }

    pub(crate) fn activation_scale(&self) -> Option<f32> {
        match &self.engine {
            Engine::Native { machine, .. } => Some(machine.activation_scale()),
            Engine::Tract { .. } => None,
        }
    }
}

impl fmt::Debug for ForeignPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignPolicy {{ engine: {}, layout: {:?} }}", self.engine_name(), self.layout)
    }
}

fn state_of(role: Role, results: &[Vec<f32>]) -> Option<&[f32]> {
    match role {
        Role::State { output } => results.get(output).map(Vec::as_slice),
        _ => None,
    }
}

fn fill(rows: &mut [Vec<f32>], pieces: &[Piece], from: &[f32]) {
    for piece in pieces {
        let target = rows.get_mut(piece.input).and_then(|row| row.get_mut(piece.at..piece.at + piece.len));
        if let (Some(target), Some(source)) = (target, from.get(piece.from..piece.from + piece.len)) {
            target.copy_from_slice(source);
        }
    }
}

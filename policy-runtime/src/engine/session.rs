//! Any ONNX model step by step: several inputs and outputs of any shape, recurrent state carried from step to step.

use std::collections::BTreeMap;
use std::fmt;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceFact;

use super::layout::partner;
use super::native::Machine;
use super::program::Span;
use super::quiet::caught;
use super::tract::number_type;
use super::{EngineChoice, Kernels};
use crate::array::{Array, Numbers};
use crate::error::{Error, Result};
use crate::onnx::{Model, Port};

/// Most values that all inputs of one step may have together.
const MAX_INPUT_VALUES: usize = 1 << 26;

/// How to set a model up.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Which executor.
    pub engine: EngineChoice,
    /// Shape of one step's value of each input that the caller will give; the batch axis may be left out.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Pairs of state input and output beside those that are known by their names.
    pub carry: Vec<(String, String)>,
    /// Whether outputs that are drawn at random are wanted.
    pub sampled: bool,
}

/// An input of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Name in the file.
    pub name: String,
    /// Shape of one step's value, the model's own.
    pub shape: Vec<usize>,
    /// The output that becomes this input's value at the next step.
    pub carried_from: Option<usize>,
    /// Whether the caller must give it.
    pub required: bool,
    /// Whether the caller gives it without the model's batch axis.
    pub batch_added: bool,
    element: DatumType,
}

enum Engine {
    Native { machine: Box<Machine>, inputs: Vec<Option<Span>>, outputs: Vec<(Span, Vec<usize>)> },
    Tract { state: TypedSimpleState },
}

/// A model that was prepared to run one step after the other.
pub struct Session {
    engine: Engine,
    inputs: Vec<Input>,
    values: Vec<Tensor>,
    outputs: Vec<String>,
    results: Vec<Tensor>,
    dropped: Vec<String>,
    why_not_native: Option<String>,
}

impl Session {
    /// Prepares `model` for its outputs, without those that are drawn at random unless they are wanted.
    ///
    /// # Errors
    /// [`Error::Malformed`] where shapes do not fit or state has no partner, [`Error::Unsupported`] where no engine takes it.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self> {
        let sampled = if options.sampled { Vec::new() } else { model.sampled_outputs() };
        let names: Vec<String> =
            (model.outputs().iter().map(|output| output.name.clone())).filter(|name| !sampled.contains(name)).collect();
        if names.is_empty() {
            return Err(Error::Unsupported {
                thing: "the model has no deterministic output".into(),
                reason: format!("{sampled:?} depend on random numbers"),
                hint: "export the deterministic action (the mean) as an output, or ask for --sampled",
            });
        }
        let model = model.with_outputs(&names);
        let inputs: Vec<Input> =
            model.inputs().iter().map(|port| input(&model, port, &names, options)).collect::<Result<_>>()?;
        let counts =
            inputs.iter().map(|input| input.shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length)));
        let total = counts.reduce(|total, count| total?.checked_add(count?)).unwrap_or(Some(0));
        if total.is_none_or(|total| total > MAX_INPUT_VALUES) {
            let expected = format!("at most {MAX_INPUT_VALUES} values for one step");
            let found: Vec<&[usize]> = inputs.iter().map(|input| input.shape.as_slice()).collect();
            return Err(Error::malformed("the model's inputs", expected, format!("shapes {found:?}")));
        }
        let values: Vec<Tensor> = (inputs.iter())
            .map(|input| Tensor::zero_dt(input.element, &input.shape).map_err(|error| refused(&error)))
            .collect::<Result<_>>()?;
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape.clone()).collect();
        let lowered = match options.engine {
            EngineChoice::Tract => Err("tract was asked for".to_owned()),
            _ => model.lower_graph(&shapes),
        };
        let (engine, why_not_native) = match lowered {
            Ok(lowered) => {
                let machine = Machine::new(lowered.builder, Kernels::detect(), options.engine.numerics())?;
                let (inputs, outputs) = (lowered.inputs, lowered.outputs);
                (Engine::Native { machine: Box::new(machine), inputs, outputs }, None)
            }
            Err(reason) if options.engine.insists_on_native() => {
                return Err(Error::Unsupported {
                    thing: "the native engine cannot run this model".into(),
                    reason,
                    hint: "use --engine tract",
                });
            }
            Err(reason) => (tract(&model, &inputs)?, Some(reason)),
        };
        Ok(Self { engine, inputs, values, outputs: names, results: Vec::new(), dropped: sampled, why_not_native })
    }

    /// Inputs in the file's order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Names of the outputs, in the file's order.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Outputs of the file that are drawn at random and therefore left out.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// `native` or `tract`.
    pub fn engine_name(&self) -> &'static str {
        match self.engine {
            Engine::Native { .. } => "native",
            Engine::Tract { .. } => "tract",
        }
    }

    /// Why the native engine does not run it; `None` where it does.
    pub fn why_not_native(&self) -> Option<&str> {
        self.why_not_native.as_deref()
    }

    /// Sets all carried state to zero.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where memory is refused.
    pub fn reset(&mut self) -> Result<()> {
        for (input, value) in self.inputs.iter().zip(&mut self.values) {
            if input.carried_from.is_some() {
                *value = Tensor::zero_dt(input.element, &input.shape).map_err(|error| refused(&error))?;
            }
        }
        Ok(())
    }

    /// Gives input number `index` its value for the next step, converted to the model's number type.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it has another number of values.
    pub fn set(&mut self, index: usize, numbers: &Numbers) -> Result<()> {
        let Some(input) = self.inputs.get(index) else {
            return Err(Error::malformed("input", format!("one of {}", self.inputs.len()), index));
        };
        let count: usize = input.shape.iter().product();
        if numbers.len() != count {
            return Err(Error::malformed(format!("input {:?}", input.name), format!("{count} numbers"), numbers.len()));
        }
        let shape = &input.shape;
        let tensor = match (numbers, input.element) {
            (Numbers::F32(values), DatumType::F32) => Tensor::from_shape(shape, values),
            (Numbers::I64(values), DatumType::I64) => Tensor::from_shape(shape, values),
            (_, DatumType::F32) => {
                Tensor::from_shape(shape, &numbers.to_f64().iter().map(|value| *value as f32).collect::<Vec<_>>())
            }
            (_, DatumType::F64) => Tensor::from_shape(shape, &numbers.to_f64()),
            (_, DatumType::I64) => {
                Tensor::from_shape(shape, &numbers.to_f64().iter().map(|value| *value as i64).collect::<Vec<_>>())
            }
            (_, DatumType::I32) => {
                Tensor::from_shape(shape, &numbers.to_f64().iter().map(|value| *value as i32).collect::<Vec<_>>())
            }
            (_, DatumType::U8) => {
                Tensor::from_shape(shape, &numbers.to_f64().iter().map(|value| *value as u8).collect::<Vec<_>>())
            }
            _ => Tensor::from_shape(shape, &numbers.to_f64().iter().map(|value| *value != 0.0).collect::<Vec<_>>()),
        };
        self.values[index] = tensor.map_err(|error| refused(&error))?;
        Ok(())
    }

    /// One step: computes all outputs, then carries the state.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where tract fails.
    pub fn run(&mut self) -> Result<()> {
        match &mut self.engine {
            Engine::Native { machine, inputs, outputs } => {
                let plain = |tensor: &Tensor| Ok(tensor.try_as_plain_ram()?.as_slice::<f32>()?.to_vec());
                for (value, span) in self.values.iter().zip(inputs.iter()) {
                    if let Some(span) = span {
                        machine
                            .at_mut(*span)
                            .copy_from_slice(&plain(value).map_err(|error: TractError| refused(&error))?);
                    }
                }
                machine.run()?;
                let result = |(span, shape): &(Span, Vec<usize>)| Tensor::from_shape(shape, machine.at(*span));
                self.results =
                    outputs.iter().map(result).collect::<TractResult<_>>().map_err(|error| refused(&error))?;
            }
            Engine::Tract { state } => {
                let values = self.values.iter().map(|value| value.clone().into_tvalue()).collect();
                let run = || state.run(values).inspect_err(|_| drop(state.reset_turn()));
                let results = match caught(run) {
                    Some(results) => results.map_err(|error| refused(&error))?,
                    None => {
                        return Err(Error::Unsupported {
                            thing: "a step in tract failed".into(),
                            reason: "it stopped while it evaluated the graph".into(),
                            hint: "export the policy again with fixed layer shapes",
                        });
                    }
                };
                self.results = results.into_iter().map(|result| result.into_tensor()).collect();
            }
        }
        for (index, input) in self.inputs.iter().enumerate() {
            if let Some(result) = input.carried_from.and_then(|output| self.results.get(output)) {
                if result.shape() != input.shape {
                    let thing = format!("state {:?}", input.name);
                    let found =
                        format!("{:?} from {:?}", result.shape(), self.outputs[input.carried_from.unwrap_or(0)]);
                    return Err(Error::malformed(thing, format!("shape {:?}", input.shape), found));
                }
                self.values[index] = result.clone();
            }
        }
        Ok(())
    }

    /// Output number `index` of the last step.
    ///
    /// # Errors
    /// [`Error::Malformed`] before the first step; [`Error::Unsupported`] for number types that have no counterpart here.
    pub fn result(&self, index: usize) -> Result<Array> {
        let none = || Error::malformed("output", format!("one of {} computed ones", self.results.len()), index);
        let result = self.results.get(index).ok_or_else(none)?;
        let numbers = (|| {
            let plain = result.try_as_plain_ram()?;
            Ok(match result.datum_type() {
                DatumType::F32 => Numbers::F32(plain.as_slice::<f32>()?.to_vec()),
                DatumType::F64 => Numbers::F64(plain.as_slice::<f64>()?.to_vec()),
                DatumType::I32 => Numbers::I32(plain.as_slice::<i32>()?.to_vec()),
                DatumType::I64 => Numbers::I64(plain.as_slice::<i64>()?.to_vec()),
                DatumType::U8 => Numbers::U8(plain.as_slice::<u8>()?.to_vec()),
                DatumType::Bool => Numbers::Bool(plain.as_slice::<bool>()?.to_vec()),
                _ => Numbers::I64(result.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.to_vec()),
            })
        })();
        let numbers = numbers.map_err(|error: TractError| refused(&error))?;
        Ok(Array { shape: result.shape().to_vec(), numbers })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Session {{ engine: {}, inputs: {:?}, outputs: {:?} }}",
            self.engine_name(),
            self.inputs,
            self.outputs
        )
    }
}

fn refused(error: &TractError) -> Error {
    Error::Unsupported {
        thing: "the model cannot run in tract".into(),
        reason: format!("{error:#}"),
        hint: "export the policy again with opset 17 and fixed layer shapes, or check the file with onnx.checker",
    }
}

fn tract(model: &Model, inputs: &[Input]) -> Result<Engine> {
    let build = || -> TractResult<TypedSimpleState> {
        let onnx = tract_onnx::onnx().with_ignore_value_info(true);
        let mut graph = onnx.model_for_proto_model(model.proto())?;
        for (index, input) in inputs.iter().enumerate() {
            graph.set_input_fact(index, InferenceFact::dt_shape(input.element, &input.shape))?;
        }
        graph.into_optimized()?.into_runnable()?.spawn()
    };
    match caught(build) {
        Some(Ok(state)) => Ok(Engine::Tract { state }),
        Some(Err(error)) => Err(refused(&error)),
        None => Err(Error::Unsupported {
            thing: "the model cannot run in tract".into(),
            reason: "it stopped while it read the graph".into(),
            hint: "check the file with onnx.checker",
        }),
    }
}

fn input(model: &Model, port: &Port, outputs: &[String], options: &SessionOptions) -> Result<Input> {
    let element = number_type(&port.name, &port.element)?;
    let given = options.shapes.get(&port.name);
    let (shape, batch_added) = shape(port, given)?;
    let partner = if given.is_some() { None } else { partner(port, model.outputs(), &options.carry)? };
    let carried_from = partner.and_then(|name| outputs.iter().position(|output| *output == name));
    let required = given.is_none() && carried_from.is_none() && model.reads(&port.name);
    Ok(Input { name: port.name.clone(), shape, carried_from, required, batch_added, element })
}

/// The model's shape for one step, and whether the caller leaves its batch axis out. Symbolic axes are the caller's, or 1.
fn shape(port: &Port, given: Option<&Vec<usize>>) -> Result<(Vec<usize>, bool)> {
    let Some(declared) = &port.shape else {
        return Ok(given.map_or((vec![1], false), |given| ([&[1], given.as_slice()].concat(), true)));
    };
    let alone: Vec<usize> = declared.iter().map(|length| length.unwrap_or(1)).collect();
    let Some(given) = given else { return Ok((alone, false)) };
    let fits = |declared: &[Option<usize>]| {
        declared.len() == given.len()
            && declared.iter().zip(given).all(|(declared, given)| declared.is_none_or(|declared| declared == *given))
    };
    match declared.split_first() {
        _ if fits(declared) => Ok((given.clone(), false)),
        Some((None | Some(1), rest)) if fits(rest) => Ok(([&[1], given.as_slice()].concat(), true)),
        _ if alone.iter().product::<usize>() == given.iter().product::<usize>() => Ok((alone, true)),
        _ => {
            let axis = |length: &Option<usize>| length.map_or_else(|| "any".into(), |length| length.to_string());
            let expected: Vec<String> = declared.iter().map(axis).collect();
            let thing = format!("input {:?} of one step", port.name);
            Err(Error::malformed(thing, format!("shape [{}]", expected.join(", ")), format!("{given:?}")))
        }
    }
}

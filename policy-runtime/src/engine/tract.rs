//! tract as executor: any ONNX model, its inputs and outputs as rows of f32.

use std::fmt;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceFact;
use tract_onnx::tract_hir::internal::{TractErrorContext, bail, ensure};

use super::native::check_width;
use super::quiet::caught;
use crate::error::{Error, Result};
use crate::onnx::Model;

/// A model in tract with batch 1, one state and input tensors that are reused. Every run allocates inside tract.
pub struct TractModel {
    state: TypedSimpleState,
    inputs: Vec<Arc<Tensor>>,
    input_widths: Vec<usize>,
    output_widths: Vec<usize>,
}

/// tract's number type for ONNX's name of one, in lower case; those that an input may have.
///
/// # Errors
/// [`Error::Unsupported`] for all others.
pub(super) fn number_type(input: &str, element: &str) -> Result<DatumType> {
    Ok(match element {
        "float" => DatumType::F32,
        "double" => DatumType::F64,
        "int64" => DatumType::I64,
        "int32" => DatumType::I32,
        "uint8" => DatumType::U8,
        "bool" => DatumType::Bool,
        other => {
            return Err(Error::Unsupported {
                thing: format!("input {input:?} is {other}"),
                reason: "only float, double, int64, int32, uint8 and bool can be given".into(),
                hint: "export the policy with a float input",
            });
        }
    })
}

impl TractModel {
    /// Prepares `model` to give its output 0, an f32 row, and runs it once. `widths` are those of its inputs, in the file's order.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where tract does not take the model; tract's own reason is in the message.
    pub fn new(model: &Model, widths: &[usize]) -> Result<Self> {
        let first: Vec<String> = model.outputs().iter().take(1).map(|output| output.name.clone()).collect();
        let shapes: Vec<[usize; 2]> = widths.iter().map(|width| [1, *width]).collect();
        let ports: Vec<(&str, &[usize])> = shapes.iter().map(|shape| ("float", shape.as_slice())).collect();
        let mut built = Self::with_inputs(&model.with_outputs(&first), &ports)?;
        let zeros: Vec<Vec<f32>> = widths.iter().map(|width| vec![0.0; *width]).collect();
        let rows: Vec<&[f32]> = zeros.iter().map(Vec::as_slice).collect();
        let mut output = vec![0.0; built.output_width()];
        built.run(&rows, &mut output)?;
        Ok(built)
    }

    /// Prepares `model` to give all its outputs. `inputs` are number type, by ONNX's name, and shape of each, in the file's order.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where tract does not take the model; tract's own reason is in the message.
    pub fn with_inputs(model: &Model, inputs: &[(&str, &[usize])]) -> Result<Self> {
        let types: Vec<DatumType> = (model.inputs().iter().zip(inputs))
            .map(|(port, (element, _))| number_type(&port.name, element))
            .collect::<Result<_>>()?;
        let unsupported = |reason: String| Error::Unsupported {
            thing: "the model cannot run in tract".into(),
            reason,
            hint: "export the policy again with opset 17 and fixed layer shapes, or check the file with onnx.checker",
        };
        match caught(|| Self::build(model, inputs, &types)) {
            Some(Ok(built)) => Ok(built),
            Some(Err(error)) => Err(unsupported(format!("{error:#}"))),
            None => Err(unsupported("it stopped while it read the graph".into())),
        }
    }

    fn build(model: &Model, inputs: &[(&str, &[usize])], types: &[DatumType]) -> TractResult<Self> {
        let onnx = tract_onnx::onnx().with_ignore_value_info(true);
        let mut graph = onnx.model_for_proto_model(model.proto())?;
        for (index, ((_, shape), element)) in inputs.iter().zip(types).enumerate() {
            graph.set_input_fact(index, InferenceFact::dt_shape(*element, *shape))?;
        }
        let optimized = graph.into_optimized()?;
        let width = |index: usize| {
            let fact = optimized.output_fact(index)?;
            match fact.shape.as_concrete() {
                Some(shape) if fact.datum_type.is_number() || fact.datum_type == DatumType::Bool => {
                    Ok(shape.iter().product())
                }
                _ => bail!("output {index} is {fact:?} instead of numbers of a fixed shape"),
            }
        };
        let tensors =
            inputs.iter().zip(types).map(|((_, shape), element)| Tensor::zero_dt(*element, shape).map(Arc::new));
        Ok(Self {
            inputs: tensors.collect::<TractResult<_>>()?,
            input_widths: inputs.iter().map(|(_, shape)| shape.iter().product()).collect(),
            output_widths: (0..optimized.output_outlets()?.len()).map(width).collect::<TractResult<_>>()?,
            state: optimized.into_runnable()?.spawn()?,
        })
    }

    /// Widths of the inputs, in the file's order.
    pub fn input_widths(&self) -> &[usize] {
        &self.input_widths
    }

    /// Number of values of each output, in the file's order.
    pub fn output_widths(&self) -> &[usize] {
        &self.output_widths
    }

    /// Width of output 0.
    pub fn output_width(&self) -> usize {
        self.output_widths.first().copied().unwrap_or(0)
    }

    /// Output 0 from one row per input.
    ///
    /// # Errors
    /// [`Error::Width`] where a row has the wrong length, [`Error::Unsupported`] where tract fails.
    pub fn run(&mut self, rows: &[&[f32]], output: &mut [f32]) -> Result<()> {
        self.run_all(rows, &mut [output])
    }

    /// All outputs, or the first of them, from one row per input.
    ///
    /// # Errors
    /// [`Error::Width`] where a row has the wrong length, [`Error::Unsupported`] where tract fails.
    pub fn run_all<I: AsRef<[f32]>, O: AsMut<[f32]>>(&mut self, rows: &[I], outputs: &mut [O]) -> Result<()> {
        check_width("number of inputs", self.inputs.len(), rows.len())?;
        for (row, width) in rows.iter().zip(&self.input_widths) {
            check_width("input", *width, row.as_ref().len())?;
        }
        for (output, width) in outputs.iter_mut().zip(&self.output_widths) {
            check_width("output", *width, output.as_mut().len())?;
        }
        let failed = |reason: String| Error::Unsupported {
            thing: "a step in tract failed".into(),
            reason,
            hint: "run `hype-policy verify` on the bundle",
        };
        match caught(|| self.evaluate(rows, outputs)) {
            Some(result) => result.map_err(|error| failed(format!("{error:#}"))),
            None => Err(failed("it stopped while it evaluated the graph".into())),
        }
    }

    fn evaluate<I: AsRef<[f32]>, O: AsMut<[f32]>>(&mut self, rows: &[I], outputs: &mut [O]) -> TractResult<()> {
        let mut values = tvec!();
        for (tensor, row) in self.inputs.iter_mut().zip(rows) {
            let row = row.as_ref();
            if tensor.datum_type() != DatumType::F32 {
                let given = Tensor::from_shape(tensor.shape(), row)?;
                *tensor = Arc::new(given.cast_to_dt(tensor.datum_type())?.into_owned());
            } else {
                if Arc::get_mut(tensor).is_none() {
                    *tensor = Arc::new(Tensor::zero::<f32>(tensor.shape())?);
                }
                let tensor_mut = Arc::get_mut(tensor).context("an input tensor is still in use")?;
                tensor_mut.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.copy_from_slice(row);
            }
            values.push(TValue::from_const(tensor.clone()));
        }
        let results = match self.state.run(values) {
            Ok(results) => results,
            Err(error) => {
                self.state.reset_turn()?;
                return Err(error);
            }
        };
        ensure!(results.len() >= outputs.len(), "{} outputs instead of {}", results.len(), outputs.len());
        for (result, output) in results.iter().zip(outputs) {
            let (result, output) = (result.cast_to::<f32>()?, output.as_mut());
            let result = result.try_as_plain_ram()?;
            let result = result.as_slice::<f32>()?;
            ensure!(result.len() == output.len(), "{} output values instead of {}", result.len(), output.len());
            output.copy_from_slice(result);
        }
        Ok(())
    }
}

impl fmt::Debug for TractModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TractModel {{ inputs: {:?}, outputs: {:?} }}", self.input_widths, self.output_widths)
    }
}

//! tract as executor: any ONNX model with f32 rows in and one f32 row out.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{TractErrorContext, bail, ensure};

use super::native::check_width;
use crate::error::{Error, Result};
use crate::onnx::Model;

/// A model in tract with batch 1, one state and input tensors that are reused. Every run allocates inside tract.
pub struct TractModel {
    state: TypedSimpleState,
    inputs: Vec<Arc<Tensor>>,
    input_widths: Vec<usize>,
    output_width: usize,
}

impl TractModel {
    /// Prepares `model` to give its output 0, and runs it once. `widths` are those of its inputs, in the file's order.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where tract does not take the model; tract's own reason is in the message.
    pub fn new(model: &Model, widths: &[usize]) -> Result<Self> {
        let unsupported = |reason: String| Error::Unsupported {
            thing: "the model cannot run in tract".into(),
            reason,
            hint: "export the policy again with opset 17 and fixed layer shapes, or check the file with onnx.checker",
        };
        // tract indexes by what a file claims; a claim that slipped through vetting must not end the process.
        let built = catch_unwind(AssertUnwindSafe(|| Self::build(model, widths)));
        let mut built = match built {
            Ok(Ok(built)) => built,
            Ok(Err(error)) => return Err(unsupported(format!("{error:#}"))),
            Err(_) => return Err(unsupported("it stopped while it read the graph".into())),
        };
        let zeros: Vec<Vec<f32>> = widths.iter().map(|width| vec![0.0; *width]).collect();
        let rows: Vec<&[f32]> = zeros.iter().map(Vec::as_slice).collect();
        let mut output = vec![0.0; built.output_width];
        built.run(&rows, &mut output)?;
        Ok(built)
    }

    fn build(model: &Model, widths: &[usize]) -> TractResult<Self> {
        let onnx = tract_onnx::onnx().with_ignore_value_info(true);
        let mut graph = onnx.model_for_proto_model(model.proto())?;
        for (index, width) in widths.iter().enumerate() {
            graph.set_input_fact(index, f32::fact([1, *width]).into())?;
        }
        let first_output = graph.output_outlets()?[0];
        graph.select_output_outlets(&[first_output])?;
        let optimized = graph.into_optimized()?;
        let fact = optimized.output_fact(0)?;
        let output_width = match fact.shape.as_concrete() {
            Some([1, width]) if fact.datum_type == f32::datum_type() => *width,
            _ => bail!("output 0 is {fact:?} instead of an f32 row [1, width]"),
        };
        let inputs = widths.iter().map(|width| Tensor::zero::<f32>(&[1, *width]).map(Arc::new));
        Ok(Self {
            inputs: inputs.collect::<TractResult<_>>()?,
            state: optimized.into_runnable()?.spawn()?,
            input_widths: widths.to_vec(),
            output_width,
        })
    }

    /// Widths of the inputs, in the file's order.
    pub fn input_widths(&self) -> &[usize] {
        &self.input_widths
    }

    /// Width of output 0.
    pub fn output_width(&self) -> usize {
        self.output_width
    }

    /// One output row from one row per input.
    ///
    /// # Errors
    /// [`Error::Width`] where a row has the wrong length, [`Error::Unsupported`] where tract fails.
    pub fn run(&mut self, rows: &[&[f32]], output: &mut [f32]) -> Result<()> {
        check_width("number of inputs", self.inputs.len(), rows.len())?;
        for (row, width) in rows.iter().zip(&self.input_widths) {
            check_width("input", *width, row.len())?;
        }
        check_width("output", self.output_width, output.len())?;
        let failed = |reason: String| Error::Unsupported {
            thing: "a step in tract failed".into(),
            reason,
            hint: "run `hype-policy verify` on the bundle",
        };
        match catch_unwind(AssertUnwindSafe(|| self.evaluate(rows, output))) {
            Ok(result) => result.map_err(|error| failed(format!("{error:#}"))),
            Err(_) => Err(failed("it stopped while it evaluated the graph".into())),
        }
    }

    fn evaluate(&mut self, rows: &[&[f32]], output: &mut [f32]) -> TractResult<()> {
        let mut values = tvec!();
        for (tensor, row) in self.inputs.iter_mut().zip(rows) {
            if Arc::get_mut(tensor).is_none() {
                *tensor = Arc::new(Tensor::zero::<f32>(&[1, row.len()])?);
            }
            let tensor_mut = Arc::get_mut(tensor).context("an input tensor is still in use")?;
            tensor_mut.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.copy_from_slice(row);
            values.push(TValue::from_const(tensor.clone()));
        }
        let results = match self.state.run(values) {
            Ok(results) => results,
            Err(error) => {
                self.state.reset_turn()?;
                return Err(error);
            }
        };
        let result = results.first().context("no output")?.try_as_plain_ram()?;
        let result = result.as_slice::<f32>()?;
        ensure!(result.len() == output.len(), "{} output values instead of {}", result.len(), output.len());
        output.copy_from_slice(result);
        Ok(())
    }
}

impl fmt::Debug for TractModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TractModel {{ inputs: {:?}, output: {} }}", self.input_widths, self.output_width)
    }
}

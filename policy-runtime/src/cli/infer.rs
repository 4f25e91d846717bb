//! `hype-policy infer`: a recorded log through any policy file or foreign ONNX model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::npz::{read_npz, write_npz};
use super::subject::Opened;
use super::{Outcome, Trusted, parse_engine};
use crate::array::Array;
use crate::engine::EngineChoice;
use crate::engine::session::{Session, SessionOptions};
use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::onnx::Model;

/// Largest file of recorded inputs.
const MAX_INPUT_BYTES: u64 = 8 << 30;
/// Array that says before which steps state is set to zero, where no input has that name.
const RESET: &str = "reset";

#[derive(Debug, Args)]
pub(super) struct InferArgs {
    /// A bundle's folder, or an ONNX file.
    #[arg(value_name = "MODEL")]
    pub(super) path: PathBuf,
    /// Arrays by input name, each with a leading time axis; the model's batch axis may be left out. An array `reset` of the
    /// same length sets the carried state to zero before each step where it is not zero.
    #[arg(long, value_name = "F.npz")]
    inputs: PathBuf,
    /// Where the outputs go, by name, with a leading time axis.
    #[arg(short, long, value_name = "OUT.npz")]
    output: PathBuf,
    /// auto, native, deterministic or tract.
    #[arg(long, default_value = "auto", value_parser = parse_engine)]
    engine: EngineChoice,
    /// Carry this output to this input at the next step, beside pairs known by name (h_in, h_out and the like).
    #[arg(long, value_name = "INPUT=OUTPUT", value_parser = parse_pair)]
    carry: Vec<(String, String)>,
    /// Set carried state to zero every so many steps.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    reset_every: Option<u64>,
    /// Compute outputs that are drawn at random too.
    #[arg(long)]
    sampled: bool,
    #[command(flatten)]
    trusted: Trusted,
    /// Print one JSON object on standard output and nothing else there.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn infer(args: &InferArgs) -> Result<Outcome> {
    let opened = Opened::read(&args.path, args.trusted.trust()?.as_ref())?;
    let context = |error: Error| error.within(args.path.display());
    let model = Model::parse(opened.model()).map_err(context)?;
    let recorded = read_bounded(&args.inputs, MAX_INPUT_BYTES)?;
    let is_input = |name: &str| model.inputs().iter().any(|input| input.name == name);
    let read = read_npz(&recorded, |name| is_input(name) || name == RESET);
    let (arrays, ignored) = read.map_err(|error| error.within(args.inputs.display()))?;
    let mut arrays: BTreeMap<String, Array> = arrays.into_iter().collect();
    let reset = if is_input(RESET) { None } else { arrays.remove(RESET) };
    let given: Vec<String> = arrays.keys().cloned().collect();
    let steps = common_length(&arrays, reset.as_ref())?;

    let shapes = arrays.iter().map(|(name, array)| (name.clone(), array.shape[1..].to_vec())).collect();
    let options = SessionOptions { engine: args.engine, shapes, carry: args.carry.clone(), sampled: args.sampled };
    let mut session = Session::new(&model, &options).map_err(context)?;
    if let Some(missing) = session.inputs().iter().find(|input| input.required) {
        let expected = format!("an array {:?} of shape [steps, …{:?}]", missing.name, missing.shape);
        return Err(Error::malformed(
            args.inputs.display().to_string(),
            expected,
            format!("{:?}", [given, ignored].concat()),
        ));
    }
    let resets = reset.map(|reset| reset.numbers.to_f64());
    let outputs = run(&mut session, &arrays, steps, |step| {
        args.reset_every.is_some_and(|every| (step as u64).is_multiple_of(every))
            || resets.as_ref().is_some_and(|resets| resets.get(step).is_some_and(|reset| *reset != 0.0))
    })
    .map_err(context)?;
    let content = write_npz(&outputs)?;
    std::fs::write(&args.output, content).map_err(|source| Error::file("write", &args.output, source))?;

    let carried: Vec<String> = (session.inputs().iter())
        .filter_map(|input| Some(format!("{} from {}", input.name, session.outputs().get(input.carried_from?)?)))
        .collect();
    let engine = args.engine.told(session.engine_name());
    let mut text = format!("{}: {steps} steps, engine {engine}\n", args.path.display());
    for (name, array) in &outputs {
        text += &format!("  {name}: {} {:?}\n", array.numbers.type_name(), array.shape);
    }
    text += &session.why_not_native().map_or_else(String::new, |reason| format!("  not native: {reason}\n"));
    for (what, names) in [
        ("carried from step to step", carried.as_slice()),
        ("left out, since it is drawn at random", session.dropped()),
        ("recorded, but no input of the model", &ignored),
    ] {
        text += &names.iter().map(|name| format!("  {what}: {name}\n")).collect::<String>();
    }
    let shapes: BTreeMap<&str, &[usize]> =
        outputs.iter().map(|(name, array)| (name.as_str(), array.shape.as_slice())).collect();
    let json = json!({
        "model": args.path, "steps": steps, "engine": engine, "why_not_native": session.why_not_native(),
        "outputs": shapes, "carried": carried, "sampled_outputs_left_out": session.dropped(), "ignored": ignored,
        "written": args.output,
    });
    Ok(Outcome { text, json, kind: None })
}

/// All outputs of all steps, `[steps, …]`. The batch axis is left out where the inputs have none.
fn run(
    session: &mut Session,
    arrays: &BTreeMap<String, Array>,
    steps: usize,
    reset_before: impl Fn(usize) -> bool,
) -> Result<Vec<(String, Array)>> {
    let feeds: Vec<(usize, &Array)> = (session.inputs().iter().enumerate())
        .filter_map(|(index, input)| Some((index, arrays.get(&input.name)?)))
        .collect();
    let without_batch = session.inputs().iter().any(|input| input.batch_added);
    let carried: Vec<usize> = session.inputs().iter().filter_map(|input| input.carried_from).collect();
    let mut outputs: Vec<(String, Array)> = Vec::new();
    for step in 0..steps {
        if reset_before(step) {
            session.reset()?;
        }
        for (index, array) in &feeds {
            let count: usize = array.shape[1..].iter().product();
            let row = array.numbers.part(step * count, count);
            session.set(*index, &row.ok_or_else(|| Error::malformed("input", "a row for each step", step))?)?;
        }
        session.run()?;
        for index in 0..session.outputs().len() {
            let Array { mut shape, numbers } = session.result(index)?;
            if without_batch && !carried.contains(&index) && shape.first() == Some(&1) {
                shape.remove(0);
            }
            match outputs.get_mut(index) {
                None => outputs.push((session.outputs()[index].clone(), Array { shape, numbers })),
                Some((name, so_far)) => {
                    if so_far.shape != shape || !so_far.numbers.append(&numbers) {
                        let found = format!("{shape:?} at step {step}");
                        return Err(Error::malformed(format!("output {name:?}"), format!("{:?}", so_far.shape), found));
                    }
                }
            }
        }
    }
    outputs.iter_mut().for_each(|(_, array)| array.shape.insert(0, steps));
    Ok(outputs)
}

fn common_length(arrays: &BTreeMap<String, Array>, reset: Option<&Array>) -> Result<usize> {
    let named = arrays.iter().map(|(name, array)| (name.as_str(), array));
    let mut first: Option<(&str, usize)> = None;
    for (name, array) in named.chain(reset.map(|reset| (RESET, reset))) {
        let Some(steps) = array.shape.first().copied().filter(|steps| *steps > 0) else {
            return Err(Error::malformed(format!("array {name:?}"), "a leading time axis of at least 1", "none"));
        };
        match first {
            Some((other, length)) if length != steps => {
                let expected = format!("{length} steps, as {other:?} has");
                return Err(Error::malformed(format!("array {name:?}"), expected, steps));
            }
            _ => first = Some((name, steps)),
        }
    }
    first.map(|(_, steps)| steps).ok_or_else(|| {
        Error::malformed("the recorded inputs", "at least one array named like an input of the model", "none")
    })
}

pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((input, output)) if !input.is_empty() && !output.is_empty() => Ok((input.into(), output.into())),
        _ => Err("expected two words with = between them".into()),
    }
}

//! `eval.jsonl`: a line per evaluation episode, and nothing of the wall clock, so that equal runs give equal files.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLine {
    /// Seed of the run.
    pub seed: u64,
    /// Policy and exploration steps at the evaluation.
    pub env_steps: u64,
    /// All real steps at the evaluation, evaluation apart.
    pub env_steps_total: u64,
    /// Number of the episode within the evaluation.
    pub episode: u64,
    /// Undiscounted true return.
    #[serde(rename = "return")]
    pub episode_return: f64,
    /// Steps.
    pub length: u64,
}

/// Reads the `eval.jsonl` of the run at `run`.
///
/// # Errors
/// Names the file and line that is no evaluation.
pub fn read(run: &Path) -> Result<Vec<EvaluationLine>> {
    let path = run.join("eval.jsonl");
    if path.exists() {
        return read_file(&path);
    }
    Err(Error::data(format!("{} has no evaluation yet", run.display())).expected("a run directory with an eval.jsonl"))
}

/// Reads a file of evaluations, wherever it lies.
///
/// # Errors
/// Names the file and line that is no evaluation.
pub fn read_file(path: &Path) -> Result<Vec<EvaluationLine>> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| {
                Error::data(format!("{}, line {} is no evaluation", path.display(), index + 1)).source(source)
            })
        })
        .collect()
}

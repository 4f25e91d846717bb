//! `hype demos inspect`.

use crate::demos;
use crate::envs;
use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Describes a demonstration file.
pub fn inspect(file: &Path, json: bool, out: &mut dyn Write) -> Result<()> {
    let demonstrations = demos::read(file)?;
    let horizon = demonstrations.task.as_deref().and_then(|id| envs::task(id).ok()).map(|task| task.horizon);
    let summary = demonstrations.inspect(horizon);
    let text = if json {
        serde_json::to_string(&summary).map_err(|e| Error::system("cannot encode the summary").source(e))?
    } else {
        summary.to_string()
    };
    writeln!(out, "{}", text.trim_end()).map_err(|e| Error::system("cannot write to standard output").source(e))
}

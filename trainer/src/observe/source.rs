//! Where the evaluations of a curve come from: a run, or a file that was kept of one.

use super::Scale;
use super::evaluations::{self, EvaluationLine};
use crate::envs;
use crate::error::{Error, Result};
use crate::run::directory::{read_config, read_provenance};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A run, as far as curves are concerned.
pub(super) struct Run {
    pub(super) path: PathBuf,
    pub(super) method: String,
    pub(super) task: String,
    /// The task's expert and random return.
    pub(super) scale: Scale,
    /// What was learned from, and how: settings of the run aside from its seeds, by key. Of a kept file nothing is known.
    pub(super) settings: BTreeMap<String, String>,
    pub(super) evaluations: Vec<EvaluationLine>,
}

impl Run {
    /// The run in a folder, or the evaluations in a file: `FILE.jsonl` or, of a method, `METHOD=FILE.jsonl`.
    pub(super) fn read(named: &Path, task: Option<&str>) -> Result<Self> {
        let text = named.to_string_lossy();
        let (method, path) = match text.split_once('=') {
            Some((method, path)) if !named.exists() => (Some(method), Path::new(path)),
            _ => (None, named),
        };
        if path.extension().is_some_and(|extension| extension == "jsonl") && !path.is_dir() {
            return Self::of_file(path, method, task);
        }
        let provenance = read_provenance(named)?;
        Ok(Self {
            path: named.to_owned(),
            settings: settings(named, provenance.demos_sha256)?,
            method: provenance.method,
            task: provenance.task,
            scale: Scale { expert_return: provenance.expert_return, random_return: provenance.random_return },
            evaluations: evaluations::read(named)?,
        })
    }

    fn of_file(path: &Path, method: Option<&str>, task: Option<&str>) -> Result<Self> {
        let Some(task) = task else {
            return Err(Error::config(format!("{} does not say which task it is of", path.display()))
                .expected("its task beside it")
                .hint("hype plot --task hopper …"));
        };
        let task = envs::task(task)?;
        let mut run = Self {
            path: path.to_owned(),
            method: String::new(),
            scale: Scale { expert_return: task.expert_return, random_return: task.random_return },
            task: task.id,
            settings: BTreeMap::new(),
            evaluations: evaluations::read_file(path)?,
        };
        run.method = method.map_or_else(|| run.name(), str::to_owned);
        Ok(run)
    }

    /// What a run is called where its method does not tell: as its folder, or as its file without the endings.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().map_or_else(|| self.path.to_string_lossy(), |name| name.to_string_lossy());
        let name = name.strip_suffix(".jsonl").unwrap_or(&name);
        name.strip_suffix(".eval").unwrap_or(name).to_owned()
    }
}

/// Settings that do not change what a run learns at its steps, or that the demonstrations' digest says better.
const OF_NO_MATTER: [&str; 4] = ["seeds", "preset", "checkpoint_every_secs", "demos"];

fn settings(run: &Path, demos_sha256: Option<String>) -> Result<BTreeMap<String, String>> {
    let wrong = |source| Error::data(format!("{} cannot be read", run.join("config.toml").display())).source(source);
    let mut settings = crate::config::settings(&read_config(run)?.parse().map_err(wrong)?);
    settings.retain(|key, _| !OF_NO_MATTER.contains(&key.as_str()));
    settings.extend(demos_sha256.map(|digest| ("demonstrations".to_owned(), digest)));
    Ok(settings)
}

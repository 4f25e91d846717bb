//! From a command line to the resolved configuration: preset < what flags imply < `--config` file < `--set` < explicit flags.

use super::keys::{self, Known};
use super::presets::{overlay, table, unknown};
use super::{Imagines, Lengths, RunConfig, Stage, validate};
use crate::error::{Error, Result};
use crate::replay::hybrid::{Mix, split};
use serde::de::IntoDeserializer;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What the user asked for on top of a preset.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Profile; that of `config_file` where absent, else `fixed`.
    pub preset: Option<String>,
    /// A file of the same keys as `config.toml`.
    pub config_file: Option<PathBuf>,
    /// `a.b=c` settings.
    pub set: Vec<String>,
    /// Environment steps per seed.
    pub env_steps: Option<u64>,
    /// The cohort; that of `config_file` where absent, else seed 0 alone.
    pub seeds: Option<Vec<u64>>,
    /// Demonstration file.
    pub demos: Option<PathBuf>,
    /// Use the first so many episodes.
    pub demos_limit: Option<usize>,
    /// Settings that have flags of their own: the flag and its `a.b=c`.
    pub flags: Vec<(&'static str, String)>,
    /// What flags bring along, unless a file or `--set` says otherwise.
    pub implied: Vec<(&'static str, String)>,
}

/// The configuration of `method` on `task`. The task's name must have been checked.
pub fn resolve(method: &str, task: &str, overrides: &Overrides) -> Result<RunConfig> {
    let mut of_run = OfRun::default();
    let mut file = None;
    if let Some(path) = &overrides.config_file {
        let mut layer = read(path)?;
        let command = [("method", Some(method)), ("task", Some(task)), ("preset", overrides.preset.as_deref())];
        of_run = take_reserved(&mut layer, path, command)?;
        file = Some((layer, path.display().to_string()));
    }
    let profile = overrides.preset.clone().or(of_run.preset).unwrap_or_else(|| "fixed".into());
    let mut resolved = table(method, task, &profile)?;
    if of_run.is_whole {
        keys::drop_optional(&mut resolved);
    }
    let known = Known::of(method, task, &resolved);
    let mut lay = |layer: Table, origin: &str| -> Result<()> {
        known.check(&layer, origin)?;
        overlay(&mut resolved, layer);
        Ok(())
    };
    for (flag, setting) in &overrides.implied {
        lay(parse_setting(setting)?, flag)?;
    }
    if let Some((layer, path)) = file {
        lay(layer, &path)?;
    }
    for setting in &overrides.set {
        lay(parse_setting(setting)?, "--set")?;
    }
    for (flag, setting) in &overrides.flags {
        lay(parse_setting(setting)?, flag)?;
    }
    let mut flags = Table::new();
    for (key, value) in [("method", method), ("task", task), ("preset", &profile)] {
        flags.insert(key.into(), Value::String(value.into()));
    }
    let integer = |key: &str, n: u64| match i64::try_from(n) {
        Ok(n) => Ok(Value::Integer(n)),
        Err(_) => Err(Error::config(format!("`{key}`")).expected(format!("at most {}", i64::MAX)).found(n)),
    };
    let seeds = overrides.seeds.clone().or(of_run.seeds).unwrap_or_else(|| vec![0]);
    let seeds = seeds.into_iter().map(|seed| integer("seeds", seed)).collect::<Result<_>>()?;
    flags.insert("seeds".into(), Value::Array(seeds));
    if let Some(steps) = overrides.env_steps {
        flags.insert("env_steps".into(), integer("env_steps", steps)?);
    }
    if let Some(demos) = &overrides.demos {
        flags.insert("demos".into(), Value::String(demos.display().to_string()));
    }
    if let Some(limit) = overrides.demos_limit {
        flags.insert("demos_limit".into(), integer("demos_limit", limit as u64)?);
    }
    overlay(&mut resolved, flags);
    let config = typed(resolved)?;
    validate::validate(&config)?;
    for (flag, setting) in &overrides.flags {
        if let Some(why) = keys::of(&parse_setting(setting)?).iter().find_map(|key| keys::idle(key, &config)) {
            return Err(Error::config(format!("{flag} has no effect here")).found(why).hint("leave it out"));
        }
    }
    Ok(config)
}

/// Warnings about what `--set` changes and the run never reads, and about settings with which a run is not what it looks like.
pub fn idle_settings(overrides: &Overrides, config: &RunConfig) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for setting in &overrides.set {
        let layer = parse_setting(setting)?;
        let idle = keys::of(&layer).into_iter().filter_map(|key| Some((keys::idle(&key, config)?, key)));
        warnings.extend(idle.map(|(why, key)| format!("`{key}` has no effect here: {why}")));
    }
    if overrides.demos_limit.is_some() {
        warnings
            .extend(keys::idle("demos_limit", config).map(|why| format!("--demos-limit has no effect here: {why}")));
    }
    warnings.extend(why_nothing_is_learned(config).map(|why| format!("nothing is learned: {why}")));
    if config.imagination.as_ref().is_some_and(|imagination| imagination.dynamics == Imagines::Simulator) {
        warnings
            .push("imagined steps are the simulator's: real ones, which nobody counts (imagination.dynamics)".into());
    }
    let batch = config.rhythm().batch_size;
    if let Mix::Scheduled([Stage(start, ..), ..]) = config.mix()
        && *start > 0.0
        && split(batch, *start).0 == 0
    {
        warnings
            .push(format!("no batch begins with an expert row: a share of {start} of {batch} rows is less than one"));
    }
    Ok(warnings)
}

/// Why a run ends before its policy's first gradient step, where it does.
fn why_nothing_is_learned(config: &RunConfig) -> Option<String> {
    let (steps, batch) = (config.env_steps, config.rhythm().batch_size);
    let explores = if config.ppo.is_some() || config.method == "bc" { 0 } else { config.rhythm().exploration_steps };
    if explores >= steps {
        return Some(format!("all {steps} steps are random exploration ({explores})"));
    }
    let (model, imagination) = (config.world_model.as_ref()?, config.imagination.as_ref()?);
    let first = explores.saturating_add(model.fit_every);
    if first >= steps {
        let of = "exploration and world_model.fit_every";
        return Some(format!("imagination begins after {first} steps ({of}), the run ends after {steps}"));
    }
    let Lengths(_, _, least, most) = imagination.lengths;
    let kept = imagination.capacity(model.fit_every, least.max(most));
    (kept < batch as u64)
        .then(|| format!("of at most {kept} imagined steps no batch of {batch} is drawn (imagination.starts_per_step)"))
}

/// What a run's own `config.toml` says that the command line says too.
#[derive(Default)]
struct OfRun {
    preset: Option<String>,
    seeds: Option<Vec<u64>>,
    /// The file says everything: a setting that it leaves out is off, whatever the preset has today.
    is_whole: bool,
}

/// Takes the keys of the command line out of a run's `config.toml`; they must not contradict it.
fn take_reserved(layer: &mut Table, path: &Path, command: [(&str, Option<&str>); 3]) -> Result<OfRun> {
    let is_whole = keys::RESERVED.iter().all(|key| layer.contains_key(*key));
    let mut found = OfRun { is_whole, ..OfRun::default() };
    for (key, asked) in command {
        let Some(value) = layer.remove(key) else { continue };
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if let Some(asked) = asked.filter(|asked| *asked != value) {
            return Err(Error::config(format!("{} is of another {key}", path.display()))
                .expected(asked)
                .found(value)
                .hint(format!("ask for that one, or remove the line `{key}` from a copy of the file")));
        }
        if key == "preset" {
            found.preset = Some(value);
        }
    }
    if let Some(seeds) = layer.remove("seeds") {
        let wrong =
            || Error::config(format!("`seeds` in {}", path.display())).expected("a list like [0, 1, 2]").found(&seeds);
        found.seeds = Some(distinct(seeds.clone().try_into().map_err(|_| wrong())?, wrong)?);
    }
    Ok(found)
}

/// The configuration in `resolved`; a value of the wrong kind is refused by its key.
fn typed(resolved: Table) -> Result<RunConfig> {
    let resolved = Value::Table(resolved);
    serde_path_to_error::deserialize(resolved.clone().into_deserializer()).map_err(|error| {
        let key: String = error.path().to_string().chars().take_while(|letter| *letter != '[').collect();
        let found = key.split('.').try_fold(&resolved, |value, part| value.as_table()?.get(part));
        let refused = Error::config(format!("configuration key `{key}` does not fit"));
        let inner: toml::de::Error = error.into_inner();
        match found {
            Some(found) if found.is_table() => refused.source(inner),
            Some(found) => refused.expected(wanted(&key, inner.message())).found(found),
            None => refused.source(inner),
        }
    })
}

/// What serde's message says was expected of `key`, in the words of a configuration.
fn wanted(key: &str, message: &str) -> String {
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected).trim();
    match expected {
        "u64" | "usize" | "u32" => "a whole number, 0 or more".into(),
        "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" if key == "hybrid.schedule" => "stages like [[0.2, 0.1, 200_000]]".into(),
        "a sequence" => "a list like [256, 256]".into(),
        "a tuple struct Stage" | "tuple struct Stage with 3 elements" => "stages like [0.2, 0.1, 200_000]".into(),
        "a tuple struct Lengths" | "tuple struct Lengths with 4 elements" => {
            "four whole numbers like [20, 100, 1, 25]: first epoch, last epoch, least, most".into()
        }
        other => other.into(),
    }
}

fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::config(format!("cannot read the configuration file {}", path.display())).source(e))?;
    text.parse().map_err(|e: toml::de::Error| {
        Error::config(format!("the configuration file {} is not valid TOML", path.display())).source(e)
    })
}

/// `a.b=c` as a nested table; what is no TOML value is taken as text.
fn parse_setting(setting: &str) -> Result<Table> {
    let (path, text) = setting.split_once('=').ok_or_else(|| {
        Error::config(format!("--set {setting}")).expected("key=value, for instance sac.batch_size=128")
    })?;
    let text = text.trim();
    let value = format!("value = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.into()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut table = Table::new();
    table.insert(last.into(), value);
    for key in keys.into_iter().rev() {
        table = [(key.to_string(), Value::Table(table))].into_iter().collect();
    }
    Ok(table)
}

/// The first setting in which two configurations differ, with its value in either; `None` where they agree.
pub fn difference(one: &RunConfig, other: &RunConfig) -> Result<Option<(String, String, String)>> {
    let [one, other] = [leaves(one)?, leaves(other)?];
    let text = |value: Option<&String>| value.map_or_else(|| "nothing".to_owned(), String::clone);
    Ok(differences(&one, &other).next().map(|(key, one, other)| (key.clone(), text(one), text(other))))
}

/// The keys of two configurations' [`settings`] whose values differ, with either's value, in their order.
pub fn differences<'a>(
    one: &'a BTreeMap<String, String>,
    other: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a String, Option<&'a String>, Option<&'a String>)> {
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter().map(|key| (key, one.get(key), other.get(key))).filter(|(_, one, other)| one != other)
}

fn leaves(config: &RunConfig) -> Result<BTreeMap<String, String>> {
    let table = Table::try_from(config).map_err(|e| Error::system("cannot encode the configuration").source(e))?;
    Ok(settings(&table))
}

/// All settings of a configuration by their keys, as text.
pub fn settings(table: &Table) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    keys::walk(table, "", &mut |key, value| drop(settings.insert(key, value.to_string())));
    settings
}

/// Seeds of one run: far beyond any experiment, small enough to be listed.
const LARGEST_COHORT: u64 = 10_000;

/// Seeds as the command line writes them: `3` is the one seed 3, `0..5` five of them (half-open), `0,4` a list.
pub fn parse_seeds(text: &str) -> Result<Vec<u64>> {
    let wrong =
        || Error::config(format!("--seeds {text}")).expected("a seed (3), a half-open range (0..5) or a list (0,4)");
    let number = |part: &str| {
        let found = || wrong().found(format!("`{}`, which is no seed from 0 to 2^63 - 1", part.trim()));
        part.trim().parse::<u64>().ok().filter(|seed| i64::try_from(*seed).is_ok()).ok_or_else(found)
    };
    let seeds: Vec<u64> = match text.split_once("..") {
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            if from >= to {
                return Err(wrong().found(format!("no seed from {from} up to, but not with, {to}")));
            }
            if to - from > LARGEST_COHORT {
                return Err(wrong().found(format!("{} seeds, more than {LARGEST_COHORT}", to - from)));
            }
            (from..to).collect()
        }
        None => text.split(',').map(number).collect::<Result<_>>()?,
    };
    distinct(seeds, wrong)
}

/// A cohort has a seed, and none twice.
fn distinct(seeds: Vec<u64>, wrong: impl Fn() -> Error) -> Result<Vec<u64>> {
    let mut seen = BTreeSet::new();
    match seeds.iter().find(|seed| !seen.insert(**seed)) {
        Some(twice) => Err(wrong().found(format!("seed {twice} twice"))),
        None if seeds.is_empty() => Err(wrong().found("no seed")),
        None => Ok(seeds),
    }
}

/// An error for a method name that does not exist.
pub fn check_method(name: &str) -> Result<()> {
    let known = super::method_names();
    if known.contains(&name) { Ok(()) } else { Err(unknown("method", name, &known)) }
}

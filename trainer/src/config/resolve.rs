//! From a command line to the resolved configuration: preset < what flags imply < `--config` file < `--set` < explicit flags.

use super::presets::{overlay, table, unknown};
use super::{RunConfig, validate};
use crate::error::{Error, Result, nearest};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Keys that a preset may leave out.
const OPTIONAL: [&str; 12] = [
    "sac.actor_hidden",
    "sac.target_entropy",
    "sac.target_every",
    "reward.absorbing",
    "reward.clip",
    "reward.from",
    "demos",
    "demos_limit",
    "world_model.max_epochs",
    "world_model.mean_clip",
    "world_model.from",
    "reset.window",
];

/// Tables whose optional keys exist only where the method has the table.
const TABLES: [&str; 2] = ["reward", "world_model"];

/// Keys that the command line sets, not a file.
const RESERVED: [&str; 4] = ["method", "task", "preset", "seeds"];

/// What the user asked for on top of a preset.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Profile; `fixed` where absent.
    pub preset: Option<String>,
    /// A file of the same keys as `config.toml`.
    pub config_file: Option<PathBuf>,
    /// `a.b=c` settings.
    pub set: Vec<String>,
    /// Environment steps per seed.
    pub env_steps: Option<u64>,
    /// The cohort.
    pub seeds: Vec<u64>,
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
    let profile = overrides.preset.as_deref().unwrap_or("fixed");
    let mut resolved = table(method, task, profile)?;
    let known = known_keys(&resolved);
    let mut lay = |layer: Table, origin: &str| {
        check_keys(&layer, &known, origin)?;
        overlay(&mut resolved, layer);
        Ok(())
    };
    let not_had = |error: Error| error.expected(format!("a method that has it; {method} has not"));
    for (flag, setting) in &overrides.implied {
        lay(parse_setting(setting)?, flag).map_err(not_had)?;
    }
    if let Some(path) = &overrides.config_file {
        lay(read(path)?, &path.display().to_string())?;
    }
    for setting in &overrides.set {
        lay(parse_setting(setting)?, "--set")?;
    }
    for (flag, setting) in &overrides.flags {
        lay(parse_setting(setting)?, flag).map_err(not_had)?;
    }
    let mut flags = Table::new();
    for (key, value) in [("method", method), ("task", task), ("preset", profile)] {
        flags.insert(key.into(), Value::String(value.into()));
    }
    let integer = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    flags.insert("seeds".into(), Value::Array(overrides.seeds.iter().map(|seed| integer(*seed)).collect()));
    if let Some(steps) = overrides.env_steps {
        flags.insert("env_steps".into(), integer(steps));
    }
    if let Some(demos) = &overrides.demos {
        flags.insert("demos".into(), Value::String(demos.display().to_string()));
    }
    if let Some(limit) = overrides.demos_limit {
        flags.insert("demos_limit".into(), integer(limit as u64));
    }
    overlay(&mut resolved, flags);
    let config: RunConfig = resolved.try_into().map_err(|e: toml::de::Error| {
        Error::config(format!("a setting of {method} on {task} does not fit: {}", e.message()))
    })?;
    validate::validate(&config)?;
    Ok(config)
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

fn known_keys(preset: &Table) -> Vec<String> {
    let mut keys = keys(preset);
    let has_table = |key: &&&str| {
        let table = key.split_once('.').map_or("", |(table, _)| table);
        !TABLES.contains(&table) || preset.contains_key(table)
    };
    keys.extend(OPTIONAL.iter().filter(has_table).map(|key| (*key).into()));
    if !keys.contains(&"reset.schedule".into()) {
        keys.retain(|key| key != "reset.window");
    }
    keys
}

/// The paths of all settings of a table.
fn keys(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    walk(table, "", &mut |key, _| keys.push(key));
    keys
}

fn walk(table: &Table, prefix: &str, visit: &mut impl FnMut(String, &Value)) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => walk(inner, &path, visit),
            _ => visit(path, value),
        }
    }
}

fn check_keys(layer: &Table, known: &[String], place: &str) -> Result<()> {
    for key in keys(layer) {
        if RESERVED.contains(&key.as_str()) {
            return Err(Error::config(format!("{place} sets `{key}`")).hint("give it on the command line instead"));
        }
        if !known.contains(&key) {
            let error = Error::config(format!("unknown configuration key `{key}` in {place}"));
            return Err(match nearest(&key, known.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("the keys are {}", known.join(", "))),
            });
        }
    }
    Ok(())
}

/// The first setting in which two configurations differ, with its value in either; `None` where they agree.
pub fn difference(one: &RunConfig, other: &RunConfig) -> Result<Option<(String, String, String)>> {
    let [one, other] = [leaves(one)?, leaves(other)?];
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let value = |of: &BTreeMap<String, String>, key: &String| of.get(key).cloned().unwrap_or_else(|| "nothing".into());
    let differ = keys.into_iter().find(|key| one.get(*key) != other.get(*key));
    Ok(differ.map(|key| (key.clone(), value(&one, key), value(&other, key))))
}

fn leaves(config: &RunConfig) -> Result<BTreeMap<String, String>> {
    let table = Table::try_from(config).map_err(|e| Error::system("cannot encode the configuration").source(e))?;
    let mut leaves = BTreeMap::new();
    walk(&table, "", &mut |key, value| drop(leaves.insert(key, value.to_string())));
    Ok(leaves)
}

/// Seeds of one run: far beyond any experiment, small enough to be listed.
const LARGEST_COHORT: u64 = 10_000;

/// Seeds as the command line writes them: `3` is the one seed 3, `0..5` five of them (half-open), `0,4` a list.
pub fn parse_seeds(text: &str) -> Result<Vec<u64>> {
    let wrong =
        || Error::config(format!("--seeds {text}")).expected("a seed (3), a half-open range (0..5) or a list (0,4)");
    let number = |part: &str| part.trim().parse::<u64>().map_err(|_| wrong());
    let seeds: Vec<u64> = match text.split_once("..") {
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            if to.saturating_sub(from) > LARGEST_COHORT {
                return Err(wrong().found(format!("{} seeds, more than {LARGEST_COHORT}", to - from)));
            }
            (from..to).collect()
        }
        None => text.split(',').map(number).collect::<Result<_>>()?,
    };
    let mut unique = seeds.clone();
    unique.sort_unstable();
    unique.dedup();
    if seeds.is_empty() || unique.len() != seeds.len() || seeds.iter().any(|seed| i64::try_from(*seed).is_err()) {
        return Err(wrong().found("no seed, the same one twice, or one beyond 2^63 - 1"));
    }
    Ok(seeds)
}

/// An error for a method name that does not exist.
pub fn check_method(name: &str) -> Result<()> {
    if super::METHODS.contains(&name) { Ok(()) } else { Err(unknown("method", name, &super::METHODS)) }
}

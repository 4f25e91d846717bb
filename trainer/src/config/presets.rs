//! Presets: layered tables in files of their own, every number with its source.

use crate::error::{Error, Result, nearest};
use std::collections::BTreeSet;
use toml::{Table, Value};

const EXPERT: &str = include_str!("../../presets/expert.toml");
const ADVERSARIAL: &str = include_str!("../../presets/adversarial.toml");
const BC: &str = include_str!("../../presets/bc.toml");
const GAIL: &str = include_str!("../../presets/gail.toml");
const HYPER: &str = include_str!("../../presets/hyper.toml");
const IQ_LEARN: &str = include_str!("../../presets/iq_learn.toml");
const LABELLED: &str = include_str!("../../presets/labelled.toml");

/// Methods that `hype train` takes.
pub const METHODS: [&str; 11] =
    ["hype", "hyper", "mm", "filter", "hype-resets", "bc", "bc-reg", "gail", "iq-learn", "sqil", "adril"];

/// Which published source a preset follows: `fixed` is right, `code` has the published faults, `paper` is as written.
pub const PROFILES: [&str; 3] = ["fixed", "code", "paper"];

/// The preset of `method` (or `expert`) on `task` in `profile`: base, then task, method, method on task, profile, profile on
/// method, profile on task. A method that is `like` another one comes after that one's layers.
pub(super) fn table(method: &str, task: &str, profile: &str) -> Result<Table> {
    let text = match method {
        "expert" => EXPERT,
        "bc" => BC,
        "gail" => GAIL,
        "iq-learn" => IQ_LEARN,
        "hyper" => HYPER,
        "sqil" | "adril" => LABELLED,
        other if METHODS.contains(&other) => ADVERSARIAL,
        other => return Err(unknown("method", other, &METHODS)),
    };
    let layers: Table = text.parse().map_err(|e| Error::config("a built-in preset cannot be read").source(e))?;
    if !PROFILES.contains(&profile) && find(&layers, &["profile", profile]).is_none() {
        let own = find(&layers, &["profile"]).into_iter().flat_map(|profiles| profiles.keys().map(String::as_str));
        let known: BTreeSet<&str> = PROFILES.into_iter().chain(own).collect();
        return Err(unknown("preset", profile, &Vec::from_iter(known)));
    }
    let task = family(task);
    let like = find(&layers, &["method", method]).and_then(|layer| layer.get("like")?.as_str()).unwrap_or(method);
    let mut resolved = Table::new();
    for path in [
        vec!["base"],
        vec!["task", task],
        vec!["method", like],
        vec!["method", like, "task", task],
        vec!["method", method],
        vec!["method", method, "task", task],
        vec!["profile", profile],
        vec!["profile", profile, "method", method],
        vec!["profile", profile, "task", task],
    ] {
        if let Some(layer) = find(&layers, &path) {
            let own = layer.iter().filter(|(key, _)| !["task", "method", "like"].contains(&key.as_str()));
            overlay(&mut resolved, own.map(|(key, value)| (key.clone(), value.clone())).collect());
        }
    }
    Ok(resolved)
}

/// The task whose preset serves `task`: the same robot, in whatever version, with whatever goal.
fn family(task: &str) -> &str {
    let name = task.split_once("-v").map_or(task, |(name, _)| name);
    ["-truncated", "-backward", "-speed-2"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn find<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Table> {
    path.iter().try_fold(table, |table, key| table.get(*key)?.as_table())
}

/// Puts `over` on top of `under`, table by table.
pub(super) fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let error = Error::config(format!("unknown {what} `{name}`")).expected(format!("one of {}", known.join(", ")));
    match nearest(name, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}

//! Presets: layered tables in files of their own, every number with its source.

use crate::error::{Error, Result, nearest};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use toml::{Table, Value};

/// The files of the methods that `hype train` takes.
static FILES: LazyLock<[Table; 6]> = LazyLock::new(|| {
    [
        include_str!("../../presets/adversarial.toml"),
        include_str!("../../presets/hyper.toml"),
        include_str!("../../presets/bc.toml"),
        include_str!("../../presets/gail.toml"),
        include_str!("../../presets/iq_learn.toml"),
        include_str!("../../presets/labelled.toml"),
    ]
    .map(parsed)
});
static EXPERT: LazyLock<Table> = LazyLock::new(|| parsed(include_str!("../../presets/expert.toml")));

fn parsed(text: &str) -> Table {
    text.parse().unwrap_or_else(|e| unreachable!("a built-in preset is TOML: {e}"))
}

/// A method that `hype train` takes: a table `method.NAME` of a file, with a label.
#[derive(Debug)]
pub struct Named {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its name as its paper writes it.
    pub label: &'static str,
    file: &'static Table,
}

static METHODS: LazyLock<Vec<Named>> = LazyLock::new(|| FILES.iter().flat_map(in_file).collect());

fn in_file(file: &'static Table) -> impl Iterator<Item = Named> {
    let tables = find(file, &["method"]).into_iter().flatten();
    tables.filter_map(move |(name, table)| Some(Named { name, label: table.get("label")?.as_str()?, file }))
}

/// The methods that `hype train` takes.
pub fn methods() -> &'static [Named] {
    &METHODS
}

/// Their names.
pub fn method_names() -> Vec<&'static str> {
    methods().iter().map(|method| method.name).collect()
}

/// Which published source a preset follows: `fixed` is right, `code` has the published faults, `paper` is as written.
pub const PROFILES: [&str; 3] = ["fixed", "code", "paper"];

/// The preset of `method` (or `expert`) on `task` in `profile`: base, then task, method, method on task, profile, profile on
/// method, profile on task. A method that is `like` another one comes after that one's layers.
pub(super) fn table(method: &str, task: &str, profile: &str) -> Result<Table> {
    let layers = match methods().iter().find(|known| known.name == method) {
        Some(known) => known.file,
        None if method == "expert" => &*EXPERT,
        None => return Err(unknown("method", method, &method_names())),
    };
    if !PROFILES.contains(&profile) && find(layers, &["profile", profile]).is_none() {
        let own = find(layers, &["profile"]).into_iter().flat_map(|profiles| profiles.keys().map(String::as_str));
        let known: BTreeSet<&str> = PROFILES.into_iter().chain(own).collect();
        return Err(unknown("preset", profile, &Vec::from_iter(known)));
    }
    let task = family(task);
    let like = find(layers, &["method", method]).and_then(|layer| layer.get("like")?.as_str()).unwrap_or(method);
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
        if let Some(layer) = find(layers, &path) {
            let own = layer.iter().filter(|(key, _)| !["task", "method", "like", "label"].contains(&key.as_str()));
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

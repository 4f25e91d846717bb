//! Which settings there are, and which of them a run reads.

use super::presets::{method_names, table};
use super::{Imagines, LearnerKind, ModelRate, PairSource, RunConfig};
use crate::error::{Error, Result, nearest};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Keys that a preset may leave out.
const OPTIONAL: [&str; 22] = [
    "learner",
    "sac.actor_hidden",
    "sac.gsde",
    "sac.target_entropy",
    "sac.target_every",
    "reward.absorbing",
    "reward.clip",
    "reward.from",
    "reward.normalized",
    "demos",
    "demos_limit",
    "world_model.learner_share",
    "world_model.max_batches",
    "world_model.mean_clip",
    "world_model.from",
    "reset.window",
    "faults.bc_reg_rows_from_replay",
    "faults.demonstrations_in_env_units",
    "faults.next_observation_after_reset",
    "faults.rollouts_in_training_world",
    "faults.rollouts_reset_too",
    "faults.td3_bc_never_hybrid",
];

/// Tables whose optional keys exist only where the method has the table.
const TABLES: [&str; 3] = ["reward", "sac", "world_model"];

/// Keys that the command line sets.
pub(super) const RESERVED: [&str; 4] = ["method", "task", "preset", "seeds"];

/// Takes out of `preset` what it may leave out.
pub(super) fn drop_optional(preset: &mut Table) {
    for key in OPTIONAL {
        match key.split_once('.') {
            Some((table, name)) => {
                preset.get_mut(table).and_then(Value::as_table_mut).and_then(|table| table.remove(name))
            }
            None => preset.remove(key),
        };
    }
}

/// The settings of a method on a task.
pub(super) struct Known<'a> {
    method: &'a str,
    task: &'a str,
    keys: BTreeSet<String>,
}

impl<'a> Known<'a> {
    /// Those of `preset`, and those that it may leave out.
    pub(super) fn of(method: &'a str, task: &'a str, preset: &Table) -> Self {
        let mut keys: BTreeSet<String> = of(preset).into_iter().collect();
        let has_table = |key: &&&str| {
            let table = key.split_once('.').map_or("", |(table, _)| table);
            !TABLES.contains(&table) || preset.contains_key(table)
        };
        keys.extend(OPTIONAL.iter().filter(has_table).map(|key| (*key).into()));
        if !keys.contains("reset.schedule") {
            keys.remove("reset.window");
        }
        Self { method, task, keys }
    }

    /// Refuses what is no setting here; `origin` says where it stands: a flag or a file.
    pub(super) fn check(&self, layer: &Table, origin: &str) -> Result<()> {
        of(layer).iter().try_for_each(|key| match key.as_str() {
            key if RESERVED.contains(&key) => {
                Err(Error::config(format!("{origin} sets `{key}`")).hint("give it on the command line instead"))
            }
            key if self.keys.contains(key) => Ok(()),
            key => Err(self.unknown(key, origin)),
        })
    }

    fn unknown(&self, key: &str, origin: &str) -> Error {
        let has = |method: &&str| {
            table(method, self.task, "fixed")
                .is_ok_and(|preset| Known::of(method, self.task, &preset).keys.contains(key))
        };
        let owners: Vec<&str> = method_names().into_iter().filter(has).collect();
        if !owners.is_empty() {
            let what = if origin.starts_with("--") && origin != "--set" {
                format!("{} has no {origin} (the setting `{key}`)", self.method)
            } else {
                format!("{} has no setting `{key}` ({origin})", self.method)
            };
            return Error::config(what).expected(format!("one of its own, or {}", owners.join(", ")));
        }
        let error = Error::config(format!("unknown configuration key `{key}` in {origin}"));
        // Names are compared within their table: what two of them share with it says nothing.
        let (own_table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let siblings = self.keys.iter().map(|key| key.rsplit_once('.').unwrap_or(("", key)));
        let names = siblings.filter(|(table, _)| *table == own_table).map(|(_, name)| name);
        let moved =
            || self.keys.iter().map(String::as_str).filter(|key| key.rsplit_once('.').is_some_and(|(_, n)| n == name));
        if let Some(near) = nearest(name, names) {
            let dot = if own_table.is_empty() { "" } else { "." };
            return error.hint(format!("did you mean `{own_table}{dot}{near}`?"));
        }
        if moved().next().is_some() {
            return error.hint(format!("did you mean {}?", joined(moved())));
        }
        let tables: BTreeSet<&str> = self.keys.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect();
        let table = key.split_once('.').map_or(key, |(table, _)| table);
        if tables.contains(table) {
            let own = self.keys.iter().filter(|key| key.split_once('.').is_some_and(|(of, _)| of == table));
            return error.hint(format!("the keys there are {}", joined(own.map(String::as_str))));
        }
        let top = self.keys.iter().map(String::as_str).filter(|key| !key.contains('.'));
        error.hint(format!("there are {}, and tables {}", joined(top), joined(tables.into_iter())))
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// The paths of all settings of a table.
pub(super) fn of(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    walk(table, "", &mut |key, _| keys.push(key));
    keys
}

/// Visits all settings of a table by their paths.
pub(super) fn walk(table: &Table, prefix: &str, visit: &mut impl FnMut(String, &Value)) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => walk(inner, &path, visit),
            _ => visit(path, value),
        }
    }
}

/// What cloning reads of its learner's table.
const READ_BY_CLONING: [&str; 6] =
    ["hidden", "actor_hidden", "batch_size", "learning_rate", "learning_rate_schedule", "optimizer"];

/// Why `config` never reads the setting, where it does not.
pub(super) fn idle(key: &str, config: &RunConfig) -> Option<String> {
    let (table, name) = key.split_once('.').unwrap_or((key, key));
    let td3_bc = config.learner == LearnerKind::Td3Bc;
    let method = config.method.as_str();
    let of_learner = match (table, td3_bc) {
        ("sac", true) => Some("the learner is td3-bc, which has a table of its own".into()),
        ("td3_bc", false) => Some("the learner is sac: add --set learner=td3-bc".into()),
        ("sac" | "td3_bc", _) if method == "bc" && !READ_BY_CLONING.contains(&name) => {
            Some(format!("cloning reads of [{table}] only {}", READ_BY_CLONING.join(", ")))
        }
        _ => None,
    };
    of_learner.or_else(|| match table {
        "reset" if method == "bc" => Some("cloning plays no episode but to evaluate".into()),
        "reset" | "hybrid" | "demos_limit"
            if config.demos.is_none() && (method == "expert" || config.learns_from_task()) =>
        {
            Some("there are no demonstrations".into())
        }
        "sac" | "td3_bc" => idle_of_learner(name, config),
        "hybrid" if config.adril.as_ref().is_some_and(|adril| adril.pools_demonstrations) => {
            Some("the demonstrations lie in the learner's replay (adril.pools_demonstrations)".into())
        }
        "reward" | "hyper" => idle_of_reward(key, config),
        "world_model" => idle_of_model(name, config),
        "faults" => idle_of_faults(name, config),
        _ => None,
    })
}

fn idle_of_learner(name: &str, config: &RunConfig) -> Option<String> {
    let in_model = config.world_model.is_some();
    match name {
        "target_entropy" if !config.sac.learn_temperature => {
            Some("the temperature is not learned (sac.learn_temperature)".into())
        }
        "bc_steps" if in_model => Some("hyper does not clone first".into()),
        "timeouts_are_terminal" if in_model => Some("imagined rollouts have no time limit".into()),
        "restarts_each_iteration" if in_model || config.iteration().is_none() => {
            Some(format!("{} goes on where it is, always", config.method))
        }
        _ => None,
    }
}

fn idle_of_reward(key: &str, config: &RunConfig) -> Option<String> {
    let reward = config.reward.as_ref()?;
    if key == "reward.reduction" && reward.members == 1 {
        return Some("there is one network (reward.members)".into());
    }
    let reuses = config.hyper.as_ref().is_some_and(|hyper| hyper.pairs == PairSource::PolicyBuffer);
    // Without a game iterations are as long, for schedules that begin anew in each.
    let of_game =
        key == "hyper.pairs" || key.starts_with("reward.") && !["reward.from", "reward.update_every"].contains(&key);
    let of_shape = ["reward.members", "reward.hidden", "reward.reduction", "reward.clip"].contains(&key);
    if of_game && config.learns_from_task() {
        return Some("the reward is the task's, nobody learns one".into());
    }
    if of_game && !of_shape && reward.from.is_some() {
        return Some("the reward is another run's and stands still".into());
    }
    (key == "reward.rollout_episodes" && reuses)
        .then(|| "no episodes are played for the discriminator (hyper.pairs = \"policy-buffer\")".into())
}

fn idle_of_model(name: &str, config: &RunConfig) -> Option<String> {
    if name == "learner_share" && config.demos.is_none() && config.learns_from_task() {
        return Some("there are no demonstrations".into());
    }
    let simulated = config.imagination.as_ref()?.dynamics == Imagines::Simulator;
    if simulated && name != "fit_every" {
        return Some("no model is fitted (imagination.dynamics)".into());
    }
    let constant = config.world_model.as_ref()?.learning_rate_schedule == ModelRate::Constant;
    let of_schedule = ["rate_batches", "least_learning_rate"].contains(&name);
    (of_schedule && constant).then(|| "the model's rate is constant (world_model.learning_rate_schedule)".into())
}

fn idle_of_faults(name: &str, config: &RunConfig) -> Option<String> {
    let (method, faults) = (config.method.as_str(), config.faults);
    let steps_itself = ["bc", "gail", "iq-learn", "hyper"].contains(&method);
    let resets = config.reward.is_some() && config.hyper.is_none() && config.reset.probability > 0.0;
    let plays = idle_of_reward("reward.rollout_episodes", config).is_none();
    match name {
        "bc_reg_rows_from_replay" if faults.bc_reg_rows_from_replay && method != "bc-reg" => {
            Some("it is bc-reg's".into())
        }
        "td3_bc_never_hybrid" if faults.td3_bc_never_hybrid && config.learner != LearnerKind::Td3Bc => {
            Some("the learner is not td3-bc".into())
        }
        "next_observation_after_reset" if faults.next_observation_after_reset && steps_itself => {
            Some(format!("{method} has a loop of its own"))
        }
        "rollouts_reset_too" if faults.rollouts_reset_too && !resets => {
            Some("no episodes of a discriminator, or no resets (reset.probability)".into())
        }
        "rollouts_in_training_world" if faults.rollouts_in_training_world && !plays => {
            Some("no episodes are played for a discriminator".into())
        }
        "demonstrations_in_env_units" if faults.demonstrations_in_env_units && method == "expert" => {
            Some("there are no demonstrations".into())
        }
        _ => None,
    }
}

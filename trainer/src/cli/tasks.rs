//! `hype tasks`: what can be learned.

use crate::envs::{Task, task, task_ids};
use crate::error::{Error, Result};
use std::io::Write;

/// Writes all tasks to `out`: a table, or with `json` one JSON object a line (the whole [`Task`], channels included).
pub fn list(json: bool, out: &mut dyn Write) -> Result<()> {
    let tasks = task_ids().into_iter().map(task).collect::<Result<Vec<_>>>()?;
    write(&tasks, json, out).map_err(|e| Error::system("cannot print the tasks").source(e))
}

fn write(tasks: &[Task], json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if json {
        return tasks.iter().try_for_each(|task| writeln!(out, "{}", serde_json::to_string(task)?));
    }
    writeln!(
        out,
        "{:<20}{:>12}{:>8}{:>9}{:>12}{:>16}{:>15}",
        "task", "observation", "action", "horizon", "period (s)", "expert return", "random return"
    )?;
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for task in tasks {
        writeln!(
            out,
            "{:<20}{:>12}{:>8}{:>9}{:>12}{:>16}{:>15}",
            task.id,
            task.observation_width(),
            task.action_width(),
            task.horizon,
            task.control_period_secs,
            number(task.expert_return),
            number(task.random_return)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_listed_and_reads_back() {
        let (mut text, mut json) = (Vec::new(), Vec::new());
        list(false, &mut text).unwrap();
        list(true, &mut json).unwrap();
        let (text, json) = (String::from_utf8(text).unwrap(), String::from_utf8(json).unwrap());
        assert_eq!(json.lines().count(), task_ids().len());
        for (line, id) in json.lines().zip(task_ids()) {
            assert_eq!(serde_json::from_str::<Task>(line).unwrap(), task(id).unwrap());
            assert!(text.lines().any(|row| row.split_whitespace().next() == Some(id)), "{id}");
        }
    }
}

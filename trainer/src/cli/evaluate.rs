//! `hype eval`: plays a policy and reports its returns.

use super::policy::{Chosen, Loaded};
use crate::config::EnvConfig;
use crate::envs::{Purpose, Task, World, WorldConfig};
use crate::error::Result;
use crate::eval::{Episode, mean_return, play_in};
use crate::observe::text::grouped;
use crate::run::rng::Streams;
use serde::Serialize;
use std::io::Write;

/// Returns of some episodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// What was played.
    pub policy: String,
    /// Where it is one of a run's policies: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_run: Option<Chosen>,
    /// On which task.
    pub task: String,
    /// Probability of a random action.
    pub tremble: f64,
    /// Seed of the episodes.
    pub seed: u64,
    /// Mean of the returns.
    pub mean_return: f64,
    /// Their standard deviation.
    pub std_return: f64,
    /// Mean length.
    pub mean_length: f64,
    /// The expert's mean return on this task, where it is known.
    pub expert_return: Option<f64>,
    /// A random policy's.
    pub random_return: Option<f64>,
    /// The episodes.
    pub episodes: Vec<Episode>,
}

/// Plays `episodes` episodes of `task`; `seed` chooses them.
pub fn evaluate(loaded: &mut Loaded, task: &Task, env: &EnvConfig, episodes: u64, seed: u64) -> Result<Evaluation> {
    let config = WorldConfig { tremble: env.tremble, demo_resets: None };
    let mut world = World::new(&task.id, config, Streams::new(seed), "env/eval")?;
    let (scale, width) = (task.action_scale(), task.action_width());
    let (mut action, mut unit) = (vec![0.0; width], vec![0.0; width]);
    let played = play_in(&mut world, episodes, |world| {
        loaded.act(world, &mut action)?;
        // Only the unit-action entrance trembles; without trembling exactly the policy's own action is executed.
        if env.tremble > 0.0 {
            scale.to_unit(&action, &mut unit)?;
            world.step(&unit, Purpose::Evaluation)
        } else {
            world.step_env(&action, Purpose::Evaluation)
        }
    })?;
    let mean = mean_return(&played);
    let count = played.len().max(1) as f64;
    let variance = played.iter().map(|e| (e.total_reward - mean).powi(2)).sum::<f64>() / count;
    Ok(Evaluation {
        policy: loaded.label.clone(),
        of_run: loaded.chosen.clone(),
        task: task.id.clone(),
        tremble: env.tremble,
        seed,
        mean_return: mean,
        std_return: variance.sqrt(),
        mean_length: played.iter().map(|e| e.length as f64).sum::<f64>() / count,
        expert_return: task.expert_return,
        random_return: task.random_return,
        episodes: played,
    })
}

impl Evaluation {
    /// Prints it, for people or as one JSON object.
    pub fn write(&self, json: bool, out: &mut dyn Write) -> std::io::Result<()> {
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        writeln!(
            out,
            "{} on {}: return {:.1} ± {:.1} over {} episodes of {:.0} steps",
            self.policy,
            self.task,
            self.mean_return,
            self.std_return,
            self.episodes.len(),
            self.mean_length
        )?;
        let reference = |name: &str, value: Option<f64>| value.map_or(String::new(), |v| format!("  {name} {v:.1}"));
        let references = reference("expert", self.expert_return) + &reference("random", self.random_return);
        if !references.is_empty() {
            writeln!(out, "{references}")?;
        }
        let Some(chosen) = &self.of_run else { return Ok(()) };
        let others = if chosen.seeds.len() > 1 {
            format!(
                " of seeds {} (--policy-seed takes another)",
                chosen.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
            )
        } else {
            String::new()
        };
        writeln!(
            out,
            "  seed {}{others}, stored at {} steps; tremble {} here, {} in training; ± is the deviation between episodes",
            chosen.seed,
            grouped(chosen.env_steps),
            self.tremble,
            chosen.tremble
        )
    }
}

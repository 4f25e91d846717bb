//! What a demonstration file holds, for people and for scripts.

use super::Demonstrations;
use super::assemble::WITHOUT_REWARDS;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Minimum, mean and maximum over the episodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EpisodeStatistics {
    /// Smallest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub max: f64,
}

impl EpisodeStatistics {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        Self {
            min: values.clone().fold(f64::INFINITY, f64::min),
            mean: values.clone().sum::<f64>() / count,
            max: values.fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// A summary of demonstrations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The file.
    pub file: Option<String>,
    /// Its SHA-256 digest.
    pub sha256: Option<String>,
    /// The task that the file names.
    pub task: Option<String>,
    /// Number of episodes.
    pub episodes: usize,
    /// Number of steps.
    pub steps: usize,
    /// Width of an observation.
    pub obs_dim: usize,
    /// Width of an action.
    pub act_dim: usize,
    /// `[nq, nv]` where physics states are there.
    pub physics_state: Option<[usize; 2]>,
    /// Episode lengths.
    pub length: EpisodeStatistics,
    /// Episode returns (true task reward).
    pub episode_return: EpisodeStatistics,
    /// Episodes that the task itself ended.
    pub terminated_episodes: usize,
    /// Episodes that a time limit cut.
    pub truncated_episodes: usize,
    /// Smallest and largest value of each action channel, environment units.
    pub action_range_env: Vec<[f32; 2]>,
    /// Smallest and largest value of each observation channel.
    pub observation_range: Vec<[f32; 2]>,
    /// The file's attributes.
    pub attributes: BTreeMap<String, String>,
    /// What deserves a second look.
    pub warnings: Vec<String>,
}

impl Demonstrations {
    /// Summarises; `horizon` is the task's episode limit, where it is known.
    pub fn inspect(&self, horizon: Option<usize>) -> Summary {
        let action_range_env = ranges(&self.actions_env, self.act_dim);
        let mut warnings = self.warnings.clone();
        warnings.extend(self.suspicions(&action_range_env, horizon));
        let ended = |flags: &[bool]| self.episodes.iter().filter(|rows| flags[rows.end - 1]).count();
        Summary {
            file: self.source.as_ref().map(|path| path.display().to_string()),
            sha256: self.sha256.clone(),
            task: self.task.clone(),
            episodes: self.episodes.len(),
            steps: self.len(),
            obs_dim: self.obs_dim,
            act_dim: self.act_dim,
            physics_state: self.states.as_ref().map(|states| [states.nq, states.nv]),
            length: EpisodeStatistics::of(self.episodes.iter().map(|rows| rows.len() as f64)),
            episode_return: EpisodeStatistics::of(self.returns().iter().copied()),
            terminated_episodes: ended(&self.terminals),
            truncated_episodes: ended(&self.timeouts),
            action_range_env,
            observation_range: ranges(&self.observations, self.obs_dim),
            attributes: self.attributes.clone(),
            warnings,
        }
    }

    fn suspicions(&self, action_ranges: &[[f32; 2]], horizon: Option<usize>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (channel, [low, high]) in action_ranges.iter().enumerate() {
            if low == high && self.len() > 1 {
                warnings.push(format!(
                    "action channel {channel} is constant ({low}) in all demonstrations: every other value there tells the learner \
                     from the expert, so imitation holds it at that value; check that the recorder wrote that channel"
                ));
            }
        }
        let single = self.episodes.iter().filter(|rows| rows.len() == 1).count();
        if single > 0 {
            warnings.push(format!("{single} episodes of a single step: flags repeated along a goal look like this"));
        }
        if let Some(horizon) = horizon {
            // Where the last step was dropped, nobody knows how long the episode was.
            let known = |rows: &&Range<usize>| self.step_numbers.is_none() || self.terminals[rows.end - 1];
            let lengths = || self.episodes.iter().filter(known).map(|rows| self.recorded_steps(rows));
            let long = lengths().filter(|steps| *steps > horizon).count();
            if long > 0 {
                warnings.push(format!(
                    "{long} of {} episodes are longer than the horizon of {horizon} steps, the longest has {}: where one ends and the \
                     next begins is not flagged there (`timeouts`), and the step between them is learned as if it had happened",
                    self.episodes.len(),
                    lengths().max().unwrap_or(0)
                ));
            }
            let short = lengths().filter(|steps| *steps < horizon).count();
            if short > 0 {
                let later = match self.episodes.iter().map(|rows| self.recorded_steps(rows)).max() {
                    Some(longest) if longest < horizon => format!("nothing after step {longest} is demonstrated"),
                    _ => "what comes later is demonstrated by the others only".to_owned(),
                };
                warnings.push(format!(
                    "{short} of {} episodes are shorter than the horizon of {horizon} steps, the shortest has {}: {later}, and where the \
                     task ended them that ending is imitated too",
                    self.episodes.len(),
                    lengths().min().unwrap_or(0)
                ));
            }
        }
        let recorded: usize = self.episodes.iter().map(|rows| self.recorded_steps(rows)).sum();
        if recorded > self.len() {
            warnings.push(format!(
                "{} of {recorded} steps or more were dropped: rows that follow each other need not be neighbours in time, and returns are \
                 sums over the steps that are left",
                recorded - self.len()
            ));
        }
        // Where the state goes on from one step to the next, the file's rows must agree with each other.
        let broken = self
            .episodes
            .iter()
            .flat_map(|rows| (rows.start..rows.end - 1).map(move |row| (rows, row)))
            .filter(|(rows, row)| self.step_number(rows, row + 1) == self.step_number(rows, *row) + 1)
            .filter(|(_, row)| self.next_observation(*row) != self.observation(row + 1))
            .count();
        if broken > 0 {
            warnings.push(format!("{broken} rows of `next_observations` differ from the next row of `observations`"));
        }
        let told = self.warnings.iter().any(|warning| warning == WITHOUT_REWARDS);
        if !told && self.rewards.iter().all(|reward| *reward == 0.0) {
            warnings.push("all rewards are 0: returns say nothing here".to_owned());
        }
        warnings
    }
}

fn ranges(values: &[f32], width: usize) -> Vec<[f32; 2]> {
    let mut ranges = vec![[f32::INFINITY, f32::NEG_INFINITY]; width];
    for row in values.chunks_exact(width) {
        for ([low, high], value) in ranges.iter_mut().zip(row) {
            *low = low.min(*value);
            *high = high.max(*value);
        }
    }
    ranges
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.file.as_deref().unwrap_or("demonstrations"))?;
        writeln!(f, "  task          {}", self.task.as_deref().unwrap_or("not named in the file"))?;
        let (length, total) = (&self.length, &self.episode_return);
        writeln!(
            f,
            "  episodes      {} ({} terminated, {} cut by a time limit), {} steps",
            self.episodes, self.terminated_episodes, self.truncated_episodes, self.steps
        )?;
        writeln!(f, "  length        mean {:.1}, min {:.0}, max {:.0}", length.mean, length.min, length.max)?;
        writeln!(f, "  return        mean {:.1}, min {:.1}, max {:.1}", total.mean, total.min, total.max)?;
        writeln!(f, "  observations  {} wide", self.obs_dim)?;
        write!(f, "  actions       {} wide, environment units:", self.act_dim)?;
        for [low, high] in &self.action_range_env {
            write!(f, " [{low:.3}, {high:.3}]")?;
        }
        writeln!(f)?;
        match self.physics_state {
            Some([nq, nv]) => writeln!(f, "  physics       qpos {nq} wide, qvel {nv} wide")?,
            None => writeln!(f, "  physics       no states: resets to demonstration states are not possible")?,
        }
        for (name, value) in &self.attributes {
            writeln!(f, "  @{name:<12} {}", value.replace('\n', " "))?;
        }
        if let Some(digest) = &self.sha256 {
            writeln!(f, "  sha256        {digest}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        Ok(())
    }
}

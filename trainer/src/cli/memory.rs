//! What a run's networks, batches and buffers take, before any of them is made.

use crate::config::{LearnerKind, RunConfig};
use crate::error::{Error, Result};
use crate::world_model::schedule::rollout_length;

/// Bytes of a number.
const NUMBER: f64 = 4.0;

/// Copies of a network's parameters: themselves, two moments, a gradient.
const COPIES: f64 = 4.0;

/// Numbers that a row leaves behind in each unit, forward and back.
const PER_UNIT: f64 = 4.0;

/// Refuses a configuration for observations and actions of these widths that takes more than the memory of this machine
/// (where that is known), before anything is made.
///
/// # Errors
/// Names the greatest part of it.
pub(super) fn check_memory(config: &RunConfig, observation: usize, action: usize) -> Result<()> {
    match machine_bytes() {
        Some(there) => check_against(there, config, observation, action),
        None => Ok(()),
    }
}

fn check_against(there: f64, config: &RunConfig, observation: usize, action: usize) -> Result<()> {
    let parts = parts(config, observation, action);
    let side_by_side = config.seeds.len().min(std::thread::available_parallelism().map_or(1, usize::from)) as f64;
    let needed = side_by_side * parts.iter().map(|(_, bytes)| bytes).sum::<f64>();
    if needed <= there {
        return Ok(());
    }
    let (name, most) = parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
    let gib = |bytes: f64| format!("{:.1} GiB", bytes / f64::from(1 << 30));
    let seeds = if side_by_side > 1.0 { format!(", {side_by_side} seeds at a time") } else { String::new() };
    Err(Error::config(format!("this configuration takes about {} of memory{seeds}", gib(needed)))
        .expected(format!("at most {}, all that this machine has", gib(there)))
        .found(format!("{} for {name} alone", gib(most)))
        .hint("lower those settings, or the number of seeds"))
}

/// The parts with a size of their own, and what they take in bytes.
fn parts(config: &RunConfig, observation: usize, action: usize) -> Vec<(&'static str, f64)> {
    let row = (2 * observation + action + 3) as f64;
    let mut parts = Vec::new();
    let mut add = |name, numbers: f64| parts.push((name, NUMBER * numbers));
    let (pair, steps) = (observation + action, config.env_steps as f64);
    if config.learner != LearnerKind::Ppo {
        let rhythm = config.rhythm();
        let (hidden, actor) = match config.td3_bc() {
            Some(td3_bc) => (&td3_bc.hidden[..], &td3_bc.hidden[..]),
            None => (&config.sac.hidden[..], config.sac.actor_widths()),
        };
        let networks = Perceptrons::of(pair, hidden, 1, 4).and(Perceptrons::of(observation, actor, 2 * action, 2));
        add("the policy's learner (hidden, batch_size)", networks.numbers(rhythm.batch_size));
        add("its replay (replay_capacity)", row * steps.min(rhythm.replay_capacity as f64));
    }
    if let Some(reward) = &config.reward {
        let networks = Perceptrons::of(pair, &reward.hidden, 1, reward.members);
        add("the discriminator (reward.members, hidden, batch_size)", networks.numbers(3 * reward.batch_size));
    }
    if let Some(model) = &config.world_model {
        let networks = Perceptrons::of(pair, &model.hidden, 2 * observation, model.members);
        add("the world model (world_model.members, hidden, batch_size)", networks.numbers(model.batch_size));
        add("its data (world_model.capacity)", row * 2.0 * steps.min(model.capacity as f64));
    }
    if let (Some(imagination), Some(model)) = (&config.imagination, &config.world_model) {
        let epochs = config.env_steps.div_ceil(imagination.epoch_steps);
        let longest = rollout_length(imagination.lengths, epochs);
        let steps = imagination.capacity(model.fit_every, longest) as f64;
        add("imagined steps (imagination.starts_per_step, lengths, epochs_retained)", row * steps);
    }
    parts
}

/// Parameters and units of networks side by side.
struct Perceptrons {
    parameters: f64,
    units: f64,
}

impl Perceptrons {
    fn of(inputs: usize, hidden: &[usize], outputs: usize, count: usize) -> Self {
        let widths: Vec<f64> = [inputs].iter().chain(hidden).chain(&[outputs]).map(|width| *width as f64).collect();
        let parameters: f64 = widths.windows(2).map(|pair| (pair[0] + 1.0) * pair[1]).sum();
        Self { parameters: count as f64 * parameters, units: count as f64 * widths.iter().sum::<f64>() }
    }

    fn and(self, other: Self) -> Self {
        Self { parameters: self.parameters + other.parameters, units: self.units + other.units }
    }

    fn numbers(&self, batch: usize) -> f64 {
        COPIES * self.parameters + PER_UNIT * self.units * batch as f64
    }
}

/// This machine's memory, where its kernel tells.
fn machine_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(1024.0 * line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{METHODS, Overrides, resolve};

    fn with(method: &str, set: &[&str]) -> RunConfig {
        let set = set.iter().map(ToString::to_string).collect();
        resolve(method, "hopper", &Overrides { set, ..Overrides::default() }).unwrap()
    }

    #[test]
    fn what_no_machine_holds_is_refused_and_every_preset_is_not() {
        let laptop = 16.0 * f64::from(1 << 30);
        let check = |config: &RunConfig| check_against(laptop, config, 11, 3).map_err(|error| error.to_string());
        for method in METHODS {
            check(&with(method, &[])).unwrap();
        }
        for (method, set, word) in [
            ("hype", "sac.batch_size=999999999", "batch_size"),
            ("hype", "reward.batch_size=9999999999", "discriminator"),
            ("hype", "sac.hidden=[65536,65536]", "hidden"),
            ("mm", "reward.members=100000000", "reward.members"),
            ("hyper", "imagination.starts_per_step=100000000", "imagination.starts_per_step"),
            ("hyper", "world_model.hidden=[60000,60000]", "world_model.members"),
        ] {
            let error = check(&with(method, &[set])).unwrap_err();
            assert!(error.contains("GiB of memory") && error.contains(word), "{set}: {error}");
        }
    }

    #[test]
    fn this_machine_says_what_it_has() {
        if cfg!(target_os = "linux") {
            assert!(machine_bytes().unwrap() > 1e8);
        }
    }
}

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

/// How large what is learned from is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Numbers of an observation.
    pub observation: usize,
    /// Numbers of an action.
    pub action: usize,
    /// Steps demonstrated.
    pub demonstrated: usize,
    /// Steps of an episode, at most.
    pub horizon: usize,
}

/// Refuses a configuration that takes more than the memory of this machine (where that is known), before anything is made.
///
/// # Errors
/// Names the greatest part of it.
pub(super) fn check_memory(config: &RunConfig, sizes: Sizes) -> Result<()> {
    match machine_bytes() {
        Some(there) => check_against(there, config, sizes),
        None => Ok(()),
    }
}

fn check_against(there: f64, config: &RunConfig, sizes: Sizes) -> Result<()> {
    let parts = parts(config, sizes);
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
fn parts(config: &RunConfig, sizes: Sizes) -> Vec<(&'static str, f64)> {
    let Sizes { observation, action, demonstrated, horizon } = sizes;
    let row = (2 * observation + action + 3) as f64;
    let mut parts = Vec::new();
    let mut add = |name, numbers: f64| parts.push((name, NUMBER * numbers));
    let (pair, steps, demonstrated) = (observation + action, config.env_steps as f64, demonstrated as f64);
    add("the demonstrations (demos_limit)", demonstrated * (row + pair as f64));
    if config.learner != LearnerKind::Ppo {
        let rhythm = config.rhythm();
        let (hidden, actor) = match config.td3_bc() {
            Some(td3_bc) => (&td3_bc.hidden[..], &td3_bc.hidden[..]),
            None => (&config.sac.hidden[..], config.sac.actor_widths()),
        };
        let networks = Perceptrons::of(pair, hidden, 1, 4).and(Perceptrons::of(observation, actor, 2 * action, 2));
        add("the policy's learner (hidden, batch_size)", networks.numbers(rhythm.batch_size as f64));
        add("its replay (replay_capacity)", row * steps.min(rhythm.replay_capacity as f64));
    }
    if let Some(reward) = &config.reward {
        let networks = Perceptrons::of(pair, &reward.hidden, 1, reward.members);
        add("the discriminator (reward.members, hidden, batch_size)", networks.numbers(3.0 * reward.batch_size as f64));
        add("its episodes (reward.rollout_episodes)", reward.rollout_episodes as f64 * (horizon * pair) as f64);
    }
    if let Some(ppo) = &config.ppo {
        let [policy, values] = [2 * action, 1].map(|outputs| Perceptrons::of(observation, &ppo.hidden, outputs, 1));
        let (networks, rollout) = (policy.and(values), ppo.rollout_steps as f64);
        add("the policy's learner (ppo.hidden, rollout_steps)", networks.numbers(rollout / ppo.minibatches as f64));
        add("its rollout (ppo.rollout_steps)", row * rollout);
    }
    if let Some(gail) = &config.gail {
        let networks = Perceptrons::of(pair, &gail.hidden, 1, 1);
        add("the discriminator (gail.hidden, batch_size)", networks.numbers(3.0 * gail.batch_size as f64));
    }
    if let Some(bc_reg) = &config.bc_reg {
        let networks = Perceptrons::of(observation, config.sac.actor_widths(), 2 * action, 1);
        add("the cloned rows (bc_reg.batch_size)", networks.numbers(bc_reg.batch_size as f64));
    }
    if let Some(model) = &config.world_model {
        let networks = Perceptrons::of(pair, &model.hidden, 2 * observation, model.members);
        add("the world model (world_model.members, hidden, batch_size)", networks.numbers(model.batch_size as f64));
        // Each real step comes with a demonstrated one. The rows lie on the host, and for a fit on the device.
        let added = if demonstrated > 0.0 { 2.0 * steps } else { steps };
        let ring = added.min(model.capacity as f64);
        let rows = ring + if model.pinned_demonstrations { demonstrated } else { 0.0 };
        add("its data (world_model.capacity)", 2.0 * (pair + observation + 1) as f64 * rows);
    }
    if let (Some(imagination), Some(model)) = (&config.imagination, &config.world_model) {
        let epochs = config.env_steps.div_ceil(imagination.epoch_steps);
        let longest = rollout_length(imagination.lengths, epochs);
        let at_once = imagination.starts_per_step as f64 * model.fit_every as f64;
        let kept = imagination.capacity(model.fit_every, longest) as f64 + at_once * longest as f64;
        add("imagined steps (imagination.starts_per_step, lengths, epochs_retained)", row * kept);
        let networks = Perceptrons::of(pair, &model.hidden, 2 * observation, 1);
        add("imagining them (imagination.starts_per_step, world_model.hidden)", networks.widest * 2.0 * at_once);
    }
    parts
}

/// Parameters and units of networks side by side.
struct Perceptrons {
    parameters: f64,
    units: f64,
    /// Units of the widest layer of one of them.
    widest: f64,
}

impl Perceptrons {
    fn of(inputs: usize, hidden: &[usize], outputs: usize, count: usize) -> Self {
        let widths: Vec<f64> = [inputs].iter().chain(hidden).chain(&[outputs]).map(|width| *width as f64).collect();
        let parameters: f64 = widths.windows(2).map(|pair| (pair[0] + 1.0) * pair[1]).sum();
        let units: f64 = widths.iter().sum();
        let widest = widths.iter().copied().fold(0.0, f64::max);
        Self { parameters: count as f64 * parameters, units: count as f64 * units, widest }
    }

    fn and(self, other: Self) -> Self {
        let (parameters, units) = (self.parameters + other.parameters, self.units + other.units);
        Self { parameters, units, widest: self.widest.max(other.widest) }
    }

    fn numbers(&self, batch: f64) -> f64 {
        COPIES * self.parameters + PER_UNIT * self.units * batch
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
    use crate::config::{Overrides, method_names, resolve};

    const HOPPER: Sizes = Sizes { observation: 11, action: 3, demonstrated: 64_000, horizon: 1000 };

    fn with(method: &str, set: &[&str]) -> RunConfig {
        let set = set.iter().map(ToString::to_string).collect();
        resolve(method, "hopper", &Overrides { set, ..Overrides::default() }).unwrap()
    }

    #[test]
    fn what_no_machine_holds_is_refused_and_every_preset_is_not() {
        let laptop = 16.0 * f64::from(1 << 30);
        let check = |config: &RunConfig| check_against(laptop, config, HOPPER).map_err(|error| error.to_string());
        for method in method_names() {
            check(&with(method, &[])).unwrap();
        }
        for (method, set, word) in [
            ("hype", "sac.batch_size=999999999", "batch_size"),
            ("hype", "reward.batch_size=9999999999", "discriminator"),
            ("hype", "sac.hidden=[65536,65536]", "hidden"),
            ("mm", "reward.members=100000000", "reward.members"),
            ("hyper", "imagination.starts_per_step=100000000", "imagination.starts_per_step"),
            ("hyper", "world_model.hidden=[60000,60000]", "world_model.members"),
            ("hype", "reward.batch_size=6148914691236517206", "discriminator"),
            ("hype", "reward.rollout_episodes=999999999", "reward.rollout_episodes"),
            ("gail", "ppo.hidden=[65536,65536]", "ppo.hidden"),
            ("gail", "ppo.rollout_steps=999999999999", "rollout_steps"),
            ("gail", "gail.hidden=[65536,65536]", "gail.hidden"),
            ("bc-reg", "bc_reg.batch_size=999999999999", "bc_reg.batch_size"),
        ] {
            let error = check(&with(method, &[set])).unwrap_err();
            assert!(error.contains("GiB of memory") && error.contains(word), "{set}: {error}");
        }
    }

    /// What the rows themselves take: less than this would be no estimate.
    #[test]
    fn rows_are_counted_once_where_they_lie() {
        let config = with("hyper", &["env_steps=50000"]);
        let bytes = |name: &str| parts(&config, HOPPER).iter().find(|part| part.0.contains(name)).unwrap().1;
        assert_eq!(bytes("the demonstrations"), 4.0 * 64_000.0 * (28 + 14) as f64);
        assert_eq!(bytes("its data"), 4.0 * 2.0 * 26.0 * (100_000 + 64_000) as f64);
        // Rollouts of 10 steps (epoch 50), 125 · 400 of them a phase, eight phases an epoch.
        let longest = rollout_length(config.imagination.as_ref().unwrap().lengths, 50) as f64;
        assert_eq!(bytes("imagined steps"), 4.0 * 28.0 * 50_000.0 * longest * 9.0);
    }

    #[test]
    fn this_machine_says_what_it_has() {
        if cfg!(target_os = "linux") {
            assert!(machine_bytes().unwrap() > 1e8);
        }
    }
}

//! Ranges: a value outside is refused with its key, the value and what is allowed.

use super::{LearnerKind, RunConfig, Stage, Td3BcConfig};
use crate::error::{Error, Result};
use std::fmt::Display;

pub(super) fn validate(config: &RunConfig) -> Result<()> {
    let sac = &config.sac;
    at_least("env_steps", config.env_steps, 1)?;
    probability("env.tremble", config.env.tremble)?;
    probability("reset.probability", config.reset.probability)?;
    at_least("eval.every", config.eval.every, 1)?;
    at_least("eval.episodes", config.eval.episodes, 1)?;
    widths("sac.hidden", &sac.hidden)?;
    check("sac.discount", sac.discount, (0.0..1.0).contains(&sac.discount), "0 ≤ discount < 1")?;
    probability("sac.polyak_rate", sac.polyak_rate)?;
    at_least("sac.batch_size", sac.batch_size as u64, 2)?;
    at_least("sac.replay_capacity", sac.replay_capacity as u64, 1)?;
    at_least("sac.train_every", sac.train_every, 1)?;
    at_least("sac.grad_steps", sac.grad_steps, 1)?;
    positive("sac.learning_rate", sac.learning_rate)?;
    positive("sac.initial_temperature", sac.initial_temperature)?;
    if let Some(entropy) = sac.target_entropy {
        check("sac.target_entropy", entropy, entropy.is_finite(), "a finite number")?;
    }
    if let Some(td3_bc) = &config.td3_bc {
        validate_td3_bc(td3_bc)?;
    }
    if config.learner == LearnerKind::Td3Bc && config.td3_bc.is_none() {
        return check("learner", "td3-bc", false, &format!("\"sac\", the only learner of {}", config.method));
    }
    if let Some(bc_reg) = &config.bc_reg {
        check("bc_reg.weight", bc_reg.weight, bc_reg.weight.is_finite() && bc_reg.weight >= 0.0, "a number ≥ 0")?;
        at_least("bc_reg.batch_size", bc_reg.batch_size as u64, 1)?;
    }
    if let Some(reward) = &config.reward {
        widths("reward.hidden", &reward.hidden)?;
        at_least("reward.members", reward.members as u64, 1)?;
        positive("reward.learning_rate", reward.learning_rate)?;
        let finite = |x: f64| x.is_finite() && x >= 0.0;
        check("reward.weight_decay", reward.weight_decay, finite(reward.weight_decay), "a number ≥ 0")?;
        check("reward.gradient_penalty", reward.gradient_penalty, finite(reward.gradient_penalty), "a number ≥ 0")?;
        check("reward.gradient_target", reward.gradient_target, finite(reward.gradient_target), "a number ≥ 0")?;
        at_least("reward.batch_size", reward.batch_size as u64, 1)?;
        at_least("reward.grad_steps", reward.grad_steps, 1)?;
        at_least("reward.update_every", reward.update_every, 1)?;
        at_least("reward.rollout_episodes", reward.rollout_episodes, 1)?;
        if let Some(clip) = reward.clip {
            positive("reward.clip", clip)?;
        }
    }
    let mut entered = 0;
    for Stage(start, end, until) in config.hybrid.schedule.iter().copied() {
        probability("hybrid.schedule", start)?;
        probability("hybrid.schedule", end)?;
        check("hybrid.schedule", until, until > entered, "stages that end later than the one before")?;
        entered = until;
    }
    if config.demos_limit == Some(0) {
        return check("demos_limit", 0, false, "at least 1 episode");
    }
    Ok(())
}

fn validate_td3_bc(config: &Td3BcConfig) -> Result<()> {
    widths("td3_bc.hidden", &config.hidden)?;
    check("td3_bc.discount", config.discount, (0.0..1.0).contains(&config.discount), "0 ≤ discount < 1")?;
    probability("td3_bc.polyak_rate", config.polyak_rate)?;
    at_least("td3_bc.batch_size", config.batch_size as u64, 2)?;
    at_least("td3_bc.replay_capacity", config.replay_capacity as u64, 1)?;
    at_least("td3_bc.train_every", config.train_every, 1)?;
    at_least("td3_bc.grad_steps", config.grad_steps, 1)?;
    positive("td3_bc.learning_rate", config.learning_rate)?;
    let finite = |x: f64| x.is_finite() && x >= 0.0;
    check("td3_bc.target_noise", config.target_noise, finite(config.target_noise), "a number ≥ 0")?;
    check("td3_bc.target_noise_clip", config.target_noise_clip, finite(config.target_noise_clip), "a number ≥ 0")?;
    at_least("td3_bc.policy_delay", config.policy_delay, 1)?;
    positive("td3_bc.alpha", config.alpha)
}

fn check(key: &str, value: impl Display, good: bool, allowed: &str) -> Result<()> {
    if good {
        return Ok(());
    }
    Err(Error::config(format!("configuration key `{key}` is out of range")).expected(allowed).found(value))
}

fn at_least(key: &str, value: u64, least: u64) -> Result<()> {
    check(key, value, value >= least, &format!("at least {least}"))
}

fn positive(key: &str, value: f64) -> Result<()> {
    check(key, value, value.is_finite() && value > 0.0, "a number > 0")
}

fn probability(key: &str, value: f64) -> Result<()> {
    check(key, value, (0.0..=1.0).contains(&value), "0 to 1")
}

fn widths(key: &str, widths: &[usize]) -> Result<()> {
    let good = !widths.is_empty() && widths.iter().all(|w| (1..=65_536).contains(w));
    check(key, format!("{widths:?}"), good, "one or more widths from 1 to 65536")
}

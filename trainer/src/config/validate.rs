//! Ranges: a value outside is refused with its key, the value and what is allowed.

use super::{
    GailConfig, ImaginationConfig, Imagines, IqConfig, LearnerKind, Lengths, PpoConfig, RateSchedule, RunConfig,
    SacConfig, Stage, Td3BcConfig, WorldModelConfig,
};
use crate::error::{Error, Result};
use std::fmt::Display;

pub(super) fn validate(config: &RunConfig) -> Result<()> {
    at_least("env_steps", config.env_steps, 1)?;
    probability("env.tremble", config.env.tremble)?;
    probability("reset.probability", config.reset.probability)?;
    at_least("eval.every", config.eval.every, 1)?;
    at_least("eval.episodes", config.eval.episodes, 1)?;
    if config.ppo.is_none() {
        validate_sac(&config.sac)?;
    }
    if config.sac.gsde && config.learner == LearnerKind::Sac {
        let learns = !["bc", "iq-learn"].contains(&&*config.method);
        check("sac.gsde", "true", learns, &format!("false: the policy of {} has no such noise", config.method))?;
        let one_by_one = config.world_model.is_none();
        check("sac.gsde", "true", one_by_one, "false: all imagined rollouts of hyper would explore with one draw")?;
        let has_features = !config.sac.actor_widths().is_empty();
        check("sac.gsde", "true", has_features, "false: an actor without hidden layers has no features")?;
    }
    if let Some(td3_bc) = &config.td3_bc {
        validate_td3_bc(td3_bc)?;
    }
    if config.learner == LearnerKind::Td3Bc && config.td3_bc.is_none() {
        return check("learner", "td3-bc", false, &format!("\"sac\", the only learner of {}", config.method));
    }
    if (config.learner == LearnerKind::Ppo) != config.ppo.is_some() {
        let (found, only) = if config.ppo.is_some() { ("not ppo", "ppo") } else { ("ppo", "sac or td3-bc") };
        return check("learner", found, false, &format!("{only}: {} has no other", config.method));
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
        let knows_ends = !reward.absorbing || config.world_model.is_none();
        check("reward.absorbing", "true", knows_ends, "false: hyper has no absorbing states")?;
        if let Some(clip) = reward.clip {
            positive("reward.clip", clip)?;
        }
    }
    config.world_model.as_ref().map_or(Ok(()), validate_world_model)?;
    config.imagination.as_ref().map_or(Ok(()), validate_imagination)?;
    if let Some(window) = config.reset.window {
        probability("reset.window", window)?;
        let slides = !config.reset.schedule.is_uniform();
        check("reset.window", window, slides, "nothing, unless reset.schedule is \"sliding-window\"")?;
    }
    if let (Some(model), Some(imagination)) = (&config.world_model, &config.imagination) {
        let doubts = imagination.pessimism == 0.0 || model.elites > 1;
        let pessimism = imagination.pessimism;
        check("imagination.pessimism", pessimism, doubts, "0: a single elite (world_model.elites) never disagrees")?;
        let knows = pessimism == 0.0 || imagination.dynamics == Imagines::Ensemble;
        check("imagination.pessimism", pessimism, knows, "0: the simulator (imagination.dynamics) knows")?;
    }
    let in_training_world = config.faults.rollouts_in_training_world;
    let applies = config.hyper.is_some() || !in_training_world;
    check("faults.rollouts_in_training_world", "true", applies, "false: other methods never had it")?;
    let one_unit = config.hyper.is_none() || !config.faults.demonstrations_in_env_units;
    check(
        "faults.demonstrations_in_env_units",
        "true",
        one_unit,
        "false: hyper's model learns from both sides' actions",
    )?;
    let iterates = config.rhythm().learning_rate_schedule != RateSchedule::Sawtooth || config.iteration().is_some();
    let table = if config.td3_bc().is_some() { "td3_bc" } else { "sac" };
    check(
        &format!("{table}.learning_rate_schedule"),
        "sawtooth",
        iterates || config.ppo.is_some(),
        &format!("constant or linear: {} has no outer iterations", config.method),
    )?;
    let mixes = config.hybrid.schedule.is_empty() || !["bc", "expert", "gail", "iq-learn"].contains(&&*config.method);
    check(
        "hybrid.schedule",
        "a stage",
        mixes,
        &format!("none: {} does not mix expert rows into batches", config.method),
    )?;
    let pays_alone = ["sqil", "adril"].contains(&&*config.method);
    let mixed = config.hybrid.schedule.iter().any(|Stage(start, end, _)| start.max(*end) > 0.0);
    check(
        "hybrid.schedule",
        if config.hybrid.schedule.is_empty() { "none" } else { "no share above 0" },
        mixed || !pays_alone || config.adril.as_ref().is_some_and(|adril| adril.pools_demonstrations),
        &format!("a stage with a share above 0: {} pays for expert rows alone", config.method),
    )?;
    let mut entered = 0;
    for Stage(start, end, until) in config.hybrid.schedule.iter().copied() {
        probability("hybrid.schedule", start)?;
        probability("hybrid.schedule", end)?;
        check("hybrid.schedule", until, until > entered, "stages that end later than the one before")?;
        entered = until;
    }
    config.iq.as_ref().map_or(Ok(()), validate_iq)?;
    config.ppo.as_ref().map_or(Ok(()), validate_ppo)?;
    config.gail.as_ref().map_or(Ok(()), validate_gail)?;
    config.adril.as_ref().map_or(Ok(()), |adril| at_least("adril.update_every", adril.update_every, 1))?;
    if config.demos_limit == Some(0) {
        return check("demos_limit", 0, false, "at least 1 episode");
    }
    Ok(())
}

fn validate_sac(sac: &SacConfig) -> Result<()> {
    widths("sac.hidden", &sac.hidden)?;
    if let Some(actor) = sac.actor_hidden.as_deref().filter(|actor| !actor.is_empty()) {
        widths("sac.actor_hidden", actor)?;
    }
    check("sac.discount", sac.discount, (0.0..1.0).contains(&sac.discount), "0 ≤ discount < 1")?;
    probability("sac.polyak_rate", sac.polyak_rate)?;
    at_least("sac.target_every", sac.target_every, 1)?;
    at_least("sac.batch_size", sac.batch_size as u64, 2)?;
    at_least("sac.replay_capacity", sac.replay_capacity as u64, 1)?;
    at_least("sac.train_every", sac.train_every, 1)?;
    at_least("sac.grad_steps", sac.grad_steps, 1)?;
    positive("sac.learning_rate", sac.learning_rate)?;
    positive("sac.initial_temperature", sac.initial_temperature)?;
    if let Some(entropy) = sac.target_entropy {
        check("sac.target_entropy", entropy, entropy.is_finite(), "a finite number")?;
    }
    Ok(())
}

fn validate_world_model(model: &WorldModelConfig) -> Result<()> {
    at_least("world_model.members", model.members as u64, 1)?;
    let elites_ok = (1..=model.members).contains(&model.elites);
    check("world_model.elites", model.elites, elites_ok, &format!("1 to {}, the members", model.members))?;
    widths("world_model.hidden", &model.hidden)?;
    positive("world_model.learning_rate", model.learning_rate)?;
    not_negative("world_model.least_learning_rate", model.least_learning_rate)?;
    at_least("world_model.rate_batches", model.rate_batches, 1)?;
    not_negative("world_model.weight_decay", model.weight_decay)?;
    at_least("world_model.batch_size", model.batch_size as u64, 1)?;
    at_least("world_model.fit_every", model.fit_every, 1)?;
    let share = model.held_out;
    check("world_model.held_out", share, share > 0.0 && share < 1.0, "between 0 and 1")?;
    at_least("world_model.patience", model.patience, 1)?;
    probability("world_model.improvement", model.improvement)?;
    at_least("world_model.capacity", model.capacity as u64, 1)?;
    if model.max_batches == Some(0) {
        return check("world_model.max_batches", 0, false, "at least 1 batch");
    }
    if let Some(share) = model.learner_share {
        probability("world_model.learner_share", share)?;
    }
    let share = model.data_share;
    check("world_model.data_share", share, share > 0.0 && share <= 1.0, "more than 0, at most 1")?;
    not_negative("world_model.mean_noise", model.mean_noise)?;
    model.mean_clip.map_or(Ok(()), |clip| positive("world_model.mean_clip", clip))
}

fn validate_imagination(imagination: &ImaginationConfig) -> Result<()> {
    at_least("imagination.starts_per_step", imagination.starts_per_step as u64, 1)?;
    let Lengths(from, until, least, most) = imagination.lengths;
    let lengths_ok = from < until && 1 <= least && least <= most;
    let found = format!("[{from}, {until}, {least}, {most}]");
    check("imagination.lengths", found, lengths_ok, "[e0, e1, l0, l1] with e0 < e1 and 1 ≤ l0 ≤ l1")?;
    at_least("imagination.epoch_steps", imagination.epoch_steps, 1)?;
    at_least("imagination.epochs_retained", imagination.epochs_retained, 1)?;
    not_negative("imagination.margin", imagination.margin)?;
    not_negative("imagination.pessimism", imagination.pessimism)?;
    probability("imagination.real_ratio", imagination.real_ratio)
}

fn validate_iq(iq: &IqConfig) -> Result<()> {
    positive("iq.alpha", iq.alpha)?;
    check("iq.critics", iq.critics, (1..=2).contains(&iq.critics), "1 or 2")?;
    positive("iq.actor_learning_rate", iq.actor_learning_rate)
}

fn validate_ppo(ppo: &PpoConfig) -> Result<()> {
    widths("ppo.hidden", &ppo.hidden)?;
    check("ppo.initial_log_std", ppo.initial_log_std, ppo.initial_log_std.is_finite(), "a finite number")?;
    not_negative("ppo.initial_mean_gain", ppo.initial_mean_gain)?;
    check("ppo.discount", ppo.discount, (0.0..1.0).contains(&ppo.discount), "0 ≤ discount < 1")?;
    probability("ppo.gae_lambda", ppo.gae_lambda)?;
    at_least("ppo.rollout_steps", ppo.rollout_steps, 2)?;
    at_least("ppo.epochs", ppo.epochs, 1)?;
    at_least("ppo.minibatches", ppo.minibatches as u64, 1)?;
    positive("ppo.clip", ppo.clip)?;
    not_negative("ppo.value_coefficient", ppo.value_coefficient)?;
    not_negative("ppo.entropy_coefficient", ppo.entropy_coefficient)?;
    positive("ppo.learning_rate", ppo.learning_rate)?;
    let schedule = ppo.learning_rate_schedule;
    check("ppo.learning_rate_schedule", "sawtooth", schedule != RateSchedule::Sawtooth, "constant or linear")?;
    positive("ppo.max_grad_norm", ppo.max_grad_norm)
}

fn validate_gail(gail: &GailConfig) -> Result<()> {
    widths("gail.hidden", &gail.hidden)?;
    positive("gail.learning_rate", gail.learning_rate)?;
    at_least("gail.batch_size", gail.batch_size as u64, 1)?;
    not_negative("gail.gradient_penalty", gail.gradient_penalty)?;
    not_negative("gail.gradient_target", gail.gradient_target)?;
    at_least("gail.epochs", gail.epochs, 1)?;
    at_least("gail.expert_every", gail.expert_every as u64, 1)
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

fn not_negative(key: &str, value: f64) -> Result<()> {
    check(key, value, value.is_finite() && value >= 0.0, "a number ≥ 0")
}

fn probability(key: &str, value: f64) -> Result<()> {
    check(key, value, (0.0..=1.0).contains(&value), "0 to 1")
}

fn widths(key: &str, widths: &[usize]) -> Result<()> {
    let good = !widths.is_empty() && widths.iter().all(|w| (1..=65_536).contains(w));
    check(key, format!("{widths:?}"), good, "one or more widths from 1 to 65536")
}

//! What a run takes over from another one: dynamics (`--world-model RUN`), a reward (`--reward RUN`).

use super::policy::{read_run_config, written_checkpoint};
use crate::config::{RewardConfig, RunConfig, WorldModelConfig};
use crate::envs::{self, Task};
use crate::error::{Error, Result};
use crate::methods::DiscriminatorNetwork;
use crate::methods::hyper::{Given, GivenModel, HyperRecord};
use crate::observe::progress_line;
use crate::replay::ReplayBuffer;
use crate::replay::model_data::ModelData;
use crate::run::directory::{RunDirectory, Slot, is_finished};
use crate::run::driver::{read_method, read_snapshot};
use crate::world_model::model::WorldModelRecord;
use std::path::{Path, PathBuf};

/// Refuses runs whose parts cannot be this one's, and warns where they are not what one may take them for.
pub(super) fn check(config: &RunConfig, task: &Task) -> Result<()> {
    for from in [model_run(config), reward_run(config)].into_iter().flatten() {
        let seeds = read_run_config(from)?.seeds;
        let others: Vec<String> =
            config.seeds.iter().filter(|seed| !seeds.contains(seed)).map(ToString::to_string).collect();
        if let (false, Some(first)) = (others.is_empty(), seeds.first()) {
            let run = from.display();
            progress_line(format!(
                "warning: {run} has no seed {}: they take over what its seed {first} learned",
                others.join(", ")
            ));
        }
        if !is_finished(from) {
            progress_line(format!("warning: {} is not finished: its newest checkpoint counts", from.display()));
        }
    }
    if let Some(from) = model_run(config) {
        check_world_model(config, task, from)?;
        config.seeds.iter().try_for_each(|seed| model_of(from, *seed).map(drop))?;
    }
    if let Some(from) = reward_run(config) {
        check_reward(config, task, from)?;
        config.seeds.iter().try_for_each(|seed| reward_of(from, *seed).map(drop))?;
    }
    Ok(())
}

/// What `config` names, of the same seed or of the other run's first. A run that has a checkpoint of its own needs it no more.
pub(super) fn given(config: &RunConfig, directory: &RunDirectory, seed: u64) -> Result<Given> {
    let mut given = Given::default();
    if directory.checkpoint(Slot::Last, seed)?.exists() {
        return Ok(given);
    }
    if let Some(from) = model_run(config) {
        let same_task = read_run_config(from)?.task == config.task;
        given.model = Some(GivenModel { record: model_of(from, seed)?, same_task });
    }
    if let Some(from) = reward_run(config) {
        given.reward = reward_of(from, seed)?;
    }
    Ok(given)
}

fn model_of(run: &Path, seed: u64) -> Result<WorldModelRecord> {
    let record: HyperRecord<ReplayBuffer, ModelData> = read_method(&checkpoint_of(run, seed)?)?;
    let model = record.into_model();
    if !model.is_fitted() {
        return Err(unlearned("world model", run).expected("a run that has fitted it once or more"));
    }
    Ok(model)
}

fn reward_of(run: &Path, seed: u64) -> Result<Option<DiscriminatorNetwork>> {
    let reward = read_snapshot(&checkpoint_of(run, seed)?)?.networks.discriminator;
    if reward.as_ref().is_some_and(|reward| !reward.learned) {
        return Err(unlearned("reward", run).expected("a run whose discriminator has had a turn (reward.update_every)"));
    }
    Ok(reward)
}

fn unlearned(part: &str, run: &Path) -> Error {
    Error::data(format!("the {part} of {} has learned nothing yet", run.display()))
        .hint(format!("hype resume {}, or take another run", run.display()))
}

fn model_run(config: &RunConfig) -> Option<&PathBuf> {
    config.world_model.as_ref()?.from.as_ref()
}

fn reward_run(config: &RunConfig) -> Option<&PathBuf> {
    config.reward.as_ref()?.from.as_ref()
}

fn checkpoint_of(run: &Path, seed: u64) -> Result<PathBuf> {
    let seeds = read_run_config(run)?.seeds;
    let seed = if seeds.contains(&seed) { seed } else { seeds[0] };
    written_checkpoint(run, Slot::Last, seed)
}

fn check_world_model(config: &RunConfig, task: &Task, from: &Path) -> Result<()> {
    let other = read_run_config(from)?;
    let refused = |what: &str| Error::data(format!("the world model of {} does not fit: {what}", from.display()));
    let (Some(own), Some(model)) = (&config.world_model, &other.world_model) else {
        return Err(refused("the run has none").expected("a run of hyper").found(format!("a run of {}", other.method)));
    };
    if !task.has_channels_of(&envs::task(&other.task)?) {
        return Err(refused("its task is of another body").expected(&task.id).found(other.task));
    }
    let shape = |model: &WorldModelConfig| format!("{} members of {:?}", model.members, model.hidden);
    if shape(own) != shape(model) {
        return Err(refused("other networks")
            .expected(shape(own))
            .found(shape(model))
            .hint("set world_model.members and world_model.hidden as that run did"));
    }
    if config.learns_from_task() != other.learns_from_task() {
        return Err(refused("only one of the two runs learns the task's reward, an output more")
            .hint("use --reward true in both or in neither"));
    }
    if config.learns_from_task() && config.task != other.task {
        progress_line(format!(
            "the reward of {} is learned anew: {} is of {}",
            config.task,
            from.display(),
            other.task
        ));
    }
    Ok(())
}

fn check_reward(config: &RunConfig, task: &Task, from: &Path) -> Result<()> {
    let other = read_run_config(from)?;
    let refused = |what: &str| Error::data(format!("the reward of {} does not fit: {what}", from.display()));
    if config.method != "hyper" {
        return Err(refused("this method always learns its own").expected("hyper").found(&config.method));
    }
    let (Some(own), Some(reward), false) = (&config.reward, &other.reward, other.learns_from_task()) else {
        return Err(refused("the run learned none")
            .expected("a run whose discriminator is a cost network: HyPE's family or hyper")
            .found(format!("a run of {}", other.method)));
    };
    if config.learns_from_task() {
        return Err(refused("imagination.reward is the task's"));
    }
    if !task.has_channels_of(&envs::task(&other.task)?) {
        return Err(refused("its task is of another body").expected(&task.id).found(other.task));
    }
    if reward.absorbing {
        return Err(refused(
            "it pays for what comes after an episode's end (reward.absorbing), which hyper does not imagine",
        )
        .hint("take a run without reward.absorbing"));
    }
    let shape = |reward: &RewardConfig| {
        let clip = reward.clip.map_or("no clip".into(), |clip| format!("clip {clip}"));
        format!("{} members of {:?}, {:?}, {clip}", reward.members, reward.hidden, reward.reduction)
    };
    if shape(own) != shape(reward) {
        return Err(refused("it is read in another way")
            .expected(shape(own))
            .found(shape(reward))
            .hint("leave reward.members, hidden, reduction and clip alone: --reward RUN takes them over"));
    }
    Ok(())
}

//! A fresh [`Hyper`].

use super::state::{Buffers, Draws, Progress};
use super::{Given, Hyper, Tables};
use crate::config::{Imagines, RewardSource, RunConfig};
use crate::envs::{Termination, World, WorldConfig};
use crate::error::Result;
use crate::learners::ema::Ema;
use crate::learners::learner::Learner;
use crate::methods::demonstrated::Demonstrated;
use crate::nn::Train;
use crate::replay::ReplayBuffer;
use crate::replay::model_data::{ModelData, Room};
use crate::reward::discriminator::Discriminator;
use crate::run::rng::Streams;
use crate::world_model::model::WorldModel;
use crate::world_model::simulator::Simulator;

impl<B: Train> Hyper<B> {
    /// A fresh run of the first of `seeds`: they do not stack.
    pub fn new(
        config: &RunConfig,
        tables: Tables,
        expert: Demonstrated,
        given: Given,
        seeds: &[u64],
        device: &B::Device,
    ) -> Result<Self> {
        let streams = Streams::new(seeds[0]);
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: None };
        let world = World::new(&config.task, world, streams, "env/train")?;
        let widths = (world.task().observation_width(), world.task().action_width());
        let policy = Learner::new(config, widths.0, widths.1, &[streams], device);
        let ema = tables.hyper.ema.then(|| Ema::new(policy.actor_parameters(), widths.1, device));
        let learns_reward = tables.imagination.reward == RewardSource::Task;
        let fresh = || Discriminator::new(&tables.reward, expert.pairs.width, &[streams], device);
        let mut discriminator = (!learns_reward).then(|| fresh().in_units_of(&expert.pairs));
        if let (Some(discriminator), Some(reward)) = (&mut discriminator, given.reward) {
            discriminator.begin_with(reward.params);
        }
        let model = &tables.world_model;
        let room = Room { capacity: model.capacity, pinned: model.pinned_demonstrations, share: model.data_share };
        let to_fit_model = ModelData::new(&expert.rows, widths, room, learns_reward);
        let mut model = WorldModel::new(model, &to_fit_model, tables.imagination.margin, streams, device);
        if let Some(other) = given.model {
            model.begin_with(other.record, other.same_task)?;
        }
        let buffers = Buffers {
            to_start_from_expert: expert,
            to_start_from_policy: ReplayBuffer::new(config.rhythm().replay_capacity, widths.0, widths.1),
            to_fit_model,
            to_train_policy: ReplayBuffer::new(1, widths.0, widths.1),
        };
        let draws = Draws {
            act: streams.stream("policy_noise"),
            accompany: streams.stream("hyper/accompany"),
            start: streams.stream("hyper/start"),
            imagine: streams.stream("hyper/imagine"),
            rows: streams.stream("replay"),
        };
        Ok(Self {
            termination: Termination::of(&config.task)?,
            simulator: (tables.imagination.dynamics == Imagines::Simulator)
                .then(|| Simulator::new(&config.task))
                .transpose()?,
            progress: Progress { needs_reset: true, ..Progress::default() },
            config: config.clone(),
            device: device.clone(),
            tables,
            policy,
            ema,
            discriminator,
            model,
            buffers,
            world,
            streams,
            draws,
            stale: None,
        })
    }
}

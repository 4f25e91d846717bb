//! The discriminator's own environment steps.

use crate::envs::{Ending, Purpose, World};
use crate::error::Result;
use crate::reward::discriminator::Pairs;

/// Whole episodes in `world`, all of their steps counted for the discriminator. Pairs hold the action that `act` intends in
/// [-1, 1], which trembling may replace, or in environment units where `in_env_units` (a fault of the published code). Where the pairs
/// know an absorbing state, an episode that the task ended stays in it until the horizon.
pub(super) fn whole_episodes(
    world: &mut World,
    episodes: u64,
    pairs: &mut Pairs,
    in_env_units: bool,
    mut act: impl FnMut(&[f32]) -> Vec<f32>,
) -> Result<()> {
    for _ in 0..episodes {
        world.reset()?;
        let mut ending = Ending::Continues;
        while ending == Ending::Continues {
            let observation = world.observation().to_vec();
            let action = act(&observation);
            if in_env_units {
                let mut action_env = vec![0.0; action.len()];
                world.task().action_scale().to_env(&action, &mut action_env)?;
                pairs.push(&observation, &action_env);
            } else {
                pairs.push(&observation, &action);
            }
            ending = world.step(&action, Purpose::Discriminator)?.ending;
        }
        if ending == Ending::Terminated {
            pairs.push_end(world.task().horizon - world.episode_steps());
        }
    }
    Ok(())
}

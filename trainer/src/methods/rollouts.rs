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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, resolve};
    use crate::envs::WorldConfig;
    use crate::nn::Cpu;
    use crate::reward::discriminator::{Discriminator, Turn};
    use crate::run::rng::Streams;
    use policy_runtime::{EngineChoice, Observation, Policy};

    /// Episodes of `act` from starts of their own.
    fn played(episodes: u64, name: &str, act: impl FnMut(&[f32]) -> Vec<f32>) -> Pairs {
        let calm = WorldConfig { tremble: 0.0, demo_resets: None };
        let mut world = World::new("pendulum", calm, Streams::new(5), name).unwrap();
        let mut pairs = Pairs::new(4);
        whole_episodes(&mut world, episodes, &mut pairs, false, act).unwrap();
        pairs
    }

    /// Twenty turns against fresh episodes of the policy that demonstrated: what the game finds is what episodes differ by, which is
    /// little beside what it finds against a policy that does not know the task.
    #[test]
    fn the_expert_is_not_told_from_its_own_demonstrations() {
        let mut policy =
            Policy::from_onnx(crate::experts::expert("pendulum").unwrap().onnx, EngineChoice::Auto).unwrap();
        let mut expert = |observation: &[f32]| {
            let mut torque = [0.0];
            let observation = Observation { values: observation, stamp_nanos: 0 };
            assert!(policy.step(0, &observation, &mut torque).is_good());
            vec![torque[0] / 2.0]
        };
        let mut noise = Streams::new(5).stream("noise");
        let mut random = |_: &[f32]| vec![noise.uniform(-1.0, 1.0) as f32];
        let demonstrations = played(32, "demonstrations", &mut expert);
        let config = resolve("hype", "pendulum", &Overrides::default()).unwrap().reward.unwrap();
        let gap = |act: &mut dyn FnMut(&[f32]) -> Vec<f32>| {
            let mut game = Discriminator::<Cpu>::new(&config, 4, &[Streams::new(6)], &Default::default());
            let mut turn = |number: u64| {
                let learner = played(8, &format!("turn/{number}"), &mut *act);
                game.ascend(&demonstrations, &[learner], Turn { number, over: 0.0 })[0].disc_gap
            };
            let gaps: Vec<f64> = (0..20).map(&mut turn).collect();
            gaps[10..].iter().sum::<f64>() / 10.0
        };
        let (same, other) = (gap(&mut expert), gap(&mut random));
        assert!(same.abs() < 0.2 * other, "{same} against the expert itself, {other} against a random policy");
    }
}

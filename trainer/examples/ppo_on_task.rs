//! PPO by itself, as GAIL's preset for the task has it, on the task's own reward: what GAIL's policy learner can reach, whatever
//! its classifier says.
//!
//!     cargo run --release -p hype-trainer --example ppo_on_task -- hopper 3 150000 ppo.epochs=10
//!
//! Arguments: task, seeds, environment steps, settings.

use trainer::config::{Overrides, resolve};
use trainer::envs::{World, WorldConfig};
use trainer::error::Error;
use trainer::eval;
use trainer::methods::on_policy::OnPolicy;
use trainer::nn::Cpu;
use trainer::reward::discriminator::Pairs;
use trainer::run::rng::Streams;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_else(|| "pendulum".into());
    let mut number = |default| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seeds, env_steps): (u64, u64) = (number(1), number(100_000));
    let set: Vec<String> = arguments.collect();
    let overrides = Overrides { set, seeds: Some(vec![0]), env_steps: Some(env_steps), ..Overrides::default() };
    let config = resolve("gail", &task, &overrides)?;
    let Some(ppo) = &config.ppo else { return Err(Error::config("no table [ppo]")) };
    for seed in 0..seeds {
        let streams = Streams::new(seed);
        let world = WorldConfig { tremble: config.env.tremble, demo_resets: None };
        let world = World::new(&task, world, streams, "env/train")?;
        let mut learner = OnPolicy::<Cpu>::new(ppo, world, &Pairs::new(1), streams, &Default::default());
        let (mut done, mut updates, mut shown) = (0, 0, 0);
        while done < env_steps {
            let steps = ppo.rollout_steps.min(env_steps - done);
            let mut played = learner.play(steps, updates < ppo.normalizer_updates)?;
            learner.scale_rewards(&mut played, false);
            let rate = ppo.learning_rate * (1.0 - done as f64 / env_steps as f64);
            let (metrics, _) = learner.update(&played.rollout, rate);
            done += steps;
            updates += 1;
            if done / 20_000 > shown || done == env_steps {
                shown = done / 20_000;
                let policy = learner.policy();
                let (episodes, _) =
                    eval::play(&task, &config.env, streams, &format!("eval/{done}"), 10, |seen| Ok(policy(seen)))?;
                let lengths = episodes.iter().map(|episode| episode.length).sum::<u64>() / episodes.len() as u64;
                println!(
                    "seed {seed} steps {done} return {:.0} length {lengths} {metrics:?}",
                    eval::mean_return(&episodes)
                );
            }
        }
    }
    Ok(())
}

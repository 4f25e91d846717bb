//! Known answers of the boundary: what is counted, when episodes end, what is restored.

use super::*;
use crate::run::rng::Streams;
use std::collections::BTreeSet;

fn unit_actions(world: &World, seed: u64, count: usize) -> Vec<Vec<f32>> {
    let mut stream = Streams::new(seed).stream("test/action");
    (0..count).map(|_| (0..world.task().action_width()).map(|_| stream.uniform(-1.0, 1.0) as f32).collect()).collect()
}

/// Steps through `actions`, resetting where episodes end; returns the bits of every reward and observation.
fn bits(world: &mut World, actions: &[Vec<f32>]) -> Vec<u64> {
    let mut bits = Vec::new();
    for action in actions {
        let step = world.step(action, Purpose::Policy).unwrap();
        bits.push(step.reward.to_bits());
        if step.ending != Ending::Continues {
            world.reset().unwrap();
        }
        bits.extend(world.observation().iter().map(|value| u64::from(value.to_bits())));
        bits.extend(world.qpos().iter().chain(world.qvel()).map(|value| value.to_bits()));
    }
    bits
}

#[test]
fn a_restored_world_repeats_itself_bit_for_bit() {
    for id in task_ids() {
        let config = WorldConfig { tremble: 0.1, demo_resets: None };
        let mut world = World::new(id, config.clone(), Streams::new(5), "test").unwrap();
        world.reset().unwrap();
        let actions = unit_actions(&world, 6, 200);
        bits(&mut world, &actions[..100]);
        let bytes = postcard::to_stdvec(&world.checkpoint()).unwrap();
        let expected = bits(&mut world, &actions[100..]);

        let mut other = World::new(id, config, Streams::new(99), "elsewhere").unwrap();
        other.reset().unwrap();
        let checkpoint: WorldCheckpoint = postcard::from_bytes(&bytes).unwrap();
        other.restore(&checkpoint).unwrap();
        assert_eq!(other.checkpoint(), checkpoint, "{id}");
        assert!(bits(&mut other, &actions[100..]) == expected, "{id}: another world continued differently");
        world.restore(&checkpoint).unwrap();
        assert!(bits(&mut world, &actions[100..]) == expected, "{id}: the same world continued differently");
    }
}

#[test]
fn a_state_with_its_warm_start_continues_exactly_and_without_it_does_not() {
    for id in ["hopper", "half-cheetah", "ant", "humanoid"] {
        let mut world = World::new(id, WorldConfig::default(), Streams::new(5), "test").unwrap();
        world.reset().unwrap();
        let actions = unit_actions(&world, 6, 20);
        let (before, after) = actions.split_at(10);
        for action in before {
            assert_eq!(world.step(action, Purpose::Policy).unwrap().ending, Ending::Continues);
        }
        let exact = world.reset_state();
        let cold = ResetState { warmstart: None, ..exact.clone() };
        let positions = |world: &mut World, state: Option<&ResetState>| {
            if let Some(state) = state {
                world.reset_to(state, 10).unwrap();
            }
            let steps =
                after.iter().take_while(|a| world.step(a, Purpose::Policy).unwrap().ending == Ending::Continues);
            (steps.count(), world.qpos().to_vec())
        };
        let continued = positions(&mut world, None);
        assert_eq!(positions(&mut world, Some(&exact)), continued, "{id}");
        // Where no constraint is active, or a small problem is solved to the last bit, the warm start has no effect.
        if id == "humanoid" {
            assert_ne!(positions(&mut world, Some(&cold)), continued);
        }
    }
}

#[test]
fn a_start_in_the_middle_of_a_demonstration_shows_contact() {
    let mut ant = World::new("ant", WorldConfig::default(), Streams::new(5), "source").unwrap();
    ant.reset().unwrap();
    for _ in 0..40 {
        assert_eq!(ant.step(&[0.0; 8], Purpose::Policy).unwrap().ending, Ending::Continues);
    }
    let contact = |world: &World| world.observation()[27..].iter().any(|force| *force != 0.0);
    assert!(contact(&ant), "the ant stands on its feet");
    let standing = ant.reset_state();
    let demo_resets = Some(DemoResets::whole(vec![vec![standing]], 1.0));
    let mut world = World::new("ant", WorldConfig { tremble: 0.0, demo_resets }, Streams::new(5), "test").unwrap();
    world.reset().unwrap();
    assert_eq!((world.qpos(), world.qvel()), (ant.qpos(), ant.qvel()));
    assert!(contact(&world));
}

#[test]
fn threads_give_identical_bits() {
    fn moves_between_threads<T: Send>() {}
    moves_between_threads::<World>();
    let run = |id: &'static str| {
        let mut world =
            World::new(id, WorldConfig { tremble: 0.05, demo_resets: None }, Streams::new(1), "test").unwrap();
        world.reset().unwrap();
        let actions = unit_actions(&world, 2, 150);
        bits(&mut world, &actions)
    };
    for id in ["hopper", "ant", "humanoid"] {
        let alone = run(id);
        let together = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| run(id))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(together.iter().all(|bits| *bits == alone), "{id}");
    }
}

#[test]
fn the_time_limit_truncates_and_a_fall_terminates() {
    let mut world = World::new("pendulum", WorldConfig::default(), Streams::new(0), "test").unwrap();
    world.reset().unwrap();
    for step in 1..=200 {
        let ending = world.step(&[0.3], Purpose::Policy).unwrap().ending;
        assert_eq!(ending, if step == 200 { Ending::Truncated } else { Ending::Continues }, "step {step}");
    }
    let error = world.step(&[0.3], Purpose::Policy).unwrap_err();
    assert!(error.to_string().contains("the episode is over"), "{error}");
    assert_eq!(world.counts().policy, 200);

    let mut hopper = World::new("hopper", WorldConfig::default(), Streams::new(0), "test").unwrap();
    assert!(hopper.step(&[0.0; 3], Purpose::Policy).unwrap_err().to_string().contains("no episode has begun"));
    hopper.reset().unwrap();
    let mut steps = 0;
    let ending = loop {
        steps += 1;
        let ending = hopper.step(&[1.0, -1.0, 1.0], Purpose::Policy).unwrap().ending;
        if ending != Ending::Continues {
            break ending;
        }
    };
    assert_eq!(ending, Ending::Terminated);
    assert!(steps < 200 && hopper.observation()[0] < 1.3, "fell after {steps} steps");
}

#[test]
fn a_fall_on_the_last_step_is_a_termination() {
    let mut world = World::new("hopper", WorldConfig::default(), Streams::new(0), "test").unwrap();
    world.reset().unwrap();
    let mut before_fall = world.reset_state();
    while world.step(&[1.0, -1.0, 1.0], Purpose::Policy).unwrap().ending == Ending::Continues {
        before_fall = world.reset_state();
    }
    world.reset_to(&before_fall, 999).unwrap();
    assert_eq!(world.step(&[1.0, -1.0, 1.0], Purpose::Policy).unwrap().ending, Ending::Terminated);
    let upright = ResetState { qpos: vec![0.0, 1.25, 0.0, 0.0, 0.0, 0.0], qvel: vec![0.0; 6], warmstart: None };
    world.reset_to(&upright, 999).unwrap();
    assert_eq!(world.step(&[0.0; 3], Purpose::Policy).unwrap().ending, Ending::Truncated);
}

#[test]
fn the_trembling_hand_replaces_the_given_share_of_actions() {
    let (p, steps) = (0.1, 20_000);
    let mut world =
        World::new("pendulum", WorldConfig { tremble: p, demo_resets: None }, Streams::new(3), "test").unwrap();
    let intended = [0.5f32];
    let (mut replaced, mut sum, mut sum_of_squares) = (0u32, 0.0, 0.0);
    world.reset().unwrap();
    for _ in 0..steps {
        if world.step(&intended, Purpose::Policy).unwrap().ending != Ending::Continues {
            world.reset().unwrap();
        }
        let executed = world.executed_action_env()[0];
        assert!((-2.0..2.0).contains(&executed));
        if executed != 1.0 {
            replaced += 1;
            sum += f64::from(executed);
            sum_of_squares += f64::from(executed * executed);
        }
    }
    let count = f64::from(replaced);
    let four_sigma = 4.0 * (f64::from(steps) * p * (1.0 - p)).sqrt();
    assert!((count - f64::from(steps) * p).abs() < four_sigma, "{replaced} of {steps} actions replaced");
    // Uniform in ±2: mean 0, mean square 4/3.
    assert!((sum / count).abs() < 4.0 * (4.0 / 3.0 / count).sqrt());
    assert!((sum_of_squares / count - 4.0 / 3.0).abs() < 4.0 * (64.0 / 45.0 / count).sqrt());
}

/// With p = 1 nothing of the policy is left: whatever it intends, the episode is the random policy's.
#[test]
fn a_hand_that_only_trembles_is_the_random_policy() {
    let episode = |intended: f32| {
        let config = WorldConfig { tremble: 1.0, demo_resets: None };
        let mut world = World::new("hopper", config, Streams::new(3), "test").unwrap();
        let mut rewards = Vec::new();
        for _ in 0..20 {
            world.reset().unwrap();
            loop {
                let step = world.step(&[intended; 3], Purpose::Policy).unwrap();
                rewards.push(step.reward);
                if step.ending != Ending::Continues {
                    break;
                }
            }
        }
        rewards
    };
    let (one, other) = (episode(0.9), episode(-0.4));
    assert_eq!(one, other);
    let mean = one.iter().sum::<f64>() / 20.0;
    // The catalogue's random return is 17.9, its deviation between episodes about 17.
    assert!((5.0..32.0).contains(&mean), "{mean}");
}

#[test]
fn a_still_hand_executes_what_was_intended() {
    let mut world = World::new("humanoid", WorldConfig::default(), Streams::new(3), "test").unwrap();
    world.reset().unwrap();
    world.step(&[1.0; 17], Purpose::Policy).unwrap();
    assert_eq!(world.executed_action_env(), [0.4f32; 17]);
    world.step(&[-7.0; 17], Purpose::Policy).unwrap();
    assert_eq!(world.executed_action_env(), [-0.4f32; 17]);
    world.step_env(&[0.9; 17], Purpose::Policy).unwrap();
    assert_eq!(world.executed_action_env(), [0.9f32; 17]);
}

#[test]
fn every_step_is_counted_once_under_its_purpose() {
    let mut world = World::new("hopper", WorldConfig::default(), Streams::new(3), "test").unwrap();
    let purposes = [
        (Purpose::Exploration, 3u64),
        (Purpose::Policy, 5),
        (Purpose::Discriminator, 7),
        (Purpose::ReplayedReset, 11),
        (Purpose::Evaluation, 13),
    ];
    world.reset().unwrap();
    let period_secs = world.task().control_period_secs;
    let mut simulated_secs = 0.0;
    for (purpose, count) in purposes {
        for _ in 0..count {
            let step = world.step(&[1.0, -1.0, 1.0], purpose).unwrap();
            if step.ending != Ending::Continues {
                simulated_secs += world.simulated_secs();
                world.reset().unwrap();
            }
        }
    }
    assert!(simulated_secs > 0.0, "an episode ended");
    simulated_secs += world.simulated_secs();
    let counts = world.counts();
    assert_eq!((counts.env_steps(), counts.env_steps_total(), counts.evaluation), (8, 26, 13));
    assert_eq!(counts.all(), (simulated_secs / period_secs).round() as u64);
    assert!(world.step(&[f32::NAN; 3], Purpose::Policy).is_err());
    assert_eq!(world.counts(), counts, "a refused step is not counted");
}

#[test]
fn demonstration_resets_restore_states_exactly_and_shorten_the_horizon() {
    let mut source = World::new("hopper", WorldConfig::default(), Streams::new(8), "source").unwrap();
    let mut episodes = vec![Vec::new(), Vec::new()];
    for episode in &mut episodes {
        source.reset().unwrap();
        loop {
            episode.push(source.reset_state());
            if source.step(&[0.0; 3], Purpose::Policy).unwrap().ending != Ending::Continues {
                break;
            }
        }
    }
    let resets = DemoResets::whole(episodes.clone(), 0.5);
    let config = WorldConfig { tremble: 0.0, demo_resets: Some(resets) };
    let mut world = World::new("hopper", config, Streams::new(4), "test").unwrap();
    let (trials, mut from_demo, mut position_in_episode) = (2000, 0, 0.0);
    for _ in 0..trials {
        world.reset().unwrap();
        let found = episodes.iter().find_map(|episode| {
            let at = episode.iter().position(|s| s.qpos == world.qpos() && s.qvel == world.qvel())?;
            Some(at as f64 / (episode.len() - 1) as f64)
        });
        if let Some(at) = found {
            from_demo += 1;
            position_in_episode += at;
        }
    }
    let four_sigma = 4.0 * (f64::from(trials) * 0.25).sqrt();
    assert!((f64::from(from_demo) - 0.5 * f64::from(trials)).abs() < four_sigma, "{from_demo} of {trials}");
    let mean = position_in_episode / f64::from(from_demo);
    assert!((mean - 0.5).abs() < 4.0 * (1.0 / 12.0 / f64::from(from_demo)).sqrt(), "mean position {mean}");

    let late = vec![ResetState { qpos: vec![1.0], qvel: vec![0.0], warmstart: None }; 151];
    let resets = DemoResets::whole(vec![late], 1.0);
    let config = WorldConfig { tremble: 0.0, demo_resets: Some(resets) };
    let mut pendulum = World::new("pendulum", config, Streams::new(4), "test").unwrap();
    for _ in 0..50 {
        pendulum.reset().unwrap();
        while pendulum.step(&[0.0], Purpose::Policy).unwrap().ending == Ending::Continues {}
        assert!((50..=200).contains(&pendulum.episode_steps()), "{} steps left", pendulum.episode_steps());
    }

    // Where steps were dropped, a state's own number counts, not its place among those that are left.
    let state = ResetState { qpos: vec![1.0], qvel: vec![0.0], warmstart: None };
    let left = [30, 170, 200].map(|step| DemoState { step, state: state.clone() }).to_vec();
    let config = WorldConfig { tremble: 0.0, demo_resets: Some(DemoResets { episodes: [left].into(), alpha: 1.0 }) };
    let mut pendulum = World::new("pendulum", config, Streams::new(4), "test").unwrap();
    let mut lengths = BTreeSet::new();
    for _ in 0..20 {
        pendulum.reset().unwrap();
        while pendulum.step(&[0.0], Purpose::Policy).unwrap().ending == Ending::Continues {}
        lengths.insert(pendulum.episode_steps());
    }
    assert_eq!(lengths, [30, 170].into(), "the state at the horizon itself is no start");
}

#[test]
fn wrong_configurations_are_refused() {
    let refused = |task: &str, tremble: f64, demo_resets: Option<DemoResets>| {
        World::new(task, WorldConfig { tremble, demo_resets }, Streams::new(0), "test").err().unwrap().to_string()
    };
    assert!(refused("hoper", 0.0, None).contains("did you mean 'hopper'"));
    assert!(refused("pendulum", 1.5, None).contains("env.tremble"));
    assert!(refused("pendulum", f64::NAN, None).contains("env.tremble"));
    let short = ResetState { qpos: vec![0.0], qvel: vec![], warmstart: None };
    let resets = DemoResets::whole(vec![vec![short]], 0.5);
    assert!(refused("hopper", 0.0, Some(resets)).contains("demonstration state 0 of episode 0 does not fit hopper"));
    let none = DemoResets::whole(Vec::new(), 0.5);
    assert!(refused("pendulum", 0.0, Some(none)).contains("without states"));
}

#[test]
fn actions_of_the_wrong_width_or_not_finite_are_refused() {
    let mut world = World::new("pendulum", WorldConfig::default(), Streams::new(0), "test").unwrap();
    world.reset().unwrap();
    assert!(world.step(&[0.0, 0.0], Purpose::Policy).unwrap_err().to_string().contains("wrong width"));
    assert!(world.step(&[f32::NAN], Purpose::Policy).unwrap_err().to_string().contains("torque"));
}

//! The tables against the models that they describe.

use super::*;

#[test]
fn widths_are_gymnasiums() {
    let widths = |id: &str| {
        let task = task(id).unwrap();
        (task.observation_width(), task.action_width())
    };
    for (id, expected) in [
        ("pendulum", (3, 1)),
        ("hopper", (11, 3)),
        ("hopper-v3", (11, 3)),
        ("walker2d", (17, 6)),
        ("half-cheetah", (17, 6)),
        ("ant", (105, 8)),
        ("ant-v4", (27, 8)),
        ("ant-v3", (111, 8)),
        ("ant-truncated", (27, 8)),
        ("humanoid", (348, 17)),
        ("humanoid-v4", (376, 17)),
        ("humanoid-v3", (376, 17)),
        ("humanoid-truncated", (45, 17)),
    ] {
        assert_eq!(widths(id), expected, "{id}");
    }
    assert_eq!(task("humanoid").unwrap().action_high(), [0.4; 17]);
}

#[test]
fn every_task_agrees_with_its_environment() {
    for id in task_ids() {
        let task = task(id).unwrap();
        let mut env = make(id).unwrap();
        env.reset(&mut crate::run::rng::Streams::new(0).stream("test")).unwrap();
        assert_eq!(env.task(), &task);
        assert_eq!(env.observation().len(), task.observation_width(), "{id}");
        let names: std::collections::BTreeSet<_> = task.observation.iter().map(|channel| &channel.name).collect();
        assert_eq!(names.len(), task.observation_width(), "{id}: a channel's name occurs twice");
        for (value, channel) in env.observation().iter().zip(&task.observation) {
            assert!(channel.low.is_none_or(|low| *value >= low) && channel.high.is_none_or(|high| *value <= high));
        }
    }
}

#[test]
fn names_and_periods_are_those_of_the_models() {
    use super::mujoco::Model;
    for (file, robot, id, frame_skip) in [
        ("hopper.xml", &robots::HOPPER, "hopper", 4.0),
        ("walker2d.xml", &robots::WALKER2D, "walker2d-v4", 4.0),
        ("walker2d_v5.xml", &robots::WALKER2D, "walker2d", 4.0),
        ("half_cheetah.xml", &robots::HALF_CHEETAH, "half-cheetah", 5.0),
        ("ant.xml", &robots::ANT, "ant", 5.0),
        ("humanoid.xml", &robots::HUMANOID, "humanoid", 5.0),
    ] {
        let model = Model::gymnasium(file).unwrap();
        let period_secs = task(id).unwrap().control_period_secs;
        assert!((period_secs - frame_skip * model.timestep_secs()).abs() < 1e-12, "{file}");
        assert_eq!(model.actuated_joints(), robot.motors, "{file}");
        for (name, known) in model.bodies()[1..].iter().zip(robot.bodies) {
            assert!(name.is_empty() || name == known, "{file}: {name} against {known}");
        }
        for (name, position, velocity) in model.joints().into_iter().filter(|(name, ..)| name != "root") {
            assert_eq!(robot.positions()[position].0, name, "{file}");
            assert_eq!(robot.velocities()[velocity].0, format!("{name}_velocity"), "{file}");
        }
    }
}

#[test]
fn a_truncated_task_shows_the_beginning_of_the_full_one() {
    for (short, full) in [("ant-truncated", "ant"), ("humanoid-truncated", "humanoid")] {
        let streams = crate::run::rng::Streams::new(7);
        let mut worlds = [short, full].map(|id| World::new(id, WorldConfig::default(), streams, "same").unwrap());
        worlds.iter_mut().for_each(|world| world.reset().unwrap());
        let action = vec![0.3; worlds[0].task().action_width()];
        let rewards = worlds.each_mut().map(|world| world.step(&action, Purpose::Policy).unwrap());
        assert_eq!(rewards[0], rewards[1]);
        assert_eq!(worlds[0].full_observation(), worlds[1].observation());
        let width = worlds[0].task().observation_width();
        assert_eq!(worlds[0].observation(), &worlds[1].observation()[..width]);
        assert_eq!(worlds[1].full_observation(), worlds[1].observation());
    }
}

/// Body and states are one, rewards differ: the same speed and cost told in three ways.
#[test]
fn the_half_cheetahs_differ_in_their_reward_alone() {
    let streams = crate::run::rng::Streams::new(7);
    let ids = ["half-cheetah", "half-cheetah-backward", "half-cheetah-speed-2"];
    let mut worlds = ids.map(|id| World::new(id, WorldConfig::default(), streams, "same").unwrap());
    worlds.iter_mut().for_each(|world| world.reset().unwrap());
    for step in 0..50 {
        let action: Vec<f32> = (0..6).map(|motor| (0.3 * (step + motor) as f32).sin()).collect();
        let [forward, backward, at_2] = worlds.each_mut().map(|world| world.step(&action, Purpose::Policy).unwrap());
        let cost = f64::from(0.1 * action.iter().map(|a| a * a).sum::<f32>());
        let speed = forward.reward + cost;
        assert!((backward.reward - (-speed - cost)).abs() < 1e-6, "{backward:?} at {speed} m/s");
        assert!((at_2.reward - (-(speed - 2.0).abs() - cost)).abs() < 1e-6, "{at_2:?} at {speed} m/s");
        assert!(worlds.iter().all(|world| world.observation() == worlds[0].observation()));
    }
    assert!(task(ids[1]).unwrap().has_channels_of(&task(ids[0]).unwrap()));
}

#[test]
fn version_three_shows_no_contact_and_pays_no_contact_cost() {
    let streams = crate::run::rng::Streams::new(7);
    for robot in ["ant", "humanoid"] {
        let ids = [format!("{robot}-v3"), format!("{robot}-v4"), robot.to_owned()];
        let mut worlds = ids.map(|id| World::new(&id, WorldConfig::default(), streams, "same").unwrap());
        worlds.iter_mut().for_each(|world| world.reset().unwrap());
        let action = vec![0.5; worlds[0].task().action_width()];
        let mut v5_contact = false;
        loop {
            let [v3, v4, v5] = worlds.each_mut().map(|world| world.step(&action, Purpose::Policy).unwrap());
            assert_eq!(v3, v4);
            let [shown_v3, _, shown_v5] = worlds.each_ref().map(|world| world.observation());
            assert!(shown_v3[shown_v3.len() - 84..].iter().all(|value| *value == 0.0));
            v5_contact |= shown_v5[shown_v5.len() - 78..].iter().any(|value| *value != 0.0);
            if v3.ending != Ending::Continues {
                break;
            }
            assert!(v5.reward <= v4.reward, "{robot}: contact costs, {v5:?} against {v4:?}");
        }
        assert!(v5_contact, "{robot} never touched the ground");
    }
}

#[test]
fn names_may_carry_the_default_version_and_slips_are_answered() {
    assert_eq!(task("hopper-v5").unwrap().id, "hopper");
    for (slip, meant) in [("hoper", "hopper"), ("walker", "walker2d"), ("halfcheetah", "half-cheetah"), ("Ant", "ant")]
    {
        let error = task(slip).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(&format!("did you mean '{meant}")), "{error}");
    }
    assert!(task("ant-truncated-v5").is_err() && task("xyz").unwrap_err().to_string().contains("hype tasks"));
}

#[test]
fn quoted_random_returns_are_reproduced() {
    for id in ["pendulum", "hopper", "hopper-v4", "walker2d", "half-cheetah-backward", "half-cheetah-speed-2"] {
        let quoted = task(id).unwrap().random_return.unwrap();
        let measured = random_return(id, RANDOM_RETURN_EPISODES, 0).unwrap();
        assert!((measured - quoted).abs() <= 0.005 + 1e-6, "{id}: {measured}, quoted {quoted}");
    }
    assert!(task_ids().into_iter().all(|id| task(id).unwrap().random_return.is_some()));
}

#[test]
fn unit_and_environment_actions_convert_both_ways() {
    let scale = ActionScale::new(&[-0.4, 0.0], &[0.4, 3.0]);
    let (mut env, mut unit) = ([0.0; 2], [0.0; 2]);
    for (from, to) in [([1.0, 1.0], [0.4, 3.0]), ([-1.0, -1.0], [-0.4, 0.0]), ([0.0, 0.0], [0.0, 1.5])] {
        scale.to_env(&from, &mut env).unwrap();
        assert_eq!(env, to);
        scale.to_unit(&env, &mut unit).unwrap();
        assert_eq!(unit, from);
    }
    assert!(scale.to_env(&[0.0], &mut env).is_err() && scale.to_unit(&[0.0; 2], &mut [0.0]).is_err());
}

#[test]
fn goals_are_the_same_in_every_version_and_layout() {
    for (one, other, same) in [
        ("ant", "ant-truncated", true),
        ("half-cheetah", "half-cheetah-v4", true),
        ("pendulum", "pendulum", true),
        ("half-cheetah", "half-cheetah-backward", false),
        ("half-cheetah", "half-cheetah-speed-2", false),
        ("hopper", "walker2d", false),
        ("hopper", "pendulum", false),
    ] {
        assert_eq!(same_goal(one, other).unwrap(), same, "{one} and {other}");
    }
}

//! Each fault of the published code is a switch, off by default, and makes the difference that it is named for.
#![allow(clippy::unwrap_used)]

mod common;

use common::{config, demonstrations, expert, game};
use serde_json::Value;
use trainer::envs;
use trainer::methods::Method;
use trainer::methods::bc::Bc;
use trainer::methods::demonstrated::Demonstrated;
use trainer::methods::hype::Hype;
use trainer::nn::Cpu;

/// `method` after `env_steps` environment steps.
fn learned(method: &str, set: &[&str], env_steps: u64) -> Hype<Cpu> {
    let mut game = game(&config(method, set), expert(), &[0]);
    while game.counts(0).env_steps() < env_steps {
        game.advance().unwrap();
    }
    game
}

fn actor(game: &Hype<Cpu>) -> Vec<f32> {
    game.networks().remove(0).actor.1
}

/// The replay buffer in a checkpoint.
fn replay(game: &Hype<Cpu>) -> Value {
    let record = serde_json::to_value(game.record().remove(0)).unwrap();
    record["learner"]["replay"].clone()
}

/// The actor after four bursts, before the discriminator's first turn, where the rows (not the pairs) are of an expert whose
/// actions are `scale` times those demonstrated.
fn of_rows(method: &str, set: &[&str], scale: f32) -> Vec<f32> {
    let mut expert = expert();
    let mut other = demonstrations().clone();
    other.actions_env.iter_mut().for_each(|action| *action *= scale);
    expert.rows = Demonstrated::new(&other, &envs::task("pendulum").unwrap()).unwrap().rows;
    let mut game = game(&config(method, set), expert, &[0]);
    (0..4).for_each(|_| drop(game.advance().unwrap()));
    actor(&game)
}

/// What makes HyPE: the learner's batches hold expert rows, with whichever learner.
#[test]
fn expert_rows_reach_the_learner_of_hype_and_not_that_of_mm() {
    for learner in ["sac", "td3-bc"] {
        // TD3+BC's cloning term apart, which takes the rows that the critic takes.
        let set = [&format!("learner={learner}"), "td3_bc.alpha=1e6"];
        assert_ne!(of_rows("hype", &set, 1.0), of_rows("hype", &set, -1.0), "{learner}");
        assert_eq!(of_rows("mm", &set, 1.0), of_rows("mm", &set, -1.0), "{learner}");
    }
}

#[test]
fn bc_reg_imitates_its_own_replay() {
    let train = |set: &[&str], scale: f32| of_rows("bc-reg", set, scale);
    let fault = ["faults.bc_reg_rows_from_replay=true"];
    assert_eq!(train(&fault, 1.0), train(&fault, -1.0), "the expert's rows do not matter");
    assert_ne!(train(&[], 1.0), train(&[], -1.0), "they do");
    assert_eq!(train(&["bc_reg.weight=0.0"], 1.0), train(&["bc_reg.weight=0.0"], -1.0));
    // With TD3+BC the fault leaves the term out.
    let mm = actor(&learned("mm", &["learner=td3-bc"], 60));
    assert_eq!(actor(&learned("bc-reg", &["learner=td3-bc", fault[0]], 60)), mm);
    assert_ne!(actor(&learned("bc-reg", &["learner=td3-bc"], 60)), mm);
}

/// An expert that always pushes with a quarter of the range: 0.5 of ±2.
#[test]
fn demonstrations_in_env_units_are_cloned_at_the_wrong_scale() {
    let mut constant = demonstrations().clone();
    constant.actions_env.fill(0.5);
    let clone = |expert: Demonstrated| {
        let config = config("bc", &["sac.hidden=[16]", "sac.batch_size=64", "sac.learning_rate=0.01"]);
        let mut bc = Bc::<Cpu>::new(&config, expert, &[0], &Default::default());
        (0..6).for_each(|_| drop(bc.advance().unwrap()));
        bc.policy(0)(demonstrations().observation(7))[0]
    };
    let right = clone(Demonstrated::new(&constant, &envs::task("pendulum").unwrap()).unwrap());
    let wrong = clone(Demonstrated::in_env_units(&constant).unwrap());
    assert!((right - 0.25).abs() < 0.06 && (wrong - 0.5).abs() < 0.06, "{right} and {wrong}");
    // In the game the discriminator's pairs are in the same wrong units.
    let fault = ["faults.demonstrations_in_env_units=true"];
    let discriminator = |game: &Hype<Cpu>| game.networks().remove(0).discriminator.unwrap().params;
    let (on, off) = (learned("mm", &fault, 200), learned("mm", &[], 200));
    assert_ne!(discriminator(&on), discriminator(&off));
    // So are the expert's rows and pairs, where the learner's rows stay in [-1, 1].
    let wrong = Demonstrated::in_env_units(&constant).unwrap();
    assert!(wrong.rows.row(3).action_unit == [0.5] && wrong.pairs.row(3)[3] == 0.5);
    let right = Demonstrated::new(&constant, &envs::task("pendulum").unwrap()).unwrap();
    assert!(right.rows.row(3).action_unit == [0.25] && right.pairs.row(3)[3] == 0.25);
}

/// Pendulum's episodes have 200 steps; one that starts in the middle of a demonstration has fewer.
#[test]
fn the_discriminators_episodes_start_in_expert_states_too() {
    let steps = |set: &[&str]| {
        let mut all = vec!["reset.probability=1.0"];
        all.extend(set);
        learned("filter", &all, 128).counts(0).discriminator
    };
    assert_eq!(steps(&[]), 200);
    assert!(steps(&["faults.rollouts_reset_too=true"]) < 200);
}

#[test]
fn hype_with_td3_bc_is_mm() {
    let half = ["learner=td3-bc", "hybrid.schedule=[[0.5, 0.5, 1]]"];
    let fault = [half[0], half[1], "faults.td3_bc_never_hybrid=true"];
    let mm = actor(&learned("mm", &["learner=td3-bc"], 60));
    assert_eq!(actor(&learned("hype", &fault, 60)), mm);
    assert_ne!(actor(&learned("hype", &half, 60)), mm);
}

/// Row 199 ends the first episode; row 200 begins the second.
#[test]
fn the_last_row_of_an_episode_holds_the_next_ones_beginning() {
    let rows = |set: &[&str]| {
        let replay = replay(&learned("mm", set, 256));
        let row = |column: &str, row: usize| replay[column].as_array().unwrap()[3 * row..][..3].to_vec();
        (row("next_observations", 199), row("observations", 200), replay["actions"].clone())
    };
    let (right, begin, actions) = rows(&[]);
    assert_ne!(right, begin);
    let (wrong, other_begin, other_actions) = rows(&["faults.next_observation_after_reset=true"]);
    assert_eq!((&wrong, &other_begin), (&begin, &begin));
    assert_eq!(actions.as_array().unwrap()[..200], other_actions.as_array().unwrap()[..200]);
}

#[test]
fn time_limits_are_stored_as_ends() {
    for learner in ["sac", "td3_bc"] {
        let choice = format!("learner={}", learner.replace('_', "-"));
        let fault = format!("{learner}.timeouts_are_terminal=true");
        let ends = |set: &[&str]| {
            let terminated = replay(&learned("mm", set, 256))["terminated"].clone();
            let terminated = terminated.as_array().unwrap().iter().map(|end| end.as_bool().unwrap());
            terminated.enumerate().filter(|(_, end)| *end).map(|(row, _)| row).collect::<Vec<_>>()
        };
        assert_eq!(ends(&[&choice]), Vec::<usize>::new());
        assert_eq!(ends(&[&choice, &fault]), [199], "{learner}");
    }
}

/// An outer iteration has 128 steps here, exploration 100.
#[test]
fn each_outer_iteration_starts_again() {
    let explored = |set: &[&str]| learned("mm", set, 384).counts(0).exploration;
    assert_eq!(explored(&[]), 100);
    assert_eq!(explored(&["sac.restarts_each_iteration=true"]), 300);
    // TD3+BC does not explore; the running episode is cut all the same.
    let first_of_second = |set: &[&str]| {
        let mut all = vec!["learner=td3-bc"];
        all.extend(set);
        let replay = replay(&learned("mm", &all, 130));
        let column = |name: &str, row: usize| replay[name].as_array().unwrap()[3 * row..][..3].to_vec();
        column("next_observations", 127) == column("observations", 128)
    };
    assert!(first_of_second(&[]));
    assert!(!first_of_second(&["td3_bc.restarts_each_iteration=true"]));
}

/// With 128 steps per iteration and bursts of 64 the sawtooth's last burst has rate 0: the policy stands still.
#[test]
fn the_sawtooth_falls_to_zero_within_an_iteration() {
    let moves = |set: &[&str]| {
        let mut game = game(&config("mm", set), expert(), &[0]);
        (0..3).for_each(|_| drop(game.advance().unwrap()));
        let before = actor(&game);
        game.advance().unwrap();
        before != actor(&game)
    };
    assert!(moves(&[]));
    assert!(!moves(&["sac.learning_rate_schedule=sawtooth"]));
    // Iterations of 100 steps are over after two bursts, the second at a rate of 1 - 128/100: the published code goes up the
    // gradient there, where a rate held at zero would stand still.
    assert!(moves(&["sac.learning_rate_schedule=sawtooth", "reward.update_every=100"]));
}

/// The paper's decay is linear over the run, the published code's harmonic; the first two turns of that are alike.
#[test]
fn the_discriminators_rate_falls_as_code_or_paper_have_it() {
    let rate = |schedule: &str, turn: u64, over: f64| {
        let reward = config("mm", &[&format!("reward.learning_rate_schedule={schedule}")]).reward.unwrap();
        reward.rate(turn, over) / reward.learning_rate
    };
    assert_eq!([0, 1, 2, 3].map(|turn| rate("harmonic", turn, 0.9)), [1.0, 1.0, 1.0 / 2.0, 1.0 / 3.0]);
    assert_eq!([0.0, 0.25, 1.0].map(|over| rate("linear", 7, over)), [1.0, 0.75, 0.0]);
    let cost = |set: &[&str]| {
        let mut all = vec!["env_steps=1000"];
        all.extend(set);
        learned("mm", &all, 512).networks().remove(0).discriminator.unwrap().params
    };
    assert_ne!(cost(&["reward.learning_rate_schedule=linear"]), cost(&[]));
}

//! HyPER on Pendulum with tiny networks: what its loop promises, piece by piece.

use super::state::Owed;
use super::{Given, GivenModel, Hyper, PIECE, Tables};
use crate::config::{Acting, Lengths, ModelRate, Overrides, Reduction, RewardSource, RunConfig, SacConfig, resolve};
use crate::error::Kind;
use crate::methods::Method;
use crate::methods::demonstrated::Demonstrated;
use crate::nn::Cpu;
use crate::world_model::model::WorldModelRecord;

const TINY: [&str; 16] = [
    "env_steps=400",
    "sac.hidden=[8]",
    "sac.batch_size=16",
    "sac.grad_steps=2",
    "sac.exploration_steps=60",
    "world_model.hidden=[8]",
    "world_model.members=3",
    "world_model.elites=3",
    "world_model.batch_size=4096",
    "world_model.max_batches=3",
    "world_model.fit_every=20",
    "imagination.starts_per_step=5",
    "reward.hidden=[8]",
    "reward.members=2",
    "reward.update_every=70",
    "reward.rollout_episodes=1",
];

fn configured(profile: &str, more: &[&str]) -> RunConfig {
    let set = TINY.iter().chain(more).map(|s| (*s).to_string()).collect();
    let overrides = Overrides { preset: Some(profile.into()), set, seeds: Some(vec![3]), ..Overrides::default() };
    resolve("hyper", "pendulum", &overrides).unwrap()
}

fn hyper_of(config: &RunConfig) -> Hyper<Cpu> {
    hyper_given(config, Given::default())
}

fn hyper_given(config: &RunConfig, given: Given) -> Hyper<Cpu> {
    let tables = Tables {
        world_model: config.world_model.clone().unwrap(),
        imagination: config.imagination.clone().unwrap(),
        hyper: config.hyper.clone().unwrap(),
        reward: config.reward.clone().unwrap(),
    };
    let mut expert = Demonstrated::made_up(|x| 0.9 * x + 0.05);
    if tables.imagination.reward == RewardSource::Task {
        expert.rows.set_task_rewards(&[0.5; 200]);
    }
    Hyper::new(config, tables, expert, given, &[3], &Default::default()).unwrap()
}

fn hyper(more: &[&str]) -> Hyper<Cpu> {
    hyper_of(&configured("fixed", more))
}

/// A fresh run that begins with `record`.
fn begun_with(record: WorldModelRecord, same_task: bool, more: &[&str]) -> Hyper<Cpu> {
    hyper_given(&configured("fixed", more), Given { model: Some(GivenModel { record, same_task }), reward: None })
}

/// Until the first imagination, and no further.
fn until_imagined(hyper: &mut Hyper<Cpu>) {
    while hyper.progress.owed != Owed::Imagination {
        hyper.advance().unwrap();
    }
    hyper.imagine().unwrap();
}

/// The simulator in the model's place: every step that is kept is one of the pendulum's, and nothing is fitted.
#[test]
fn a_perfect_model_is_the_simulator() {
    let mut hyper =
        hyper(&["imagination.dynamics=simulator", "imagination.reward=task", "imagination.out_of_bounds=keep"]);
    until_imagined(&mut hyper);
    assert_eq!(hyper.progress.fit, None);
    let rows = &hyper.buffers.to_train_policy;
    assert!(rows.len() >= 100);
    for row in (0..rows.len()).step_by(7).map(|row| rows.row(row)) {
        let [cosine, sine, speed] = row.observation.try_into().unwrap();
        let (angle, torque) = (f32::atan2(sine, cosine), 2.0 * row.action_unit[0]);
        // Gymnasium's pendulum.py: g 10, m 1, l 1, 0.05 s.
        let next = (speed + 0.05 * (15.0 * f32::sin(angle) + 3.0 * torque)).clamp(-8.0, 8.0);
        assert!((row.next_observation[2] - next).abs() < 1e-4, "{} for {next}", row.next_observation[2]);
        let cost = angle.powi(2) + 0.1 * speed.powi(2) + 0.001 * torque.powi(2);
        assert!((row.task_reward + cost).abs() < 1e-4, "{} for -{cost}", row.task_reward);
    }
}

/// The first step after exploration is the average's, and so are the discriminator's episodes; the learner's own actor is elsewhere.
#[test]
fn the_average_acts() {
    let mut hyper = hyper(&["hyper.ema=true", "hyper.acting=mean", "sac.learning_rate=0.1"]);
    while hyper.progress.env_steps < 100 || hyper.progress.owed != Owed::Nothing || hyper.progress.needs_reset {
        hyper.advance().unwrap();
    }
    let before = hyper.world.observation().to_vec();
    let averaged = hyper.ema.as_ref().unwrap().actor().act(&before, None);
    let own = hyper.policy.policies()[0].act(&before, None);
    assert!((averaged[0] - own[0]).abs() > 1e-3, "{averaged:?}, {own:?}");
    let steps = hyper.progress.env_steps as usize;
    hyper.act().unwrap();
    let stored = hyper.buffers.to_start_from_policy.row(steps);
    assert_eq!((stored.observation, stored.action_unit), (&before[..], &averaged[..]));

    let (played, average) = (hyper.rollout_current_policy().unwrap(), hyper.ema.as_ref().unwrap().actor().clone());
    let pairs: Vec<&[f32]> = played.values.chunks(played.width).collect();
    assert_eq!(pairs.len(), 200);
    for pair in pairs {
        assert_eq!(pair[3..], average.act(&pair[..3], None)[..]);
    }
}

/// A model that is handed over is the one that the run begins with; of another task's, its reward is not.
#[test]
fn the_given_model_is_begun_with() {
    let task = ["imagination.reward=task", "world_model.improvement=0.0", "world_model.learning_rate=0.01"];
    let mut first = hyper(&task);
    until_imagined(&mut first);
    let learned = first.model.params();
    let fresh = hyper(&task).model.params();
    assert!(fresh != learned);
    assert!(begun_with(first.model.record(), true, &task).model.params() == learned);
    let dynamics = begun_with(first.model.record(), false, &task).model;
    let of_reward = dynamics.parts_of_reward();
    let params = dynamics.params();
    for (place, value) in params.iter().enumerate() {
        assert_eq!(*value, if of_reward.contains(&place) { fresh[place] } else { learned[place] });
    }
}

/// A hundred rollouts of one step at a time, three times in an epoch of 50 real steps: 600 imagined steps in two epochs.
#[test]
fn imagined_steps_are_forgotten_after_their_epochs() {
    let mut hyper = hyper(&["imagination.epoch_steps=50", "imagination.epochs_retained=2"]);
    until_imagined(&mut hyper);
    let mut held = vec![hyper.buffers.to_train_policy.len()];
    for _ in 0..7 {
        hyper.imagine().unwrap();
        held.push(hyper.buffers.to_train_policy.len());
    }
    assert_eq!(held, [100, 200, 300, 400, 500, 600, 600, 600]);
}

/// A quarter of each batch is rows that the pendulum gave, behind the imagined ones; their stored reward is the task's where the
/// model learns it, and no penalty where the discriminator gives it. Without them every draw is as it was.
#[test]
fn real_rows_come_into_each_batch() {
    for (reward, plays) in [("discriminator", true), ("task", false)] {
        let more = [format!("imagination.reward={reward}"), "imagination.pessimism=0.7".into()];
        let mut hyper = hyper(&more.each_ref().map(String::as_str));
        until_imagined(&mut hyper);
        let stream = hyper.draws.rows.clone();
        let (plain, _) = hyper.draw_rows(2);
        hyper.tables.imagination.real_ratio = 0.25;
        hyper.draws.rows = stream;
        let (rows, sizes) = hyper.draw_rows(2);
        assert_eq!(sizes, [16, 16]);
        assert_eq!(rows.observations[..12 * 3], plain.observations[..12 * 3]);
        let real = &hyper.buffers.to_start_from_policy;
        for (row, next) in rows.next_observations.chunks(3).enumerate() {
            let origin = (0..real.len()).map(|row| real.row(row)).find(|step| step.next_observation == next);
            assert_eq!(origin.is_some(), row % 16 >= 12, "row {row}");
            if let Some(step) = origin {
                assert_eq!(rows.task_rewards[row], if plays { 0.0 } else { step.task_reward });
            } else {
                assert!(rows.task_rewards[row] != 0.0 && rows.task_rewards[row].is_finite());
            }
        }
    }
}

/// The penalty is subtracted: λ times the elites' disagreement, from nothing where the reward is learned.
#[test]
fn doubt_is_subtracted() {
    let (mut trusting, mut doubting) = (hyper(&[]), hyper(&["imagination.pessimism=0.7"]));
    until_imagined(&mut trusting);
    until_imagined(&mut doubting);
    let rows = doubting.buffers.to_train_policy.clone();
    assert!(rows.len() >= 100 && rows.len() == trusting.buffers.to_train_policy.len());
    for row in 0..rows.len() {
        let (step, plain) = (rows.row(row), trusting.buffers.to_train_policy.row(row));
        assert_eq!(step.observation, plain.observation);
        let doubt = doubting.model.disagreement(step.observation, step.action_unit)[0];
        assert!(doubt > 0.0 && (step.task_reward + 0.7 * doubt).abs() < 1e-5, "{} for {doubt}", step.task_reward);
        assert!(plain.task_reward.is_nan(), "a learned reward is not stored");
    }
}

#[test]
fn pieces_end_at_the_same_steps_however_fits_and_games_fall() {
    let mut hyper = hyper(&[]);
    let (mut ends, mut unfinished, mut games) = (Vec::new(), 0, 0);
    while hyper.progress.env_steps < 400 {
        let report = hyper.advance().unwrap()[0];
        games += usize::from(report.discriminator.is_some());
        if report.unfinished {
            unfinished += 1;
            assert_eq!(report.discriminator, None);
            // The call that ends a fit has nothing under way any more.
            assert_eq!(report.fitting.map(|fit| fit.epochs), [None, Some(1), Some(2)][unfinished % 3]);
            assert!(report.fitting.is_none_or(|fit| fit.error > 0.0));
        } else if report.discriminator.is_none() {
            ends.push(report.env_steps);
        }
    }
    // Fits of three epochs follow the steps 80, 100, … 380; the 35th step of learning, and every 35th from there, ends an iteration.
    assert_eq!(unfinished, 3 * 16);
    assert!(games >= 8, "{games}");
    assert!(ends.iter().all(|end| end.is_multiple_of(PIECE)) && ends.len() >= 12, "{ends:?}");
}

/// Without a game a sawtooth has teeth all the same: the rate comes back.
#[test]
fn iterations_go_on_without_a_game() {
    let mut hyper = hyper(&["imagination.reward=task", "sac.learning_rate_schedule=sawtooth"]);
    let mut rates = Vec::new();
    while hyper.progress.env_steps < 400 {
        hyper.advance().unwrap();
        rates.push(hyper.learning_rate() / 3e-4);
    }
    assert!(hyper.progress.iteration >= 8);
    assert!(rates.iter().skip(10).any(|rate| *rate > 0.5), "{rates:?}");
    assert_eq!(hyper.counts(0).discriminator, 0);
}

/// A world that cannot be imagined in stops the run, again and again, and nothing is half stored.
#[test]
fn imagination_fails_as_a_whole() {
    let mut hyper = hyper(&["world_model.mean_noise=1e39", "imagination.out_of_bounds=keep"]);
    let error = loop {
        match hyper.advance() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::Diverged, "{error}");
    assert_eq!((hyper.progress.owed, hyper.progress.env_steps), (Owed::Imagination, 80));
    assert!(hyper.buffers.to_train_policy.is_empty() && hyper.networks()[0].are_finite());
    let before = (hyper.model.record(), hyper.draws.clone());
    assert!(hyper.advance().is_err());
    assert!((hyper.model.record(), hyper.draws.clone()) == before);
}

/// Gradient steps until the episode after exploration ends: two a step once there is something to learn from, from step 80 on.
const AT_AN_END: u64 = 2 * (200 - 80 + 1);

/// The published fault: the real episode is cut short by the discriminator's, and a step is stored that never was.
#[test]
fn one_world_for_everything_stores_a_step_that_never_was() {
    for (fault, update_every, bogus) in [(false, 70, 0), (true, 70, 1), (true, AT_AN_END, 0)] {
        let set = [format!("faults.rollouts_in_training_world={fault}"), format!("reward.update_every={update_every}")];
        let mut hyper = hyper(&[&set[0], &set[1]]);
        while hyper.progress.iteration < 1 {
            hyper.advance().unwrap();
        }
        let steps = hyper.progress.env_steps;
        assert_eq!(steps.is_multiple_of(200), update_every == AT_AN_END, "{steps}");
        hyper.advance().unwrap();
        let stored = &hyper.buffers.to_start_from_policy;
        // Velocities change by 8 rad/s² · 0.05 s and gravity's 0.75 rad/s a step at most; angles by what velocities allow.
        let jumps = |row: usize| {
            let step = stored.row(row);
            let angle = |o: &[f32]| o[1].atan2(o[0]);
            let turned = angle(step.next_observation) - angle(step.observation);
            let turned = turned.sin().atan2(turned.cos());
            (turned - 0.05 * step.next_observation[2]).abs() > 0.02
        };
        let jumped: Vec<usize> = (0..stored.len()).filter(|row| jumps(*row)).collect();
        assert_eq!(jumped.len(), bogus, "{jumped:?} of {}", stored.len());
        assert!(jumped.iter().all(|row| *row as u64 == steps), "{jumped:?}, after {steps} steps");
        assert_eq!(hyper.counts(0).discriminator, 200, "counted in both");
    }
}

/// `--disc-from policy-buffer`: the policy's steps since the last update, an episode's worth at least; random ones are not its own.
#[test]
fn the_policys_own_newest_steps_stand_for_its_episodes() {
    let mut hyper = hyper(&["hyper.pairs=policy-buffer", "sac.exploration_steps=150", "reward.update_every=600"]);
    while hyper.progress.env_steps < 150 {
        hyper.advance().unwrap();
    }
    let learning = hyper.progress.env_steps;
    while hyper.progress.env_steps < 400 {
        hyper.advance().unwrap();
        assert_eq!(hyper.progress.iteration, 0, "the turn comes after 300 steps of learning");
    }
    assert!(learning < 200, "{learning}");
    let found = hyper.rollout_current_policy().unwrap();
    let steps = &hyper.buffers.to_start_from_policy;
    assert!(found.len() > 200 && found.len() as u64 <= 400 - 150, "{} pairs, an episode has 200 steps", found.len());
    for (age, place) in steps.newest(found.len()).enumerate() {
        let step = steps.row(place);
        assert_eq!(found.row(age), [step.observation, step.action_unit].concat(), "the step {age} before the newest");
    }
    assert_eq!(hyper.counts(0).discriminator, 0, "nothing is played for it");
}

/// A turn that comes before an episode's worth of the policy's own steps makes do with those that there are.
#[test]
fn random_steps_do_not_stand_for_the_policys_episodes() {
    let mut hyper = hyper(&["hyper.pairs=policy-buffer", "sac.exploration_steps=150", "reward.update_every=80"]);
    while hyper.progress.iteration == 0 {
        hyper.advance().unwrap();
    }
    let own = hyper.progress.env_steps - 150;
    assert!(own < 100, "{own} steps of its own, where an episode has 200");
    assert_eq!(hyper.rollout_current_policy().unwrap().len() as u64, own);
}

/// Spec 4.4: the window begins to slide when learning does.
#[test]
fn exploration_is_not_part_of_the_windows_way() {
    let mut hyper = hyper(&[]);
    while hyper.progress.env_steps < 60 {
        hyper.advance().unwrap();
    }
    assert!(hyper.progress.env_steps <= 75);
    assert!(hyper.learned_share() < 0.05, "{}", hyper.learned_share());
    while hyper.progress.env_steps < 400 {
        hyper.advance().unwrap();
    }
    assert_eq!(hyper.learned_share(), 1.0);
}

/// Spec sections 4 and 7: where the published code, and what is right, part.
#[test]
fn profiles_are_those_of_the_sources() {
    let of = |task: &str, profile: &str| {
        let overrides = Overrides { preset: Some(profile.into()), seeds: Some(vec![0]), ..Overrides::default() };
        resolve("hyper", task, &overrides).unwrap()
    };
    for task in ["hopper", "walker2d", "ant", "humanoid"] {
        let (fixed, code) = (of(task, "fixed"), of(task, "code"));
        let (model, published) = (fixed.world_model.unwrap(), code.world_model.unwrap());
        assert_eq!((model.members, model.elites, model.fit_every, model.patience), (7, 5, 125, 10), "{task}");
        assert!(model.pinned_demonstrations && !published.pinned_demonstrations, "{task}: 7.17");
        assert!(!fixed.faults.rollouts_in_training_world && code.faults.rollouts_in_training_world, "{task}: 7.6");
        let averages = ["walker2d", "humanoid"].contains(&task);
        assert_eq!(fixed.hyper.unwrap().ema, averages, "{task}: 7.8");
        let restarts = code.hyper.unwrap();
        assert_eq!((restarts.ema, restarts.restarts_optimizers), (false, averages), "{task}: 7.8, 7.11");
        let reward = fixed.reward.unwrap();
        assert_eq!((reward.reduction, reward.members), (Reduction::Min, 7), "{task}: 7.9");
        let explores = if task == "walker2d" { 1_000 } else { 64_000 };
        assert_eq!(of(task, "paper").sac.exploration_steps, explores, "{task}: 7.13");
        let expected = match task {
            "walker2d" => [ModelRate::Cosine, ModelRate::PeriodicCosine],
            _ => [ModelRate::Constant; 2],
        };
        assert_eq!([model.learning_rate_schedule, published.learning_rate_schedule], expected, "{task}: 7.15");
    }
    let update_every = |task: &str, profile: &str| of(task, profile).reward.unwrap().update_every;
    assert_eq!(["hopper", "ant"].map(|task| update_every(task, "fixed")), [30_000, 6_000]);
    assert_eq!(["hopper", "ant"].map(|task| update_every(task, "paper")), [2_000, 10_000]);
    let small = of("hopper", "small");
    assert_eq!((small.sac.hidden, small.sac.grad_steps), (vec![256, 256], 20));
    assert_eq!(small.world_model.unwrap().hidden, [200; 4]);
    let imagined = |task: &str, profile: &str| {
        let imagination = of(task, profile).imagination.unwrap();
        (imagination.starts_per_step, imagination.lengths)
    };
    assert_eq!(imagined("hopper", "fixed"), (400, Lengths(20, 100, 1, 25)));
    assert_eq!(imagined("hopper", "small"), (50, Lengths(1, 2, 8, 8)), "as many imagined steps");
    assert_eq!(imagined("ant", "small"), imagined("ant", "fixed"));
    for task in ["half-cheetah", "half-cheetah-backward", "half-cheetah-speed-2"] {
        let (small, fixed) = (of(task, "small"), of(task, "fixed"));
        let (hype, acts) = (resolve("hype", task, &Overrides::default()).unwrap().sac, small.hyper.unwrap().acting);
        let critic = |sac: &SacConfig| (sac.discount, sac.polyak_rate, sac.target_every, sac.learning_rate);
        assert_eq!(critic(&small.sac), critic(&hype), "{task}: HyPE's learner");
        assert_eq!((small.sac.exploration_steps, fixed.sac.exploration_steps), (5_000, 1_000), "{task}");
        assert_eq!((acts, small.hybrid.schedule.len()), (Acting::Sample, 1), "{task}");
        assert_eq!(small.reward.unwrap().update_every / small.sac.grad_steps, 500, "{task}: real steps a turn");
        assert_eq!(imagined(task, "small"), imagined(task, "fixed"), "{task}");
    }
}

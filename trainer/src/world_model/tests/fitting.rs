//! Fits: when they end, what they keep, how they go on, and what another run takes over.

use super::{linear_data, linear_data_around, model, rows, small};
use crate::config::WorldModelConfig;
use crate::error::Kind;
use crate::nn::Cpu;
use crate::nn::optimizer::values;
use crate::replay::{ReplayBuffer, Transition};
use crate::run::rng::Streams;
use crate::world_model::dynamics::Dynamics;
use crate::world_model::model::WorldModel;
use crate::world_model::normalizer::Normalizer;
use std::collections::HashSet;

#[test]
fn elites_are_the_members_with_the_least_errors() {
    let data = linear_data(600, 6);
    let mut world = model(&WorldModelConfig { max_batches: Some(6), ..small() }, &data);
    // The third member begins far away, and three epochs do not bring it back.
    world.spoil(2, 10.0);
    world.whole_fit(&data).unwrap();
    let mut elites = world.elites().to_vec();
    elites.sort_unstable();
    assert_eq!(elites, [0, 1, 3]);
}

#[test]
fn a_fit_ends_with_the_epoch_that_reaches_its_batches() {
    // 480 rows are two batches of 256.
    let data = linear_data(600, 6);
    let of = |most: u64| WorldModelConfig { max_batches: Some(most), batch_size: 256, improvement: 0.0, ..small() };
    for (most, epochs) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
        let found = model(&of(most), &data).whole_fit(&data).unwrap();
        assert_eq!((found.model_epochs, found.model_steps), (epochs, 2 * epochs), "at most {most}");
    }
}

/// Of few rows an epoch is too short to tell: there patience is counted in batches.
#[test]
fn patience_lasts_for_its_epochs_and_its_batches() {
    // 480 rows are two batches of 256; a step of nothing improves nothing.
    let data = linear_data(600, 6);
    let still = WorldModelConfig { patience: 3, batch_size: 256, learning_rate: 1e-30, ..small() };
    for (least, epochs) in [(0, 3), (6, 3), (7, 4), (100, 50)] {
        let config = WorldModelConfig { patience_batches: least, ..still.clone() };
        assert_eq!(model(&config, &data).whole_fit(&data).unwrap().model_epochs, epochs, "at least {least}");
    }
}

/// A fit that improves nothing by as much as is asked for is kept: what is new is learned, however little it gains.
#[test]
fn a_fit_without_improvement_is_not_undone() {
    let data = linear_data(400, 7);
    let of = |learning_rate, max_batches| {
        let config = WorldModelConfig {
            improvement: 0.9999,
            patience: 2,
            batch_size: 320,
            learning_rate,
            max_batches,
            ..small()
        };
        let mut world = model(&config, &data);
        let found = world.whole_fit(&data).unwrap();
        (found, world.params())
    };
    let (found, after) = of(3e-3, None);
    let (one, after_one) = of(3e-3, Some(1));
    let (still, before) = of(0.0, Some(1));
    assert_eq!([found.model_epochs, one.model_epochs], [2, 1], "patience");
    assert!(after != after_one && after_one != before, "each epoch's are kept");
    assert!(found.model_error < one.model_error && one.model_error < still.model_error, "{found:?} {one:?} {still:?}");
}

/// What improved is what is kept: epochs after it that improve no member by as much leave no trace in the parameters.
#[test]
fn a_fit_ends_with_its_best_epoch() {
    let data = linear_data(2000, 7);
    let of = |improvement, patience, max_batches| {
        let config =
            WorldModelConfig { improvement, patience, patience_batches: 0, batch_size: 16, max_batches, ..small() };
        let mut world = model(&config, &data);
        let found = world.whole_fit(&data).unwrap();
        (found.model_epochs, world.params())
    };
    // An epoch is 100 batches. The first takes the errors down by more than half, the two after it do not.
    let [(epochs, best), (_, first), (_, third)] = [of(0.5, 2, None), of(0.5, 2, Some(100)), of(0.0, 9, Some(300))];
    assert_eq!(epochs, 3, "one, and patience");
    assert!(best == first && best != third);
}

#[test]
fn fits_go_on_from_one_to_the_next() {
    let data = linear_data(400, 7);
    let mut patient = model(&WorldModelConfig { patience: 3, ..small() }, &data);
    let first = patient.whole_fit(&data).unwrap();
    let second = patient.whole_fit(&data).unwrap();
    assert!(second.model_error < 1.3 * first.model_error, "{first:?}, then {second:?}");
    assert!(second.model_steps > first.model_steps, "optimiser and schedule go on from fit to fit");
}

#[test]
fn a_fit_continues_bit_for_bit_from_its_record() {
    let data = linear_data(300, 8);
    let config = WorldModelConfig { patience: 1, ..small() };
    let mut world = model(&config, &data);
    world.whole_fit(&data).unwrap();
    let saved = postcard::to_stdvec(&world.record()).unwrap();
    let mut other = model(&config, &data);
    other.restore(postcard::from_bytes(&saved).unwrap()).unwrap();
    for world in [&mut world, &mut other] {
        world.whole_fit(&data).unwrap();
    }
    assert!(world.record() == other.record());
    let step = |world: &mut WorldModel<Cpu>| world.step(&[0.1; 14], &[0.2; 7]).unwrap();
    assert_eq!(step(&mut world), step(&mut other));
}

#[test]
fn a_fit_goes_on_from_its_record() {
    let data = linear_data(300, 8);
    let config = WorldModelConfig { patience: 2, ..small() };
    let [mut stopped, mut undisturbed] = [model(&config, &data), model(&config, &data)];
    assert!(!stopped.record().is_fitted());
    for _ in 0..3 {
        assert_eq!(stopped.fit(&data).unwrap(), None, "an epoch each time");
    }
    let record = stopped.record();
    assert!(!record.is_fitted(), "a first fit under way is none yet");
    let mut resumed = model(&config, &data);
    resumed.restore(record).unwrap();
    assert_eq!(resumed.whole_fit(&data).unwrap(), undisturbed.whole_fit(&data).unwrap());
    assert!(resumed.record() == undisturbed.record() && resumed.record().is_fitted());
}

#[test]
fn a_diverging_fit_is_an_error_and_changes_nothing() {
    let data = linear_data(300, 9);
    let mut rows = ReplayBuffer::new(1, 2, 1);
    rows.push(Transition {
        observation: &[0.0, 0.0],
        action_unit: &[0.0],
        task_reward: 1.0,
        next_observation: &[f32::MAX, -f32::MAX],
        terminated: false,
    });
    let mut poisoned = data.clone();
    (0..50).for_each(|_| poisoned.push_real(rows.row(0), &rows, &mut Streams::new(0).stream("test")));
    let mut world = model(&WorldModelConfig { patience: 1, ..small() }, &data);
    world.whole_fit(&data).unwrap();
    let before = world.record();
    let error = world.whole_fit(&poisoned).unwrap_err();
    assert!(error.kind() == Kind::Diverged && error.to_string().contains("mean_clip"), "{error}");
    assert!(world.record() == before);
}

/// Another run's dynamics are taken over with their units, not with its optimiser's settings.
#[test]
fn a_model_begins_where_another_ended() {
    let (data, others) = (linear_data(600, 5), linear_data(300, 6));
    let brief = WorldModelConfig { max_batches: Some(6), improvement: 0.0, ..small() };
    let mut first = model(&WorldModelConfig { weight_decay: 1e-3, ..brief.clone() }, &data);
    first.fit(&data).unwrap();
    let untrained = first.record();
    let found = first.whole_fit(&data).unwrap();
    let config = WorldModelConfig { from: Some("run".into()), ..brief };
    let mut second = model(&config, &data);
    assert!(second.params() != first.params());
    second.begin_with(first.record(), true).unwrap();
    assert!(second.params() == first.params() && second.elites() == first.elites());
    assert!(second.record().is_fitted(), "taken over is learned, too");
    let again = second.whole_fit(&others).unwrap();
    assert!(second.params() != first.params() && again.model_error < found.model_error, "{again:?} after {found:?}");
    let mut undecayed = model(&config, &data);
    undecayed.begin_with(first.record(), true).unwrap();
    undecayed.whole_fit(&others).unwrap();
    assert!(second.params() == undecayed.params());
    let mut decayed = model(&WorldModelConfig { weight_decay: 1e-3, ..config.clone() }, &data);
    decayed.begin_with(first.record(), true).unwrap();
    decayed.whole_fit(&others).unwrap();
    assert!(second.params() != decayed.params(), "the weight decay is its own");
    let far = linear_data_around(3.0, 300, 6);
    assert!(Normalizer::fit(far.inputs(), 3) != *first.normalizer());
    second.whole_fit(&far).unwrap();
    assert!(second.normalizer() == first.normalizer(), "the units stay, whatever the data");
    // A run that was in the middle of its first fit hands on what it had before: here the initial model.
    let mut third = model(&config, &data);
    assert!(!untrained.is_fitted());
    third.begin_with(untrained, true).unwrap();
    assert!(third.params() == model(&small(), &data).params());
}

/// Of a run of another task the dynamics are taken over, and nothing of its reward.
#[test]
fn another_tasks_reward_is_not_taken_over() {
    let data = linear_data(600, 5);
    let config = WorldModelConfig { members: 2, elites: 1, max_batches: Some(6), ..small() };
    let mut first = model(&config, &data);
    first.whole_fit(&data).unwrap();
    let fresh = model(&config, &data);
    let mut second = model(&config, &data);
    second.begin_with(first.record(), false).unwrap();
    let points = || rows(vec![0.5, -1.0, 0.2, -0.3, 0.8, -0.9], [1, 2, 3]);
    let [said_first, said_second] = [&first, &second].map(|model| {
        let (means, log_variances) = model.predict(points());
        [values(means), values(log_variances)].concat()
    });
    for (index, (first, second)) in said_first.iter().zip(&said_second).enumerate() {
        assert_eq!(first == second, index % 3 < 2, "two of the state, one of the reward: {first}, {second}");
    }
    let of_reward: HashSet<usize> = second.parts_of_reward().into_iter().collect();
    assert_eq!(of_reward.len(), 2 * 2 * (32 + 1), "two members' means and variances");
    let (first, fresh) = (first.params(), fresh.params());
    for (place, value) in second.params().into_iter().enumerate() {
        assert_eq!(value, if of_reward.contains(&place) { fresh[place] } else { first[place] });
    }
    second.whole_fit(&data).unwrap();
}

//! The discriminator on games whose solution is known.

use super::discriminator::{Discriminator, Pairs, Turn, cost};
use super::{Origin, Reward};
use crate::config::{Reduction, RewardConfig, TurnRate};
use crate::learners::Batch;
use crate::learners::block::Block;
use crate::nn::Cpu;
use crate::nn::mlp;
use crate::nn::optimizer::values;
use crate::replay::Rows;
use crate::run::rng::Streams;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};

fn config(hidden: Vec<usize>) -> RewardConfig {
    RewardConfig {
        hidden,
        members: 1,
        reduction: Reduction::Min,
        clip: None,
        learning_rate: 8e-4,
        learning_rate_schedule: TurnRate::Harmonic,
        weight_decay: 0.0,
        batch_size: 64,
        grad_steps: 1,
        gradient_penalty: 10.0,
        gradient_target: 0.4,
        update_every: 1,
        rollout_episodes: 1,
        absorbing: false,
        normalized: false,
        from: None,
    }
}

fn turn(number: u64) -> Turn {
    Turn { number, over: 0.0 }
}

fn pairs(points: &[[f32; 3]]) -> Pairs {
    let mut pairs = Pairs::new(3);
    points.iter().for_each(|p| pairs.push(&p[..2], &p[2..]));
    pairs
}

/// For a linear cost and means that differ by δ, d = |δ|, the minimiser is `w* = -(0.4 + d/20) δ/d`
/// (the stationary point of `wᵀδ + 10 (|w| - 0.4)²`).
#[test]
fn a_linear_cost_finds_the_closed_form() {
    let config = RewardConfig { grad_steps: 4000, learning_rate: 1e-3, ..config(vec![]) };
    let mut game = Discriminator::<Cpu>::new(&config, 3, &[Streams::new(1)], &Default::default());
    let metrics = game.ascend(&pairs(&[[0.6, 0.0, 0.8]]), &[pairs(&[[0.0, 0.0, 0.0]])], turn(0)).remove(0);
    let (_, params) = game.networks().remove(0);
    for (w, expected) in params.iter().zip([-0.45 * 0.6, 0.0, -0.45 * 0.8]) {
        assert!((w - expected).abs() < 5e-3, "{params:?}");
    }
    assert!((metrics.disc_loss - (-0.4 - 1.0 / 40.0)).abs() < 1e-3, "loss {}", metrics.disc_loss);
    assert!((metrics.disc_grad_norm - 0.45).abs() < 2e-3);
}

#[test]
fn one_step_widens_the_gap_and_twenty_double_it() {
    let mut game = Discriminator::<Cpu>::new(&config(vec![32, 32]), 3, &[Streams::new(2)], &Default::default());
    let expert = pairs(&[[1.0, 0.0, 0.5], [0.8, 0.1, 0.4]]);
    let learner = [pairs(&[[-1.0, 0.0, -0.5], [-0.8, -0.1, -0.4]])];
    let gaps: Vec<f64> = (0..20).map(|turns| game.ascend(&expert, &learner, turn(turns))[0].disc_gap).collect();
    assert!(gaps[0] > 0.0 && gaps[1] > 1.1 * gaps[0] && gaps[19] > 2.0 * gaps[0], "{gaps:?}");
}

/// Where learner and expert are of one distribution there is nothing to learn: the gap stays within what sampling explains, and
/// grows where they differ.
#[test]
fn equals_are_not_told_apart() {
    let drawn = |shift: f32, stream: &str| {
        let mut rng = Streams::new(4).stream(stream);
        let mut normal = || rng.normal() as f32;
        pairs(&(0..2000).map(|_| [shift + normal(), normal(), normal()]).collect::<Vec<_>>())
    };
    let gap = |shift: f32| {
        let config = RewardConfig { batch_size: 1000, ..config(vec![32, 32]) };
        let mut game = Discriminator::<Cpu>::new(&config, 3, &[Streams::new(2)], &Default::default());
        let (expert, learner) = (drawn(0.0, "expert"), [drawn(shift, "learner")]);
        let gaps: Vec<f64> = (0..40).map(|_| game.ascend(&expert, &learner, turn(0))[0].disc_gap).collect();
        gaps[20..].iter().sum::<f64>() / 20.0
    };
    let (equals, others) = (gap(0.0), gap(1.0));
    assert!(equals.abs() < 0.05 && others > 0.25, "{equals} and {others}");
}

/// A learner that falls where the expert does not: what comes after the fall gets the dearest of all, and a step into it is worth
/// the step's own reward and that cost for ever.
#[test]
fn an_end_that_the_expert_never_sees_is_dear() {
    let discount = 0.9;
    let mut expert = Pairs::with_end(3);
    let mut learner = Pairs::with_end(3);
    for step in 0..200 {
        let at = step as f32 / 200.0;
        expert.push(&[at, 1.0], &[0.1]);
        learner.push(&[at, 0.8], &[0.0]);
    }
    learner.push_end(600);
    assert_eq!((learner.len(), learner.row(200)), (800, &[0.0, 0.0, 0.0, 1.0][..]));
    let config = RewardConfig { learning_rate: 8e-3, ..config(vec![32, 32]) };
    let fresh = Discriminator::<Cpu>::new(&config, 4, &[Streams::new(2)], &Default::default());
    let mut game = fresh.knows_the_end(discount);
    (0..40).for_each(|iteration| drop(game.ascend(&expert, &[learner.clone()], turn(iteration))));

    let column = |values: [f32; 2]| Tensor::<Flex, 3>::from_data([[[values[0]], [values[1]]]], &Default::default());
    let observation = Tensor::<Flex, 3>::from_data([[[0.5, 0.8], [0.5, 0.8]]], &Default::default());
    let batch = Batch {
        observation: observation.clone(),
        action: column([0.0, 0.0]),
        reward: column([f32::NAN, f32::NAN]),
        next_observation: observation.clone(),
        continues: column([1.0, 0.0]),
    };
    let labelled = values(Reward::Learned(&game).label(batch.clone()).reward);
    let own = values(game.reward(batch.observation, batch.action))[0];
    assert_eq!(labelled[0], own);
    let end = f64::from(labelled[1] - own) / (discount / (1.0 - discount));
    assert!(end < f64::from(own) - 0.1, "a step after the end earns {end}, one before it {own}");

    // What is exported is the same reward of true pairs, without the column.
    let (spec, params) = game.networks().remove(0);
    assert_eq!(spec.inputs(), 3);
    let pair = Tensor::<Flex, 3>::from_data([[[0.5, 0.8, 0.0]]], &Default::default());
    let params = Tensor::<Flex, 1>::from_data(TensorData::new(params.clone(), [params.len()]), &Default::default());
    let exported = -values(mlp::forward(&spec, pair, params))[0];
    assert!((exported - own).abs() < 1e-6, "{exported} and {own}");
}

/// A fresh Optimistic Adam moves every weight by twice the learning rate: `lr0, lr0, lr0/2, lr0/3, …`.
#[test]
fn each_iteration_is_a_sign_step_of_the_decayed_rate() {
    let mut game = Discriminator::<Cpu>::new(&config(vec![]), 3, &[Streams::new(3)], &Default::default());
    let (expert, learner) = (pairs(&[[0.6, 0.1, 0.8]]), [pairs(&[[-0.2, 0.3, 0.0]])]);
    for (iteration, share) in [(0, 1.0), (1, 1.0), (2, 0.5), (3, 1.0 / 3.0)] {
        let before = game.networks().remove(0).1;
        game.ascend(&expert, &learner, turn(iteration));
        let after = game.networks().remove(0).1;
        for index in 0..3 {
            let moved = (after[index] - before[index]).abs();
            let expected = 2.0 * 8e-4 * share;
            assert!((moved - expected).abs() < 0.01 * expected, "iteration {iteration}: {moved} not {expected}");
        }
    }
}

#[test]
fn rewards_come_from_the_current_cost_and_never_from_storage() {
    let mut game = Discriminator::<Cpu>::new(&config(vec![16]), 3, &[Streams::new(4)], &Default::default());
    let rows = || Rows {
        observations: vec![0.5, 0.2, -0.1, 0.3],
        actions: vec![0.1, -0.4],
        next_observations: vec![0.0; 4],
        task_rewards: vec![f32::NAN; 2],
        continues: vec![1.0; 2],
        ..Rows::default()
    };
    let label = |game: &Discriminator<Cpu>| {
        values(Reward::Learned(game).label(Block::new(vec![rows()], vec![2], &Default::default()).batch(0)).reward)
    };
    let before = label(&game);
    game.ascend(&pairs(&[[1.0, 0.0, 0.5]]), &[pairs(&[[-1.0, 0.0, -0.5]])], turn(0));
    let after = label(&game);
    assert!(before.iter().chain(&after).all(|r| r.is_finite()), "stored rewards are not read");
    assert_ne!(before, after);
}

#[test]
fn costs_are_clipped_then_reduced() {
    let outputs = || Tensor::<Flex, 3>::from_data([[[1.0_f32], [50.0]], [[-60.0], [2.0]]], &Default::default());
    assert_eq!(values(cost(outputs(), 2, Some(40.0), Reduction::Min)), [-40.0, 2.0]);
    assert_eq!(values(cost(outputs(), 2, Some(40.0), Reduction::Max)), [1.0, 40.0]);
    assert_eq!(values(cost(outputs(), 2, Some(40.0), Reduction::Mean)), [-19.5, 21.0]);
    assert_eq!(values(cost(outputs(), 2, None, Reduction::Min)), [-60.0, 2.0]);
}

/// Two batches of expert rows, then learner rows of several ages; the running iteration has stored two of them.
#[test]
fn fixed_rewards_follow_where_a_row_comes_from() {
    let mut rows = Rows {
        task_rewards: vec![f32::NAN; 7],
        ages: vec![None, Some(0), Some(5), None, Some(1), Some(2), Some(3)],
        ..Rows::default()
    };
    let mut mark = |origin| {
        Reward::<Cpu>::ByOrigin(&[Origin::SQIL, origin]).mark(1, &mut rows);
        rows.task_rewards.clone()
    };
    assert_eq!(mark(Origin::SQIL), [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    let quarter = -0.25;
    assert_eq!(mark(Origin::adril(1, 4, 2)), [1.0, 0.0, quarter, 1.0, 0.0, quarter, quarter]);
    assert_eq!(mark(Origin::adril(2, 4, 3)), [0.5, 0.0, quarter, 0.5, 0.0, 0.0, quarter]);
    assert_eq!(mark(Origin::adril(1, 0, 6)), mark(Origin::SQIL), "the first iteration has none before it");
}

/// Expert and learner differ in the second channel alone, which moves 20,000 times less than the first: in the channels' own units
/// hardly anything is seen of it, in the expert's deviations it is. What is exported takes true pairs.
#[test]
fn in_the_experts_units_small_channels_count() {
    let (mut expert, mut learner) = (Pairs::new(3), Pairs::new(3));
    let mut rng = Streams::new(4).stream("test");
    for _ in 0..300 {
        let large = rng.uniform(-100.0, 100.0) as f32;
        let small = rng.uniform(0.0, 0.01) as f32;
        expert.push(&[large, small], &[0.5]);
        learner.push(&[large, small - 0.02], &[0.5]);
    }
    let tensor = |values: &[f32]| {
        Tensor::<Flex, 3>::from_data(TensorData::new(values.to_vec(), [1, 1, values.len()]), &Default::default())
    };
    let told_apart = |normalized: bool| {
        let config = RewardConfig { normalized, learning_rate: 8e-3, ..config(vec![16]) };
        let fresh = Discriminator::<Cpu>::new(&config, 3, &[Streams::new(2)], &Default::default());
        let mut game = fresh.in_units_of(&expert);
        (0..60).for_each(|iteration| drop(game.ascend(&expert, std::slice::from_ref(&learner), turn(iteration))));
        let reward = |small: f32| values(game.reward(tensor(&[12.0, small]), tensor(&[0.5])))[0];
        let gap = reward(0.005) - reward(-0.015);
        (game, gap)
    };
    let ((_, raw), (game, seen)) = (told_apart(false), told_apart(true));
    assert!(seen > 1.0 && raw.abs() < 0.05, "{seen} in deviations, {raw} in units");

    let (observation, action) = ([12.0, 0.004], [0.5]);
    let own = values(game.reward(tensor(&observation), tensor(&action)))[0];
    let (spec, params) = game.networks().remove(0);
    let flat = Tensor::<Flex, 1>::from_data(TensorData::new(params.clone(), [params.len()]), &Default::default());
    let exported = -values(mlp::forward(&spec, tensor(&[12.0, 0.004, 0.5]), flat))[0];
    assert!((exported - own).abs() < 1e-4 * (1.0 + own.abs()), "{exported} and {own}");
    // So does a run that takes it over, also when it goes on from its checkpoint.
    let config = RewardConfig { normalized: true, from: Some("run".into()), ..config(vec![16]) };
    let fresh = || Discriminator::<Cpu>::new(&config, 3, &[Streams::new(9)], &Default::default()).in_units_of(&expert);
    let mut other = fresh();
    other.begin_with(params);
    let mut resumed = fresh();
    resumed.restore(other.record()).unwrap();
    for game in [other, resumed] {
        let taken = values(game.reward(tensor(&observation), tensor(&action)))[0];
        assert!((taken - own).abs() < 1e-4 * (1.0 + own.abs()), "{taken} and {own}");
    }
}

//! The ensemble, what it predicts and its rollouts, on worlds whose law is known.

mod fitting;

use super::dynamics::{Dynamics, Imagined};
use super::ensemble::{Ensemble, EnsembleConfig, bounded_log_variance};
use super::model::WorldModel;
use super::normalizer::Bounds;
use super::rollout::{Rules, imagine};
use super::simulator::Simulator;
use crate::config::{OutOfBounds, WorldModelConfig};
use crate::envs::{Ending, Purpose, Termination, World, WorldConfig};
use crate::error::{Kind, Result};
use crate::nn::Cpu;
use crate::nn::mlp::Activation;
use crate::nn::optimizer::values;
use crate::replay::model_data::{ModelData, Room};
use crate::replay::{ReplayBuffer, Transition};
use crate::run::rng::{Stream, Streams};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};

fn config(members: usize) -> EnsembleConfig {
    EnsembleConfig { members, hidden: vec![32, 32], activation: Activation::Silu, weight_decay: 0.0, mean_clip: None }
}

fn rows(values: Vec<f32>, shape: [usize; 3]) -> Tensor<Flex, 3> {
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

/// The values of spec/algorithms section 8 for bounds -10 and 0.5.
#[test]
fn log_variances_are_bounded_as_published() {
    let raw = vec![-20.0, -10.0, -2.0, 0.0, 0.5, 3.0, 20.0];
    let expected = [-9.99995, -9.30687, -2.07853, -0.474, -0.19309, 0.42114, 0.50003];
    let found = values(bounded_log_variance(rows(raw, [1, 7, 1])));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 2e-5, "{found}, not {expected}");
    }
}

/// `y = 0.7 x₀ - 0.4 x₁ + N(0, 0.2²)`: the mean and the noise are found by every member.
#[test]
fn linear_dynamics_and_their_noise_are_recovered() {
    let config = config(3);
    let mut ensemble = Ensemble::<Cpu>::new(&config, 2, 1, Streams::new(4), &Default::default());
    let mut rng = Streams::new(4).stream("test");
    let (members, batch) = (3, 256);
    for step in 0..1200 {
        let (mut x, mut noise) = (vec![0.0; members * batch * 2], vec![0.0; members * batch]);
        rng.fill_normal(&mut x);
        rng.fill_normal(&mut noise);
        let y = x.chunks_exact(2).zip(&noise).map(|(x, e)| 0.7 * x[0] - 0.4 * x[1] + 0.2 * e).collect();
        let rate = if step < 800 { 3e-3 } else { 3e-4 };
        ensemble.step(rows(x, [members, batch, 2]), rows(y, [members, batch, 1]), rate);
    }
    let points = [[0.0, 0.0], [1.0, 0.5], [-0.8, 1.0]];
    let (mean, log_variance) = ensemble.predict(rows(points.concat(), [1, 3, 2]));
    let (mean, log_variance) = (values(mean), values(log_variance));
    for (index, (mean, log_variance)) in mean.iter().zip(&log_variance).enumerate() {
        let point = points[index % 3];
        let expected = 0.7 * point[0] - 0.4 * point[1];
        assert!((mean - expected).abs() < 0.06, "mean {mean} at {point:?}, not {expected}");
        let deviation = (0.5 * log_variance).exp();
        assert!((deviation - 0.2).abs() < 0.04, "deviation {deviation} at {point:?}, not 0.2");
    }
}

/// Without hidden layers a member is linear, and its weights are the law's: `y = A s + B a`, here read off its answers.
#[test]
fn a_linear_member_finds_the_law_itself() {
    const LAW: [[f32; 3]; 2] = [[0.9, 0.2, 0.0], [-0.1, 0.8, 0.5]];
    let config = EnsembleConfig { hidden: vec![], ..config(2) };
    let mut ensemble = Ensemble::<Cpu>::new(&config, 3, 2, Streams::new(4), &Default::default());
    let mut rng = Streams::new(4).stream("test");
    let (members, batch) = (2, 64);
    for step in 0..1500 {
        let mut x = vec![0.0; members * batch * 3];
        rng.fill_normal(&mut x);
        let dot = |law: &[f32; 3], x: &[f32]| law.iter().zip(x).map(|(law, x)| law * x).sum::<f32>();
        let y = x.chunks_exact(3).flat_map(|x| LAW.map(|law| dot(&law, x))).collect();
        let rate = if step < 1000 { 1e-2 } else { 1e-4 };
        ensemble.step(rows(x, [members, batch, 3]), rows(y, [members, batch, 2]), rate);
    }
    let units = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let means = values(ensemble.predict(rows(units.concat(), [1, 4, 3])).0);
    for of_member in means.chunks(8) {
        for (input, output) in (0..3).flat_map(|input| [(input, 0), (input, 1)]) {
            let weight = of_member[2 * (input + 1) + output] - of_member[output];
            assert!((weight - LAW[output][input]).abs() < 1e-3, "{weight}, not {}", LAW[output][input]);
        }
    }
}

const NOISE: f32 = 0.1;

/// `s' = A s + B a + N(0, 0.1²)` with two states and one action, and the reward `-s₀`.
fn linear_step(state: [f32; 2], action: f32, rng: Option<&mut Stream>) -> [f32; 2] {
    let mut noise = [0.0; 2];
    if let Some(rng) = rng {
        rng.fill_normal(&mut noise);
    }
    [
        0.9 * state[0] + 0.2 * state[1] + NOISE * noise[0],
        -0.1 * state[0] + 0.8 * state[1] + 0.5 * action + NOISE * noise[1],
    ]
}

fn linear_data(count: usize, seed: u64) -> ModelData {
    linear_data_around(0.0, count, seed)
}

fn linear_data_around(centre: f32, count: usize, seed: u64) -> ModelData {
    let mut rng = Streams::new(seed).stream("data");
    let mut rows = ReplayBuffer::new(count, 2, 1);
    for _ in 0..count {
        let mut drawn = [0.0; 3];
        rng.fill_normal(&mut drawn);
        let (state, action) = ([centre + drawn[0], drawn[1]], drawn[2].tanh());
        rows.push(Transition {
            observation: &state,
            action_unit: &[action],
            task_reward: -state[0],
            next_observation: &linear_step(state, action, Some(&mut rng)),
            terminated: false,
        });
    }
    ModelData::new(&rows, (2, 1), Room { capacity: count, pinned: true, share: 1.0 }, true)
}

fn small() -> WorldModelConfig {
    WorldModelConfig {
        members: 4,
        elites: 3,
        hidden: vec![32],
        learning_rate: 3e-3,
        patience: 4,
        weight_decay: 0.0,
        ..WorldModelConfig::example()
    }
}

fn model(config: &WorldModelConfig, data: &ModelData) -> WorldModel<Cpu> {
    WorldModel::new(config, data, 1.0, Streams::new(1), &Default::default())
}

/// The noise adds to the drawn changes' own: variances sum.
#[test]
fn a_world_made_worse_strays_by_the_noise_asked_for() {
    let data = linear_data(2000, 5);
    let spread = |mean_noise: f64| {
        let mut world = model(&WorldModelConfig { mean_noise, ..small() }, &data);
        world.whole_fit(&data).unwrap();
        let many = 20_000;
        let imagined = world.step(&[0.5, -0.3].repeat(many), &vec![0.4; many]).unwrap();
        let drawn: Vec<f64> = imagined.next_observations.chunks(2).map(|next| f64::from(next[0])).collect();
        let mean = drawn.iter().sum::<f64>() / many as f64;
        drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / many as f64
    };
    // States of the data are standard normal: a noise of 0.5 has the variance 0.25.
    let added = spread(0.5) - spread(0.0);
    assert!((0.23..0.27).contains(&added), "{added}");
}

/// TS1 deals the rows to the elites and gathers what they say: each row gets its own future and reward, no neighbour's.
#[test]
fn every_imagined_row_is_its_own() {
    let data = linear_data(2000, 5);
    let mut world = model(&WorldModelConfig { batch_size: 64, ..small() }, &data);
    world.whole_fit(&data).unwrap();
    // 301 do not come out even among three elites.
    let states: Vec<[f32; 2]> = (0..301).map(|row| row as f32 / 100.0 - 1.5).map(|x| [x, -x]).collect();
    let actions: Vec<f32> = (0..301).map(|row| if row % 2 == 0 { 0.8 } else { -0.8 }).collect();
    let imagined = world.step(&states.concat(), &actions).unwrap();
    for (row, (next, reward)) in imagined.next_observations.chunks(2).zip(&imagined.task_rewards).enumerate() {
        let expected = linear_step(states[row], actions[row], None);
        let far = next.iter().zip(expected).map(|(next, expected)| (next - expected).abs()).fold(0.0, f32::max);
        assert!(far < 0.7, "row {row}: {next:?}, not {expected:?}");
        assert!((reward + states[row][0]).abs() < 0.5, "row {row}: {reward} in {:?}", states[row]);
    }
}

#[test]
fn a_fitted_world_steps_as_the_true_one() {
    let data = linear_data(4000, 5);
    // Held-out errors judge means alone: variances need epochs beyond the last that counts as an improvement.
    let config = WorldModelConfig { improvement: 0.0, patience: 8, batch_size: 64, ..small() };
    let mut world = model(&config, &data);
    let found = world.whole_fit(&data).unwrap();
    assert!(found.model_epochs >= 5 && found.model_rows == 4000, "{found:?}");
    // Changes have noise 0.1, rewards none: mean squared error 2/3 · 0.01 at best.
    assert!((0.0060..0.0085).contains(&found.model_error), "{found:?}");
    let state = [0.5, -0.3];
    let many = 6000;
    let imagined = world.step(&state.repeat(many), &vec![0.4; many]).unwrap();
    let expected = linear_step(state, 0.4, None);
    for channel in 0..2 {
        let drawn: Vec<f64> = imagined.next_observations.chunks(2).map(|next| f64::from(next[channel])).collect();
        let mean = drawn.iter().sum::<f64>() / many as f64;
        let deviation = (drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / many as f64).sqrt();
        assert!((mean - f64::from(expected[channel])).abs() < 0.03, "channel {channel}: mean {mean}");
        assert!((deviation - f64::from(NOISE)).abs() < 0.03, "channel {channel}: deviation {deviation}");
    }
    let reward = imagined.task_rewards.iter().map(|r| f64::from(*r)).sum::<f64>() / many as f64;
    assert!((reward + 0.5).abs() < 0.02, "reward {reward}");
    let [near, far] = [[0.1, 0.1], [30.0, -30.0]].map(|state| world.disagreement(&state, &[0.0])[0]);
    assert!(far > 10.0 * near, "the elites disagree far from the data: {far} against {near}");
    assert!((far - disagreement_by_hand(&world, [30.0, -30.0, 0.0])).abs() < 1e-4 * far, "{far}");
    let inside = [[0.1, 0.1], [200.0, 0.0]].map(|state| world.bounds().contain(&state));
    assert_eq!(inside, [true, false]);
}

/// Root of the mean, over channels, of the variance between the elites' means, in units of the data's deviations.
fn disagreement_by_hand(world: &WorldModel<Cpu>, step: [f32; 3]) -> f32 {
    let mut inputs = Vec::new();
    world.normalizer().apply(step.iter(), &mut inputs);
    let means = values(world.predict(rows(inputs, [1, 1, 3])).0);
    let elites = world.elites();
    assert!(elites.len() > 1 && elites.len() < means.len() / 3);
    let variance = |channel: usize| {
        let unit = world.normalizer().std()[channel];
        let of: Vec<f64> = elites.iter().map(|elite| f64::from(means[elite * 3 + channel]) / unit).collect();
        let mean = of.iter().sum::<f64>() / of.len() as f64;
        of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / of.len() as f64
    };
    ((variance(0) + variance(1)) / 2.0).sqrt() as f32
}

#[test]
fn clipped_means_stay_within() {
    let target = 3.0;
    let trained = |mean_clip| {
        let config = EnsembleConfig { mean_clip, ..config(2) };
        let mut ensemble = Ensemble::<Cpu>::new(&config, 2, 1, Streams::new(4), &Default::default());
        for _ in 0..200 {
            ensemble.step(rows(vec![1.0; 16], [2, 4, 2]), rows(vec![target; 8], [2, 4, 1]), 1e-2);
        }
        ensemble
    };
    let means = |ensemble: &Ensemble<Cpu>| values(ensemble.predict(rows(vec![1.0; 2], [1, 1, 2])).0);
    let (clipped, mut open) = (trained(Some(0.05)), trained(None));
    assert!(means(&clipped).iter().all(|mean| (mean - 0.05).abs() < 1e-6), "at the clip, and no further");
    assert!(means(&open).iter().all(|mean| (mean - target).abs() < 0.1));
    // Nor does the loss pull at what is clipped, beyond what the optimiser's momentum and the variance do: the same parameters
    // read without the clip are not where an open loss brings them.
    open.replace(clipped.params());
    assert!(means(&open).iter().all(|mean| (0.05..2.0).contains(mean)), "{:?}", means(&open));
}

/// In the place of the learned world, the true one leads where the environment goes.
#[test]
fn imagination_in_the_simulator_is_the_environment() {
    for (task, most_apart) in [("pendulum", 1e-4), ("hopper", 2e-3)] {
        let mut real = World::new(task, WorldConfig::default(), Streams::new(2), "test").unwrap();
        real.reset().unwrap();
        let width = real.task().observation_width();
        let actuators = real.task().action_width();
        let mut rng = Streams::new(2).stream("actions");
        let plan: Vec<Vec<f32>> =
            (0..25).map(|_| (0..actuators).map(|_| rng.uniform(-1.0, 1.0) as f32).collect()).collect();
        let mut simulator = Simulator::new(task).unwrap();
        let (termination, bounds) = (Termination::of(task).unwrap(), Bounds::unbounded(width));
        let rules = Rules { termination: &termination, bounds: &bounds, out_of_bounds: OutOfBounds::Keep };
        let (mut imagined, mut actions) = (Vec::new(), plan.iter());
        let start = real.observation().to_vec();
        imagine(
            &mut simulator,
            start,
            plan.len() as u64,
            rules,
            |_| actions.next().unwrap().clone(),
            |_, steps| {
                imagined.extend(steps.kept().map(|(_, t)| (t.next_observation.to_vec(), t.task_reward, t.terminated)));
            },
            width,
        )
        .unwrap();
        let mut taken = 0;
        for (action, (state, reward, terminated)) in plan.iter().zip(&imagined) {
            let step = real.step(action, Purpose::Policy).unwrap();
            for (x, y) in state.iter().zip(real.observation()) {
                assert!((x - y).abs() < most_apart * (1.0 + y.abs()), "{task}, step {taken}: {x}, not {y}");
            }
            // The first reward of a restored state measures progress from it; f32 positions limit the rest.
            assert!((f64::from(*reward) - step.reward).abs() < 0.1, "{task}: reward {reward}, not {}", step.reward);
            assert_eq!(*terminated, step.ending == Ending::Terminated, "{task}, step {taken}");
            taken += 1;
            if *terminated {
                break;
            }
        }
        assert_eq!(taken, imagined.len(), "{task}: imagination ends where the episode does");
        assert!(taken >= 10, "{task}: {taken} steps were compared");
    }
    let error = Simulator::new("ant").err().unwrap();
    assert!(error.to_string().contains("does not tell"), "{error}");
}

/// `s' = s + a`, where 5 is no number and 9 far away.
struct Counting;

impl Dynamics for Counting {
    fn step(&mut self, observations: &[f32], actions: &[f32]) -> Result<Imagined> {
        let next = observations.iter().zip(actions).map(|(s, a)| if s + a == 5.0 { f32::NAN } else { s + a });
        Ok(Imagined { next_observations: next.collect(), task_rewards: Vec::new() })
    }
}

#[test]
fn rollouts_end_where_they_must_and_are_counted() {
    let termination = Termination::of("pendulum").unwrap();
    let bounds = Bounds::of(&[0.0, 7.0], 1, &[0.0, 0.0], 1, 0.0);
    let run = |out_of_bounds, starts: &[f32]| {
        let rules = Rules { termination: &termination, bounds: &bounds, out_of_bounds };
        let mut kept: Vec<(f32, f32)> = Vec::new();
        let act = |rows: &[f32]| vec![1.0; rows.len()];
        let keep = |_: &mut Counting, steps: super::rollout::Steps<'_>| {
            kept.extend(steps.kept().map(|(_, t)| (t.observation[0], t.next_observation[0])));
        };
        imagine(&mut Counting, starts.to_vec(), 3, rules, act, keep, 1).map(|counted| (kept, counted))
    };
    let (kept, counted) = run(OutOfBounds::Keep, &[0.0, 3.0, 6.0, 1.0]).unwrap();
    let expected = [(0., 1.), (3., 4.), (6., 7.), (1., 2.), (1., 2.), (7., 8.), (2., 3.), (2., 3.), (8., 9.), (3., 4.)];
    assert_eq!(kept, expected);
    assert_eq!((counted.imagined_steps, counted.imagined_not_finite, counted.imagined_out_of_bounds), (10, 1, 2));
    let (kept, _) = run(OutOfBounds::Clip, &[6.0]).unwrap();
    assert_eq!(kept, [(6.0, 7.0), (7.0, 7.0), (7.0, 7.0)]);
    let (kept, counted) = run(OutOfBounds::Drop, &[6.0]).unwrap();
    assert_eq!((kept.len(), counted.imagined_out_of_bounds), (1, 1));
    let error = run(OutOfBounds::Keep, &[4.0]).unwrap_err();
    assert!(error.kind() == Kind::Diverged, "{error}");
}

/// Falls hopper's height by a tenth in every step.
struct Falling;

impl Dynamics for Falling {
    fn step(&mut self, observations: &[f32], _: &[f32]) -> Result<Imagined> {
        let next = observations.chunks(11).flat_map(|row| std::iter::once(row[0] - 0.1).chain(row[1..].to_vec()));
        Ok(Imagined { next_observations: next.collect(), task_rewards: Vec::new() })
    }
}

/// No data holds a fall here: the box ends well above the least height, 0.7. The fall is one all the same.
#[test]
fn falls_beyond_the_data_are_falls() {
    let termination = Termination::of("hopper").unwrap();
    let start = [[1.2].as_slice(), &[0.0; 10]].concat();
    let high = [[1.3].as_slice(), &[0.0; 10]].concat();
    for (low, rule, expected) in [
        (1.0, OutOfBounds::Clip, vec![]),
        (0.75, OutOfBounds::Clip, vec![0.75]),
        (0.75, OutOfBounds::Drop, vec![0.7 - 1e-6]),
        (0.75, OutOfBounds::Keep, vec![0.7 - 1e-6]),
    ] {
        let low = [[low].as_slice(), &[0.0; 10]].concat();
        let bounds = Bounds::of(&[low, high.clone()].concat(), 11, &[0.0; 22], 11, 0.0);
        let rules = Rules { termination: &termination, bounds: &bounds, out_of_bounds: rule };
        let mut ends = Vec::new();
        let keep = |_: &mut Falling, steps: super::rollout::Steps<'_>| {
            ends.extend(steps.kept().filter(|(_, t)| t.terminated).map(|(_, t)| t.next_observation[0]));
        };
        let counted = imagine(&mut Falling, start.clone(), 20, rules, |_| vec![0.0; 3], keep, 11).unwrap();
        assert_eq!(ends.len(), expected.len(), "{rule:?}: {ends:?}");
        assert!(
            ends.iter().zip(&expected).all(|(end, expected): (&f32, &f32)| (end - expected).abs() < 1e-4),
            "{ends:?}"
        );
        assert_eq!(counted.imagined_terminals, expected.len() as u64);
    }
}

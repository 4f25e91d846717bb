//! Cloning of an expert that is known.

use super::*;
use crate::nn::Cpu;
use crate::nn::optimizer::values;
use burn::backend::Flex;
use burn::tensor::TensorData;

/// What the expert does: linear, within [-1, 1] on the states drawn here.
fn expert(state: &[f32]) -> [f32; 2] {
    [0.4 * state[0] - 0.2 * state[1], 0.1 + 0.3 * state[1]]
}

fn rows(rng: &mut Stream, count: usize) -> (Vec<f32>, Vec<f32>) {
    let states: Vec<f32> = (0..2 * count).map(|_| rng.uniform(-1.0, 1.0) as f32).collect();
    let actions = states.chunks_exact(2).flat_map(expert).collect();
    (states, actions)
}

fn tensor(values: Vec<f32>) -> Tensor<Flex, 3> {
    let count = values.len() / 2;
    Tensor::from_data(TensorData::new(values, [1, count, 2]), &Default::default())
}

#[test]
fn a_linear_expert_is_recovered_from_a_small_set() {
    for gaussian in [true, false] {
        let shape = ActorShape { hidden: &[32, 32], gaussian, optimizer: Optimizer::Adam };
        let mut bc = Cloning::<Cpu>::new(&shape, 2, 2, &[Streams::new(3)], &Default::default());
        let mut rng = Streams::new(3).stream("test");
        let (states, actions) = rows(&mut rng, 200);
        let mut first = None;
        let mut last = 0.0;
        for step in 0..1200 {
            let begin = 2 * 50 * (step % 4);
            let part = |values: &[f32]| tensor(values[begin..begin + 100].to_vec());
            let measured = bc.step(part(&states), part(&actions), 3e-3, true).unwrap()[0].bc_loss;
            first.get_or_insert(measured);
            last = measured;
        }
        assert!(last < 0.01 * first.unwrap(), "gaussian {gaussian}: loss {first:?} → {last}");
        for state in [[0.5, -0.5], [-0.9, 0.2], [0.0, 0.8]] {
            let (found, wanted) = (bc.policies()[0].act(&state, None), expert(&state));
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.05), "{found:?} instead of {wanted:?}");
        }
    }
}

/// The sampled action's variance is part of the loss: cloning makes a Gaussian policy sure of itself.
#[test]
fn the_deviation_shrinks_with_the_error() {
    let shape = ActorShape { hidden: &[16], gaussian: true, optimizer: Optimizer::Adam };
    let mut bc = Cloning::<Cpu>::new(&shape, 2, 2, &[Streams::new(4)], &Default::default());
    let mut rng = Streams::new(4).stream("test");
    let mean_log_std = |bc: &Cloning<Cpu>| {
        let head = bc.actor.infer(tensor(vec![0.3, -0.4]));
        values(head.narrow(2, 2, 2).mean())[0]
    };
    let before = mean_log_std(&bc);
    for _ in 0..400 {
        let (states, actions) = rows(&mut rng, 64);
        bc.step(tensor(states), tensor(actions), 3e-3, false);
    }
    assert!(mean_log_std(&bc) < before - 1.0, "{before} → {}", mean_log_std(&bc));
}

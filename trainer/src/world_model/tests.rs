//! The ensemble on data whose law is known.

use super::ensemble::{Ensemble, EnsembleConfig, bounded_log_variance};
use crate::nn::Cpu;
use crate::nn::mlp::Activation;
use crate::nn::optimizer::values;
use crate::run::rng::Streams;
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};

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
    let config = EnsembleConfig { members: 3, hidden: vec![32, 32], activation: Activation::Silu, weight_decay: 0.0 };
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

//! State-dependent exploration against PyTorch.

use super::*;
use trainer::learners::state_dependent;

#[test]
fn state_dependent_actions_densities_and_gradients() {
    let v = vectors("gsde");
    let expected = &v["expected"];
    // The head: weights and bias of the mean, then log deviations.
    let head = |mean: &Value, log_std: &Value| [flat(&mean["w"]), flat(&mean["b"]), flat(log_std)].concat();
    let trunk = |layers: &Value| parameters(&[layers.as_array().unwrap().iter().collect()]);
    let trunk_params = vector::<Cpu>(trunk(&v["trunk"])).require_grad();
    let head_params = vector::<Cpu>(head(&v["mean"], &v["log_std"])).require_grad();
    let observation = Tensor::<Cpu, 3>::from_inner(rows(&v["obs"]));
    let features = mlp::forward(&MlpSpec::new(1, 3, &[16], 16), observation, trunk_params.clone());
    let features = burn::tensor::activation::relu(features);
    let drawn = state_dependent::sample(features, head_params.clone(), Tensor::from_inner(rows(&v["noise"])));
    agree("action", values(drawn.action.clone().inner()), flat(&expected["action"]));
    agree("log π", values(drawn.log_prob.clone().inner()), flat(&expected["log_prob"]));
    let direction = vector::<Cpu>(flat(&v["direction"])).reshape([1, 1, 2]);
    let loss = (drawn.log_prob * v["alpha"].as_f64().unwrap() - (drawn.action * direction).sum_dim(2)).mean();
    agree("loss", values(loss.clone().inner()), one(&expected["loss"]));
    let mut gradients = loss.backward();
    let expected = &expected["gradients"];
    agree("trunk", values(trunk_params.grad_remove(&mut gradients).unwrap()), trunk(&expected["trunk"]));
    let found = values(head_params.grad_remove(&mut gradients).unwrap());
    agree("head", found, head(&expected["mean"], &expected["log_std"]));
}

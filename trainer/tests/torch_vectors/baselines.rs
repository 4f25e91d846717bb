//! IQ-Learn, PPO and GAIL's classifier against PyTorch.

use super::*;
use serde_json::json;
use trainer::config::{Divergence, GailConfig, IqConfig, IqObjective, IqPenaltyRows};
use trainer::learners::iq::{self, Side};
use trainer::learners::{ppo, squashed};
use trainer::nn::mlp::Activation;
use trainer::reward::logistic;

fn named<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn network(value: &Value) -> Vec<f32> {
    parameters(&[value.as_array().unwrap().iter().collect()])
}

fn column(value: &Value) -> Tensor<Plain, 3> {
    let values = flat(value);
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [1, len, 1]), &Default::default())
}

fn known(tensor: Tensor<Plain, 3>) -> Tensor<Cpu, 3> {
    Tensor::from_inner(tensor)
}

#[test]
fn iq_learn_losses_and_gradients() {
    let v = vectors("iq");
    let (discount, temperature) = (v["discount"].as_f64().unwrap(), v["temperature"].as_f64().unwrap());
    let actor_spec = MlpSpec::new(1, 3, &[16, 16], 4);
    let actor = vector::<Cpu>(network(&v["actor"])).inner();
    let sample = |side: &Value, obs: &str, noise: &str| {
        squashed::sample(mlp::forward(&actor_spec, rows(&side[obs]), actor.clone()), rows(&side[noise]))
    };
    let mut compared = 0;
    for case in v["cases"].as_array().unwrap() {
        let name = format!("{} {} {}", case["objective"], case["divergence"], case["critics"]);
        let config = IqConfig {
            objective: named::<IqObjective>(&case["objective"]),
            divergence: named::<Divergence>(&case["divergence"]),
            alpha: v["alpha"].as_f64().unwrap(),
            penalty: named(&case["penalty"]),
            expert_penalty: named(&case["expert_penalty"]),
            penalty_rows: named::<IqPenaltyRows>(&case["penalty_rows"]),
            critics: named(&case["critics"]),
            actor_learning_rate: 1.0,
            warmup_steps: 0,
            v0_from_all_expert_states: false,
        };
        let spec = MlpSpec::new(config.critics, 5, &[16, 16], 1);
        let critics = members(&v["critics"])[..config.critics].to_vec();
        let params = vector::<Cpu>(parameters(&critics)).require_grad();
        let targets = vector::<Cpu>(parameters(&members(&v["target_critics"])[..config.critics])).inner();
        let smallest = |q: Tensor<Cpu, 3>| q.min_dim(0);
        let value = |side: &Value| {
            let drawn = sample(side, "obs", "noise");
            let pairs = known(Tensor::cat(vec![rows(&side["obs"]), drawn.action], 2));
            let q = mlp::forward(&spec, pairs, params.clone());
            (smallest(q.clone()) - known(drawn.log_prob * temperature), q)
        };
        let uniform = |count: usize| Tensor::<Cpu, 3>::full([1, count, 1], 1.0 / count as f64, &Default::default());
        let side = |name: &str| {
            let side = &v[name];
            let pairs = known(Tensor::cat(vec![rows(&side["obs"]), rows(&side["action"])], 2));
            let q = mlp::forward(&spec, pairs, params.clone());
            let (value, sampled) = value(side);
            let next = sample(side, "next_obs", "next_noise");
            let pairs = Tensor::cat(vec![rows(&side["next_obs"]), next.action], 2);
            let next_value = mlp::forward(&spec, pairs, targets.clone()).min_dim(0) - next.log_prob * temperature;
            let continues = column(&side["terminated"]).neg().add_scalar(1.0);
            let from_policy = name == "policy" && config.penalty_rows == IqPenaltyRows::Policy;
            Side {
                penalty_q: if from_policy { sampled } else { q.clone() },
                q,
                value,
                next_value: known(continues * next_value * discount),
                weight: uniform(6),
            }
        };
        let start = (value(&v["starts"]).0, uniform(4));
        let terms = iq::loss(&config, discount, &side("expert"), &side("policy"), start);
        agree(&name, values(terms.total.clone().inner()), one(&case["expected"]["loss"]));
        let gradient = params.grad_remove(&mut terms.total.backward()).unwrap();
        agree(&name, values(gradient), parameters(&members(&case["expected"]["critic_gradients"])));
        compared += 1;
    }
    assert_eq!(compared, 10);

    let join = |key: &str| Tensor::cat(vec![rows(&v["expert"][key]), rows(&v["policy"][key])], 1);
    let params = vector::<Cpu>(network(&v["actor"])).require_grad();
    let head = mlp::forward(&actor_spec, known(join("obs")), params.clone());
    let drawn = squashed::sample(head, known(join("noise")));
    agree("action", values(drawn.action.clone().inner()), flat(&v["expected"]["action"]));
    agree("log π", values(drawn.log_prob.clone().inner()), flat(&v["expected"]["log_prob"]));
    let spec = MlpSpec::new(1, 5, &[16, 16], 1);
    let critic = vector::<Cpu>(parameters(&members(&v["critics"])[..1]));
    let q = mlp::forward(&spec, Tensor::cat(vec![known(join("obs")), drawn.action], 2), critic);
    let loss = iq::actor_loss(q, drawn.log_prob, Tensor::full([1, 1, 1], temperature, &Default::default()));
    agree("actor loss", values(loss.clone().inner()), one(&v["expected"]["actor_loss"]));
    let gradient = params.grad_remove(&mut loss.backward()).unwrap();
    agree("actor gradients", values(gradient), network(&v["expected"]["actor_gradients"]));
}

#[test]
fn proximal_policy_losses_and_gradients() {
    let v = vectors("ppo");
    let (batch, expected) = (&v["rows"], &v["expected"]);
    let number = |key: &str| v[key].as_f64().unwrap();
    let [policy, value] =
        [2, 1].map(|outputs| MlpSpec::new(1, 3, &[16, 16], outputs).with_activation(Activation::Tanh));
    let obs = || known(rows(&batch["obs"]));
    let policy_params = vector::<Cpu>(network(&v["policy"])).require_grad();
    let value_params = vector::<Cpu>(network(&v["value"])).require_grad();
    let log_std = vector::<Cpu>(flat(&v["log_std"])).require_grad();
    let deviations = log_std.clone().reshape([1, 1, 2]);
    let mean = mlp::forward(&policy, obs(), policy_params.clone());
    let log_prob = ppo::log_prob(mean, deviations.clone(), known(rows(&batch["action"])));
    agree("log π", values(log_prob.clone().inner()), flat(&expected["log_prob"]));
    let entropy = ppo::entropy(deviations);
    agree("entropy", values(entropy.clone().inner()), one(&expected["entropy"]));
    let part = |key: &str| known(column(&batch[key]));
    let policy_loss = ppo::policy_loss(log_prob, part("old_log_prob"), part("advantage"), number("clip"));
    agree("policy loss", values(policy_loss.clone().inner()), one(&expected["policy_loss"]));
    let found = mlp::forward(&value, obs(), value_params.clone());
    let plain = ppo::value_loss(found.clone(), part("old_value"), part("target"), None);
    agree("plain value loss", values(plain.inner()), one(&expected["plain_value_loss"]));
    let value_loss = ppo::value_loss(found, part("old_value"), part("target"), Some(number("clip")));
    agree("value loss", values(value_loss.clone().inner()), one(&expected["value_loss"]));
    let total = policy_loss + value_loss * number("value_coefficient") - entropy * number("entropy_coefficient");
    agree("total", values(total.clone().inner()), one(&expected["total"]));
    let mut gradients = total.backward();
    let of_policy = policy_params.grad_remove(&mut gradients).unwrap();
    let of_value = value_params.grad_remove(&mut gradients).unwrap();
    let of_deviation = log_std.grad_remove(&mut gradients).unwrap();
    agree("policy gradients", values(of_policy.clone()), network(&expected["policy_gradients"]));
    agree("value gradients", values(of_value.clone()), network(&expected["value_gradients"]));
    agree("deviation gradients", values(of_deviation.clone()), flat(&expected["log_std_gradient"]));

    let whole = Tensor::cat(vec![of_policy, of_deviation, of_value], 0);
    let scale = expected["clip_scale"].as_f64().unwrap() as f32;
    let clipped = ppo::clip_norm(whole.clone(), number("max_grad_norm"));
    agree("clipped", values(clipped), values(whole.clone()).iter().map(|g| g * scale).collect());
    assert_eq!(values(ppo::clip_norm(whole.clone(), 1e6)), values(whole), "a small gradient stays");
}

#[test]
fn the_classifier_loss_and_gradients() {
    let v = vectors("gail");
    let expected = &v["expected"];
    let config: GailConfig = serde_json::from_value(json!({
        "hidden": [16, 16], "learning_rate": 1.0, "batch_size": 8, "gradient_penalty": v["penalty_coefficient"],
        "gradient_target": v["penalty_target"], "epochs": 1, "warmup_epochs": 1, "warmup_updates": 0, "expert_every": 1,
        "reward": "logit", "sees_unclamped_actions": false, "sees_observations_as_acted": false,
        "scales_rewards_as_it_goes": false,
    }))
    .unwrap();
    let spec = MlpSpec::new(1, 5, &[16, 16], 1).with_activation(Activation::Tanh);
    let params = vector::<Cpu>(network(&v["network"])).require_grad();
    let [expert, learner, mixture] = ["expert", "learner", "u"].map(|key| known(rows(&v[key])));
    let cost = mlp::forward(&spec, learner.clone(), params.clone());
    agree("reward", values(cost.neg().inner()), flat(&expected["reward_learner"]));
    let loss = logistic::loss(&config, &spec, expert, learner, mixture, params.clone());
    agree("classification", values(loss.classification.inner()), one(&expected["classification"]));
    agree("penalty", values(loss.penalty.inner()), one(&expected["penalty"]));
    agree("total", values(loss.total.clone().inner()), one(&expected["total"]));
    let gradient = params.grad_remove(&mut loss.total.backward()).unwrap();
    agree("gradients", values(gradient), network(&expected["gradients"]));
}

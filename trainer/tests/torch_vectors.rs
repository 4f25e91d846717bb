//! Losses and gradients against vectors that PyTorch computed in float64 (`trainer/tests/vectors/record.py`).
#![allow(clippy::unwrap_used)]

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;
use sha2::{Digest, Sha256};
use trainer::config::{Optimizer, Reduction, RewardConfig, TurnRate};
use trainer::learners::{Batch, cloning, gaussian, sac, td3_bc};
use trainer::nn::mlp::{self, MlpSpec};
use trainer::nn::optimizer::{OptimizerConfig, Parameters, values};
use trainer::nn::{Cpu, Inner};
use trainer::reward::discriminator;

#[path = "torch_vectors/baselines.rs"]
mod baselines;
#[path = "torch_vectors/exploration.rs"]
mod exploration;

type Plain = Inner<Cpu>;

/// The payload of a vector file, after checking that its digest belongs to it.
fn vectors(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut hasher = Sha256::new();
    feed(&file["payload"], &mut hasher);
    let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(file["digest"], digest.as_str(), "{name}: the file was changed after it was recorded");
    file["payload"].clone()
}

/// The digest rule of `trainer/tests/vectors/README.md`.
fn feed(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Object(map) => {
            hasher.update(b"{");
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                hasher.update(format!("{key}:"));
                feed(&map[key], hasher);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            items.iter().for_each(|item| feed(item, hasher));
            hasher.update(b"]");
        }
        Value::String(text) => hasher.update(format!("{text};")),
        Value::Null => hasher.update(b"n"),
        Value::Bool(value) => hasher.update(f64::from(u8::from(*value)).to_le_bytes()),
        Value::Number(number) => hasher.update(number.as_f64().unwrap().to_le_bytes()),
    }
}

fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => vec![other.as_f64().unwrap() as f32],
    }
}

/// Flat parameters of networks given as lists of layers `{w, b}`, one list per member.
fn parameters(members: &[Vec<&Value>]) -> Vec<f32> {
    let mut params = Vec::new();
    for layer in 0..members[0].len() {
        for part in ["w", "b"] {
            members.iter().for_each(|member| params.extend(flat(&member[layer][part])));
        }
    }
    params
}

fn members(value: &Value) -> Vec<Vec<&Value>> {
    value.as_array().unwrap().iter().map(|member| member.as_array().unwrap().iter().collect()).collect()
}

/// The actor's layers, its two heads side by side in one last layer (means first).
fn actor(value: &Value) -> Vec<f32> {
    let mut params = parameters(&[value["trunk"].as_array().unwrap().iter().collect()]);
    let (mean, log_std) = (&value["mean"], &value["log_std"]);
    for (mean, log_std) in mean["w"].as_array().unwrap().iter().zip(log_std["w"].as_array().unwrap()) {
        params.extend(flat(mean).into_iter().chain(flat(log_std)));
    }
    params.extend(flat(&mean["b"]).into_iter().chain(flat(&log_std["b"])));
    params
}

fn rows(value: &Value) -> Tensor<Plain, 3> {
    let count = value.as_array().unwrap().len();
    let values = flat(value);
    let width = values.len() / count;
    Tensor::from_data(TensorData::new(values, [1, count, width]), &Default::default())
}

fn vector<B: AutodiffBackend>(values: Vec<f32>) -> Tensor<B, 1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &Default::default())
}

/// Asserts agreement to 1e-5 of the expected values' scale, and that a perturbation of 1e-3 would have been seen.
fn agree(name: &str, found: Vec<f32>, expected: Vec<f32>) {
    assert_eq!(found.len(), expected.len(), "{name}: lengths");
    let scale = expected.iter().fold(1e-3_f32, |m, x| m.max(x.abs()));
    let differs =
        |found: &[f32]| found.iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-5 * scale || !a.is_finite());
    assert!(!differs(&found), "{name}: {found:?} instead of {expected:?}");
    let perturbed: Vec<f32> = found.iter().map(|x| x + 1e-3 * scale).collect();
    assert!(differs(&perturbed), "{name}: the comparison sees nothing");
}

fn one(value: &Value) -> Vec<f32> {
    vec![value.as_f64().unwrap() as f32]
}

#[test]
fn optimisers() {
    let v = vectors("optimistic_adam");
    let mut compared = 0;
    for trace in v["traces"].as_array().unwrap() {
        let rule = match trace["algorithm"].as_str().unwrap() {
            "optimistic_adam" => Optimizer::OptimisticAdam,
            "adam_torch" | "adam" => Optimizer::Adam,
            _ => continue,
        };
        let config = OptimizerConfig { rule, weight_decay: trace["weight_decay"].as_f64().unwrap() };
        let mut parameters = Parameters::<Plain>::new(flat(&v["theta0"]), false, config, &Default::default());
        let gradients = v["gradients"].as_array().unwrap();
        for (step, gradient) in gradients.iter().enumerate() {
            let gradient = vector::<Cpu>(flat(gradient)).inner();
            parameters.step(gradient, v["learning_rates"][step].as_f64().unwrap(), 0.0);
            let expected = flat(&trace["expected"]["steps"][step]["theta"]);
            agree(&format!("{rule:?} step {step}"), values(parameters.get()), expected);
        }
        compared += 1;
    }
    assert!(compared >= 4, "with and without weight decay, both rules");
}

#[test]
fn discriminator_loss_and_gradients() {
    for case in vectors("discriminator")["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let networks = members(&case["members"]);
        let spec = MlpSpec::new(networks.len(), 5, &[16, 16], 1);
        let config = RewardConfig {
            hidden: vec![16, 16],
            members: networks.len(),
            reduction: Reduction::Min,
            clip: case["clip"].as_f64(),
            learning_rate: 1.0,
            learning_rate_schedule: TurnRate::Harmonic,
            weight_decay: 0.0,
            batch_size: 8,
            grad_steps: 1,
            gradient_penalty: case["penalty_coefficient"].as_f64().unwrap(),
            gradient_target: case["penalty_target"].as_f64().unwrap(),
            update_every: 1,
            rollout_episodes: 1,
            absorbing: false,
            normalized: false,
            from: None,
        };
        let params = vector::<Cpu>(parameters(&networks)).require_grad();
        let (expert, learner) = (rows(&case["expert"]), rows(&case["learner"]));
        let loss =
            discriminator::loss::<Cpu>(&config, &spec, expert.clone(), learner, rows(&case["u"]), params.clone());
        let expected = &case["expected"];
        agree(name, values((loss.expert_mean - loss.learner_mean).inner()), one(&expected["moment"]));
        agree(name, values(loss.penalty.inner()), one(&expected["penalty"]));
        agree(name, values(loss.total.clone().inner()), one(&expected["total"]));
        let outputs = mlp::forward(&spec, expert, params.clone().inner());
        let cost = discriminator::cost(outputs, config.members, config.clip, config.reduction);
        agree(name, values(cost), flat(&expected["cost_expert"]));
        let gradient = params.grad_remove(&mut loss.total.backward()).unwrap();
        agree(name, values(gradient), parameters(&members(&expected["total_gradients"])));
    }
}

#[test]
fn soft_actor_critic_losses_and_gradients() {
    let v = vectors("sac");
    let (batch, expected) = (&v["batch"], &v["expected"]);
    let device = Default::default();
    let temperature = (v["log_alpha"].as_f64().unwrap() as f32).exp();
    let temperature = Tensor::<Plain, 3>::from_data([[[temperature]]], &device);
    let actor_spec = MlpSpec::new(1, 3, &[16, 16], 4);
    let critic_spec = MlpSpec::new(2, 5, &[16, 16], 1);

    let actor_params = vector::<Cpu>(actor(&v["actor"])).require_grad();
    let head = mlp::forward(&actor_spec, Tensor::<Cpu, 3>::from_inner(rows(&batch["obs"])), actor_params.clone());
    let drawn = gaussian::sample(head, Tensor::from_inner(rows(&batch["noise"])));
    agree("action", values(drawn.action.clone().inner()), flat(&expected["action_pi"]));
    agree("log π", values(drawn.log_prob.clone().inner()), flat(&expected["log_prob"]));
    let gradient = sac::temperature_gradient(drawn.log_prob.clone().inner(), v["target_entropy"].as_f64().unwrap());
    agree("temperature gradient", values(gradient), one(&expected["log_alpha_gradient"]));

    let labelled = Batch {
        observation: rows(&batch["obs"]),
        action: rows(&batch["action"]),
        reward: rows(&batch["reward"]),
        next_observation: rows(&batch["next_obs"]),
        continues: rows(&batch["terminated"]).neg().add_scalar(1.0),
    };
    let head = mlp::forward(&actor_spec, rows(&batch["next_obs"]), actor_params.clone().inner());
    let next = gaussian::sample(head, rows(&batch["next_noise"]));
    let targets = vector::<Cpu>(parameters(&members(&v["target_critics"]))).inner();
    let next_rows = Tensor::cat(vec![rows(&batch["next_obs"]), next.action], 2);
    let next_q = mlp::forward(&critic_spec, next_rows, targets);
    let discount = v["discount"].as_f64().unwrap();
    let target = sac::target_value(&labelled, next_q, next.log_prob, temperature.clone(), discount);
    agree("target", values(target.clone()), flat(&expected["target"]));

    let critics = parameters(&members(&v["critics"]));
    let critic_params = vector::<Cpu>(critics.clone()).require_grad();
    let data = Tensor::cat(vec![rows(&batch["obs"]), rows(&batch["action"])], 2);
    let q = mlp::forward(&critic_spec, Tensor::<Cpu, 3>::from_inner(data), critic_params.clone());
    agree("Q", values(q.clone().inner()), flat(&expected["q_data"]));
    let loss = sac::critic_loss(q, Tensor::from_inner(target));
    agree("critic loss", values(loss.clone().inner()), one(&expected["critic_loss"]));
    let gradient = critic_params.grad_remove(&mut loss.backward()).unwrap();
    agree("critic gradients", values(gradient), parameters(&members(&expected["critic_gradients"])));

    let observation = Tensor::<Cpu, 3>::from_inner(rows(&batch["obs"]));
    let q = mlp::forward(&critic_spec, Tensor::cat(vec![observation, drawn.action], 2), vector::<Cpu>(critics));
    let loss = sac::actor_loss(q, drawn.log_prob, Tensor::from_inner(temperature));
    agree("actor loss", values(loss.clone().inner()), one(&expected["actor_loss"]));
    let unregularised = values(loss.clone().inner());
    let gradient = values(actor_params.grad_remove(&mut loss.backward()).unwrap());
    agree("actor gradients", gradient.clone(), actor(&expected["actor_gradients"]));

    let expert = &v["expert"];
    let head = mlp::forward(&actor_spec, Tensor::<Cpu, 3>::from_inner(rows(&expert["obs"])), actor_params.clone());
    let drawn = gaussian::sample(head, Tensor::from_inner(rows(&expert["noise"])));
    agree("cloned action", values(drawn.action.clone().inner()), flat(&expected["bc_action"]));
    let bc_loss = cloning::loss(drawn.action, Tensor::from_inner(rows(&expert["action"])));
    agree("cloning loss", values(bc_loss.clone().inner()), one(&expected["bc_loss"]));
    let pull = bc_loss * v["bc_weight"].as_f64().unwrap();
    let regularised = unregularised[0] + values(pull.clone().inner())[0];
    agree("regularised loss", vec![regularised], one(&expected["regularised_actor_loss"]));
    let added = values(actor_params.grad_remove(&mut pull.backward()).unwrap());
    let gradient = gradient.iter().zip(added).map(|(a, b)| a + b).collect();
    agree("regularised gradients", gradient, actor(&expected["regularised_actor_gradients"]));
}

/// Everything of a TD3+BC step, the same rows once or for two stacked seeds.
#[test]
fn td3_bc_losses_and_gradients() {
    let v = vectors("td3");
    for seeds in [1, 2] {
        td3_bc_agrees(&v, seeds);
    }
}

fn td3_bc_agrees(v: &Value, seeds: usize) {
    let (batch, expected) = (&v["batch"], &v["expected"]);
    let number = |name: &str| v[name].as_f64().unwrap();
    let (actor_spec, critic_spec) = (MlpSpec::new(seeds, 3, &[16, 16], 2), MlpSpec::new(2 * seeds, 5, &[16, 16], 1));
    let stacked = |value: &Value| rows(value).repeat_dim(0, seeds);
    let repeated = |values: Vec<f32>| (0..seeds).flat_map(|_| values.clone()).collect::<Vec<_>>();
    let actor_of = |value: &Value| {
        let layers: Vec<&Value> = value.as_array().unwrap().iter().collect();
        parameters(&vec![layers; seeds])
    };
    let critics_of = |value: &Value| parameters(&(0..seeds).flat_map(|_| members(value)).collect::<Vec<_>>());
    let twins = |x: Tensor<Plain, 3>| Tensor::cat(vec![x; 2 * seeds], 0);

    let labelled = Batch {
        observation: stacked(&batch["obs"]),
        action: stacked(&batch["action"]),
        reward: stacked(&batch["reward"]),
        next_observation: stacked(&batch["next_obs"]),
        continues: stacked(&batch["terminated"]).neg().add_scalar(1.0),
    };
    let target_actor = vector::<Cpu>(actor_of(&v["target_actor"])).inner();
    let next = mlp::forward(&actor_spec, labelled.next_observation.clone(), target_actor).tanh();
    let next = td3_bc::smoothed_action(next, stacked(&batch["noise"]), number("noise_scale"), number("noise_clip"));
    agree("next action", values(next.clone()), repeated(flat(&expected["next_action"])));
    let target_critics = vector::<Cpu>(critics_of(&v["target_critics"])).inner();
    let next_rows = Tensor::cat(vec![rows(&batch["next_obs"]), next.narrow(0, 0, 1)], 2);
    let next_q = mlp::forward(&critic_spec, twins(next_rows), target_critics);
    let target = td3_bc::target_value(&labelled, next_q, number("discount"));
    agree("target", values(target.clone()), repeated(flat(&expected["target"])));

    let critic_params = vector::<Cpu>(critics_of(&v["critics"])).require_grad();
    let data = twins(Tensor::cat(vec![rows(&batch["obs"]), rows(&batch["action"])], 2));
    let q = mlp::forward(&critic_spec, Tensor::<Cpu, 3>::from_inner(data), critic_params.clone());
    agree("Q", values(q.clone().inner()), repeated(flat(&expected["q_data"])));
    let loss = td3_bc::critic_loss(q, Tensor::from_inner(target));
    agree("critic loss", values(loss.clone().inner()), repeated(one(&expected["critic_loss"])));
    let gradient = critic_params.grad_remove(&mut loss.backward()).unwrap();
    agree("critic gradients", values(gradient), critics_of(&expected["critic_gradients"]));

    let first = members(&v["critics"]).remove(0);
    let first = vector::<Cpu>(parameters(&vec![first; seeds]));
    for (name, parts) in [("q_only", [1.0, 0.0]), ("bc_only", [0.0, 1.0]), ("q_and_bc", [1.0, 1.0])] {
        let actor_params = vector::<Cpu>(actor_of(&v["actor"])).require_grad();
        let observation = Tensor::<Cpu, 3>::from_inner(labelled.observation.clone());
        let action = mlp::forward(&actor_spec, observation.clone(), actor_params.clone()).tanh();
        agree("π(s)", values(action.clone().inner()), repeated(flat(&expected["action_pi"])));
        let pairs = Tensor::cat(vec![observation, action.clone()], 2);
        let q = mlp::forward(&MlpSpec::new(seeds, 5, &[16, 16], 1), pairs, first.clone());
        let scale = td3_bc::value_scale(q.clone().inner(), number("alpha"));
        agree("λ", values(scale), repeated(one(&expected["lambda"])));
        let bc_loss = cloning::loss(action, Tensor::from_inner(labelled.action.clone()));
        let loss = td3_bc::actor_loss(q, number("alpha")) * parts[0] + bc_loss * parts[1];
        agree(name, values(loss.clone().inner()), repeated(one(&expected["actor_loss"][name])));
        let gradient = actor_params.grad_remove(&mut loss.backward()).unwrap();
        agree(name, values(gradient), actor_of(&expected["actor_gradients"][name]));
    }
}

#[test]
fn tanh_gaussian_log_probabilities() {
    let grid = &vectors("gaussian")["grid"];
    let (mean, log_std, u) = (flat(&grid["mean"]), flat(&grid["log_std"]), flat(&grid["u"]));
    let expected = flat(&grid["expected"]["floored"]);
    for i in 0..mean.len() {
        let head = Tensor::<Plain, 3>::from_data([[[mean[i], log_std[i]]]], &Default::default());
        let noise = (u[i] - mean[i]) / log_std[i].exp();
        let drawn = gaussian::sample(head, Tensor::from_data([[[noise]]], &Default::default()));
        let found = values(drawn.log_prob)[0];
        // Near saturation 1 - a² loses digits in f32: the constant 1e-6 bounds what can be lost.
        let tolerance = if u[i].abs() > 3.0 { 0.1 } else { 2e-4 };
        assert!((found - expected[i]).abs() <= tolerance, "u = {}: {found} instead of {}", u[i], expected[i]);
    }
}

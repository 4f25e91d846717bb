//! A step of the native engine allocates nothing, whatever it is given: counted by the allocator itself.

#![cfg(feature = "std")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod counting;

use counting::allocations_in;
use policy_runtime::probe::Draws;
use policy_runtime::spec::{Activation, Dense, Mlp, Normalizer, Reduction, Squash};
use policy_runtime::{
    Channel, Contract, Discriminator, DiscriminatorGraph, Fallback, Observation, Policy, PolicyGraph,
};

fn mlp(widths: &[usize], activation: Activation) -> Mlp {
    let mut draws = Draws::new(3);
    let layer = |pair: &[usize]| Dense {
        inputs: pair[0],
        outputs: pair[1],
        weights: (0..pair[0] * pair[1]).map(|_| 0.1 * draws.normal()).collect(),
        bias: vec![0.0; pair[1]],
        activation,
    };
    Mlp { layers: widths.windows(2).map(layer).collect() }
}

fn contract() -> Contract {
    Contract {
        task: "test".into(),
        observation: (0..17).map(|index| Channel::unbounded(format!("o{index}"), "1")).collect(),
        action: (0..6).map(|index| Channel::bounded(format!("a{index}"), "1", -1.0, 1.0)).collect(),
        control_period_secs: 0.002,
        fallback: Fallback::Hold,
        max_observation_age_secs: Some(0.01),
        guards: Default::default(),
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_in(|| drop(std::hint::black_box(vec![1_u8; 10]))), 2);
}

#[test]
fn native_steps_allocate_nothing() {
    let normalizer = Normalizer { mean: vec![0.5; 17], std: vec![2.0; 17] };
    for activation in [Activation::Relu, Activation::Tanh, Activation::Silu, Activation::Elu] {
        let layers = mlp(&[17, 64, 64, 6], activation).layers;
        let graph = PolicyGraph::for_contract(&contract(), Some(normalizer.clone()), layers, Squash::Tanh).unwrap();
        let mut policy = Policy::from_graph(contract(), graph).unwrap();
        let good = [0.25; 17];
        let mut bad = good;
        bad[3] = f32::NAN;
        let mut action = [0.0; 6];
        let mut verdicts = [None; 4];
        let calls = allocations_in(|| {
            for (index, values) in [&good[..], &bad, &good[..5], &good].into_iter().enumerate() {
                let now_nanos = if index == 3 { 1_000_000_000 } else { 0 };
                verdicts[index] = Some(policy.step(now_nanos, &Observation { values, stamp_nanos: 0 }, &mut action));
            }
        });
        assert_eq!(calls, 0, "{activation:?}");
        let good: Vec<bool> = verdicts.into_iter().map(|verdict| verdict.unwrap().is_good()).collect();
        assert_eq!(good, [true, false, false, false]);
    }
}

#[test]
fn native_rewards_allocate_nothing() {
    let members = vec![mlp(&[23, 32, 1], Activation::Tanh); 3];
    let graph = DiscriminatorGraph::for_contract(&contract(), members, Some(5.0), Reduction::Min).unwrap();
    let mut discriminator = Discriminator::from_graph(contract(), graph).unwrap();
    let mut reward = 0.0;
    assert_eq!(allocations_in(|| reward = discriminator.reward(&[0.1; 17], &[0.2; 6]).unwrap()), 0);
    assert!(reward.is_finite());
}

//! Seeds side by side in one stack learn what each learns alone, up to the order of summation.
#![allow(clippy::unwrap_used)]

mod common;

use common::{config, expert, game};
use trainer::methods::Method;
use trainer::methods::adril::Adril;
use trainer::methods::bc::Bc;
use trainer::nn::Cpu;

const SEEDS: [u64; 2] = [3, 4];

/// Runs a stack of both seeds and each alone, and compares actors.
fn compare<M: Method>(name: &str, pieces: usize, build: impl Fn(&[u64]) -> M) {
    let actors = |seeds: &[u64]| {
        let mut method = build(seeds);
        for _ in 0..pieces {
            assert_eq!(method.advance().unwrap().len(), seeds.len());
        }
        method.networks().into_iter().map(|networks| networks.actor.1).collect::<Vec<_>>()
    };
    let stacked = actors(&SEEDS);
    assert_ne!(stacked[0], stacked[1]);
    for (seed, stacked) in SEEDS.iter().zip(stacked) {
        let alone = actors(&[*seed]).remove(0);
        let largest = stacked.iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(stacked.len() == alone.len() && largest < 1e-4, "{name}, seed {seed}: {largest}");
    }
}

#[test]
fn stacked_seeds_of_each_method_learn_as_they_would_alone() {
    let cloning = config("bc", &[]);
    compare("bc", 2, |seeds| Bc::<Cpu>::new(&cloning, expert(), seeds, &Default::default()));
    let labelled = config("adril", &["adril.rewards_divided_by=episodes", "adril.update_every=64"]);
    let labels = labelled.adril.as_ref().unwrap();
    compare("adril", 4, |seeds| Adril::<Cpu>::new(&labelled, labels, expert(), seeds, &Default::default()).unwrap());
    let td3_bc = ["learner=td3-bc", "td3_bc.bc_steps=10", "reward.update_every=20"];
    for (method, set, pieces) in [("hype-resets", &td3_bc[..], 30), ("bc-reg", &td3_bc[..], 30), ("bc-reg", &[], 3)] {
        let config = config(method, set);
        compare(method, pieces, |seeds| game(&config, expert(), seeds));
    }
}

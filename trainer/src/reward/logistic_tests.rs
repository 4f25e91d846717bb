//! GAIL's classifier: what its reward looks like, how long a pass is.

use super::discriminator::Pairs;
use super::logistic::Classifier;
use crate::config::{GailConfig, GailReward, Overrides, resolve};
use crate::nn::Cpu;
use crate::run::rng::{Stream, Streams};

fn config(reward: GailReward) -> GailConfig {
    let overrides = Overrides { seeds: Some(vec![0]), ..Overrides::default() };
    let preset = resolve("gail", "hopper", &overrides).unwrap().gail.unwrap();
    GailConfig { hidden: vec![16], batch_size: 128, reward, ..preset }
}

/// `count` pairs of width 2 around `(centre, centre)`.
fn around(centre: f64, count: usize, rng: &mut Stream) -> Pairs {
    let mut pairs = Pairs::new(2);
    for _ in 0..count {
        let [x, y] = [0, 0].map(|_| (centre + rng.uniform(-0.5, 0.5)) as f32);
        pairs.push(&[x], &[y]);
    }
    pairs
}

fn classifier(reward: GailReward) -> Classifier<Cpu> {
    Classifier::new(&config(reward), 2, Streams::new(1), &Default::default())
}

/// A classifier that knows both sides well, and the rewards that it gives to pairs of either.
fn judged(reward: GailReward) -> (Vec<f32>, Vec<f32>) {
    let rng = &mut Streams::new(4).stream("test");
    let (expert, learner) = (around(2.0, 512, rng), around(-2.0, 512, rng));
    let mut classifier = classifier(reward);
    classifier.train(&expert, &learner, 300);
    (classifier.rewards(&expert), classifier.rewards(&learner))
}

/// The termination bias in one place: a learner that the classifier sees through pays for every step of its life with the
/// logit, and with `log D`; with `-log(1 - D)` it never does.
#[test]
fn only_the_positive_form_makes_no_step_a_loss() {
    let (logit, positive, negative) =
        (judged(GailReward::Logit), judged(GailReward::Positive), judged(GailReward::Negative));
    assert!(logit.1.iter().all(|r| *r < -1.0) && logit.0.iter().all(|r| *r > 1.0));
    assert!(positive.1.iter().all(|r| (0.0..0.5).contains(r)) && positive.0.iter().all(|r| *r > 1.0));
    assert!(negative.1.iter().all(|r| *r < -1.0) && negative.0.iter().all(|r| (-0.5..=0.0).contains(r)));
    // The logit is the sum of its two sides, and all forms rank pairs equally.
    for ((logit, positive), negative) in logit.1.iter().zip(&positive.1).zip(&negative.1) {
        assert!((logit - positive - negative).abs() < 1e-4, "{logit} = {positive} + {negative}");
    }
}

/// A pass is as long as the shorter side: 200 expert pairs are one minibatch of 128, however long the rollout is. Adam's first
/// step moves no weight by more than its rate.
#[test]
fn a_pass_ends_with_the_shorter_side() {
    let rng = &mut Streams::new(4).stream("test");
    let moved = |expert: usize, learner: usize, rng: &mut Stream| {
        let mut classifier = classifier(GailReward::Logit);
        let before = classifier.network().1;
        classifier.train(&around(2.0, expert, rng), &around(-2.0, learner, rng), 1);
        let after = classifier.network().1;
        before.iter().zip(&after).map(|(before, after)| (after - before).abs()).fold(0.0, f32::max)
    };
    assert!(moved(200, 2048, rng) < 1.01e-3 && moved(2048, 200, rng) < 1.01e-3 && moved(60, 60, rng) < 1.01e-3);
    assert!(moved(2048, 2048, rng) > 5e-3);
}

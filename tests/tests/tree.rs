//! The paper's central claim, measured: see [`hype_tests::tree`] for the game, docs/results/tree.md for the numbers.
//!
//! Seeds are fixed, so the figures are the same everywhere. The margins are wider than chance needs: the episodes that MM takes
//! have nearly the spread of their mean, so a fitted growth rate has a standard error of 0.02 with 100 seeds and of 0.04 with 24
//! seeds over seven depths.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use hype_tests::tree::{Line, Measured, Method, RewardClass, fit, measure};

const DEPTHS: std::ops::RangeInclusive<usize> = 4..=10;

fn depth(point: &Measured) -> f64 {
    point.tree.depth as f64
}

/// `g` in `episodes ~ exp(g · H)`.
fn exponential(points: &[Measured]) -> Line {
    fit(points, depth, |p| p.episodes.ln())
}

/// `p` in `episodes ~ H^p`.
fn power(points: &[Measured]) -> Line {
    fit(points, |p| depth(p).ln(), |p| p.episodes.ln())
}

fn linear(points: &[Measured]) -> Line {
    fit(points, depth, |p| p.episodes)
}

#[test]
fn a_reward_that_names_one_leaf_costs_mm_exponentially_many_episodes() {
    for (actions, seeds) in [(2, 100), (3, 24)] {
        let points = measure(actions, DEPTHS, Method::Mm, RewardClass::SingleLeaf, seeds);
        let growth = exponential(&points);
        let expected = (actions as f64).ln();
        assert!((growth.slope - expected).abs() < 0.15 && growth.r_squared > 0.97, "{growth:?} of {points:?}");
        // Not the growth alone: about one leaf in |A|^H is right, and ε-greedy play finds it by chance.
        for point in &points {
            let leaves = (actions as f64).powi(point.tree.depth as i32);
            assert!((0.5..2.0).contains(&(point.episodes / leaves)), "{point:?}");
        }
    }
}

#[test]
fn expert_rows_and_expert_starts_cost_episodes_in_proportion_to_the_depth() {
    for actions in [2, 3] {
        let hype = measure(actions, DEPTHS, Method::Hype, RewardClass::SingleLeaf, 40);
        assert!((linear(&hype).slope - 1.0).abs() < 0.1 && linear(&hype).r_squared > 0.99, "{hype:?}");
        assert!((power(&hype).slope - 1.0).abs() < 0.1, "{hype:?}");

        // Each of the H states must be left by the right action once, a draw of coupons: H up to a logarithm.
        let filter = measure(actions, DEPTHS, Method::Filter, RewardClass::SingleLeaf, 100);
        assert!(linear(&filter).r_squared > 0.95, "{filter:?}");
        assert!((0.8..1.7).contains(&power(&filter).slope), "{:?} of {filter:?}", power(&filter));

        // MM needs about as many episodes as there are leaves.
        let leaves = (actions as f64).powi(10);
        let (hype, filter) = (hype.last().unwrap(), filter.last().unwrap());
        assert!(hype.episodes <= 11.0 && filter.episodes < 0.1 * leaves, "{hype:?} {filter:?}");
    }
}

#[test]
fn a_reward_that_guides_step_by_step_closes_the_gap() {
    for actions in [2, 3] {
        for method in [Method::Mm, Method::Hype, Method::Filter] {
            let points = measure(actions, DEPTHS, method, RewardClass::PerStep, 100);
            assert!(power(&points).slope < 1.5, "{method:?}: {:?} of {points:?}", power(&points));
            // A few tries for each of H actions, which is linear in H.
            let most = |p: &Measured| (2 * actions * p.tree.depth) as f64;
            assert!(points.iter().all(|p| p.episodes <= most(p)), "{method:?}: {points:?}");
        }
    }
}

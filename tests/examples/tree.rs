//! Measures `hype_tests::tree` and prints the numbers of docs/results/tree.md as CSV:
//! `cargo run --release -p hype-tests --example tree > docs/results/tree.csv`

#![allow(clippy::print_stdout)]

use hype_tests::tree::{Method, RewardClass, measure};

fn main() {
    println!("reward_class,method,actions,depth,seeds,episodes,standard_error,steps");
    for (class, class_name) in [(RewardClass::SingleLeaf, "single-leaf"), (RewardClass::PerStep, "per-step")] {
        for (method, method_name) in [(Method::Mm, "mm"), (Method::Hype, "hype"), (Method::Filter, "filter")] {
            for actions in [2, 3] {
                for point in measure(actions, 4..=10, method, class, 100) {
                    println!(
                        "{class_name},{method_name},{actions},{},{},{:.2},{:.2},{:.2}",
                        point.tree.depth, point.seeds, point.episodes, point.standard_error, point.steps
                    );
                }
            }
        }
    }
}

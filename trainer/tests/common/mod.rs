//! Tiny trainings on the pendulum, for tests of methods.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::OnceLock;
use trainer::cli::collect::{Collection, collect};
use trainer::cli::policy;
use trainer::config::{Overrides, RunConfig, resolve};
use trainer::demos::{self, Demonstrations};
use trainer::envs;
use trainer::methods::demonstrated::Demonstrated;
use trainer::methods::hype::Hype;
use trainer::nn::Cpu;
use trainer::run::rng::Streams;

/// Two episodes of the shipped expert on the pendulum.
pub(crate) fn demonstrations() -> &'static Demonstrations {
    static DEMOS: OnceLock<Demonstrations> = OnceLock::new();
    DEMOS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("demos.hdf5");
        let unused = Streams::new(0).stream("random_policy");
        let engine = policy_runtime::EngineChoice::Auto;
        let mut expert = policy::open("expert", Some("pendulum"), engine, Default::default(), unused).unwrap();
        let collection = Collection { episodes: 2, full_length: true, ..Collection::default() };
        collect(&mut expert, &envs::task("pendulum").unwrap(), collection, &file).unwrap();
        demos::read(&file).unwrap()
    })
}

pub(crate) fn config(method: &str, set: &[&str]) -> RunConfig {
    let mut all = vec!["sac.hidden=[8]", "sac.batch_size=8"];
    if !["bc", "adril"].contains(&method) {
        let small =
            ["reward.hidden=[8]", "reward.batch_size=16", "reward.update_every=128", "reward.rollout_episodes=1"];
        all.extend(small);
        all.extend(["td3_bc.hidden=[8]", "td3_bc.batch_size=8"]);
    }
    all.extend(set);
    let set = all.into_iter().map(String::from).collect();
    resolve(method, "pendulum", &Overrides { set, seeds: Some(vec![0]), ..Overrides::default() }).unwrap()
}

pub(crate) fn expert() -> Demonstrated {
    Demonstrated::new(demonstrations(), &envs::task("pendulum").unwrap()).unwrap()
}

/// The adversarial method that `config` describes, for a stack of `seeds`.
pub(crate) fn game(config: &RunConfig, expert: Demonstrated, seeds: &[u64]) -> Hype<Cpu> {
    Hype::new(config, config.reward.as_ref().unwrap(), expert, seeds, &Default::default()).unwrap()
}

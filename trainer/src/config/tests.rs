use super::*;

fn resolved(method: &str, task: &str, set: &[&str]) -> crate::error::Result<RunConfig> {
    let set = set.iter().map(|s| (*s).to_string()).collect();
    resolve(method, task, &Overrides { set, seeds: vec![0], ..Overrides::default() })
}

#[test]
fn every_preset_resolves_and_survives_its_own_file() {
    for method in METHODS.into_iter().chain(["expert"]) {
        for task in ["hopper", "walker2d", "half-cheetah", "ant", "humanoid", "pendulum", "hopper-v4"] {
            for profile in PROFILES.into_iter().chain((method == "hyper").then_some("small")) {
                let overrides = Overrides { preset: Some(profile.into()), seeds: vec![1, 2], ..Overrides::default() };
                let config = resolve(method, task, &overrides).unwrap();
                let text = toml::to_string(&config).unwrap();
                assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config, "{method} {task} {profile}");
                let mixes = ["hype", "hype-resets", "sqil", "adril"].contains(&method);
                assert_eq!(config.hybrid.schedule.is_empty(), !mixes, "{method} and expert rows");
                let resets = ["filter", "hype-resets", "hyper"].contains(&method);
                assert_eq!(config.reset.probability > 0.0, resets, "{method} {task}");
                assert_eq!(config.bc_reg.is_some(), method == "bc-reg");
                let has_faults = ["hype", "hyper", "mm", "filter", "hype-resets", "bc", "bc-reg"].contains(&method);
                let faulty = profile == "code" && has_faults;
                assert_eq!(config.faults != FaultsConfig::default(), faulty, "{method} {profile}");
            }
        }
    }
}

#[test]
fn profiles_differ_where_the_sources_do() {
    let profile = |name: &str| {
        resolve("hype", "hopper", &Overrides { preset: Some(name.into()), seeds: vec![0], ..Overrides::default() })
            .unwrap()
    };
    let (fixed, code, paper) = (profile("fixed"), profile("code"), profile("paper"));
    assert_eq!(fixed.hybrid.schedule, [Stage(0.2, 0.1, 200_000), Stage(0.1, 0.01, 1_000_000)]);
    assert!(!fixed.sac.timeouts_are_terminal && code.sac.timeouts_are_terminal);
    assert_eq!(code.sac.learning_rate_schedule, RateSchedule::Sawtooth);
    let period = |config: &RunConfig| config.reward.as_ref().unwrap().update_every;
    assert_eq!((period(&fixed), period(&code), period(&paper)), (5_000, 5_000, 10_000));
}

#[test]
fn rows_of_the_family_differ_from_their_relatives_in_one_thing() {
    let of = |method: &str, task: &str| RunConfig { method: String::new(), ..resolved(method, task, &[]).unwrap() };
    let (mm, hype) = (of("mm", "walker2d"), of("hype", "walker2d"));
    let half = || ResetConfig { probability: 0.5, ..mm.reset.clone() };
    assert_eq!(of("filter", "walker2d"), RunConfig { reset: half(), ..mm.clone() });
    assert_eq!(of("hype-resets", "walker2d"), RunConfig { reset: half(), ..hype.clone() });
    assert_eq!(hype, RunConfig { hybrid: hype.hybrid.clone(), ..mm.clone() });
    let weight = |task| of("bc-reg", task).bc_reg.unwrap().weight;
    assert_eq!(["ant", "humanoid", "hopper", "walker2d-v3"].map(weight), [1.0, 0.5, 1.0, 0.5]);
    assert_eq!(of("bc-reg", "walker2d"), RunConfig { bc_reg: of("bc-reg", "walker2d").bc_reg, ..mm });
    assert_eq!(["walker2d", "hopper"].map(|task| of("bc", task).env_steps), [500_000, 300_000]);
}

#[test]
fn the_learner_is_chosen_where_there_is_a_choice() {
    let config = resolved("hype", "hopper", &["learner=td3-bc", "td3_bc.bc_steps=10000"]).unwrap();
    assert_eq!((config.learner, config.rhythm().train_every), (LearnerKind::Td3Bc, 1));
    assert_eq!(config.td3_bc().map(|td3_bc| td3_bc.bc_steps), Some(10_000));
    assert_eq!(resolved("hype", "hopper", &[]).unwrap().td3_bc(), None);
    let error = resolved("expert", "hopper", &["learner=td3-bc"]).unwrap_err().to_string();
    assert!(error.contains("learner"), "{error}");
    let error = resolved("mm", "hopper", &["td3_bc.policy_delay=0"]).unwrap_err().to_string();
    assert!(error.contains("td3_bc.policy_delay") && error.contains("at least 1"), "{error}");
}

#[test]
fn settings_override_and_wrong_ones_are_named() {
    let config = resolved("mm", "hopper", &["sac.batch_size=128", "sac.optimizer=adam", "reward.clip=40.0"]).unwrap();
    assert_eq!((config.sac.batch_size, config.sac.optimizer), (128, Optimizer::Adam));
    assert_eq!(config.reward.unwrap().clip, Some(40.0));
    let linear = resolved("hype", "hopper", &["sac.actor_hidden=[]", "sac.target_every=2"]).unwrap();
    assert_eq!((linear.sac.actor_hidden.as_deref(), linear.sac.target_every), (Some([].as_slice()), 2));
    for (set, words) in [
        ("sac.batchsize=128", ["sac.batchsize", "did you mean `sac.batch_size`"]),
        ("sac.discount=1.5", ["sac.discount", "found 1.5"]),
        ("sac.hidden=3", ["does not fit", "expected a sequence"]),
        ("env.tremble=-0.5", ["env.tremble", "0 to 1"]),
        ("task=\"ant\"", ["task", "command line"]),
        ("hello", ["--set hello", "key=value"]),
        ("hybrid.schedule=[[0.2, 0.1, 100], [0.1, 0.0, 50]]", ["hybrid.schedule", "later"]),
    ] {
        let error = resolved("hype", "hopper", &[set]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{set}: {text}");
    }
    assert!(resolved("hyp", "hopper", &[]).unwrap_err().to_string().contains("did you mean `hype`"));
}

#[test]
fn seeds_are_one_a_range_or_a_list() {
    assert_eq!(parse_seeds("3").unwrap(), [3]);
    assert_eq!(parse_seeds("0..5").unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(parse_seeds("0,4").unwrap(), [0, 4]);
    for wrong in ["", "a", "5..5", "1,1", "-1", "0..x"] {
        assert!(parse_seeds(wrong).is_err(), "{wrong}");
    }
}

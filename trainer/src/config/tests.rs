use super::*;

fn resolved(method: &str, task: &str, set: &[&str]) -> crate::error::Result<RunConfig> {
    let set = set.iter().map(|s| (*s).to_string()).collect();
    resolve(method, task, &Overrides { set, seeds: Some(vec![0]), ..Overrides::default() })
}

#[test]
fn every_preset_resolves_and_survives_its_own_file() {
    for method in method_names().into_iter().chain(["expert"]) {
        for task in ["hopper", "walker2d", "half-cheetah", "ant", "humanoid", "pendulum", "hopper-v4"] {
            for profile in PROFILES.into_iter().chain((method == "hyper").then_some("small")) {
                let overrides =
                    Overrides { preset: Some(profile.into()), seeds: Some(vec![1, 2]), ..Overrides::default() };
                let config = resolve(method, task, &overrides).unwrap();
                let text = toml::to_string(&config).unwrap();
                assert_eq!(toml::from_str::<RunConfig>(&text).unwrap(), config, "{method} {task} {profile}");
                let mixes = ["hype", "hype-resets", "sqil", "adril"].contains(&method)
                    || (method, task, profile) == ("hyper", "half-cheetah", "small");
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
        resolve(
            "hype",
            "hopper",
            &Overrides { preset: Some(name.into()), seeds: Some(vec![0]), ..Overrides::default() },
        )
        .unwrap()
    };
    let (fixed, code, paper) = (profile("fixed"), profile("code"), profile("paper"));
    assert_eq!(fixed.hybrid.schedule, [Stage(0.2, 0.1, 200_000), Stage(0.1, 0.01, 1_000_000)]);
    assert!(!fixed.sac.timeouts_are_terminal && code.sac.timeouts_are_terminal);
    assert_eq!(code.sac.learning_rate_schedule, RateSchedule::Sawtooth);
    assert_eq!([&fixed, &code, &paper].map(|config| config.sac.gsde), [false, false, true]);
    let period = |config: &RunConfig| config.reward.as_ref().unwrap().update_every;
    assert_eq!((period(&fixed), period(&code), period(&paper)), (5_000, 5_000, 10_000));
}

#[test]
fn half_cheetahs_discriminator_sees_deviations_and_no_others() {
    for method in ["hype", "mm", "hyper"] {
        let normalized = |task: &str, profile: &str| {
            let overrides = Overrides { preset: Some(profile.into()), ..Overrides::default() };
            resolve(method, task, &overrides).unwrap().reward.unwrap().normalized
        };
        assert!(normalized("half-cheetah", "fixed") && normalized("half-cheetah-backward", "fixed"), "{method}");
        assert!(!normalized("hopper", "fixed") && !normalized("half-cheetah", "code"), "{method}");
        assert!(!normalized("half-cheetah", "paper"), "{method}");
    }
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
        ("sac.gsde=1", ["`sac.gsde`", "true or false"]),
        ("sac.hidden=3", ["`sac.hidden`", "a list like"]),
        ("sac.hidden=[64, -3]", ["`sac.hidden`", "found [64, -3]"]),
        ("sac.batch_size=abc", ["`sac.batch_size`", "a whole number"]),
        ("reward.learning_rate=fast", ["`reward.learning_rate`", "found \"fast\""]),
        ("sac.optimizer=sgd", ["`sac.optimizer`", "optimistic-adam"]),
        ("hybrid.schedule=[[0.5,0.1]]", ["`hybrid.schedule`", "stages like"]),
        ("hybrid.schedule=0.5", ["`hybrid.schedule`", "stages like [[0.2"]),
        ("sac.nonsense=1", ["sac.nonsense", "the keys there are"]),
        ("nonsense=1", ["nonsense", "and tables"]),
        ("world_model.members=3", ["hype has no setting `world_model.members`", "or hyper"]),
        ("bc_reg.weight=3", ["hype has no setting", "or bc-reg"]),
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
    let error = |method, set: &[&str]| resolved(method, "hopper", set).unwrap_err().to_string();
    assert!(error("bc", &["sac.gsde=true"]).contains("`sac.gsde`"), "{}", error("bc", &["sac.gsde=true"]));
    assert!(error("hyper", &["sac.gsde=true"]).contains("one draw"), "{}", error("hyper", &["sac.gsde=true"]));
    assert!(error("mm", &["sac.gsde=true", "sac.actor_hidden=[]"]).contains("without hidden layers"));
    assert!(resolved("hyp", "hopper", &[]).unwrap_err().to_string().contains("did you mean `hype`"));
}

/// Runs from before `imagination.dynamics` lack it in their `config.toml`, and are still read.
#[test]
fn older_runs_imagine_in_their_ensemble() {
    let config = resolved("hyper", "hopper", &[]).unwrap();
    let text = toml::to_string(&config).unwrap();
    let older = text.replace("dynamics = \"ensemble\"\n", "");
    assert_ne!(older, text);
    assert_eq!(toml::from_str::<RunConfig>(&older).unwrap(), config);
}

/// What a run's own file leaves out was off, whatever the preset has by now; of a file of some settings nothing follows.
#[test]
fn a_runs_own_file_says_everything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let from = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let overrides =
            Overrides { preset: Some("small".into()), config_file: Some(file.clone()), ..Overrides::default() };
        resolve("hyper", "half-cheetah", &overrides).unwrap().world_model.unwrap().learner_share
    };
    let small = Overrides { preset: Some("small".into()), ..Overrides::default() };
    let text = toml::to_string(&resolve("hyper", "half-cheetah", &small).unwrap()).unwrap();
    let older = text.replace("learner_share = 0.5\n", "");
    assert_ne!(older, text);
    assert_eq!([from(&text), from(&older)], [Some(0.5), None]);
    let part = older.replace("method = \"hyper\"\n", "");
    assert_eq!([from(&part), from("[world_model]\nfit_every = 9\n")], [Some(0.5); 2]);
}

/// A run can be repeated from the `config.toml` that it wrote.
#[test]
fn every_runs_own_file_gives_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    for method in method_names() {
        for (task, profile) in ["hopper", "walker2d"].iter().flat_map(|task| PROFILES.map(|profile| (*task, profile))) {
            let preset = Overrides { preset: Some(profile.into()), seeds: Some(vec![1, 2]), ..Overrides::default() };
            let config = resolve(method, task, &preset).unwrap();
            std::fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
            let from_file = || Overrides { config_file: Some(file.clone()), ..Overrides::default() };
            assert_eq!(resolve(method, task, &from_file()).unwrap(), config, "{method} {task} {profile}");
            let seeds = Overrides { seeds: Some(vec![7]), ..from_file() };
            assert_eq!(resolve(method, task, &seeds).unwrap(), RunConfig { seeds: vec![7], ..config });
            let error = resolve(method, "ant", &from_file()).unwrap_err().to_string();
            assert!(error.contains("of another task") && error.contains("expected ant"), "{error}");
            let other = if profile == "code" { "fixed" } else { "code" };
            let error = resolve(method, task, &Overrides { preset: Some(other.into()), ..from_file() }).unwrap_err();
            assert!(error.to_string().contains("of another preset"), "{error}");
        }
    }
}

#[test]
fn settings_that_are_never_read_are_named() {
    let warned = |method: &str, set: &[&str]| {
        let set = set.iter().map(ToString::to_string).collect();
        let overrides = Overrides { set, ..Overrides::default() };
        idle_settings(&overrides, &resolve(method, "hopper", &overrides).unwrap()).unwrap().join("; ")
    };
    for (method, set, word) in [
        ("bc", &["reset.probability=1.0"][..], "reset.probability"),
        ("bc", &["sac.discount=0.9"], "cloning reads"),
        ("hype", &["learner=td3-bc", "sac.hidden=[8]"], "a table of its own"),
        ("hype", &["td3_bc.alpha=1.0"], "learner=td3-bc"),
        ("mm", &["faults.bc_reg_rows_from_replay=true"], "bc-reg"),
        ("mm", &["reward.reduction=max"], "one network"),
        ("hyper", &["imagination.reward=task", "reward.learning_rate=1.0"], "the task's"),
        ("hyper", &["world_model.rate_batches=10"], "constant"),
        ("hyper", &["hyper.pairs=policy-buffer", "reward.rollout_episodes=2"], "no episodes are played"),
        ("hyper", &["imagination.reward=task", "reset.probability=1.0"], "no demonstrations"),
        ("hyper", &["imagination.reward=task", "world_model.learner_share=0.5"], "no demonstrations"),
        ("hyper", &["imagination.reward=task", "hybrid.schedule=[[0.2, 0.2, 9]]"], "no demonstrations"),
        ("hyper", &["imagination.dynamics=simulator", "world_model.hidden=[8]"], "no model is fitted"),
        ("hyper", &["imagination.dynamics=simulator"], "which nobody counts"),
        ("hyper", &["sac.timeouts_are_terminal=true"], "no time limit"),
        ("hyper", &["sac.restarts_each_iteration=true"], "goes on"),
        ("iq-learn", &["sac.restarts_each_iteration=true"], "goes on"),
        ("hyper", &["faults.next_observation_after_reset=true"], "a loop of its own"),
        ("hyper", &["imagination.reward=task", "faults.rollouts_in_training_world=true"], "no episodes are played"),
        ("mm", &["faults.rollouts_reset_too=true"], "reset.probability"),
        ("expert", &["faults.demonstrations_in_env_units=true"], "no demonstrations"),
        ("expert", &["demos_limit=3"], "no demonstrations"),
        ("hyper", &["sac.learn_temperature=false", "sac.target_entropy=1.0"], "not learned"),
    ] {
        assert!(warned(method, set).contains(word), "{method} {set:?}: {}", warned(method, set));
    }
    let read = ["sac.hidden=[8]", "reward.members=2", "reward.reduction=max", "reset.probability=0.5", "env_steps=900"];
    assert_eq!(warned("mm", &read), "");
    let faults = ["faults.rollouts_reset_too=true", "faults.next_observation_after_reset=true"];
    assert_eq!(warned("filter", &faults), "", "both make a difference");
    assert!(warned("mm", &["env_steps=100"]).contains("all 100 steps are random exploration"));
    assert!(warned("hyper", &["env_steps=1125"]).contains("imagination begins after 1125 steps"));
    assert_eq!(warned("hyper", &["env_steps=1126"]), "", "one step to learn in");
    let few = ["imagination.starts_per_step=1", "imagination.epoch_steps=125", "imagination.lengths=[20,100,1,2]"];
    assert!(warned("hyper", &few).contains("no batch of 256"), "{}", warned("hyper", &few));
    assert_eq!(warned("bc", &["env_steps=9"]), "", "cloning takes none");
    assert!(warned("hype", &["sac.batch_size=4"]).contains("a share of 0.2 of 4 rows is less than one"));
    assert_eq!(warned("hype", &["sac.batch_size=5"]) + &warned("mm", &["sac.batch_size=4"]), "");
    let flags = vec![("--disc-from", "hyper.pairs=policy-buffer".to_owned())];
    let error = |flags| resolve("hyper", "hopper", &Overrides { flags, ..Overrides::default() }).map(drop);
    assert!(error(flags.clone()).is_ok());
    let with = [flags, vec![("--reward", "imagination.reward=task".into())]].concat();
    let error = error(with).unwrap_err().to_string();
    assert!(error.contains("--disc-from has no effect") && error.contains("nobody learns one"), "{error}");
    let flag = vec![("--world-model", "world_model.from=x".to_owned())];
    let error = resolve("mm", "hopper", &Overrides { flags: flag, ..Overrides::default() }).unwrap_err().to_string();
    assert!(error.contains("mm has no --world-model") && error.contains("hyper"), "{error}");
}

#[test]
fn seeds_are_one_a_range_or_a_list() {
    assert_eq!(parse_seeds("3").unwrap(), [3]);
    assert_eq!(parse_seeds("0..5").unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(parse_seeds("0,4").unwrap(), [0, 4]);
    for (wrong, word) in
        [("5..3", "from 5 up to"), ("0,4,0", "seed 0 twice"), ("0,b", "`b`"), ("9223372036854775808", "2^63")]
    {
        let error = parse_seeds(wrong).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    for wrong in ["", "a", "5..5", "1,1", "-1", "0..x"] {
        assert!(parse_seeds(wrong).is_err(), "{wrong}");
    }
}

//! IQ-Learn, GAIL, SQIL and AdRIL as the driver runs them, a few hundred steps on Pendulum.

use super::Method;
use super::adril::Adril;
use super::demonstrated::Demonstrated;
use super::gail::{Gail, thinned};
use super::iq_learn::IqLearn;
use super::on_policy::OnPolicy;
use super::sqil::Sqil;
use crate::config::{Overrides, RunConfig, resolve};
use crate::envs::{World, WorldConfig};
use crate::nn::Cpu;
use crate::reward::Origin;
use crate::reward::discriminator::Pairs;
use crate::run::rng::Streams;

const SMALL: [&str; 3] = ["sac.hidden=[16]", "sac.batch_size=16", "env_steps=1000"];
const SMALL_GAIL: [&str; 7] = [
    "ppo.hidden=[16]",
    "ppo.rollout_steps=128",
    "ppo.minibatches=32",
    "ppo.epochs=2",
    "gail.hidden=[16]",
    "gail.warmup_epochs=3",
    "env_steps=1000",
];

fn configured(method: &str, set: &[&str], more: &[&str]) -> RunConfig {
    let set = set.iter().chain(more).map(|s| (*s).to_string()).collect();
    resolve(method, "pendulum", &Overrides { set, seeds: Some(vec![0]), ..Overrides::default() }).unwrap()
}

fn expert() -> Demonstrated {
    Demonstrated::made_up(|x| x)
}

fn iq(more: &[&str]) -> IqLearn<Cpu> {
    let config = configured("iq-learn", &SMALL, more);
    IqLearn::new(&config, config.iq.as_ref().unwrap(), expert(), &[3], &Default::default()).unwrap()
}

fn gail(more: &[&str]) -> Gail<Cpu> {
    let config = configured("gail", &SMALL_GAIL, more);
    let tables = (config.ppo.as_ref().unwrap(), config.gail.as_ref().unwrap());
    Gail::new(&config, tables, &expert(), &[3], &Default::default()).unwrap()
}

fn sqil() -> Sqil<Cpu> {
    Sqil::new(&configured("sqil", &SMALL, &[]), expert(), &[3], &Default::default()).unwrap()
}

fn adril(more: &[&str]) -> Adril<Cpu> {
    let config = configured("adril", &SMALL, more);
    let mut two_episodes = expert();
    two_episodes.segments = vec![0..100, 100..200];
    Adril::new(&config, config.adril.as_ref().unwrap(), two_episodes, &[3], &Default::default()).unwrap()
}

/// Everything of a method, as a checkpoint has it.
fn bytes(method: &impl Method) -> Vec<u8> {
    postcard::to_stdvec(&method.record().swap_remove(0)).unwrap()
}

fn run<M: Method>(method: &mut M, pieces: usize) -> Vec<u8> {
    (0..pieces).for_each(|_| drop(method.advance().unwrap()));
    bytes(method)
}

/// A method taken out of a checkpoint goes on as if nothing had been.
fn continues_bit_for_bit<M: Method>(fresh: impl Fn() -> M, pieces: usize) {
    let mut whole = fresh();
    let saved = run(&mut whole, pieces);
    let expected = run(&mut whole, pieces);
    let mut resumed = fresh();
    resumed.restore(vec![postcard::from_bytes(&saved).unwrap()]).unwrap();
    assert!(run(&mut resumed, pieces) == expected, "the resumed run is another one");
    assert_ne!(saved, expected);
    assert_eq!(whole.policy(0)(&[0.5, -0.5, 0.1]), resumed.policy(0)(&[0.5, -0.5, 0.1]));
    assert_eq!(whole.networks(), resumed.networks());
}

#[test]
fn every_method_continues_bit_for_bit() {
    continues_bit_for_bit(|| iq(&["iq.warmup_steps=100"]), 3);
    continues_bit_for_bit(|| gail(&[]), 2);
    continues_bit_for_bit(sqil, 3);
    let published = ["adril.rewards_divided_by=episodes", "adril.pools_demonstrations=true"];
    continues_bit_for_bit(|| adril(&[&["adril.update_every=128"], &published[..]].concat()), 5);
    continues_bit_for_bit(|| adril(&["adril.update_every=128", "adril.previous_iteration_is_free=true"]), 5);
}

#[test]
fn iq_learn_learns_after_its_warmup_and_counts_its_steps() {
    let mut iq = iq(&["iq.warmup_steps=100"]);
    let first = iq.advance().unwrap()[0];
    assert_eq!((first.env_steps, first.grad_steps, first.iq), (64, 0, None));
    let second = iq.advance().unwrap()[0];
    assert_eq!((second.env_steps, second.grad_steps), (128, 28));
    assert!(second.iq.unwrap().iq_penalty > 0.0 && second.sac.unwrap().critic_loss.is_finite());
    assert_eq!(iq.counts(0).policy, 128);
}

/// Spec 7.4: the step that the time limit cuts off is stored as an end only where the fault is switched on.
#[test]
fn time_limits_are_ends_only_as_published() {
    for (fault, ends) in [("sac.timeouts_are_terminal=false", 0), ("sac.timeouts_are_terminal=true", 1)] {
        let mut iq = iq(&["iq.warmup_steps=999", fault]);
        run(&mut iq, 4);
        assert_eq!(iq.stored_ends(), ends, "{fault}: Pendulum's episodes of 200 steps, 256 of them played");
    }
}

/// Iterations of 128 steps, two pieces of 64; Pendulum's episodes have 200 steps.
#[test]
fn adril_pays_by_iterations_or_as_published() {
    let labels = |pieces: usize, switches: &[&str]| {
        let mut adril = adril(&[&["adril.update_every=128"], switches].concat());
        (0..pieces).for_each(|_| drop(adril.advance().unwrap()));
        adril.labels()
    };
    for (pieces, k, newest) in [(1, 0, 64), (2, 1, 0), (3, 1, 64), (4, 2, 0), (7, 3, 64)] {
        assert_eq!(labels(pieces, &[]), [Origin::adril(1, k, newest)], "after {pieces} pieces");
    }
    let free = ["adril.previous_iteration_is_free=true"];
    for (pieces, k, newest) in [(1, 0, 64), (2, 1, 0), (3, 1, 64), (4, 2, 128), (5, 2, 192), (6, 3, 128)] {
        assert_eq!(labels(pieces, &free), [Origin::adril(1, k, newest)], "free, after {pieces} pieces");
    }
    let episodes = ["adril.rewards_divided_by=episodes"];
    // Of the episodes that end in steps 200, 400 and 600 those count which lie before steps 128, 256, 384, 512 and 640.
    for (pieces, ended, newest) in [(3, 0, 64), (4, 1, 0), (7, 1, 64), (8, 2, 0), (10, 3, 0)] {
        let expected = Origin::adril(2, ended, newest);
        assert_eq!(labels(pieces, &episodes), [expected], "by episodes, after {pieces} pieces");
    }
}

/// Demonstrations that lie in the learner's replay: 200 rows of them beside 64, then beside 128.
#[test]
fn adrils_pooled_demonstrations_thin_out() {
    let mut adril = adril(&["adril.pools_demonstrations=true"]);
    let mut ratio = || adril.advance().unwrap()[0].expert_ratio;
    assert_eq!([ratio(), ratio()], [Some(200.0 / 264.0), Some(200.0 / 328.0)]);
    let learned = |pooled: &str| run(&mut self::adril(&[pooled]), 2);
    assert_ne!(learned("adril.pools_demonstrations=true"), learned("adril.pools_demonstrations=false"));
}

#[test]
fn gail_reports_both_players_and_its_switches_differ() {
    let report = |more: &[&str]| {
        let mut gail = gail(more);
        gail.advance().unwrap();
        gail.advance().unwrap()[0]
    };
    let base = report(&[]);
    assert_eq!((base.env_steps, base.grad_steps), (256, 2 * 2 * 32));
    let (disc, ppo) = (base.discriminator.unwrap(), base.ppo.unwrap());
    assert!(disc.disc_loss.is_finite() && ppo.value_loss > 0.0);
    let switches = ["gail.sees_unclamped_actions=true", "gail.sees_observations_as_acted=true", "gail.expert_every=20"];
    for switch in switches {
        assert_ne!(report(&[switch]).discriminator.unwrap().disc_loss, disc.disc_loss, "{switch}");
    }
    for switch in ["gail.scales_rewards_as_it_goes=true", "gail.reward=positive", "gail.reward=negative"] {
        assert_ne!(report(&[switch]).ppo.unwrap().value_loss, ppo.value_loss, "{switch}");
    }
    // An episode ends after 200 steps, in the second rollout.
    for switch in ["ppo.time_limits=terminal", "ppo.time_limits=skip"] {
        assert_ne!(report(&[switch]).ppo.unwrap().value_loss, ppo.value_loss, "{switch}");
    }
}

/// While the normaliser moves, a rollout's observations were acted on through other filters than the one that the expert's go
/// through afterwards: learner and expert standing in the same place would look different. What the classifier sees must not
/// depend on whose the pair is.
#[test]
fn gail_judges_both_sides_through_one_filter() {
    let config = configured("gail", &SMALL_GAIL, &[]);
    let ppo = config.ppo.as_ref().unwrap();
    let world = World::new("pendulum", WorldConfig::default(), Streams::new(3), "env/train").unwrap();
    let expert = expert();
    let mut learner = OnPolicy::<Cpu>::new(ppo, world, &expert.pairs, Streams::new(3), &Default::default());
    let played = learner.play(64, true).unwrap();
    let mut gail = gail(&[]);
    gail.learner = learner;
    let judged = gail.judged(&played);
    let as_expert = gail.learner.seen(&played.pairs);
    assert_eq!(judged.values, as_expert.values);
    let acted = |row: usize| &played.rollout.observations[row * 3..][..3];
    assert!((0..63).all(|row| judged.row(row)[..3] != *acted(row)), "the filter has moved at every step");
    gail.gail.sees_observations_as_acted = true;
    let published = gail.judged(&played);
    assert!((0..64).all(|row| published.row(row)[..3] == *acted(row)));
    // What was drawn is clamped before it is executed; the published classifier sees it as drawn.
    let drawn = &played.rollout.actions;
    assert!(drawn.iter().any(|action| action.abs() > 1.0));
    let seen = |judged: &Pairs| (0..64).map(|row| judged.row(row)[3]).collect::<Vec<f32>>();
    assert_eq!(seen(&judged), drawn.iter().map(|action| action.clamp(-1.0, 1.0)).collect::<Vec<f32>>());
    gail.gail.sees_unclamped_actions = true;
    assert_eq!(seen(&gail.judged(&played)), *drawn);
}

#[test]
fn gail_takes_every_so_manieth_pair_of_the_expert() {
    let mut all = Pairs::new(3);
    (0..100).for_each(|row| all.push(&[row as f32, 0.0], &[0.0]));
    let rows = |every: usize, seed: u64| {
        let kept = thinned(&all, every, &mut Streams::new(seed).stream("test"));
        (0..kept.len()).map(|row| kept.row(row)[0]).collect::<Vec<f32>>()
    };
    assert_eq!(rows(1, 0).len(), 100);
    let kept = rows(20, 0);
    assert!(kept.len() == 5 && kept.windows(2).all(|pair| pair[1] == pair[0] + 20.0), "{kept:?}");
    assert!((1..20).any(|seed| rows(20, seed) != kept), "from a random one on");
}

/// The same rewards, 1 in every step: the running deviation of their discounted sums grows at first. All are divided by the one
/// known at the rollout's end, or each by the one known at its step, the first by next to nothing.
#[test]
fn gail_scales_rewards_by_one_deviation_or_by_one_a_step() {
    let scaled = |as_it_goes: bool| {
        let mut gail = gail(&[]);
        let mut played = gail.learner.play(64, true).unwrap();
        played.reward(&[1.0; 64]);
        gail.learner.scale_rewards(&mut played, as_it_goes);
        played.rollout.moments.iter().map(|moment| moment.reward).collect::<Vec<f64>>()
    };
    let (at_once, as_it_goes) = (scaled(false), scaled(true));
    assert!(at_once.iter().all(|reward| *reward == at_once[0]));
    assert_eq!(as_it_goes[63], at_once[63], "at the rollout's end both know the same");
    assert!(as_it_goes[..20].windows(2).all(|pair| pair[1] < pair[0]), "{as_it_goes:?}");
}

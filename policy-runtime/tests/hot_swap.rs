//! Policies that change over while a loop runs: nothing allocated, freed or missed because of it.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod counting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use counting::allocations_in;
use policy_runtime::monitor::{Cusum, Monitor, MonitorRecord, Score, Shape};
use policy_runtime::spec::{Activation, Dense, Squash};
use policy_runtime::supervisor::Phase;
use policy_runtime::swap::{Handover, prepare, swap_line};
use policy_runtime::timing::Spread;
use policy_runtime::{
    Channel, Contract, Controller, EngineChoice, Fallback, GuardRules, Observation, Policy, PolicyGraph, Verdict,
};

const OBSERVATION: usize = 17;
const ACTION: usize = 6;
const PERIOD_NANOS: u64 = 2_000_000;

fn contract(entry_secs: Option<f64>) -> Contract {
    Contract {
        task: "test".into(),
        observation: (0..OBSERVATION).map(|index| Channel::unbounded(format!("o{index}"), "1")).collect(),
        action: (0..ACTION).map(|index| Channel::bounded(format!("a{index}"), "1", -1.0, 1.0)).collect(),
        control_period_secs: PERIOD_NANOS as f64 * 1e-9,
        fallback: Fallback::Hold,
        max_observation_age_secs: None,
        guards: GuardRules { entry_secs, ..GuardRules::default() },
    }
}

/// A policy whose every action is `number`/1000.
fn policy(number: u64, contract: Contract) -> Policy {
    let layer = |inputs: usize, outputs: usize, bias: f32| Dense {
        inputs,
        outputs,
        weights: vec![0.0; inputs * outputs],
        bias: vec![bias; outputs],
        activation: Activation::Identity,
    };
    let layers = vec![layer(OBSERVATION, 64, 0.5), layer(64, 64, 0.5), layer(64, ACTION, number as f32 / 1000.0)];
    let graph = PolicyGraph::for_contract(&contract, None, layers, Squash::None).unwrap();
    Policy::from_graph(contract, graph).unwrap()
}

/// Time that this thread spent computing: what other programs take from a shared processor does not count.
fn cpu_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, exclusive timespec for the duration of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How often this thread gave up its processor of its own accord: for a lock, for input, or to sleep.
fn waits() -> i64 {
    // SAFETY: a struct of numbers, for which all zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid, exclusive rusage for the duration of the call.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    usage.ru_nvcsw
}

/// Ticks without sleeping, until there were `ticks` of them and `swaps` changes.
fn soak(ticks: u64, swaps: u64) {
    let (mut sender, port) = swap_line();
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let maker = std::thread::spawn(move || {
        let current = policy(0, contract(None));
        for number in 1.. {
            let prepared = prepare(&current, policy(number % 900, contract(None)), &[], Handover::Carry).unwrap();
            if !sender.swap(prepared, || told.load(Ordering::Relaxed)) {
                return number - 1;
            }
        }
        unreachable!("the loop ends first")
    });

    let mut controller = Controller::new(policy(0, contract(None))).unwrap().with_swaps(port);
    let mut action = [f32::NAN; ACTION];
    let (mut ordinary, mut swapping) = (Spread::default(), Spread::default());
    let (mut late_at_swap, mut wrong, mut tick) = (0_u64, 0_u64, 0_u64);
    controller.enter();
    let waits_before = waits();
    let calls = allocations_in(|| {
        while tick < ticks || controller.swaps() < swaps {
            let before = controller.swaps();
            let start_nanos = cpu_nanos();
            let observation = Observation { values: &[0.25; OBSERVATION], stamp_nanos: start_nanos };
            let verdict = controller.tick(start_nanos, Some(&observation), &cpu_nanos, &mut action);
            let took_nanos = cpu_nanos() - start_nanos;
            let swapped = controller.swaps() - before;
            let of = if swapped == 1 { &mut swapping } else { &mut ordinary };
            of.add(took_nanos);
            match verdict {
                // From the very tick of the change on, the action is the new policy's.
                Verdict::Good => {
                    let wanted = (controller.swaps() % 900) as f32 / 1000.0;
                    wrong += u64::from(action.iter().any(|value| (value - wanted).abs() > 1e-6));
                }
                _ => late_at_swap += swapped,
            }
            tick += 1;
        }
    });
    let waited = waits() - waits_before;
    done.store(true, Ordering::Relaxed);
    let made = maker.join().unwrap();
    let text = |spread: &Spread| {
        format!("{} ticks, mean {:.0} ns, max {} ns", spread.count(), spread.mean_nanos(), spread.max_nanos())
    };
    println!("ordinary: {}\nchanging: {}\nlate at a change: {late_at_swap}", text(&ordinary), text(&swapping));
    assert_eq!(calls, 0, "the loop's thread allocated or freed");
    assert_eq!(waited, 0, "the loop's thread waited for another");
    assert_eq!((wrong, controller.counters().ticks()), (0, tick));
    assert!(controller.swaps() >= swaps && made + 1 >= controller.swaps(), "{made} {}", controller.swaps());
    assert_eq!(late_at_swap, 0, "of {} changes", controller.swaps());
}

#[test]
fn changing_policies_neither_allocates_nor_misses() {
    soak(20_000, 20);
}

#[test]
#[ignore = "a million ticks"]
fn a_million_ticks_with_hundreds_of_changes() {
    soak(1_000_000, 500);
}

#[test]
fn a_reset_ramps_from_the_last_command_and_a_stop_is_not_undone() {
    for (handover, first) in [(Handover::Reset, 0.15), (Handover::Carry, 0.3)] {
        let (mut sender, port) = swap_line();
        let ramp = || contract(Some(4.0 * PERIOD_NANOS as f64 * 1e-9));
        let mut controller = Controller::new(policy(100, ramp())).unwrap().with_swaps(port);
        let mut action = [0.0; ACTION];
        let observation = Observation { values: &[0.0; OBSERVATION], stamp_nanos: 0 };
        controller.enter();
        for _ in 0..5 {
            let _ = controller.tick(0, Some(&observation), &|| 0, &mut action);
        }
        assert_eq!((action[0], controller.phase()), (0.1, Phase::Active));
        let prepared = prepare(controller.policy(), policy(300, ramp()), &[], handover).unwrap();
        assert!(!sender.swap(prepared, || true), "it is under way, and nobody waits");
        let _ = controller.tick(0, Some(&observation), &|| 0, &mut action);
        assert!((action[0] - first).abs() < 1e-6, "{handover:?}: {action:?}");
        controller.stop();
        let prepared = prepare(controller.policy(), policy(500, ramp()), &[], handover).unwrap();
        assert!(!sender.swap(prepared, || true), "it too; the one before has come back");
        let held = action;
        let _ = controller.tick(0, Some(&observation), &|| 0, &mut action);
        assert_eq!((controller.swaps(), controller.phase(), action), (2, Phase::Stopped, held));
    }
}

#[test]
fn a_swap_that_nobody_waited_for_ends_no_further_ones() {
    let (mut sender, port) = swap_line();
    let mut controller = Controller::new(policy(1, contract(None))).unwrap().with_swaps(port);
    let mut action = [0.0; ACTION];
    let observation = Observation { values: &[0.0; OBSERVATION], stamp_nanos: 0 };
    controller.enter();
    for number in 2..6_u64 {
        let next = |number| prepare(controller.policy(), policy(number, contract(None)), &[], Handover::Carry).unwrap();
        let (older, newer) = (next(100 * number), next(number));
        assert!(!sender.swap(older, || true) && !sender.swap(newer, || true));
        let _ = controller.tick(0, Some(&observation), &|| 0, &mut action);
        assert_eq!((controller.swaps(), action[0]), (number - 1, number as f32 / 1000.0), "the newer one, at once");
    }
    drop(controller);
    let orphan = prepare(&policy(1, contract(None)), policy(9, contract(None)), &[], Handover::Carry).unwrap();
    assert!(!sender.swap(orphan, || false), "the loop has ended");
}

#[test]
fn a_monitor_changes_with_its_policy() {
    let monitor = |mean: f32| {
        let width = OBSERVATION + ACTION;
        let whitening = (0..width).flat_map(|row| (0..=row).map(move |column| if row == column { 1.0 } else { 0.0 }));
        let shape = Shape { mean: vec![mean; width], whitening: whitening.collect() };
        let cusum = Cusum { mean: 0.0, deviation: 0.1, slack: 0.5, most: 10.0, threshold: 20.0, sum: 0.0 };
        Monitor::new(&MonitorRecord { shape, score: Score::Mahalanobis, cusum: Some(cusum) }, None)
    };
    let (mut sender, port) = swap_line();
    // The old policy's demonstrations were elsewhere, the new one's are here.
    let mut controller = Controller::new(policy(0, contract(None))).unwrap().with_swaps(port);
    controller = controller.with_monitor(monitor(9.0).unwrap());
    let mut action = [0.0; ACTION];
    let mut ticks = |controller: &mut Controller| {
        let observation = Observation { values: &[0.0; OBSERVATION], stamp_nanos: 0 };
        let edges = (0..5).filter_map(|_| {
            let verdict = controller.tick(0, Some(&observation), &|| 0, &mut action);
            controller.watch(verdict, observation.values, &action)
        });
        edges.collect::<Vec<bool>>()
    };
    assert!(ticks(&mut controller).is_empty() && controller.monitor().unwrap().sum() == 0.0, "idle is not scored");
    controller.enter();
    assert_eq!((ticks(&mut controller), controller.alarms()), (vec![true], 1));
    let next = |monitor| {
        let next = prepare(&policy(0, contract(None)), policy(0, contract(None)), &[], Handover::Carry).unwrap();
        next.with_monitor(monitor)
    };
    sender.swap(next(monitor(0.0)), || true);
    assert!(ticks(&mut controller).is_empty() && !controller.monitor().unwrap().is_raised());
    sender.swap(next(monitor(9.0)), || true);
    assert_eq!((ticks(&mut controller), controller.alarms()), (vec![true], 2));
    controller.exit();
    controller.enter();
    assert!(!controller.monitor().unwrap().is_raised(), "another episode");
    sender.swap(next(None), || true);
    assert!(
        ticks(&mut controller).is_empty() && controller.monitor().is_none(),
        "another policy's numbers say nothing"
    );
}

#[test]
fn a_policy_without_a_contract_drives_only_where_that_is_said() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign/rsl_rl_lstm-legacy11-static.onnx");
    let load = || Policy::load(path, EngineChoice::Auto).unwrap();
    assert_eq!(Controller::without_contract(load()).phase(), Phase::Idle);
    let error = Controller::new(load()).unwrap_err();
    assert!(error.to_string().contains("no contract"), "{error}");
}

#[test]
fn another_contract_is_not_prepared() {
    let current = policy(0, contract(None));
    let mut other = contract(None);
    other.observation.swap(0, 1);
    let error = prepare(&current, policy(1, other), &[], Handover::Reset).unwrap_err();
    assert!(error.to_string().contains("observation channels"), "{error}");
    let mut slower = contract(None);
    slower.control_period_secs *= 2.0;
    let error = prepare(&current, policy(1, slower), &[], Handover::Reset).unwrap_err();
    assert!(error.to_string().contains("control period"), "{error}");
}

//! Properties of the state machine, on long random histories.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::num::NonZeroU32;

use policy_runtime::action::Bounds;
use policy_runtime::guard::{Dampers, Guard, Rules, Stop};
use policy_runtime::probe::Draws;
use policy_runtime::supervisor::Phase;
use policy_runtime::{Fallback, Fault, Observation, Supervisor, Verdict};

const LOW: [f32; 3] = [-1.0, 0.25, -40.0];
const HIGH: [f32; 3] = [1.0, 2.0, 40.0];
const MAX_CHANGE: [f32; 3] = [0.1, f32::INFINITY, 3.0];
const DAMPERS: Dampers<'static> = Dampers { velocity: &[1, Dampers::NONE, 0], gain: &[0.5, 0.0, 9.0] };
const HISTORIES: u64 = 400;
const TICKS: usize = 400;

fn rules(fallback: Fallback, draws: &mut Draws) -> Rules<'static> {
    let guard = Guard { observation_width: 2, action_width: 3, max_age_nanos: Some(1000), fallback };
    let mut some = |most: u64| (draws.next_u64() % most) as u32;
    Rules {
        observation: Bounds { low: &[-10.0, -10.0], high: &[10.0, 10.0] },
        fixed: &[0.5, 99.0, -7.0],
        dampers: DAMPERS,
        max_change: if some(2) == 0 { &[] } else { &MAX_CHANGE },
        entry_ticks: some(6),
        exit_ticks: some(6),
        deadline_nanos: Some(500),
        max_faults: NonZeroU32::new(some(8)),
        ..Rules::new(guard, Bounds { low: &LOW, high: &HIGH })
    }
}

/// Mostly sane numbers, sometimes anything that fits into 32 bits.
fn number(draws: &mut Draws, scale: f32) -> f32 {
    if draws.next_u64().is_multiple_of(12) {
        f32::from_bits(draws.next_u64() as u32)
    } else {
        scale * (2.0 * draws.unit() - 1.0)
    }
}

/// What a tick may lead to; written from the diagram in docs/RUNTIME.md, not from the code.
fn may_follow(before: Phase, after: Phase, verdict: Verdict, rules: &Rules<'_>) -> bool {
    let latched = after == Phase::Stopped && rules.max_faults.is_some();
    match (before, verdict) {
        (Phase::Idle, Verdict::Idle) => after == Phase::Idle,
        (Phase::Stopped, Verdict::Stopped(_)) => after == Phase::Stopped,
        (Phase::Exiting, Verdict::Ramping { .. }) => matches!(after, Phase::Exiting | Phase::Idle),
        (Phase::Entering | Phase::Active | Phase::Fallback, Verdict::Fallback(_)) => {
            after == Phase::Fallback || latched
        }
        (Phase::Entering | Phase::Fallback, Verdict::Ramping { remaining_ticks }) => {
            after == if remaining_ticks == 0 { Phase::Active } else { Phase::Entering }
        }
        (Phase::Active, Verdict::Good | Verdict::Limited { .. }) => after == Phase::Active,
        (Phase::Fallback, Verdict::Good | Verdict::Limited { .. }) => after == Phase::Active && rules.entry_ticks == 0,
        _ => false,
    }
}

#[test]
fn whatever_happens_commands_are_safe_and_transitions_are_the_documented_ones() {
    let mut seen = std::collections::HashSet::new();
    for history in 0..HISTORIES {
        let mut draws = Draws::new(history);
        let fallback = [Fallback::Zero, Fallback::Hold, Fallback::Fixed, Fallback::Damping][history as usize % 4];
        let rules = rules(fallback, &mut draws);
        let mut supervisor = Supervisor::new();
        let (mut last, mut previous) = ([f32::NAN; 3], None);
        // Faults, and good ticks in a row since the last one, as docs/RUNTIME.md counts them.
        let (mut faults, mut good_in_a_row) = (0, 0);
        for tick in 0..TICKS {
            match draws.next_u64() % 40 {
                0..4 => faults = if supervisor.enter(&rules) { 0 } else { faults },
                4 => drop(supervisor.exit(&rules)),
                5 => supervisor.stop(),
                6 => faults = if supervisor.rearm() { 0 } else { faults },
                _ => {}
            }
            let before = supervisor.phase();
            let (values, stamp_nanos) = ([number(&mut draws, 9.0), number(&mut draws, 9.0)], draws.next_u64() % 1100);
            let policy = [number(&mut draws, 1.0), 1.0 + number(&mut draws, 0.7), number(&mut draws, 39.0)];
            let mut command = policy;
            let observed = rules.check_observation(1000, &Observation { values: &values, stamp_nanos });
            let checked = observed.and_then(|()| rules.check_deadline(draws.next_u64() % 520));
            let verdict = supervisor.decide(&rules, checked, &values, &mut command, &mut last);
            let context = format!("history {history}, tick {tick}: {before:?} {verdict:?} {command:?}");

            for (index, value) in command.iter().enumerate() {
                assert!((LOW[index]..=HIGH[index]).contains(value), "{context}");
            }
            assert_eq!(command, last, "{context}");
            assert!(may_follow(before, supervisor.phase(), verdict, &rules), "{context} → {:?}", supervisor.phase());
            if verdict == Verdict::Good {
                assert!(checked.is_ok() && command == policy, "{context}");
            }
            if let Verdict::Fallback(fault) = verdict {
                assert_eq!(Err(fault), checked.and_then(|()| rules.check_action(&policy)), "{context}");
            }
            match verdict {
                Verdict::Fallback(_) => (faults, good_in_a_row) = (faults + 1, 0),
                Verdict::Good | Verdict::Limited { .. } => good_in_a_row += 1,
                _ => {}
            }
            if let Some(most) = rules.max_faults {
                if good_in_a_row >= most.get() {
                    faults = 0;
                }
                if matches!(verdict, Verdict::Fallback(_)) {
                    let stopped = supervisor.phase() == Phase::Stopped;
                    assert_eq!(stopped, faults >= most.get(), "{context}: {faults} faults of {most}");
                }
            }
            let driven = matches!(verdict, Verdict::Good | Verdict::Limited { .. } | Verdict::Ramping { .. });
            if let Some(previous) = previous.filter(|_| driven) {
                let previous: [f32; 3] = previous;
                for (index, most) in rules.max_change.iter().enumerate() {
                    let change = (command[index] - previous[index]).abs();
                    assert!(change <= most + 4e-6 * HIGH[index], "{context}: channel {index} changed by {change}");
                }
            }
            seen.insert((before, std::mem::discriminant(&verdict), supervisor.phase()));
            previous = Some(command);
        }
        assert_eq!(supervisor.counters().ticks(), TICKS as u64);
    }
    assert!(seen.len() >= 14, "histories too tame: {} kinds of tick", seen.len());
}

#[test]
fn the_entry_ramp_is_straight_and_ends_exactly_at_the_policy() {
    let guard = Guard { observation_width: 2, action_width: 3, max_age_nanos: None, fallback: Fallback::Zero };
    let rules = Rules { entry_ticks: 4, exit_ticks: 2, ..Rules::new(guard, Bounds { low: &LOW, high: &HIGH }) };
    let (mut supervisor, mut last) = (Supervisor::new(), [0.0; 3]);
    let target = [0.8, 1.25, -20.0];
    let mut tick = |supervisor: &mut Supervisor, proposal| {
        let mut command = target;
        let verdict = supervisor.decide(&rules, proposal, &[0.0; 2], &mut command, &mut last);
        (command, verdict)
    };
    assert_eq!(tick(&mut supervisor, Ok(())), ([0.0, 0.25, 0.0], Verdict::Idle));
    assert!(supervisor.enter(&rules) && !supervisor.enter(&rules));
    for (wanted, remaining_ticks) in
        [([0.2, 0.5, -5.0], 3), ([0.4, 0.75, -10.0], 2), ([0.6, 1.0, -15.0], 1), (target, 0)]
    {
        let (command, verdict) = tick(&mut supervisor, Ok(()));
        assert!(command.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-5), "{command:?}");
        assert_eq!(verdict, Verdict::Ramping { remaining_ticks });
    }
    assert_eq!(tick(&mut supervisor, Ok(())), (target, Verdict::Good));
    assert!(supervisor.exit(&rules));
    assert_eq!(tick(&mut supervisor, Err(Fault::NoObservation)).0, [0.4, 0.75, -10.0], "an exit needs no observation");
    assert_eq!(tick(&mut supervisor, Ok(())).0, [0.0, 0.25, 0.0]);
    assert_eq!(supervisor.phase(), Phase::Idle);
}

#[test]
fn a_flapping_sensor_latches_and_only_rearming_helps() {
    let guard = Guard { observation_width: 2, action_width: 3, max_age_nanos: None, fallback: Fallback::Hold };
    for entry_ticks in [0, 1, 3] {
        let rules = Rules {
            entry_ticks,
            max_faults: NonZeroU32::new(4),
            ..Rules::new(guard, Bounds { low: &LOW, high: &HIGH })
        };
        let (mut supervisor, mut last) = (Supervisor::new(), [0.0; 3]);
        supervisor.enter(&rules);
        let mut verdicts = Vec::new();
        for tick in 0..12 {
            let proposal = if tick % 2 == 0 { Err(Fault::Engine) } else { Ok(()) };
            verdicts.push(supervisor.decide(&rules, proposal, &[0.0; 2], &mut [0.5, 0.5, 0.5], &mut last));
        }
        assert_eq!(verdicts[6], Verdict::Fallback(Fault::Engine), "the fourth fault");
        assert!(verdicts[7..].iter().all(|verdict| *verdict == Verdict::Stopped(Stop::Faults(Fault::Engine))));
        assert!(!supervisor.enter(&rules) && !supervisor.exit(&rules) && supervisor.phase() == Phase::Stopped);
        assert!(supervisor.rearm() && supervisor.phase() == Phase::Idle && supervisor.enter(&rules));
    }
}

#[test]
fn faults_are_forgotten_after_as_many_good_ticks_in_a_row_and_not_before() {
    let guard = Guard { observation_width: 2, action_width: 3, max_age_nanos: None, fallback: Fallback::Hold };
    let rules = Rules { max_faults: NonZeroU32::new(4), ..Rules::new(guard, Bounds { low: &LOW, high: &HIGH }) };
    for (good_between, stops) in [(3, true), (4, false)] {
        let (mut supervisor, mut last) = (Supervisor::new(), [0.0; 3]);
        supervisor.enter(&rules);
        for tick in 0..100 {
            let proposal = if tick % (good_between + 1) == 0 { Err(Fault::Engine) } else { Ok(()) };
            let _ = supervisor.decide(&rules, proposal, &[0.0; 2], &mut [0.5, 0.5, 0.5], &mut last);
        }
        assert_eq!(supervisor.phase() == Phase::Stopped, stops, "{good_between} good ticks between two faults");
    }
}

#[test]
fn buffers_of_the_wrong_length_are_a_fault_and_no_panic() {
    let guard = Guard { observation_width: 2, action_width: 3, max_age_nanos: None, fallback: Fallback::Fixed };
    let rules = Rules { fixed: &[0.5, 0.5, 0.5], ..Rules::new(guard, Bounds { low: &LOW, high: &HIGH }) };
    let mut supervisor = Supervisor::new();
    supervisor.enter(&rules);
    for width in [0, 1, 2, 4, 9] {
        let mut command = vec![f32::NAN; width];
        let verdict = supervisor.decide(&rules, Ok(()), &[], &mut command, &mut [0.0; 3]);
        assert_eq!(verdict, Verdict::Fallback(Fault::ActionWidth { expected: 3, found: width }));
        assert!(command.iter().all(|value| value.is_finite()));
    }
}

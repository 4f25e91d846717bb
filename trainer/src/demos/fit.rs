//! Whether demonstrations fit a task: everything that can be known before a training starts.

use super::Demonstrations;
use crate::envs::{self, Channel, Task};
use crate::error::{Error, Result};
use std::ops::Range;

/// Actions may leave the bounds by this share of their range: rounding, and recorders that clip late.
const BOUNDS_SLACK: f32 = 0.01;

/// An episode that got less than this share of the way from a random policy's return to the expert's has failed.
const FAILURE_SHARE: f64 = 0.1;

/// The control period that states show may differ from the task's by this factor: velocities change within a step.
const PERIOD_FACTOR: f64 = 1.5;

/// Checks `demonstrations` against `task`: widths, channels, bounds, control period, and whether anything in them succeeds.
/// Returns what deserves a warning.
///
/// # Errors
/// Names the file, what was expected and what was found, of the first thing that does not fit.
pub fn check_fit(demonstrations: &Demonstrations, task: &Task) -> Result<Vec<String>> {
    demonstrations.check_widths(&task.id, task.observation_width(), task.action_width())?;
    let recorded_on = recorded_on(demonstrations);
    if let Some(other) = &recorded_on {
        check_channels(demonstrations, task, other)?;
    }
    check_bounds(demonstrations, task)?;
    check_observations(demonstrations, task)?;
    check_control_period(demonstrations, task, recorded_on.as_ref())?;
    let mut warnings = demonstrations.inspect(Some(task.horizon)).warnings;
    match recorded_on {
        Some(other) if !envs::same_goal(&other.id, &task.id)? => warnings.push(format!(
            "recorded on {}: what was a success there need not be one of {}, which was not checked",
            other.id, task.id
        )),
        _ => check_success(demonstrations, task)?,
    }
    Ok(warnings)
}

/// The task that the file names, where it is one of ours.
fn recorded_on(demonstrations: &Demonstrations) -> Option<Task> {
    envs::task(demonstrations.task.as_deref()?).ok()
}

fn check_channels(demonstrations: &Demonstrations, task: &Task, recorded_on: &Task) -> Result<()> {
    if recorded_on.has_channels_of(task) {
        return Ok(());
    }
    Err(Error::data(format!("{} has other channels than the task {}", demonstrations.described(), task.id))
        .expected(format!("demonstrations of {}", task.id))
        .found(format!("demonstrations of {}", recorded_on.id))
        .hint(format!("train on {}, or take another file", recorded_on.id)))
}

/// Checks that the rewards of `demonstrations` are those of `task`, for who learns from them.
///
/// # Errors
/// Another task's file, and one whose rewards say nothing.
pub fn check_rewards(demonstrations: &Demonstrations, task: &Task) -> Result<()> {
    let refuse = |found: String| {
        Err(Error::data(format!("{}: the rewards are not those of {}", demonstrations.described(), task.id))
            .expected("the task's own rewards: with --reward true they are learned from, beside those of real steps")
            .found(found)
            .hint(format!("hype demos collect {} records them; or leave --demos out", task.id)))
    };
    let full = |task: &Task| task.id.strip_suffix("-truncated").unwrap_or(&task.id).to_owned();
    if let Some(other) = recorded_on(demonstrations).filter(|other| full(other) != full(task)) {
        return refuse(format!("those of {}", other.id));
    }
    if demonstrations.rewards.iter().all(|reward| *reward == 0.0) {
        return refuse("zeros".into());
    }
    Ok(())
}

fn check_bounds(demonstrations: &Demonstrations, task: &Task) -> Result<()> {
    let (low, high) = (task.action_low(), task.action_high());
    let outside = |action: &[f32]| {
        let slack = |channel: usize| BOUNDS_SLACK * (high[channel] - low[channel]);
        (0..action.len()).find(|c| action[*c] < low[*c] - slack(*c) || action[*c] > high[*c] + slack(*c))
    };
    let mut found =
        (0..demonstrations.len()).filter_map(|row| Some((row, outside(demonstrations.action_env(row))?))).peekable();
    let Some((row, channel)) = found.peek().copied() else { return Ok(()) };
    let name = &task.action[channel].name;
    Err(Error::data(format!(
        "{}: {} of {} actions lie outside the bounds of {}, the first in row {row}",
        demonstrations.described(),
        found.count(),
        demonstrations.len(),
        task.id
    ))
    .expected(format!("`{name}` from {} to {}", low[channel], high[channel]))
    .found(demonstrations.action_env(row)[channel])
    .hint("actions are in the task's own units: rescale a file that is in others, and clip where the recorder's simulator did"))
}

/// What no task's observation comes near: another unit, or damage.
const LARGEST_OBSERVATION: f32 = 1e6;

fn check_observations(demonstrations: &Demonstrations, task: &Task) -> Result<()> {
    let bounds = |channel: &Channel| {
        let (low, high) =
            (channel.low.map_or(f32::MIN, |low| low as f32), channel.high.map_or(f32::MAX, |high| high as f32));
        let slack = BOUNDS_SLACK * (high - low).min(LARGEST_OBSERVATION);
        ((low - slack).max(-LARGEST_OBSERVATION), (high + slack).min(LARGEST_OBSERVATION))
    };
    let bounds: Vec<(f32, f32)> = task.observation.iter().map(bounds).collect();
    let outside = |row: &[f32]| (0..row.len()).find(|c| row[*c] < bounds[*c].0 || row[*c] > bounds[*c].1);
    for (name, values) in
        [("observations", &demonstrations.observations), ("next_observations", &demonstrations.next_observations)]
    {
        let rows = values.chunks_exact(demonstrations.obs_dim).enumerate();
        let mut found = rows.filter_map(|(row, values)| Some((row, outside(values)?, values))).peekable();
        let Some((row, channel, values)) = found.peek().copied() else { continue };
        let channel_name = &task.observation[channel].name;
        return Err(Error::data(format!(
            "{}: {} rows of `{name}` are no observations of {}, the first is row {row}",
            demonstrations.described(),
            found.count(),
            task.id
        ))
        .expected(format!("`{channel_name}` from {} to {}", bounds[channel].0, bounds[channel].1))
        .found(values[channel])
        .hint("observations are in the task's own units and order; a damaged file looks like this too"));
    }
    Ok(())
}

/// By the file's word, by the task that it names, and by its states.
fn check_control_period(demonstrations: &Demonstrations, task: &Task, recorded_on: Option<&Task>) -> Result<()> {
    let period = task.control_period_secs;
    let refuse = |found: String| {
        Err(Error::data(format!("{}: another control period than the task {}", demonstrations.described(), task.id))
            .expected(format!("{period} s between two actions"))
            .found(found)
            .hint("take demonstrations of this task, or resample them to its control period"))
    };
    let agrees = |other: f64| (other - period).abs() <= 1e-6 * period;
    if let Some(text) = demonstrations.attributes.get("control_period_secs") {
        match text.trim().parse::<f64>() {
            Ok(told) if agrees(told) => {}
            Ok(told) => return refuse(format!("{told} s (attribute `control_period_secs`)")),
            Err(_) => return refuse(format!("`{text}` (attribute `control_period_secs`)")),
        }
    }
    if let Some(other) = recorded_on.filter(|other| !agrees(other.control_period_secs)) {
        return refuse(format!("{} s, that of {}", other.control_period_secs, other.id));
    }
    match shown_period(demonstrations) {
        Some(shown) if !(period / PERIOD_FACTOR..=period * PERIOD_FACTOR).contains(&shown) => refuse(format!(
            "about {shown:.2} s: so much time lies between states that follow each other, at the velocities recorded with them"
        )),
        _ => Ok(()),
    }
}

/// The time between two rows by which the first coordinate's velocity explains how it moves. In all tasks it is a translation
/// or an angle of its own, so that position and velocity belong together.
fn shown_period(demonstrations: &Demonstrations) -> Option<f64> {
    let first = |row| demonstrations.state(row).and_then(|(qpos, qvel)| Some((*qpos.first()?, *qvel.first()?)));
    let (mut moved, mut speed, mut pairs) = (0.0, 0.0, 0);
    for rows in &demonstrations.episodes {
        for row in rows.start..rows.end - 1 {
            if demonstrations.step_number(rows, row) + 1 == demonstrations.step_number(rows, row + 1) {
                let ((q, v), (next_q, next_v)) = (first(row)?, first(row + 1)?);
                let mean = 0.5 * (v + next_v);
                moved += (next_q - q) * mean;
                speed += mean * mean;
                pairs += 1;
            }
        }
    }
    (pairs >= 20 && speed > 1e-6 * f64::from(pairs)).then(|| moved / speed)
}

/// Refuses demonstrations that hold failures only.
fn check_success(demonstrations: &Demonstrations, task: &Task) -> Result<()> {
    let pays = demonstrations.rewards.iter().any(|reward| *reward != 0.0);
    let references = task.random_return.zip(envs::known_expert_return(&task.id)?).filter(|_| pays);
    let enough = references.map(|(random, expert)| random + FAILURE_SHARE * (expert - random));
    let failed = |rows: &Range<usize>| {
        let steps = demonstrations.recorded_steps(rows);
        let terminated = demonstrations.terminals[rows.end - 1];
        if !terminated && steps < task.horizon {
            // What an episode that was cut earlier would have come to, nobody knows. Where steps were dropped, it may be the
            // step that ended it: then the other episodes tell.
            return demonstrations.step_numbers.is_none().then_some(false);
        }
        Some(match enough {
            Some(enough) => estimated_return(demonstrations, rows) < enough,
            None => terminated && (steps as f64) < FAILURE_SHARE * task.horizon as f64,
        })
    };
    let told: Vec<(&Range<usize>, bool)> =
        demonstrations.episodes.iter().filter_map(|rows| Some((rows, failed(rows)?))).collect();
    if told.is_empty() || !told.iter().all(|(_, failed)| *failed) {
        return Ok(());
    }
    let best = |of: &dyn Fn(&Range<usize>) -> f64| told.iter().map(|(rows, _)| of(rows)).fold(f64::MIN, f64::max);
    let error = Error::data(format!("{} holds only failures of the task {}", demonstrations.described(), task.id));
    let error = match (enough, references) {
        (Some(enough), Some((random, expert))) => error
            .expected(format!(
                "an episode with a return of {enough:.0} or more (random {random:.0}, expert {expert:.0})"
            ))
            .found(format!(
                "{} episodes, the best with a return of {:.0}",
                demonstrations.episodes.len(),
                best(&|rows| estimated_return(demonstrations, rows))
            )),
        _ => error
            .expected(format!("an episode that lasts {:.0} steps or more", FAILURE_SHARE * task.horizon as f64))
            .found(format!(
                "{} episodes that the task ended, the longest after {} steps",
                demonstrations.episodes.len(),
                best(&|rows| demonstrations.recorded_steps(rows) as f64)
            )),
    };
    Err(error.hint(format!("hype demos collect {} -o FILE.hdf5 records a better policy", task.id)))
}

/// An episode's return; where steps were dropped, as if the others had their mean reward.
fn estimated_return(demonstrations: &Demonstrations, rows: &Range<usize>) -> f64 {
    let sum: f64 = demonstrations.rewards[rows.clone()].iter().map(|reward| f64::from(*reward)).sum();
    sum * demonstrations.recorded_steps(rows) as f64 / rows.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demos::{RecordedStep, Recorder};
    use crate::envs::{Ending, Purpose, World, WorldConfig};
    use crate::run::rng::Streams;
    use std::collections::BTreeMap;

    #[test]
    fn rewards_that_are_learned_from_are_the_tasks() {
        let (pendulum, cheetah) = (envs::task("pendulum").unwrap(), envs::task("half-cheetah").unwrap());
        let recorded = turning(20, 1.0, 0.05, -1.0);
        check_rewards(&recorded, &pendulum).unwrap();
        let other = check_rewards(&recorded, &cheetah).unwrap_err().to_string();
        assert!(other.contains("not those of half-cheetah") && other.contains("those of pendulum"), "{other}");
        let zeros = check_rewards(&turning(20, 1.0, 0.05, 0.0), &pendulum).unwrap_err().to_string();
        assert!(zeros.contains("found zeros"), "{zeros}");
    }

    /// One episode of pendulum: an angle that turns at `speed` rad/s, seen every `period` seconds.
    fn turning(steps: usize, speed: f64, period: f64, reward: f64) -> Demonstrations {
        turning_often(1, steps, speed, period, reward)
    }

    fn turning_often(episodes: usize, steps: usize, speed: f64, period: f64, reward: f64) -> Demonstrations {
        let mut recorder = Recorder::new(3, 1, Some((1, 1)));
        for step in (0..episodes).flat_map(|_| 0..steps) {
            let angle = step as f64 * speed * period;
            recorder.step(&RecordedStep {
                observation: &[0.0, 1.0, speed as f32],
                action_env: &[(step % 2) as f32],
                next_observation: &[0.0, 1.0, speed as f32],
                reward,
                terminated: false,
                truncated: step + 1 == steps,
                state: Some((&[angle], &[speed])),
            });
            if step + 1 == steps {
                recorder.keep_episode();
            }
        }
        recorder.finish("pendulum", BTreeMap::new()).unwrap()
    }

    fn refused(demonstrations: &Demonstrations, wanted: &[&str]) {
        let error = check_fit(demonstrations, &envs::task("pendulum").unwrap()).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        for part in wanted {
            assert!(error.to_string().contains(part), "{part:?} in {error}");
        }
    }

    #[test]
    fn the_control_period_is_told_or_shown() {
        let task = envs::task("pendulum").unwrap();
        let good = turning(200, 1.0, task.control_period_secs, -0.5);
        assert_eq!(check_fit(&good, &task).unwrap(), [""; 0]);
        refused(&turning(200, 1.0, 0.1, -0.5), &["control period", "0.05 s", "about 0.10 s"]);
        assert!(check_fit(&turning(200, 0.0, 0.1, -0.5), &task).is_ok(), "what stands still shows no time");
        let mut told = good.clone();
        for (text, fits) in [("0.05", true), ("0.02", false), ("fast", false)] {
            told.attributes.insert("control_period_secs".into(), text.into());
            assert_eq!(check_fit(&told, &task).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn every_task_shows_its_own_control_period() {
        for id in envs::task_ids() {
            let streams = Streams::new(1);
            let mut world = World::new(id, WorldConfig::default(), streams, "test").unwrap();
            let task = world.task().clone();
            let mut actions = streams.stream("actions");
            let widths = (world.qpos().len(), world.qvel().len());
            let mut recorder = Recorder::new(task.observation_width(), task.action_width(), Some(widths));
            for _ in 0..4 {
                world.reset().unwrap();
                let mut ending = Ending::Continues;
                while ending == Ending::Continues && world.episode_steps() < 200 {
                    let (qpos, qvel) = (world.qpos().to_vec(), world.qvel().to_vec());
                    let observation = world.observation().to_vec();
                    let action: Vec<f32> =
                        (0..task.action_width()).map(|_| actions.uniform(-1.0, 1.0) as f32).collect();
                    let step = world.step(&action, Purpose::Policy).unwrap();
                    ending = step.ending;
                    recorder.step(&RecordedStep {
                        observation: &observation,
                        action_env: world.executed_action_env(),
                        next_observation: world.observation(),
                        reward: step.reward,
                        terminated: ending == Ending::Terminated,
                        truncated: ending == Ending::Truncated,
                        state: Some((&qpos, &qvel)),
                    });
                }
                recorder.keep_episode();
            }
            let shown = shown_period(&recorder.finish(id, BTreeMap::new()).unwrap()).unwrap();
            let factor = shown / task.control_period_secs;
            assert!((0.8..1.25).contains(&factor), "{id}: {shown} instead of {}", task.control_period_secs);
        }
    }

    #[test]
    fn actions_beyond_the_bounds_are_counted() {
        let mut demonstrations = turning(200, 1.0, 0.05, -0.5);
        demonstrations.actions_env[7] = 2.03;
        assert!(
            check_fit(&demonstrations, &envs::task("pendulum").unwrap()).is_ok(),
            "within a hundredth of the range"
        );
        demonstrations.actions_env[9] = -2.5;
        refused(&demonstrations, &["1 of 200 actions", "row 9", "from -2 to 2", "found -2.5"]);
    }

    #[test]
    fn observations_that_cannot_be_are_refused() {
        let mut demonstrations = turning(200, 1.0, 0.05, -0.5);
        let (observation, width) = (&mut demonstrations.observations, demonstrations.obs_dim);
        observation[5 * width] = 1.01;
        assert!(check_fit(&demonstrations, &envs::task("pendulum").unwrap()).is_ok(), "within a hundredth");
        demonstrations.observations[8 * width + 2] = 8.5;
        refused(&demonstrations, &["1 rows of `observations`", "row 8", "from -8", "found 8.5"]);
        // Without bounds of its own a channel is still no 10³⁰.
        let mut hopper =
            Demonstrations { obs_dim: 11, observations: vec![0.5; 200 * 11], ..turning(200, 1.0, 0.05, -0.5) };
        hopper.next_observations = hopper.observations.clone();
        let hopper_task = envs::task("hopper").unwrap();
        assert!(check_observations(&hopper, &hopper_task).is_ok());
        hopper.next_observations[7 * 11 + 3] = -1e30;
        let error = check_observations(&hopper, &hopper_task).unwrap_err().to_string();
        assert!(error.contains("`next_observations`") && error.contains("row 7"), "{error}");
    }

    #[test]
    fn episodes_beyond_the_horizon_are_warned_about() {
        let warnings = check_fit(&turning(400, 1.0, 0.05, -0.5), &envs::task("pendulum").unwrap()).unwrap();
        assert!(
            warnings.iter().any(|w| w.contains("longer than the horizon of 200 steps, the longest has 400")),
            "{warnings:?}"
        );
    }

    #[test]
    fn failures_are_told_where_another_version_has_the_expert() {
        let played = |task: &str, reward: f64| {
            let task = envs::task(task).unwrap();
            let (width, actions) = (task.observation_width(), task.action_width());
            let mut recorder = Recorder::new(width, actions, None);
            for step in 0..1000 {
                recorder.step(&RecordedStep {
                    observation: &vec![0.0; width],
                    action_env: &vec![(step % 2) as f32; actions],
                    next_observation: &vec![0.0; width],
                    reward,
                    terminated: false,
                    truncated: step == 999,
                    state: None,
                });
            }
            recorder.keep_episode();
            (recorder.finish(&task.id, BTreeMap::new()).unwrap(), task)
        };
        for (id, poor, good) in
            [("half-cheetah-v4", -0.3, 1.0), ("half-cheetah-backward", -0.1, 1.0), ("humanoid-truncated", 0.2, 1.0)]
        {
            let (failed, task) = played(id, poor);
            let error = check_success(&failed, &task).unwrap_err().to_string();
            assert!(error.contains("only failures") && error.contains("1 episodes, the best"), "{id}: {error}");
            let (success, task) = played(id, good);
            check_success(&success, &task).unwrap();
        }
    }

    /// An episode that runs, as another task of the same body sees it.
    #[test]
    fn another_goal_is_warned_about() {
        let mut recorder = Recorder::new(17, 6, None);
        let task = |id: &str| envs::task(id).unwrap();
        for step in 0..1000 {
            recorder.step(&RecordedStep {
                observation: &[0.0; 17],
                action_env: &[(step % 2) as f32; 6],
                next_observation: &[0.0; 17],
                reward: 9.0,
                terminated: false,
                truncated: step == 999,
                state: None,
            });
        }
        recorder.keep_episode();
        let forward = recorder.finish("half-cheetah", BTreeMap::new()).unwrap();
        assert_eq!(check_fit(&forward, &task("half-cheetah-v4")).unwrap(), [""; 0]);
        for other in ["half-cheetah-backward", "half-cheetah-speed-2"] {
            let warnings = check_fit(&forward, &task(other)).unwrap().join("\n");
            assert!(
                warnings.contains(&format!(
                    "recorded on half-cheetah: what was a success there need not be one of {other}"
                ))
            );
        }
    }

    #[test]
    fn failures_alone_are_refused() {
        // Pendulum: random -1198, expert -135; the limit lies a tenth of the way up.
        refused(&turning(200, 1.0, 0.05, -6.0), &["only failures", "random -1198", "best with a return of -1200"]);
        let task = envs::task("pendulum").unwrap();
        assert!(check_fit(&turning(200, 1.0, 0.05, -5.0), &task).is_ok());
        assert!(check_fit(&turning(199, 1.0, 0.05, -6.1), &task).is_ok(), "cut before its end");
        assert!(check_fit(&turning(200, 1.0, 0.05, 0.0), &task).is_ok(), "without rewards");
        // Dropped steps are no better return: half of -1200 would be a good one. Episodes whose last step is gone do not tell.
        let thin = |reward: f64| {
            let whole = turning_often(6, 200, 1.0, 0.05, reward);
            whole.drop_states(0.5, &mut Streams::new(1).stream("test")).unwrap()
        };
        let ends = thin(-6.0).step_numbers.unwrap().iter().filter(|step| **step == 199).count();
        assert!((1..6).contains(&ends), "{ends} of 6 episodes keep their last step");
        refused(&thin(-6.0), &["only failures", "6 episodes, the best with a return of -1200"]);
        assert!(check_fit(&thin(-5.0), &task).is_ok());
        let mut fallen = turning(15, 1.0, 0.05, 0.0);
        fallen.terminals[14] = true;
        refused(&fallen, &["only failures", "lasts 20 steps", "longest after 15"]);
    }
}

//! What an observation alone tells: whether the task would have ended there, and the state of the physics.

use super::locomotion::Health;
use super::robots::Root;
use super::{ResetState, catalogue};
use crate::error::Result;

/// When a task ends an episode, judged by the observation that a step led to: the termination functions of model-based
/// learning. They are the tasks' own rules ([`Health`]) read off observations that begin with the positions behind the
/// travelled way (torso height first) and go on with the velocities, as those of all locomotion tasks do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Termination {
    rule: Option<(Health, Root)>,
    /// Positions and velocities in an observation; more may follow.
    coordinates: usize,
}

impl Termination {
    /// The rule of `task`.
    pub fn of(task: &str) -> Result<Self> {
        let (rule, coordinates) = catalogue::health(task)?;
        Ok(Self { rule, coordinates })
    }

    /// Whether `observation`, which must be finite, is of a terminal state.
    pub fn ends(&self, observation: &[f32]) -> bool {
        let Some((health, root)) = &self.rule else { return false };
        let coordinates = &observation[..self.coordinates];
        let within = |value: f32, low: f64, high: f64| low < f64::from(value) && f64::from(value) < high;
        let height = f64::from(coordinates[0]);
        let (low, high) = health.height;
        let height_ok =
            if health.inclusive { low <= height && height <= high } else { within(coordinates[0], low, high) };
        let angle_ok = match root {
            Root::Planar => health.angle.is_none_or(|limit| within(coordinates[1], -limit, limit)),
            Root::Free => true,
        };
        let state_ok =
            health.state.is_none_or(|limit| coordinates[1..].iter().all(|value| within(*value, -limit, limit)));
        !(height_ok && angle_ok && state_ok)
    }
}

/// The state of the physics that `observation` of `task` shows, where the observation is all of it but the travelled way, which
/// is taken to be zero; none where the task shows something else. Without a warm start, so that a continuation differs in the
/// last bits from one that has it.
pub fn shown_state(task: &str, observation: &[f32]) -> Result<Option<ResetState>> {
    let values = || observation.iter().map(|value| f64::from(*value));
    Ok(catalogue::shown_coordinates(task)?.map(|shown| match shown {
        Shown::Angle => {
            let [cos, sin, speed] = [0, 1, 2].map(|index| f64::from(observation[index]));
            ResetState { qpos: vec![sin.atan2(cos)], qvel: vec![speed], warmstart: None }
        }
        Shown::Coordinates { hidden, positions } => ResetState {
            qpos: std::iter::repeat_n(0.0, hidden).chain(values().take(positions)).collect(),
            qvel: values().skip(positions).collect(),
            warmstart: None,
        },
    }))
}

/// How an observation shows the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Cosine and sine of the only angle, and its speed.
    Angle,
    /// All coordinates but the first `hidden` positions: so many positions, then the velocities.
    Coordinates {
        /// Positions that are not shown.
        hidden: usize,
        /// Positions that are.
        positions: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An observation of zeros but for its first numbers, which must not end the episode in `ends` of the cases.
    fn check(task: &str, width: usize, cases: &[(&[f32], bool)]) {
        let termination = Termination::of(task).unwrap();
        for (first, ends) in cases {
            let mut observation = vec![0.0; width];
            observation[..first.len()].copy_from_slice(first);
            assert_eq!(termination.ends(&observation), *ends, "{task} at {first:?}");
        }
    }

    /// The next f32 after `value`, away from zero.
    fn beyond(value: f32) -> f32 {
        f32::from_bits(value.to_bits() + 1)
    }

    #[test]
    fn tasks_end_at_their_thresholds() {
        let below = |value: f32| f32::from_bits(value.to_bits() - 1);
        check(
            "hopper",
            11,
            &[
                (&[0.7], true),
                (&[beyond(0.7)], false),
                (&[5.0], false),
                (&[1.2, below(0.2)], false),
                (&[1.2, beyond(0.2)], true),
                (&[1.2, -0.201], true),
                (&[1.2, 0.0, 99.9], false),
                (&[1.2, 0.0, 100.0], true),
                (&[1.2, 0.0, -100.0], true),
                (&[1.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 100.5], true),
            ],
        );
        check(
            "walker2d",
            17,
            &[
                (&[below(0.8)], true),
                (&[beyond(0.8)], false),
                (&[2.0], true),
                (&[below(2.0)], false),
                (&[1.2, 1.0], true),
                (&[1.2, below(1.0)], false),
                (&[1.2, -1.0], true),
                (&[1.2, 0.0, 500.0], false),
            ],
        );
        for (task, width) in [("ant-truncated", 27), ("ant", 105), ("ant-v3", 111)] {
            check(
                task,
                width,
                &[
                    (&[below(0.2)], true),
                    (&[0.2], false),
                    (&[1.0], false),
                    (&[beyond(1.0)], true),
                    (&[0.5, 9.0, 300.0], false),
                ],
            );
        }
        for (task, width) in [("humanoid-truncated", 45), ("humanoid-v4", 376)] {
            check(task, width, &[(&[1.0], true), (&[beyond(1.0)], false), (&[below(2.0)], false), (&[2.0], true)]);
        }
        check("half-cheetah", 17, &[(&[-3.0, 9.0, 1e6], false)]);
        check("pendulum", 3, &[(&[1.0, 0.0, 8.0], false)]);
    }

    #[test]
    fn an_observation_of_all_coordinates_tells_the_state() {
        let observation: Vec<f32> = (0..11).map(|i| i as f32).collect();
        let state = shown_state("hopper", &observation).unwrap().unwrap();
        assert_eq!(state.qpos, [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(state.qvel, [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        let state = shown_state("pendulum", &[0.0, -1.0, 2.0]).unwrap().unwrap();
        assert!((state.qpos[0] + std::f64::consts::FRAC_PI_2).abs() < 1e-12 && state.qvel == [2.0]);
        assert_eq!(shown_state("ant", &[0.0; 105]).unwrap(), None);
        assert!(shown_state("ant-truncated", &[0.0; 27]).unwrap().is_some());
    }
}

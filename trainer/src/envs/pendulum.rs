//! Gymnasium 1.4.0's `Pendulum-v1` in plain Rust: swing a pole up with a weak motor. Angle zero is upright.

use super::task::Channel;
use super::{Ending, Env, EnvState, ResetState, Step, Task};
use crate::error::{Error, Result};
use crate::run::rng::Stream;
use std::f64::consts::PI;

pub(super) const ID: &str = "pendulum";

/// Gymnasium's constants, in SI units.
const MAX_SPEED: f64 = 8.0;
const MAX_TORQUE: f32 = 2.0;
const PERIOD_SECS: f64 = 0.05;
const GRAVITY: f64 = 10.0;
/// Mass 1 kg, length 1 m.
const TORQUE_TO_ACCELERATION: f32 = 3.0;
const HORIZON: usize = 200;

/// Mean of 100 episodes of uniformly random torques, streams of seed 0 (`random_return`).
const RANDOM_RETURN: Option<f64> = Some(-1197.68);

pub(super) fn task() -> Task {
    let channel = |name: &str, unit: &str, limit: f64| Channel {
        name: name.to_owned(),
        unit: unit.to_owned(),
        low: Some(-limit),
        high: Some(limit),
    };
    Task {
        id: ID.to_owned(),
        observation: vec![
            channel("cos_angle", "1", 1.0),
            channel("sin_angle", "1", 1.0),
            channel("angle_velocity", "rad/s", MAX_SPEED),
        ],
        action: vec![channel("torque", "N m", f64::from(MAX_TORQUE))],
        control_period_secs: PERIOD_SECS,
        horizon: HORIZON,
        terminates: false,
        expert_return: crate::experts::find("pendulum").and_then(crate::experts::Expert::mean_return),
        random_return: RANDOM_RETURN,
    }
}

/// One pendulum.
pub(super) struct PendulumEnv {
    task: Task,
    angle_rad: [f64; 1],
    speed: [f64; 1],
    observation: [f64; 3],
}

impl PendulumEnv {
    pub(super) fn new() -> Self {
        let mut env = Self { task: task(), angle_rad: [PI], speed: [0.0], observation: [0.0; 3] };
        env.look();
        env
    }

    fn look(&mut self) {
        let [angle] = self.angle_rad;
        self.observation = [angle.cos(), angle.sin(), self.speed[0]];
    }
}

impl Env for PendulumEnv {
    fn task(&self) -> &Task {
        &self.task
    }

    fn reset(&mut self, rng: &mut Stream) -> Result<()> {
        self.angle_rad = [rng.uniform(-PI, PI)];
        self.speed = [rng.uniform(-1.0, 1.0)];
        self.look();
        Ok(())
    }

    fn reset_to(&mut self, start: &ResetState) -> Result<()> {
        let ([angle], [speed]) = (start.qpos.as_slice(), start.qvel.as_slice()) else {
            return Err(Error::data("reset state of another task than pendulum").expected("one angle, one velocity"));
        };
        (self.angle_rad, self.speed) = ([*angle], [*speed]);
        self.look();
        Ok(())
    }

    fn observation(&self) -> &[f64] {
        &self.observation
    }

    fn full_observation(&self) -> &[f64] {
        &self.observation
    }

    fn step(&mut self, action_env: &[f32]) -> Result<Step> {
        let &[torque] = action_env else {
            return Err(Error::data("action of the wrong width").expected(1).found(action_env.len()));
        };
        let torque = torque.clamp(-MAX_TORQUE, MAX_TORQUE);
        let ([angle], [speed]) = (self.angle_rad, self.speed);
        let off_upright = (angle + PI).rem_euclid(2.0 * PI) - PI;
        let cost = off_upright * off_upright + 0.1 * (speed * speed) + f64::from(0.001f32 * (torque * torque));
        let acceleration = 3.0 * GRAVITY / 2.0 * angle.sin() + f64::from(TORQUE_TO_ACCELERATION * torque);
        let speed = (speed + acceleration * PERIOD_SECS).clamp(-MAX_SPEED, MAX_SPEED);
        self.angle_rad = [angle + speed * PERIOD_SECS];
        self.speed = [speed];
        self.look();
        Ok(Step { reward: -cost, ending: Ending::Continues })
    }

    fn qpos(&self) -> &[f64] {
        &self.angle_rad
    }

    fn qvel(&self) -> &[f64] {
        &self.speed
    }

    fn warmstart(&self) -> &[f64] {
        &[]
    }

    fn save(&self) -> EnvState {
        EnvState {
            physics: vec![self.angle_rad[0], self.speed[0]],
            observation: self.observation.to_vec(),
            progress_m: 0.0,
        }
    }

    fn load(&mut self, state: &EnvState) -> Result<()> {
        let &[angle, speed] = state.physics.as_slice() else {
            return Err(Error::data("saved state of another task than pendulum"));
        };
        (self.angle_rad, self.speed) = ([angle], [speed]);
        self.look();
        Ok(())
    }
}

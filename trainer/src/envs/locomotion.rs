//! The MuJoCo locomotion tasks: one environment, put together from the parts that a [`Locomotion`] names.
//!
//! Observations, rewards and terminations equal Gymnasium 1.4.0's in every bit, given the same state and actions; the order
//! of operations below is Gymnasium's and NumPy's for that reason.

use super::layout::Part;
use super::mujoco::{Field, Model, Simulation};
use super::robots::{Robot, Root};
use super::summation::numpy_sum;
use super::{Ending, Env, EnvState, ResetState, Step, Task};
use crate::error::{Error, Result};
use crate::run::rng::Stream;

/// What distinguishes one locomotion task from another.
#[derive(Debug, Clone)]
pub(super) struct Locomotion {
    pub(super) robot: &'static Robot,
    /// File name of the MJCF model.
    pub(super) model: &'static str,
    /// Simulation steps per control step.
    pub(super) frame_skip: usize,
    pub(super) layout: &'static [Part],
    pub(super) progress: Progress,
    pub(super) forward_weight: f64,
    /// The forward speed that is rewarded in m/s; faster is better where absent.
    pub(super) goal_speed: Option<f64>,
    pub(super) control_cost: ControlCost,
    pub(super) contact_cost: ContactCost,
    pub(super) health: Option<Health>,
    pub(super) start_noise: StartNoise,
}

/// Whose x coordinate is differenced for the forward reward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Progress {
    /// The first position coordinate.
    Root,
    /// The torso's frame, which lags one simulation step behind the position coordinates.
    Torso,
    /// The centre of mass of all bodies, lagging likewise.
    CentreOfMass,
}

/// The price of actuation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ControlCost {
    /// Weight × Σ action², in f32 as the actions are.
    Action(f32),
    /// Weight × Σ control², in f64.
    Control(f64),
}

/// The price of contact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ContactCost {
    None,
    /// Weight × Σ clip(force, ±limit)² over all bodies.
    Limited {
        weight: f64,
        limit: f64,
    },
    /// min(weight × Σ force², cap) over all bodies.
    Capped {
        weight: f64,
        cap: f64,
    },
}

/// When the robot is healthy (it terminates when it is not) and what that pays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Health {
    pub(super) reward: f64,
    /// Paid on the step that ends the episode too (all versions before v5).
    pub(super) paid_when_unhealthy: bool,
    /// Torso height in metres.
    pub(super) height: (f64, f64),
    /// Whether the bounds of the height are healthy themselves; then all coordinates must be finite, too.
    pub(super) inclusive: bool,
    /// Torso pitch in rad lies in ±this.
    pub(super) angle: Option<f64>,
    /// Every coordinate from the third on lies in ±this.
    pub(super) state: Option<f64>,
}

/// The distribution of the start state about the model's initial one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum StartNoise {
    /// Positions and velocities uniform in ±scale.
    Uniform(f64),
    /// Positions uniform in ±scale, velocities normal with that standard deviation.
    UniformNormal(f64),
}

/// One environment.
pub(super) struct LocomotionEnv {
    task: Task,
    parts: Locomotion,
    simulation: Simulation,
    control_period_secs: f64,
    total_mass_kg: f64,
    shows_contact: bool,
    observation: Vec<f64>,
    progress_m: f64,
    start: ResetState,
}

impl LocomotionEnv {
    /// An environment of `task`, whose observation is the beginning of the layout in `parts`.
    pub(super) fn new(task: Task, parts: Locomotion) -> Result<Self> {
        let model = Model::gymnasium(parts.model)?;
        check_model(&model, &parts)?;
        let shows_contact = parts.contact_cost != ContactCost::None
            || parts.layout.iter().any(|part| matches!(part, Part::ContactForces { .. }));
        let start = ResetState { qpos: model.qpos0().to_vec(), qvel: vec![0.0; model.sizes().1], warmstart: None };
        let mut env = Self {
            control_period_secs: model.timestep_secs() * parts.frame_skip as f64,
            total_mass_kg: numpy_sum(model.body_mass().iter().copied()),
            simulation: Simulation::new(model)?,
            task,
            parts,
            shows_contact,
            observation: Vec::new(),
            progress_m: 0.0,
            start,
        };
        env.simulation.set_state(&env.start.qpos, &env.start.qvel, None)?;
        env.look();
        Ok(env)
    }

    fn look(&mut self) {
        self.progress_m = self.progress();
        self.observation.clear();
        for part in self.parts.layout {
            part.append(&self.simulation, &mut self.observation);
        }
    }

    fn progress(&self) -> f64 {
        match self.parts.progress {
            Progress::Root => self.simulation.field(Field::Qpos)[0],
            Progress::Torso => self.simulation.field(Field::Xpos)[3],
            Progress::CentreOfMass => {
                let positions = self.simulation.field(Field::Xipos).chunks_exact(3);
                let masses = self.simulation.model().body_mass();
                masses.iter().zip(positions).fold(0.0, |sum, (mass, at)| sum + mass * at[0]) / self.total_mass_kg
            }
        }
    }

    fn control_cost(&self, action_env: &[f32]) -> f64 {
        match self.parts.control_cost {
            ControlCost::Action(weight) => f64::from(weight * numpy_sum(action_env.iter().map(|a| a * a))),
            ControlCost::Control(weight) => {
                weight * numpy_sum(self.simulation.field(Field::Ctrl).iter().map(|c| c * c))
            }
        }
    }

    fn contact_cost(&self) -> f64 {
        let forces = || self.simulation.field(Field::CfrcExt).iter();
        match self.parts.contact_cost {
            ContactCost::None => 0.0,
            ContactCost::Limited { weight, limit } => {
                weight
                    * numpy_sum(forces().map(|force| {
                        let limited = force.clamp(-limit, limit);
                        limited * limited
                    }))
            }
            ContactCost::Capped { weight, cap } => (weight * numpy_sum(forces().map(|force| force * force))).min(cap),
        }
    }

    fn is_healthy(&self, health: &Health) -> bool {
        let (qpos, qvel) = (self.qpos(), self.qvel());
        let within = |value: f64, low: f64, high: f64| low < value && value < high;
        let (low, high) = health.height;
        let height_ok = match self.parts.robot.root {
            Root::Planar => within(qpos[1], low, high),
            Root::Free if health.inclusive => low <= qpos[2] && qpos[2] <= high,
            Root::Free => within(qpos[2], low, high),
        };
        let finite = || qpos.iter().chain(qvel).all(|value| value.is_finite());
        height_ok
            && health.angle.is_none_or(|limit| within(qpos[2], -limit, limit))
            && health.state.is_none_or(|limit| qpos[2..].iter().chain(qvel).all(|value| within(*value, -limit, limit)))
            && (!health.inclusive || finite())
    }
}

impl Env for LocomotionEnv {
    fn task(&self) -> &Task {
        &self.task
    }

    fn reset(&mut self, rng: &mut Stream) -> Result<()> {
        let model = self.simulation.model();
        let (StartNoise::Uniform(scale) | StartNoise::UniformNormal(scale)) = self.parts.start_noise;
        for (position, initial) in self.start.qpos.iter_mut().zip(model.qpos0()) {
            *position = initial + rng.uniform(-scale, scale);
        }
        for velocity in &mut self.start.qvel {
            *velocity = match self.parts.start_noise {
                StartNoise::Uniform(scale) => rng.uniform(-scale, scale),
                StartNoise::UniformNormal(scale) => scale * rng.normal(),
            };
        }
        self.simulation.set_state(&self.start.qpos, &self.start.qvel, None)?;
        self.look();
        Ok(())
    }

    fn reset_to(&mut self, start: &ResetState) -> Result<()> {
        self.simulation.set_state(&start.qpos, &start.qvel, start.warmstart.as_deref())?;
        self.look();
        Ok(())
    }

    fn show_contact(&mut self) -> Result<()> {
        if self.shows_contact {
            self.simulation.compute_contact_forces()?;
            self.look();
        }
        Ok(())
    }

    fn observation(&self) -> &[f64] {
        &self.observation[..self.task.observation.len()]
    }

    fn full_observation(&self) -> &[f64] {
        &self.observation
    }

    fn step(&mut self, action_env: &[f32]) -> Result<Step> {
        let before_m = self.progress_m;
        self.simulation.step(action_env.iter().map(|a| f64::from(*a)), self.parts.frame_skip)?;
        if self.shows_contact {
            self.simulation.compute_contact_forces()?;
        }
        self.look();
        let forward_speed = (self.progress_m - before_m) / self.control_period_secs;
        let forward = match self.parts.goal_speed {
            None => self.parts.forward_weight * forward_speed,
            Some(goal) => self.parts.forward_weight * -(forward_speed - goal).abs(),
        };
        let costs = self.control_cost(action_env) + self.contact_cost();
        let Some(health) = &self.parts.health else {
            return Ok(Step { reward: forward - costs, ending: Ending::Continues });
        };
        let healthy = self.is_healthy(health);
        let survival = if healthy || health.paid_when_unhealthy { health.reward } else { 0.0 };
        let ending = if healthy { Ending::Continues } else { Ending::Terminated };
        Ok(Step { reward: (forward + survival) - costs, ending })
    }

    fn qpos(&self) -> &[f64] {
        self.simulation.field(Field::Qpos)
    }

    fn qvel(&self) -> &[f64] {
        self.simulation.field(Field::Qvel)
    }

    fn warmstart(&self) -> &[f64] {
        self.simulation.field(Field::Warmstart)
    }

    fn save(&self) -> EnvState {
        EnvState { physics: self.simulation.save(), observation: self.observation.clone(), progress_m: self.progress_m }
    }

    fn load(&mut self, state: &EnvState) -> Result<()> {
        if state.observation.len() != self.observation.len() {
            return Err(Error::data(format!("saved state of another task than {}", self.task.id))
                .expected(format!("{} observations", self.observation.len()))
                .found(state.observation.len()));
        }
        self.simulation.load(&state.physics)?;
        self.observation.clone_from(&state.observation);
        self.progress_m = state.progress_m;
        Ok(())
    }
}

/// Refuses a model file whose coordinates, bodies or motors are not those that the task names.
fn check_model(model: &Model, parts: &Locomotion) -> Result<()> {
    let robot = parts.robot;
    let sizes = (robot.positions().len(), robot.velocities().len(), robot.motors.len(), robot.bodies.len() + 1);
    let hinges: Vec<String> = model.joints().into_iter().map(|(name, ..)| name).collect();
    let hinges = &hinges[hinges.len() - robot.hinges.len().min(hinges.len())..];
    let limit = robot.control_limit;
    let limits_ok = model.control_range().iter().all(|range| *range == (-limit, limit));
    if model.sizes() == sizes && hinges == robot.hinges && model.actuated_joints() == robot.motors && limits_ok {
        return Ok(());
    }
    let joined = |names: &[String]| names.join(" ");
    Err(Error::data(format!("{} is not the model that Gymnasium 1.4.0 ships under this name", parts.model))
        .expected(format!("coordinates, velocities, motors, bodies {sizes:?}, hinges {}", robot.hinges.join(" ")))
        .found(format!("{:?}, joints {}", model.sizes(), joined(hinges)))
        .hint("unset HYPE_MJCF_DIR, or point it to gymnasium/envs/mujoco/assets of version 1.4.0"))
}

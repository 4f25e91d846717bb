//! Observation layouts as lists of parts: where the numbers come from, and what they are called.

use super::mujoco::{Field, Simulation};
use super::robots::Robot;
use super::task::Channel;

/// A run of numbers in an observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    /// Position coordinates from this one on.
    Positions { from: usize },
    /// Velocity coordinates, limited to ±`limit`.
    Velocities { limit: f64 },
    /// Inertia of each body from this one on (0 is the world), ten numbers each.
    Inertias { from_body: usize },
    /// Spatial velocity of each body from this one on.
    BodyVelocities { from_body: usize },
    /// Motor torques in joint coordinates from this one on.
    MotorTorques { from: usize },
    /// Contact force on each body from this one on, limited to ±`limit`.
    ContactForces { from_body: usize, limit: f64 },
    /// As many zeros as contact forces of all bodies, world included.
    NoContactForces,
}

/// The limit of what is not limited.
pub(super) const NONE: f64 = f64::INFINITY;

impl Part {
    /// Appends the numbers of the simulation's present state.
    pub(super) fn append(self, simulation: &Simulation, observation: &mut Vec<f64>) {
        let mut limited = |values: &[f64], limit: f64| {
            if limit == NONE {
                observation.extend_from_slice(values);
            } else {
                observation.extend(values.iter().map(|value| value.clamp(-limit, limit)));
            }
        };
        match self {
            Self::Positions { from } => limited(&simulation.field(Field::Qpos)[from..], NONE),
            Self::Velocities { limit } => limited(simulation.field(Field::Qvel), limit),
            Self::Inertias { from_body } => limited(&simulation.field(Field::Cinert)[10 * from_body..], NONE),
            Self::BodyVelocities { from_body } => limited(&simulation.field(Field::Cvel)[6 * from_body..], NONE),
            Self::MotorTorques { from } => limited(&simulation.field(Field::QfrcActuator)[from..], NONE),
            Self::ContactForces { from_body, limit } => {
                limited(&simulation.field(Field::CfrcExt)[6 * from_body..], limit);
            }
            Self::NoContactForces => {
                observation.resize(observation.len() + simulation.field(Field::CfrcExt).len(), 0.0)
            }
        }
    }

    /// The channels of this part for `robot`.
    pub(super) fn channels(self, robot: &Robot) -> Vec<Channel> {
        let plain =
            |names: Vec<(String, &'static str)>| names.into_iter().map(|(name, unit)| channel(name, unit, NONE));
        match self {
            Self::Positions { from } => plain(robot.positions()).skip(from).collect(),
            Self::Velocities { limit } => {
                robot.velocities().into_iter().map(|(name, unit)| channel(name, unit, limit)).collect()
            }
            Self::Inertias { from_body } => per_body(robot, from_body, NONE, &INERTIA),
            Self::BodyVelocities { from_body } => per_body(robot, from_body, NONE, &SPATIAL_VELOCITY),
            Self::MotorTorques { from } => {
                let unit = |unit: &str| if unit == "rad/s" { "N m" } else { "N" };
                let torque =
                    |(name, of): (String, &'static str)| channel(name.replace("_velocity", "_motor"), unit(of), NONE);
                robot.velocities().into_iter().map(torque).skip(from).collect()
            }
            Self::ContactForces { from_body, limit } => per_body(robot, from_body, limit, &CONTACT_FORCE),
            Self::NoContactForces => per_body(robot, 0, 0.0, &CONTACT_FORCE),
        }
    }
}

const INERTIA: [(&str, &str); 10] = [
    ("inertia_xx", "kg m^2"),
    ("inertia_yy", "kg m^2"),
    ("inertia_zz", "kg m^2"),
    ("inertia_xy", "kg m^2"),
    ("inertia_xz", "kg m^2"),
    ("inertia_yz", "kg m^2"),
    ("mass_x", "kg m"),
    ("mass_y", "kg m"),
    ("mass_z", "kg m"),
    ("mass", "kg"),
];
const SPATIAL_VELOCITY: [(&str, &str); 6] = [
    ("about_x_speed", "rad/s"),
    ("about_y_speed", "rad/s"),
    ("about_z_speed", "rad/s"),
    ("x_speed", "m/s"),
    ("y_speed", "m/s"),
    ("z_speed", "m/s"),
];
const CONTACT_FORCE: [(&str, &str); 6] = [
    ("contact_torque_x", "N m"),
    ("contact_torque_y", "N m"),
    ("contact_torque_z", "N m"),
    ("contact_force_x", "N"),
    ("contact_force_y", "N"),
    ("contact_force_z", "N"),
];

fn per_body(robot: &Robot, from_body: usize, limit: f64, quantities: &[(&str, &str)]) -> Vec<Channel> {
    let bodies = std::iter::once(&"world").chain(robot.bodies).skip(from_body);
    let of = |body: &&str| {
        let body = *body;
        quantities.iter().map(move |(name, unit)| channel(format!("{body}_{name}"), unit, limit)).collect::<Vec<_>>()
    };
    bodies.flat_map(of).collect()
}

fn channel(name: String, unit: &str, limit: f64) -> Channel {
    let bound = (limit != NONE).then_some(limit);
    Channel { name, unit: unit.to_owned(), low: bound.map(|b| 0.0 - b), high: bound }
}

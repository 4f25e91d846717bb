//! The tasks by name, and where every number of theirs comes from.
//!
//! The numbers are the defaults of Gymnasium 1.4.0's environment classes, versions v4 and v5. A name without a suffix is v5.
//!
//! The `-v3` tasks have the observation layouts and rewards of the classes used in the paper (gym 0.22 on mujoco-py), on
//! MuJoCo 3.17.0. Their contact-force rule: mujoco-py never computed contact forces under MuJoCo 2, so the 84 contact entries
//! of `ant-v3` and `humanoid-v3` are zeros here as they were there, and the contact cost is zero.
//!
//! `ant-truncated` and `humanoid-truncated` show the first 27 and 45 entries (positions and velocities) of `ant` and
//! `humanoid`; rewards and terminations are theirs, contact included.
//!
//! `half-cheetah-backward` and `half-cheetah-speed-2` are `half-cheetah` with another reward: for its negative speed, and for
//! little distance from 2 m/s, `-|v - 2|` (the goals of Finn et al. 2017, with `half-cheetah`'s own control cost).

use super::layout::{NONE, Part};
use super::locomotion::{ContactCost, ControlCost, Health, Locomotion, LocomotionEnv, Progress, StartNoise};
use super::pendulum::{self, PendulumEnv};
use super::robots::{ANT, HALF_CHEETAH, HOPPER, HUMANOID, Root, WALKER2D};
use super::shown::Shown;
use super::task::Channel;
use super::{Env, Task};
use crate::error::{Error, Result, nearest};
use crate::experts::{self, Expert};

/// Steps of a full locomotion episode (Gymnasium's `max_episode_steps`).
const LOCOMOTION_HORIZON: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Version {
    V3,
    V4,
    V5,
}

/// One task. Random returns are those that `trainer/examples/random_returns.rs` prints (100 episodes, seed 0).
struct Entry {
    id: &'static str,
    family: Family,
    version: Version,
    /// How much of the observation a truncated task shows.
    width: Option<usize>,
    goal: Goal,
    random_return: Option<f64>,
}

/// What a task pays for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    /// Speed forward.
    Forward,
    /// Speed backward.
    Backward,
    /// Little distance from this speed, in m/s.
    Speed(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Hopper,
    Walker2d,
    HalfCheetah,
    Ant,
    Humanoid,
}

const fn entry(id: &'static str, family: Family, version: Version, random_return: Option<f64>) -> Entry {
    Entry { id, family, version, width: None, goal: Goal::Forward, random_return }
}

const LOCOMOTION: [Entry; 19] = [
    entry("hopper", Family::Hopper, Version::V5, Some(17.88)),
    entry("hopper-v4", Family::Hopper, Version::V4, Some(18.88)),
    entry("hopper-v3", Family::Hopper, Version::V3, Some(18.88)),
    entry("walker2d", Family::Walker2d, Version::V5, Some(2.33)),
    entry("walker2d-v4", Family::Walker2d, Version::V4, Some(3.52)),
    entry("walker2d-v3", Family::Walker2d, Version::V3, Some(3.52)),
    entry("half-cheetah", Family::HalfCheetah, Version::V5, Some(-271.30)),
    entry("half-cheetah-v4", Family::HalfCheetah, Version::V4, Some(-271.30)),
    entry("half-cheetah-v3", Family::HalfCheetah, Version::V3, Some(-271.30)),
    Entry { goal: Goal::Backward, ..entry("half-cheetah-backward", Family::HalfCheetah, Version::V5, Some(-129.23)) },
    Entry { goal: Goal::Speed(2.0), ..entry("half-cheetah-speed-2", Family::HalfCheetah, Version::V5, Some(-2271.55)) },
    entry("ant", Family::Ant, Version::V5, Some(-60.42)),
    entry("ant-v4", Family::Ant, Version::V4, Some(-59.31)),
    entry("ant-v3", Family::Ant, Version::V3, Some(-59.31)),
    Entry { width: Some(27), ..entry("ant-truncated", Family::Ant, Version::V5, Some(-60.42)) },
    entry("humanoid", Family::Humanoid, Version::V5, Some(115.33)),
    entry("humanoid-v4", Family::Humanoid, Version::V4, Some(124.01)),
    entry("humanoid-v3", Family::Humanoid, Version::V3, Some(124.01)),
    Entry { width: Some(45), ..entry("humanoid-truncated", Family::Humanoid, Version::V5, Some(115.33)) },
];

/// The names of all tasks.
pub fn task_ids() -> Vec<&'static str> {
    std::iter::once(pendulum::ID).chain(LOCOMOTION.iter().map(|entry| entry.id)).collect()
}

/// The constants of the task called `id`; a `-v5` suffix may be written where v5 is meant. Needs no MuJoCo.
///
/// Errors: an unknown name, with the nearest known one.
pub fn task(id: &str) -> Result<Task> {
    Ok(match find(id)? {
        Found::Pendulum => pendulum::task(),
        Found::Locomotion(entry) => describe(entry, &parts_of(entry)),
    })
}

/// What an expert of the task called `id` earns, or of another version of it.
pub fn known_expert_return(id: &str) -> Result<Option<f64>> {
    let entry = match find(id)? {
        Found::Pendulum => return Ok(pendulum::task().expert_return),
        Found::Locomotion(entry) => entry,
    };
    let versions = LOCOMOTION.iter().filter(|other| pay_alike(other, entry));
    Ok(std::iter::once(entry).chain(versions).find_map(|entry| experts::find(entry.id)?.mean_return()))
}

/// Whether two tasks ask for the same: they may be other versions, or show another part of the observation.
pub fn same_goal(one: &str, other: &str) -> Result<bool> {
    Ok(match (find(one)?, find(other)?) {
        (Found::Pendulum, Found::Pendulum) => true,
        (Found::Locomotion(one), Found::Locomotion(other)) => pay_alike(one, other),
        _ => false,
    })
}

fn pay_alike(one: &Entry, other: &Entry) -> bool {
    (one.family, one.goal) == (other.family, other.goal)
}

/// An environment of the task called `id`. Fetches MuJoCo on first use where the task needs it.
pub fn make(id: &str) -> Result<Box<dyn Env>> {
    Ok(match find(id)? {
        Found::Pendulum => Box::new(PendulumEnv::new()),
        Found::Locomotion(entry) => {
            let parts = parts_of(entry);
            Box::new(LocomotionEnv::new(describe(entry, &parts), parts)?)
        }
    })
}

/// When the task called `id` ends an episode, and how many coordinates its observations begin with.
pub(super) fn health(id: &str) -> Result<(Option<(Health, Root)>, usize)> {
    Ok(match find(id)? {
        Found::Pendulum => (None, 0),
        Found::Locomotion(entry) => {
            let parts = parts_of(entry);
            let (_, positions) = shown_positions(&parts);
            let coordinates = positions + parts.robot.velocities().len();
            (parts.health.map(|health| (health, parts.robot.root)), coordinates)
        }
    })
}

/// How the observations of the task called `id` show the state of its physics; none where they show more than that.
pub(super) fn shown_coordinates(id: &str) -> Result<Option<Shown>> {
    Ok(match find(id)? {
        Found::Pendulum => Some(Shown::Angle),
        Found::Locomotion(entry) => {
            let parts = parts_of(entry);
            let (hidden, positions) = shown_positions(&parts);
            let all = parts.layout.len() == 2 || entry.width.is_some();
            all.then_some(Shown::Coordinates { hidden, positions })
        }
    })
}

/// Positions that an observation hides and shows.
fn shown_positions(parts: &Locomotion) -> (usize, usize) {
    let hidden = match parts.layout[0] {
        Part::Positions { from } => from,
        _ => 0,
    };
    (hidden, parts.robot.positions().len() - hidden)
}

enum Found {
    Pendulum,
    Locomotion(&'static Entry),
}

fn find(id: &str) -> Result<Found> {
    let canonical = id.strip_suffix("-v5").filter(|base| !base.ends_with("-truncated")).unwrap_or(id);
    if id == pendulum::ID {
        return Ok(Found::Pendulum);
    }
    if let Some(entry) = LOCOMOTION.iter().find(|entry| entry.id == canonical) {
        return Ok(Found::Locomotion(entry));
    }
    let error = Error::config(format!("unknown task '{id}'"));
    Err(match nearest(id, task_ids()) {
        Some(name) => error.hint(format!("did you mean '{name}'? `hype tasks` lists all")),
        None => error.hint("`hype tasks` lists all"),
    })
}

fn describe(entry: &Entry, parts: &Locomotion) -> Task {
    let mut observation: Vec<Channel> = parts.layout.iter().flat_map(|part| part.channels(parts.robot)).collect();
    observation.truncate(entry.width.unwrap_or(observation.len()));
    let limit = parts.robot.control_limit;
    let motor = |name: &&str| Channel {
        name: format!("{name}_motor"),
        unit: "1".to_owned(),
        low: Some(-limit),
        high: Some(limit),
    };
    Task {
        id: entry.id.to_owned(),
        observation,
        action: parts.robot.motors.iter().map(motor).collect(),
        control_period_secs: control_period_secs(entry.family),
        horizon: LOCOMOTION_HORIZON,
        terminates: parts.health.is_some(),
        expert_return: experts::find(entry.id).and_then(Expert::mean_return),
        random_return: entry.random_return,
    }
}

/// Time step of the MJCF model times frame skip; a test compares it with the models.
fn control_period_secs(family: Family) -> f64 {
    match family {
        Family::Hopper | Family::Walker2d => 0.008,
        Family::HalfCheetah | Family::Ant => 0.05,
        Family::Humanoid => 0.015,
    }
}

fn parts_of(entry: &Entry) -> Locomotion {
    let parts = locomotion(entry.family, entry.version);
    match entry.goal {
        Goal::Forward => parts,
        Goal::Backward => Locomotion { forward_weight: -parts.forward_weight, ..parts },
        Goal::Speed(speed) => Locomotion { goal_speed: Some(speed), ..parts },
    }
}

fn locomotion(family: Family, version: Version) -> Locomotion {
    let v5 = version == Version::V5;
    let planar_health = Health {
        reward: 1.0,
        paid_when_unhealthy: !v5,
        height: (0.8, 2.0),
        inclusive: false,
        angle: Some(1.0),
        state: None,
    };
    let walker = Locomotion {
        robot: &WALKER2D,
        model: if v5 { "walker2d_v5.xml" } else { "walker2d.xml" },
        frame_skip: 4,
        layout: &[Part::Positions { from: 1 }, Part::Velocities { limit: 10.0 }],
        progress: Progress::Root,
        forward_weight: 1.0,
        goal_speed: None,
        control_cost: ControlCost::Action(1e-3),
        contact_cost: ContactCost::None,
        health: Some(planar_health),
        start_noise: StartNoise::Uniform(5e-3),
    };
    match family {
        Family::Walker2d => walker,
        Family::Hopper => Locomotion {
            robot: &HOPPER,
            model: "hopper.xml",
            health: Some(Health {
                height: (0.7, f64::INFINITY),
                angle: Some(0.2),
                state: Some(100.0),
                ..planar_health
            }),
            ..walker
        },
        Family::HalfCheetah => Locomotion {
            robot: &HALF_CHEETAH,
            model: "half_cheetah.xml",
            frame_skip: 5,
            layout: &[Part::Positions { from: 1 }, Part::Velocities { limit: NONE }],
            control_cost: ControlCost::Action(0.1),
            health: None,
            start_noise: StartNoise::UniformNormal(0.1),
            ..walker
        },
        Family::Ant => Locomotion {
            robot: &ANT,
            model: "ant.xml",
            frame_skip: 5,
            layout: ant_layout(version),
            progress: Progress::Torso,
            control_cost: ControlCost::Action(0.5),
            contact_cost: if v5 { ContactCost::Limited { weight: 5e-4, limit: 1.0 } } else { ContactCost::None },
            health: Some(Health { height: (0.2, 1.0), inclusive: true, angle: None, ..planar_health }),
            start_noise: StartNoise::UniformNormal(0.1),
            ..walker
        },
        Family::Humanoid => Locomotion {
            robot: &HUMANOID,
            model: "humanoid.xml",
            frame_skip: 5,
            layout: humanoid_layout(version),
            progress: Progress::CentreOfMass,
            forward_weight: 1.25,
            goal_speed: None,
            control_cost: ControlCost::Control(0.1),
            contact_cost: if v5 { ContactCost::Capped { weight: 5e-7, cap: 10.0 } } else { ContactCost::None },
            health: Some(Health { reward: 5.0, height: (1.0, 2.0), angle: None, ..planar_health }),
            start_noise: StartNoise::Uniform(1e-2),
        },
    }
}

const STATE: [Part; 2] = [Part::Positions { from: 2 }, Part::Velocities { limit: NONE }];

fn ant_layout(version: Version) -> &'static [Part] {
    const V5: [Part; 3] = [STATE[0], STATE[1], Part::ContactForces { from_body: 1, limit: 1.0 }];
    const V3: [Part; 3] = [STATE[0], STATE[1], Part::NoContactForces];
    match version {
        Version::V3 => &V3,
        Version::V4 => &STATE,
        Version::V5 => &V5,
    }
}

fn humanoid_layout(version: Version) -> &'static [Part] {
    const fn bodies(from_body: usize, torques_from: usize, contact: Part) -> [Part; 6] {
        [
            STATE[0],
            STATE[1],
            Part::Inertias { from_body },
            Part::BodyVelocities { from_body },
            Part::MotorTorques { from: torques_from },
            contact,
        ]
    }
    const V5: [Part; 6] = bodies(1, 6, Part::ContactForces { from_body: 1, limit: NONE });
    const V4: [Part; 6] = bodies(0, 0, Part::ContactForces { from_body: 0, limit: NONE });
    const V3: [Part; 6] = bodies(0, 0, Part::NoContactForces);
    match version {
        Version::V3 => &V3,
        Version::V4 => &V4,
        Version::V5 => &V5,
    }
}

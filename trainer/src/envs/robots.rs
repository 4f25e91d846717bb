//! The five robots of Gymnasium's MJCF models: names of coordinates, bodies and motors.
//!
//! The models are loaded at run time; these names are known without them, and a test compares the two.

/// How a robot is attached to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// In the x–z plane: `rootx`, `rootz` (m), `rooty` (rad).
    Planar,
    /// Free: position (m) and unit quaternion; linear (world axes) and angular (body axes) velocity.
    Free,
}

/// A robot's names, in the model's order.
#[derive(Debug)]
pub(super) struct Robot {
    pub(super) root: Root,
    /// Hinges behind the root, in rad.
    pub(super) hinges: &'static [&'static str],
    /// Bodies without the world. Where the model has no name, one is given here.
    pub(super) bodies: &'static [&'static str],
    /// The hinge that each motor drives.
    pub(super) motors: &'static [&'static str],
    /// Controls lie in ±this; a motor's torque in N m is the control times its gear.
    pub(super) control_limit: f64,
}

impl Robot {
    /// Name and unit of each position coordinate.
    pub(super) fn positions(&self) -> Vec<(String, &'static str)> {
        let root: &[(&str, &str)] = match self.root {
            Root::Planar => &[("rootx", "m"), ("rootz", "m"), ("rooty", "rad")],
            Root::Free => &[
                ("root_x", "m"),
                ("root_y", "m"),
                ("root_z", "m"),
                ("root_quat_w", "1"),
                ("root_quat_x", "1"),
                ("root_quat_y", "1"),
                ("root_quat_z", "1"),
            ],
        };
        let hinges = self.hinges.iter().map(|name| (*name, "rad"));
        root.iter().copied().chain(hinges).map(|(name, unit)| (name.to_owned(), unit)).collect()
    }

    /// Name and unit of each velocity coordinate.
    pub(super) fn velocities(&self) -> Vec<(String, &'static str)> {
        let root: &[(&str, &str)] = match self.root {
            Root::Planar => &[("rootx", "m/s"), ("rootz", "m/s"), ("rooty", "rad/s")],
            Root::Free => &[
                ("root_x", "m/s"),
                ("root_y", "m/s"),
                ("root_z", "m/s"),
                ("root_about_x", "rad/s"),
                ("root_about_y", "rad/s"),
                ("root_about_z", "rad/s"),
            ],
        };
        let hinges = self.hinges.iter().map(|name| (*name, "rad/s"));
        root.iter().copied().chain(hinges).map(|(name, unit)| (format!("{name}_velocity"), unit)).collect()
    }
}

pub(super) const HOPPER: Robot = Robot {
    root: Root::Planar,
    hinges: &["thigh_joint", "leg_joint", "foot_joint"],
    bodies: &["torso", "thigh", "leg", "foot"],
    motors: &["thigh_joint", "leg_joint", "foot_joint"],
    control_limit: 1.0,
};

pub(super) const WALKER2D: Robot = Robot {
    root: Root::Planar,
    hinges: &["thigh_joint", "leg_joint", "foot_joint", "thigh_left_joint", "leg_left_joint", "foot_left_joint"],
    bodies: &["torso", "thigh", "leg", "foot", "thigh_left", "leg_left", "foot_left"],
    motors: &["thigh_joint", "leg_joint", "foot_joint", "thigh_left_joint", "leg_left_joint", "foot_left_joint"],
    control_limit: 1.0,
};

pub(super) const HALF_CHEETAH: Robot = Robot {
    root: Root::Planar,
    hinges: &["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"],
    bodies: &["torso", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"],
    motors: &["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"],
    control_limit: 1.0,
};

pub(super) const ANT: Robot = Robot {
    root: Root::Free,
    hinges: &["hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3", "hip_4", "ankle_4"],
    bodies: &[
        "torso",
        "front_left_leg",
        "aux_1",
        "foot_1",
        "front_right_leg",
        "aux_2",
        "foot_2",
        "back_leg",
        "aux_3",
        "foot_3",
        "right_back_leg",
        "aux_4",
        "foot_4",
    ],
    motors: &["hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3"],
    control_limit: 1.0,
};

pub(super) const HUMANOID: Robot = Robot {
    root: Root::Free,
    hinges: &[
        "abdomen_z",
        "abdomen_y",
        "abdomen_x",
        "right_hip_x",
        "right_hip_z",
        "right_hip_y",
        "right_knee",
        "left_hip_x",
        "left_hip_z",
        "left_hip_y",
        "left_knee",
        "right_shoulder1",
        "right_shoulder2",
        "right_elbow",
        "left_shoulder1",
        "left_shoulder2",
        "left_elbow",
    ],
    bodies: &[
        "torso",
        "lwaist",
        "pelvis",
        "right_thigh",
        "right_shin",
        "right_foot",
        "left_thigh",
        "left_shin",
        "left_foot",
        "right_upper_arm",
        "right_lower_arm",
        "left_upper_arm",
        "left_lower_arm",
    ],
    motors: &[
        "abdomen_y",
        "abdomen_z",
        "abdomen_x",
        "right_hip_x",
        "right_hip_z",
        "right_hip_y",
        "right_knee",
        "left_hip_x",
        "left_hip_z",
        "left_hip_y",
        "left_knee",
        "right_shoulder1",
        "right_shoulder2",
        "right_elbow",
        "left_shoulder1",
        "left_shoulder2",
        "left_elbow",
    ],
    control_limit: 0.4,
};

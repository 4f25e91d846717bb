//! Byte offsets of struct fields and values of constants in MuJoCo 3.17.0 (LP64 targets).
//!
//! Written by `trainer/scripts/mujoco_layout.py` from the headers of the `mujoco==3.17.0` wheel (Apache-2.0, DeepMind
//! Technologies Limited); do not edit. Valid for a library whose `mj_version()` is `VERSION_HEADER` and for no other.

use std::ffi::c_int;

pub(super) const MODEL_NQ: usize = 0;
pub(super) const MODEL_NV: usize = 8;
pub(super) const MODEL_NU: usize = 16;
pub(super) const MODEL_NBODY: usize = 48;
pub(super) const MODEL_NJNT: usize = 88;
pub(super) const MODEL_TIMESTEP: usize = 792;
pub(super) const MODEL_QPOS0: usize = 1792;
pub(super) const MODEL_BODY_MASS: usize = 1944;
pub(super) const MODEL_JNT_QPOSADR: usize = 2112;
pub(super) const MODEL_JNT_DOFADR: usize = 2120;
pub(super) const MODEL_ACTUATOR_TRNID: usize = 4832;
pub(super) const MODEL_ACTUATOR_CTRLRANGE: usize = 4992;
pub(super) const DATA_TIME: usize = 160648;
pub(super) const DATA_QPOS: usize = 160688;
pub(super) const DATA_QVEL: usize = 160696;
pub(super) const DATA_CTRL: usize = 160736;
pub(super) const DATA_QACC_WARMSTART: usize = 160720;
pub(super) const DATA_XPOS: usize = 160840;
pub(super) const DATA_XIPOS: usize = 160864;
pub(super) const DATA_CINERT: usize = 160976;
pub(super) const DATA_CVEL: usize = 161280;
pub(super) const DATA_QFRC_ACTUATOR: usize = 161408;
pub(super) const DATA_CFRC_EXT: usize = 161464;
pub(super) const LOG_LEVEL: usize = 0;
pub(super) const LOG_SUBJECT: usize = 8;
pub(super) const LOG_BODY: usize = 1032;
pub(super) const VERSION_HEADER: c_int = 3017000;
pub(super) const STATE_INTEGRATION: c_int = 16383;
pub(super) const OBJ_BODY: c_int = 1;
pub(super) const OBJ_JOINT: c_int = 3;
pub(super) const LOG_WARNING: c_int = 2;
pub(super) const LOG_ERROR: c_int = 3;

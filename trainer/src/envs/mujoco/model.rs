//! A compiled MuJoCo model, shared between threads, and one simulation of it.

#![allow(unsafe_code)]

use super::fetch::{self, Sources};
use super::ffi::{MjData, MjModel};
use super::layout;
use super::library::Library;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null};
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled model: constant, so any number of threads may simulate it at once.
pub struct Model {
    library: &'static Library,
    model: NonNull<MjModel>,
    nq: usize,
    nv: usize,
    nu: usize,
    nbody: usize,
    njnt: usize,
}

// SAFETY: nothing writes to an mjModel after loading; MuJoCo's functions take it by const pointer and may share it.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the pointer came from mj_loadXML, is freed once, and every simulation holds an Arc to this model.
        unsafe { (self.library.functions.mj_deleteModel)(self.model.as_ptr()) }
    }
}

impl Model {
    /// Gymnasium 1.4.0's model `file` (for instance `hopper.xml`), compiled once per process.
    pub fn gymnasium(file: &str) -> Result<Arc<Self>> {
        static MODELS: Mutex<BTreeMap<PathBuf, Arc<Model>>> = Mutex::new(BTreeMap::new());
        let path = fetch::mjcf_folder(&Sources::from_env())?.join(file);
        let mut models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = models.get(&path) {
            return Ok(Arc::clone(model));
        }
        let model = Arc::new(Self::load(Library::global()?, &path)?);
        models.insert(path, Arc::clone(&model));
        Ok(model)
    }

    /// Compiles the MJCF file at `path`.
    pub fn load(library: &'static Library, path: &Path) -> Result<Self> {
        let named = |text: String| Error::data(format!("cannot load the robot model {}", path.display())).found(text);
        if !path.is_file() {
            return Err(
                named("no such file".into()).hint("check HYPE_MJCF_DIR, or unset it and Hype fetches the models")
            );
        }
        let c_path = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| named("a path with a NUL byte in it".into()))?;
        let mut message = [0 as c_char; 1024];
        let model = library.guarded(|| {
            // SAFETY: the path is NUL-terminated, the buffer's length is passed with it, a null VFS is allowed.
            unsafe {
                (library.functions.mj_loadXML)(c_path.as_ptr(), null(), message.as_mut_ptr(), message.len() as c_int)
            }
        })?;
        let Some(model) = NonNull::new(model) else {
            // SAFETY: mj_loadXML leaves a NUL-terminated message in the buffer when it returns null.
            let text = unsafe { CStr::from_ptr(message.as_ptr()) };
            return Err(named(text.to_string_lossy().into_owned()));
        };
        // SAFETY: the offsets are those of this library version, checked when it was loaded.
        let size = |offset| unsafe { model.as_ptr().cast::<u8>().add(offset).cast::<i64>().read() } as usize;
        let (nq, nv, nu) = (size(layout::MODEL_NQ), size(layout::MODEL_NV), size(layout::MODEL_NU));
        let (nbody, njnt) = (size(layout::MODEL_NBODY), size(layout::MODEL_NJNT));
        Ok(Self { library, model, nq, nv, nu, nbody, njnt })
    }

    /// Numbers of position coordinates, velocity coordinates, actuators and bodies (world included).
    pub fn sizes(&self) -> (usize, usize, usize, usize) {
        (self.nq, self.nv, self.nu, self.nbody)
    }

    /// The simulation's time step in seconds.
    pub fn timestep_secs(&self) -> f64 {
        // SAFETY: mjModel.opt.timestep is a double at this offset.
        unsafe { self.model.as_ptr().cast::<u8>().add(layout::MODEL_TIMESTEP).cast::<f64>().read() }
    }

    /// The model's initial position coordinates, `nq` of them.
    pub fn qpos0(&self) -> &[f64] {
        self.array(layout::MODEL_QPOS0, self.nq)
    }

    /// Mass of each body in kg, world included.
    pub fn body_mass(&self) -> &[f64] {
        self.array(layout::MODEL_BODY_MASS, self.nbody)
    }

    /// Lower and upper control limit of each actuator.
    pub fn control_range(&self) -> Vec<(f64, f64)> {
        self.array::<f64>(layout::MODEL_ACTUATOR_CTRLRANGE, 2 * self.nu)
            .chunks(2)
            .map(|pair| (pair[0], pair[1]))
            .collect()
    }

    /// Joint names with the address of their first position and velocity coordinate, in order.
    pub fn joints(&self) -> Vec<(String, usize, usize)> {
        let position: &[c_int] = self.array(layout::MODEL_JNT_QPOSADR, self.njnt);
        let velocity: &[c_int] = self.array(layout::MODEL_JNT_DOFADR, self.njnt);
        let names = (0..self.njnt).map(|joint| self.name(layout::OBJ_JOINT, joint));
        names.zip(position).zip(velocity).map(|((name, &p), &v)| (name, p as usize, v as usize)).collect()
    }

    /// The joint that each actuator drives, by name.
    pub fn actuated_joints(&self) -> Vec<String> {
        let targets: &[c_int] = self.array(layout::MODEL_ACTUATOR_TRNID, 2 * self.nu);
        targets.chunks(2).map(|pair| self.name(layout::OBJ_JOINT, pair[0] as usize)).collect()
    }

    /// Body names, world first; empty for a nameless body.
    pub fn bodies(&self) -> Vec<String> {
        (0..self.nbody).map(|body| self.name(layout::OBJ_BODY, body)).collect()
    }

    fn name(&self, kind: c_int, index: usize) -> String {
        // SAFETY: mj_id2name returns null or a string owned by the model.
        unsafe {
            let name = (self.library.functions.mj_id2name)(self.model.as_ptr(), kind, index as c_int);
            if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
        }
    }

    fn array<T>(&self, offset: usize, length: usize) -> &[T] {
        // SAFETY: every caller names a pointer field of mjModel with its element type and the length that MuJoCo documents
        // for it; the array lives as long as the model and is never written.
        unsafe {
            let start = self.model.as_ptr().cast::<u8>().add(offset).cast::<*const T>().read();
            if length == 0 { &[] } else { std::slice::from_raw_parts(start, length) }
        }
    }
}

/// Which array of `mjData` to look at. Spatial vectors are rotation first, then translation, in world axes about the centre
/// of mass of the kinematic tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Position coordinates, `nq`.
    Qpos,
    /// Velocity coordinates, `nv`.
    Qvel,
    /// Control signals, `nu`.
    Ctrl,
    /// Body frame positions, `nbody × 3`. After a step they belong to the state before its last time step.
    Xpos,
    /// Body centres of mass, `nbody × 3`, as old as `Xpos`.
    Xipos,
    /// Inertia about the tree's centre of mass, `nbody × 10`.
    Cinert,
    /// Body velocities, `nbody × 6`.
    Cvel,
    /// Actuator forces in joint coordinates, `nv`.
    QfrcActuator,
    /// External (contact) forces on bodies, `nbody × 6`; as of the last [`Simulation::compute_contact_forces`].
    CfrcExt,
    /// Accelerations from which the constraint solver starts, `nv`.
    Warmstart,
}

/// One simulation: a model shared with others and a state of its own.
pub struct Simulation {
    model: Arc<Model>,
    data: NonNull<MjData>,
    state_length: usize,
}

// SAFETY: an mjData belongs to its Simulation alone and has no ties to the thread that made it.
unsafe impl Send for Simulation {}

impl Drop for Simulation {
    fn drop(&mut self) {
        // SAFETY: the pointer came from mj_makeData and is freed once.
        unsafe { (self.model.library.functions.mj_deleteData)(self.data.as_ptr()) }
    }
}

impl Simulation {
    /// A simulation of `model` in its initial state.
    pub fn new(model: Arc<Model>) -> Result<Self> {
        let functions = model.library.functions;
        // SAFETY: the model is valid; mj_makeData returns null or a new mjData.
        let (data, length) = model.library.guarded(|| unsafe {
            let data = (functions.mj_makeData)(model.model.as_ptr());
            (data, (functions.mj_stateSize)(model.model.as_ptr(), layout::STATE_INTEGRATION))
        })?;
        let data = NonNull::new(data).ok_or_else(|| Error::system("MuJoCo could not allocate a simulation"))?;
        Ok(Self { model, data, state_length: length as usize })
    }

    /// The model simulated.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// A view of one array.
    #[inline]
    pub fn field(&self, field: Field) -> &[f64] {
        let (offset, length) = self.place(field);
        // SAFETY: `place` names a pointer field of mjData to doubles with its documented length; the borrow of self keeps
        // every function that writes to it away.
        unsafe {
            let start = self.data.as_ptr().cast::<u8>().add(offset).cast::<*const f64>().read();
            std::slice::from_raw_parts(start, length)
        }
    }

    #[inline]
    fn field_mut(&mut self, field: Field) -> &mut [f64] {
        let (offset, length) = self.place(field);
        // SAFETY: as in `field`, and the borrow of self is exclusive.
        unsafe {
            let start = self.data.as_ptr().cast::<u8>().add(offset).cast::<*mut f64>().read();
            std::slice::from_raw_parts_mut(start, length)
        }
    }

    #[inline]
    fn place(&self, field: Field) -> (usize, usize) {
        let Model { nq, nv, nu, nbody, .. } = *self.model;
        match field {
            Field::Qpos => (layout::DATA_QPOS, nq),
            Field::Qvel => (layout::DATA_QVEL, nv),
            Field::Ctrl => (layout::DATA_CTRL, nu),
            Field::Xpos => (layout::DATA_XPOS, 3 * nbody),
            Field::Xipos => (layout::DATA_XIPOS, 3 * nbody),
            Field::Cinert => (layout::DATA_CINERT, 10 * nbody),
            Field::Cvel => (layout::DATA_CVEL, 6 * nbody),
            Field::QfrcActuator => (layout::DATA_QFRC_ACTUATOR, nv),
            Field::CfrcExt => (layout::DATA_CFRC_EXT, 6 * nbody),
            Field::Warmstart => (layout::DATA_QACC_WARMSTART, nv),
        }
    }

    /// Simulated time in seconds since the last reset.
    pub fn time_secs(&self) -> f64 {
        // SAFETY: mjData.time is a double at this offset.
        unsafe { self.data.as_ptr().cast::<u8>().add(layout::DATA_TIME).cast::<f64>().read() }
    }

    /// Starts anew from `qpos` (`nq`) and `qvel` (`nv`): everything else as after construction, derived quantities computed,
    /// contact forces zero. With `warmstart` (`nv`), the solver's memory is set too, as far as it matters to the next step.
    pub fn set_state(&mut self, qpos: &[f64], qvel: &[f64], warmstart: Option<&[f64]>) -> Result<()> {
        let (functions, model, data) = (self.model.library.functions, self.model.model.as_ptr(), self.data.as_ptr());
        check_length("qpos", qpos.len(), self.model.nq)?;
        check_length("qvel", qvel.len(), self.model.nv)?;
        // SAFETY: model and data are valid and belong together; self is borrowed exclusively.
        self.model.library.guarded(|| unsafe { (functions.mj_resetData)(model, data) })?;
        self.field_mut(Field::Qpos).copy_from_slice(qpos);
        self.field_mut(Field::Qvel).copy_from_slice(qvel);
        // SAFETY: as above.
        self.model.library.guarded(|| unsafe { (functions.mj_forward)(model, data) })?;
        if let Some(warmstart) = warmstart {
            check_length("warmstart", warmstart.len(), self.model.nv)?;
            self.field_mut(Field::Warmstart).copy_from_slice(warmstart);
        }
        Ok(())
    }

    /// Applies `control` (`nu` values, as they are) for `count` time steps.
    pub fn step(&mut self, control: impl Iterator<Item = f64>, count: usize) -> Result<()> {
        let (functions, model, data) = (self.model.library.functions, self.model.model.as_ptr(), self.data.as_ptr());
        self.field_mut(Field::Ctrl).iter_mut().zip(control).for_each(|(slot, value)| *slot = value);
        self.model.library.guarded(|| {
            for _ in 0..count {
                // SAFETY: model and data are valid and belong together; self is borrowed exclusively.
                unsafe { (functions.mj_step)(model, data) }
            }
        })
    }

    /// Computes [`Field::CfrcExt`] for the current state; MuJoCo does so only on demand.
    pub fn compute_contact_forces(&mut self) -> Result<()> {
        let (functions, model, data) = (self.model.library.functions, self.model.model.as_ptr(), self.data.as_ptr());
        // SAFETY: model and data are valid and belong together; self is borrowed exclusively.
        self.model.library.guarded(|| unsafe { (functions.mj_rnePostConstraint)(model, data) })
    }

    /// Everything that the next step depends on (MuJoCo's `mjSTATE_INTEGRATION`: time, positions, velocities, solver warm
    /// start, controls, applied forces).
    pub fn save(&self) -> Vec<f64> {
        let mut state = vec![0.0; self.state_length];
        // SAFETY: the buffer has the length that MuJoCo asked for.
        unsafe {
            let (model, data) = (self.model.model.as_ptr(), self.data.as_ptr());
            (self.model.library.functions.mj_getState)(model, data, state.as_mut_ptr(), layout::STATE_INTEGRATION);
        }
        state
    }

    /// Asks MuJoCo for a state component that does not exist, which is fatal to it.
    #[cfg(test)]
    pub(super) fn call_with_invalid_signature(&mut self) -> Result<()> {
        let mut state = vec![0.0; self.state_length];
        let (functions, model, data) = (self.model.library.functions, self.model.model.as_ptr(), self.data.as_ptr());
        // SAFETY: MuJoCo checks the signature before it writes.
        self.model.library.guarded(|| unsafe { (functions.mj_getState)(model, data, state.as_mut_ptr(), c_int::MAX) })
    }

    /// Puts back what [`Self::save`] returned: from here on the simulation repeats itself bit for bit. Quantities derived from
    /// the state (`Xpos`, `Cvel`, …) are stale until the next step.
    pub fn load(&mut self, state: &[f64]) -> Result<()> {
        check_length("physics state", state.len(), self.state_length)?;
        let (functions, model, data) = (self.model.library.functions, self.model.model.as_ptr(), self.data.as_ptr());
        // SAFETY: the length was checked; model and data are valid and belong together.
        self.model.library.guarded(|| unsafe {
            (functions.mj_resetData)(model, data);
            (functions.mj_setState)(model, data, state.as_ptr(), layout::STATE_INTEGRATION);
        })
    }
}

fn check_length(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::data(format!("{what} of the wrong length")).expected(expected).found(found))
}

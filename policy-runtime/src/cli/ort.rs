//! onnxruntime as a contestant: its shared library, named by `ORT_DYLIB_PATH`, through its C API.
//!
//! Only what f32 inputs and outputs need: an environment, a session with one thread, tensors over memory of our own, and `Run`. Positions in the table of functions are those of `onnxruntime_c_api.h`, which only ever grows at its end.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use libloading::Library;

use crate::engine::layout::{Layout, Piece, Role};
use crate::error::{Error, Result};
use crate::onnx::Model;

/// Version of the C API that is asked for: onnxruntime 1.17 and newer have it.
const API_VERSION: u32 = 17;

mod at {
    pub(super) const GET_ERROR_MESSAGE: usize = 2;
    pub(super) const CREATE_ENV: usize = 3;
    pub(super) const CREATE_SESSION_FROM_ARRAY: usize = 8;
    pub(super) const RUN: usize = 9;
    pub(super) const CREATE_SESSION_OPTIONS: usize = 10;
    pub(super) const SET_INTRA_OP_NUM_THREADS: usize = 24;
    pub(super) const SET_INTER_OP_NUM_THREADS: usize = 25;
    pub(super) const CREATE_TENSOR_WITH_DATA: usize = 49;
    pub(super) const CREATE_CPU_MEMORY_INFO: usize = 69;
    pub(super) const RELEASE_ENV: usize = 92;
    pub(super) const RELEASE_STATUS: usize = 93;
    pub(super) const RELEASE_MEMORY_INFO: usize = 94;
    pub(super) const RELEASE_SESSION: usize = 95;
    pub(super) const RELEASE_VALUE: usize = 96;
    pub(super) const RELEASE_SESSION_OPTIONS: usize = 100;
    pub(super) const COUNT: usize = 101;
}

/// An opaque object of onnxruntime.
type Handle = *mut c_void;
/// Null where all went well.
type Status = *mut c_void;

#[repr(C)]
struct ApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const [*const c_void; at::COUNT],
    get_version: unsafe extern "C" fn() -> *const c_char,
}

/// A model in onnxruntime, its inputs and outputs as a [`Layout`] says.
pub(super) struct Onnxruntime {
    api: &'static [*const c_void; at::COUNT],
    handles: Vec<(usize, Handle)>,
    session: Handle,
    /// Inputs, then outputs: tensor, name, and the memory that the tensor is over.
    values: Vec<Handle>,
    /// What `name_pointers` point to.
    _names: Vec<CString>,
    name_pointers: Vec<*const c_char>,
    rows: Vec<Box<[f32]>>,
    shapes: Vec<Vec<i64>>,
    /// How many of them are inputs.
    inputs: usize,
    observation: Vec<Piece>,
    /// State inputs with their outputs, both as positions in `rows`.
    states: Vec<(usize, usize)>,
    version: String,
    // Last: what it holds must be gone before.
    _library: Library,
}

impl Onnxruntime {
    /// Loads the library at `path` and prepares action and state of the model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the library's own reason.
    pub(super) fn new(path: &Path, bytes: &[u8], layout: &Layout, action_width: usize) -> Result<Self> {
        let model = Model::parse(bytes)?;
        let shape = |shape: &[usize]| -> Vec<i64> { shape.iter().map(|length| *length as i64).collect() };
        let mut ports: Vec<(&str, &str, Vec<i64>)> = (layout.inputs.iter())
            .map(|feed| (feed.name.as_str(), feed.element.as_str(), shape(&feed.shape)))
            .collect();
        let inputs = ports.len();
        let mut states = Vec::new();
        for (number, name) in layout.outputs.iter().enumerate() {
            let carried = layout.inputs.iter().position(|feed| feed.role == Role::State { output: number });
            states.extend(carried.map(|input| (input, inputs + number)));
            let port = model.outputs().iter().find(|port| port.name == *name);
            let element = port.map_or("undefined", |port| port.element.as_str());
            let declared = port.and_then(|port| port.shape.as_ref());
            let declared =
                declared.map(|shape| shape.iter().map(|length| length.unwrap_or(1) as i64).collect::<Vec<_>>());
            let alone = match carried.and_then(|input| layout.inputs.get(input)) {
                Some(feed) => shape(&feed.shape),
                None => declared
                    .filter(|shape| shape.iter().product::<i64>() == action_width as i64)
                    .unwrap_or_else(|| vec![1, action_width as i64]),
            };
            ports.push((name, element, alone));
        }
        if let Some((name, element, _)) = ports.iter().find(|(_, element, _)| *element != "float") {
            let reason = format!("{name:?} is {element}; only float is compared here");
            return Err(refused(reason, "bench it without --peers; `hype-policy infer` runs other number types"));
        }
        let name = |(name, ..): &(&str, _, _)| CString::new(*name).map_err(|error| failed(error.to_string()));
        let names: Vec<CString> = ports.iter().map(name).collect::<Result<_>>()?;
        // SAFETY: running the initialisers of the library that the user named is what was asked for.
        let library = unsafe { Library::new(path) }.map_err(|error| no_library(error.to_string()))?;
        // SAFETY: this is the documented type of the symbol.
        let base = unsafe { library.get::<unsafe extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase\0") };
        let base = base.map_err(|error| no_library(error.to_string()))?;
        // SAFETY: the library returns a table that lives as long as it is loaded.
        let base = unsafe { base().as_ref() }.ok_or_else(|| no_library("it has no API".into()))?;
        // SAFETY: as above; a table of a version that it does not have is null.
        let api = unsafe { (base.get_api)(API_VERSION).as_ref() };
        let api = api.ok_or_else(|| no_library(format!("it does not have version {API_VERSION} of its C API")))?;
        // SAFETY: a string that lives as long as the library.
        let version = unsafe { CStr::from_ptr((base.get_version)()) }.to_string_lossy().into_owned();
        let row =
            |(.., shape): &(_, _, Vec<i64>)| vec![0.0_f32; shape.iter().product::<i64>() as usize].into_boxed_slice();
        let mut ort = Self {
            api,
            handles: Vec::new(),
            session: null_mut(),
            values: Vec::new(),
            name_pointers: names.iter().map(|name| name.as_ptr()).collect(),
            _names: names,
            rows: ports.iter().map(row).collect(),
            shapes: ports.into_iter().map(|(.., shape)| shape).collect(),
            inputs,
            observation: layout.observation.clone(),
            states,
            version,
            _library: library,
        };
        ort.prepare(bytes)?;
        Ok(ort)
    }

    fn prepare(&mut self, bytes: &[u8]) -> Result<()> {
        type CreateEnv = unsafe extern "C" fn(i32, *const c_char, *mut Handle) -> Status;
        type Create = unsafe extern "C" fn(*mut Handle) -> Status;
        type SetNumber = unsafe extern "C" fn(Handle, i32) -> Status;
        type CreateSession = unsafe extern "C" fn(Handle, *const c_void, usize, Handle, *mut Handle) -> Status;
        type CreateMemoryInfo = unsafe extern "C" fn(i32, i32, *mut Handle) -> Status;
        type CreateTensor =
            unsafe extern "C" fn(Handle, *mut c_void, usize, *const i64, usize, i32, *mut Handle) -> Status;
        const ERRORS_ONLY: i32 = 3;
        const DEVICE_ALLOCATOR: i32 = 0;
        const DEFAULT_MEMORY: i32 = 0;
        const FLOAT: i32 = 1;
        let (mut env, mut options, mut session, mut info) = (null_mut(), null_mut(), null_mut(), null_mut());
        // SAFETY: each function has the type that the header gives it at its position, every pointer is valid for its call, the
        // tensors' memory is on the heap, is not moved, and is freed after them.
        unsafe {
            self.check(self.function::<CreateEnv>(at::CREATE_ENV)(ERRORS_ONLY, c"hype-policy".as_ptr(), &raw mut env))?;
            self.handles.push((at::RELEASE_ENV, env));
            self.check(self.function::<Create>(at::CREATE_SESSION_OPTIONS)(&raw mut options))?;
            self.handles.push((at::RELEASE_SESSION_OPTIONS, options));
            self.check(self.function::<SetNumber>(at::SET_INTRA_OP_NUM_THREADS)(options, 1))?;
            self.check(self.function::<SetNumber>(at::SET_INTER_OP_NUM_THREADS)(options, 1))?;
            let create = self.function::<CreateSession>(at::CREATE_SESSION_FROM_ARRAY);
            self.check(create(env, bytes.as_ptr().cast(), bytes.len(), options, &raw mut session))?;
            self.handles.push((at::RELEASE_SESSION, session));
            self.session = session;
            let create = self.function::<CreateMemoryInfo>(at::CREATE_CPU_MEMORY_INFO);
            self.check(create(DEVICE_ALLOCATOR, DEFAULT_MEMORY, &raw mut info))?;
            self.handles.push((at::RELEASE_MEMORY_INFO, info));
            for (row, shape) in self.rows.iter_mut().zip(&self.shapes) {
                let (data, bytes) = (row.as_mut_ptr(), size_of_val::<[f32]>(row));
                let mut value = null_mut();
                let create: CreateTensor = function(self.api, at::CREATE_TENSOR_WITH_DATA);
                let status = create(info, data.cast(), bytes, shape.as_ptr(), shape.len(), FLOAT, &raw mut value);
                check(self.api, status)?;
                self.handles.push((at::RELEASE_VALUE, value));
                self.values.push(value);
            }
        }
        Ok(())
    }

    /// The library's version.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// State is zero.
    pub(super) fn reset(&mut self) {
        for (input, _) in &self.states {
            self.rows[*input].fill(0.0);
        }
    }

    /// One action from one observation row; then state moves on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the library's own reason; [`Error::Width`] where a row has another length.
    pub(super) fn run(&mut self, observation: &[f32], action: &mut [f32]) -> Result<()> {
        type Run = unsafe extern "C" fn(
            Handle,
            *const c_void,
            *const *const c_char,
            *const Handle,
            usize,
            *const *const c_char,
            usize,
            *mut Handle,
        ) -> Status;
        let width = self.observation.last().map_or(0, |piece| piece.from + piece.len);
        for (what, expected, given) in
            [("observation", width, observation.len()), ("action", self.rows[self.inputs].len(), action.len())]
        {
            if expected != given {
                return Err(Error::Width { what, expected, found: given });
            }
        }
        for piece in &self.observation {
            let part = &observation[piece.from..piece.from + piece.len];
            self.rows[piece.input][piece.at..piece.at + piece.len].copy_from_slice(part);
        }
        let (given, wanted) = self.values.split_at_mut(self.inputs);
        let (inputs, outputs) = self.name_pointers.split_at(self.inputs);
        // SAFETY: as in `prepare`; as many names as values each way, and the names live as long as `self`.
        unsafe {
            let run: Run = function(self.api, at::RUN);
            let (in_names, out_names) = (inputs.as_ptr(), outputs.as_ptr());
            let (given, wanted) = ((given.as_ptr(), given.len()), (wanted.as_mut_ptr(), wanted.len()));
            let status = run(self.session, null(), in_names, given.0, given.1, out_names, wanted.1, wanted.0);
            check(self.api, status)?;
        }
        action.copy_from_slice(&self.rows[self.inputs]);
        for (input, output) in &self.states {
            let [into, from] =
                self.rows.get_disjoint_mut([*input, *output]).map_err(|error| failed(error.to_string()))?;
            into.copy_from_slice(from);
        }
        Ok(())
    }

    /// The function at a position of the table.
    ///
    /// # Safety
    /// `F` must be the function pointer type that the header gives to this position.
    unsafe fn function<F: Copy>(&self, index: usize) -> F {
        // SAFETY: the caller's promise is the same.
        unsafe { function(self.api, index) }
    }

    fn check(&self, status: Status) -> Result<()> {
        check(self.api, status)
    }
}

type Api = &'static [*const c_void; at::COUNT];

/// The function at a position of the table.
///
/// # Safety
/// `F` must be the function pointer type that the header gives to this position.
unsafe fn function<F: Copy>(api: Api, index: usize) -> F {
    assert_eq!(size_of::<F>(), size_of::<*const c_void>());
    // SAFETY: a function pointer has the size of a pointer, and the caller vouches for its type.
    unsafe { std::mem::transmute_copy(&api[index]) }
}

fn check(api: Api, status: Status) -> Result<()> {
    type GetMessage = unsafe extern "C" fn(Status) -> *const c_char;
    type Release = unsafe extern "C" fn(Status);
    if status.is_null() {
        return Ok(());
    }
    // SAFETY: the status is one that the library just gave; its message lives until it is released.
    unsafe {
        let get: GetMessage = function(api, at::GET_ERROR_MESSAGE);
        let message = CStr::from_ptr(get(status)).to_string_lossy().into_owned();
        let release: Release = function(api, at::RELEASE_STATUS);
        release(status);
        Err(failed(message))
    }
}

impl Drop for Onnxruntime {
    fn drop(&mut self) {
        type Release = unsafe extern "C" fn(Handle);
        while let Some((release, handle)) = self.handles.pop() {
            // SAFETY: each handle is released once, by its own function, after what was made from it.
            unsafe { self.function::<Release>(release)(handle) };
        }
    }
}

fn refused(reason: String, hint: &'static str) -> Error {
    Error::Unsupported { thing: "onnxruntime cannot run the model".into(), reason, hint }
}

fn no_library(reason: String) -> Error {
    refused(reason, "point ORT_DYLIB_PATH at libonnxruntime.so of onnxruntime 1.17 or newer")
}

/// What onnxruntime itself says about the model.
fn failed(reason: String) -> Error {
    refused(reason, "check the file with onnx.checker, or export it with an opset that this onnxruntime has")
}

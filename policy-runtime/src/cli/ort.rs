//! onnxruntime as a contestant: its shared library, named by `ORT_DYLIB_PATH`, through its C API.
//!
//! Only what one f32 row in and one f32 row out need: an environment, a session with one thread, two tensors over memory of our
//! own, and `Run`. Positions in the table of functions are those of `onnxruntime_c_api.h`, which only ever grows at its end.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use libloading::Library;

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

/// A model in onnxruntime with one input and one output row of fixed width.
pub(super) struct Onnxruntime {
    api: &'static [*const c_void; at::COUNT],
    handles: Vec<(usize, Handle)>,
    session: Handle,
    values: [Handle; 2],
    names: [CString; 2],
    rows: [Box<[f32]>; 2],
    version: String,
    // Last: what it holds must be gone before.
    _library: Library,
}

impl Onnxruntime {
    /// Loads the library at `path` and prepares output 0 of the model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the library's own reason.
    pub(super) fn new(path: &Path, bytes: &[u8], widths: [usize; 2]) -> Result<Self> {
        let model = Model::parse(bytes)?;
        let (Some(input), Some(output)) = (model.inputs().first(), model.outputs().first()) else {
            return Err(unsupported("the model has no input or no output".into()));
        };
        let name = |name: &str| CString::new(name).map_err(|error| unsupported(error.to_string()));
        let names = [name(&input.name)?, name(&output.name)?];
        // SAFETY: running the initialisers of the library that the user named is what was asked for.
        let library = unsafe { Library::new(path) }.map_err(|error| unsupported(error.to_string()))?;
        // SAFETY: this is the documented type of the symbol.
        let base = unsafe { library.get::<unsafe extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase\0") };
        let base = base.map_err(|error| unsupported(error.to_string()))?;
        // SAFETY: the library returns a table that lives as long as it is loaded.
        let base = unsafe { base().as_ref() }.ok_or_else(|| unsupported("it has no API".into()))?;
        // SAFETY: as above; a table of a version that it does not have is null.
        let api = unsafe { (base.get_api)(API_VERSION).as_ref() };
        let api = api.ok_or_else(|| unsupported(format!("it does not have version {API_VERSION} of its C API")))?;
        // SAFETY: a string that lives as long as the library.
        let version = unsafe { CStr::from_ptr((base.get_version)()) }.to_string_lossy().into_owned();
        let rows = widths.map(|width| vec![0.0_f32; width].into_boxed_slice());
        let mut ort = Self {
            api,
            handles: Vec::new(),
            session: null_mut(),
            values: [null_mut(); 2],
            names,
            rows,
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
            for index in 0..2 {
                let create = self.function::<CreateTensor>(at::CREATE_TENSOR_WITH_DATA);
                let row = &mut self.rows[index];
                let (data, bytes, shape) = (row.as_mut_ptr(), size_of_val::<[f32]>(row), [1, row.len() as i64]);
                let mut value = null_mut();
                self.check(create(info, data.cast(), bytes, shape.as_ptr(), 2, FLOAT, &raw mut value))?;
                self.handles.push((at::RELEASE_VALUE, value));
                self.values[index] = value;
            }
        }
        Ok(())
    }

    /// The library's version.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// One output row from one input row.
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
        for (what, row, given) in
            [("observation", &self.rows[0], observation.len()), ("action", &self.rows[1], action.len())]
        {
            if row.len() != given {
                return Err(Error::Width { what, expected: row.len(), found: given });
            }
        }
        self.rows[0].copy_from_slice(observation);
        let [input, output] = [self.names[0].as_ptr(), self.names[1].as_ptr()];
        // SAFETY: as in `prepare`; one name and one value each way.
        unsafe {
            let run = self.function::<Run>(at::RUN);
            let values = &mut self.values;
            let (given, wanted) = (&raw const values[0], &raw mut values[1]);
            let status = run(self.session, null(), &raw const input, given, 1, &raw const output, 1, wanted);
            self.check(status)?;
        }
        action.copy_from_slice(&self.rows[1]);
        Ok(())
    }

    /// The function at a position of the table.
    ///
    /// # Safety
    /// `F` must be the function pointer type that the header gives to this position.
    unsafe fn function<F: Copy>(&self, index: usize) -> F {
        assert_eq!(size_of::<F>(), size_of::<*const c_void>());
        // SAFETY: a function pointer has the size of a pointer, and the caller vouches for its type.
        unsafe { std::mem::transmute_copy(&self.api[index]) }
    }

    fn check(&self, status: Status) -> Result<()> {
        type GetMessage = unsafe extern "C" fn(Status) -> *const c_char;
        type Release = unsafe extern "C" fn(Status);
        if status.is_null() {
            return Ok(());
        }
        // SAFETY: the status is one that the library just gave; its message lives until it is released.
        unsafe {
            let message = CStr::from_ptr(self.function::<GetMessage>(at::GET_ERROR_MESSAGE)(status));
            let message = message.to_string_lossy().into_owned();
            self.function::<Release>(at::RELEASE_STATUS)(status);
            Err(unsupported(message))
        }
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

fn unsupported(reason: String) -> Error {
    Error::Unsupported {
        thing: "onnxruntime cannot run the model".into(),
        reason,
        hint: "point ORT_DYLIB_PATH at libonnxruntime.so of onnxruntime 1.17 or newer",
    }
}

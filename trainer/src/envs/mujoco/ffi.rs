//! The few C functions of MuJoCo 3.17.0 that Hype calls, as function pointers out of a loaded library.
//!
//! Signatures are those of `mujoco.h`. They say `C-unwind` because a fatal MuJoCo error leaves the library as a Rust panic,
//! raised by our log handler and caught around each call (see [`super::library`]).

#![allow(unsafe_code, non_snake_case)]

use std::ffi::{c_char, c_int, c_void};

/// `mjModel`: constant after loading; its fields are read through [`super::layout`].
#[repr(C)]
pub(super) struct MjModel {
    _opaque: [u8; 0],
}

/// `mjData`: the state of one simulation.
#[repr(C)]
pub(super) struct MjData {
    _opaque: [u8; 0],
}

/// `mjLogMessage`, read through [`super::layout`].
#[repr(C)]
pub(super) struct MjLogMessage {
    _opaque: [u8; 0],
}

/// `mjfLogHandler`.
pub(super) type LogHandler = unsafe extern "C-unwind" fn(*const MjLogMessage);

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions, found by name when the library is loaded.
        #[derive(Clone, Copy)]
        pub(super) struct Functions {
            $(pub(super) $name: unsafe extern "C-unwind" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// Finds every function, or names the first that is missing.
            ///
            /// # Safety
            /// `library` is MuJoCo 3.17.0: its functions of these names have the signatures above. It must outlive the
            /// pointers.
            pub(super) unsafe fn find(library: &libloading::Library) -> Result<Self, (&'static str, libloading::Error)> {
                // SAFETY: the caller vouches for the signatures and for the library's lifetime.
                unsafe {
                    Ok(Self { $($name: *library.get(stringify!($name)).map_err(|e| (stringify!($name), e))?,)* })
                }
            }
        }
    };
}

functions! {
    mju_setLogHandler: fn(Option<LogHandler>) -> *mut c_void;
    mj_loadXML: fn(*const c_char, *const c_void, *mut c_char, c_int) -> *mut MjModel;
    mj_deleteModel: fn(*mut MjModel);
    mj_makeData: fn(*const MjModel) -> *mut MjData;
    mj_deleteData: fn(*mut MjData);
    mj_resetData: fn(*const MjModel, *mut MjData);
    mj_forward: fn(*const MjModel, *mut MjData);
    mj_step: fn(*const MjModel, *mut MjData);
    mj_rnePostConstraint: fn(*const MjModel, *mut MjData);
    mj_stateSize: fn(*const MjModel, c_int) -> c_int;
    mj_getState: fn(*const MjModel, *const MjData, *mut f64, c_int);
    mj_setState: fn(*const MjModel, *mut MjData, *const f64, c_int);
    mj_id2name: fn(*const MjModel, c_int, c_int) -> *const c_char;
}

//! Loading libmujoco, and turning its errors and warnings into ours.
//!
//! MuJoCo reports through a log handler. Ours records warnings (nothing is printed, no `MUJOCO_LOG.TXT` is written). A fatal
//! error must not return to MuJoCo, which would end the process; the handler unwinds as a panic instead, caught by
//! `Library::guarded` around the call and returned as an [`Error`]. The frames in between are C, declared `C-unwind`, and
//! carry unwind tables in the pinned wheels; a library of the user's own without them cannot be unwound, and the process then
//! aborts with the message. Errors of a model file never take this way: `mj_loadXML` returns them in a buffer.

#![allow(unsafe_code)]

use super::fetch::{self, Sources};
use super::ffi::{Functions, MjLogMessage};
use super::layout;
use crate::error::{Error, Result};
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;

/// A loaded MuJoCo 3.17.0. It is never unloaded.
pub struct Library {
    pub(super) functions: Functions,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MuJoCo 3.17.0")
    }
}

/// The message of a fatal MuJoCo error on its way out of the library.
struct Fault(String);

const VERSION_NAME: &str = "MuJoCo 3.17.0";
const LIBRARY_HINT: &str =
    "export HYPE_MUJOCO_LIB=/path/to/libmujoco.so.3.17.0, or unset it and Hype fetches the right one";

impl Library {
    /// The process's library, located (and fetched, the first time) and loaded on first use.
    pub fn global() -> Result<&'static Self> {
        static LOADED: Mutex<Option<&'static Library>> = Mutex::new(None);
        let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(library) = *loaded {
            return Ok(library);
        }
        let library: &'static Self = Box::leak(Box::new(Self::open(&fetch::mujoco_library(&Sources::from_env())?)?));
        *loaded = Some(library);
        Ok(library)
    }

    /// Loads the library at `path`. Refuses a missing or truncated file, another kind of file, another version.
    pub fn open(path: &Path) -> Result<Self> {
        check_not_truncated(path)?;
        let not_mujoco = |e: libloading::Error| {
            Error::system(format!("{} is not a MuJoCo library", path.display())).source(e).hint(LIBRARY_HINT)
        };
        // SAFETY: loading runs the library's initialisers; the user named this file as MuJoCo, or it is the checked one.
        let library = unsafe { libloading::Library::new(path) }.map_err(not_mujoco)?;
        // SAFETY: `mj_version` has had this signature in every release.
        let version = unsafe {
            let function = library.get::<unsafe extern "C-unwind" fn() -> c_int>("mj_version").map_err(not_mujoco)?;
            function()
        };
        if version != layout::VERSION_HEADER {
            return Err(Error::system(format!("{} is another version of MuJoCo", path.display()))
                .expected(VERSION_NAME)
                .found(format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000))
                .hint(LIBRARY_HINT));
        }
        // SAFETY: the version was checked, and the library is leaked below, so the pointers stay valid.
        let functions = unsafe { Functions::find(&library) }
            .map_err(|(name, e)| not_mujoco(e).expected(format!("the function {name}")))?;
        std::mem::forget(library);
        // SAFETY: the handler follows MuJoCo's contract: thread-safe, does not call mju_error.
        unsafe { (functions.mju_setLogHandler)(Some(on_message)) };
        Ok(Self { functions })
    }

    /// Makes a call into MuJoCo; a fatal MuJoCo error inside it becomes an [`Error`].
    ///
    /// After an error the `mjData` used by the call is in an undefined state of computation and must be reset.
    pub(super) fn guarded<T>(&self, call: impl FnOnce() -> T) -> Result<T> {
        catch_unwind(AssertUnwindSafe(call)).map_err(|payload| match payload.downcast::<Fault>() {
            Ok(fault) => Error::system(format!("MuJoCo stopped: {}", fault.0)),
            Err(other) => resume_unwind(other),
        })
    }
}

/// Reads one of MuJoCo's messages.
unsafe extern "C-unwind" fn on_message(message: *const MjLogMessage) {
    let base = message.cast::<u8>();
    // SAFETY: MuJoCo passes a valid mjLogMessage; the offsets are those of this version, and both strings end in NUL.
    let (level, text) = unsafe {
        let level = base.add(layout::LOG_LEVEL).cast::<c_int>().read();
        let mut text = CStr::from_ptr(base.add(layout::LOG_SUBJECT).cast::<c_char>()).to_string_lossy().into_owned();
        let body = base.add(layout::LOG_BODY).cast::<*const c_char>().read();
        if !body.is_null() {
            text.push_str(": ");
            text.push_str(&CStr::from_ptr(body).to_string_lossy());
        }
        (level, text)
    };
    if level >= layout::LOG_ERROR {
        resume_unwind(Box::new(Fault(text)));
    }
    if level == layout::LOG_WARNING {
        record_warning(text);
    }
}

/// Distinct warnings kept, at most; a diverging simulation repeats the same ones.
const KEPT_WARNINGS: usize = 32;
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn record_warning(text: String) {
    let mut warnings = WARNINGS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let shape = |text: &str| text.chars().filter(|c| c.is_alphabetic()).collect::<String>();
    let known = warnings.iter().any(|earlier| shape(earlier) == shape(&text));
    if !known && warnings.len() < KEPT_WARNINGS {
        warnings.push(text);
    }
}

/// The distinct warnings that MuJoCo has given in this process, oldest first. Messages that differ in numbers only count once.
pub fn warnings() -> Vec<String> {
    WARNINGS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

/// Refuses an ELF file shorter than its own headers say: mapping one kills the process with SIGBUS.
fn check_not_truncated(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read the MuJoCo library", path, e).hint(LIBRARY_HINT))?;
    let Some(needed) = elf_length(&bytes) else {
        if cfg!(target_os = "linux") {
            return Err(Error::system(format!("{} is not a MuJoCo library", path.display()))
                .expected("a 64-bit little-endian ELF file")
                .found(format!("{} bytes of something else", bytes.len()))
                .hint(LIBRARY_HINT));
        }
        return Ok(());
    };
    if (bytes.len() as u64) < needed {
        return Err(Error::system(format!("{} is truncated", path.display()))
            .expected(format!("at least {needed} bytes"))
            .found(format!("{} bytes", bytes.len()))
            .hint(LIBRARY_HINT));
    }
    Ok(())
}

/// The least length of a 64-bit little-endian ELF file, from its program and section headers; `None` for any other content.
fn elf_length(bytes: &[u8]) -> Option<u64> {
    let u16_at = |at: usize| bytes.get(at..at + 2).map(|b| u64::from(u16::from_le_bytes([b[0], b[1]])));
    let u64_at = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    if bytes.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (program_at, section_at) = (u64_at(32)?, u64_at(40)?);
    let (program_size, program_count) = (u16_at(54)?, u16_at(56)?);
    let mut needed = section_at.checked_add(u16_at(58)? * u16_at(60)?)?;
    needed = needed.max(program_at.checked_add(program_size * program_count)?);
    for index in 0..program_count {
        let header = usize::try_from(program_at + index * program_size).ok()?;
        if let (Some(offset), Some(length)) = (u64_at(header + 8), u64_at(header + 32)) {
            needed = needed.max(offset.checked_add(length)?);
        }
    }
    Some(needed)
}

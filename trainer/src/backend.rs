//! What a GPU run needs of this machine, looked for before Burn does: where a part is missing, Burn panics in a thread of its
//! own, long after the run's folder was made.
//!
//! Burn's CUDA backend links nothing. It loads the driver (`libcuda.so.1`) and the run-time compiler (`libnvrtc`) by name, and
//! compiles its kernels against the CUDA headers in `$CUDA_PATH/include` (`/usr/local/cuda`, `/opt/cuda`, `/usr` by default).
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use libloading::{Library, Symbol};
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

/// The line that builds a program for GPUs; no CUDA toolkit is needed for it.
pub const BUILD_LINE: &str = "CUDARC_CUDA_VERSION=13000 cargo build --release -p hype-trainer --features cuda";

const DRIVER_HINT: &str = "install NVIDIA's driver until `nvidia-smi` lists the GPU; containers need it passed through";
const COMPILER_HINT: &str = "pip install 'nvidia-cuda-nvrtc==13.0.*' and put the folder of its libraries on LD_LIBRARY_PATH, or \
                             below CUDA_PATH as lib/";
const HEADERS_HINT: &str = "install the CUDA toolkit, or: pip install --target cuda 'nvidia-cuda-runtime==13.0.*' \
                            'nvidia-cuda-cccl==13.0.*' 'nvidia-cuda-crt==13.0.*'; export CUDA_PATH=$PWD/cuda/nvidia/cu13";

/// A GPU that this program can train on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The device's own name.
    pub name: String,
    /// Its memory, in MiB.
    pub memory_mib: usize,
    /// CUDA version of the driver, as 1000 · major + 10 · minor.
    pub driver: c_int,
    /// Version of the run-time compiler, likewise.
    pub compiler: c_int,
    /// Folder of the CUDA headers.
    pub headers: PathBuf,
}

/// The GPU for `--device cuda`, with all that it needs in place.
///
/// # Errors
/// Name the part that is missing, and how to get it.
pub fn gpu() -> Result<Gpu> {
    if !cfg!(feature = "cuda") {
        return Err(not_built());
    }
    let (name, memory_mib, driver) = driver("libcuda.so.1")?;
    let headers = headers(std::env::var_os("CUDA_PATH").map(PathBuf::from))?;
    let compiler = compiler(&headers)?;
    if compiler > driver {
        return Err(Error::system("the driver cannot load what the run-time compiler makes")
            .expected(format!("libnvrtc of CUDA {} or older", version(driver)))
            .found(format!("CUDA {}", version(compiler)))
            .hint("a newer driver, or an older libnvrtc first on LD_LIBRARY_PATH"));
    }
    Ok(Gpu { name, memory_mib, driver, compiler, headers })
}

/// Refuses `--device cuda` in a program without it.
pub fn not_built() -> Error {
    Error::config("--device cuda: this program was built for the CPU alone")
        .expected("a program built with the feature `cuda`")
        .hint(BUILD_LINE)
}

/// A CUDA version as people write it.
pub fn version(number: c_int) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// Name and memory of the first device, and the driver's version.
fn driver(library: &str) -> Result<(String, usize, c_int)> {
    let missing = |e| Error::system(format!("there is no NVIDIA driver: {library}")).source(e).hint(DRIVER_HINT);
    // SAFETY: the driver's library has no initialisers beyond its own set-up.
    let library = unsafe { Library::new(library) }.map_err(missing)?;
    // SAFETY: these are the documented signatures of the CUDA driver API, stable since CUDA 3.2; pointers are to locals that
    // outlive the calls, and the name's buffer is as long as said.
    unsafe {
        let init: Symbol<unsafe extern "C" fn(c_uint) -> c_int> = library.get("cuInit").map_err(missing)?;
        let version: Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> =
            library.get("cuDriverGetVersion").map_err(missing)?;
        let get: Symbol<unsafe extern "C" fn(*mut c_int, c_int) -> c_int> =
            library.get("cuDeviceGet").map_err(missing)?;
        let name: Symbol<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int> =
            library.get("cuDeviceGetName").map_err(missing)?;
        let memory: Symbol<unsafe extern "C" fn(*mut usize, c_int) -> c_int> =
            library.get("cuDeviceTotalMem_v2").map_err(missing)?;
        let (mut driver, mut device, mut bytes) = (0, 0, 0);
        let mut text: [c_char; 256] = [0; 256];
        let call = |function: &str, code: c_int| match code {
            0 => Ok(()),
            _ => Err(Error::system("the NVIDIA driver answers, but offers no GPU")
                .found(format!("error {code} of {function}"))
                .hint(DRIVER_HINT)),
        };
        call("cuInit", init(0))?;
        call("cuDriverGetVersion", version(&mut driver))?;
        call("cuDeviceGet", get(&mut device, 0))?;
        call("cuDeviceGetName", name(text.as_mut_ptr(), text.len() as c_int - 1, device))?;
        call("cuDeviceTotalMem", memory(&mut bytes, device))?;
        let name = CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned();
        Ok((name, bytes >> 20, driver))
    }
}

/// The CUDA folder that Burn will take, once it holds headers.
fn headers(cuda_path: Option<PathBuf>) -> Result<PathBuf> {
    let usual = || {
        let folders = ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from);
        folders.into_iter().find(|folder| folder.exists()).unwrap_or_else(|| "/usr".into())
    };
    let folder = cuda_path.unwrap_or_else(usual);
    if folder.join("include/cuda_runtime.h").is_file() {
        return Ok(folder);
    }
    Err(Error::system("there are no CUDA headers, with which kernels are compiled at run time")
        .expected("a folder with include/cuda_runtime.h: CUDA_PATH, /usr/local/cuda, /opt/cuda or /usr")
        .found(format!("none in {}", folder.display()))
        .hint(HEADERS_HINT))
}

/// Loads the run-time compiler for good, compiles a few lines that use the headers as kernels do, and returns its version.
///
/// A library below `folder` is loaded by its path; Burn then finds it by its name, as a loaded library answers to that.
fn compiler(folder: &Path) -> Result<c_int> {
    let names = ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"];
    let by_name = names.into_iter().find_map(|name| load(Path::new(name)).ok());
    let library = match by_name {
        Some(library) => library,
        None => {
            let folders = ["lib64", "lib", "lib/x86_64-linux-gnu"].map(|part| folder.join(part));
            let found = folders.iter().flat_map(|folder| names.map(|name| folder.join(name))).find(|f| f.is_file());
            let path = found.ok_or_else(|| {
                Error::system("there is no CUDA run-time compiler")
                    .expected(format!("{} on the loader's path or in {}", names.join(", "), folder.display()))
                    .hint(COMPILER_HINT)
            })?;
            // The compiler asks for its built-ins by name.
            if let Some(builtins) = beside(&path, "libnvrtc-builtins.so") {
                std::mem::forget(load(&builtins)?);
            }
            load(&path)?
        }
    };
    let version = try_out(&library, folder)?;
    std::mem::forget(library);
    Ok(version)
}

fn load(path: &Path) -> Result<Library> {
    let failed = |e| Error::system(format!("cannot load {}", path.display())).source(e).hint(COMPILER_HINT);
    // SAFETY: loading runs the initialisers of NVIDIA's compiler, which have no preconditions.
    unsafe { Library::new(path) }.map_err(failed)
}

fn beside(path: &Path, start: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start) && !path.is_dir()))
}

/// What every kernel of Burn includes, or may.
const TRIAL: &CStr = c"#include <cuda_runtime.h>\n#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n#include <mma.h>\n\
    #include <cuda/barrier>\nextern \"C\" __global__ void trial(float *x) { x[threadIdx.x] += 1.0f; }\n";

fn try_out(library: &Library, folder: &Path) -> Result<c_int> {
    type Program = *mut c_void;
    type Create = unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int;
    let broken = |e| Error::system("libnvrtc is not what it is called").source(e).hint(COMPILER_HINT);
    let include = |part: &str| CString::new(format!("--include-path={}", folder.join(part).display()));
    let Ok(options) = ["include", "include/cccl"].map(include).into_iter().collect::<Result<Vec<_>, _>>() else {
        return Err(Error::system("CUDA_PATH holds a zero byte").hint(HEADERS_HINT));
    };
    let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
    // SAFETY: the documented signatures of NVRTC, stable since CUDA 7; every pointer is to a local that outlives its call,
    // and the log's buffer is as long as the library asked for.
    unsafe {
        let version: Symbol<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int> =
            library.get("nvrtcVersion").map_err(broken)?;
        let create: Symbol<Create> = library.get("nvrtcCreateProgram").map_err(broken)?;
        let compile: Symbol<unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int> =
            library.get("nvrtcCompileProgram").map_err(broken)?;
        let log_size: Symbol<unsafe extern "C" fn(Program, *mut usize) -> c_int> =
            library.get("nvrtcGetProgramLogSize").map_err(broken)?;
        let log: Symbol<unsafe extern "C" fn(Program, *mut c_char) -> c_int> =
            library.get("nvrtcGetProgramLog").map_err(broken)?;
        let destroy: Symbol<unsafe extern "C" fn(*mut Program) -> c_int> =
            library.get("nvrtcDestroyProgram").map_err(broken)?;
        let (mut major, mut minor, mut program) = (0, 0, ptr::null_mut());
        version(&mut major, &mut minor);
        if create(&mut program, TRIAL.as_ptr(), ptr::null(), 0, ptr::null(), ptr::null()) != 0 {
            return Err(Error::system("libnvrtc cannot start a program").hint(COMPILER_HINT));
        }
        let code = compile(program, options.len() as c_int, options.as_ptr());
        let mut bytes = 0;
        log_size(program, &mut bytes);
        let mut text = vec![0_u8; bytes + 1];
        log(program, text.as_mut_ptr().cast());
        destroy(&mut program);
        if code == 0 {
            return Ok(1000 * major + 10 * minor);
        }
        let text = String::from_utf8_lossy(&text);
        let said = text.lines().find(|line| line.contains("error")).unwrap_or("nothing");
        let hint = if text.contains("builtins") { COMPILER_HINT } else { HEADERS_HINT };
        Err(Error::system(format!("the run-time compiler refuses the headers in {}", folder.display()))
            .found(said.trim_matches(['\0', ' ']))
            .hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_cure() {
        let error = driver("libcuda-of-nobody.so.1").unwrap_err().to_string();
        assert!(error.contains("libcuda-of-nobody.so.1") && error.contains("nvidia-smi"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = headers(Some(empty.path().to_owned())).unwrap_err().to_string();
        assert!(error.contains("include/cuda_runtime.h") && error.contains("pip install"), "{error}");
        std::fs::create_dir(empty.path().join("include")).unwrap();
        std::fs::write(empty.path().join("include/cuda_runtime.h"), "").unwrap();
        assert_eq!(headers(Some(empty.path().to_owned())).unwrap(), empty.path());
        std::fs::create_dir(empty.path().join("lib")).unwrap();
        std::fs::write(empty.path().join("lib/libnvrtc.so.13"), "not a library").unwrap();
        let error = compiler(empty.path()).unwrap_err().to_string();
        assert!(error.contains("nvrtc") || error.contains("refuses the headers"), "{error}");
    }

    #[test]
    fn a_program_for_the_cpu_says_how_to_build_the_other() {
        if cfg!(feature = "cuda") {
            println!("SKIPPED a_program_for_the_cpu_says_how_to_build_the_other: this one has CUDA");
            return;
        }
        let error = gpu().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--features cuda"), "{error}");
        assert_eq!(version(13_020), "13.2");
    }

    /// With the wheels that the hint names, on any machine: `CUDA_PATH=…/nvidia/cu13`.
    #[test]
    fn the_compiler_takes_the_headers() {
        let Some(folder) = std::env::var_os("CUDA_PATH").map(PathBuf::from) else {
            println!("SKIPPED the_compiler_takes_the_headers: CUDA_PATH is not set");
            return;
        };
        assert!(compiler(&headers(Some(folder)).unwrap()).unwrap() >= 12_000);
    }
}

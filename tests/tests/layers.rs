//! The direction of dependencies: which crate may know which, and where in the trainer Burn and MuJoCo may be named.
//! docs/ARCHITECTURE.md says why; a change here is a change of the architecture.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Crate of the house → the crates of the house that it may know.
const MAY_KNOW: [(&str, &[&str]); 6] = [
    ("hype-policy-runtime", &[]),
    ("hype-export", &["hype-policy-runtime"]),
    ("hype-trainer", &["hype-policy-runtime", "hype-export"]),
    ("hype-firmware", &["hype-policy-runtime"]),
    ("hype-tests", &["hype-policy-runtime", "hype-export", "hype-trainer", "hype-firmware"]),
    ("hype-benches", &["hype-policy-runtime", "hype-export", "hype-trainer", "hype-firmware"]),
];

/// Foreign crates, by the beginning of their names → the crates of the house that may depend on them.
const GUARDED: [(&str, &[&str]); 10] = [
    ("burn", &["hype-trainer"]),
    ("cubecl", &["hype-trainer"]),
    ("gemm", &["hype-trainer"]),
    ("libloading", &["hype-trainer", "hype-policy-runtime"]),
    ("mujoco", &["hype-trainer"]),
    ("rust-hdf5", &["hype-trainer"]),
    ("tract", &["hype-policy-runtime"]),
    ("onnx-protobuf", &["hype-export"]),
    ("ort", &[]),
    ("clap", &["hype-trainer", "hype-policy-runtime"]),
];

/// Word in the trainer's sources → the files and folders of `trainer/src` that may hold it.
const NAMED_ONLY_IN: [(&str, &[&str]); 5] = [
    ("burn::", &["nn/", "learners/", "reward/", "world_model/", "to_policy.rs", "backend.rs"]),
    ("burn_flex::", &["nn/", "backend.rs"]),
    ("gemm::", &["nn/"]),
    ("libloading::", &["envs/mujoco/", "backend.rs"]),
    ("rust_hdf5::", &["demos/"]),
];

/// What `trainer/src/methods` leaves to its driver: printing, files, the clock.
const METHODS_NEVER: [&str; 7] =
    ["println!", "print!(", "eprintln!", "std::fs", "File::open", "Instant::now", "SystemTime"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read_toml(path: &Path) -> Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The manifests of all members by package name.
fn members() -> BTreeMap<String, Table> {
    let workspace = read_toml(&root().join("Cargo.toml"));
    let folders = workspace["workspace"]["members"].as_array().unwrap().clone();
    let manifest = |folder: &Value| read_toml(&root().join(folder.as_str().unwrap()).join("Cargo.toml"));
    folders.iter().map(manifest).map(|table| (table["package"]["name"].as_str().unwrap().to_owned(), table)).collect()
}

/// Name in a manifest → name of the package, where the workspace renames it.
fn package_names() -> BTreeMap<String, String> {
    let workspace = read_toml(&root().join("Cargo.toml"));
    let known = workspace["workspace"]["dependencies"].as_table().unwrap();
    let package = |(name, value): (&String, &Value)| {
        (name.clone(), value.get("package").and_then(Value::as_str).unwrap_or(name).to_owned())
    };
    known.iter().map(package).collect()
}

/// All dependencies of a manifest: those for every target and for single ones, for building and for testing.
fn dependencies(manifest: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
        let tables = targets.filter_map(|(_, target)| target.get(kind)).chain(manifest.get(kind));
        for table in tables.filter_map(Value::as_table) {
            found.extend(table.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    found
}

fn forbidden_dependencies(members: &BTreeMap<String, Table>) -> Vec<String> {
    let packages = package_names();
    let mut found = Vec::new();
    for (member, manifest) in members {
        let Some((_, known)) = MAY_KNOW.iter().find(|(name, _)| name == member) else {
            found.push(format!("{member} is not in the table MAY_KNOW of tests/tests/layers.rs"));
            continue;
        };
        for (name, value) in dependencies(manifest) {
            let renamed = value.get("package").and_then(Value::as_str).or(packages.get(&name).map(String::as_str));
            let package = renamed.unwrap_or(&name);
            let guarded = GUARDED.iter().find(|(start, _)| package.starts_with(start) && !package.starts_with("orth"));
            let allowed = match guarded {
                Some((_, allowed)) => allowed.contains(&member.as_str()),
                None => !members.contains_key(package) || known.contains(&package),
            };
            if !allowed {
                found.push(format!("{member} may not know {package}"));
            }
        }
    }
    found
}

#[test]
fn no_crate_knows_one_that_it_may_not_know() {
    assert_eq!(forbidden_dependencies(&members()), Vec::<String>::new());
}

#[test]
fn a_forbidden_dependency_is_noticed() {
    let with = |member: &str, kind: &str, line: &str| {
        let mut members = members();
        let manifest = members.get_mut(member).unwrap();
        let added: Table = line.parse().unwrap();
        let table = manifest.entry(kind).or_insert_with(|| Value::Table(Table::new()));
        table.as_table_mut().unwrap().extend(added);
        forbidden_dependencies(&members)
    };
    for (member, kind, line, found) in [
        ("hype-export", "dependencies", "burn.workspace = true", "hype-export may not know burn"),
        ("hype-export", "dependencies", "clap = \"4\"", "hype-export may not know clap"),
        (
            "hype-policy-runtime",
            "dev-dependencies",
            "trainer.workspace = true",
            "hype-policy-runtime may not know hype-trainer",
        ),
        (
            "hype-policy-runtime",
            "build-dependencies",
            "x = { package = \"hype-export\", path = \"..\" }",
            "hype-policy-runtime may not know hype-export",
        ),
        ("hype-trainer", "dependencies", "tract-onnx = \"1\"", "hype-trainer may not know tract-onnx"),
        ("hype-firmware", "dependencies", "burn-flex = \"1\"", "hype-firmware may not know burn-flex"),
    ] {
        assert_eq!(with(member, kind, line), [found], "{line}");
    }
}

#[test]
fn tract_is_behind_one_feature_and_std_behind_another() {
    let members = members();
    let runtime = &members["hype-policy-runtime"];
    let features = runtime["features"].as_table().unwrap();
    let naming = |word: &str| -> Vec<&str> {
        let names = |value: &Value| value.as_array().unwrap().iter().any(|v| v.as_str().unwrap().contains(word));
        features.iter().filter(|(_, value)| names(value)).map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(naming("tract"), ["onnx"]);
    assert_eq!(naming("clap"), ["cli"]);
    for heavy in ["tract-onnx", "clap", "serde_json", "sha2", "hdrhistogram", "ctrlc", "libc", "libloading"] {
        assert_eq!(runtime["dependencies"][heavy]["optional"].as_bool(), Some(true), "{heavy} is needed without std");
    }
    let workspace = read_toml(&root().join("Cargo.toml"));
    let shared = &workspace["workspace"]["dependencies"]["policy_runtime"];
    assert_eq!(shared["default-features"].as_bool(), Some(false));
}

#[test]
fn firmware_takes_the_runtime_bare() {
    let members = members();
    let firmware = &members["hype-firmware"];
    let runtime = &firmware["dependencies"]["policy_runtime"];
    assert!(runtime.get("features").is_none() && runtime.get("default-features").is_none(), "{runtime}");
    let features = firmware["features"].as_table().unwrap().values().flat_map(|value| value.as_array().unwrap());
    let of_runtime: Vec<&str> =
        features.filter_map(Value::as_str).filter(|name| name.contains("policy_runtime")).collect();
    assert!(of_runtime.iter().all(|name| *name == "policy_runtime/dsp"), "{of_runtime:?}");
}

/// Every Rust file below `folder`, by its path from there.
fn sources(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/");
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// Lines of code that hold `word` as the beginning of a path, comments left out.
fn lines_with<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let starts = move |line: &str| {
        let before = |at: usize| line[..at].chars().next_back();
        line.match_indices(word).any(|(at, _)| before(at).is_none_or(|c| !(c.is_alphanumeric() || c == '_')))
    };
    let code = |line: &'a str| line.split("//").next().unwrap_or_default();
    text.lines().enumerate().map(move |(index, line)| (index + 1, code(line))).filter(move |(_, line)| starts(line))
}

fn misplaced_names(sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources {
        for (word, places) in NAMED_ONLY_IN {
            if !places.iter().any(|place| file.starts_with(place)) {
                found.extend(lines_with(text, word).map(|(line, _)| format!("{file}:{line} names {word}")));
            }
        }
        for word in METHODS_NEVER.iter().filter(|_| file.starts_with("methods/") && !file.ends_with("tests.rs")) {
            found.extend(lines_with(text, word).map(|(line, _)| format!("{file}:{line} holds {word}")));
        }
    }
    found
}

#[test]
fn burn_and_mujoco_stay_in_their_rooms() {
    let sources = sources(&root().join("trainer/src"));
    assert!(sources.contains_key("lib.rs"));
    assert_eq!(misplaced_names(&sources), Vec::<String>::new());
}

#[test]
fn a_misplaced_name_is_noticed() {
    let one = |file: &str, text: &str| misplaced_names(&BTreeMap::from([(file.to_owned(), text.to_owned())]));
    assert_eq!(one("methods/hype.rs", "// plain\nuse burn::tensor::Tensor;"), ["methods/hype.rs:2 names burn::"]);
    assert_eq!(one("methods/hype.rs", "fn f() { println!(\"x\") }"), ["methods/hype.rs:1 holds println!"]);
    assert_eq!(one("cli/mod.rs", "let x = libloading::Library::new(p);"), ["cli/mod.rs:1 names libloading::"]);
    for fine in ["// use burn::x;", "use sunburn::x;", "use crate::burned::x;"] {
        assert_eq!(one("cli/mod.rs", fine), Vec::<String>::new(), "{fine}");
    }
    assert_eq!(one("nn/mlp.rs", "use burn::tensor::Tensor;"), Vec::<String>::new());
}

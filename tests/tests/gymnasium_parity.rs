//! The physics tasks against Gymnasium 1.4.0: equal in every bit over 1000 steps, given the same start states and actions.
//!
//! Recorded runs (`tests/data/gymnasium`, written by `tests/python/record_trajectories.py`) are checked always; where Python
//! has Gymnasium, it is asked anew and compared number by number. `HYPE_PYTHON` names that interpreter, else it is
//! `python/bin/python` in the cache folder.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use trainer::envs::{self, Ending, ResetState};

const STEPS: usize = 1000;
const DIGEST_EVERY: usize = 50;
const PENDULUM_HORIZON: usize = 200;
const LOCOMOTION: [&str; 10] = [
    "Hopper-v5",
    "Walker2d-v5",
    "HalfCheetah-v5",
    "Ant-v5",
    "Humanoid-v5",
    "Hopper-v4",
    "Walker2d-v4",
    "HalfCheetah-v4",
    "Ant-v4",
    "Humanoid-v4",
];

/// The generator of `record_trajectories.py`: SplitMix64, the top 24 bits as an f32 in [-1, 1) times the bound.
struct Actions(u64);

impl Actions {
    fn next(&mut self, width: usize, bound: f32) -> Vec<f32> {
        let mut value = || {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32 * bound
        };
        (0..width).map(|_| value()).collect()
    }
}

struct Digest(u64);

impl Digest {
    fn add(&mut self, numbers: &[f64]) {
        for number in numbers {
            self.0 = (self.0 ^ (number + 0.0).to_bits()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            self.0 ^= self.0 >> 32;
        }
    }
}

/// One event of a run of ours.
struct Event<'a> {
    /// Steps taken so far; the observation after a start comes with the number of the step before it.
    step: usize,
    observation: &'a [f64],
    /// Reward and termination; none at a start.
    outcome: Option<(f64, bool)>,
}

/// Plays STEPS steps from the recorded start states and shows every event, until `see` objects.
fn play(
    id: &str,
    starts: &[ResetState],
    seed: u64,
    see: &mut dyn FnMut(Event<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut env = envs::make(&task_id(id)).map_err(|e| e.to_string())?;
    let (width, bound) = (env.task().action_width(), env.task().action_high()[0]);
    let horizon = if id.starts_with("Pendulum") { PENDULUM_HORIZON } else { usize::MAX };
    let mut actions = Actions(seed);
    let (mut episode, mut age) = (0, 0);
    env.reset_to(&starts[0]).map_err(|e| e.to_string())?;
    see(Event { step: 0, observation: env.observation(), outcome: None })?;
    for step in 1..=STEPS {
        let result = env.step(&actions.next(width, bound)).map_err(|e| e.to_string())?;
        let terminated = result.ending == Ending::Terminated;
        see(Event { step, observation: env.observation(), outcome: Some((result.reward, terminated)) })?;
        age += 1;
        if terminated || age == horizon {
            (episode, age) = (episode + 1, 0);
            env.reset_to(&starts[episode % starts.len()]).map_err(|e| e.to_string())?;
            see(Event { step, observation: env.observation(), outcome: None })?;
        }
    }
    Ok(())
}

/// `HalfCheetah-v4` is our `half-cheetah-v4`, `Hopper-v5` our `hopper`, `Pendulum-v1` our `pendulum`.
fn task_id(gymnasium: &str) -> String {
    let name = gymnasium.replace("HalfCheetah", "half-cheetah").to_lowercase();
    name.trim_end_matches("-v5").trim_end_matches("-v1").to_owned()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn starts(record: &Value) -> Vec<ResetState> {
    let state =
        |start: &Value| ResetState { qpos: numbers(&start["qpos"]), qvel: numbers(&start["qvel"]), warmstart: None };
    record["starts"].as_array().unwrap().iter().map(state).collect()
}

fn recorded(id: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/gymnasium/{id}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn first_difference(ours: &[f64], theirs: &[f64]) -> Option<String> {
    if ours.len() != theirs.len() {
        return Some(format!("{} numbers against {}", ours.len(), theirs.len()));
    }
    let index = ours.iter().zip(theirs).position(|(a, b)| a != b)?;
    Some(format!("entry {index}: {:?} against {:?}", ours[index], theirs[index]))
}

/// Compares a run with a recorded file: three observations number by number, everything by digest.
fn compare_with_record(record: &Value) -> Result<(), String> {
    let id = record["id"].as_str().unwrap();
    let seed = record["certificate"]["seed"].as_u64().unwrap();
    // Bits of sin and cos belong to the machine's C library: on another architecture only the first step is comparable.
    let same_machine = record["certificate"]["machine"].as_str().unwrap() == std::env::consts::ARCH;
    let (mut digest, mut terminations, mut sample) = (Digest(0xCBF2_9CE4_8422_2325), 0u64, 0);
    play(id, &starts(record), seed, &mut |event| {
        digest.add(event.observation);
        let Some((reward, terminated)) = event.outcome else { return Ok(()) };
        digest.add(&[reward, f64::from(u8::from(terminated))]);
        terminations += u64::from(terminated);
        let at = |what: String| Err(format!("{id}, step {}: {what}", event.step));
        if let Some(theirs) = record["observations"].get(event.step.to_string()) {
            let theirs = numbers(theirs);
            let reward_there = record["rewards"][sample].as_f64().unwrap();
            sample += 1;
            if same_machine && id != "Pendulum-v1" {
                if let Some(difference) = first_difference(event.observation, &theirs) {
                    return at(difference);
                }
                if reward != reward_there {
                    return at(format!("reward {reward:?} against {reward_there:?}"));
                }
            } else if event.step == 1 || id == "Pendulum-v1" {
                close(event.observation, &theirs, 1e-6).or_else(at)?;
                close(&[reward], &[reward_there], 1e-6).or_else(at)?;
            }
        }
        if same_machine && id != "Pendulum-v1" && event.step % DIGEST_EVERY == 0 {
            let theirs = record["digests"][event.step / DIGEST_EVERY - 1].as_str().unwrap();
            if format!("{:016x}", digest.0) != theirs {
                return at(format!("some number of the last {DIGEST_EVERY} steps differs"));
            }
        }
        Ok(())
    })?;
    if same_machine && terminations != record["terminations"].as_u64().unwrap() {
        return Err(format!("{id}: {terminations} terminations"));
    }
    Ok(())
}

fn close(ours: &[f64], theirs: &[f64], tolerance: f64) -> Result<(), String> {
    match ours.iter().zip(theirs).find(|(a, b)| (**a - **b).abs() > tolerance * (1.0 + b.abs())) {
        None if ours.len() == theirs.len() => Ok(()),
        None => Err("another number of entries".into()),
        Some((a, b)) => Err(format!("{a:?} against {b:?}")),
    }
}

#[test]
fn recorded_runs_are_repeated() {
    for id in LOCOMOTION.into_iter().chain(["Pendulum-v1"]) {
        let record = recorded(id);
        let certificate = &record["certificate"];
        assert_eq!(
            (certificate["gymnasium"].as_str(), certificate["mujoco"].as_str()),
            (Some("1.4.0"), Some("3.17.0"))
        );
        assert_eq!(certificate["digest"], record["digests"][STEPS / DIGEST_EVERY - 1], "{id}: file edited by hand");
        compare_with_record(&record).unwrap();
    }
}

#[test]
fn a_perturbation_of_a_thousandth_is_noticed() {
    let shift = |value: &mut Value| *value = Value::from(value.as_f64().unwrap() + 1e-3);
    for id in LOCOMOTION.into_iter().chain(["Pendulum-v1"]) {
        let mut start = recorded(id);
        shift(&mut start["starts"][0]["qvel"][0]);
        assert!(compare_with_record(&start).is_err(), "{id}: a start velocity was shifted");
        let mut observation = recorded(id);
        shift(&mut observation["observations"]["500"][1]);
        assert!(compare_with_record(&observation).is_err(), "{id}: a recorded observation was shifted");
        let mut reward = recorded(id);
        shift(&mut reward["rewards"][2]);
        assert!(compare_with_record(&reward).is_err(), "{id}: a recorded reward was shifted");
        if id != "Pendulum-v1" {
            let mut digest = recorded(id);
            digest["digests"][7] = "0123456789abcdef".into();
            assert!(compare_with_record(&digest).is_err(), "{id}: a digest was changed");
        }
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python/record_trajectories.py")
}

/// An interpreter with the right Gymnasium and MuJoCo, or a line that says how to get one.
fn python() -> Option<PathBuf> {
    let cache = envs::mujoco::Sources::from_env().cache.unwrap_or_default();
    let candidate = std::env::var_os("HYPE_PYTHON").map_or_else(|| cache.join("python/bin/python"), PathBuf::from);
    let check = "import gymnasium, mujoco; from gymnasium.envs.mujoco import mujoco_env; \
                 assert (gymnasium.__version__, mujoco.__version__) == ('1.4.0', '3.17.0')";
    if Command::new(&candidate).args(["-c", check]).output().is_ok_and(|output| output.status.success()) {
        return Some(candidate);
    }
    let venv = cache.join("python");
    // Written past the test harness, which would swallow it.
    let _ = writeln!(
        std::io::stdout(),
        "\nSKIPPED live comparison with Gymnasium (recorded runs were checked): python3 -m venv {0} && {0}/bin/pip install \
         'gymnasium[mujoco]==1.4.0' 'mujoco==3.17.0'",
        venv.display()
    );
    None
}

fn ask_gymnasium(python: &Path, arguments: &[&str]) -> String {
    let output = Command::new(python).args(["-W", "ignore"]).arg(script()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn live_runs_are_equal_number_by_number() {
    let Some(python) = python() else { return };
    for id in LOCOMOTION.into_iter().chain(["Pendulum-v1"]) {
        let text = ask_gymnasium(&python, &["--full", id]);
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let starts = starts(&lines.next().unwrap());
        let seed = recorded(id)["certificate"]["seed"].as_u64().unwrap();
        let mut compared = 0;
        play(id, &starts, seed, &mut |event| {
            let line = lines.next().ok_or("Gymnasium's run is shorter")?;
            let theirs = numbers(&line["observation"]);
            let at = |what: String| Err(format!("{id}, step {}: {what}", event.step));
            let (reward_there, end_there) = (line["reward"].as_f64(), line["terminated"].as_bool());
            if id == "Pendulum-v1" {
                close(event.observation, &theirs, 1e-6).or_else(at)?;
                if let (Some((reward, _)), Some(reward_there)) = (event.outcome, reward_there) {
                    close(&[reward], &[reward_there], 1e-6).or_else(at)?;
                }
            } else if let Some(difference) = first_difference(event.observation, &theirs) {
                return at(difference);
            } else if event.outcome != reward_there.zip(end_there) {
                return at(format!("{:?} against {reward_there:?}, {end_there:?}", event.outcome));
            }
            compared += usize::from(event.outcome.is_some());
            Ok(())
        })
        .unwrap();
        assert_eq!((compared, lines.next()), (STEPS, None), "{id}");
    }
}

#[test]
fn a_committed_record_is_reproduced_by_its_script() {
    let Some(python) = python() else { return };
    let mut anew: Value = serde_json::from_str(&ask_gymnasium(&python, &["--compact", "Hopper-v5"])).unwrap();
    let mut committed = recorded("Hopper-v5");
    for record in [&mut anew, &mut committed] {
        // Bits are NumPy's and the machine's own; versions of NumPy may differ without consequence here.
        record["certificate"]["numpy"] = Value::Null;
    }
    assert_eq!(anew, committed);
}

//! `hype-policy run` as a control loop: frames over loopback UDP, pipes and files, whole and broken.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod onnx_support;

use std::fs;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use onnx_support::{act, bundle, contract, policy};
use policy_runtime::embedded::heap::BlobFile;
use policy_runtime::embedded::{Blob, Watch};
use policy_runtime::frame::{FrameHeader, FrameKind, decode, encode, frame_bytes};
use policy_runtime::spec::{Activation, Squash};
use serde_json::Value;

const OBSERVATION: usize = 11;
const ACTION: usize = 3;

fn binary() -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("hype-policy");
    assert!(path.exists(), "{} is missing; build it with `cargo build --workspace --bins`", path.display());
    path
}

fn start(path: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.arg("run").arg(path).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn told(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

fn count(told: &Value, of: &str) -> u64 {
    told["frames"][of].as_u64().unwrap()
}

fn values(sequence: u64) -> [f32; OBSERVATION] {
    std::array::from_fn(|index| ((sequence as f32) * 0.37 + index as f32).sin())
}

fn frame(sequence: u64, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; frame_bytes(values.len())];
    let header = FrameHeader { kind: FrameKind::Observation, sequence, stamp_nanos: sequence * 1000, code: 0 };
    encode(&header, values, &mut bytes).unwrap();
    bytes
}

fn actions(mut bytes: &[u8]) -> Vec<(FrameHeader, [f32; ACTION])> {
    let mut actions = Vec::new();
    while !bytes.is_empty() {
        let (frame, rest) = bytes.split_at(frame_bytes(ACTION));
        let mut action = [0.0; ACTION];
        actions.push((decode(frame, FrameKind::Action, &mut action).unwrap(), action));
        bytes = rest;
    }
    actions
}

/// What the bundle's policy answers, in f64.
fn wanted(observation: &[f32]) -> Vec<f32> {
    act(&policy(&contract(OBSERVATION, ACTION), Activation::Relu, Squash::Tanh, true, 1), observation)
}

fn agree(action: &[f32], wanted: &[f32]) -> bool {
    action.iter().zip(wanted).all(|(left, right)| (left - right).abs() < 1e-4)
}

#[test]
fn a_recorded_file_gives_one_action_and_one_line_per_frame_and_one_at_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let frames: Vec<u8> = (0..60).flat_map(|tick| frame(tick, &values(tick))).collect();
    fs::write(at("in"), &frames).unwrap();
    let (observe, act_to, telemetry) = (format!("file:{}", at("in")), format!("file:{}", at("out")), at("ticks.jsonl"));
    let args = ["--rate", "200", "--observe", &observe, "--act", &act_to, "--telemetry", &telemetry, "--json"];
    let told = told(&start(&path, &args).wait_with_output().unwrap());
    assert_eq!((told["ticks"].as_u64(), told["telemetry_dropped"].as_u64()), (Some(61), Some(0)), "{told}");
    let lines = fs::read_to_string(at("ticks.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut actions = actions(&fs::read(at("out")).unwrap());
    assert_eq!((actions.len(), lines.len()), (61, 61));
    let (last, _) = actions.pop().unwrap();
    assert_eq!((last.code, lines[60]["verdict"].as_str()), (3, Some("idle")), "the end is at rest");
    let mut good = 0;
    for (tick, ((header, action), line)) in actions.iter().zip(&lines).enumerate() {
        assert_eq!((header.sequence, line["tick"].as_u64()), (tick as u64, Some(tick as u64)));
        // On a busy machine some come late, and are the last action again.
        if line["verdict"] == "good" {
            assert!(header.code == 0 && agree(action, &wanted(&values(tick as u64))), "tick {tick}");
            good += 1;
        }
        let logged = |index: usize| line["action"][index].as_f64().unwrap() as f32;
        assert_eq!(*action, std::array::from_fn(logged));
    }
    assert!(good > 0 && Some(60 - good) == told["late"].as_u64(), "{told}");

    fs::write(at("in"), &frames[..frames.len() - 1]).unwrap();
    let output = start(&path, &args).wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(message.contains("frame 59") && message.contains("76 bytes"), "{message}");
}

#[test]
fn udp_frames_that_are_lost_doubled_swapped_cut_or_altered_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let robot = UdpSocket::bind("127.0.0.1:0").unwrap();
    robot.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (observe, act_to) = (format!("udp:{port}"), format!("udp:{}", robot.local_addr().unwrap()));
    let args =
        ["--seconds", "4", "--observe", &observe, "--act", &act_to, "--stamp-arrival", "--max-age", "60", "--json"];
    let child = start(&path, &args);
    let mut bytes = vec![0; 2 * frame_bytes(ACTION)];
    let mut receive = || robot.recv(&mut bytes).ok().map(|length| actions(&bytes[..length])[0]);

    // Before anything is observed, the loop is idle and the action the fallback.
    let first = (0..500).find_map(|_| receive()).expect("actions flow without observations");
    assert_eq!(first.0.code, 3);

    let send = |bytes: &[u8]| assert_eq!(robot.send_to(bytes, port).unwrap(), bytes.len());
    let still = values(3);
    let mut altered = frame(20, &still);
    altered[40] ^= 1;
    let mut long = frame(21, &still);
    long.push(0);
    for sequence in [10, 11, 14, 14, 12, 15] {
        send(&frame(sequence, &still));
    }
    send(&frame(22, &still)[..50]);
    send(&altered);
    send(&long);
    send(b"hello");
    send(&frame(16, &still));
    std::thread::sleep(Duration::from_millis(100));
    while receive().is_some_and(|(header, _)| header.code != 0) {}
    let (header, action) = (0..500).filter_map(|_| receive()).find(|(header, _)| header.code == 0).unwrap();
    assert!(agree(&action, &wanted(&still)), "{header:?} {action:?}");
    // NaN in a whole frame is the guards' business.
    let mut nan = still;
    nan[4] = f32::NAN;
    send(&frame(17, &nan));
    let refused = (0..500).filter_map(|_| receive()).find(|(header, _)| header.code == 5 | 2 << 8).unwrap();
    assert_eq!(refused.1, action, "the last good action is held");

    let told = told(&child.wait_with_output().unwrap());
    let frames = ["accepted", "lost", "duplicated", "reordered", "malformed", "restarts"].map(|of| count(&told, of));
    assert_eq!(frames, [6, 2, 1, 1, 4, 0], "{told}");
    assert!(told["fallbacks_by_fault"]["ObservationNotFinite"].as_u64() > Some(0), "{told}");
}

/// A robot with the policy's own channels, less what the caller says.
fn robot_file(more: &str, action: &str) -> String {
    let contract = contract(OBSERVATION, ACTION);
    let mut file = format!("robot = \"same\"\n{more}\n");
    for channel in &contract.observation {
        let (name, unit) = (&channel.name, &channel.unit);
        file += &format!("[[observation]]\nname = \"{name}\"\nchannel = \"{name}\"\nunit = \"{unit}\"\n");
    }
    for channel in &contract.action {
        let (name, unit) = (&channel.name, &channel.unit);
        file += &format!("[[action]]\nname = \"{name}\"\nchannel = \"{name}\"\nunit = \"{unit}\"\n{action}\n");
    }
    file
}

fn free_port() -> std::net::SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_sensor_that_falls_silent_is_noticed_without_anyone_having_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let robot = UdpSocket::bind("127.0.0.1:0").unwrap();
    robot.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let port = free_port();
    let (observe, act_to) = (format!("udp:{port}"), format!("udp:{}", robot.local_addr().unwrap()));
    for (more, limit_secs) in [(&[][..], 0.024), (&["--max-age", "0.1"], 0.1)] {
        let args = ["--seconds", "1.5", "--observe", &observe, "--act", &act_to, "--stamp-arrival", "--json"];
        let child = start(&path, &[&args, more].concat());
        let mut bytes = vec![0; 2 * frame_bytes(ACTION)];
        let mut codes = Vec::new();
        for tick in 0.. {
            let length = robot.recv(&mut bytes).unwrap();
            codes.push(actions(&bytes[..length])[0].0.code);
            if tick == 5 {
                robot.send_to(&frame(0, &values(0)), port).unwrap();
            }
            if tick > 8 && codes.last() == Some(&3) {
                break;
            }
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = told(&output);
        let good = codes.iter().filter(|code| **code == 0).count() as f64;
        // One period of slack: a tick may see the frame at once, or nearly a period later.
        assert!(good > 0.0 && good * 0.008 < limit_secs + 0.02, "{good} good ticks, {told}");
        assert!(told["fallbacks_by_fault"]["ObservationStale"].as_u64() > Some(50), "{told}");
        assert!((told["max_observation_age_secs"].as_f64().unwrap() - limit_secs).abs() < 1e-9, "{told}");
        assert_eq!(said.contains("3 control periods"), more.is_empty(), "{said}");
    }
}

#[test]
fn whatever_ends_the_loop_the_last_action_is_the_one_at_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (inputs, outputs, robot) = (format!("file:{}", at("in")), format!("file:{}", at("out")), at("robot.toml"));
    fs::write(at("in"), (0..40).flat_map(|tick| frame(tick, &values(tick))).collect::<Vec<u8>>()).unwrap();
    fs::write(&robot, robot_file("fallback = \"zero\"", "")).unwrap();
    for (seconds, interrupt) in [("0.1", false), ("60", false), ("60", true)] {
        let child = start(&path, &["--observe", &inputs, "--act", &outputs, "--robot", &robot, "--seconds", seconds]);
        if interrupt {
            std::thread::sleep(Duration::from_millis(200));
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        }
        let code = child.wait_with_output().unwrap().status.code();
        assert!(code == Some(0) || interrupt && code == Some(130), "{code:?}");
        let actions = actions(&fs::read(at("out")).unwrap());
        let (last, before) = actions.split_last().unwrap();
        assert_eq!((last.0.code, last.1), (3, [0.0; ACTION]), "{seconds} s");
        assert!(before.iter().all(|(header, _)| header.code != 3), "one is enough");
    }
}

#[test]
fn made_up_observations_move_no_actuator_and_actions_are_the_robots_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    for act_to in ["stdout", "udp:127.0.0.1:9"] {
        let output = start(&path, &["--act", act_to, "--seconds", "0.1"]).wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{message}");
        assert!(message.contains("made-up observations") && message.contains("--observe"), "{message}");
    }
    // Into a file nothing moves; it has the robot's units all the same.
    fs::write(at("robot.toml"), robot_file("", "scale = -1000.0")).unwrap();
    let (act_to, robot, log) = (format!("file:{}", at("out")), at("robot.toml"), at("log"));
    let args = ["--seconds", "0.2", "--act", &act_to, "--robot", &robot, "--telemetry", &log, "--json"];
    told(&start(&path, &args).wait_with_output().unwrap());
    let lines = fs::read_to_string(&log).unwrap();
    let mut moved = false;
    for ((_, command), line) in actions(&fs::read(at("out")).unwrap()).iter().zip(lines.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        for (command, action) in command.iter().zip(line["action"].as_array().unwrap()) {
            let wanted = -1000.0 * action.as_f64().unwrap() as f32;
            assert!((command - wanted).abs() <= 1e-4 * wanted.abs(), "{command} {wanted}");
            moved |= wanted != 0.0;
        }
    }
    assert!(moved);
}

#[test]
fn a_sink_that_is_gone_or_stuck_ends_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let observe = format!("udp:{}", free_port());
    // Nobody reads any more: it ends of itself.
    let mut child = start(&path, &["--observe", &observe, "--act", "stdout", "--rate", "500"]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("cannot write the actions"), "{message}");
    // Somebody holds the pipe and does not read.
    let mut child = start(&path, &["--observe", &observe, "--act", "stdout", "--rate", "5000", "--seconds", "1"]);
    let held = child.stdout.take().unwrap();
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("nobody takes what is written"), "{message}");
    drop(held);
}

#[test]
fn a_pipe_ends_the_loop_and_garbage_in_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    for garbage in [false, true] {
        let mut child = start(&path, &["--observe", "stdin", "--act", "stdout", "--stamp-arrival"]);
        let mut pipe = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            for sequence in 0..30 {
                pipe.write_all(&frame(sequence, &values(sequence))).unwrap();
                pipe.flush().unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
            if garbage {
                pipe.write_all(&[b'x'; 100]).unwrap();
                pipe.flush().unwrap();
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let mut out = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        let report = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_eq!(report.status.code(), Some(0));
        let text = String::from_utf8(report.stderr).unwrap();
        let malformed = usize::from(garbage);
        assert!(text.contains("30 used, 0 lost") && text.contains(&format!("{malformed} malformed")), "{text}");
        let actions = actions(&out);
        let good: Vec<_> = actions.iter().filter(|(header, _)| header.code == 0).collect();
        assert!(good.len() > 5, "{} actions", actions.len());
        let known: Vec<Vec<f32>> = (0..30).map(|sequence| wanted(&values(sequence))).collect();
        assert!(good.iter().all(|(_, action)| known.iter().any(|wanted| agree(action, wanted))));
    }
}

#[test]
fn a_replaced_bundle_takes_over_and_a_wrong_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let child = start(&path, &["--seconds", "4", "--watch", "--json"]);
    std::thread::sleep(Duration::from_millis(1200));
    let manifest = path.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let replace = |text: &str| {
        fs::write(path.join("new"), text).unwrap();
        fs::rename(path.join("new"), &manifest).unwrap();
    };
    replace(&text.replace("\"maker\": \"test\"", "\"maker\": \"somebody\""));
    std::thread::sleep(Duration::from_millis(1200));
    replace(&text.replace("\"sha256\": \"", "\"sha256\": \"0"));
    let told = told(&child.wait_with_output().unwrap());
    assert_eq!(told["swaps"], 1, "{told}");
    let refused = told["swaps_refused"][0].as_str().unwrap();
    assert!(refused.contains("altered or truncated"), "{refused}");
    let model = path.join("policy.onnx");
    let output = start(&model, &["--seconds", "0.1", "--watch"]).wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("watch a bundle's folder"), "{message}");
}

#[test]
fn a_bundle_whose_files_come_one_after_the_other_takes_over_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let text = path.display().to_string();
    let good = |args: &[&str]| assert_eq!(hype_policy(args).status.code(), Some(0), "{args:?}");
    good(&["keygen", "-o", &at("maker")]);
    good(&["sign", &text, "--key", &at("maker.key"), "--serial", "5"]);
    let child = start(&path, &["--seconds", "4.5", "--watch", "--trust", &at("maker.pub"), "--json"]);
    std::thread::sleep(Duration::from_millis(1000));
    let (manifest, model) = (path.join("manifest.json"), path.join("policy.onnx"));
    fs::rename(&model, at("kept.onnx")).unwrap();
    let edited = fs::read_to_string(&manifest).unwrap().replace("\"maker\": \"test\"", "\"maker\": \"somebody\"");
    fs::write(&manifest, edited).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    fs::rename(at("kept.onnx"), &model).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    // Whole, but not yet signed: only the signature changes.
    good(&["sign", &text, "--key", &at("maker.key"), "--serial", "6"]);
    let told = told(&child.wait_with_output().unwrap());
    assert_eq!(told["swaps"], 1, "{told}");
    let refused = told["swaps_refused"].to_string();
    assert!(refused.contains("policy.onnx is missing") && refused.contains("altered"), "{refused}");
}

fn hype_policy(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().unwrap()
}

#[test]
fn with_a_trusted_key_only_what_it_signed_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let bundle = path.display().to_string();
    for name in ["maker", "stranger"] {
        assert_eq!(hype_policy(&["keygen", "-o", &at(name)]).status.code(), Some(0));
    }
    assert_eq!(hype_policy(&["keygen", "-o", &at("maker")]).status.code(), Some(1), "keys are not replaced");
    let code = |command: &str, key: &str, serial: &str| {
        let mut args = vec![command, &bundle];
        args.extend(if command == "run" { vec!["--seconds", "0.05"] } else { Vec::new() });
        let key = at(key);
        args.extend(["--trust", &key, "--min-serial", serial]);
        hype_policy(&args).status.code().unwrap()
    };
    for command in ["check", "run", "verify", "inspect", "bench"] {
        assert_eq!(code(command, "maker.pub", "0"), 4, "{command} loads what is not signed");
    }
    assert_eq!(hype_policy(&["sign", &bundle, "--key", &at("maker.key"), "--serial", "5"]).status.code(), Some(0));
    for command in ["check", "run", "verify"] {
        assert_eq!(code(command, "maker.pub", "5"), 0, "{command}");
        assert_eq!(code(command, "maker.pub", "6"), 4, "{command} loads what is too old");
        assert_eq!(code(command, "stranger.pub", "0"), 4, "{command} loads a stranger's");
    }
    fs::write(path.join("notes.txt"), "added later").unwrap();
    for command in ["check", "run", "verify", "inspect", "bench"] {
        assert_eq!(code(command, "maker.pub", "0"), 4, "{command} loads what was altered");
    }
    assert_eq!(hype_policy(&["check", &bundle]).status.code(), Some(2), "nobody is trusted");
}

#[test]
fn a_robot_file_reorders_and_scales_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let contract = contract(OBSERVATION, ACTION);
    let mut file = String::from("robot = \"turned round\"\n");
    for channel in contract.observation.iter().rev() {
        let (name, unit) = (&channel.name, &channel.unit);
        let link = if unit == "rad" { "unit = \"half rad\"\nscale = 0.5" } else { "unit = \"m/s\"" };
        file += &format!("[[observation]]\nname = \"my {name}\"\nchannel = \"{name}\"\n{link}\n");
    }
    for channel in contract.action.iter().rev() {
        let name = &channel.name;
        file += &format!("[[action]]\nname = \"m {name}\"\nchannel = \"{name}\"\nunit = \"-mN*m\"\nscale = -1000.0\n");
    }
    fs::write(at("robot.toml"), &file).unwrap();
    let frames = |tick: u64| {
        let mut robot = values(tick);
        robot.iter_mut().skip(1).step_by(2).for_each(|angle| *angle *= 2.0);
        robot.reverse();
        frame(tick, &robot)
    };
    fs::write(at("in"), (0..20).flat_map(frames).collect::<Vec<u8>>()).unwrap();
    let (observe, act_to, robot) = (format!("file:{}", at("in")), format!("file:{}", at("out")), at("robot.toml"));
    let args = ["--observe", &observe, "--act", &act_to, "--robot", &robot, "--json"];
    told(&start(&path, &args).wait_with_output().unwrap());
    let mut good = 0;
    for (tick, (header, command)) in actions(&fs::read(at("out")).unwrap()).iter().enumerate() {
        if header.code == 0 {
            let wanted: Vec<f32> = wanted(&values(tick as u64)).iter().rev().map(|value| -1000.0 * value).collect();
            assert!(
                command.iter().zip(&wanted).all(|(left, right)| (left - right).abs() < 0.1),
                "{command:?} {wanted:?}"
            );
            good += 1;
        }
    }
    assert!(good > 0);

    fs::write(at("robot.toml"), file.replacen("scale = 0.5\n", "", 1)).unwrap();
    let output = start(&path, &args).wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(message.contains("my angle_9") && message.contains("not guessed"), "{message}");
}

#[test]
fn a_model_without_a_contract_moves_no_robot() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let bytes = fs::read(path.join("policy.onnx")).unwrap();
    // Another key of the same length: the contract is not found any more.
    let key = b"hype.contract";
    let position = bytes.windows(key.len()).position(|window| window == key).unwrap();
    let foreign = [&bytes[..position], b"some.contract", &bytes[position + key.len()..]].concat();
    let model = folder.path().join("foreign.onnx");
    fs::write(&model, foreign).unwrap();
    let output = start(&model, &["--rate", "100", "--observe", "udp:127.0.0.1:0"]).wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("no contract") && message.contains("guesses"), "{message}");
}

#[test]
fn a_fitted_monitor_is_quiet_where_it_was_fitted_and_raises_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = bundle(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let record = |name: &str, offset: f32| {
        let frames = (0..200).flat_map(|tick| frame(tick, &values(tick).map(|value| value + offset)));
        fs::write(at(name), frames.collect::<Vec<u8>>()).unwrap();
    };
    record("nominal", 0.0);
    record("elsewhere", 1.9);
    // Ticks that come late are neither fitted nor watched: a rate at which few do on a busy machine.
    let run = |name: &str, more: &[&str]| {
        let observe = format!("file:{}", at(name));
        let args = [&["--rate", "100", "--observe", &observe, "--json"], more].concat();
        let output = start(&path, &args).wait_with_output().unwrap();
        (told(&output), String::from_utf8(output.stderr).unwrap())
    };
    let log = at("nominal.jsonl");
    let (told, _) = run("nominal", &["--telemetry", &log]);
    assert_eq!(told["monitor_alarms"], Value::Null, "not fitted yet: {told}");
    let bundle = path.display().to_string();
    let section = at("monitor.hpb");
    for more in [&[][..], &["--discriminator"], &["--own-shape", "--board", &section]] {
        let output = hype_policy(&[&["monitor", &bundle, "--nominal", &log], more].concat());
        assert_eq!(output.status.code(), Some(0), "{told} {}", String::from_utf8_lossy(&output.stderr));
    }
    let (told, said) = run("nominal", &[]);
    assert_eq!(told["monitor_alarms"], 0, "{told} {said}");
    let (log, frames) = (at("elsewhere.jsonl"), at("out"));
    let (told, said) = run("elsewhere", &["--act", &format!("file:{frames}"), "--telemetry", &log]);
    assert!(told["monitor_alarms"].as_u64() > Some(0) && told["monitor_raised"] == true, "{told} {said}");
    assert!(said.contains("the monitor RAISED"), "{said}");
    let lines: Vec<Value> =
        fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = lines.iter().position(|line| line["monitor_raised"] == true).unwrap();
    let sums = lines[..=first].iter().rev().filter_map(|line| line["monitor_sum"].as_f64());
    assert!(sums.take(2).is_sorted_by(|later, earlier| later > earlier), "{told}");
    let flags: Vec<bool> = actions(&fs::read(&frames).unwrap()).iter().map(|(it, _)| it.code >> 16 == 1).collect();
    assert_eq!(flags.iter().position(|raised| *raised), Some(first + 1), "the next action's code has it: {told}");
    assert_eq!(hype_policy(&["verify", &bundle]).status.code(), Some(0));
    let flash = [fs::read(path.join("policy-int8.hpb")).unwrap(), fs::read(section).unwrap()].concat();
    let flash = BlobFile::new(&flash);
    let blob = Blob::open(flash.bytes()).unwrap();
    assert!(Watch::open(flash.bytes(), &blob).unwrap().is_some(), "a board finds its monitor behind the policy");
}

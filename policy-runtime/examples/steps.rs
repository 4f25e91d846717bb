//! `steps MODEL COUNT`: loads a policy, makes COUNT steps of it with the native engine, then COUNT ticks of a controller around it, and nothing else; `benches/scripts/no_syscalls.sh`
//! counts what they ask of the system.

use std::io::Write;
use std::process::ExitCode;

use policy_runtime::swap::swap_line;
use policy_runtime::{Controller, EngineChoice, Error, Observation, Policy};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.get(1).and_then(|count| count.parse::<u64>().ok());
    let (Some(model), Some(count)) = (arguments.first(), count) else {
        eprintln!("usage: steps MODEL COUNT");
        return ExitCode::from(2);
    };
    match steps(model, count) {
        Ok(good) if good == 2 * count => ExitCode::SUCCESS,
        Ok(good) => {
            eprintln!("{} of {count} steps and ticks needed the fallback", 2 * count - good);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn steps(model: &str, count: u64) -> Result<u64, Error> {
    let mut policy = Policy::load(model, EngineChoice::Native)?;
    let mut values = vec![0.0; policy.observation_width()];
    let mut action = vec![0.0; policy.action_width()];
    let mut good = 0;
    mark("begin steps\n");
    for step in 0..count {
        // Never twice the same, and within what bounds there may be.
        let at = (step % values.len().max(1) as u64) as usize;
        values[at] = 0.01 * (step % 17) as f32;
        let verdict = policy.step(step, &Observation { values: &values, stamp_nanos: step }, &mut action);
        good += u64::from(verdict.is_good());
    }
    mark("end steps\n");
    policy.reset();
    // A sender that has nothing to send: the port is asked at every tick.
    let (_sender, port) = swap_line();
    let mut controller = Controller::without_contract(policy).with_swaps(port);
    controller.enter();
    mark("begin ticks\n");
    for tick in 0..count {
        let at = (tick % values.len().max(1) as u64) as usize;
        values[at] = 0.01 * (tick % 17) as f32;
        let observation = Observation { values: &values, stamp_nanos: tick };
        good += u64::from(controller.tick(tick, Some(&observation), &|| tick, &mut action).is_good());
    }
    mark("end ticks\n");
    Ok(good)
}

/// One system call that is easy to find.
fn mark(line: &str) {
    // Standard error may be closed; the mark is then missing.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

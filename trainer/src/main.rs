//! `hype`: learns a policy from demonstrations and exports it.

use clap::Parser;
use std::process::ExitCode;
use trainer::cli::{arguments::Arguments, dispatch};
use trainer::observe::progress_line;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(Arguments::parse(), &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the output has seen enough, as `head` does.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            progress_line(format_args!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

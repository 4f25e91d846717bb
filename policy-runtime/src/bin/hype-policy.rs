//! The robot side's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    policy_runtime::cli::main()
}

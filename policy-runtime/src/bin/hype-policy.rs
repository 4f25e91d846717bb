//! The robot-side command line; see [`policy_runtime::cli`].

use std::process::ExitCode;

use policy_runtime::cli::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    policy_runtime::cli::main()
}

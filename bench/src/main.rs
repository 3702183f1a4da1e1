//! The `postern-bench` command.

use std::process::ExitCode;

/// The relay's own allocator, so that what runs inside the bench runs as in the relay.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    postern_bench::command::main()
}

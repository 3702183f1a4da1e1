//! The `postern-loadgen` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern_loadgen::command::main()
}

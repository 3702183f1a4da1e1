//! `postern run`: the relay itself, in the foreground.

use super::{Failure, GlobalOptions};

/// Arguments of `postern run`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `run`"))
}

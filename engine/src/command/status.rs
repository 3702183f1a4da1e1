//! `postern status`: counters and health of a running relay.

use super::{Failure, GlobalOptions};

/// Arguments of `postern status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show each core, not only the sums
    #[arg(long)]
    pub cores: bool,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `status`"))
}

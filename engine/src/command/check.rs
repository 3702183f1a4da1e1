//! `postern check`: every mistake of a configuration at once.

use super::{Failure, GlobalOptions};

/// Arguments of `postern check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file, instead of --config
    #[arg(value_name = "FILE")]
    pub file: Option<std::path::PathBuf>,
    /// Exit with 1 also where there are only warnings
    #[arg(long)]
    pub strict: bool,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `check`"))
}

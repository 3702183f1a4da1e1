//! `postern demo`: the whole story in a few seconds, in a folder of its own.

use super::{Failure, GlobalOptions};

/// Arguments of `postern demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to put the demonstration's files
    #[arg(long, value_name = "DIR", default_value = "postern-demo")]
    pub dir: std::path::PathBuf,
    /// End after the story instead of running on until Ctrl-C
    #[arg(long)]
    pub once: bool,
    /// Begin anew: delete that folder first, if a demonstration made it
    #[arg(long)]
    pub fresh: bool,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `demo`"))
}

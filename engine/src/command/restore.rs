//! `postern restore`: undoes a cut.

use super::{Failure, GlobalOptions};

/// Arguments of `postern restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The application
    #[arg(value_name = "APP")]
    pub app: String,
    /// Who orders it [default: the user who runs this command]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `restore`"))
}

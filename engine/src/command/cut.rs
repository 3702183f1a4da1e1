//! `postern cut`: one application off at once, everywhere, durably.

use super::{Failure, GlobalOptions};

/// Arguments of `postern cut`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The application
    #[arg(value_name = "APP")]
    pub app: String,
    /// Why; kept with the cut, shown by `status`, written to the log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who orders it [default: the user who runs this command]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `cut`"))
}

//! `postern app`: lists applications, makes password hashes.

use super::{Failure, GlobalOptions};

/// Arguments of `postern app`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do about applications.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Make an argon2id hash of a password, for `password_hash`
    ///
    /// The password is asked for on a terminal, else it is the first line of standard input.
    Passwd {
        /// Read the password from standard input, even on a terminal
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the configured applications
    List,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `app`"))
}

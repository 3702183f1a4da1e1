//! `postern keys`: makes DKIM keys and the DNS records for them.

use super::{Failure, GlobalOptions};

/// Arguments of `postern keys`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do about keys.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Make a new RSA-2048 key and print the DNS record for it
    New {
        /// The domain to sign for
        #[arg(value_name = "DOMAIN")]
        domain: String,
        /// The selector; a new key needs a new one
        #[arg(value_name = "SELECTOR")]
        selector: String,
        /// Where to write the private key (mode 0600; never overwritten)
        #[arg(long, value_name = "FILE")]
        out: std::path::PathBuf,
    },
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `keys`"))
}

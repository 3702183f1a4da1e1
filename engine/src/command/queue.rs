//! `postern queue`: looks at queued mail, and changes its fate.

use super::{Failure, GlobalOptions};

/// Arguments of `postern queue`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with queued mail.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List queued deliveries, oldest first
    List {
        /// Which ones
        #[command(flatten)]
        filter: Filter,
        /// Most lines
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show one message: envelope, recipients, where each stands
    Show {
        /// Queue id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Try deliveries now, also those that have failed
    Retry {
        /// Which ones
        #[command(flatten)]
        filter: Filter,
        /// Every delivery; needed where no filter is given
        #[arg(long)]
        all: bool,
    },
    /// Forget messages for good, without telling anybody
    Drop {
        /// Which ones
        #[command(flatten)]
        filter: Filter,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which messages are meant; what is not given matches all.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Queue id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Application
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Recipient domain
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Lane
    #[arg(long, value_name = "LANE", value_parser = ["urgent", "normal", "bulk"])]
    pub lane: Option<String>,
    /// State
    #[arg(long, value_name = "STATE",
          value_parser = ["ready", "deferred", "leased", "frozen", "held", "failed"])]
    pub state: Option<String>,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `queue`"))
}

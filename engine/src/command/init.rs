//! `postern init`: writes a commented starting configuration.

use super::{Failure, GlobalOptions};

/// Arguments of `postern init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to write the configuration; never overwritten
    #[arg(long, value_name = "FILE")]
    pub out: Option<std::path::PathBuf>,
    /// Where the relay keeps spool, keys and control socket
    #[arg(long, value_name = "DIR")]
    pub dir: Option<std::path::PathBuf>,
    /// Listen here, with STARTTLS; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<std::net::SocketAddr>,
    /// Listen here, with TLS from the first byte; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_tls: Vec<std::net::SocketAddr>,
    /// Certificate chain, PEM; without it a self-signed one is made in --dir
    #[arg(long, value_name = "PEM", requires = "key")]
    pub cert: Option<std::path::PathBuf>,
    /// Private key, PEM
    #[arg(long, value_name = "PEM", requires = "cert")]
    pub key: Option<std::path::PathBuf>,
    /// Where all mail goes; repeat for a second choice
    #[arg(long, value_name = "HOST:PORT")]
    pub next_hop: Vec<String>,
    /// TLS towards it
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub next_hop_tls: HopTls,
    /// An application, its password and the domain it sends for; repeatable
    #[arg(long, value_name = "ID:PASSWORD:SENDER-DOMAIN")]
    pub app: Vec<String>,
    /// The first application may send from there without AUTH; repeatable
    #[arg(long, value_name = "CIDR", requires = "app")]
    pub allow_network: Vec<String>,
    /// Sign for this domain with this selector and key; repeatable
    #[arg(long, value_name = "DOMAIN:SELECTOR:KEYFILE")]
    pub dkim: Vec<String>,
    /// CPUs to use [default: all]
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Do not scan messages
    #[arg(long)]
    pub no_filters: bool,
    /// Accept and keep mail, do not deliver it
    #[arg(long)]
    pub hold: bool,
    /// Offer AUTH without TLS; loopback addresses only, for tests
    #[arg(long)]
    pub insecure_plaintext_auth: bool,
}

/// TLS towards the next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum HopTls {
    /// Plaintext
    None,
    /// TLS if offered, whatever the certificate
    Opportunistic,
    /// TLS with a verified certificate
    #[default]
    Require,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(_args: &Args, _options: &GlobalOptions) -> Result<(), Failure> {
    Err(Failure::problem("this build has no `init`"))
}

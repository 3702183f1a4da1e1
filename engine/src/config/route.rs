//! `[[route]]`: which next hop takes the mail for which recipient domain.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address::canonical_domain;
use super::secret::Secret;

/// Where mail for some domains goes, and how.
#[derive(Clone)]
pub struct Route {
    /// Position in the file, from 0.
    pub index: usize,
    /// Recipient domains as written: `example.com`, `*.example.com` (sub-domains only), or `*`.
    pub domains: Vec<String>,
    /// Hosts in the order they are tried; at least one.
    pub next_hops: Vec<NextHop>,
    /// TLS towards them.
    pub tls: NextHopTls,
    /// Trusted issuers; `None` is the public web's.
    pub ca_file: Option<PathBuf>,
    /// How we authenticate to them.
    pub auth: Option<Login>,
    /// Most sessions at once to this route, per shard.
    pub sessions_max: u32,
    /// Messages after which a session is closed.
    pub messages_per_session_max: u32,
    /// How long to wait for what.
    pub timeouts: RouteTimeouts,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("domains", &self.domains).finish_non_exhaustive()
    }
}

/// One host of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Host name or IP address (without brackets).
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// TLS towards a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NextHopTls {
    /// STARTTLS with a certificate that verifies and names the host; else the mail waits.
    #[default]
    RequireVerified,
    /// STARTTLS if offered, whatever the certificate; else plaintext.
    Opportunistic,
    /// Plaintext.
    None,
}

/// How we authenticate to a next hop.
#[derive(Clone)]
pub struct Login {
    /// Name.
    pub username: String,
    /// Password, from the file.
    pub password: Secret,
}

/// How long a delivery waits (RFC 5321 4.5.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the greeting, and for the reply to any command but those below.
    pub command: Duration,
    /// For the network to take more content.
    pub data_block: Duration,
    /// For the reply to the final dot.
    pub data_end: Duration,
    /// How long a session without work is kept open.
    pub idle: Duration,
}

/// All routes, by recipient domain.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    all: Vec<Arc<Route>>,
    exact: HashMap<String, usize>,
    below: HashMap<String, usize>,
    default: Option<usize>,
}

impl Routes {
    /// All routes, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Arc<Route>] {
        &self.all
    }

    /// The route for a recipient domain: an exact entry, else the longest `*.` entry above it, else
    /// `*`. `None` only where mail is held and no route is configured.
    #[must_use]
    pub fn of(&self, domain: &str) -> Option<&Arc<Route>> {
        let domain = canonical_domain(domain);
        let domain = domain.as_deref().unwrap_or_default();
        let index =
            self.exact.get(domain).copied().or_else(|| self.above(domain)).or(self.default)?;
        self.all.get(index)
    }

    fn above(&self, domain: &str) -> Option<usize> {
        let mut rest = domain;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(index) = self.below.get(parent) {
                return Some(*index);
            }
            rest = parent;
        }
        None
    }
}

//! The configuration: TOML to a typed, validated, immutable [`Snapshot`].
//!
//! A file is read once, completely: every mistake in it is found in one run and told with file,
//! line, column, the line itself, a caret and, where there is one, the nearest name that would have
//! been right ([`Report`]). Warnings do not keep a relay from starting; errors do.
//!
//! # Invariants
//! - A `Snapshot` is complete and consistent: defaults are filled in, every path is absolute or
//!   relative to the working directory (in the file it is relative to the file), every reference
//!   resolves, every limit is at least one, every recipient domain has a route unless mail is held.
//! - It never changes. A reload makes a new one; what runs keeps the old one until it looks again.
//! - Every key that is read stands in [`KEYS`], and so in `docs/configuration.md`.
//!
//! # Security
//! Passwords, password hashes and sealing keys are types without `Debug` and `Display`, wiped when
//! dropped. An error never repeats a secret: lines that hold one are shown without their value.
//!
//! # Failures
//! [`load`] answers with a [`Report`] that holds at least one error. Nothing here panics on what a
//! file holds, and nothing here needs the network.

mod address;
mod app;
mod diagnostic;
mod dkim;
mod filters;
mod listener;
mod network;
mod queue;
mod registry;
mod route;
mod secret;
mod server;
mod spool;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::address::{AddressPattern, AddressPatterns, canonical_domain};
pub use self::app::{App, AppLimits, Lane};
pub use self::diagnostic::{Diagnostic, Report, Severity};
pub use self::dkim::{Canonicalization, Dkim, DkimKeys};
pub use self::filters::{CardAction, Filters};
pub use self::listener::{
    BareNewlines, Listener, ListenerTimeouts, ListenerTls, SessionLimits, TlsFiles,
};
pub use self::network::Network;
pub use self::queue::{PerLane, Queue, Retry};
pub use self::registry::Registry;
pub use self::route::{Login, NextHop, NextHopTls, Route, RouteTimeouts, Routes};
pub use self::secret::{HashFault, PasswordHash, SealKey, Secret};
pub use self::server::{IoChoice, Log, LogFormat, LogLevel, LogTarget, Server};
pub use self::spool::Spool;

/// Everything a relay is told, checked. Shared by all threads.
pub struct Snapshot {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[server]`
    pub server: Server,
    /// `[[listener]]`, at least one.
    pub listeners: Vec<Listener>,
    /// `[[app]]`: who may send.
    pub access: Registry,
    /// `[spool]`
    pub spool: Spool,
    /// `[queue]`
    pub queue: Queue,
    /// `[[route]]`
    pub routes: Routes,
    /// `[[dkim]]`
    pub dkim: DkimKeys,
    /// `[filters]`
    pub filters: Filters,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A configuration that can be used, and what its operator should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// Warnings only; may be empty.
    pub report: Report,
}

/// What a configuration is checked against beside its own text. Handed in, so that a check says the
/// same in a test as on the machine it is for.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// CPUs this process may run on, by index, ascending.
    pub cores: fn() -> Vec<usize>,
    /// Whether files below this path live in memory only (tmpfs, ramfs).
    pub is_volatile: fn(&Path) -> bool,
    /// Whether certificate (first) and key (second) can be used; `Ok` holds warnings.
    pub identity: fn(&Path, &Path) -> Result<Vec<String>, BadIdentity>,
    /// Whether a file of trusted certificates can be used.
    pub certificates: fn(&Path) -> Result<(), String>,
}

/// Why a certificate or key file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadIdentity {
    /// The key file is at fault, not the certificate.
    pub in_key: bool,
    /// One sentence, without the path.
    pub problem: String,
}

/// Reads and checks a configuration file, and the files it names.
///
/// # Errors
/// Every mistake, with at least one error; an unreadable file is a single error.
pub fn load(path: &Path, _surroundings: &Surroundings) -> Result<Loaded, Report> {
    Err(Report::unreadable(path, "this build has no configuration reader"))
}

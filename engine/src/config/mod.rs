//! The configuration: TOML to a typed, validated, immutable [`Snapshot`].
//!
//! A file is read once, completely: every mistake in it is found in one run and told with file,
//! line, column, the line itself, a caret and, where there is one, the nearest name that would have
//! been right ([`Report`]). Warnings do not keep a relay from starting; errors do.
//!
//! # Invariants
//! - A `Snapshot` is complete and consistent: defaults are filled in, every path is absolute (in
//!   the file it may be relative to the file), every reference resolves, every limit is at least one, every recipient domain has a route unless mail is held.
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
mod crossing;
mod diagnostic;
mod dkim;
mod filters;
mod keys;
mod listener;
mod managed;
mod network;
mod queue;
mod read;
mod registry;
mod route;
mod secret;
mod server;
mod signer;
mod spool;
mod suggest;
mod unit;

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use self::read::{Context, Section};

pub use self::address::{AddressPattern, AddressPatterns, canonical_domain, is_disguise};
pub use self::app::{App, AppLimits, Lane};
pub use self::diagnostic::{Diagnostic, Report, Severity};
pub use self::dkim::{Authors, Dkim, DkimKeys, KeySource, Signers};
pub use self::filters::{FilterAction, Filters};
pub use self::keys::KEYS;
pub use self::listener::{
    BareNewlines, Listener, ListenerTimeouts, ListenerTls, SessionLimits, TlsFiles,
};
pub use self::managed::{Dns, Managed, ManagedKeys, Publish, UpdateServer};
pub use self::network::Network;
pub use self::queue::{PerLane, Queue, Retry};
pub use self::registry::Registry;
pub use self::route::{Login, NextHop, NextHopTls, Route, RouteTimeouts, Routes};
pub use self::secret::{HashFault, PasswordHash, SealKey, Secret};
pub use self::server::{IoChoice, Log, LogFormat, LogLevel, LogTarget, Server};
pub use self::signer::Signer;
pub use self::spool::Spool;
pub use self::unit::{duration as parse_duration, shown_duration};

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
    /// `[keys]`, where there is any: always where a `[[dkim]]` is managed.
    pub keys: Option<ManagedKeys>,
    /// `[signer]`
    pub signer: Signer,
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
pub fn load(path: &Path, surroundings: &Surroundings) -> Result<Loaded, Report> {
    let source = fs::read(path).map_err(|error| Report::unreadable(path, error))?;
    let source = String::from_utf8(source)
        .map_err(|error| Report::unreadable(path, format!("it is not UTF-8: {error}")))?;
    parse(path, &source, surroundings)
}

/// As [`load`], from a text that was or will be at `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, source: &str, surroundings: &Surroundings) -> Result<Loaded, Report> {
    let base = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let base = base.parent().unwrap_or(Path::new("/"));
    let context = Context::new(base, surroundings);
    let (table, syntax_errors) = DeTable::parse_recoverable(source);
    if !syntax_errors.is_empty() {
        context.set_partial();
    }
    let snapshot = {
        let root = Section::new(&context, "", 0..0, table.get_ref());
        snapshot(path, &root)
    };
    let has_errors = context.has_errors();
    let (findings, mut hidden) = context.into_findings();
    hidden.extend(password_lines(source));
    let findings = with_syntax(findings, &syntax_errors, source);
    let report = Report::new(path, source, &hidden, findings);
    if has_errors || report.errors() > 0 {
        return Err(report);
    }
    Ok(Loaded { snapshot: Arc::new(snapshot), report })
}

/// Reads every section, then checks what concerns several.
fn snapshot(path: &Path, root: &Section<'_>) -> Snapshot {
    let mut server =
        section_or_missing(root, "server").map_or_else(Server::default, |s| Server::read(&s));
    let listeners: Vec<_> =
        root.tables("listener", "listener").iter().filter_map(Listener::read).collect();
    let apps: Vec<_> = root.tables("app", "app").iter().filter_map(App::read).collect();
    let spool = section_or_missing(root, "spool").map_or_else(Spool::default, |s| Spool::read(&s));
    let queue = root.table("queue", "queue").map(|s| Queue::read(&s)).unwrap_or_default();
    let routes = Routes::read(&root.tables("route", "route"));
    let app_ids: Vec<_> = apps.iter().map(|placed| &*placed.app.id).collect();
    let dkim = DkimKeys::read(&root.tables("dkim", "dkim"), &app_ids);
    let keys =
        root.table("keys", "keys").and_then(|section| ManagedKeys::read(&section, &listeners));
    if !root.has("keys") && dkim.all().iter().any(|dkim| dkim.managed().is_some()) {
        let finding = Diagnostic::about_file("there is no [keys] section for the managed [[dkim]]");
        root.context.push_missing(finding.help("it needs `directory` and `key_file` at least"));
    }
    let signer = root.table("signer", "signer").map(|section| {
        let signer = Signer::read(&section);
        server.leave_to_signers(&signer.cores);
        signer.check_apart(&section, &server.cores);
        signer
    });
    let filters = root.table("filters", "filters").map(|s| Filters::read(&s)).unwrap_or_default();
    crossing::check(root, &listeners, &apps, &queue, &routes);
    Snapshot {
        path: path.to_owned(),
        server,
        listeners: listeners.into_iter().map(|placed| placed.listener).collect(),
        access: Registry::new(apps.into_iter().map(|placed| placed.app).collect()),
        spool,
        queue,
        routes,
        dkim,
        keys,
        signer: signer.unwrap_or_default(),
        filters,
    }
}

fn section_or_missing<'a>(root: &Section<'a>, name: &'static str) -> Option<Section<'a>> {
    let section = root.table(name, name);
    if section.is_none() && !root.has(name) {
        let finding = Diagnostic::about_file(format!("there is no [{name}] section"));
        root.context.push_missing(finding.help("`postern init` writes a complete configuration"));
    }
    section
}

/// Adds what the TOML parser complained about, and takes away what follows from it: findings about
/// lines that could not be read.
fn with_syntax(
    mut findings: Vec<Diagnostic>,
    errors: &[toml::de::Error],
    source: &str,
) -> Vec<Diagnostic> {
    let line_of = |at: usize| source[..at.min(source.len())].matches('\n').count();
    let broken: Vec<usize> =
        errors.iter().filter_map(|error| error.span()).map(|span| line_of(span.start)).collect();
    findings.retain(|finding| {
        finding.span.as_ref().is_none_or(|span| !broken.contains(&line_of(span.start)))
    });
    let mut told: Vec<usize> = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line = line_of(span.start);
        if !told.contains(&line) {
            told.push(line);
            findings.push(Diagnostic::error(span, first_sentence(error.message())));
        }
    }
    findings
}

fn first_sentence(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// What stands behind `pass… =` on its line: never shown, whatever is wrong with the line.
fn password_lines(source: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut start = 0;
    for line in source.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        if line.trim_start().starts_with("pass")
            && !line.trim_start().starts_with("password_file")
            && let Some(equals) = line.find('=')
        {
            let value = &line[equals + 1..];
            let space = value.len() - value.trim_start().len();
            hidden.push((start + equals + 1 + space).min(end)..end);
        }
        start += line.len();
    }
    hidden
}

#[cfg(test)]
mod tests;

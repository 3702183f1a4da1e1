//! `[[route]]`: which next hop takes the mail for which recipient domain.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address::canonical_domain;
use super::diagnostic::Diagnostic;
use super::read::{Section, Span, Text, seconds};
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

impl Default for RouteTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            command: Duration::from_secs(300),
            data_block: Duration::from_secs(180),
            data_end: Duration::from_secs(600),
            idle: Duration::from_secs(15),
        }
    }
}

impl Routes {
    /// Reads all `[[route]]`.
    pub(super) fn read(sections: &[Section<'_>]) -> Self {
        let mut routes = Self::default();
        let mut spans: HashMap<String, Span> = HashMap::new();
        for (index, section) in sections.iter().enumerate() {
            let (route, domains) = Route::read(section, index);
            for domain in domains {
                routes.add_domain(section, &domain, routes.all.len(), &mut spans);
            }
            routes.all.push(Arc::new(route));
        }
        routes
    }

    /// Whether mail for any domain has a route.
    pub(super) fn has_default(&self) -> bool {
        self.default.is_some()
    }

    fn add_domain(
        &mut self,
        section: &Section<'_>,
        domain: &Text<'_>,
        index: usize,
        spans: &mut HashMap<String, Span>,
    ) {
        let (name, is_below) = match domain.text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (domain.text, false),
        };
        let name = if name == "*" && !is_below { Some("*".into()) } else { canonical_domain(name) };
        let Some(name) = name else {
            let message = format!("`{}` is not a recipient domain", domain.text);
            let help = "write \"example.com\", \"*.example.com\" for all below it, or \"*\" for all others";
            section.context.push(Diagnostic::error(domain.span.clone(), message).help(help));
            return;
        };
        let written = format!("{}{name}", if is_below { "*." } else { "" });
        if let Some(first) = spans.get(&written) {
            let message = format!("`{written}` has a route already");
            let finding = Diagnostic::error(domain.span.clone(), message);
            section.context.push(finding.context(first.clone(), "here"));
            return;
        }
        spans.insert(written, domain.span.clone());
        match (&*name, is_below) {
            ("*", _) => self.default = Some(index),
            (name, true) => drop(self.below.insert(name.to_owned(), index)),
            (name, false) => drop(self.exact.insert(name.to_owned(), index)),
        }
    }
}

impl Route {
    /// Reads one `[[route]]`, and the places of its domains.
    fn read<'a>(section: &Section<'a>, index: usize) -> (Self, Vec<Text<'a>>) {
        let domains = section
            .texts("domains")
            .unwrap_or_else(|| vec![Text { text: "*", span: section.span.clone() }]);
        let tls = section.choice("tls", &TLS_CHOICES, NextHopTls::RequireVerified);
        let auth = section.table("auth", "route.auth").and_then(|auth| Login::read(&auth));
        let timeouts = section
            .table("timeouts", "route.timeouts")
            .map(|timeouts| RouteTimeouts::read(&timeouts));
        let route = Self {
            index,
            domains: domains.iter().map(|domain| domain.text.to_owned()).collect(),
            next_hops: read_next_hops(section),
            tls,
            ca_file: read_ca_file(section, tls),
            auth,
            sessions_max: section.count("sessions_max").unwrap_or(SESSIONS_MAX_DEFAULT),
            messages_per_session_max: section
                .count("messages_per_session_max")
                .unwrap_or(MESSAGES_PER_SESSION_MAX_DEFAULT),
            timeouts: timeouts.unwrap_or_default(),
        };
        if route.auth.is_some() && tls != NextHopTls::RequireVerified {
            let message = "the password of this route may be sent to somebody else";
            section.context.push(
                Diagnostic::warning(section.place("auth"), message)
                    .help("`tls = \"require-verified\"` makes sure who reads it"),
            );
        }
        (route, domains)
    }
}

impl Login {
    fn read(section: &Section<'_>) -> Option<Self> {
        let username = section.required_text("username", "the name to authenticate with");
        if !section.has("password_file") {
            section.report_missing("password_file", "a file with the password on its first line");
        }
        let (path, span) = section.path("password_file")?;
        let content = section.context.read_file(&path, &span)?;
        section.context.warn_if_open(&path, &span);
        let line = content.split(|b| *b == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.contains(&0) {
            let message = format!("{} has no password on its first line", path.display());
            section.context.push(Diagnostic::error(span, message));
            return None;
        }
        Some(Self { username: username?.text.to_owned(), password: Secret::new(line.to_vec()) })
    }
}

impl RouteTimeouts {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let read = |key, default| section.duration(key, seconds(1, 86_400)).unwrap_or(default);
        Self {
            connect: read("connect", default.connect),
            command: read("command", default.command),
            data_block: read("data_block", default.data_block),
            data_end: read("data_end", default.data_end),
            idle: read("idle", default.idle),
        }
    }
}

fn read_next_hops(section: &Section<'_>) -> Vec<NextHop> {
    let help = "\"mail.example.com:587\", or several in the order they are tried";
    if !section.has("next_hops") {
        section.report_missing("next_hops", help);
    }
    let Some(texts) = section.texts("next_hops") else { return Vec::new() };
    if texts.is_empty() {
        let message = "`next_hops` is empty";
        section.context.push(Diagnostic::error(section.place("next_hops"), message).help(help));
    }
    let mut hops: Vec<NextHop> = Vec::new();
    for text in texts {
        match NextHop::parse(text.text) {
            Ok(hop) if hops.contains(&hop) => {
                let message = format!("`{hop}` is listed twice");
                section.context.push(Diagnostic::error(text.span, message));
            }
            Ok(hop) => hops.push(hop),
            Err(problem) => {
                let message = format!("`{}` is not a next hop: {problem}", text.text);
                section.context.push(Diagnostic::error(text.span, message).help(help));
            }
        }
    }
    hops
}

impl NextHop {
    /// Reads `host:port`, `192.0.2.1:25` or `[2001:db8::1]:25`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = text.rsplit_once(':').ok_or("it has no port")?;
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 && port.to_string() == text[host.len() + 1..] => port,
            _ => return Err("its port is no number from 1 to 65535"),
        };
        if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr = literal.parse().map_err(|_| "it holds no IPv6 address")?;
            return Ok(Self { host: address.to_string(), port });
        }
        if host.contains(':') {
            return Err("an IPv6 address stands in brackets");
        }
        let looks_numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if looks_numeric && host.parse::<Ipv4Addr>().is_err() {
            return Err("it holds no IPv4 address");
        }
        let host = canonical_domain(host).ok_or("it holds no host name")?;
        Ok(Self { host: host.into_owned(), port })
    }
}

fn read_ca_file(section: &Section<'_>, tls: NextHopTls) -> Option<PathBuf> {
    let (path, span) = section.path("ca_file")?;
    if tls != NextHopTls::RequireVerified {
        let message = "`ca_file` is not used: certificates are not verified on this route";
        section.context.push(Diagnostic::warning(section.place("ca_file"), message));
    }
    if let Err(problem) = (section.context.surroundings.certificates)(&path) {
        section.context.push(Diagnostic::error(span, problem));
    }
    Some(path)
}

const TLS_CHOICES: [(&str, NextHopTls); 3] = [
    ("require-verified", NextHopTls::RequireVerified),
    ("opportunistic", NextHopTls::Opportunistic),
    ("none", NextHopTls::None),
];

const SESSIONS_MAX_DEFAULT: u32 = 10;
const MESSAGES_PER_SESSION_MAX_DEFAULT: u32 = 100;

//! `[keys]`: how the relay looks after signing keys by itself, and which `[[dkim]]` it does that for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postern_signer::key::Algorithm;
use postern_signer::name::Selector;

use super::address::canonical_domain;
use super::diagnostic::Diagnostic;
use super::listener;
use super::read::{Section, Text, seconds};
use super::secret::SealKey;

/// How keys are made, published, rotated and kept.
#[derive(Clone)]
pub struct ManagedKeys {
    /// Where they are kept, sealed; made on first start.
    pub directory: PathBuf,
    /// What they are sealed with.
    pub seal: SealKey,
    /// How long a key signs.
    pub rotate_every: Duration,
    /// By how much of that a rotation may come earlier, in percent.
    pub jitter_percent: u32,
    /// For how long a record is published at least before its key may sign.
    pub standby_for: Duration,
    /// For how long signatures may be under way.
    pub drain_for: Duration,
    /// The same after an emergency.
    pub emergency_drain_for: Duration,
    /// How often records that are in use are looked at.
    pub look_every: Duration,
    /// Who changes DNS.
    pub publish: Publish,
    /// Where records are written as files that zones can include, named `ZONE.zone` after the signing
    /// domain or the domain that its records are delegated to; `None` for nowhere.
    pub zone_directory: Option<PathBuf>,
    /// Time to live of the records that the relay publishes, in seconds.
    pub ttl_s: u32,
    /// Whom to ask.
    pub dns: Dns,
    /// How many times faster than life the schedule runs: 1, except in a rehearsal.
    pub rehearsal_rate: u32,
}

/// Which servers must have a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Resolvers; empty for the system's.
    pub resolvers: Vec<SocketAddr>,
    /// How many of them must have it; `None` for all.
    pub resolvers_min: Option<usize>,
    /// Authoritative servers, all of which must have it; empty to find them by the zone's NS
    /// records.
    pub authoritative: Vec<SocketAddr>,
}

/// Who changes DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publish {
    /// The operator, by hand or by zones that include what is written to `zone_directory`.
    Manual,
    /// The relay, by dynamic update.
    Update(UpdateServer),
}

/// The server that takes dynamic updates, and the key it knows us by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateServer {
    /// The zone's primary server.
    pub server: SocketAddr,
    /// The TSIG key's name.
    pub tsig_name: String,
    /// The file with its secret.
    pub tsig_secret_file: PathBuf,
    /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
    pub tsig_algorithm: &'static str,
}

/// A `[[dkim]]` whose keys the relay looks after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// What kind of key.
    pub algorithm: Algorithm,
    /// What its selectors begin with.
    pub selector_prefix: Selector,
    /// How many selectors are used in turn; `None` for a new one each time.
    pub selectors: Option<u32>,
    /// The domain that the names of its records are delegated to, by CNAME records.
    pub record_domain: Option<String>,
}

impl ManagedKeys {
    /// Reads `[keys]`.
    pub(super) fn read(section: &Section<'_>, listeners: &[listener::Placed]) -> Option<Self> {
        if !section.has("directory") {
            section.report_missing("directory", "where signing keys are kept, sealed");
        }
        let directory = section.path("directory");
        let seal = SealKey::read(
            section,
            "a file of at least 32 random bytes that is kept apart from the directory",
        );
        let publish = read_publish(section);
        let duration = |key, range, default| section.duration(key, range).unwrap_or(default);
        let rotate_every = duration("rotate_every", seconds(DAY_S, 3_650 * DAY_S), SIX_MONTHS);
        let standby_for = duration("standby_for", seconds(1, 30 * DAY_S), HOUR);
        let drain_for = duration("drain_for", seconds(60, 365 * DAY_S), TWO_WEEKS);
        let emergency_drain_for = duration("emergency_drain_for", seconds(0, 365 * DAY_S), HOUR);
        let look_every = duration("look_every", seconds(1, DAY_S), HOUR);
        let ttl = duration("ttl", seconds(1, 7 * DAY_S), HOUR);
        let jitter_percent = section.percent("jitter", 0..=50).unwrap_or(JITTER_PERCENT);
        let dns = Dns::read(section);
        let zone_directory = section.path("zone_directory").map(|(path, _)| path);
        let rate = section.number("rehearsal_rate", 1..=10_000_000).unwrap_or(1);
        let is_outside = |placed: &listener::Placed| !placed.listener.address.ip().is_loopback();
        if rate > 1 && listeners.iter().any(is_outside) {
            let message = "a rehearsal changes keys within minutes, and real mail would be lost";
            section.context.push(
                Diagnostic::error(section.place("rehearsal_rate"), message)
                    .help("rehearse with listeners on loopback addresses only"),
            );
        }
        Some(Self {
            directory: directory?.0,
            seal: seal?,
            rotate_every,
            jitter_percent,
            standby_for,
            drain_for,
            emergency_drain_for,
            look_every,
            publish: publish?,
            zone_directory,
            ttl_s: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
            dns,
            rehearsal_rate: u32::try_from(rate).unwrap_or(u32::MAX),
        })
    }
}

impl Dns {
    fn read(section: &Section<'_>) -> Self {
        let resolvers = read_servers(section, "resolvers");
        let min = section.number("resolvers_min", 0..=64);
        let resolvers_min = min.and_then(|count| usize::try_from(count).ok());
        if resolvers_min.is_some_and(|count| !resolvers.is_empty() && count > resolvers.len()) {
            let message = format!("there are only {} usable resolvers", resolvers.len());
            section.context.push(Diagnostic::error(section.place("resolvers_min"), message));
        }
        let authoritative = read_servers(section, "authoritative");
        Self { resolvers, resolvers_min, authoritative }
    }
}

impl Managed {
    /// Reads what a managed `[[dkim]]` says instead of `selector` and `key_file`.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        for key in ["selector", "key_file", "on_bad_key"] {
            if section.has(key) {
                let message = format!("`{key}` does not go with `managed = true`");
                section.context.push(
                    Diagnostic::error(section.place(key), message)
                        .help("the relay makes the keys of this entry and names them"),
                );
            }
        }
        let algorithms = [("rsa", Algorithm::RsaSha256), ("ed25519", Algorithm::Ed25519Sha256)];
        let algorithm = section.choice("algorithm", &algorithms, Algorithm::RsaSha256);
        let record_domain = section.text("record_domain").and_then(|text| {
            let domain = canonical_domain(text.text);
            if domain.is_none() {
                let message = format!("`{}` is not a domain", text.text);
                section.context.push(Diagnostic::error(text.span, message));
            }
            domain.map(std::borrow::Cow::into_owned)
        });
        let selectors = section
            .number("selectors", SELECTORS_MIN..=1_000)
            .and_then(|count| u32::try_from(count).ok())
            .or_else(|| record_domain.is_some().then_some(SELECTORS_DELEGATED));
        Some(Self {
            algorithm,
            selector_prefix: read_prefix(section, algorithm)?,
            selectors,
            record_domain,
        })
    }
}

fn read_prefix(section: &Section<'_>, algorithm: Algorithm) -> Option<Selector> {
    let default = match algorithm {
        Algorithm::RsaSha256 => "postern",
        Algorithm::Ed25519Sha256 => "postern-ed",
    };
    let text = section
        .text("selector_prefix")
        .unwrap_or(Text { text: default, span: section.span.clone() });
    let refused = match text.text.parse() {
        // A number follows.
        Ok(prefix) if text.text.len() <= PREFIX_BYTES_MAX => return Some(prefix),
        Ok(_) => format!("it has more than {PREFIX_BYTES_MAX} letters"),
        Err(refused) => refused.to_string(),
    };
    let message = format!("`{}` cannot begin a selector: {refused}", text.text);
    section.context.push(Diagnostic::error(text.span, message));
    None
}

fn read_publish(section: &Section<'_>) -> Option<Publish> {
    let is_update = section.choice("publish", &[("manual", false), ("update", true)], false);
    let update = section.table("update", "keys.update");
    match (is_update, update) {
        (true, Some(update)) => Some(Publish::Update(UpdateServer::read(&update)?)),
        (true, None) => {
            if !section.has("update") {
                section.report_missing("update", "a table [keys.update] with the server");
            }
            None
        }
        (false, Some(_)) => {
            let message = "`update` is not used without `publish = \"update\"`";
            section.context.push(Diagnostic::warning(section.place("update"), message));
            Some(Publish::Manual)
        }
        (false, None) => Some(Publish::Manual),
    }
}

impl UpdateServer {
    fn read(section: &Section<'_>) -> Option<Self> {
        let server = section
            .required_text("server", "the zone's primary server, such as \"192.0.2.1:53\"")
            .and_then(|text| read_server(section, &text));
        let tsig_name = section.required_text("tsig_name", "the name the server knows the key by");
        if !section.has("tsig_secret_file") {
            section.report_missing("tsig_secret_file", "a file with the secret in base64");
        }
        let secret = section.path("tsig_secret_file").filter(|(path, span)| {
            section.context.warn_if_open(path, span);
            section.context.read_file(path, span).is_some()
        });
        let algorithms = ["hmac-sha256", "hmac-sha384", "hmac-sha512"].map(|name| (name, name));
        Some(Self {
            tsig_algorithm: section.choice("tsig_algorithm", &algorithms, "hmac-sha256"),
            server: server?,
            tsig_name: tsig_name?.text.to_owned(),
            tsig_secret_file: secret?.0,
        })
    }
}

fn read_servers(section: &Section<'_>, key: &str) -> Vec<SocketAddr> {
    let texts = section.texts(key).unwrap_or_default();
    texts.iter().filter_map(|text| read_server(section, text)).collect()
}

/// An address; port 53 where none is given.
fn read_server(section: &Section<'_>, text: &Text<'_>) -> Option<SocketAddr> {
    let with_port = text.text.parse().ok();
    let alone = || text.text.parse().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let server = with_port.or_else(alone);
    if server.is_none() {
        let message = format!("`{}` is not the address of a server", text.text);
        section.context.push(
            Diagnostic::error(text.span.clone(), message)
                .help("write \"192.0.2.1\", \"192.0.2.1:53\" or \"[2001:db8::1]:53\""),
        );
    }
    server
}

const DNS_PORT: u16 = 53;
const DAY_S: u64 = 86_400;
const HOUR: Duration = Duration::from_secs(3_600);
/// What M3AAWG recommends to most senders.
const SIX_MONTHS: Duration = Duration::from_secs(182 * DAY_S);
/// Longer than queues keep mail (RFC 5321 4.5.4.1: four to five days), and what DKIM2 allows.
const TWO_WEEKS: Duration = Duration::from_secs(14 * DAY_S);
const JITTER_PERCENT: u32 = 10;
/// One that signs, one on standby, one that drains, and one in hand for an emergency.
const SELECTORS_MIN: u64 = 4;
const SELECTORS_DELEGATED: u32 = 6;
/// Of the 63 of a label.
const PREFIX_BYTES_MAX: usize = 40;

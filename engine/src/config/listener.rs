//! `[[listener]]`: where applications connect, and what one session may do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::read::{Section, Span, seconds};

/// One address that is listened on, by every shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 takes any free one.
    pub address: SocketAddr,
    /// TLS or not.
    pub tls: ListenerTls,
    /// What to do with content whose line ends are wrong.
    pub bare_newlines: BareNewlines,
    /// AUTH is offered without TLS. Only on a loopback address; for tests.
    pub insecure_plaintext_auth: bool,
    /// Bounds of a session.
    pub limits: SessionLimits,
    /// How long to wait for what.
    pub timeouts: ListenerTimeouts,
}

/// TLS on a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerTls {
    /// Plaintext only. Applications are known by their network alone, unless
    /// [`Listener::insecure_plaintext_auth`].
    None,
    /// Plaintext first, TLS after STARTTLS (ports 587, 25, 2525).
    StartTls(TlsFiles),
    /// TLS from the first byte (port 465).
    Implicit(TlsFiles),
}

/// The PEM files of a TLS listener; both could be read and belong together when checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Issuers of client certificates; clients are asked for one when given.
    pub client_ca: Option<PathBuf>,
}

impl ListenerTls {
    /// The files, where there is TLS.
    #[must_use]
    pub fn files(&self) -> Option<&TlsFiles> {
        match self {
            Self::None => None,
            Self::StartTls(files) | Self::Implicit(files) => Some(files),
        }
    }
}

/// What to do with bare CR and bare LF in content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BareNewlines {
    /// Refuse the message: two readers could disagree about where it ends.
    #[default]
    Reject,
    /// Turn a bare LF into CRLF.
    Normalize,
}

/// Bounds of one session, and of all sessions of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Largest content in bytes; offered as SIZE.
    pub message_bytes_max: u64,
    /// Most recipients of a message; offered as RCPTMAX.
    pub recipients_max: u32,
    /// Most messages of a session; offered as MAILMAX.
    pub messages_per_session_max: u32,
    /// Most erroneous commands before the session is closed.
    pub errors_max: u16,
    /// Most sessions at once, per shard share: the listener's limit divided by the shards.
    pub sessions_max: u32,
}

/// How long a session waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// From the start of a TLS handshake to its end.
    pub tls: Duration,
    /// From a reply to the end of the next command (RFC 5321 4.5.3.2.7).
    pub command: Duration,
    /// From one piece of content to the next (RFC 5321 4.5.3.2.5).
    pub data_block: Duration,
    /// From the start of a message's content to its end.
    pub message: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: 50 << 20,
            recipients_max: 1_000,
            messages_per_session_max: 10_000,
            errors_max: 20,
            sessions_max: 10_000,
        }
    }
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            tls: Duration::from_secs(30),
            command: Duration::from_secs(300),
            data_block: Duration::from_secs(180),
            message: Duration::from_secs(1_800),
        }
    }
}

/// A listener and where its address stands.
pub(super) struct Placed {
    pub(super) listener: Listener,
    pub(super) span: Span,
    /// There is to be TLS, but its files cannot be used; that has been reported.
    pub(super) is_tls_broken: bool,
}

impl Listener {
    /// Reads one `[[listener]]`; `None` where it has no address.
    pub(super) fn read(section: &Section<'_>) -> Option<Placed> {
        let (tls, is_tls_broken) = read_tls(section);
        let limits =
            section.table("limits", "listener.limits").map(|limits| SessionLimits::read(&limits));
        let timeouts = section
            .table("timeouts", "listener.timeouts")
            .map(|timeouts| ListenerTimeouts::read(&timeouts));
        let bare_newlines = section.choice("bare_newlines", &BARE_NEWLINES, BareNewlines::Reject);
        let is_insecure = section.flag("insecure_plaintext_auth", false);
        let (address, span) = read_address(section)?;
        if is_insecure && !address.ip().is_loopback() {
            section.context.push(
                Diagnostic::error(
                    section.place("insecure_plaintext_auth"),
                    format!(
                        "AUTH without TLS is only for loopback addresses, and {address} is none"
                    ),
                )
                .context(span.clone(), "this listener")
                .help("take it away, or listen on 127.0.0.1"),
            );
        }
        let listener = Self {
            address,
            tls,
            bare_newlines,
            insecure_plaintext_auth: is_insecure,
            limits: limits.unwrap_or_default(),
            timeouts: timeouts.unwrap_or_default(),
        };
        Some(Placed { listener, span, is_tls_broken })
    }

    /// Whether an application can authenticate here.
    pub(super) fn offers_auth(&self) -> bool {
        self.insecure_plaintext_auth || self.tls != ListenerTls::None
    }
}

impl SessionLimits {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let errors_max = section.number("errors_max", 1..=u64::from(u16::MAX));
        Self {
            message_bytes_max: section
                .bytes("message_bytes_max", MESSAGE_BYTES)
                .unwrap_or(default.message_bytes_max),
            recipients_max: section.count("recipients_max").unwrap_or(default.recipients_max),
            messages_per_session_max: section
                .count("messages_per_session_max")
                .unwrap_or(default.messages_per_session_max),
            errors_max: errors_max
                .and_then(|count| u16::try_from(count).ok())
                .unwrap_or(default.errors_max),
            sessions_max: section.count("sessions_max").unwrap_or(default.sessions_max),
        }
    }
}

impl ListenerTimeouts {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let read = |key, default| section.duration(key, seconds(1, 86_400)).unwrap_or(default);
        Self {
            tls: read("tls", default.tls),
            command: read("command", default.command),
            data_block: read("data_block", default.data_block),
            message: read("message", default.message),
        }
    }
}

fn read_address(section: &Section<'_>) -> Option<(SocketAddr, Span)> {
    let help = "write an IP address and a port: \"0.0.0.0:587\", \"[::]:465\", \"127.0.0.1:2525\"";
    let text = section.required_text("address", help)?;
    match text.text.parse() {
        Ok(address) => Some((address, text.span)),
        Err(_) => {
            let message = format!("`{}` is not an address to listen on", text.text);
            section.context.push(Diagnostic::error(text.span, message).help(help));
            None
        }
    }
}

/// What was configured, and whether it is TLS that cannot work.
fn read_tls(section: &Section<'_>) -> (ListenerTls, bool) {
    let choice = section.choice("tls", &TLS_CHOICES, TlsChoice::StartTls);
    if choice == TlsChoice::None {
        for key in ["certificate", "key", "client_ca"] {
            if section.has(key) {
                let message = format!("`{key}` is not used: this listener has no TLS");
                section.context.push(Diagnostic::warning(section.place(key), message));
            }
        }
        return (ListenerTls::None, false);
    }
    match (read_files(section), choice) {
        (Some(files), TlsChoice::Implicit) => (ListenerTls::Implicit(files), false),
        (Some(files), _) => (ListenerTls::StartTls(files), false),
        (None, _) => (ListenerTls::None, true),
    }
}

/// The PEM files; where one is missing or unusable that has been reported.
fn read_files(section: &Section<'_>) -> Option<TlsFiles> {
    for key in ["certificate", "key"] {
        if !section.has(key) {
            section.report_missing(key, "a PEM file; `postern init` makes a self-signed one");
        }
    }
    let client_ca = section.path("client_ca");
    if let Some((path, span)) = &client_ca
        && let Err(problem) = (section.context.surroundings.certificates)(path)
    {
        section.context.push(Diagnostic::error(span.clone(), problem));
    }
    let (certificate, certificate_span) = section.path("certificate")?;
    let (key, key_span) = section.path("key")?;
    match (section.context.surroundings.identity)(&certificate, &key) {
        Ok(warnings) => {
            for warning in warnings {
                let span = certificate_span.clone();
                section.context.push(Diagnostic::warning(span, warning));
            }
        }
        Err(bad) => {
            let span = if bad.in_key { key_span } else { certificate_span };
            section.context.push(Diagnostic::error(span, bad.problem));
        }
    }
    Some(TlsFiles { certificate, key, client_ca: client_ca.map(|(path, _)| path) })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsChoice {
    StartTls,
    Implicit,
    None,
}

const TLS_CHOICES: [(&str, TlsChoice); 3] = [
    ("starttls", TlsChoice::StartTls),
    ("implicit", TlsChoice::Implicit),
    ("none", TlsChoice::None),
];

const BARE_NEWLINES: [(&str, BareNewlines); 2] =
    [("reject", BareNewlines::Reject), ("normalize", BareNewlines::Normalize)];

/// RFC 5321 4.5.3.1.7 asks for 64 KiB at least; a larger bound than 2 GiB is a typing error.
pub(super) const MESSAGE_BYTES: std::ops::RangeInclusive<u64> = 65_536..=(2 << 30);

//! `[[listener]]`: where applications connect, and what one session may do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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

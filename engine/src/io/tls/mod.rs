//! TLS over a [`Stream`](super::Stream): TLS 1.2 and 1.3, with rustls and ring, decrypted in place.
//!
//! [`TlsStream`] has the shape of a plain stream; [`Connection`] is either. The protocol itself is a
//! pure state machine (`session`), so every cut of the byte stream can be tried without a socket.
//! Certificates come from PEM files ([`Identity`]) and are replaced under running sessions
//! ([`ReloadableCert`]); [`server_config`] and [`client_config`] say what Postern offers and accepts;
//! `generate` makes certificates for first starts, demonstrations and tests.
//!
//! Copies: a record that lies whole in a receive lease is decrypted in that lease and handed out as a
//! range of it. A record cut by the end of a lease is gathered first; [`counters`] says how many
//! bytes took either way. (rustls 0.23 also makes a short-lived copy of each plaintext of its own,
//! which is dropped unread.)
//!
//! Memory: an idle session holds rustls's state and the keys, and no buffer.
//!
//! Must never: hand out bytes that were not authenticated, fall back to plaintext, verify less than
//! the configuration says, or take an end of stream without close_notify for a clean end.

mod config;
mod connection;
pub mod generate;
mod identity;
mod session;
mod stream;

use std::{cell::Cell, fmt, io};

use rustls::{AlertDescription, CertificateError, CommonState, ProtocolVersion};

pub use self::{
    config::{
        ReloadableCert, Roots, ServerOptions, TlsConfigError, Verify, client_config, server_config,
    },
    connection::Connection,
    identity::{Identity, IdentityWarning, PemError, PemProblem, read_certificates},
    stream::{Chunk, TlsStream},
};

/// Why a TLS session failed. Travels inside the [`io::Error`] of [`TlsStream`]; [`TlsError::of`]
/// takes it out again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TlsError {
    /// rustls would not start: the configuration offers nothing usable.
    Setup(rustls::Error),
    /// The peer's certificate is not good enough: expired, wrong name, unknown issuer.
    Certificate(CertificateError),
    /// The peer ended the session with an alert: it refuses our certificate, version or ciphers.
    Refused(AlertDescription),
    /// What the peer sends is not TLS, or breaks its rules.
    Protocol(rustls::Error),
    /// The stream ended without close_notify: bytes may be missing (RFC 8446 6.1).
    Truncated,
    /// An unfinished handshake message grew beyond its bound.
    HandshakeTooLarge,
    /// The peer sent early data, which is never offered.
    EarlyData,
    /// The session is closed, has failed, or is not up yet.
    Over,
    /// An earlier send was given up half way: what the peer has seen is unknown.
    SendAbandoned,
    /// The keys have encrypted all that they safely can (RFC 8446 5.5).
    KeysExhausted,
    /// A plaintext was not where the record lies: this build of rustls is not the one we know.
    NotInPlace,
    /// rustls went round in circles on one record.
    NoProgress,
}

impl TlsError {
    /// The TLS failure inside an I/O error, if that is what it was.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::Certificate(error),
            rustls::Error::AlertReceived(alert) => Self::Refused(alert),
            error => Self::Protocol(error),
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match error {
            TlsError::Truncated => io::ErrorKind::UnexpectedEof,
            TlsError::Refused(_) => io::ErrorKind::ConnectionAborted,
            TlsError::Over | TlsError::SendAbandoned => io::ErrorKind::NotConnected,
            TlsError::Setup(_) | TlsError::KeysExhausted => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "TLS cannot start: {error}"),
            Self::Certificate(error) => {
                write!(f, "the peer's certificate was not accepted: {error}")
            }
            Self::Refused(alert) => write!(f, "the peer ended TLS with the alert {alert:?}"),
            Self::Protocol(error) => write!(f, "TLS failed: {error}"),
            Self::Truncated => f.write_str("the stream ended without the TLS close_notify"),
            Self::HandshakeTooLarge => f.write_str("a TLS handshake message is too large"),
            Self::EarlyData => f.write_str("the peer sent TLS early data, which is not offered"),
            Self::Over => f.write_str("the TLS session is over"),
            Self::SendAbandoned => f.write_str("an earlier send on this TLS session was given up"),
            Self::KeysExhausted => f.write_str("the TLS keys are used up"),
            Self::NotInPlace => f.write_str("a TLS record was not decrypted in place"),
            Self::NoProgress => f.write_str("the TLS session makes no progress"),
        }
    }
}

impl std::error::Error for TlsError {}

/// What a session agreed on, for `Received:` fields (RFC 3848, RFC 8314), logs and access rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// IANA name of the cipher suite: `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// Length of the traffic keys.
    pub key_bits: u16,
    /// The host name that the client asked for (RFC 6066 3); server side only.
    pub sni: Option<String>,
    /// DER of the certificate that the peer proved to hold. On the server's side it was verified
    /// against `client_ca`; on the client's side as [`Verify`] says.
    pub peer_certificate: Option<Vec<u8>>,
    /// Whether an earlier session was resumed, without a full handshake.
    pub is_resumed: bool,
}

impl TlsInfo {
    fn of(facts: &CommonState, sni: Option<&str>) -> Self {
        let suite = facts.negotiated_cipher_suite().map(|suite| suite.suite());
        let name = suite.and_then(|suite| suite.as_str()).unwrap_or("unknown");
        Self {
            version: match facts.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            cipher: iana_name(name),
            key_bits: if name.contains("AES_128") { 128 } else { 256 },
            sni: sni.map(str::to_owned),
            peer_certificate: facts
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|certificate| certificate.to_vec()),
            is_resumed: facts.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}

/// rustls prefixes the TLS 1.3 suites with `TLS13_`; the registry has plain `TLS_`.
fn iana_name(name: &'static str) -> &'static str {
    match name {
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        name => name,
    }
}

/// How the bytes of this thread's TLS sessions went, since the thread began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsCounters {
    /// Handshakes that came to an end, either side, resumed ones included.
    pub handshakes: u64,
    /// Of those, resumed.
    pub resumptions: u64,
    /// Sessions that ended with a [`TlsError`].
    pub failures: u64,
    /// Plaintext bytes decrypted in the lease they arrived in.
    pub in_place_bytes: u64,
    /// Plaintext bytes whose record had to be gathered from several leases first.
    pub reassembled_bytes: u64,
    /// Plaintext bytes sealed for sending.
    pub sealed_bytes: u64,
    /// Of those, bytes copied once more so that small parts share a record.
    pub gathered_bytes: u64,
}

thread_local! {
    static COUNTERS: Cell<TlsCounters> = const { Cell::new(TlsCounters {
        handshakes: 0,
        resumptions: 0,
        failures: 0,
        in_place_bytes: 0,
        reassembled_bytes: 0,
        sealed_bytes: 0,
        gathered_bytes: 0,
    }) };
}

/// The counters of the calling thread, which is to say of its shard.
pub fn counters() -> TlsCounters {
    COUNTERS.get()
}

fn count(change: impl FnOnce(&mut TlsCounters)) {
    let mut counters = COUNTERS.get();
    change(&mut counters);
    COUNTERS.set(counters);
}

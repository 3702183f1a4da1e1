//! What Postern offers as a TLS server and accepts as a TLS client.
//!
//! One provider (ring), TLS 1.2 and 1.3, the cipher suites of rustls (all forward secret and AEAD).
//! Server configurations are shared by all shards, so that a session made on one resumes on another;
//! session state is in the client's ticket, not in our memory.

use std::{cell::Cell, fmt, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError,
        WebPkiClientVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::identity::{Identity, PemError, read_certificates};

/// Tickets given out after a TLS 1.3 handshake. An application that opens a session per message uses
/// one each time and gets one each time; each more costs every handshake a sealed ticket.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// A server certificate that can be replaced while sessions run: new handshakes see the new one.
pub struct ReloadableCert {
    current: ArcSwap<CertifiedKey>,
}

impl ReloadableCert {
    /// Starts with `identity`.
    pub fn new(identity: Identity) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::new(identity.into_certified_key()) })
    }

    /// Replaces the certificate. Running sessions, and tickets already given out, stay good.
    pub fn replace(&self, identity: Identity) {
        self.current.store(identity.into_certified_key());
    }
}

impl fmt::Debug for ReloadableCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReloadableCert")
    }
}

impl ResolvesServerCert for ReloadableCert {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        LAST_SNI.set(hello.server_name().map(Box::from));
        Some(self.current.load_full())
    }
}

thread_local! {
    /// rustls's unbuffered server does not tell the name the client asked for; the resolver sees it
    /// and leaves it here for the session whose bytes are being read on this thread.
    static LAST_SNI: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// The name in the ClientHello that was read last on this thread, once.
pub(super) fn sni_of_last_hello() -> Option<Box<str>> {
    LAST_SNI.take()
}

/// What a TLS listener is made of.
#[derive(Debug)]
pub struct ServerOptions {
    /// Certificate and key.
    pub certificate: Arc<ReloadableCert>,
    /// Issuers of client certificates. When given, a client is asked for a certificate; it may have
    /// none, but one that these issuers did not sign ends the handshake.
    pub client_ca: Option<Vec<CertificateDer<'static>>>,
}

/// Why a TLS configuration cannot be made.
#[derive(Debug)]
pub enum TlsConfigError {
    /// A PEM file is not usable.
    Pem(PemError),
    /// A certificate in this file cannot be an issuer of others.
    BadRoot(PathBuf, Error),
    /// No certificate was given to trust.
    NoRoots,
    /// The issuers of client certificates are not usable.
    ClientCa(String),
    /// The system gives no random bytes, or ring lacks what TLS needs.
    Setup(Error),
}

impl From<PemError> for TlsConfigError {
    fn from(error: PemError) -> Self {
        Self::Pem(error)
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(error) => error.fmt(f),
            Self::BadRoot(file, error) => {
                write!(f, "{}: cannot be used as an issuer: {error}", file.display())
            }
            Self::NoRoots => f.write_str("no certificate to trust was given"),
            Self::ClientCa(detail) => {
                write!(f, "the issuers of client certificates are not usable: {detail}")
            }
            Self::Setup(error) => write!(f, "TLS cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for TlsConfigError {}

/// Makes the configuration of a TLS listener. Call it once per listener and share it: it holds the
/// keys of the session tickets.
pub fn server_config(options: ServerOptions) -> Result<Arc<ServerConfig>, TlsConfigError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsConfigError::Setup)?;
    let builder = match options.client_ca {
        None => builder.with_no_client_auth(),
        Some(issuers) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(client_roots(issuers)?, provider())
                .allow_unauthenticated()
                .build()
                .map_err(|error: VerifierBuilderError| {
                    TlsConfigError::ClientCa(error.to_string())
                })?,
        ),
    };
    let mut config = builder.with_cert_resolver(options.certificate);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new().map_err(TlsConfigError::Setup)?;
    config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
    // Early data can be replayed by anyone who saw it (RFC 8446 8): a mail would be sent twice.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn client_roots(
    issuers: Vec<CertificateDer<'static>>,
) -> Result<Arc<RootCertStore>, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for issuer in issuers {
        roots.add(issuer).map_err(|error| TlsConfigError::ClientCa(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(TlsConfigError::NoRoots);
    }
    Ok(Arc::new(roots))
}

/// Whom a next hop's certificate must come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The public web's certificate authorities (Mozilla's list, compiled in).
    WebPki,
    /// Every certificate in these PEM files, and no other.
    Files(Vec<PathBuf>),
}

/// How far a next hop's certificate is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The chain must lead to one of `roots`, be in date, and carry the host's name.
    Required {
        /// Trusted issuers.
        roots: Roots,
    },
    /// Encrypts to whoever answers: **keeps out listeners, not impostors.** An attacker who can put
    /// himself in the middle reads and changes the mail. For hops that would else be plaintext
    /// (RFC 7435), never in place of `Required`.
    Opportunistic,
}

/// Makes the configuration of outbound TLS. No client certificate, no ALPN. Sessions are remembered
/// in the configuration for resumption, so share it per destination policy.
pub fn client_config(verify: &Verify) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsConfigError::Setup)?;
    let builder = match verify {
        Verify::Required { roots } => builder.with_root_certificates(server_roots(roots)?),
        Verify::Opportunistic => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(UnverifiedServer::new(&provider()))),
    };
    Ok(Arc::new(builder.with_no_client_auth()))
}

fn server_roots(roots: &Roots) -> Result<RootCertStore, TlsConfigError> {
    let files = match roots {
        Roots::WebPki => {
            return Ok(RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()));
        }
        Roots::Files(files) => files,
    };
    let mut store = RootCertStore::empty();
    for file in files {
        for certificate in read_certificates(file)? {
            store.add(certificate).map_err(|error| TlsConfigError::BadRoot(file.clone(), error))?;
        }
    }
    if store.is_empty() {
        return Err(TlsConfigError::NoRoots);
    }
    Ok(store)
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    thread_local! {
        static PROVIDER: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    }
    PROVIDER.with(Arc::clone)
}

/// **Accepts every certificate, whoever made it and whatever name it carries.**
///
/// Only [`Verify::Opportunistic`] uses it. What it still checks is the handshake signature: the peer
/// holds the key of the certificate that it shows. That proves nothing about who the peer is.
#[derive(Debug)]
struct UnverifiedServer {
    algorithms: WebPkiSupportedAlgorithms,
}

impl UnverifiedServer {
    fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for UnverifiedServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

//! A verifier as a receiver runs it: mail-auth, which looks keys up at a resolver.
//!
//! It keeps no key: each verification asks the resolver, which may.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::{AuthenticatedMessage, DkimOutput, DkimResult, MessageAuthenticator};
use tokio::runtime::Runtime;

/// A verifier that asks one resolver.
pub struct Verifier {
    authenticator: MessageAuthenticator,
    runtime: Runtime,
}

/// What a receiver makes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every signature is good; holds the selectors.
    Good(Vec<String>),
    /// There is none.
    Unsigned,
    /// The resolver has no answer now: the receiver tries again later.
    Later(String),
    /// A signature is bad, or its key is gone or revoked; holds why.
    Bad(String),
}

impl Verifier {
    /// One that asks the resolver at this address.
    ///
    /// # Panics
    ///
    /// When the system has no runtime for it.
    pub fn new(resolver: SocketAddr) -> Self {
        let mut server = NameServerConfig::udp_and_tcp(resolver.ip());
        server.connections.iter_mut().for_each(|one| one.port = resolver.port());
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut options = ResolverOpts::default();
        options.cache_size = 0;
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self {
            authenticator: MessageAuthenticator::new(config, options).expect("a resolver"),
            runtime: runtime.expect("a runtime"),
        }
    }

    /// Verifies each signature of a message on its own: selector, and whether it is good, in the
    /// order of the fields.
    pub fn verify_each(&self, content: &[u8]) -> Vec<(String, bool)> {
        let Some(message) = AuthenticatedMessage::parse(content) else { return Vec::new() };
        let outputs = self.runtime.block_on(self.authenticator.verify_dkim(&message));
        outputs
            .iter()
            .filter_map(|output| Some((selector_of(output)?, *output.result() == DkimResult::Pass)))
            .collect()
    }

    /// Verifies a message as it arrived.
    pub fn verify(&self, content: &[u8]) -> Verdict {
        let Some(message) = AuthenticatedMessage::parse(content) else {
            return Verdict::Bad("it cannot be parsed".to_owned());
        };
        let outputs = self.runtime.block_on(self.authenticator.verify_dkim(&message));
        if outputs.is_empty() {
            return Verdict::Unsigned;
        }
        let mut selectors = Vec::new();
        for output in &outputs {
            match output.result() {
                DkimResult::Pass => selectors.extend(selector_of(output)),
                DkimResult::TempError(why) => return Verdict::Later(why.to_string()),
                other => {
                    let selector = selector_of(output).unwrap_or_default();
                    return Verdict::Bad(format!("selector {selector}: {other}"));
                }
            }
        }
        Verdict::Good(selectors)
    }
}

fn selector_of(output: &DkimOutput<'_>) -> Option<String> {
    output.signature().map(|signature| signature.s.clone())
}

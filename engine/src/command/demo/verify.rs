//! Verifies a DKIM signature with an implementation that is not ours: mail-auth.
//!
//! The key's record comes from memory. A question for any other record is answered with an error,
//! so nothing is ever asked of the network.

use std::borrow::Borrow;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::{
    AuthenticatedMessage, DkimResult, DnsError, Error, MessageAuthenticator, Parameters,
    ResolverCache, Txt,
};

/// The one TXT record there is.
pub(super) struct Record {
    /// Owner name, with a trailing dot.
    name: Box<str>,
    key: Arc<DomainKey>,
}

impl Record {
    /// Takes a record as it would be published.
    ///
    /// # Errors
    /// It is no DKIM key record.
    pub(super) fn new(name: &str, text: &str) -> Result<Self, String> {
        let key = DomainKey::parse(text.as_bytes())
            .map_err(|error| format!("mail-auth does not take the key's record: {error}"))?;
        Ok(Self { name: format!("{name}.").into(), key: Arc::new(key) })
    }

    /// Verifies a message that should carry exactly one signature; answers what was verified.
    ///
    /// # Errors
    /// Why it does not verify.
    pub(super) fn verify(&self, content: &[u8]) -> Result<String, String> {
        let resolver = MessageAuthenticator::new_cloudflare()
            .map_err(|error| format!("mail-auth cannot be set up: {error}"))?;
        let message = AuthenticatedMessage::parse(content).ok_or("mail-auth cannot parse it")?;
        let parameters = Parameters::new(&message).with_txt_cache(self);
        let mut verifying = pin!(resolver.verify_dkim(parameters));
        let Poll::Ready(outputs) = verifying.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        else {
            return Err("mail-auth asks for more than the key's record".to_owned());
        };
        let [output] = outputs.as_slice() else {
            return Err(format!("{} signatures instead of one", outputs.len()));
        };
        match (output.result(), output.signature()) {
            (DkimResult::Pass, Some(signature)) => {
                Ok(format!("d={} s={}, {} fields", signature.d, signature.s, signature.h.len()))
            }
            (result, _) => Err(format!("dkim={result}")),
        }
    }
}

impl ResolverCache<Box<str>, Txt> for Record {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.name.borrow() == name {
            return Some(Txt::DomainKey(Arc::clone(&self.key)));
        }
        let nobody = DnsError::Resolver("the demonstration asks nobody".to_owned());
        Some(Txt::Error(Error::Dns(nobody)))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

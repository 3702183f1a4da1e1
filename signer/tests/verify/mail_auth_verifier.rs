//! mail-auth, with the keys in its cache instead of DNS.

use std::borrow::Borrow;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::{
    AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt,
};
use postern_signer::canon::Canonicalization;

use crate::corpus::{BOTH, ED25519, PAIRS, RSA, messages, records, sign, spoil};

/// Answers every question from our records.
struct Keys(Vec<(String, Arc<DomainKey>)>);

impl Keys {
    fn published() -> Self {
        let parse = |text: String| Arc::new(DomainKey::parse(text.as_bytes()).expect("parses"));
        Self(records().map(|(name, text)| (format!("{name}."), parse(text))).into())
    }
}

impl ResolverCache<Box<str>, Txt> for Keys {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.0.iter().find(|(own, _)| {
            let own: Box<str> = own.as_str().into();
            own.borrow() == name
        });
        Some(Txt::DomainKey(found.expect("asks for our selectors").1.clone()))
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

#[test]
fn mail_auth_verifies() {
    let keys = Keys::published();
    for message in messages() {
        for pair in PAIRS {
            // Fixed in mail-auth 0.15 only, which needs a newer compiler.
            if message.ends_in_white_space() && pair.1 == Canonicalization::Relaxed {
                continue;
            }
            for signers in [RSA, ED25519, BOTH] {
                let what = format!("{} {pair:?} {signers:?}", message.name);
                let signed = sign(&message, pair, signers, 1_000);
                let results = verify(&keys, &signed);
                assert_eq!(results, vec![DkimResult::Pass; signers.len()], "{what}");
                for result in verify(&keys, &spoil(&signed)) {
                    assert_ne!(result, DkimResult::Pass, "{what}, spoiled");
                }
            }
        }
    }
}

#[test]
fn the_cutting_does_not_change_the_signature() {
    for message in messages() {
        let whole = sign(&message, PAIRS[0], BOTH, usize::MAX);
        for chunk_bytes in [1, 7, 64, 4_096] {
            assert_eq!(sign(&message, PAIRS[0], BOTH, chunk_bytes), whole, "{}", message.name);
        }
    }
}

#[test]
fn a_field_added_on_the_way_breaks_the_signature() {
    let keys = Keys::published();
    let signed = sign(&messages()[0], PAIRS[0], BOTH, 1_000);
    for (added, passes) in [
        ("From: mallory@example.com\r\n", false),
        ("Subject: other\r\n", false),
        ("Reply-To: mallory@example.com\r\n", false),
        ("Cc: mallory@example.com\r\n", false),
        ("Content-Type: text/html\r\n", false),
        ("Received: from x by y\r\n", true),
        ("X-Other: z\r\n", true),
    ] {
        // Above the other fields but below the signature, as a careless relay might.
        let end = signed.windows(7).position(|window| window == b"\r\nFrom:").expect("has one") + 2;
        let with = [&signed[..end], added.as_bytes(), &signed[end..]].concat();
        for result in verify(&keys, &with) {
            assert_eq!(result == DkimResult::Pass, passes, "{added}");
        }
    }
}

/// The result for each signature.
fn verify(keys: &Keys, content: &[u8]) -> Vec<DkimResult> {
    let resolver = MessageAuthenticator::new_cloudflare().expect("makes no connection yet");
    let message = AuthenticatedMessage::parse(content).expect("parses");
    let parameters = Parameters::new(&message).with_txt_cache(keys);
    let mut verifying = pin!(resolver.verify_dkim(parameters));
    let Poll::Ready(output) = verifying.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("everything is in the cache");
    };
    output.iter().map(|output| output.result().clone()).collect()
}

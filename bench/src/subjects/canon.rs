//! Canonicalising and hashing, as DKIM asks for, in chunks of a receive buffer: beside mail-auth on
//! the same chunks, and beside SHA-256 alone, below which nothing that hashes can go.

use std::hint::black_box;
use std::io;

use mail_auth::common::crypto::{Algorithm, HashContext, HashImpl, Sha256, SigningKey};
use mail_auth::common::headers::Writable;
use mail_auth::dkim::canonicalize::BodyHasher as PeerHasher;
use mail_auth::dkim::{DkimSigner, Done};
use postern_signer::canon::{BodyHasher, Canonicalization, ContentHasher, Tier};
use postern_signer::header::Profile;
use ring::digest;

use super::{Report, Subject};
use crate::case::{Case, Unit};
use crate::input;
use crate::rig::cpu::thread_cost_ns;
use crate::rig::place;
use crate::rounds::Effort;

/// See the module.
pub(super) const SUBJECT: Subject =
    Subject { name: "canon", about: "canonicalise a body and hash it, as DKIM asks", run };

/// A relay sees a body in pieces of its receive buffers.
const CHUNK: usize = 16 << 10;
const BODY: usize = 1 << 20;
const PASSES: u64 = 60;
const MESSAGE: usize = 4 << 10;
const MESSAGES: u64 = 20_000;

/// 1.5 GB/s, in nanoseconds a KiB.
const GOAL_NS_PER_KIB: f64 = 1024.0 / 1.5;
const GOAL_US_PER_MESSAGE: f64 = 5.0;

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    place::pin(place::SERVER_CORE);
    report.note(&format!("the tier is {}", Tier::best().as_str()));
    let bodies = [
        ("text", input::text(BODY), true),
        ("base64", input::base64(BODY), true),
        ("every space double", input::double_spaced(BODY), false),
        ("SP CR repeated", input::space_cr(BODY), false),
    ];
    for (what, body, has_goal) in &bodies {
        let goal = has_goal.then_some(GOAL_NS_PER_KIB);
        body_cases(effort, report, Canonicalization::Relaxed, (what, body), goal)?;
    }
    for (what, body, has_goal) in &bodies[..2] {
        let goal = has_goal.then_some(GOAL_NS_PER_KIB);
        body_cases(effort, report, Canonicalization::Simple, (what, body), goal)?;
    }
    for (what, body, _) in bodies.iter().filter(|(what, ..)| *what != "base64") {
        tier_cases(effort, report, (what, body))?;
    }
    message_case(effort, report)
}

/// One body beside both peers; ours runs once, so that both ratios are of one figure.
fn body_cases(
    effort: &Effort,
    report: &mut dyn Report,
    canon: Canonicalization,
    (what, body): (&str, &[u8]),
    goal: Option<f64>,
) -> io::Result<()> {
    let mut ours = || Ok(ns_per_kib(effort, || hash(canon, body)));
    let mut theirs = || Ok(ns_per_kib(effort, || peer_hash(canon, body)));
    let mut alone = || Ok(ns_per_kib(effort, || sha256(body)));
    let medians = effort.medians(&mut [&mut ours, &mut theirs, &mut alone])?;
    let input = format!("1 MiB {what}, {canon}");
    for (name, figure) in [("mail-auth", medians[1]), ("SHA-256 alone", medians[2])] {
        let case = Case::new(SUBJECT.name, &*input, medians[0], Unit::NanosPerKib);
        let case = case.beside(name, Some(figure));
        report.case(if let Some(goal) = goal { case.goal(goal) } else { case });
    }
    Ok(())
}

/// Each tier beside the scalar twin.
fn tier_cases(
    effort: &Effort,
    report: &mut dyn Report,
    (what, body): (&str, &[u8]),
) -> io::Result<()> {
    let mut scalar = || Ok(ns_per_kib(effort, || tier_hash(Tier::Scalar, body)));
    let mut avx2 = || Ok(ns_per_kib(effort, || tier_hash(Tier::Avx2, body)));
    let mut avx512 = || Ok(ns_per_kib(effort, || tier_hash(Tier::Avx512, body)));
    let medians = effort.medians(&mut [&mut scalar, &mut avx2, &mut avx512])?;
    for (tier, figure) in [(Tier::Avx2, medians[1]), (Tier::Avx512, medians[2])] {
        if tier.is_available() {
            let input = format!("1 MiB {what}, relaxed, {}", tier.as_str());
            let case = Case::new(SUBJECT.name, input, figure, Unit::NanosPerKib);
            report.case(case.beside("scalar twin", Some(medians[0])));
        }
    }
    Ok(())
}

/// All that signing a message costs but the signature: body hash, header canonicalisation, the
/// field and the header hash.
fn message_case(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    let message = input::text_message(MESSAGE);
    let count = effort.messages(MESSAGES);
    let (profile, peer) = (profile()?, peer_signer());
    let mut ours = || {
        let work = || (0..count).for_each(|_| consume(header_hash(&profile, &message)));
        Ok(super::micros_each(thread_cost_ns(work), count))
    };
    let mut theirs = || {
        let work = || (0..count).for_each(|_| consume(peer.sign(&message)));
        Ok(super::micros_each(thread_cost_ns(work), count))
    };
    let medians = effort.medians(&mut [&mut ours, &mut theirs])?;
    let input = "message 4 KiB, relaxed/relaxed";
    let case = Case::new(SUBJECT.name, input, medians[0], Unit::MicrosPerMessage);
    report.case(case.beside("mail-auth", Some(medians[1])).goal(GOAL_US_PER_MESSAGE));
    Ok(())
}

fn ns_per_kib<T>(effort: &Effort, mut pass: impl FnMut() -> T) -> f64 {
    let passes = effort.messages(PASSES);
    let work = || (0..passes).for_each(|_| consume(pass()));
    super::each(thread_cost_ns(work), passes * (BODY as u64 >> 10))
}

/// Keeps the compiler from leaving out what made it.
fn consume<T>(made: T) {
    black_box(&made);
}

/// Hashes a body as the signer does.
pub fn hash(canon: Canonicalization, body: &[u8]) -> Vec<u8> {
    let mut hasher = BodyHasher::new(canon);
    body.chunks(CHUNK).for_each(|chunk| hasher.update(chunk));
    hasher.finish().digest().to_vec()
}

/// Hashes it as the peer does.
pub fn peer_hash(canon: Canonicalization, body: &[u8]) -> Vec<u8> {
    let mut hasher = PeerHasher::new(Sha256::hasher(), peer_canonicalization(canon), 0);
    body.chunks(CHUNK).for_each(|chunk| hasher.write(chunk));
    hasher.finish().0.complete().as_ref().to_vec()
}

fn peer_canonicalization(canon: Canonicalization) -> mail_auth::dkim::Canonicalization {
    match canon {
        Canonicalization::Relaxed => mail_auth::dkim::Canonicalization::Relaxed,
        Canonicalization::Simple => mail_auth::dkim::Canonicalization::Simple,
    }
}

fn tier_hash(tier: Tier, body: &[u8]) -> Option<Vec<u8>> {
    let mut hasher = BodyHasher::with_tier(Canonicalization::Relaxed, tier)?;
    body.chunks(CHUNK).for_each(|chunk| hasher.update(chunk));
    Some(hasher.finish().digest().to_vec())
}

fn sha256(body: &[u8]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    body.chunks(CHUNK).for_each(|chunk| context.update(chunk));
    context.finish().as_ref().to_vec()
}

fn profile() -> io::Result<Profile> {
    let domain = "one.example".parse().map_err(io::Error::other)?;
    let selector = "2026h2".parse().map_err(io::Error::other)?;
    Ok(Profile::new(domain, selector))
}

/// The header hash of a message that arrives whole.
fn header_hash(profile: &Profile, message: &[u8]) -> Option<[u8; 32]> {
    let mut hasher = ContentHasher::new(Canonicalization::Relaxed);
    hasher.update(message);
    let content = hasher.finish();
    let section = usize::try_from(content.header_bytes).ok()?;
    let unsigned = profile.prepare(&[&message[..section]], &content.body, 1_790_000_000);
    unsigned.ok().map(|unsigned| unsigned.digest())
}

/// A signer of the peer that signs the same fields with [`HeaderHash`].
fn peer_signer() -> DkimSigner<HeaderHash, Done> {
    DkimSigner::from_key(HeaderHash)
        .domain("one.example")
        .selector("2026h2")
        .headers(["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"])
        .header_canonicalization(mail_auth::dkim::Canonicalization::Relaxed)
        .body_canonicalization(mail_auth::dkim::Canonicalization::Relaxed)
}

/// In place of a key: what would be signed is hashed, and that is all.
struct HeaderHash;

impl SigningKey for HeaderHash {
    type Hasher = Sha256;

    fn sign(&self, input: impl Writable) -> mail_auth::Result<Vec<u8>> {
        Ok(self.hash(input).as_ref().to_vec())
    }

    fn algorithm(&self) -> Algorithm {
        Algorithm::RsaSha256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_find_the_same_hash() {
        let bodies = [
            input::text(50_000),
            input::base64(50_000),
            input::double_spaced(50_000),
            input::space_cr(50_000),
        ];
        for body in &bodies[..3] {
            for canon in [Canonicalization::Relaxed, Canonicalization::Simple] {
                assert_eq!(hash(canon, body), peer_hash(canon, body));
            }
        }
        for body in &bodies {
            for tier in Tier::ALL.into_iter().filter(|tier| tier.is_available()) {
                let ours = hash(Canonicalization::Relaxed, body);
                assert_eq!(tier_hash(tier, body), Some(ours));
            }
        }
    }

    #[test]
    fn both_prepare_a_message() {
        let message = input::text_message(4096);
        assert!(header_hash(&profile().expect("good names"), &message).is_some());
        assert_eq!(peer_signer().sign(&message).expect("a signature").b.len(), 32);
    }
}

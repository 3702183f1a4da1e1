//! Canonicalising a body and hashing it, as DKIM asks for, in chunks of a receive buffer; beside
//! mail-auth's hasher on the same chunks.

use std::io;

use mail_auth::common::crypto::{HashContext, Sha256};
use postern_signer::canon::{BodyHasher, Canonicalization};

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
const PASSES: u64 = 100;

fn run(effort: &Effort, report: &mut dyn Report) -> io::Result<()> {
    place::pin(place::SERVER_CORE);
    let bodies = [("text", input::text(BODY)), ("base64", input::base64(BODY))];
    for (name, canon) in
        [("relaxed", Canonicalization::Relaxed), ("simple", Canonicalization::Simple)]
    {
        for (what, body) in &bodies {
            let kib = effort.messages(PASSES) * (BODY as u64 >> 10);
            let passes = || 0..effort.messages(PASSES);
            let mut ours = || {
                let work = || passes().for_each(|_| drop(std::hint::black_box(hash(canon, body))));
                Ok(super::each(thread_cost_ns(work), kib))
            };
            let mut theirs = || {
                let work =
                    || passes().for_each(|_| drop(std::hint::black_box(peer_hash(canon, body))));
                Ok(super::each(thread_cost_ns(work), kib))
            };
            let medians = effort.medians(&mut [&mut ours, &mut theirs])?;
            let input = format!("1 MiB {what}, {name}, chunks of 16 KiB");
            let case = Case::new(SUBJECT.name, input, medians[0], Unit::NanosPerKib);
            report.case(case.beside("mail-auth", Some(medians[1])));
        }
    }
    Ok(())
}

/// Hashes a body as the signer does.
pub fn hash(canon: Canonicalization, body: &[u8]) -> Vec<u8> {
    let mut hasher = BodyHasher::new(canon);
    body.chunks(CHUNK).for_each(|chunk| hasher.update(chunk));
    hasher.finish().digest().to_vec()
}

/// Hashes it as the peer does.
pub fn peer_hash(canon: Canonicalization, body: &[u8]) -> Vec<u8> {
    use mail_auth::common::crypto::HashImpl;
    use mail_auth::dkim::canonicalize::BodyHasher as PeerHasher;

    let canon = match canon {
        Canonicalization::Relaxed => mail_auth::dkim::Canonicalization::Relaxed,
        Canonicalization::Simple => mail_auth::dkim::Canonicalization::Simple,
    };
    let mut hasher = PeerHasher::new(Sha256::hasher(), canon, 0);
    body.chunks(CHUNK).for_each(|chunk| hasher.write(chunk));
    hasher.finish().0.complete().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_find_the_same_hash() {
        for body in [input::text(50_000), input::base64(50_000)] {
            for canon in [Canonicalization::Relaxed, Canonicalization::Simple] {
                assert_eq!(hash(canon, &body), peer_hash(canon, &body));
            }
        }
    }
}

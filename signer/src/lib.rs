//! DKIM signing (RFC 6376, RFC 8301) over chunks as they arrive.
//!
//! A message is signed in two steps, which may lie minutes and a restart apart:
//!
//! 1. While bytes arrive, [`canon::ContentHasher`] (or [`canon::BodyHasher`], where the caller
//!    knows where the body begins) canonicalises and hashes them in place. What is kept is one
//!    [`canon::BodyHash`] of 33 bytes.
//! 2. When the message is about to leave, [`header::Profile::prepare`] reads its header section in
//!    place and yields an [`header::Unsigned`] field; its canonical bytes join a batch of a
//!    [`batch::BatchSigner`]; [`header::Unsigned::complete`] gives the `DKIM-Signature` field to
//!    put in front of the message.
//!
//! Nothing here assumes one signature per message: a second domain or algorithm is a second
//! profile over the same body hash.
//!
//! ```
//! use postern_signer::batch::{BatchSigner, Input, Job, KeyId, RingSigner, Ticket};
//! use postern_signer::canon::{Canonicalization, ContentHasher};
//! use postern_signer::header::Profile;
//! use postern_signer::key::{RsaPrivateKey, OsRandom};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = RsaPrivateKey::generate(2048, &mut OsRandom::new())?;
//! let mut signer = RingSigner::new();
//! signer.load(KeyId(1), &key)?;
//!
//! let mut hasher = ContentHasher::new(Canonicalization::Relaxed);
//! hasher.update(b"From: a@example.org\r\nSubject: hi\r\n");
//! hasher.update(b"\r\nhello\r\n");
//! let content = hasher.finish();
//!
//! let profile = Profile::new("example.org".parse()?, "2026h2".parse()?);
//! let header_section: &[&[u8]] = &[b"From: a@example.org\r\nSubject: hi\r\n"];
//! let unsigned = profile.prepare(header_section, &content.body, 1_790_000_000)?;
//!
//! let mut done = Vec::new();
//! let job = Job { ticket: Ticket(7), key: KeyId(1), input: Input::Canonical(unsigned.input()) };
//! signer.sign(&[job], &mut done);
//! let signed = done.pop().ok_or("one job gives one result")?;
//! let field = unsigned.complete(signed.result?.as_bytes());
//! assert!(field.starts_with(b"DKIM-Signature: v=1; a=rsa-sha256;"));
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: pure (no I/O, no clock, no thread; the one exception, operating-system randomness
//! for making and blinding keys, is [`key::OsRandom`]); canonicalisation does not depend on how the bytes were
//! cut; `From` is always signed and always oversigned; `l=` is never written; keys under 2048 bits
//! cannot be loaded.
//!
//! It must never log, format or compare key bytes, and never sign with the `rsa` crate, which
//! makes keys here and nothing else (RUSTSEC-2023-0071).

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod batch;
pub mod canon;
mod digest;
pub mod dns;
pub mod fuzz;
pub mod header;
pub mod key;
#[allow(unsafe_code, reason = "pages of its own for secrets")]
mod memory;
pub mod name;

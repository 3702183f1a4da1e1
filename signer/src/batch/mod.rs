//! RSA signatures in batches: one trait for every backend.
//!
//! A backend takes whatever waits, of any mix of keys, and gives each job's signature back under
//! its ticket. It owns the prepared keys; whoever hands in jobs knows only their ids, so that the
//! data plane never holds key material.
//!
//! Backends: [`RingSigner`], one message after another, on any CPU. The trait is shaped for
//! backends that sign several messages in one pass ([`BatchSigner::lanes`]) and for such that take
//! a digest instead of the bytes ([`BatchSigner::takes_digests`]).
//!
//! Every signature that leaves a backend has been checked against the public key by it: a faulty
//! RSA-CRT computation would give the key away.

#[cfg(feature = "fips")]
mod fips;
mod guard;
mod lanes;
mod one_by_one;
pub mod policy;
mod ring;
mod select;

#[cfg(test)]
mod tests;

use std::fmt;

use crate::digest::sha256;
use crate::key::{KeyRefused, RsaPrivateKey, RsaPublicKey};

pub use self::lanes::{ifma, portable};
pub use self::ring::RingSigner;
pub use self::select::{Backend, BackendRefused, SignerOptions, open};

/// Names a key that a backend has loaded. Chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u64);

impl KeyId {
    /// Returns the id that follows from the key itself: 64 bits of the SHA-256 of its modulus. A
    /// job that waits can then never be signed by a key that took another's place.
    pub(crate) fn of(key: &RsaPublicKey) -> Self {
        let hash = sha256(key.modulus());
        let (first, _) = hash.split_first_chunk().expect("a SHA-256 has 32 bytes");
        Self(u64::from_be_bytes(*first))
    }
}

/// Names a job. Chosen by the caller; comes back with the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One signature to make: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 8.2).
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Comes back with the signature.
    pub ticket: Ticket,
    /// Which key signs.
    pub key: KeyId,
    /// What is signed.
    pub input: Input<'a>,
}

/// What a job signs.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The canonical header bytes, which the backend hashes. Every backend takes these.
    Canonical(&'a [u8]),
    /// Their SHA-256 digest, for backends that [take it](BatchSigner::takes_digests).
    Digest([u8; 32]),
}

/// An [`Input`] of its own, which may wait and travel.
#[derive(Clone, Debug)]
pub enum OwnedInput {
    /// As [`Input::Canonical`].
    Canonical(Box<[u8]>),
    /// As [`Input::Digest`].
    Digest([u8; 32]),
}

impl OwnedInput {
    /// Keeps canonical bytes: as their digest, where the backend takes it.
    pub fn of_canonical(bytes: &[u8], takes_digests: bool) -> Self {
        if takes_digests { Self::Digest(sha256(bytes)) } else { Self::Canonical(bytes.into()) }
    }

    /// Returns what a job is given.
    pub fn as_input(&self) -> Input<'_> {
        match self {
            Self::Canonical(bytes) => Input::Canonical(bytes),
            Self::Digest(digest) => Input::Digest(*digest),
        }
    }
}

impl From<Input<'_>> for OwnedInput {
    fn from(input: Input<'_>) -> Self {
        match input {
            Input::Canonical(bytes) => Self::Canonical(bytes.into()),
            Input::Digest(digest) => Self::Digest(digest),
        }
    }
}

/// The outcome of one job.
#[derive(Debug)]
pub struct Signed {
    /// That of the job.
    pub ticket: Ticket,
    /// The signature, or why there is none.
    pub result: Result<Signature, SignFault>,
}

/// One RSA signature, as long as its key's modulus.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(Box<[u8]>);

impl Signature {
    /// Wraps what a backend computed and checked.
    pub(crate) fn new(bytes: Box<[u8]>) -> Self {
        Self(bytes)
    }

    /// Returns the signature, big-endian.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.0.len())
    }
}

/// Signs batches of jobs.
///
/// `Send`, so that a backend can be made on one thread and moved to a signing core.
pub trait BatchSigner: Send {
    /// Returns the backend's name, for the log and `status`.
    fn name(&self) -> &'static str;

    /// Returns how many messages one pass signs; a multiple of it is the best batch.
    fn lanes(&self) -> usize;

    /// Whether [`Input::Digest`] is taken.
    fn takes_digests(&self) -> bool;

    /// Prepares a key and keeps it under `id`, in place of what was there.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`], where this backend cannot use a key of this kind.
    fn load(&mut self, id: KeyId, key: &RsaPrivateKey) -> Result<(), KeyRefused>;

    /// Forgets a key; jobs that name it are answered with [`SignFault::UnknownKey`].
    fn unload(&mut self, id: KeyId);

    /// Does all jobs and appends one [`Signed`] for each to `done`, in the order of `jobs`.
    fn sign(&mut self, jobs: &[Job<'_>], done: &mut Vec<Signed>);

    /// Takes jobs for a pass that [`BatchSigner::step`] then does. What they sign is copied or
    /// hashed here, so nothing is borrowed afterwards.
    ///
    /// The best pass has [`BatchSigner::lanes`] jobs; more are taken and done in order. A pass that
    /// is under way takes no more: the caller steps to its end first.
    fn begin(&mut self, jobs: &[Job<'_>]);

    /// Does a slice of the pass that was begun and returns whether it has ended, which it also has
    /// where none was begun. Results are appended to `done` in the order of the jobs, at the latest
    /// at the end.
    fn step(&mut self, done: &mut Vec<Signed>) -> bool;

    /// Whether a slice is short enough (at most 50 us at 3 GHz) to stand between two turns of an
    /// event loop. Where it is not, a slice is one whole signature, and signing belongs on a thread
    /// of its own.
    fn has_short_slices(&self) -> bool;

    /// What was done so far.
    fn stats(&self) -> Stats;
}

/// What a signer has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Signatures given out.
    pub signed: u64,
    /// Passes done; `signed / passes` is how full they were.
    pub passes: u64,
    /// Signatures that did not verify and were discarded: faulty memory or CPU.
    pub faults: u64,
    /// Whether all key and working memory is kept from swap and core dumps.
    pub is_locked: bool,
    /// The backend that was taken out of use after such faults, where one was.
    pub quarantined: Option<&'static str>,
}

/// Why a job has no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignFault {
    /// No key is loaded under this id; a key withdrawn while the job waited is the usual cause.
    UnknownKey,
    /// This backend signs bytes, not digests: a mistake of the caller.
    DigestNotTaken,
    /// The computed signature did not verify and was discarded: faulty memory or CPU.
    Check,
    /// The operating system gave no randomness to blind the key with.
    Randomness,
}

impl fmt::Display for SignFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKey => "no key is loaded under this id",
            Self::DigestNotTaken => "this backend signs bytes, not digests",
            Self::Randomness => "the operating system gave no randomness",
            Self::Check => "the signature did not verify and was discarded",
        })
    }
}

impl std::error::Error for SignFault {}

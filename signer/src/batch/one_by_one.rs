//! Backends that sign one message after another with a library.
//!
//! A pass is a queue of what was begun, and a slice is one signature of it.

use std::collections::{BTreeMap, VecDeque};

use super::{
    BatchSigner, Input, Job, KeyId, OwnedInput, SignFault, Signature, Signed, Stats, Ticket,
};
use crate::key::{KeyRefused, RsaPrivateKey};

/// What a library does for one signature. It checks each result against the public key.
pub trait Library: Send + Default {
    /// For the log and `status`.
    const NAME: &'static str;
    /// Whether [`Input::Digest`] is taken.
    const TAKES_DIGESTS: bool;
    /// A key as the library wants it.
    type Key: Send;

    /// Prepares a key.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`], where the library cannot use it.
    fn prepare(key: &RsaPrivateKey) -> Result<Self::Key, KeyRefused>;

    /// Returns the length of the key's modulus, and so of its signatures, in bytes.
    fn modulus_bytes(key: &Self::Key) -> usize;

    /// Fills in a signature.
    ///
    /// # Errors
    ///
    /// [`SignFault::Check`] where the result did not verify; [`SignFault::DigestNotTaken`].
    fn sign(
        &self,
        key: &Self::Key,
        input: Input<'_>,
        signature: &mut [u8],
    ) -> Result<(), SignFault>;
}

/// Signs with a [`Library`].
pub struct OneByOne<L: Library> {
    library: L,
    keys: BTreeMap<KeyId, L::Key>,
    /// The pass under way: what is left of it.
    begun: VecDeque<Begun>,
    stats: Stats,
}

/// A job of a pass under way, with what it signs.
struct Begun {
    ticket: Ticket,
    key: KeyId,
    input: OwnedInput,
}

impl<L: Library> OneByOne<L> {
    /// Makes a backend without keys.
    pub fn new() -> Self {
        Self {
            library: L::default(),
            keys: BTreeMap::new(),
            begun: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    fn sign_one(&mut self, key: KeyId, input: Input<'_>) -> Result<Signature, SignFault> {
        if matches!(input, Input::Digest(_)) && !L::TAKES_DIGESTS {
            return Err(SignFault::DigestNotTaken);
        }
        let key = self.keys.get(&key).ok_or(SignFault::UnknownKey)?;
        let mut signature = vec![0; L::modulus_bytes(key)].into_boxed_slice();
        self.stats.passes += 1;
        match self.library.sign(key, input, &mut signature) {
            Ok(()) => self.stats.signed += 1,
            Err(fault) => {
                self.stats.faults += 1;
                return Err(fault);
            }
        }
        Ok(Signature::new(signature))
    }
}

impl<L: Library> Default for OneByOne<L> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: Library> BatchSigner for OneByOne<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn lanes(&self) -> usize {
        1
    }

    fn takes_digests(&self) -> bool {
        L::TAKES_DIGESTS
    }

    fn load(&mut self, id: KeyId, key: &RsaPrivateKey) -> Result<(), KeyRefused> {
        self.keys.insert(id, L::prepare(key)?);
        Ok(())
    }

    fn unload(&mut self, id: KeyId) {
        self.keys.remove(&id);
    }

    fn sign(&mut self, jobs: &[Job<'_>], done: &mut Vec<Signed>) {
        done.reserve(jobs.len());
        for job in jobs {
            let result = self.sign_one(job.key, job.input);
            done.push(Signed { ticket: job.ticket, result });
        }
    }

    fn begin(&mut self, jobs: &[Job<'_>]) {
        self.begun.extend(jobs.iter().map(|job| Begun {
            ticket: job.ticket,
            key: job.key,
            input: job.input.into(),
        }));
    }

    fn step(&mut self, done: &mut Vec<Signed>) -> bool {
        if let Some(Begun { ticket, key, input }) = self.begun.pop_front() {
            let result = self.sign_one(key, input.as_input());
            done.push(Signed { ticket, result });
        }
        self.begun.is_empty()
    }

    fn has_short_slices(&self) -> bool {
        false
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

//! A batched backend under watch, with `ring` behind it.
//!
//! What the batched backend gives is trusted as far as it proves itself:
//!
//! - before its first use it must give the known answers of [`self_test`];
//! - the first signature of each key and one in [`SAMPLED`] of the others is verified with `ring`
//!   and the public key, besides the backend's own check of every one;
//! - a signature that fails either check is not given out: `ring` makes it again, and the fault is
//!   counted;
//! - after [`FAULTS_MAX`] faults the backend is taken out of use, its keys are wiped, and `ring`
//!   signs from then on.
//!
//! Keys that the batched backend is not made for (other lengths than 2048 bits) are `ring`'s from
//! the start. `ring` takes no digests, so the bytes of a job are kept until its pass has ended.
//!
//! `ring` has no short slices: while it stands in, a slice is one signature of half a millisecond.

use std::collections::{BTreeMap, VecDeque};

use super::{
    BatchSigner, Input, Job, KeyId, RingSigner, SignFault, Signature, Signed, Stats, Ticket,
};
use crate::key::{KeyRefused, RsaPrivateKey};

/// See the module.
pub(super) struct Guard {
    /// The batched backend, until it is taken out of use.
    batched: Option<Box<dyn BatchSigner>>,
    ring: RingSigner,
    keys: BTreeMap<KeyId, Held>,
    /// Jobs that were begun, in order.
    jobs: VecDeque<Begun>,
    /// Number of the first of `jobs`; a job's number is its ticket at the batched backend.
    first: u64,
    /// Signatures until the next is verified.
    until_sample: u32,
    /// What was signed by a backend that is gone, and what was found wrong.
    stats: Stats,
}

struct Held {
    key: RsaPrivateKey,
    is_batched: bool,
    is_at_ring: bool,
    /// No signature of this key has been verified yet.
    is_new: bool,
}

struct Begun {
    ticket: Ticket,
    key: KeyId,
    bytes: Box<[u8]>,
    state: State,
}

enum State {
    /// The batched backend has it.
    Batched,
    /// `ring` must do it.
    Ring,
    Done(Result<Signature, SignFault>),
}

impl Guard {
    /// Watches a backend that has passed its self-test.
    pub(super) fn over(batched: Box<dyn BatchSigner>) -> Self {
        Self::new(Some(batched), Stats::default())
    }

    /// Signs with `ring` alone, where a backend did not pass its self-test.
    pub(super) fn without(failed: &'static str) -> Self {
        Self::new(None, Stats { faults: 1, quarantined: Some(failed), ..Stats::default() })
    }

    fn new(batched: Option<Box<dyn BatchSigner>>, stats: Stats) -> Self {
        Self {
            batched,
            ring: RingSigner::new(),
            keys: BTreeMap::new(),
            jobs: VecDeque::new(),
            first: 0,
            until_sample: 0,
            stats,
        }
    }

    /// Takes what the batched backend has done.
    fn take(&mut self, results: Vec<Signed>) {
        for Signed { ticket, result } in results {
            let index = usize::try_from(ticket.0 - self.first).unwrap_or(usize::MAX);
            let Some(job) = self.jobs.get_mut(index) else { continue };
            let is_due = Self::is_sample_due(&mut self.until_sample, self.keys.get_mut(&job.key));
            job.state = match (result, self.keys.get(&job.key)) {
                (Ok(signature), Some(held)) if is_due => {
                    if held.key.public().verifies(&job.bytes, signature.as_bytes()) {
                        State::Done(Ok(signature))
                    } else {
                        self.stats.faults += 1;
                        State::Ring
                    }
                }
                // The backend has counted this one.
                (Err(SignFault::Check), _) => State::Ring,
                (result, _) => State::Done(result),
            };
        }
        if self.stats().faults >= FAULTS_MAX {
            self.quarantine();
        }
    }

    fn is_sample_due(until_sample: &mut u32, held: Option<&mut Held>) -> bool {
        let is_first = held.is_some_and(|held| std::mem::take(&mut held.is_new));
        let is_due = *until_sample == 0 || is_first;
        *until_sample = if is_due { SAMPLED - 1 } else { *until_sample - 1 };
        is_due
    }

    fn quarantine(&mut self) {
        let Some(batched) = self.batched.take() else { return };
        self.stats =
            Stats { quarantined: Some(batched.name()), ..sum(self.stats, batched.stats()) };
        for job in &mut self.jobs {
            if matches!(job.state, State::Batched) {
                job.state = State::Ring;
            }
        }
        self.keys.values_mut().for_each(|held| held.is_batched = false);
    }

    /// Does the first of the jobs that `ring` must do; false where there is none.
    fn step_ring(&mut self) -> bool {
        let next = self.jobs.iter_mut().find(|job| matches!(job.state, State::Ring));
        let Some(job) = next else { return false };
        job.state = State::Done(match self.keys.get_mut(&job.key) {
            None => Err(SignFault::UnknownKey),
            Some(held) => match held.hand_to(&mut self.ring, job.key) {
                Err(_) => Err(SignFault::UnknownKey),
                Ok(()) => {
                    let again = Job {
                        ticket: job.ticket,
                        key: job.key,
                        input: Input::Canonical(&job.bytes),
                    };
                    let mut done = Vec::with_capacity(1);
                    self.ring.sign(&[again], &mut done);
                    done.pop().map_or(Err(SignFault::UnknownKey), |signed| signed.result)
                }
            },
        });
        true
    }

    /// Gives out what is done, as far as nothing before it is missing.
    fn flush(&mut self, done: &mut Vec<Signed>) -> bool {
        while let Some(Begun { state: State::Done(_), .. }) = self.jobs.front() {
            let Some(Begun { ticket, state: State::Done(result), .. }) = self.jobs.pop_front()
            else {
                break;
            };
            self.first += 1;
            done.push(Signed { ticket, result });
        }
        self.jobs.is_empty()
    }
}

impl Held {
    /// `ring` prepares a key when it first needs it.
    fn hand_to(&mut self, ring: &mut RingSigner, id: KeyId) -> Result<(), KeyRefused> {
        if !self.is_at_ring {
            ring.load(id, &self.key)?;
            self.is_at_ring = true;
        }
        Ok(())
    }
}

impl BatchSigner for Guard {
    fn name(&self) -> &'static str {
        self.batched.as_ref().map_or(self.ring.name(), |batched| batched.name())
    }

    fn lanes(&self) -> usize {
        self.batched.as_ref().map_or(1, |batched| batched.lanes())
    }

    fn takes_digests(&self) -> bool {
        false
    }

    fn load(&mut self, id: KeyId, key: &RsaPrivateKey) -> Result<(), KeyRefused> {
        self.unload(id);
        let mut held =
            Held { key: key.clone(), is_batched: false, is_at_ring: false, is_new: true };
        match self.batched.as_mut().map(|batched| batched.load(id, key)) {
            Some(Ok(())) => held.is_batched = true,
            Some(Err(KeyRefused::Unsupported)) | None => held.hand_to(&mut self.ring, id)?,
            Some(Err(refused)) => return Err(refused),
        }
        self.keys.insert(id, held);
        Ok(())
    }

    fn unload(&mut self, id: KeyId) {
        self.keys.remove(&id);
        self.ring.unload(id);
        if let Some(batched) = &mut self.batched {
            batched.unload(id);
        }
    }

    fn sign(&mut self, jobs: &[Job<'_>], done: &mut Vec<Signed>) {
        self.begin(jobs);
        while !self.step(done) {}
    }

    fn begin(&mut self, jobs: &[Job<'_>]) {
        for job in jobs {
            let number = self.first + self.jobs.len() as u64;
            let (bytes, mut state) = match job.input {
                Input::Canonical(bytes) => (bytes, State::Ring),
                Input::Digest(_) => (&[][..], State::Done(Err(SignFault::DigestNotTaken))),
            };
            let is_batched = self.keys.get(&job.key).is_some_and(|held| held.is_batched);
            if let (State::Ring, true, Some(batched)) = (&state, is_batched, &mut self.batched) {
                batched.begin(&[Job { ticket: Ticket(number), ..*job }]);
                state = State::Batched;
            }
            self.jobs.push_back(Begun {
                ticket: job.ticket,
                key: job.key,
                bytes: bytes.into(),
                state,
            });
        }
    }

    fn step(&mut self, done: &mut Vec<Signed>) -> bool {
        let is_batched_busy = self.jobs.iter().any(|job| matches!(job.state, State::Batched));
        match &mut self.batched {
            Some(batched) if is_batched_busy => {
                let mut results = Vec::new();
                batched.step(&mut results);
                if !results.is_empty() {
                    self.take(results);
                }
            }
            _ => _ = self.step_ring(),
        }
        self.flush(done)
    }

    fn has_short_slices(&self) -> bool {
        self.batched.as_ref().is_some_and(|batched| batched.has_short_slices())
    }

    fn stats(&self) -> Stats {
        let ring = self.ring.stats();
        let batched = self.batched.as_ref().map_or(Stats::default(), |batched| batched.stats());
        let is_locked = batched.is_locked && self.keys.values().all(|held| !held.is_at_ring);
        Stats { is_locked, ..sum(self.stats, sum(batched, ring)) }
    }
}

/// Adds counts up; what is not a count is the first's.
fn sum(a: Stats, b: Stats) -> Stats {
    Stats {
        signed: a.signed + b.signed,
        passes: a.passes + b.passes,
        faults: a.faults + b.faults,
        ..a
    }
}

/// Whether a backend gives the known answers, four at a time. The vectors were made with OpenSSL.
pub(super) fn self_test(signer: &mut dyn BatchSigner) -> bool {
    let Ok(key) = RsaPrivateKey::from_pkcs1_der(SELF_TEST_KEY) else { return false };
    if signer.load(SELF_TEST_ID, &key).is_err() {
        return false;
    }
    let messages = [0, 1, 2, 3].map(|number| format!("self-test {number}"));
    let jobs = (0u64..).zip(&messages).map(|(number, message)| Job {
        ticket: Ticket(number),
        key: SELF_TEST_ID,
        input: Input::Canonical(message.as_bytes()),
    });
    let mut done = Vec::new();
    signer.sign(&jobs.collect::<Vec<_>>(), &mut done);
    signer.unload(SELF_TEST_ID);
    let expected = SELF_TEST_SIGNATURES.chunks_exact(256);
    done.len() == messages.len()
        && done.iter().zip(expected).all(|(signed, expected)| {
            signed.result.as_ref().is_ok_and(|signature| signature.as_bytes() == expected)
        })
}

/// Taken back before anybody else loads a key.
const SELF_TEST_ID: KeyId = KeyId(u64::MAX);

/// A key that signs nothing else.
const SELF_TEST_KEY: &[u8] = include_bytes!("vectors/self-test.key.der");

/// What it makes of `self-test 0` to `self-test 3`.
const SELF_TEST_SIGNATURES: &[u8] = include_bytes!("vectors/self-test.signatures");

/// One signature in so many is verified independently: 0.3 us each, spread.
const SAMPLED: u32 = 64;

/// A backend with so many faults is not used any more. One can be a cosmic ray.
const FAULTS_MAX: u64 = 3;

//! Drives a kernel: jobs into slots, a pass in slices, signatures out.
//!
//! ```text
//! begin ──► queue ──► open: message, blinding, table      one slice
//!              ▲      raise: 255 windows                  sixteen slices
//!              │      close: unblind, join, check         one slice ──► done
//!              └───── while jobs are left
//! ```
//!
//! Before a key signs for the first time, and after [`USES_MAX`] uses, a pass makes its blinding
//! pairs; it goes through the same slices.
//!
//! Invariants: a result leaves only if it was checked against the message; a slot whose key was
//! replaced or forgotten during the pass gives [`SignFault::UnknownKey`]; the working memory is
//! wiped when a pass ends. Slots without a message compute zeros in the same steps.
//!
//! Memory: 64 KiB for the signer and 12 KiB a key, locked where the system allows.

use std::collections::{BTreeMap, VecDeque};

use ring::rand::{SecureRandom, SystemRandom};

use super::arena::Arena;
use super::key::{Prepared, USES_MAX};
use super::scalar::{
    FULL_WORDS, Full, Half, add, from_be_bytes, from_digits, mask, montgomery, multiply,
    reduce_once, subtract, to_be_bytes, to_digits,
};
use super::{Kernel, SLOTS, WINDOWS, Wide};
use crate::batch::{BatchSigner, Input, Job, KeyId, SignFault, Signature, Signed, Stats, Ticket};
use crate::digest::sha256;
use crate::key::{KeyRefused, RsaPrivateKey};
use crate::memory::Secret;

/// Signs with a kernel.
pub(super) struct LanesSigner<K> {
    kernel: K,
    is_blinding: bool,
    keys: BTreeMap<KeyId, Loaded>,
    /// Numbers the keys as they come, so that one that took another's place is noticed.
    serial: u64,
    arena: Secret<Arena>,
    random: SystemRandom,
    pub(super) queue: VecDeque<Queued>,
    pass: Option<Pass>,
    stats: Stats,
    #[cfg(test)]
    pub(super) tamper: Option<Tamper>,
}

/// Where a test may reach into a pass.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Opened,
    Raising,
    Raised,
    Joined,
}

#[cfg(test)]
pub(super) type Tamper = Box<dyn FnMut(Stage, &mut Arena, &mut [Taken]) + Send>;

struct Loaded {
    serial: u64,
    prepared: Secret<Prepared>,
}

pub(super) struct Queued {
    pub(super) ticket: Ticket,
    pub(super) key: KeyId,
    /// What is raised to the secret power: the encoded digest.
    pub(super) number: Full,
}

/// A pass under way.
struct Pass {
    work: Work,
    /// Windows of the exponent that are still to come.
    windows: usize,
}

enum Work {
    /// Messages, and jobs between them that have failed already.
    Sign(Vec<Taken>),
    /// The blinding pairs of one key.
    Seed(KeyId, u64),
}

/// A job of the pass under way.
pub(super) struct Taken {
    ticket: Ticket,
    key: KeyId,
    pub(super) state: Result<Slot, SignFault>,
}

/// The place of a job in the lanes.
pub(super) struct Slot {
    index: usize,
    serial: u64,
    pub(super) signature: [u8; SIGNATURE_BYTES],
}

impl<K: Kernel> LanesSigner<K> {
    pub(super) fn new(kernel: K, is_blinding: bool) -> Self {
        Self {
            kernel,
            is_blinding,
            keys: BTreeMap::new(),
            serial: 0,
            arena: Secret::zeroed(),
            random: SystemRandom::new(),
            queue: VecDeque::new(),
            pass: None,
            stats: Stats::default(),
            #[cfg(test)]
            tamper: None,
        }
    }

    #[cfg(test)]
    pub(super) fn prepared(&mut self, id: KeyId) -> &mut Prepared {
        &mut self.keys.get_mut(&id).expect("is loaded").prepared
    }

    #[cfg(test)]
    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Begins the next pass: messages, or a key whose blinding pairs are used up.
    fn open(&mut self) -> Result<Pass, SignFault> {
        let unseeded = self.queue.iter().take(SLOTS).find_map(|job| {
            let loaded = self.keys.get(&job.key)?;
            (loaded.prepared.uses == 0).then_some((job.key, loaded.serial))
        });
        let work = match unseeded {
            Some((key, serial)) => {
                self.open_seeding(key)?;
                Work::Seed(key, serial)
            }
            None => Work::Sign(self.open_signing()),
        };
        self.arena.make_table(&self.kernel);
        self.arena.begin_power(&self.kernel);
        Ok(Pass { work, windows: WINDOWS - 1 })
    }

    fn open_signing(&mut self) -> Vec<Taken> {
        let mut taken = Vec::with_capacity(SLOTS);
        let mut index = 0;
        while index < SLOTS {
            let Some(Queued { ticket, key, number }) = self.queue.pop_front() else { break };
            let state = match self.keys.get(&key) {
                None => Err(SignFault::UnknownKey),
                Some(Loaded { serial, prepared }) => {
                    fill_slot(&mut self.arena, index, prepared);
                    self.arena.set_number(index, &number);
                    Ok(Slot { index, serial: *serial, signature: [0; SIGNATURE_BYTES] })
                }
            };
            index += usize::from(state.is_ok());
            taken.push(Taken { ticket, key, state });
        }
        self.arena.convert(&self.kernel);
        let Arena { power, base, before, moduli, .. } = &mut *self.arena;
        *base = *power;
        self.kernel.multiply(power, before, moduli);
        taken
    }

    /// Fills all slots with one key and raises random numbers to `-e`.
    ///
    /// A random number of 1024 bits is the Montgomery form of another one, so nothing is converted.
    fn open_seeding(&mut self, key: KeyId) -> Result<(), SignFault> {
        let Some(loaded) = self.keys.get(&key) else { return Err(SignFault::UnknownKey) };
        for index in 0..SLOTS {
            for (half, constants) in loaded.prepared.halves.iter().enumerate() {
                let lane = 2 * index + half;
                self.arena.set_constants(lane, constants);
                self.arena.set_exponent(lane, &constants.seeding_exponent());
                let mut bytes = [0; size_of::<Half>()];
                self.random.fill(&mut bytes).map_err(|_| SignFault::Randomness)?;
                let number: Half = from_be_bytes(&bytes).unwrap_or_default();
                self.arena.base.set_lane(lane, &to_digits(&number));
            }
        }
        self.arena.power = self.arena.base;
        Ok(())
    }

    /// Ends a pass: what was raised becomes signatures or blinding pairs.
    fn close(&mut self, work: Work, done: &mut Vec<Signed>) {
        match work {
            Work::Sign(taken) => self.close_signing(taken, done),
            Work::Seed(key, serial) => self.close_seeding(key, serial),
        }
        self.stats.passes += 1;
        self.arena.wipe();
        self.kernel.wipe_traces();
    }

    fn close_seeding(&mut self, key: KeyId, serial: u64) {
        let Some(loaded) = self.keys.get_mut(&key).filter(|loaded| loaded.serial == serial) else {
            return;
        };
        let Prepared { halves, uses, .. } = &mut *loaded.prepared;
        for index in 0..SLOTS {
            for (half, constants) in halves.iter_mut().enumerate() {
                let pair = &mut constants.blinding[index];
                pair.before = self.arena.power.lane(2 * index + half);
                pair.after = self.arena.base.lane(2 * index + half);
            }
        }
        *uses = USES_MAX;
    }

    fn close_signing(&mut self, mut taken: Vec<Taken>, done: &mut Vec<Signed>) {
        let Arena { power, after, before, moduli, .. } = &mut *self.arena;
        self.kernel.multiply(power, after, moduli);
        self.kernel.multiply(power, &Wide::ONE, moduli);
        self.kernel.square(before, moduli);
        self.kernel.square(after, moduli);
        for Taken { key, state, .. } in &mut taken {
            let Ok(slot) = state else { continue };
            let loaded = self.keys.get_mut(key).filter(|loaded| loaded.serial == slot.serial);
            match loaded {
                None => *state = Err(SignFault::UnknownKey),
                Some(Loaded { prepared, .. }) => {
                    keep_blinding(&self.arena, slot.index, prepared);
                    slot.signature = to_be_bytes(&join(&self.arena, slot.index, prepared));
                }
            }
        }
        #[cfg(test)]
        self.tampered(Stage::Joined, &mut taken);
        self.check(&mut taken);
        for Taken { ticket, state, .. } in taken {
            let result = state.map(|slot| Signature::new(slot.signature.into()));
            match result {
                Ok(_) => self.stats.signed += 1,
                Err(SignFault::Check) => self.stats.faults += 1,
                Err(_) => {}
            }
            done.push(Signed { ticket, result });
        }
    }

    /// Raises what will be given out to `e` again, and compares with the message.
    fn check(&mut self, taken: &mut [Taken]) {
        for slot in taken.iter().filter_map(|taken| taken.state.as_ref().ok()) {
            let signature: Full = from_be_bytes(&slot.signature).unwrap_or_default();
            self.arena.set_number(slot.index, &signature);
        }
        self.arena.convert(&self.kernel);
        let Arena { power, base, moduli, low: first, .. } = &mut *self.arena;
        *first = *power;
        (0..16).for_each(|_| self.kernel.square(power, moduli));
        self.kernel.multiply(power, first, moduli);
        self.kernel.multiply(power, &Wide::ONE, moduli);
        self.kernel.multiply(base, &Wide::ONE, moduli);
        for Taken { key, state, .. } in taken {
            let Ok(slot) = state else { continue };
            let is_good = self.keys.get(key).is_some_and(|Loaded { prepared, .. }| {
                prepared.is_whole() && is_message(&self.arena, slot.index, prepared)
            });
            if !is_good {
                *state = Err(SignFault::Check);
            }
        }
    }

    #[cfg(test)]
    fn tampered(&mut self, stage: Stage, taken: &mut [Taken]) {
        if let Some(tamper) = &mut self.tamper {
            tamper(stage, &mut self.arena, taken);
        }
    }
}

impl<K: Kernel> BatchSigner for LanesSigner<K> {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }

    fn lanes(&self) -> usize {
        SLOTS
    }

    fn takes_digests(&self) -> bool {
        true
    }

    fn load(&mut self, id: KeyId, key: &RsaPrivateKey) -> Result<(), KeyRefused> {
        let mut prepared = Secret::<Prepared>::zeroed();
        prepared.fill(key)?;
        if !self.is_blinding {
            prepared.do_not_blind();
        }
        self.serial += 1;
        self.keys.insert(id, Loaded { serial: self.serial, prepared });
        Ok(())
    }

    fn unload(&mut self, id: KeyId) {
        self.keys.remove(&id);
    }

    fn sign(&mut self, jobs: &[Job<'_>], done: &mut Vec<Signed>) {
        self.begin(jobs);
        while !self.step(done) {}
    }

    fn begin(&mut self, jobs: &[Job<'_>]) {
        self.queue.extend(jobs.iter().map(|job| {
            let digest = match job.input {
                Input::Digest(digest) => digest,
                Input::Canonical(bytes) => sha256(bytes),
            };
            Queued { ticket: job.ticket, key: job.key, number: encoded(&digest) }
        }));
    }

    fn step(&mut self, done: &mut Vec<Signed>) -> bool {
        let Some(mut pass) = self.pass.take() else {
            if self.queue.is_empty() {
                return true;
            }
            match self.open() {
                Ok(pass) => self.pass = Some(pass),
                Err(fault) => {
                    let refused = self.queue.drain(..);
                    done.extend(
                        refused.map(|job| Signed { ticket: job.ticket, result: Err(fault) }),
                    );
                    return true;
                }
            }
            #[cfg(test)]
            self.tampered(Stage::Opened, &mut []);
            return false;
        };
        if pass.windows > 0 {
            for _ in 0..pass.windows.min(WINDOWS_A_SLICE) {
                pass.windows -= 1;
                self.arena.raise(&self.kernel, pass.windows);
            }
            #[cfg(test)]
            self.tampered(Stage::Raising, &mut []);
            self.pass = Some(pass);
            return false;
        }
        #[cfg(test)]
        self.tampered(Stage::Raised, &mut []);
        self.close(pass.work, done);
        self.queue.is_empty()
    }

    fn has_short_slices(&self) -> bool {
        true
    }

    fn stats(&self) -> Stats {
        let is_locked =
            self.arena.is_locked() && self.keys.values().all(|key| key.prepared.is_locked());
        Stats { is_locked, ..self.stats }
    }
}

/// Fills both lanes of a slot with a key.
fn fill_slot(arena: &mut Arena, index: usize, key: &Prepared) {
    for (half, constants) in key.halves.iter().enumerate() {
        let lane = 2 * index + half;
        arena.set_constants(lane, constants);
        arena.set_exponent(lane, &constants.exponent);
        arena.before.set_lane(lane, &constants.blinding[index].before);
        arena.after.set_lane(lane, &constants.blinding[index].after);
    }
}

/// Takes the squared blinding pair of a slot back to its key.
fn keep_blinding(arena: &Arena, index: usize, key: &mut Prepared) {
    for (half, constants) in key.halves.iter_mut().enumerate() {
        constants.blinding[index].before = arena.before.lane(2 * index + half);
        constants.blinding[index].after = arena.after.lane(2 * index + half);
    }
    key.uses = key.uses.saturating_sub(1);
}

/// Joins the halves of a slot (RFC 8017 5.1.2, 2b): `sq + q ((sp - sq) q^-1 mod p)`.
fn join(arena: &Arena, index: usize, key: &Prepared) -> Full {
    let [p, q] = &key.halves;
    let of_p = from_digits(&arena.power.lane(2 * index), &p.prime);
    let of_q = from_digits(&arena.power.lane(2 * index + 1), &q.prime);
    let mut difference = of_p;
    let borrow = subtract(&mut difference, &reduce_once(&of_q, 0, &p.prime), u64::MAX);
    add(&mut difference, &p.prime, mask(borrow));
    let times = montgomery(&difference, &key.inverse_of_q, &p.prime, p.inverse);
    let mut joined = multiply(&times, &q.prime);
    let mut of_q_full = [0; FULL_WORDS];
    of_q_full[..of_q.len()].copy_from_slice(&of_q);
    add(&mut joined, &of_q_full, u64::MAX);
    joined
}

/// Whether `power` and `base` are the same number modulo both primes of a slot. Both are public:
/// the message, and what a verifier computes.
fn is_message(arena: &Arena, index: usize, key: &Prepared) -> bool {
    key.halves.iter().enumerate().all(|(half, constants)| {
        let of = |number: &Wide| from_digits(&number.lane(2 * index + half), &constants.prime);
        of(&arena.power) == of(&arena.base)
    })
}

/// EMSA-PKCS1-v1_5 of a SHA-256 digest (RFC 8017 9.2) as a number of 2048 bits.
fn encoded(digest: &[u8; 32]) -> Full {
    let mut bytes = [0xff; SIGNATURE_BYTES];
    bytes[..2].copy_from_slice(&[0, 1]);
    let (padding, rest) = bytes.split_at_mut(SIGNATURE_BYTES - DIGEST_INFO.len() - digest.len());
    padding[padding.len() - 1] = 0;
    let (info, hash) = rest.split_at_mut(DIGEST_INFO.len());
    info.copy_from_slice(&DIGEST_INFO);
    hash.copy_from_slice(digest);
    from_be_bytes(&bytes).unwrap_or_default()
}

/// `DigestInfo` of SHA-256 up to the digest (RFC 8017 9.2, note 1).
const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// Windows between two looks of an event loop: 31 us at 3.6 GHz.
const WINDOWS_A_SLICE: usize = 16;

const SIGNATURE_BYTES: usize = 8 * FULL_WORDS;

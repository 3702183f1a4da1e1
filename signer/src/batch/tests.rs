//! What every backend must do, run for each that there is; and what the guard does about a backend
//! that is not to be trusted.

#![allow(clippy::print_stdout, reason = "the log of a test run shall say which backend ran")]

use super::*;

const KEY: &[u8] = include_bytes!("../../tests/keys/rsa2048.pkcs8.pem");
const OTHER_KEY: &[u8] = include_bytes!("../../tests/keys/other2048.pkcs8.pem");
const INPUT: &[u8] = b"from:a@example.org\r\nsubject:hi";
/// Made by OpenSSL with `KEY`. PKCS#1 v1.5 signatures are deterministic.
const SIGNATURE: &[u8] = include_bytes!("../../tests/keys/rsa2048.signature");

fn for_each_backend(check: impl Fn(&mut dyn BatchSigner)) {
    let mut backends: Vec<Box<dyn BatchSigner>> = vec![Box::new(RingSigner::new()), portable(true)];
    backends.extend(ifma(true));
    backends.extend(ifma(false));
    backends.push(Box::new(guard::Guard::over(portable(false))));
    backends.push(open(&SignerOptions::default()).expect("there is always one"));
    for backend in &mut backends {
        for (id, text) in [(KeyId(1), KEY), (KeyId(2), OTHER_KEY)] {
            let key = RsaPrivateKey::from_pem(text).expect("is good");
            backend.load(id, &key).expect("is taken");
        }
        check(&mut **backend);
    }
}

/// The one right answer: these signatures are deterministic.
fn by_ring(key: &[u8], message: &[u8]) -> Signature {
    let mut ring = RingSigner::new();
    ring.load(KeyId(0), &RsaPrivateKey::from_pem(key).expect("is good")).expect("is taken");
    let mut done = Vec::new();
    ring.sign(&[job(0, 0, Input::Canonical(message))], &mut done);
    done.remove(0).result.expect("is signed")
}

fn job(ticket: u64, key: u64, input: Input<'_>) -> Job<'_> {
    Job { ticket: Ticket(ticket), key: KeyId(key), input }
}

#[test]
fn known_answer() {
    for_each_backend(|backend| {
        let mut done = Vec::new();
        backend.sign(&[job(7, 1, Input::Canonical(INPUT))], &mut done);
        let [Signed { ticket: Ticket(7), result: Ok(signature) }] = &done[..] else {
            panic!("{}: {done:?}", backend.name());
        };
        assert_eq!(signature.as_bytes(), SIGNATURE, "{}", backend.name());
    });
}

#[test]
fn digests_are_taken_or_refused() {
    for_each_backend(|backend| {
        let mut digest = [0; 32];
        digest.copy_from_slice(::ring::digest::digest(&::ring::digest::SHA256, INPUT).as_ref());
        let mut done = Vec::new();
        backend.sign(&[job(1, 1, Input::Digest(digest))], &mut done);
        match &done[0].result {
            Ok(signature) => assert_eq!(signature.as_bytes(), SIGNATURE),
            Err(fault) => assert_eq!(*fault, SignFault::DigestNotTaken),
        }
        assert_eq!(done[0].result.is_ok(), backend.takes_digests());
    });
}

#[test]
fn mixed_batches_of_any_size_come_back_in_order() {
    for_each_backend(|backend| {
        let messages: Vec<_> = (0..2 * backend.lanes() + 5).map(|n| format!("m{n}")).collect();
        for size in 0..messages.len() {
            let jobs: Vec<_> = (0u64..)
                .zip(&messages[..size])
                .map(|(n, m)| {
                    let key = if n % 3 == 2 { 9 } else { u64::from(n % 3 == 1) + 1 };
                    job(n, key, Input::Canonical(m.as_bytes()))
                })
                .collect();
            let mut done = Vec::new();
            backend.sign(&jobs, &mut done);
            assert_eq!(done.len(), size);
            for (signed, job) in done.iter().zip(&jobs) {
                assert_eq!(signed.ticket, job.ticket);
                let Input::Canonical(message) = job.input else { panic!("all are") };
                let expected = match job.key {
                    KeyId(1) => Ok(&by_ring(KEY, message)),
                    KeyId(2) => Ok(&by_ring(OTHER_KEY, message)),
                    _ => Err(&SignFault::UnknownKey),
                };
                assert_eq!(signed.result.as_ref(), expected);
            }
        }
    });
}

#[test]
fn results_are_appended() {
    for_each_backend(|backend| {
        let mut done = Vec::new();
        for ticket in 0..3 {
            backend.sign(&[job(ticket, 1, Input::Canonical(INPUT))], &mut done);
        }
        let tickets: Vec<_> = done.iter().map(|signed| signed.ticket.0).collect();
        assert_eq!(tickets, [0, 1, 2]);
    });
}

#[test]
fn keys_are_replaced_and_forgotten() {
    for_each_backend(|backend| {
        let other = RsaPrivateKey::from_pem(OTHER_KEY).expect("is good");
        backend.load(KeyId(1), &other).expect("is taken");
        let mut done = Vec::new();
        backend.sign(&[job(0, 1, Input::Canonical(INPUT))], &mut done);
        assert_eq!(done[0].result.as_ref(), Ok(&by_ring(OTHER_KEY, INPUT)));
        backend.unload(KeyId(1));
        backend.unload(KeyId(1));
        backend.sign(&[job(1, 1, Input::Canonical(INPUT))], &mut done);
        assert_eq!(done[1].result.as_ref().err(), Some(&SignFault::UnknownKey));
    });
}

#[test]
fn slices_give_what_one_call_gives() {
    for_each_backend(|backend| {
        let messages: Vec<_> = (0..backend.lanes() + 1).map(|n| format!("m{n}")).collect();
        let jobs: Vec<_> = (0u64..)
            .zip(&messages)
            .map(|(n, m)| job(n, u64::from(n % 3 == 1) + 1, Input::Canonical(m.as_bytes())))
            .collect();
        let (mut whole, mut sliced) = (Vec::new(), Vec::new());
        assert!(backend.step(&mut sliced), "nothing was begun");
        let before = backend.stats();
        backend.sign(&jobs, &mut whole);
        backend.begin(&jobs);
        while !backend.step(&mut sliced) {}
        assert_eq!(sliced.len(), whole.len());
        for (sliced, whole) in sliced.iter().zip(&whole) {
            assert_eq!(sliced.ticket, whole.ticket);
            assert_eq!(sliced.result, whole.result);
        }
        assert_eq!(backend.stats().signed - before.signed, 2 * jobs.len() as u64);
        assert_eq!(backend.stats().faults, 0);
    });
}

#[test]
fn other_lengths_are_taken_by_the_guard() {
    const LONG_KEY: &[u8] = include_bytes!("../../tests/keys/rsa3072.pkcs8.pem");
    let long = RsaPrivateKey::from_pem(LONG_KEY).expect("is good");
    let key = RsaPrivateKey::from_pem(KEY).expect("is good");
    assert_eq!(portable(true).load(KeyId(1), &long), Err(KeyRefused::Unsupported));
    let mut guard = guard::Guard::over(portable(true));
    guard.load(KeyId(1), &key).expect("is taken");
    guard.load(KeyId(2), &long).expect("is taken");
    let jobs = [2, 1, 2, 1].map(|key| job(key, key, Input::Canonical(INPUT)));
    let mut done = Vec::new();
    guard.sign(&jobs, &mut done);
    for (signed, job) in done.iter().zip(&jobs) {
        let expected = by_ring(if job.key == KeyId(1) { KEY } else { LONG_KEY }, INPUT);
        assert_eq!(signed.ticket, job.ticket);
        assert_eq!(signed.result.as_ref(), Ok(&expected));
    }
    assert_eq!(guard.stats().signed, 4);
}

/// `ring` with a fault: it gives every signature with a bit turned around, or finds each wrong.
struct Faulty {
    ring: RingSigner,
    is_noticed: bool,
    faults: u64,
}

impl BatchSigner for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn lanes(&self) -> usize {
        4
    }

    fn takes_digests(&self) -> bool {
        false
    }

    fn load(&mut self, id: KeyId, key: &RsaPrivateKey) -> Result<(), KeyRefused> {
        self.ring.load(id, key)
    }

    fn unload(&mut self, id: KeyId) {
        self.ring.unload(id);
    }

    fn sign(&mut self, jobs: &[Job<'_>], done: &mut Vec<Signed>) {
        self.begin(jobs);
        while !self.step(done) {}
    }

    fn begin(&mut self, jobs: &[Job<'_>]) {
        self.ring.begin(jobs);
    }

    fn step(&mut self, done: &mut Vec<Signed>) -> bool {
        let first = done.len();
        let has_ended = self.ring.step(done);
        for signed in &mut done[first..] {
            match &mut signed.result {
                Ok(_) if self.is_noticed => {
                    self.faults += 1;
                    signed.result = Err(SignFault::Check);
                }
                Ok(signature) => signature.0[100] ^= 4,
                Err(_) => {}
            }
        }
        has_ended
    }

    fn has_short_slices(&self) -> bool {
        true
    }

    fn stats(&self) -> Stats {
        Stats { faults: self.faults, ..self.ring.stats() }
    }
}

#[test]
fn a_faulty_backend_is_found_out_and_its_work_done_again() {
    for is_noticed in [true, false] {
        let faulty = || Faulty { ring: RingSigner::new(), is_noticed, faults: 0 };
        assert!(!guard::self_test(&mut faulty()));
        let mut guard = guard::Guard::over(Box::new(faulty()));
        let key = RsaPrivateKey::from_pem(KEY).expect("is good");
        // Each key's first signature is verified, so that each costs the backend one fault.
        (0..4).for_each(|id| guard.load(KeyId(id), &key).expect("is taken"));
        assert_eq!((guard.name(), guard.lanes()), ("faulty", 4));
        let expected = by_ring(KEY, INPUT);
        let mut done = Vec::new();
        for id in 0..4 {
            guard.sign(&[job(id, id, Input::Canonical(INPUT))], &mut done);
        }
        assert!(done.iter().all(|signed| signed.result.as_ref() == Ok(&expected)), "{is_noticed}");
        assert_eq!(guard.stats().quarantined, Some("faulty"));
        assert_eq!(guard.stats().faults, 3);
        assert_eq!((guard.name(), guard.lanes()), ("ring", 1));
        assert!(!guard.has_short_slices());
        // What was loaded before and what is loaded now is signed with all the same.
        guard.load(KeyId(9), &key).expect("is taken");
        done.clear();
        let jobs = [1, 9].map(|id| job(id, id, Input::Canonical(INPUT)));
        guard.sign(&jobs, &mut done);
        assert!(done.iter().all(|signed| signed.result.as_ref() == Ok(&expected)));
    }
}

#[test]
fn one_signature_in_sixty_four_is_verified() {
    let mut guard = guard::Guard::over(Box::new(Faulty {
        ring: RingSigner::new(),
        is_noticed: false,
        faults: 0,
    }));
    guard.load(KeyId(1), &RsaPrivateKey::from_pem(KEY).expect("is good")).expect("is taken");
    let mut done = Vec::new();
    for ticket in 0..64 {
        guard.sign(&[job(ticket, 1, Input::Canonical(INPUT))], &mut done);
    }
    assert_eq!(guard.stats().faults, 1, "the first");
    guard.sign(&[job(64, 1, Input::Canonical(INPUT))], &mut done);
    assert_eq!(guard.stats().faults, 2);
}

#[cfg(not(feature = "fips"))] // that build's choice is tested in `fips`
#[test]
fn choice() {
    for backend in Backend::ALL {
        assert_eq!(backend.as_str().parse(), Ok(backend));
        match open(&SignerOptions { backend, ..SignerOptions::default() }) {
            Ok(signer) => match backend {
                Backend::Auto => assert!(["ifma", "ring"].contains(&signer.name())),
                _ => assert_eq!(signer.name(), backend.as_str()),
            },
            Err(refused) => assert!(
                [
                    (Backend::Ifma, BackendRefused::Missing),
                    (Backend::Fips, BackendRefused::NotFips)
                ]
                .contains(&(backend, refused))
            ),
        }
    }
    assert_eq!("fast".parse::<Backend>(), Err(BackendRefused::Unknown));
}

/// So that a mistake in the detection cannot quietly cost three quarters of the speed.
#[cfg(not(feature = "fips"))]
#[test]
fn the_cpu_decides() {
    let has_ifma = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| {
        text.lines().any(|line| line.starts_with("flags") && line.contains(" avx512ifma"))
    });
    let signer = open(&SignerOptions::default()).expect("there is always one");
    println!("signing backend: {}", signer.name());
    assert_eq!(signer.name(), if has_ifma { "ifma" } else { "ring" });
    assert_eq!(signer.has_short_slices(), has_ifma);
    assert_eq!(signer.stats().faults, 0);
}

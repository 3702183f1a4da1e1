//! What every backend must do, run for each that there is.

use super::*;

const KEY: &[u8] = include_bytes!("../../tests/keys/rsa2048.pkcs8.pem");
const OTHER_KEY: &[u8] = include_bytes!("../../tests/keys/other2048.pkcs8.pem");
const INPUT: &[u8] = b"from:a@example.org\r\nsubject:hi";
/// Made by OpenSSL with `KEY`. PKCS#1 v1.5 signatures are deterministic.
const SIGNATURE: &[u8] = include_bytes!("../../tests/keys/rsa2048.signature");

fn for_each_backend(check: impl Fn(&mut dyn BatchSigner)) {
    let mut backends: Vec<Box<dyn BatchSigner>> = vec![Box::new(RingSigner::new()), portable()];
    backends.extend(ifma());
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

fn job(ticket: u64, key: u32, input: Input<'_>) -> Job<'_> {
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
                    let key = if n % 3 == 2 { 9 } else { u32::from(n % 3 == 1) + 1 };
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
            .map(|(n, m)| job(n, u32::from(n % 3 == 1) + 1, Input::Canonical(m.as_bytes())))
            .collect();
        let (mut whole, mut sliced) = (Vec::new(), Vec::new());
        assert!(backend.step(&mut sliced), "nothing was begun");
        backend.sign(&jobs, &mut whole);
        backend.begin(&jobs);
        while !backend.step(&mut sliced) {}
        assert_eq!(sliced.len(), whole.len());
        for (sliced, whole) in sliced.iter().zip(&whole) {
            assert_eq!(sliced.ticket, whole.ticket);
            assert_eq!(sliced.result, whole.result);
        }
        assert_eq!(backend.stats().signed, 2 * jobs.len() as u64);
        assert_eq!(backend.stats().faults, 0);
    });
}

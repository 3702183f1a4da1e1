//! Every way a key file can be wrong, and what is written back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::dns;

const PKCS8: &[u8] = include_bytes!("../../tests/keys/rsa2048.pkcs8.pem");
const PKCS1: &[u8] = include_bytes!("../../tests/keys/rsa2048.pkcs1.pem");
const PUBLIC: &str = include_str!("../../tests/keys/public.pem");

fn refused(text: &[u8]) -> KeyRefused {
    RsaPrivateKey::from_pem(text).map(|_| ()).expect_err("is refused")
}

#[test]
fn good_keys() {
    for (text, bits) in [
        (PKCS8, 2048),
        (PKCS1, 2048),
        (include_bytes!("../../tests/keys/rsa3072.pkcs8.pem"), 3072),
        (include_bytes!("../../tests/keys/bundle.pem"), 2048),
    ] {
        let key = RsaPrivateKey::from_pem(text).expect("is good");
        assert_eq!(key.public().bits(), bits);
        assert_eq!(key.public().exponent(), [1, 0, 1]);
    }
    let dos = String::from_utf8(PKCS8.to_vec()).expect("is ASCII").replace('\n', "\r\n");
    assert!(RsaPrivateKey::from_pem(dos.as_bytes()).is_ok(), "any line end");
}

#[test]
fn bad_keys() {
    let not_private = |label: &str| KeyRefused::NotPrivate { label: label.into() };
    for (text, expected) in [
        (&b""[..], KeyRefused::NotPem),
        (b"\x30\x82\x04\xa4\xff", KeyRefused::NotPem),
        (b"hello\n", KeyRefused::NotPem),
        (&[b'a'; 70_000], KeyRefused::NotPem),
        (include_bytes!("../../tests/keys/rsa1024.pkcs8.pem"), KeyRefused::TooShort { bits: 1024 }),
        (include_bytes!("../../tests/keys/rsa2047.pkcs8.pem"), KeyRefused::TooShort { bits: 2047 }),
        (include_bytes!("../../tests/keys/rsa2100.pkcs8.pem"), KeyRefused::Length { bits: 2100 }),
        (include_bytes!("../../tests/keys/rsa2048-e3.pkcs8.pem"), KeyRefused::Exponent),
        (include_bytes!("../../tests/keys/rsa2048-3primes.pkcs8.pem"), KeyRefused::Malformed),
        (include_bytes!("../../tests/keys/encrypted.pkcs8.pem"), KeyRefused::Encrypted),
        (include_bytes!("../../tests/keys/encrypted.pkcs1.pem"), KeyRefused::Encrypted),
        (include_bytes!("../../tests/keys/ec.sec1.pem"), KeyRefused::NotRsa { found: "EC" }),
        (include_bytes!("../../tests/keys/ec.pkcs8.pem"), KeyRefused::NotRsa { found: "EC" }),
        (include_bytes!("../../tests/keys/ed25519.pem"), KeyRefused::NotRsa { found: "Ed25519" }),
        (include_bytes!("../../tests/keys/rsa-pss.pem"), KeyRefused::NotRsa { found: "RSA-PSS" }),
        (PUBLIC.as_bytes(), not_private("PUBLIC KEY")),
        (include_bytes!("../../tests/keys/certificate.pem"), not_private("CERTIFICATE")),
        (
            include_bytes!("../../tests/keys/openssh.pem"),
            KeyRefused::Format { label: "OPENSSH PRIVATE KEY".into() },
        ),
        (b"-----BEGIN PRIVATE KEY-----\n????\n-----END PRIVATE KEY-----\n", KeyRefused::Base64),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", KeyRefused::Malformed),
        (b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", KeyRefused::Truncated),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END OTHER-----\n", KeyRefused::Truncated),
    ] {
        assert_eq!(refused(text), expected);
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn every_truncation_is_refused() {
    let whole = PKCS8.trim_ascii_end();
    for length in (0..whole.len()).step_by(13).chain([whole.len() - 1]) {
        let refused = refused(&whole[..length]);
        let expected = [KeyRefused::NotPem, KeyRefused::Truncated];
        assert!(expected.contains(&refused), "{length} bytes: {refused:?}");
    }
    let section = pem::private_key(PKCS1).expect("is PEM");
    for length in (0..section.der.len()).step_by(7) {
        let refused = RsaPrivateKey::from_pkcs1_der(&section.der[..length]).map(|_| ());
        assert_eq!(refused, Err(KeyRefused::Truncated), "{length} bytes");
    }
    let longer = [&section.der[..], &[0]].concat();
    assert_eq!(RsaPrivateKey::from_pkcs1_der(&longer).map(|_| ()), Err(KeyRefused::Malformed));
}

/// The nine numbers of an `RSAPrivateKey`: version, n, e, d, p, q, dP, dQ, qInv.
fn numbers(pem_text: &[u8]) -> Vec<Vec<u8>> {
    let section = pem::private_key(pem_text).expect("is PEM");
    let mut key = Reader::new(Reader::new(&section.der).element(der::SEQUENCE).expect("is DER"));
    (0..9).map(|_| key.unsigned().expect("a number").to_vec()).collect()
}

fn from_numbers(numbers: &[Vec<u8>]) -> Result<RsaPrivateKey, KeyRefused> {
    let mut contents = Vec::new();
    numbers.iter().for_each(|number| der::write_unsigned(&mut contents, number));
    let mut bytes = Vec::new();
    der::write(&mut bytes, der::SEQUENCE, &contents);
    RsaPrivateKey::from_pkcs1_der(&bytes)
}

#[test]
fn a_flipped_bit_in_any_number_that_signs_is_found() {
    let good = numbers(PKCS1);
    assert!(from_numbers(&good).is_ok());
    // d (3) is left out: signing by CRT never uses it, and nothing here does.
    for which in [1, 4, 5, 6, 7, 8] {
        for (byte, bit) in [(0, 6), (40, 0), (77, 3)] {
            let mut bad = good.clone();
            bad[which][byte] ^= 1 << bit;
            let refused = from_numbers(&bad).map(|_| ());
            assert_eq!(refused, Err(KeyRefused::Inconsistent), "number {which}, byte {byte}");
        }
    }
    let mut other_exponent = good;
    other_exponent[2] = vec![1, 0, 3];
    assert_eq!(from_numbers(&other_exponent).map(|_| ()), Err(KeyRefused::Inconsistent));
}

#[test]
fn numbers_that_cannot_be() {
    let good = numbers(PKCS1);
    let with = |changes: &[(usize, Vec<u8>)]| {
        let mut numbers = good.clone();
        for (which, number) in changes {
            numbers[*which].clone_from(number);
        }
        from_numbers(&numbers).map(|_| ())
    };
    let mut even = good[1].clone();
    *even.last_mut().expect("is long") &= 0xfe;
    assert_eq!(with(&[(1, even)]), Err(KeyRefused::Inconsistent), "even modulus");
    assert_eq!(with(&[(5, good[4].clone())]), Err(KeyRefused::Inconsistent), "p = q");
    assert_eq!(with(&[(1, vec![])]), Err(KeyRefused::TooShort { bits: 0 }));
    assert_eq!(with(&[(2, vec![])]), Err(KeyRefused::Exponent));
    assert_eq!(with(&[(2, vec![1, 0, 0])]), Err(KeyRefused::Exponent));
    assert_eq!(with(&[(2, vec![1, 0, 0, 0, 1])]), Err(KeyRefused::Exponent));
    assert_eq!(with(&[(4, vec![])]), Err(KeyRefused::Inconsistent), "p = 0");
    assert_eq!(with(&[(0, vec![1])]), Err(KeyRefused::Malformed), "version 1");
}

#[test]
fn the_public_half_is_what_openssl_writes() {
    let expected: String = PUBLIC.lines().filter(|line| !line.starts_with('-')).collect();
    for text in [PKCS8, PKCS1] {
        let key = RsaPrivateKey::from_pem(text).expect("is good");
        assert_eq!(STANDARD.encode(key.public().to_spki_der()), expected);
        let record = dns::record_text(&key.public().clone().into());
        assert_eq!(record, format!("v=DKIM1; k=rsa; p={expected}"));
    }
}

#[test]
fn a_key_is_written_as_openssl_writes_it() {
    for text in [PKCS8, PKCS1] {
        let key = RsaPrivateKey::from_pem(text).expect("is good");
        assert_eq!(key.to_pkcs8_pem().as_bytes(), PKCS8);
    }
}

#[test]
fn made_keys_work() {
    let mut random = OsRandom::new();
    for _ in 0..3 {
        let key = RsaPrivateKey::generate(2048, &mut random).expect("randomness");
        assert_eq!(key.public().bits(), 2048);
        let again = RsaPrivateKey::from_pem(key.to_pkcs8_pem().as_bytes()).expect("reads back");
        assert_eq!(again.public(), key.public());
    }
    for bits in [0, 1024, 2047, 2049, 4608] {
        let made = RsaPrivateKey::generate(bits, &mut random).map(|_| ());
        assert_eq!(made, Err(GenerateFailed::Length { bits }));
    }
}

#[test]
fn a_generator_that_fails_is_an_error() {
    struct Broken;
    impl rand_core::TryRng for Broken {
        type Error = RandomnessFailed;
        fn try_next_u32(&mut self) -> Result<u32, RandomnessFailed> {
            Err(RandomnessFailed)
        }
        fn try_next_u64(&mut self) -> Result<u64, RandomnessFailed> {
            Err(RandomnessFailed)
        }
        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), RandomnessFailed> {
            Err(RandomnessFailed)
        }
    }
    impl rand_core::TryCryptoRng for Broken {}
    let made = RsaPrivateKey::generate(2048, &mut Broken).map(|_| ());
    assert!(matches!(made, Err(GenerateFailed::Generator(_))), "{made:?}");
}

#[test]
fn debug_shows_no_secret() {
    let key = RsaPrivateKey::from_pem(PKCS8).expect("is good");
    assert_eq!(format!("{key:?}"), "RsaPrivateKey(2048 bits)");
}

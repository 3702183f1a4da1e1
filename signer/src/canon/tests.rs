//! RFC examples, the cases that others got wrong, and random bodies in random cuttings against a
//! naive oracle.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use ring::digest::{SHA256, digest};

use super::Canonicalization::{Relaxed, Simple};
use super::*;
use crate::fuzz::{reference_body, reference_field};

/// RFC 6376 3.4.5, example 1 to 3.
const EXAMPLE_FIELDS: [&[u8]; 2] = [b"A: X\r\n", b"B : Y\t\r\n\tZ  \r\n"];
const EXAMPLE_BODY: &[u8] = b" C \r\nD \t E\r\n\r\n\r\n";

#[test]
fn rfc_6376_3_4_5() {
    check_field(Relaxed, EXAMPLE_FIELDS[0], b"a:X\r\n");
    check_field(Relaxed, EXAMPLE_FIELDS[1], b"b:Y Z\r\n");
    check_field(Simple, EXAMPLE_FIELDS[1], EXAMPLE_FIELDS[1]);
    check_body(Relaxed, EXAMPLE_BODY, b" C\r\nD E\r\n");
    check_body(Simple, EXAMPLE_BODY, b" C \r\nD \t E\r\n");
}

#[test]
fn published_body_hashes() {
    // RFC 6376 3.4.3 and 3.4.4 for the empty body; A.2 for the other.
    let joe = b"Hi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n";
    for (canonicalization, body, expected) in [
        (Simple, &b""[..], "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="),
        (Relaxed, b"", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        (Simple, joe, "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="),
        // RFC 8463 A.2 signs the same body, relaxed.
        (Relaxed, joe, "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="),
    ] {
        let hash = body_hash(canonicalization, &[body]);
        assert_eq!(STANDARD.encode(hash.digest()), expected);
    }
}

#[test]
fn relaxed_bodies() {
    for (body, canonical) in [
        (&b"hi\r\n"[..], &b"hi\r\n"[..]),
        // Lines of nothing but white space are empty, so they vanish at the end.
        (b"hi\r\n \r\n", b"hi\r\n"),
        (b"hi\r\n\t \t\r\n \r\n\r\n", b"hi\r\n"),
        (b"hi\r\n \r\nho\r\n", b"hi\r\n\r\nho\r\n"),
        (b" \r\n\r\n\t", b""),
        (b"\r\n\r\nhi", b"\r\n\r\nhi\r\n"),
        (b"hi \t", b"hi\r\n"),
        (b"hi", b"hi\r\n"),
        (b"  hi", b" hi\r\n"),
        (b"a\tb  c\t\td", b"a b c d\r\n"),
        // A bare CR or LF is an ordinary byte.
        (b"a \rb", b"a \rb\r\n"),
        (b"a \nb\n", b"a \nb\n\r\n"),
        (b"a\r", b"a\r\r\n"),
        (b"a\r\r\n", b"a\r\r\n"),
        (b"\r\n\r", b"\r\n\r\r\n"),
    ] {
        check_body(Relaxed, body, canonical);
    }
}

#[test]
fn simple_bodies() {
    for (body, canonical) in [
        (&b"hi\r\n \r\n"[..], &b"hi\r\n \r\n"[..]),
        (b"hi\r\n\r\n\r\n", b"hi\r\n"),
        (b"hi", b"hi\r\n"),
        (b"\r\n\r\n", b"\r\n"),
        (b"\r\n\r\nhi \r\n", b"\r\n\r\nhi \r\n"),
        (b"a\r", b"a\r\r\n"),
        (b"a\r\r\n\n", b"a\r\r\n\n\r\n"),
    ] {
        check_body(Simple, body, canonical);
    }
}

#[test]
fn whitespace_only_lines_at_the_end_do_not_change_the_relaxed_hash() {
    let hash = |body| body_hash(Relaxed, &[body]);
    assert_eq!(hash(b"hi\r\n"), hash(b"hi\r\n \r\n"));
    assert_ne!(body_hash(Simple, &[b"hi\r\n"]), body_hash(Simple, &[b"hi\r\n \r\n"]));
}

#[test]
fn relaxed_fields() {
    for (field, canonical) in [
        (&b"Subject: hi\r\n"[..], &b"subject:hi\r\n"[..]),
        (b"SUBJECT \t:hi", b"subject:hi\r\n"),
        (b"Subject:\r\n hi\r\n\tthere \r\n", b"subject:hi there\r\n"),
        (b"Subject:\r\n", b"subject:\r\n"),
        (b"Subject: \r\n \r\n", b"subject:\r\n"),
        (b"Subject: a: B\r\n", b"subject:a: B\r\n"),
        (b"Subject: caf\xc3\xa9  \xff\r\n", b"subject:caf\xc3\xa9 \xff\r\n"),
        (b"Subject: a\rb\nc\r", b"subject:a\rb\nc\r\r\n"),
    ] {
        check_field(Relaxed, field, canonical);
    }
}

#[test]
fn simple_fields_get_a_line_end() {
    check_field(Simple, b"Subject:  a \r\n b", b"Subject:  a \r\n b\r\n");
}

#[test]
fn contents() {
    for (content, header_bytes, body) in [
        (&b"A: b\r\n\r\nbody\r\n"[..], 8, &b"body\r\n"[..]),
        (b"A: b\r\n\r\n", 8, b""),
        (b"A: b\r\n", 6, b""),
        (b"\r\nbody", 2, b"body"),
        (b"", 0, b""),
        (b"A: b\r\r\n\r\nbody", 9, b"body"),
        (b"A: b\n\nc\r\n\r\nbody", 11, b"body"),
        (b"A: b\r\n\rc\r\n\r\nbody", 12, b"body"),
    ] {
        for cut in 0..=content.len() {
            let mut hasher = ContentHasher::new(Relaxed);
            hasher.update(&content[..cut]);
            hasher.update(&content[cut..]);
            assert_eq!(hasher.in_body(), content.ends_with(body) && body_begins(content, body));
            let hash = hasher.finish();
            assert_eq!(hash.header_bytes, header_bytes, "{content:?} cut at {cut}");
            assert_eq!(hash.body, body_hash(Relaxed, &[body]), "{content:?} cut at {cut}");
        }
    }
}

fn body_begins(content: &[u8], body: &[u8]) -> bool {
    let header = &content[..content.len() - body.len()];
    header == b"\r\n" || header.ends_with(b"\r\n\r\n")
}

#[test]
fn a_stored_hash_comes_back() {
    for canonicalization in [Simple, Relaxed] {
        let hash = body_hash(canonicalization, &[b"hi"]);
        assert_eq!(BodyHash::from_bytes(&hash.to_bytes()), Some(hash));
        assert_eq!(BodyHash::new(canonicalization, *hash.digest()), hash);
    }
    let mut bytes = body_hash(Relaxed, &[]).to_bytes();
    bytes[0] = 2;
    assert_eq!(BodyHash::from_bytes(&bytes), None);
}

#[test]
fn blocks_and_their_edges() {
    // Flaws at every place around the block sizes, behind long clean stretches.
    for length in [1, 15, 16, 17, 63, 64, 65, 80, 128, 511, 512, 1023, 1024, 1025, 5000] {
        for flaw in
            [&b"  x"[..], b"\tx", b" \r\nx", b"\r\n\r\n", b"\r\n \r\n", b" ", b"\r", b"\r\n"]
        {
            let mut body = b"word ".repeat(length / 5 + 1);
            body.truncate(length);
            body.extend_from_slice(flaw);
            for canonicalization in [Simple, Relaxed] {
                check_body(canonicalization, &body, &reference_body(canonicalization, &body));
            }
        }
    }
}

#[test]
fn long_runs_across_chunks() {
    for run in [&b" "[..], b"\t", b" \r", b"\r\n", b" \r\n", b"\r"] {
        for end in [&b""[..], b"x", b"\r\nx", b"\n"] {
            let body = [b"a", &run.repeat(3000)[..], end].concat();
            for canonicalization in [Simple, Relaxed] {
                let expected = reference_body(canonicalization, &body);
                for bytes in [1, 2, 3, 65, 66, 67, 1000] {
                    let pieces: Vec<_> = body.chunks(bytes).collect();
                    let hash = body_hash(canonicalization, &pieces);
                    let expected = digest(&SHA256, &expected);
                    assert_eq!(&hash.digest()[..], expected.as_ref(), "{run:?} {end:?} {bytes}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn bodies_agree_with_the_oracle(body in body(), cuts in cuts()) {
        for canonicalization in [Simple, Relaxed] {
            let canonical = reference_body(canonicalization, &body);
            let expected = digest(&SHA256, &canonical);
            for tier in Tier::ALL {
                let Some(mut hasher) = BodyHasher::with_tier(canonicalization, tier) else {
                    continue;
                };
                cut(&body, &cuts).into_iter().for_each(|piece| hasher.update(piece));
                let hash = hasher.finish();
                prop_assert_eq!(&hash.digest()[..], expected.as_ref(), "{:?}", tier);
            }
        }
    }

    #[test]
    fn fields_agree_with_the_oracle(value in body(), cuts in cuts()) {
        let field = [b"X-Name : ", &value[..]].concat();
        let mut out = Vec::new();
        let mut canon = FieldCanon::new(Relaxed, &mut out);
        cut(&field, &cuts).into_iter().for_each(|piece| canon.update(piece));
        canon.finish();
        prop_assert_eq!(out, reference_field(&field));
    }

    #[test]
    fn contents_do_not_depend_on_the_cutting(content in body(), cuts in cuts()) {
        let mut whole = ContentHasher::new(Relaxed);
        whole.update(&content);
        let mut pieces = ContentHasher::new(Relaxed);
        cut(&content, &cuts).into_iter().for_each(|piece| pieces.update(piece));
        prop_assert_eq!(whole.finish(), pieces.finish());
    }
}

/// Mostly what canonicalisation looks at, with clean stretches long enough for the block paths.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just(b"\r\n".to_vec()),
        3 => Just(b" ".to_vec()),
        2 => Just(b"\t".to_vec()),
        2 => Just(b"\r".to_vec()),
        2 => Just(b"\n".to_vec()),
        4 => Just(b"word".to_vec()),
        1 => (0usize..200).prop_map(|count| b"clean text, ".repeat(count)),
        1 => (0usize..80).prop_map(|count| b"\r\n".repeat(count)),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ];
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    places.into_iter().map(|to| &bytes[std::mem::replace(&mut from, to)..to]).collect()
}

fn body_hash(canonicalization: Canonicalization, pieces: &[&[u8]]) -> BodyHash {
    let mut hasher = BodyHasher::new(canonicalization);
    pieces.iter().for_each(|piece| hasher.update(piece));
    hasher.finish()
}

/// Whole, byte by byte, and cut in two at each place.
fn check_body(canonicalization: Canonicalization, body: &[u8], canonical: &[u8]) {
    let expected = BodyHash::new(
        canonicalization,
        digest(&SHA256, canonical).as_ref().try_into().expect("32 bytes"),
    );
    let bytes: Vec<_> = body.chunks(1).collect();
    assert_eq!(body_hash(canonicalization, &[body]), expected, "{canonicalization} {body:?}");
    assert_eq!(body_hash(canonicalization, &bytes), expected, "{canonicalization} {body:?}");
    for at in 0..=body.len() {
        let (front, back) = body.split_at(at);
        let hash = body_hash(canonicalization, &[front, back]);
        assert_eq!(hash, expected, "{canonicalization} {body:?} cut at {at}");
    }
    assert_eq!(reference_body(canonicalization, body), canonical, "the oracle: {body:?}");
}

fn check_field(canonicalization: Canonicalization, field: &[u8], canonical: &[u8]) {
    for at in 0..=field.len() {
        let mut out = b"before".to_vec();
        let mut canon = FieldCanon::new(canonicalization, &mut out);
        canon.update(&field[..at]);
        canon.update(&field[at..]);
        canon.finish();
        assert_eq!(out, [b"before", canonical].concat(), "{field:?} cut at {at}");
    }
}

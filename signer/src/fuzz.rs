//! Bodies of fuzz targets, so that a target is three lines and the tests replay the corpus; and the
//! naive reference that they and the tests compare with.
//!
//! Each body checks invariants by panicking: a panic is a finding.

use ring::digest::{SHA256, digest};

use crate::canon::{BodyHash, BodyHasher, Canonicalization, ContentHasher, FieldCanon, Tier};
use crate::dns::{Comparison, Expected, Record, compare, record_text};
use crate::key::store::StoreKey;
use crate::key::{Ed25519PrivateKey, RsaPrivateKey, SigningKey};

/// Canonicalises the bytes as a body, as a content and as a header field, by every tier, whole and
/// cut to pieces, and compares with the reference.
///
/// The first byte chooses the cuts.
pub fn fuzz_canon(data: &[u8]) {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let cuts = [usize::MAX, usize::from(cut).max(1), usize::from(cut) + 64];
    for canonicalization in [Canonicalization::Simple, Canonicalization::Relaxed] {
        let canonical = reference_body(canonicalization, bytes);
        let mut expected = [0; 32];
        expected.copy_from_slice(digest(&SHA256, &canonical).as_ref());
        let expected = BodyHash::new(canonicalization, expected);
        for tier in Tier::ALL.into_iter().filter(|tier| tier.is_available()) {
            for cut in cuts {
                let hash = body_hash(canonicalization, tier, pieces(bytes, cut));
                assert_eq!(hash, Some(expected), "{canonicalization} {tier:?} cut at {cut}");
            }
        }
        let whole = content_bytes(canonicalization, bytes, usize::MAX);
        assert_eq!(whole, content_bytes(canonicalization, bytes, cuts[1]));
    }
    let field = [b"X-Name \t: ", bytes].concat();
    for cut in cuts {
        let mut out = Vec::new();
        let mut canon = FieldCanon::new(Canonicalization::Relaxed, &mut out);
        pieces(&field, cut).for_each(|piece| canon.update(piece));
        canon.finish();
        assert_eq!(out, reference_field(&field), "a field cut at {cut}");
    }
}

/// Reads the bytes as a private key of every kind, as a record, and as a sealed line.
///
/// What is taken as a key must be written and read again as the same key.
pub fn fuzz_key(data: &[u8]) {
    let keys = [
        SigningKey::from_pem(data).ok(),
        RsaPrivateKey::from_pkcs1_der(data).ok().map(SigningKey::from),
        RsaPrivateKey::from_pkcs8_der(data).ok().map(SigningKey::from),
        Ed25519PrivateKey::from_pkcs8_der(data).ok().map(SigningKey::from),
    ];
    for key in keys.into_iter().flatten() {
        let again = SigningKey::from_pem(key.to_pkcs8_pem().as_bytes());
        assert_eq!(again.map(|again| again.public()), Ok(key.public()), "written and read again");
        let record = record_text(&key.public());
        let expected = Expected::new(&record).expect("is a record");
        assert_eq!(compare(&[vec![record.into_bytes()]], &expected), Comparison::Same);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(expected) = Expected::new(text)
    {
        assert!(Record::parse(data).is_ok(), "what is expected can be read");
        drop(compare(&[vec![data.to_vec()]], &expected));
    }
    let sealed = StoreKey::new(&[0; 32]).expect("is long enough");
    assert!(sealed.open("a b", data).is_err(), "nobody sealed it");
}

fn pieces(bytes: &[u8], cut: usize) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(cut.min(bytes.len()).max(1))
}

fn body_hash<'a>(
    canonicalization: Canonicalization,
    tier: Tier,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Option<BodyHash> {
    let mut hasher = BodyHasher::with_tier(canonicalization, tier)?;
    pieces.for_each(|piece| hasher.update(piece));
    Some(hasher.finish())
}

fn content_bytes(canonicalization: Canonicalization, bytes: &[u8], cut: usize) -> (u64, BodyHash) {
    let mut hasher = ContentHasher::new(canonicalization);
    pieces(bytes, cut).for_each(|piece| hasher.update(piece));
    let hash = hasher.finish();
    (hash.header_bytes, hash.body)
}

/// RFC 6376 3.4.3 and 3.4.4 word for word, on the whole body.
pub(crate) fn reference_body(canonicalization: Canonicalization, body: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = split_lines(body);
    if canonicalization == Canonicalization::Relaxed {
        lines.iter_mut().for_each(|line| *line = relax(line));
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    if lines.is_empty() && canonicalization == Canonicalization::Simple {
        lines.push(Vec::new());
    }
    lines.into_iter().flat_map(|line| [line, b"\r\n".to_vec()]).flatten().collect()
}

/// RFC 6376 3.4.2 on the whole field, which has a colon.
pub(crate) fn reference_field(field: &[u8]) -> Vec<u8> {
    let unfolded = split_lines(field).concat();
    let colon = unfolded.iter().position(|&byte| byte == b':').expect("a field has a colon");
    let name = relax(&unfolded[..colon]).to_ascii_lowercase();
    let value = relax(&unfolded[colon + 1..]);
    [&name, &b":"[..], value.strip_prefix(b" ").unwrap_or(&value), b"\r\n"].concat()
}

fn split_lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let (mut line, mut rest) = (Vec::new(), bytes);
    while let Some((&first, after)) = rest.split_first() {
        if let Some(next) = rest.strip_prefix(b"\r\n") {
            lines.push(std::mem::take(&mut line));
            rest = next;
        } else {
            line.push(first);
            rest = after;
        }
    }
    lines.push(line);
    lines
}

/// White space runs become one SP; those at the end vanish.
fn relax(line: &[u8]) -> Vec<u8> {
    let mut relaxed = Vec::new();
    for &byte in line {
        match byte {
            b' ' | b'\t' if relaxed.last() == Some(&b' ') => {}
            b' ' | b'\t' => relaxed.push(b' '),
            _ => relaxed.push(byte),
        }
    }
    if relaxed.last() == Some(&b' ') {
        relaxed.pop();
    }
    relaxed
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Every file of the corpus runs clean.
    #[test]
    fn the_corpus_is_replayed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/canon");
        let files = fs::read_dir(&folder).expect("the corpus is committed");
        let mut count = 0;
        for file in files {
            #[allow(clippy::disallowed_methods, reason = "a test reads the corpus")]
            let data = fs::read(file.expect("an entry").path()).expect("a readable file");
            fuzz_canon(&data);
            count += 1;
        }
        assert!(count >= 10, "{} holds {count} files", folder.display());
    }
}

//! PEM (RFC 7468) for private keys: finds the first private key of a file, or says what the file
//! holds instead.
//!
//! Decoded bytes go straight into a zeroised vector of sufficient capacity, so that no
//! reallocation leaves a copy behind.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::KeyRefused;

/// One section: its label and decoded bytes.
pub(super) struct Section<'a> {
    pub(super) label: &'a str,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// Decodes the first section that is a private key.
pub(super) fn private_key(text: &[u8]) -> Result<Section<'_>, KeyRefused> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(KeyRefused::NotPem);
    }
    let text = std::str::from_utf8(text).map_err(|_| KeyRefused::NotPem)?;
    let mut lines = text.lines().map(str::trim);
    let mut other = None;
    while let Some(line) = lines.next() {
        let Some(label) = boundary(line, "-----BEGIN ") else { continue };
        if label.ends_with("PRIVATE KEY") {
            return decode(label, &mut lines);
        }
        other.get_or_insert(label);
    }
    Err(other.map_or(KeyRefused::NotPem, |label| KeyRefused::NotPrivate { label: label.into() }))
}

/// Encodes with 64 columns (RFC 7468 2).
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let framing_bytes = 2 * (label.len() + "-----BEGIN -----\n".len());
    let mut text = String::with_capacity(framing_bytes + body.len() + body.len() / COLUMNS + 1);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = &body[..];
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(COLUMNS));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    Zeroizing::new(text)
}

fn decode<'a>(
    label: &'a str,
    lines: &mut impl Iterator<Item = &'a str>,
) -> Result<Section<'a>, KeyRefused> {
    let mut body = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX));
    for line in lines {
        if let Some(end) = boundary(line, "-----END ") {
            if end != label {
                return Err(KeyRefused::Truncated);
            }
            let mut der = Zeroizing::new(Vec::with_capacity(body.len()));
            let decoded = STANDARD.decode_vec(body.as_bytes(), &mut der);
            return decoded.map(|()| Section { label, der }).map_err(|_| KeyRefused::Base64);
        }
        // RFC 1421 headers, of which OpenSSL's traditional encryption is the one in use.
        if line.contains("ENCRYPTED") {
            return Err(KeyRefused::Encrypted);
        }
        if !line.contains(':') {
            body.push_str(line);
        }
    }
    Err(KeyRefused::Truncated)
}

fn boundary<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

/// Far above any RSA key (a 4096-bit one has 3.3 KiB) with its certificates beside it.
const TEXT_BYTES_MAX: usize = 64 * 1024;

const COLUMNS: usize = 64;

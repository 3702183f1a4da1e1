//! One header field: RFC 6376 3.4.1 (simple) and 3.4.2 (relaxed), streaming.
//!
//! The field comes in pieces, since stored blocks may split it anywhere, and its canonical form is
//! appended to the caller's vector. Malformed fields (no colon) are taken as they are; whoever
//! chooses the fields does not choose those.

use super::Canonicalization;

/// Canonicalises one header field.
pub struct FieldCanon<'a> {
    out: &'a mut Vec<u8>,
    canonicalization: Canonicalization,
    part: Part,
    /// White space was read after something that was written; it is written if more follows.
    white_space: bool,
    cr: bool,
}

impl<'a> FieldCanon<'a> {
    /// Begins a field whose canonical form goes to the end of `out`.
    pub fn new(canonicalization: Canonicalization, out: &'a mut Vec<u8>) -> Self {
        Self { out, canonicalization, part: Part::Name, white_space: false, cr: false }
    }

    /// Takes the next bytes of the field (name, colon, value with its folds, final CRLF or not).
    pub fn update(&mut self, piece: &[u8]) {
        match self.canonicalization {
            Canonicalization::Simple => self.out.extend_from_slice(piece),
            Canonicalization::Relaxed => self.relaxed(piece),
        }
    }

    /// Ends the field with exactly one CRLF.
    pub fn finish(mut self) {
        self.close();
        if self.canonicalization == Canonicalization::Relaxed || !self.out.ends_with(b"\r\n") {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Ends the field without a CRLF: the form of the `DKIM-Signature` field itself at the end of
    /// what is hashed (RFC 6376 3.7). The caller has not handed in a final CRLF.
    pub fn finish_open(mut self) {
        self.close();
    }

    /// A CR at the very end was bare.
    fn close(&mut self) {
        if std::mem::take(&mut self.cr) {
            self.write(b'\r');
        }
    }

    /// Copies what is canonical as it stands, and reads the rest byte by byte.
    fn relaxed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            if !self.white_space && !self.cr {
                let (plain, after) = match self.part {
                    Part::Name => rest.split_at(name_bytes(rest)),
                    Part::Colon => rest.split_at(0),
                    Part::Value => rest.split_at(plain_bytes(rest)),
                };
                let from = self.out.len();
                self.out.extend_from_slice(plain);
                if self.part == Part::Name {
                    self.out[from..].make_ascii_lowercase();
                }
                rest = after;
            }
            if let Some((&byte, after)) = rest.split_first() {
                self.step(byte);
                rest = after;
            }
        }
    }

    fn step(&mut self, byte: u8) {
        if std::mem::take(&mut self.cr) {
            if byte == b'\n' {
                return; // a fold, or the end
            }
            self.write(b'\r');
        }
        match (byte, self.part) {
            (b'\r', _) => self.cr = true,
            (b' ' | b'\t', _) => self.white_space = self.part != Part::Colon,
            (b':', Part::Name) => {
                self.white_space = false;
                self.part = Part::Colon;
                self.out.push(b':');
            }
            (_, Part::Name) => self.write(byte.to_ascii_lowercase()),
            _ => self.write(byte),
        }
    }

    fn write(&mut self, byte: u8) {
        if std::mem::take(&mut self.white_space) {
            self.out.push(b' ');
        }
        if self.part == Part::Colon {
            self.part = Part::Value;
        }
        self.out.push(byte);
    }
}

/// Where in the field the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Name,
    /// After the colon, with nothing but white space so far.
    Colon,
    Value,
}

/// Length of the beginning that belongs to a name and holds nothing to look at.
fn name_bytes(bytes: &[u8]) -> usize {
    let is_plain = |byte: &&u8| **byte > b' ' && **byte != b':';
    bytes.iter().take_while(is_plain).count()
}

/// Length of the beginning of a value that is canonical as it stands, whatever follows: up to a CR,
/// a TAB, or an SP that such a byte, an SP or nothing follows.
fn plain_bytes(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = bytes.get(at..=at + BLOCK).and_then(<[u8]>::first_chunk::<PAIRS>) {
        // Flat and without branches, which the compiler vectorises on every target.
        let flaws = (0..BLOCK).fold(0, |all, n| all | u8::from(is_flaw(block[n], block[n + 1])));
        if flaws != 0 {
            break;
        }
        at += BLOCK;
    }
    let rest = &bytes[at..];
    let flaw = rest.windows(2).position(|pair| is_flaw(pair[0], pair[1]));
    at + flaw.unwrap_or(rest.len().saturating_sub(1))
}

#[inline]
fn is_flaw(byte: u8, next: u8) -> bool {
    (byte == b'\r') | (byte == b'\t') | ((byte == b' ') & (next <= b' '))
}

/// Bytes of a value looked at together; values are short.
const BLOCK: usize = 16;
const PAIRS: usize = BLOCK + 1;

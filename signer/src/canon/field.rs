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
            Canonicalization::Relaxed => piece.iter().for_each(|&byte| self.relaxed(byte)),
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

    fn relaxed(&mut self, byte: u8) {
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

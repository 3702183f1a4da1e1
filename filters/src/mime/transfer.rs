//! Transfer encodings (RFC 2045 section 6), undone in a stream.
//!
//! # Invariants
//! - Decoded bytes come out in order, in pieces of no particular size; state is a few bytes.
//! - Broken input is read the way lenient mail readers read it: bytes outside the base64 alphabet
//!   are skipped, padding ends a quantum and decoding goes on, an escape that is none stands for
//!   itself. A strict reader would see less than we do.
//!
//! # Failures
//! None.

use base64_simd::{AsOut, STANDARD_NO_PAD};
use memchr::memchr;

/// Encoded bytes cleaned of line ends and decoded together.
const BASE64_BYTES: usize = 4096;

/// Quoted-printable output gathered before it is passed on.
const QUOTED_BYTES: usize = 2048;

/// The transfer encoding of one part, with what is open in it.
pub(crate) enum Transfer {
    /// `7bit`, `8bit`, `binary`, and whatever we do not know.
    Identity,
    /// `base64`.
    Base64(Base64),
    /// `quoted-printable`.
    Quoted(Quoted),
}

impl Transfer {
    /// The encoding a field names; `None` for one we do not know.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("7bit") || is("8bit") || is("binary") || name.is_empty() {
            Some(Self::Identity)
        } else if is("base64") {
            Some(Self::Base64(Base64::default()))
        } else if is("quoted-printable") {
            Some(Self::Quoted(Quoted::Text))
        } else {
            None
        }
    }

    pub(crate) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// Decodes the next piece.
    pub(crate) fn push(&mut self, bytes: &[u8], mut out: impl FnMut(&[u8])) {
        match self {
            Self::Identity => out(bytes),
            Self::Base64(base64) => base64.push(bytes, &mut out),
            Self::Quoted(quoted) => quoted.push(bytes, &mut out),
        }
    }

    /// Decodes what an end of input leaves open.
    pub(crate) fn finish(&mut self, mut out: impl FnMut(&[u8])) {
        match self {
            Self::Identity => {}
            Self::Base64(base64) => base64.quantum_ends(&mut out),
            Self::Quoted(quoted) => quoted.finish(&mut out),
        }
    }
}

/// Base64: at most three symbols of an open quantum.
#[derive(Default)]
pub(crate) struct Base64 {
    open: [u8; 4],
    open_symbols: usize,
}

impl Base64 {
    fn push(&mut self, mut bytes: &[u8], out: &mut impl FnMut(&[u8])) {
        let mut clean = [0; BASE64_BYTES];
        let mut fill = self.resume(&mut clean);
        while !bytes.is_empty() {
            let line_end = memchr(b'\n', bytes);
            let (mut line, rest) = match line_end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None => (bytes, &bytes[..0]),
            };
            bytes = rest;
            if let [start @ .., b'\r'] = line {
                line = start;
            }
            while !line.is_empty() {
                let (now, later) = line.split_at(line.len().min(BASE64_BYTES - fill));
                clean[fill..fill + now.len()].copy_from_slice(now);
                fill += now.len();
                line = later;
                if fill == BASE64_BYTES {
                    self.decode(&mut clean, out);
                    fill = self.resume(&mut clean);
                }
            }
        }
        self.decode(&mut clean[..fill], out);
    }

    /// Puts the open quantum's symbols at the front of `clean`.
    fn resume(&mut self, clean: &mut [u8]) -> usize {
        let symbols = std::mem::replace(&mut self.open_symbols, 0);
        clean[..symbols].copy_from_slice(&self.open[..symbols]);
        symbols
    }

    /// Decodes `clean`; what does not fill a quantum stays open.
    fn decode(&mut self, clean: &mut [u8], out: &mut impl FnMut(&[u8])) {
        // Padding sits in the last quantum as a rule: do what is before it in bulk all the same.
        let whole = clean.len() - clean.len() % 4;
        let bulk = match clean[..whole].last() {
            Some(b'=') => whole - 4,
            _ => whole,
        };
        let mut decoded = [0; BASE64_BYTES / 4 * 3];
        match STANDARD_NO_PAD.decode(&clean[..bulk], decoded.as_mut_slice().as_out()) {
            Ok(decoded) => {
                if !decoded.is_empty() {
                    out(decoded);
                }
                self.symbols(&clean[bulk..], out);
            }
            Err(_) => self.symbols(clean, out),
        }
    }

    /// The slow way, a symbol at a time, for what is not clean.
    fn symbols(&mut self, bytes: &[u8], out: &mut impl FnMut(&[u8])) {
        let mut decoded = [0; 96];
        let mut fill = 0;
        for byte in bytes {
            if *byte == b'=' && self.open_symbols > 0 {
                out(&decoded[..fill]);
                fill = 0;
                self.quantum_ends(out);
            }
            if !is_symbol(*byte) {
                continue;
            }
            self.open[self.open_symbols] = *byte;
            self.open_symbols += 1;
            if self.open_symbols == 4 {
                self.open_symbols = 0;
                decoded[fill..fill + 3].copy_from_slice(&quantum(self.open));
                fill += 3;
            }
            if fill == decoded.len() {
                out(&decoded);
                fill = 0;
            }
        }
        if fill > 0 {
            out(&decoded[..fill]);
        }
    }

    fn quantum_ends(&mut self, out: &mut impl FnMut(&[u8])) {
        let symbols = std::mem::replace(&mut self.open_symbols, 0);
        self.open[symbols..].fill(b'A');
        if symbols >= 2 {
            out(&quantum(self.open)[..symbols - 1]);
        }
    }
}

fn is_symbol(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

fn quantum(symbols: [u8; 4]) -> [u8; 3] {
    let bits = symbols.iter().fold(0, |bits, symbol| bits << 6 | u32::from(sextet(*symbol)));
    let [_, decoded @ ..] = bits.to_be_bytes();
    decoded
}

fn sextet(symbol: u8) -> u8 {
    match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        _ => 63,
    }
}

/// Quoted-printable: how far into an escape the input so far reaches.
#[derive(Clone, Copy)]
pub(crate) enum Quoted {
    Text,
    /// `=`
    Escape,
    /// `=` and one hexadecimal digit.
    Hex(u8),
    /// `=` and white space: a soft line break if the line ends here (RFC 2045 6.7 rule 3).
    Soft,
}

impl Quoted {
    fn push(&mut self, mut bytes: &[u8], out: &mut impl FnMut(&[u8])) {
        let mut gathered = Gathered { bytes: [0; QUOTED_BYTES], fill: 0, out };
        while let [first, rest @ ..] = bytes {
            match (*self, *first) {
                (Self::Text, b'=') => {
                    bytes = gathered.escapes(bytes);
                    if let [b'=', rest @ ..] = bytes {
                        *self = Self::Escape;
                        bytes = rest;
                    }
                    continue;
                }
                (Self::Text, _) => {
                    let literal = memchr(b'=', bytes).unwrap_or(bytes.len());
                    gathered.push(&bytes[..literal]);
                    bytes = &bytes[literal..];
                    continue;
                }
                (Self::Escape | Self::Soft, b'\n') => *self = Self::Text,
                (Self::Escape | Self::Soft, b' ' | b'\t' | b'\r') => *self = Self::Soft,
                (Self::Escape, digit) if digit.is_ascii_hexdigit() => *self = Self::Hex(digit),
                (Self::Hex(high), low) if low.is_ascii_hexdigit() => {
                    gathered.push(&[hex(high) << 4 | hex(low)]);
                    *self = Self::Text;
                }
                // Not an escape: what was taken stands for itself, and `first` is looked at again.
                (open, _) => {
                    gathered.push(open.literal().as_bytes());
                    *self = Self::Text;
                    continue;
                }
            }
            bytes = rest;
        }
        gathered.flush();
    }

    fn finish(&mut self, out: &mut impl FnMut(&[u8])) {
        let open = std::mem::replace(self, Self::Text).literal();
        if !open.as_bytes().is_empty() {
            out(open.as_bytes());
        }
    }

    fn literal(self) -> Literal {
        match self {
            Self::Text => Literal([0; 2], 0),
            Self::Escape => Literal(*b"= ", 1),
            Self::Hex(digit) => Literal([b'=', digit], 2),
            Self::Soft => Literal(*b"= ", 2),
        }
    }
}

struct Literal([u8; 2], usize);

impl Literal {
    fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

/// The value of a hexadecimal digit, either case; 0xFF for other bytes.
static HEX: [u8; 256] = {
    let mut table = [0xFF; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789ABCDEF"[value as usize] as usize] = value;
        table[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    table
};

fn hex(digit: u8) -> u8 {
    HEX[usize::from(digit)]
}

/// Short pieces gathered into long ones; long ones pass by.
struct Gathered<'a, F: FnMut(&[u8])> {
    bytes: [u8; QUOTED_BYTES],
    fill: usize,
    out: &'a mut F,
}

impl<F: FnMut(&[u8])> Gathered<'_, F> {
    fn push(&mut self, piece: &[u8]) {
        if self.fill + piece.len() > QUOTED_BYTES {
            self.flush();
        }
        if piece.len() >= QUOTED_BYTES / 2 {
            self.flush();
            (self.out)(piece);
            return;
        }
        self.bytes[self.fill..self.fill + piece.len()].copy_from_slice(piece);
        self.fill += piece.len();
    }

    /// Decodes a row of whole escapes and plain soft line breaks; gives what follows it.
    fn escapes<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        while let [b'=', first, second, rest @ ..] = bytes {
            let (high, low) = (HEX[usize::from(*first)], HEX[usize::from(*second)]);
            if high | low <= 0x0F {
                if self.fill == QUOTED_BYTES {
                    self.flush();
                }
                self.bytes[self.fill] = high << 4 | low;
                self.fill += 1;
            } else if (*first, *second) != (b'\r', b'\n') {
                break;
            }
            bytes = rest;
        }
        bytes
    }

    fn flush(&mut self) {
        if self.fill > 0 {
            (self.out)(&self.bytes[..self.fill]);
            self.fill = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes `encoded` whole and cut at every place, and checks that both give `want`.
    #[track_caller]
    fn check(name: &str, encoded: &[u8], want: &[u8]) {
        for cut in 0..=encoded.len() {
            let mut transfer = Transfer::named(name.as_bytes()).unwrap();
            let mut got = Vec::new();
            let (first, second) = encoded.split_at(cut);
            transfer.push(first, |piece| got.extend_from_slice(piece));
            transfer.push(second, |piece| got.extend_from_slice(piece));
            transfer.finish(|piece| got.extend_from_slice(piece));
            assert_eq!(got, want, "{name} cut at {cut}");
        }
    }

    #[test]
    fn base64_as_mailers_write_it() {
        check("base64", b"NDExMTExMTE=\r\n", b"41111111");
        check("BASE64", b"NDEx\r\nMTEx\r\nMTE=\r\n", b"41111111");
        check("base64", b"N\r\nDE x!MT\nExMTE", b"41111111");
        check("base64", b"NDE=NDE=", b"4141");
        check("base64", b"====NDEx=", b"411");
        check("base64", b"N", b"");
        check("base64", b"", b"");
    }

    #[test]
    fn quoted_printable_as_mailers_write_it() {
        check("quoted-printable", b"4=31=\r\n11=3D", b"4111=");
        check("quoted-printable", b"a=  \t\r\nb=\nc", b"abc");
        check("quoted-printable", b"=e3=81=82", "\u{3042}".as_bytes());
        check("quoted-printable", b"1=2 =ZZ = x=", b"1=2 =ZZ = x=");
    }

    #[test]
    fn unknown_encodings_are_told() {
        assert!(Transfer::named(b"x-uuencode").is_none());
        assert!(Transfer::named(b"8BIT").unwrap().is_identity());
    }

    proptest! {
        #[test]
        fn base64_of_anything_comes_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..9000),
            width in 1_usize..200,
            chunk in 1_usize..5000,
        ) {
            let text = base64_simd::STANDARD.encode_to_string(&bytes);
            let lines: Vec<&[u8]> = text.as_bytes().chunks(width).collect();
            let encoded = lines.join(&b"\r\n"[..]);
            let mut transfer = Transfer::named(b"base64").unwrap();
            let mut got = Vec::new();
            for piece in encoded.chunks(chunk) {
                transfer.push(piece, |piece| got.extend_from_slice(piece));
            }
            transfer.finish(|piece| got.extend_from_slice(piece));
            prop_assert_eq!(got, bytes);
        }
    }
}

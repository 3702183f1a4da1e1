//! Text of any charset as UTF-8, in a stream.
//!
//! Stretches of ASCII pass by untouched and uncopied; the rest goes through `encoding_rs` in pieces
//! on the stack. UTF-8 itself is never converted: the detectors read it as it is, malformed or not.
//!
//! # Invariants
//! A piece passes by only while the decoder is between characters and in its ASCII state, so that
//! the output is what decoding everything would have given.
//!
//! # Failures
//! None. A charset without a decoder is told by [`Charset::named`] and read as windows-1252.

use encoding_rs::{Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// Bytes decoded together where text is not ASCII.
const PIECE_BYTES: usize = 1024;

/// Output for a piece: `encoding_rs` needs at most three bytes for one, and a few more at the end.
const DECODED_BYTES: usize = 3 * PIECE_BYTES + 64;

/// Bytes in which ASCII is looked for at a time: looking further, again after each piece, would make
/// the cost quadratic.
const WINDOW_BYTES: usize = 4096;

/// Shortest stretch of ASCII that is worth passing by.
const ASCII_BYTES_MIN: usize = 48;

/// The charset of one text, with what is open in it.
pub(crate) struct Charset {
    /// `None` for UTF-8.
    decoder: Option<Decoder>,
    start: Start,
}

/// A byte order mark at the start overrules the label, for spreadsheets export UTF-16 so.
#[derive(Clone, Copy)]
enum Start {
    Unseen,
    Half(u8),
    Past,
}

impl Charset {
    /// Text without a charset: read as UTF-8.
    pub(crate) const fn unlabelled() -> Self {
        Self { decoder: None, start: Start::Unseen }
    }

    /// The charset a label names; `None` for one without a decoder.
    pub(crate) fn named(label: &[u8]) -> Option<Self> {
        let encoding = Encoding::for_label_no_replacement(label)?;
        Some(Self::of(encoding))
    }

    /// What stands in for a charset without a decoder.
    pub(crate) fn fallback() -> Self {
        Self::of(WINDOWS_1252)
    }

    fn of(encoding: &'static Encoding) -> Self {
        let utf8 = encoding == UTF_8;
        let decoder = (!utf8).then(|| encoding.new_decoder_without_bom_handling());
        Self { decoder, start: Start::Unseen }
    }

    /// Converts the next piece.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut out: impl FnMut(&[u8])) {
        while let (Start::Unseen | Start::Half(_), [first, rest @ ..]) = (self.start, bytes) {
            self.start = match (self.start, *first) {
                (Start::Unseen, 0xFE | 0xFF) => Start::Half(*first),
                (Start::Half(half), second) => {
                    if !self.order_mark(half, second) {
                        self.text(&[half, second], &mut out);
                    }
                    Start::Past
                }
                _ => {
                    self.start = Start::Past;
                    break;
                }
            };
            bytes = rest;
        }
        self.text(bytes, &mut out);
    }

    /// Converts what an end of input leaves open.
    pub(crate) fn finish(&mut self, mut out: impl FnMut(&[u8])) {
        if let Start::Half(half) = self.start {
            self.text(&[half], &mut out);
        }
        self.start = Start::Past;
        if let Some(decoder) = &mut self.decoder {
            let mut decoded = [0; DECODED_BYTES];
            let (_, _, written, _) = decoder.decode_to_utf8(&[], &mut decoded, true);
            out(&decoded[..written]);
        }
        // A decoder is spent once it saw the end.
        self.decoder = None;
    }

    fn order_mark(&mut self, first: u8, second: u8) -> bool {
        let encoding = match (first, second) {
            (0xFE, 0xFF) => UTF_16BE,
            (0xFF, 0xFE) => UTF_16LE,
            _ => return false,
        };
        self.decoder = Some(encoding.new_decoder_without_bom_handling());
        true
    }

    fn text(&mut self, mut bytes: &[u8], out: &mut impl FnMut(&[u8])) {
        let Some(decoder) = &mut self.decoder else {
            return out(bytes);
        };
        let mut decoded = [0; DECODED_BYTES];
        while !bytes.is_empty() {
            let window = &bytes[..bytes.len().min(WINDOW_BYTES)];
            let ascii = ascii_up_to(window);
            // In the others ASCII may be the rest of a character, and in ISO-2022-JP a whole one.
            let ascii = if decoder.encoding().is_single_byte() {
                ascii
            } else {
                decoder.latin1_byte_compatible_up_to(&window[..ascii]).unwrap_or(0)
            };
            if ascii >= ASCII_BYTES_MIN || ascii == bytes.len() {
                out(&bytes[..ascii]);
                bytes = &bytes[ascii..];
                continue;
            }
            let piece = &bytes[..bytes.len().min(PIECE_BYTES)];
            let (_, read, written, _) = decoder.decode_to_utf8(piece, &mut decoded, false);
            out(&decoded[..written]);
            bytes = &bytes[read..];
        }
    }
}

/// How many ASCII bytes `bytes` begins with. The one of `encoding_rs` looks at 16 bytes at a time.
fn ascii_up_to(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<64>();
    let whole = 64 * blocks.iter().take_while(|block| block.is_ascii()).count();
    let rest = bytes[whole..].iter().take_while(|byte| byte.is_ascii()).count();
    whole + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `text`, encoded, whole and cut at every place.
    #[track_caller]
    fn check(label: &str, bytes: &[u8], want: &str) {
        for cut in 0..=bytes.len() {
            let mut charset = Charset::named(label.as_bytes()).unwrap();
            let mut got = Vec::new();
            let (first, second) = bytes.split_at(cut);
            charset.push(first, |piece| got.extend_from_slice(piece));
            charset.push(second, |piece| got.extend_from_slice(piece));
            charset.finish(|piece| got.extend_from_slice(piece));
            assert_eq!(String::from_utf8_lossy(&got), want, "{label} cut at {cut}");
        }
    }

    #[test]
    fn every_charset_comes_out_as_utf8() {
        let japanese =
            "注文 4111 ４１１１－ 番号、and a long stretch of ASCII that passes by untouched; ｱ。";
        for label in ["utf-8", "iso-2022-jp", "Shift_JIS", "euc-jp"] {
            let encoding = Encoding::for_label(label.as_bytes()).unwrap();
            let (bytes, _, lost) = encoding.encode(japanese);
            let want = if label == "iso-2022-jp" {
                japanese.replace('ｱ', "ア")
            } else {
                japanese.into()
            };
            assert!(!lost);
            check(label, &bytes, &want);
        }
        check("iso-8859-1", b"caf\xE9 4111\xA01111", "café 4111\u{A0}1111");
        check("us-ascii", b"4111", "4111");
    }

    #[test]
    fn a_byte_order_mark_overrules_the_label() {
        check("utf-8", b"\xFF\xFE4\x001\x00", "41");
        check("iso-8859-1", b"\xFE\xFF\x004\x001", "41");
        check("utf-16le", b"4\x001\x00", "41");
        check("iso-8859-1", b"\xFFa", "ÿa");
        check("iso-8859-1", b"\xFF", "ÿ");
    }

    #[test]
    fn unknown_charsets_are_told() {
        assert!(Charset::named(b"utf-7").is_none());
        assert!(Charset::named(b"iso-2022-kr").is_none());
        assert!(Charset::named(b"").is_none());
    }
}

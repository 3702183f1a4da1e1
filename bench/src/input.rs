//! What is measured with: the same texts for us and for the peer, the same in every run.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Characters of a line of text and of base64.
const LINE: usize = 76;

const WORDS: &[&str] = &[
    "the",
    "invoice",
    "for",
    "your",
    "order",
    "is",
    "attached",
    "please",
    "pay",
    "within",
    "30",
    "days",
    "of",
    "receipt",
    "total",
    "amount",
    "EUR",
    "1,204.50",
    "thank",
    "you",
    "regards",
    "department",
    "number",
    "2026-11-24",
    "reference",
    "4711",
    "delivery",
    "customer",
    "address",
];

/// Lines of words, `bytes` long.
pub fn text(bytes: usize) -> Vec<u8> {
    let mut random = Random(1);
    let mut out = Vec::with_capacity(bytes + LINE);
    let mut column = 0;
    while out.len() < bytes {
        let word = WORDS[random.below(WORDS.len())];
        if column + word.len() + 1 > LINE {
            out.extend_from_slice(b"\r\n");
            column = 0;
        } else if column > 0 {
            out.push(b' ');
            column += 1;
        }
        out.extend_from_slice(word.as_bytes());
        column += word.len();
    }
    out.truncate(bytes.saturating_sub(2));
    out.extend_from_slice(b"\r\n");
    out
}

/// Lines of words in base64, about `bytes` long: what a text attachment looks like.
pub fn base64(bytes: usize) -> Vec<u8> {
    let encoded = BASE64_STANDARD.encode(text(bytes / (LINE + 2) * LINE / 4 * 3));
    let mut out = Vec::with_capacity(bytes);
    for line in encoded.as_bytes().chunks(LINE) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Lines of words with two spaces between any two, `bytes` long.
pub fn double_spaced(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 1);
    for byte in text(bytes) {
        out.extend_from_slice(if byte == b' ' { b"  " } else { std::slice::from_ref(&byte) });
        if out.len() >= bytes {
            break;
        }
    }
    out.truncate(bytes.saturating_sub(2));
    out.extend_from_slice(b"\r\n");
    out
}

/// SP CR over and over, `bytes` long: nothing of it changes, and all of it must be looked at.
pub fn space_cr(bytes: usize) -> Vec<u8> {
    b" \r".iter().copied().cycle().take(bytes).collect()
}

/// The header of a plain message.
pub fn header() -> Vec<u8> {
    b"From: Billing <billing@one.example>\r\nTo: customer@two.example\r\n\
      Subject: Invoice 4711 of November\r\nDate: Tue, 24 Nov 2026 20:00:00 +0000\r\n\
      Message-ID: <4711.2026@one.example>\r\nMIME-Version: 1.0\r\n\
      Content-Type: text/plain; charset=utf-8\r\n\r\n"
        .to_vec()
}

/// A message of one text part, about `bytes` long.
pub fn text_message(bytes: usize) -> Vec<u8> {
    let mut out = header();
    let body = bytes.saturating_sub(out.len());
    out.extend(text(body));
    out
}

/// A message with a short text and an attachment in base64, about `bytes` long.
pub fn attachment_message(bytes: usize) -> Vec<u8> {
    let mut head = String::from_utf8_lossy(&header())
        .replace("text/plain; charset=utf-8", "multipart/mixed; boundary=\"cut here\"");
    head.push_str(
        "--cut here\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nsee attachment\r\n",
    );
    head.push_str("--cut here\r\nContent-Type: text/csv; charset=utf-8; name=\"a.csv\"\r\n");
    head.push_str("Content-Transfer-Encoding: base64\r\n\r\n");
    let mut out = head.into_bytes();
    out.extend(base64(bytes.saturating_sub(out.len() + 16)));
    out.extend_from_slice(b"--cut here--\r\n");
    out
}

/// A client's side of a session that sends `messages` messages with this content, commands and
/// content as they follow one another on the wire.
pub fn dialogue(content: &[u8], messages: usize) -> Vec<u8> {
    let mut out = b"EHLO app.one.example\r\n".to_vec();
    for _ in 0..messages {
        out.extend_from_slice(b"MAIL FROM:<billing@one.example> SIZE=4096 BODY=8BITMIME\r\n");
        out.extend_from_slice(b"RCPT TO:<customer@two.example>\r\nDATA\r\n");
        out.extend_from_slice(content);
        out.extend_from_slice(b".\r\n");
    }
    out
}

/// xorshift64: the same texts in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper half is the better one, and fits any `usize`.
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_long_as_asked_for_and_end_with_a_line() {
        for bytes in [100, 4096, 65_536] {
            assert_eq!(text(bytes).len(), bytes);
            assert_eq!(double_spaced(bytes).len(), bytes);
            assert!(base64(bytes).len().abs_diff(bytes) < 100);
            assert!(text(bytes).ends_with(b"\r\n") && base64(bytes).ends_with(b"\r\n"));
        }
        assert_eq!(text(500), text(500));
    }

    #[test]
    fn no_line_is_longer_than_mail_allows() {
        for out in [text_message(20_000), attachment_message(20_000)] {
            assert!(out.split(|&byte| byte == b'\n').all(|line| line.len() <= 79));
            assert!(out.len().abs_diff(20_000) < 200, "{}", out.len());
        }
    }
}

//! The SMTP wire, read: replies on the client's side, content on the server's side.
//!
//! Small on purpose and shared with nothing: see the crate's first page.

use std::io;

use memchr::memchr;
use ring::digest::{Context, SHA256};

use crate::message::{MessageId, Verdict, judge};

/// A reply longer than this ends the session.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;

/// A header section longer than this is not searched for an id.
const HEADER_BYTES_MAX: usize = 256 * 1024;

/// One SMTP reply (RFC 5321 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// Text of all its lines, joined with spaces.
    pub text: String,
}

impl Reply {
    /// 2xx.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Reads one reply from the front of `input`, and says how long it was; `None` until it is whole.
    ///
    /// # Errors
    /// `InvalidData` if that is no reply.
    pub fn parse(input: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut text = String::new();
        let mut read = 0;
        loop {
            let Some(end) = memchr(b'\n', &input[read..]) else {
                return if input.len() > REPLY_BYTES_MAX { Err(not_a_reply()) } else { Ok(None) };
            };
            let line = input[read..read + end].trim_ascii_end();
            read += end + 1;
            let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok());
            let code: u16 = code.and_then(|code| code.parse().ok()).ok_or_else(not_a_reply)?;
            if !(200..600).contains(&code) {
                return Err(not_a_reply());
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&String::from_utf8_lossy(line.get(4..).unwrap_or_default()));
            match line.get(3) {
                Some(b'-') => {}
                Some(b' ') | None => return Ok(Some((Self { code, text }, read))),
                Some(_) => return Err(not_a_reply()),
            }
        }
    }
}

fn not_a_reply() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an SMTP reply")
}

/// What one call of [`Content::feed`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes taken from the input. What is left must be handed in again with more behind it.
    pub consumed: usize,
    /// Whether the final dot was among them.
    pub has_ended: bool,
}

/// Content as it arrives after DATA: takes out the dots, hashes the body, keeps the header section.
pub struct Content {
    header: Vec<u8>,
    hash: Context,
    in_body: bool,
    at_line_start: bool,
    last: u8,
    bytes: u64,
    bare_line_feeds: u64,
    copy: Option<Vec<u8>>,
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Id and verdict, if it is one of ours.
    pub judged: Option<(MessageId, Verdict)>,
    /// Length in plain form.
    pub bytes: u64,
    /// Line feeds without a carriage return in front.
    pub bare_line_feeds: u64,
    /// The message in plain form, if it was asked for.
    pub copy: Option<Vec<u8>>,
}

impl Content {
    /// Starts a message; `keeps_copy` keeps all of it in memory.
    pub fn new(keeps_copy: bool) -> Self {
        Self {
            header: Vec::new(),
            hash: Context::new(&SHA256),
            in_body: false,
            at_line_start: true,
            last: b'\n',
            bytes: 0,
            bare_line_feeds: 0,
            copy: keeps_copy.then(Vec::new),
        }
    }

    /// Takes content up to the final dot. Only CRLF ends a line, and only CRLF.CRLF the message.
    pub fn feed(&mut self, input: &[u8]) -> Fed {
        let mut at = 0;
        // What lies before `kept` has been handed on.
        let mut kept = 0;
        loop {
            if self.at_line_start {
                match input[at..] {
                    [] | [b'.'] | [b'.', b'\r'] => break,
                    [b'\r'] if !self.in_body => break,
                    [b'.', b'\r', b'\n', ..] => {
                        self.keep(&input[kept..at]);
                        return Fed { consumed: at + 3, has_ended: true };
                    }
                    [b'.', ..] => {
                        self.keep(&input[kept..at]);
                        at += 1;
                        kept = at;
                    }
                    [b'\r', b'\n', ..] if !self.in_body => {
                        self.keep(&input[kept..at + 2]);
                        self.in_body = true;
                        self.last = b'\n';
                        at += 2;
                        kept = at;
                        continue;
                    }
                    _ => {}
                }
                self.at_line_start = false;
            }
            let Some(found) = memchr(b'\n', &input[at..]) else {
                at = input.len();
                break;
            };
            let line_feed = at + found;
            let before = if line_feed > 0 { input[line_feed - 1] } else { self.last };
            self.at_line_start = before == b'\r';
            self.bare_line_feeds += u64::from(!self.at_line_start);
            at = line_feed + 1;
        }
        self.keep(&input[kept..at]);
        if at > 0 {
            self.last = input[at - 1];
        }
        Fed { consumed: at, has_ended: false }
    }

    fn keep(&mut self, plain: &[u8]) {
        self.bytes += plain.len() as u64;
        if let Some(copy) = &mut self.copy {
            copy.extend_from_slice(plain);
        }
        if self.in_body {
            self.hash.update(plain);
        } else if self.header.len() + plain.len() <= HEADER_BYTES_MAX {
            self.header.extend_from_slice(plain);
        }
    }

    /// Judges the message, once it has ended.
    pub fn finish(self) -> Arrived {
        Arrived {
            judged: judge(&self.header, self.hash.finish().as_ref()),
            bytes: self.bytes,
            bare_line_feeds: self.bare_line_feeds,
            copy: self.copy,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Maker;

    fn read(wire: &[u8], cut: usize) -> Option<(Arrived, usize)> {
        let mut content = Content::new(true);
        let mut buffer = Vec::new();
        let mut consumed = 0;
        for piece in wire.chunks(cut.max(1)) {
            buffer.extend_from_slice(piece);
            let fed = content.feed(&buffer);
            consumed += fed.consumed;
            if fed.has_ended {
                return Some((content.finish(), consumed));
            }
            buffer.drain(..fed.consumed);
            assert!(buffer.len() <= 2);
        }
        None
    }

    #[test]
    fn messages_are_known_again_however_they_are_cut() {
        let maker =
            Maker::new(7, 2000, "a@app.test", "b@rcpt.test", "Tue, 1 Jan 2030 00:00:00 +0000");
        let mut wire = b"Received: from somewhere\r\n\tby us\r\nDKIM-Signature: v=1\r\n".to_vec();
        maker.write(3, &mut wire);
        let whole = wire.len();
        wire.extend(b"QUIT\r\n");
        for cut in 1..=wire.len() {
            let (arrived, consumed) = read(&wire, cut).unwrap();
            assert_eq!(consumed, whole, "cut {cut}");
            assert_eq!(arrived.judged, Some((maker.id(3), Verdict::Whole)), "cut {cut}");
            assert_eq!(arrived.bare_line_feeds, 0);
        }
        // Any changed byte of the body shows.
        let body = wire.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        for index in body..whole - 5 {
            if wire[index] == b'\r' || wire[index] == b'\n' {
                continue;
            }
            let mut changed = wire.clone();
            changed[index] ^= 1;
            let (arrived, _) = read(&changed, usize::MAX).unwrap();
            assert_eq!(arrived.judged, Some((maker.id(3), Verdict::Corrupt)), "at {index}");
        }
    }

    #[test]
    fn only_the_right_dot_ends_a_message() {
        for wire in ["a\n.\n", "a\r.\r", "a\n.\r\n", "a\r\n.\n", "a\r\n..\r\n", "\r\n.x\r\n"] {
            assert_eq!(read(wire.as_bytes(), 1), None, "{wire:?}");
        }
        let (arrived, _) = read(b"a: b\r\n\r\n..\r\n.x\r\na\nb\r\n.\r\n", 1).unwrap();
        assert_eq!(arrived.copy.unwrap(), b"a: b\r\n\r\n.\r\nx\r\na\nb\r\n");
        assert_eq!((arrived.bytes, arrived.bare_line_feeds, arrived.judged), (19, 1, None));
        assert!(read(b".\r\n", 1).is_some(), "a message may be empty");
    }

    #[test]
    fn replies_are_read_whole() {
        let parse = |text: &str| Reply::parse(text.as_bytes());
        let reply = |code, text: &str| Reply { code, text: text.to_owned() };
        assert_eq!(parse("250 ok\r\n354").unwrap(), Some((reply(250, "ok"), 8)));
        assert_eq!(parse("250-a\r\n250 b\r\n").unwrap(), Some((reply(250, "a b"), 14)));
        assert_eq!(parse("250\r\n").unwrap(), Some((reply(250, ""), 5)));
        assert_eq!(parse("250-a\r\n250 b").unwrap(), None);
        for text in ["hello\r\n", "25\r\n", "999 x\r\n", "250x\r\n", "\r\n"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&"x".repeat(REPLY_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn how_content_is_cut_changes_nothing(
            wire in prop::collection::vec(prop::sample::select(b"\r\n.ab:".to_vec()), 0..60),
            cut in 1_usize..20,
        ) {
            prop_assert_eq!(read(&wire, cut), read(&wire, usize::MAX));
        }
    }
}

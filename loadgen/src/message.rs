//! Messages that can be known again: each has an id, and a hash of its body in a header field.
//!
//! The body is the same filler for all, with the id as its last line, so that no two bodies are alike
//! and making one costs a copy. Every few lines the filler begins a line with a dot, so that an error
//! in dot-stuffing anywhere on the way shows as corruption.

use std::{fmt, fmt::Write as _, str::FromStr};

use ring::digest::{Context, SHA256};

/// Header field with the id.
pub const ID_FIELD: &str = "X-Loadgen-Id";

/// Header field with the SHA-256 of the body in plain form, in hexadecimal.
pub const HASH_FIELD: &str = "X-Loadgen-Sha256";

/// Filler line length, CRLF included (RFC 5322 2.1.1 recommends at most 78 characters and CRLF).
const LINE_BYTES: usize = 78;

/// One filler line in this many begins with a dot.
const DOTTED_LINE_EVERY: usize = 8;

/// Names one message of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// Random number of the run.
    pub run: u64,
    /// Number within the run, from 0.
    pub number: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.number)
    }
}

/// Text that is not a [`MessageId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a message id")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (run, number) = text.split_once('-').ok_or(NotAnId)?;
        if run.len() != 16 {
            return Err(NotAnId);
        }
        let run = u64::from_str_radix(run, 16).map_err(|_| NotAnId)?;
        let number = number.parse().map_err(|_| NotAnId)?;
        let id = Self { run, number };
        // One id has one spelling: no plus signs, no leading zeros.
        if id.to_string() == text { Ok(id) } else { Err(NotAnId) }
    }
}

/// Makes the messages of one run.
#[derive(Debug)]
pub struct Maker {
    run: u64,
    /// Header fields that are the same for all.
    header: String,
    /// Filler in wire form.
    filler: Vec<u8>,
    /// Hash of the filler in plain form, to be continued.
    hash: Hash,
}

#[derive(Clone)]
struct Hash(Context);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash")
    }
}

impl Maker {
    /// Prepares messages of about `bytes` (at least what the header needs), from and to these
    /// mailboxes. `date` is an RFC 5322 date.
    pub fn new(run: u64, bytes: usize, from: &str, to: &str, date: &str) -> Self {
        let header = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nDate: {date}\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n"
        );
        let mut maker = Self { run, header, filler: Vec::new(), hash: Hash(Context::new(&SHA256)) };
        let mut bare = Vec::new();
        maker.write(0, &mut bare);
        let mut left = bytes.saturating_sub(bare.len());
        let mut line = 0;
        while left > 2 {
            let length = left.min(LINE_BYTES);
            let plain = filler_line(line, length);
            maker.hash.0.update(&plain);
            if plain.starts_with(b".") {
                maker.filler.push(b'.');
            }
            maker.filler.extend(&plain);
            left -= length;
            line += 1;
        }
        maker
    }

    /// The id of the message with this number.
    pub fn id(&self, number: u64) -> MessageId {
        MessageId { run: self.run, number }
    }

    /// Appends the message in wire form, with the final dot.
    pub fn write(&self, number: u64, out: &mut Vec<u8>) {
        let id = self.id(number);
        let last = format!("{id}\r\n");
        let mut hash = self.hash.0.clone();
        hash.update(last.as_bytes());
        let hash = hex(hash.finish().as_ref());
        let mut fields = String::with_capacity(512);
        fields.push_str(&self.header);
        // Writing to a string cannot fail.
        let _infallible = write!(
            fields,
            "Message-ID: <{id}@loadgen.invalid>\r\nSubject: Load {number}\r\n\
             {ID_FIELD}: {id}\r\n{HASH_FIELD}: {hash}\r\n\r\n"
        );
        out.reserve(fields.len() + self.filler.len() + last.len() + 3);
        out.extend_from_slice(fields.as_bytes());
        out.extend_from_slice(&self.filler);
        out.extend_from_slice(last.as_bytes());
        out.extend_from_slice(b".\r\n");
    }
}

/// One line of `bytes` (at least 3), CRLF included, in plain form.
fn filler_line(line: usize, bytes: usize) -> Vec<u8> {
    const TEXT: &[u8] = b"The quick brown fox jumps over the lazy dog while the relay counts. ";
    let is_dotted = line.is_multiple_of(DOTTED_LINE_EVERY);
    let mut plain = if is_dotted { b".".to_vec() } else { Vec::new() };
    plain.extend(TEXT.iter().cycle().skip(line).take(bytes - 2 - plain.len()));
    plain.extend(b"\r\n");
    plain
}

/// What a received message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The body is what was sent.
    Whole,
    /// The body is not what was sent, or the hash is gone.
    Corrupt,
}

/// Reads id and verdict out of a header section (plain form) and the hash of the body. `None` if the
/// message is none of ours.
pub fn judge(header: &[u8], body_hash: &[u8]) -> Option<(MessageId, Verdict)> {
    let id = field(header, ID_FIELD)?.parse().ok()?;
    let is_whole = field(header, HASH_FIELD).is_some_and(|hash| hash == hex(body_hash));
    Some((id, if is_whole { Verdict::Whole } else { Verdict::Corrupt }))
}

/// The value of the first field of this name; it must be on one line.
fn field<'a>(header: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = header.split(|&byte| byte == b'\n');
    let value = lines.filter_map(|line| {
        let (front, back) = line.split_at_checked(name.len())?;
        let value = back.strip_prefix(b":")?;
        front.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    });
    std::str::from_utf8(value.into_iter().next()?.trim_ascii()).ok()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = MessageId { run: 0xab, number: 17 };
        assert_eq!(id.to_string(), "00000000000000ab-17");
        assert_eq!("00000000000000ab-17".parse(), Ok(id));
        for text in ["", "ab-17", "00000000000000AB-17", "00000000000000ab-017", "00000000000000ab"]
        {
            assert_eq!(text.parse::<MessageId>(), Err(NotAnId), "{text}");
        }
    }

    #[test]
    fn messages_have_the_size_asked_for() {
        for bytes in [0, 500, 1000, 4096, 65_536] {
            let maker =
                Maker::new(1, bytes, "a@app.test", "b@rcpt.test", "Tue, 1 Jan 2030 00:00:00 +0000");
            let mut wire = Vec::new();
            maker.write(0, &mut wire);
            let stuffed =
                wire.windows(4).filter(|window| window == b"\n..T" || window == b"\n.. ").count();
            assert!(wire.len() + 4 >= bytes, "{bytes}: {}", wire.len());
            if bytes >= 1000 {
                assert!(
                    wire.len() <= bytes + 4 + stuffed * 2 + bytes / LINE_BYTES,
                    "{}",
                    wire.len()
                );
            }
        }
    }
}

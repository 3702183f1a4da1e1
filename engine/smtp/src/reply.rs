//! Replies: what a server says and what a client reads (RFC 5321 4.2, RFC 2034, RFC 3463).
//!
//! # Invariants
//! - A written reply is ASCII, has no control character, and no line above
//!   [`REPLY_LINE_BYTES_MAX`]; longer text is folded into further lines.
//! - A read reply is bounded in line length, lines and bytes; its text holds no control character
//!   but the `\n` between lines.
//!
//! # Failures
//! Reading fails with a [`ReplyFault`], after which the session cannot be used any further.

use std::borrow::Cow;
use std::fmt;

/// Longest reply line written, CRLF included (RFC 5321 4.5.3.1.5).
pub const REPLY_LINE_BYTES_MAX: usize = 512;
/// Longest reply line read. Four times what the protocol allows, since peers put URLs there.
pub const READ_LINE_BYTES_MAX: usize = 2_048;
/// Most lines of one reply read; EHLO replies have about 20.
pub const READ_LINES_MAX: usize = 128;
/// Most bytes of one reply read.
pub const READ_REPLY_BYTES_MAX: usize = 65_536;

/// An enhanced status code, `class.subject.detail` (RFC 3463).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enhanced {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl Enhanced {
    /// The code `class.subject.detail`.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Parses the code at the front of `text`; the rest starts behind the space that follows.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut parts = code.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let mut number = || -> Option<u16> {
            let part = parts.next()?;
            let fits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if fits { part.parse().ok() } else { None }
        };
        let (subject, detail) = (number()?, number()?);
        parts.next().is_none().then_some((Self { class, subject, detail }, rest))
    }
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a reply classifies (RFC 5321 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 2xx: done.
    Positive,
    /// 3xx: go on.
    Intermediate,
    /// 4xx: the same command may succeed later.
    Transient,
    /// 5xx: it will not.
    Permanent,
}

/// One reply: code, enhanced status code and text.
///
/// Text lines are separated by `\n`. Text from outside may be put in without care: whatever is not
/// printable ASCII is written as `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Absent in greetings, EHLO replies, and 3xx (RFC 2034 3 and 4).
    pub enhanced: Option<Enhanced>,
    /// Human-readable text, lines separated by `\n`.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with a fixed text; usable in constants.
    pub const fn fixed(code: u16, enhanced: Enhanced, text: &'static str) -> Self {
        Self { code, enhanced: Some(enhanced), text: Cow::Borrowed(text) }
    }

    /// A reply with a composed text.
    pub fn new(code: u16, enhanced: Enhanced, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: Some(enhanced), text: text.into() }
    }

    /// A reply without an enhanced code: greetings, EHLO, 334 and 354 only.
    pub fn bare(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, text: text.into() }
    }

    /// What the first digit of the code says; anything outside 2xx to 4xx counts as permanent.
    pub fn severity(&self) -> Severity {
        match self.code / 100 {
            2 => Severity::Positive,
            3 => Severity::Intermediate,
            4 => Severity::Transient,
            _ => Severity::Permanent,
        }
    }

    /// Whether the code is 2xx.
    pub fn is_positive(&self) -> bool {
        self.severity() == Severity::Positive
    }

    /// Appends the reply as it goes over the wire. Allocates only when `out` grows.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            self.write_folded(line, lines.peek().is_none(), out);
        }
    }

    /// Writes one line of text, as several wire lines when it is too long for one.
    fn write_folded(&self, mut line: &str, last: bool, out: &mut Vec<u8>) {
        // Code, separator, enhanced code with its space, and CRLF take at most 4 + 10 + 2 bytes.
        const TEXT_BYTES_MAX: usize = REPLY_LINE_BYTES_MAX - 16;
        while line.len() > TEXT_BYTES_MAX {
            let cut = fold_at(line, TEXT_BYTES_MAX);
            let (head, tail) = line.split_at(cut);
            self.write_line(head.trim_end(), false, out);
            line = tail;
        }
        self.write_line(line, last, out);
    }

    fn write_line(&self, text: &str, last: bool, out: &mut Vec<u8>) {
        write_number(self.code, out);
        out.push(if last { b' ' } else { b'-' });
        if let Some(enhanced) = self.enhanced {
            write_number(u16::from(enhanced.class), out);
            out.push(b'.');
            write_number(enhanced.subject, out);
            out.push(b'.');
            write_number(enhanced.detail, out);
            out.push(b' ');
        }
        out.extend(text.bytes().map(|b| if matches!(b, b' '..=b'~') { b } else { b'?' }));
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Display for Reply {
    /// The reply on one line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.text.split('\n') {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

/// Where to cut a line that is longer than `bytes_max`: behind the last space, else at a character.
fn fold_at(line: &str, bytes_max: usize) -> usize {
    let cut = line.floor_char_boundary(bytes_max);
    line[..cut].rfind(' ').map_or(cut, |space| space + 1)
}

/// Appends a number below 1000 in decimal.
fn write_number(number: u16, out: &mut Vec<u8>) {
    let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or(0);
    if number >= 100 {
        out.push(digit(number / 100));
    }
    if number >= 10 {
        out.push(digit(number / 10));
    }
    out.push(digit(number));
}

/// Why what the server said is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFault {
    /// A line does not start with a code and a space or hyphen; usually not an SMTP server.
    Syntax,
    /// Lines of one reply carry different codes.
    MixedCodes,
    /// A line, the number of lines or the whole is above its bound; usually an attack.
    TooLong,
}

impl fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "the server's answer is not an SMTP reply",
            Self::MixedCodes => "the lines of one reply carry different codes",
            Self::TooLong => "the server's reply is too long",
        })
    }
}

impl std::error::Error for ReplyFault {}

/// Reads replies from chunks, however they are cut.
///
/// Owns memory only while a reply is incomplete. A line may end in a bare LF: being generous there
/// endangers nobody, because a reply decides nothing about message framing.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// The incomplete line.
    line: Vec<u8>,
    /// The complete lines of an incomplete reply.
    reply: Option<Reply>,
    lines: usize,
    bytes: usize,
}

impl ReplyReader {
    /// A reader at the start of a reply.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether bytes of an incomplete reply are held.
    pub fn is_partial(&self) -> bool {
        self.reply.is_some() || !self.line.is_empty()
    }

    /// Takes up to one line of `input`; returns the bytes consumed, and the reply if that line
    /// completed one. Call again while input is left.
    ///
    /// # Errors
    /// A [`ReplyFault`]; the reader must not be used afterwards.
    pub fn receive(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), ReplyFault> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            self.check_bounds(input.len())?;
            self.line.extend_from_slice(input);
            return Ok((input.len(), None));
        };
        self.check_bounds(end + 1)?;
        self.bytes += self.line.len() + end + 1;
        let reply = if self.line.is_empty() {
            self.take_line(&input[..end])?
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&input[..end]);
            self.take_line(&line)?
        };
        Ok((end + 1, reply))
    }

    fn check_bounds(&self, more: usize) -> Result<(), ReplyFault> {
        let line = self.line.len() + more;
        let over = line > READ_LINE_BYTES_MAX
            || self.bytes + line > READ_REPLY_BYTES_MAX
            || self.lines >= READ_LINES_MAX;
        if over { Err(ReplyFault::TooLong) } else { Ok(()) }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyFault> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, last, text) = split_line(line)?;
        let text = printable(text);
        let (enhanced, text) = match Enhanced::parse(&text) {
            Some((enhanced, rest)) if u16::from(enhanced.class) == code / 100 => {
                (Some(enhanced), rest)
            }
            _ => (None, text.as_str()),
        };
        match &mut self.reply {
            None => {
                self.reply = Some(Reply { code, enhanced, text: Cow::Owned(text.to_owned()) });
            }
            Some(reply) if reply.code == code => {
                let all = reply.text.to_mut();
                all.push('\n');
                all.push_str(text);
            }
            Some(_) => return Err(ReplyFault::MixedCodes),
        }
        self.lines += 1;
        if !last {
            return Ok(None);
        }
        (self.lines, self.bytes) = (0, 0);
        Ok(self.reply.take())
    }
}

/// Code, whether the line is the last of its reply, and text.
fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), ReplyFault> {
    let (&[a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'], rest) =
        line.split_first_chunk::<3>().ok_or(ReplyFault::Syntax)?
    else {
        return Err(ReplyFault::Syntax);
    };
    let code = [a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Ok((code, true, b"")),
        Some((b' ', text)) => Ok((code, true, text)),
        Some((b'-', text)) => Ok((code, false, text)),
        Some(_) => Err(ReplyFault::Syntax),
    }
}

/// Text without control characters, whatever the bytes were.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        String::from_utf8(out).expect("replies are ASCII")
    }

    fn read(wire: &[u8]) -> Result<Vec<Reply>, ReplyFault> {
        let whole = read_cut(wire, wire.len().max(1));
        for cut in 1..wire.len().min(40) {
            assert_eq!(read_cut(wire, cut), whole, "cut {cut} of {wire:?}");
        }
        whole
    }

    fn read_cut(wire: &[u8], cut: usize) -> Result<Vec<Reply>, ReplyFault> {
        let (mut reader, mut replies) = (ReplyReader::new(), Vec::new());
        for mut chunk in wire.chunks(cut) {
            while !chunk.is_empty() {
                let (consumed, reply) = reader.receive(chunk)?;
                chunk = &chunk[consumed..];
                replies.extend(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn writes() {
        let ok = Reply::fixed(250, Enhanced::new(2, 1, 5), "Recipient accepted");
        assert_eq!(written(&ok), "250 2.1.5 Recipient accepted\r\n");
        assert_eq!(written(&Reply::bare(334, "")), "334 \r\n");
        let two = Reply::new(550, Enhanced::new(5, 7, 1), "first\nsecond");
        assert_eq!(written(&two), "550-5.7.1 first\r\n550 5.7.1 second\r\n");
        let injected = Reply::new(550, Enhanced::new(5, 7, 100), "a\r\n250 \u{e9}\0");
        assert_eq!(written(&injected), "550-5.7.100 a?\r\n550 5.7.100 250 ???\r\n");
    }

    #[test]
    fn long_text_folds_within_the_limit() {
        let reply = Reply::new(550, Enhanced::new(5, 7, 1), "word ".repeat(400));
        let wire = written(&reply);
        assert!(wire.split_inclusive("\r\n").all(|line| line.len() <= REPLY_LINE_BYTES_MAX));
        assert_eq!(wire.matches("word").count(), 400);
        let solid = written(&Reply::new(550, Enhanced::new(5, 7, 1), "é".repeat(600)));
        assert!(solid.split_inclusive("\r\n").all(|line| line.len() <= REPLY_LINE_BYTES_MAX));
    }

    #[test]
    fn reads() {
        let one = |wire: &[u8]| read(wire).expect("a reply").pop().expect("one reply");
        assert_eq!(one(b"250 2.1.5 ok\r\n"), Reply::fixed(250, Enhanced::new(2, 1, 5), "ok"));
        assert_eq!(one(b"250\r\n"), Reply::bare(250, ""));
        assert_eq!(one(b"250 ok\n"), Reply::bare(250, "ok"));
        assert_eq!(one(b"250-a\r\n250-b c\r\n250 d\r\n"), Reply::bare(250, "a\nb c\nd"));
        assert_eq!(one(b"250 5.1.1 odd\r\n"), Reply::bare(250, "5.1.1 odd"));
        assert_eq!(one(b"550 5.1.1.1 odd\r\n"), Reply::bare(550, "5.1.1.1 odd"));
        assert_eq!(one(b"550 \xff\0\x1b[0m\r\n"), Reply::bare(550, "\u{fffd}??[0m"));
        assert_eq!(read(b"250 a\r\n354 b\r\n").expect("two").len(), 2);
    }

    #[test]
    fn refuses() {
        for wire in [&b"hello\r\n"[..], b"25\r\n", b"\r\n", b"250x\r\n", b"199 a\r\n", b"600 b\r\n"]
        {
            assert_eq!(read(wire), Err(ReplyFault::Syntax), "{wire:?}");
        }
        assert_eq!(read(b"250-a\r\n251 b\r\n"), Err(ReplyFault::MixedCodes));
        assert_eq!(read_cut(&[b'2'; 3_000], 100), Err(ReplyFault::TooLong));
        assert_eq!(read_cut(&b"250-a\r\n".repeat(200), 64), Err(ReplyFault::TooLong));
        let wide = format!("250-{}\r\n", "a".repeat(2_000)).repeat(60);
        assert_eq!(read_cut(wide.as_bytes(), 4_096), Err(ReplyFault::TooLong));
    }

    #[test]
    fn idle_reader_holds_no_memory() {
        let mut reader = ReplyReader::new();
        reader.receive(b"250-par").expect("partial");
        assert!(reader.is_partial());
        reader.receive(b"t\r\n").expect("line");
        let (_, reply) = reader.receive(b"250 end\r\n").expect("reply");
        assert_eq!(reply.expect("complete").text, "part\nend");
        assert!(!reader.is_partial() && reader.line.capacity() == 0);
    }
}

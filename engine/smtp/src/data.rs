//! Content framing: where a message ends, and the one form in which it is handed on.
//!
//! Content leaves this module in *wire form* only: lines end in CRLF, a line that starts with a dot
//! carries the stuffing dot (RFC 5321 4.5.2), and there is no bare CR, bare LF or NUL. DATA arrives
//! in that form and is cut into slices of the received chunk; BDAT (RFC 3030) arrives unstuffed, so
//! the framing adds one-byte static slices. The relay stores and sends this form as it is;
//! [`Unstuffer`] gives filters and signers the plain view of it.
//!
//! # Invariants
//! - Only the five bytes CRLF.CRLF end DATA, counting the CRLF of the DATA command itself.
//! - Slices joined are the wire form; a CR whose LF has not come is held back, so no slice sequence
//!   ever ends in half a line end.
//! - Cuts of the input change how content is sliced, never what it is.
//!
//! # Security
//! SMTP smuggling lives from two servers that disagree where content ends. Whatever the setting, no
//! other sequence than CRLF.CRLF ends content here, and none that a neighbour could take for an end
//! leaves here: after a fault nothing more is handed out, the true end is awaited, and the message
//! is refused. With [`BareNewlines::Normalize`] a lone dot that stood between wrong line ends is
//! stuffed when its line ends are put right.
//!
//! # Cost
//! Text without dots at line starts is checked in one vectorised pass over pairs of neighbouring
//! bytes and handed on as it lies; nothing is copied.

use std::fmt;

use crate::reply::{Enhanced, Reply};

/// What to do with a CR or LF that is not part of a CRLF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewlines {
    /// Refuse the message after its true end, and close on a command that ends in a bare LF.
    #[default]
    Reject,
    /// Make a bare LF a CRLF and a bare CR a space, as Postfix does. NUL is refused here too: it
    /// has no right form, and dropping it would let content pass filters in pieces.
    Normalize,
}

/// Why content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFault {
    /// A CR without LF; usually an attack, or a very old client.
    BareCr,
    /// An LF without CR; usually a script that writes Unix line ends, sometimes an attack.
    BareLf,
    /// A NUL byte (RFC 5321 2.3.8 and RFC 5322 4 forbid it).
    Nul,
}

impl ContentFault {
    /// The reply at end of data.
    pub fn reply(self) -> Reply {
        match self {
            Self::BareCr => {
                Reply::fixed(550, Enhanced::new(5, 5, 2), "Message refused: bare CR in content")
            }
            Self::BareLf => Reply::fixed(
                550,
                Enhanced::new(5, 5, 2),
                "Message refused: bare LF in content, lines must end in CRLF",
            ),
            Self::Nul => {
                Reply::fixed(550, Enhanced::new(5, 5, 2), "Message refused: NUL byte in content")
            }
        }
    }
}

impl fmt::Display for ContentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BareCr => "bare CR in content",
            Self::BareLf => "bare LF in content",
            Self::Nul => "NUL byte in content",
        })
    }
}

impl std::error::Error for ContentFault {}

/// What one call of [`Framer::receive`] made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'b> {
    /// Bytes of input that are done with; may be 0 when a static slice is handed out first.
    pub consumed: usize,
    /// What they were.
    pub piece: Piece<'b>,
}

/// A piece of framed content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'b> {
    /// The next bytes of wire form; never empty.
    Content(&'b [u8]),
    /// Nothing to hand on; all the input is consumed.
    Nothing,
    /// CRLF.CRLF was read; what follows are commands.
    End,
}

/// How the content is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// DATA: dot-stuffed, ended by CRLF.CRLF.
    Dots,
    /// BDAT: octets by count. The caller hands in no more than the chunk's octets, keeps the framer
    /// over all chunks of a message, and calls [`Framer::finish`] at the last.
    Chunks,
}

/// Where in the content the next byte stands. "Held" bytes are consumed but not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind a CRLF, or at the very start.
    LineStart,
    /// Behind a line end that was put right.
    MendedLineStart,
    /// Inside a line.
    Inside,
    /// CR held.
    Cr,
    /// A bare LF consumed; its CRLF is still to be handed out.
    MendLf,
    /// A stuffing dot is to be handed out before the next byte.
    StuffDot,
    /// A dot held, at a true line start.
    Dot,
    /// A dot and a CR held, at a true line start.
    DotCr,
    /// A dot held, at a mended line start.
    MendedDot,
    /// Behind CRLF.CRLF.
    End,
}

/// Finds the end of content and cuts it into slices of wire form.
#[derive(Clone, Debug)]
pub struct Framer {
    transfer: Transfer,
    bare_newlines: BareNewlines,
    place: Place,
    fault: Option<ContentFault>,
}

/// What a step inside the framer yields: bytes consumed, bytes handed out, the place reached.
struct Step<'b> {
    consumed: usize,
    content: &'b [u8],
    place: Place,
}

impl Framer {
    /// A framer at the start of a message's content.
    pub fn new(transfer: Transfer, bare_newlines: BareNewlines) -> Self {
        Self { transfer, bare_newlines, place: Place::LineStart, fault: None }
    }

    /// What is wrong with the content so far; the first fault counts.
    pub fn fault(&self) -> Option<ContentFault> {
        self.fault
    }

    /// Frames the next bytes. Returns at the first slice to hand out, at the end of content, or
    /// when the input is used up. After a fault content is consumed and no longer handed out.
    pub fn receive<'b>(&mut self, input: &'b [u8]) -> Framed<'b> {
        let mut consumed = 0;
        while consumed < input.len() && self.place != Place::End {
            let step = self.step(&input[consumed..]);
            consumed += step.consumed;
            self.place = step.place;
            if !step.content.is_empty() && self.fault.is_none() {
                return Framed { consumed, piece: Piece::Content(step.content) };
            }
        }
        let piece = if self.place == Place::End { Piece::End } else { Piece::Nothing };
        Framed { consumed, piece }
    }

    /// Ends content that came by BDAT: completes its last line if it has no line end. Returns the
    /// bytes to hand out, if any; a fault may come to light here.
    pub fn finish(&mut self) -> Option<&'static [u8]> {
        let missing = match self.place {
            Place::Cr => {
                self.bare_cr();
                true
            }
            Place::Inside | Place::MendLf => true,
            // A dot that waits for its stuffing cannot stand last: it is consumed with its slice.
            _ => false,
        };
        self.place = Place::End;
        (missing && self.fault.is_none()).then_some(b"\r\n".as_slice())
    }

    /// One step; `input` is not empty.
    fn step<'b>(&mut self, input: &'b [u8]) -> Step<'b> {
        let next = input[0];
        let (consumed, content, place): (usize, &'static [u8], Place) = match (self.place, next) {
            (Place::Cr, b'\n') => (1, b"\r\n", Place::LineStart),
            (Place::Cr, _) => (0, self.bare_cr(), Place::Inside),
            (Place::MendLf, _) => (0, b"\r\n", Place::MendedLineStart),
            (Place::StuffDot, _) => (0, b".", Place::Inside),
            (Place::Dot, b'\r') => (1, b"", Place::DotCr),
            // Its LF may be put right below, and a lone dot must not come of it.
            (Place::Dot, b'\n') => (0, b"..", Place::Inside),
            (Place::Dot, _) => (0, b".", Place::Inside),
            (Place::DotCr, b'\n') => (1, b"", Place::End),
            (Place::DotCr, _) => (0, b".", Place::Cr),
            (Place::MendedDot, b'.') => (0, b".", Place::Inside),
            (Place::MendedDot, _) => (0, b"..", Place::Inside),
            (Place::LineStart, b'.') if self.transfer == Transfer::Dots => (1, b"", Place::Dot),
            (Place::MendedLineStart, b'.') if self.transfer == Transfer::Dots => {
                (1, b"", Place::MendedDot)
            }
            (Place::LineStart | Place::MendedLineStart, b'.') => (0, b"", Place::StuffDot),
            _ => return self.run(input),
        };
        Step { consumed, content, place }
    }

    /// The longest slice of wire form at the front of `input`, which starts inside a line.
    fn run<'b>(&mut self, input: &'b [u8]) -> Step<'b> {
        let mut at = 0;
        loop {
            at = plain_text(input, at);
            let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &input[at..]) else {
                return Step { consumed: input.len(), content: input, place: Place::Inside };
            };
            at += found;
            match (input[at], input.get(at + 1)) {
                (b'\r', Some(b'\n')) => at += 2,
                (b'\r', _) => return stop(input, at, Place::Cr),
                (b'\n', _) => return stop(input, at, self.bare_lf()),
                _ => return stop(input, at, self.nul()),
            }
            // Behind a line end.
            match (input.get(at), input.get(at + 1)) {
                (None, _) => {
                    return Step { consumed: at, content: input, place: Place::LineStart };
                }
                // A dot that cannot be the end of DATA stays in the slice.
                (Some(b'.'), Some(next))
                    if !matches!(next, b'\r' | b'\n') && self.transfer == Transfer::Dots =>
                {
                    at += 1;
                }
                (Some(b'.'), _) => {
                    return Step { consumed: at, content: &input[..at], place: Place::LineStart };
                }
                _ => {}
            }
        }
    }

    fn bare_cr(&mut self) -> &'static [u8] {
        if self.bare_newlines == BareNewlines::Reject {
            self.fault.get_or_insert(ContentFault::BareCr);
        }
        b" "
    }

    fn bare_lf(&mut self) -> Place {
        if self.bare_newlines == BareNewlines::Normalize {
            return Place::MendLf;
        }
        self.fault.get_or_insert(ContentFault::BareLf);
        Place::Inside
    }

    fn nul(&mut self) -> Place {
        self.fault.get_or_insert(ContentFault::Nul);
        Place::Inside
    }
}

/// Hands out what precedes the byte at `at`, and consumes that byte with it.
fn stop(input: &[u8], at: usize, place: Place) -> Step<'_> {
    Step { consumed: at + 1, content: &input[..at], place }
}

/// Bytes looked at in one go by [`plain_text`]; a multiple of every vector width.
const BLOCK_BYTES: usize = 128;

/// Skips whole blocks of `input` from `at` that hold nothing to stop at: each CR before an LF, each
/// LF behind a CR, no NUL, no dot behind an LF. Returns where to look closer; never between the CR
/// and LF of a line end.
///
/// The loop has no branches inside a block, so that the compiler makes vector code of it.
fn plain_text(input: &[u8], mut at: usize) -> usize {
    // The pair test looks at a byte's left neighbour; the byte at `at` has none that counts.
    let first = input.get(at).copied().unwrap_or(0);
    if matches!(first, b'\n' | 0) {
        return at;
    }
    while let Some(block) = input.get(at..at + BLOCK_BYTES + 1) {
        let mut odd = 0_u8;
        for (&a, &b) in block[..BLOCK_BYTES].iter().zip(&block[1..]) {
            let half_line_end = u8::from(a == b'\r') ^ u8::from(b == b'\n');
            let line_dot = u8::from(a == b'\n') & u8::from(b == b'.');
            odd |= half_line_end | line_dot | u8::from(b == 0);
        }
        if odd != 0 {
            break;
        }
        at += BLOCK_BYTES;
    }
    // The byte at `at` was judged as a right neighbour. If it is the LF of a pair, the pair is good
    // and ends before the next byte, unless a dot follows: let the caller see the pair whole.
    if at > 0 && input.get(at) == Some(&b'\n') && input[at - 1] == b'\r' { at - 1 } else { at }
}

/// What is wrong with bytes that should be wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// A bare CR, a bare LF or NUL.
    Content(ContentFault),
    /// CRLF.CRLF stands inside the content.
    EarlyEnd,
}

impl fmt::Display for WireFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(fault) => fault.fmt(f),
            Self::EarlyEnd => f.write_str("end of data inside content"),
        }
    }
}

impl std::error::Error for WireFault {}

/// Checks that what is about to be sent is wire form: the last lock on the door.
#[derive(Clone, Debug)]
pub struct WireCheck {
    framer: Framer,
}

impl Default for WireCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl WireCheck {
    /// A check at the start of a message's content.
    pub fn new() -> Self {
        Self { framer: Framer::new(Transfer::Dots, BareNewlines::Reject) }
    }

    /// Checks the next slice.
    ///
    /// # Errors
    /// A [`WireFault`]: the slice must not be sent.
    pub fn check(&mut self, mut wire: &[u8]) -> Result<(), WireFault> {
        while !wire.is_empty() {
            let framed = self.framer.receive(wire);
            if let Some(fault) = self.framer.fault() {
                return Err(WireFault::Content(fault));
            }
            if framed.piece == Piece::End {
                return Err(WireFault::EarlyEnd);
            }
            wire = &wire[framed.consumed..];
        }
        Ok(())
    }

    /// The bytes that end the content: `.CRLF`, with a CRLF before it where the last line has none.
    ///
    /// # Errors
    /// A [`WireFault`] when the content ends in half a line end or in an unstuffed dot.
    pub fn terminator(&self) -> Result<&'static [u8], WireFault> {
        match self.framer.place {
            Place::LineStart => Ok(b".\r\n"),
            Place::Inside => Ok(b"\r\n.\r\n"),
            Place::Cr | Place::DotCr => Err(WireFault::Content(ContentFault::BareCr)),
            _ => Err(WireFault::EarlyEnd),
        }
    }
}

/// Gives the plain view of wire form: the same bytes without stuffing dots.
#[derive(Clone, Debug)]
pub struct Unstuffer {
    at_line_start: bool,
}

impl Default for Unstuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Unstuffer {
    /// An unstuffer at the start of a message's content.
    pub fn new() -> Self {
        Self { at_line_start: true }
    }

    /// The plain slices of the next wire chunk, in order, none empty.
    ///
    /// The state moves on at once, so the slices may be taken or left.
    pub fn chunk<'b>(&mut self, wire: &'b [u8]) -> PlainSlices<'b> {
        let skip = self.at_line_start && wire.first() == Some(&b'.');
        if let Some(&last) = wire.last() {
            self.at_line_start = last == b'\n';
        }
        PlainSlices { rest: &wire[usize::from(skip)..] }
    }
}

/// The plain slices of one wire chunk; made by [`Unstuffer::chunk`].
#[derive(Clone, Debug)]
pub struct PlainSlices<'b> {
    /// Starts behind a stuffing dot, or where there is none.
    rest: &'b [u8],
}

impl<'b> Iterator for PlainSlices<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (slice, rest) = match line_dot(self.rest) {
            Some(dot) => (&self.rest[..dot], &self.rest[dot + 1..]),
            None => (self.rest, &self.rest[self.rest.len()..]),
        };
        self.rest = rest;
        Some(slice)
    }
}

/// Index of the first dot that stands behind an LF in `wire`.
fn line_dot(wire: &[u8]) -> Option<usize> {
    memchr::memmem::find(wire, b"\n.").map(|lf| lf + 1)
}

#[cfg(test)]
pub(crate) mod tests;

//! Command lines out of chunks.
//!
//! A line that lies whole in the input is parsed there. One that comes in pieces is gathered in a
//! buffer that exists only for it. Whatever may hold a password is wiped before it is freed.
//!
//! # Failures
//! A line above its bound is discarded to its end and then reported once; its text is never looked
//! at again, so that nothing inside it can pass for a command.

use std::fmt;

use zeroize::Zeroize;

use super::options::LINE_DISCARD_BYTES_MAX;
use crate::data::BareNewlines;

/// The line that is being gathered.
#[derive(Default)]
pub(super) struct LineBuffer {
    /// Bytes so far, or the whole line once it is complete.
    bytes: Vec<u8>,
    /// Bytes of an overlong line thrown away so far; 0 when the line is not overlong.
    discarded: u32,
    /// The last byte thrown away was a CR.
    discarded_cr: bool,
    /// The line is complete and may be borrowed by an event.
    complete: bool,
}

/// What the input amounted to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line<'b> {
    /// More bytes are needed.
    Partial,
    /// A line without its line end, in the input.
    Here(&'b [u8]),
    /// A line without its line end, in the buffer.
    Gathered,
    /// A line that cannot be used; it is consumed.
    Fault(LineFault),
}

/// Why a line cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFault {
    /// It ends in an LF without CR.
    BareLf,
    /// It is above its bound, and has ended.
    TooLong,
    /// It is above its bound and does not end.
    Endless,
}

impl LineBuffer {
    /// Frees a line that was handed out.
    pub(super) fn release(&mut self) {
        if self.complete {
            self.bytes.zeroize();
            self.bytes = Vec::new();
            self.complete = false;
        }
    }

    /// Whether nothing of a line is held.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.discarded == 0
    }

    /// Bytes of memory owned.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bytes held.
    pub(super) fn gathered(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes bytes up to the end of a line; `bytes_max` counts the line end.
    pub(super) fn take<'b>(
        &mut self,
        input: &'b [u8],
        bytes_max: usize,
        bare_newlines: BareNewlines,
    ) -> (usize, Line<'b>) {
        debug_assert!(!self.complete, "a line is taken while the last is still held");
        let Some(lf) = memchr::memchr(b'\n', input) else {
            return (input.len(), self.keep(input, bytes_max));
        };
        (lf + 1, self.end(&input[..lf], bytes_max, bare_newlines))
    }

    /// Keeps a piece without line end, or starts to discard.
    fn keep(&mut self, piece: &[u8], bytes_max: usize) -> Line<'static> {
        if self.discarded == 0 && self.bytes.len() + piece.len() < bytes_max {
            self.append(piece, bytes_max);
            return Line::Partial;
        }
        self.discard(piece);
        let endless = self.discarded as usize > LINE_DISCARD_BYTES_MAX;
        if endless { Line::Fault(LineFault::Endless) } else { Line::Partial }
    }

    /// Appends; when it must grow it moves by hand, so that no unwiped copy stays behind.
    fn append(&mut self, piece: &[u8], bytes_max: usize) {
        let needed = self.bytes.len() + piece.len();
        if needed > self.bytes.capacity() {
            let wanted = needed.max(self.bytes.capacity() * 2).min(bytes_max).max(needed);
            let mut larger = Vec::with_capacity(wanted);
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(piece);
    }

    fn discard(&mut self, piece: &[u8]) {
        let more = self.bytes.len() + piece.len();
        self.discarded = self.discarded.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.discarded_cr = piece.last().copied() == Some(b'\r');
        self.bytes.zeroize();
        self.bytes = Vec::new();
    }

    /// The line ends behind `piece`.
    fn end<'b>(
        &mut self,
        piece: &'b [u8],
        bytes_max: usize,
        bare_newlines: BareNewlines,
    ) -> Line<'b> {
        let last = piece.last().or(self.bytes.last()).copied();
        let bytes = self.discarded as usize + self.bytes.len() + piece.len() + 1;
        let cr = last == Some(b'\r') || (last.is_none() && self.discarded_cr);
        let fault = if bytes > LINE_DISCARD_BYTES_MAX {
            Some(LineFault::Endless)
        } else if bare_newlines == BareNewlines::Reject && !cr {
            Some(LineFault::BareLf)
        } else {
            (self.discarded > 0 || bytes > bytes_max).then_some(LineFault::TooLong)
        };
        if let Some(fault) = fault {
            *self = Self::default();
            return Line::Fault(fault);
        }
        if self.bytes.is_empty() {
            return Line::Here(piece.strip_suffix(b"\r").unwrap_or(piece));
        }
        self.append(piece, bytes_max);
        if self.bytes.last() == Some(&b'\r') {
            self.bytes.pop();
        }
        self.complete = true;
        Line::Gathered
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for LineBuffer {
    /// The size only: the line may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LineBuffer({} bytes)", self.bytes.len())
    }
}

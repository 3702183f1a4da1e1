//! A whole content: finds the end of the header section and hashes what follows.
//!
//! The header section ends at the first empty line (RFC 5322 2.1); a content without one is all
//! header section and has an empty body.

use super::{BodyHash, BodyHasher, Canonicalization};

/// Hashes the body of a content that arrives from its first byte on.
#[derive(Clone)]
pub struct ContentHasher {
    body: BodyHasher,
    header_bytes: u64,
    place: Place,
}

/// What [`ContentHasher`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash {
    /// Length of the header section, in plain form, with the empty line that ends it if there was
    /// one.
    pub header_bytes: u64,
    /// The hash of what follows it.
    pub body: BodyHash,
}

impl ContentHasher {
    /// Begins a content.
    pub fn new(canonicalization: Canonicalization) -> Self {
        Self { body: BodyHasher::new(canonicalization), header_bytes: 0, place: Place::LineStart }
    }

    /// Takes the next bytes of the content, in plain form, cut anywhere.
    pub fn update(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while self.place != Place::Body && !rest.is_empty() {
            let taken = self.header(rest);
            self.header_bytes += taken as u64;
            rest = &rest[taken..];
        }
        if !rest.is_empty() {
            self.body.update(rest);
        }
    }

    /// Whether the header section has ended.
    pub fn in_body(&self) -> bool {
        self.place == Place::Body
    }

    /// Ends the content.
    pub fn finish(self) -> ContentHash {
        ContentHash { header_bytes: self.header_bytes, body: self.body.finish() }
    }

    /// Moves on by one or more bytes of the header section; returns how many.
    fn header(&mut self, bytes: &[u8]) -> usize {
        let byte = bytes[0];
        match (self.place, byte) {
            (Place::LineStart, b'\r') => self.place = Place::EmptyLineCr,
            (Place::EmptyLineCr, b'\n') => self.place = Place::Body,
            (Place::LineCr, b'\n') => self.place = Place::LineStart,
            (_, b'\r') => self.place = Place::LineCr,
            _ => {
                self.place = Place::Line;
                return memchr::memchr(b'\r', bytes).unwrap_or(bytes.len());
            }
        }
        1
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    /// A CR stands at the start of a line.
    EmptyLineCr,
    Line,
    LineCr,
    Body,
}

//! The body: RFC 6376 3.4.3 (simple) and 3.4.4 (relaxed), streaming.
//!
//! What may still vanish is held back as a few counters instead of bytes: line ends that may turn
//! out to be trailing, a run of white space that may turn out to end its line, and a CR that may be
//! the first half of a line end. Everything else is hashed at once.
//!
//! Relaxed text is read in blocks of 64 bytes. A block in which no white space is followed by
//! white space or CR, and that holds no TAB, is already canonical and is hashed where it lies;
//! single steps are taken only around the places where it is not.

use ring::digest::{Context, SHA256};

use super::{BodyHash, Canonicalization};

/// Canonicalises and hashes one body as it arrives.
///
/// Costs about 300 bytes while a body is under way, and no allocation.
#[derive(Clone)]
pub struct BodyHasher {
    context: Context,
    canonicalization: Canonicalization,
    held: Held,
    /// Whether anything has been hashed yet; an empty relaxed body stays empty.
    started: bool,
}

impl BodyHasher {
    /// Begins a body.
    pub fn new(canonicalization: Canonicalization) -> Self {
        Self {
            context: Context::new(&SHA256),
            canonicalization,
            held: Held::default(),
            started: false,
        }
    }

    /// Takes the next bytes of the body, in plain form, cut anywhere.
    pub fn update(&mut self, chunk: &[u8]) {
        let mut sink = Sink::new(&mut self.context, &mut self.started);
        match self.canonicalization {
            Canonicalization::Simple => simple(&mut self.held, &mut sink, chunk),
            Canonicalization::Relaxed => relaxed(&mut self.held, &mut sink, chunk),
        }
        sink.flush();
    }

    /// Ends the body: drops what was trailing and supplies the final CRLF.
    pub fn finish(mut self) -> BodyHash {
        let mut sink = Sink::new(&mut self.context, &mut self.started);
        if self.held.cr {
            self.held.release(&mut sink);
        }
        // An empty body is CRLF under simple (3.4.3) and nothing under relaxed (3.4.4).
        if *sink.started || self.canonicalization == Canonicalization::Simple {
            sink.push(CRLF);
        }
        sink.flush();
        let mut digest = [0; 32];
        digest.copy_from_slice(self.context.finish().as_ref());
        BodyHash::new(self.canonicalization, digest)
    }
}

/// What has been read and not yet hashed: `line_ends` times CRLF, then white space, then a CR.
#[derive(Clone, Copy, Default)]
struct Held {
    line_ends: u64,
    white_space: bool,
    cr: bool,
}

impl Held {
    fn is_empty(self) -> bool {
        self.line_ends == 0 && !self.white_space && !self.cr
    }

    /// An ordinary byte follows: what was held turns out to be part of the body.
    fn release(&mut self, sink: &mut Sink<'_>) {
        sink.push_line_ends(self.line_ends);
        if self.white_space {
            sink.push(b" ");
        }
        if self.cr {
            sink.push(b"\r");
        }
        *self = Self::default();
    }

    /// A line end is complete: white space before it goes, and it may itself be trailing.
    fn end_line(&mut self) {
        self.line_ends += 1;
        self.white_space = false;
        self.cr = false;
    }
}

/// RFC 6376 3.4.3: only line ends at the end of the body are ignored.
fn simple(held: &mut Held, sink: &mut Sink<'_>, mut chunk: &[u8]) {
    if held.cr && !chunk.is_empty() {
        match chunk.strip_prefix(b"\n") {
            Some(rest) => {
                held.end_line();
                chunk = rest;
            }
            None => held.release(sink),
        }
    }
    let (chunk, cr) = match chunk.strip_suffix(b"\r") {
        Some(rest) => (rest, true),
        None => (chunk, false),
    };
    let kept = trim_line_ends(chunk);
    if !kept.is_empty() {
        held.release(sink);
        sink.push(kept);
    }
    held.line_ends += (chunk.len() - kept.len()) as u64 / 2;
    held.cr |= cr;
}

/// RFC 6376 3.4.4: white space before a line end goes, other white space becomes one SP, and line
/// ends at the end of the body are ignored.
fn relaxed(held: &mut Held, sink: &mut Sink<'_>, mut chunk: &[u8]) {
    while !chunk.is_empty() {
        if held.is_empty() {
            let (clean, rest) = chunk.split_at(clean_bytes(chunk));
            sink.push(clean);
            chunk = rest;
        }
        chunk = step(held, sink, chunk);
    }
}

/// Reads bytes one by one into `held`, until an ordinary byte releases it; returns what follows,
/// beginning with that byte.
fn step<'a>(held: &mut Held, sink: &mut Sink<'_>, chunk: &'a [u8]) -> &'a [u8] {
    for (index, &byte) in chunk.iter().enumerate() {
        match byte {
            b'\n' if held.cr => held.end_line(),
            // The CR before was bare, hence ordinary.
            b'\r' if held.cr => {
                held.release(sink);
                held.cr = true;
            }
            _ if held.cr => {
                held.release(sink);
                return &chunk[index..];
            }
            b'\r' => held.cr = true,
            b' ' | b'\t' => held.white_space = true,
            _ => {
                held.release(sink);
                return &chunk[index..];
            }
        }
    }
    &[]
}

/// Length of the longest beginning of `chunk` that is canonical already and whose end cannot be
/// trailing, given that nothing is held.
///
/// What follows it are line ends, then white space that must change or the end of the chunk: one
/// [`step`] takes all of it, so that the whole stays linear.
fn clean_bytes(chunk: &[u8]) -> usize {
    let mut at = 0;
    while let Some(pairs) = chunk.get(at..=at + BLOCK) {
        match first_flaw::<BLOCK>(pairs) {
            Some(offset) => return trim_line_ends(&chunk[..at + offset]).len(),
            None => at += BLOCK,
        }
    }
    while let Some(pairs) = chunk.get(at..=at + BLOCK_SHORT) {
        match first_flaw::<BLOCK_SHORT>(pairs) {
            Some(offset) => return trim_line_ends(&chunk[..at + offset]).len(),
            None => at += BLOCK_SHORT,
        }
    }
    let flaw = chunk[at..].windows(2).position(|pair| is_flaw(pair[0], pair[1]));
    match flaw {
        Some(offset) => trim_line_ends(&chunk[..at + offset]).len(),
        None => trim_tail(chunk).len(),
    }
}

/// Whether white space `byte` must change when `next` follows it.
#[inline]
fn is_flaw(byte: u8, next: u8) -> bool {
    let before_white_space = (byte == b' ') & ((next == b' ') | (next == b'\t') | (next == b'\r'));
    before_white_space | (byte == b'\t')
}

/// Finds the first flaw in `N` bytes; `pairs` holds those and the one that follows.
///
/// Written as a flat loop over two arrays without branches, which the compiler turns into vector
/// compares on every target.
#[inline]
fn first_flaw<const N: usize>(pairs: &[u8]) -> Option<usize> {
    let bytes: &[u8; N] = pairs.first_chunk()?;
    let nexts: &[u8; N] = pairs.last_chunk()?;
    let mut flaws = [0u8; N];
    let mut any = 0;
    for index in 0..N {
        flaws[index] = u8::from(is_flaw(bytes[index], nexts[index]));
        any |= flaws[index];
    }
    if any == 0 {
        return None;
    }
    memchr::memchr(1, &flaws)
}

/// Cuts what may turn out to be trailing: one TAB, SP or CR, and the line ends before it.
fn trim_tail(chunk: &[u8]) -> &[u8] {
    match chunk {
        [rest @ .., b' ' | b'\t' | b'\r'] => trim_line_ends(rest),
        _ => trim_line_ends(chunk),
    }
}

fn trim_line_ends(mut chunk: &[u8]) -> &[u8] {
    while let Some(rest) = chunk.strip_suffix(CRLF) {
        chunk = rest;
    }
    chunk
}

/// Gathers short pieces, so that the hash is fed in few large ones.
struct Sink<'a> {
    context: &'a mut Context,
    started: &'a mut bool,
    gathered: [u8; GATHERED_BYTES],
    gathered_bytes: usize,
}

impl<'a> Sink<'a> {
    fn new(context: &'a mut Context, started: &'a mut bool) -> Self {
        Self { context, started, gathered: [0; GATHERED_BYTES], gathered_bytes: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        *self.started |= !bytes.is_empty();
        if bytes.len() > GATHERED_BYTES - self.gathered_bytes {
            self.flush();
        }
        if bytes.len() >= DIRECT_BYTES_MIN {
            self.flush();
            self.context.update(bytes);
            return;
        }
        let end = self.gathered_bytes + bytes.len();
        self.gathered[self.gathered_bytes..end].copy_from_slice(bytes);
        self.gathered_bytes = end;
    }

    fn push_line_ends(&mut self, count: u64) {
        let mut left = count;
        while left > 0 {
            let now = left.min(LINE_ENDS.len() as u64 / 2);
            #[allow(clippy::cast_possible_truncation, reason = "at most 64")]
            self.push(&LINE_ENDS[..now as usize * 2]);
            left -= now;
        }
    }

    fn flush(&mut self) {
        if self.gathered_bytes > 0 {
            self.context.update(&self.gathered[..self.gathered_bytes]);
            self.gathered_bytes = 0;
        }
    }
}

const CRLF: &[u8] = b"\r\n";

/// 64 line ends, to hash a long run of blank lines in few pieces.
static LINE_ENDS: [u8; 128] = {
    let mut bytes = [b'\n'; 128];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = b'\r';
        at += 2;
    }
    bytes
};

/// Bytes classified at once: one cache line.
const BLOCK: usize = 64;

/// The same near the end of a chunk.
const BLOCK_SHORT: usize = 16;

/// Bytes gathered on the stack before they are hashed.
const GATHERED_BYTES: usize = 1024;

/// From this length on a piece is hashed where it lies.
const DIRECT_BYTES_MIN: usize = 512;

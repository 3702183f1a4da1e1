//! The body: RFC 6376 3.4.3 (simple) and 3.4.4 (relaxed), streaming.
//!
//! Relaxed is two steps. The first is local: white space goes or becomes one SP by what follows it
//! (`simd`). The second is all there is to simple: line ends at the end go. What may still vanish
//! is held back as a few counters instead of bytes: line ends that may turn out to be trailing, a
//! CR that may be the first half of one, and white space at the end of a chunk.
//!
//! What is canonical as it stands is hashed where it lies; where it is not, up to 2 KiB of
//! canonical bytes are staged and hashed at once. Pieces end where a block of SHA-256 ends, so that
//! the hash never has to gather one.

use ring::digest::{Context, SHA256};

use super::simd::{BLOCK, LOOKAHEAD, STAGING, Squeezer, Tier, WINDOW, squeeze_tail};
use super::{BodyHash, Canonicalization};

/// Canonicalises and hashes one body as it arrives.
///
/// Costs about 300 bytes while a body is under way, and no allocation.
#[derive(Clone)]
pub struct BodyHasher {
    canonicalization: Canonicalization,
    squeezer: Squeezer,
    held: Held,
    lines: Lines,
}

impl BodyHasher {
    /// Begins a body, with the fastest tier that this CPU has.
    pub fn new(canonicalization: Canonicalization) -> Self {
        Self::begin(canonicalization, Squeezer::best())
    }

    /// Begins a body with this tier, to test and measure it; `None` where the CPU lacks it.
    pub fn with_tier(canonicalization: Canonicalization, tier: Tier) -> Option<Self> {
        Squeezer::new(tier).map(|squeezer| Self::begin(canonicalization, squeezer))
    }

    fn begin(canonicalization: Canonicalization, squeezer: Squeezer) -> Self {
        Self { canonicalization, squeezer, held: Held::Nothing, lines: Lines::new() }
    }

    /// Takes the next bytes of the body, in plain form, cut anywhere.
    pub fn update(&mut self, chunk: &[u8]) {
        match self.canonicalization {
            Canonicalization::Simple => self.lines.push(chunk),
            Canonicalization::Relaxed => self.relaxed(chunk),
        }
    }

    /// Ends the body: drops what was trailing and supplies the final CRLF.
    pub fn finish(mut self) -> BodyHash {
        if let Held::WhiteSpaceCr = self.held {
            self.lines.push(self.held.as_bytes());
        }
        let digest = self.lines.finish(self.canonicalization);
        BodyHash::new(self.canonicalization, digest)
    }

    /// RFC 6376 3.4.4 (a): white space before a line end goes, other white space becomes one SP.
    fn relaxed(&mut self, chunk: &[u8]) {
        let mut rest = self.settle_held(chunk);
        while rest.len() >= WINDOW {
            rest = self.blocks(rest);
        }
        self.tail(rest);
    }

    /// Takes the beginning of what has at least a window; returns the rest.
    fn blocks<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let clean = self.squeezer.clean_bytes(&chunk[..chunk.len().min(SCAN_BYTES)]);
        if clean >= DIRECT_BYTES_MIN || clean + WINDOW > chunk.len() {
            let (clean, rest) = chunk.split_at(self.lines.whole_blocks(clean));
            self.lines.push(clean);
            return rest;
        }
        let mut staging = [0; STAGING];
        let (taken, written) = self.squeezer.squeeze(chunk, &mut staging);
        self.lines.push(&staging[..written]);
        &chunk[taken..]
    }

    /// Settles what was held with the first bytes of `chunk`; returns what is left of it.
    fn settle_held<'a>(&mut self, chunk: &'a [u8]) -> &'a [u8] {
        let held = self.held.as_bytes();
        if held.is_empty() {
            return chunk;
        }
        let (next, rest) = chunk.split_at(chunk.len().min(LOOKAHEAD));
        let mut joined = [0; 2 * LOOKAHEAD];
        let bytes = held.len() + next.len();
        joined[..held.len()].copy_from_slice(held);
        joined[held.len()..bytes].copy_from_slice(next);
        if rest.is_empty() {
            self.tail(&joined[..bytes]);
            return rest;
        }
        let mut settled = [0; BLOCK];
        let written = squeeze_tail(&joined[..bytes], &mut settled);
        self.lines.push(&settled[..written]);
        chunk
    }

    /// Takes what is shorter than a window, and holds back white space at its end.
    fn tail(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut settled = [0; WINDOW];
        let mut written = squeeze_tail(bytes, &mut settled);
        let mut push = |byte| {
            settled[written] = byte;
            written += 1;
        };
        let is_white_space = |byte| byte == b' ' || byte == b'\t';
        let last = &bytes[bytes.len().saturating_sub(LOOKAHEAD)..];
        self.held = Held::Nothing;
        match *last {
            [space, b'\r'] if is_white_space(space) => self.held = Held::WhiteSpaceCr,
            [.., space] if is_white_space(space) => {
                self.held = Held::WhiteSpace;
                last[..last.len() - 1]
                    .iter()
                    .filter(|b| !is_white_space(**b))
                    .for_each(|b| push(*b));
            }
            [space, byte] if is_white_space(space) => [b' ', byte].into_iter().for_each(push),
            _ => last.iter().for_each(|b| push(*b)),
        }
        self.lines.push(&settled[..written]);
    }
}

/// White space at the end of what was read, which the next bytes settle.
#[derive(Clone, Copy)]
enum Held {
    Nothing,
    WhiteSpace,
    /// The CR may be bare, which keeps the white space, or begin a line end.
    WhiteSpaceCr,
}

impl Held {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Nothing => b"",
            Self::WhiteSpace => b" ",
            Self::WhiteSpaceCr => b" \r",
        }
    }
}

/// RFC 6376 3.4.3 and 3.4.4 (b): hashes all but the line ends at the end.
#[derive(Clone)]
struct Lines {
    context: Context,
    /// Bytes hashed so far.
    hashed: u64,
    /// Line ends read and not hashed yet.
    line_ends: u64,
    /// A CR after them.
    cr: bool,
}

impl Lines {
    fn new() -> Self {
        Self { context: Context::new(&SHA256), hashed: 0, line_ends: 0, cr: false }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        if self.cr && !bytes.is_empty() {
            match bytes.strip_prefix(b"\n") {
                Some(rest) => {
                    self.cr = false;
                    self.line_ends += 1;
                    bytes = rest;
                }
                None => self.release(),
            }
        }
        let (bytes, cr) = match bytes.strip_suffix(b"\r") {
            Some(rest) => (rest, true),
            None => (bytes, false),
        };
        let kept = trim_line_ends(bytes);
        if !kept.is_empty() {
            self.release();
            self.hash(kept);
        }
        self.line_ends += (bytes.len() - kept.len()) as u64 / 2;
        self.cr |= cr;
    }

    /// An ordinary byte follows: what was held turns out to be part of the body.
    fn release(&mut self) {
        while self.line_ends > 0 {
            let now = self.line_ends.min(LINE_ENDS.len() as u64 / 2);
            #[allow(clippy::cast_possible_truncation, reason = "at most 64")]
            self.hash(&LINE_ENDS[..now as usize * 2]);
            self.line_ends -= now;
        }
        if std::mem::take(&mut self.cr) {
            self.hash(b"\r");
        }
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.hashed += bytes.len() as u64;
    }

    /// Shortens a piece of `bytes`, if it is longer than a block, so that the hash ends at the end
    /// of one after it.
    fn whole_blocks(&self, bytes: usize) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "below 64")]
        let begun = (self.hashed % BLOCK as u64) as usize;
        if bytes > BLOCK { bytes - (begun + bytes) % BLOCK } else { bytes }
    }

    /// Drops what was trailing and supplies the final CRLF.
    fn finish(mut self, canonicalization: Canonicalization) -> [u8; 32] {
        if self.cr {
            self.release();
        }
        // An empty body is CRLF under simple (3.4.3) and nothing under relaxed (3.4.4).
        if self.hashed > 0 || canonicalization == Canonicalization::Simple {
            self.hash(CRLF);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(self.context.finish().as_ref());
        digest
    }
}

fn trim_line_ends(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_suffix(CRLF) {
        bytes = rest;
    }
    bytes
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

/// Bytes classified before they are hashed.
const SCAN_BYTES: usize = 16 * 1024;

/// From this length on, what is clean is hashed where it lies, and not staged.
const DIRECT_BYTES_MIN: usize = 512;

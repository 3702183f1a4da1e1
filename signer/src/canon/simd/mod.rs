//! The local half of relaxed body canonicalisation (RFC 6376 3.4.4), 64 bytes at a time.
//!
//! Whether a byte of white space stays is settled by the two bytes behind it: it goes if white
//! space or a line end follows, and what stays becomes SP. So a [`Window`] of 66 bytes settles 64,
//! without state. Two operations are all there is: count bytes that are canonical already
//! ([`Squeezer::clean_bytes`]), and write the canonical form of those that are not
//! ([`Squeezer::squeeze`]). Line ends at the end of a body are no local matter; `body` sees to
//! them.
//!
//! Three tiers do the same: AVX-512 (with VBMI2's compress), AVX2, and plain Rust, which is the
//! scalar twin that the tests hold the others to. The tier is chosen by what the CPU has, once a
//! process; a [`Squeezer`] of a tier exists only where the CPU has it.

mod scalar;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector loads and stores, and calls behind feature detection")]
mod x86_64;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

pub(super) use self::scalar::squeeze_tail;

/// Which instructions canonicalise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// AVX-512 F, BW and VBMI2: 64 bytes a step, compressed in a register.
    Avx512,
    /// AVX2: 32 bytes a step, compressed by a table of shuffles.
    Avx2,
    /// Plain Rust, on any CPU.
    Scalar,
}

impl Tier {
    /// All, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Scalar];

    /// Returns the name, for logs and benches.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Scalar => "scalar",
        }
    }

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => x86_64::Avx512::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => x86_64::Avx2::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Scalar => true,
        }
    }

    /// Returns the fastest that this CPU has; looked up once a process.
    pub fn best() -> Self {
        static BEST: OnceLock<Tier> = OnceLock::new();
        let find = || Self::ALL.into_iter().find(|tier| tier.is_available());
        *BEST.get_or_init(|| find().unwrap_or(Self::Scalar))
    }
}

/// Canonicalises with one tier, which this CPU has.
#[derive(Clone, Copy)]
pub(super) enum Squeezer {
    #[cfg(target_arch = "x86_64")]
    Avx512(x86_64::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86_64::Avx2),
    Scalar,
}

impl Squeezer {
    /// Takes this tier, or `None` where the CPU lacks it.
    pub(super) fn new(tier: Tier) -> Option<Self> {
        match tier {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => x86_64::Avx512::new().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => x86_64::Avx2::new().map(Self::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            Tier::Avx512 | Tier::Avx2 => None,
            Tier::Scalar => Some(Self::Scalar),
        }
    }

    /// Takes the fastest tier that this CPU has.
    pub(super) fn best() -> Self {
        Self::new(Tier::best()).unwrap_or(Self::Scalar)
    }

    /// Counts the bytes at the beginning of `chunk` that are canonical as they stand, in whole
    /// blocks; a block in doubt (SP before any control character) counts as not clean.
    #[inline]
    pub(super) fn clean_bytes(self, chunk: &[u8]) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(vector) => vector.clean_bytes(chunk),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(vector) => vector.clean_bytes(chunk),
            Self::Scalar => scalar::clean_bytes(chunk),
        }
    }

    /// Writes the canonical form of the beginning of `chunk` to `out`, in whole blocks while there
    /// is room; returns how many bytes were taken and how many written. Takes at least one block if
    /// `chunk` holds a window.
    #[inline]
    pub(super) fn squeeze(self, chunk: &[u8], out: &mut Staging) -> (usize, usize) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(vector) => vector.squeeze(chunk, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(vector) => vector.squeeze(chunk, out),
            Self::Scalar => scalar::squeeze(chunk, out),
        }
    }
}

/// Bytes settled at once: a cache line, and a block of SHA-256.
pub(super) const BLOCK: usize = 64;

/// How far ahead must be seen to settle a byte.
pub(super) const LOOKAHEAD: usize = 2;

/// A block and what follows it.
pub(super) const WINDOW: usize = BLOCK + LOOKAHEAD;
type Window = [u8; WINDOW];

/// Where canonical bytes are gathered, so that SHA-256 gets them in large updates.
pub(super) const STAGING: usize = 2048;
pub(super) type Staging = [u8; STAGING];

/// Where a block is written: a whole one, of which a part counts.
type Room = [u8; BLOCK];

/// The loop of `clean_bytes`, to be inlined into each tier.
#[inline(always)]
fn clean_blocks(chunk: &[u8], is_clean: impl Fn(&Window) -> bool) -> usize {
    let mut at = 0;
    while let Some(window) = chunk.get(at..at + WINDOW).and_then(<[u8]>::first_chunk) {
        if !is_clean(window) {
            break;
        }
        at += BLOCK;
    }
    at
}

/// The loop of `squeeze`, to be inlined into each tier; `squeeze` returns how many bytes of the
/// room count.
#[inline(always)]
fn squeeze_blocks(
    chunk: &[u8],
    out: &mut Staging,
    squeeze: impl Fn(&Window, &mut Room) -> usize,
) -> (usize, usize) {
    let (mut at, mut written) = (0, 0);
    while let Some(window) = chunk.get(at..at + WINDOW).and_then(<[u8]>::first_chunk)
        && let Some(room) = out.get_mut(written..written + BLOCK)
        && let Some(room) = room.first_chunk_mut()
    {
        written += squeeze(window, room);
        at += BLOCK;
    }
    (at, written)
}

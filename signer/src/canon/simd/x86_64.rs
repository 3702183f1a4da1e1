//! AVX-512 and AVX2.
//!
//! A value of [`Avx512`] or [`Avx2`] exists only where the CPU has the instructions, which is what
//! makes its methods safe. AVX-512 DQ is never asked for: this compiler has a fault with it.

use std::arch::x86_64::*;

use super::{BLOCK, Staging, Window, clean_blocks, squeeze_blocks};

/// Proof that the CPU has AVX-512 F, BW and VBMI2.
#[derive(Clone, Copy)]
pub(in crate::canon) struct Avx512(());

impl Avx512 {
    pub(super) fn new() -> Option<Self> {
        Self::is_available().then_some(Self(()))
    }

    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("popcnt")
    }

    #[inline]
    pub(super) fn clean_bytes(self, chunk: &[u8]) -> usize {
        // SAFETY: `self` proves that the CPU has the features the function asks for.
        unsafe { clean_bytes_avx512(chunk) }
    }

    #[inline]
    pub(super) fn squeeze(self, chunk: &[u8], out: &mut Staging) -> (usize, usize) {
        // SAFETY: as above.
        unsafe { squeeze_avx512(chunk, out) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
fn clean_bytes_avx512(chunk: &[u8]) -> usize {
    let (space, tab) = (_mm512_set1_epi8(SPACE), _mm512_set1_epi8(TAB));
    clean_blocks(chunk, |window| {
        let (bytes, next) = (load_512::<0>(window), load_512::<1>(window));
        let spaces = _mm512_cmpeq_epi8_mask(bytes, space);
        let before_control = _mm512_mask_cmple_epu8_mask(spaces, next, space);
        before_control | _mm512_cmpeq_epi8_mask(bytes, tab) == 0
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
fn squeeze_avx512(chunk: &[u8], out: &mut Staging) -> (usize, usize) {
    let (space, tab) = (_mm512_set1_epi8(SPACE), _mm512_set1_epi8(TAB));
    let (cr, lf) = (_mm512_set1_epi8(CR), _mm512_set1_epi8(LF));
    squeeze_blocks(chunk, out, |window, room| {
        let (bytes, next) = (load_512::<0>(window), load_512::<1>(window));
        let after = load_512::<2>(window);
        let tabs = _mm512_cmpeq_epi8_mask(bytes, tab);
        let white_space = _mm512_cmpeq_epi8_mask(bytes, space) | tabs;
        let line_end = _mm512_cmpeq_epi8_mask(next, cr) & _mm512_cmpeq_epi8_mask(after, lf);
        let white_space_next =
            _mm512_cmpeq_epi8_mask(next, space) | _mm512_cmpeq_epi8_mask(next, tab);
        let kept = !(white_space & (white_space_next | line_end));
        let spaced = _mm512_mask_mov_epi8(bytes, tabs, space);
        // To a register, then stored whole: compressing to memory is microcode on some CPUs.
        let squeezed = _mm512_maskz_compress_epi8(kept, spaced);
        // SAFETY: `room` is 64 bytes that may be written, and the store asks for no alignment.
        unsafe { _mm512_storeu_si512(room.as_mut_ptr().cast(), squeezed) };
        kept.count_ones() as usize
    })
}

/// Loads a block that begins `AT` bytes into the window.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_512<const AT: usize>(window: &Window) -> __m512i {
    const { assert!(AT + BLOCK <= size_of::<Window>()) };
    // SAFETY: the 64 bytes from `AT` on lie inside the window, as asserted; no alignment is needed.
    unsafe { _mm512_loadu_si512(window.as_ptr().add(AT).cast()) }
}

/// Proof that the CPU has AVX2.
#[derive(Clone, Copy)]
pub(in crate::canon) struct Avx2(());

impl Avx2 {
    pub(super) fn new() -> Option<Self> {
        Self::is_available().then_some(Self(()))
    }

    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt")
    }

    #[inline]
    pub(super) fn clean_bytes(self, chunk: &[u8]) -> usize {
        // SAFETY: `self` proves that the CPU has the features the function asks for.
        unsafe { clean_bytes_avx2(chunk) }
    }

    #[inline]
    pub(super) fn squeeze(self, chunk: &[u8], out: &mut Staging) -> (usize, usize) {
        // SAFETY: as above.
        unsafe { squeeze_avx2(chunk, out) }
    }
}

#[target_feature(enable = "avx2,popcnt")]
fn clean_bytes_avx2(chunk: &[u8]) -> usize {
    clean_blocks(chunk, |window| {
        let flaws = _mm256_or_si256(flaws_avx2::<0>(window), flaws_avx2::<32>(window));
        _mm256_testz_si256(flaws, flaws) == 1
    })
}

/// Marks TABs, and SPs before a control character or SP, among 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn flaws_avx2<const AT: usize>(window: &Window) -> __m256i {
    let (space, tab) = (_mm256_set1_epi8(SPACE), _mm256_set1_epi8(TAB));
    let (bytes, next) = (load_256(window, AT), load_256(window, AT + 1));
    let control = _mm256_cmpeq_epi8(_mm256_min_epu8(next, space), next);
    let before_control = _mm256_and_si256(_mm256_cmpeq_epi8(bytes, space), control);
    _mm256_or_si256(before_control, _mm256_cmpeq_epi8(bytes, tab))
}

#[target_feature(enable = "avx2,popcnt")]
fn squeeze_avx2(chunk: &[u8], out: &mut Staging) -> (usize, usize) {
    squeeze_blocks(chunk, out, |window, room| {
        // What a group leaves beyond its kept bytes is overwritten by the next one.
        let mut padded = [0; BLOCK + 8];
        let front = squeeze_half(window, 0, &mut padded, 0);
        let written = squeeze_half(window, 32, &mut padded, front);
        room.copy_from_slice(&padded[..BLOCK]);
        written
    })
}

/// Squeezes the 32 bytes from `at` on into `out` from `written` on; returns where that ends.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn squeeze_half(window: &Window, at: usize, out: &mut [u8; BLOCK + 8], written: usize) -> usize {
    let (space, tab) = (_mm256_set1_epi8(SPACE), _mm256_set1_epi8(TAB));
    let (cr, lf) = (_mm256_set1_epi8(CR), _mm256_set1_epi8(LF));
    let white_space =
        |bytes| _mm256_or_si256(_mm256_cmpeq_epi8(bytes, space), _mm256_cmpeq_epi8(bytes, tab));
    let (bytes, next) = (load_256(window, at), load_256(window, at + 1));
    let after = load_256(window, at + 2);
    let line_end = _mm256_and_si256(_mm256_cmpeq_epi8(next, cr), _mm256_cmpeq_epi8(after, lf));
    let is_space = white_space(bytes);
    let dropped = _mm256_and_si256(is_space, _mm256_or_si256(white_space(next), line_end));
    let kept = (!_mm256_movemask_epi8(dropped)).to_le_bytes();
    let spaced = _mm256_blendv_epi8(bytes, space, is_space);
    let mut groups = [0_u64; 4];
    // SAFETY: the array is 32 bytes that may be written, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(groups.as_mut_ptr().cast(), spaced) };
    let mut written = written;
    for (group, kept) in groups.into_iter().zip(kept) {
        let order = _mm_cvtsi64_si128(SHUFFLES[usize::from(kept)].cast_signed());
        let squeezed = _mm_shuffle_epi8(_mm_cvtsi64_si128(group.cast_signed()), order);
        let squeezed = _mm_cvtsi128_si64(squeezed).to_le_bytes();
        out[written..written + 8].copy_from_slice(&squeezed);
        written += kept.count_ones() as usize;
    }
    written
}

/// Loads the 32 bytes from `at` on.
#[inline]
#[target_feature(enable = "avx2")]
fn load_256(window: &Window, at: usize) -> __m256i {
    let bytes: &[u8] = &window[at..at + 32];
    // SAFETY: `bytes` is 32 bytes long; no alignment is needed.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// For each set of bytes kept out of eight, the shuffle that brings them together: eight indices,
/// the first in the lowest byte.
static SHUFFLES: [u64; 256] = {
    let mut shuffles = [0; 256];
    let mut kept = 0;
    while kept < 256 {
        let (mut index, mut written) = (0, 0);
        while index < 8 {
            if kept >> index & 1 == 1 {
                shuffles[kept] |= index << (8 * written);
                written += 1;
            }
            index += 1;
        }
        kept += 1;
    }
    shuffles
};

const SPACE: i8 = b' '.cast_signed();
const TAB: i8 = b'\t'.cast_signed();
const CR: i8 = b'\r'.cast_signed();
const LF: i8 = b'\n'.cast_signed();

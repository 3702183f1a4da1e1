//! The twin in plain Rust: flat loops without branches, which the compiler vectorises as far as
//! the target allows.

use super::{BLOCK, LOOKAHEAD, Room, Staging, Window, clean_blocks, squeeze_blocks};

pub(super) fn clean_bytes(chunk: &[u8]) -> usize {
    clean_blocks(chunk, is_clean)
}

pub(super) fn squeeze(chunk: &[u8], out: &mut Staging) -> (usize, usize) {
    squeeze_blocks(chunk, out, squeeze_block)
}

/// Writes the canonical form of all bytes but the last two to `out`; returns how many were written.
/// For what is shorter than a window.
pub(in crate::canon) fn squeeze_tail(bytes: &[u8], out: &mut [u8]) -> usize {
    debug_assert!(bytes.len() < BLOCK + LOOKAHEAD);
    let mut written = 0;
    for triple in bytes.windows(LOOKAHEAD + 1) {
        let (byte, is_kept) = settle(triple[0], triple[1], triple[2]);
        out[written] = byte;
        written += usize::from(is_kept);
    }
    written
}

/// What becomes of `byte`, and whether it stays, given the two that follow.
#[inline(always)]
fn settle(byte: u8, next: u8, after: u8) -> (u8, bool) {
    let is_space = is_white_space(byte);
    let is_dropped = is_space & (is_white_space(next) | ((next == b'\r') & (after == b'\n')));
    (if is_space { b' ' } else { byte }, !is_dropped)
}

#[inline(always)]
fn is_white_space(byte: u8) -> bool {
    (byte == b' ') | (byte == b'\t')
}

#[inline(always)]
fn is_clean(window: &Window) -> bool {
    let mut flaws = 0;
    for index in 0..BLOCK {
        let (byte, next) = (window[index], window[index + 1]);
        flaws |= u8::from(((byte == b' ') & (next <= b' ')) | (byte == b'\t'));
    }
    flaws == 0
}

#[inline(always)]
fn squeeze_block(window: &Window, room: &mut Room) -> usize {
    let mut bytes = [0; BLOCK];
    let mut kept = [0; BLOCK];
    for index in 0..BLOCK {
        let (byte, is_kept) = settle(window[index], window[index + 1], window[index + 2]);
        bytes[index] = byte;
        kept[index] = u8::from(is_kept);
    }
    let mut written = 0;
    for index in 0..BLOCK {
        room[written] = bytes[index];
        written += usize::from(kept[index]);
    }
    written
}

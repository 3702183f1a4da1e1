//! A message while it arrives: its content is staged in the very blocks that go to disk.
//!
//! Invariants: each content byte is copied here once and nowhere else in the spool; every block
//! starts with room for its record's header; a draft that is dropped leaves only garbage behind.
//! Bounds: at most `draft_memory_bytes` of blocks are held; then the draft is full until spilled.

use std::rc::Rc;

use super::driver::Shared;
use super::log::{Append, DraftKey, Last, Pool, Ticket};
use super::record::{HEADER_BYTES, PAGE_BYTES, PART_BYTES, RECORD_BYTES_MAX};
use super::{MessageId, SpoolError};
use crate::io::Block;

/// Room kept for the caller's meta bytes when a block is sized to the announced content.
const META_HINT_BYTES: usize = 512;
/// First block when no size was announced.
const FIRST_BYTES: usize = 2 * PAGE_BYTES;
/// First block after a spill: the message has proved long.
const LATER_BYTES: usize = 64 * 1024;

/// A message being staged; see [`super::Spool::draft`]. Dropping it forgets the message.
pub struct Draft {
    pub(super) shared: Rc<Shared>,
    pub(super) key: DraftKey,
    full: Vec<Staged>,
    current: Option<Staged>,
    /// Parts that are in the log already.
    spilled: usize,
    content_bytes: u64,
    announced: Option<u64>,
    is_over: bool,
}

/// A block and how much content stands in it.
struct Staged {
    block: Block,
    content_bytes: usize,
}

impl Staged {
    fn room(&self) -> usize {
        self.block.len() - HEADER_BYTES - self.content_bytes
    }
}

/// No memory for more content now. Spill the draft ([`super::Spool::spill`]), or wait for memory, and
/// go on with the bytes that were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftFull {
    /// How many of the bytes were taken.
    pub taken: usize,
}

impl std::fmt::Display for DraftFull {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "no memory for more of the message (took {} bytes)", self.taken)
    }
}

impl std::error::Error for DraftFull {}

impl Draft {
    pub(super) fn new(shared: Rc<Shared>, announced: Option<u64>) -> Self {
        let key = shared.log.borrow_mut().draft();
        Self {
            shared,
            key,
            full: Vec::new(),
            current: None,
            spilled: 0,
            content_bytes: 0,
            announced,
            is_over: false,
        }
    }

    /// Appends content in wire form. The one copy of the message's way.
    ///
    /// # Errors
    /// [`DraftFull`] when memory is short: the first `taken` bytes are in.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DraftFull> {
        let mut taken = 0;
        while taken < bytes.len() {
            let Some(staged) = self.with_room() else { return Err(DraftFull { taken }) };
            let piece = (bytes.len() - taken).min(staged.room());
            let at = HEADER_BYTES + staged.content_bytes;
            staged.block[at..at + piece].copy_from_slice(&bytes[taken..taken + piece]);
            staged.content_bytes += piece;
            taken += piece;
            self.content_bytes += piece as u64;
            self.shared.count_copied(piece);
        }
        Ok(())
    }

    /// Content so far.
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Block memory held now.
    pub fn held_bytes(&self) -> usize {
        self.full.iter().chain(&self.current).map(|staged| staged.block.len()).sum()
    }

    fn with_room(&mut self) -> Option<&mut Staged> {
        if self.current.as_ref().is_none_or(|staged| staged.room() == 0) {
            let wanted = self.next_block_bytes();
            if self.held_bytes() + wanted > self.shared.draft_memory_bytes.max(RECORD_BYTES_MAX) {
                return None;
            }
            let Some(block) = self.shared.blocks().take(wanted) else {
                self.shared.is_short();
                return None;
            };
            self.push_block(block);
        }
        self.current.as_mut()
    }

    fn push_block(&mut self, block: Block) {
        self.full.extend(self.current.replace(Staged { block, content_bytes: 0 }));
    }

    /// As long as what was announced, or doubling.
    fn next_block_bytes(&self) -> usize {
        let rest = self.announced.and_then(|bytes| bytes.checked_sub(self.content_bytes));
        if let Some(rest) = rest.filter(|rest| *rest > 0) {
            let rest = usize::try_from(rest).unwrap_or(RECORD_BYTES_MAX).min(RECORD_BYTES_MAX);
            return block_bytes_for(HEADER_BYTES + rest + META_HINT_BYTES);
        }
        match &self.current {
            None if self.spilled == 0 => FIRST_BYTES,
            None => LATER_BYTES,
            Some(last) => (last.block.len() * 2).min(RECORD_BYTES_MAX),
        }
    }

    /// Hands everything staged to the log as parts. The tickets tell when they are durable.
    pub(super) fn spill(&mut self) -> Vec<Ticket> {
        let has_content = |staged: &Staged| staged.content_bytes > 0;
        let staged = std::mem::take(&mut self.full).into_iter();
        let staged: Vec<Staged> = staged.chain(self.current.take()).filter(has_content).collect();
        staged.into_iter().map(|staged| self.append_part(staged)).collect()
    }

    fn append_part(&mut self, staged: Staged) -> Ticket {
        self.spilled += 1;
        let Staged { block, content_bytes } = staged;
        let append = Append { draft: self.key, block, content_bytes, last: None };
        self.shared.log.borrow_mut().append(append)
    }

    /// Bytes of the last record beyond its content.
    fn closing_bytes(&self, meta: &[u8]) -> usize {
        (self.spilled + self.full.len()) * PART_BYTES + meta.len()
    }

    /// Whether the last block takes the list of parts and `meta` too; if not, how long a block of
    /// their own must be.
    pub(super) fn closing_block(&self, meta: &[u8]) -> Result<Option<usize>, SpoolError> {
        let closing = self.closing_bytes(meta);
        if self.current.as_ref().is_some_and(|staged| staged.room() >= closing) {
            return Ok(None);
        }
        // One more part, should the current block become one.
        let own = HEADER_BYTES + closing + PART_BYTES;
        if own > RECORD_BYTES_MAX { Err(SpoolError::TooLarge) } else { Ok(Some(own)) }
    }

    pub(super) fn give_closing_block(&mut self, block: Block) {
        self.push_block(block);
    }

    /// Hands the rest to the log and ends the draft. A block with room must be there
    /// ([`Self::closing_block`]).
    pub(super) fn finish(mut self, id: MessageId, meta: &[u8]) -> Vec<Ticket> {
        let last = self.current.take().expect("a closing block was seen to");
        let full = std::mem::take(&mut self.full);
        let has_content = |staged: &Staged| staged.content_bytes > 0;
        let mut tickets: Vec<Ticket> =
            full.into_iter().filter(has_content).map(|staged| self.append_part(staged)).collect();
        let parts = self.spilled;
        let Staged { mut block, content_bytes } = last;
        let at = HEADER_BYTES + content_bytes + parts * PART_BYTES;
        block[at..at + meta.len()].copy_from_slice(meta);
        let last = Some(Last { id, parts, meta_bytes: meta.len() });
        let append = Append { draft: self.key, block, content_bytes, last };
        tickets.push(self.shared.log.borrow_mut().append(append));
        self.is_over = true;
        tickets
    }

    /// Whether all content is in memory (and will be hot after the commit).
    pub(super) fn is_whole(&self) -> bool {
        self.spilled == 0
    }
}

/// Blocks are powers of two and are written whole: two of them, if that saves a quarter of what one
/// would take.
fn block_bytes_for(needed: usize) -> usize {
    let one = needed.min(RECORD_BYTES_MAX).next_power_of_two().max(PAGE_BYTES);
    let first = one / 2;
    let second = (needed.saturating_sub(first) + HEADER_BYTES).next_power_of_two().max(PAGE_BYTES);
    if needed <= one && first + second <= one * 3 / 4 { first } else { one }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.log.borrow_mut().abandon(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_written_beyond_what_is_needed() {
        for (needed, bytes) in [
            (1, 4096),
            (4096, 4096),
            (4097, 8192),
            (8192, 8192),
            (9000, 8192),
            (12_000, 8192),
            (12_289, 16_384),
            (40_000, 32_768),
            (262_144, 262_144),
            (1 << 30, 262_144),
        ] {
            assert_eq!(block_bytes_for(needed), bytes, "{needed}");
        }
    }
}

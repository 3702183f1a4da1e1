//! Commit blocks: aligned, registered memory in which a message is staged, written and sent.
//!
//! A [`BlockPool`] is one arena per shard, cut into power-of-two [`Block`]s of 4 KiB to 256 KiB. A
//! block has one owner. It is filled once, the disk reads it in place (`O_DIRECT`, registered with the
//! ring), and [`Block::freeze`] turns it into [`Bytes`] without a copy, so that delivery sends from it.
//!
//! Invariants: live blocks never overlap; every block is aligned to its own size up to 4 KiB and
//! comes back exactly once, from whichever thread drops it; the arena outlives its last block. The
//! pool never grows: at the bound [`BlockPool::take`] answers `None` and the caller pushes back.
//!
//! Security: a block is **not** cleared between owners. Whoever takes one must write, or clear, every
//! byte it later hands to a disk or a peer.
#![allow(unsafe_code, reason = "hands out disjoint slices of one mapping")]
#![allow(clippy::disallowed_types, reason = "frozen blocks are dropped by any thread")]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io, slice};

use bytes::Bytes;
use tokio::sync::Notify;

use super::arena::{Arena, PAGE_BYTES};
use super::buddy::{Buddy, ORDER_MAX, order_for};

/// Smallest block and the unit of all block lengths, in bytes.
pub const BLOCK_BYTES_MIN: usize = PAGE_BYTES;

/// Largest block, in bytes. Longer contents are several blocks.
pub const BLOCK_BYTES_MAX: usize = PAGE_BYTES << ORDER_MAX;

/// The bounded supply of [`Block`]s of one shard. Clones share the supply.
#[derive(Clone)]
pub struct BlockPool {
    shared: Arc<Shared>,
}

struct Shared {
    arena: Arena,
    /// Uncontended in practice: only a frozen block dropped on a foreign thread meets the owner here.
    buddy: Mutex<Buddy>,
    freed: Notify,
    waiting: AtomicUsize,
}

impl BlockPool {
    /// Maps a pool of `bytes`, rounded up to whole largest blocks.
    ///
    /// # Errors
    /// When the address space is not to be had.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.max(1).next_multiple_of(BLOCK_BYTES_MAX);
        let page_count = u32::try_from(bytes / PAGE_BYTES).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "block memory is too large")
        })?;
        let arena = Arena::map(bytes)?;
        let buddy = Mutex::new(Buddy::new(page_count));
        let (freed, waiting) = (Notify::new(), AtomicUsize::new(0));
        Ok(Self { shared: Arc::new(Shared { arena, buddy, freed, waiting }) })
    }

    /// Takes a block of at least `bytes_min`, its length a power of two times 4 KiB.
    ///
    /// `None` when no such run of memory is free now, and always above [`BLOCK_BYTES_MAX`]. The
    /// contents are unspecified: see the module's note on security.
    pub fn take(&self, bytes_min: usize) -> Option<Block> {
        let order = order_for(bytes_min, PAGE_BYTES)?;
        let page = self.shared.lock().take(order)?;
        let start = self.shared.arena.at(page as usize * PAGE_BYTES);
        Some(Block { shared: Arc::clone(&self.shared), start, page, order })
    }

    /// Waits until [`Self::take`] succeeds. Waiters are not served in order.
    ///
    /// # Panics
    /// Above [`BLOCK_BYTES_MAX`], which could never succeed.
    pub async fn take_when_free(&self, bytes_min: usize) -> Block {
        assert!(bytes_min <= BLOCK_BYTES_MAX, "no block holds {bytes_min} bytes");
        let _waiting = Waiting::new(&self.shared);
        loop {
            // Listening begins before the try, so that memory freed in between is not missed.
            let freed = self.shared.freed.notified();
            if let Some(block) = self.take(bytes_min) {
                return block;
            }
            freed.await;
        }
    }

    /// Waits until some memory comes back after this call. Ask again with [`Self::take`] then.
    pub async fn freed(&self) {
        let _waiting = Waiting::new(&self.shared);
        self.shared.freed.notified().await;
    }

    /// Bytes not taken now. They may be scattered.
    pub fn free_bytes(&self) -> usize {
        self.shared.lock().free_pages() as usize * PAGE_BYTES
    }

    /// Bytes of the whole pool.
    pub fn capacity_bytes(&self) -> usize {
        self.shared.arena.bytes()
    }

    /// Where the pool lies, for registration with the ring.
    pub(super) fn arena(&self) -> &Arena {
        &self.shared.arena
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, capacity) = (self.free_bytes(), self.capacity_bytes());
        write!(f, "BlockPool({free} of {capacity} bytes free)")
    }
}

impl Shared {
    /// The allocator panics before it changes anything, so a poisoned lock still guards a sound one.
    fn lock(&self) -> MutexGuard<'_, Buddy> {
        self.buddy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a waiter for as long as it waits, so that dropping a block stays cheap without any.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One owned run of pool memory; dropping it gives the memory back.
///
/// Derefs to its whole length, which is a power of two times 4 KiB.
pub struct Block {
    shared: Arc<Shared>,
    start: NonNull<u8>,
    page: u32,
    order: u8,
}

// SAFETY: a block is the only owner of its range, and the allocator it returns to is behind a lock.
unsafe impl Send for Block {}
// SAFETY: `&Block` gives shared access to plain bytes only.
unsafe impl Sync for Block {}

impl Block {
    /// Turns the block into immutable bytes without copying; the memory comes back with the last clone.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn bytes(&self) -> usize {
        PAGE_BYTES << self.order
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range was taken for this block alone and is mapped (zeroed at first, so always
        // initialised) while `shared` lives; `&self` forbids writers.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes()) }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes this the only access.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes()) }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} bytes at page {})", self.bytes(), self.page)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.shared.lock().give(self.page, self.order);
        if self.shared.waiting.load(Ordering::SeqCst) > 0 {
            self.shared.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn pool(bytes: usize) -> BlockPool {
        BlockPool::new(bytes).unwrap()
    }

    #[test]
    fn the_bound_holds_and_memory_comes_back() {
        let pool = pool(BLOCK_BYTES_MAX);
        let large = pool.take(BLOCK_BYTES_MAX).unwrap();
        assert_eq!(large.as_ptr() as usize % PAGE_BYTES, 0);
        assert!(pool.take(1).is_none());
        assert!(pool.take(BLOCK_BYTES_MAX + 1).is_none());
        drop(large);
        assert_eq!(pool.free_bytes(), pool.capacity_bytes());
    }

    #[test]
    fn frozen_blocks_return_with_the_last_clone_on_any_thread() {
        let pool = pool(BLOCK_BYTES_MAX);
        let mut block = pool.take(5000).unwrap();
        block[..5].copy_from_slice(b"hello");
        let address = block.as_ptr();
        let bytes = block.freeze();
        assert_eq!((bytes.as_ptr(), bytes.len(), &bytes[..5]), (address, 8192, &b"hello"[..]));
        let part = bytes.slice(1..4);
        drop(bytes);
        assert_eq!(pool.free_bytes(), pool.capacity_bytes() - 8192);
        thread::spawn(move || drop(part)).join().unwrap();
        assert_eq!(pool.free_bytes(), pool.capacity_bytes());
    }

    #[test]
    fn the_arena_outlives_the_pool() {
        let mut block = pool(1).take(4096).unwrap();
        block.fill(7);
        assert!(block.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn waiters_wake_when_memory_comes_back_from_another_thread() {
        let pool = pool(BLOCK_BYTES_MAX);
        let held = pool.take(BLOCK_BYTES_MAX).unwrap();
        let waiter = tokio::spawn({
            let pool = pool.clone();
            async move { pool.take_when_free(8192).await.len() }
        });
        tokio::task::yield_now().await;
        let freed = pool.freed();
        let other = tokio::spawn(async move { drop(held) });
        freed.await;
        other.await.unwrap();
        assert_eq!(waiter.await.unwrap(), 8192);
        assert_eq!(pool.free_bytes(), pool.capacity_bytes());
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_keep_their_bytes(
            steps in prop::collection::vec((any::<bool>(), 1..300_000_usize, any::<u8>()), 1..120),
        ) {
            let pool = pool(4 * BLOCK_BYTES_MAX);
            let mut held: Vec<(Block, u8)> = Vec::new();
            for (take, bytes, mark) in steps {
                if take || held.is_empty() {
                    if let Some(mut block) = pool.take(bytes) {
                        prop_assert!(block.len() >= bytes);
                        block.fill(mark);
                        held.push((block, mark));
                    }
                } else {
                    let (block, mark) = held.swap_remove(usize::from(mark) % held.len());
                    prop_assert!(block.iter().all(|byte| *byte == mark));
                }
                let taken: usize = held.iter().map(|(block, _)| block.len()).sum();
                prop_assert_eq!(pool.free_bytes(), pool.capacity_bytes() - taken);
            }
            for (block, mark) in held.drain(..) {
                prop_assert!(block.iter().all(|byte| *byte == mark));
            }
            prop_assert_eq!(pool.free_bytes(), pool.capacity_bytes());
        }
    }
}

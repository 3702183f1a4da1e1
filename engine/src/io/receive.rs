//! Receive memory: a fixed set of equal buffers per shard, lent chunk by chunk.
//!
//! The kernel (or the `epoll` driver) fills a buffer; the session gets a [`Lease`] on it, works in
//! place, and gives it back by dropping the lease. No session owns a buffer while it is idle.
//!
//! Invariants: a buffer is in exactly one of three hands: free, with the kernel, or lent. A lease is
//! the only access to its bytes. A buffer cannot be returned twice: a lease returns it by being
//! consumed, and debug builds check the hand it came from.
//!
//! The bound: when all buffers are lent or queued, receives wait until one comes back.
#![allow(unsafe_code, reason = "hands out disjoint slices of one mapping")]

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::{fmt, io, slice};

use tokio::sync::Notify;

use super::arena::{Arena, PAGE_BYTES};
use super::bell::Bell;

/// Most buffers a pool may have: the kernel's limit for one provided-buffer ring.
const BUFFER_COUNT_MAX: usize = 1 << 15;

/// The receive buffers of one shard.
pub(super) struct ReceivePool {
    arena: Arena,
    buffer_bytes: usize,
    buffer_count: u16,
    free: RefCell<Vec<u16>>,
    lent: Cell<u32>,
    returned: Notify,
    bell: Rc<Bell>,
    bell_wanted: Cell<bool>,
    /// Which hand each buffer is in, to catch a second return in debug builds.
    #[cfg(debug_assertions)]
    is_free: RefCell<Vec<bool>>,
}

impl ReceivePool {
    /// Maps `memory_bytes` in buffers of `buffer_bytes` (rounded up to a page); their number is rounded
    /// down to a power of two, as a provided-buffer ring wants it, and is at least two.
    pub(super) fn new(memory_bytes: usize, buffer_bytes: usize) -> io::Result<Self> {
        let buffer_bytes = buffer_bytes.max(1).next_multiple_of(PAGE_BYTES);
        let count = (memory_bytes / buffer_bytes).clamp(2, BUFFER_COUNT_MAX);
        let count = 1_u16 << count.ilog2();
        let arena = Arena::map(usize::from(count) * buffer_bytes)?;
        Ok(Self {
            arena,
            buffer_bytes,
            buffer_count: count,
            free: RefCell::new((0..count).rev().collect()),
            lent: Cell::new(0),
            returned: Notify::new(),
            bell: Rc::default(),
            bell_wanted: Cell::new(false),
            #[cfg(debug_assertions)]
            is_free: RefCell::new(vec![true; usize::from(count)]),
        })
    }

    /// Length of each buffer.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Number of buffers, a power of two.
    pub(super) fn buffer_count(&self) -> u16 {
        self.buffer_count
    }

    /// Leases alive now.
    pub(super) fn lent(&self) -> u32 {
        self.lent.get()
    }

    /// Address of a buffer's first byte, for the kernel.
    pub(super) fn address(&self, index: u16) -> *mut u8 {
        self.arena.at(usize::from(index) * self.buffer_bytes).as_ptr()
    }

    /// Takes a free buffer out of the pool: the caller (or the kernel) is its only user until
    /// [`Self::lease`] or [`Self::give`].
    pub(super) fn take(&self) -> Option<u16> {
        let index = self.free.borrow_mut().pop()?;
        #[cfg(debug_assertions)]
        self.change_hand(index, true);
        Some(index)
    }

    /// Gives a taken buffer back.
    pub(super) fn give(&self, index: u16) {
        #[cfg(debug_assertions)]
        self.change_hand(index, false);
        self.free.borrow_mut().push(index);
        self.returned.notify_one();
        if self.bell_wanted.get() {
            self.bell.ring();
        }
    }

    /// Whether a buffer is free.
    pub(super) fn has_free(&self) -> bool {
        !self.free.borrow().is_empty()
    }

    /// Waits until a buffer has come back. May wake without one being free: ask again.
    pub(super) async fn returned(&self) {
        self.returned.notified().await;
    }

    /// The bell to ring when a buffer comes back while [`Self::ring_when_returned`] is on.
    pub(super) fn bell(&self) -> &Rc<Bell> {
        &self.bell
    }

    /// Whether the driver waits for buffers.
    pub(super) fn ring_when_returned(&self, wanted: bool) {
        self.bell_wanted.set(wanted);
    }

    #[cfg(debug_assertions)]
    fn change_hand(&self, index: u16, from_free: bool) {
        let mut hands = self.is_free.borrow_mut();
        let hand = &mut hands[usize::from(index)];
        debug_assert_eq!(*hand, from_free, "receive buffer {index} is in another hand");
        *hand = !from_free;
    }
}

impl fmt::Debug for ReceivePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivePool({} x {} bytes)", self.buffer_count, self.buffer_bytes)
    }
}

/// Received bytes, in place. Dropping the lease gives its buffer back.
///
/// Empty when the peer has closed its side: there will be no more. Holding a lease keeps one of a few
/// hundred buffers from everyone else, so copy what must be kept and let go.
pub struct Lease {
    held: Option<Held>,
}

struct Held {
    pool: Rc<ReceivePool>,
    index: u16,
    length: u32,
}

impl Lease {
    /// The lease that says "the peer closed its side".
    pub(super) fn empty() -> Self {
        Self { held: None }
    }

    /// A lease on the first `length` bytes of a taken buffer, which must have been filled.
    pub(super) fn new(pool: &Rc<ReceivePool>, index: u16, length: u32) -> Self {
        assert!(length as usize <= pool.buffer_bytes, "a chunk fits its buffer");
        assert!(index < pool.buffer_count, "buffer {index} does not exist");
        pool.lent.set(pool.lent.get() + 1);
        Self { held: Some(Held { pool: Rc::clone(pool), index, length }) }
    }

    /// Keeps only the first `length` bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        if let (Some(held), Ok(length)) = (&mut self.held, u32::try_from(length)) {
            held.length = held.length.min(length);
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(Held { pool, index, length }) = &self.held else { return &[] };
        // SAFETY: the buffer was taken from the pool for this lease alone, `new` checked the range, the
        // mapping is initialised (zeroed) and lives while `pool` does, and `&self` forbids writers.
        unsafe { slice::from_raw_parts(pool.address(*index), *length as usize) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        let Some(Held { pool, index, length }) = &mut self.held else { return &mut [] };
        // SAFETY: as in `deref`, and `&mut self` makes this the only access.
        unsafe { slice::from_raw_parts_mut(pool.address(*index), *length as usize) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} bytes)", self.len())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(Held { pool, index, .. }) = self.held.take() {
            pool.lent.set(pool.lent.get() - 1);
            pool.give(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_lent_once_and_come_back() {
        let pool = Rc::new(ReceivePool::new(3 * 4096, 4096).unwrap());
        assert_eq!(pool.buffer_count(), 2);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        let mut first = Lease::new(&pool, a, 4096);
        let second = Lease::new(&pool, b, 10);
        first.fill(9);
        assert_eq!((&second[..], pool.lent()), (&[0_u8; 10][..], 2));
        first.truncate(3);
        assert_eq!(&first[..], &[9, 9, 9]);
        drop((first, second));
        assert_eq!(pool.lent(), 0);
        assert!(pool.take().is_some() && pool.take().is_some());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "another hand")]
    fn a_second_return_is_caught() {
        let pool = ReceivePool::new(8192, 4096).unwrap();
        let index = pool.take().unwrap();
        pool.give(index);
        pool.give(index);
    }

    #[test]
    fn an_empty_lease_holds_nothing() {
        assert!(Lease::empty().is_empty());
    }
}

//! The ring of receive buffers that the kernel fills.
//!
//! All free buffers of the [`ReceivePool`] are published before each entry into the kernel. Since the
//! kernel works for us only inside an entry, that is as good as publishing each at once, and costs one
//! store.
#![allow(unsafe_code, reason = "shares memory with the kernel")]

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::io::arena::Arena;
use crate::io::receive::ReceivePool;

/// The one buffer group of a shard's ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Buffers are short when less than this share of them is with the kernel.
const SHORT_SHARE: u32 = 4;

/// Provided buffers of one ring.
pub(super) struct BufferRing {
    /// Entries, shared with the kernel; declared before the pool, whose memory they name.
    entries: Rc<Arena>,
    pool: Rc<ReceivePool>,
    tail: u16,
    /// Buffers published and not known to be used.
    with_kernel: u32,
}

impl BufferRing {
    /// Registers an empty ring for the pool's buffers.
    pub(super) fn register(ring: &IoUring, pool: Rc<ReceivePool>) -> io::Result<Self> {
        let count = pool.buffer_count();
        let entries = Arena::map(usize::from(count) * size_of::<BufRingEntry>())?;
        let address = entries.base().as_ptr() as u64;
        // SAFETY: the mapping holds `count` entries, is page aligned, and lives in `Core` beside the
        // ring, which is drained and closed before it (or leaked together with it).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0)?;
        }
        Ok(Self { entries: Rc::new(entries), pool, tail: 0, with_kernel: 0 })
    }

    /// Hands all free buffers to the kernel.
    pub(super) fn publish(&mut self) {
        let before = self.tail;
        while let Some(index) = self.pool.take() {
            self.put(index);
        }
        if self.tail != before {
            self.publish_tail();
        }
    }

    /// Buffers the kernel can still fill, as far as known.
    pub(super) fn with_kernel(&self) -> u32 {
        self.with_kernel
    }

    /// Whether less than a quarter of all buffers is with the kernel.
    pub(super) fn is_short(&self) -> bool {
        self.with_kernel < u32::from(self.pool.buffer_count()) / SHORT_SHARE
    }

    /// An owner of the shared entries, for leaking them.
    pub(super) fn keep_alive(&self) -> Rc<Arena> {
        Rc::clone(&self.entries)
    }

    /// Notes that the kernel has filled one.
    pub(super) fn note_used(&mut self) {
        self.with_kernel = self.with_kernel.saturating_sub(1);
    }

    fn put(&mut self, index: u16) {
        let mask = self.pool.buffer_count() - 1;
        let position = usize::from(self.tail & mask) * size_of::<BufRingEntry>();
        let entry: *mut BufRingEntry = self.entries.at(position).as_ptr().cast();
        let bytes = u32::try_from(self.pool.buffer_bytes()).unwrap_or(u32::MAX);
        // SAFETY: `position` is inside the mapping and aligned; zeroed memory is a valid entry; the
        // kernel does not read beyond the published tail, so the entry is ours.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.pool.address(index) as u64);
        entry.set_len(bytes);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
        self.with_kernel += 1;
    }

    fn publish_tail(&self) {
        let first: *const BufRingEntry = self.entries.base().as_ptr().cast();
        // SAFETY: `first` is the first entry of a registered ring, whose reserved field is the tail.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the field is aligned, lives as long as the mapping, and is only ever accessed
        // atomically: by us here, and by the kernel, which reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

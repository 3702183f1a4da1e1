//! One anonymous mapping that the kernel reads and writes on our behalf.
//!
//! Receive buffers and commit blocks are carved from arenas. A mapping is used instead of the heap
//! because the memory must be page aligned (`O_DIRECT`), must never move (it is registered with
//! the ring), and must be able to outlive its Rust owner when a transfer cannot be called back.
//!
//! Invariants: base and length are fixed for life; the mapping starts zeroed; it goes away only when
//! the last owner does. This file hands out raw addresses and never references: who may touch which
//! range is decided by the two allocators above it (`block.rs`, `receive.rs`).
#![allow(unsafe_code, reason = "maps memory whose address the kernel keeps")]

use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

/// The page and direct-I/O unit everything here is a multiple of, in bytes.
pub(super) const PAGE_BYTES: usize = 4096;

/// An owned anonymous mapping, at least page aligned.
#[derive(Debug)]
pub(super) struct Arena {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: an `Arena` is an address range and nothing else; it has no thread affinity, and all access
// through it goes by raw pointers whose users prove exclusivity themselves.
unsafe impl Send for Arena {}
// SAFETY: as above; `&Arena` exposes only the address and the length.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `bytes` (rounded up to whole pages, at least one) of zeroed memory.
    ///
    /// Pages are taken from the system when first touched. Huge pages are asked for, since the ring
    /// pins and the disk walks this memory page by page otherwise; a refusal changes nothing.
    pub(super) fn map(bytes: usize) -> io::Result<Self> {
        let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES);
        // SAFETY: a new private anonymous mapping at an address the kernel chooses aliases nothing.
        let base = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        // SAFETY: the range was mapped just above and the advice does not change its contents.
        let _ = unsafe { mm::madvise(base, bytes, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, bytes })
    }

    /// First byte of the mapping.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length in bytes, a multiple of [`PAGE_BYTES`].
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Address of the byte at `offset`, which must lie inside the mapping.
    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.bytes, "offset {offset} is outside the arena");
        // SAFETY: the assertion keeps the result inside the one mapping `base` points to.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map`, and the last owner has gone, so no borrow of it is
        // left. munmap of a valid range cannot fail in a way that could be answered here.
        let _ = unsafe { mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

//! Files that hold what must not be lost.
//!
//! A [`File`] is opened `O_DIRECT|O_DSYNC` where the file system takes both: then a completed write is
//! durable and needs no second operation. Elsewhere it is a buffered file, and [`File::flush`]
//! (`fdatasync`) makes written bytes durable. [`File::is_synchronous`] tells which.
//!
//! Invariants: offsets and lengths are multiples of 4 KiB in both cases, so that callers behave alike on
//! every file system; a write either covers all its blocks or reports an error; the blocks of an
//! operation stay untouched until the kernel is done with them, even if its future is dropped.
//!
//! Failures: a failed [`File::flush`] or synchronous write means that nothing is known about the bytes
//! written since the last success. It must not be repeated and believed: the kernel reports such an
//! error once and may then drop the pages.
//!
//! Preallocation, directory entries and locks are the caller's, with plain calls.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Mode, OFlags, StatxFlags};

use super::arena::PAGE_BYTES;
use super::block::Block;
use super::epoll::EpollFile;
use super::uring::UringFile;

/// How [`super::Io::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing; readable by the owner only.
    Create,
}

/// An open file of one shard.
#[derive(Debug)]
pub struct File {
    pub(super) backing: Backing,
    pub(super) synchronous: bool,
}

/// The driver's side of a file.
#[derive(Debug)]
pub(super) enum Backing {
    Uring(UringFile),
    Epoll(EpollFile),
}

impl File {
    /// Writes all `blocks`, one after the other, from byte `offset` on, in one vectored write.
    ///
    /// Gives the blocks back in every case. Durable on return when [`Self::is_synchronous`], else after
    /// [`Self::flush`]. A dropped future lets the write go on; its blocks return to the pool when the
    /// kernel is done.
    ///
    /// # Errors
    /// `InvalidInput` when `offset` is not a multiple of 4 KiB; `WriteZero` when the kernel stops short
    /// without an error; else what the system says (`ENOSPC`, `EIO`, `EDQUOT`). After an error any part
    /// may have been written.
    pub async fn write(&self, offset: u64, blocks: Vec<Block>) -> (io::Result<()>, Vec<Block>) {
        let length: usize = blocks.iter().map(|block| block.len()).sum();
        if let Err(error) = check_range(offset, length) {
            return (Err(error), blocks);
        }
        if blocks.is_empty() {
            return (Ok(()), blocks);
        }
        match &self.backing {
            Backing::Uring(file) => file.write(offset, blocks).await,
            Backing::Epoll(file) => file.write(offset, blocks).await,
        }
    }

    /// Makes everything written durable (`fdatasync`). Does nothing when [`Self::is_synchronous`].
    ///
    /// # Errors
    /// What the system says; see the module's note on failures.
    pub async fn flush(&self) -> io::Result<()> {
        match &self.backing {
            _ if self.synchronous => Ok(()),
            Backing::Uring(file) => file.flush().await,
            Backing::Epoll(file) => file.flush().await,
        }
    }

    /// Whether a completed write is durable (opened `O_DIRECT|O_DSYNC`).
    pub fn is_synchronous(&self) -> bool {
        self.synchronous
    }

    /// Reads up to `bytes` from byte `offset` on into the beginning of `block`.
    ///
    /// Returns how many bytes were read: less than `bytes` only at the end of the file. The rest of the
    /// block is unspecified.
    ///
    /// # Errors
    /// `InvalidInput` when `offset` is not a multiple of 4 KiB or `bytes` exceeds the block; else what
    /// the system says.
    pub async fn read(
        &self,
        offset: u64,
        block: Block,
        bytes: usize,
    ) -> (io::Result<usize>, Block) {
        let fits =
            if bytes > block.len() { Err(invalid("the block is too small")) } else { Ok(()) };
        if let Err(error) = fits.and_then(|()| check_range(offset, block.len())) {
            return (Err(error), block);
        }
        if bytes == 0 {
            return (Ok(0), block);
        }
        let (result, block) = match &self.backing {
            Backing::Uring(file) => file.read(offset, block, bytes).await,
            Backing::Epoll(file) => file.read(offset, block, bytes).await,
        };
        (result.map(|read| read.min(bytes)), block)
    }
}

impl AsFd for File {
    /// For calls that do not wait long: locks, preallocation, `fstat`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.backing {
            Backing::Uring(file) => file.descriptor().as_fd(),
            Backing::Epoll(file) => file.descriptor().as_fd(),
        }
    }
}

/// Opens `path`, and says whether completed writes are durable.
pub(super) fn open(path: &Path, mode: FileMode) -> io::Result<(OwnedFd, bool)> {
    let access = match mode {
        FileMode::Read => OFlags::RDONLY,
        FileMode::Write => OFlags::RDWR,
        FileMode::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
    };
    let base = access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let (created, reopened) = match mode {
        // Created plainly first: a refused O_DIRECT can leave the new file behind.
        FileMode::Create => {
            let file = fs::open(path, base, Mode::RUSR | Mode::WUSR)?;
            (Some(file), base.difference(OFlags::CREATE | OFlags::EXCL))
        }
        FileMode::Read | FileMode::Write => (None, base),
    };
    let sync = if mode == FileMode::Read { OFlags::empty() } else { OFlags::DSYNC };
    if let Ok(file) = fs::open(path, reopened | OFlags::DIRECT | sync, Mode::empty())
        && takes_direct(&file)
    {
        return Ok((file, mode != FileMode::Read));
    }
    match created {
        Some(file) => Ok((file, false)),
        None => Ok((fs::open(path, base, Mode::empty())?, false)),
    }
}

/// Whether direct transfers may be cut at 4 KiB. Old kernels do not say, and then take it.
fn takes_direct(file: &OwnedFd) -> bool {
    let Ok(status) = fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return true;
    };
    let known = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::DIOALIGN);
    let fits = |align: u32| (1..=PAGE_BYTES).contains(&(align as usize));
    !known || (fits(status.stx_dio_mem_align) && fits(status.stx_dio_offset_align))
}

fn check_range(offset: u64, length: usize) -> io::Result<()> {
    if !offset.is_multiple_of(PAGE_BYTES as u64) {
        return Err(invalid("the offset is not a multiple of 4096"));
    }
    let end = offset.checked_add(length as u64);
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(invalid("the range ends beyond what a file can hold"));
    }
    Ok(())
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// The error for a transfer that stopped without one.
pub(super) fn stopped_short() -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, "the write stopped short")
}

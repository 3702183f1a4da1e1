//! Operations with one completion, and what they own until then.
//!
//! A [`Job`] owns everything its submission points to: bytes, blocks, addresses, descriptors. It moves
//! into a slot before the entry is pushed and comes out with the completion, so the kernel never works
//! on memory that somebody may free, whatever becomes of the future that waits.
#![allow(unsafe_code, reason = "describes memory to the kernel")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;
use std::{mem, ptr};

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use socket2::SockAddr;

use super::slots::Key;
use crate::io::arena::PAGE_BYTES;
use crate::io::block::{Block, BlockPool};
use crate::io::parts::{Parts, SLICES_MAX};

/// Largest registered buffer the kernel takes, and our cut of larger pools.
pub(super) const REGISTERED_BYTES_MAX: usize = 1 << 30;

/// Most bytes in one send; the rest follows in the next.
const SEND_BYTES_MAX: usize = 1 << 30;

/// Room for the longest IP socket address.
const NAME_BYTES_MAX: usize = size_of::<libc::sockaddr_in6>();

/// A socket as the ring knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A slot of the ring's table of direct descriptors.
    Direct(u32),
    /// A descriptor of the process, closed through the ring.
    Plain(RawFd),
}

/// Builds an entry for either kind of descriptor.
macro_rules! for_target {
    ($target:expr, |$descriptor:ident| $entry:expr) => {
        match $target {
            Target::Direct(index) => {
                let $descriptor = io_uring::types::Fixed(index);
                $entry
            }
            Target::Plain(raw) => {
                let $descriptor = io_uring::types::Fd(raw);
                $entry
            }
        }
    };
}
pub(super) use for_target;

/// A slot's content: a job under way, or done and not yet fetched.
pub(super) struct Operation {
    pub(super) job: Job,
    pub(super) state: State,
}

/// How far an operation is.
pub(super) enum State {
    /// With the kernel; the waker of whoever waits.
    Flying(Option<Waker>),
    /// With the kernel; nobody waits any more.
    Abandoned,
    /// Completed with this result.
    Done(i32),
}

/// What an operation does, with all it needs.
pub(super) enum Job {
    Send(SendJob),
    Connect(ConnectJob),
    PeerName(PeerNameJob),
    Close(Target),
    Write(WriteJob),
    Read(ReadJob),
    Flush(Rc<OwnedFd>),
}

/// What this ring can do beyond Linux 6.1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Abilities {
    /// The block pool is registered.
    pub(super) fixed_blocks: bool,
    /// Vectored writes from registered memory (Linux 6.15).
    pub(super) fixed_vectors: bool,
}

impl Job {
    /// The submission for this job. What it points to is owned by `self` on the heap, so it stays in
    /// place when `self` moves.
    pub(super) fn entry(&mut self, abilities: Abilities) -> squeue::Entry {
        match self {
            Self::Send(job) => job.entry(),
            Self::Connect(job) => {
                let (address, length) = (job.addr.as_ptr().cast(), job.addr.len());
                opcode::Connect::new(Fd(job.socket.as_raw_fd()), address, length).build()
            }
            Self::PeerName(job) => job.entry(),
            Self::Close(target) => {
                for_target!(*target, |descriptor| opcode::Close::new(descriptor).build())
            }
            Self::Write(job) => job.entry(abilities),
            Self::Read(job) => job.entry(abilities),
            Self::Flush(file) => {
                opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build()
            }
        }
    }

    /// Whether to call the operation back when nobody waits for it. File operations run on: a half
    /// done write helps nobody.
    pub(super) fn is_called_back(&self) -> bool {
        matches!(self, Self::Send(_) | Self::Connect(_))
    }
}

/// A vectored send.
pub(super) struct SendJob {
    target: Target,
    pub(super) parts: Parts,
    vectors: Vec<libc::iovec>,
    /// One element: a place on the heap that does not move.
    header: Vec<libc::msghdr>,
}

impl SendJob {
    pub(super) fn new(target: Target, parts: Parts) -> Self {
        Self { target, parts, vectors: Vec::new(), header: Vec::new() }
    }

    fn entry(&mut self) -> squeue::Entry {
        // The kernel sends on until all is taken or the connection fails, so that a full socket buffer
        // does not cost a round through user space.
        const FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let mut slices = self.parts.slices();
        if slices.len() == 1
            && let Some(only) = slices.next()
        {
            let length = u32::try_from(only.len().min(SEND_BYTES_MAX)).unwrap_or(u32::MAX);
            return for_target!(self.target, |descriptor| {
                opcode::Send::new(descriptor, only.as_ptr(), length).flags(FLAGS).build()
            });
        }
        self.vectors.clear();
        self.vectors.extend(slices.map(vector_of));
        // SAFETY: an all-zero message header is a valid one: no name, no control data, no vectors.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = self.vectors.as_mut_ptr();
        header.msg_iovlen = self.vectors.len();
        self.header.clear();
        self.header.push(header);
        let header = self.header.as_ptr();
        for_target!(self.target, |descriptor| {
            opcode::SendMsg::new(descriptor, header).flags(FLAGS.cast_unsigned()).build()
        })
    }
}

/// A connection attempt. Dropping the job closes the socket.
pub(super) struct ConnectJob {
    pub(super) socket: OwnedFd,
    addr: Box<SockAddr>,
}

impl ConnectJob {
    pub(super) fn new(socket: OwnedFd, addr: SocketAddr) -> Self {
        Self { socket, addr: Box::new(addr.into()) }
    }
}

/// Asks for the peer's address of a socket that is a direct descriptor, for which there is no
/// `getpeername`.
pub(super) struct PeerNameJob {
    pub(super) accept: Key,
    pub(super) target: Target,
    name: Vec<u8>,
}

impl PeerNameJob {
    pub(super) fn new(accept: Key, target: Target, is_ipv4: bool) -> Self {
        // The kernel refuses more room than the address takes (EINVAL).
        let bytes = if is_ipv4 { size_of::<libc::sockaddr_in>() } else { NAME_BYTES_MAX };
        Self { accept, target, name: vec![0; bytes] }
    }

    fn entry(&mut self) -> squeue::Entry {
        let room = u32::try_from(self.name.len()).unwrap_or_default();
        let name = self.name.as_mut_ptr().cast();
        for_target!(self.target, |descriptor| {
            opcode::GetSockOpt::new(
                descriptor,
                libc::SOL_SOCKET.cast_unsigned(),
                libc::SO_PEERNAME.cast_unsigned(),
                name,
                room,
            )
            .build()
        })
    }

    /// The address, after the operation succeeded.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        parse_name(&self.name)
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)).
fn parse_name(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let octets = *rest.first_chunk::<4>()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), port))
        }
        libc::AF_INET6 => {
            let octets = *rest.get(4..)?.first_chunk::<16>()?;
            Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)), port))
        }
        _ => None,
    }
}

/// A vectored write of what is left of `blocks` after the first `written` bytes.
pub(super) struct WriteJob {
    file: Rc<OwnedFd>,
    offset: u64,
    pub(super) blocks: Vec<Block>,
    pool: BlockPool,
    pub(super) written: usize,
    vectors: Vec<libc::iovec>,
}

impl WriteJob {
    pub(super) fn new(file: Rc<OwnedFd>, offset: u64, blocks: Vec<Block>, pool: BlockPool) -> Self {
        Self { file, offset, blocks, pool, written: 0, vectors: Vec::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.len()).sum()
    }

    fn entry(&mut self, abilities: Abilities) -> squeue::Entry {
        self.gather();
        let descriptor = Fd(self.file.as_raw_fd());
        let offset = self.offset + self.written as u64;
        let registered = if abilities.fixed_blocks { self.registration() } else { None };
        let count = u32::try_from(self.vectors.len()).unwrap_or(u32::MAX);
        match (&self.vectors[..], registered) {
            ([only], index) => {
                let (start, bytes) = (only.iov_base.cast_const().cast(), length_of(only));
                match index {
                    Some(index) => opcode::WriteFixed::new(descriptor, start, bytes, index)
                        .offset(offset)
                        .build(),
                    None => opcode::Write::new(descriptor, start, bytes).offset(offset).build(),
                }
            }
            (vectors, Some(index)) if abilities.fixed_vectors => {
                opcode::WritevFixed::new(descriptor, vectors.as_ptr(), count, index)
                    .offset(offset)
                    .build()
            }
            (vectors, _) => {
                opcode::Writev::new(descriptor, vectors.as_ptr(), count).offset(offset).build()
            }
        }
    }

    /// Describes the unwritten rest; blocks that lie side by side become one vector.
    fn gather(&mut self) {
        self.vectors.clear();
        let mut skip = self.written;
        for block in &self.blocks {
            if skip >= block.len() {
                skip -= block.len();
                continue;
            }
            let vector = vector_of(&block[mem::take(&mut skip)..]);
            let is_full = self.vectors.len() == SLICES_MAX;
            match self.vectors.last_mut() {
                Some(last) if is_followed_by(last, &vector) => last.iov_len += vector.iov_len,
                _ if is_full => return,
                _ => self.vectors.push(vector),
            }
        }
    }

    /// The registered buffer that holds all vectors, if one does.
    fn registration(&self) -> Option<u16> {
        let mut index = None;
        for vector in &self.vectors {
            let first = registration(&self.pool, vector.iov_base.cast(), vector.iov_len)?;
            if *index.get_or_insert(first) != first {
                return None;
            }
        }
        index
    }
}

/// A read into one block.
pub(super) struct ReadJob {
    file: Rc<OwnedFd>,
    offset: u64,
    pub(super) block: Block,
    pool: BlockPool,
    pub(super) read: usize,
    pub(super) wanted: usize,
}

impl ReadJob {
    pub(super) fn new(
        file: Rc<OwnedFd>,
        offset: u64,
        block: Block,
        bytes: usize,
        pool: BlockPool,
    ) -> Self {
        // Direct reads take whole pages only, and every block has room for them.
        let wanted = bytes.next_multiple_of(PAGE_BYTES);
        Self { file, offset, block, pool, read: 0, wanted }
    }

    fn entry(&mut self, abilities: Abilities) -> squeue::Entry {
        let descriptor = Fd(self.file.as_raw_fd());
        let offset = self.offset + self.read as u64;
        let rest = &mut self.block[self.read..self.wanted];
        let bytes = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let start = rest.as_mut_ptr();
        match registration(&self.pool, start, rest.len()).filter(|_| abilities.fixed_blocks) {
            Some(index) => {
                opcode::ReadFixed::new(descriptor, start, bytes, index).offset(offset).build()
            }
            None => opcode::Read::new(descriptor, start, bytes).offset(offset).build(),
        }
    }
}

/// How a pool's arena is cut into registered buffers.
pub(super) fn registrations(pool: &BlockPool) -> Vec<libc::iovec> {
    let arena = pool.arena();
    (0..arena.bytes())
        .step_by(REGISTERED_BYTES_MAX)
        .map(|offset| libc::iovec {
            iov_base: arena.at(offset).as_ptr().cast(),
            iov_len: (arena.bytes() - offset).min(REGISTERED_BYTES_MAX),
        })
        .collect()
}

/// The registered buffer that holds this range of the pool, if one does.
fn registration(pool: &BlockPool, start: *mut u8, bytes: usize) -> Option<u16> {
    let arena = pool.arena();
    let first = start.addr().checked_sub(arena.base().addr().get())?;
    let last = first + bytes.checked_sub(1)?;
    if last >= arena.bytes() {
        return None;
    }
    let (first, last) = (first / REGISTERED_BYTES_MAX, last / REGISTERED_BYTES_MAX);
    if first == last { u16::try_from(first).ok() } else { None }
}

fn vector_of(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn length_of(vector: &libc::iovec) -> u32 {
    u32::try_from(vector.iov_len.min(REGISTERED_BYTES_MAX)).unwrap_or(u32::MAX)
}

fn is_followed_by(vector: &libc::iovec, next: &libc::iovec) -> bool {
    ptr::eq(vector.iov_base.cast::<u8>().wrapping_add(vector.iov_len), next.iov_base.cast())
}

/// Reads a completion's result (a count, or a negated errno).
pub(super) fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(addr: &str) -> Vec<u8> {
        let addr = SockAddr::from(addr.parse::<SocketAddr>().unwrap());
        let bytes: *const u8 = addr.as_ptr().cast();
        // SAFETY: a socket address is `len` plain bytes.
        unsafe { std::slice::from_raw_parts(bytes, addr.len() as usize) }.to_vec()
    }

    #[test]
    fn peer_names_are_read() {
        for addr in ["192.0.2.7:25", "[2001:db8::1]:65535", "[::ffff:192.0.2.7]:1"] {
            assert_eq!(parse_name(&name(addr)), Some(addr.parse().unwrap()));
        }
        assert_eq!(parse_name(&name("192.0.2.7:25")[..7]), None);
        assert_eq!(parse_name(&[0; 28]), None);
    }

    fn file() -> Rc<OwnedFd> {
        Rc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn neighbouring_blocks_become_one_vector() {
        let pool = BlockPool::new(1 << 20).unwrap();
        let blocks: Vec<Block> = (0..4).map(|_| pool.take(4096).unwrap()).collect();
        let mut job = WriteJob::new(file(), 0, blocks, pool);
        job.gather();
        let bytes: usize = job.vectors.iter().map(|vector| vector.iov_len).sum();
        assert_eq!((job.vectors.len(), bytes), (1, 16384));
        job.blocks.swap(1, 3);
        job.gather();
        assert!(job.vectors.len() > 1);
        assert_eq!(job.registration(), Some(0));
    }

    #[test]
    fn the_rest_of_a_short_write_starts_where_it_stopped() {
        let pool = BlockPool::new(1 << 20).unwrap();
        let blocks = vec![pool.take(8192).unwrap(), pool.take(4096).unwrap()];
        let start = blocks[0].as_ptr();
        let mut job = WriteJob::new(file(), 0, blocks, pool);
        for written in [0, 512, 4096, 8192, 10_000, 12_287] {
            job.written = written;
            job.gather();
            let bytes: usize = job.vectors.iter().map(|vector| vector.iov_len).sum();
            assert_eq!(bytes, 12_288 - written);
            if written < 8192 {
                assert_eq!(
                    job.vectors[0].iov_base.cast_const().cast(),
                    start.wrapping_add(written)
                );
            }
        }
    }

    #[test]
    fn only_pool_memory_counts_as_registered() {
        let pool = BlockPool::new(1 << 20).unwrap();
        let mut outside = [0_u8; 8];
        assert_eq!(registration(&pool, outside.as_mut_ptr(), 8), None);
        let mut inside = pool.take(4096).unwrap();
        assert_eq!(registration(&pool, inside.as_mut_ptr(), 4096), Some(0));
        assert_eq!(registration(&pool, inside.as_mut_ptr(), 2 << 20), None);
        assert_eq!(registrations(&pool).len(), 1);
    }
}

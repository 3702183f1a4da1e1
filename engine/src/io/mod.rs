//! How bytes move: one small interface, two drivers behind it, TLS over both.
//!
//! Each shard has one [`Io`]. Through it a session accepts or connects a [`Stream`], receives chunks as
//! [`Lease`]s on shared buffers, sends vectors of [`Bytes`], and the spool writes aligned [`Block`]s to
//! a [`File`]. The `uring` driver has an own io_uring per shard; the `epoll` driver is plain tokio. Both
//! behave alike, and one conformance suite says so.
//!
//! # Invariants
//! - Nothing here leaves its thread: [`Io`], [`Stream`], [`Listener`] and [`File`] are not `Send`. Only
//!   [`Block`]s, and [`Bytes`] made of them, may be dropped elsewhere.
//! - Dropping a future is always safe. A dropped receive loses no byte. Memory the kernel works on stays
//!   owned by the driver until the kernel is done with it.
//! - Submissions leave with the driver's next turn: a task that blocks its thread blocks what it has just
//!   sent, closed or dropped, too.
//! - Memory is bounded by [`IoOptions`]: at the bound receives wait, and the block pool says `None`.
//! - A session that waits holds no receive buffer.
//!
//! # Must never
//! Interpret a byte, know an address family above IP, keep a timer (callers wrap calls in
//! `tokio::time::timeout`), or use `IORING_OP_SHUTDOWN` (always handed to a worker thread; measured 2x
//! on short sessions).
//!
//! # Security
//! Buffers and blocks are reused without clearing; only received or written ranges are ever shown. The
//! `unsafe` of the engine stands in this room alone, in `arena.rs`, `block.rs`, `receive.rs` and
//! `uring/`.
//!
//! # Failures
//! [`Io::start`] says in one line what refused io_uring and what to set ([`IoRefused`]). A reset, a half
//! close and a refused connect come back as plain [`io::Error`]s of the stream concerned.

mod arena;
mod bell;
mod block;
mod buddy;
#[cfg(test)]
mod conformance;
mod epoll;
mod file;
mod parts;
mod receive;
mod refusal;
mod socket;
#[cfg(test)]
mod stress;
pub mod tls;
mod uring;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;

pub use self::block::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, Block, BlockPool};
use self::epoll::{EpollDriver, EpollListener, EpollStream};
use self::file::Backing;
pub use self::file::{File, FileMode};
pub use self::receive::Lease;
use self::receive::ReceivePool;
pub use self::refusal::{IoRefused, RefusalCause};
use self::uring::{Ring, UringFile, UringListener, UringStream};

/// Which driver to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// io_uring where the system allows it, else `epoll`; [`Io::refusal`] then says why.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// `epoll`.
    Epoll,
}

/// The driver in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// An own io_uring per shard.
    Uring,
    /// Plain tokio readiness.
    Epoll,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Sizes of one shard's I/O. The defaults are what was measured; see the fields.
#[derive(Clone, Debug)]
pub struct IoOptions {
    /// Which driver.
    pub choice: Choice,
    /// Receive memory in bytes. 2 to 8 MiB stays in cache; 32 MiB cost 30 to 45 % more on 1 MiB
    /// messages.
    pub receive_memory_bytes: usize,
    /// Length of one receive buffer in bytes, the most a [`Lease`] holds. Each chunk has a fixed cost:
    /// with pipelined 4 KiB messages, 8 KiB buffers cost 40 % more CPU than 16 KiB, and 32 KiB cost 20 %
    /// less; 64 KiB gained nothing more.
    pub receive_buffer_bytes: usize,
    /// Commit block memory in bytes: the bound on message content held in memory. The `uring` driver
    /// pins all of it at start where the limit on locked memory allows.
    pub block_memory_bytes: usize,
    /// Submission queue length; the completion queue is [`Self::completion_factor`] times as long.
    pub ring_entries: u32,
    /// Completion queue entries per submission queue entry.
    pub completion_factor: u32,
    /// Most accepted connections at a time under `uring` (its table of direct descriptors); lowered to
    /// the limit on open files.
    pub direct_descriptors: u32,
    /// Longest wait of `uring` for more to come together, in microseconds, while much is arriving; 0
    /// turns it off. Adds at most this to a latency.
    pub gather_us: u32,
}

impl Default for IoOptions {
    fn default() -> Self {
        Self {
            choice: Choice::Auto,
            receive_memory_bytes: 8 << 20,
            receive_buffer_bytes: 32 << 10,
            block_memory_bytes: 64 << 20,
            ring_entries: 1024,
            completion_factor: 4,
            direct_descriptors: 16_384,
            gather_us: 120,
        }
    }
}

/// Counters of one shard's I/O since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoStats {
    /// System calls made for I/O: ring entries, or reads, writes and accepts. Waiting in `epoll_wait` is
    /// tokio's and not counted.
    pub system_calls: u64,
    /// Operations handed to the kernel (`uring`) or to a blocking thread (`epoll` files).
    pub submissions: u64,
    /// Completions taken back.
    pub completions: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Bytes received from peers.
    pub bytes_received: u64,
    /// Bytes sent to peers.
    pub bytes_sent: u64,
    /// Times a receive had to wait because every receive buffer was lent or queued.
    pub buffers_exhausted: u64,
    /// Times the completion queue ran over and the kernel kept completions aside.
    pub completion_overflows: u64,
    /// Operations called back: closed streams, dropped futures, receives paused by back-pressure.
    pub cancels: u64,
    /// Completions for an operation that had already ended. Always 0 unless we have a bug.
    pub stale_completions: u64,
    /// Leases alive now.
    pub buffers_lent: u64,
}

/// One shard's I/O. Clones share it; it ends with its last clone, stream, listener and file.
#[derive(Clone, Debug)]
pub struct Io {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    driver: Driver,
    receive: Rc<ReceivePool>,
    blocks: BlockPool,
    refusal: Option<IoRefused>,
}

#[derive(Debug)]
enum Driver {
    Uring(Rc<Ring>),
    Epoll(Rc<EpollDriver>),
}

impl Io {
    /// Starts I/O for this thread. Call inside a tokio current-thread runtime, within a `LocalSet`: the
    /// `uring` driver lives there as a local task.
    ///
    /// # Errors
    /// When io_uring is asked for and refused, or memory is.
    pub fn start(options: &IoOptions) -> Result<Self, IoRefused> {
        let blocks = BlockPool::new(options.block_memory_bytes).map_err(IoRefused::memory)?;
        let receive = ReceivePool::new(options.receive_memory_bytes, options.receive_buffer_bytes)
            .map(Rc::new)
            .map_err(IoRefused::memory)?;
        let (driver, refusal) = match start_ring(options, &receive, &blocks) {
            Ok(Some(ring)) => (Driver::Uring(ring), None),
            Ok(None) => (Driver::Epoll(Rc::new(EpollDriver::new(Rc::clone(&receive)))), None),
            Err(refusal) if options.choice == Choice::Auto => {
                (Driver::Epoll(Rc::new(EpollDriver::new(Rc::clone(&receive)))), Some(refusal))
            }
            Err(refusal) => return Err(refusal),
        };
        Ok(Self { inner: Rc::new(Inner { driver, receive, blocks, refusal }) })
    }

    /// The driver in use.
    pub fn driver(&self) -> DriverKind {
        match &self.inner.driver {
            Driver::Uring(_) => DriverKind::Uring,
            Driver::Epoll(_) => DriverKind::Epoll,
        }
    }

    /// Why [`Choice::Auto`] did not get io_uring: one line for the log.
    pub fn refusal(&self) -> Option<&IoRefused> {
        self.inner.refusal.as_ref()
    }

    /// Listens on `addr`, together with the other shards that do (`SO_REUSEPORT`).
    ///
    /// # Errors
    /// What the system says: the address is in use, not ours, or needs a privilege.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<Listener> {
        match &self.inner.driver {
            Driver::Uring(ring) => {
                let (listener, addr) = ring.listen(addr)?;
                Ok(Listener { kind: ListenerKind::Uring(listener), addr })
            }
            Driver::Epoll(driver) => {
                let listener = driver.listen(addr)?;
                let addr = listener.local_addr()?;
                Ok(Listener { kind: ListenerKind::Epoll(listener), addr })
            }
        }
    }

    /// Connects to `addr`, from the address `source` if given. Has no time limit of its own; a dropped
    /// future gives the attempt up.
    ///
    /// # Errors
    /// `InvalidInput` when the families differ; else what the system says (refused, unreachable, timed
    /// out after the kernel's minutes).
    pub async fn connect(&self, addr: SocketAddr, source: Option<IpAddr>) -> io::Result<Stream> {
        match &self.inner.driver {
            Driver::Uring(ring) => {
                let (stream, local) = ring.connect(addr, source).await?;
                Ok(Stream { kind: StreamKind::Uring(stream), local, peer: addr })
            }
            Driver::Epoll(driver) => {
                let stream = driver.connect(addr, source).await?;
                let local = socket::canonical(stream.local_addr()?);
                Ok(Stream { kind: StreamKind::Epoll(stream), local, peer: addr })
            }
        }
    }

    /// Opens `path`, direct and synchronous where the file system takes it. Blocks for as long as `open`
    /// does: meant for segments, not for every message.
    ///
    /// # Errors
    /// What `open` says. Symbolic links are not followed.
    pub fn open(&self, path: &Path, mode: FileMode) -> io::Result<File> {
        let (descriptor, synchronous) = file::open(path, mode)?;
        let backing = match &self.inner.driver {
            Driver::Uring(ring) => Backing::Uring(UringFile::new(ring, descriptor)),
            Driver::Epoll(driver) => Backing::Epoll(driver.file(descriptor)),
        };
        Ok(File { backing, synchronous })
    }

    /// The shard's commit blocks.
    pub fn blocks(&self) -> &BlockPool {
        &self.inner.blocks
    }

    /// Whether the ring has the commit blocks registered, which spares pinning pages for each write.
    /// Needs a limit on locked memory above [`IoOptions::block_memory_bytes`], or `CAP_IPC_LOCK`.
    pub fn has_registered_blocks(&self) -> bool {
        match &self.inner.driver {
            Driver::Uring(ring) => ring.has_registered_blocks(),
            Driver::Epoll(_) => false,
        }
    }

    /// Counters so far.
    pub fn stats(&self) -> IoStats {
        let stats = match &self.inner.driver {
            Driver::Uring(ring) => ring.stats(),
            Driver::Epoll(driver) => driver.stats(),
        };
        IoStats { buffers_lent: u64::from(self.inner.receive.lent()), ..stats }
    }
}

/// Starts a ring if one may be used.
fn start_ring(
    options: &IoOptions,
    receive: &Rc<ReceivePool>,
    blocks: &BlockPool,
) -> Result<Option<Rc<Ring>>, IoRefused> {
    match options.choice {
        Choice::Epoll => Ok(None),
        Choice::Auto | Choice::Uring => {
            Ring::start(options, receive, blocks).map(Some).map_err(IoRefused::from_ring)
        }
    }
}

/// A listening socket of this shard.
#[derive(Debug)]
pub struct Listener {
    kind: ListenerKind,
    addr: SocketAddr,
}

#[derive(Debug)]
enum ListenerKind {
    Uring(UringListener),
    Epoll(EpollListener),
}

impl Listener {
    /// Waits for the next connection and the peer's address (an IPv4-mapped one as IPv4). Dropping the
    /// future loses no connection.
    ///
    /// # Errors
    /// Out of descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`): wait a little and call again. A
    /// peer that went away before it was accepted is skipped.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        loop {
            match self.accept_once().await {
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err(error) if is_peer_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn accept_once(&mut self) -> io::Result<Option<(Stream, SocketAddr)>> {
        let (kind, local, peer) = match &mut self.kind {
            ListenerKind::Uring(listener) => {
                let (stream, peer) = listener.accept().await?;
                (StreamKind::Uring(stream), self.addr, peer)
            }
            ListenerKind::Epoll(listener) => {
                let (stream, peer) = listener.accept().await?;
                let Ok(local) = stream.local_addr() else { return Ok(None) };
                (StreamKind::Epoll(stream), local, peer)
            }
        };
        let (local, peer) = (socket::canonical(local), socket::canonical(peer));
        Ok(Some((Stream { kind, local, peer }, peer)))
    }

    /// The bound address; port 0 has become the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

/// `accept` passes on errors that the connection had before it was taken (accept(2)).
fn is_peer_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::EINTR
        )
    )
}

/// A connected socket of this shard.
#[derive(Debug)]
pub struct Stream {
    kind: StreamKind,
    local: SocketAddr,
    peer: SocketAddr,
}

#[derive(Debug)]
enum StreamKind {
    Uring(UringStream),
    Epoll(EpollStream),
}

impl Stream {
    /// Waits for received bytes. An empty lease means that the peer has closed its side; it may still
    /// read. Dropping the future loses no byte.
    ///
    /// Only a few chunks are kept for a stream that is not asked: then its receive is paused, and the
    /// peer feels the closed window.
    ///
    /// # Errors
    /// What the connection died of, typically `ConnectionReset`. Bytes that arrived before come first.
    pub async fn receive(&mut self) -> io::Result<Lease> {
        match &mut self.kind {
            StreamKind::Uring(stream) => stream.receive().await,
            StreamKind::Epoll(stream) => stream.receive().await,
        }
    }

    /// Sends all bytes of all parts, in order. Returns when the kernel has them, not when the peer has.
    ///
    /// The parts live until the kernel is done with them, also when the future is dropped. A dropped or
    /// failed send leaves the stream torn: the peer may have any prefix, so later sends fail.
    ///
    /// # Errors
    /// `BrokenPipe` or `ConnectionReset` when the peer is gone; `BrokenPipe` on a torn stream.
    pub async fn send(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        match &mut self.kind {
            StreamKind::Uring(stream) => stream.send(parts).await,
            StreamKind::Epoll(stream) => stream.send(parts).await,
        }
    }

    /// Closes and waits until the descriptor is free. Dropping the stream does the same without waiting.
    ///
    /// Sent bytes are still delivered, unless received ones were left unread: then the kernel resets the
    /// connection (RFC 2525 2.17).
    pub async fn close(self) {
        match self.kind {
            StreamKind::Uring(stream) => stream.close().await,
            StreamKind::Epoll(stream) => drop(stream),
        }
    }

    /// The peer's address. Behind a proxy this is the proxy.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Our address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

//! The `epoll` driver: plain tokio. Fallback where io_uring is forbidden, and oracle in tests.
//!
//! Sockets wait for readiness and then read into a buffer of the shared [`ReceivePool`], so an idle
//! session owns none. File operations run on tokio's blocking threads.

mod file;
mod socket;

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::{io, net};

use tokio::net::{TcpListener, TcpSocket};

pub(super) use self::file::EpollFile;
pub(super) use self::socket::{EpollListener, EpollStream};
use super::IoStats;
use super::receive::ReceivePool;
use super::socket::{self as sockets, Mode};

/// State that the sockets and files of one shard share.
#[derive(Debug)]
pub(super) struct EpollDriver {
    pool: Rc<ReceivePool>,
    stats: Cell<IoStats>,
}

impl EpollDriver {
    pub(super) fn new(pool: Rc<ReceivePool>) -> Self {
        Self { pool, stats: Cell::default() }
    }

    pub(super) fn listen(self: &Rc<Self>, addr: SocketAddr) -> io::Result<EpollListener> {
        let socket = sockets::listen(addr, Mode::NonBlocking)?;
        let listener = TcpListener::from_std(net::TcpListener::from(socket))?;
        Ok(EpollListener::new(Rc::clone(self), listener))
    }

    pub(super) async fn connect(
        self: &Rc<Self>,
        addr: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<EpollStream> {
        let socket = sockets::outgoing(addr, source, Mode::NonBlocking)?;
        self.count(|stats| stats.system_calls += 1);
        let stream = TcpSocket::from_std_stream(socket.into()).connect(addr).await?;
        Ok(EpollStream::new(Rc::clone(self), stream))
    }

    pub(super) fn file(self: &Rc<Self>, descriptor: OwnedFd) -> EpollFile {
        EpollFile::new(Rc::clone(self), descriptor)
    }

    /// Counters so far; what is lent is added by the caller, who owns the pool.
    pub(super) fn stats(&self) -> IoStats {
        self.stats.get()
    }

    fn count(&self, change: impl FnOnce(&mut IoStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }
}

//! Listening and connected sockets over tokio readiness.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use super::EpollDriver;
use crate::io::parts::Parts;
use crate::io::receive::Lease;

#[derive(Debug)]
pub(in crate::io) struct EpollListener {
    driver: Rc<EpollDriver>,
    listener: TcpListener,
}

impl EpollListener {
    pub(super) fn new(driver: Rc<EpollDriver>, listener: TcpListener) -> Self {
        Self { driver, listener }
    }

    pub(in crate::io) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(in crate::io) async fn accept(&mut self) -> io::Result<(EpollStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        self.driver.count(|stats| {
            stats.system_calls += 1;
            stats.accepted += 1;
        });
        Ok((EpollStream::new(Rc::clone(&self.driver), stream), peer))
    }
}

#[derive(Debug)]
pub(in crate::io) struct EpollStream {
    driver: Rc<EpollDriver>,
    stream: TcpStream,
    /// A send was dropped half way: what the peer has is unknown, so nothing may follow.
    torn: bool,
}

impl EpollStream {
    pub(super) fn new(driver: Rc<EpollDriver>, stream: TcpStream) -> Self {
        Self { driver, stream, torn: false }
    }

    pub(in crate::io) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    pub(in crate::io) async fn receive(&mut self) -> io::Result<Lease> {
        let pool = &self.driver.pool;
        loop {
            self.stream.readable().await?;
            let Some(index) = pool.take() else {
                self.driver.count(|stats| stats.buffers_exhausted += 1);
                pool.returned().await;
                continue;
            };
            let buffer_bytes = u32::try_from(pool.buffer_bytes()).unwrap_or(u32::MAX);
            let mut lease = Lease::new(pool, index, buffer_bytes);
            let outcome = self.stream.try_read(&mut lease);
            self.driver.count(|stats| {
                stats.system_calls += 1;
                stats.bytes_received += *outcome.as_ref().unwrap_or(&0) as u64;
            });
            match outcome {
                Ok(0) => return Ok(Lease::empty()),
                Ok(length) => {
                    lease.truncate(length);
                    return Ok(lease);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(in crate::io) async fn send(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        if self.torn {
            return Err(crate::io::parts::torn());
        }
        self.torn = true;
        self.send_all(Parts::new(parts)).await?;
        self.torn = false;
        Ok(())
    }

    async fn send_all(&self, mut parts: Parts) -> io::Result<()> {
        while !parts.is_empty() {
            self.stream.writable().await?;
            let slices: Vec<IoSlice<'_>> = parts.slices().map(IoSlice::new).collect();
            let outcome = self.stream.try_write_vectored(&slices);
            self.driver.count(|stats| {
                stats.system_calls += 1;
                stats.bytes_sent += *outcome.as_ref().unwrap_or(&0) as u64;
            });
            match outcome {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => parts.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

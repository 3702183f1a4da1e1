//! Listeners and streams on the ring.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::accept::Accept;
use super::operation::{ConnectJob, Job, SendJob, Target, outcome};
use super::receive::{Next, Receive};
use super::slots::Key;
use super::state::Core;
use super::{Ring, note_waker};
use crate::io::parts::{Parts, torn};
use crate::io::receive::Lease;
use crate::io::socket::{self as sockets, Mode};

impl Ring {
    pub(in crate::io) fn listen(
        self: &Rc<Self>,
        addr: SocketAddr,
    ) -> io::Result<(UringListener, SocketAddr)> {
        let socket = sockets::listen(addr, Mode::Blocking)?;
        let bound = sockets::local_addr(&socket)?;
        let accept = Accept::new(socket.into_raw_fd(), addr.is_ipv4());
        let key = self.with(|core, _| core.accepts.insert(accept));
        Ok((UringListener { ring: Rc::clone(self), key }, bound))
    }

    pub(in crate::io) async fn connect(
        self: &Rc<Self>,
        addr: SocketAddr,
        source: Option<IpAddr>,
    ) -> io::Result<(UringStream, SocketAddr)> {
        let socket: OwnedFd = sockets::outgoing(addr, source, Mode::Blocking)?.into();
        let (result, job) = self.fly(Job::Connect(ConnectJob::new(socket, addr))).await;
        outcome(result)?;
        let Job::Connect(ConnectJob { socket, .. }) = job else {
            unreachable!("jobs keep their kind")
        };
        let local = sockets::local_addr(&socket)?;
        Ok((UringStream::new(self, Target::Plain(socket.into_raw_fd())), local))
    }
}

/// A multishot accept and the connections it brought.
#[derive(Debug)]
pub(in crate::io) struct UringListener {
    ring: Rc<Ring>,
    key: Key,
}

impl UringListener {
    pub(in crate::io) async fn accept(&mut self) -> io::Result<(UringStream, SocketAddr)> {
        let (target, peer) = poll_fn(|cx| {
            let (poll, _old) = self.ring.with(|core, _| poll_accept(core, self.key, cx));
            poll
        })
        .await?;
        Ok((UringStream::new(&self.ring, target), peer))
    }
}

impl Drop for UringListener {
    fn drop(&mut self) {
        self.ring.with(|core, after| core.close_accept(self.key, after));
    }
}

type Accepted = io::Result<(Target, SocketAddr)>;

/// Also returns the waker that was there, to be dropped when the state is free.
fn poll_accept(core: &mut Core, key: Key, cx: &Context<'_>) -> (Poll<Accepted>, Option<Waker>) {
    core.assert_sound();
    let accept = core.accepts.get_mut(key).expect("a listener owns its slot");
    if let Some(accepted) = accept.ready.pop_front() {
        return (Poll::Ready(Ok(accepted)), None);
    }
    if let Some(errno) = accept.error.take() {
        return (Poll::Ready(Err(io::Error::from_raw_os_error(errno))), None);
    }
    let old = note_waker(&mut accept.waker, cx);
    if accept.wants_arming() {
        core.arm_accept(key);
    }
    (Poll::Pending, old)
}

/// A connected socket: a direct descriptor when accepted, a plain one when connected.
#[derive(Debug)]
pub(in crate::io) struct UringStream {
    ring: Rc<Ring>,
    receive: Key,
    target: Target,
    /// A send was dropped half way: what the peer has is unknown, so nothing may follow.
    torn: bool,
    closed: bool,
}

impl UringStream {
    fn new(ring: &Rc<Ring>, target: Target) -> Self {
        let receive = ring.with(|core, _| core.receives.insert(Receive::new(target)));
        Self { ring: Rc::clone(ring), receive, target, torn: false, closed: false }
    }

    pub(in crate::io) async fn receive(&mut self) -> io::Result<Lease> {
        poll_fn(|cx| {
            let (poll, _old) = self.ring.with(|core, _| poll_receive(core, self.receive, cx));
            poll.map(|next| match next {
                Next::Chunk { index, length } => Ok(Lease::new(&self.ring.pool, index, length)),
                Next::Closed => Ok(Lease::empty()),
                Next::Failed(error) => Err(error),
            })
        })
        .await
    }

    pub(in crate::io) async fn send(&mut self, parts: Vec<Bytes>) -> io::Result<()> {
        if self.torn {
            return Err(torn());
        }
        let mut parts = Parts::new(parts);
        self.torn = true;
        while !parts.is_empty() {
            let (result, job) = self.ring.fly(Job::Send(SendJob::new(self.target, parts))).await;
            let Job::Send(job) = job else { unreachable!("jobs keep their kind") };
            parts = job.parts;
            match outcome(result) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    self.ring.core.borrow_mut().stats.bytes_sent += sent as u64;
                    parts.advance(sent);
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.torn = false;
        Ok(())
    }

    pub(in crate::io) async fn close(mut self) {
        self.closed = true;
        let key = self.ring.with(|core, after| {
            core.close_stream(self.receive, after);
            core.start(Job::Close(self.target))
        });
        // A descriptor is gone after close whatever it says (close(2)).
        self.ring.await_operation(key).await;
    }
}

impl Drop for UringStream {
    fn drop(&mut self) {
        if !self.closed {
            let (receive, target) = (self.receive, self.target);
            self.ring.with(|core, after| {
                core.close_stream(receive, after);
                core.close(target);
            });
        }
    }
}

/// Also returns the waker that was there, to be dropped when the state is free.
fn poll_receive(core: &mut Core, key: Key, cx: &Context<'_>) -> (Poll<Next>, Option<Waker>) {
    core.assert_sound();
    let receive = core.receives.get_mut(key).expect("a stream owns its slot");
    let next = receive.next(&mut core.chunks);
    let old = if next.is_none() { note_waker(&mut receive.waker, cx) } else { None };
    // Drained: the kernel may bring more while the consumer works on the last chunk.
    if receive.wants_arming() {
        core.arm_receive(key);
    }
    (next.map_or(Poll::Pending, Poll::Ready), old)
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

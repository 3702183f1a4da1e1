//! The life of a multishot accept. Book-keeping only.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::task::Waker;

use super::operation::Target;

/// One listener's accepting side.
pub(super) struct Accept {
    /// The listening socket, closed through the ring.
    pub(super) listener: RawFd,
    /// The bound address: its family tells the length of peer names.
    pub(super) is_ipv4: bool,
    pub(super) waker: Option<Waker>,
    /// Connections that wait to be taken, with the peer's address.
    pub(super) ready: VecDeque<(Target, SocketAddr)>,
    /// Connections whose peer's address has been asked for.
    pub(super) naming: usize,
    /// The error that ended the last multishot accept, for the consumer.
    pub(super) error: Option<i32>,
    pub(super) armed: bool,
    pub(super) cancelling: bool,
    /// It is noted as having too many connections waiting.
    pub(super) overfull: bool,
    /// The listener is gone; the slot only waits for the kernel.
    pub(super) orphaned: bool,
}

impl Accept {
    pub(super) fn new(listener: RawFd, is_ipv4: bool) -> Self {
        Self {
            listener,
            is_ipv4,
            waker: None,
            ready: VecDeque::new(),
            naming: 0,
            error: None,
            armed: false,
            cancelling: false,
            overfull: false,
            orphaned: false,
        }
    }

    /// Whether the kernel should be asked (again): somebody waits and nothing is on its way.
    pub(super) fn wants_arming(&self) -> bool {
        !self.armed && !self.orphaned && self.waker.is_some() && self.queued() == 0
    }

    /// Whether the listener is gone and the kernel has nothing of it.
    pub(super) fn is_over(&self) -> bool {
        self.orphaned && !self.armed && self.naming == 0
    }

    /// Connections accepted and not yet taken.
    pub(super) fn queued(&self) -> usize {
        self.ready.len() + self.naming
    }
}

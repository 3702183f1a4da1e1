//! The `uring` driver: one io_uring per shard, hosted in the shard's tokio runtime.
//!
//! Sessions push submissions into memory and return; a local task (the driver) takes its turn when a
//! submission waits, when a buffer that somebody needs comes back, or when the kernel signals its
//! eventfd. Tokio runs tasks in order, so everything that the tasks woken by one turn push goes into the
//! kernel with the next entry: one system call for many messages.
//!
//! | file | what |
//! |---|---|
//! | `queue.rs` | the shared queues and the eventfd |
//! | `buffers.rs` | the ring of provided receive buffers |
//! | `gather.rs` | when to wait for more to come together |
//! | `slots.rs` | where operations live, generations |
//! | `operation.rs` | operations with one completion and what they own |
//! | `receive.rs`, `accept.rs` | book-keeping of the multishot operations |
//! | `state.rs` | all state, and what each completion does |
//! | `socket.rs`, `file.rs` | what the rest of the room sees |
//!
//! Invariants: the kernel is entered from the driver's turn alone (and once more at the end); memory it
//! works on is owned by a slot, the buffer ring or the block pool until its completion; no foreign code
//! runs while the state is borrowed.
//!
//! Failures: an error of `io_uring_enter` that no retry answers means that we broke the ring. Everything
//! that waits then panics, rather than wait for ever.

mod accept;
mod buffers;
mod file;
mod gather;
mod operation;
mod queue;
mod receive;
mod slots;
mod socket;
mod state;

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use tokio::io::unix::AsyncFd;
use tokio::task;

pub(super) use self::file::UringFile;
use self::operation::{Job, Operation, State};
use self::slots::Key;
pub(super) use self::socket::{UringListener, UringStream};
use self::state::{Aftermath, Core};
use super::bell::Bell;
use super::block::BlockPool;
use super::receive::ReceivePool;
use super::{IoOptions, IoStats};

/// A shard's ring.
pub(super) struct Ring {
    core: RefCell<Core>,
    bell: Rc<Bell>,
    pool: Rc<ReceivePool>,
    blocks: BlockPool,
}

impl Ring {
    /// Sets the ring up and starts its driver as a local task.
    ///
    /// # Errors
    /// What refused it; see [`super::IoRefused`].
    pub(super) fn start(
        options: &IoOptions,
        pool: &Rc<ReceivePool>,
        blocks: &BlockPool,
    ) -> io::Result<Rc<Self>> {
        let (core, signal) = Core::open(options, pool, blocks)?;
        let bell = Rc::clone(pool.bell());
        let (pool, blocks) = (Rc::clone(pool), blocks.clone());
        let ring = Rc::new(Self { core: RefCell::new(core), bell, pool, blocks });
        task::spawn_local(drive(Rc::downgrade(&ring), Rc::clone(&ring.bell), signal));
        Ok(ring)
    }

    /// Counters so far.
    pub(super) fn stats(&self) -> IoStats {
        self.core.borrow().stats()
    }

    /// Whether commit blocks are registered with the ring.
    pub(super) fn has_registered_blocks(&self) -> bool {
        self.core.borrow().has_registered_blocks()
    }

    /// Enters the kernel once if there is cause, and wakes whoever it finished something for.
    fn turn(&self, after: &mut Aftermath) {
        let again = self.core.borrow_mut().turn(after);
        after.settle();
        if again {
            self.bell.ring();
        }
    }

    /// Changes the state, lets the driver submit what was pushed, then runs the aftermath.
    fn with<T>(&self, change: impl FnOnce(&mut Core, &mut Aftermath) -> T) -> T {
        let mut after = Aftermath::default();
        let (value, is_due) = {
            let core = &mut *self.core.borrow_mut();
            let value = change(core, &mut after);
            (value, core.is_due())
        };
        after.settle();
        if is_due {
            self.bell.ring();
        }
        value
    }

    /// Starts a job.
    fn fly(self: &Rc<Self>, job: Job) -> Flight {
        self.await_operation(self.with(|core, _| core.start(job)))
    }

    fn await_operation(self: &Rc<Self>, key: Key) -> Flight {
        Flight { ring: Rc::clone(self), key: Some(key) }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ring")
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.core.get_mut().drain();
        // The driver finds the ring gone and ends.
        self.bell.ring();
    }
}

/// The driver: takes a turn whenever the bell or the kernel calls, until the ring is gone.
async fn drive(ring: Weak<Ring>, bell: Rc<Bell>, signal: AsyncFd<OwnedFd>) {
    let mut after = Aftermath::default();
    poll_fn(move |cx| {
        bell.listen(cx.waker());
        // The counter is never read: each signal is an edge, and edges are all that epoll reports.
        while let Poll::Ready(ready) = signal.poll_read_ready(cx) {
            match ready {
                Ok(mut guard) => guard.clear_ready(),
                // The runtime is shutting down.
                Err(_) => return Poll::Ready(()),
            }
        }
        let Some(ring) = ring.upgrade() else { return Poll::Ready(()) };
        ring.turn(&mut after);
        Poll::Pending
    })
    .await;
}

/// Waits for an operation. Dropped before, it lets go of the operation but not of its memory.
struct Flight {
    ring: Rc<Ring>,
    key: Option<Key>,
}

impl Future for Flight {
    /// The completion's result (a count or a negated errno), and what the job owned.
    type Output = (i32, Job);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let flight = self.get_mut();
        let key = flight.key.expect("not polled after it was ready");
        let (poll, _old) = {
            let core = &mut *flight.ring.core.borrow_mut();
            core.assert_sound();
            poll_operation(core, key, cx)
        };
        if poll.is_ready() {
            flight.key = None;
        }
        poll
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.ring.with(|core, after| core.abandon(key, after));
        }
    }
}

/// Also returns the waker that was there, to be dropped when the state is free.
fn poll_operation(
    core: &mut Core,
    key: Key,
    cx: &Context<'_>,
) -> (Poll<(i32, Job)>, Option<Waker>) {
    let operation = core.operations.get_mut(key).expect("a flight owns its slot");
    match &mut operation.state {
        State::Flying(waker) => (Poll::Pending, note_waker(waker, cx)),
        State::Done(result) => {
            let result = *result;
            let Operation { job, .. } = core.operations.remove(key).expect("looked up just now");
            (Poll::Ready((result, job)), None)
        }
        State::Abandoned => unreachable!("only a dropped flight is abandoned"),
    }
}

/// Notes whom to wake and returns whom that replaces.
fn note_waker(held: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match held {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => held.replace(cx.waker().clone()),
    }
}

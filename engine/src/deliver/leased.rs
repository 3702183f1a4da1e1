//! A lease that finds its way back to the queue, however its task ends.
//!
//! Invariant: a delivery is leased only as long as a [`Leased`] of it lives. A task that is dropped
//! gives it back unused; one that panics defers it as after any failed attempt, so that a message
//! which makes the relay panic is tried less and less often and at last expires, visibly.

use std::ops::Deref;
use std::rc::Rc;

use super::Dispatch;
use super::progress::Standing;
use crate::event::Level;
use crate::queue::{Lease, Outcome, Settled};
use crate::spool::MessageId;

/// A lease in the hands of a delivery.
pub(super) struct Leased {
    dispatch: Rc<Dispatch>,
    /// Taken when it is given back.
    lease: Option<Lease>,
}

impl Leased {
    pub(super) fn new(dispatch: &Rc<Dispatch>, lease: Lease) -> Self {
        Self { dispatch: Rc::clone(dispatch), lease: Some(lease) }
    }

    /// Ends it with an outcome for each recipient.
    pub(super) fn settle(mut self, outcome: impl FnMut(u16) -> Outcome) -> Settled {
        let lease = self.lease.take().expect("a lease is given back once");
        let now_ms = self.dispatch.clock.now_ms();
        self.dispatch.queue.borrow_mut().settle(now_ms, lease, outcome)
    }

    /// Gives it back as if it had not been tried.
    pub(super) fn release(mut self) {
        let lease = self.lease.take().expect("a lease is given back once");
        self.dispatch.queue.borrow_mut().release(self.dispatch.clock.now_ms(), lease);
    }

    /// Its task panicked. Nothing here may panic in turn: that would end the process.
    fn defer(&self, lease: Lease) {
        let id = MessageId::from_u128(lease.message.0);
        let text = format!("message {id}: its delivery panicked, which is a bug; deferred");
        self.dispatch.log.notice(Level::Error, text);
        let recipients = lease.recipients.clone();
        let Ok(mut queue) = self.dispatch.queue.try_borrow_mut() else { return };
        let retry = |_| Outcome::Retry { after_ms: 0 };
        let settled = queue.settle(self.dispatch.clock.now_ms(), lease, retry);
        let Ok(mut messages) = self.dispatch.messages.try_borrow_mut() else { return };
        let Some(message) = messages.get_mut(&id) else { return };
        message.progress.attempts = message.progress.attempts.saturating_add(1);
        message.progress.due_ms = settled.retry.map_or(0, |(_, due_ms)| due_ms);
        for &recipient in recipients.as_slice() {
            message.progress.set(usize::from(recipient), Standing::Queued, PANICKED);
        }
    }
}

impl Deref for Leased {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        self.lease.as_ref().expect("it is given back only by value")
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        if std::thread::panicking() {
            self.defer(lease);
        } else if let Ok(mut queue) = self.dispatch.queue.try_borrow_mut() {
            queue.release(self.dispatch.clock.now_ms(), lease);
        }
        self.dispatch.wake.notify_one();
    }
}

const PANICKED: &str = "the delivery panicked, which is a bug of the relay";

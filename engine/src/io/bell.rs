//! Wakes the driver's task, once per turn however often it is asked.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// One sleeper's bell. Rung while the sleeper runs, it rings when the sleeper listens next.
#[derive(Debug, Default)]
pub(super) struct Bell {
    waker: RefCell<Option<Waker>>,
    rung: Cell<bool>,
}

impl Bell {
    /// Wakes the sleeper unless that has been done since it last listened.
    pub(super) fn ring(&self) {
        if self.rung.replace(true) {
            return;
        }
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Notes whom to wake, and begins a new turn.
    pub(super) fn listen(&self, waker: &Waker) {
        self.rung.set(false);
        let mut held = self.waker.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
            *held = Some(waker.clone());
        }
    }
}

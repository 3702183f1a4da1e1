//! Wakes a signing thread that sleeps, and costs next to nothing while it is awake.
//!
//! Whoever brings work puts it into its queue first and rings then; the sleeper says that it goes
//! to sleep first and looks into the queues once more then. Between the two steps of each stands a
//! sequentially consistent fence, so at least one of them sees the other, and no wake-up is lost.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Duration;

/// One sleeper's bell.
#[derive(Debug, Default)]
pub(super) struct Bell {
    is_asleep: AtomicBool,
    sleeper: OnceLock<Thread>,
}

impl Bell {
    /// Wakes the sleeper where it sleeps. Call it after the work is in its queue.
    pub(super) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed)
            && self.is_asleep.swap(false, Ordering::SeqCst)
            && let Some(sleeper) = self.sleeper.get()
        {
            sleeper.unpark();
        }
    }

    /// Sleeps until it is rung or the limit is over, unless there is work. May return early. To be
    /// called by one thread only.
    pub(super) fn sleep_unless(&self, has_work: impl Fn() -> bool, limit: Option<Duration>) {
        self.sleeper.get_or_init(thread::current);
        self.is_asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !has_work() {
            match limit {
                None => thread::park(),
                Some(limit) => thread::park_timeout(limit),
            }
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// Each number is brought only when the one before was taken, so a lost wake-up hangs.
    #[test]
    fn no_wake_up_is_lost() {
        let bell = Arc::new(Bell::default());
        let brought = Arc::new(AtomicU64::new(0));
        let taken = Arc::new(AtomicU64::new(0));
        let sleeper = {
            let (bell, brought, taken) =
                (Arc::clone(&bell), Arc::clone(&brought), Arc::clone(&taken));
            thread::spawn(move || {
                for number in 1..=ROUNDS {
                    while brought.load(Ordering::Acquire) < number {
                        bell.sleep_unless(|| brought.load(Ordering::Acquire) >= number, None);
                    }
                    taken.store(number, Ordering::Release);
                }
            })
        };
        for number in 1..=ROUNDS {
            brought.store(number, Ordering::Release);
            bell.ring();
            while taken.load(Ordering::Acquire) < number {
                thread::yield_now();
            }
        }
        sleeper.join().expect("the sleeper took them all");
    }

    const ROUNDS: u64 = 20_000;
}

//! The two queues shared with the kernel, and the eventfd by which it calls.
//!
//! Set up with `SINGLE_ISSUER | DEFER_TASKRUN`: completions are only posted while this thread is inside
//! `io_uring_enter` with `GETEVENTS`. So between two entries nothing changes under our feet, and all
//! work of a turn goes in with one system call. `TASKRUN_FLAG` tells without a call whether the kernel
//! has work waiting. The kernel signals the registered eventfd; polling the ring's own descriptor would
//! hang, because nobody would run the deferred work.
//!
//! Invariants: nothing pushed is lost (what does not fit the queue waits in `backlog`, in order);
//! completions the kernel had to keep aside (overflow) are fetched.
#![allow(unsafe_code, reason = "shares memory with the kernel")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, squeue};
use rustix::event::EventfdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Whether the kernel may be told not to signal while we are in a turn. Sound only where its atomic
/// "or" of the task-run flag is a full barrier; elsewhere an unneeded wake-up per turn is the price.
const QUIET_TURNS: bool = cfg!(target_arch = "x86_64");

/// One completion, copied out of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// Submission and completion queue of one shard.
pub(super) struct Queue {
    ring: IoUring,
    backlog: VecDeque<squeue::Entry>,
    /// Entries made so far.
    pub(super) entries: u64,
    /// Submissions pushed so far.
    pub(super) pushed: u64,
    /// Submissions the kernel has taken.
    pub(super) submitted: u64,
    /// Times completions were found kept aside.
    pub(super) overflows: u64,
}

impl Queue {
    /// Sets the ring up.
    ///
    /// # Errors
    /// What `io_uring_setup` says: `ENOSYS`, `EPERM`, `EINVAL` on kernels before 6.1, `ENOMEM`.
    pub(super) fn open(entries: u32, completion_factor: u32) -> io::Result<Self> {
        let entries = entries.clamp(2, 32_768).next_power_of_two();
        let completions = entries.saturating_mul(completion_factor.max(1));
        let ring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(completions)
            .build(entries)?;
        if !ring.params().is_feature_nodrop() {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        Ok(Self {
            ring,
            backlog: VecDeque::new(),
            entries: 0,
            pushed: 0,
            submitted: 0,
            overflows: 0,
        })
    }

    /// Makes an eventfd and has the kernel signal it whenever there is something to fetch.
    pub(super) fn register_signal(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let signal = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        self.ring.submitter().register_eventfd(signal.as_raw_fd())?;
        // SAFETY: an `OwnedFd` stays the same open descriptor for as long as it lives.
        unsafe { AsyncFd::register_with_interest(signal, Interest::READABLE) }
            .map_err(|error| error.into_parts().1)
    }

    /// For registrations.
    pub(super) fn ring(&self) -> &IoUring {
        &self.ring
    }

    /// Whether the kernel knows the operation `code`.
    pub(super) fn supports(&self, code: u8) -> bool {
        let mut probe = Probe::new();
        self.ring.submitter().register_probe(&mut probe).is_ok() && probe.is_supported(code)
    }

    /// Queues an entry; it goes to the kernel with the next [`Self::enter`]. Makes no system call.
    ///
    /// # Safety
    /// All memory the entry points to must stay valid, and unshared where the kernel writes, until the
    /// entry's last completion has been taken out by [`Self::take_completions`].
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.pushed += 1;
        if !self.backlog.is_empty() {
            self.backlog.push_back(entry);
            return;
        }
        // SAFETY: the caller keeps the memory the entry points to alive.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Whether more entries wait than the queue holds.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether entries wait to be submitted.
    pub(super) fn has_submissions(&mut self) -> bool {
        !self.ring.submission().is_empty() || !self.backlog.is_empty()
    }

    /// Whether the kernel has something for us: finished, waiting for us to run it, or kept aside.
    pub(super) fn has_news(&mut self) -> bool {
        self.has_work() || self.has_completions()
    }

    /// Whether the kernel says that work waits for us to enter. It may say so with none left: where work
    /// is added while we are in the kernel, we can have run it before the kernel sets the flag, and only
    /// the next piece of work clears it.
    pub(super) fn has_work(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    /// Whether completions wait in the queue, or are kept aside.
    pub(super) fn has_completions(&mut self) -> bool {
        self.ring.submission().cq_overflow() || !self.ring.completion().is_empty()
    }

    /// Asks the kernel not to signal until [`Self::listen`].
    pub(super) fn hush(&mut self) {
        if QUIET_TURNS {
            self.ring.completion().disable_eventfd();
        }
    }

    /// Asks for signals again. Check [`Self::has_news`] afterwards: what came in between was not
    /// signalled.
    pub(super) fn listen(&mut self) {
        if QUIET_TURNS {
            self.ring.completion().enable_eventfd();
            // The enabling store must be seen before the flags are read, or both sides could miss
            // each other.
            fence(Ordering::SeqCst);
        }
    }

    /// Submits everything queued and has the kernel post what is ready. Waits for nothing.
    ///
    /// # Errors
    /// Only what no retry can answer: the ring is broken.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        loop {
            self.fill();
            let waiting = self.ring.submission().len();
            let to_submit = u32::try_from(waiting).unwrap_or(u32::MAX);
            self.entries += 1;
            let flags = EnterFlags::GETEVENTS.bits();
            // SAFETY: no argument is passed, and the entries' memory is kept by the callers of `push`.
            let entered =
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(to_submit, 0, flags, None) };
            match entered.map_err(|error| (error.raw_os_error(), error)) {
                Ok(taken) => {
                    self.submitted += taken as u64;
                    if self.backlog.is_empty() || taken == 0 {
                        return Ok(());
                    }
                }
                Err((Some(libc::EINTR), _)) => {}
                // Out of request memory, or too many completions kept aside: fetch some first.
                Err((Some(libc::EAGAIN | libc::EBUSY | libc::ENOMEM), _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// Submits what fits the queue and waits until there are `wanted` completions, for `timeout` at most.
    ///
    /// # Errors
    /// Only what no retry can answer: the ring is broken.
    pub(super) fn enter_and_wait(&mut self, wanted: usize, timeout: Duration) -> io::Result<()> {
        self.fill();
        self.entries += 1;
        let timeout = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timeout);
        match self.ring.submitter().submit_with_args(wanted, &args) {
            Ok(taken) => {
                self.submitted += taken as u64;
                Ok(())
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => {
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Moves all completions out. Says whether the kernel keeps more aside.
    pub(super) fn take_completions(&mut self, into: &mut Vec<Completion>) -> bool {
        into.extend(self.ring.completion().map(|entry: cqueue::Entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        let overflowed = self.ring.submission().cq_overflow();
        self.overflows += u64::from(overflowed);
        overflowed
    }

    fn fill(&mut self) {
        let mut submission = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as for `push`, through which the entry came.
            if unsafe { submission.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }
}

//! All that a ring knows, and what each completion does to it.
//!
//! One turn: pause receives that nobody drains, publish free buffers, give starved receives their
//! place, enter the kernel once, take completions. Wakers are called, and jobs dropped, by the caller
//! after the state is free again: both run foreign code.
#![allow(unsafe_code, reason = "hands submissions to the kernel")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode, squeue};
use rustix::net::Shutdown;
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::accept::Accept;
use super::buffers::{BUFFER_GROUP, BufferRing};
use super::gather::Gather;
use super::operation::{
    Abilities, Job, Operation, PeerNameJob, State, Target, for_target, registrations,
};
use super::queue::{Completion, Queue};
use super::receive::{Chunks, End, Receive};
use super::slots::{Key, Slots, Tag};
use crate::io::block::BlockPool;
use crate::io::receive::ReceivePool;
use crate::io::socket as sockets;
use crate::io::{IoOptions, IoStats};

/// Chunks a stream may have waiting at the end of a turn; beyond, its receive is paused.
const CHUNKS_QUEUED_MAX: u16 = 4;

/// Connections a listener may have waiting at the end of a turn; beyond, accepting is paused and the
/// kernel's backlog holds them.
const ACCEPTS_QUEUED_MAX: usize = 256;

/// Entries into the kernel in one turn while it keeps completions aside; the rest waits a turn.
const ROUNDS_MAX: usize = 8;

/// How long an ending ring waits for the kernel before it leaks what the kernel may still use.
const DRAIN_MS_MAX: u64 = 5_000;

/// What to do once the state is no longer borrowed.
#[derive(Default)]
pub(super) struct Aftermath {
    wake: Vec<Waker>,
    jobs: Vec<Job>,
}

impl Aftermath {
    /// Wakes whoever waits for what happened.
    pub(super) fn settle(&mut self) {
        self.jobs.clear();
        for waker in self.wake.drain(..) {
            waker.wake();
        }
    }

    fn wake(&mut self, waker: Option<Waker>) {
        self.wake.extend(waker);
    }
}

/// State of one ring.
pub(super) struct Core {
    // The queue comes first: it is closed before the memory it was told of goes.
    pub(super) queue: Queue,
    buffers: BufferRing,
    pub(super) chunks: Chunks,
    pub(super) operations: Slots<Operation>,
    pub(super) receives: Slots<Receive>,
    pub(super) accepts: Slots<Accept>,
    /// Receives that ran out of buffers, in order.
    starved: VecDeque<Key>,
    overfull_receives: Vec<Key>,
    overfull_accepts: Vec<Key>,
    /// Operations, receives and accepts the kernel has.
    in_flight: usize,
    gather: Gather,
    gather_for: Duration,
    /// The last turn waited with success: the next waits too, and the kernel gives no signal.
    is_lively: bool,
    /// Sends pushed since the last entry: most complete while they are submitted.
    sends_pushed: usize,
    abilities: Abilities,
    /// Accepted sockets become direct descriptors.
    direct_accept: bool,
    pool: Rc<ReceivePool>,
    blocks: BlockPool,
    scratch: Vec<Completion>,
    pub(super) stats: IoStats,
    /// Why the ring is broken. Everything that waits then panics.
    pub(super) failure: Option<io::Error>,
}

impl Core {
    /// Sets up a ring and all that is registered with it; returns the eventfd it signals.
    pub(super) fn open(
        options: &IoOptions,
        pool: &Rc<ReceivePool>,
        blocks: &BlockPool,
    ) -> io::Result<(Self, AsyncFd<OwnedFd>)> {
        let mut queue = Queue::open(options.ring_entries, options.completion_factor)?;
        let buffers = BufferRing::register(queue.ring(), Rc::clone(pool))?;
        let direct_accept =
            register_table(&queue, options.direct_descriptors) && answers_peer_names(&mut queue)?;
        let fixed_blocks = register_blocks(&queue, blocks);
        let fixed_vectors = fixed_blocks && queue.supports(opcode::WritevFixed::CODE);
        let signal = queue.register_signal()?;
        let core = Self {
            queue,
            buffers,
            chunks: Chunks::new(pool.buffer_count()),
            operations: Slots::new(),
            receives: Slots::new(),
            accepts: Slots::new(),
            starved: VecDeque::new(),
            overfull_receives: Vec::new(),
            overfull_accepts: Vec::new(),
            in_flight: 0,
            gather: Gather::default(),
            gather_for: Duration::from_micros(options.gather_us.into()),
            is_lively: false,
            sends_pushed: 0,
            abilities: Abilities { fixed_blocks, fixed_vectors },
            direct_accept,
            pool: Rc::clone(pool),
            blocks: blocks.clone(),
            scratch: Vec::new(),
            stats: IoStats::default(),
            failure: None,
        };
        Ok((core, signal))
    }

    /// Whether commit blocks are registered with the ring.
    pub(super) fn has_registered_blocks(&self) -> bool {
        self.abilities.fixed_blocks
    }

    /// Does one turn. Says whether another is due without waiting for a signal.
    pub(super) fn turn(&mut self, after: &mut Aftermath) -> bool {
        self.pause_overfull();
        self.buffers.publish();
        self.feed_starved();
        let is_due = self.is_lively || self.queue.has_submissions() || self.queue.has_news();
        if self.failure.is_some() || !is_due {
            return false;
        }
        if self.may_gather() && self.gather.wants_lap(self.receives.len(), self.queue.pushed) {
            return true;
        }
        self.queue.hush();
        let before = self.progress();
        self.enter(after);
        self.pool.ring_when_returned(!self.starved.is_empty());
        if self.is_lively {
            // The next turn will wait in the ring: no signal is needed.
            return true;
        }
        self.queue.listen();
        if self.queue.has_work() && self.progress() == before {
            self.verify_work(after);
        }
        self.queue.has_completions()
            || (self.queue.has_work() && self.progress() != before)
            || self.queue.has_submissions()
            || !self.overfull_receives.is_empty()
            || !self.overfull_accepts.is_empty()
            || self.can_feed()
    }

    /// Enters the kernel, waiting for more to come together where that pays, and takes completions. More
    /// than once only while the kernel keeps some aside.
    fn enter(&mut self, after: &mut Aftermath) {
        self.is_lively = false;
        let mut wait =
            if self.may_gather() { self.gather.wanted(self.receives.len()) } else { None };
        for _ in 0..ROUNDS_MAX {
            let (before, sends) = (self.stats.completions, std::mem::take(&mut self.sends_pushed));
            let received = self.stats.bytes_received;
            let gather_for = self.gather_for * if self.gather.is_bulk() { 2 } else { 1 };
            let entered = match wait {
                Some(wanted) => self.queue.enter_and_wait(sends + wanted, gather_for),
                None => self.queue.enter(),
            };
            if let Err(error) = entered {
                return self.fail(error, after);
            }
            let kept_aside = self.take_completions(after);
            let completions =
                usize::try_from(self.stats.completions - before).unwrap_or(usize::MAX);
            let waited = wait.take().is_some();
            let bytes = self.stats.bytes_received - received;
            self.is_lively |= self.gather.note(waited, completions.saturating_sub(sends), bytes);
            if !kept_aside {
                return;
            }
            self.buffers.publish();
        }
    }

    /// Whether an entry may wait: not while entries are left that do not fit the queue.
    fn may_gather(&self) -> bool {
        !self.gather_for.is_zero() && !self.queue.has_backlog()
    }

    /// Changes when something was submitted or completed.
    fn progress(&self) -> (u64, u64) {
        (self.queue.submitted, self.stats.completions)
    }

    /// Runs all work there is because of a flag that the last entry did not explain. Signals are on: work
    /// that comes later is signalled, so the flag need not be believed after this. Believing it would
    /// mean entering again and again until the next completion.
    fn verify_work(&mut self, after: &mut Aftermath) {
        // A plain entry may leave some of a long list (Linux 6.13); one that wants all does not.
        match self.queue.enter_and_wait(u32::MAX as usize, Duration::ZERO) {
            Ok(()) => {
                self.take_completions(after);
            }
            Err(error) => self.fail(error, after),
        }
    }

    /// Whether the driver has cause to take a turn.
    pub(super) fn is_due(&mut self) -> bool {
        self.queue.has_submissions() || self.can_feed()
    }

    fn can_feed(&self) -> bool {
        !self.starved.is_empty() && (self.buffers.with_kernel() > 0 || self.pool.has_free())
    }

    /// # Panics
    /// When the ring is broken: waiting would be for ever.
    pub(super) fn assert_sound(&self) {
        if let Some(error) = &self.failure {
            panic!("the ring is broken: {error}");
        }
    }

    /// Counters so far.
    pub(super) fn stats(&self) -> IoStats {
        IoStats {
            system_calls: self.stats.system_calls + self.queue.entries,
            submissions: self.queue.submitted,
            completion_overflows: self.queue.overflows,
            ..self.stats
        }
    }

    /// Starts a job; its slot has the result later.
    pub(super) fn start(&mut self, mut job: Job) -> Key {
        self.sends_pushed += usize::from(matches!(job, Job::Send(_)));
        let entry = job.entry(self.abilities);
        let key = self.operations.insert(Operation { job, state: State::Flying(None) });
        self.in_flight += 1;
        let entry = entry.user_data(Tag::Operation(key).to_user_data());
        // SAFETY: all the entry points to is owned by the job, on the heap, and the job stays in its
        // slot until the completion; see `complete_operation`, the only place that ends a flight.
        unsafe { self.queue.push(entry) };
        key
    }

    /// Nobody waits for the operation any more: calls it back where that makes sense, and forgets it.
    pub(super) fn abandon(&mut self, key: Key, after: &mut Aftermath) {
        let Some(operation) = self.operations.get_mut(key) else { return };
        if let State::Done(_) = operation.state {
            after.jobs.extend(self.operations.remove(key).map(|operation| operation.job));
            return;
        }
        operation.state = State::Abandoned;
        if operation.job.is_called_back() {
            self.cancel(Tag::Operation(key));
        }
    }

    /// Asks for more of a stream, or puts it in line while others wait for a buffer.
    pub(super) fn arm_receive(&mut self, key: Key) {
        if self.starved.is_empty() {
            self.arm_receive_now(key);
        } else {
            self.starve(key);
        }
    }

    /// Arms the receive of a stream: usually multishot; while buffers are short, for one chunk, since a
    /// multishot receive takes as many as its peer fills, and leaves the next in line none.
    fn arm_receive_now(&mut self, key: Key) {
        let is_short = self.buffers.is_short();
        let Some(receive) = self.receives.get_mut(key) else { return };
        debug_assert!(!receive.armed, "one receive per stream");
        receive.armed = true;
        let entry = for_target!(receive.target, |descriptor| if is_short {
            opcode::Recv::new(descriptor, ptr::null_mut(), 0)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(descriptor, BUFFER_GROUP).build()
        });
        self.in_flight += 1;
        self.push_plain(entry, Tag::Receive(key));
    }

    /// Ends a stream's receiving side: buffers go back and the receive is called back.
    ///
    /// To be followed by the descriptor's close. Order matters: the cancel is submitted first, so that
    /// the socket is really closed when both are done.
    pub(super) fn close_stream(&mut self, key: Key, after: &mut Aftermath) {
        let Some(receive) = self.receives.get_mut(key) else { return };
        let armed = receive.armed;
        let cancel = armed && !receive.cancelling;
        receive.orphaned = true;
        after.wake(receive.waker.take());
        while let Some(index) = receive.drop_next(&mut self.chunks) {
            self.pool.give(index);
        }
        if cancel {
            self.cancel(Tag::Receive(key));
        }
        if !armed {
            self.receives.remove(key);
        }
    }

    /// Arms the multishot accept of a listener.
    pub(super) fn arm_accept(&mut self, key: Key) {
        let direct = self.direct_accept;
        let Some(accept) = self.accepts.get_mut(key) else { return };
        debug_assert!(!accept.armed, "one multishot accept per listener");
        accept.armed = true;
        let listener = Fd(accept.listener);
        let flags = if direct { 0 } else { libc::SOCK_CLOEXEC };
        let entry =
            opcode::AcceptMulti::new(listener).allocate_file_index(direct).flags(flags).build();
        self.in_flight += 1;
        self.push_plain(entry, Tag::Accept(key));
    }

    /// Ends a listener and the connections that nobody took.
    pub(super) fn close_accept(&mut self, key: Key, after: &mut Aftermath) {
        let Some(accept) = self.accepts.get_mut(key) else { return };
        accept.orphaned = true;
        after.wake(accept.waker.take());
        // The ring closes in its next turn; until then nobody shall be let in. A plain call, and once in
        // a listener's life.
        self.stats.system_calls += 1;
        // SAFETY: the slot owns the descriptor until it is closed below.
        let socket = unsafe { BorrowedFd::borrow_raw(accept.listener) };
        if let Err(error) = rustix::net::shutdown(socket, Shutdown::Both) {
            debug_assert!(false, "a listening socket can be shut down: {error}");
        }
        let listener = Target::Plain(accept.listener);
        let cancel = accept.armed && !accept.cancelling;
        let ready = std::mem::take(&mut accept.ready);
        if cancel {
            self.cancel(Tag::Accept(key));
        }
        for (target, _) in ready {
            self.close(target);
        }
        self.close(listener);
        self.forget_accept(key);
    }

    /// Calls everything back and waits for the kernel. What it does not give up in time is leaked: then
    /// the memory stays valid for it.
    pub(super) fn drain(&mut self) {
        if self.failure.is_none() {
            self.push_plain(
                opcode::AsyncCancel2::new(CancelBuilder::any().all()).build(),
                Tag::Ignored,
            );
        }
        let until = Instant::now() + Duration::from_millis(DRAIN_MS_MAX);
        let mut after = Aftermath::default();
        loop {
            let due = self.in_flight > 0 || self.queue.has_submissions();
            if !due || self.failure.is_some() || Instant::now() >= until {
                break;
            }
            if let Err(error) = self.queue.enter_and_wait(1, Duration::from_millis(20)) {
                self.failure = Some(error);
            }
            self.take_completions(&mut after);
        }
        after.settle();
        if self.in_flight > 0 {
            std::mem::forget(std::mem::replace(&mut self.operations, Slots::new()));
            std::mem::forget(self.buffers.keep_alive());
            std::mem::forget(Rc::clone(&self.pool));
            std::mem::forget(self.blocks.clone());
        }
    }

    fn take_completions(&mut self, after: &mut Aftermath) -> bool {
        let mut scratch = std::mem::take(&mut self.scratch);
        let kept_aside = self.queue.take_completions(&mut scratch);
        self.stats.completions += scratch.len() as u64;
        for completion in scratch.drain(..) {
            self.complete(completion, after);
        }
        self.scratch = scratch;
        kept_aside
    }

    fn complete(&mut self, completion: Completion, after: &mut Aftermath) {
        let Completion { user_data, result, flags } = completion;
        match Tag::from_user_data(user_data) {
            Tag::Operation(key) => self.complete_operation(key, result, after),
            Tag::Receive(key) => self.complete_receive(key, result, flags, after),
            Tag::Accept(key) => self.complete_accept(key, result, flags, after),
            Tag::Ignored => {}
        }
    }

    fn complete_operation(&mut self, key: Key, result: i32, after: &mut Aftermath) {
        let Some(operation) = self.operations.get_mut(key) else {
            self.stats.stale_completions += 1;
            return;
        };
        self.in_flight -= 1;
        match &mut operation.state {
            State::Flying(waker) => {
                let waker = waker.take();
                operation.state = State::Done(result);
                after.wake(waker);
            }
            State::Abandoned => {
                after.jobs.extend(self.operations.remove(key).map(|operation| operation.job));
                return;
            }
            State::Done(_) => {
                debug_assert!(false, "one completion per operation");
                self.stats.stale_completions += 1;
                return;
            }
        }
        if let Job::PeerName(_) = operation.job
            && let Some(Operation { job: Job::PeerName(job), .. }) = self.operations.remove(key)
        {
            self.complete_name(&job, result, after);
        }
    }

    fn complete_receive(&mut self, key: Key, result: i32, flags: u32, after: &mut Aftermath) {
        let mut buffer = cqueue::buffer_select(flags);
        if buffer.is_some() {
            self.buffers.note_used();
        }
        let Some(receive) = self.receives.get_mut(key) else {
            self.stats.stale_completions += 1;
            buffer.into_iter().for_each(|index| self.pool.give(index));
            return;
        };
        if !cqueue::more(flags) {
            self.in_flight -= 1;
            receive.armed = false;
            receive.cancelling = false;
        }
        match (u32::try_from(result), buffer) {
            (Ok(length @ 1..), Some(index)) if !receive.orphaned => {
                receive.append(&mut self.chunks, index, length);
                buffer = None;
                self.stats.bytes_received += u64::from(length);
            }
            // Bytes for nobody.
            (Ok(1..), _) => {}
            (Ok(0), _) => receive.finish(End::Closed),
            (Err(_), _) => match -result {
                libc::ENOBUFS => {
                    self.stats.buffers_exhausted += 1;
                    if receive.wants_arming() {
                        self.starve(key);
                    }
                }
                // Called back, or to be tried again.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => receive.finish(End::Failed(errno)),
            },
        }
        buffer.into_iter().for_each(|index| self.pool.give(index));
        self.after_receive(key, after);
    }

    /// Wakes the consumer, or asks for more, or forgets an orphan.
    fn after_receive(&mut self, key: Key, after: &mut Aftermath) {
        let Some(receive) = self.receives.get_mut(key) else { return };
        if receive.orphaned {
            if !receive.armed {
                self.receives.remove(key);
            }
            return;
        }
        if receive.has_next() {
            after.wake(receive.waker.take());
        }
        if receive.queued() >= CHUNKS_QUEUED_MAX && receive.armed && !receive.overfull {
            receive.overfull = true;
            self.overfull_receives.push(key);
        }
        if receive.wants_arming() {
            self.arm_receive(key);
        }
    }

    fn complete_accept(&mut self, key: Key, result: i32, flags: u32, after: &mut Aftermath) {
        let (direct, more) = (self.direct_accept, cqueue::more(flags));
        let accepted = u32::try_from(result)
            .ok()
            .map(|index| if direct { Target::Direct(index) } else { Target::Plain(result) });
        self.in_flight -= usize::from(!more);
        let Some(accept) = self.accepts.get_mut(key) else {
            self.stats.stale_completions += 1;
            accepted.into_iter().for_each(|target| self.close(target));
            return;
        };
        if !more {
            accept.armed = false;
            accept.cancelling = false;
        }
        let orphaned = accept.orphaned;
        match accepted {
            Some(target) if orphaned => self.close(target),
            Some(target) => self.accept_one(key, target, after),
            None if result != -libc::ECANCELED => {
                accept.error = Some(-result);
                after.wake(accept.waker.take());
            }
            None => {}
        }
        self.after_accept(key);
    }

    fn after_accept(&mut self, key: Key) {
        self.forget_accept(key);
        let Some(accept) = self.accepts.get_mut(key) else { return };
        if accept.queued() >= ACCEPTS_QUEUED_MAX && accept.armed && !accept.overfull {
            accept.overfull = true;
            self.overfull_accepts.push(key);
        }
        if accept.wants_arming() {
            self.arm_accept(key);
        }
    }

    /// Finds out who connected: a submission for a direct descriptor, a call for a plain one.
    fn accept_one(&mut self, key: Key, target: Target, after: &mut Aftermath) {
        let Some(accept) = self.accepts.get_mut(key) else { return };
        let raw = match target {
            Target::Direct(_) => {
                accept.naming += 1;
                let job = PeerNameJob::new(key, target, accept.is_ipv4);
                self.start(Job::PeerName(job));
                return;
            }
            Target::Plain(raw) => raw,
        };
        self.stats.system_calls += 1;
        // SAFETY: the kernel has just given us this descriptor, and we close it only through the ring.
        let socket = unsafe { BorrowedFd::borrow_raw(raw) };
        let peer = sockets::peer_addr(socket).ok();
        match peer {
            Some(peer) => {
                self.stats.accepted += 1;
                accept.ready.push_back((target, peer));
                after.wake(accept.waker.take());
            }
            None => self.close(target),
        }
    }

    fn complete_name(&mut self, job: &PeerNameJob, result: i32, after: &mut Aftermath) {
        let (key, target) = (job.accept, job.target);
        // A peer that is gone already has no name (ENOTCONN): the connection is dropped in silence.
        let peer = if result < 0 { None } else { job.address() };
        match (self.accepts.get_mut(key), peer) {
            (Some(accept), Some(peer)) if !accept.orphaned => {
                accept.naming -= 1;
                self.stats.accepted += 1;
                accept.ready.push_back((target, peer));
                after.wake(accept.waker.take());
            }
            (accept, _) => {
                if let Some(accept) = accept {
                    accept.naming -= 1;
                }
                self.close(target);
            }
        }
        self.after_accept(key);
    }

    /// Frees the slot of a listener that is gone, once the kernel has nothing of it.
    fn forget_accept(&mut self, key: Key) {
        if self.accepts.get_mut(key).is_some_and(|accept| accept.is_over()) {
            self.accepts.remove(key);
        }
    }

    /// Pauses what piled up and was not drained by its consumer in this turn. Until the next entry the
    /// kernel adds nothing, so waiting for the consumers first costs nothing.
    fn pause_overfull(&mut self) {
        for key in std::mem::take(&mut self.overfull_receives) {
            let Some(receive) = self.receives.get_mut(key) else { continue };
            receive.overfull = false;
            if receive.queued() >= CHUNKS_QUEUED_MAX && receive.armed && !receive.cancelling {
                receive.cancelling = true;
                self.cancel(Tag::Receive(key));
            }
        }
        for key in std::mem::take(&mut self.overfull_accepts) {
            let Some(accept) = self.accepts.get_mut(key) else { continue };
            accept.overfull = false;
            if accept.queued() >= ACCEPTS_QUEUED_MAX && accept.armed && !accept.cancelling {
                accept.cancelling = true;
                self.cancel(Tag::Accept(key));
            }
        }
    }

    /// Lets as many starved receives go on as there are buffers.
    fn feed_starved(&mut self) {
        let mut buffers = self.buffers.with_kernel();
        while buffers > 0 {
            let Some(key) = self.starved.pop_front() else { return };
            let Some(receive) = self.receives.get_mut(key) else { continue };
            receive.starved = false;
            if receive.wants_arming() {
                self.arm_receive_now(key);
                buffers -= 1;
            }
        }
    }

    /// Puts a receive in line for a buffer.
    fn starve(&mut self, key: Key) {
        let Some(receive) = self.receives.get_mut(key) else { return };
        receive.starved = true;
        self.starved.push_back(key);
        self.pool.ring_when_returned(true);
    }

    fn fail(&mut self, error: io::Error, after: &mut Aftermath) {
        self.failure = Some(error);
        for operation in self.operations.iter_mut() {
            if let State::Flying(waker) = &mut operation.state {
                after.wake(waker.take());
            }
        }
        self.receives.iter_mut().for_each(|receive| after.wake(receive.waker.take()));
        self.accepts.iter_mut().for_each(|accept| after.wake(accept.waker.take()));
    }

    fn cancel(&mut self, tag: Tag) {
        self.stats.cancels += 1;
        let builder = CancelBuilder::user_data(tag.to_user_data());
        let entry = opcode::AsyncCancel2::new(builder).build();
        self.push_plain(entry.flags(squeue::Flags::SKIP_SUCCESS), Tag::Ignored);
    }

    /// Closes a socket; nobody waits for it.
    pub(super) fn close(&mut self, target: Target) {
        let entry = for_target!(target, |descriptor| opcode::Close::new(descriptor).build());
        self.push_plain(entry.flags(squeue::Flags::SKIP_SUCCESS), Tag::Ignored);
    }

    /// Pushes an entry that points to no memory.
    fn push_plain(&mut self, entry: squeue::Entry, tag: Tag) {
        // SAFETY: receives take memory from the registered buffer ring, and accepts, cancels and closes
        // name descriptors and user data only.
        unsafe { self.queue.push(entry.user_data(tag.to_user_data())) };
    }
}

/// Registers an empty table of direct descriptors, no larger than the limit on open files (the kernel
/// holds it to that).
fn register_table(queue: &Queue, wanted: u32) -> bool {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let slots = u32::try_from(limit).unwrap_or(u32::MAX).min(wanted);
    slots > 0 && queue.ring().submitter().register_files_sparse(slots).is_ok()
}

/// Registers (and pins) the commit blocks. Refused where RLIMIT_MEMLOCK is small and the process has no
/// CAP_IPC_LOCK; then writes pin their pages one by one.
fn register_blocks(queue: &Queue, blocks: &BlockPool) -> bool {
    let buffers = registrations(blocks);
    // SAFETY: the arena does not move, and `Core` keeps it (or leaks it) beyond the ring's last
    // operation.
    unsafe { queue.ring().submitter().register_buffers(&buffers) }.is_ok()
}

/// Whether the kernel can name the peer of a direct descriptor (Linux 6.7): asked of an unconnected
/// socket, it says "not connected" where it knows the question.
fn answers_peer_names(queue: &mut Queue) -> io::Result<bool> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let mut name = vec![0_u8; size_of::<libc::sockaddr_in>()];
    let entry = opcode::GetSockOpt::new(
        Fd(socket.as_raw_fd()),
        libc::SOL_SOCKET.cast_unsigned(),
        libc::SO_PEERNAME.cast_unsigned(),
        name.as_mut_ptr().cast(),
        u32::try_from(name.len()).unwrap_or_default(),
    )
    .build();
    // SAFETY: `name` lives until the completion below; if none comes it is leaked.
    unsafe { queue.push(entry.user_data(Tag::Ignored.to_user_data())) };
    let mut completions = Vec::new();
    for _ in 0..50 {
        queue.enter_and_wait(1, Duration::from_millis(20))?;
        queue.take_completions(&mut completions);
        if let Some(completion) = completions.first() {
            return Ok(completion.result == -libc::ENOTCONN);
        }
    }
    std::mem::forget(name);
    Err(io::Error::from_raw_os_error(libc::ETIME))
}

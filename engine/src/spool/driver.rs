//! The async driver: carries the core's operations out over [`crate::io`] and the helper thread, and
//! wakes whoever waits for an outcome.
//!
//! One local task (the pump) takes operations out of the core after each change and at its
//! deadlines; each operation is a local task of its own. The pump runs after the tasks that were
//! ready with it, so everything committed in one turn of the event loop goes into one group.
//!
//! Invariants: the core is never borrowed across an await; an operation is carried out once and its
//! completion handed in once, whatever came of it.
//! Failures: only through the core's outcomes. A commit whose caller went away is settled when it
//! becomes durable: nobody was told of it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::MessageId;
use super::hash::NumberMap;
use super::helper::Helper;
use super::hot::{Blocks, Hot};
use super::log::{Clock, Completion, Fault, Log, Now, Operation, Outcome, Ticket};
use super::read::Windows;
use super::record::page_bytes;
use super::segment::{Epoch, Place};
use super::store::{self, Directory, Lock, SystemClock, fault_of, segment_name};
use crate::io::{Block, File, FileMode, Io};

/// How often free space is looked at.
const SPACE_CHECK: Duration = Duration::from_secs(5);

/// Who waits for an outcome.
pub(super) struct Waiter {
    answer: oneshot::Sender<Result<Option<Block>, Fault>>,
    /// The message that becomes an orphan if nobody waits any more.
    message: Option<MessageId>,
}

/// What the handles, drafts and tasks of one log share.
pub(super) struct Shared {
    pub(super) log: RefCell<Log<Blocks>>,
    pub(super) hot: Rc<RefCell<Hot>>,
    pub(super) draft_memory_bytes: usize,
    blocks: Blocks,
    pub(super) windows: Windows,
    io: Io,
    files: RefCell<NumberMap<Epoch, Rc<File>>>,
    waiters: RefCell<NumberMap<Ticket, Waiter>>,
    wake: Notify,
    idle: Notify,
    short: Notify,
    closing: Cell<bool>,
    helper: Helper,
    directory: Directory,
    clock: SystemClock,
    segment_bytes: u64,
    pub(super) bytes_copied: Cell<u64>,
    pub(super) damaged: Cell<u64>,
    _lock: Lock,
}

/// What [`Shared::new`] is made of.
pub(super) struct Parts {
    pub(super) log: Log<Blocks>,
    pub(super) blocks: Blocks,
    pub(super) io: Io,
    pub(super) helper: Helper,
    pub(super) directory: Directory,
    pub(super) clock: SystemClock,
    pub(super) lock: Lock,
    pub(super) segment_bytes: u64,
    pub(super) draft_memory_bytes: usize,
}

impl Shared {
    /// Opens the files of the segments that are there.
    pub(super) fn new(parts: Parts) -> io::Result<Rc<Self>> {
        let mut files = NumberMap::default();
        for (epoch, segment) in &parts.log.segments {
            let path = parts.directory.path(&segment_name(*epoch, &segment.salt));
            files.insert(*epoch, Rc::new(parts.io.open(&path, FileMode::Write)?));
        }
        Ok(Rc::new(Self {
            log: RefCell::new(parts.log),
            hot: Rc::clone(&parts.blocks.hot),
            draft_memory_bytes: parts.draft_memory_bytes,
            windows: Windows::new(&parts.blocks),
            blocks: parts.blocks,
            io: parts.io,
            files: RefCell::new(files),
            waiters: RefCell::new(NumberMap::default()),
            wake: Notify::new(),
            idle: Notify::new(),
            short: Notify::new(),
            closing: Cell::new(false),
            helper: parts.helper,
            directory: parts.directory,
            clock: parts.clock,
            segment_bytes: parts.segment_bytes,
            bytes_copied: Cell::new(0),
            damaged: Cell::new(0),
            _lock: parts.lock,
        }))
    }

    /// Starts the tasks. They end when [`Self::stop`] was called and nothing is under way.
    pub(super) fn start(self: &Rc<Self>, min_free_bytes: u64) {
        tokio::task::spawn_local(pump(Rc::clone(self)));
        tokio::task::spawn_local(watch_space(Rc::downgrade(self), min_free_bytes));
    }

    pub(super) fn stop(&self) {
        self.closing.set(true);
        self.wake.notify_one();
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// There may be new work for the pump.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn blocks(&self) -> Blocks {
        self.blocks.clone()
    }

    /// Somebody found no memory: one who waits with a draft in hand should spill it.
    pub(super) fn is_short(&self) {
        self.short.notify_one();
    }

    pub(super) async fn shortage(&self) {
        self.short.notified().await;
    }

    pub(super) fn count_copied(&self, bytes: usize) {
        self.bytes_copied.set(self.bytes_copied.get() + bytes as u64);
    }

    /// Waits for the outcome of `ticket`.
    pub(super) fn outcome(
        &self,
        ticket: Ticket,
        message: Option<MessageId>,
    ) -> oneshot::Receiver<Result<Option<Block>, Fault>> {
        let (answer, answered) = oneshot::channel();
        self.waiters.borrow_mut().insert(ticket, Waiter { answer, message });
        answered
    }

    /// Resolves when nothing waits, is in flight or is to be written.
    pub(super) async fn drained(&self) {
        loop {
            let changed = self.idle.notified();
            if self.log.borrow().is_idle() {
                return;
            }
            self.wake();
            changed.await;
        }
    }

    /// Reads the record at `place` into a block.
    pub(super) async fn read(&self, place: Place, block: Block) -> (io::Result<()>, Block) {
        let Some(file) = self.files.borrow().get(&place.epoch).cloned() else {
            return (Err(io::ErrorKind::NotFound.into()), block);
        };
        let bytes = page_bytes(place.pages);
        let (result, block) = file.read(page_bytes(place.page) as u64, block, bytes).await;
        let result = result.and_then(|read| match read == bytes {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        });
        (result, block)
    }

    /// Keeps the segment of a record that proved damaged.
    pub(super) fn report_damage(self: &Rc<Self>, place: Place) {
        self.damaged.set(self.damaged.get() + 1);
        let Some(salt) = self.log.borrow().salt(place.epoch) else { return };
        self.log.borrow_mut().preserve(place.epoch);
        let shared = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let name = segment_name(place.epoch, &salt);
            let kept = shared
                .helper
                .run(move |directory| store::Storage::preserve(directory, &name))
                .await;
            // The segment is not recycled in any case; the copy is for the operator.
            drop(kept);
        });
    }

    fn pump_once(self: &Rc<Self>) {
        loop {
            let operation = self.log.borrow_mut().poll_operation(self.now());
            let Some(operation) = operation else { break };
            tokio::task::spawn_local(carry_out(Rc::clone(self), operation));
        }
        self.deliver_outcomes();
        if self.log.borrow().is_idle() {
            self.idle.notify_waiters();
        }
    }

    fn deliver_outcomes(&self) {
        loop {
            let outcome = self.log.borrow_mut().poll_outcome();
            let Some(Outcome { ticket, result }) = outcome else { return };
            let Some(waiter) = self.waiters.borrow_mut().remove(&ticket) else { continue };
            let is_stored = result.is_ok();
            let is_orphan = waiter.answer.send(result).is_err() && is_stored;
            if let Some(id) = waiter.message.filter(|_| is_orphan) {
                self.log.borrow_mut().settle(self.now(), id, false);
            }
        }
    }

    fn complete(&self, completion: Completion<Block>) {
        self.log.borrow_mut().complete(self.now(), completion);
        self.deliver_outcomes();
        self.wake();
    }

    fn file(&self, epoch: Epoch) -> io::Result<Rc<File>> {
        let file = self.files.borrow().get(&epoch).cloned();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn prepare(&self, name: String, spare: Option<u64>, epoch: Epoch) -> io::Result<()> {
        let bytes = self.segment_bytes;
        let path = self.directory.path(&name);
        self.helper.run(move |directory| store::prepare(directory, &name, spare, bytes)).await?;
        let file = self.io.open(&path, FileMode::Write)?;
        self.files.borrow_mut().insert(epoch, Rc::new(file));
        Ok(())
    }

    async fn write(&self, epoch: Epoch, offset: u64, blocks: Vec<Block>) -> Completion<Block> {
        let (result, blocks) = match self.file(epoch) {
            Ok(file) => file.write(offset, blocks).await,
            Err(error) => (Err(error), blocks),
        };
        Completion::Written { result: faulty(result), blocks }
    }

    async fn flush(&self, epoch: Epoch) -> Completion<Block> {
        let result = match self.file(epoch) {
            Ok(file) => file.flush().await,
            Err(error) => Err(error),
        };
        Completion::Flushed { result: faulty(result) }
    }

    async fn free(&self, epoch: Epoch, name: String, spare: Option<u64>) -> Completion<Block> {
        let result = self.helper.run(move |directory| store::free(directory, &name, spare)).await;
        if result.is_ok() {
            self.files.borrow_mut().remove(&epoch);
        }
        Completion::Freed { epoch, spare, result: faulty(result) }
    }
}

/// Boxed, since completing one operation starts the next.
fn carry_out(shared: Rc<Shared>, operation: Operation<Block>) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let completion = match operation {
            Operation::Prepare { epoch, salt, spare } => {
                let result = shared.prepare(segment_name(epoch, &salt), spare, epoch).await;
                Completion::Prepared { epoch, result: faulty(result) }
            }
            Operation::Write { epoch, offset, blocks } => shared.write(epoch, offset, blocks).await,
            Operation::Flush { epoch } => shared.flush(epoch).await,
            Operation::Read { place, block } => {
                let (result, block) = shared.read(place, block).await;
                Completion::Read { place, result: faulty(result), block }
            }
            Operation::Free { epoch, salt, spare } => {
                shared.free(epoch, segment_name(epoch, &salt), spare).await
            }
        };
        shared.complete(completion);
    })
}

fn faulty(result: io::Result<()>) -> Result<(), Fault> {
    result.map_err(|error| fault_of(&error))
}

/// Keeps the core going until the last handle is gone.
async fn pump(shared: Rc<Shared>) {
    loop {
        shared.pump_once();
        if shared.closing.get() && shared.log.borrow().is_resting() {
            return;
        }
        let deadline = shared.log.borrow().deadline();
        let Some(deadline) = deadline else {
            shared.wake.notified().await;
            continue;
        };
        let left = deadline.saturating_sub(shared.now().monotonic_ms).max(1);
        let at = Instant::now() + Duration::from_millis(left);
        tokio::select! {
            () = shared.wake.notified() => {}
            () = tokio::time::sleep_until(at) => {}
        }
    }
}

/// Looks at the file system's free space now and then.
async fn watch_space(shared: Weak<Shared>, min_free_bytes: u64) {
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            if shared.closing.get() {
                return;
            }
            let free = shared.helper.run(|directory| directory.free_bytes()).await;
            // A file system that cannot say is judged by its writes.
            let is_low = free.is_ok_and(|free| free < min_free_bytes);
            shared.log.borrow_mut().low_space = is_low;
            shared.wake();
        }
        tokio::time::sleep(SPACE_CHECK).await;
    }
}

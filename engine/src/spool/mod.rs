//! The durable log behind one narrow interface: append, settle, recover, health.
//!
//! Each shard has one log, a directory `core-N/` of preallocated segments, and one [`Spool`] handle
//! to it. Intake stages a message in a [`Draft`]; [`Spool::commit`] writes the draft's own blocks,
//! together with whatever else gathered during the flush before (group commit), and returns when they
//! are durable. `docs/spool.md` has the format, the guarantees and the table of failures.
//!
//! # Invariants
//! - `commit` is `Ok` only after the flush of its group came back without error, in a segment whose
//!   directory entry was synced. What it acknowledged is found whole by every later [`open`] until it
//!   is settled, and with the last note that was durable.
//! - A failed write or flush is never repeated and called good: its commits fail, the segment is
//!   closed, another one is opened.
//! - A torn tail is cut, never served. Damage elsewhere is reported and kept in `quarantine/`.
//! - A content byte is copied once ([`Draft::write`]); [`SpoolStats::bytes_copied`] counts it.
//!
//! # Must never
//! Block a turn of the event loop (preallocation, renames, directory syncs run on a helper thread);
//! know what an envelope is (meta and notes are opaque); give away a byte that did not verify.
//!
//! # Security
//! Records are sealed with AES-256-GCM unless no key is configured; files are readable by the owner
//! only; what is read at start is treated as hostile. A key does not protect against an old copy of
//! the whole directory being put back.
//!
//! # Failures
//! [`SpoolError`], with the reply it calls for; [`Health`] says beforehand that mail should not be
//! taken. The queue keeps draining when the disk is full: notes and settles have space reserved.

mod adopt;
mod draft;
mod driver;
mod forward;
mod free;
mod group;
mod hash;
mod helper;
mod hot;
mod id;
mod log;
mod read;
mod record;
mod recover;
mod seal;
mod segment;
mod store;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use self::driver::{Parts, Shared};
use self::helper::Helper;
use self::hot::{Blocks, Hot, HotPart};
use self::log::{Fault, Fitness, Limits, Log, Pool};
use self::record::PAGE_BYTES;
use self::recover::{RecoverError, Settings, recover};
use self::store::{Directory, SystemClock, millis};
use crate::io::{Block, Io};

pub use self::draft::{Draft, DraftFull};
pub use self::group::NOTE_BYTES_MAX;
pub use self::id::{IdSource, MessageId, NoEntropy, NotAnId};
pub use self::read::{Content, Reader};
pub use self::recover::{DamagedRange, Recovered, RecoveryReport, fuzz_recover};
pub use self::seal::{KEY_BYTES_MAX, KEY_BYTES_MIN, KeyRefused, SpoolKey};

/// The least a segment may hold: a few of the longest records, and the reserve.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The most: positions inside a segment are counted in 32-bit pages, and a scan takes time.
pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;

/// Records in one group at most: below the kernel's 1024 vectors a write.
const GROUP_RECORDS_MAX: usize = 512;
/// Bytes in one group at most, so that one flush stays short.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// Free segments kept for reuse.
const SPARES_MAX: usize = 2;
/// A closed segment whose only use are settles is freed after this time by writing them again.
const GRAVE_AGE: Duration = Duration::from_secs(5);
/// After a failure, and between two tries to get on.
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait for block memory inside one call.
const MEMORY_WAIT: Duration = Duration::from_secs(5);
/// Share of the block pool that must be free, or hot and thus free in need, to be healthy.
const MEMORY_SHARE_MIN: usize = 16;

/// Settings of a spool.
#[derive(Clone)]
pub struct SpoolOptions {
    /// The folder that holds `core-0/`, `core-1/`, ... Created if need be.
    pub directory: PathBuf,
    /// Length of a segment file; a multiple of 4096 within [`SEGMENT_BYTES_MIN`] and
    /// [`SEGMENT_BYTES_MAX`]. A change takes effect with the next new segment.
    pub segment_bytes: u64,
    /// Segments of one shard at most; at the bound the spool is full.
    pub segments_max: usize,
    /// Seals records; `None` stores them in clear. Unsealed records stay readable after a key was
    /// set.
    pub key: Option<SpoolKey>,
    /// Accepts a file system that forgets everything at power-off (tmpfs, ramfs).
    pub allow_volatile: bool,
    /// No new segment files, and no health, below this much free space.
    pub min_free_bytes: u64,
    /// Committed content kept in memory, a part of the shard's block memory.
    pub hot_bytes: usize,
    /// Block memory one draft may hold before it is [`DraftFull`]; at least one block of 256 KiB.
    pub draft_memory_bytes: usize,
    /// Notes and settles that no commit carries along are written after this time.
    pub linger: Duration,
    /// Survivors of a closed segment are copied forward when it is older than this ...
    pub survivor_age: Duration,
    /// ... and less than this percentage of it is still needed.
    pub survivor_percent: u32,
}

impl SpoolOptions {
    /// The defaults, for a spool in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            segment_bytes: 64 << 20,
            segments_max: 1024,
            key: None,
            allow_volatile: false,
            min_free_bytes: 256 << 20,
            hot_bytes: 32 << 20,
            draft_memory_bytes: 1 << 20,
            linger: Duration::from_millis(5),
            survivor_age: Duration::from_secs(600),
            survivor_percent: 25,
        }
    }

    fn limits(&self) -> Result<Limits, SpoolError> {
        let is_whole = self.segment_bytes.is_multiple_of(PAGE_BYTES as u64);
        if !is_whole || !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(SpoolError::SegmentBytes(self.segment_bytes));
        }
        Ok(Limits {
            segment_pages: u32::try_from(self.segment_bytes / PAGE_BYTES as u64)
                .map_err(|_| SpoolError::SegmentBytes(self.segment_bytes))?,
            segments_max: self.segments_max.max(2),
            spares_max: SPARES_MAX,
            group_pages_max: record::pages_for(GROUP_BYTES_MAX),
            group_records_max: GROUP_RECORDS_MAX,
            linger_ms: millis(self.linger),
            survivor_age_ms: millis(self.survivor_age),
            survivor_percent: self.survivor_percent.min(100),
            grave_age_ms: millis(GRAVE_AGE),
            retry_ms: millis(RETRY),
        })
    }
}

/// Why an operation failed. Each knows the reply it calls for.
#[derive(Debug)]
pub enum SpoolError {
    /// No space, quota, or the bound of segments: `452`. Nothing of the message is kept.
    Full,
    /// No block memory within a few seconds: `452`.
    Memory,
    /// A write or flush failed, or the spool waits after such failures: `451`. The message may or may
    /// not be on disk; it will not be served by this process.
    Io,
    /// Meta bytes, list of parts or note exceed one record: `552`. Usually too many recipients.
    TooLarge,
    /// The id is in use already: our bug.
    Duplicate,
    /// No such message, or it is settled.
    NotFound,
    /// The stored bytes do not verify. The segment is in quarantine; the message cannot be served.
    Damaged,
    /// The spool was closed.
    Closed,
    /// Start: the file system refused something.
    Start {
        /// What was tried, on which path.
        what: String,
        /// The system's answer.
        cause: io::Error,
    },
    /// Start: another process has the log open.
    InUse {
        /// The log's directory.
        path: PathBuf,
        /// The process, if it wrote its number down.
        process: Option<u32>,
    },
    /// Start: the directory lies in memory, and `allow_volatile` is not set.
    Volatile(PathBuf),
    /// Start: the records are sealed with another key. Nothing was changed.
    WrongKey(PathBuf),
    /// Start: the records are sealed and no key is configured. Nothing was changed.
    NoKey(PathBuf),
    /// Start: the configured segment length is out of bounds.
    SegmentBytes(u64),
}

impl SpoolError {
    /// Reply code and enhanced status code (RFC 3463) for a client whose message met this.
    pub fn reply(&self) -> (u16, &'static str) {
        match self {
            Self::Full => (452, "4.3.1"),
            Self::Memory => (452, "4.3.2"),
            Self::TooLarge => (552, "5.3.4"),
            _ => (451, "4.3.0"),
        }
    }
}

impl From<Fault> for SpoolError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full => Self::Full,
            Fault::Io => Self::Io,
        }
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => out.write_str("the spool is full"),
            Self::Memory => out.write_str("no memory for the message"),
            Self::Io => out.write_str("the spool cannot be written"),
            Self::TooLarge => out.write_str("the message's envelope exceeds one record"),
            Self::Duplicate => out.write_str("the queue id is in use"),
            Self::NotFound => out.write_str("no such message in the spool"),
            Self::Damaged => out.write_str("the stored message is damaged"),
            Self::Closed => out.write_str("the spool is closed"),
            Self::Start { what, cause } => write!(out, "{what}: {cause}"),
            Self::InUse { path, process: Some(process) } => {
                write!(out, "spool {} is in use by process {process}", path.display())
            }
            Self::InUse { path, process: None } => {
                write!(out, "spool {} is in use by another process", path.display())
            }
            Self::Volatile(path) => write!(
                out,
                "spool {} lies in memory (tmpfs or ramfs) and would lose acknowledged mail; \
                 move it, or set allow_volatile",
                path.display()
            ),
            Self::WrongKey(path) => {
                write!(out, "spool {} is sealed with another key", path.display())
            }
            Self::NoKey(path) => {
                write!(out, "spool {} is sealed and no key is configured", path.display())
            }
            Self::SegmentBytes(bytes) => write!(
                out,
                "segment_bytes is {bytes}; it must be a multiple of {PAGE_BYTES} from \
                 {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
            ),
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// Whether mail should be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Ok,
    /// No new mail for now (`452`); what is stored is still delivered.
    Backpressure(Reason),
    /// The medium fails (`451`); tried again every second.
    Down(Reason),
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Disk space, quota, or the bound of segments.
    Space,
    /// Block memory.
    Memory,
    /// Writes or flushes fail.
    Writes,
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Space => "the spool is short of space",
            Self::Memory => "the spool is short of memory",
            Self::Writes => "the spool cannot be written",
        })
    }
}

/// A durable message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: MessageId,
    /// Length of its content in wire form.
    pub content_bytes: u64,
    /// Its content is still in memory: [`Spool::content`] needs no read for now.
    pub is_hot: bool,
}

/// Counters of one shard's spool since its start, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolStats {
    /// Content bytes moved by the processor on the way to disk: the one copy.
    pub bytes_copied: u64,
    /// Group commits that became durable.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them, padding included.
    pub written_bytes: u64,
    /// Groups that failed.
    pub failed_groups: u64,
    /// Notes taken.
    pub notes: u64,
    /// Messages settled.
    pub settles: u64,
    /// Segments given back.
    pub segments_freed: u64,
    /// Messages copied forward.
    pub messages_moved: u64,
    /// Records that did not verify when read.
    pub damaged: u64,
    /// Messages held now, settled ones whose segment is still there included.
    pub messages: usize,
    /// Segments now.
    pub segments: usize,
    /// Content in memory now.
    pub hot_bytes: usize,
}

/// One shard's handle to its log. Clones share it; the log ends with the last one.
#[derive(Clone)]
pub struct Spool {
    handle: Rc<Handle>,
}

struct Handle {
    shared: Rc<Shared>,
    /// Ids of commits under way.
    committing: RefCell<HashSet<MessageId>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Opens the log of `shard` of `shards`: locks it, recovers it, adopts what shards that are no more
/// left behind (`core-j` with `j >= shards` and `j % shards == shard`).
///
/// Blocks for as long as the scan takes; call it before mail is taken, inside the shard's runtime and
/// `LocalSet`.
///
/// # Errors
/// The `Start` group of [`SpoolError`]. Damage is not an error: it is in the report.
pub fn open(
    io: &Io,
    options: &SpoolOptions,
    shard: usize,
    shards: usize,
) -> Result<(Spool, Vec<Recovered>, RecoveryReport), SpoolError> {
    let started = std::time::Instant::now();
    let limits = options.limits()?;
    let path = options.directory.join(adopt::folder(shard));
    let directory = start("open", &path, Directory::open(&path))?;
    if !options.allow_volatile && start("look at", &path, directory.is_volatile())? {
        return Err(SpoolError::Volatile(path));
    }
    let lock = start("lock", &path, directory.lock())?
        .map_err(|process| SpoolError::InUse { path: path.clone(), process })?;

    let settings = Settings { key: options.key.as_ref(), segment_bytes: options.segment_bytes };
    let recovery =
        recover(&mut directory.clone(), &settings).map_err(|error| refused(error, &path))?;
    let (mut messages, mut report) = (recovery.messages, recovery.report);

    let hot = Rc::new(RefCell::new(Hot::new(options.hot_bytes)));
    let blocks = Blocks { pool: io.blocks().clone(), hot };
    let salts = Box::new(adopt::random_salts());
    let log = Log::new(limits, options.key.clone(), blocks.clone(), salts, recovery.restored)
        .ok_or(SpoolError::Memory)?;
    let mut taken =
        adopt::Adopting { log, directory: directory.clone(), clock: SystemClock::new() };
    for orphan in adopt::orphans(&options.directory, shard, shards)? {
        adopt::adopt(&mut taken, options, &orphan, &mut messages, &mut report)?;
    }
    let adopt::Adopting { log, clock, .. } = taken;

    let helper = start("start the helper of", &path, Helper::start(directory.clone(), shard))?;
    let parts = Parts {
        log,
        blocks,
        io: io.clone(),
        helper,
        directory,
        clock,
        lock,
        segment_bytes: options.segment_bytes,
        draft_memory_bytes: options.draft_memory_bytes,
    };
    let shared = start("open the segments of", &path, Shared::new(parts))?;
    shared.start(options.min_free_bytes);
    report.took = started.elapsed();
    let handle = Handle { shared, committing: RefCell::default() };
    Ok((Spool { handle: Rc::new(handle) }, messages, report))
}

fn start<T>(what: &str, path: &std::path::Path, result: io::Result<T>) -> Result<T, SpoolError> {
    result.map_err(|cause| SpoolError::Start {
        what: format!("cannot {what} spool {}", path.display()),
        cause,
    })
}

fn refused(error: RecoverError, path: &std::path::Path) -> SpoolError {
    match error {
        RecoverError::Io(cause) => {
            SpoolError::Start { what: format!("cannot recover spool {}", path.display()), cause }
        }
        RecoverError::WrongKey => SpoolError::WrongKey(path.to_owned()),
        RecoverError::NoKey => SpoolError::NoKey(path.to_owned()),
    }
}

impl Spool {
    /// Begins a message. `size_hint` is the announced size (RFC 1870), if any: the first block is
    /// taken to fit.
    pub fn draft(&self, size_hint: Option<u64>) -> Draft {
        Draft::new(Rc::clone(&self.handle.shared), size_hint)
    }

    /// Writes what the draft holds, so that its memory is free for more. Durable on `Ok`, but no
    /// message yet.
    ///
    /// # Errors
    /// [`SpoolError::Full`] or [`SpoolError::Io`]; the draft is then good for nothing.
    pub async fn spill(&self, draft: &mut Draft) -> Result<(), SpoolError> {
        let shared = &self.handle.shared;
        let tickets = draft.spill();
        let outcomes: Vec<_> =
            tickets.into_iter().map(|ticket| shared.outcome(ticket, None)).collect();
        shared.wake();
        for outcome in outcomes {
            outcome.await.map_err(|_| SpoolError::Closed)??;
        }
        Ok(())
    }

    /// Resolves when a draft or a read found no memory. Whoever holds a draft and only waits for its
    /// client should then [`spill`](Self::spill) it: one waiter is told for each that went without.
    pub async fn shortage(&self) {
        self.handle.shared.shortage().await;
    }

    /// Makes the message durable: content and `meta` together, under `id`.
    ///
    /// Dropping the future gives the message up; if it became durable all the same, it is settled.
    ///
    /// # Errors
    /// [`SpoolError::Full`], [`SpoolError::Memory`], [`SpoolError::Io`]: nothing was acknowledged and
    /// this process will not serve the message. [`SpoolError::TooLarge`], [`SpoolError::Duplicate`].
    pub async fn commit(
        &self,
        mut draft: Draft,
        id: MessageId,
        meta: &[u8],
    ) -> Result<Stored, SpoolError> {
        let shared = &self.handle.shared;
        if shared.log.borrow().knows(id) || !self.handle.committing.borrow_mut().insert(id) {
            return Err(SpoolError::Duplicate);
        }
        let mut committing = Committing { handle: &self.handle, id, was_answered: false };
        self.see_to_closing_block(&mut draft, meta).await?;
        let (content_bytes, is_whole) = (draft.content_bytes(), draft.is_whole());
        let mut tickets = draft.finish(id, meta);
        let last = tickets.pop().map(|ticket| shared.outcome(ticket, Some(id)));
        let outcomes: Vec<_> =
            tickets.into_iter().map(|ticket| shared.outcome(ticket, None)).chain(last).collect();
        shared.wake();

        let mut blocks = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            blocks.extend(outcome.await.map_err(|_| SpoolError::Closed)??);
        }
        let is_hot = is_whole && self.keep_hot(id, blocks);
        committing.was_answered = true;
        Ok(Stored { id, content_bytes, is_hot })
    }

    /// Keeps `note` as the state of `id`; the last one wins at recovery. Written with the next group
    /// commit, or after the linger time. Unknown and settled messages are ignored, as is a note
    /// longer than [`NOTE_BYTES_MAX`] (use [`Self::note_durable`] to be told).
    pub fn note(&self, id: MessageId, note: Vec<u8>) {
        debug_assert!(note.len() <= NOTE_BYTES_MAX, "notes fit one record");
        if note.len() <= NOTE_BYTES_MAX {
            let shared = &self.handle.shared;
            shared.log.borrow_mut().note(shared.now(), id, note, false);
            shared.wake();
        }
    }

    /// As [`Self::note`], and returns when the note is durable.
    ///
    /// # Errors
    /// [`SpoolError::TooLarge`], [`SpoolError::NotFound`]. On [`SpoolError::Full`] and
    /// [`SpoolError::Io`] the note still counts in this process and is still tried, but is not known
    /// to be durable.
    pub async fn note_durable(&self, id: MessageId, note: Vec<u8>) -> Result<(), SpoolError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(SpoolError::TooLarge);
        }
        let shared = &self.handle.shared;
        let ticket = shared.log.borrow_mut().note(shared.now(), id, note, true);
        let outcome = shared.outcome(ticket.ok_or(SpoolError::NotFound)?, None);
        shared.wake();
        outcome.await.map_err(|_| SpoolError::Closed)??;
        Ok(())
    }

    /// The message is done: it is no longer served, and its space may be freed. Durable with the next
    /// group commit or after the linger time; a crash before that brings the message back.
    pub fn settle(&self, id: MessageId) {
        let shared = &self.handle.shared;
        shared.hot.borrow_mut().remove(id);
        shared.log.borrow_mut().settle(shared.now(), id, false);
        shared.wake();
    }

    /// As [`Self::settle`], and returns when the settle is durable: no crash brings the message back.
    ///
    /// # Errors
    /// [`SpoolError::NotFound`]. On [`SpoolError::Full`] and [`SpoolError::Io`] the message is done in
    /// this process and the settle is still tried, but is not known to be durable.
    pub async fn settle_durable(&self, id: MessageId) -> Result<(), SpoolError> {
        self.settle_all_durable(&[id]).await
    }

    /// As [`Self::settle_durable`] for several messages, which share their flushes.
    ///
    /// # Errors
    /// The first of any of them; all are done in this process.
    pub async fn settle_all_durable(&self, ids: &[MessageId]) -> Result<(), SpoolError> {
        let shared = &self.handle.shared;
        let mut outcomes = Vec::with_capacity(ids.len());
        for &id in ids {
            shared.hot.borrow_mut().remove(id);
            let ticket = shared.log.borrow_mut().settle(shared.now(), id, true);
            let ticket = ticket.ok_or(SpoolError::NotFound);
            outcomes.push(ticket.map(|ticket| shared.outcome(ticket, None)));
        }
        shared.wake();
        let mut first = Ok(());
        for outcome in outcomes {
            let result = match outcome {
                Ok(outcome) => match outcome.await {
                    Ok(outcome) => outcome.map(drop).map_err(SpoolError::from),
                    Err(_gone) => Err(SpoolError::Closed),
                },
                Err(error) => Err(error),
            };
            first = first.and(result);
        }
        first
    }

    /// Whether mail should be taken now. Cheap: ask before every message.
    pub fn health(&self) -> Health {
        let shared = &self.handle.shared;
        let log = shared.log.borrow();
        match log.fitness() {
            Fitness::Failing => return Health::Down(Reason::Writes),
            Fitness::Full => return Health::Backpressure(Reason::Space),
            Fitness::Fit => {}
        }
        let pool = &log.pool.pool;
        let free = pool.free_bytes() + shared.hot.borrow().bytes();
        if free < pool.capacity_bytes() / MEMORY_SHARE_MIN {
            return Health::Backpressure(Reason::Memory);
        }
        Health::Ok
    }

    /// Counters.
    pub fn stats(&self) -> SpoolStats {
        let shared = &self.handle.shared;
        let log = shared.log.borrow();
        let counters = log.counters;
        SpoolStats {
            bytes_copied: shared.bytes_copied.get(),
            groups: counters.groups,
            records: counters.records,
            written_bytes: counters.pages * PAGE_BYTES as u64,
            failed_groups: counters.failed_groups,
            notes: counters.notes,
            settles: counters.settles,
            segments_freed: counters.freed,
            messages_moved: counters.moved,
            damaged: shared.damaged.get() + counters.unreadable,
            messages: log.index.len(),
            segments: log.segments.len(),
            hot_bytes: shared.hot.borrow().bytes(),
        }
    }

    /// Returns when everything handed in so far is on disk (or failed): for an orderly end.
    pub async fn drain(&self) {
        self.handle.shared.drained().await;
    }

    async fn see_to_closing_block(&self, draft: &mut Draft, meta: &[u8]) -> Result<(), SpoolError> {
        let Some(wanted) = draft.closing_block(meta)? else { return Ok(()) };
        if let Some(block) = self.handle.shared.blocks().take(wanted) {
            draft.give_closing_block(block);
            return Ok(());
        }
        // Our own content may be what fills the memory.
        self.spill(draft).await?;
        let Some(wanted) = draft.closing_block(meta)? else { return Ok(()) };
        let block = self.take_block(wanted).await?;
        draft.give_closing_block(block);
        Ok(())
    }

    async fn take_block(&self, bytes: usize) -> Result<Block, SpoolError> {
        let mut blocks = self.handle.shared.blocks();
        if let Some(block) = blocks.take(bytes) {
            return Ok(block);
        }
        let waiting = async {
            loop {
                // Each time: what one draft gave up may be too little, or another's by now.
                self.handle.shared.is_short();
                blocks.pool.freed().await;
                if let Some(block) = blocks.take(bytes) {
                    return block;
                }
            }
        };
        tokio::time::timeout(MEMORY_WAIT, waiting).await.map_err(|_| SpoolError::Memory)
    }

    fn keep_hot(&self, id: MessageId, blocks: Vec<Block>) -> bool {
        let shared = &self.handle.shared;
        let log = shared.log.borrow();
        let Some(places) = log.places(id) else { return false };
        let parts = blocks
            .into_iter()
            .zip(places)
            .map(|(block, place)| HotPart::Closed(block, log.sealer(place.epoch)))
            .collect();
        shared.hot.borrow_mut().insert(id, parts);
        true
    }
}

/// A commit under way. Takes its id off the list however it ends; if its caller went away before it
/// heard the answer, the message is nobody's and is settled.
struct Committing<'a> {
    handle: &'a Handle,
    id: MessageId,
    was_answered: bool,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        self.handle.committing.borrow_mut().remove(&self.id);
        if !self.was_answered {
            let shared = &self.handle.shared;
            shared.log.borrow_mut().settle(shared.now(), self.id, false);
            shared.wake();
        }
    }
}

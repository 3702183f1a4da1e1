//! The log core, sans-IO: it decides what is written where, and what each completion means.
//!
//! The contract is that of a protocol state machine. Callers hand in work ([`Log::append`],
//! [`Log::note`], [`Log::settle`]) and completions ([`Log::complete`]), with the time; they take
//! out operations ([`Log::poll_operation`]), outcomes ([`Log::poll_outcome`]) and the next moment
//! at which to call again ([`Log::deadline`]). No file, no clock, no thread, no chance but the salts
//! handed in: the simulation drives the very same code.
//!
//! Invariants
//! - One group is in flight at a time: one write, then one flush, in one segment. Whatever arrives
//!   meanwhile is the next group.
//! - A record counts (index, live bytes, outcome `Ok`) only after its group's flush came back
//!   without error, in a segment whose directory entry was synced before the first write.
//! - A failed write or flush is never repeated: the group's commits fail, the segment is closed with
//!   "durable up to before this group", notes and settles wait for the next segment.
//! - A segment is freed durably before anything that kept its messages dead may go (`free.rs`).
//!
//! Bounds: waiting records are bounded by the block pool they live in; notes and settles by one each
//! a message; a group by `group_pages_max` and `group_records_max`; segments by `segments_max`.
//!
//! Failures: see [`Fault`] and `docs/spool.md`, "What happens when".

use std::collections::{BTreeMap, VecDeque};
use std::ops::DerefMut;
use std::rc::Rc;

use super::forward::Mover;
use super::group::{Flight, Item};
use super::hash::NumberMap;
use super::id::MessageId;
use super::record::{Kind, Shape};
use super::seal::{SALT_BYTES, Sealer, SpoolKey};
use super::segment::{Epoch, Place, Places, Segment, Stage};

/// Names an operation's requester; `INTERNAL` asks for no outcome.
pub(super) type Ticket = u64;
/// The core's own work.
pub(super) const INTERNAL: Ticket = 0;
/// Names a message while its parts arrive.
pub(super) type DraftKey = u64;

/// Housekeeping runs this often while there is something to keep (ms).
const TICK_MS: u64 = 1000;

/// Where record memory comes from. Lengths are powers of two times 4 KiB.
pub(super) trait Pool {
    type Block: DerefMut<Target = [u8]>;
    /// A block of at least `bytes_min` bytes, or `None` at the bound.
    fn take(&mut self, bytes_min: usize) -> Option<Self::Block>;
}

/// The time, handed in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Never steps back.
    pub(super) monotonic_ms: u64,
    /// Wall clock; only written into records.
    pub(super) unix_ms: u64,
}

/// Where the time comes from.
pub(super) trait Clock {
    fn now(&self) -> Now;
}

/// A failed operation, as far as it makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No space, quota, or a configured bound. Mail: 452.
    Full,
    /// Anything else: the medium, the file system, a short write. Mail: 451.
    Io,
}

/// The core's settings; [`super::SpoolOptions`] has their meaning and defaults.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) segment_pages: u32,
    pub(super) segments_max: usize,
    pub(super) spares_max: usize,
    pub(super) group_pages_max: u32,
    pub(super) group_records_max: usize,
    pub(super) linger_ms: u64,
    pub(super) survivor_age_ms: u64,
    pub(super) survivor_percent: u32,
    pub(super) grave_age_ms: u64,
    pub(super) retry_ms: u64,
}

impl Limits {
    /// Pages that only notes and settles may use while no next segment stands ready, so that the
    /// queue still drains when the disk is full.
    pub(super) fn reserve_pages(&self) -> u32 {
        (self.segment_pages / 32).max(4)
    }
}

/// One record to append. Its content stands in `block` after room for the header.
pub(super) struct Append<B> {
    pub(super) draft: DraftKey,
    pub(super) block: B,
    pub(super) content_bytes: usize,
    /// `None` is a part; `Some` ends the draft and makes it a message.
    pub(super) last: Option<Last>,
}

/// What the last record of a message carries beyond its content. The meta bytes stand in the block
/// after content and room for `parts` entries.
pub(super) struct Last {
    pub(super) id: MessageId,
    pub(super) parts: usize,
    pub(super) meta_bytes: usize,
}

pub(super) struct Waiting<B> {
    pub(super) ticket: Ticket,
    pub(super) append: Append<B>,
    pub(super) moved: bool,
}

impl<B: DerefMut<Target = [u8]>> Waiting<B> {
    pub(super) fn shape(&self) -> Shape {
        let append = &self.append;
        match &append.last {
            None => Shape {
                kind: Kind::Part,
                id: MessageId::from_u128(0),
                content_bytes: append.content_bytes,
                parts: 0,
                meta_bytes: 0,
            },
            Some(last) => Shape {
                kind: Kind::Message,
                id: last.id,
                content_bytes: append.content_bytes,
                parts: last.parts,
                meta_bytes: last.meta_bytes,
            },
        }
    }
}

/// What the driver has to do. Operations may run at the same time; a flush is only given out after
/// its write completed.
pub(super) enum Operation<B> {
    /// Bring a segment file into being, by renaming `spare` or by preallocating, zeroing and
    /// syncing a new file, and sync the directory.
    Prepare { epoch: Epoch, salt: [u8; SALT_BYTES], spare: Option<u64> },
    /// Write the blocks one after the other. Anything but all of them is a failure.
    Write { epoch: Epoch, offset: u64, blocks: Vec<B> },
    /// Make the write durable. Never repeat it on an error.
    Flush { epoch: Epoch },
    /// Fill `block` from `place`.
    Read { place: Place, block: B },
    /// Take the segment out of the log, durably (renamed to `spare` or deleted; directory synced).
    /// May be asked again after a failure, whatever of it was done.
    Free { epoch: Epoch, salt: [u8; SALT_BYTES], spare: Option<u64> },
}

/// What became of an operation.
pub(super) enum Completion<B> {
    Prepared { epoch: Epoch, result: Result<(), Fault> },
    Written { result: Result<(), Fault>, blocks: Vec<B> },
    Flushed { result: Result<(), Fault> },
    Read { place: Place, result: Result<(), Fault>, block: B },
    Freed { epoch: Epoch, spare: Option<u64>, result: Result<(), Fault> },
}

/// What became of an append (its block comes back) or a durable note (no block).
pub(super) struct Outcome<B> {
    pub(super) ticket: Ticket,
    pub(super) result: Result<Option<B>, Fault>,
}

/// The log's fitness to take mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fitness {
    Fit,
    Full,
    Failing,
}

/// A message the log knows.
pub(super) struct Entry {
    pub(super) places: Places,
    /// Segments in which a message record of this id lies, dead or alive.
    pub(super) copies: Copies,
    pub(super) state: State,
    /// It stands in the order of lazy work.
    pub(super) queued: bool,
}

pub(super) enum State {
    Live {
        note: Option<Note>,
        dirty: bool,
    },
    /// `at`: where the settle is durable. `held`: its records still count as live.
    Settled {
        at: Option<Epoch>,
        dirty: bool,
        held: Option<Held>,
    },
}

/// What a settled message keeps alive until its settle is durable, beside its places.
pub(super) struct Held {
    pub(super) note_at: Option<Epoch>,
}

impl Entry {
    /// Everything of this message lies in one segment, and so goes or stays as a whole.
    fn is_together(&self, note_at: Option<Epoch>) -> bool {
        let places = self.places.as_slice();
        let first = places[0].epoch;
        places
            .iter()
            .map(|place| place.epoch)
            .chain(note_at)
            .chain(self.copies.iter())
            .all(|epoch| epoch == first)
    }
}

/// The newest note of a message; its bytes are kept so that it can be written again.
pub(super) struct Note {
    pub(super) bytes: Rc<[u8]>,
    /// Where the newest durable note of this message lies (perhaps an older version).
    pub(super) at: Option<Epoch>,
    /// The group in flight carries this note, or an older one of the message.
    pub(super) in_flight: bool,
}

/// A small set of segments: nearly always one.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    first: Option<Epoch>,
    more: Vec<Epoch>,
}

impl Copies {
    pub(super) fn add(&mut self, epoch: Epoch) {
        if self.iter().any(|known| known == epoch) {
            return;
        }
        match self.first {
            None => self.first = Some(epoch),
            Some(_) => self.more.push(epoch),
        }
    }

    pub(super) fn remove(&mut self, epoch: Epoch) {
        self.more.retain(|known| *known != epoch);
        if self.first == Some(epoch) {
            self.first = self.more.pop();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Epoch> + '_ {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// The segment after the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    None,
    Preparing(Epoch),
    Ready(Epoch),
    Failed { fault: Fault, retry_ms: u64 },
}

/// The parts of a message that is not committed yet.
#[derive(Default)]
pub(super) struct DraftState {
    pub(super) places: Vec<Place>,
    /// Records waiting or in flight.
    pub(super) pending: u32,
    pub(super) failed: Option<Fault>,
    pub(super) abandoned: bool,
}

/// Counters of the core.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) groups: u64,
    pub(super) records: u64,
    pub(super) pages: u64,
    pub(super) failed_groups: u64,
    pub(super) notes: u64,
    pub(super) settles: u64,
    pub(super) freed: u64,
    pub(super) moved: u64,
    pub(super) unreadable: u64,
}

/// The log of one shard. See the module's head.
pub(super) struct Log<P: Pool> {
    pub(super) limits: Limits,
    pub(super) key: Option<SpoolKey>,
    pub(super) pool: P,
    salts: Box<dyn FnMut() -> Option<[u8; SALT_BYTES]>>,

    pub(super) index: NumberMap<MessageId, Entry>,
    pub(super) segments: BTreeMap<Epoch, Segment>,
    pub(super) spares: Vec<u64>,
    pub(super) active: Option<Epoch>,
    pub(super) next: Next,
    pub(super) next_epoch: Epoch,
    pub(super) next_spare: u64,
    pub(super) next_sequence: u64,

    pub(super) waiting: VecDeque<Waiting<P::Block>>,
    pub(super) drafts: NumberMap<DraftKey, DraftState>,
    next_draft: DraftKey,
    next_ticket: Ticket,

    /// Messages with a note or settle to write, oldest first.
    pub(super) lazy: VecDeque<MessageId>,
    pub(super) lazy_due_ms: Option<u64>,
    pub(super) waiters: BTreeMap<MessageId, Vec<Ticket>>,

    pub(super) flight: Option<Flight<P::Block>>,
    pub(super) reserve: Vec<P::Block>,
    pub(super) mover: Mover,
    operations: VecDeque<Operation<P::Block>>,
    pub(super) outcomes: VecDeque<Outcome<P::Block>>,

    /// Groups that failed in a row.
    strikes: u32,
    /// Set after the second strike: nothing is tried before this time (ms).
    pub(super) down: Option<(Fault, u64)>,
    /// Notes and settles find no room.
    pub(super) is_stuck: bool,
    /// The file system has less than the configured free space: no new files.
    pub(super) low_space: bool,
    tick_ms: u64,
    pub(super) counters: Counters,
}

/// What recovery found, ready to go on from.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) index: NumberMap<MessageId, Entry>,
    pub(super) segments: BTreeMap<Epoch, Segment>,
    pub(super) spares: Vec<u64>,
    pub(super) next_epoch: Epoch,
    pub(super) next_sequence: u64,
}

impl<P: Pool> Log<P> {
    /// Starts from what recovery found (nothing, for a new log). `salts` gives random bytes, or
    /// `None` when the system has none. Takes two 4 KiB blocks for good, so that settles can be
    /// written when the pool is empty; without them it returns `None`.
    pub(super) fn new(
        limits: Limits,
        key: Option<SpoolKey>,
        mut pool: P,
        salts: Box<dyn FnMut() -> Option<[u8; SALT_BYTES]>>,
        restored: Restored,
    ) -> Option<Self> {
        let reserve = vec![pool.take(1)?, pool.take(1)?];
        let next_spare = restored.spares.iter().max().map_or(0, |last| last + 1);
        Some(Self {
            limits,
            key,
            pool,
            salts,
            index: restored.index,
            segments: restored.segments,
            spares: restored.spares,
            active: None,
            next: Next::None,
            next_epoch: restored.next_epoch.max(1),
            next_spare,
            next_sequence: restored.next_sequence.max(1),
            waiting: VecDeque::new(),
            drafts: NumberMap::default(),
            next_draft: 1,
            next_ticket: INTERNAL + 1,
            lazy: VecDeque::new(),
            lazy_due_ms: None,
            waiters: BTreeMap::new(),
            flight: None,
            reserve,
            mover: Mover::default(),
            operations: VecDeque::new(),
            outcomes: VecDeque::new(),
            strikes: 0,
            down: None,
            is_stuck: false,
            low_space: false,
            tick_ms: 0,
            counters: Counters::default(),
        })
    }

    /// Opens a draft.
    pub(super) fn draft(&mut self) -> DraftKey {
        let key = self.next_draft;
        self.next_draft += 1;
        key
    }

    /// Queues a record for the next group. Records of one draft go in order.
    ///
    /// While the log is down the outcome is an error at once: a storm of commits must not turn into
    /// a storm of segments on a sick disk.
    pub(super) fn append(&mut self, append: Append<P::Block>) -> Ticket {
        let ticket = self.ticket();
        self.append_as(ticket, append, false);
        ticket
    }

    pub(super) fn append_as(&mut self, ticket: Ticket, append: Append<P::Block>, moved: bool) {
        self.drafts.entry(append.draft).or_default().pending += 1;
        let waiting = Waiting { ticket, append, moved };
        match self.down {
            Some((fault, _)) => self.refuse(&waiting, fault),
            None => self.waiting.push_back(waiting),
        }
    }

    /// Gives a draft up: its parts are garbage from now on.
    pub(super) fn abandon(&mut self, draft: DraftKey) {
        if let Some(state) = self.drafts.get_mut(&draft) {
            state.abandoned = true;
        }
        self.bury_draft(draft);
    }

    /// Keeps `note` as the newest note of `id`; written with the next group, or after the linger
    /// time. With `durable`, at once, and an outcome follows. `None`: no such message, or too long.
    pub(super) fn note(
        &mut self,
        now: Now,
        id: MessageId,
        bytes: Vec<u8>,
        durable: bool,
    ) -> Option<Ticket> {
        let entry = self.index.get_mut(&id)?;
        let State::Live { note, dirty } = &mut entry.state else { return None };
        let at = note.as_ref().and_then(|old| old.at);
        let in_flight = note.as_ref().is_some_and(|old| old.in_flight);
        *note = Some(Note { bytes: bytes.into(), at, in_flight });
        *dirty = true;
        self.counters.notes += 1;
        self.enqueue_lazy(now, id);
        if !durable {
            return Some(INTERNAL);
        }
        let ticket = self.ticket();
        self.waiters.entry(id).or_default().push(ticket);
        Some(ticket)
    }

    /// Ends a message: its records are garbage from now on; the settle is written like a note.
    /// A second settle, or one of an unknown message, is nothing. The ticket of a durable one is done
    /// when the settle is on disk.
    ///
    /// What lies in one segment alone may go at once: it goes as a whole. Anything else is kept until
    /// the settle is durable, or a crash would bring back a message without some of its parts, or
    /// without its note.
    pub(super) fn settle(&mut self, now: Now, id: MessageId, durable: bool) -> Option<Ticket> {
        let entry = self.index.get_mut(&id)?;
        let State::Live { note, .. } = &entry.state else { return None };
        let note_at = note.as_ref().and_then(|note| note.at);
        // Where a note in flight ends up is not known yet.
        let is_noting = note.as_ref().is_some_and(|note| note.in_flight);
        let is_together = !is_noting && entry.is_together(note_at);
        entry.state = State::Settled { at: None, dirty: true, held: Some(Held { note_at }) };
        self.counters.settles += 1;
        if is_together {
            self.release(id);
        }
        self.enqueue_lazy(now, id);
        if !durable {
            return Some(INTERNAL);
        }
        let ticket = self.ticket();
        self.waiters.entry(id).or_default().push(ticket);
        Some(ticket)
    }

    /// The records of a settled message are no longer needed.
    pub(super) fn release(&mut self, id: MessageId) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        let State::Settled { held, .. } = &mut entry.state else { return };
        let Some(Held { note_at }) = held.take() else { return };
        let places = entry.places.clone();
        self.drop_records(&places, note_at);
    }

    pub(super) fn drop_records(&mut self, places: &Places, note_at: Option<Epoch>) {
        for place in places.as_slice() {
            self.drop_record(place.epoch, place.pages);
        }
        if let Some(epoch) = note_at {
            self.drop_record(epoch, 0);
        }
    }

    /// The next thing to do, or `None` until something happens or [`Self::deadline`] passes.
    pub(super) fn poll_operation(&mut self, now: Now) -> Option<Operation<P::Block>> {
        self.tick(now);
        self.want_segment(now);
        self.step_mover(now);
        self.start_group(now);
        self.operations.pop_front()
    }

    /// The next finished append or durable note.
    pub(super) fn poll_outcome(&mut self) -> Option<Outcome<P::Block>> {
        self.outcomes.pop_front()
    }

    /// When to call [`Self::poll_operation`] again though nothing happened (monotonic ms).
    pub(super) fn deadline(&self) -> Option<u64> {
        let retry = match self.next {
            Next::Failed { retry_ms, .. } => Some(retry_ms),
            _ => None,
        };
        // While a group is in flight its completion is what moves things on.
        let lazy =
            if self.flight.is_none() && self.down.is_none() { self.lazy_due_ms } else { None };
        let probe = self.down.map(|(_, at)| at);
        let closed = self.segments.values().any(|segment| segment.stage == Stage::Closed);
        let tick = closed.then_some(self.tick_ms);
        [retry, lazy, probe, tick].into_iter().flatten().min()
    }

    /// Takes what became of an operation.
    pub(super) fn complete(&mut self, now: Now, completion: Completion<P::Block>) {
        match completion {
            Completion::Prepared { epoch, result } => self.prepared(now, epoch, result),
            Completion::Written { result: Ok(()), blocks } => self.written(blocks),
            Completion::Written { result: Err(fault), .. } => self.group_failed(now, fault),
            Completion::Flushed { result: Ok(()) } => self.group_durable(),
            Completion::Flushed { result: Err(fault) } => self.group_failed(now, fault),
            Completion::Read { place, result, block } => self.moved_read(now, place, result, block),
            Completion::Freed { epoch, spare, result } => self.freed(now, epoch, spare, result),
        }
    }

    /// Where the content of a live message lies.
    pub(super) fn places(&self, id: MessageId) -> Option<&[Place]> {
        match self.index.get(&id)? {
            Entry { state: State::Settled { .. }, .. } => None,
            entry => Some(entry.places.as_slice()),
        }
    }

    /// Whether `id` was ever seen and may still lie in some segment.
    pub(super) fn knows(&self, id: MessageId) -> bool {
        self.index.contains_key(&id)
    }

    /// The sealer of a segment; `None` when unsealed (or freed: then the epoch check tells).
    pub(super) fn sealer(&self, epoch: Epoch) -> Option<Rc<Sealer>> {
        self.segments.get(&epoch)?.sealer.clone()
    }

    /// The salt of a segment that is still there.
    pub(super) fn salt(&self, epoch: Epoch) -> Option<[u8; SALT_BYTES]> {
        self.segments.get(&epoch).map(|segment| segment.salt)
    }

    /// Marks a segment as kept in quarantine: its file is deleted in time, not recycled.
    pub(super) fn preserve(&mut self, epoch: Epoch) {
        if let Some(segment) = self.segments.get_mut(&epoch) {
            segment.preserved = true;
        }
    }

    pub(super) fn fitness(&self) -> Fitness {
        match (self.down, self.next) {
            (Some((Fault::Io, _)), _) => Fitness::Failing,
            (None, Next::Failed { fault: Fault::Io, .. }) => Fitness::Failing,
            (Some((Fault::Full, _)), _) | (None, Next::Failed { fault: Fault::Full, .. }) => {
                Fitness::Full
            }
            (None, _) if self.low_space || self.is_over_bound() => Fitness::Full,
            (None, _) => Fitness::Fit,
        }
    }

    /// More segments than configured: for notes and settles only.
    pub(super) fn is_over_bound(&self) -> bool {
        self.segments.len() > self.limits.segments_max
    }

    /// Nothing is waiting, in flight or lazily due.
    pub(super) fn is_idle(&self) -> bool {
        self.flight.is_none() && self.waiting.is_empty() && self.lazy.is_empty()
    }

    /// No operation of a group is under way: the process may end without leaving one half done.
    pub(super) fn is_resting(&self) -> bool {
        self.flight.is_none()
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    pub(super) fn emit(&mut self, operation: Operation<P::Block>) {
        self.operations.push_back(operation);
    }

    pub(super) fn enqueue_lazy(&mut self, now: Now, id: MessageId) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        if !std::mem::replace(&mut entry.queued, true) {
            self.lazy.push_back(id);
        }
        let due = now.monotonic_ms + self.linger_ms();
        self.lazy_due_ms.get_or_insert(due);
    }

    /// While space is short each page must count: notes and settles gather for longer.
    pub(super) fn linger_ms(&self) -> u64 {
        let is_short = matches!(self.next, Next::Failed { .. });
        if is_short {
            // A tenth of a second: deliveries wait for their settles, and it is they that make room.
            self.limits.linger_ms.max(self.limits.retry_ms / 10)
        } else {
            self.limits.linger_ms
        }
    }

    pub(super) fn add_record(&mut self, epoch: Epoch, pages: u32) {
        if let Some(segment) = self.segments.get_mut(&epoch) {
            segment.add_record(pages);
        }
    }

    pub(super) fn drop_record(&mut self, epoch: Epoch, pages: u32) {
        if let Some(segment) = self.segments.get_mut(&epoch) {
            segment.drop_record(pages);
            self.free_if_dead(epoch);
        }
    }

    /// Fails a record that never got into a group.
    pub(super) fn refuse(&mut self, waiting: &Waiting<P::Block>, fault: Fault) {
        self.record_ended(waiting.append.draft, Some(fault));
        if waiting.append.last.is_some() {
            self.abandon(waiting.append.draft);
        }
        self.report(waiting.ticket, waiting.moved, Err(fault));
    }

    /// A record of `draft` is no longer pending; the parts of a dead draft are let go.
    pub(super) fn record_ended(&mut self, draft: DraftKey, failed: Option<Fault>) {
        if let Some(state) = self.drafts.get_mut(&draft) {
            state.pending -= 1;
            state.failed = state.failed.or(failed);
        }
        self.bury_draft(draft);
    }

    pub(super) fn report(
        &mut self,
        ticket: Ticket,
        moved: bool,
        result: Result<Option<P::Block>, Fault>,
    ) {
        if moved {
            self.mover.appended(result.is_ok());
        } else {
            self.outcomes.push_back(Outcome { ticket, result });
        }
    }

    fn bury_draft(&mut self, draft: DraftKey) {
        let is_over = |state: &DraftState| state.abandoned && state.pending == 0;
        if !self.drafts.get(&draft).is_some_and(is_over) {
            return;
        }
        let places = self.drafts.remove(&draft).map(|state| state.places).unwrap_or_default();
        for place in places {
            self.drop_record(place.epoch, place.pages);
        }
    }

    /// Keeps a next segment ahead of need: from the first quarter of the active one on.
    fn want_segment(&mut self, now: Now) {
        match self.next {
            Next::Preparing(_) | Next::Ready(_) => return,
            Next::Failed { retry_ms, .. } if retry_ms > now.monotonic_ms => return,
            Next::Failed { .. } | Next::None => {}
        }
        let segment = self.active.and_then(|epoch| self.segments.get(&epoch));
        if segment.is_some_and(|active| active.next_page < active.capacity_pages / 4) {
            return;
        }
        let spare = self.spares.pop();
        // Notes and settles that have no room left get one segment more, or nothing would ever drain.
        let bound = self.limits.segments_max.saturating_add(usize::from(self.is_stuck));
        let at_bound = self.segments.len() >= bound;
        if spare.is_none() && (at_bound || self.low_space) {
            return self.next_failed(now, Fault::Full);
        }
        let Some(salt) = (self.salts)() else {
            self.spares.extend(spare);
            return self.next_failed(now, Fault::Io);
        };
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        self.next = Next::Preparing(epoch);
        let sealer = self.key.as_ref().map(|key| Rc::new(Sealer::for_segment(key, &salt, epoch)));
        let pages = self.limits.segment_pages;
        self.segments.insert(epoch, Segment::new(Stage::Ready, salt, sealer, pages));
        self.emit(Operation::Prepare { epoch, salt, spare });
    }

    fn next_failed(&mut self, now: Now, fault: Fault) {
        self.next = Next::Failed { fault, retry_ms: now.monotonic_ms + self.limits.retry_ms };
    }

    fn prepared(&mut self, now: Now, epoch: Epoch, result: Result<(), Fault>) {
        assert_eq!(self.next, Next::Preparing(epoch), "one segment is prepared at a time");
        match result {
            Ok(()) => self.next = Next::Ready(epoch),
            Err(fault) => {
                // Whatever the attempt left on disk holds no record; the next start clears it away.
                self.segments.remove(&epoch);
                self.next_failed(now, fault);
            }
        }
    }

    fn written(&mut self, blocks: Vec<P::Block>) {
        let flight = self.flight.as_mut().expect("a write completes for the group in flight");
        flight.blocks = blocks;
        let epoch = flight.epoch;
        self.emit(Operation::Flush { epoch });
    }

    fn group_durable(&mut self) {
        let flight = self.flight.take().expect("a flush completes for the group in flight");
        self.strikes = 0;
        self.down = None;
        self.counters.groups += 1;
        self.counters.pages += u64::from(flight.pages);
        if let Some(segment) = self.segments.get_mut(&flight.epoch) {
            segment.durable_pages = segment.next_page;
            segment.kept_pages = segment.next_page;
        }
        let epoch = flight.epoch;
        for (item, block) in flight.items.into_iter().zip(flight.blocks) {
            self.item_durable(epoch, item, block);
        }
    }

    fn item_durable(&mut self, epoch: Epoch, item: Item, block: P::Block) {
        self.counters.records += 1;
        match item {
            Item::Segment => self.keep_reserve(block),
            Item::Batch { written, tickets } => {
                self.keep_reserve(block);
                self.batch_durable(epoch, written);
                for ticket in tickets {
                    self.outcomes.push_back(Outcome { ticket, result: Ok(None) });
                }
            }
            Item::Part { ticket, draft, place, moved } => {
                self.add_record(epoch, place.pages);
                self.drafts.entry(draft).or_default().places.push(place);
                self.record_ended(draft, None);
                self.report(ticket, moved, Ok(Some(block)));
            }
            Item::Message { ticket, draft, place, id, moved } => {
                self.add_record(epoch, place.pages);
                let earlier = self.drafts.remove(&draft).unwrap_or_default().places;
                let places = Places::new(earlier, place);
                if let Some(segment) = self.segments.get_mut(&epoch) {
                    segment.holds.push(id);
                }
                if moved {
                    self.message_moved(id, places)
                } else {
                    self.message_new(id, places)
                }
                self.report(ticket, moved, Ok(Some(block)));
            }
        }
    }

    fn message_new(&mut self, id: MessageId, places: Places) {
        let mut copies = Copies::default();
        copies.add(places.as_slice()[places.as_slice().len() - 1].epoch);
        let state = State::Live { note: None, dirty: false };
        let replaced = self.index.insert(id, Entry { places, copies, state, queued: false });
        assert!(replaced.is_none(), "queue ids are unique");
    }

    fn group_failed(&mut self, now: Now, fault: Fault) {
        let flight = self.flight.take().expect("a group fails while it is in flight");
        self.counters.failed_groups += 1;
        self.strikes += 1;
        let durable = flight.start_page;
        if let Some(segment) = self.segments.get_mut(&flight.epoch) {
            segment.close(now.monotonic_ms, durable);
            segment.failed = true;
        }
        self.active = None;
        for item in flight.items {
            self.item_failed(now, flight.epoch, item, fault);
        }
        self.refill_reserve();
        if self.strikes >= 2 {
            self.go_down(now, fault);
        }
        self.free_if_dead(flight.epoch);
    }

    fn item_failed(&mut self, now: Now, epoch: Epoch, item: Item, fault: Fault) {
        match item {
            Item::Segment => {}
            Item::Batch { written, tickets } => {
                for (id, _) in written {
                    self.note_failed(id);
                    self.mark_dirty(now, id);
                }
                for ticket in tickets {
                    self.outcomes.push_back(Outcome { ticket, result: Err(fault) });
                }
            }
            Item::Part { ticket, draft, moved, .. } => {
                self.record_ended(draft, Some(fault));
                self.report(ticket, moved, Err(fault));
            }
            Item::Message { ticket, draft, id, moved, .. } => {
                if moved {
                    self.copy_may_exist(epoch, id);
                }
                self.record_ended(draft, Some(fault));
                self.abandon(draft);
                self.report(ticket, moved, Err(fault));
            }
        }
    }

    /// Refuses everything until a probe gets through.
    fn go_down(&mut self, now: Now, fault: Fault) {
        self.down = Some((fault, now.monotonic_ms + self.limits.retry_ms));
        self.fail_waiting(fault);
        let waiters = std::mem::take(&mut self.waiters);
        for ticket in waiters.into_values().flatten() {
            self.outcomes.push_back(Outcome { ticket, result: Err(fault) });
        }
    }

    pub(super) fn fail_waiting(&mut self, fault: Fault) {
        for waiting in std::mem::take(&mut self.waiting) {
            self.refuse(&waiting, fault);
        }
    }

    fn tick(&mut self, now: Now) {
        if now.monotonic_ms < self.tick_ms {
            return;
        }
        self.tick_ms = now.monotonic_ms + TICK_MS;
        self.free_all_dead(now);
        self.choose_survivors(now);
    }
}

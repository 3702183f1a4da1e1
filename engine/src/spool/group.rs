//! Forming one group commit: which records go together, where, and in what order.
//!
//! A group is laid out as `[segment record, if the segment is new][notes and settles][records]` and
//! written with one vectored write. Notes and settles come first, so that a queue that drains always
//! gets on; records follow in the order in which they came.
//!
//! Invariants: a group lies in one segment, starts where the last one ended, and nothing is placed
//! behind its end; sequences rise by one a record and are never used again, also if the group fails.

use std::ops::DerefMut;
use std::rc::Rc;

use super::id::MessageId;
use super::log::{DraftKey, Fault, Log, Next, Now, Operation, Pool, State, Ticket, Waiting};
use super::record::{
    self, BatchEntry, CLOSED_MAX, HEADER_BYTES, Kind, PAGE_BYTES, Placement, RECORD_PAGES_MAX,
    Shape, page_bytes, pages_for,
};
use super::seal::{SALT_BYTES, Sealer};
use super::segment::{Epoch, Place, Stage};

/// The longest batch record. Longer notes are refused by the interface.
pub(super) const BATCH_BYTES_MAX: usize = 64 * 1024;
/// The longest note: one batch record without its header and entry head.
pub const NOTE_BYTES_MAX: usize = BATCH_BYTES_MAX - HEADER_BYTES - 32;

/// What one record of a group was.
pub(super) enum Item {
    Segment,
    Batch { written: Vec<(MessageId, Written)>, tickets: Vec<Ticket> },
    Part { ticket: Ticket, draft: DraftKey, place: Place, moved: bool },
    Message { ticket: Ticket, draft: DraftKey, place: Place, id: MessageId, moved: bool },
}

/// What a batch said of a message.
#[derive(Clone, Copy)]
pub(super) enum Written {
    Note,
    Settle,
}

/// The group that is being written or flushed. Blocks are empty while the driver has them.
pub(super) struct Flight<B> {
    pub(super) epoch: Epoch,
    pub(super) start_page: u32,
    pub(super) pages: u32,
    pub(super) items: Vec<Item>,
    pub(super) blocks: Vec<B>,
}

/// A group while it is laid out.
struct Builder<B> {
    flight: Flight<B>,
    capacity_pages: u32,
    salt: [u8; SALT_BYTES],
    sealer: Option<Rc<Sealer>>,
    written_ms: u64,
}

impl<B: DerefMut<Target = [u8]>> Builder<B> {
    fn end_page(&self) -> u32 {
        self.flight.start_page + self.flight.pages
    }

    fn is_empty(&self) -> bool {
        self.flight.items.is_empty()
    }

    fn has_room(&self, pages: u32, reserve_pages: u32) -> bool {
        self.end_page() + pages + reserve_pages <= self.capacity_pages
    }

    /// Where the next record goes.
    fn place(&self, sequence: u64, block: &B, content_bytes: usize) -> Place {
        Place {
            epoch: self.flight.epoch,
            page: self.end_page(),
            pages: pages_for(block.len()),
            sequence,
            content_bytes: u32::try_from(content_bytes).expect("a record is at most 256 KiB"),
        }
    }

    fn push(&mut self, shape: &Shape, sequence: u64, mut block: B, item: Item) {
        let placement = Placement {
            epoch: self.flight.epoch,
            salt: self.salt,
            sequence,
            group_page: self.flight.start_page,
            written_ms: self.written_ms,
            sealer: self.sealer.as_deref(),
        };
        shape.write(&placement, &mut block);
        self.flight.pages += pages_for(block.len());
        self.flight.blocks.push(block);
        self.flight.items.push(item);
    }
}

impl<P: Pool> Log<P> {
    /// Starts a group if there is something to write and somewhere to write it.
    pub(super) fn start_group(&mut self, now: Now) {
        // A segment that turns out full is closed without a group; the next one is tried once.
        for _ in 0..2 {
            if self.flight.is_some() || !self.has_due_work(now) {
                return;
            }
            let Some(mut group) = self.builder(now) else { return self.come_back(now) };
            self.place_segment_record(&mut group);
            let batch_is_stuck = !self.place_batches(now, &mut group);
            self.place_waiting(&mut group, batch_is_stuck);
            self.note_stuck(batch_is_stuck);
            if !group.is_empty() {
                return self.launch(group);
            }
            if !self.rotate(now) {
                return;
            }
        }
    }

    fn has_due_work(&self, now: Now) -> bool {
        if let Some((_, probe_ms)) = self.down {
            return probe_ms <= now.monotonic_ms;
        }
        let is_short = matches!(self.next, Next::Failed { .. });
        !self.waiting.is_empty()
            || (!self.waiters.is_empty() && !is_short)
            || self.lazy_due_ms.is_some_and(|due| due <= now.monotonic_ms)
    }

    /// There is no segment to write to: its preparation or its retry moves things on, so the timers
    /// of this work must not run hot meanwhile.
    fn come_back(&mut self, now: Now) {
        if let Some((_, probe_ms)) = &mut self.down {
            *probe_ms = now.monotonic_ms + self.limits.retry_ms;
        }
        if self.lazy_due_ms.is_some_and(|due| due <= now.monotonic_ms) {
            self.linger_again(now);
        }
    }

    /// Remembers that notes and settles found no room. Without a next segment to come whoever waits
    /// for a durable note is told; the note itself is tried on.
    fn note_stuck(&mut self, is_stuck: bool) {
        self.is_stuck = is_stuck && !matches!(self.next, Next::Ready(_));
        if let (true, Next::Failed { fault, .. }) = (self.is_stuck, self.next) {
            self.fail_waiters(fault);
        }
    }

    fn builder(&mut self, now: Now) -> Option<Builder<P::Block>> {
        if self.active.is_none() && !self.activate() {
            return None;
        }
        let epoch = self.active?;
        let segment = self.segments.get(&epoch)?;
        let flight = Flight {
            epoch,
            start_page: segment.next_page,
            pages: 0,
            items: Vec::new(),
            blocks: Vec::new(),
        };
        Some(Builder {
            flight,
            capacity_pages: segment.capacity_pages,
            salt: segment.salt,
            sealer: segment.sealer.clone(),
            written_ms: now.unix_ms,
        })
    }

    /// Makes the next segment the active one. When there is none to come, what waits fails.
    fn activate(&mut self) -> bool {
        match self.next {
            Next::Ready(epoch) => {
                self.next = Next::None;
                self.active = Some(epoch);
                if let Some(segment) = self.segments.get_mut(&epoch) {
                    segment.stage = Stage::Active;
                }
                true
            }
            Next::Failed { fault, .. } => {
                self.fail_waiting(fault);
                self.fail_waiters(fault);
                false
            }
            Next::None | Next::Preparing(_) => false,
        }
    }

    fn fail_waiters(&mut self, fault: Fault) {
        let waiters = std::mem::take(&mut self.waiters);
        for ticket in waiters.into_values().flatten() {
            self.report(ticket, false, Err(fault));
        }
    }

    /// Closes the full active segment if another stands ready.
    fn rotate(&mut self, now: Now) -> bool {
        if !matches!(self.next, Next::Ready(_)) {
            return false;
        }
        if let Some(epoch) = self.active.take()
            && let Some(segment) = self.segments.get_mut(&epoch)
        {
            let durable = segment.next_page;
            segment.close(now.monotonic_ms, durable);
            self.free_if_dead(epoch);
        }
        true
    }

    fn sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    /// The first record of a segment tells how far the closed ones are durable.
    fn place_segment_record(&mut self, group: &mut Builder<P::Block>) {
        if group.flight.start_page > 0 {
            return;
        }
        let closed: Vec<_> = self
            .segments
            .iter()
            .filter(|(_, segment)| matches!(segment.stage, Stage::Closed | Stage::Freeing))
            .map(|(epoch, segment)| segment.statement(*epoch))
            .rev()
            .take(CLOSED_MAX)
            .collect();
        let Some(mut block) = self.small_block() else { return };
        let meta_bytes = record::write_closed(&mut block, &closed);
        let id = MessageId::from_u128(0);
        let shape = Shape { kind: Kind::Segment, id, content_bytes: 0, parts: 0, meta_bytes };
        let sequence = self.sequence();
        group.push(&shape, sequence, block, Item::Segment);
    }

    /// Places notes and settles; `false` if some are left for want of room in the segment.
    fn place_batches(&mut self, now: Now, group: &mut Builder<P::Block>) -> bool {
        self.lazy_due_ms = None;
        while !self.lazy.is_empty() {
            let Some(first) = self.first_lazy_bytes() else { break };
            let wanted = (HEADER_BYTES + self.lazy_bytes_soon()).min(BATCH_BYTES_MAX);
            let Some(block) = self.batch_block(wanted, HEADER_BYTES + first) else {
                self.linger_again(now);
                return true;
            };
            if !group.has_room(pages_for(block.len()), 0) {
                self.keep_reserve(block);
                self.linger_again(now);
                return false;
            }
            self.place_batch(group, block);
        }
        true
    }

    /// Drops what is no longer to be written from the front; bytes of the first entry that is.
    fn first_lazy_bytes(&mut self) -> Option<usize> {
        while let Some(id) = self.lazy.front().copied() {
            if let Some(bytes) = self.lazy_bytes(id) {
                return Some(bytes);
            }
            self.skip_lazy(id);
        }
        None
    }

    /// Bytes of the entries that may go into the next batch record.
    fn lazy_bytes_soon(&self) -> usize {
        let mut total = 0;
        for bytes in self.lazy.iter().filter_map(|id| self.lazy_bytes(*id)) {
            if total + bytes > BATCH_BYTES_MAX - HEADER_BYTES {
                break;
            }
            total += bytes;
        }
        total
    }

    /// Work is left over: come back for it.
    fn linger_again(&mut self, now: Now) {
        self.lazy_due_ms = Some(now.monotonic_ms + self.linger_ms().max(1));
    }

    fn place_batch(&mut self, group: &mut Builder<P::Block>, mut block: P::Block) {
        let room = block.len() - HEADER_BYTES;
        let (mut written, mut tickets, mut used) = (Vec::new(), Vec::new(), 0);
        while let Some(bytes) = self.first_lazy_bytes() {
            if used + bytes > room {
                break;
            }
            let Some(id) = self.pop_lazy() else { break };
            let area = &mut block[HEADER_BYTES + used..HEADER_BYTES + used + bytes];
            written.extend(self.write_lazy(id, area).map(|what| (id, what)));
            used += bytes;
            tickets.extend(self.waiters.remove(&id).into_iter().flatten());
        }
        let id = MessageId::from_u128(0);
        let shape = Shape { kind: Kind::Batch, id, content_bytes: 0, parts: 0, meta_bytes: used };
        let sequence = self.sequence();
        group.push(&shape, sequence, block, Item::Batch { written, tickets });
    }

    /// Bytes of what is to be written of `id`; `None` if nothing is any more.
    fn lazy_bytes(&self, id: MessageId) -> Option<usize> {
        match &self.index.get(&id)?.state {
            State::Live { note: Some(note), dirty: true } => {
                Some(BatchEntry::Note(id, &note.bytes).bytes())
            }
            State::Settled { dirty: true, .. } => Some(BatchEntry::Settle(id).bytes()),
            State::Live { .. } | State::Settled { .. } => None,
        }
    }

    fn pop_lazy(&mut self) -> Option<MessageId> {
        let id = self.lazy.pop_front()?;
        if let Some(entry) = self.index.get_mut(&id) {
            entry.queued = false;
        }
        Some(id)
    }

    /// The message is gone, or what was to be said of it was said. A waiter is answered `Ok`: its
    /// note was overtaken by the end of the message.
    fn skip_lazy(&mut self, id: MessageId) {
        self.pop_lazy();
        for ticket in self.waiters.remove(&id).into_iter().flatten() {
            self.report(ticket, false, Ok(None));
        }
    }

    fn write_lazy(&mut self, id: MessageId, area: &mut [u8]) -> Option<Written> {
        match &mut self.index.get_mut(&id)?.state {
            State::Live { note: Some(note), dirty } => {
                *dirty = false;
                note.in_flight = true;
                BatchEntry::Note(id, &note.bytes).write(area);
                Some(Written::Note)
            }
            State::Settled { dirty, .. } => {
                *dirty = false;
                BatchEntry::Settle(id).write(area);
                Some(Written::Settle)
            }
            State::Live { note: None, .. } => None,
        }
    }

    /// Places waiting records until the group, the segment or the queue ends.
    fn place_waiting(&mut self, group: &mut Builder<P::Block>, batch_is_stuck: bool) {
        while let Some(front) = self.waiting.front() {
            let pages = pages_for(front.append.block.len());
            let draft = self.drafts.get(&front.append.draft);
            if let Some(fault) = draft.and_then(|draft| draft.failed) {
                self.refuse_front(fault);
                continue;
            }
            let is_full_group = group.flight.items.len() >= self.limits.group_records_max
                || (group.flight.pages + pages > self.limits.group_pages_max && !group.is_empty());
            if is_full_group || batch_is_stuck {
                return;
            }
            if self.is_over_bound() {
                self.refuse_front(Fault::Full);
                continue;
            }
            let has_next = matches!(self.next, Next::Ready(_));
            let reserve = if has_next { 0 } else { self.limits.reserve_pages() };
            if group.has_room(pages, reserve) {
                self.place_front(group);
                continue;
            }
            match self.next {
                Next::Failed { fault, .. } => self.refuse_front(fault),
                Next::None | Next::Preparing(_) | Next::Ready(_) => return,
            }
        }
    }

    fn refuse_front(&mut self, fault: Fault) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.refuse(&waiting, fault);
        }
    }

    fn place_front(&mut self, group: &mut Builder<P::Block>) {
        let Some(waiting) = self.waiting.pop_front() else { return };
        let sequence = self.sequence();
        let shape = waiting.shape();
        let Waiting { ticket, append, moved } = waiting;
        let (draft, mut block) = (append.draft, append.block);
        assert!(pages_for(block.len()) <= RECORD_PAGES_MAX, "blocks are at most 256 KiB");
        let place = group.place(sequence, &block, append.content_bytes);
        let item = match append.last {
            None => Item::Part { ticket, draft, place, moved },
            Some(last) => {
                let sequences = self.part_sequences(group, draft);
                assert_eq!(sequences.len(), last.parts, "a message lists all of its parts");
                record::write_parts(&mut block, append.content_bytes, &sequences);
                Item::Message { ticket, draft, place, id: last.id, moved }
            }
        };
        group.push(&shape, sequence, block, item);
    }

    /// The parts of a draft so far: durable ones, then those of this very group.
    fn part_sequences(&self, group: &Builder<P::Block>, draft: DraftKey) -> Vec<u64> {
        let durable =
            self.drafts.get(&draft).map(|state| state.places.as_slice()).unwrap_or_default();
        let together = group.flight.items.iter().filter_map(|item| match item {
            Item::Part { draft: of, place, .. } if *of == draft => Some(place.sequence),
            _ => None,
        });
        durable.iter().map(|place| place.sequence).chain(together).collect()
    }

    fn launch(&mut self, group: Builder<P::Block>) {
        let end = group.end_page();
        let mut flight = group.flight;
        if let Some(segment) = self.segments.get_mut(&flight.epoch) {
            segment.next_page = end;
        }
        let blocks = std::mem::take(&mut flight.blocks);
        let offset = page_bytes(flight.start_page) as u64;
        self.emit(Operation::Write { epoch: flight.epoch, offset, blocks });
        self.flight = Some(flight);
    }

    fn small_block(&mut self) -> Option<P::Block> {
        self.reserve.pop().or_else(|| self.pool.take(PAGE_BYTES))
    }

    /// A block for a batch: as wanted, or as small as it may be when memory is short.
    fn batch_block(&mut self, wanted: usize, needed: usize) -> Option<P::Block> {
        if wanted > PAGE_BYTES
            && let Some(block) = self.pool.take(wanted)
        {
            return Some(block);
        }
        if needed <= PAGE_BYTES { self.small_block() } else { self.pool.take(needed) }
    }

    /// Takes a block of the core's own back.
    pub(super) fn keep_reserve(&mut self, block: P::Block) {
        if self.reserve.len() < 2 && block.len() == PAGE_BYTES {
            self.reserve.push(block);
        }
    }

    /// After a failed write the driver may have lost the blocks: take others as memory allows.
    pub(super) fn refill_reserve(&mut self) {
        while self.reserve.len() < 2 {
            let Some(block) = self.pool.take(PAGE_BYTES) else { return };
            self.reserve.push(block);
        }
    }

    /// Notes and settles of a durable batch take effect.
    pub(super) fn batch_durable(&mut self, epoch: Epoch, written: Vec<(MessageId, Written)>) {
        for (id, what) in written {
            match what {
                Written::Note => self.note_durable(epoch, id),
                Written::Settle => self.settle_durable(epoch, id),
            }
        }
    }

    /// A note counts in its segment until it is replaced, or until its message's settle is durable:
    /// also if the message was settled while the note was in flight.
    fn note_durable(&mut self, epoch: Epoch, id: MessageId) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        let before = match &mut entry.state {
            State::Live { note: Some(note), .. } => {
                note.in_flight = false;
                note.at.replace(epoch)
            }
            State::Settled { held: Some(held), .. } => held.note_at.replace(epoch),
            State::Live { note: None, .. } | State::Settled { held: None, .. } => return,
        };
        if let Some(segment) = self.segments.get_mut(&epoch) {
            segment.add_record(0);
            segment.notes.push(id);
        }
        if let Some(before) = before {
            self.drop_record(before, 0);
        }
    }

    /// The group that carried a note of `id` failed.
    pub(super) fn note_failed(&mut self, id: MessageId) {
        if let Some(entry) = self.index.get_mut(&id)
            && let State::Live { note: Some(note), .. } = &mut entry.state
        {
            note.in_flight = false;
        }
    }

    fn settle_durable(&mut self, epoch: Epoch, id: MessageId) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        let State::Settled { at, .. } = &mut entry.state else { return };
        *at = Some(epoch);
        if let Some(segment) = self.segments.get_mut(&epoch) {
            segment.settles.push(id);
        }
        self.release(id);
    }

    /// What a failed batch said of `id` must be said again.
    pub(super) fn mark_dirty(&mut self, now: Now, id: MessageId) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        match &mut entry.state {
            State::Live { note: None, .. } => return,
            State::Live { dirty, .. } | State::Settled { dirty, .. } => *dirty = true,
        }
        self.enqueue_lazy(now, id);
    }
}

//! Copy-forward: long-deferred messages are moved out of old, sparse segments, so that these can be
//! freed.
//!
//! One record at a time is read, checked, opened and appended again like a new one; the message's
//! place changes when the new records are durable, and not before. The two copies are the same
//! message: at recovery the later one counts.
//!
//! Invariants: at most one record's memory is in use; a message that cannot be read is left where it
//! is; moving stops while there is no next segment, so that it never takes the last space.

use super::log::{Append, DraftKey, Fault, INTERNAL, Last, Log, Next, Now, Operation, Pool, State};
use super::record::{HEADER_BYTES, Header, Kind, page_bytes};
use super::segment::{Epoch, Place, Places, Stage};
use super::{MessageId, record};

/// What is being moved.
#[derive(Default)]
pub(super) struct Mover {
    /// Messages still to look at, of `epoch`.
    ids: Vec<MessageId>,
    epoch: Epoch,
    current: Option<Move>,
}

struct Move {
    id: MessageId,
    draft: DraftKey,
    places: Vec<Place>,
    /// The next place to read.
    at: usize,
    step: Step,
}

#[derive(PartialEq, Eq)]
enum Step {
    Read,
    Reading,
    Appending,
    Failed,
}

impl Mover {
    /// A moved record is durable, or failed.
    pub(super) fn appended(&mut self, is_durable: bool) {
        let Some(current) = &mut self.current else { return };
        current.step = if is_durable { Step::Read } else { Step::Failed };
    }

    /// A record of `id` may be on its way to a new segment.
    pub(super) fn is_moving(&self, id: MessageId) -> bool {
        self.current.as_ref().is_some_and(|current| current.id == id)
    }

    fn is_idle(&self) -> bool {
        self.current.is_none() && self.ids.is_empty()
    }
}

impl<P: Pool> Log<P> {
    /// Picks the oldest sparse segment of sufficient age. Runs at each tick.
    pub(super) fn choose_survivors(&mut self, now: Now) {
        if !self.mover.is_idle() || !matches!(self.next, Next::Ready(_) | Next::None) {
            return;
        }
        let limits = &self.limits;
        let chosen = self.segments.iter().find(|(_, segment)| {
            let age = now.monotonic_ms.saturating_sub(segment.closed_ms);
            segment.stage == Stage::Closed
                && age >= limits.survivor_age_ms
                && segment.is_sparse(limits.survivor_percent)
        });
        let Some((epoch, segment)) = chosen else { return };
        let epoch = *epoch;
        let notes = segment.notes.clone();
        // Unmovable ones are looked at again only after another such time.
        let ids = self.ids_in(epoch);
        if let Some(segment) = self.segments.get_mut(&epoch) {
            segment.closed_ms = now.monotonic_ms;
        }
        self.mover.epoch = epoch;
        self.mover.ids = ids;
        for id in notes {
            self.say_note_again(now, epoch, id);
        }
    }

    /// Live messages with a record in `epoch`. A part's message may have its last record elsewhere,
    /// hence the walk over the index: once per survivor age and segment.
    fn ids_in(&self, epoch: Epoch) -> Vec<MessageId> {
        let mut ids: Vec<MessageId> = self
            .index
            .iter()
            .filter(|(_, entry)| {
                matches!(entry.state, State::Live { .. })
                    && entry.places.as_slice().iter().any(|place| place.epoch == epoch)
            })
            .map(|(id, _)| *id)
            .collect();
        // Oldest last, that is first to go; and the same order in every run of a seed.
        ids.sort_unstable_by(|left, right| right.cmp(left));
        ids
    }

    fn say_note_again(&mut self, now: Now, epoch: Epoch, id: MessageId) {
        let Some(entry) = self.index.get(&id) else { return };
        let State::Live { note: Some(note), .. } = &entry.state else { return };
        if note.at == Some(epoch) {
            self.mark_dirty(now, id);
        }
    }

    /// Takes the next step of a move, if one is due.
    pub(super) fn step_mover(&mut self, _now: Now) {
        loop {
            let Some(current) = &mut self.mover.current else {
                if !self.next_move() {
                    return;
                }
                continue;
            };
            match current.step {
                Step::Reading | Step::Appending => return,
                Step::Read if current.at < current.places.len() => {
                    let place = current.places[current.at];
                    let Some(block) = self.pool.take(page_bytes(place.pages)) else { return };
                    current.step = Step::Reading;
                    self.emit(Operation::Read { place, block });
                    return;
                }
                Step::Read | Step::Failed => self.end_move(),
            }
        }
    }

    fn next_move(&mut self) -> bool {
        let Some(id) = self.mover.ids.pop() else { return false };
        let Some(entry) = self.index.get(&id) else { return true };
        let places = entry.places.as_slice().to_vec();
        let is_here = places.iter().any(|place| place.epoch == self.mover.epoch);
        if is_here && matches!(entry.state, State::Live { .. }) {
            let draft = self.draft();
            self.mover.current = Some(Move { id, draft, places, at: 0, step: Step::Read });
        }
        true
    }

    fn end_move(&mut self) {
        if let Some(current) = self.mover.current.take() {
            self.abandon(current.draft);
            self.forget_if_over(current.id);
        }
    }

    /// A record to move was read: check it and append it anew.
    pub(super) fn moved_read(
        &mut self,
        _now: Now,
        place: Place,
        result: Result<(), Fault>,
        mut block: P::Block,
    ) {
        let sealer = self.sealer(place.epoch);
        let salt = self.salt(place.epoch);
        let is_settled = |log: &Self, id| log.places(id).is_none();
        let Some(current) = &mut self.mover.current else { return };
        let (id, draft) = (current.id, current.draft);
        let opened = result
            .ok()
            .zip(salt)
            .and_then(|((), salt)| open_record(place, salt, sealer.as_deref(), &mut block).ok());
        let Some(header) = opened else {
            current.step = Step::Failed;
            self.counters.unreadable += 1;
            return;
        };
        if is_settled(self, id) {
            if let Some(current) = &mut self.mover.current {
                current.step = Step::Failed;
            }
            return;
        }
        if let Some(current) = &mut self.mover.current {
            current.at += 1;
            current.step = Step::Appending;
        }
        let last = (header.kind == Kind::Message).then(|| Last {
            id,
            parts: header.parts_count(),
            meta_bytes: header.meta(),
        });
        let content_bytes = header.content();
        self.append_as(INTERNAL, Append { draft, block, content_bytes, last }, true);
    }

    /// The copy failed, but may have reached the disk: its message's settle must outlive it.
    pub(super) fn copy_may_exist(&mut self, epoch: Epoch, id: MessageId) {
        let Some(entry) = self.index.get_mut(&id) else { return };
        entry.copies.add(epoch);
        if let Some(segment) = self.segments.get_mut(&epoch) {
            segment.holds.push(id);
        }
    }

    /// The new records of a moved message are durable: they are its place from now on.
    pub(super) fn message_moved(&mut self, id: MessageId, places: Places) {
        self.counters.moved += 1;
        let new_epoch = places.as_slice()[places.as_slice().len() - 1].epoch;
        let is_live = self.places(id).is_some();
        let garbage = match self.index.get_mut(&id) {
            Some(entry) => {
                entry.copies.add(new_epoch);
                if is_live { std::mem::replace(&mut entry.places, places) } else { places }
            }
            None => places,
        };
        for place in garbage.as_slice() {
            self.drop_record(place.epoch, place.pages);
        }
    }
}

/// Checks that `record` is the one at `place`, whole and authentic, and opens it in place.
pub(super) fn open_record(
    place: Place,
    salt: [u8; super::seal::SALT_BYTES],
    sealer: Option<&super::seal::Sealer>,
    record: &mut [u8],
) -> Result<Header, record::Invalid> {
    let header = Header::decode(record)?;
    let is_that_one = header.epoch == place.epoch
        && header.salt == salt
        && header.sequence == place.sequence
        && header.pages == place.pages
        && header.content_bytes == place.content_bytes;
    if !is_that_one || record.len() < HEADER_BYTES {
        return Err(record::Invalid::NotARecord);
    }
    header.verify(record)?;
    header.open(sealer, record)?;
    Ok(header)
}

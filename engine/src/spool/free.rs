//! Giving segments back: whole ones, once nothing in them is needed.
//!
//! Invariants
//! - A settle lies in another segment than the record it ends. It is needed until that record's
//!   segment is durably gone: only then may the settle's own segment go, or the message would come
//!   back from the dead at the next start. Where that blocks a segment for long, the settles are
//!   written again further on (17 bytes each) and the segment goes.
//! - "Durably gone" is the directory synced after the rename or the removal, reported without error.
//!
//! Failures: a free that fails is tried again at leisure; nothing waits for it but disk space.

use super::log::{Fault, Log, Next, Now, Operation, Pool, State};
use super::segment::{Epoch, Stage};

impl<P: Pool> Log<P> {
    /// Starts to free `epoch` if nothing in it is needed any more.
    pub(super) fn free_if_dead(&mut self, epoch: Epoch) {
        let Some(segment) = self.segments.get(&epoch) else { return };
        let is_dead = segment.stage == Stage::Closed && segment.live_records == 0;
        let waits = segment.free_after_ms > 0 || !self.is_restated_after(epoch);
        if !is_dead || waits || self.guards_others(epoch) {
            return;
        }
        self.start_free(epoch);
    }

    fn start_free(&mut self, epoch: Epoch) {
        let recyclable = self.spares.len() < self.limits.spares_max;
        let Some(segment) = self.segments.get_mut(&epoch) else { return };
        segment.stage = Stage::Freeing;
        let same_size = segment.capacity_pages == self.limits.segment_pages;
        let salt = segment.salt;
        let spare = (recyclable && same_size && !segment.preserved).then_some(self.next_spare);
        self.next_spare += u64::from(spare.is_some());
        self.emit(Operation::Free { epoch, salt, spare });
    }

    /// The newest statements about segments in which a group failed never go first: what was refused
    /// could come back. That holds back one segment at most.
    fn is_restated_after(&self, epoch: Epoch) -> bool {
        let matters =
            self.segments.iter().any(|(other, segment)| *other != epoch && segment.failed);
        !matters || self.segments.range(epoch + 1..).any(|(_, later)| later.durable_pages > 0)
    }

    /// Some settle in this segment still keeps a record of another segment dead.
    fn guards_others(&self, epoch: Epoch) -> bool {
        let Some(segment) = self.segments.get(&epoch) else { return false };
        segment.settles.iter().any(|id| {
            self.index.get(id).is_some_and(|entry| {
                matches!(entry.state, State::Settled { at: Some(at), .. } if at == epoch)
                    && entry.copies.iter().any(|copy| copy != epoch)
            })
        })
    }

    /// A segment is gone, durably, or could not be freed.
    pub(super) fn freed(
        &mut self,
        now: Now,
        epoch: Epoch,
        spare: Option<u64>,
        result: Result<(), Fault>,
    ) {
        if result.is_err() {
            if let Some(segment) = self.segments.get_mut(&epoch) {
                segment.stage = Stage::Closed;
                segment.free_after_ms = now.monotonic_ms + self.limits.retry_ms;
            }
            return;
        }
        let Some(segment) = self.segments.remove(&epoch) else { return };
        self.counters.freed += 1;
        if let Some(spare) = spare {
            self.spares.push(spare);
        }
        if matches!(self.next, Next::Failed { fault: Fault::Full, .. }) {
            self.next = Next::None;
        }
        for id in segment.holds {
            self.forget_copy(id, epoch);
        }
        self.free_all_dead(now);
    }

    fn forget_copy(&mut self, id: super::MessageId, epoch: Epoch) {
        if let Some(entry) = self.index.get_mut(&id) {
            entry.copies.remove(epoch);
            self.forget_if_over(id);
        }
    }

    /// A settled message of which nothing is left on disk needs no settle any more, unless a copy of
    /// it is on its way just now.
    pub(super) fn forget_if_over(&mut self, id: super::MessageId) {
        let is_over = self.index.get(&id).is_some_and(|entry| {
            entry.copies.is_empty() && matches!(entry.state, State::Settled { .. })
        });
        if is_over && !self.mover.is_moving(id) {
            self.release(id);
            self.index.remove(&id);
        }
    }

    /// Looks at all closed segments: after one went, at each tick.
    pub(super) fn free_all_dead(&mut self, now: Now) {
        let closed: Vec<Epoch> = self
            .segments
            .iter()
            .filter(|(_, segment)| segment.stage == Stage::Closed && segment.live_records == 0)
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in closed {
            let Some(segment) = self.segments.get_mut(&epoch) else { continue };
            if segment.free_after_ms > now.monotonic_ms {
                continue;
            }
            segment.free_after_ms = 0;
            let age = now.monotonic_ms.saturating_sub(segment.closed_ms);
            if age >= self.limits.grave_age_ms && self.guards_others(epoch) {
                self.say_settles_again(now, epoch);
            }
            self.free_if_dead(epoch);
        }
    }

    /// Writes the settles of `epoch` that are still needed once more, further on.
    fn say_settles_again(&mut self, now: Now, epoch: Epoch) {
        let Some(segment) = self.segments.get(&epoch) else { return };
        let ids: Vec<_> = segment
            .settles
            .iter()
            .copied()
            .filter(|id| {
                self.index.get(id).is_some_and(|entry| {
                    matches!(entry.state, State::Settled { at: Some(at), .. } if at == epoch)
                        && !entry.queued
                })
            })
            .collect();
        for id in ids {
            self.mark_dirty(now, id);
        }
    }
}

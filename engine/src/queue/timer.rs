//! Due times: a binary heap whose entries can be moved and removed, at most one a delivery.
//!
//! A lazy heap would keep the expiry of every delivered message for days; this one holds exactly
//! the deliveries that wait for something.

use slab::Slab;

use super::list::NONE;

/// Something that has at most one due time.
pub(super) trait Timed {
    /// Where in the heap the due time stands, or [`NONE`].
    fn place(&mut self) -> &mut u32;
}

/// The due times of a slab's entries.
#[derive(Default)]
pub(super) struct Timers {
    heap: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    due_ms: u64,
    index: u32,
}

impl Timers {
    /// Returns the earliest due time and whose it is.
    pub(super) fn first(&self) -> Option<(u64, u32)> {
        self.heap.first().map(|entry| (entry.due_ms, entry.index))
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Entry>()
    }

    /// Sets the due time of an entry, in place of the one it had.
    pub(super) fn set<T: Timed>(&mut self, slab: &mut Slab<T>, index: u32, due_ms: u64) {
        let place = *slab[index as usize].place();
        let at = if place == NONE {
            self.heap.push(Entry { due_ms, index });
            self.heap.len() - 1
        } else {
            self.heap[place as usize].due_ms = due_ms;
            place as usize
        };
        let at = self.up(slab, at);
        self.down(slab, at);
    }

    /// Removes the due time of an entry, if it has one.
    pub(super) fn clear<T: Timed>(&mut self, slab: &mut Slab<T>, index: u32) {
        let place = std::mem::replace(slab[index as usize].place(), NONE);
        if place == NONE {
            return;
        }
        let at = place as usize;
        debug_assert_eq!(self.heap[at].index, index, "the place is where the entry is");
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.up(slab, at);
            self.down(slab, at);
        }
    }

    /// Moves the entry at `at` up to where it belongs; returns where.
    fn up<T: Timed>(&mut self, slab: &mut Slab<T>, mut at: usize) -> usize {
        while at > 0 && self.heap[at].due_ms < self.heap[(at - 1) / 2].due_ms {
            self.heap.swap(at, (at - 1) / 2);
            self.note(slab, at);
            at = (at - 1) / 2;
        }
        self.note(slab, at);
        at
    }

    fn down<T: Timed>(&mut self, slab: &mut Slab<T>, mut at: usize) {
        loop {
            let children = 2 * at + 1..(2 * at + 3).min(self.heap.len());
            let Some(child) = children.min_by_key(|&child| self.heap[child].due_ms) else { break };
            if self.heap[child].due_ms >= self.heap[at].due_ms {
                break;
            }
            self.heap.swap(at, child);
            self.note(slab, at);
            at = child;
        }
        self.note(slab, at);
    }

    #[allow(clippy::cast_possible_truncation, reason = "as many entries as the slab, under 2^32")]
    fn note<T: Timed>(&self, slab: &mut Slab<T>, at: usize) {
        *slab[self.heap[at].index as usize].place() = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Timed for u32 {
        fn place(&mut self) -> &mut u32 {
            self
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_set(steps in prop::collection::vec((0u32..40, 0u64..50), 1..300)) {
            let mut slab: Slab<u32> = (0..40).map(|key| (key, NONE)).collect();
            let mut timers = Timers::default();
            let mut model = BTreeSet::new();
            for (index, due_ms) in steps {
                model.retain(|&(_, other)| other != index);
                if due_ms < 10 {
                    timers.clear(&mut slab, index);
                } else {
                    timers.set(&mut slab, index, due_ms);
                    model.insert((due_ms, index));
                }
                prop_assert_eq!(timers.heap.len(), model.len());
                let earliest = model.first().map(|&(due_ms, _)| due_ms);
                prop_assert_eq!(timers.first().map(|(due_ms, _)| due_ms), earliest);
            }
        }
    }
}

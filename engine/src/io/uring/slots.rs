//! Where operations in flight live: a slab whose keys survive reuse.
//!
//! The kernel hands back 64 bits with each completion. They carry the slot's index and the generation
//! it had, so that a completion for an operation that has ended never reaches its successor in the
//! same slot, and a cancel never hits it.

/// Names one occupant of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// What a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// One submission, one completion.
    Operation(Key),
    /// A multishot receive.
    Receive(Key),
    /// A multishot accept.
    Accept(Key),
    /// Nobody waits: cancels, and closes of dropped streams.
    Ignored,
}

const KIND_SHIFT: u32 = 60;
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = (1 << (KIND_SHIFT - GENERATION_SHIFT)) - 1;

impl Tag {
    /// The 64 bits for the kernel: 4 of kind, 28 of generation, 32 of index.
    pub(super) fn to_user_data(self) -> u64 {
        let (kind, Key { index, generation }) = match self {
            Self::Operation(key) => (0, key),
            Self::Receive(key) => (1, key),
            Self::Accept(key) => (2, key),
            Self::Ignored => (3, Key { index: 0, generation: 0 }),
        };
        (kind << KIND_SHIFT) | (u64::from(generation) << GENERATION_SHIFT) | u64::from(index)
    }

    /// Reads them back; what we did not write reads as `Ignored`.
    pub(super) fn from_user_data(bits: u64) -> Self {
        let low = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        let generation = low(bits >> GENERATION_SHIFT) & GENERATION_MASK;
        let key = Key { index: low(bits), generation };
        match bits >> KIND_SHIFT {
            0 => Self::Operation(key),
            1 => Self::Receive(key),
            2 => Self::Accept(key),
            _ => Self::Ignored,
        }
    }
}

/// A slab with generations.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    /// Occupied slots.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Puts `value` into a free slot, the one that was freed last.
    pub(super) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.value = Some(value);
            return Key { index, generation: entry.generation };
        }
        let index =
            u32::try_from(self.entries.len()).expect("fewer than 2^32 operations at a time");
        self.entries.push(Entry { generation: 0, value: Some(value) });
        Key { index, generation: 0 }
    }

    /// The occupant, unless it has gone.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation == key.generation { entry.value.as_mut() } else { None }
    }

    /// Takes the occupant out, unless it has gone; its key is dead from now on.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        self.free.push(key.index);
        Some(value)
    }

    /// All occupants, in no order that means anything.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|entry| entry.value.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tags_survive_the_kernel(index: u32, generation in 0..=GENERATION_MASK) {
            let key = Key { index, generation };
            for tag in [Tag::Operation(key), Tag::Receive(key), Tag::Accept(key), Tag::Ignored] {
                prop_assert_eq!(Tag::from_user_data(tag.to_user_data()), tag);
            }
        }

        #[test]
        fn dead_keys_stay_dead(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 1..300)) {
            let mut slots = Slots::new();
            let mut live: Vec<(Key, usize)> = Vec::new();
            let mut dead: Vec<Key> = Vec::new();
            for (number, (insert, choice)) in steps.into_iter().enumerate() {
                if insert || live.is_empty() {
                    live.push((slots.insert(number), number));
                } else {
                    let (key, value) = live.swap_remove(usize::from(choice) % live.len());
                    prop_assert_eq!(slots.remove(key), Some(value));
                    dead.push(key);
                }
                for key in &dead {
                    prop_assert!(slots.get_mut(*key).is_none());
                    prop_assert!(slots.remove(*key).is_none());
                }
                for (key, value) in &live {
                    prop_assert_eq!(slots.get_mut(*key).copied(), Some(*value));
                }
                prop_assert_eq!(slots.iter_mut().count(), live.len());
            }
        }
    }
}

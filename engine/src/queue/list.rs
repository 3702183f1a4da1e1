//! Doubly linked lists through slab entries: exact removal in constant time, without allocation.
//!
//! An entry holds one [`Link`] for each list it can be in; the list's user names it by a function.

use slab::Slab;

/// An entry's place in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    prev: u32,
    next: u32,
}

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self { prev: NONE, next: NONE }
    }
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE }
    }
}

/// Finds the link of one list in an entry.
pub(super) type LinkOf<T> = fn(&mut T) -> &mut Link;

impl List {
    pub(super) fn is_empty(self) -> bool {
        self.head == NONE
    }

    pub(super) fn first(self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(super) fn push_back<T>(&mut self, slab: &mut Slab<T>, index: u32, link: LinkOf<T>) {
        *link(&mut slab[index as usize]) = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = index,
            tail => link(&mut slab[tail as usize]).next = index,
        }
        self.tail = index;
    }

    pub(super) fn push_front<T>(&mut self, slab: &mut Slab<T>, index: u32, link: LinkOf<T>) {
        *link(&mut slab[index as usize]) = Link { prev: NONE, next: self.head };
        match self.head {
            NONE => self.tail = index,
            head => link(&mut slab[head as usize]).prev = index,
        }
        self.head = index;
    }

    /// Takes out an entry that is in this list.
    pub(super) fn unlink<T>(&mut self, slab: &mut Slab<T>, index: u32, link: LinkOf<T>) {
        let Link { prev, next } = std::mem::take(link(&mut slab[index as usize]));
        match prev {
            NONE => self.head = next,
            prev => link(&mut slab[prev as usize]).next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => link(&mut slab[next as usize]).prev = prev,
        }
    }

    /// Moves the first entry to the end.
    pub(super) fn rotate<T>(&mut self, slab: &mut Slab<T>, link: LinkOf<T>) {
        if self.head != self.tail {
            let first = self.head;
            self.unlink(slab, first, link);
            self.push_back(slab, first, link);
        }
    }

    /// Walks the entries in order.
    pub(super) fn iter<T>(self, slab: &Slab<T>, link: fn(&T) -> Link) -> impl Iterator<Item = u32> {
        std::iter::successors(self.first(), move |&at| {
            let next = link(&slab[at as usize]).next;
            (next != NONE).then_some(next)
        })
    }
}

/// No entry: slab indexes stay below (`schedule::insert` asserts it).
pub(super) const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_removal() {
        let mut slab: Slab<Link> = Slab::new();
        let mut list = List::default();
        let link: LinkOf<Link> = |entry| entry;
        for index in 0..4 {
            slab.insert(Link::default());
            list.push_back(&mut slab, index, link);
        }
        list.rotate(&mut slab, link);
        let order =
            |list: List, slab: &Slab<Link>| list.iter(slab, |&link| link).collect::<Vec<_>>();
        assert_eq!(order(list, &slab), [1, 2, 3, 0]);
        list.unlink(&mut slab, 2, link);
        list.unlink(&mut slab, 0, link);
        list.push_front(&mut slab, 2, link);
        assert_eq!(order(list, &slab), [2, 1, 3]);
        for index in [2, 3, 1] {
            list.unlink(&mut slab, index, link);
        }
        assert!(list.is_empty());
        list.rotate(&mut slab, link);
        assert_eq!(list.first(), None);
    }
}

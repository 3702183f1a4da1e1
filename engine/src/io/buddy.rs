//! Buddy allocation of page runs: pure book-keeping, no memory is touched.
//!
//! Runs are 2^order pages, order 0 to [`ORDER_MAX`], aligned to their own size. Freed runs merge with
//! their buddy at once, so memory that has all come back is again made of largest runs only.
//!
//! Invariants: a page is in exactly one run, free or taken; a free run is on the list of its order;
//! no free run has a free buddy of the same order (except at the top). Freeing what is not taken is a
//! bug of ours and panics.

/// Largest run: 2^6 pages = 256 KiB.
pub(super) const ORDER_MAX: u8 = 6;

const RUN_PAGES_MAX: u32 = 1 << ORDER_MAX;
const ORDERS: usize = ORDER_MAX as usize + 1;
const NONE: u32 = u32::MAX;

/// What the first page of a run is; pages inside a run are `Inside`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Inside,
    Free(u8),
    Taken(u8),
}

#[derive(Clone, Copy, Debug)]
struct Page {
    head: Head,
    next: u32,
    previous: u32,
}

/// Which page runs of one arena are free.
#[derive(Debug)]
pub(super) struct Buddy {
    pages: Vec<Page>,
    lists: [u32; ORDERS],
    free_pages: u32,
}

impl Buddy {
    /// Makes `page_count` (a multiple of the largest run) free pages.
    pub(super) fn new(page_count: u32) -> Self {
        assert_eq!(page_count % RUN_PAGES_MAX, 0, "an arena is made of whole largest runs");
        let empty = Page { head: Head::Inside, next: NONE, previous: NONE };
        let pages = vec![empty; page_count as usize];
        let mut buddy = Self { pages, lists: [NONE; ORDERS], free_pages: page_count };
        // Pushed last to first, so that low addresses are taken first and stay warm.
        for run in (0..page_count / RUN_PAGES_MAX).rev() {
            buddy.push(run * RUN_PAGES_MAX, ORDER_MAX);
        }
        buddy
    }

    /// Takes a run of 2^`order` pages and returns its first page, or `None` when there is none.
    pub(super) fn take(&mut self, order: u8) -> Option<u32> {
        let found = (order..=ORDER_MAX).find(|&o| self.lists[usize::from(o)] != NONE)?;
        let page = self.lists[usize::from(found)];
        self.unlink(page, found);
        // Each split gives back the upper half, one order smaller.
        for half in (order..found).rev() {
            self.push(page + (1 << half), half);
        }
        self.pages[page as usize].head = Head::Taken(order);
        self.free_pages -= 1 << order;
        Some(page)
    }

    /// Gives back the run that `take` returned as `page`.
    ///
    /// # Panics
    /// When `page` does not begin a taken run of that order: a double free is our bug.
    pub(super) fn give(&mut self, page: u32, order: u8) {
        let head = self.pages[page as usize].head;
        assert_eq!(head, Head::Taken(order), "page {page} is not a taken run of order {order}");
        self.free_pages += 1 << order;
        let (mut page, mut order) = (page, order);
        while order < ORDER_MAX {
            let other = page ^ (1 << order);
            if self.pages[other as usize].head != Head::Free(order) {
                break;
            }
            self.unlink(other, order);
            let upper = page.max(other);
            self.pages[upper as usize].head = Head::Inside;
            page = page.min(other);
            order += 1;
        }
        self.push(page, order);
    }

    /// Pages not taken.
    pub(super) fn free_pages(&self) -> u32 {
        self.free_pages
    }

    fn push(&mut self, page: u32, order: u8) {
        let next = self.lists[usize::from(order)];
        self.pages[page as usize] = Page { head: Head::Free(order), next, previous: NONE };
        if next != NONE {
            self.pages[next as usize].previous = page;
        }
        self.lists[usize::from(order)] = page;
    }

    fn unlink(&mut self, page: u32, order: u8) {
        let Page { head, next, previous } = self.pages[page as usize];
        debug_assert_eq!(head, Head::Free(order));
        if previous == NONE {
            self.lists[usize::from(order)] = next;
        } else {
            self.pages[previous as usize].next = next;
        }
        if next != NONE {
            self.pages[next as usize].previous = previous;
        }
        self.pages[page as usize] = Page { head: Head::Inside, next: NONE, previous: NONE };
    }
}

/// Smallest order whose run holds `bytes`, or `None` above the largest run.
pub(super) fn order_for(bytes: usize, page_bytes: usize) -> Option<u8> {
    let pages = bytes.max(1).div_ceil(page_bytes).next_power_of_two();
    let order = u8::try_from(pages.trailing_zeros()).ok()?;
    (order <= ORDER_MAX).then_some(order)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_round_up_to_powers_of_two() {
        let cases = [
            (0, 0),
            (1, 0),
            (4096, 0),
            (4097, 1),
            (8192, 1),
            (8193, 2),
            (200_000, 6),
            (262_144, 6),
        ];
        for (bytes, order) in cases {
            assert_eq!(order_for(bytes, 4096), Some(order), "{bytes} bytes");
        }
        assert_eq!(order_for(262_145, 4096), None);
    }

    #[test]
    #[should_panic(expected = "not a taken run")]
    fn a_double_free_panics() {
        let mut buddy = Buddy::new(64);
        let page = buddy.take(2).unwrap();
        buddy.give(page, 2);
        buddy.give(page, 2);
    }

    #[test]
    #[should_panic(expected = "not a taken run")]
    fn freeing_with_another_order_panics() {
        let mut buddy = Buddy::new(64);
        let page = buddy.take(2).unwrap();
        buddy.give(page, 1);
    }

    /// The oracle: one owner mark per page, searched linearly.
    struct Naive(Vec<bool>);

    impl Naive {
        fn can_take(&self, order: u8) -> bool {
            self.0.chunks(1 << order).any(|run| run.iter().all(|taken| !taken))
        }

        fn mark(&mut self, page: u32, order: u8, taken: bool) {
            let first = page as usize;
            assert_eq!(first % (1 << order), 0, "a run is aligned to its size");
            for mark in &mut self.0[first..first + (1 << order)] {
                assert_ne!(*mark, taken, "runs overlap");
                *mark = taken;
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(
            steps in prop::collection::vec((any::<bool>(), 0..=ORDER_MAX, any::<u16>()), 1..400),
        ) {
            let mut buddy = Buddy::new(256);
            let mut naive = Naive(vec![false; 256]);
            let mut held = Vec::new();
            for (take, order, choice) in steps {
                if take || held.is_empty() {
                    // Merging at once means: whenever an aligned free run exists, it is found.
                    let possible = naive.can_take(order);
                    let taken = buddy.take(order);
                    prop_assert_eq!(taken.is_some(), possible);
                    if let Some(page) = taken {
                        naive.mark(page, order, true);
                        held.push((page, order));
                    }
                } else {
                    let (page, order) = held.swap_remove(usize::from(choice) % held.len());
                    naive.mark(page, order, false);
                    buddy.give(page, order);
                }
                let free = naive.0.iter().filter(|taken| !**taken).count();
                prop_assert_eq!(buddy.free_pages() as usize, free);
            }
            for (page, order) in held {
                buddy.give(page, order);
            }
            prop_assert_eq!(buddy.free_pages(), 256);
            for _ in 0..4 {
                prop_assert!(buddy.take(ORDER_MAX).is_some(), "all memory merged again");
            }
        }
    }
}

//! When to wait inside the ring until more has come together. Pure: counts in, a decision out.
//!
//! A server that takes each completion as it comes enters the kernel for every one and is busy doing so
//! long before it is loaded. So when enough arrives, the driver waits a moment inside its entry: the
//! kernel then wakes it once for many completions. The price is latency, bounded by
//! [`super::super::IoOptions::gather_us`] (twice that where large content arrives), and paid only where it
//! buys something:
//!
//! - with fewer than twice [`GAIN_MIN`] streams nothing is ever waited for;
//! - a wait that brought less than [`GAIN_MIN`] completions is followed by a rest of [`REST_MIN`] to
//!   [`REST_MAX`] turns, twice as many after each failure, or until as many come by themselves;
//! - what has arrived already counts, so a busy server does not wait at all.
//!
//! Before it waits, the driver lets every task that is ready run, at most [`LAPS_MAX`] times round.

/// Completions that make a wait worth while, beyond those of our own submissions.
const GAIN_MIN: usize = 4;

/// Streams whose state, the kernel's and ours, stays in a core's cache from one turn to the next.
const NEAR_MAX: usize = 128;

/// Completions that end a wait early, with more streams than that: each should be answered while its state
/// is still near, so a turn must not gather too many.
const WANTED_FAR: usize = 24;

/// Bytes a completion from which content counts as large: half a receive buffer.
const BULK_BYTES: u64 = 16 << 10;

/// Turns without a wait after one that brought too little.
const REST_MIN: u32 = 8;
const REST_MAX: u32 = 256;

/// Times the driver goes to the end of the line of ready tasks while they still submit.
const LAPS_MAX: u32 = 3;

/// The driver's memory of what waiting has brought.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Turns to go before the next wait.
    rest: u32,
    /// The last rest's length.
    last_rest: u32,
    laps: u32,
    /// Submissions pushed when the last lap began.
    pushed: u64,
    /// The last entry brought large content.
    is_bulk: bool,
}

impl Gather {
    /// Whether the driver should go to the end of the line once more: it would wait now, and tasks have
    /// submitted since it last looked. `pushed` counts submissions for all time.
    pub(super) fn wants_lap(&mut self, streams: usize, pushed: u64) -> bool {
        let is_quiet = std::mem::replace(&mut self.pushed, pushed) == pushed;
        if is_quiet || self.rest > 0 || streams < 2 * GAIN_MIN || self.laps == LAPS_MAX {
            self.laps = 0;
            return false;
        }
        self.laps += 1;
        true
    }

    /// Whether large content is what arrives: waiting twice as long costs its senders nothing, for they
    /// send on meanwhile.
    pub(super) fn is_bulk(&self) -> bool {
        self.is_bulk
    }

    /// How many completions to wait for in this turn, beyond those of its own submissions.
    pub(super) fn wanted(&mut self, streams: usize) -> Option<usize> {
        if streams < 2 * GAIN_MIN {
            return None;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        Some(match (streams <= NEAR_MAX, self.is_bulk) {
            (true, false) => streams * 3 / 4,
            (true, true) => streams * 2,
            (false, _) => WANTED_FAR,
        })
    }

    /// Notes what an entry has brought, beyond the completions of its own submissions, with the bytes
    /// that were received. Says whether the next turn should wait at once.
    pub(super) fn note(&mut self, waited: bool, gained: usize, bytes: u64) -> bool {
        self.is_bulk = gained >= GAIN_MIN && bytes / gained as u64 >= BULK_BYTES;
        if gained >= GAIN_MIN {
            (self.rest, self.last_rest) = (0, 0);
        } else if waited {
            self.last_rest = (2 * self.last_rest).clamp(REST_MIN, REST_MAX);
            self.rest = self.last_rest;
        }
        waited && self.rest == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_streams_are_never_made_to_wait() {
        let mut gather = Gather::default();
        for pushed in 0..1_000 {
            assert!(!gather.wants_lap(2 * GAIN_MIN - 1, pushed));
            assert_eq!(gather.wanted(2 * GAIN_MIN - 1), None);
        }
    }

    #[test]
    fn waiting_in_vain_becomes_rare() {
        let mut gather = Gather::default();
        let waits = (0..10_000).filter(|_| {
            let waits = gather.wanted(1_000).is_some();
            if waits {
                gather.note(true, GAIN_MIN - 1, 0);
            }
            waits
        });
        assert!((40..50).contains(&waits.count()));
        assert!(gather.last_rest == REST_MAX);
    }

    #[test]
    fn a_gain_is_followed_by_the_next_wait() {
        let mut gather = Gather::default();
        assert_eq!(gather.wanted(12), Some(9));
        assert!(!gather.note(true, 0, 0));
        while gather.wanted(12).is_none() {}
        assert!(gather.note(true, GAIN_MIN, 0));
        assert_eq!(gather.wanted(2_000), Some(WANTED_FAR));
        assert_eq!(gather.last_rest, 0);
    }

    #[test]
    fn a_rest_ends_when_much_arrives() {
        let mut gather = Gather::default();
        gather.note(true, 0, 0);
        assert!(!gather.note(false, GAIN_MIN - 1, 0));
        assert_eq!(gather.wanted(100), None);
        assert!(!gather.note(false, GAIN_MIN, 0));
        assert!(gather.wanted(100).is_some());
    }

    #[test]
    fn large_content_is_waited_for_longer() {
        let mut gather = Gather::default();
        gather.note(true, 10, 10 * BULK_BYTES);
        assert!(gather.is_bulk());
        assert_eq!(gather.wanted(100), Some(200));
        assert_eq!(gather.wanted(1_000), Some(WANTED_FAR));
        gather.note(true, 10, 10 * BULK_BYTES - 1);
        assert!(!gather.is_bulk());
        assert_eq!(gather.wanted(100), Some(75));
    }

    #[test]
    fn laps_end_when_tasks_are_quiet_or_never() {
        let mut gather = Gather::default();
        assert!(gather.wants_lap(100, 5));
        assert!(!gather.wants_lap(100, 5));
        let laps = (6..).take_while(|&pushed| gather.wants_lap(100, pushed)).count();
        assert_eq!(laps, LAPS_MAX as usize);
    }
}

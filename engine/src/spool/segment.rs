//! One segment in memory: what it holds, what of it is still needed, and whether it may be freed.
//!
//! Invariants: a segment is freed whole or not at all, and only when no live record and no live
//! note lies in it and no settle in it is still needed to keep a message of another segment dead.
//! Must never: count a record as live before its group is durable.

use std::rc::Rc;

use super::id::MessageId;
use super::record::Closed;
use super::seal::{SALT_BYTES, Sealer};

/// A segment's incarnation; rises over the life of a log.
pub(super) type Epoch = u64;

/// Where one record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: Epoch,
    pub(super) page: u32,
    pub(super) pages: u32,
    pub(super) sequence: u64,
    pub(super) content_bytes: u32,
}

/// The records of one message, in the order of its content.
#[derive(Clone, Debug)]
pub(super) enum Places {
    /// The usual case costs no allocation.
    One(Place),
    Many(Box<[Place]>),
}

impl Places {
    pub(super) fn new(earlier: Vec<Place>, last: Place) -> Self {
        if earlier.is_empty() {
            return Self::One(last);
        }
        Self::Many(earlier.into_iter().chain([last]).collect())
    }

    pub(super) fn as_slice(&self) -> &[Place] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }

    pub(super) fn content_bytes(&self) -> u64 {
        self.as_slice().iter().map(|place| u64::from(place.content_bytes)).sum()
    }
}

/// What may be done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Preallocated and named in the synced directory; nothing written yet.
    Ready,
    /// Groups are appended to it.
    Active,
    /// Full, failed or inherited: never written again.
    Closed,
    /// A free is under way.
    Freeing,
}

/// One segment's bookkeeping.
pub(super) struct Segment {
    pub(super) stage: Stage,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) sealer: Option<Rc<Sealer>>,
    pub(super) capacity_pages: u32,
    /// Where the next group goes. Pages before it are durable, unless a group is in flight.
    pub(super) next_page: u32,
    /// Pages that are known durable, and pages whose whole records count (see [`Closed`]).
    pub(super) durable_pages: u32,
    pub(super) kept_pages: u32,
    /// Records and notes still needed.
    pub(super) live_records: u32,
    /// Pages of the records still needed.
    pub(super) live_pages: u32,
    /// Monotonic time at which it was closed (ms).
    pub(super) closed_ms: u64,
    /// A free failed: not again before this time (ms).
    pub(super) free_after_ms: u64,
    /// A group failed in it: records beyond `kept_pages` were refused and must stay so.
    pub(super) failed: bool,
    /// A copy of the file is kept in quarantine under the same inode: delete, never recycle.
    pub(super) preserved: bool,
    /// Messages of which a record was ever written here, dead or alive.
    pub(super) holds: Vec<MessageId>,
    /// Messages whose note was written here; stale entries are recognised by the index.
    pub(super) notes: Vec<MessageId>,
    /// Messages whose settle was written here; stale entries are recognised by the index.
    pub(super) settles: Vec<MessageId>,
}

impl Segment {
    pub(super) fn new(
        stage: Stage,
        salt: [u8; SALT_BYTES],
        sealer: Option<Rc<Sealer>>,
        capacity_pages: u32,
    ) -> Self {
        Self {
            stage,
            salt,
            sealer,
            capacity_pages,
            next_page: 0,
            durable_pages: 0,
            kept_pages: 0,
            live_records: 0,
            live_pages: 0,
            closed_ms: 0,
            free_after_ms: 0,
            failed: false,
            preserved: false,
            holds: Vec::new(),
            notes: Vec::new(),
            settles: Vec::new(),
        }
    }

    pub(super) fn add_record(&mut self, pages: u32) {
        self.live_records += 1;
        self.live_pages += pages;
    }

    pub(super) fn drop_record(&mut self, pages: u32) {
        self.live_records = self.live_records.checked_sub(1).expect("each live record drops once");
        self.live_pages = self.live_pages.checked_sub(pages).expect("with its own pages");
    }

    /// No more groups: `durable` is the page up to which everything was flushed.
    pub(super) fn close(&mut self, now_ms: u64, durable: u32) {
        self.stage = Stage::Closed;
        self.closed_ms = now_ms;
        self.durable_pages = durable;
        self.kept_pages = durable;
    }

    pub(super) fn statement(&self, epoch: Epoch) -> Closed {
        Closed { epoch, durable_pages: self.durable_pages, kept_pages: self.kept_pages }
    }

    /// Few of its pages are still needed.
    pub(super) fn is_sparse(&self, live_percent_max: u32) -> bool {
        self.live_records > 0
            && u64::from(self.live_pages) * 100
                < u64::from(self.capacity_pages) * u64::from(live_percent_max)
    }
}

//! The schedule over the spooled messages: which delivery is tried when, and which comes first.
//!
//! The unit of work is a *delivery*: one message to one destination, with the recipients it has
//! there, so that they share a transaction. The caller adds deliveries once their message is
//! durable, leases them, and settles each lease; it interns destinations and applications as small
//! numbers. What a message is, where a destination lies and what a reply means, is not known here.
//!
//! ```text
//!            add                    lease                settle: Done
//!   (new) ---------> ready <-----------------> leased -----------------> (gone)
//!     |                ^        release          |
//!     | due later      | due                     | Retry       | Failed
//!     +------------> waiting <-------------------+             v
//!                      |  expiry (also from ready)          failed  -- retry_now --> ready
//!                      +--------------------------------------^      -- drop ------> (gone)
//! ```
//!
//! Order: among the lanes of a destination by weight, `urgent` first on a tie, so that none
//! starves; in a lane one application after the other, so that none crowds out the rest; of one
//! application in order of becoming ready. [`Pick::Any`] goes by weight over all destinations and
//! takes them in turn.
//!
//! Invariants, which the tests check against a naive model: every delivery is in exactly one state
//! and ends only by `settle` or `drop`; a frozen application's deliveries are never leased, never
//! expire while frozen, and keep their place; a paused destination costs the others nothing; an
//! attempt is counted for each lease that is settled.
//!
//! Pure: time is milliseconds on whatever clock the caller keeps to, randomness is a seed. No
//! operation but [`Queue::list`] and those by [`Filter`] looks at more than a few deliveries:
//! `O(log n)`, under 1 us. About 200 bytes a delivery.
//!
//! It must never lose a delivery, nor refuse one that is added: its message has been acknowledged.
//! The bound on the number of deliveries is kept by the caller at acceptance, with
//! [`Queue::room`].

mod backoff;
mod delivery;
mod lane;
mod list;
mod schedule;
mod timer;
mod view;

#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use delivery::{
    App, DeliveryId, Destination, FailReason, Lease, MessageKey, NewDelivery, Recipients, State,
};
pub use lane::{LANES, Lane, LanePolicy, WEIGHT_MAX};
pub use schedule::{
    ADVANCE_MAX, EXPIRED_PER_LEASE_MAX, Outcome, Pick, Queue, QueueOptions, Settled,
};
pub use view::{Counts, Cursor, Filter, SCAN_MAX, View};

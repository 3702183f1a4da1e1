//! What is scheduled: deliveries, their names and their states.

use std::rc::Rc;

use super::Lane;
use super::list::Link;
use super::timer::Timed;

/// A message, by its queue id's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey(pub u128);

/// A destination, interned by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination(pub u32);

/// An application, interned by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct App(pub u32);

/// A delivery. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    pub(super) index: u32,
    pub(super) serial: u64,
}

/// Indexes of recipients in the message's envelope. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// The usual case, without an allocation.
    One(u16),
    /// Any number, shared.
    Many(Rc<[u16]>),
}

impl Recipients {
    /// Returns the indexes.
    pub fn as_slice(&self) -> &[u16] {
        match self {
            Self::One(index) => std::slice::from_ref(index),
            Self::Many(indexes) => indexes,
        }
    }
}

impl From<&[u16]> for Recipients {
    fn from(indexes: &[u16]) -> Self {
        match *indexes {
            [index] => Self::One(index),
            _ => Self::Many(indexes.into()),
        }
    }
}

/// What [`super::Queue::add`] takes.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Whose delivery this is. A message may have several.
    pub message: MessageKey,
    /// Where it goes.
    pub destination: Destination,
    /// Whose message it is.
    pub app: App,
    /// The lane it takes.
    pub lane: Lane,
    /// Who gets it there; not empty.
    pub recipients: Recipients,
    /// When the message was accepted.
    pub accepted_ms: u64,
    /// Attempts made before a restart.
    pub attempts: u16,
    /// When to try first; now or earlier for a fresh message.
    pub due_ms: u64,
    /// When it fails, where that is not its lane's age; a login code's lifetime.
    pub expires_ms: Option<u64>,
}

/// Where a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Can be leased, unless its application is frozen or its destination paused.
    Ready,
    /// Waits for its due time.
    Waiting,
    /// Is being tried.
    Leased,
    /// Ended without success; kept until it is dropped or tried again by an operator.
    Failed(FailReason),
}

/// Why a delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// Settled as [`super::Outcome::Failed`].
    Refused,
    /// Became too old.
    Expired,
}

/// One attempt at a delivery. Must be given back by `settle` or `release`.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is not given back keeps its delivery leased for ever"]
pub struct Lease {
    /// Which delivery.
    pub id: DeliveryId,
    /// Of which message.
    pub message: MessageKey,
    /// To where.
    pub destination: Destination,
    /// Whose message.
    pub app: App,
    /// In which lane.
    pub lane: Lane,
    /// For whom.
    pub recipients: Recipients,
    /// Which attempt, from 1.
    pub attempt: u16,
    /// When the message was accepted.
    pub accepted_ms: u64,
}

/// The queue's own record of a delivery.
pub(super) struct Delivery {
    pub(super) message: MessageKey,
    pub(super) recipients: Recipients,
    pub(super) serial: u64,
    pub(super) accepted_ms: u64,
    /// Expiry less the time its application had been frozen when this was set: both move on
    /// together (see `schedule::expiry_ms`).
    pub(super) expires_base_ms: u64,
    pub(super) due_ms: u64,
    pub(super) site: u32,
    pub(super) app: App,
    /// Place among the due times.
    pub(super) timer: u32,
    /// Among the ready deliveries of its flow.
    pub(super) in_flow: Link,
    /// Among the deliveries of its lane that have not failed, the oldest first.
    pub(super) in_lane: Link,
    /// Among the deliveries of its message.
    pub(super) in_message: Link,
    pub(super) attempts: u16,
    pub(super) lane: Lane,
    pub(super) state: State,
    /// Dropped while leased: gone when it is settled, whatever the outcome.
    pub(super) dropped: bool,
}

impl Timed for Delivery {
    fn place(&mut self) -> &mut u32 {
        &mut self.timer
    }
}

// A million deliveries are a real case: growing this is a decision.
const _: () = assert!(size_of::<Delivery>() <= 128);

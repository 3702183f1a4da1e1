//! `[queue]`: retries, expiry and lane weights.

use std::time::Duration;

use super::app::Lane;

/// How mail waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// When a deferred delivery is tried again.
    pub retry: Retry,
    /// Age at which a message that could not be delivered has failed.
    pub expiry: PerLane<Duration>,
    /// Shares of the delivery turns when several lanes have work; at least 1 each.
    pub weights: PerLane<u32>,
    /// Accept and keep; deliver nothing.
    pub hold: bool,
}

/// Exponential back-off: `base * factor^n`, at most `max`, give or take the jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Wait after the first failed attempt.
    pub base: Duration,
    /// Growth from wait to wait, in percent: 200 doubles. At least 100.
    pub factor_percent: u32,
    /// Longest wait.
    pub max: Duration,
    /// How far a wait is moved either way at random, in percent of it. Below 100.
    pub jitter_percent: u32,
}

/// One value for each lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerLane<T> {
    /// For [`Lane::Urgent`].
    pub urgent: T,
    /// For [`Lane::Normal`].
    pub normal: T,
    /// For [`Lane::Bulk`].
    pub bulk: T,
}

impl<T: Copy> PerLane<T> {
    /// The value for `lane`.
    #[must_use]
    pub fn of(&self, lane: Lane) -> T {
        match lane {
            Lane::Urgent => self.urgent,
            Lane::Normal => self.normal,
            Lane::Bulk => self.bulk,
        }
    }
}

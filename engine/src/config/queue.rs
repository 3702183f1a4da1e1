//! `[queue]`: retries, expiry and lane weights.

use std::time::Duration;

use super::app::Lane;
use super::diagnostic::Diagnostic;
use super::read::{Section, seconds};

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

impl Default for Queue {
    fn default() -> Self {
        Self {
            retry: Retry::default(),
            expiry: PerLane {
                urgent: Duration::from_hours(4),
                normal: Duration::from_hours(48),
                bulk: Duration::from_hours(120),
            },
            weights: PerLane { urgent: 16, normal: 4, bulk: 1 },
            hold: false,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            base: Duration::from_mins(1),
            factor_percent: 200,
            max: Duration::from_hours(1),
            jitter_percent: 20,
        }
    }
}

impl Queue {
    /// Reads `[queue]`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let retry = section.table("retry", "queue.retry").map(|retry| Retry::read(&retry));
        let expiry = section.table("expiry", "queue.expiry").map(|expiry| {
            let read =
                |key, default| expiry.duration(key, seconds(60, 2_592_000)).unwrap_or(default);
            PerLane {
                urgent: read("urgent", default.expiry.urgent),
                normal: read("normal", default.expiry.normal),
                bulk: read("bulk", default.expiry.bulk),
            }
        });
        let weights = section.table("weights", "queue.weights").map(|weights| {
            let read = |key, default| {
                let weight = weights.number(key, 1..=WEIGHT_MAX);
                weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(default)
            };
            PerLane {
                urgent: read("urgent", default.weights.urgent),
                normal: read("normal", default.weights.normal),
                bulk: read("bulk", default.weights.bulk),
            }
        });
        Self {
            retry: retry.unwrap_or_default(),
            expiry: expiry.unwrap_or(default.expiry),
            weights: weights.unwrap_or(default.weights),
            hold: section.flag("hold", default.hold),
        }
    }
}

impl Retry {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let retry = Self {
            base: section.duration("base", seconds(1, 86_400)).unwrap_or(default.base),
            factor_percent: section
                .percent("factor", 100..=1_000)
                .unwrap_or(default.factor_percent),
            max: section.duration("max", seconds(1, 604_800)).unwrap_or(default.max),
            jitter_percent: section.percent("jitter", 0..=90).unwrap_or(default.jitter_percent),
        };
        if retry.max < retry.base {
            let key = if section.has("max") { "max" } else { "base" };
            let message = "the longest wait between retries is shorter than the first";
            section.context.push(Diagnostic::error(section.place(key), message));
        }
        retry
    }
}

/// More than this between two lanes is the same as never.
const WEIGHT_MAX: u64 = 1_000;

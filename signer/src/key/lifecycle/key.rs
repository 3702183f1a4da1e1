//! One key and how far it is.

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::name::Selector;

/// A key of a line, without its private half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub(super) selector: Selector,
    pub(super) record: String,
    pub(super) made_s: u64,
    pub(super) since_s: u64,
    pub(super) spread_permille: u16,
    pub(super) is_reused: bool,
    pub(super) stage: Stage,
    /// How long ago its record was last seen as it should be, where this process saw it.
    #[serde(skip)]
    pub(super) seen_ms_ago: Option<u64>,
    /// Nobody signs with it any more; known anew in each process.
    #[serde(skip)]
    pub(super) is_out_of_use: bool,
}

/// How far a key is. Waits are in milliseconds of time that was seen to pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// Made and stored; its record has not been seen everywhere.
    Generated {
        /// The longest that anybody may keep what was there before.
        ttl_ms: u64,
        /// The servers were asked before anything was published.
        is_looked: bool,
    },
    /// Its record was seen everywhere, but some may still keep what was there before.
    Published {
        /// How long to wait.
        wait_ms: u64,
        /// How long was waited.
        waited_ms: u64,
    },
    /// It can sign at any time.
    Standby,
    /// It signs.
    Active,
    /// It signs no more; what it signed is still under way.
    Draining {
        /// How long to wait.
        for_ms: u64,
        /// How long was waited since nobody signs with it.
        drained_ms: u64,
    },
    /// Its record was seen everywhere with an empty `p=` (RFC 6376 3.6.1).
    Withdrawn,
    /// Its private half is gone.
    Destroyed,
}

impl Stage {
    /// One word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Generated { .. } => "generated",
            Self::Published { .. } => "published",
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Draining { .. } => "draining",
            Self::Withdrawn => "withdrawn",
            Self::Destroyed => "destroyed",
        }
    }

    /// The word for what comes next, where anything does.
    pub fn next(&self) -> Option<&'static str> {
        Some(match self {
            Self::Generated { .. } => "published",
            Self::Published { .. } => "standby",
            Self::Standby => "active",
            Self::Active => "draining",
            Self::Draining { .. } => "withdrawn",
            Self::Withdrawn => "destroyed",
            Self::Destroyed => return None,
        })
    }

    /// The longest that anybody may keep what was there before, where that counts.
    pub(super) fn ttl_ms(&self) -> u64 {
        match self {
            Self::Generated { ttl_ms, .. } => *ttl_ms,
            _ => 0,
        }
    }

    pub(super) fn is_before_use(&self) -> bool {
        matches!(self, Self::Generated { .. } | Self::Published { .. } | Self::Standby)
    }
}

impl Key {
    pub(super) fn new(
        selector: Selector,
        record: String,
        spread_permille: u16,
        is_reused: bool,
        now_s: u64,
    ) -> Self {
        Self {
            selector,
            record,
            made_s: now_s,
            since_s: now_s,
            spread_permille,
            is_reused,
            stage: Stage::Generated { ttl_ms: 0, is_looked: false },
            seen_ms_ago: None,
            is_out_of_use: false,
        }
    }

    /// Its selector.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// The text of its record.
    pub fn record(&self) -> &str {
        &self.record
    }

    /// How far it is.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// When it was made, in seconds since 1970.
    pub fn made_s(&self) -> u64 {
        self.made_s
    }

    /// Since when it is at this stage, in seconds since 1970.
    pub fn since_s(&self) -> u64 {
        self.since_s
    }

    /// An earlier key had its selector, and left a record with an empty `p=` there.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    pub(super) fn enter(&mut self, stage: Stage, now_s: u64) {
        if self.stage.as_str() != stage.as_str() {
            self.since_s = now_s;
        }
        self.stage = stage;
        self.seen_ms_ago = None;
    }

    /// Whether it was seen as it should be, and not long ago.
    pub(super) fn is_fresh(&self, plan: &Plan) -> bool {
        let bound_ms = plan.look_every_s.saturating_mul(1_000);
        self.seen_ms_ago.is_some_and(|seen_ms_ago| seen_ms_ago < bound_ms)
    }

    /// Whether nothing that it signed is under way.
    pub(super) fn is_drained(&self) -> bool {
        match self.stage {
            Stage::Draining { for_ms, drained_ms } => self.is_out_of_use && drained_ms >= for_ms,
            _ => false,
        }
    }
}

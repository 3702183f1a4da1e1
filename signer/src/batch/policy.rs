//! What waits for a signature, and when a pass starts: a pure state machine on microseconds.
//!
//! ```text
//! arrive ──► urgent ─┐  first lanes
//!            normal ─┼──────────────► one pass of lanes() jobs ──► finished
//!            bulk   ─┘  lanes left                  │
//!              └── waited aged_us: up to a quarter of the lanes, ahead of everything
//! ```
//!
//! A pass costs the same whatever its fill, so the rule is natural batching: whenever the signer is
//! free, whatever waits is taken. While a pass runs the next one gathers, and the busier the signer
//! the fuller its passes. There is no timer on the way of an urgent or normal job. Only bulk may
//! wait for company, at most [`PolicyOptions::max_wait_us`], and only while the signer is busy for
//! more than [`PolicyOptions::busy_percent_min`] of its time: an idle signer has nothing to save.
//!
//! Bounds, with `pass` the time of a pass and `lanes` its width; the tests hold each of them:
//!
//! - An urgent job that finds fewer than `lanes - lanes.div_ceil(4)` urgent ones before it starts
//!   at the end of the pass under way: its signature is there after at most 2 passes, at any load
//!   of the others (for one lane: after 3, for an aged job may go first).
//! - Nothing starves: normal and bulk jobs that waited [`PolicyOptions::aged_us`] have a quarter of
//!   the lanes ahead of everything, the oldest first. With `k` older normal and bulk jobs before it
//!   a job starts within `aged_us + (4 * (k + 1) / lanes + 2) * pass`, even if urgent jobs alone
//!   are more than the signer can do.
//! - A bulk job alone is delayed by at most `max_wait_us` on purpose.
//! - At most [`PolicyOptions::waiting_max`] jobs of a class wait; one more is pushed back
//!   ([`Full`]), so bulk never takes the room of urgent.

use std::collections::VecDeque;
use std::fmt;

#[cfg(test)]
mod tests;

/// How urgent a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody is waiting: first lanes, never a timer.
    Urgent,
    /// After urgent, never a timer.
    Normal,
    /// In lanes that are left; may wait for a fuller pass.
    Bulk,
}

impl Class {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    /// Returns its place in [`Class::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Urgent => 0,
            Self::Normal => 1,
            Self::Bulk => 2,
        }
    }

    /// Returns the word used in configuration and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

/// How a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyOptions {
    /// Jobs that one pass signs; [`BatchSigner::lanes`](super::BatchSigner::lanes). At least 1.
    pub lanes: usize,
    /// How long a bulk job may wait for a fuller pass under load; 0 switches that off.
    pub max_wait_us: u64,
    /// Bulk waits only while the signer is busy for more than this share of its time, in percent.
    pub busy_percent_min: u32,
    /// From this wait on a normal or bulk job may take one of the lanes kept for the aged.
    pub aged_us: u64,
    /// Most jobs of one class that wait. At least 1.
    pub waiting_max: usize,
}

impl PolicyOptions {
    /// The defaults for a signer of so many lanes.
    pub fn new(lanes: usize) -> Self {
        Self {
            lanes: lanes.max(1),
            max_wait_us: MAX_WAIT_US,
            busy_percent_min: BUSY_PERCENT_MIN,
            aged_us: AGED_US,
            waiting_max: WAITING_MAX,
        }
    }
}

/// Decides what is signed next. `T` is the caller's job, or a handle to it.
///
/// Time is handed in, in microseconds from any start; it must not run backwards, and where it does
/// it is taken as standing still.
#[derive(Debug)]
pub struct BatchPolicy<T> {
    options: PolicyOptions,
    waiting: [VecDeque<Arrived<T>>; Class::ALL.len()],
    load: Load,
    is_busy: bool,
    /// Quarters of a lane that aged jobs have saved up.
    aged_quarters: usize,
}

#[derive(Debug)]
struct Arrived<T> {
    at_us: u64,
    job: T,
}

/// A job that was taken into a pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Picked<T> {
    /// As it came.
    pub class: Class,
    /// How long it waited, in microseconds.
    pub waited_us: u64,
    /// As it came.
    pub job: T,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Sign what was picked, then say [`BatchPolicy::finished`].
    Start,
    /// Nothing before this time, in microseconds, unless something arrives.
    WaitUntil(u64),
    /// Nothing until something arrives or the pass under way has finished.
    Idle,
}

/// The bound of its class is reached; the job comes back, to be offered again later.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many jobs of this class wait for a signature as may")
    }
}

impl<T: fmt::Debug> std::error::Error for Full<T> {}

impl<T> BatchPolicy<T> {
    /// Makes a policy with nothing waiting, at time 0.
    pub fn new(options: PolicyOptions) -> Self {
        let options = PolicyOptions {
            lanes: options.lanes.max(1),
            waiting_max: options.waiting_max.max(1),
            ..options
        };
        Self {
            options,
            waiting: [VecDeque::new(), VecDeque::new(), VecDeque::new()],
            load: Load::default(),
            is_busy: false,
            aged_quarters: 0,
        }
    }

    /// Goes by another width from the next pass on: a backend that was taken out of use is
    /// replaced by a narrower one.
    pub fn set_lanes(&mut self, lanes: usize) {
        self.options.lanes = lanes.max(1);
    }

    /// Takes a job.
    ///
    /// # Errors
    ///
    /// [`Full`] gives it back where [`PolicyOptions::waiting_max`] jobs of its class wait.
    pub fn arrive(&mut self, now_us: u64, class: Class, job: T) -> Result<(), Full<T>> {
        let waiting = &mut self.waiting[class.index()];
        if waiting.len() >= self.options.waiting_max {
            return Err(Full(job));
        }
        // Times that run backwards would upset the order of age.
        let at_us = waiting.back().map_or(now_us, |last| last.at_us.max(now_us));
        waiting.push_back(Arrived { at_us, job });
        Ok(())
    }

    /// Decides, and appends what the pass is to sign to `picked`: at most
    /// [`PolicyOptions::lanes`] jobs, the urgent ones first. Nothing is appended unless the answer
    /// is [`Next::Start`].
    pub fn next(&mut self, now_us: u64, picked: &mut Vec<Picked<T>>) -> Next {
        self.load.pass_time(now_us, self.is_busy);
        if self.is_busy || self.is_empty() {
            return Next::Idle;
        }
        if let Some(until_us) = self.patience(now_us) {
            return Next::WaitUntil(until_us);
        }
        self.pick(now_us, picked);
        self.is_busy = true;
        Next::Start
    }

    /// The pass under way has ended.
    pub fn finished(&mut self, now_us: u64) {
        self.load.pass_time(now_us, self.is_busy);
        self.is_busy = false;
    }

    /// Returns how many jobs wait.
    pub fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Returns how busy the signer was, in percent: its share of busy time, where what lies
    /// [`LOAD_MEMORY_US`] back counts a third as much as now.
    pub fn busy_percent(&self) -> f64 {
        self.load.busy * 100.0
    }

    /// Until when it is worth waiting for a fuller pass; none where it is not.
    fn patience(&self, now_us: u64) -> Option<u64> {
        let [urgent, normal, bulk] = &self.waiting;
        let is_bulk_alone = urgent.is_empty() && normal.is_empty();
        if !is_bulk_alone || bulk.len() >= self.options.lanes {
            return None;
        }
        if self.busy_percent() <= f64::from(self.options.busy_percent_min) {
            return None;
        }
        let until_us = bulk.front()?.at_us.saturating_add(self.options.max_wait_us);
        (until_us > now_us).then_some(until_us)
    }

    /// Fills a pass: aged jobs in the lanes kept for them, then class by class. Urgent jobs are
    /// put first all the same: a backend may give out the first lanes earlier.
    fn pick(&mut self, now_us: u64, picked: &mut Vec<Picked<T>>) {
        let begin = picked.len();
        let end = begin + self.options.lanes;
        self.aged_quarters = (self.aged_quarters + self.options.lanes).min(self.quarters_max());
        while self.aged_quarters >= 4 && picked.len() < end {
            let Some(class) = self.aged(now_us) else { break };
            self.aged_quarters -= 4;
            self.take(now_us, class, picked);
        }
        for class in Class::ALL {
            while picked.len() < end && self.take(now_us, class, picked) {}
        }
        picked[begin..].sort_by_key(|picked| picked.class);
    }

    /// The class of the oldest job that is aged, where one is.
    fn aged(&self, now_us: u64) -> Option<Class> {
        [Class::Normal, Class::Bulk]
            .into_iter()
            .filter_map(|class| Some((self.waiting[class.index()].front()?.at_us, class)))
            .min()
            .filter(|(at_us, _)| now_us.saturating_sub(*at_us) >= self.options.aged_us)
            .map(|(_, class)| class)
    }

    fn take(&mut self, now_us: u64, class: Class, picked: &mut Vec<Picked<T>>) -> bool {
        let Some(Arrived { at_us, job }) = self.waiting[class.index()].pop_front() else {
            return false;
        };
        picked.push(Picked { class, waited_us: now_us.saturating_sub(at_us), job });
        true
    }

    /// Saved up for no more than what one pass may give, or for one job.
    fn quarters_max(&self) -> usize {
        self.options.lanes.next_multiple_of(4)
    }
}

/// The share of time that the signer was busy, fading exponentially into the past.
#[derive(Debug, Default)]
struct Load {
    /// 0 to 1.
    busy: f64,
    until_us: u64,
}

impl Load {
    /// Counts the time since the last call as busy or idle.
    fn pass_time(&mut self, now_us: u64, was_busy: bool) {
        let span_us = now_us.saturating_sub(self.until_us);
        if span_us == 0 {
            return;
        }
        self.until_us = now_us;
        // Spans are far below 2^52 us, which is 142 years.
        #[allow(clippy::cast_precision_loss, reason = "a share, not a count")]
        let kept = (-(span_us as f64) / LOAD_MEMORY_US).exp();
        self.busy = self.busy * kept + if was_busy { 1.0 - kept } else { 0.0 };
    }
}

/// Two passes: newsletters do not notice.
const MAX_WAIT_US: u64 = 1_000;
/// Below this the CPU has nothing better to do.
const BUSY_PERCENT_MIN: u32 = 30;
/// About 40 passes: at loads that can be borne no job waits so long.
const AGED_US: u64 = 20_000;
/// More than the outbound sessions of most shards; at 7,800 a second 130 ms of work.
const WAITING_MAX: usize = 1_024;
/// How far back the load is felt: long beside a pass, short beside a burst that people notice.
pub const LOAD_MEMORY_US: f64 = 20_000.0;

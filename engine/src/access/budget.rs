//! Budgets: messages a minute and concurrent sessions of an application, over all shards.
//!
//! An application's limits hold for the relay as a whole, however the kernel spreads its sessions
//! over shards. Dividing a limit by the number of shards would not do: one session sits on one
//! shard, and would get a fraction of what its owner was promised. So each application has one
//! [allowance](Allowance) that all shards draw on, and a shard draws a small advance at a time
//! ([`ADVANCE_SHARE`] of the limit), so that shards touch shared memory once in many messages:
//! never for applications without limits, at most [`ADVANCE_SHARE`] times a minute per shard else.
//! The price: up to one advance per shard may lie unused, or be spent later than it was drawn.
//!
//! Messages are counted by the generic cell rate algorithm (a leaky bucket as one time stamp): a
//! minute's worth may come in a burst, after that it is the even rate. Integers only; time is handed
//! in.
//!
//! Sessions are counted exactly, one atomic operation at their start and one at their end.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::refusal::Refusal;
use crate::config::{App, Registry};

/// What all applications use of their budgets, shared by all shards.
pub struct Usage {
    started: Instant,
    apps: ArcSwap<HashMap<Arc<str>, Arc<AppUsage>>>,
}

/// What one application uses.
#[derive(Debug, Default)]
struct AppUsage {
    messages: Allowance,
    sessions: AtomicU32,
}

impl Usage {
    /// Nothing is used yet. Time is counted from `started`.
    #[must_use]
    pub fn new(started: Instant) -> Arc<Self> {
        Arc::new(Self { started, apps: ArcSwap::default() })
    }

    fn of(&self, app: &App) -> Arc<AppUsage> {
        if let Some(usage) = self.apps.load().get(&app.id) {
            return Arc::clone(usage);
        }
        let fresh = Arc::new(AppUsage::default());
        self.apps.rcu(|apps| {
            let mut apps = HashMap::clone(apps);
            apps.entry(Arc::clone(&app.id)).or_insert_with(|| Arc::clone(&fresh));
            apps
        });
        self.apps.load().get(&app.id).map_or(fresh, Arc::clone)
    }

    /// Forgets applications that are no longer configured; called after a reload. Their running
    /// sessions keep counting until they end.
    pub fn retain(&self, registry: &Registry) {
        self.apps.rcu(|apps| {
            let mut apps = HashMap::clone(apps);
            apps.retain(|id, _| registry.app(id).is_some());
            apps
        });
    }
}

/// One shard's view of the budgets.
pub struct Budgets {
    usage: Arc<Usage>,
    advances: HashMap<Arc<str>, Advance>,
}

/// Messages drawn from an application's allowance and not used yet.
struct Advance {
    usage: Arc<AppUsage>,
    left: u32,
}

impl Budgets {
    /// A shard's view of `usage`.
    #[must_use]
    pub fn new(usage: &Arc<Usage>) -> Self {
        Self { usage: Arc::clone(usage), advances: HashMap::new() }
    }

    /// Counts a session of the application until the permit is dropped.
    ///
    /// # Errors
    /// `421 4.7.0` at the application's `sessions_max`.
    pub fn session(&mut self, app: &App) -> Result<SessionPermit, Refusal> {
        let usage = Arc::clone(&self.advance(app).usage);
        let max = app.limits.sessions_max.unwrap_or(u32::MAX);
        let permit = SessionPermit { usage };
        // Counted first and asked afterwards, so that two shards cannot both take the last place.
        if permit.usage.sessions.fetch_add(1, Ordering::Relaxed) >= max {
            let text = format!("this application has {max} sessions open already");
            return Err(Refusal::temporary(421, (7, 0), text));
        }
        Ok(permit)
    }

    /// Counts one message at `now`.
    ///
    /// # Errors
    /// `451 4.7.1` above the application's `messages_per_minute`, with the time to wait.
    pub fn message(&mut self, app: &App, now: Instant) -> Result<(), Refusal> {
        let Some(per_minute) = app.limits.messages_per_minute else { return Ok(()) };
        let now_us = micros(now.saturating_duration_since(self.usage.started));
        let advance = self.advance(app);
        if advance.left == 0 {
            advance.left = advance.usage.messages.draw(per_minute, now_us).map_err(|wait_us| {
                let seconds = wait_us.div_ceil(1_000_000);
                let text = format!(
                    "this application sends more than {per_minute} messages a minute, \
                     try again in {seconds} s"
                );
                Refusal::temporary(451, (7, 1), text)
            })?;
        }
        advance.left -= 1;
        Ok(())
    }

    /// After a reload: forgets advances of applications that are gone or have other limits now.
    pub fn retain(&mut self, registry: &Registry) {
        self.advances.retain(|id, _| registry.app(id).is_some());
    }

    fn advance(&mut self, app: &App) -> &mut Advance {
        let usage = &self.usage;
        self.advances
            .entry(Arc::clone(&app.id))
            .or_insert_with(|| Advance { usage: usage.of(app), left: 0 })
    }
}

/// One counted session; drop ends it.
#[derive(Debug)]
pub struct SessionPermit {
    usage: Arc<AppUsage>,
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        self.usage.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Messages of one application: the time at which everything drawn so far is earned, in
/// microseconds.
#[derive(Default)]
struct Allowance {
    earned_at_us: AtomicU64,
}

impl Allowance {
    /// Draws an advance of messages, at least one; or says how many microseconds to wait for one.
    fn draw(&self, per_minute: u32, now_us: u64) -> Result<u32, u64> {
        let advance = (per_minute / ADVANCE_SHARE).max(1);
        match self.draw_exactly(advance, per_minute, now_us) {
            Err(_) if advance > 1 => self.draw_exactly(1, per_minute, now_us),
            drawn => drawn,
        }
    }

    fn draw_exactly(&self, count: u32, per_minute: u32, now_us: u64) -> Result<u32, u64> {
        let cost_us = u64::from(count) * MINUTE_US / u64::from(per_minute.max(1));
        let mut before = self.earned_at_us.load(Ordering::Relaxed);
        loop {
            let after = before.max(now_us).saturating_add(cost_us);
            // A minute's worth may be drawn ahead of time.
            let latest = now_us.saturating_add(MINUTE_US);
            if after > latest {
                return Err(after - latest);
            }
            match self.earned_at_us.compare_exchange_weak(
                before,
                after,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(count),
                Err(current) => before = current,
            }
        }
    }
}

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "earned at {} us", self.earned_at_us.load(Ordering::Relaxed))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

const MINUTE_US: u64 = 60_000_000;

/// A shard draws a sixteenth of a minute's messages at a time, and one where the limit is below 16.
const ADVANCE_SHARE: u32 = 16;

#[cfg(test)]
mod tests {
    use super::super::testing::{app, registry};
    use super::*;
    use crate::config::AppLimits;

    fn limited(messages_per_minute: Option<u32>, sessions_max: Option<u32>) -> App {
        let limits = AppLimits { messages_per_minute, sessions_max, ..AppLimits::default() };
        App { limits, ..app("billing", None, &["192.0.2.0/24"]) }
    }

    /// How many of `tries` messages at each moment (in milliseconds) pass on one shard.
    fn passed(per_minute: u32, moments: &[(u64, u32)]) -> Vec<u32> {
        let start = Instant::now();
        let mut budgets = Budgets::new(&Usage::new(start));
        let app = limited(Some(per_minute), None);
        let at = |ms| start + Duration::from_millis(ms);
        let mut pass =
            |ms, tries| (0..tries).filter(|_| budgets.message(&app, at(ms)).is_ok()).count();
        moments.iter().map(|(ms, tries)| u32::try_from(pass(*ms, *tries)).unwrap_or(0)).collect()
    }

    #[test]
    fn a_minutes_worth_may_burst_then_the_rate_holds() {
        for (per_minute, moments, expected) in [
            (60, vec![(0, 100), (999, 5), (1_000, 5), (2_000, 5)], vec![60, 0, 1, 1]),
            (60, vec![(0, 100), (30_000, 100), (600_000, 100)], vec![60, 30, 60]),
            (1, vec![(0, 2), (59_999, 1), (60_000, 2)], vec![1, 0, 1]),
            (6_000, vec![(0, 10_000), (10, 10), (1_000, 1_000)], vec![6_000, 1, 99]),
            (600, vec![(0, 1), (60_000, 1_000)], vec![1, 600 + 600 / 16 - 1]),
            (7, vec![(0, 10), (60_000, 10)], vec![7, 7]),
        ] {
            assert_eq!(passed(per_minute, &moments), expected, "{per_minute} {moments:?}");
        }
    }

    #[test]
    fn all_shards_together_keep_the_limit() {
        let start = Instant::now();
        let usage = Usage::new(start);
        let mut shards: Vec<_> = (0..8).map(|_| Budgets::new(&usage)).collect();
        let app = limited(Some(160), None);
        let mut total = 0;
        for round in 0..1_000_usize {
            let shard = &mut shards[round * round % 8];
            total += u32::from(shard.message(&app, start).is_ok());
        }
        assert!(total <= 160, "{total}");
        assert!(total >= 160 - 8 * 160 / 16, "{total}: at most an advance per shard lies unused");
        let alone = &mut shards[0];
        let later = start + Duration::from_secs(60);
        let on_one = (0..1_000).filter(|_| alone.message(&app, later).is_ok()).count();
        assert!(on_one >= 160, "{on_one}: one shard gets the whole limit");
    }

    #[test]
    fn the_refusal_names_the_wait() {
        let start = Instant::now();
        let mut budgets = Budgets::new(&Usage::new(start));
        let app = limited(Some(2), None);
        assert!(budgets.message(&app, start).is_ok() && budgets.message(&app, start).is_ok());
        let refusal = budgets.message(&app, start).expect_err("above");
        assert_eq!((refusal.code, refusal.enhanced), (451, (4, 7, 1)));
        assert!(refusal.text.ends_with("try again in 30 s"), "{refusal}");
        let unlimited = limited(None, None);
        assert!((0..10_000).all(|_| budgets.message(&unlimited, start).is_ok()));
    }

    #[test]
    fn sessions_are_counted_exactly_over_shards() {
        let usage = Usage::new(Instant::now());
        let (mut one, mut other) = (Budgets::new(&usage), Budgets::new(&usage));
        let app = limited(None, Some(3));
        let first = one.session(&app).expect("1");
        let _second = other.session(&app).expect("2");
        let _third = one.session(&app).expect("3");
        let refusal = other.session(&app).expect_err("4");
        assert_eq!((refusal.code, refusal.enhanced), (421, (4, 7, 0)));
        assert!(one.session(&app).is_err(), "a refusal takes no place");
        drop(first);
        let _fourth = other.session(&app).expect("a place is free again");
        assert!(one.session(&app).is_err());
    }

    #[test]
    fn a_reload_forgets_applications_that_are_gone_and_keeps_the_others() {
        let start = Instant::now();
        let usage = Usage::new(start);
        let mut budgets = Budgets::new(&usage);
        let app = limited(Some(1), Some(1));
        let permit = budgets.session(&app).expect("a place");
        assert!(budgets.message(&app, start).is_ok());
        let same = registry([limited(Some(1), Some(1))]);
        usage.retain(&same);
        budgets.retain(&same);
        assert!(budgets.message(&app, start).is_err(), "still used up");
        assert!(budgets.session(&app).is_err(), "still open");
        let none = registry([]);
        usage.retain(&none);
        budgets.retain(&none);
        assert!(usage.apps.load().is_empty() && budgets.advances.is_empty());
        drop(permit);
    }

    #[test]
    fn threads_cannot_take_the_same_place() {
        let usage = Usage::new(Instant::now());
        let app = limited(Some(1_000), Some(50));
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut budgets = Budgets::new(&usage);
                        let now = usage.started;
                        let messages = (0..1_000).filter(|_| budgets.message(&app, now).is_ok());
                        let messages = messages.count();
                        let permits: Vec<_> =
                            (0..50).filter_map(|_| budgets.session(&app).ok()).collect();
                        (messages, permits)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        let messages: usize = taken.iter().map(|(messages, _)| messages).sum();
        let sessions: usize = taken.iter().map(|(_, permits)| permits.len()).sum();
        assert!((1_000 - 4 * 62..=1_000).contains(&messages), "{messages}");
        assert_eq!(sessions, 50);
    }
}

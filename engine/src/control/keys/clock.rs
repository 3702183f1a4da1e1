//! The clocks that keys live by.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postern_signer::key::lifecycle::Elapsed;

use crate::control::file::replace;

/// The wall clock of the schedule, and how fast it runs.
///
/// In a rehearsal it runs faster than life from the moment of the first start on, which is kept in a
/// file, so that a restart finds it further on and not back at the beginning.
pub(super) struct Clock {
    rate: u32,
    /// When the rehearsal began, in milliseconds since 1970.
    began_ms: u64,
}

impl Clock {
    /// Reads when the rehearsal began, where there is one.
    pub(super) fn open(directory: &Path, rate: u32) -> io::Result<Self> {
        if rate <= 1 {
            return Ok(Self { rate: 1, began_ms: 0 });
        }
        let path = directory.join("rehearsal");
        let known = std::fs::read_to_string(&path).ok();
        let began_ms = match known.and_then(|text| text.trim().parse().ok()) {
            Some(began_ms) => began_ms,
            None => {
                let began_ms = wall_ms();
                replace(&path, 0o600, format!("{began_ms}\n").as_bytes())?;
                began_ms
            }
        };
        Ok(Self { rate, began_ms })
    }

    /// Seconds since 1970, as the schedule sees it.
    pub(super) fn now_s(&self) -> u64 {
        let real_ms = wall_ms();
        let passed_ms = real_ms.saturating_sub(self.began_ms);
        match self.rate {
            1 => real_ms / 1_000,
            rate => (self.began_ms + passed_ms.saturating_mul(rate.into())) / 1_000,
        }
    }

    /// What has passed since then. The monotonic clock does not run while the host sleeps.
    pub(super) fn elapsed(&self, since: Instant) -> Elapsed {
        let real_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Elapsed { real_ms, planned_ms: real_ms.saturating_mul(self.rate.into()) }
    }

    /// How often lines are looked at: rarely, for nothing in life is due to the second.
    pub(super) fn tick(&self) -> Duration {
        Duration::from_millis(if self.rate == 1 { 2_000 } else { 50 })
    }

    /// How long to wait after this many failures in a row.
    pub(super) fn patience(&self, failures: u32) -> Duration {
        let (first, longest) = match self.rate {
            1 => (Duration::from_secs(10), Duration::from_secs(900)),
            _ => (Duration::from_millis(200), Duration::from_secs(2)),
        };
        first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest)
    }
}

#[allow(clippy::disallowed_methods, reason = "rotations are due by the time of day")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Clock::open(folder.path(), 1_000_000).expect("opens");
        let kept = std::fs::read_to_string(folder.path().join("rehearsal")).expect("is kept");
        assert_eq!(kept.trim(), first.began_ms.to_string());
        let before = format!("{}\n", first.began_ms - 20);
        std::fs::write(folder.path().join("rehearsal"), before).expect("is ours");
        let again = Clock::open(folder.path(), 1_000_000).expect("opens");
        assert!(again.now_s() >= wall_ms() / 1_000 + 19_000, "20 ms are 20,000 s");
        let real = Clock::open(folder.path(), 1).expect("opens").now_s();
        assert!(real.abs_diff(wall_ms() / 1_000) <= 1);
    }

    #[test]
    fn patience_grows_up_to_a_bound() {
        let clock = Clock { rate: 1, began_ms: 0 };
        let waits: Vec<_> = (1..=9).map(|failures| clock.patience(failures).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(clock.patience(u32::MAX).as_secs(), 900);
    }
}

//! How long deliveries waited for their signatures: a histogram of fixed size.
//!
//! Four buckets an octave, so a percentile is told at most a quarter too high.

/// Counts by length of wait.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    buckets: [u64; BUCKETS],
}

/// What an operator wants to know of it, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wait {
    /// How many waited.
    pub jobs: u64,
    /// Half of them no longer than this.
    pub p50_us: u64,
    /// All but one in a hundred no longer than this.
    pub p99_us: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS] }
    }
}

impl Waits {
    /// Counts one wait.
    pub(super) fn record(&mut self, us: u64) {
        self.buckets[bucket(us)] += 1;
    }

    /// Returns how many waited, and how long.
    pub(super) fn summary(&self) -> Wait {
        let jobs = self.buckets.iter().sum();
        Wait { jobs, p50_us: self.percentile(jobs, 50), p99_us: self.percentile(jobs, 99) }
    }

    fn percentile(&self, jobs: u64, percent: u64) -> u64 {
        let mut left = (jobs * percent).div_ceil(100);
        if left == 0 {
            return 0;
        }
        for (index, count) in self.buckets.iter().enumerate() {
            left = left.saturating_sub(*count);
            if left == 0 {
                return upper(index);
            }
        }
        upper(BUCKETS - 1)
    }
}

/// The two bits after the leading one, below the place of the leading one.
fn bucket(us: u64) -> usize {
    let us = us.max(4);
    let octave = us.ilog2();
    let quarter = (us >> (octave - 2)) & 3;
    ((octave as usize - 2) * 4 + usize::from(quarter as u8)).min(BUCKETS - 1)
}

/// The longest wait that is counted in a bucket.
fn upper(index: usize) -> u64 {
    let (octave, quarter) = (index / 4 + 2, index as u64 % 4);
    ((5 + quarter) << (octave - 2)) - 1
}

/// Up to 2^26 us, about a minute; what is longer counts there.
const BUCKETS: usize = 24 * 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_at_most_a_quarter_too_long() {
        for us in (4..100_000).step_by(7) {
            let told = upper(bucket(us));
            assert!(told >= us && told * 4 <= us * 5 + 4, "{us} is told as {told}");
        }
        assert_eq!(bucket(0), bucket(4));
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_what_was_recorded() {
        let mut waits = Waits::default();
        assert_eq!(waits.summary(), Wait::default());
        for us in 1..=1_000 {
            waits.record(us);
        }
        let Wait { jobs, p50_us, p99_us } = waits.summary();
        assert_eq!(jobs, 1_000);
        assert!((500..=625).contains(&p50_us), "{p50_us}");
        assert!((990..=1_240).contains(&p99_us), "{p99_us}");
    }
}

//! Latencies in buckets that are at most 1.6 % wide, so that a percentile costs no list of samples.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: u64 = 64;

/// Powers of two above the first [`STEPS`] microseconds: up to about 19 hours.
const POWERS: u64 = 30;

/// Counts of durations, by microseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    micros_max: u64,
}

impl Histogram {
    /// Counts one duration. What is longer than the last bucket counts there.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket_of(micros);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.micros_max = self.micros_max.max(micros);
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours += theirs;
        }
        self.count += other.count;
        self.micros_max = self.micros_max.max(other.micros_max);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly, in microseconds.
    pub fn micros_max(&self) -> u64 {
        self.micros_max
    }

    /// The duration, in microseconds, that `per_mille` of all do not exceed (rounded up to the end of
    /// its bucket); 0 if none was counted.
    pub fn micros_at(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return end_of(bucket).min(self.micros_max);
            }
        }
        0
    }
}

/// The first [`STEPS`] buckets are one microsecond each; from there on each power of two has half as
/// many more again, each twice as wide as before.
fn bucket_of(micros: u64) -> usize {
    if micros < STEPS {
        return usize::try_from(micros).unwrap_or(usize::MAX);
    }
    let power = u64::from(micros.ilog2() - STEPS.ilog2());
    if power >= POWERS {
        return bucket_of((STEPS << POWERS) - 1);
    }
    let step = micros >> power;
    usize::try_from(STEPS * power + step).unwrap_or(usize::MAX)
}

/// The largest number of microseconds in a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let power = (bucket - STEPS) / STEPS;
    let step = bucket - STEPS * power;
    ((step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for micros in (0..5000).chain((0..4000).map(|n| n * n * 7)) {
            let bucket = bucket_of(micros);
            let end = end_of(bucket);
            assert!(end >= micros, "{micros} is in a bucket that ends at {end}");
            assert!(end - micros <= micros / STEPS, "{micros} is told as {end}");
            if micros >= last {
                assert!(bucket >= bucket_of(last));
                last = micros;
            }
        }
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.micros_at(500), 0);
        for micros in 1..=50 {
            histogram.record(Duration::from_micros(micros));
        }
        let mut other = Histogram::default();
        other.record(Duration::from_secs(3));
        histogram.merge(&other);
        assert_eq!(histogram.micros_at(500), 26);
        assert_eq!(histogram.micros_at(0), 1);
        assert_eq!(histogram.micros_at(1000), 3_000_000);
        assert_eq!((histogram.count(), histogram.micros_max()), (51, 3_000_000));
        histogram.record(Duration::MAX);
        assert!(histogram.micros_at(1000) >= STEPS << (POWERS - 1));
    }
}

//! When a delivery is tried again: exponential back-off with jitter.

/// `base * factor^(attempt - 1)`, at most `max`, spread by `jitter` either way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Delay after the first attempt.
    pub base_ms: u64,
    /// Growth from one attempt to the next; under 1 counts as 1.
    pub factor: f64,
    /// Longest delay before jitter.
    pub max_ms: u64,
    /// Spread as a fraction of the delay, 0 to 1: with 0.2 the delay is multiplied by 0.8 to 1.2.
    /// It keeps deliveries that failed together from coming back together.
    pub jitter: f64,
}

impl Backoff {
    /// Returns the delay after `attempt` (from 1) for a random number, all of whose bits count.
    pub fn delay_ms(&self, attempt: u16, random: u64) -> u64 {
        let growth = self.factor.max(1.0).powi(i32::from(attempt.max(1) - 1));
        let delay_ms = (to_float(self.base_ms) * growth).min(to_float(self.max_ms));
        let unit = to_float(random >> 11) / to_float(1 << 53);
        let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * unit - 1.0);
        to_millis(delay_ms * spread)
    }
}

#[allow(clippy::cast_precision_loss, reason = "delays and 53-bit numbers")]
fn to_float(number: u64) -> f64 {
    number as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-int cast saturates, and a delay is not negative"
)]
fn to_millis(delay_ms: f64) -> u64 {
    delay_ms as u64
}

/// SplitMix64: a few cycles, passes BigCrush; jitter needs no more.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Backoff = Backoff { base_ms: 1_000, factor: 2.0, max_ms: 60_000, jitter: 0.0 };

    #[test]
    fn grows_to_the_maximum() {
        for (attempt, delay_ms) in [
            (0, 1_000),
            (1, 1_000),
            (2, 2_000),
            (3, 4_000),
            (6, 32_000),
            (7, 60_000),
            (65_535, 60_000),
        ] {
            assert_eq!(PLAIN.delay_ms(attempt, 7), delay_ms, "attempt {attempt}");
        }
    }

    #[test]
    fn jitter_spreads_both_ways() {
        let spread = Backoff { jitter: 0.2, ..PLAIN };
        assert_eq!(spread.delay_ms(1, 0), 800);
        assert_eq!(spread.delay_ms(1, u64::MAX / 2 + 1), 1_000);
        assert_eq!(spread.delay_ms(1, u64::MAX), 1_200);
    }

    #[test]
    fn odd_settings_stay_sane() {
        assert_eq!(Backoff { factor: 0.1, ..PLAIN }.delay_ms(9, 0), 1_000);
        assert_eq!(Backoff { factor: f64::NAN, ..PLAIN }.delay_ms(9, 0), 1_000);
        assert_eq!(Backoff { factor: f64::INFINITY, ..PLAIN }.delay_ms(9, 0), 60_000);
        assert_eq!(Backoff { jitter: 5.0, ..PLAIN }.delay_ms(1, u64::MAX), 1_999);
        assert_eq!(
            Backoff { base_ms: u64::MAX, max_ms: u64::MAX, ..PLAIN }.delay_ms(9, 0),
            u64::MAX
        );
    }

    #[test]
    fn jitter_is_even() {
        let mut jitter = Jitter::new(1);
        let sum: u64 = (0..10_000).map(|_| jitter.next() >> 54).sum();
        assert!((5_000_000..5_230_000).contains(&sum), "{sum}: mean of 0..1024 is 511.5");
    }
}

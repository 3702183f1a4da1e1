//! The queue id of a message: a ULID, so that it sorts by time of acceptance.
//!
//! Invariants: an [`IdSource`] never hands out the same id twice, and its ids rise strictly, also
//! when the clock stands still or steps back. An id parsed from outside (admin calls, file names)
//! is a number and nothing else: it can name no path.
//! Failures: only the system's random source can fail, and then no id is made.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};

/// Bits of a ULID below the time stamp.
const ENTROPY_BITS: u32 = 80;
/// Letters of the text form: 26 * 5 bits hold 128 bits and two zero bits in front.
const TEXT_LETTERS: usize = 26;
/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Names one message for as long as it is in the relay: 48 bits of Unix milliseconds, 80 of chance.
///
/// `Display` gives the 26 letters of the ULID text form and `FromStr` takes them back, in either
/// case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

impl MessageId {
    /// Builds an id from its time stamp (only the low 48 bits are kept) and its chance part.
    pub fn from_parts(unix_ms: u64, entropy: [u8; 10]) -> Self {
        let mut wide = [0_u8; 16];
        wide[6..].copy_from_slice(&entropy);
        let time = u128::from(unix_ms & 0xFFFF_FFFF_FFFF) << ENTROPY_BITS;
        Self(time | u128::from_be_bytes(wide))
    }

    /// Takes the number of an id back, as stored.
    pub const fn from_u128(value: u128) -> Self {
        Self(value)
    }

    /// The id as a number.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// When the id was made, in Unix milliseconds.
    pub fn unix_ms(self) -> u64 {
        u64::try_from(self.0 >> ENTROPY_BITS).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; TEXT_LETTERS];
        let mut rest = self.0;
        for letter in text.iter_mut().rev() {
            *letter = ALPHABET[usize::try_from(rest & 31).unwrap_or(0)];
            rest >>= 5;
        }
        out.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let letters = text.as_bytes();
        if letters.len() != TEXT_LETTERS {
            return Err(NotAnId);
        }
        let mut value = 0_u128;
        for (index, letter) in letters.iter().enumerate() {
            let digit = ALPHABET
                .iter()
                .position(|known| *known == letter.to_ascii_uppercase())
                .ok_or(NotAnId)?;
            // 26 letters hold 130 bits: the first may use three of its five.
            if index == 0 && digit > 7 {
                return Err(NotAnId);
            }
            value = (value << 5) | u128::try_from(digit).map_err(|_| NotAnId)?;
        }
        Ok(Self(value))
    }
}

/// The text is not the 26 letters of a ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not a queue id (26 letters of Crockford's base 32)")
    }
}

impl std::error::Error for NotAnId {}

/// Hands out ids that rise strictly; one per shard. Two shards cannot meet: 80 bits of chance.
pub struct IdSource {
    random: SystemRandom,
    last: MessageId,
}

impl IdSource {
    /// Starts a source.
    pub fn new() -> Self {
        Self { random: SystemRandom::new(), last: MessageId(0) }
    }

    /// Makes the next id; `unix_ms` is the wall clock.
    ///
    /// Within one millisecond, and while the clock runs behind, the last id plus one is used: no
    /// further chance is needed, since the first of the run carried 80 bits of it.
    ///
    /// # Errors
    /// [`NoEntropy`] when the system's random source fails; the caller answers `451`.
    pub fn next(&mut self, unix_ms: u64) -> Result<MessageId, NoEntropy> {
        if unix_ms <= self.last.unix_ms() {
            self.last = MessageId(self.last.0.wrapping_add(1));
            return Ok(self.last);
        }
        let mut entropy = [0_u8; 10];
        self.random.fill(&mut entropy).map_err(|_| NoEntropy)?;
        // The top bit stays clear, so that the run of one millisecond cannot overflow into time.
        entropy[0] &= 0x7F;
        self.last = MessageId::from_parts(unix_ms, entropy);
        Ok(self.last)
    }
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

/// The system's random source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntropy;

impl fmt::Display for NoEntropy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the system's random source failed")
    }
}

impl std::error::Error for NoEntropy {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_comes_back() {
        for value in [0, 1, 31, 32, u128::MAX, u128::MAX / 3, 1 << 127] {
            let id = MessageId::from_u128(value);
            let text = id.to_string();
            assert_eq!(text.len(), TEXT_LETTERS);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(text.to_lowercase().parse(), Ok(id));
        }
        assert_eq!(MessageId::from_u128(u128::MAX).to_string(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    }

    #[test]
    fn text_order_is_time_order() {
        let early = MessageId::from_parts(1_700_000_000_000, [255; 10]);
        let late = MessageId::from_parts(1_700_000_000_001, [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.unix_ms(), 1_700_000_000_000);
    }

    #[test]
    fn anything_else_is_refused() {
        let too_large = "8ZZZZZZZZZZZZZZZZZZZZZZZZZ";
        for text in [
            "",
            "../../etc/passwd",
            "0000000000000000000000000U",
            too_large,
            "é0000000000000000000000000",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(NotAnId), "{text}");
        }
    }

    #[test]
    fn ids_rise_also_when_the_clock_does_not() {
        let mut source = IdSource::new();
        let mut last = MessageId::from_u128(0);
        for unix_ms in [5, 5, 5, 4, 1, 6, 6, 2, 7] {
            let id = source.next(unix_ms).expect("the test host has a random source");
            assert!(id > last);
            last = id;
        }
    }
}

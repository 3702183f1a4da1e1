//! Numbers of 1024 and 2048 bits, for what is done once a signature or once a key: taking a
//! message apart, joining the halves, setting constants up. Little end first, 64 bits a word.
//!
//! Nothing here branches on a value or addresses by one; bits select by masks.

use super::{DIGIT, LIMBS};

/// 1024 bits.
pub(super) type Half = [u64; HALF_WORDS];

/// 2048 bits.
pub(super) type Full = [u64; FULL_WORDS];

pub(super) const HALF_WORDS: usize = 16;
pub(super) const FULL_WORDS: usize = 32;

/// Reads a big-endian number; `None` where it has more than `N` words.
pub(super) fn from_be_bytes<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    let bytes = &bytes[zeros..];
    if bytes.len() > 8 * N {
        return None;
    }
    let mut words = [0; N];
    for (index, byte) in bytes.iter().rev().enumerate() {
        words[index / 8] |= u64::from(*byte) << (8 * (index % 8));
    }
    Some(words)
}

/// Writes a number of 2048 bits, big-endian.
pub(super) fn to_be_bytes(words: &Full) -> [u8; 8 * FULL_WORDS] {
    let mut bytes = [0; 8 * FULL_WORDS];
    for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().rev().zip(words) {
        *chunk = word.to_be_bytes();
    }
    bytes
}

/// `a + (b & mask)`; returns the carry.
pub(super) fn add<const N: usize>(a: &mut [u64; N], b: &[u64; N], mask: u64) -> u64 {
    let mut carry = false;
    for (a, b) in a.iter_mut().zip(b) {
        (*a, carry) = add_with_carry(*a, b & mask, carry);
    }
    u64::from(carry)
}

/// `a - (b & mask)`; returns the borrow.
pub(super) fn subtract<const N: usize>(a: &mut [u64; N], b: &[u64; N], mask: u64) -> u64 {
    let mut borrow = false;
    for (a, b) in a.iter_mut().zip(b) {
        let (difference, first) = a.overflowing_sub(b & mask);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        *a = difference;
        borrow = first | second;
    }
    u64::from(borrow)
}

fn add_with_carry(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(u64::from(carry));
    (sum, first | second)
}

/// All ones for 1, all zeros for 0.
pub(super) fn mask(bit: u64) -> u64 {
    bit.wrapping_neg()
}

/// `if mask { a } else { b }`.
pub(super) fn select<const N: usize>(mask: u64, a: &[u64; N], b: &[u64; N]) -> [u64; N] {
    let mut chosen = *b;
    chosen.iter_mut().zip(a).for_each(|(b, a)| *b = (a & mask) | (*b & !mask));
    chosen
}

/// Subtracts the modulus once from `high 2^1024 + value` unless that is below it.
pub(super) fn reduce_once(value: &Half, high: u64, modulus: &Half) -> Half {
    let mut reduced = *value;
    let borrow = subtract(&mut reduced, modulus, u64::MAX);
    let is_high = (high | high.wrapping_neg()) >> 63;
    select(mask(is_high | (borrow ^ 1)), &reduced, value)
}

/// The full product.
pub(super) fn multiply(a: &Half, b: &Half) -> Full {
    let mut product = [0; FULL_WORDS];
    for (i, &b) in b.iter().enumerate() {
        let mut carry = 0;
        for (j, &a) in a.iter().enumerate() {
            (product[i + j], carry) = multiply_add(a, b, product[i + j], carry);
        }
        product[i + HALF_WORDS] = carry;
    }
    product
}

/// `a b + c + d`, as low and high word.
fn multiply_add(a: u64, b: u64, c: u64, d: u64) -> (u64, u64) {
    a.carrying_mul_add(b, c, d)
}

/// `a b / 2^1024` modulo an odd modulus, fully reduced (Montgomery). `inverse` is
/// [`negative_inverse`] of the modulus.
pub(super) fn montgomery(a: &Half, b: &Half, modulus: &Half, inverse: u64) -> Half {
    let mut sum = [0; HALF_WORDS + 2];
    for &b in b {
        let mut carry = 0;
        for (sum, &a) in sum.iter_mut().zip(a) {
            (*sum, carry) = multiply_add(a, b, *sum, carry);
        }
        let (top, over) = sum[HALF_WORDS].overflowing_add(carry);
        (sum[HALF_WORDS], sum[HALF_WORDS + 1]) = (top, u64::from(over));
        let times = sum[0].wrapping_mul(inverse);
        let (_, mut carry) = multiply_add(times, modulus[0], sum[0], 0);
        for j in 1..HALF_WORDS {
            (sum[j - 1], carry) = multiply_add(times, modulus[j], sum[j], carry);
        }
        let (top, over) = sum[HALF_WORDS].overflowing_add(carry);
        sum[HALF_WORDS - 1] = top;
        sum[HALF_WORDS] = sum[HALF_WORDS + 1] + u64::from(over);
    }
    let mut low = [0; HALF_WORDS];
    low.copy_from_slice(&sum[..HALF_WORDS]);
    reduce_once(&low, sum[HALF_WORDS], modulus)
}

/// `2^exponent` modulo a modulus with its top bit set, by doubling.
pub(super) fn power_of_two(exponent: usize, modulus: &Half) -> Half {
    let mut power = [0; HALF_WORDS];
    power[0] = 1;
    for _ in 0..exponent {
        let mut doubled = power;
        let carry = add(&mut doubled, &power, u64::MAX);
        power = reduce_once(&doubled, carry, modulus);
    }
    power
}

/// `-odd^-1 mod 2^64` (Newton: each step doubles the bits that are right, beginning with five).
pub(super) fn negative_inverse(odd: u64) -> u64 {
    let mut inverse = odd.wrapping_mul(3) ^ 2;
    for _ in 0..4 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse.wrapping_neg()
}

/// The digits of a number of at most 1040 bits; what is above is not looked at.
pub(super) fn to_digits(words: &[u64]) -> [u64; LIMBS] {
    let word = |index: usize| words.get(index).copied().unwrap_or(0);
    std::array::from_fn(|digit| {
        let (index, shift) = (digit * 52 / 64, digit * 52 % 64);
        let above = if shift > 12 { word(index + 1) << (64 - shift) } else { 0 };
        (word(index) >> shift | above) & DIGIT
    })
}

/// The digits of a number of 2048 bits: the lowest 1040 bits, and the rest.
pub(super) fn split(full: &Full) -> ([u64; LIMBS], [u64; LIMBS]) {
    let high: [u64; HALF_WORDS] = std::array::from_fn(|index| {
        let above = full.get(HALF_WORDS + 1 + index).map_or(0, |word| word << 48);
        full[HALF_WORDS + index] >> 16 | above
    });
    (to_digits(full), to_digits(&high))
}

/// The number that loose digits below `2 * modulus` stand for, modulo the modulus.
pub(super) fn from_digits(digits: &[u64; LIMBS], modulus: &Half) -> Half {
    let mut words = [0; HALF_WORDS + 1];
    for (digit, &value) in digits.iter().enumerate() {
        let value = value & DIGIT;
        let (index, shift) = (digit * 52 / 64, digit * 52 % 64);
        words[index] |= value << shift;
        if shift > 12 {
            words[index + 1] |= value >> (64 - shift);
        }
    }
    let mut low = [0; HALF_WORDS];
    low.copy_from_slice(&words[..HALF_WORDS]);
    reduce_once(&low, words[HALF_WORDS], modulus)
}

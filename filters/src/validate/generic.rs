//! Check-character systems that identifiers share.
//!
//! Each takes the whole value with its check characters and says whether they agree. They know no
//! length and no issuer: on its own, one in ten random numbers passes [`luhn`].

use super::{alphanumeric, digit};

/// Fewest characters that can hold something and its check.
const CHARACTERS_MIN: usize = 2;

/// The double-add-double check digit of ISO/IEC 7812-1 annex B (H. P. Luhn, US patent 2950048).
#[must_use]
pub fn luhn(value: &[u8]) -> bool {
    luhn_mod(value, 10, digit)
}

/// Luhn's system over the 36 characters `0-9A-Z` (Luhn mod N with N = 36).
#[must_use]
pub fn luhn_mod36(value: &[u8]) -> bool {
    luhn_mod(value, 36, alphanumeric)
}

/// Luhn mod N: from the right every second character counts twice, its two places added up.
fn luhn_mod(value: &[u8], modulus: u8, code: fn(u8) -> Option<u8>) -> bool {
    let mut sum = 0;
    for (place, &character) in value.iter().rev().enumerate() {
        let Some(code) = code(character) else { return false };
        let addend = if place.is_multiple_of(2) { code } else { 2 * code };
        sum = (sum + addend / modulus + addend % modulus) % modulus;
    }
    value.len() >= CHARACTERS_MIN && sum == 0
}

/// ISO/IEC 7064 MOD 11-2: digits, the last of which may be `X` for ten.
#[must_use]
pub fn mod11_2(value: &[u8]) -> bool {
    pure(value, 11, 2, digit, b'X')
}

/// ISO/IEC 7064 MOD 37-2: characters `0-9A-Z`, the last of which may be `*` for 36.
#[must_use]
pub fn mod37_2(value: &[u8]) -> bool {
    pure(value, 37, 2, alphanumeric, b'*')
}

/// A pure system with one check character (ISO/IEC 7064 clause 7): the value in base `radix` is
/// congruent to 1. The check character alone may be `extra`, which stands for `modulus - 1`.
fn pure(value: &[u8], modulus: u16, radix: u16, code: fn(u8) -> Option<u8>, extra: u8) -> bool {
    let Some((&check, body)) = value.split_last() else { return false };
    let mut remainder = 0;
    for &character in body {
        let Some(code) = code(character) else { return false };
        remainder = (remainder * radix + u16::from(code)) % modulus;
    }
    let check = if check == extra { Some(modulus - 1) } else { code(check).map(u16::from) };
    value.len() >= CHARACTERS_MIN
        && check.is_some_and(|check| (remainder * radix + check) % modulus == 1)
}

/// ISO/IEC 7064 MOD 97-10: two check digits at the end. Letters count as two digits, `A` as 10 to
/// `Z` as 35, as in ISO 13616 and ISO 17442.
#[must_use]
pub fn mod97_10(value: &[u8]) -> bool {
    let ends_in_digits = value.len() > 2 && value.iter().rev().take(2).all(u8::is_ascii_digit);
    ends_in_digits && remainder_97(value.iter().copied()) == Some(1)
}

/// The remainder by 97 of characters read as ISO/IEC 7064 MOD 97-10 reads them.
pub(super) fn remainder_97(characters: impl Iterator<Item = u8>) -> Option<u16> {
    let mut remainder = 0;
    for character in characters {
        let code = u16::from(alphanumeric(character)?);
        let shift = if code < 10 { 10 } else { 100 };
        remainder = (remainder * shift + code) % 97;
    }
    Some(remainder)
}

/// ISO/IEC 7064 MOD 11,10, the hybrid system with one check digit.
#[must_use]
pub fn mod11_10(value: &[u8]) -> bool {
    let Some((&check, body)) = value.split_last() else { return false };
    let mut product = 10;
    for &character in body {
        let Some(digit) = digit(character) else { return false };
        let sum = match (product + digit) % 10 {
            0 => 10,
            sum => sum,
        };
        product = sum * 2 % 11;
    }
    value.len() >= CHARACTERS_MIN && digit(check).is_some_and(|check| (product + check) % 10 == 1)
}

/// Verhoeff's check digit over the dihedral group of order ten (J. Verhoeff, "Error Detecting
/// Decimal Codes", Mathematical Centre Tracts 29, 1969).
#[must_use]
pub fn verhoeff(value: &[u8]) -> bool {
    let mut state = 0;
    for (place, &character) in value.iter().rev().enumerate() {
        let Some(digit) = digit(character) else { return false };
        let permuted = PERMUTATIONS[place % 8][usize::from(digit)];
        state = DIHEDRAL[usize::from(state)][usize::from(permuted)];
    }
    value.len() >= CHARACTERS_MIN && state == 0
}

/// Multiplication in the dihedral group of order ten.
const DIHEDRAL: [[u8; 10]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
    [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
    [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
    [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
    [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
    [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
    [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
    [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
];

/// Powers of Verhoeff's permutation (1 5 8 9 4 2 7 0)(3 6), by place from the right.
const PERMUTATIONS: [[u8; 10]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
    [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
    [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
    [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
    [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
    [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
    [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
];

/// Damm's check digit over a totally anti-symmetric quasigroup (H. M. Damm, "Total
/// anti-symmetrische Quasigruppen", Marburg 2004).
#[must_use]
pub fn damm(value: &[u8]) -> bool {
    let mut state = 0;
    for &character in value {
        let Some(digit) = digit(character) else { return false };
        state = QUASIGROUP[usize::from(state)][usize::from(digit)];
    }
    value.len() >= CHARACTERS_MIN && state == 0
}

/// The quasigroup of order ten that Damm's thesis gives.
const QUASIGROUP: [[u8; 10]; 10] = [
    [0, 3, 1, 7, 5, 9, 8, 6, 4, 2],
    [7, 0, 9, 2, 1, 5, 4, 8, 6, 3],
    [4, 2, 0, 6, 8, 7, 1, 3, 5, 9],
    [1, 7, 5, 0, 9, 8, 3, 4, 2, 6],
    [6, 1, 2, 3, 0, 4, 5, 9, 7, 8],
    [3, 6, 7, 4, 2, 0, 9, 5, 8, 1],
    [5, 8, 6, 9, 7, 2, 0, 1, 3, 4],
    [8, 9, 4, 5, 3, 6, 2, 0, 1, 7],
    [9, 4, 3, 8, 6, 1, 7, 2, 0, 5],
    [2, 5, 8, 1, 4, 3, 6, 7, 9, 0],
];

/// The sum of `codes`, numbers rather than characters, each times the weight in its place. What is
/// longer than the other counts nothing.
#[must_use]
pub fn weighted_sum(codes: &[u8], weights: &[u8]) -> u64 {
    codes.iter().zip(weights).map(|(&code, &weight)| u64::from(code) * u64::from(weight)).sum()
}

/// The check digit that many give to a weighted sum: 11 less its remainder by 11, and 0 where that
/// is ten or eleven.
pub(super) fn complement_11(sum: u64) -> u8 {
    let [remainder, ..] = (sum % 11).to_le_bytes();
    if remainder < 2 { 0 } else { 11 - remainder }
}

#[cfg(test)]
mod tests {
    use super::super::Validator;
    use super::super::tests::changes_are_refused;
    use super::*;

    /// Checks that the examples are accepted, that no change of a digit is, and that neither are
    /// other characters, a check without a body, and fillers.
    #[track_caller]
    fn check(validator: Validator, valid: &[&str], refused: &[&str]) {
        for value in valid {
            assert!(validator.accepts(value.as_bytes()), "{value}");
            changes_are_refused(validator, value, 0..value.len());
            for place in 0..value.len() {
                for other in [b' ', b'/', b':', b'@', b'[', b'a', 0, 0xff] {
                    let mut changed = value.as_bytes().to_vec();
                    changed[place] = other;
                    assert!(!validator.accepts(&changed), "{value} with {other} at {place}");
                }
            }
        }
        for value in refused.iter().chain(&["", "0", "1", "00000000", "11111111", "X", "*"]) {
            assert!(!validator.accepts(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn luhn_digits() {
        let valid = ["79927398713", "1234567890128", "808401234567893", "18"];
        check(Validator::Luhn, &valid, &["79927398710", "7992739871A"]);
    }

    #[test]
    fn luhn_of_36() {
        let valid = ["27AAPFU0939F1ZV", "29AABCT1332L1ZA", "37ADAPM1724A2Z6"];
        check(Validator::LuhnMod36, &valid, &["27AAPFU0939F1ZW", "27AAPFU0939F1Z*"]);
    }

    #[test]
    fn iso_7064_pure() {
        let valid = ["0000000121486706", "079X", "12345672", "00000001213543"];
        check(Validator::Mod11_2, &valid, &["0790", "07X9", "X790", "079*", "XX", "0X"]);
        let valid = ["G123489654321Y", "A999914123456N", "ABC123G", "Z09", "Z5*", "Z6Y"];
        check(Validator::Mod37_2, &valid, &["Z50", "Z*5", "*5Z", "**", "G123489654321X"]);
        let valid = ["79444", "G12348965452", "5299000J2N45DDNE4Y28"];
        check(Validator::Mod97_10, &valid, &["79441", "7944X", "44", "01", "G123489654X2"]);
    }

    #[test]
    fn iso_7064_hybrid() {
        check(Validator::Mod11_10, &["07945", "12345678903", "002006673085"], &["07944", "0794X"]);
    }

    #[test]
    fn verhoeff_and_damm_catch_neighbours_swapped() {
        let verhoeff = ["2363", "123451", "1428570", "234123412346"];
        let damm = ["5724", "438812345679", "1234566"];
        check(Validator::Verhoeff, &verhoeff, &["2364", "236A"]);
        check(Validator::Damm, &damm, &["5725", "572A"]);
        let of = |validator, values: &[&'static str]| -> Vec<_> {
            values.iter().map(|value| (validator, *value)).collect()
        };
        for (validator, value) in
            [of(Validator::Verhoeff, &verhoeff), of(Validator::Damm, &damm)].concat()
        {
            for place in 1..value.len() {
                let mut swapped = value.as_bytes().to_vec();
                swapped.swap(place - 1, place);
                let is_same = swapped == value.as_bytes();
                assert_eq!(validator.accepts(&swapped), is_same, "{value} at {place}");
            }
        }
    }

    #[test]
    fn sums_end_with_the_shorter() {
        for (codes, weights, want) in [
            (&[][..], &[][..], 0),
            (&[1, 2, 3], &[10, 20, 30], 140),
            (&[1, 2], &[10, 20, 30], 50),
            (&[1, 2, 3], &[10], 10),
            (&[255; 300], &[255; 300], 300 * 255 * 255),
        ] {
            assert_eq!(weighted_sum(codes, weights), want);
        }
    }
}

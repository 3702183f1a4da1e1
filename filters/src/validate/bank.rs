//! Bank accounts and banks.

use super::generic::{remainder_97, weighted_sum};
use super::{digits, is_shaped, number};

/// International bank account number: a country of the registry, its length, two check digits
/// (ISO 13616-1; lengths of the SWIFT IBAN Registry, release 101).
#[must_use]
pub fn iban(value: &[u8]) -> bool {
    let Some((head, account)) = value.split_first_chunk::<4>() else { return false };
    let [country @ .., tens, ones] = head;
    // The check digits are 98 less a remainder by 97: 02 to 98.
    let is_check = tens.is_ascii_digit()
        && ones.is_ascii_digit()
        && !matches!([*tens, *ones], [b'0', b'0' | b'1'] | [b'9', b'9']);
    is_check
        && iban_length(*country) == Some(value.len())
        && remainder_97(account.iter().chain(head).copied()) == Some(1)
}

/// Characters of an IBAN of this country.
fn iban_length(country: [u8; 2]) -> Option<usize> {
    let length = match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FK" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"NI" | b"PL"
        | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    };
    Some(length)
}

/// Business identifier code: four letters, a country, a suffix of two, a branch of three or none
/// (ISO 9362:2022). The standard would allow digits in the first four, SWIFT gives out letters
/// only. There is no check character: many words of eight letters pass.
#[must_use]
pub fn bic(value: &[u8]) -> bool {
    let is_form = is_shaped(value, b"AAAAAAXX") || is_shaped(value, b"AAAAAAXXXXX");
    is_form && is_country([value[4], value[5]])
}

/// ABA routing number: a Federal Reserve prefix and the 3-7-1 check (American Bankers Association,
/// "Routing Number Administrative Rules"; ANSI X9.100-160).
#[must_use]
pub fn aba_routing(value: &[u8]) -> bool {
    let Some(d) = digits::<9>(value) else { return false };
    // 00 is the government, 01-12 the districts, 21-32 thrifts, 61-72 electronic, 80 cheques.
    matches!(number(&d[..2]), 0..=12 | 21..=32 | 61..=72 | 80)
        && weighted_sum(&d, &[3, 7, 1, 3, 7, 1, 3, 7, 1]).is_multiple_of(10)
}

/// Whether this is a country: an officially assigned alpha-2 code of ISO 3166-1, or `XK`, which is
/// Kosovo's by agreement of its users.
fn is_country([first, second]: [u8; 2]) -> bool {
    let letter = |byte: u8| byte.is_ascii_uppercase().then(|| byte - b'A');
    let (Some(first), Some(second)) = (letter(first), letter(second)) else { return false };
    COUNTRIES[usize::from(first)] >> second & 1 == 1
}

/// The second letters of countries, bit by bit, for each first letter.
const COUNTRIES: [u32; 26] = {
    let mut sets = [0; 26];
    let mut at = 0;
    while at < COUNTRY_CODES.len() {
        let (first, second) = (COUNTRY_CODES[at], COUNTRY_CODES[at + 1]);
        sets[(first - b'A') as usize] |= 1 << (second - b'A');
        // A code and the space after it.
        at += 3;
    }
    sets
};

const COUNTRY_CODES: &[u8] = b"\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ \
    BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ \
    DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR \
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY \
    HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP \
    KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY \
    MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ \
    NA NC NE NF NG NI NL NO NP NR NU NZ OM \
    PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW \
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ \
    TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ \
    VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

#[cfg(test)]
mod tests {
    use super::super::Validator;
    use super::super::tests::{check, check_digits};
    use super::*;

    #[test]
    fn ibans() {
        // Examples of the IBAN Registry, shortest to longest.
        let valid = [
            "NO9386011117947",
            "BE68539007547034",
            "NL91ABNA0417164300",
            "XK051212012345678906",
            "DE89370400440532013000",
            "GB29NWBK60161331926819",
            "FR1420041010050500013M02606",
            "MT84MALT011000012345MTLCAST001S",
        ];
        let refused = [
            "DE88370400440532013000",
            "NO9386011117948",
            "GB29NWBK60161331926891",
            "ZZ89370400440532013000",
            "de89370400440532013000",
            "GB29nwbk60161331926819",
            // Another country's length, with a check that is right.
            "XK51370400440532013000",
            // 98 less a remainder is never 00, 01 or 99.
            "BE01539007547037",
        ];
        check_digits(Validator::Iban, &[15, 16, 18, 20, 22, 27, 31], &valid, &refused);
        let lengths = (b'A'..=b'Z').flat_map(|a| (b'A'..=b'Z').map(move |b| iban_length([a, b])));
        assert_eq!(lengths.flatten().count(), 89, "countries of the registry");
    }

    #[test]
    fn bics() {
        let valid = ["DEUTDEFF", "DEUTDEFF500", "NEDSZAJJXXX", "BOFAUS3N", "MIDLXKPR"];
        let refused = [
            "DEUTXXFF",
            "DEUT1EFF",
            "DEU1DEFF",
            "DEUTD1FF",
            "DEUTUKFF",
            "DEUTDEF",
            "DEUTDEFF5",
            "DEUTDEFF50",
            "deutdeff",
        ];
        check(Validator::Bic, &[8, 11], &valid, &refused);
    }

    #[test]
    fn countries_are_those_of_iso_3166() {
        let pairs = (0..=u8::MAX).flat_map(|a| (0..=u8::MAX).map(move |b| [a, b]));
        // 249 codes and Kosovo.
        assert_eq!(pairs.filter(|pair| is_country(*pair)).count(), 250);
        assert!(COUNTRY_CODES.chunks(3).is_sorted());
    }

    #[test]
    fn routing_numbers() {
        let valid = ["011000015", "121000248", "021000021", "061000146", "313177387", "800000006"];
        // The last ones have the right check and no such prefix.
        let refused =
            ["011000016", "130000006", "200000006", "340000007", "620000014", "990000000"];
        check_digits(Validator::AbaRouting, &[9], &valid, &refused[..4]);
        assert!(!aba_routing(b"810000003") && !aba_routing(b"730000008"));
    }
}

//! Identifiers of Asia, Oceania, the Middle East and Africa.

use super::generic::{complement_11, luhn, luhn_mod36, mod11_2, verhoeff, weighted_sum};
use super::{alphanumeric, digits, is_date, is_date_short, is_shaped, number};

/// Japanese individual number ("My Number"): twelve digits, the last a check digit modulo 11
/// (Ministry of Internal Affairs and Communications ordinance No. 85 of 2014, article 5).
#[must_use]
pub fn jp_mynumber(value: &[u8]) -> bool {
    let Some(d) = digits::<12>(value) else { return false };
    complement_11(weighted_sum(&d, &[6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2])) == d[11]
}

/// Japanese corporate number: thirteen digits, the first a check digit modulo 9, never 0 (Ministry
/// of Finance ordinance No. 70 of 2014, article 2). It cannot tell a 0 from a 9.
#[must_use]
pub fn jp_corporate(value: &[u8]) -> bool {
    let Some(d) = digits::<13>(value) else { return false };
    let sum = weighted_sum(&d[1..], &[2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]);
    u64::from(d[0]) == 9 - sum % 9
}

/// Japanese driving licence: commission that issued first, year, serial, check digit, times it was
/// issued again.
///
/// The codes of the commissions are in use by the National Police Agency. The check digit is not in
/// any published rule; it is as T. Uehara found it
/// (<https://tetsutalow.github.io/driversnumbercheckdigit>): modulo 11 with weights 5 4 3 2 7 6 5 4
/// 3 2, its last place where it is 10 or 11. Where it is 11 a vendor's page has 0 instead of 1.
#[must_use]
pub fn jp_driving_licence(value: &[u8]) -> bool {
    let Some(d) = digits::<12>(value) else { return false };
    let is_commission = matches!(
        number(&d[..2]),
        10..=14 | 20..=25 | 30 | 40..=49 | 50..=55 | 60..=65 | 70..=74 | 80..=83 | 90..=97
    );
    let remainder = weighted_sum(&d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2]) % 11;
    is_commission && (11 - remainder) % 10 == u64::from(d[10])
}

/// Japanese basic pension number: office of four digits and serial of six, neither of zeros only
/// (Japan Pension Service, "基礎年金番号"). There is no check digit.
#[must_use]
pub fn jp_pension(value: &[u8]) -> bool {
    let Some(d) = digits::<10>(value) else { return false };
    number(&d[..4]) != 0 && number(&d[4..]) != 0
}

/// Japanese health insurer's number of eight digits: law, prefecture, insurer, check digit modulo
/// 10 with weights 2 and 1 (Ministry of Health, Labour and Welfare, "保険者番号等設定要領").
#[must_use]
pub fn jp_insurer(value: &[u8]) -> bool {
    let Some(d) = digits::<8>(value) else { return false };
    let is_law = matches!(number(&d[..2]), 1..=4 | 6 | 7 | 31..=34 | 39 | 63 | 67 | 72..=75);
    is_law && matches!(number(&d[2..4]), 1..=47) && luhn(value)
}

/// Japanese residence card: two letters, eight digits, two letters (Immigration Services Agency,
/// "在留カード等仕様書"). There is no check character.
#[must_use]
pub fn jp_residence_card(value: &[u8]) -> bool {
    is_shaped(value, b"AA99999999AA")
}

/// Indian Aadhaar: twelve digits not from 0 or 1, Verhoeff's check digit (UIDAI, "A UID Numbering
/// Scheme", 2010).
#[must_use]
pub fn in_aadhaar(value: &[u8]) -> bool {
    value.len() == 12 && matches!(value[0], b'2'..=b'9') && verhoeff(value)
}

/// Indian PAN: five letters, the fourth the kind of holder, four digits from 0001, a letter (Income
/// Tax Rules 1962, rule 114; Income Tax Department). How the last is computed is not published.
#[must_use]
pub fn in_pan(value: &[u8]) -> bool {
    is_shaped(value, b"AAAAA9999A")
        && matches!(value[3], b'A' | b'B' | b'C' | b'F' | b'G' | b'H' | b'J' | b'L' | b'P' | b'T')
        && value[5..9] != *b"0000"
}

/// Indian GSTIN: state, PAN, registration of the holder, `Z`, check character modulo 36 (CGST Rules
/// 2017, rule 10; GSTN). The numbers of those who deduct tax at source may lack the `Z` and are not
/// accepted.
#[must_use]
pub fn in_gstin(value: &[u8]) -> bool {
    let (Some(state), Some(pan), Some(rest)) = (value.get(..2), value.get(2..12), value.get(12..))
    else {
        return false;
    };
    let Some(state) = digits::<2>(state) else { return false };
    matches!(number(&state), 1..=38 | 97)
        && in_pan(pan)
        && is_shaped(rest, b"XAX")
        && rest[0] != b'0'
        && rest[1] == b'Z'
        && luhn_mod36(value)
}

/// Chinese resident identity number: region, birth date, serial, check character MOD 11-2 (GB
/// 11643-1999). The fifteen digits of before 1999 are not accepted.
#[must_use]
pub fn cn_resident_id(value: &[u8]) -> bool {
    let Some(d) = value.get(..17).and_then(digits::<17>) else { return false };
    // GB/T 2260 codes of provinces; 91 for foreigners with permanent residence.
    let is_region = matches!(
        number(&d[..2]),
        11..=15 | 21..=23 | 31..=37 | 41..=46 | 50..=54 | 61..=65 | 71 | 81..=83 | 91
    );
    let year = number(&d[6..10]);
    is_region
        && (1800..2100).contains(&year)
        && is_date(year, number(&d[10..12]), number(&d[12..14]))
        && value.len() == 18
        && mod11_2(value)
}

/// South Korean resident registration number, also of foreigners: birth date, sex and century,
/// check digit modulo 11 (Resident Registration Act, enforcement rule, article 2).
///
/// Since October 2020 the last six digits are drawn at random, and so who was born from then on has
/// no check digit. A number given since then to someone born earlier is refused nine times in ten.
#[must_use]
pub fn kr_rrn(value: &[u8]) -> bool {
    let Some(d) = digits::<13>(value) else { return false };
    let (month, day) = (number(&d[2..4]), number(&d[4..6]));
    let century = match d[6] {
        9 | 0 => 1800,
        1 | 2 | 5 | 6 => 1900,
        _ => 2000,
    };
    let year = century + number(&d[..2]);
    let is_random = (year, month) >= (2020, 10);
    // The check of foreigners is two more.
    let offset = if matches!(d[6], 5..=8) { 13 } else { 11 };
    let remainder = weighted_sum(&d, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]) % 11;
    is_date(year, month, day) && (is_random || (offset - remainder) % 10 == u64::from(d[12]))
}

/// Singapore NRIC or FIN: series S, T, F, G or M, seven digits, a check letter of the series
/// (National Registration Act; Immigration & Checkpoints Authority, M series of 2022).
#[must_use]
pub fn sg_nric(value: &[u8]) -> bool {
    let Some(d) = value.get(1..8).and_then(digits::<7>) else { return false };
    let (offset, letters) = match value[0] {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        b'M' => (3, b"XWUTRQPNJLK"),
        _ => return false,
    };
    let code = (offset + weighted_sum(&d, &[2, 7, 6, 5, 4, 3, 2])) % 11;
    letters.iter().zip(0..).any(|(letter, at)| at == code && value[8..] == [*letter])
}

/// Taiwanese national identity number, or resident certificate of the form of 2021 (second
/// character 8, 9) or before (A to D): check digit modulo 10 (Ministry of the Interior; Household
/// Registration Act). A difference of five escapes it in some places.
#[must_use]
pub fn tw_national_id(value: &[u8]) -> bool {
    if !is_shaped(value, b"AX99999999") {
        return false;
    }
    let second = match value[1] {
        digit @ (b'1' | b'2' | b'8' | b'9') => digit - b'0',
        // Of a letter's two places the last counts, and A to D are 10 to 13.
        letter @ b'A'..=b'D' => letter - b'A',
        _ => return false,
    };
    let region = TAIWAN_REGIONS[usize::from(value[0] - b'A')];
    let mut codes = [0; 11];
    (codes[0], codes[1], codes[2]) = (region / 10, region % 10, second);
    for (code, byte) in codes[3..].iter_mut().zip(&value[2..]) {
        *code = byte - b'0';
    }
    weighted_sum(&codes, &[1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1]).is_multiple_of(10)
}

/// The number of each letter, in the order in which regions got theirs.
const TAIWAN_REGIONS: [u8; 26] = [
    10, 11, 12, 13, 14, 15, 16, 17, 34, 18, 19, 20, 21, 22, 35, 23, 24, 25, 26, 27, 28, 29, 32, 30,
    31, 33,
];

/// Hong Kong identity card: one or two letters, six digits, a check modulo 11 with `A` for ten
/// (Registration of Persons Regulations, Cap. 177A; Immigration Department). The place of a letter
/// that is missing counts as 36.
#[must_use]
pub fn hk_hkid(value: &[u8]) -> bool {
    let letters = match value.len() {
        8 => 1,
        9 => 2,
        _ => return false,
    };
    let (head, tail) = value.split_at(letters);
    if !head.iter().all(u8::is_ascii_uppercase) || !is_shaped(tail, b"999999X") {
        return false;
    }
    let mut codes = [36; 9];
    for (code, &byte) in codes.iter_mut().rev().zip(value.iter().rev()) {
        *code = alphanumeric(byte).unwrap_or(0);
    }
    codes[8] <= 10 && weighted_sum(&codes, &[9, 8, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// Thai national identity number: kind of person 1 to 8, check digit modulo 11 (Department of
/// Provincial Administration; Population Registration Act B.E. 2534). The third digit weighs 11 and
/// is not checked.
#[must_use]
pub fn th_national_id(value: &[u8]) -> bool {
    let Some(d) = digits::<13>(value) else { return false };
    let remainder = weighted_sum(&d, &[13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11;
    matches!(d[0], 1..=8) && (11 - remainder) % 10 == u64::from(d[12])
}

/// Malaysian MyKad: birth date, place of birth, serial (National Registration Regulations 1990;
/// JPN, "Kod negeri"). There is no check digit.
#[must_use]
pub fn my_mykad(value: &[u8]) -> bool {
    let Some(d) = digits::<12>(value) else { return false };
    let is_place = matches!(
        number(&d[6..8]),
        1..=16 | 21..=68 | 71 | 72 | 74..=79 | 82..=93 | 98 | 99
    );
    is_place && is_date_short(number(&d[..2]), number(&d[2..4]), number(&d[4..6]))
}

/// Indonesian NIK: province, regency, district, birth date (day and 40 for women), serial from 0001
/// (Undang-Undang 24/2013; Kepmendagri 100.1.1-6117/2022 for the provinces). There is no check
/// digit.
#[must_use]
pub fn id_nik(value: &[u8]) -> bool {
    let Some(d) = digits::<16>(value) else { return false };
    let is_province = matches!(
        number(&d[..2]),
        11..=19 | 21 | 31..=36 | 51..=53 | 61..=65 | 71..=76 | 81 | 82 | 91..=97
    );
    let day = number(&d[6..8]);
    let day = if day > 40 { day - 40 } else { day };
    is_province
        && number(&d[2..4]) != 0
        && number(&d[4..6]) != 0
        && is_date_short(number(&d[10..12]), number(&d[8..10]), day)
        && number(&d[12..]) != 0
}

/// Turkish identity number: eleven digits not from 0, two check digits (Nüfus Hizmetleri Kanunu
/// 5490; Nüfus ve Vatandaşlık İşleri Genel Müdürlüğü).
#[must_use]
pub fn tr_tckn(value: &[u8]) -> bool {
    let Some(d) = digits::<11>(value) else { return false };
    // Even places count -1, which is 9 modulo 10.
    let tenth = weighted_sum(&d, &[7, 9, 7, 9, 7, 9, 7, 9, 7]) % 10;
    let eleventh = weighted_sum(&d, &[1; 10]) % 10;
    d[0] != 0 && tenth == u64::from(d[9]) && eleventh == u64::from(d[10])
}

/// Israeli identity number: nine digits with Luhn's check digit (Population Registry Law 1965;
/// Population and Immigration Authority). One written without its leading zeros is not accepted.
#[must_use]
pub fn il_identity(value: &[u8]) -> bool {
    value.len() == 9 && luhn(value)
}

/// Australian tax file number: nine digits, weighted sum divisible by 11 (Australian Taxation
/// Office). The few old ones of eight digits are not accepted.
#[must_use]
pub fn au_tfn(value: &[u8]) -> bool {
    let Some(d) = digits::<9>(value) else { return false };
    weighted_sum(&d, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).is_multiple_of(11) && number(&d) != 0
}

/// Australian business number: two check digits before nine, divisible by 89 when the first is one
/// less (Australian Business Register, "Format of the ABN").
#[must_use]
pub fn au_abn(value: &[u8]) -> bool {
    let Some(mut d) = digits::<11>(value) else { return false };
    if d[0] == 0 {
        return false;
    }
    d[0] -= 1;
    weighted_sum(&d, &[10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]).is_multiple_of(89)
}

/// Australian Medicare card: eight digits from 2 to 6, check digit modulo 10, number of the issue,
/// and the holder's reference number or not (Services Australia; METeOR 270101).
#[must_use]
pub fn au_medicare(value: &[u8]) -> bool {
    let Some(d) = value.get(..10).and_then(digits::<10>) else { return false };
    let is_holder = matches!(value[10..], [] | [b'1'..=b'9']);
    let sum = weighted_sum(&d, &[1, 3, 7, 9, 1, 3, 7, 9]);
    is_holder && matches!(d[0], 2..=6) && d[9] != 0 && sum % 10 == u64::from(d[8])
}

/// South African identity number: birth date, serial, citizen, resident or refugee, Luhn's check
/// digit (Identification Act 68 of 1997; Department of Home Affairs).
#[must_use]
pub fn za_identity(value: &[u8]) -> bool {
    let Some(d) = digits::<13>(value) else { return false };
    is_date_short(number(&d[..2]), number(&d[2..4]), number(&d[4..6]))
        && matches!(d[10], 0..=2)
        && luhn(value)
}

#[cfg(test)]
mod tests {
    use super::super::Validator;
    use super::super::tests::{changes_are_refused, check, check_digits};

    #[test]
    fn japan_with_check_digits() {
        let valid = ["123456789018", "987654321093", "658537212409", "234567890121"];
        check_digits(Validator::JpMynumber, &[12], &valid, &["123456789019", "12345678901X"]);

        let valid = ["6123456781234", "5876543212345", "5234567812345"];
        let refused = ["5123456781234", "0123456781234", "8700110005902"];
        check_digits(Validator::JpCorporate, &[13], &valid, &refused);
        // The example of the National Tax Agency; its zeros could be nines.
        assert!(Validator::JpCorporate.accepts(b"8700110005901"));
        assert!(Validator::JpCorporate.accepts(b"8799110005901"));

        let valid = ["33120015", "01130012", "06131239", "39131016"];
        let refused = ["33120016", "33480013", "33000019", "08130015", "99130015"];
        check_digits(Validator::JpInsurer, &[8], &valid, &refused);
    }

    #[test]
    fn japanese_driving_licence() {
        // The last digit counts how often it was issued again: it is checked by nothing.
        let valid = ["309012345620", "459803358720", "100000000140", "621234567810"];
        let refused =
            ["309012345610", "262983010690", "982983010690", "001234567890", "459803358721A"];
        check(Validator::JpDrivingLicence, &[12], &valid, &refused);
        for last in b'0'..=b'9' {
            let mut again = *b"309012345620";
            again[11] = last;
            assert!(Validator::JpDrivingLicence.accepts(&again));
        }
        // A check of 0 or 1 has two meanings, any other promises.
        for value in &valid[..2] {
            changes_are_refused(Validator::JpDrivingLicence, value, 0..11);
        }
    }

    #[test]
    fn japan_without_check_digits() {
        let valid = ["1234567890", "0049000001", "2101123456"];
        check(Validator::JpPension, &[10], &valid, &["0000123456", "1234000000", "123456789A"]);
        let valid = ["AB12345678CD", "UH00000001EA", "ZZ99999999ZZ"];
        let refused = ["A112345678CD", "AB1234567XCD", "AB12345678C1", "ab12345678cd"];
        check(Validator::JpResidenceCard, &[12], &valid, &refused);
    }

    #[test]
    fn india() {
        let valid = ["234123412346", "999941057058", "499118665246"];
        let refused = ["234123412347", "034123412341", "123412341234", "123456789010"];
        check_digits(Validator::InAadhaar, &[12], &valid, &refused);

        let valid = ["AAPFU0939F", "ABCPE1234F", "AAACT0001Z"];
        let refused = ["AAPXU0939F", "ABCDE1234F", "AAPFU0000F", "AAPFU09390", "aapfu0939f"];
        check(Validator::InPan, &[10], &valid, &refused);

        let valid = ["27AAPFU0939F1ZV", "29AABCT1332L1ZA", "37ADAPM1724A2Z6"];
        let refused = [
            "27AAPFU0939F1ZW",
            "00AAPFU0939F1ZB",
            "39AAPFU0939F1ZQ",
            "27AAPFU0939F0ZW",
            "27AAPXU0939F1ZU",
            "27AAPFU0939F1AA",
        ];
        check_digits(Validator::InGstin, &[15], &valid, &refused);
    }

    #[test]
    fn china() {
        let valid = ["360426199101010071", "11010519491231002X", "110101200002290018"];
        let refused = [
            "360426199101010072",
            "110105194912310020",
            "11010519491231002x",
            "160426199101010074",
            "110105200102290029",
            "110101200013290013",
        ];
        check_digits(Validator::CnResidentId, &[18], &valid, &refused);
    }

    #[test]
    fn korea() {
        let valid = ["1501011123450", "1202292123454", "1901011123459"];
        let refused = ["1501011123451", "1513011123450", "1501321123450", "1302292123454"];
        check(Validator::KrRrn, &[13], &valid, &refused);
        // Between citizens and foreigners the check may stay the same.
        for (value, places) in valid.iter().flat_map(|value| [(value, 0..6), (value, 7..13)]) {
            changes_are_refused(Validator::KrRrn, value, places);
        }
        // Born since October 2020: no check. Foreigners: two more.
        let valid = ["2010013123456", "2010014000007", "2312313123450", "8001015123453"];
        let refused = ["2009303123450", "2009303123452", "8001015123451", "2013013123456"];
        check(Validator::KrRrn, &[13], &valid, &refused);
    }

    #[test]
    fn singapore() {
        let valid = [
            "S1234567D",
            "S0000001I",
            "T1234567J",
            "F1234567N",
            "G1234567X",
            "M1234567K",
            "M7654321J",
        ];
        let refused = [
            "S1234567A",
            "T1234567D",
            "F1234567X",
            "G1234567N",
            "M1234567X",
            "A1234567D",
            "S1234567d",
            "s1234567D",
            "S1234567",
        ];
        check_digits(Validator::SgNric, &[9], &valid, &refused);
    }

    #[test]
    fn taiwan() {
        let valid = ["A123456789", "F131040094", "A800000014", "AC12345679", "W100000001"];
        let refused = ["A123456788", "A323456781", "AE12345678", "1123456789", "a123456789"];
        check(Validator::TwNationalId, &[10], &valid, &refused);
        let valid = ["B987654320", "O200000006", "Z100000002", "HD12345678", "I100000003"];
        check(Validator::TwNationalId, &[10], &valid, &[]);
    }

    #[test]
    fn hong_kong() {
        let valid = ["A1234563", "AB1234569", "AB9876543", "E3649125", "Z000001A", "D123457A"];
        let refused = ["A1234564", "A123456A", "D123457B", "11234563", "a1234563", "ABC234563"];
        check_digits(Validator::HkHkid, &[8, 9], &valid, &refused);
    }

    #[test]
    fn thailand_malaysia_and_indonesia() {
        let valid = ["1234567890139", "1234567890147", "5123456789017"];
        let refused = ["1234567890138", "0234567890149", "9234567890140", "123456789013X"];
        check(Validator::ThNationalId, &[13], &valid, &refused);
        // The third digit weighs 11, and so nothing.
        for (value, places) in valid.iter().flat_map(|value| [(value, 0..2), (value, 3..13)]) {
            changes_are_refused(Validator::ThNationalId, value, places);
        }
        // A check of 0 or 1 has two meanings.
        check(Validator::ThNationalId, &[13], &["1234567890121", "3100600445660", valid[0]], &[]);

        let valid = ["770305021234", "000229141234", "991231821234"];
        let refused = ["771305021234", "770332021234", "770305171234", "770305001234"];
        check(Validator::MyMykad, &[12], &valid, &refused);

        let valid = ["3171011708450001", "3171015708450001", "9101012902001234"];
        let refused = [
            "9971011708450001",
            "3100011708450001",
            "3171001708450001",
            "3171010008450001",
            "3171013208450001",
            "3171017208450001",
            "3171011713450001",
            "3171011708450000",
        ];
        check(Validator::IdNik, &[16], &valid, &refused);
    }

    #[test]
    fn turkey_and_israel() {
        let valid = ["12345678950", "10000000146", "98765432150"];
        check_digits(Validator::TrTckn, &[11], &valid, &["12345678905", "02345678982"]);
        let valid = ["123456782", "000000018", "987654324"];
        check_digits(Validator::IlIdentity, &[9], &valid, &["123456783", "12345678A"]);
    }

    #[test]
    fn australia() {
        let valid = ["123456782", "876543210", "100000001", "100000028"];
        check_digits(Validator::AuTfn, &[9], &valid, &["123456783", "12345678X"]);

        let valid = ["51824753556", "18123456789", "53004085616", "83914571673"];
        check_digits(Validator::AuAbn, &[11], &valid, &["51824753557", "01824753556"]);

        let valid = ["2951873125", "29518731251", "2123456701", "34567890811"];
        let refused = ["2951873135", "2951873120", "29518731250", "1951873115", "7951873165"];
        check(Validator::AuMedicare, &[10, 11], &valid, &refused);
        // What follows the check counts issues and persons.
        valid.iter().for_each(|value| changes_are_refused(Validator::AuMedicare, value, 0..9));
    }

    #[test]
    fn south_africa() {
        let valid = ["8001015009087", "0002290000187", "9912311234089"];
        let refused = ["8001015009088", "8013015009082", "8001325009082", "8001015009384"];
        check_digits(Validator::ZaIdentity, &[13], &valid, &refused);
    }
}

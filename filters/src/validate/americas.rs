//! Identifiers of the Americas.

use super::generic::{complement_11, weighted_sum};
use super::{digit, digits, is_date, is_shaped, number};

/// US social security number: an area but 000, 666 and 9xx, a group but 00, a serial but 0000 (SSA,
/// "Social Security Number Randomization", 2011; 20 CFR 422.103). There is no check digit.
///
/// Numbers that were printed in advertisements, or that stand for any number, are refused.
#[must_use]
pub fn us_ssn(value: &[u8]) -> bool {
    let Some(d) = digits::<9>(value) else { return false };
    !matches!(number(&d[..3]), 0 | 666 | 900..)
        && number(&d[3..5]) != 0
        && number(&d[5..]) != 0
        && !matches!(value, b"078051120" | b"219099999" | b"457555462" | b"123456789")
}

/// US individual taxpayer identification number: 9xx and a group of 50-65, 70-88, 90-92 or 94-99
/// (Internal Revenue Manual 3.21.263). There is no check digit.
#[must_use]
pub fn us_itin(value: &[u8]) -> bool {
    let Some(d) = digits::<9>(value) else { return false };
    d[0] == 9 && matches!(number(&d[3..5]), 50..=65 | 70..=88 | 90..=92 | 94..=99)
}

/// US employer identification number: a prefix the IRS gives out (IRS, "How EINs are assigned and
/// valid EIN prefixes"). There is no check digit.
#[must_use]
pub fn us_ein(value: &[u8]) -> bool {
    let Some(d) = digits::<9>(value) else { return false };
    let is_prefix = matches!(
        number(&d[..2]),
        1..=6 | 10..=16 | 20..=27 | 30..=48 | 50..=68 | 71..=77 | 80..=88 | 90..=95 | 98 | 99
    );
    is_prefix && number(&d[2..]) != 0
}

/// US national provider identifier: ten digits from 1 or 2, Luhn's check digit as if 80840 stood
/// before them (45 CFR 162.406; CMS, "NPI Check Digit").
#[must_use]
pub fn us_npi(value: &[u8]) -> bool {
    let Some(d) = digits::<10>(value) else { return false };
    // What 80840 adds to Luhn's sum.
    let prefix = 24;
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u8 = d.chunks_exact(2).map(|pair| doubled(pair[0]) + pair[1]).sum();
    matches!(d[0], 1 | 2) && (prefix + sum).is_multiple_of(10)
}

/// US Medicare beneficiary identifier: eleven characters, each of the class its place asks for,
/// letters without S, L, O, I, B and Z (CMS, "Understanding the MBI Format"). No check character.
#[must_use]
pub fn us_mbi(value: &[u8]) -> bool {
    is_shaped(value, b"9AX9AX9AA99")
        && value[0] != b'0'
        && !value.iter().any(|byte| matches!(byte, b'S' | b'L' | b'O' | b'I' | b'B' | b'Z'))
}

/// Canadian social insurance number: Luhn's check digit; 8 begins business numbers (Employment and
/// Social Development Canada, "The SIN code of practice"). 0 begins the tax numbers (ITN) that the
/// Canada Revenue Agency gives to those without a SIN, and they are accepted.
#[must_use]
pub fn ca_sin(value: &[u8]) -> bool {
    value.len() == 9 && value[0] != b'8' && super::generic::luhn(value)
}

/// Brazilian CPF of persons: two check digits modulo 11 (Receita Federal, Instrução Normativa RFB
/// 2172/2024).
#[must_use]
pub fn br_cpf(value: &[u8]) -> bool {
    let Some(d) = digits::<11>(value) else { return false };
    complement_11(weighted_sum(&d[..9], &[10, 9, 8, 7, 6, 5, 4, 3, 2])) == d[9]
        && complement_11(weighted_sum(&d[..10], &[11, 10, 9, 8, 7, 6, 5, 4, 3, 2])) == d[10]
}

/// Brazilian CNPJ of legal entities: twelve characters and two check digits modulo 11 (Receita
/// Federal, Instrução Normativa RFB 2229/2024). A letter, possible since July 2026, counts as its
/// ASCII code less 48; for digits this is the old rule.
#[must_use]
pub fn br_cnpj(value: &[u8]) -> bool {
    if !is_shaped(value, b"XXXXXXXXXXXX99") {
        return false;
    }
    let mut codes = [0; 14];
    for (code, byte) in codes.iter_mut().zip(value) {
        *code = byte - b'0';
    }
    complement_11(weighted_sum(&codes[..12], &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])) == codes[12]
        && complement_11(weighted_sum(&codes[..13], &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]))
            == codes[13]
}

/// Chilean RUT: seven or eight digits and a check modulo 11, `K` for ten (Servicio de Registro
/// Civil e Identificación; Decreto con Fuerza de Ley 3 of 1969).
#[must_use]
pub fn cl_rut(value: &[u8]) -> bool {
    let Some((&check, body)) = value.split_last() else { return false };
    let check = if check == b'K' { Some(10) } else { digit(check) };
    let (Some(check), true) = (check, matches!(body.len(), 7 | 8)) else { return false };
    let mut sum = u64::from(check);
    for (&byte, weight) in body.iter().rev().zip([2, 3, 4, 5, 6, 7, 2, 3]) {
        let Some(digit) = digit(byte) else { return false };
        sum += u64::from(digit) * weight;
    }
    sum.is_multiple_of(11) && body[0] != b'0'
}

/// Argentine CUIT or CUIL: a type of holder and a check digit modulo 11 (AFIP, Resolución General
/// 10/1997). Where the check would be ten, AFIP gives another type.
#[must_use]
pub fn ar_cuit(value: &[u8]) -> bool {
    let Some(d) = digits::<11>(value) else { return false };
    matches!(number(&d[..2]), 20 | 23..=27 | 30 | 33 | 34 | 50 | 51 | 55)
        && weighted_sum(&d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
}

/// Mexican CURP: letters of the names, birth date, sex, state, consonants, a character that tells
/// the century, a check digit (RENAPO, "Instructivo normativo para la asignación de la CURP",
/// 2021).
#[must_use]
pub fn mx_curp(value: &[u8]) -> bool {
    is_shaped(value, b"AAAA999999AAAAAAX9")
        && matches!(value[1], b'A' | b'E' | b'I' | b'O' | b'U' | b'X')
        && matches!(value[10], b'H' | b'M' | b'X')
        && is_mexican_state([value[11], value[12]])
        && !value[13..16].iter().any(|byte| matches!(byte, b'A' | b'E' | b'I' | b'O' | b'U'))
        && is_curp_date(value)
        && is_curp_check(value)
}

/// A digit in the place before the check says born in the twentieth century, a letter after it.
fn is_curp_date(value: &[u8]) -> bool {
    let Some(d) = digits::<6>(&value[4..10]) else { return false };
    let century = if value[16].is_ascii_digit() { 1900 } else { 2000 };
    is_date(century + number(&d[..2]), number(&d[2..4]), number(&d[4..]))
}

/// The sum of codes in the alphabet with Ñ after N, weighted 18 down to 2, is complemented to ten.
fn is_curp_check(value: &[u8]) -> bool {
    let mut codes = [0; 18];
    for (code, &byte) in codes.iter_mut().zip(value) {
        *code = match byte {
            b'O'..=b'Z' => byte - b'O' + 25,
            b'A'..=b'N' => byte - b'A' + 10,
            _ => byte - b'0',
        };
    }
    let weights = [18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];
    weighted_sum(&codes, &weights).is_multiple_of(10)
}

/// The federal entities of the CURP, and `NE` for born abroad.
fn is_mexican_state(state: [u8; 2]) -> bool {
    matches!(
        &state,
        b"AS"
            | b"BC"
            | b"BS"
            | b"CC"
            | b"CL"
            | b"CM"
            | b"CS"
            | b"CH"
            | b"DF"
            | b"DG"
            | b"GT"
            | b"GR"
            | b"HG"
            | b"JC"
            | b"MC"
            | b"MN"
            | b"MS"
            | b"NT"
            | b"NL"
            | b"OC"
            | b"PL"
            | b"QT"
            | b"QR"
            | b"SP"
            | b"SL"
            | b"SR"
            | b"TC"
            | b"TS"
            | b"TL"
            | b"VZ"
            | b"YN"
            | b"ZS"
            | b"NE"
    )
}

#[cfg(test)]
mod tests {
    use super::super::Validator;
    use super::super::tests::{check, check_digits};

    #[test]
    fn united_states_without_check_digits() {
        let valid = ["001010001", "665990001", "667010001", "899999999", "123456788"];
        let refused = [
            "000450001",
            "666450001",
            "900450001",
            "999450001",
            "123004567",
            "123450000",
            "078051120",
            "219099999",
            "457555462",
            "123456789",
            "987654321",
        ];
        check(Validator::UsSsn, &[9], &valid, &refused);

        let valid = ["900700000", "912903456", "999990000", "901500001", "900650001", "900880001"];
        let refused =
            ["900490001", "900660001", "900690001", "900890001", "900930001", "812903456"];
        check(Validator::UsItin, &[9], &valid, &refused);

        let valid = ["010000001", "911144442", "042103594", "481234567", "990000001"];
        let refused = [
            "001234567",
            "071144442",
            "081234567",
            "171234567",
            "281234567",
            "491234567",
            "691234567",
            "781234567",
            "891234567",
            "961234567",
            "010000000",
        ];
        check(Validator::UsEin, &[9], &valid, &refused);

        let valid = ["1EG4TE5MK73", "1EG4TE5MK72", "9AA0AA0AA00", "1A00A00AA00"];
        let refused = [
            "0EG4TE5MK73",
            "1SG4TE5MK73",
            "1EL4TE5MK73",
            "1EG4OE5MK73",
            "1EG4TI5MK73",
            "1EG4TE5BK73",
            "1EG4TE5MZ73",
            "1E4GTE5MK73",
            "1EGTTE5MK73",
            "1EG4TETMK73",
            "1EG4TE5MKA3",
            "1EG4TE5MK7A",
            "1eg4te5mk73",
        ];
        check(Validator::UsMbi, &[11], &valid, &refused);
    }

    #[test]
    fn national_provider_identifier() {
        let valid = ["1234567893", "1000000004", "2987654326"];
        // Luhn without 80840; from 3.
        let refused = ["1234567897", "1234567890", "3234567891"];
        check_digits(Validator::UsNpi, &[10], &valid, &refused);
    }

    #[test]
    fn canada() {
        let valid = ["123456782", "950123455", "423456789", "046454286"];
        check_digits(Validator::CaSin, &[9], &valid, &["123456789", "812345676", "12345678X"]);
    }

    #[test]
    fn brazil() {
        let valid = ["11144477735", "52998224725", "11223344517"];
        check_digits(Validator::BrCpf, &[11], &valid, &["12345678990", "11144477753"]);
        // A check of 0 stands for ten and eleven, and so a change may escape it.
        check(Validator::BrCpf, &[11], &["12345678909", "98765432100", "11144477735"], &[]);
        let valid = ["11222333000181", "12ABC34501DE35", "A1B2C3D4000193"];
        let refused = ["11222333000118", "12ABC34501DE53", "12abc34501de35", "12ABC34501DE3A"];
        check_digits(Validator::BrCnpj, &[14], &valid, &refused);
    }

    #[test]
    fn chile() {
        let valid = ["123456785", "76543216", "10000009", "1234564K", "98765433"];
        let refused = ["12345678K", "1234564k", "12345640", "K1234564", "000000018", "012345674"];
        check_digits(Validator::ClRut, &[8, 9], &valid, &refused);
    }

    #[test]
    fn argentina() {
        let valid = ["20123456786", "27123456780", "30123456781", "23123456718"];
        let refused = ["20123456768", "21123456782", "22123456789", "99123456781"];
        check_digits(Validator::ArCuit, &[11], &valid, &refused);
    }

    #[test]
    fn mexico() {
        let valid = [
            "BOXW310820HNERXN09",
            "XEXX010101HNEXXXA4",
            "AAAX800101MDFXXX03",
            "SABC560626MDFLRN01",
        ];
        let refused = [
            "BOXW310820HNERXN08",
            // With the right check digit: month, day, century, sex, state, vowel, consonant.
            "BOXW311320HNERXN02",
            "BOXW310832HNERXN01",
            "BOXW010229HNERXNA6",
            "BOXW310229HNERXN04",
            "BOXW310820ANERXN05",
            "BOXW310820HZZRXN06",
            "BBXW310820HNERXN07",
            "BOXW310820HNEAXN09",
        ];
        check(Validator::MxCurp, &[18], &valid, &refused);
    }
}

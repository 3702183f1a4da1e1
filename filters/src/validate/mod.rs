//! Whether a candidate is a well-formed identifier with the right check digits.
//!
//! A scanner finds candidates and normalises them; a [`Validator`] says yes or no. Rule files name
//! validators by [`Validator::name`]. Each is written from the rule its doc comment names: a
//! standard, a law, or the authority that gives the identifier out.
//!
//! A candidate is ASCII: digits, letters in upper case, no separators. Only the tokens of services
//! ([`tokens`]) keep their case and their punctuation.
//!
//! # Invariants
//! - Pure: the answer depends on the value only. No clock, so that a date may lie in the future.
//! - Linear in the value, no allocation, no panic for any bytes.
//! - [`Validator::accepts`] refuses a value of one character repeated, whatever its check digit
//!   says: it is a filler. The functions of the families know the published rule only.
//!
//! # Security
//! Yes means well-formed, not given out: a check digit modulo 10 lets one random number in ten
//! pass, and some identifiers have no check at all (their doc comments say so). What such a
//! validator accepts needs context before it is evidence.
//!
//! # Failures
//! None.

pub mod americas;
pub mod asia;
pub mod bank;
pub mod europe;
pub mod generic;
pub mod tokens;

/// Makes the enum, its names and its functions out of one table.
macro_rules! validators {
    ($($(#[$doc:meta])* $variant:ident $name:literal $function:path;)*) => {
        /// A kind of identifier that a value can be checked against.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Validator {
            $($(#[$doc])* $variant,)*
        }

        impl Validator {
            /// Every validator, by family and country.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, as rule files write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            const fn function(self) -> fn(&[u8]) -> bool {
                match self {
                    $(Self::$variant => $function,)*
                }
            }
        }
    };
}

validators! {
    /// Luhn's check digit.
    Luhn "luhn" generic::luhn;
    /// Luhn's check character over `0-9A-Z`.
    LuhnMod36 "luhn_mod36" generic::luhn_mod36;
    /// ISO/IEC 7064 MOD 11-2.
    Mod11_2 "mod11_2" generic::mod11_2;
    /// ISO/IEC 7064 MOD 11,10.
    Mod11_10 "mod11_10" generic::mod11_10;
    /// ISO/IEC 7064 MOD 37-2.
    Mod37_2 "mod37_2" generic::mod37_2;
    /// ISO/IEC 7064 MOD 97-10.
    Mod97_10 "mod97_10" generic::mod97_10;
    /// Verhoeff's check digit.
    Verhoeff "verhoeff" generic::verhoeff;
    /// Damm's check digit.
    Damm "damm" generic::damm;

    /// International bank account number.
    Iban "iban" bank::iban;
    /// Business identifier code (SWIFT), form only.
    Bic "bic" bank::bic;
    /// ABA routing number of US banks.
    AbaRouting "aba_routing" bank::aba_routing;

    /// US social security number, form only.
    UsSsn "us_ssn" americas::us_ssn;
    /// US individual taxpayer identification number, form only.
    UsItin "us_itin" americas::us_itin;
    /// US employer identification number, form only.
    UsEin "us_ein" americas::us_ein;
    /// US national provider identifier.
    UsNpi "us_npi" americas::us_npi;
    /// US Medicare beneficiary identifier, form only.
    UsMbi "us_mbi" americas::us_mbi;
    /// Canadian social insurance number.
    CaSin "ca_sin" americas::ca_sin;
    /// Brazilian CPF.
    BrCpf "br_cpf" americas::br_cpf;
    /// Brazilian CNPJ, digits or letters and digits.
    BrCnpj "br_cnpj" americas::br_cnpj;
    /// Chilean RUT.
    ClRut "cl_rut" americas::cl_rut;
    /// Argentine CUIT or CUIL.
    ArCuit "ar_cuit" americas::ar_cuit;
    /// Mexican CURP.
    MxCurp "mx_curp" americas::mx_curp;

    /// UK National Insurance number, form only.
    GbNino "gb_nino" europe::gb_nino;
    /// NHS number.
    GbNhs "gb_nhs" europe::gb_nhs;
    /// French NIR with its key.
    FrNir "fr_nir" europe::fr_nir;
    /// Spanish DNI.
    EsDni "es_dni" europe::es_dni;
    /// Spanish NIE.
    EsNie "es_nie" europe::es_nie;
    /// Italian codice fiscale.
    ItCodiceFiscale "it_codice_fiscale" europe::it_codice_fiscale;
    /// Dutch BSN.
    NlBsn "nl_bsn" europe::nl_bsn;
    /// Belgian national number.
    BeNational "be_national" europe::be_national;
    /// Swedish personnummer or samordningsnummer.
    SePersonnummer "se_personnummer" europe::se_personnummer;
    /// Norwegian fødselsnummer or D-number.
    NoFodselsnummer "no_fodselsnummer" europe::no_fodselsnummer;
    /// Danish CPR number, date only.
    DkCpr "dk_cpr" europe::dk_cpr;
    /// Finnish henkilötunnus.
    FiHetu "fi_hetu" europe::fi_hetu;
    /// Polish PESEL.
    PlPesel "pl_pesel" europe::pl_pesel;
    /// German Steuer-Identifikationsnummer.
    DeSteuerId "de_steuer_id" europe::de_steuer_id;
    /// Austrian social security number.
    AtSvnr "at_svnr" europe::at_svnr;
    /// Swiss AHV number.
    ChAhv "ch_ahv" europe::ch_ahv;
    /// Portuguese NIF.
    PtNif "pt_nif" europe::pt_nif;
    /// Greek AMKA.
    GrAmka "gr_amka" europe::gr_amka;
    /// Irish PPS number.
    IePps "ie_pps" europe::ie_pps;
    /// Romanian CNP.
    RoCnp "ro_cnp" europe::ro_cnp;
    /// Bulgarian EGN.
    BgEgn "bg_egn" europe::bg_egn;
    /// Czech or Slovak rodné číslo.
    CzRodneCislo "cz_rodne_cislo" europe::cz_rodne_cislo;
    /// Croatian OIB.
    HrOib "hr_oib" europe::hr_oib;
    /// Estonian isikukood.
    EeIsikukood "ee_isikukood" europe::ee_isikukood;
    /// Lithuanian asmens kodas.
    LtAsmensKodas "lt_asmens_kodas" europe::lt_asmens_kodas;

    /// Japanese individual number.
    JpMynumber "jp_mynumber" asia::jp_mynumber;
    /// Japanese corporate number.
    JpCorporate "jp_corporate" asia::jp_corporate;
    /// Japanese driving licence.
    JpDrivingLicence "jp_driving_licence" asia::jp_driving_licence;
    /// Japanese basic pension number, form only.
    JpPension "jp_pension" asia::jp_pension;
    /// Japanese health insurer's number of eight digits.
    JpInsurer "jp_insurer" asia::jp_insurer;
    /// Japanese residence card, form only.
    JpResidenceCard "jp_residence_card" asia::jp_residence_card;
    /// Indian Aadhaar.
    InAadhaar "in_aadhaar" asia::in_aadhaar;
    /// Indian PAN, form only.
    InPan "in_pan" asia::in_pan;
    /// Indian GSTIN.
    InGstin "in_gstin" asia::in_gstin;
    /// Chinese resident identity number.
    CnResidentId "cn_resident_id" asia::cn_resident_id;
    /// South Korean resident registration number.
    KrRrn "kr_rrn" asia::kr_rrn;
    /// Singapore NRIC or FIN.
    SgNric "sg_nric" asia::sg_nric;
    /// Taiwanese national identity or resident certificate number.
    TwNationalId "tw_national_id" asia::tw_national_id;
    /// Hong Kong identity card.
    HkHkid "hk_hkid" asia::hk_hkid;
    /// Thai national identity number.
    ThNationalId "th_national_id" asia::th_national_id;
    /// Malaysian MyKad, form only.
    MyMykad "my_mykad" asia::my_mykad;
    /// Indonesian NIK, form only.
    IdNik "id_nik" asia::id_nik;
    /// Turkish identity number.
    TrTckn "tr_tckn" asia::tr_tckn;
    /// Israeli identity number.
    IlIdentity "il_identity" asia::il_identity;
    /// Australian tax file number.
    AuTfn "au_tfn" asia::au_tfn;
    /// Australian business number.
    AuAbn "au_abn" asia::au_abn;
    /// Australian Medicare card.
    AuMedicare "au_medicare" asia::au_medicare;
    /// South African identity number.
    ZaIdentity "za_identity" asia::za_identity;

    /// GitHub token.
    GithubToken "github_token" tokens::github_token;
    /// AWS access key id, form only.
    AwsAccessKeyId "aws_access_key_id" tokens::aws_access_key_id;
    /// JSON Web Token, form only.
    Jwt "jwt" tokens::jwt;
}

impl Validator {
    /// The validator with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|validator| validator.name() == name)
    }

    /// Whether `value`, normalised as the module says, is such an identifier.
    #[must_use]
    pub fn accepts(self, value: &[u8]) -> bool {
        let Some((first, rest)) = value.split_first() else { return false };
        let is_filler = rest.iter().all(|byte| byte == first);
        !is_filler && self.function()(value)
    }
}

/// The number that an ASCII digit stands for.
fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte - b'0')
}

/// The number of a character in `0-9A-Z`.
fn alphanumeric(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        _ => digit(byte),
    }
}

/// The numbers of a value of exactly `N` digits.
fn digits<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    let value: &[u8; N] = value.try_into().ok()?;
    value.iter().all(u8::is_ascii_digit).then(|| value.map(|byte| byte - b'0'))
}

/// The number that up to nineteen decimal digits make.
fn number(digits: &[u8]) -> u64 {
    debug_assert!(digits.len() <= 19, "it fits");
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(*digit))
}

/// Whether each byte is of the kind in its place: `9` a digit, `A` a letter, `X` either.
fn is_shaped(value: &[u8], shape: &[u8]) -> bool {
    let is_kind = |(byte, kind): (&u8, &u8)| match kind {
        b'9' => byte.is_ascii_digit(),
        b'A' => byte.is_ascii_uppercase(),
        _ => byte.is_ascii_digit() || byte.is_ascii_uppercase(),
    };
    value.len() == shape.len() && value.iter().zip(shape).all(is_kind)
}

/// Whether this is a day of the Gregorian calendar.
fn is_date(year: u64, month: u64, day: u64) -> bool {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Whether this is a day in some century, for a year of two digits.
fn is_date_short(year: u64, month: u64, day: u64) -> bool {
    // 2000 is a leap year: what has a 29 February in any century has it then.
    is_date(2000 + year, month, day)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    /// Checks that `validator` accepts `valid` and refuses `refused` and what the valid ones become
    /// with another length (all but `lengths`), one repeated character, a letter for a digit, or a
    /// byte that is none of both in any place.
    #[track_caller]
    pub(super) fn check(validator: Validator, lengths: &[usize], valid: &[&str], refused: &[&str]) {
        let name = validator.name();
        let accepts = |value: &[u8]| validator.accepts(value);
        let text = String::from_utf8_lossy;
        assert!(valid.len() >= 3, "{name} has too few examples");
        valid.iter().for_each(|value| assert!(accepts(value.as_bytes()), "{name} {value}"));
        refused.iter().for_each(|value| assert!(!accepts(value.as_bytes()), "{name} {value}"));
        for value in valid.iter().map(|value| value.as_bytes()) {
            for length in (0..=40).filter(|length| !lengths.contains(length)) {
                let other: Vec<_> = value.iter().copied().cycle().take(length).collect();
                assert!(!accepts(&other), "{name} {}", text(&other));
            }
            for filler in b"0123456789AZ" {
                assert!(!accepts(&vec![*filler; value.len()]), "{name} of {filler}");
            }
            for place in 0..value.len() {
                let letter = if value[place].is_ascii_digit() { b'O' } else { b'1' };
                let letter = (!FREE.contains(&validator)).then_some(letter);
                let others = [b'!', b' ', b'/', b':', b'@', b'[', b'`', b'{', 0, 0xb2, 0xff];
                for other in others.into_iter().chain(letter) {
                    let mut changed = value.to_vec();
                    changed[place] = other;
                    assert!(!accepts(&changed), "{name} {}", text(&changed));
                }
            }
        }
    }

    /// Some places of these take a letter or a digit, and no check character tells for sure.
    const FREE: [Validator; 5] = [
        Validator::Iban,
        Validator::Bic,
        Validator::UsMbi,
        Validator::MxCurp,
        Validator::AwsAccessKeyId,
    ];

    /// As [`check`], and every change of a single digit is refused.
    #[track_caller]
    pub(super) fn check_digits(
        validator: Validator,
        lengths: &[usize],
        valid: &[&str],
        refused: &[&str],
    ) {
        check(validator, lengths, valid, refused);
        valid.iter().for_each(|value| changes_are_refused(validator, value, 0..value.len()));
    }

    /// Checks that every change of a single digit in `places` is refused.
    #[track_caller]
    pub(super) fn changes_are_refused(validator: Validator, value: &str, places: Range<usize>) {
        for place in places {
            let mut changed = value.as_bytes().to_vec();
            let digits = (b'0'..=b'9').filter(|_| value.as_bytes()[place].is_ascii_digit());
            for digit in digits.filter(|digit| *digit != value.as_bytes()[place]) {
                changed[place] = digit;
                let text = String::from_utf8_lossy(&changed);
                assert!(!validator.accepts(&changed), "{} {text}", validator.name());
            }
        }
    }

    #[test]
    fn names_are_unique_and_found_again() {
        for &validator in Validator::ALL {
            let name = validator.name();
            assert_eq!(Validator::parse(name), Some(validator));
            let is_snake = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            assert!(name.bytes().all(is_snake), "{name}");
        }
        for name in ["", "Luhn", "LUHN", "luhn ", "jp_my_number"] {
            assert_eq!(Validator::parse(name), None, "{name}");
        }
    }

    #[test]
    fn days_of_the_calendar() {
        for (year, month, day, want) in [
            (1999, 1, 31, true),
            (1999, 4, 30, true),
            (1999, 4, 31, false),
            (1999, 12, 31, true),
            (1999, 0, 1, false),
            (1999, 13, 1, false),
            (1999, 1, 0, false),
            (1999, 1, 32, false),
            (1999, 2, 29, false),
            (1996, 2, 29, true),
            (1996, 2, 30, false),
            (1900, 2, 29, false),
            (2000, 2, 29, true),
            (2100, 2, 29, false),
        ] {
            assert_eq!(is_date(year, month, day), want, "{year}-{month}-{day}");
        }
        assert!(is_date_short(0, 2, 29) && is_date_short(96, 2, 29) && !is_date_short(99, 2, 29));
    }

    #[test]
    fn a_filler_is_refused_whatever_its_check_says() {
        assert!(generic::luhn(b"0000000000") && !Validator::Luhn.accepts(b"0000000000"));
        assert!(europe::dk_cpr(b"1111111111") && !Validator::DkCpr.accepts(b"1111111111"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_bytes_are_answered(value in proptest::collection::vec(any::<u8>(), 0..=40)) {
            Validator::ALL.iter().for_each(|validator| _ = validator.accepts(&value));
            prop_assert!(tokens::entropy_millibits(&value) <= 8000);
        }

        /// Bytes that get past the first look.
        #[test]
        fn any_letters_and_digits_are_answered(value in "[A-Z]{0,5}[0-9A-Z.+-]{0,30}[0-9]{0,14}") {
            Validator::ALL.iter().for_each(|validator| _ = validator.accepts(value.as_bytes()));
        }

        #[test]
        fn any_digits_are_answered(value in "[0-9]{0,20}") {
            Validator::ALL.iter().for_each(|validator| _ = validator.accepts(value.as_bytes()));
        }
    }
}

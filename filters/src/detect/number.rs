//! Identity, tax and account numbers: what a person, a company or an account is known by.
//!
//! A group of letters and digits with a digit in it is taken for the beginning of a number. It is tried
//! alone and with the groups that follow it, in each of the ways that a number of its kind is written
//! ([`KINDS`]); the check of [`Validator`] decides, and then what stands around it: most numbers have a
//! check digit that one in ten others passes too, so that they count only near a word that names them.
//!
//! Not a number: what touches further letters or digits, what hangs on them by a hyphen, dot or slash,
//! rows of numbers that are grouped alike.
//!
//! # Invariants
//! - A number is judged with [`AHEAD_BYTES`] after its first digit and [`BEHIND_BYTES`] before it, so that
//!   cuts between pieces change nothing.
//! - Of one place at most one number is counted: that of the surest kind.
//!
//! # Failures
//! None.

use std::sync::LazyLock;

use crate::detect::card::{digits_in, mask};
use crate::detect::held::Held;
use crate::detect::{Confidence, Detector, Sink};
use crate::validate::Validator;

/// From the first digit of a number to the end of what is looked at behind it.
const AHEAD_BYTES: usize = 128;
/// Before its first digit: what opens it, and the words that name it.
const BEHIND_BYTES: usize = 160;
/// How far before a number a word may stand.
const NEAR_BEFORE_BYTES: usize = 96;
/// How far behind a number a word may stand.
const NEAR_BYTES: usize = 40;
/// The longest number, without separators.
const VALUE_BYTES_MAX: usize = 34;
/// Groups of one number at most: an IBAN has nine.
const GROUPS_MAX: usize = 9;

/// A kind of number.
struct Kind {
    id: &'static str,
    validator: Validator,
    /// The ways it is written: lengths of its groups.
    forms: &'static [&'static [u8]],
    /// What stands between groups.
    joints: &'static [u8],
    /// Words that name it, in lower case.
    words: &'static [&'static str],
    /// How sure it is without such a word: in one piece, and in groups.
    alone: (Option<Confidence>, Option<Confidence>),
    /// Its second group may begin with a letter.
    letters: bool,
}

const fn kind(
    id: &'static str,
    validator: Validator,
    forms: &'static [&'static [u8]],
    joints: &'static [u8],
    words: &'static [&'static str],
) -> Kind {
    Kind { id, validator, forms, joints, words, alone: (None, None), letters: false }
}

impl Kind {
    const fn with_letters(mut self) -> Self {
        self.letters = true;
        self
    }

    const fn alone(mut self, whole: Option<Confidence>, grouped: Option<Confidence>) -> Self {
        self.alone = (whole, grouped);
        self
    }
}

const HIGH: Option<Confidence> = Some(Confidence::High);
const MEDIUM: Option<Confidence> = Some(Confidence::Medium);

/// The kinds, by region. Of two that fit alike the first counts.
const KINDS: &[Kind] = &[
    kind("iban", Validator::Iban, &[IBAN], b" ", &["iban"]).with_letters().alone(HIGH, HIGH),
    kind("us_ssn", Validator::UsSsn, &[&[9], &[3, 2, 4]], b"- ", &["ssn", "social security"]),
    kind("us_itin", Validator::UsItin, &[&[9], &[3, 2, 4]], b"- ", &["itin"]),
    kind("us_ein", Validator::UsEin, &[&[9], &[2, 7]], b"-", &["ein", "employer identification"]),
    kind("us_npi", Validator::UsNpi, &[&[10]], b"", &["npi", "national provider"]),
    kind("us_mbi", Validator::UsMbi, &[&[11], &[4, 3, 4]], b"- ", &["mbi", "medicare"])
        .with_letters(),
    kind("us_aba_routing", Validator::AbaRouting, &[&[9]], b"", &["routing", "aba", "rtn"]),
    kind(
        "ca_sin",
        Validator::CaSin,
        &[&[9], &[3, 3, 3]],
        b"- ",
        &["sin", "social insurance", "nas"],
    ),
    kind("br_cpf", Validator::BrCpf, &[&[11], &[3, 3, 3, 2]], b".-", &["cpf"]).alone(None, MEDIUM),
    kind("br_cnpj", Validator::BrCnpj, &[&[14], &[2, 3, 3, 4, 2]], b"./-", &["cnpj"])
        .alone(None, HIGH),
    kind(
        "cl_rut",
        Validator::ClRut,
        &[&[9], &[8, 1], &[2, 3, 3, 1], &[1, 3, 3, 1]],
        b".-",
        &["rut"],
    ),
    kind("ar_cuit", Validator::ArCuit, &[&[11], &[2, 8, 1]], b"-", &["cuit", "cuil"])
        .alone(None, MEDIUM),
    kind("mx_curp", Validator::MxCurp, &[&[18]], b"", &["curp"]).alone(HIGH, None),
    kind(
        "gb_nino",
        Validator::GbNino,
        &[&[9], &[2, 2, 2, 2, 1]],
        b" ",
        &["national insurance", "nino", "ni number"],
    )
    .alone(None, MEDIUM),
    kind("gb_nhs", Validator::GbNhs, &[&[10], &[3, 3, 4]], b" -", &["nhs"]),
    kind(
        "fr_nir",
        Validator::FrNir,
        &[&[15], &[13, 2], &[1, 2, 2, 2, 3, 3, 2]],
        b" ",
        &["sécurité sociale", "securite sociale", "nir", "insee"],
    )
    .alone(MEDIUM, HIGH),
    kind("es_dni", Validator::EsDni, &[&[9], &[8, 1]], b"-", &["dni", "nif"]).with_letters(),
    kind("es_nie", Validator::EsNie, &[&[9], &[1, 7, 1]], b"-", &["nie"])
        .with_letters()
        .alone(None, MEDIUM),
    kind(
        "it_codice_fiscale",
        Validator::ItCodiceFiscale,
        &[&[16], &[3, 3, 5, 5]],
        b" ",
        &["codice fiscale"],
    )
    .with_letters()
    .alone(HIGH, HIGH),
    kind("nl_bsn", Validator::NlBsn, &[&[9]], b"", &["bsn", "burgerservicenummer"]),
    kind(
        "be_national",
        Validator::BeNational,
        &[&[11], &[2, 2, 2, 3, 2]],
        b".-",
        &["rijksregister", "registre national", "niss", "insz"],
    )
    .alone(None, HIGH),
    kind(
        "se_personnummer",
        Validator::SePersonnummer,
        &[&[10], &[12], &[6, 4], &[8, 4]],
        b"-+",
        &["personnummer", "personnr"],
    ),
    kind(
        "no_fodselsnummer",
        Validator::NoFodselsnummer,
        &[&[11], &[6, 5]],
        b" ",
        &["fødselsnummer", "fodselsnummer", "fnr"],
    )
    .alone(MEDIUM, MEDIUM),
    kind("dk_cpr", Validator::DkCpr, &[&[10], &[6, 4]], b"-", &["cpr"]),
    kind(
        "fi_hetu",
        Validator::FiHetu,
        &[&[11], &[6, 4]],
        b"-+",
        &["henkilötunnus", "hetu", "personbeteckning"],
    )
    .alone(HIGH, MEDIUM),
    kind("pl_pesel", Validator::PlPesel, &[&[11]], b"", &["pesel"]),
    kind(
        "de_steuer_id",
        Validator::DeSteuerId,
        &[&[11], &[2, 3, 3, 3]],
        b" ",
        &["steuer-id", "steuerid", "steueridentifikationsnummer", "identifikationsnummer", "idnr"],
    ),
    kind(
        "at_svnr",
        Validator::AtSvnr,
        &[&[10], &[4, 6]],
        b" ",
        &["svnr", "sv-nummer", "sozialversicherungsnummer", "versicherungsnummer"],
    ),
    kind("ch_ahv", Validator::ChAhv, &[&[13], &[3, 4, 4, 2]], b".", &["ahv", "avs"])
        .alone(MEDIUM, HIGH),
    kind("pt_nif", Validator::PtNif, &[&[9], &[3, 3, 3]], b" ", &["nif", "contribuinte"]),
    kind("gr_amka", Validator::GrAmka, &[&[11]], b"", &["amka", "αμκα"]),
    kind("ie_pps", Validator::IePps, &[&[8], &[9]], b"", &["pps", "ppsn"]),
    kind("ro_cnp", Validator::RoCnp, &[&[13]], b"", &["cnp", "cod numeric personal"]),
    kind("bg_egn", Validator::BgEgn, &[&[10]], b"", &["егн", "egn"]),
    kind(
        "cz_rodne_cislo",
        Validator::CzRodneCislo,
        &[&[10], &[6, 4]],
        b"/",
        &["rodné číslo", "rodne cislo", "rč"],
    )
    .alone(None, MEDIUM),
    kind("hr_oib", Validator::HrOib, &[&[11]], b"", &["oib"]),
    kind("ee_isikukood", Validator::EeIsikukood, &[&[11]], b"", &["isikukood"]),
    kind("lt_asmens_kodas", Validator::LtAsmensKodas, &[&[11]], b"", &["asmens kodas"]),
    kind(
        "jp_mynumber",
        Validator::JpMynumber,
        &[&[12], &[4, 4, 4]],
        b" -",
        &["マイナンバー", "個人番号", "my number", "mynumber"],
    ),
    kind(
        "jp_corporate_number",
        Validator::JpCorporate,
        &[&[13]],
        b"",
        &["法人番号", "corporate number"],
    ),
    kind(
        "jp_driving_licence",
        Validator::JpDrivingLicence,
        &[&[12]],
        b"",
        &["運転免許", "免許証番号", "免許証の番号"],
    ),
    kind("jp_pension", Validator::JpPension, &[&[10], &[4, 6]], b"-", &["年金番号"]),
    kind(
        "jp_residence_card",
        Validator::JpResidenceCard,
        &[&[12]],
        b"",
        &["在留カード", "residence card"],
    ),
    kind(
        "in_aadhaar",
        Validator::InAadhaar,
        &[&[12], &[4, 4, 4]],
        b" -",
        &["aadhaar", "aadhar", "uidai", "आधार"],
    ),
    kind("in_pan", Validator::InPan, &[&[10]], b"", &["pan", "permanent account"]),
    kind("in_gstin", Validator::InGstin, &[&[15]], b"", &["gstin", "gst"]).alone(HIGH, None),
    kind("cn_resident_id", Validator::CnResidentId, &[&[18]], b"", &["身份证", "居民身份"])
        .alone(HIGH, None),
    kind(
        "kr_rrn",
        Validator::KrRrn,
        &[&[13], &[6, 7]],
        b"-",
        &["주민등록번호", "외국인등록번호", "resident registration"],
    )
    .alone(None, MEDIUM),
    kind("sg_nric", Validator::SgNric, &[&[9]], b"", &["nric", "fin"]).alone(MEDIUM, None),
    kind("tw_national_id", Validator::TwNationalId, &[&[10]], b"", &["身分證", "統一編號"]),
    kind("hk_hkid", Validator::HkHkid, &[&[8], &[9]], b"", &["hkid", "身份證"]),
    kind(
        "th_national_id",
        Validator::ThNationalId,
        &[&[13], &[1, 4, 5, 2, 1]],
        b"- ",
        &["บัตรประชาชน", "ประจำตัวประชาชน", "thai id"],
    )
    .alone(None, HIGH),
    kind(
        "my_mykad",
        Validator::MyMykad,
        &[&[12], &[6, 2, 4]],
        b"-",
        &["mykad", "kad pengenalan", "nric"],
    ),
    kind("id_nik", Validator::IdNik, &[&[16]], b"", &["nik", "ktp"]),
    kind("tr_tckn", Validator::TrTckn, &[&[11]], b"", &["tckn", "kimlik"]),
    kind(
        "il_identity",
        Validator::IlIdentity,
        &[&[9]],
        b"",
        &["ת.ז", "תעודת זהות", "teudat zehut"],
    ),
    kind("au_tfn", Validator::AuTfn, &[&[9], &[3, 3, 3]], b" ", &["tfn", "tax file"]),
    kind("au_abn", Validator::AuAbn, &[&[11], &[2, 3, 3, 3]], b" ", &["abn", "business number"]),
    kind("au_medicare", Validator::AuMedicare, &[&[10], &[4, 5, 1]], b" -", &["medicare"]),
    kind("za_identity", Validator::ZaIdentity, &[&[13]], b"", &["identity number", "id number"]),
];

/// Stands for all lengths of an IBAN, in one piece or in fours.
const IBAN: &[u8] = &[0];

/// A kind of identity, tax or account number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumberKind(u8);

impl NumberKind {
    /// How many kinds there are.
    pub(crate) const COUNT: usize = KINDS.len();

    /// Every kind.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self::of)
    }

    /// The stable id.
    pub(crate) const fn id(self) -> &'static str {
        KINDS[self.0 as usize].id
    }

    fn of(index: usize) -> Self {
        Self(u8::try_from(index).expect("fewer than 256 kinds"))
    }
}

/// The numbers of one text at a time.
#[derive(Default)]
pub(crate) struct Numbers(Held<BEHIND_BYTES, AHEAD_BYTES>);

impl Numbers {
    /// Takes the next piece of a text.
    pub(crate) fn push(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        self.0.push(text, |text, begin, end| look(text, begin, end, sink));
    }

    /// Ends the text: what follows is unrelated.
    pub(crate) fn end(&mut self, sink: &mut Sink<'_>) {
        self.0.end(|text, begin, end| look(text, begin, end, sink));
    }

    /// Heap memory held, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

/// A group of letters and digits.
#[derive(Clone, Copy, Default)]
struct Group {
    start: usize,
    end: usize,
    /// What stands before it, if that is one separator and a group before it; else 0.
    joint: u8,
}

/// Tries every number whose first digit lies in a range.
fn look(text: &[u8], begin: usize, end: usize, sink: &mut Sink<'_>) {
    let mut at = begin;
    let mut ahead = digits_from(text, at);
    while at < end {
        let block = text.get(at..at + BLOCK_BYTES).and_then(|block| block.first_chunk());
        let width = BLOCK_BYTES.min(end - at);
        let Some(block) = block else {
            (at..end).filter(|&place| text[place].is_ascii_digit()).for_each(|place| {
                judge(text, place, sink);
            });
            return;
        };
        // A number whose first digit is here has all of them here and in the next block.
        let here = std::mem::replace(&mut ahead, digits_from(text, at + BLOCK_BYTES));
        if here > 0 && here + ahead >= DIGITS_MIN {
            let digits = mask(block, |byte| byte.is_ascii_digit());
            let is_inside = at > 0 && text[at - 1].is_ascii_digit();
            let mut firsts = digits & !(digits << 1 | u64::from(is_inside));
            firsts &= u64::MAX >> (BLOCK_BYTES - width);
            let words = mask(block, |byte| byte.is_ascii_alphanumeric());
            while firsts != 0 {
                let bit = firsts.trailing_zeros();
                firsts &= firsts - 1;
                if may_begin(block, digits, words, bit) {
                    judge(text, at + bit as usize, sink);
                }
            }
        }
        at += width;
    }
}

/// How many digits the block from a place on has; as many as may be, where the text ends within it.
fn digits_from(text: &[u8], at: usize) -> u8 {
    match text.get(at..at + BLOCK_BYTES) {
        Some(block) => digits_in(block),
        None => DIGITS_MIN,
    }
}

/// Whether a number may have its first digit there, as far as the block tells.
fn may_begin(block: &[u8; BLOCK_BYTES], digits: u64, words: u64, bit: u32) -> bool {
    let before = if bit == 0 { 0 } else { (words << (u64::BITS - bit)).leading_ones() };
    let after = (words >> bit).trailing_ones();
    let end = bit + after;
    let begin = bit - before;
    if before > 0 && digits >> begin & !(u64::MAX << before) != 0 {
        // Another digit is the first of this group.
        return false;
    }
    // What reaches over the block's ends has to be looked at.
    if before == bit || end + 2 >= u64::BITS {
        return true;
    }
    let length = (before + after) as usize;
    if length >= WHOLE_BYTES_MIN {
        return length <= VALUE_BYTES_MAX;
    }
    let next = (words >> (end + 1)).trailing_ones();
    if end + 1 + next >= u64::BITS {
        return true;
    }
    let joint = joint_bit(block[end as usize]);
    let next = (next as usize).min(VALUE_BYTES_MAX);
    let is_letter = digits >> (end + 1) & 1 == 0;
    FIRST_PAIRS[usize::from(is_letter)][length][next] & joint != 0
        || (LATER_PAIRS[length][next] & joint != 0 && joint_bit(block[begin as usize - 1]) != 0)
}

/// Tries the numbers that have a digit in their first group with digits, if this is the first there.
fn judge(text: &[u8], digit: usize, sink: &mut Sink<'_>) {
    let (start, end) = (group_start(text, digit), group_end(text, digit));
    if text[start..digit].iter().any(u8::is_ascii_digit) {
        return;
    }
    let goes_on = goes_on(text, end);
    if end - start < WHOLE_BYTES_MIN && !(goes_on && begins_groups(text, start, end)) {
        return;
    }
    // Up to two groups of a few letters may open a number: a prefix, or the letter of a card.
    let near =
        (goes_on && pair(text, start, end, &LATER_PAIRS)).then(|| opening(text, start)).flatten();
    let far = near.and_then(|near| opening(text, near));
    let mut starts = [far, near, Some(start)].into_iter().flatten();
    starts.find(|start| try_at(text, *start, sink));
}

/// Whether another group hangs on one that ends there.
fn goes_on(text: &[u8], end: usize) -> bool {
    text.get(end).is_some_and(|byte| is_joint(*byte))
        && text.get(end + 1).is_some_and(|byte| is_word(*byte))
}

/// Whether a number in groups may begin there: not in the middle of a row of them.
fn begins_groups(text: &[u8], start: usize, end: usize) -> bool {
    let is_in_row = start >= 2 && text[start - 1] == text[end] && text[start - 2].is_ascii_digit();
    let is_letter = !text[end + 1].is_ascii_digit();
    !is_in_row
        && (pair(text, start, end, &FIRST_PAIRS[usize::from(is_letter)])
            || pair(text, start, end, &LATER_PAIRS))
}

/// Whether a group and the one behind it are two of a form.
fn pair(text: &[u8], start: usize, end: usize, pairs: &Pairs) -> bool {
    let next = group_end(text, end + 1) - (end + 1);
    let (length, next) = ((end - start).min(VALUE_BYTES_MAX), next.min(VALUE_BYTES_MAX));
    pairs[length][next] & joint_bit(text[end]) != 0
}

/// One bit for each separator, none for what is none.
const fn joint_bit(byte: u8) -> u8 {
    match byte {
        b' ' => 1,
        b'-' => 2,
        b'.' => 4,
        b'/' => 8,
        b'+' => 16,
        _ => 0,
    }
}

/// For lengths of two groups that follow each other the separators that may stand between them, as
/// bits.
type Pairs = [[u8; VALUE_BYTES_MAX + 1]; VALUE_BYTES_MAX + 1];

/// Those of the first two groups of a form; apart for a second that begins with a letter.
static FIRST_PAIRS: [Pairs; 2] = [first_pairs(false), first_pairs(true)];

/// Those of later groups, behind one or two groups of letters that open a number: NINO, NIE, codice
/// fiscale.
static LATER_PAIRS: Pairs = later_pairs();

const fn first_pairs(is_letter: bool) -> Pairs {
    let mut pairs = [[0; VALUE_BYTES_MAX + 1]; VALUE_BYTES_MAX + 1];
    pairs[4][4] = joint_bit(b' ');
    let mut kind = 0;
    while kind < KINDS.len() {
        let Kind { forms, joints, letters, .. } = &KINDS[kind];
        let mut form = 0;
        while form < forms.len() {
            if forms[form].len() > 1 && (*letters || !is_letter) {
                let (first, second) = (forms[form][0] as usize, forms[form][1] as usize);
                pairs[first][second] |= joint_bits(joints);
            }
            form += 1;
        }
        kind += 1;
    }
    pairs
}

const fn later_pairs() -> Pairs {
    let mut pairs = [[0; VALUE_BYTES_MAX + 1]; VALUE_BYTES_MAX + 1];
    pairs[2][2] = joint_bit(b' ');
    pairs[7][1] = joint_bit(b'-');
    pairs[5][5] = joint_bit(b' ');
    pairs
}

const fn joint_bits(joints: &[u8]) -> u8 {
    let (mut bits, mut joint) = (0, 0);
    while joint < joints.len() {
        bits |= joint_bit(joints[joint]);
        joint += 1;
    }
    bits
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn group_start(text: &[u8], at: usize) -> usize {
    let longest = at.saturating_sub(VALUE_BYTES_MAX + 1);
    (longest..at).rev().find(|&place| !is_word(text[place])).map_or(longest, |place| place + 1)
}

fn group_end(text: &[u8], at: usize) -> usize {
    let longest = text.len().min(at + VALUE_BYTES_MAX + 1);
    (at..longest).find(|&place| !is_word(text[place])).unwrap_or(longest)
}

/// Where a group of a few letters stands, one separator before a group.
fn opening(text: &[u8], start: usize) -> Option<usize> {
    let end = start.checked_sub(1).filter(|&end| is_joint(text[end]))?;
    let letters = text[..end].iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    (1..=3).contains(&letters).then(|| end - letters)
}

fn is_joint(byte: u8) -> bool {
    joint_bit(byte) != 0
}

/// A number that fits.
struct Fit {
    confidence: Confidence,
    /// Bytes to the word that names it.
    distance: usize,
    kind: usize,
    value: [u8; VALUE_BYTES_MAX],
    length: usize,
}

/// Counts the number that begins at a group, where there is one.
fn try_at(text: &[u8], start: usize, sink: &mut Sink<'_>) -> bool {
    if !begins(text, start) {
        return false;
    }
    let (groups, count) = groups_from(text, start);
    let groups = &groups[..count];
    let mut best: Option<Fit> = None;
    let length = (groups[0].end - start).min(VALUE_BYTES_MAX);
    for &(kind, form) in &BY_LENGTH[length] {
        let (kind, form) = (usize::from(kind), usize::from(form));
        let Kind { validator, forms, joints, .. } = &KINDS[kind];
        let Some(width) = fits(groups, forms[form], joints) else { continue };
        let end = groups[width - 1].end;
        if !ends(text, end) || (width > 1 && is_row(text, groups, width)) {
            continue;
        }
        let Some((value, length)) = joined(text, &groups[..width]) else { continue };
        if !validator.accepts(&value[..length]) {
            continue;
        }
        let Some((confidence, distance)) = sureness(text, start, end, kind, width) else {
            continue;
        };
        let is_better = best
            .as_ref()
            .is_none_or(|best| (confidence, best.distance) > (best.confidence, distance));
        if is_better {
            best = Some(Fit { confidence, distance, kind, value, length });
        }
    }
    let Some(fit) = best else { return false };
    let detector = Detector::Number(NumberKind::of(fit.kind));
    sink.value(detector, fit.confidence, detector.identity(&fit.value[..fit.length]));
    true
}

/// For each length of a first group the forms that begin with it, as indexes of kind and form.
static BY_LENGTH: LazyLock<[Vec<(u8, u8)>; VALUE_BYTES_MAX + 1]> = LazyLock::new(|| {
    let mut by_length = [const { Vec::new() }; VALUE_BYTES_MAX + 1];
    for (index, kind) in (0..).zip(KINDS) {
        for (form, lengths) in (0..).zip(kind.forms) {
            match *lengths == IBAN {
                true => {
                    by_length[4].push((index, form));
                    by_length[15..].iter_mut().for_each(|all| all.push((index, form)));
                }
                false => by_length[usize::from(lengths[0])].push((index, form)),
            }
        }
    }
    by_length
});

/// How sure a number of a kind is, with its distance from the word that names it; none where it does
/// not count.
fn sureness(
    text: &[u8],
    start: usize,
    end: usize,
    kind: usize,
    width: usize,
) -> Option<(Confidence, usize)> {
    let kind = &KINDS[kind];
    if let Some(distance) = distance(text, start, end, kind.words) {
        return Some((Confidence::High, distance));
    }
    let alone = if width == 1 { kind.alone.0 } else { kind.alone.1 };
    alone.map(|confidence| (confidence, usize::MAX))
}

/// Whether a number may begin there: not inside a word, and not hanging on one.
fn begins(text: &[u8], start: usize) -> bool {
    let before = |back: usize| start.checked_sub(back).map(|place| text[place]);
    match before(1) {
        None => true,
        Some(b'_' | b'@' | b'#' | b'%' | b'&' | b'$') => false,
        Some(byte) if is_word(byte) => false,
        Some(b'-' | b'.' | b'/' | b'+') => !before(2).is_some_and(is_word),
        Some(_) => true,
    }
}

/// Whether a number may end there.
fn ends(text: &[u8], end: usize) -> bool {
    match text.get(end) {
        None => true,
        Some(b'_' | b'@' | b'%') => false,
        Some(byte) if is_word(*byte) => false,
        Some(b'-' | b'.' | b'/' | b'+') => !text.get(end + 1).is_some_and(|byte| is_word(*byte)),
        Some(_) => true,
    }
}

/// Whether groups go on as they are, so that what was taken for a number is part of a row.
fn is_row(text: &[u8], groups: &[Group], width: usize) -> bool {
    let is_digits = |group: &Group| text[group.start..group.end].iter().all(u8::is_ascii_digit);
    let after = groups.get(width).filter(|group| group.joint == groups[1].joint);
    let before =
        groups[0].start.checked_sub(2).filter(|_| text[groups[0].start - 1] == groups[1].joint);
    after.is_some_and(is_digits) || before.is_some_and(|place| text[place].is_ascii_digit())
}

/// The groups from a place on, as long as one separator stands between them.
fn groups_from(text: &[u8], start: usize) -> ([Group; GROUPS_MAX + 1], usize) {
    let mut groups = [Group::default(); GROUPS_MAX + 1];
    let (mut at, mut joint) = (start, 0);
    for count in 0..=GROUPS_MAX {
        let end = group_end(text, at);
        groups[count] = Group { start: at, end, joint };
        let Some(&next) = text.get(end).filter(|byte| is_joint(**byte)) else {
            return (groups, count + 1);
        };
        if !text.get(end + 1).is_some_and(|byte| is_word(*byte)) {
            return (groups, count + 1);
        }
        (at, joint) = (end + 1, next);
    }
    (groups, GROUPS_MAX + 1)
}

/// How many groups a form takes, where the groups are of that form.
fn fits(groups: &[Group], form: &[u8], joints: &[u8]) -> Option<usize> {
    let length = |group: &Group| group.end - group.start;
    if form == IBAN {
        if length(&groups[0]) != 4 {
            return (15..=VALUE_BYTES_MAX).contains(&length(&groups[0])).then_some(1);
        }
        let is_next = |group: &&Group| group.joint == b' ' && length(group) == 4;
        let fours = 1 + groups[1..].iter().take_while(is_next).count();
        let rest = groups.get(fours).filter(|group| group.joint == b' ' && length(group) < 4);
        let width = fours + usize::from(rest.is_some());
        return (4..=GROUPS_MAX).contains(&width).then_some(width);
    }
    let is_form = groups.len() >= form.len()
        && groups.iter().zip(form).all(|(group, wanted)| length(group) == usize::from(*wanted))
        && groups[1..form.len()].iter().all(|group| joints.contains(&group.joint));
    is_form.then_some(form.len())
}

/// The value without separators, in upper case.
fn joined(text: &[u8], groups: &[Group]) -> Option<([u8; VALUE_BYTES_MAX], usize)> {
    let (mut value, mut length) = ([0; VALUE_BYTES_MAX], 0);
    for group in groups {
        for byte in &text[group.start..group.end] {
            *value.get_mut(length)? = byte.to_ascii_uppercase();
            length += 1;
        }
    }
    Some((value, length))
}

/// How far the nearest word stands that names a number: not part of a longer one, where it is written in
/// Latin letters. One behind it is farther than one as far before it.
fn distance(text: &[u8], start: usize, end: usize, words: &[&str]) -> Option<usize> {
    let before = &text[start.saturating_sub(NEAR_BEFORE_BYTES)..start];
    let after = &text[end..text.len().min(end + NEAR_BYTES)];
    let of_word = |word: &&str| {
        let word = word.as_bytes();
        let ahead = places(before, word).last().map(|at| before.len() - at - word.len());
        let behind = places(after, word).next().map(|at| 2 * at + 1);
        ahead.into_iter().chain(behind).min()
    };
    words.iter().filter_map(of_word).min()
}

/// Where a word stands.
fn places<'a>(text: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let is_edge = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphabetic());
    let is_latin = word.is_ascii();
    let found = text.windows(word.len()).enumerate().filter(move |(at, window)| {
        window.eq_ignore_ascii_case(word)
            && (!is_latin
                || (is_edge(at.checked_sub(1).and_then(|before| text.get(before)))
                    && is_edge(text.get(at + word.len()))))
    });
    found.map(|(at, _)| at)
}

/// The shortest number in one piece.
const WHOLE_BYTES_MIN: usize = 8;
/// The fewest digits of a number: those of an Indian PAN.
const DIGITS_MIN: u8 = 4;
/// Bytes looked at together for digits.
const BLOCK_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Findings;
    use crate::mime::PartPath;

    /// `id count/occurrences confidence`, in pieces of several sizes, which must agree.
    fn found(text: &str) -> Vec<String> {
        let of_pieces = |text: &str, bytes: usize| {
            let (mut findings, part) = (Findings::default(), PartPath::default());
            let mut sink = Sink { findings: &mut findings, part: &part, anchors: None };
            let mut numbers = Numbers::default();
            text.as_bytes().chunks(bytes).for_each(|piece| numbers.push(piece, &mut sink));
            numbers.end(&mut sink);
            let list = findings.into_list();
            let line =
                |f: &crate::Finding| format!("{} {} {}", f.detector, f.count, f.confidence.id());
            list.iter().map(line).collect::<Vec<_>>()
        };
        let whole = of_pieces(text, usize::MAX);
        // With text around it, so that it is judged in the middle of pieces and over their cuts.
        let filler = "and so on ".repeat(30);
        let padded = format!("{filler}{text} {filler}");
        for bytes in [1, 3, 8, 31, 32, 33, 111, 128, 240, 300, usize::MAX] {
            assert_eq!(of_pieces(&padded, bytes), whole, "in pieces of {bytes}: {text}");
        }
        whole
    }

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        assert_eq!(found(text), want, "{text}");
    }

    #[test]
    fn numbers_that_say_what_they_are() {
        check("Pay to GB82 WEST 1234 5698 7654 32, please", &["iban 1 high"]);
        check("Pay to DE89370400440532013000.", &["iban 1 high"]);
        check("GB82 WEST 1234 5698 7654 33", &[]);
        check("codice RSSMRA85T10A562S", &["it_codice_fiscale 1 high"]);
        check("AHV 756.9217.0769.85", &["ch_ahv 1 high"]);
        check("the CPF 111.444.777-35", &["br_cpf 1 high"]);
        check("it is 111.444.777-35 here", &["br_cpf 1 medium"]);
        check("it is 11144477735 here", &[]);
        check("id 11010519491231002X", &["cn_resident_id 1 high"]);
        check("AB 12 34 56 C", &["gb_nino 1 medium"]);
    }

    #[test]
    fn a_word_nearby_makes_a_number_of_it() {
        check("My SSN is 536-90-4399.", &["us_ssn 1 high"]);
        check("536904399 (SSN)", &["us_ssn 1 high"]);
        check("order 536-90-4399", &[]);
        check("PESEL: 44051401359", &["pl_pesel 1 high"]);
        check("PESELS 44051401359", &[]);
        check("BSN 111222333", &["nl_bsn 1 high"]);
        check("マイナンバーは 1234 5678 9018 です", &["jp_mynumber 1 high"]);
        check("個人番号：123456789018", &["jp_mynumber 1 high"]);
        check("注文番号：123456789018", &[]);
        check("NHS number 943 476 5919", &["gb_nhs 1 high"]);
        let far = "x ".repeat(120);
        check(&format!("SSN {far} 536-90-4399"), &[]);
    }

    #[test]
    fn parts_of_something_else_are_none() {
        for text in [
            "SSN 536-90-4399-1",
            "SSN 1-536-90-4399",
            "SSN 536-90-43990",
            "SSN x536904399",
            "ssn_536904399",
            "NHS 943 476 5919 943 476",
            "IBAN GB82 WEST 1234 5698 7654 32 99",
            "https://example.com/ssn/536904399/x",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn a_number_counts_once_and_as_one_kind() {
        let twice = "SSN 536-90-4399, again SSN 536904399";
        check(twice, &["us_ssn 1 high"]);
        check("TFN 123 456 782 and SIN 046 454 286", &["ca_sin 1 high", "au_tfn 1 high"]);
    }

    /// Values of a kind are made of its shape until its check accepts one: `#` is any digit, `@` any
    /// letter. Where nothing is said all are digits.
    const SHAPES: &[(&str, &str)] = &[
        ("iban", "GB##WEST12345698765432"),
        ("us_mbi", "1EG4TE5MK7#"),
        ("mx_curp", "BOXW310820HNERXN0#"),
        ("gb_nino", "AB######C"),
        ("fr_nir", "25504991234##90"),
        ("es_dni", "########@"),
        ("es_nie", "X#######@"),
        ("it_codice_fiscale", "RSSMRA85T10A562@"),
        ("be_national", "850730033##"),
        ("se_personnummer", "811218987#"),
        ("no_fodselsnummer", "010180#####"),
        ("dk_cpr", "010180####"),
        ("fi_hetu", "131052###@"),
        ("pl_pesel", "440514#####"),
        ("at_svnr", "####010180"),
        ("ch_ahv", "756##########"),
        ("gr_amka", "010180#####"),
        ("ie_pps", "#######@"),
        ("ro_cnp", "1800101######"),
        ("bg_egn", "800101####"),
        ("cz_rodne_cislo", "710101####"),
        ("ee_isikukood", "3800101####"),
        ("lt_asmens_kodas", "3800101####"),
        ("jp_residence_card", "AB########CD"),
        ("in_pan", "ABCPE####F"),
        ("in_gstin", "27AAPFU0939F1Z@"),
        ("cn_resident_id", "11010519491231002X"),
        ("kr_rrn", "8001011######"),
        ("sg_nric", "S#######@"),
        ("tw_national_id", "A1########"),
        ("hk_hkid", "A#######"),
        ("my_mykad", "80010114####"),
        ("id_nik", "317101010180####"),
        ("za_identity", "8001015######"),
    ];

    fn example(kind: &Kind, digits: usize) -> Option<String> {
        let shape = SHAPES.iter().find(|(id, _)| *id == kind.id).map(|(_, shape)| *shape);
        let shape = shape.map_or_else(|| "#".repeat(digits), str::to_owned);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u8::try_from(state % bound).expect("is small")
        };
        (shape.len() == digits || kind.forms[0] == IBAN).then_some(())?;
        (0..200_000).find_map(|_| {
            let letter = |c| match c {
                '#' => char::from(b'0' + below(10)),
                '@' => char::from(b'A' + below(26)),
                c => c,
            };
            let value: String = shape.chars().map(letter).collect();
            kind.validator.accepts(value.as_bytes()).then_some(value)
        })
    }

    /// Every kind, in every form it is written in, near a word that names it and without one.
    #[test]
    fn every_kind_is_found_in_each_of_its_forms() {
        let mut forms = 0;
        for kind in KINDS {
            for form in kind.forms {
                let lengths: Vec<usize> = match *form == IBAN {
                    true => vec![4, 4, 4, 4, 4, 2],
                    false => form.iter().map(|length| usize::from(*length)).collect(),
                };
                let Some(value) = example(kind, lengths.iter().sum()) else { continue };
                let joint =
                    kind.joints.first().map_or(String::new(), |joint| char::from(*joint).into());
                let mut rest = value.as_str();
                let groups: Vec<&str> = lengths
                    .iter()
                    .map(|length| {
                        let (group, after) = rest.split_at(*length);
                        rest = after;
                        group
                    })
                    .collect();
                let written = groups.join(&joint);
                let word = kind.words[0];
                let named = format!("Dear customer, your {word}: {written}, as you asked.");
                assert_eq!(found(&named), [format!("{} 1 high", kind.id)], "{named}");
                let alone = if groups.len() == 1 { kind.alone.0 } else { kind.alone.1 };
                let seen = found(&format!("Reference {written} of your order"));
                assert_eq!(seen.is_empty(), alone.is_none(), "{written}: {seen:?}");
                forms += 1;
            }
        }
        // Five forms have a shape of another length than the example: se 12, cl 8, ie and hk 9, fi 11.
        let all: usize = KINDS.iter().map(|kind| kind.forms.len()).sum();
        assert!(forms + 8 >= all, "{forms} of {all}");
    }

    #[test]
    fn the_table_is_sound() {
        for kind in KINDS {
            assert!(
                kind.words.iter().all(|word| !word.is_empty() && word.to_lowercase() == **word)
            );
            for form in kind.forms.iter().filter(|form| **form != IBAN) {
                assert!(form.iter().map(|length| usize::from(*length)).sum::<usize>() <= 18);
                assert!(form.len() <= GROUPS_MAX && (form.len() == 1 || !kind.joints.is_empty()));
            }
        }
        let mut ids: Vec<_> = KINDS.iter().map(|kind| kind.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), KINDS.len());
    }
}

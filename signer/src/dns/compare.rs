//! Compares what a server has at a key's name with what should be there.

use std::fmt;

use super::record::{Record, RecordFault};

/// The strings of one TXT record, in order.
pub type Txt = Vec<Vec<u8>>;

/// What should be at a key's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    text: String,
    record: Record,
    older: Vec<Record>,
}

/// How the records at a name compare with what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// They say the same, whatever the order of their tags.
    Same,
    /// There is none.
    Missing,
    /// The key is revoked there (an empty `p=`), and should not be.
    Revoked,
    /// Something else is there.
    Differs(Difference),
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A sound record, of a key that was never published at this name.
    OtherKey,
    /// A value that was published at this name before.
    Stale,
    /// No key record.
    Unparsable(RecordFault),
    /// More than one record; what a verifier does then is undefined (RFC 6376 3.6.2.2).
    SeveralRecords(usize),
    /// The right value, damaged when it was cut into strings.
    SplitWrong(Split),
    /// The right key, with a tag that keeps verifiers from passing this mail: `h`, `s` or `t`.
    Unusable(&'static str),
}

/// How a value was damaged when it was cut into strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Quotes or backslashes of the zone file have become part of the value.
    QuotesInside,
    /// Spaces were put where the strings meet, inside a tag.
    SpacesInside,
    /// Each string has become a record of its own.
    StringPerRecord,
    /// The end is missing: perhaps all after the first 255 octets.
    CutOff,
}

impl Expected {
    /// What should be there: the text of a record, as [`super::record_text`] or
    /// [`super::revoked_text`] make it.
    ///
    /// # Errors
    /// It is no key record.
    pub fn new(text: &str) -> Result<Self, RecordFault> {
        let record = Record::parse(text.as_bytes())?;
        Ok(Self { text: text.to_owned(), record, older: Vec::new() })
    }

    /// Adds a value that was published at this name before, so that it is known again.
    ///
    /// # Errors
    /// It is no key record.
    pub fn with_older(mut self, text: &str) -> Result<Self, RecordFault> {
        self.older.push(Record::parse(text.as_bytes())?);
        Ok(self)
    }

    /// The text of the record.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Compares the TXT records at a name with what is expected there.
pub fn compare(records: &[Txt], expected: &Expected) -> Comparison {
    match records {
        [] => Comparison::Missing,
        [one] => compare_one(&one.concat(), expected),
        several if is_string_per_record(several, expected) => {
            Comparison::Differs(Difference::SplitWrong(Split::StringPerRecord))
        }
        several => Comparison::Differs(Difference::SeveralRecords(several.len())),
    }
}

fn compare_one(text: &[u8], expected: &Expected) -> Comparison {
    let found = match Record::parse(text) {
        Ok(found) => found,
        Err(fault) => {
            let what = split_fault(text, expected).map(Difference::SplitWrong);
            return Comparison::Differs(what.unwrap_or(Difference::Unparsable(fault)));
        }
    };
    if is_same_key(&found, &expected.record) {
        // A record that revokes is looked at no further.
        let obstacle = found.obstacle().filter(|_| !found.is_revoked());
        return obstacle
            .map_or(Comparison::Same, |tag| Comparison::Differs(Difference::Unusable(tag)));
    }
    if found.is_revoked() {
        return Comparison::Revoked;
    }
    if expected.older.iter().any(|older| is_same_key(&found, older)) {
        return Comparison::Differs(Difference::Stale);
    }
    let what = split_fault(text, expected).map(Difference::SplitWrong);
    Comparison::Differs(what.unwrap_or(Difference::OtherKey))
}

fn is_same_key(one: &Record, other: &Record) -> bool {
    let both_revoked = one.is_revoked() && other.is_revoked();
    both_revoked || (one.algorithm == other.algorithm && one.public_key == other.public_key)
}

/// Recognises the expected value in a damaged one.
fn split_fault(text: &[u8], expected: &Expected) -> Option<Split> {
    let wanted = without_space(expected.text.as_bytes());
    let unquoted: Vec<u8> = text.iter().copied().filter(|b| !matches!(b, b'"' | b'\\')).collect();
    let compact = without_space(&unquoted);
    let is_cut = compact.len() < wanted.len() && wanted.starts_with(&compact);
    match compact == wanted {
        true if unquoted.len() != text.len() => Some(Split::QuotesInside),
        true => Some(Split::SpacesInside),
        // Shorter than this it could be the beginning of any record.
        false if is_cut && compact.len() > CUT_BYTES_MIN => Some(Split::CutOff),
        false => None,
    }
}

/// Whether the records are pieces of the expected value, in any order.
fn is_string_per_record(records: &[Txt], expected: &Expected) -> bool {
    let wanted = without_space(expected.text.as_bytes());
    let pieces: Vec<_> = records.iter().map(|record| without_space(&record.concat())).collect();
    let is_piece = |piece: &Vec<u8>| {
        !piece.is_empty() && wanted.windows(piece.len()).any(|window| window == &piece[..])
    };
    pieces.iter().map(Vec::len).sum::<usize>() == wanted.len() && pieces.iter().all(is_piece)
}

fn without_space(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKey => f.write_str("another key is published there"),
            Self::Stale => f.write_str("an older value is still there"),
            Self::Unparsable(fault) => write!(f, "what is there is no key record: {fault}"),
            Self::SeveralRecords(count) => write!(f, "there are {count} TXT records"),
            Self::SplitWrong(split) => write!(f, "{split}"),
            Self::Unusable(tag) => write!(f, "its `{tag}=` keeps verifiers from using the key"),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuotesInside => "quotes or backslashes have become part of the value",
            Self::SpacesInside => "there are spaces where the strings meet, inside a tag",
            Self::StringPerRecord => "each string is a TXT record of its own",
            Self::CutOff => "the end of the value is missing",
        })
    }
}

/// Longer than `v=DKIM1;k=rsa;p=` and the DER that is the same in every RSA-2048 key.
const CUT_BYTES_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{revoked_text, split};

    fn key(fill: char) -> String {
        format!("v=DKIM1; k=rsa; p={}", fill.to_string().repeat(392))
    }

    fn strings(text: &str) -> Txt {
        split(text).map(|string| string.as_bytes().to_vec()).collect()
    }

    #[track_caller]
    fn check(records: &[&[&str]], wanted: Comparison) {
        let expected = Expected::new(&key('A')).and_then(|e| e.with_older(&key('C')));
        let records: Vec<Txt> = records
            .iter()
            .map(|record| record.iter().map(|string| string.as_bytes().to_vec()).collect())
            .collect();
        assert_eq!(compare(&records, &expected.expect("are records")), wanted);
    }

    #[test]
    fn a_record_is_judged_by_what_it_says() {
        let (right, other, older) = (key('A'), key('B'), key('C'));
        let reordered = format!("k=rsa;p={};", "A".repeat(392));
        let differs = Comparison::Differs;
        check(&[], Comparison::Missing);
        check(&[&[&right[..255], &right[255..]]], Comparison::Same);
        check(&[&[&right[..100], "", &right[100..]]], Comparison::Same);
        check(&[&[&reordered]], Comparison::Same);
        check(&[&[revoked_text()]], Comparison::Revoked);
        check(&[&[&other]], differs(Difference::OtherKey));
        check(&[&[&older]], differs(Difference::Stale));
        check(&[&[&right], &[&other]], differs(Difference::SeveralRecords(2)));
        check(&[&["v=spf1 -all"]], differs(Difference::Unparsable(RecordFault::Version)));
        check(&[&[&format!("{right}; h=sha1")]], differs(Difference::Unusable("h")));
        let ed25519 = right.replace("rsa", "ed25519");
        check(&[&[&ed25519]], differs(Difference::OtherKey));
    }

    #[test]
    fn a_value_cut_wrongly_is_known_again() {
        let right = key('A');
        let (first, second) = right.split_at(255);
        let wrong = |split| Comparison::Differs(Difference::SplitWrong(split));
        check(&[&[&format!("\"{first}\" \"{second}\"")]], wrong(Split::QuotesInside));
        check(&[&[&format!("{first}\\\"{second}")]], wrong(Split::QuotesInside));
        check(&[&["v=DKIM1; k=r sa; p=", &right[18..]]], wrong(Split::SpacesInside));
        check(&[&[first], &[second]], wrong(Split::StringPerRecord));
        check(&[&[second], &[first]], wrong(Split::StringPerRecord));
        check(&[&[first]], wrong(Split::CutOff));
        check(&[&[&right[..254]]], wrong(Split::CutOff));
        // RFC 6376 3.2 allows white space inside base64, and verifiers skip it.
        check(&[&[&format!("{first} {second}")]], Comparison::Same);
    }

    #[test]
    fn a_withdrawn_key_is_expected_to_be_revoked() {
        let expected = Expected::new(revoked_text()).and_then(|e| e.with_older(&key('A')));
        let expected = expected.expect("are records");
        assert_eq!(compare(&[strings("p=; k=rsa")], &expected), Comparison::Same);
        let stale = Comparison::Differs(Difference::Stale);
        assert_eq!(compare(&[strings(&key('A'))], &expected), stale);
        let other = Comparison::Differs(Difference::OtherKey);
        assert_eq!(compare(&[strings(&key('B'))], &expected), other);
        assert_eq!(compare(&[], &expected), Comparison::Missing);
    }
}

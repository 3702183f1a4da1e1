//! The `DKIM-Signature` header field: which fields it covers, its text, and what is hashed.
//!
//! Invariants: exactly one `From` is present, signed and oversigned, or nothing is signed; every
//! value written comes from a checked type, so the field cannot be broken out of; lines have at
//! most 76 columns (a TAB counts as 8), unless a single name is longer; `l=` is never written.
//!
//! Oversigning a field means listing it in `h=` once more than it occurs, so that one added later
//! breaks the signature (RFC 6376 8.15).
//!
//! Failures: [`HeaderRefused`] is the message's fault, [`ProfileRefused`] the configuration's.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::canon::{BodyHash, Canonicalization, FieldCanon};
use crate::digest::sha256;
use crate::key::Algorithm;
use crate::name::{AgentIdentity, Selector, SigningDomain};

/// How one domain signs: everything about a signature that does not come from the message.
#[derive(Clone, Debug)]
pub struct Profile {
    domain: SigningDomain,
    selector: Selector,
    agent: Option<AgentIdentity>,
    algorithm: Algorithm,
    canonicalization: Canonicalization,
    validity_s: Option<u32>,
    fields: Vec<Field>,
}

/// How a header field of some name is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Those present are signed; more may be added on the way.
    Present,
    /// Those present are signed; if there are any, none may be added.
    SealedIfPresent,
    /// Those present are signed; none may be added, even if there is none.
    Sealed,
}

#[derive(Clone, Debug)]
struct Field {
    /// Lower case.
    name: Box<str>,
    coverage: Coverage,
}

impl Profile {
    /// Makes a profile for RSA with the default fields, relaxed header canonicalisation, and no
    /// expiry.
    pub fn new(domain: SigningDomain, selector: Selector) -> Self {
        let field = |&(name, coverage): &(&str, Coverage)| Field { name: name.into(), coverage };
        Self {
            domain,
            selector,
            agent: None,
            algorithm: Algorithm::RsaSha256,
            canonicalization: Canonicalization::Relaxed,
            validity_s: None,
            fields: DEFAULT_FIELDS.iter().map(field).collect(),
        }
    }

    /// Adds an `i=` tag.
    ///
    /// # Errors
    ///
    /// [`ProfileRefused::AgentOutside`] if its domain does not lie in the signing domain.
    pub fn with_agent(mut self, agent: AgentIdentity) -> Result<Self, ProfileRefused> {
        if !self.domain.covers(agent.domain()) {
            return Err(ProfileRefused::AgentOutside);
        }
        self.agent = Some(agent);
        Ok(self)
    }

    /// Sets the selector: that of the key which will sign.
    #[must_use]
    pub fn with_selector(mut self, selector: Selector) -> Self {
        self.selector = selector;
        self
    }

    /// Sets the algorithm: that of the key which will sign.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets the header canonicalisation. (That of the body comes with the body's hash.)
    #[must_use]
    pub fn with_header_canonicalization(mut self, canonicalization: Canonicalization) -> Self {
        self.canonicalization = canonicalization;
        self
    }

    /// Sets how long a signature is valid: `x=` is written if `Some`. Zero counts as one second,
    /// since `x=` must be greater than `t=`.
    #[must_use]
    pub fn with_validity_s(mut self, validity_s: Option<u32>) -> Self {
        self.validity_s = validity_s.map(|validity_s| validity_s.max(1));
        self
    }

    /// Sets the coverage of fields of a name, in place of the default or in addition.
    ///
    /// # Errors
    ///
    /// [`ProfileRefused`], where the name is none, must not be signed, or is `From`, whose
    /// coverage is fixed, or where there are more than [`FIELDS_MAX`] names.
    pub fn with_field(mut self, name: &str, coverage: Coverage) -> Result<Self, ProfileRefused> {
        let name = name.to_ascii_lowercase();
        // RFC 5322 2.2: printable ASCII except the colon. The semicolon would end the h= tag.
        let is_name = |b: u8| b.is_ascii_graphic() && b != b':' && b != b';';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
            return Err(ProfileRefused::FieldName);
        }
        if NEVER_SIGNED.contains(&&*name) {
            return Err(ProfileRefused::Unstable);
        }
        if name == FROM && coverage != Coverage::Sealed {
            return Err(ProfileRefused::From);
        }
        match self.fields.iter().position(|field| *field.name == *name) {
            Some(index) => self.fields[index].coverage = coverage,
            None if self.fields.len() == FIELDS_MAX => return Err(ProfileRefused::ManyFields),
            None => self.fields.push(Field { name: name.into(), coverage }),
        }
        Ok(self)
    }

    /// Returns the signing domain.
    pub fn domain(&self) -> &SigningDomain {
        &self.domain
    }

    /// Returns the selector.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// Returns how long a signature is valid, in seconds; `None` where it does not say.
    pub fn validity_s(&self) -> Option<u32> {
        self.validity_s
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Makes the field for one message, complete except for the signature.
    ///
    /// `header_section` is in plain form, in one piece or cut anywhere; it ends with the pieces or
    /// at the first empty line. `now_unix_s` becomes `t=`.
    ///
    /// One piece is read in place; several, which happens where a stored block ends inside the
    /// header section, are joined first, since all of what is signed is copied into its canonical
    /// form anyway.
    ///
    /// # Errors
    ///
    /// [`HeaderRefused`], where the message has no `From` field or more than one.
    pub fn prepare(
        &self,
        header_section: &[&[u8]],
        body: &BodyHash,
        now_unix_s: u64,
    ) -> Result<Unsigned, HeaderRefused> {
        let section = match header_section {
            [one] => Cow::Borrowed(*one),
            several => Cow::Owned(several.concat()),
        };
        let found = self.find(&section);
        match self.fields.iter().zip(&found).find(|(field, _)| *field.name == *FROM) {
            Some((_, Instances { count: 1, .. })) => {}
            Some((_, Instances { count: 2.., .. })) => return Err(HeaderRefused::SeveralFrom),
            _ => return Err(HeaderRefused::NoFrom),
        }
        let field = self.write(&found, body, now_unix_s);
        let mut input = Vec::with_capacity(section.len().min(INPUT_BYTES_TYPICAL) + field.len());
        for instance in found.iter().flat_map(Instances::bottom_up) {
            let mut canon = FieldCanon::new(self.canonicalization, &mut input);
            canon.update(instance);
            canon.finish();
        }
        let mut canon = FieldCanon::new(self.canonicalization, &mut input);
        canon.update(&field);
        canon.finish_open();
        Ok(Unsigned { field, input })
    }

    /// Finds the instances of each covered name, in the order of `self.fields`.
    fn find<'a>(&self, section: &'a [u8]) -> Vec<Instances<'a>> {
        let mut found = vec![Instances::default(); self.fields.len()];
        for instance in HeaderFields(section) {
            let Some(name) = field_name(instance) else { continue };
            let matches = |field: &Field| field.name.as_bytes().eq_ignore_ascii_case(name);
            if let Some(index) = self.fields.iter().position(matches) {
                found[index].push(instance);
            }
        }
        found
    }

    /// Writes the field up to and with `b=`.
    fn write(&self, found: &[Instances<'_>], body: &BodyHash, now_unix_s: u64) -> Vec<u8> {
        let mut text = Folded::new("DKIM-Signature: v=1;");
        text.word(&format!("a={};", self.algorithm));
        text.word(&format!("c={}/{};", self.canonicalization, body.canonicalization()));
        text.word(&format!("d={};", self.domain));
        text.word(&format!("s={};", self.selector));
        if let Some(agent) = &self.agent {
            text.word(&format!("i={agent};"));
        }
        text.word(&format!("t={now_unix_s};"));
        if let Some(validity_s) = self.validity_s {
            text.word(&format!("x={};", now_unix_s.saturating_add(validity_s.into())));
        }
        self.write_names(&mut text, found);
        text.word(&format!("bh={};", STANDARD.encode(body.digest())));
        text.fold();
        text.glue("b=");
        text.out
    }

    fn write_names(&self, text: &mut Folded, found: &[Instances<'_>]) {
        let listed = |(field, instances): (&Field, &Instances<'_>)| {
            std::iter::repeat_n(field.name.clone(), instances.listed(field.coverage))
        };
        let mut names = self.fields.iter().zip(found).flat_map(listed).peekable();
        let first = names.next().unwrap_or_else(|| FROM.into());
        let end = |more: bool| if more { ":" } else { ";" };
        text.word(&format!("h={first}{}", end(names.peek().is_some())));
        while let Some(name) = names.next() {
            text.glue(&format!("{name}{}", end(names.peek().is_some())));
        }
    }
}

/// A `DKIM-Signature` field that waits for its signature.
#[derive(Clone, Debug)]
pub struct Unsigned {
    /// Ends with `b=`.
    field: Vec<u8>,
    input: Vec<u8>,
}

impl Unsigned {
    /// Returns the canonical bytes that are signed (RFC 6376 3.7): the covered fields, then this
    /// one with an empty `b=`.
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// Returns the SHA-256 of [`Unsigned::input`]: what Ed25519 signs (RFC 8463 3), and what backends
    /// take that take digests.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.input)
    }

    /// Returns the whole field with its final CRLF, to be put before the header section.
    pub fn complete(&self, signature: &[u8]) -> Vec<u8> {
        let value = STANDARD.encode(signature);
        let folds = value.len() / (COLUMNS_MAX - FOLD_COLUMNS) + 1;
        let mut out = Vec::with_capacity(self.field.len() + value.len() + folds * 3 + 2);
        out.extend_from_slice(&self.field);
        let mut room = COLUMNS_MAX - FOLD_COLUMNS - "b=".len();
        let mut rest = &value[..];
        while rest.len() > room {
            let (line, after) = rest.split_at(room);
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(FOLD);
            room = COLUMNS_MAX - FOLD_COLUMNS;
            rest = after;
        }
        out.extend_from_slice(rest.as_bytes());
        out.extend_from_slice(b"\r\n");
        out
    }
}

/// Why a message cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderRefused {
    /// It has no `From` field (RFC 6376 5.4: it must be signed).
    NoFrom,
    /// It has more than one: readers differ on which they show (RFC 6376 8.15).
    SeveralFrom,
}

impl fmt::Display for HeaderRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFrom => "the message has no From field",
            Self::SeveralFrom => "the message has more than one From field",
        })
    }
}

impl std::error::Error for HeaderRefused {}

/// Why a profile cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProfileRefused {
    /// The agent identity lies outside the signing domain (RFC 6376 3.5, `i=`).
    AgentOutside,
    /// Not the name of a header field.
    FieldName,
    /// A field that changes on the way (RFC 6376 5.4.1).
    Unstable,
    /// `From` is always sealed.
    From,
    /// More names than [`FIELDS_MAX`].
    ManyFields,
}

impl fmt::Display for ProfileRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AgentOutside => f.write_str("the agent identity lies outside the signing domain"),
            Self::FieldName => f.write_str("this is not the name of a header field"),
            Self::Unstable => f.write_str("this field changes on the way and cannot be signed"),
            Self::From => f.write_str("From is always signed and oversigned"),
            Self::ManyFields => write!(f, "more than {FIELDS_MAX} fields to sign"),
        }
    }
}

impl std::error::Error for ProfileRefused {}

/// The header fields of one name, counted from the bottom as `h=` does (RFC 6376 5.4.2).
#[derive(Clone, Default)]
struct Instances<'a> {
    count: usize,
    /// The last [`INSTANCES_MAX`], as a ring: instance `n` stands at `n % INSTANCES_MAX`.
    kept: Vec<&'a [u8]>,
}

impl<'a> Instances<'a> {
    fn push(&mut self, instance: &'a [u8]) {
        if self.kept.len() < INSTANCES_MAX {
            self.kept.push(instance);
        } else {
            self.kept[self.count % INSTANCES_MAX] = instance;
        }
        self.count += 1;
    }

    fn bottom_up(&self) -> impl Iterator<Item = &'a [u8]> {
        let first = self.count - self.kept.len();
        (first..self.count).rev().map(|index| self.kept[index % INSTANCES_MAX])
    }

    /// How often the name stands in `h=`. Above the bound on instances it cannot be sealed, since
    /// that would need all of them listed; those at the bottom are still signed.
    fn listed(&self, coverage: Coverage) -> usize {
        let sealed = match coverage {
            Coverage::Present => false,
            Coverage::SealedIfPresent => self.count > 0,
            Coverage::Sealed => true,
        };
        self.kept.len() + usize::from(sealed && self.count == self.kept.len())
    }
}

/// Walks the fields of a header section, each with its folds and its final CRLF.
struct HeaderFields<'a>(&'a [u8]);

impl<'a> Iterator for HeaderFields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() || self.0.starts_with(b"\r\n") {
            return None;
        }
        let (field, rest) = self.0.split_at(field_bytes(self.0));
        self.0 = rest;
        Some(field)
    }
}

/// Length of the field at the start of `section`: up to a CRLF that no white space follows.
fn field_bytes(section: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', section)
        .find(|&at| {
            at > 0 && section[at - 1] == b'\r' && !matches!(section.get(at + 1), Some(b' ' | b'\t'))
        })
        .map_or(section.len(), |at| at + 1)
}

fn field_name(field: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', field)?;
    Some(field[..colon].trim_ascii_end())
}

/// Text in lines of at most [`COLUMNS_MAX`].
struct Folded {
    out: Vec<u8>,
    column: usize,
}

impl Folded {
    fn new(start: &str) -> Self {
        let mut out = Vec::with_capacity(FIELD_BYTES_TYPICAL);
        out.extend_from_slice(start.as_bytes());
        Self { out, column: start.len() }
    }

    /// Adds a word after a space, or on a new line.
    fn word(&mut self, word: &str) {
        if self.column + 1 + word.len() > COLUMNS_MAX {
            self.fold();
        } else {
            self.out.push(b' ');
            self.column += 1;
        }
        self.push(word);
    }

    /// Adds a word without a space, or on a new line.
    fn glue(&mut self, word: &str) {
        if self.column + word.len() > COLUMNS_MAX {
            self.fold();
        }
        self.push(word);
    }

    fn fold(&mut self) {
        self.out.extend_from_slice(FOLD);
        self.column = FOLD_COLUMNS;
    }

    fn push(&mut self, word: &str) {
        self.out.extend_from_slice(word.as_bytes());
        self.column += word.len();
    }
}

const FROM: &str = "from";

/// What RFC 6376 5.4.1 and RFC 8058 4 ask for, and what else readers act on. Sealed are the fields
/// that readers show or that decide how the body is read.
const DEFAULT_FIELDS: &[(&str, Coverage)] = &[
    (FROM, Coverage::Sealed),
    ("to", Coverage::Sealed),
    ("cc", Coverage::Sealed),
    ("subject", Coverage::Sealed),
    ("reply-to", Coverage::Sealed),
    ("date", Coverage::SealedIfPresent),
    ("message-id", Coverage::SealedIfPresent),
    ("sender", Coverage::SealedIfPresent),
    ("in-reply-to", Coverage::SealedIfPresent),
    ("references", Coverage::SealedIfPresent),
    ("mime-version", Coverage::SealedIfPresent),
    ("content-type", Coverage::SealedIfPresent),
    ("content-transfer-encoding", Coverage::SealedIfPresent),
    ("content-language", Coverage::Present),
    ("content-description", Coverage::Present),
    ("resent-date", Coverage::Present),
    ("resent-from", Coverage::Present),
    ("resent-to", Coverage::Present),
    ("resent-cc", Coverage::Present),
    ("list-id", Coverage::Present),
    ("list-help", Coverage::Present),
    ("list-unsubscribe", Coverage::SealedIfPresent),
    ("list-unsubscribe-post", Coverage::SealedIfPresent),
    ("list-subscribe", Coverage::Present),
    ("list-post", Coverage::Present),
    ("list-owner", Coverage::Present),
    ("list-archive", Coverage::Present),
    ("feedback-id", Coverage::Present),
];

/// RFC 6376 5.4.1: trace fields, and signatures, which relays add to.
const NEVER_SIGNED: &[&str] = &["return-path", "received", "dkim-signature"];

/// Names a profile covers at most.
pub const FIELDS_MAX: usize = 64;

/// Fields of one name that are signed at most, counted from the bottom.
pub const INSTANCES_MAX: usize = 16;

/// Longer than any registered field name.
const NAME_BYTES_MAX: usize = 60;

/// RFC 5322 2.1.1 recommends at most 78 columns; two are left for whoever quotes.
const COLUMNS_MAX: usize = 76;

const FOLD: &[u8] = b"\r\n\t";
const FOLD_COLUMNS: usize = 8;

/// First guesses at capacities.
const FIELD_BYTES_TYPICAL: usize = 512;
const INPUT_BYTES_TYPICAL: usize = 4096;

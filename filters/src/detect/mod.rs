//! What can be found, and how it is counted.
//!
//! A detector turns text into values; [`Findings`] counts them: a value that occurs again anywhere
//! in the same message is one value (`count`) that occurred twice (`occurrences`), booked on the
//! part that showed it first, so that counts add up over parts.
//!
//! # Invariants
//! A finding names detector, part and numbers. The values themselves live only in the set that
//! tells distinct ones apart, which dies with the scan and has no `Debug`.
//!
//! # Failures
//! None. Above [`DISTINCT_MAX`] values or `FINDINGS_MAX` findings the numbers stop growing where
//! that is the safe side: what is over is still counted as an occurrence.

mod card;
mod held;
mod number;
pub(crate) mod secret;

use std::fmt;

use self::card::Cards;
pub use self::number::NumberKind;
use self::number::Numbers;
use self::secret::{Anchors, Secrets};
use crate::mime::PartPath;

/// Most distinct values told apart in one message; `count` never exceeds it.
pub const DISTINCT_MAX: u32 = 256;

/// Most findings of one message. Values of further parts are booked on the last finding.
const FINDINGS_MAX: usize = 192;

/// Slots of the set of distinct values at its largest: a load of one half.
const SLOTS_MAX: usize = 2 * DISTINCT_MAX as usize;

/// A kind of evidence, with a stable id for rules, replies and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Detector {
    /// Payment card numbers: issuer range, length and check digit (ISO/IEC 7812).
    CreditCard,
    /// Access key ids of Amazon Web Services.
    AwsAccessKey,
    /// API keys of Google Cloud.
    GcpApiKey,
    /// Account keys of Azure storage, in a connection string.
    AzureStorageKey,
    /// Tokens of GitHub, with their checksum.
    GithubToken,
    /// Personal access tokens of GitLab.
    GitlabToken,
    /// Tokens of Slack.
    SlackToken,
    /// Live secret and restricted keys of Stripe.
    StripeKey,
    /// API keys of SendGrid.
    SendgridKey,
    /// Access tokens of npm.
    NpmToken,
    /// Upload tokens of PyPI.
    PypiToken,
    /// Project and service keys of OpenAI.
    OpenaiKey,
    /// API keys of Anthropic.
    AnthropicKey,
    /// Personal access tokens of DigitalOcean.
    DigitaloceanToken,
    /// Admin API tokens of Shopify.
    ShopifyToken,
    /// Personal access tokens of Databricks.
    DatabricksToken,
    /// Service tokens of HashiCorp Vault.
    VaultToken,
    /// User tokens of Hugging Face.
    HuggingfaceToken,
    /// Private keys in PEM (RFC 7468) or OpenPGP armour.
    PrivateKey,
    /// JSON Web Tokens (RFC 7519).
    Jwt,
    /// Addresses of databases and queues with a password in them.
    DbUri,
    /// Identity, tax and account numbers.
    Number(NumberKind),
    /// Nested deeper than [`Limits::depth_max`](crate::Limits::depth_max).
    UnscannableDepth,
    /// More parts than [`Limits::parts_max`](crate::Limits::parts_max).
    UnscannableParts,
    /// A header section or structured field too long to be understood, or a field that decides how
    /// a part is read occurring twice, so that two readers can see two different messages.
    UnscannableHeader,
    /// A multipart without a usable boundary.
    UnscannableBoundary,
    /// A transfer encoding we do not know, or one that hides a nested message.
    UnscannableEncoding,
    /// A charset we do not know.
    UnscannableCharset,
}

impl Detector {
    /// Every detector but the numbers, in the order findings are reported.
    const NAMED: [Self; 27] = [
        Self::CreditCard,
        Self::AwsAccessKey,
        Self::GcpApiKey,
        Self::AzureStorageKey,
        Self::GithubToken,
        Self::GitlabToken,
        Self::SlackToken,
        Self::StripeKey,
        Self::SendgridKey,
        Self::NpmToken,
        Self::PypiToken,
        Self::OpenaiKey,
        Self::AnthropicKey,
        Self::DigitaloceanToken,
        Self::ShopifyToken,
        Self::DatabricksToken,
        Self::VaultToken,
        Self::HuggingfaceToken,
        Self::PrivateKey,
        Self::Jwt,
        Self::DbUri,
        Self::UnscannableDepth,
        Self::UnscannableParts,
        Self::UnscannableHeader,
        Self::UnscannableBoundary,
        Self::UnscannableEncoding,
        Self::UnscannableCharset,
    ];

    /// Every detector.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::NAMED.into_iter().chain(NumberKind::all().map(Self::Number))
    }

    /// The stable id, as rules and replies write it.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::CreditCard => "credit_card",
            Self::AwsAccessKey => "aws_access_key",
            Self::GcpApiKey => "gcp_api_key",
            Self::AzureStorageKey => "azure_storage_key",
            Self::GithubToken => "github_token",
            Self::GitlabToken => "gitlab_token",
            Self::SlackToken => "slack_token",
            Self::StripeKey => "stripe_key",
            Self::SendgridKey => "sendgrid_key",
            Self::NpmToken => "npm_token",
            Self::PypiToken => "pypi_token",
            Self::OpenaiKey => "openai_key",
            Self::AnthropicKey => "anthropic_key",
            Self::DigitaloceanToken => "digitalocean_token",
            Self::ShopifyToken => "shopify_token",
            Self::DatabricksToken => "databricks_token",
            Self::VaultToken => "vault_token",
            Self::HuggingfaceToken => "huggingface_token",
            Self::PrivateKey => "private_key",
            Self::Jwt => "jwt",
            Self::DbUri => "db_uri",
            Self::Number(kind) => kind.id(),
            Self::UnscannableDepth => "unscannable.depth",
            Self::UnscannableParts => "unscannable.parts",
            Self::UnscannableHeader => "unscannable.header",
            Self::UnscannableBoundary => "unscannable.boundary",
            Self::UnscannableEncoding => "unscannable.encoding",
            Self::UnscannableCharset => "unscannable.charset",
        }
    }

    /// The detector with this id.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::all().find(|detector| detector.id() == id)
    }

    /// Whether this says that something could not be looked into.
    #[must_use]
    pub fn is_unscannable(self) -> bool {
        self >= Self::UnscannableDepth
    }

    /// Whether this is an identity, tax or account number.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(self, Self::Number(_))
    }

    /// What tells a value from others: FNV-1a over detector and value, never zero.
    pub(crate) fn identity(self, value: &[u8]) -> u64 {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let seed = self.id().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| mix(hash, &byte));
        value.iter().fold(seed, mix).max(1)
    }

    /// Whether this opens something for whoever reads it: keys, tokens, passwords.
    #[must_use]
    pub fn is_secret(self) -> bool {
        self >= Self::AwsAccessKey && self <= Self::DbUri
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// How sure a detector is of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Confidence {
    /// The form fits, but so do everyday numbers (a 13-digit Visa number and a bar code).
    Low,
    /// A form that is genuine but rare.
    Medium,
    /// Form, range and check digit all say so.
    High,
}

impl Confidence {
    /// The word for reports: `low`, `medium`, `high`.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What one detector saw in one part. Never holds content.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was found.
    pub detector: Detector,
    /// Where its values were first seen.
    pub part: PartPath,
    /// Distinct values first seen in this part, at most [`DISTINCT_MAX`] a message.
    pub count: u32,
    /// How often these values occur in the whole message.
    pub occurrences: u32,
    /// How sure the detector is of each of them.
    pub confidence: Confidence,
}

/// The findings of one message while it is scanned.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    distinct: Distinct,
}

impl Findings {
    /// Books one value of `detector` seen in `part`. `key` is the value's identity, never zero.
    pub(crate) fn value(
        &mut self,
        detector: Detector,
        confidence: Confidence,
        part: &PartPath,
        key: u64,
    ) {
        match self.distinct.find(key) {
            Lookup::Known(finding) => self.occurred(finding),
            Lookup::Full => {
                let finding = self.finding(detector, confidence, part);
                self.occurred(finding);
            }
            Lookup::Free => {
                let finding = self.finding(detector, confidence, part);
                self.distinct.insert(key, finding);
                self.list[usize::from(finding)].count += 1;
                self.occurred(finding);
            }
        }
    }

    /// Books that something in `part` could not be looked into.
    pub(crate) fn unscannable(&mut self, detector: Detector, part: &PartPath) {
        let finding = self.finding(detector, Confidence::High, part);
        self.list[usize::from(finding)].count = 1;
        self.occurred(finding);
    }

    /// The findings, by detector and in the order of their parts.
    pub(crate) fn into_list(self) -> Vec<Finding> {
        let mut list = self.list;
        list.sort_by_key(|finding| finding.detector);
        list
    }

    /// Heap memory held, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.list.capacity() * size_of::<Finding>()
            + self.distinct.keys.capacity() * size_of::<u64>()
            + self.distinct.findings.capacity()
    }

    fn occurred(&mut self, finding: u8) {
        let finding = &mut self.list[usize::from(finding)];
        finding.occurrences = finding.occurrences.saturating_add(1);
    }

    /// The index of the finding to book on, made where there is none yet.
    fn finding(&mut self, detector: Detector, confidence: Confidence, part: &PartPath) -> u8 {
        let same_kind = |f: &Finding| f.detector == detector && f.confidence == confidence;
        let found = self.list.iter().rposition(|f| same_kind(f) && f.part == *part);
        // One place is kept for each kind, so that many parts of one kind cannot hide another.
        let room = FINDINGS_MAX - KINDS_MAX;
        let index = found.or_else(|| {
            (self.list.len() >= room).then(|| self.list.iter().rposition(same_kind)).flatten()
        });
        let index = index.unwrap_or_else(|| {
            let part = part.clone();
            self.list.push(Finding { detector, part, count: 0, occurrences: 0, confidence });
            self.list.len() - 1
        });
        u8::try_from(index).expect("FINDINGS_MAX fits a byte")
    }
}

/// Where a detector puts what it sees in one part, and what it looks for.
pub(crate) struct Sink<'a> {
    pub(crate) findings: &'a mut Findings,
    pub(crate) part: &'a PartPath,
    /// None where nobody wants to know of secrets.
    pub(crate) anchors: Option<&'a Anchors>,
}

/// All that read one text at a time.
pub(crate) struct Readers {
    cards: Cards,
    numbers: Numbers,
    secrets: Secrets,
}

impl Readers {
    pub(crate) fn new() -> Self {
        Self { cards: Cards::new(), numbers: Numbers::default(), secrets: Secrets::default() }
    }

    /// Takes the next piece of a text.
    pub(crate) fn push(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        self.cards.push(text, sink);
        self.numbers.push(text, sink);
        if let Some(anchors) = sink.anchors {
            self.secrets.push(text, anchors, sink);
        }
    }

    /// Takes the rest of a text and ends it.
    pub(crate) fn push_last(&mut self, text: &[u8], sink: &mut Sink<'_>) {
        self.cards.push_last(text, sink);
        self.numbers.push(text, sink);
        self.numbers.end(sink);
        if let Some(anchors) = sink.anchors {
            self.secrets.push(text, anchors, sink);
            self.secrets.end(anchors, sink);
        }
    }

    /// Ends the text: what follows is unrelated.
    pub(crate) fn end(&mut self, sink: &mut Sink<'_>) {
        self.cards.end(sink);
        self.numbers.end(sink);
        if let Some(anchors) = sink.anchors {
            self.secrets.end(anchors, sink);
        }
    }

    /// Heap memory held, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.secrets.heap_bytes() + self.numbers.heap_bytes()
    }
}

impl Sink<'_> {
    pub(crate) fn value(&mut self, detector: Detector, confidence: Confidence, key: u64) {
        self.findings.value(detector, confidence, self.part, key);
    }

    pub(crate) fn unscannable(&mut self, detector: Detector) {
        self.findings.unscannable(detector, self.part);
    }
}

/// Kinds of finding (detector and confidence) that can occur.
const KINDS_MAX: usize = Detector::NAMED.len() + 2 + 2 * NumberKind::COUNT;
const _: () = assert!(FINDINGS_MAX <= 255 && KINDS_MAX < FINDINGS_MAX);

/// The distinct values of one message and the finding each is booked on: open addressing, grown by
/// doubling up to `SLOTS_MAX`, empty until the first value.
#[derive(Default)]
struct Distinct {
    keys: Vec<u64>,
    findings: Vec<u8>,
    count: u32,
}

enum Lookup {
    Known(u8),
    Free,
    Full,
}

impl Distinct {
    fn find(&self, key: u64) -> Lookup {
        debug_assert_ne!(key, 0, "zero marks a free slot");
        if !self.keys.is_empty() {
            let slot = self.slot(key);
            if self.keys[slot] == key {
                return Lookup::Known(self.findings[slot]);
            }
        }
        if self.count < DISTINCT_MAX { Lookup::Free } else { Lookup::Full }
    }

    fn insert(&mut self, key: u64, finding: u8) {
        let grown = (2 * (self.count as usize + 1)).next_power_of_two().max(16);
        if grown > self.keys.len() {
            self.grow(grown.min(SLOTS_MAX));
        }
        let slot = self.slot(key);
        self.keys[slot] = key;
        self.findings[slot] = finding;
        self.count += 1;
    }

    fn grow(&mut self, slots: usize) {
        let keys = std::mem::replace(&mut self.keys, vec![0; slots]);
        let findings = std::mem::replace(&mut self.findings, vec![0; slots]);
        for (key, finding) in keys.into_iter().zip(findings).filter(|(key, _)| *key != 0) {
            let slot = self.slot(key);
            self.keys[slot] = key;
            self.findings[slot] = finding;
        }
    }

    /// The slot that holds `key` or the free one where it belongs. A chosen set of values can make
    /// the probe long, but never longer than the table: `SLOTS_MAX` loads.
    fn slot(&self, key: u64) -> usize {
        let mask = self.keys.len() - 1;
        let mixed = (key ^ (key >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let start = usize::try_from(mixed >> 48).expect("16 bits fit");
        let probe = (0..self.keys.len()).map(|step| (start + step) & mask);
        let mut free = probe.filter(|slot| self.keys[*slot] == key || self.keys[*slot] == 0);
        free.next().expect("the table is at most half full")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(numbers: &[u16]) -> PartPath {
        let mut path = PartPath::default();
        numbers.iter().for_each(|number| assert!(path.push(*number)));
        path
    }

    #[test]
    fn a_repeated_value_counts_once() {
        let mut findings = Findings::default();
        for (numbers, key) in [(&[1][..], 7), (&[1], 7), (&[2], 7), (&[2], 8)] {
            findings.value(Detector::CreditCard, Confidence::High, &part(numbers), key);
        }
        let list = findings.into_list();
        let seen: Vec<_> =
            list.iter().map(|f| (f.part.to_string(), f.count, f.occurrences)).collect();
        assert_eq!(seen, [("1".to_string(), 1, 3), ("2".to_string(), 1, 1)]);
    }

    #[test]
    fn bounds_hold_and_no_kind_is_lost() {
        let mut findings = Findings::default();
        for key in 1..=5_000 {
            let path = part(&[u16::try_from(key % 300).unwrap()]);
            findings.value(Detector::CreditCard, Confidence::High, &path, key);
        }
        findings.unscannable(Detector::UnscannableDepth, &part(&[1]));
        assert!(findings.heap_bytes() <= 8 << 10, "{}", findings.heap_bytes());
        let list = findings.into_list();
        assert!(list.len() <= FINDINGS_MAX);
        assert_eq!(list.iter().filter(|f| f.detector.is_unscannable()).count(), 1);
        let cards = list.iter().filter(|f| f.detector == Detector::CreditCard);
        let (count, occurrences) =
            cards.fold((0, 0), |sum, f| (sum.0 + f.count, sum.1 + f.occurrences));
        assert_eq!((count, occurrences), (DISTINCT_MAX, 5_000));
    }

    #[test]
    fn ids_are_unique_and_found_again() {
        for detector in Detector::all() {
            assert_eq!(Detector::from_id(detector.id()), Some(detector));
        }
        assert_eq!(Detector::from_id("creditcard"), None);
    }
}

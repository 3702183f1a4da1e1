//! Keys and tokens: what opens something, and begins with a literal that says so.
//!
//! A vectorised search finds the literals ([`Anchors`]), and what stands around each is looked at by
//! hand: characters, length, boundaries, a checksum where there is one. Nothing else of a text is
//! touched, so ordinary mail passes at the speed of the search.
//!
//! Not a secret: what goes on where its kind ends, values of a few different characters (`xxxx`), those
//! with `EXAMPLE` in them, placeholders in a database address (`user:<password>@`).
//!
//! # Invariants
//! - A literal is judged when [`AHEAD_BYTES`] follow it or the text ends, and [`BEHIND_BYTES`] before it
//!   are known, so that cuts between pieces change nothing. At most twice their sum is held.
//! - Every verifier reads at most [`AHEAD_BYTES`]; time is linear in the text.
//!
//! # Failures
//! None.

use aho_corasick::packed::{Config, MatchKind, Searcher};

use crate::detect::held::Held;
use crate::detect::{Confidence, Detector, Sink};
use crate::validate::Validator;

/// How far beyond its first byte a secret is read. Longer ones are told by so much of them.
const AHEAD_BYTES: usize = 320;

/// How far before it: the scheme of an address.
const BEHIND_BYTES: usize = 24;

/// The longest literal, bytes.
const ANCHOR_BYTES_MAX: usize = 24;

/// Different characters that a random value has at least.
const DIFFERENT_MIN: usize = 7;

/// What follows a literal.
enum Rest {
    /// So many characters of a kind, and then none of that kind.
    Run(Set, usize, usize),
    /// Where the value ends, by a function of the text and of where the literal begins and ends.
    Check(fn(&[u8], usize, usize) -> Option<usize>),
}

/// Kinds of characters.
#[derive(Clone, Copy)]
enum Set {
    Alnum,
    /// Letters, digits, hyphen, underscore.
    Url,
    /// Upper-case base 32.
    Base32,
    /// Lower-case hexadecimal.
    Hex,
    /// Base 64 with `+`, `/` and `=`.
    Base64,
}

struct Kind {
    detector: Detector,
    anchor: &'static str,
    rest: Rest,
}

const fn run(detector: Detector, anchor: &'static str, set: Set, min: usize, max: usize) -> Kind {
    Kind { detector, anchor, rest: Rest::Run(set, min, max) }
}

const fn check(
    detector: Detector,
    anchor: &'static str,
    check: fn(&[u8], usize, usize) -> Option<usize>,
) -> Kind {
    Kind { detector, anchor, rest: Rest::Check(check) }
}

/// Formats as their issuers publish them, or as secret scanners know them.
const KINDS: &[Kind] = &[
    run(Detector::AwsAccessKey, "AKIA", Set::Base32, 16, 16),
    run(Detector::AwsAccessKey, "ASIA", Set::Base32, 16, 16),
    run(Detector::GcpApiKey, "AIza", Set::Url, 35, 35),
    run(Detector::AzureStorageKey, "AccountKey=", Set::Base64, 88, 88),
    check(Detector::GithubToken, "ghp_", github),
    check(Detector::GithubToken, "gho_", github),
    check(Detector::GithubToken, "ghu_", github),
    check(Detector::GithubToken, "ghs_", github),
    check(Detector::GithubToken, "ghr_", github),
    run(Detector::GithubToken, "github_pat_", Set::Url, 82, 82),
    run(Detector::GitlabToken, "glpat-", Set::Url, 20, 20),
    check(Detector::SlackToken, "xoxb-", slack),
    check(Detector::SlackToken, "xoxp-", slack),
    check(Detector::SlackToken, "xoxa-", slack),
    run(Detector::StripeKey, "sk_live_", Set::Alnum, 24, 250),
    run(Detector::StripeKey, "rk_live_", Set::Alnum, 24, 250),
    check(Detector::SendgridKey, "SG.", sendgrid),
    run(Detector::NpmToken, "npm_", Set::Alnum, 36, 36),
    run(Detector::PypiToken, "pypi-AgEIcHlwaS5vcmc", Set::Url, 50, 250),
    run(Detector::OpenaiKey, "sk-proj-", Set::Url, 40, 250),
    run(Detector::OpenaiKey, "sk-svcacct-", Set::Url, 40, 250),
    run(Detector::AnthropicKey, "sk-ant-api03-", Set::Url, 90, 110),
    run(Detector::DigitaloceanToken, "dop_v1_", Set::Hex, 64, 64),
    run(Detector::ShopifyToken, "shpat_", Set::Hex, 32, 32),
    run(Detector::DatabricksToken, "dapi", Set::Hex, 32, 32),
    run(Detector::VaultToken, "hvs.", Set::Url, 90, 250),
    run(Detector::HuggingfaceToken, "hf_", Set::Alnum, 34, 34),
    check(Detector::PrivateKey, "-----BEGIN ", private_key),
    check(Detector::Jwt, "eyJ", jwt),
    check(Detector::DbUri, "://", database),
];

/// The literals, compiled.
#[derive(Debug)]
pub(crate) struct Anchors(Searcher);

impl Anchors {
    pub(crate) fn new() -> Self {
        let mut builder = Config::new().match_kind(MatchKind::LeftmostFirst).builder();
        builder.extend(KINDS.iter().map(|kind| kind.anchor));
        Self(builder.build().expect("the literals are few, and none is empty"))
    }
}

/// The secret detectors over one text at a time.
#[derive(Default)]
pub(crate) struct Secrets(Held<BEHIND_BYTES, AHEAD_BYTES>);

impl Secrets {
    /// Takes the next piece of a text.
    pub(crate) fn push(&mut self, text: &[u8], anchors: &Anchors, sink: &mut Sink<'_>) {
        self.0.push(text, |text, begin, end| look(text, begin, end, anchors, sink));
    }

    /// Ends the text: what follows is unrelated.
    pub(crate) fn end(&mut self, anchors: &Anchors, sink: &mut Sink<'_>) {
        self.0.end(|text, begin, end| look(text, begin, end, anchors, sink));
    }

    /// Heap memory held, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

/// Judges every literal that begins in a range.
fn look(text: &[u8], begin: usize, end: usize, anchors: &Anchors, sink: &mut Sink<'_>) {
    let window = &text[..text.len().min(end + ANCHOR_BYTES_MAX)];
    let mut at = begin;
    while at < end {
        let Some(found) = anchors.0.find_in(window, (at..window.len()).into()) else { return };
        if found.start() >= end {
            return;
        }
        let kind = &KINDS[found.pattern().as_usize()];
        if let Some(value) = value(text, kind, found.start(), found.end()) {
            sink.value(kind.detector, Confidence::High, kind.detector.identity(value));
        }
        // Another literal may begin inside: what is found must not depend on where a search began.
        at = found.start() + 1;
    }
}

/// The value that a literal begins, where it is one.
fn value<'a>(text: &'a [u8], kind: &Kind, start: usize, end: usize) -> Option<&'a [u8]> {
    let text = &text[..text.len().min(start + AHEAD_BYTES)];
    let is_joined = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins_inside = || start > 0 && is_joined(text[start - 1]);
    match kind.rest {
        Rest::Run(set, min, max) => {
            if begins_inside() {
                return None;
            }
            let length = run_of(&text[end..], set);
            let is_it = (min..=max).contains(&length) && !is_made_up(&text[end..end + length]);
            is_it.then(|| &text[start..end + length])
        }
        Rest::Check(check) => {
            if kind.detector != Detector::DbUri && begins_inside() {
                return None;
            }
            check(text, start, end).map(|until| &text[start..until])
        }
    }
}

fn is_in(set: Set, byte: u8) -> bool {
    match set {
        Set::Alnum => byte.is_ascii_alphanumeric(),
        Set::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        Set::Base32 => byte.is_ascii_uppercase() || matches!(byte, b'2'..=b'7'),
        Set::Hex => byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'),
        Set::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
    }
}

/// How many characters of a kind a text begins with; none where what follows belongs to the word.
fn run_of(text: &[u8], set: Set) -> usize {
    let length = text.iter().take_while(|byte| is_in(set, **byte)).count();
    let goes_on =
        text.get(length).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if goes_on { 0 } else { length }
}

/// Whether a value was written to look like one.
fn is_made_up(value: &[u8]) -> bool {
    let mut seen = [false; 256];
    value.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    let different = seen.iter().filter(|seen| **seen).count();
    let says_so = value.windows(7).any(|window| window.eq_ignore_ascii_case(b"example"));
    different < DIFFERENT_MIN || says_so
}

/// 30 characters, and their CRC-32 as six digits of base 62.
fn github(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let until = end + run_of(&text[end..], Set::Alnum);
    Validator::GithubToken.accepts(&text[start..until]).then_some(until)
}

/// Numbers of a workspace and a user, and a random end.
fn slack(text: &[u8], _start: usize, end: usize) -> Option<usize> {
    let length = run_of(&text[end..], Set::Url);
    let value = &text[end..end + length];
    let mut parts = value.split(|byte| *byte == b'-');
    let is_number = |part: &[u8]| part.len() >= 9 && part.iter().all(u8::is_ascii_digit);
    let is_it = parts.next().is_some_and(is_number)
        && value.len() >= 30
        && parts.next_back().is_some_and(|last| last.len() >= 20 && !is_made_up(last));
    is_it.then_some(end + length)
}

/// 22 and 43 characters, with a dot between.
fn sendgrid(text: &[u8], _start: usize, end: usize) -> Option<usize> {
    let length = text[end..].iter().take_while(|byte| is_in(Set::Url, **byte)).count();
    let secret = text.get(end + length + 1..).filter(|_| text[end + length] == b'.')?;
    let is_it = length == 22 && run_of(secret, Set::Url) == 43 && !is_made_up(&secret[..43]);
    is_it.then_some(end + length + 1 + 43)
}

/// RFC 7468 and OpenPGP armour, with the beginning of what is inside.
fn private_key(text: &[u8], _start: usize, end: usize) -> Option<usize> {
    let line = &text[end..text.len().min(end + 48)];
    let label = &line[..line.windows(5).position(|window| window == b"-----")?];
    if !(label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK")) {
        return None;
    }
    let body = end + label.len() + 5;
    let mut until = body;
    for run in text[body..].split(|byte| !is_in(Set::Base64, *byte)) {
        until += run.len();
        if run.len() >= PEM_RUN_MIN {
            return Some(until);
        }
        until += 1;
    }
    None
}

/// Two objects in base64url (RFC 7519 3), told by their first characters, and a signature.
fn jwt(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let part = |from: usize| {
        let length = text.get(from..)?.iter().take_while(|byte| is_in(Set::Url, **byte)).count();
        Some(from + length)
    };
    if start > 0 && matches!(text[start - 1], b'-' | b'.') {
        return None;
    }
    let header = part(end)?;
    let claims = text.get(header..).filter(|rest| rest.starts_with(b".eyJ")).map(|_| header + 4)?;
    let until = part(claims)?;
    let is_it = header - start >= 16 && until - claims >= 8;
    is_it.then_some(until)
}

/// `scheme://user:password@host`: looks before the literal for a scheme of databases and queues.
fn database(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let from = start.saturating_sub(BEHIND_BYTES);
    let is_scheme = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+');
    let length = text[from..start].iter().rev().take_while(is_scheme).count();
    let scheme = &text[start - length..start];
    if !SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes())) {
        return None;
    }
    let is_address = |byte: &&u8| byte.is_ascii_graphic() && !b"\"'<>`".contains(byte);
    let length = text[end..].iter().take_while(is_address).count();
    let address = &text[end..end + length];
    let authority = address.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next()?;
    let at = authority.iter().rposition(|byte| *byte == b'@')?;
    let colon = authority[..at].iter().position(|byte| *byte == b':')?;
    let password = &authority[colon + 1..at];
    let is_placeholder = password.len() < 3
        || password.iter().any(|byte| b"{}$*[]()%".contains(byte) && *byte != b'%')
        || PLACEHOLDERS.iter().any(|word| password.eq_ignore_ascii_case(word.as_bytes()));
    let has_host = authority.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
    (!is_placeholder && has_host).then_some(end + at + 1)
}

/// Letters of base64 without a space that show that a key follows its armour, and not a sentence.
const PEM_RUN_MIN: usize = 32;
const SCHEMES: [&str; 16] = [
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "mongodb",
    "mongodb+srv",
    "redis",
    "rediss",
    "amqp",
    "amqps",
    "mssql",
    "sqlserver",
    "oracle",
    "clickhouse",
    "ldap",
    "ldaps",
];
const PLACEHOLDERS: [&str; 8] =
    ["password", "passwd", "pass", "pwd", "secret", "changeme", "yourpassword", "xxx"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Findings;
    use crate::mime::PartPath;

    /// Detectors found in a text, in pieces of several sizes, which must agree.
    fn found(text: &str) -> Vec<String> {
        let anchors = Anchors::new();
        let of_pieces = |text: &str, bytes: usize| {
            let (mut findings, part) = (Findings::default(), PartPath::default());
            let mut sink = Sink { findings: &mut findings, part: &part, anchors: Some(&anchors) };
            let mut secrets = Secrets::default();
            for piece in text.as_bytes().chunks(bytes) {
                secrets.push(piece, &anchors, &mut sink);
            }
            secrets.end(&anchors, &mut sink);
            let list = findings.into_list();
            list.iter().map(|f| format!("{} {}/{}", f.detector, f.count, f.occurrences)).collect()
        };
        let whole: Vec<String> = of_pieces(text, usize::MAX);
        // With text around it, so that it is judged in the middle of pieces and over their cuts.
        let filler = "and so on ".repeat(80);
        let padded = format!("{filler}{text} {filler}");
        for bytes in [1, 2, 7, 63, 320, 344, 345, 700, usize::MAX] {
            assert_eq!(of_pieces(&padded, bytes), whole, "in pieces of {bytes}");
        }
        whole
    }

    /// Letters and digits that look random, the same each time.
    fn random(length: usize, alphabet: &str) -> String {
        let alphabet = alphabet.as_bytes();
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(alphabet[usize::try_from(state % alphabet.len() as u64).expect("fits")])
        };
        (0..length).map(|_| next()).collect()
    }

    const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const HEX: &str = "0123456789abcdef";

    /// Each kind with a value of its form, and the same a character too short or too long.
    #[test]
    fn every_kind_is_found_and_nothing_near_it() {
        for kind in KINDS {
            let Rest::Run(set, min, max) = kind.rest else { continue };
            let alphabet = match set {
                Set::Base32 => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
                Set::Hex => HEX,
                _ => ALNUM,
            };
            let value = |length| format!("{}{}", kind.anchor, random(length, alphabet));
            let id = kind.detector.id();
            for (text, want) in [
                (value(min), true),
                (format!("key=\"{}\",", value(max)), true),
                (format!("({})", value(min)), true),
                (value(min - 1), false),
                (format!("x{}", value(min)), false),
                (format!("{}{}", kind.anchor, "x".repeat(min)), false),
                (format!("{}é", value(max + 1)), false),
            ] {
                // Beyond what is read of a value, its end does not count.
                let is_long = max + kind.anchor.len() > AHEAD_BYTES - BEHIND_BYTES;
                let expected = if want { vec![format!("{id} 1/1")] } else { Vec::new() };
                assert!(found(&text) == expected || is_long, "{text}: {:?}", found(&text));
            }
        }
    }

    #[test]
    fn a_github_token_needs_its_checksum() {
        // The one that GitHub's own example and other scanners' tests use.
        let token = "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";
        assert_eq!(found(&format!("token {token} here")), ["github_token 1/1"]);
        for at in 4..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(changed).expect("is ASCII");
            assert!(found(&changed).is_empty(), "{changed}");
        }
    }

    #[test]
    fn forms_that_are_checked_by_hand() {
        let last = random(24, ALNUM);
        let (id, secret) = (random(22, ALNUM), random(43, ALNUM));
        let body = random(64, ALNUM);
        let pem = |label: &str| format!("-----BEGIN {label}-----\r\n{body}\r\n{body}\r\n");
        for (text, want) in [
            (format!("xoxb-123456789012-1234567890123-{last}"), "slack_token"),
            (format!("xoxb-not-a-{last}"), ""),
            (format!("SG.{id}.{secret}"), "sendgrid_key"),
            (format!("SG.{id}.{}", &secret[1..]), ""),
            (pem("PRIVATE KEY"), "private_key"),
            (pem("RSA PRIVATE KEY"), "private_key"),
            (pem("OPENSSH PRIVATE KEY"), "private_key"),
            (pem("PGP PRIVATE KEY BLOCK"), "private_key"),
            (pem("PUBLIC KEY"), ""),
            (pem("CERTIFICATE"), ""),
            ("write -----BEGIN PRIVATE KEY----- and then your key".into(), ""),
            (
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0"
                    .into(),
                "jwt",
            ),
            ("eyJhbGciOiJIUzI1NiJ9.notclaims.dozjgNryP4J3jVmNHl0w5N".into(), ""),
            ("use postgres://app:S3cr3t-x9@db.internal:5432/orders now".into(), "db_uri"),
            ("mongodb+srv://root:hunter2@cluster0.example.net/?retryWrites=true".into(), "db_uri"),
            ("postgres://app@db.internal/orders".into(), ""),
            ("postgres://user:password@localhost/orders".into(), ""),
            ("postgres://user:${DB_PASSWORD}@localhost/orders".into(), ""),
            ("https://user:S3cr3t-x9@shop.example.com/".into(), ""),
            ("AKIAIOSFODNN7EXAMPLE".into(), ""),
        ] {
            let want: Vec<_> =
                (!want.is_empty()).then(|| format!("{want} 1/1")).into_iter().collect();
            assert_eq!(found(&text), want, "{text}");
        }
    }

    #[test]
    fn a_value_that_occurs_again_is_one() {
        let one = format!("AKIA{}", random(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"));
        let far = " filler".repeat(200);
        assert_eq!(found(&format!("{one} {far} {one}, {one}")), ["aws_access_key 1/3"]);
    }

    #[test]
    fn literals_fit() {
        assert!(KINDS.iter().all(|kind| kind.anchor.len() <= ANCHOR_BYTES_MAX));
    }
}

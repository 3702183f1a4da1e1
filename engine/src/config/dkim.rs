//! `[[dkim]]`: which domains are signed for, with which key.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use postern_signer::canon::Canonicalization;
use postern_signer::header::{Coverage, Profile};
use postern_signer::key::RsaPrivateKey;
use postern_signer::name::{Selector, SigningDomain};

use super::address::canonical_domain;
use super::diagnostic::Diagnostic;
use super::read::{Section, Span, seconds};

/// One signing domain.
#[derive(Clone)]
pub struct Dkim {
    /// `d=`, `s=`, `i=`, `x=`, the header's canonicalisation and the fields to sign.
    pub profile: Profile,
    /// How the body is canonicalised.
    pub body: Canonicalization,
    /// The private key.
    pub key: Arc<RsaPrivateKey>,
    /// Where it was read from.
    pub key_file: PathBuf,
}

impl Dkim {
    /// The author domain it signs for, in canonical form.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.profile.domain().as_str()
    }
}

impl fmt::Debug for Dkim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dkim").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// All signing domains.
#[derive(Debug, Clone, Default)]
pub struct DkimKeys {
    all: Vec<Arc<Dkim>>,
}

impl DkimKeys {
    /// All entries, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Arc<Dkim>] {
        &self.all
    }

    /// The entry that signs for exactly this author domain, in canonical form.
    #[must_use]
    pub fn of(&self, domain: &str) -> Option<&Arc<Dkim>> {
        self.all.iter().find(|dkim| dkim.domain() == domain)
    }

    /// Reads all `[[dkim]]`.
    pub(super) fn read(sections: &[Section<'_>]) -> Self {
        let mut all: Vec<Arc<Dkim>> = Vec::new();
        let mut spans: Vec<Span> = Vec::new();
        for section in sections {
            let Some((dkim, span)) = read_one(section) else { continue };
            if let Some(first) = all.iter().position(|other| other.domain() == dkim.domain()) {
                let message = format!("{} has a signing key already", dkim.domain());
                section.context.push(
                    Diagnostic::error(span, message)
                        .context(spans[first].clone(), "here")
                        .help("one [[dkim]] signs for a domain; to change keys, change that one"),
                );
                continue;
            }
            all.push(Arc::new(dkim));
            spans.push(span);
        }
        Self { all }
    }
}

fn read_one(section: &Section<'_>) -> Option<(Dkim, Span)> {
    let domain = read_domain(section);
    let selector = read_selector(section);
    let key = read_key(section);
    let (header, body) = section.choice("canonicalization", &CANONICALIZATIONS, RELAXED);
    let expires = section.duration("expires", seconds(3_600, 31_536_000));
    let fields = section.texts("headers").unwrap_or_default();
    let (domain, span) = domain?;
    let mut profile = Profile::new(domain, selector?)
        .with_header_canonicalization(header)
        .with_validity_s(expires.and_then(|expires| u32::try_from(expires.as_secs()).ok()));
    for field in fields {
        match profile.clone().with_field(field.text, Coverage::Present) {
            Ok(with_field) => profile = with_field,
            Err(refused) => {
                let message = format!("`{}` cannot be signed: {refused}", field.text);
                section.context.push(Diagnostic::error(field.span, message));
            }
        }
    }
    let (key, key_file) = key?;
    Some((Dkim { profile, body, key: Arc::new(key), key_file }, span))
}

fn read_domain(section: &Section<'_>) -> Option<(SigningDomain, Span)> {
    let text = section.required_text("domain", "the domain of the From addresses to sign for")?;
    let canonical = canonical_domain(text.text);
    let problem = match canonical.as_deref().map(str::parse::<SigningDomain>) {
        Some(Ok(domain)) => return Some((domain, text.span)),
        Some(Err(refused)) => refused.to_string(),
        None => "it is not a domain name".to_owned(),
    };
    let message = format!("`{}` cannot be a signing domain: {problem}", text.text);
    section.context.push(Diagnostic::error(text.span, message));
    None
}

fn read_selector(section: &Section<'_>) -> Option<Selector> {
    let text =
        section.required_text("selector", "the name of the key in DNS, such as \"2026a\"")?;
    match text.text.parse() {
        Ok(selector) => Some(selector),
        Err(refused) => {
            let message = format!("`{}` cannot be a selector: {refused}", text.text);
            section.context.push(Diagnostic::error(text.span, message));
            None
        }
    }
}

fn read_key(section: &Section<'_>) -> Option<(RsaPrivateKey, PathBuf)> {
    if !section.has("key_file") {
        section.report_missing("key_file", "make a key with `postern keys new`");
    }
    let (path, span) = section.path("key_file")?;
    let pem = section.context.read_file(&path, &span)?;
    section.context.warn_if_open(&path, &span);
    match RsaPrivateKey::from_pem(&pem) {
        Ok(key) => Some((key, path)),
        Err(refused) => {
            let message = format!("{} cannot be used to sign: {refused}", path.display());
            let help = "make a key with `postern keys new`";
            section.context.push(Diagnostic::error(span, message).help(help));
            None
        }
    }
}

const RELAXED: (Canonicalization, Canonicalization) =
    (Canonicalization::Relaxed, Canonicalization::Relaxed);

const CANONICALIZATIONS: [(&str, (Canonicalization, Canonicalization)); 4] = [
    ("relaxed/relaxed", RELAXED),
    ("relaxed/simple", (Canonicalization::Relaxed, Canonicalization::Simple)),
    ("simple/relaxed", (Canonicalization::Simple, Canonicalization::Relaxed)),
    ("simple/simple", (Canonicalization::Simple, Canonicalization::Simple)),
];

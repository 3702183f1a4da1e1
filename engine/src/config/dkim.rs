//! `[[dkim]]`: who signs which mail, with which key.
//!
//! Several entries may sign one message: the author's domain with RSA and with Ed25519 (RFC 8463),
//! the organisation beside the author's domain, an application with a selector of its own.
//! [`DkimKeys::for_message`] is the one place that says which.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use postern_signer::canon::Canonicalization;
use postern_signer::header::{Coverage, Profile};
use postern_signer::key::{Algorithm, SigningKey};
use postern_signer::name::{AgentIdentity, Selector, SigningDomain};

use super::address::canonical_domain;
use super::diagnostic::Diagnostic;
use super::managed::Managed;
use super::read::{Section, Span, Text, seconds};
use super::suggest::{nearest, one_of};

/// One signature of a message.
#[derive(Clone)]
pub struct Dkim {
    /// `d=`, `s=`, `i=`, `x=`, `a=`, the header's canonicalisation and the fields to sign.
    pub profile: Profile,
    /// How the body is canonicalised.
    pub body: Canonicalization,
    /// The private key; none where it cannot be used and `on_bad_key` says to go on, and none of a
    /// managed one until the relay has made it ([`DkimKeys::with_managed`]).
    pub key: Option<Arc<SigningKey>>,
    /// Where it comes from.
    pub source: KeySource,
    /// The author domains it signs for.
    pub authors: Authors,
    /// The applications it signs for; empty for all.
    pub apps: Vec<String>,
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// This file.
    File(PathBuf),
    /// The relay makes it, and looks after it.
    Managed(Managed),
}

/// Author domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authors {
    /// Every one.
    All,
    /// Exactly these, in canonical form.
    Domains(Vec<String>),
}

impl Authors {
    /// Those that are named one by one.
    fn named(&self) -> impl Iterator<Item = &str> {
        let domains = match self {
            Self::All => &[][..],
            Self::Domains(domains) => domains,
        };
        domains.iter().map(String::as_str)
    }

    fn has(&self, domain: &str) -> bool {
        match self {
            Self::All => true,
            Self::Domains(domains) => domains.iter().any(|own| own == domain),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Domains(own), other) => own.iter().any(|domain| other.has(domain)),
            (Self::All, Self::Domains(theirs)) => !theirs.is_empty(),
            (Self::All, Self::All) => true,
        }
    }
}

impl Dkim {
    /// The signing domain, in canonical form.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.profile.domain().as_str()
    }

    /// How its keys are looked after, where the relay does that.
    #[must_use]
    pub fn managed(&self) -> Option<&Managed> {
        match &self.source {
            KeySource::Managed(managed) => Some(managed),
            KeySource::File(_) => None,
        }
    }

    /// The name of its keys among all that the relay looks after.
    #[must_use]
    pub fn line_name(&self) -> Option<String> {
        let managed = self.managed()?;
        Some(format!("{} {}", self.domain(), managed.selector_prefix))
    }

    /// Where its records are, and what their names begin with.
    fn record_zone(&self) -> Option<(&str, &str)> {
        let managed = self.managed()?;
        let zone = managed.record_domain.as_deref().unwrap_or(self.domain());
        Some((zone, managed.selector_prefix.as_str()))
    }

    /// Whether it has a key, or will have one.
    fn will_sign(&self) -> bool {
        self.key.is_some() || self.managed().is_some()
    }

    fn is_for_app(&self, app: &str) -> bool {
        self.apps.is_empty() || self.apps.iter().any(|own| own == app)
    }

    /// Of several entries with one domain and one algorithm, the more special one signs; of two
    /// that are as special, the managed one, once it has a key.
    fn replaces(&self, other: &Self) -> bool {
        let rank = |dkim: &Self| (!dkim.apps.is_empty(), dkim.managed().is_some());
        self.slot() == other.slot() && rank(self) > rank(other)
    }

    fn slot(&self) -> (&str, Algorithm) {
        (self.domain(), self.profile.algorithm())
    }

    /// Whether a message could be signed by both as if they were one.
    fn collides(&self, other: &Self) -> bool {
        let share_apps = self.apps.iter().any(|app| other.apps.contains(app));
        self.slot() == other.slot()
            && self.managed().is_some() == other.managed().is_some()
            && self.authors.overlaps(&other.authors)
            && (share_apps || (self.apps.is_empty() && other.apps.is_empty()))
    }
}

impl fmt::Debug for Dkim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dkim").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// All entries.
#[derive(Debug, Clone, Default)]
pub struct DkimKeys {
    all: Vec<Arc<Dkim>>,
    /// For each author domain that some entry names, the entries that sign for it, in the order of
    /// their fields.
    by_author: HashMap<String, Vec<usize>>,
    /// The same for any other author domain.
    for_others: Vec<usize>,
}

/// Which entries sign a message.
#[derive(Debug)]
pub enum Signers<'a> {
    /// None is meant to.
    Nobody,
    /// These, in the order of their fields: RSA before Ed25519, since some verifiers stumble over a
    /// first signature that they do not know; the author's own domain before others.
    Entries(Vec<&'a Arc<Dkim>>),
    /// Some are meant to, and the one that matters has no key that can be used: the message must wait.
    NoKey,
}

impl DkimKeys {
    /// All entries, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Arc<Dkim>] {
        &self.all
    }

    /// The first entry whose signing domain this is, in canonical form.
    #[must_use]
    pub fn of(&self, domain: &str) -> Option<&Arc<Dkim>> {
        self.all.iter().find(|dkim| dkim.domain() == domain)
    }

    fn new(all: Vec<Arc<Dkim>>) -> Self {
        let in_order = |author: Option<&str>| {
            let is_for = |dkim: &Dkim| match author {
                Some(author) => dkim.authors.has(author),
                None => dkim.authors == Authors::All,
            };
            let mut entries: Vec<_> = (0..all.len()).filter(|&index| is_for(&all[index])).collect();
            entries.sort_by_key(|&index| {
                let is_others = author.is_none_or(|author| author != all[index].domain());
                (all[index].profile.algorithm(), is_others)
            });
            entries
        };
        let authors = all.iter().flat_map(|dkim| dkim.authors.named().chain([dkim.domain()]));
        let by_author = authors.map(|author| (author.to_owned(), in_order(Some(author)))).collect();
        let for_others = in_order(None);
        Self { all, by_author, for_others }
    }

    /// The same entries, each managed one with the selector and key that sign for it now.
    #[must_use]
    pub fn with_managed(
        &self,
        active: impl Fn(&str) -> Option<(Selector, Arc<SigningKey>)>,
    ) -> Self {
        let with_key = |dkim: &Arc<Dkim>| {
            let Some((selector, key)) = dkim.line_name().and_then(|name| active(&name)) else {
                return Arc::clone(dkim);
            };
            let profile = dkim.profile.clone().with_selector(selector);
            Arc::new(Dkim { profile, key: Some(key), ..Dkim::clone(dkim) })
        };
        Self { all: self.all.iter().map(with_key).collect(), ..self.clone() }
    }

    /// The entries for an author's domain, in the order of their fields. O(1).
    fn for_author(&self, domain: &str) -> impl Iterator<Item = &Arc<Dkim>> {
        let indexes = self.by_author.get(domain).unwrap_or(&self.for_others);
        indexes.iter().map(|&index| &self.all[index])
    }

    /// The entries that sign the mail of an application by an author of a domain.
    #[must_use]
    pub fn for_message(&self, author_domain: &str, app: &str) -> Signers<'_> {
        let meant: Vec<_> =
            self.for_author(author_domain).filter(|dkim| dkim.is_for_app(app)).collect();
        let usable: Vec<_> = meant.iter().copied().filter(|dkim| dkim.key.is_some()).collect();
        let is_replaced = |dkim: &Dkim| usable.iter().any(|other| other.replaces(dkim));
        let entries: Vec<_> = usable.iter().copied().filter(|dkim| !is_replaced(dkim)).collect();
        match (meant.is_empty(), suffice(author_domain, &meant, &entries)) {
            (true, _) => Signers::Nobody,
            (false, false) => Signers::NoKey,
            (false, true) => Signers::Entries(entries),
        }
    }

    /// How bodies are canonicalised for an author's domain, where it is signed for: all entries for
    /// one domain agree.
    #[must_use]
    pub fn body_canonicalization(&self, author_domain: &str) -> Option<Canonicalization> {
        self.for_author(author_domain).next().map(|dkim| dkim.body)
    }

    /// Reads all `[[dkim]]`.
    pub(super) fn read(sections: &[Section<'_>], app_ids: &[&str]) -> Self {
        let mut all: Vec<Placed> = Vec::new();
        for section in sections {
            let Some(placed) = read_one(section, app_ids) else { continue };
            for other in &all {
                check_pair(section, &placed, other);
            }
            all.push(placed);
        }
        Self::new(all.into_iter().map(|placed| Arc::new(placed.dkim)).collect())
    }
}

/// Whether a message may leave with fewer signatures than are meant for it. Another domain's does not
/// stand in for the author's own, which DMARC wants; Ed25519, which some verifiers do not know, does not
/// stand in for RSA.
fn suffice(author_domain: &str, meant: &[&Arc<Dkim>], entries: &[&Arc<Dkim>]) -> bool {
    let is_own = |dkim: &Dkim| dkim.profile.domain().covers(author_domain);
    let has_own = meant.iter().any(|dkim| is_own(dkim));
    let matters = |dkim: &&&Arc<Dkim>| !has_own || is_own(dkim);
    let first =
        |all: &[&Arc<Dkim>]| all.iter().filter(matters).map(|dkim| dkim.profile.algorithm()).min();
    first(entries).is_some() && first(entries) <= first(meant)
}

/// An entry with the places of what other entries may contradict.
struct Placed {
    dkim: Dkim,
    domain: Span,
    canonicalization: Span,
}

/// Two entries must not sign as one, and what may sign one message hashes its body in one way.
fn check_pair(section: &Section<'_>, placed: &Placed, other: &Placed) {
    let (dkim, earlier) = (&placed.dkim, &other.dkim);
    if dkim.will_sign() && earlier.will_sign() && dkim.collides(earlier) {
        let message = format!("{} has a signing key of this kind already", dkim.profile.domain());
        section.context.push(
            Diagnostic::error(placed.domain.clone(), message)
                .context(other.domain.clone(), "here")
                .help("one key of a kind signs for a domain; give this entry other `apps` or `authors`, or change that one"),
        );
    }
    if let (Some(own), Some(theirs)) = (dkim.record_zone(), earlier.record_zone())
        && own == theirs
    {
        let (zone, prefix) = own;
        let message = format!("two managed keys would be named {prefix}1._domainkey.{zone}");
        section.context.push(
            Diagnostic::error(placed.domain.clone(), message)
                .context(other.domain.clone(), "the other one")
                .help("give one of them another `selector_prefix`"),
        );
    }
    if dkim.body != earlier.body && dkim.authors.overlaps(&earlier.authors) {
        let message = "two entries that may sign one message canonicalise its body differently";
        section.context.push(
            Diagnostic::error(placed.canonicalization.clone(), message)
                .context(other.canonicalization.clone(), "the other one")
                .help("the body is hashed once for all signatures: use the same after the slash"),
        );
    }
}

fn read_one(section: &Section<'_>, app_ids: &[&str]) -> Option<Placed> {
    let domain = read_domain(section);
    let is_managed = section.flag("managed", false);
    let named = match is_managed {
        true => Managed::read(section).map(|managed| Named {
            selector: managed.selector_prefix.clone(),
            algorithm: Some(managed.algorithm),
            key: None,
            source: KeySource::Managed(managed),
        }),
        false => read_named(section),
    };
    let (header, body) = section.choice("canonicalization", &CANONICALIZATIONS, RELAXED);
    let expires = section.duration("expires", seconds(3_600, 31_536_000));
    let fields = section.texts("headers").unwrap_or_default();
    let agent = section.text("agent");
    let apps = read_apps(section, app_ids);
    let authors = read_authors(section);
    let (domain, span) = domain?;
    let authors = authors.unwrap_or_else(|| Authors::Domains(vec![domain.as_str().to_owned()]));
    let named = named?;
    let mut profile = Profile::new(domain, named.selector)
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
    if let Some(agent) = agent {
        profile = with_agent(section, profile, &agent);
    }
    if let Some(algorithm) = named.algorithm {
        profile = profile.with_algorithm(algorithm);
    }
    let key = named.key.map(Arc::new);
    let dkim = Dkim { profile, body, key, source: named.source, authors, apps };
    Some(Placed { dkim, domain: span, canonicalization: section.place("canonicalization") })
}

/// Selector and key of an entry.
struct Named {
    selector: Selector,
    algorithm: Option<Algorithm>,
    key: Option<SigningKey>,
    source: KeySource,
}

/// Those of an entry that names its key's file.
fn read_named(section: &Section<'_>) -> Option<Named> {
    for key in ["algorithm", "selector_prefix", "selectors", "record_domain"] {
        if section.has(key) {
            let message = format!("`{key}` is only for keys that the relay looks after");
            section.context.push(
                Diagnostic::error(section.place(key), message)
                    .help("with `managed = true` it makes, publishes and rotates them"),
            );
        }
    }
    let selector = read_selector(section);
    let (key, key_file) = read_key(section)?;
    let algorithm = key.as_ref().map(SigningKey::algorithm);
    Some(Named { selector: selector?, algorithm, key, source: KeySource::File(key_file) })
}

fn read_domain(section: &Section<'_>) -> Option<(SigningDomain, Span)> {
    let text = section.required_text("domain", "the domain that signs (d=)")?;
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

fn read_authors(section: &Section<'_>) -> Option<Authors> {
    let texts = section.texts("authors")?;
    if texts.iter().any(|text| text.text == "*") {
        return Some(Authors::All);
    }
    if texts.is_empty() {
        let finding = Diagnostic::error(section.place("authors"), "`authors` is empty");
        section.context.push(finding.help("domains of From addresses, or \"*\" for all"));
    }
    let mut domains = Vec::with_capacity(texts.len());
    for text in texts {
        match canonical_domain(text.text) {
            Some(domain) => domains.push(domain.into_owned()),
            None => {
                let message = format!("`{}` is not a domain", text.text);
                let finding = Diagnostic::error(text.span, message);
                section.context.push(finding.help("write \"example.com\", or \"*\" for all"));
            }
        }
    }
    Some(Authors::Domains(domains))
}

fn read_apps(section: &Section<'_>, app_ids: &[&str]) -> Vec<String> {
    let texts = section.texts("apps").unwrap_or_default();
    let mut apps = Vec::with_capacity(texts.len());
    for text in texts {
        if !app_ids.contains(&text.text) {
            let message = format!("there is no application `{}`", text.text);
            let help = match nearest(text.text, app_ids) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => {
                    format!("the applications are {}", one_of(app_ids).replace(" or ", " and "))
                }
            };
            section.context.push(Diagnostic::error(text.span.clone(), message).help(help));
        }
        apps.push(text.text.to_owned());
    }
    apps
}

fn with_agent(section: &Section<'_>, profile: Profile, text: &Text<'_>) -> Profile {
    let problem = match text.text.parse::<AgentIdentity>() {
        Ok(agent) => match profile.clone().with_agent(agent) {
            Ok(profile) => return profile,
            Err(refused) => refused.to_string(),
        },
        Err(refused) => refused.to_string(),
    };
    let message = format!("`{}` cannot be an agent identity: {problem}", text.text);
    let finding = Diagnostic::error(text.span.clone(), message);
    section.context.push(finding.help("write \"@example.com\" or \"name@example.com\""));
    profile
}

/// The key, where it can be used, and its file.
fn read_key(section: &Section<'_>) -> Option<(Option<SigningKey>, PathBuf)> {
    let is_demanded = section.choice("on_bad_key", &[("refuse", true), ("skip", false)], true);
    if !section.has("key_file") {
        let help = "make a key with `postern keys new`, or let the relay make and rotate them with `managed = true`";
        section.report_missing("key_file", help);
    }
    let (path, span) = section.path("key_file")?;
    let key = section.context.try_read_file(&path).and_then(|pem| {
        section.context.warn_if_open(&path, &span);
        SigningKey::from_pem(&pem)
            .map_err(|refused| format!("{} cannot be used to sign: {refused}", path.display()))
    });
    match key {
        Ok(key) => Some((Some(key), path)),
        Err(problem) if is_demanded => {
            let finding = Diagnostic::error(span, problem);
            section.context.push(finding.help("make a key with `postern keys new`"));
            None
        }
        Err(problem) => {
            let help = "nothing is signed by this entry until the key is there and the \
                        configuration is read again; mail that nothing else signs waits";
            section.context.push(Diagnostic::warning(span, problem).help(help));
            Some((None, path))
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

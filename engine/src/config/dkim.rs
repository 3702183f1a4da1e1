//! `[[dkim]]`: which domains are signed for, with which key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One signing domain.
#[derive(Debug, Clone)]
pub struct Dkim {
    /// `d=`: the author's domain this entry signs for, lower case A-labels.
    pub domain: String,
    /// `s=`
    pub selector: String,
    /// The private key, PEM.
    pub key_file: PathBuf,
    /// Fields signed when present, beside those always signed.
    pub headers: Vec<String>,
    /// `c=`
    pub canonicalization: Canonicalization,
    /// `x=`, as a time from signing.
    pub expires: Option<Duration>,
}

/// `c=`: header, then body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canonicalization {
    /// The header is signed relaxed, else simple.
    pub header_is_relaxed: bool,
    /// The body is signed relaxed, else simple.
    pub body_is_relaxed: bool,
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

    /// The entries that sign for exactly this author domain, in canonical form: usually one, two
    /// where a second selector is being introduced.
    pub fn of<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = &'a Arc<Dkim>> {
        self.all.iter().filter(move |dkim| dkim.domain == domain)
    }
}

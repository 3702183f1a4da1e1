//! A server's certificate chain and private key, from PEM files, checked before they are used.
//!
//! Everything an operator gets wrong here is told with the file, the line where there is one, and
//! what to do. Key material is never part of a message; file contents with a key are wiped.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use rustls::{
    Error, InconsistentKeys,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{PemObject, SectionKind},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::config::provider;

/// More than any real chain or bundle of issuers (Mozilla's whole list is a quarter of it).
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// A certificate that ends sooner than this is worth a warning.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Certificate chain and key that belong together.
pub struct Identity {
    certified_key: Arc<CertifiedKey>,
    file: PathBuf,
    not_before: Timestamp,
    not_after: Timestamp,
    names: Vec<String>,
}

/// Something an operator should know about a certificate that is used all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityWarning {
    /// Clients that verify will refuse it since then.
    Expired {
        /// File the certificate is in.
        file: PathBuf,
        /// End of its validity.
        at: Timestamp,
    },
    /// Clients that verify will refuse it until then: the certificate or our clock is wrong.
    NotYetValid {
        /// File the certificate is in.
        file: PathBuf,
        /// Start of its validity.
        at: Timestamp,
    },
    /// It ends within two weeks.
    ExpiresSoon {
        /// File the certificate is in.
        file: PathBuf,
        /// End of its validity.
        at: Timestamp,
    },
    /// It carries no name: no client that verifies will take it for any host.
    NoNames {
        /// File the certificate is in.
        file: PathBuf,
    },
}

impl fmt::Display for IdentityWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { file, at } => {
                write!(f, "{}: the certificate expired at {at}", file.display())
            }
            Self::NotYetValid { file, at } => {
                write!(f, "{}: the certificate is not valid before {at}", file.display())
            }
            Self::ExpiresSoon { file, at } => {
                write!(f, "{}: the certificate expires at {at}", file.display())
            }
            Self::NoNames { file } => {
                write!(f, "{}: the certificate names no host (subjectAltName)", file.display())
            }
        }
    }
}

/// A PEM file that cannot be used.
#[derive(Debug)]
pub struct PemError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: PemProblem,
}

/// See [`PemError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum PemProblem {
    /// The file cannot be read: missing, or no permission.
    Unreadable(io::Error),
    /// The file is larger than any PEM file should be.
    TooLarge,
    /// There is no `-----BEGIN` line: perhaps DER, perhaps another file.
    NotPem,
    /// A section of the file is damaged.
    Damaged {
        /// Line of the section's `-----BEGIN`, from 1.
        line: usize,
        /// In what way.
        detail: String,
    },
    /// There is PEM, but no certificate.
    NoCertificate {
        /// Labels of what there is instead.
        found: String,
    },
    /// A certificate does not parse.
    BadCertificate {
        /// Line of the section's `-----BEGIN`, from 1.
        line: usize,
        /// In what way.
        detail: String,
    },
    /// There is PEM, but no private key.
    NoKey {
        /// Labels of what there is instead.
        found: String,
    },
    /// The private key is protected by a pass phrase, which nobody is there to type.
    EncryptedKey {
        /// Line of the section's `-----BEGIN`, from 1.
        line: usize,
    },
    /// More than one private key: which one is meant?
    SeveralKeys {
        /// Line of the second one's `-----BEGIN`, from 1.
        line: usize,
    },
    /// The key is of a kind or size that TLS here does not use.
    UnusableKey {
        /// In what way.
        detail: String,
    },
    /// The key is good, but the certificate is for another.
    KeyMismatch {
        /// File of the certificate.
        certificate: PathBuf,
    },
}

impl PemError {
    fn new(file: &Path, problem: PemProblem) -> Self {
        Self { file: file.to_owned(), problem }
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for PemError {}

impl fmt::Display for PemProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::TooLarge => write!(f, "is larger than {PEM_BYTES_MAX} bytes"),
            Self::NotPem => f.write_str(
                "is not PEM: there is no `-----BEGIN` line (convert DER with `openssl x509 -inform der`)",
            ),
            Self::Damaged { line, detail } => write!(f, "line {line}: {detail}"),
            Self::NoCertificate { found } => {
                write!(f, "has no `CERTIFICATE` section (found: {found})")
            }
            Self::BadCertificate { line, detail } => {
                write!(f, "line {line}: not a valid certificate: {detail}")
            }
            Self::NoKey { found } => write!(f, "has no private key (found: {found})"),
            Self::EncryptedKey { line } => write!(
                f,
                "line {line}: the private key is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`"
            ),
            Self::SeveralKeys { line } => write!(f, "line {line}: a second private key"),
            Self::UnusableKey { detail } => write!(f, "the private key cannot be used: {detail}"),
            Self::KeyMismatch { certificate } => write!(
                f,
                "the private key does not belong to the first certificate in {}",
                certificate.display()
            ),
        }
    }
}

impl Identity {
    /// Reads the chain in `certificate` (leaf first) and the key in `key`, which may be one file.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, PemError> {
        let chain = read(certificate)?;
        let key_text = if key == certificate { chain.clone() } else { read(key)? };
        Self::from_pem(certificate, &chain, key, &key_text)
    }

    /// As [`Identity::load`], from texts; the paths are for messages.
    pub fn from_pem(
        certificate: &Path,
        chain: &[u8],
        key: &Path,
        key_text: &[u8],
    ) -> Result<Self, PemError> {
        let found = certificates(chain).map_err(|problem| PemError::new(certificate, problem))?;
        let leaf = Leaf::parse(&found).map_err(|problem| PemError::new(certificate, problem))?;
        let key_der = private_key(key_text).map_err(|problem| PemError::new(key, problem))?;
        let chain = found.into_iter().map(|(_, der)| der).collect();
        let certified_key = CertifiedKey::from_der(chain, key_der, &provider())
            .map_err(|error| PemError::new(key, key_problem(&error, certificate)))?;
        Ok(Self {
            certified_key: Arc::new(certified_key),
            file: certificate.to_owned(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            names: leaf.names,
        })
    }

    /// What to tell the operator at `now`.
    pub fn warnings(&self, now: Timestamp) -> Vec<IdentityWarning> {
        let file = || self.file.clone();
        let mut warnings = Vec::new();
        if now > self.not_after {
            warnings.push(IdentityWarning::Expired { file: file(), at: self.not_after });
        } else if now < self.not_before {
            warnings.push(IdentityWarning::NotYetValid { file: file(), at: self.not_before });
        } else if self.not_after.duration_since(now) < EXPIRES_SOON {
            warnings.push(IdentityWarning::ExpiresSoon { file: file(), at: self.not_after });
        }
        if self.names.is_empty() {
            warnings.push(IdentityWarning::NoNames { file: file() });
        }
        warnings
    }

    /// End of the certificate's validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Host names and addresses the certificate is for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn into_certified_key(self) -> Arc<CertifiedKey> {
        self.certified_key
    }
}

/// Reads every certificate in a PEM file; there must be one.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(file)?;
    let found = certificates(&text).map_err(|problem| PemError::new(file, problem))?;
    for (line, der) in &found {
        parse_certificate(*line, der).map_err(|problem| PemError::new(file, problem))?;
    }
    Ok(found.into_iter().map(|(_, der)| der).collect())
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let unreadable = |error| PemError::new(file, PemProblem::Unreadable(error));
    if fs::metadata(file).map_err(unreadable)?.len() > PEM_BYTES_MAX {
        return Err(PemError::new(file, PemProblem::TooLarge));
    }
    Ok(Zeroizing::new(fs::read(file).map_err(unreadable)?))
}

fn key_problem(error: &Error, certificate: &Path) -> PemProblem {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            PemProblem::KeyMismatch { certificate: certificate.to_owned() }
        }
        error => PemProblem::UnusableKey { detail: error.to_string() },
    }
}

/// What we read out of a leaf certificate.
struct Leaf {
    not_before: Timestamp,
    not_after: Timestamp,
    names: Vec<String>,
}

impl Leaf {
    fn parse(chain: &[(usize, CertificateDer<'static>)]) -> Result<Self, PemProblem> {
        for (line, der) in chain.iter().skip(1) {
            parse_certificate(*line, der)?;
        }
        let Some((line, der)) = chain.first() else {
            return Err(PemProblem::NoCertificate { found: "nothing".to_owned() });
        };
        let certificate = parse_certificate(*line, der)?;
        let moment = |seconds: i64| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let validity = certificate.validity();
        Ok(Self {
            not_before: moment(validity.not_before.timestamp()),
            not_after: moment(validity.not_after.timestamp()),
            names: alternative_names(&certificate),
        })
    }
}

fn parse_certificate(line: usize, der: &[u8]) -> Result<X509Certificate<'_>, PemProblem> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => {
            Err(PemProblem::BadCertificate { line, detail: "bytes behind its end".to_owned() })
        }
        Err(error) => Err(PemProblem::BadCertificate { line, detail: error.to_string() }),
    }
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(host) => Some((*host).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => {
                <[u8; 4]>::try_from(*bytes).ok().map(|ip| std::net::Ipv4Addr::from(ip).to_string())
            }
            16 => {
                <[u8; 16]>::try_from(*bytes).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string())
            }
            _ => None,
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

/// One `-----BEGIN` to `-----END`.
struct Section<'a> {
    label: &'a str,
    /// Line of its beginning, from 1.
    line: usize,
    text: &'a [u8],
}

/// Cuts a PEM text into its sections (RFC 7468 2). Text outside of them is commentary.
fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, PemProblem> {
    let mut sections = Vec::new();
    let mut open: Option<(&str, usize, usize)> = None;
    let mut start = 0;
    for (index, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let end = start + line.len();
        if let Some(label) = boundary(line, b"-----BEGIN ") {
            if let Some((label, line, _)) = open {
                return Err(unclosed(label, line));
            }
            let label = label.ok_or_else(|| PemProblem::Damaged {
                line: number,
                detail: "the `-----BEGIN` line is damaged".to_owned(),
            })?;
            open = Some((label, number, start));
        } else if let Some((label, line, section_start)) = open
            && boundary(&text[start..end], b"-----END ") == Some(Some(label))
        {
            sections.push(Section { label, line, text: &text[section_start..end] });
            open = None;
        }
        start = end;
    }
    match open {
        Some((label, line, _)) => Err(unclosed(label, line)),
        None if sections.is_empty() => Err(PemProblem::NotPem),
        None => Ok(sections),
    }
}

fn unclosed(label: &str, line: usize) -> PemProblem {
    let detail = format!("`-----BEGIN {label}-----` has no matching `-----END {label}-----`");
    PemProblem::Damaged { line, detail }
}

/// The label of a boundary line that starts with `opening`: `None` if it is another line,
/// `Some(None)` if it is damaged.
fn boundary<'a>(line: &'a [u8], opening: &[u8]) -> Option<Option<&'a str>> {
    let label = line.strip_prefix(opening)?.trim_ascii_end().strip_suffix(b"-----");
    Some(label.and_then(|label| std::str::from_utf8(label).ok()))
}

fn labels(sections: &[Section<'_>]) -> String {
    sections.iter().map(|section| section.label).collect::<Vec<_>>().join(", ")
}

fn decode(section: &Section<'_>) -> Result<Option<(SectionKind, Vec<u8>)>, PemProblem> {
    match <(SectionKind, Vec<u8>)>::from_pem_slice(section.text) {
        Ok(item) => Ok(Some(item)),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Ok(None),
        Err(error) => Err(PemProblem::Damaged {
            line: section.line,
            detail: format!("the section `{}` is damaged: {error}", section.label),
        }),
    }
}

/// Every certificate of a PEM text, with its line; at least one.
fn certificates(text: &[u8]) -> Result<Vec<(usize, CertificateDer<'static>)>, PemProblem> {
    let sections = sections(text)?;
    let mut certificates = Vec::new();
    for section in sections.iter().filter(|section| section.label == "CERTIFICATE") {
        if let Some((SectionKind::Certificate, der)) = decode(section)? {
            certificates.push((section.line, CertificateDer::from(der)));
        }
    }
    if certificates.is_empty() {
        return Err(PemProblem::NoCertificate { found: labels(&sections) });
    }
    Ok(certificates)
}

/// The one private key of a PEM text.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemProblem> {
    let sections = sections(text)?;
    let mut keys = sections.iter().filter(|section| section.label.ends_with("PRIVATE KEY"));
    let Some(section) = keys.next() else {
        return Err(PemProblem::NoKey { found: labels(&sections) });
    };
    if let Some(second) = keys.next() {
        return Err(PemProblem::SeveralKeys { line: second.line });
    }
    // PKCS#8 says it in the label (RFC 7468 11), the older forms in a header (RFC 1421 4.6.1.1).
    let is_encrypted = section.label.starts_with("ENCRYPTED")
        || section.text.windows(9).any(|window| window == b"ENCRYPTED");
    if is_encrypted {
        return Err(PemProblem::EncryptedKey { line: section.line });
    }
    let unusable = || PemProblem::UnusableKey {
        detail: format!("`{}` is not a kind of key that TLS uses", section.label),
    };
    let (kind, der) = decode(section)?.ok_or_else(unusable)?;
    PrivateKeyDer::from_pem(kind, der).ok_or_else(unusable)
}

#[cfg(test)]
mod tests;

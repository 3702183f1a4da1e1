//! Secrets: values that cannot be printed by accident and are wiped when dropped.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash as Phc;
use zeroize::Zeroizing;

use super::diagnostic::Diagnostic;
use super::read::Section;

/// A password to be shown to somebody else, such as a smarthost's. No `Debug`, no `Display`.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// Takes the bytes over; the caller's copy, if there is one, is the caller's to wipe.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes, for the one place that sends them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// An argon2id hash in PHC string form. Not a password, but what an offline guess needs: no
/// `Debug`, no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<str>);

/// Why a text is not a password hash that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashFault {
    /// It is not in PHC string form: perhaps the password itself.
    NotPhc,
    /// It is a hash of another kind; holds its name.
    Algorithm(String),
    /// Its parameters are out of bounds: they would take minutes or gigabytes, or nothing.
    Costs,
}

impl PasswordHash {
    /// Reads a PHC string: argon2id, version 19, within bounds that a relay can bear.
    ///
    /// # Errors
    /// [`HashFault`]
    pub fn parse(phc: &str) -> Result<Self, HashFault> {
        let parsed = Phc::new(phc).map_err(|_| HashFault::NotPhc)?;
        if parsed.algorithm.as_str() != "argon2id" || parsed.version.is_some_and(|v| v != 19) {
            return Err(HashFault::Algorithm(parsed.algorithm.to_string()));
        }
        let cost = |name: &str| parsed.params.get_decimal(name).unwrap_or(0);
        let is_bearable = (8..=MEMORY_KIB_MAX).contains(&cost("m"))
            && (1..=PASSES_MAX).contains(&cost("t"))
            && (1..=LANES_MAX).contains(&cost("p"));
        if !is_bearable || parsed.hash.is_none() || parsed.salt.is_none() {
            return Err(HashFault::Costs);
        }
        Ok(Self(phc.into()))
    }

    /// Whether guessing it offline is cheaper than OWASP's first recommendation (19 MiB, 2 passes).
    #[must_use]
    pub fn is_weak(&self) -> bool {
        let cost = |name| {
            let parsed = Phc::new(&self.0).ok()?;
            parsed.params.get_decimal(name).map(u64::from)
        };
        cost("m").unwrap_or(0) * cost("t").unwrap_or(0) < 19_456 * 2
    }

    /// The PHC string, for the verifier.
    #[must_use]
    pub fn expose(&self) -> &Arc<str> {
        &self.0
    }
}

/// 256 MiB: several are computed at once.
const MEMORY_KIB_MAX: u32 = 262_144;
/// Some seconds at most, with [`MEMORY_KIB_MAX`].
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// What a sealing key is made of: the spool's, or that of signing keys. No `Debug`, no `Display`, wiped
/// when dropped.
#[derive(Clone)]
pub struct SealKey(Secret);

impl SealKey {
    /// Least bytes of key material: AES-256 wants as many.
    pub const BYTES_MIN: usize = 32;
    /// Most bytes of key material.
    pub const BYTES_MAX: usize = 4_096;

    /// Takes key material; `None` where it is too short or too long.
    #[must_use]
    pub fn new(material: &[u8]) -> Option<Self> {
        (Self::BYTES_MIN..=Self::BYTES_MAX)
            .contains(&material.len())
            .then(|| Self(Secret::new(material.to_vec())))
    }

    /// The key material, for what seals with it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Reads the file that `key_file` of a section names; `help` says what belongs there.
    pub(super) fn read(section: &Section<'_>, help: &str) -> Option<Self> {
        if !section.has("key_file") {
            section.report_missing("key_file", help);
        }
        let (path, span) = section.path("key_file")?;
        let content = section.context.read_file(&path, &span)?;
        section.context.warn_if_open(&path, &span);
        let key = Self::new(&content);
        if key.is_none() {
            let message = format!(
                "{} holds {} bytes; a sealing key has {} to {}",
                path.display(),
                content.len(),
                Self::BYTES_MIN,
                Self::BYTES_MAX
            );
            let help = "make one with `openssl rand -out FILE 32`";
            section.context.push(Diagnostic::error(span, message).help(help));
        }
        key
    }
}

//! The key that signs dynamic updates (RFC 8945).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm as Wire;
use hickory_proto::rr::{Name, TSigner};
use zeroize::Zeroizing;

/// How updates are signed: those that RFC 8945 6 tells to implement or recommends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// `hmac-sha256`
    HmacSha256,
    /// `hmac-sha384`
    HmacSha384,
    /// `hmac-sha512`
    HmacSha512,
}

/// A TSIG key: its name, algorithm and secret. No `Debug`, no `Display`.
///
/// The secret is moved into the signer, which keeps the one copy there is until it is dropped; the
/// text it was read from is wiped.
#[derive(Clone)]
pub struct TsigKey(TSigner);

/// Why there is no TSIG key.
#[derive(Debug)]
pub enum TsigKeyError {
    /// The file cannot be read.
    File(PathBuf, io::Error),
    /// The key's name is no domain name.
    Name(String),
    /// The content is not base64: perhaps a whole `key` clause instead of its secret.
    NotBase64(PathBuf),
    /// The secret has fewer octets than 16, too few to be one.
    Short(PathBuf, usize),
}

impl TsigKey {
    /// Takes a secret; its name and algorithm must be those that the server knows it by.
    ///
    /// # Errors
    /// [`TsigKeyError::Name`]
    pub fn new(
        name: &str,
        algorithm: TsigAlgorithm,
        secret: Vec<u8>,
    ) -> Result<Self, TsigKeyError> {
        let refused = |_| TsigKeyError::Name(name.to_owned());
        let parsed = Name::from_ascii(name).map_err(|_| TsigKeyError::Name(name.to_owned()))?;
        let signer = TSigner::new(secret, algorithm.wire(), parsed, FUDGE_S).map_err(refused)?;
        Ok(Self(signer))
    }

    /// Reads the secret from a file: base64, as in the `secret` of a BIND `key` clause. White space
    /// around it does not count.
    ///
    /// # Errors
    /// [`TsigKeyError`]
    pub fn read(path: &Path, name: &str, algorithm: TsigAlgorithm) -> Result<Self, TsigKeyError> {
        let text = std::fs::read(path).map(Zeroizing::new);
        let text = text.map_err(|error| TsigKeyError::File(path.to_owned(), error))?;
        let secret = STANDARD.decode(text.trim_ascii());
        let secret = secret.map_err(|_| TsigKeyError::NotBase64(path.to_owned()))?;
        if secret.len() < SECRET_BYTES_MIN {
            return Err(TsigKeyError::Short(path.to_owned(), secret.len()));
        }
        Self::new(name, algorithm, secret)
    }

    pub(super) fn signer(&self) -> &TSigner {
        &self.0
    }
}

impl TsigAlgorithm {
    /// All, by the names that servers use.
    pub const ALL: [(&'static str, Self); 3] = [
        ("hmac-sha256", Self::HmacSha256),
        ("hmac-sha384", Self::HmacSha384),
        ("hmac-sha512", Self::HmacSha512),
    ];

    fn wire(self) -> Wire {
        match self {
            Self::HmacSha256 => Wire::HmacSha256,
            Self::HmacSha384 => Wire::HmacSha384,
            Self::HmacSha512 => Wire::HmacSha512,
        }
    }
}

impl FromStr for TsigAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, algorithm)| *algorithm)
            .ok_or_else(|| format!("`{text}` is none of hmac-sha256, hmac-sha384 and hmac-sha512"))
    }
}

impl fmt::Display for TsigKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Name(name) => write!(f, "`{name}` cannot be the name of a TSIG key"),
            Self::NotBase64(path) => write!(
                f,
                "{} is not base64; it must hold the secret alone, as `tsig-keygen` prints it \
                 between the quotes",
                path.display()
            ),
            Self::Short(path, length) => write!(
                f,
                "the secret in {} has {length} octets; make one of 32 with `tsig-keygen`",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TsigKeyError {}

/// How far the clocks may be apart: what RFC 8945 10 recommends.
const FUDGE_S: u16 = 300;
/// Half of what the weakest algorithm wants (RFC 2104 3), as some providers give.
const SECRET_BYTES_MIN: usize = 16;

//! Which backend signs: chosen once, at the start.

use std::fmt;
use std::str::FromStr;

use super::{BatchSigner, RingSigner};

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The fastest that this CPU has and that passes its self-test.
    #[default]
    Auto,
    /// `ring`, on any CPU.
    Ring,
}

/// How to make a signer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignerOptions {
    /// Which backend.
    pub backend: Backend,
}

/// Makes a signer without keys.
///
/// # Errors
///
/// [`BackendRefused`], where the backend that was asked for cannot be used here.
pub fn open(options: &SignerOptions) -> Result<Box<dyn BatchSigner>, BackendRefused> {
    match options.backend {
        Backend::Auto | Backend::Ring => Ok(Box::new(RingSigner::new())),
    }
}

impl Backend {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ring => "ring",
        }
    }

    /// All that can be asked for.
    pub const ALL: [Self; 2] = [Self::Auto, Self::Ring];
}

impl FromStr for Backend {
    type Err = BackendRefused;

    fn from_str(text: &str) -> Result<Self, BackendRefused> {
        Self::ALL
            .into_iter()
            .find(|backend| backend.as_str() == text)
            .ok_or(BackendRefused::Unknown)
    }
}

/// Why a backend cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendRefused {
    /// There is none of this name.
    Unknown,
}

impl fmt::Display for BackendRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no signing backend of this name"),
        }
    }
}

impl std::error::Error for BackendRefused {}

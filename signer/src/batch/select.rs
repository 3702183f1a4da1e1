//! Which backend signs: chosen once, at the start.

use std::fmt;
use std::str::FromStr;

use super::guard::{Guard, self_test};
use super::{BatchSigner, RingSigner, lanes};

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The fastest that this CPU has and that passes its self-test.
    #[default]
    Auto,
    /// Four messages a pass with AVX-512 IFMA; refused where the CPU has none.
    Ifma,
    /// `ring`, on any CPU.
    Ring,
    /// aws-lc's FIPS module; refused in a build without the feature `fips`, and the only one in a
    /// build with it, also under [`Backend::Auto`].
    Fips,
}

/// How to make a signer.
#[derive(Clone, Copy, Debug)]
pub struct SignerOptions {
    /// Which backend.
    pub backend: Backend,
    /// Whether a batched backend blinds what it raises to secret powers. It costs a third of a
    /// percent.
    pub blinding: bool,
}

impl Default for SignerOptions {
    fn default() -> Self {
        Self { backend: Backend::Auto, blinding: true }
    }
}

/// Makes a signer without keys, after a self-test with known answers.
///
/// Under [`Backend::Auto`] a backend that does not pass is not used: `ring` is, and
/// [`Stats::quarantined`](super::Stats::quarantined) names the other.
///
/// # Errors
///
/// [`BackendRefused`], where the backend that was asked for cannot be used here.
pub fn open(options: &SignerOptions) -> Result<Box<dyn BatchSigner>, BackendRefused> {
    if let Some(only) = fips(options.backend) {
        return only;
    }
    let batched = match options.backend {
        Backend::Fips => return Err(BackendRefused::NotFips),
        Backend::Ring => return ring(),
        Backend::Auto | Backend::Ifma => lanes::ifma(options.blinding),
    };
    let is_demanded = options.backend != Backend::Auto;
    let Some(mut batched) = batched else {
        return if is_demanded { Err(BackendRefused::Missing) } else { ring() };
    };
    if self_test(&mut *batched) {
        return Ok(Box::new(Guard::over(batched)));
    }
    if is_demanded {
        return Err(BackendRefused::SelfTest(options.backend));
    }
    ring().map(|_tested| Box::new(Guard::without(batched.name())) as _)
}

/// In a build with the feature `fips`: what it gives, whatever was asked for.
fn fips(_backend: Backend) -> Option<Result<Box<dyn BatchSigner>, BackendRefused>> {
    #[cfg(feature = "fips")]
    return Some(super::fips::open(_backend));
    #[cfg(not(feature = "fips"))]
    None
}

fn ring() -> Result<Box<dyn BatchSigner>, BackendRefused> {
    let mut ring = RingSigner::new();
    if self_test(&mut ring) {
        Ok(Box::new(ring))
    } else {
        Err(BackendRefused::SelfTest(Backend::Ring))
    }
}

impl Backend {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ifma => "ifma",
            Self::Ring => "ring",
            Self::Fips => "fips",
        }
    }

    /// All that can be asked for.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Ifma, Self::Ring, Self::Fips];
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
    /// The CPU, or the system on it, has no AVX-512 IFMA.
    Missing,
    /// It gave wrong signatures in its self-test: a faulty CPU or a broken build.
    SelfTest(Backend),
    /// This build signs with the FIPS module only.
    FipsOnly(Backend),
    /// The module says that it is not in FIPS mode: a broken build.
    FipsMode,
    /// This build has no FIPS module.
    NotFips,
}

impl fmt::Display for BackendRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no signing backend of this name"),
            Self::Missing => f.write_str(
                "this CPU has no AVX-512 IFMA; use the backend \"auto\", which takes what there is",
            ),
            Self::FipsOnly(backend) => write!(
                f,
                "this build signs with the FIPS module only and refuses the backend \"{}\"; use \
                 \"auto\" or \"fips\", or a build without the feature `fips`",
                backend.as_str()
            ),
            Self::FipsMode => f.write_str(
                "the FIPS module is not in FIPS mode: this build cannot be used; build it again",
            ),
            Self::NotFips => {
                f.write_str("this build has no FIPS module; use a build with the feature `fips`")
            }
            Self::SelfTest(backend) => write!(
                f,
                "the backend \"{}\" gave wrong signatures in its self-test; do not trust this machine",
                backend.as_str()
            ),
        }
    }
}

impl std::error::Error for BackendRefused {}

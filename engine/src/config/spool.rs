//! `[spool]`: where mail is kept durably.

use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostic;
use super::read::Section;
use super::secret::SealKey;

/// Where and how mail is kept.
#[derive(Clone)]
pub struct Spool {
    /// The spool's directory; made on first start.
    pub directory: PathBuf,
    /// Size of one log segment, in bytes.
    pub segment_bytes: u64,
    /// Key that records are sealed with; `None` where sealing is configured off.
    pub seal: Option<SealKey>,
    /// Free space below which new mail is answered `452`, in bytes.
    pub free_bytes_min: u64,
    /// A spool in memory only is allowed.
    pub allow_volatile: bool,
}

impl Spool {
    /// Where small durable state beside the mail is kept, such as which applications are cut off.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.directory.join(Path::new("state"))
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            segment_bytes: SEGMENT_MIB_DEFAULT << 20,
            seal: None,
            free_bytes_min: FREE_MIB_DEFAULT << 20,
            allow_volatile: false,
        }
    }
}

impl Spool {
    /// Reads `[spool]`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let mib = |key: &str, range, default| section.number(key, range).unwrap_or(default) << 20;
        let allow_volatile = section.flag("allow_volatile", false);
        if !section.has("directory") {
            section.report_missing("directory", "where mail is kept until it is delivered");
        }
        let directory = section.path("directory");
        if let Some((path, span)) = &directory
            && (section.context.surroundings.is_volatile)(path)
        {
            let message =
                format!("{} lies in memory: a restart loses accepted mail", path.display());
            let warning = Diagnostic::warning(span.clone(), message);
            section.context.push(if allow_volatile {
                warning
            } else {
                warning.help("the relay does not start on it unless `allow_volatile = true`")
            });
        }
        Self {
            directory: directory.map(|(path, _)| path).unwrap_or_default(),
            segment_bytes: mib("segment_mib", SEGMENT_MIB, SEGMENT_MIB_DEFAULT),
            seal: read_seal(section),
            free_bytes_min: mib("min_free_mib", 1..=FREE_MIB_MAX, FREE_MIB_DEFAULT),
            allow_volatile,
        }
    }
}

fn read_seal(section: &Section<'_>) -> Option<SealKey> {
    if !section.flag("seal", true) {
        if section.has("key_file") {
            let message = "`key_file` is not used, for `seal = false`";
            section.context.push(Diagnostic::warning(section.place("key_file"), message));
        }
        return None;
    }
    SealKey::read(
        section,
        "a file of at least 32 random bytes that is kept apart from the spool, or `seal = false` to \
         store mail in clear",
    )
}

/// What the spool can work with.
const SEGMENT_MIB: std::ops::RangeInclusive<u64> = 1..=4_096;
const SEGMENT_MIB_DEFAULT: u64 = 64;
const FREE_MIB_DEFAULT: u64 = 256;
/// A tebibyte; more is a typing error.
const FREE_MIB_MAX: u64 = 1 << 20;

//! `[spool]`: where mail is kept durably.

use std::path::{Path, PathBuf};

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

//! `[[app]]`: one application, who it is and what it may send.

use std::fmt;
use std::sync::Arc;

use super::address::AddressPatterns;
use super::network::Network;
use super::secret::PasswordHash;

/// One authenticated source of mail.
pub struct App {
    /// Its name, which is also its SASL authentication identity; unique, at most 64 characters.
    pub id: Arc<str>,
    /// Who answers for it.
    pub owner: String,
    /// Its credential; `None` where only its network speaks for it.
    pub password_hash: Option<PasswordHash>,
    /// Addresses it may connect from without AUTH.
    pub networks: Vec<Network>,
    /// Envelope and author addresses it may use.
    pub senders: AddressPatterns,
    /// Recipients it may write to; `None` is any.
    pub recipients: Option<AddressPatterns>,
    /// It may use the null reverse-path, `MAIL FROM:<>`.
    pub null_reverse_path: bool,
    /// Its urgency.
    pub lane: Lane,
    /// Its budget.
    pub limits: AppLimits,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An application's budget; `None` is without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppLimits {
    /// Largest content in bytes; the listener's bound holds as well.
    pub message_bytes_max: Option<u64>,
    /// Most recipients of one message; the listener's bound holds as well.
    pub recipients_per_message_max: Option<u32>,
    /// Messages a minute, over all shards.
    pub messages_per_minute: Option<u32>,
    /// Sessions at once, over all shards.
    pub sessions_max: Option<u32>,
}

/// Urgency class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Lane {
    /// Login codes, password resets: somebody waits for it.
    Urgent,
    /// Everything without a lane of its own.
    #[default]
    Normal,
    /// Newsletters, reports.
    Bulk,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    /// The name in the configuration, the log and the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

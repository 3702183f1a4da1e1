//! How far a message has come: where each recipient stands, and what was last said about it.
//!
//! Kept in the spool as the message's note, so that a restart neither repeats a delivery that was
//! settled nor forgets why one failed. The latest note counts.

use serde::{Deserialize, Serialize};

/// Where one recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Waiting for its first or next attempt.
    Queued,
    /// Taken by the next hop.
    Delivered,
    /// Refused for good, or expired.
    Failed,
}

impl Standing {
    /// The word operators see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// One recipient's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientProgress {
    /// Where it stands.
    pub standing: Standing,
    /// The last reply, or why there was none; at most [`LAST_BYTES_MAX`] bytes.
    pub last: Option<Box<str>>,
}

/// A message's note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// In the order of the envelope.
    pub recipients: Vec<RecipientProgress>,
    /// Attempts made so far, over all destinations.
    pub attempts: u32,
    /// When the next attempt is due, in milliseconds since 1970.
    pub due_ms: u64,
}

impl Progress {
    /// A message that was just accepted.
    #[must_use]
    pub fn new(recipients: usize) -> Self {
        let fresh = RecipientProgress { standing: Standing::Queued, last: None };
        Self { recipients: vec![fresh; recipients], attempts: 0, due_ms: 0 }
    }

    /// Reads a note; one that does not fit the envelope counts as none, so that every recipient is
    /// tried rather than forgotten.
    #[must_use]
    pub fn decode(note: Option<&[u8]>, recipients: usize) -> Self {
        note.and_then(|note| serde_json::from_slice::<Self>(note).ok())
            .filter(|progress| progress.recipients.len() == recipients)
            .unwrap_or_else(|| Self::new(recipients))
    }

    /// The bytes the spool stores.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data always serialises")
    }

    /// Writes down what became of one recipient.
    pub fn set(&mut self, recipient: usize, standing: Standing, last: &str) {
        if let Some(line) = self.recipients.get_mut(recipient) {
            line.standing = standing;
            line.last = Some(shorten(last).into());
        }
    }

    /// No recipient waits any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.recipients.iter().all(|line| line.standing != Standing::Queued)
    }

    /// Every recipient was taken by a next hop.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.recipients.iter().all(|line| line.standing == Standing::Delivered)
    }

    /// Indexes of the recipients that stand so.
    pub fn standing(&self, standing: Standing) -> impl Iterator<Item = usize> + '_ {
        let lines = self.recipients.iter().enumerate();
        lines.filter(move |(_, line)| line.standing == standing).map(|(index, _)| index)
    }
}

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(LAST_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

const LAST_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_noted() {
        let mut progress = Progress::new(2);
        progress.set(0, Standing::Delivered, "250 2.0.0 Ok");
        progress.set(1, Standing::Queued, &"\u{e9}".repeat(LAST_BYTES_MAX));
        assert_eq!(Progress::decode(Some(&progress.encode()), 2), progress);
        assert!(!progress.is_settled());
        progress.set(1, Standing::Failed, "550 5.1.1 no");
        assert!(progress.is_settled() && !progress.is_delivered());
    }

    #[test]
    fn a_note_that_does_not_fit_makes_every_recipient_wait() {
        let note = Progress::new(3).encode();
        assert_eq!(Progress::decode(Some(&note), 2), Progress::new(2));
        assert_eq!(Progress::decode(Some(b"?"), 2), Progress::new(2));
        assert_eq!(Progress::decode(None, 2), Progress::new(2));
    }
}

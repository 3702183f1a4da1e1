//! Who is to blame, and what becomes of whom: from a transaction's replies to outcomes.
//!
//! Rules: a next hop's `5xx` to a recipient or a message is final for it; its `4xx`, and any
//! trouble with the session, is not, whatever the code: a refused login or greeting is the
//! operator's fault, and no mail is lost over it.

use postern_smtp::client::{self, BeginError};
use postern_smtp::reply::{Reply, Severity};

use crate::spool::SpoolError;

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// The next hop took it, and said this.
    Delivered(String),
    /// It is tried again, because of this.
    Deferred(String),
    /// It has failed for good, because of this.
    Failed(String),
}

impl RecipientOutcome {
    /// What was said, or what happened.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Delivered(text) | Self::Deferred(text) | Self::Failed(text) => text,
        }
    }

    fn of_reply(reply: &Reply) -> Self {
        let text = reply.to_string();
        match reply.severity() {
            Severity::Positive => Self::Delivered(text),
            Severity::Permanent => Self::Failed(text),
            Severity::Transient | Severity::Intermediate => Self::Deferred(text),
        }
    }
}

/// One recipient's outcome in a transaction that was answered.
///
/// `own` is the reply to the recipient itself, where there was one.
#[must_use]
pub fn answered(own: Option<&Result<Reply, Reply>>, end: &client::Outcome) -> RecipientOutcome {
    match (own, end) {
        (Some(Err(refusal)), _) => RecipientOutcome::of_reply(refusal),
        (Some(Ok(_)), client::Outcome::Accepted(reply)) => {
            RecipientOutcome::Delivered(reply.to_string())
        }
        (_, client::Outcome::Refused { reply, .. }) => RecipientOutcome::of_reply(reply),
        // The server owes an answer to each; without one nothing is known.
        (_, client::Outcome::Accepted(_) | client::Outcome::NoRecipient) => {
            RecipientOutcome::Deferred("the next hop gave no answer for this recipient".to_owned())
        }
    }
}

/// One recipient's outcome when the session broke inside the transaction.
#[must_use]
pub fn broken(own: Option<&Result<Reply, Reply>>, trouble: &str) -> RecipientOutcome {
    match own {
        Some(Err(refusal)) => RecipientOutcome::of_reply(refusal),
        _ => RecipientOutcome::Deferred(trouble.to_owned()),
    }
}

/// One recipient's outcome when the stored content could not be read to its end.
#[must_use]
pub fn unreadable(own: Option<&Result<Reply, Reply>>, error: &SpoolError) -> RecipientOutcome {
    match own {
        Some(Err(refusal)) => RecipientOutcome::of_reply(refusal),
        _ => not_read(error),
    }
}

/// Every recipient's outcome when there is no content to send: final if there never will be.
#[must_use]
pub fn not_read(error: &SpoolError) -> RecipientOutcome {
    match error {
        SpoolError::Damaged | SpoolError::NotFound => RecipientOutcome::Failed(error.to_string()),
        _ => RecipientOutcome::Deferred(error.to_string()),
    }
}

/// Every recipient's outcome when the next hop cannot take such a message at all.
#[must_use]
pub fn unfit(error: BeginError) -> RecipientOutcome {
    RecipientOutcome::of_reply(&error.reply())
}

#[cfg(test)]
mod tests {
    use postern_smtp::client::{Outcome, Stage};
    use postern_smtp::reply::Enhanced;

    use super::*;

    fn reply(code: u16) -> Reply {
        let class = u8::try_from(code / 100).expect("one digit");
        Reply::new(code, Enhanced::new(class, 0, 0), "x")
    }

    fn refused(code: u16) -> Outcome {
        Outcome::Refused { stage: Stage::EndOfData, reply: reply(code) }
    }

    #[test]
    fn a_recipient_s_own_refusal_counts_before_the_message_s_fate() {
        let accepted = Outcome::Accepted(reply(250));
        let table = [
            (Some(Ok(250)), &accepted, "delivered"),
            (Some(Err(550)), &accepted, "failed"),
            (Some(Err(450)), &accepted, "deferred"),
            (None, &accepted, "deferred"),
            (Some(Ok(250)), &refused(554), "failed"),
            (Some(Ok(250)), &refused(421), "deferred"),
            (Some(Err(550)), &refused(451), "failed"),
            (None, &refused(550), "failed"),
            (None, &Outcome::NoRecipient, "deferred"),
        ];
        for (own, end, expected) in table {
            let own = own.map(|own| own.map(reply).map_err(reply));
            let outcome = answered(own.as_ref(), end);
            let name = match outcome {
                RecipientOutcome::Delivered(_) => "delivered",
                RecipientOutcome::Deferred(_) => "deferred",
                RecipientOutcome::Failed(_) => "failed",
            };
            assert_eq!(name, expected, "{own:?} {end:?}");
        }
    }

    #[test]
    fn only_lost_content_is_final_and_a_refusal_counts_before_it() {
        let taken = Some(Ok(reply(250)));
        let outcome = |error| unreadable(taken.as_ref(), &error);
        assert!(matches!(outcome(SpoolError::Damaged), RecipientOutcome::Failed(_)));
        assert!(matches!(outcome(SpoolError::NotFound), RecipientOutcome::Failed(_)));
        for error in [SpoolError::Io, SpoolError::Memory, SpoolError::Closed] {
            assert!(matches!(outcome(error), RecipientOutcome::Deferred(_)));
        }
        let refused = Some(Err(reply(450)));
        let outcome = unreadable(refused.as_ref(), &SpoolError::Damaged);
        assert!(matches!(outcome, RecipientOutcome::Deferred(_)));
    }

    #[test]
    fn trouble_is_never_final() {
        let own = Some(Ok(reply(250)));
        assert!(matches!(broken(own.as_ref(), "554 no"), RecipientOutcome::Deferred(_)));
        let own = Some(Err(reply(550)));
        assert!(matches!(broken(own.as_ref(), "lost"), RecipientOutcome::Failed(_)));
    }
}

//! What an application is told when it may not.

use std::borrow::Cow;
use std::fmt;

/// One refusal: reply code, enhanced status code (RFC 3463) and a line of text for a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Reply code, 4xx or 5xx.
    pub code: u16,
    /// Enhanced status code: class, subject, detail.
    pub enhanced: (u8, u16, u16),
    /// One line, printable ASCII, without the codes.
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// A refusal for good: the same message will not be taken later.
    pub(crate) fn permanent(
        code: u16,
        detail: (u16, u16),
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { code, enhanced: (5, detail.0, detail.1), text: text.into() }
    }

    /// A refusal for now.
    pub(crate) fn temporary(
        code: u16,
        detail: (u16, u16),
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { code, enhanced: (4, detail.0, detail.1), text: text.into() }
    }

    /// Whether the client may try the same again later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.code < 500
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (class, subject, detail) = self.enhanced;
        write!(f, "{} {class}.{subject}.{detail} {}", self.code, self.text)
    }
}

impl std::error::Error for Refusal {}

/// Text from outside as it may stand in a reply: printable ASCII, at most [`SHOWN_CHARS_MAX`].
pub(super) fn shown(text: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(SHOWN_CHARS_MAX).map(printable).collect()
}

/// Enough for nearly every address, and for a reply that stays on one line.
const SHOWN_CHARS_MAX: usize = 120;

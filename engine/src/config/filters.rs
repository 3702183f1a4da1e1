//! `[filters]`: what is looked for in messages.

/// What is looked for, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filters {
    /// Messages are scanned at all.
    pub enabled: bool,
    /// What happens to a message with payment card numbers.
    pub credit_card: CardAction,
    /// How many different card numbers a message may hold before [`Filters::credit_card`] applies.
    pub credit_card_count_min: u32,
}

/// What happens to a message with payment card numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CardAction {
    /// Refused with `550 5.7.1`.
    #[default]
    Refuse,
    /// Let through, and logged.
    Report,
    /// Not looked for.
    Off,
}

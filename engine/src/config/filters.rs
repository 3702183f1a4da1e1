//! `[filters]`: what is looked for in messages.

use super::read::Section;

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

impl Default for Filters {
    fn default() -> Self {
        Self { enabled: true, credit_card: CardAction::Refuse, credit_card_count_min: 1 }
    }
}

impl Filters {
    /// Reads `[filters]`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let card = section.table("credit_card", "filters.credit_card");
        Self {
            enabled: section.flag("enabled", default.enabled),
            credit_card: card.as_ref().map_or(default.credit_card, |card| {
                card.choice("action", &CARD_ACTIONS, default.credit_card)
            }),
            credit_card_count_min: card
                .and_then(|card| card.count("count_min"))
                .unwrap_or(default.credit_card_count_min),
        }
    }
}

const CARD_ACTIONS: [(&str, CardAction); 3] =
    [("refuse", CardAction::Refuse), ("report", CardAction::Report), ("off", CardAction::Off)];

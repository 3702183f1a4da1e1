//! `[filters]`: what is looked for in messages.

use super::read::Section;

/// What is looked for, and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filters {
    /// Messages are scanned at all.
    pub enabled: bool,
    /// What happens to a message with payment card numbers.
    pub credit_card: FilterAction,
    /// How many different card numbers a message may hold before [`Filters::credit_card`] applies.
    pub credit_card_count_min: u32,
    /// What happens to a message with keys, tokens or passwords.
    pub secrets: FilterAction,
    /// The same with JSON Web Tokens, which links to reset a password hold.
    pub jwt: FilterAction,
    /// The same with identity, tax and account numbers.
    pub identifiers: FilterAction,
}

/// What happens to a message in which something is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterAction {
    /// Refused with `550 5.7.1`.
    Refuse,
    /// Let through, and logged.
    Report,
    /// Not looked for.
    Off,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            enabled: true,
            credit_card: FilterAction::Refuse,
            credit_card_count_min: 1,
            secrets: FilterAction::Refuse,
            jwt: FilterAction::Report,
            identifiers: FilterAction::Report,
        }
    }
}

impl Filters {
    /// Reads `[filters]`.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        let card = section.table("credit_card", "filters.credit_card");
        let secrets = section.table("secrets", "filters.secrets");
        let identifiers = section.table("identifiers", "filters.identifiers");
        let action = |section: Option<&Section<'_>>, key, default| {
            section.map_or(default, |section| section.choice(key, &ACTIONS, default))
        };
        Self {
            enabled: section.flag("enabled", default.enabled),
            credit_card: action(card.as_ref(), "action", default.credit_card),
            credit_card_count_min: card
                .and_then(|card| card.count("count_min"))
                .unwrap_or(default.credit_card_count_min),
            secrets: action(secrets.as_ref(), "action", default.secrets),
            jwt: action(secrets.as_ref(), "jwt", default.jwt),
            identifiers: action(identifiers.as_ref(), "action", default.identifiers),
        }
    }
}

const ACTIONS: [(&str, FilterAction); 3] = [
    ("refuse", FilterAction::Refuse),
    ("report", FilterAction::Report),
    ("off", FilterAction::Off),
];

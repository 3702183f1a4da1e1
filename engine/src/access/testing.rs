//! Applications for the tests of this room.

use crate::config::{AddressPattern, App, AppLimits, Lane, PasswordHash, Registry};

/// An application that sends for `example.com`, with a password hash and networks.
pub(super) fn app(id: &str, phc: Option<&str>, networks: &[&str]) -> App {
    App {
        id: id.into(),
        owner: "somebody".to_owned(),
        password_hash: phc.map(|phc| PasswordHash::parse(phc).unwrap_or_else(|e| panic!("{e:?}"))),
        networks: networks.iter().map(|text| text.parse().expect("a network")).collect(),
        senders: AddressPattern::parse("example.com").into_iter().collect(),
        recipients: None,
        null_reverse_path: false,
        lane: Lane::Normal,
        limits: AppLimits::default(),
    }
}

pub(super) fn registry(apps: impl IntoIterator<Item = App>) -> Registry {
    Registry::new(apps.into_iter().collect())
}

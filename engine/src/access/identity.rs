//! An application that has proved who it is, and what that lets it do.

use std::net::IpAddr;
use std::sync::Arc;

use super::author::{Author, read_author};
use super::refusal::{Refusal, shown};
use crate::config::{App, Registry};

/// Proof that a session speaks for an application. Made only here: by a verified credential or by
/// a client address in one of the application's networks.
#[derive(Debug, Clone)]
pub struct Authenticated {
    app: Arc<App>,
    method: Method,
}

/// How an application proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// SASL with its password.
    Password,
    /// Its client address.
    Network,
}

/// Proof that a reverse-path was checked against the application's senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderAccepted {
    is_null: bool,
}

impl SenderAccepted {
    /// It is the null reverse-path.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.is_null
    }
}

impl Authenticated {
    /// The application that may send from `address` without AUTH, if there is one.
    #[must_use]
    pub fn by_network(registry: &Registry, address: IpAddr) -> Option<Self> {
        let app = Arc::clone(registry.app_at(address)?);
        Some(Self { app, method: Method::Network })
    }

    /// To be called for a credential that matched, and only then.
    pub(super) fn by_password(app: Arc<App>) -> Self {
        Self { app, method: Method::Password }
    }

    /// The application.
    #[must_use]
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// How it proved who it is.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// The same proof under a new configuration: `None` where the application is gone, its
    /// credential is another, or the client's address is no longer in its networks.
    #[must_use]
    pub fn renewed(&self, registry: &Registry, address: IpAddr) -> Option<Self> {
        match self.method {
            Method::Network => {
                Self::by_network(registry, address).filter(|found| found.app.id == self.app.id)
            }
            Method::Password => {
                let app = registry.app(&self.app.id)?;
                (app.password_hash.is_some() && app.password_hash == self.app.password_hash)
                    .then(|| Self::by_password(Arc::clone(app)))
            }
        }
    }

    /// Whether the application may send with this reverse-path, and content of the size it
    /// announced (RFC 1870). `reverse_path` has no brackets and is empty for the null reverse-path,
    /// which only applications with `null_reverse_path = true` may use: it is for notifications
    /// about mail, and who may write without a return address cannot be told of a failure.
    ///
    /// # Errors
    /// `550 5.7.1` for a foreign sender, `552 5.3.4` for a size above the application's bound.
    pub fn mail(
        &self,
        reverse_path: &str,
        announced_bytes: Option<u64>,
    ) -> Result<SenderAccepted, Refusal> {
        let is_null = reverse_path.is_empty();
        let is_allowed = if is_null {
            self.app.null_reverse_path
        } else {
            self.app.senders.contains(reverse_path)
        };
        if !is_allowed {
            return Err(self.foreign_sender(reverse_path));
        }
        self.content_bytes(announced_bytes.unwrap_or(0))?;
        Ok(SenderAccepted { is_null })
    }

    fn foreign_sender(&self, reverse_path: &str) -> Refusal {
        let what = if reverse_path.is_empty() {
            "the null reverse-path".to_owned()
        } else {
            format!("sender <{}>", shown(reverse_path))
        };
        let text = format!("{what} is not allowed for application {}", shown(&self.app.id));
        Refusal::permanent(550, (7, 1), text)
    }

    /// Whether the application may write to this recipient, `accepted` of the same message having
    /// been accepted before. `forward_path` has no brackets.
    ///
    /// # Errors
    /// `550 5.7.1` for a recipient outside its list, `452 4.5.3` for too many
    /// (RFC 5321 4.5.3.1.10).
    pub fn recipient(&self, forward_path: &str, accepted: u32) -> Result<(), Refusal> {
        if self.app.limits.recipients_per_message_max.is_some_and(|max| accepted >= max) {
            return Err(Refusal::temporary(452, (5, 3), "too many recipients in one message"));
        }
        match &self.app.recipients {
            Some(allowed) if !allowed.contains(forward_path) => {
                let (recipient, app) = (shown(forward_path), shown(&self.app.id));
                let text = format!("recipient <{recipient}> is not allowed for application {app}");
                Err(Refusal::permanent(550, (7, 1), text))
            }
            _ => Ok(()),
        }
    }

    /// Whether content of this size is within the application's bound; for each chunk as it
    /// arrives, with the bytes so far.
    ///
    /// # Errors
    /// `552 5.3.4`
    pub fn content_bytes(&self, bytes: u64) -> Result<(), Refusal> {
        match self.app.limits.message_bytes_max {
            Some(max) if bytes > max => Err(Refusal::permanent(
                552,
                (3, 4),
                format!("message is larger than the {max} bytes this application may send"),
            )),
            _ => Ok(()),
        }
    }

    /// The author of a message, from all its `From` fields: raw field bodies, folding included.
    ///
    /// # Errors
    /// `550 5.7.1`, with the reason: not exactly one field with one mailbox that every parser reads
    /// in the same way, or an address that is not among the application's senders.
    pub fn author<F: AsRef<[u8]>>(&self, from_fields: &[F]) -> Result<Author, Refusal> {
        let author = read_author(from_fields)?;
        if self.app.senders.contains(author.address()) {
            return Ok(author);
        }
        let (address, app) = (shown(author.address()), shown(&self.app.id));
        let text = format!("From address <{address}> is not allowed for application {app}");
        Err(Refusal::permanent(550, (7, 1), text))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{app, registry};
    use super::*;
    use crate::config::{AddressPattern, AppLimits};

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn identity(change: impl FnOnce(&mut App)) -> Authenticated {
        let mut app = app("billing", None, &["192.0.2.0/24"]);
        change(&mut app);
        let registry = registry([app]);
        Authenticated::by_network(&registry, address("192.0.2.1")).expect("in its network")
    }

    fn code<T>(outcome: Result<T, Refusal>) -> String {
        outcome.err().map_or_else(String::new, |refusal| refusal.to_string()[..9].to_owned())
    }

    #[test]
    fn senders_are_bound() {
        let identity = identity(|_| ());
        for (reverse_path, expected) in [
            ("a@example.com", ""),
            ("A@EXAMPLE.COM", ""),
            ("a@sub.example.com", "550 5.7.1"),
            ("a@example.org", "550 5.7.1"),
            ("a@example.com@example.org", "550 5.7.1"),
            ("postmaster", "550 5.7.1"),
            ("", "550 5.7.1"),
        ] {
            assert_eq!(code(identity.mail(reverse_path, None)), expected, "{reverse_path}");
        }
        assert_eq!(code(identity.author(&[" A <a@example.com>"])), "");
        assert_eq!(code(identity.author(&[" A <a@example.org>"])), "550 5.7.1");
    }

    #[test]
    fn the_null_reverse_path_is_for_those_who_asked_for_it() {
        let identity = identity(|app| app.null_reverse_path = true);
        assert!(identity.mail("", None).is_ok_and(SenderAccepted::is_null));
        assert!(identity.mail("a@example.com", None).is_ok_and(|sender| !sender.is_null()));
    }

    #[test]
    fn recipients_and_sizes_are_bound() {
        let identity = identity(|app| {
            app.recipients = Some(AddressPattern::parse("example.org").into_iter().collect());
            app.limits = AppLimits {
                message_bytes_max: Some(1_000),
                recipients_per_message_max: Some(2),
                ..AppLimits::default()
            };
        });
        assert_eq!(code(identity.recipient("a@example.org", 0)), "");
        assert_eq!(code(identity.recipient("a@example.org", 1)), "");
        assert_eq!(code(identity.recipient("a@example.org", 2)), "452 4.5.3");
        assert_eq!(code(identity.recipient("a@example.net", 0)), "550 5.7.1");
        assert_eq!(code(identity.mail("a@example.com", Some(1_000))), "");
        assert_eq!(code(identity.mail("a@example.com", Some(1_001))), "552 5.3.4");
        assert_eq!(code(identity.content_bytes(1_001)), "552 5.3.4");
    }

    #[test]
    fn a_refusal_is_one_line_of_ascii_whatever_was_sent() {
        let identity = identity(|_| ());
        let long = format!("{}@\u{202e}ü\r\n.example", "x".repeat(300));
        let refusal = identity.mail(&long, None).expect_err("foreign");
        assert!(refusal.text.bytes().all(|b| (b' '..0x7f).contains(&b)), "{refusal}");
        assert!(refusal.text.len() < 250, "{refusal}");
    }

    #[test]
    fn a_proof_ends_with_what_it_was_based_on() {
        let registry_of = |networks: &[&str]| registry([app("billing", None, networks)]);
        let proof = identity(|_| ());
        let at = address("192.0.2.1");
        assert!(proof.renewed(&registry_of(&["192.0.2.0/25"]), at).is_some());
        assert!(proof.renewed(&registry_of(&["192.0.2.128/25"]), at).is_none());
        assert!(proof.renewed(&registry([app("other", None, &["192.0.2.0/24"])]), at).is_none());
        assert!(proof.renewed(&registry([]), at).is_none());
    }

    /// The longest prefix wins, as a scan over all networks says.
    #[test]
    fn networks_are_found_as_a_scan_finds_them() {
        use proptest::prelude::*;
        let network = (any::<u8>(), 0_u8..=8).prop_map(|(bits, prefix)| {
            crate::config::Network::around([10, 0, 0, bits].into(), 24 + prefix)
        });
        let networks = prop::collection::vec(network, 1..12);
        let mut runner = proptest::test_runner::TestRunner::default();
        let outcome = runner.run(&(networks, any::<u8>()), |(networks, last)| {
            let networks: Vec<_> = networks.into_iter().flatten().collect();
            let apps = networks
                .iter()
                .enumerate()
                .map(|(index, network)| app(&index.to_string(), None, &[&network.to_string()]));
            let registry = registry(apps);
            let client: IpAddr = [10, 0, 0, last].into();
            let scanned = networks
                .iter()
                .enumerate()
                .filter(|(_, network)| network.contains(client))
                .min_by_key(|(index, network)| (std::cmp::Reverse(network.prefix()), *index))
                .map(|(index, _)| index.to_string());
            let found = registry.app_at(client).map(|app| app.id.to_string());
            prop_assert_eq!(&found, &scanned);
            let mapped = match client {
                IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
                IpAddr::V6(_) => client,
            };
            prop_assert_eq!(registry.app_at(mapped).map(|app| app.id.to_string()), scanned);
            Ok(())
        });
        outcome.expect("holds for all");
    }
}

//! Who may send: all applications, found by name or by network.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::app::App;
use super::network::Network;

/// All applications. Immutable; lookups neither lock nor allocate.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    apps: Vec<Arc<App>>,
    by_id: HashMap<Arc<str>, usize>,
    /// Networks by prefix length, longest first; IPv4 and IPv6 apart.
    by_network: Vec<(u8, HashMap<IpAddr, usize>)>,
}

impl Registry {
    /// Indexes the applications. Of two with one id, or with one network, the first counts; the
    /// configuration reader refuses both cases.
    #[must_use]
    pub fn new(apps: Vec<App>) -> Self {
        let mut registry = Self::default();
        for (index, app) in apps.into_iter().enumerate() {
            registry.by_id.entry(Arc::clone(&app.id)).or_insert(index);
            for network in &app.networks {
                registry.add_network(*network, index);
            }
            registry.apps.push(Arc::new(app));
        }
        registry.by_network.sort_by_key(|(prefix, _)| Reverse(*prefix));
        registry
    }

    fn add_network(&mut self, network: Network, index: usize) {
        let prefix = network.prefix();
        let known = self.by_network.iter().position(|(length, _)| *length == prefix);
        let slot = known.unwrap_or_else(|| {
            self.by_network.push((prefix, HashMap::new()));
            self.by_network.len() - 1
        });
        self.by_network[slot].1.entry(network.address()).or_insert(index);
    }

    /// The application with this id, which is also its SASL authentication identity. O(1).
    #[must_use]
    pub fn app(&self, id: &str) -> Option<&Arc<App>> {
        self.by_id.get(id).and_then(|index| self.apps.get(*index))
    }

    /// The application that may send from `address` without AUTH: the one with the longest matching
    /// prefix. Costs one look-up per prefix length in use.
    #[must_use]
    pub fn app_at(&self, address: IpAddr) -> Option<&Arc<App>> {
        let address = address.to_canonical();
        let index = self.by_network.iter().find_map(|(prefix, networks)| {
            networks.get(&Network::around(address, *prefix)?.address())
        })?;
        self.apps.get(*index)
    }

    /// All applications, in the order of the file.
    #[must_use]
    pub fn apps(&self) -> &[Arc<App>] {
        &self.apps
    }
}

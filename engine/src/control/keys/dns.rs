//! What lines need of DNS: whether a record is everywhere, and to have it changed.

use std::time::Duration;

use postern_signer::dns::{Expected, revoked_text};
use postern_signer::key::lifecycle::Looked;
use tokio::sync::Semaphore;

use super::directory::KeysError;
use crate::config::{ManagedKeys, Publish};
use crate::control::dns::{
    Change, Done, Look, LookOptions, Looker, Role, Sighting, TsigKey, UpdateError, UpdateOptions,
    Updater, system_resolvers,
};

/// Asks and changes DNS for all lines; so many of them at once.
pub(super) struct KeyDns {
    looker: Looker,
    updater: Option<Updater>,
    ttl_s: u32,
    /// How many resolvers must have a record.
    pub(super) resolvers_min: usize,
    places: Semaphore,
}

impl KeyDns {
    /// Reads the TSIG secret and, where none are named, the system's resolvers.
    pub(super) fn new(keys: &ManagedKeys) -> Result<Self, KeysError> {
        let resolvers = match &*keys.dns.resolvers {
            [] => system_resolvers().map_err(KeysError::Resolvers)?,
            named => named.to_vec(),
        };
        let updater = match &keys.publish {
            Publish::Manual => None,
            Publish::Update(to) => {
                let algorithm =
                    to.tsig_algorithm.parse().expect("the configuration takes no other name");
                let key = TsigKey::read(&to.tsig_secret_file, &to.tsig_name, algorithm)?;
                Some(Updater::new(UpdateOptions {
                    server: to.server,
                    key,
                    timeout: TIMEOUT,
                    attempts: ATTEMPTS,
                }))
            }
        };
        let resolvers_min = keys.dns.resolvers_min.unwrap_or(resolvers.len()).min(resolvers.len());
        let looker = Looker::new(LookOptions {
            resolvers,
            authoritative: keys.dns.authoritative.clone(),
            timeout: TIMEOUT,
            attempts: ATTEMPTS,
        });
        let places = Semaphore::new(LINES_AT_ONCE);
        Ok(Self { looker, updater, ttl_s: keys.ttl_s, resolvers_min, places })
    }

    /// Asks every server for the record at a name.
    pub(super) async fn look(&self, name: &str, expected: &str) -> Looked {
        let _place = self.places.acquire().await;
        let Ok(compared) = Expected::new(expected) else { return Looked::default() };
        let look = self.looker.look(name, &compared).await;
        Looked { expected: expected.to_owned(), ..looked(&look) }
    }

    /// Has a record published where there is none, or where an earlier key's was withdrawn. Does
    /// nothing where that is the operator's.
    ///
    /// # Errors
    /// What the server refused, or who else writes to the name.
    pub(super) async fn publish(
        &self,
        owner: &str,
        record: &str,
        is_reused: bool,
    ) -> Result<(), UpdateError> {
        let Some(updater) = &self.updater else { return Ok(()) };
        let _place = self.places.acquire().await;
        let mut done = updater.update(owner, self.ttl_s, Change::Add { text: record }).await;
        if is_reused && matches!(done, Err(UpdateError::SecondWriter(Some(_)))) {
            let change = Change::Replace { known: revoked_text(), text: record };
            done = updater.update(owner, self.ttl_s, change).await;
        }
        done.map(|_: Done| ())
    }

    /// Has a record replaced by one with an empty `p=`. Does nothing where that is the operator's.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub(super) async fn withdraw(&self, owner: &str, record: &str) -> Result<(), UpdateError> {
        let Some(updater) = &self.updater else { return Ok(()) };
        let _place = self.places.acquire().await;
        let change = Change::Replace { known: record, text: revoked_text() };
        updater.update(owner, self.ttl_s, change).await.map(|_: Done| ())
    }
}

fn looked(look: &Look) -> Looked {
    let is_contradicted = look.sightings.iter().any(|one| {
        let has_other = matches!(
            one.sighting,
            Sighting::Missing { .. } | Sighting::Wrong { .. } | Sighting::Revoked { .. }
        );
        one.server.role == Role::Authoritative && has_other
    });
    Looked {
        expected: String::new(),
        authoritative: look.seen(Role::Authoritative),
        resolvers: look.seen(Role::Resolver),
        ttl_s_max: u32::try_from(look.ttl_max().as_secs()).unwrap_or(u32::MAX),
        is_contradicted,
        obstacles: look.obstacles().collect::<Vec<_>>().join(" "),
    }
}

const TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPTS: u32 = 2;
/// Names that are asked for or changed at once.
const LINES_AT_ONCE: usize = 8;

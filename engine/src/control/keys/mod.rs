//! Looks after the keys of every managed `[[dkim]]`: drives a [`Line`](postern_signer::key::lifecycle::Line) each.
//!
//! ```text
//!  [[dkim]] managed ──► line ──► steps ──┬──► sealed file (first, always)
//!                        ▲               ├──► DNS: look, publish, withdraw
//!                        └── proofs ◄────┴──► shards: sign with another key
//! ```
//!
//! Invariants: nothing is done before the decision to do it is stored; a key that shards may sign
//! with is never withdrawn; where DNS, the disk or the clock fail, a line stays where it is, mail goes
//! on being signed with the key it has, and the operator is told why. One relay looks after a
//! directory, held by a lock.
//!
//! Security: private keys leave this room sealed, or to the shards' signers; no event, answer or zone
//! file holds one.

mod clock;
mod directory;
mod dns;
mod line;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use postern_signer::dns::zone_line;
use postern_signer::key::SigningKey;
use postern_signer::key::lifecycle::Cause;
use postern_signer::key::store::Content;
use postern_signer::name::Selector;
use tokio::sync::Notify;

use self::clock::Clock;
use self::directory::KeyDirectory;
pub use self::directory::KeysError;
use self::dns::KeyDns;
use self::line::{ManagedLine, Settings};
use super::dns::write_zone_file;
use crate::config::{Dkim, Snapshot};
use crate::event::{Level, Log};
use crate::order::{KeyList, KeyOutcome};

/// Whether the shards may sign with a key of a domain, by some configuration that was handed to
/// them; `None` once nobody has it any more.
pub type Probe = Box<dyn Fn(&str, &Selector) -> Option<bool>>;

/// The lines of all managed entries as they are stored: what a relay starts with.
#[derive(Default)]
pub struct StoredKeys {
    directory: Option<Arc<KeyDirectory>>,
    contents: BTreeMap<String, Content>,
}

impl StoredKeys {
    /// Locks the directory and opens the line of each managed entry. Blocks.
    ///
    /// # Errors
    /// [`KeysError`]: a line that cannot be opened is not passed over.
    pub fn open(snapshot: &Snapshot) -> Result<Self, KeysError> {
        let Some(keys) = &snapshot.keys else { return Ok(Self::default()) };
        let directory = KeyDirectory::open(keys)?;
        let mut contents = BTreeMap::new();
        for name in snapshot.dkim.all().iter().filter_map(|dkim| dkim.line_name()) {
            let content = directory.load(&name)?;
            contents.insert(name, content);
        }
        Ok(Self { directory: Some(Arc::new(directory)), contents })
    }

    /// The selector and key that sign for the line of this name.
    #[must_use]
    pub fn active(&self, name: &str) -> Option<(Selector, Arc<SigningKey>)> {
        line::active_in(self.contents.get(name)?)
    }
}

/// Drives all lines. Lives on the control runtime.
pub struct KeyDriver {
    log: Log,
    /// None until a configuration has `[keys]`.
    shared: RefCell<Option<Rc<Shared>>>,
    changed: Rc<Notify>,
    probes: Rc<RefCell<Vec<Probe>>>,
}

/// What all lines share.
struct Shared {
    directory: Arc<KeyDirectory>,
    clock: Clock,
    log: Log,
    /// All that were ever configured in this process: one that comes back goes on as it was.
    lines: RefCell<BTreeMap<String, Rc<ManagedLine>>>,
    zone_directory: RefCell<Option<PathBuf>>,
    ttl_s: Cell<u32>,
    /// A line has another key to sign with.
    changed: Rc<Notify>,
    probes: Rc<RefCell<Vec<Probe>>>,
    failures: Cell<u64>,
}

impl KeyDriver {
    /// Makes one that drives nothing yet.
    #[must_use]
    pub fn new(log: Log) -> Self {
        Self { log, shared: RefCell::default(), changed: Rc::default(), probes: Rc::default() }
    }

    /// Goes by a configuration from now on, and starts the lines that are new in it, from `stored`
    /// where they are there. Runs inside a `LocalSet`.
    ///
    /// # Errors
    /// [`KeysError`]; nothing has changed then.
    pub fn configure(&self, snapshot: &Snapshot, mut stored: StoredKeys) -> Result<(), KeysError> {
        let Some(keys) = &snapshot.keys else {
            self.lines(None, None).iter().for_each(|line| line.configure(None));
            return Ok(());
        };
        let dns = Rc::new(KeyDns::new(keys)?);
        let known = self.shared.borrow().clone();
        let shared = match known {
            Some(shared) => shared,
            None => {
                let directory = match stored.directory.take() {
                    Some(directory) => directory,
                    None => Arc::new(KeyDirectory::open(keys)?),
                };
                let clock = Clock::open(directory.path(), keys.rehearsal_rate)
                    .map_err(|error| KeysError::File(keys.directory.clone(), error))?;
                Rc::new(Shared {
                    directory,
                    clock,
                    log: self.log.clone(),
                    lines: RefCell::default(),
                    zone_directory: RefCell::default(),
                    ttl_s: Cell::new(keys.ttl_s),
                    changed: Rc::clone(&self.changed),
                    probes: Rc::clone(&self.probes),
                    failures: Cell::new(0),
                })
            }
        };
        let mut wanted = Vec::new();
        for (dkim, name) in managed(snapshot) {
            let Some(of_entry) = dkim.managed() else { continue };
            let settings = Settings::new(dkim, of_entry, keys, &dns);
            let known = shared.lines.borrow().get(&name).cloned();
            let content = match (&known, stored.contents.remove(&name)) {
                (Some(_), _) => None,
                (None, Some(content)) => Some(content),
                (None, None) => Some(shared.directory.load(&name)?),
            };
            wanted.push((name, settings, known, content));
        }
        // From here on nothing fails.
        for line in shared.lines.borrow().values() {
            line.configure(None);
        }
        for (name, settings, known, content) in wanted {
            let line = known.unwrap_or_else(|| {
                let content = content.unwrap_or_default();
                let line = ManagedLine::new(&name, Rc::clone(&shared), settings.clone(), content);
                let line = Rc::new(line);
                tokio::task::spawn_local(Rc::clone(&line).run());
                line
            });
            line.configure(Some(settings));
            shared.lines.borrow_mut().insert(name, line);
        }
        shared.zone_directory.replace(keys.zone_directory.clone());
        shared.ttl_s.set(keys.ttl_s);
        for (dkim, _) in managed(snapshot) {
            let zone = dkim.managed().and_then(|managed| managed.record_domain.as_deref());
            shared.write_zone(zone.unwrap_or(dkim.domain()));
        }
        self.shared.replace(Some(shared));
        Ok(())
    }

    /// The selector and key that sign for the line of this name.
    #[must_use]
    pub fn active(&self, name: &str) -> Option<(Selector, Arc<SigningKey>)> {
        self.shared.borrow().as_ref()?.lines.borrow().get(name)?.active()
    }

    /// Returns when a line has another key to sign with: hand a new configuration to the shards.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A configuration goes to the shards; `probe` tells which keys they may sign with by it.
    pub fn handed_out(&self, probe: Probe) {
        self.probes.borrow_mut().push(probe);
    }

    /// Every line with its keys.
    #[must_use]
    pub fn list(&self) -> Vec<KeyList> {
        self.lines(None, None).iter().map(|line| line.list()).collect()
    }

    /// How many steps have failed since start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.borrow().as_ref().map_or(0, |shared| shared.failures.get())
    }

    /// Has the lines of a domain rotate as soon as their standby keys may sign.
    pub async fn rotate(&self, domain: &str, prefix: Option<&str>) -> Vec<KeyOutcome> {
        let mut outcomes = Vec::new();
        for line in self.lines(Some(domain), prefix) {
            let ordered = line.order_rotation().await;
            outcomes.push(outcome(&line, ordered));
        }
        outcomes
    }

    /// Has the lines of a domain sign with their standby keys at once; the keys before are withdrawn
    /// after `drain_s` seconds, where that is not the configuration's.
    pub async fn emergency(
        &self,
        domain: &str,
        prefix: Option<&str>,
        drain_s: Option<u64>,
    ) -> Vec<KeyOutcome> {
        let mut outcomes = Vec::new();
        for line in self.lines(Some(domain), prefix) {
            let switched = line.switch(Cause::Emergency(drain_s)).await;
            outcomes.push(outcome(&line, switched));
        }
        outcomes
    }

    /// Gives up a key that has not signed yet.
    ///
    /// # Errors
    /// There is no such key, or it signs or has signed.
    pub async fn abandon(&self, domain: &str, selector: &str) -> Result<KeyOutcome, String> {
        let refused = || format!("the relay looks after no key {selector} of {domain}");
        let selector: Selector = selector.parse().map_err(|_| refused())?;
        let lines = self.lines(Some(domain), None);
        let has_key = |line: &&Rc<ManagedLine>| {
            line.list().keys.iter().any(|key| key.selector == selector.as_str())
        };
        let line = lines.iter().find(has_key).ok_or_else(refused)?;
        line.abandon(&selector).await?;
        Ok(outcome(line, Ok(())))
    }

    fn lines(&self, domain: Option<&str>, prefix: Option<&str>) -> Vec<Rc<ManagedLine>> {
        let shared = self.shared.borrow();
        let Some(shared) = &*shared else { return Vec::new() };
        let lines = shared.lines.borrow();
        let is_meant = |name: &str| {
            let (own_domain, own_prefix) = name.split_once(' ').unwrap_or((name, ""));
            domain.is_none_or(|domain| domain == own_domain)
                && prefix.is_none_or(|prefix| prefix == own_prefix)
        };
        let meant = lines.iter().filter(|(name, line)| line.is_configured() && is_meant(name));
        meant.map(|(_, line)| Rc::clone(line)).collect()
    }
}

impl Shared {
    /// Whether shards may sign with a key, by any configuration that they still have.
    fn is_in_use(&self, domain: &str, selector: &Selector) -> bool {
        let mut is_in_use = false;
        self.probes.borrow_mut().retain(|probe| match probe(domain, selector) {
            Some(uses) => {
                is_in_use |= uses;
                true
            }
            None => false,
        });
        is_in_use
    }

    /// Writes the records of a zone, where the operator wants them as files.
    fn write_zone(&self, zone: &str) {
        let Some(directory) = self.zone_directory.borrow().clone() else { return };
        let lines: Vec<_> = self.lines.borrow().values().map(Rc::clone).collect();
        let of_zone = lines
            .iter()
            .filter(|line| line.is_configured() && line.settings().record_domain() == zone);
        let records: Vec<_> = of_zone
            .flat_map(|line| line.records())
            .map(|(name, text)| zone_line(&name, self.ttl_s.get(), &text))
            .collect();
        let path = directory.join(format!("{zone}.zone"));
        let written =
            std::fs::create_dir_all(&directory).and_then(|()| write_zone_file(&path, &records));
        if let Err(error) = written {
            self.log.notice(Level::Error, format!("signing keys: {}: {error}", path.display()));
        }
    }
}

fn managed(snapshot: &Snapshot) -> impl Iterator<Item = (&Dkim, String)> {
    snapshot.dkim.all().iter().filter_map(|dkim| Some((&**dkim, dkim.line_name()?)))
}

fn outcome(line: &ManagedLine, result: Result<(), String>) -> KeyOutcome {
    KeyOutcome { line: line.list(), error: result.err() }
}

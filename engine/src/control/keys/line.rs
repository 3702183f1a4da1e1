//! One line: takes the steps that its state machine says can be taken.
//!
//! A change is decided on a copy, stored, and only then in force; what follows from it, in DNS or in
//! the shards, is done after that. So a crash anywhere repeats a step that can be repeated.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_signer::dns::record_text;
use postern_signer::key::lifecycle::{Cause, Key, Line, NotYet, Plan, Stage, Step};
use postern_signer::key::store::Content;
use postern_signer::key::{
    Algorithm, Ed25519PrivateKey, OsRandom, RsaPrivateKey, SigningKey, rand_core::TryRng as _,
};
use postern_signer::name::Selector;
use tokio::sync::Mutex;

use super::Shared;
use super::dns::KeyDns;
use crate::config::{Dkim, Managed, ManagedKeys};
use crate::event::{Event, Level};
use crate::order::{KeyList, ListedKey};

/// What the configuration says about a line.
#[derive(Clone)]
pub(super) struct Settings {
    domain: String,
    apps: Vec<String>,
    managed: Managed,
    plan: Plan,
    dns: Rc<KeyDns>,
}

/// A line and its driver.
pub(super) struct ManagedLine {
    name: String,
    shared: Rc<Shared>,
    settings: RefCell<Settings>,
    is_configured: Cell<bool>,
    content: RefCell<Content>,
    /// Held from a decision until it is stored.
    turn: Mutex<()>,
    /// By selector; the next key that is not there yet has none.
    troubles: RefCell<BTreeMap<String, Trouble>>,
    passed: Cell<Instant>,
    saved: Cell<Instant>,
}

/// A step that fails.
struct Trouble {
    text: String,
    failures: u32,
    next_try: Instant,
}

impl Settings {
    pub(super) fn new(
        dkim: &Dkim,
        managed: &Managed,
        keys: &ManagedKeys,
        dns: &Rc<KeyDns>,
    ) -> Self {
        let validity_s = u64::from(dkim.profile.validity_s().unwrap_or(0));
        Self {
            domain: dkim.domain().to_owned(),
            apps: dkim.apps.clone(),
            managed: managed.clone(),
            plan: Plan {
                rotate_every_s: keys.rotate_every.as_secs(),
                jitter_permille: u16::try_from(keys.jitter_percent * 10).unwrap_or(0),
                standby_for_s: keys.standby_for.as_secs(),
                drain_for_s: keys.drain_for.as_secs().max(validity_s),
                emergency_drain_for_s: keys.emergency_drain_for.as_secs(),
                resolvers_min: dns.resolvers_min,
                look_every_s: keys.look_every.as_secs(),
                selector_prefix: managed.selector_prefix.clone(),
                selectors: managed.selectors,
            },
            dns: Rc::clone(dns),
        }
    }

    /// Where verifiers look.
    fn name_of(&self, selector: &Selector) -> String {
        format!("{selector}._domainkey.{}", self.domain)
    }

    /// Where the record is.
    fn owner_of(&self, selector: &Selector) -> String {
        format!("{selector}._domainkey.{}", self.record_domain())
    }

    pub(super) fn record_domain(&self) -> &str {
        self.managed.record_domain.as_deref().unwrap_or(&self.domain)
    }
}

impl ManagedLine {
    pub(super) fn new(
        name: &str,
        shared: Rc<Shared>,
        settings: Settings,
        mut content: Content,
    ) -> Self {
        // This process has signed with none of the old ones.
        content.line.out_of_use(|_| false);
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            shared,
            settings: RefCell::new(settings),
            is_configured: Cell::new(true),
            content: RefCell::new(content),
            turn: Mutex::new(()),
            troubles: RefCell::default(),
            passed: Cell::new(now),
            saved: Cell::new(now),
        }
    }

    /// Goes by other settings, or rests, where there are none.
    pub(super) fn configure(&self, settings: Option<Settings>) {
        self.is_configured.set(settings.is_some());
        if let Some(settings) = settings {
            self.settings.replace(settings);
            // What was in the way may have been mended.
            self.troubles.borrow_mut().clear();
        }
    }

    pub(super) fn is_configured(&self) -> bool {
        self.is_configured.get()
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.borrow().clone()
    }

    /// The selector and key that sign now.
    pub(super) fn active(&self) -> Option<(Selector, Arc<SigningKey>)> {
        active_in(&self.content.borrow())
    }

    /// Takes steps while the line is configured.
    pub(super) async fn run(self: Rc<Self>) {
        loop {
            tokio::time::sleep(self.shared.clock.tick()).await;
            self.pass_time().await;
            if !self.is_configured() {
                continue;
            }
            // A sighting is followed at once by what it allows, while it is fresh.
            for _ in 0..ROUNDS_MAX {
                if !self.take_steps().await {
                    break;
                }
            }
        }
    }

    /// Takes every step that can be taken; says whether one succeeded.
    async fn take_steps(&self) -> bool {
        let plan = self.settings().plan;
        let steps = self.content.borrow().line.steps(&plan, self.shared.clock.now_s());
        let mut has_progress = false;
        for step in steps.iter().filter(|step| self.may_try(step)) {
            let result = self.take(step).await;
            has_progress |= result.is_ok();
            self.note(step, result);
        }
        has_progress
    }

    /// Counts the time since the last call, and stores now and then what was counted.
    async fn pass_time(&self) {
        let elapsed = self.shared.clock.elapsed(self.passed.replace(Instant::now()));
        let is_counting = {
            let line = &mut self.content.borrow_mut().line;
            let shared = &self.shared;
            let domain = self.settings.borrow().domain.clone();
            line.out_of_use(|selector| shared.is_in_use(&domain, selector));
            line.pass(elapsed, shared.clock.now_s());
            line.is_counting()
        };
        if is_counting && self.saved.get().elapsed() >= SAVE_EVERY {
            let _turn = self.turn.lock().await;
            // If it fails, a crash makes the waits longer: the next change will tell.
            let content = self.content.borrow().clone();
            drop(self.save(content).await);
        }
    }

    fn may_try(&self, step: &Step) -> bool {
        let troubles = self.troubles.borrow();
        troubles.get(subject(step)).is_none_or(|trouble| trouble.next_try <= Instant::now())
    }

    async fn take(&self, step: &Step) -> Result<(), String> {
        match step {
            Step::Make(selector) => self.make(selector).await,
            Step::Publish(selector) => {
                let settings = self.settings();
                let key = self.key(selector)?;
                let owner = settings.owner_of(selector);
                let done = settings.dns.publish(&owner, key.record(), key.is_reused()).await;
                // Perhaps it is there nevertheless, by another way.
                self.look(selector).await.map_err(|why| match done {
                    Ok(()) => why,
                    Err(error) => format!("cannot publish {owner}: {error}"),
                })
            }
            Step::Withdraw(selector) => {
                let settings = self.settings();
                let key = self.key(selector)?;
                let owner = settings.owner_of(selector);
                let done = settings.dns.withdraw(&owner, key.record()).await;
                self.write_zone();
                self.look(selector).await.map_err(|why| match done {
                    Ok(()) => why,
                    Err(error) => format!("cannot withdraw {owner}: {error}"),
                })
            }
            Step::Look(selector) => self.look(selector).await,
            Step::Switch(_) => self.switch(Cause::Due).await.map(drop),
            Step::Destroy(selector) => {
                let now_s = self.shared.clock.now_s();
                let destroyed = self.change(|content, _| {
                    content.private.remove(selector);
                    content.line.destroy(selector, now_s)
                });
                destroyed.await
            }
        }
    }

    async fn make(&self, selector: &Selector) -> Result<(), String> {
        let algorithm = self.settings.borrow().managed.algorithm;
        let made = tokio::task::spawn_blocking(move || generate(algorithm)).await;
        let (key, spread_permille) = made.map_err(|error| error.to_string())??;
        let record = record_text(&key.public());
        let now_s = self.shared.clock.now_s();
        self.change(|content, plan| {
            content.line.made(selector, record, spread_permille, plan, now_s)?;
            content.private.insert(selector.clone(), key);
            Ok(())
        })
        .await
    }

    async fn look(&self, selector: &Selector) -> Result<(), String> {
        let settings = self.settings();
        let expected = self.content.borrow().line.expected(selector).map(str::to_owned);
        let Some(expected) = expected else { return Ok(()) };
        let looked = settings.dns.look(&settings.name_of(selector), &expected).await;
        let now_s = self.shared.clock.now_s();
        self.change(|content, plan| content.line.looked(selector, &looked, plan, now_s)).await
    }

    /// Lets the standby key sign, durably; then has the shards told.
    pub(super) async fn switch(&self, cause: Cause) -> Result<(), String> {
        let now_s = self.shared.clock.now_s();
        self.change(|content, plan| content.line.switch(cause, plan, now_s).map(drop)).await?;
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Makes the next rotation due, durably.
    pub(super) async fn order_rotation(&self) -> Result<(), String> {
        self.change(|content, _| {
            content.line.order_rotation();
            Ok(())
        })
        .await
    }

    /// Gives up a key that has not signed.
    pub(super) async fn abandon(&self, selector: &Selector) -> Result<(), String> {
        let now_s = self.shared.clock.now_s();
        self.change(|content, _| {
            content.line.abandon(selector, now_s)?;
            if content.line.key(selector).is_some_and(|key| *key.stage() == Stage::Destroyed) {
                content.private.remove(selector);
            }
            Ok(())
        })
        .await
    }

    /// Decides on a copy, stores it, and puts it in force: also where the decision is a refusal, for
    /// something may have been learned.
    async fn change(
        &self,
        decide: impl FnOnce(&mut Content, &Plan) -> Result<(), NotYet>,
    ) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let before = self.content.borrow().line.clone();
        let mut content = self.content.borrow().clone();
        let decided = decide(&mut content, &self.settings().plan);
        if content.line != before {
            self.save(content.clone()).await?;
            self.content.replace(content);
            self.tell_changes(&before);
            self.write_zone();
        }
        decided.map_err(|why| why.to_string())
    }

    async fn save(&self, content: Content) -> Result<(), String> {
        let (shared, name) = (Arc::clone(&self.shared.directory), self.name.clone());
        let saved = tokio::task::spawn_blocking(move || shared.save(&name, &content)).await;
        self.saved.set(Instant::now());
        saved.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn key(&self, selector: &Selector) -> Result<Key, String> {
        let content = self.content.borrow();
        content.line.key(selector).cloned().ok_or_else(|| NotYet::UnknownSelector.to_string())
    }

    /// Says which keys are at another stage than before.
    fn tell_changes(&self, before: &Line) {
        let content = self.content.borrow();
        for key in content.line.keys() {
            let stage = key.stage().as_str();
            let was = before.key(key.selector()).map(|key| key.stage().as_str());
            if was != Some(stage) {
                self.troubles.borrow_mut().remove(key.selector().as_str());
                self.tell(Level::Info, key.selector().as_str(), stage, was.unwrap_or(""));
            }
        }
    }

    /// Notes how a step went, and says it where that is news.
    fn note(&self, step: &Step, result: Result<(), String>) {
        let subject = subject(step);
        let mut troubles = self.troubles.borrow_mut();
        let Err(text) = result else {
            troubles.remove(subject);
            return;
        };
        let (failures, is_news) = match troubles.get(subject) {
            Some(trouble) => (trouble.failures.saturating_add(1), trouble.text != text),
            None => (1, true),
        };
        if is_news {
            self.tell(Level::Warn, subject, "waits", &text);
        }
        self.shared.failures.set(self.shared.failures.get() + 1);
        let next_try = Instant::now() + self.shared.clock.patience(failures);
        troubles.insert(subject.to_owned(), Trouble { text, failures, next_try });
    }

    fn tell(&self, level: Level, selector: &str, what: &'static str, text: &str) {
        self.shared.log.record(Event::Key {
            level,
            domain: self.settings.borrow().domain.as_str().into(),
            selector: selector.into(),
            what,
            text: text.into(),
        });
    }

    fn write_zone(&self) {
        let zone = self.settings.borrow().record_domain().to_owned();
        self.shared.write_zone(&zone);
    }

    /// The records that should be published, with their names and texts.
    pub(super) fn records(&self) -> Vec<(String, String)> {
        let settings = self.settings.borrow();
        let content = self.content.borrow();
        let is_wanted = |key: &&Key| {
            // Before the first look nobody knows for how long others keep that there is nothing.
            !matches!(key.stage(), Stage::Generated { is_looked: false, .. })
        };
        let record = |key: &Key| {
            let text = content.line.expected(key.selector());
            let text = text.unwrap_or_else(|| postern_signer::dns::revoked_text());
            (settings.owner_of(key.selector()), text.to_owned())
        };
        content.line.keys().iter().filter(is_wanted).map(record).collect()
    }

    /// What an operator sees.
    pub(super) fn list(&self) -> KeyList {
        let settings = self.settings();
        let content = self.content.borrow();
        let now_s = self.shared.clock.now_s();
        let line = &content.line;
        let of_key = |key: &Key| {
            let trouble = self.troubles.borrow();
            let trouble = trouble.get(key.selector().as_str());
            let waits = line.waits_for(key, &settings.plan, now_s);
            ListedKey {
                selector: key.selector().to_string(),
                stage: key.stage().as_str().to_owned(),
                age_s: now_s.saturating_sub(key.made_s()),
                in_stage_s: now_s.saturating_sub(key.since_s()),
                next: key.stage().next().map(str::to_owned),
                waits_for: waits.map(|waits| waits.to_string()),
                trouble: trouble.map(|trouble| trouble.text.clone()),
                failures: trouble.map_or(0, |trouble| trouble.failures),
                record_name: settings.owner_of(key.selector()),
                record_text: line.expected(key.selector()).map(str::to_owned),
            }
        };
        KeyList {
            domain: settings.domain.clone(),
            selector_prefix: settings.managed.selector_prefix.to_string(),
            algorithm: settings.managed.algorithm.as_str().to_owned(),
            apps: settings.apps.clone(),
            due_in_s: line.due_s(&settings.plan).map(|due_s| due_s.saturating_sub(now_s)),
            trouble: self.troubles.borrow().get("").map(|trouble| trouble.text.clone()),
            keys: line.keys().iter().map(of_key).collect(),
        }
    }
}

/// The selector and key that sign, in what was stored.
pub(super) fn active_in(content: &Content) -> Option<(Selector, Arc<SigningKey>)> {
    let selector = content.line.active()?.selector();
    Some((selector.clone(), Arc::new(content.private.get(selector)?.clone())))
}

/// What a trouble with a step is noted under.
fn subject(step: &Step) -> &str {
    match step {
        Step::Make(_) => "",
        Step::Publish(selector)
        | Step::Look(selector)
        | Step::Switch(selector)
        | Step::Withdraw(selector)
        | Step::Destroy(selector) => selector.as_str(),
    }
}

/// A new key, and its random share of the jitter in thousandths.
fn generate(algorithm: Algorithm) -> Result<(SigningKey, u16), String> {
    let failed = |error: &dyn std::fmt::Display| format!("no key could be made: {error}");
    let mut random = OsRandom::new();
    let key = match algorithm {
        Algorithm::RsaSha256 => {
            RsaPrivateKey::generate(KEY_BITS, &mut random).map_err(|error| failed(&error))?.into()
        }
        Algorithm::Ed25519Sha256 => {
            Ed25519PrivateKey::generate().map_err(|error| failed(&error))?.into()
        }
    };
    let spread = random.try_next_u32().map_err(|error| failed(&error))? % 1_001;
    Ok((key, u16::try_from(spread).unwrap_or(0)))
}

/// What every verifier takes, and what fits a DNS answer without fragments.
const KEY_BITS: usize = 2_048;
/// Steps that may follow from each other before others have a turn.
const ROUNDS_MAX: usize = 4;
/// How often counted time is stored: what a crash makes a wait longer by.
const SAVE_EVERY: Duration = Duration::from_secs(600);

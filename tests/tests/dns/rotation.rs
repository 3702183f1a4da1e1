//! Keys change while mail flows, and whoever receives it can verify every message.
//!
//! Every message is judged when it arrives, by a verifier that asks unbound for the key, as a
//! receiver would; and once more before its key is withdrawn.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use postern::control::dns::{Change, Done, Look, LookOptions, Looker, Sighting, Updater};
use postern_signer::dns::{Expected, revoked_text};
use postern_tests::dns::{self, Named, Unbound};
use postern_tests::ledger::{Ledger, Load, wait_until};
use postern_tests::message::{Seed, seed};
use postern_tests::relay::{DOMAIN, Relay, Setup, set};
use postern_tests::sink::Sink;
use postern_tests::tool::say;
use postern_tests::verifier::{Verdict, Verifier};
use rustix::process::Signal;

use crate::judge::{Judged, Over, judge, patiently};
use crate::{updater, wait};

/// Time to live of the records.
const TTL_S: u32 = 1;

/// A key by hand: made with `postern keys new`, published by dynamic update.
struct Key {
    selector: String,
    file: String,
    text: String,
}

impl Key {
    fn make(relay: &Relay, selector: &str) -> Self {
        let file = relay.home().join(format!("{selector}.pem")).display().to_string();
        let new = ["keys", "new", DOMAIN, selector, "--out", &file, "--json"];
        let ran = relay.command(&new).expect_success();
        let made: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        let text = made["record_text"].as_str().expect("the record's text").to_owned();
        Self { selector: selector.to_owned(), file, text }
    }

    fn name(&self) -> String {
        format!("{}._domainkey.{DOMAIN}", self.selector)
    }
}

/// What an operator does by hand, with the servers at hand.
struct Operator<'a> {
    named: &'a Named,
    looker: Looker,
    updater: Updater,
    relay: Relay,
    judged: &'a Mutex<Judged>,
}

impl Operator<'_> {
    fn look(&self, key: &Key, text: &str) -> Look {
        let expected = Expected::new(text).expect("is a record");
        wait(self.looker.look(&key.name(), &expected))
    }

    fn publish(&self, key: &Key) {
        let add = Change::Add { text: &key.text };
        assert_eq!(wait(self.updater.update(&key.name(), TTL_S, add)), Ok(Done::Changed));
        assert!(wait_until(30, || self.look(key, &key.text).is_seen_everywhere()));
    }

    /// The relay signs with this key from now on, and is killed outright in between, now and then.
    fn switch_to(&mut self, key: &Key, seed: &mut Seed) {
        self.relay.reconfigure(|table| {
            set(table, "dkim.0.selector", key.selector.as_str().into());
            set(table, "dkim.0.key_file", key.file.as_str().into());
        });
        if seed.below(2) == 0 {
            self.relay.kill();
            std::thread::sleep(Duration::from_millis(seed.below(300)));
            self.relay.start();
        } else {
            self.relay.signal(Signal::HUP);
        }
        assert!(wait_until(30, || self.arrived_with(key) > 5), "{}", self.relay.log_end());
    }

    fn arrived_with(&self, key: &Key) -> usize {
        let judged = self.judged.lock().expect("nobody panics with it");
        judged.with(&key.selector).count()
    }

    fn withdraw(&self, key: &Key) {
        let change = Change::Replace { known: &key.text, text: revoked_text() };
        let done = wait(self.updater.update(&key.name(), TTL_S, change));
        assert_eq!(done, Ok(Done::Changed));
        assert!(wait_until(30, || self.look(key, revoked_text()).is_seen_everywhere()));
    }

    /// For a while the authoritative server says nothing: a look says so, and mail goes on.
    fn outage(&self, key: &Key) {
        self.named.pause();
        let before = self.arrived_with(key);
        let look = self.look(key, &key.text);
        self.named.resume();
        let authoritative = &look.sightings[0].sighting;
        assert_eq!(*authoritative, Sighting::Timeout);
        assert!(look.obstacles().any(|why| why.contains("said nothing in time")));
        assert!(wait_until(30, || self.arrived_with(key) > before + 5));
    }
}

#[test]
fn no_message_is_unsigned_or_unverifiable_while_keys_are_changed_by_hand() {
    if !dns::have() {
        return;
    }
    let mut seed = seed("rotation by hand");
    let named = Named::start("", "");
    let unbound = Unbound::resolver(named.addr);
    let verifier = Verifier::new(unbound.addr);
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).trusting_loopback().prepare();
    let mut key = Key::make(&relay, "k0");
    relay.reconfigure(|table| {
        let mut dkim = toml::Table::new();
        for (name, value) in [("domain", DOMAIN), ("selector", "k0"), ("key_file", &key.file)] {
            dkim.insert(name.to_owned(), value.into());
        }
        table.insert("dkim".to_owned(), vec![toml::Value::Table(dkim)].into());
    });
    let (judged, is_over) = (Mutex::default(), AtomicBool::new(false));
    let looker = Looker::new(LookOptions {
        resolvers: vec![unbound.addr],
        authoritative: vec![named.addr],
        timeout: Duration::from_secs(1),
        attempts: 2,
    });
    let updater = updater(&named);
    let mut operator = Operator { named: &named, looker, updater, relay, judged: &judged };
    operator.publish(&key);
    operator.relay.start();
    let ledger = Ledger::default();
    let load = Load::start(operator.relay.addr, &ledger, 2, Duration::from_millis(50));
    std::thread::scope(|scope| {
        // A runtime belongs to one thread at a time, so the judge has a verifier of its own.
        scope.spawn(|| judge(&sink, &Verifier::new(unbound.addr), &judged, &is_over));
        let over = Over(&is_over);
        for round in 1..=rotations() {
            let next = Key::make(&operator.relay, &format!("k{round}"));
            operator.publish(&next);
            operator.outage(&key);
            operator.switch_to(&next, &mut seed);
            let withdrawn = std::mem::replace(&mut key, next);
            // Draining: what was signed with the old key has arrived; it verifies a last time.
            std::thread::sleep(Duration::from_secs(1));
            let old = with_selector(&judged, &withdrawn.selector);
            assert!(old.iter().all(|content| is_good(&verifier, content)));
            operator.withdraw(&withdrawn);
            let last = verifier.verify(old.last().expect("some arrived"));
            assert!(matches!(&last, Verdict::Bad(why) if why.contains("revoked")), "{last:?}");
        }
        load.stop();
        assert!(sink.wait_until(60, |all| ledger.is_settled(all)), "{}", operator.relay.log_end());
        drop(over);
    });
    ledger.audit(&sink.messages()).expect_sound();
    let judged = judged.into_inner().expect("nobody panicked");
    say(&format!(
        "{} keys changed by hand, {} messages verified on arrival",
        rotations(),
        judged.good.len()
    ));
    assert!(judged.faults.is_empty(), "{:#?}", judged.faults);
    sink.stop();
}

fn with_selector(judged: &Mutex<Judged>, selector: &str) -> Vec<Vec<u8>> {
    let judged = judged.lock().expect("nobody panics with it");
    judged.with(selector).map(<[u8]>::to_vec).collect()
}

fn is_good(verifier: &Verifier, content: &[u8]) -> bool {
    matches!(patiently(verifier, content), Verdict::Good(_))
}

/// How many keys are changed: `POSTERN_ROTATIONS`, else few enough for everyday.
fn rotations() -> u64 {
    let given = std::env::var("POSTERN_ROTATIONS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(2)
}

//! The relay looks after its keys by itself: six months and more on a compressed clock, against BIND and
//! unbound, with mail of two applications flowing, the relay killed, BIND silent, a second writer and
//! an emergency. Whoever receives the mail can verify every message.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use postern::control::dns::{Change, Done, LookOptions, Looker};
use postern_signer::dns::{Expected, revoked_text};
use postern_tests::dns::{self, BROKEN_ZONE, KEY, Named, OTHER_ZONE, Unbound};
use postern_tests::ledger::{Ledger, Load, wait_until};
use postern_tests::message::{Seed, seed};
use postern_tests::relay::{DOMAIN, Relay, Setup};
use postern_tests::sink::Sink;
use postern_tests::tool::say;
use postern_tests::verifier::Verifier;
use rustix::process::Signal;
use serde_json::Value;

use crate::judge::{Judged, Over, judge};
use crate::{record, updater, wait};

/// How many times faster than life: 182 days in 45 seconds, 30 days in seven.
const RATE: i64 = 350_000;
/// The prefixes of the three lines: the domain's RSA and Ed25519 keys, one application's own.
const LINES: [&str; 3] = ["alerts", "postern", "postern-ed"];
/// Of the application with keys of its own; known by its address.
const ALERTS: [u8; 4] = [127, 0, 0, 2];

fn setup(sink: &Sink, named: &Named, unbound: &Unbound) -> Relay {
    let relay = Setup::new(sink.addr())
        .trusting_loopback()
        .retrying_soon()
        .app("alerts", "a-password", DOMAIN)
        .prepare();
    let seal = relay.home().join("keys.seal");
    std::fs::write(&seal, [7; 32]).expect("an own folder");
    let config = format!(
        r#"
        [keys]
        directory = "{directory}"
        key_file = "{seal}"
        drain_for = "30d"
        emergency_drain_for = "30d"
        standby_for = "2s"
        look_every = "2s"
        ttl = "1s"
        publish = "update"
        zone_directory = "{zones}"
        resolvers = ["{unbound}"]
        authoritative = ["{named}"]
        rehearsal_rate = {RATE}
        update = {{ server = "{named}", tsig_name = "{KEY}", tsig_secret_file = "{secret}" }}
        [[dkim]]
        domain = "{DOMAIN}"
        managed = true
        [[dkim]]
        domain = "{DOMAIN}"
        managed = true
        algorithm = "ed25519"
        [[dkim]]
        domain = "{DOMAIN}"
        managed = true
        apps = ["alerts"]
        selector_prefix = "alerts"
        record_domain = "{OTHER_ZONE}"
        "#,
        directory = relay.folder().join("keys").display(),
        zones = relay.home().join("zones").display(),
        seal = seal.display(),
        secret = named.secret_file().display(),
        unbound = unbound.addr,
        named = named.addr,
    );
    relay.reconfigure(|table| {
        table.remove("dkim");
        table.extend(config.parse::<toml::Table>().expect("TOML"));
        let apps = table["app"].as_array_mut().expect("a list");
        let alerts = apps.iter_mut().find(|app| app["id"].as_str() == Some("alerts"));
        let alerts = alerts.and_then(toml::Value::as_table_mut).expect("a table");
        alerts.insert("networks".to_owned(), vec![toml::Value::from("127.0.0.2/32")].into());
    });
    relay
}

/// With `publish = "manual"` the relay waits for what somebody else publishes, and goes on when it sees
/// that; an entry with a key file signs until then.
#[test]
fn records_published_by_hand_are_waited_for_and_the_file_signs_until_then() {
    if !dns::have() {
        return;
    }
    let named = Named::start("", "");
    let unbound = Unbound::resolver(named.addr);
    let sink = Sink::start();
    let mut relay = setup(&sink, &named, &unbound);
    let file = relay.home().join("by-hand.pem").display().to_string();
    let new = ["keys", "new", DOMAIN, "by-hand", "--out", &file, "--json"];
    let made: Value =
        serde_json::from_str(&relay.command(&new).expect_success().out).expect("JSON");
    let publish = |name: &str, text: &str| {
        let done = wait(updater(&named).update(name, 1, Change::Add { text }));
        assert_eq!(done, Ok(Done::Changed), "{name}");
    };
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    publish(&text(&made["record_name"]), &text(&made["record_text"]));
    relay.reconfigure(|table| {
        let keys = table["keys"].as_table_mut().expect("a table");
        keys.insert("publish".to_owned(), "manual".into());
        keys.remove("update");
        let by_hand =
            format!("domain = \"{DOMAIN}\"\nselector = \"by-hand\"\nkey_file = \"{file}\"");
        let by_hand: toml::Table = by_hand.parse().expect("TOML");
        let managed = table["dkim"][0].clone();
        let broken = format!("domain = \"{BROKEN_ZONE}\"\nmanaged = true");
        let broken: toml::Table = broken.parse().expect("TOML");
        table.insert("dkim".to_owned(), vec![by_hand.into(), managed, broken.into()].into());
    });
    relay.start();
    let verifier = Verifier::new(unbound.addr);
    let selector_of_next = || {
        let arrived = sink.count();
        relay.connect().submit(&Ledger::mail(1)).expect(250);
        let content = sink.wait_for(arrived + 1, 30).remove(arrived).content;
        let signed = verifier.verify_each(&content);
        assert!(signed.iter().all(|(_, is_good)| *is_good), "{signed:?}");
        signed.into_iter().map(|(selector, _)| selector).collect::<Vec<_>>()
    };
    let records = || -> Value {
        let ran = relay.command(&["keys", "list", "--json"]).expect_success();
        serde_json::from_str(&ran.out).expect("JSON")
    };
    // Lines are in the order of their names: the broken zone's, and ours.
    let key = |pointer: &str| records().pointer(pointer).cloned().unwrap_or_default();
    let waits_for = |line: &str, what: &str| {
        let trouble = format!("{line}/keys/0/trouble");
        let is_told = || key(&trouble).as_str().is_some_and(|why| why.contains(what));
        assert!(wait_until(30, is_told), "{what}: {:#?}\n{}", records(), relay.log_end());
    };
    waits_for("/0", "SERVFAIL");
    waits_for("/1", "Publish the record");
    assert_eq!(selector_of_next(), ["by-hand"]);
    let (name, right) = (text(&key("/1/keys/0/record_name")), text(&key("/1/keys/0/record_text")));
    let damaged = right.replacen("p=MIIB", "p=MIIB ", 1).replace("; k=", ";\" \"k=");
    let other = record(2_048, 'Q');
    publish(&name, &other);
    waits_for("/1", "Somebody else uses this selector");
    let change = |known: &str, text: &str| {
        let done = wait(updater(&named).update(&name, 1, Change::Replace { known, text }));
        assert_eq!(done, Ok(Done::Changed));
    };
    change(&other, &damaged);
    waits_for("/1", "without quotes");
    assert_eq!(selector_of_next(), ["by-hand"], "mail goes on being signed");
    change(&damaged, &right);
    assert!(wait_until(60, || key("/1/keys/0/stage") == "active"), "{:#?}", records());
    assert!(wait_until(30, || selector_of_next() == ["postern1"]));
    let check = relay.command(&["keys", "check", "--json"]);
    let looks: Value = serde_json::from_str(&check.out).expect("JSON");
    let seen: Vec<_> = looks.as_array().expect("a list").iter().collect();
    let is_seen = |look: &&Value| look["is_seen_everywhere"] == true;
    assert_eq!(seen.iter().filter(|look| is_seen(look)).count(), 2, "{looks:#}");
    assert!(check.out.contains("servfail"), "{}", check.out);
    assert!(relay.terminate().success());
    sink.stop();
}

/// The servers, the relay, and what has arrived.
struct Stage<'a> {
    relay: Relay,
    named: &'a Named,
    looker: Looker,
    judged: &'a Mutex<Judged>,
    seed: Seed,
}

impl Stage<'_> {
    /// `postern keys list --json`.
    fn lines(&self) -> Vec<Value> {
        let ran = self.relay.command(&["keys", "list", "--json"]).expect_success();
        serde_json::from_str(&ran.out).expect("JSON")
    }

    /// The selectors of a line whose keys are at a stage.
    fn at(&self, prefix: &str, stage: &str) -> Vec<String> {
        let lines = self.lines();
        let line = lines.iter().find(|line| line["selector_prefix"] == prefix);
        let keys = line.and_then(|line| line["keys"].as_array()).expect("a line");
        let keys = keys.iter().filter(|key| key["stage"] == stage);
        keys.map(|key| key["selector"].as_str().expect("a text").to_owned()).collect()
    }

    fn has_all(&self, stage: &str, count: usize) -> bool {
        LINES.iter().all(|prefix| self.at(prefix, stage).len() >= count)
    }

    fn arrived_with(&self, selector: &str) -> usize {
        self.judged.lock().expect("nobody panics with it").with(selector).count()
    }

    #[track_caller]
    fn wait_for(&self, seconds: u64, what: &str, is_so: impl Fn(&Self) -> bool) {
        let became_so = wait_until(seconds, || {
            std::thread::sleep(Duration::from_millis(100));
            is_so(self)
        });
        assert!(became_so, "not {what}: {:#?}\n{}", self.lines(), self.relay.log_end());
    }

    /// Something goes wrong, as it does.
    fn disturb(&mut self) {
        match self.seed.below(4) {
            0 => {
                self.relay.kill();
                std::thread::sleep(Duration::from_millis(self.seed.below(300)));
                self.relay.start();
            }
            1 => self.relay.signal(Signal::HUP),
            2 => {
                self.named.pause();
                std::thread::sleep(Duration::from_millis(500 + self.seed.below(1_500)));
                self.named.resume();
            }
            _ => {
                let rotate = ["keys", "rotate", DOMAIN, "--selector-prefix", "alerts"];
                self.relay.command(&rotate).expect_success();
            }
        }
    }

    /// The text of the record at a key's name, where the servers agree on it.
    fn is_revoked(&self, selector: &str) -> bool {
        let expected = Expected::new(revoked_text()).expect("is a record");
        let name = format!("{selector}._domainkey.{DOMAIN}");
        wait(self.looker.look(&name, &expected)).is_seen_everywhere()
    }

    /// The next RSA key's name is somebody else's already: the relay says so and waits, mail goes on,
    /// and the operator has it take the next name.
    fn second_writer(&self, taken: &str) {
        self.wait_for(30, "told of a second writer", |stage| {
            let list = stage.relay.command(&["keys", "list", DOMAIN]).expect_success().out;
            list.contains(&format!("{taken} ")) && list.contains("somebody else wrote to this name")
        });
        let refused = self.relay.command(&[
            "keys",
            "emergency",
            DOMAIN,
            "--selector-prefix",
            "postern",
            "--reason",
            "there is no standby key",
        ]);
        assert!(refused.err.contains("1 of 1 could not do it"), "{refused:?}");
        self.relay.command(&["keys", "abandon", DOMAIN, taken]).expect_success();
    }

    /// The standby key signs at once, with the authoritative server silent.
    fn emergency(&self) {
        self.wait_for(60, "on standby", |stage| !stage.at("postern", "standby").is_empty());
        let next = self.at("postern", "standby").remove(0);
        self.named.pause();
        let order = ["keys", "emergency", DOMAIN, "--selector-prefix", "postern"];
        let order: Vec<_> = order.into_iter().chain(["--reason", "a test", "--json"]).collect();
        let done: Value =
            serde_json::from_str(&self.relay.command(&order).expect_success().out).expect("JSON");
        self.named.resume();
        say(&format!("the emergency was in effect after {} us", done["effect_us"]));
        self.wait_for(30, "signed with the standby key", |stage| stage.arrived_with(&next) > 3);
    }
}

#[test]
fn keys_rotate_themselves_and_no_message_is_unsigned_or_unverifiable() {
    if !dns::have() {
        return;
    }
    let began = Instant::now();
    let delegated: String = (1..=6)
        .map(|n| format!("alerts{n}._domainkey IN CNAME alerts{n}._domainkey.{OTHER_ZONE}.\n"))
        .collect();
    let named = Named::start(&delegated, "");
    let unbound = Unbound::resolver(named.addr);
    let sink = Sink::start();
    let relay = setup(&sink, &named, &unbound);
    let looker = Looker::new(LookOptions {
        resolvers: vec![unbound.addr],
        authoritative: vec![named.addr],
        timeout: Duration::from_secs(1),
        attempts: 2,
    });
    let (judged, is_over) = (Mutex::default(), AtomicBool::new(false));
    let seed = seed("keys that rotate themselves");
    let mut stage = Stage { relay, named: &named, looker, judged: &judged, seed };
    let foreign = Change::Add { text: &record(2_048, 'Z') };
    let taken = format!("postern3._domainkey.{DOMAIN}");
    assert_eq!(wait(updater(&named).update(&taken, 1, foreign)), Ok(Done::Changed));
    // From the first moment on: what comes before there is a key waits for it.
    stage.relay.start();
    let (addr, ledger) = (stage.relay.addr, Ledger::default());
    let billing = Load::start(addr, &ledger, 1, Duration::from_millis(60));
    let alerts = Load::start_from(ALERTS.into(), addr, &ledger, 1, Duration::from_millis(60));
    let mut withdrawn = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| judge(&sink, &Verifier::new(unbound.addr), &judged, &is_over));
        let over = Over(&is_over);
        stage.wait_for(60, "signing", |stage| stage.has_all("active", 1));
        stage.emergency();
        stage.second_writer("postern3");
        for cycle in 1..=cycles() {
            let wanted = if cycle == 1 { 1 } else { cycle + 1 };
            let deadline = Instant::now() + Duration::from_secs(240);
            while !stage.has_all("destroyed", wanted) {
                stage.disturb();
                std::thread::sleep(Duration::from_secs(2));
                assert!(Instant::now() < deadline, "{:#?}", stage.lines());
            }
        }
        stage.wait_for(60, "ready for the next", |stage| {
            stage.has_all("active", 1) && stage.has_all("standby", 1)
        });
        for prefix in LINES {
            let destroyed = stage.at(prefix, "destroyed").into_iter();
            withdrawn.extend(destroyed.filter(|selector| selector != "postern3"));
        }
        for selector in &withdrawn {
            assert!(stage.is_revoked(selector), "{selector}");
        }
        billing.stop();
        alerts.stop();
        let log = stage.relay.log_end();
        assert!(sink.wait_until(60, |all| ledger.is_settled(all)), "{log}");
        drop(over);
    });
    check(&stage, &ledger, &sink, withdrawn.len(), began.elapsed());
    sink.stop();
}

fn check(stage: &Stage<'_>, ledger: &Ledger, sink: &Sink, withdrawn: usize, took: Duration) {
    ledger.audit(&sink.messages()).expect_sound();
    let judged = stage.judged.lock().expect("nobody panicked");
    assert!(judged.faults.is_empty(), "{:#?}", judged.faults);
    for (selectors, _) in &judged.good {
        let [rsa, ed25519] = &**selectors else { panic!("signed with {selectors:?}") };
        assert!(rsa.starts_with("postern") || rsa.starts_with("alerts"), "{selectors:?}");
        assert!(ed25519.starts_with("postern-ed"), "{selectors:?}");
    }
    let zones = stage.relay.home().join("zones");
    for (zone, selector) in [(DOMAIN, "postern1"), (OTHER_ZONE, "alerts1")] {
        let text = std::fs::read_to_string(zones.join(format!("{zone}.zone"))).expect("is written");
        assert!(text.contains(&format!("{selector}._domainkey.{zone}. 1 IN TXT")), "{text}");
    }
    say(&format!(
        "{withdrawn} keys withdrawn, {} messages verified on arrival, {} s of {} days",
        judged.good.len(),
        took.as_secs(),
        took.as_secs() * RATE.unsigned_abs() / 86_400
    ));
}

/// How many rotations each line goes through at least: half of `POSTERN_ROTATIONS`, else one.
fn cycles() -> usize {
    let given = std::env::var("POSTERN_ROTATIONS").ok().and_then(|text| text.parse().ok());
    given.map_or(1, |rotations: usize| (rotations / 2).max(1))
}

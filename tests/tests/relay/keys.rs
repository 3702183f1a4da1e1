//! Managed signing keys without any DNS: what the relay keeps, refuses and says.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use postern_tests::ledger::wait_until;
use postern_tests::message::Mail;
use postern_tests::relay::{DOMAIN, RECIPIENT, Relay, SENDER, Setup, set};
use postern_tests::sink::Sink;
use serde_json::Value;

/// A relay with managed keys for its domain; no server answers about their records.
fn managed(sink: &Sink) -> Relay {
    let relay = Setup::new(sink.addr()).trusting_loopback().retrying_soon().prepare();
    std::fs::write(relay.home().join("keys.seal"), [7; 32]).expect("an own folder");
    let config = format!(
        r#"
        [[dkim]]
        domain = "{DOMAIN}"
        managed = true
        [keys]
        directory = "{}"
        key_file = "{}"
        resolvers = ["127.0.0.1:1"]
        authoritative = ["127.0.0.1:1"]
        rehearsal_rate = 1000
        "#,
        relay.folder().join("keys").display(),
        relay.home().join("keys.seal").display(),
    );
    relay.reconfigure(|table| {
        table.remove("dkim");
        table.extend(config.parse::<toml::Table>().expect("TOML"));
    });
    relay
}

fn first_key(relay: &Relay) -> Option<Value> {
    let list = relay.command(&["keys", "list", DOMAIN, "--json"]).expect_success().out;
    let lines: Value = serde_json::from_str(&list).expect("JSON");
    lines.pointer("/0/keys/0").cloned()
}

fn has_reason(relay: &Relay) -> bool {
    let key = first_key(relay);
    key.and_then(|key| Some(key["trouble"].as_str()?.contains("cannot be reached"))) == Some(true)
}

#[test]
fn without_dns_mail_waits_for_its_first_key_and_the_operator_is_told() {
    let sink = Sink::start();
    let mut relay = managed(&sink);
    relay.start();
    relay.connect().submit(&Mail::with_body(SENDER, RECIPIENT, b"an invoice\r\n")).expect(250);
    assert!(wait_until(30, || has_reason(&relay)), "{:#?}\n{}", first_key(&relay), relay.log_end());
    let key = first_key(&relay).expect("was made");
    assert_eq!((&key["selector"], &key["stage"]), (&"postern1".into(), &"generated".into()));
    let text = relay.command(&["keys", "list"]).expect_success().out;
    assert!(text.contains("nothing signs yet") && text.contains("not published yet"), "{text}");
    let status = relay.command(&["status"]).expect_success().out;
    assert!(
        status.contains("none signs, standby none") && status.contains("postern1 waits"),
        "{status}"
    );
    let (managed, without) = ("keys_managed", "keys_without_active");
    assert_eq!((relay.counter(managed), relay.counter(without)), (1.0, 1.0));
    let waits = || {
        let queue = relay.queue();
        queue.iter().any(|one| one.last.contains("no key"))
    };
    assert!(wait_until(30, waits), "{:?}", relay.queue());
    assert_eq!(sink.count(), 0, "nothing leaves unsigned");

    // By hand: the record to publish, where verifiers look for it.
    let export = relay.command(&["keys", "export"]).expect_success().out;
    assert!(export.starts_with(&format!("postern1._domainkey.{DOMAIN}. 3600 IN TXT")), "{export}");
    let refused = relay.command(&["keys", "emergency", DOMAIN, "--reason", "a test"]);
    assert!(refused.out.contains("no standby key is ready to sign"), "{refused:?}");
    let refused = relay.command(&["keys", "rotate", "two.example"]);
    assert!(refused.err.contains("looks after no such keys"), "{refused:?}");
    let abandoned = relay.command(&["keys", "abandon", DOMAIN, "postern1"]).expect_success().out;
    assert!(abandoned.contains("gives up postern1"), "{abandoned}");
    let has_next = || relay.command(&["keys", "list"]).expect_success().out.contains("postern2");
    assert!(wait_until(30, has_next));
    assert!(relay.terminate().success());
    sink.stop();
}

#[test]
fn keys_outlive_the_relay_sealed_and_belong_to_one() {
    let sink = Sink::start();
    let mut relay = managed(&sink);
    relay.start();
    assert!(wait_until(30, || first_key(&relay).is_some()));
    let record = first_key(&relay).expect("was made")["record_text"].clone();
    let file = relay.folder().join("keys").join(format!("postern@{DOMAIN}.keys"));
    let sealed = std::fs::read(&file).expect("is there");
    assert_eq!(std::fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
    assert!(!sealed.windows(7).any(|window| window == b"PRIVATE"));

    let other = managed(&sink);
    let directory = relay.folder().join("keys").display().to_string();
    other.reconfigure(|table| set(table, "keys.directory", directory.as_str().into()));
    let refused = other.command(&["run"]);
    assert!(refused.err.contains("another relay looks after those"), "{refused:?}");

    relay.kill();
    std::thread::sleep(Duration::from_millis(100));
    relay.start();
    assert_eq!(first_key(&relay).expect("is kept")["record_text"], record);
    assert!(relay.terminate().success());

    // Another sealing key, and a damaged file: nothing starts, nothing is overwritten.
    let seal = relay.home().join("keys.seal");
    std::fs::write(&seal, [8; 32]).expect("an own folder");
    let refused = relay.command(&["run"]);
    assert!(refused.err.contains("sealed with another key file"), "{refused:?}");
    std::fs::write(&seal, [7; 32]).expect("an own folder");
    std::fs::write(&file, &sealed[..sealed.len() / 2]).expect("is ours");
    let refused = relay.command(&["run"]);
    assert!(refused.err.contains(&format!("postern@{DOMAIN}.keys")), "{refused:?}");
    std::fs::write(&file, &sealed).expect("is ours");
    relay.start();
    assert_eq!(first_key(&relay).expect("is kept")["record_text"], record);
    assert!(relay.terminate().success());
    sink.stop();
}

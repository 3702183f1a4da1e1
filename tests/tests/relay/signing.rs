//! Signatures, wherever they are made: inline, beside the shards, or on a core of their own.

use std::fs;

use postern_tests::message::Mail;
use postern_tests::relay::{DOMAIN, RECIPIENT, Relay, SENDER, Setup};
use postern_tests::sink::Sink;
use postern_tests::source;
use rustix::process::Signal;
use tempfile::TempDir;
use toml::Value;

const MAILS: usize = 60;

fn setup(sink: &Sink, home: &TempDir) -> Setup {
    let key = home.path().join("dkim.pem");
    fs::copy(source::root().join("signer/tests/keys/rsa2048.pkcs8.pem"), &key).expect("a key");
    Setup::new(sink.addr())
        .option("--dkim", &format!("{DOMAIN}:first:{}", key.display()))
        .set("route.0.sessions_max", 8)
}

/// Sends mail and sees every message arrive signed under one of these selectors.
#[track_caller]
fn check(relay: &Relay, sink: &Sink, selectors: &[&str]) {
    let before = sink.count();
    let mut client = relay.connect();
    for n in 0..MAILS {
        let body = format!("signed message {n}\r\n");
        client.submit(&Mail::with_body(SENDER, RECIPIENT, body.as_bytes())).expect(250);
    }
    for got in &sink.wait_for(before + MAILS, 60)[before..] {
        let text = String::from_utf8_lossy(&got.content);
        assert!(text.starts_with("DKIM-Signature:"), "not signed: {text}");
        let is_ours = selectors.iter().any(|selector| text.contains(&format!("s={selector};")));
        assert!(is_ours, "another selector than {selectors:?}: {text}");
    }
}

#[track_caller]
fn check_status(relay: &Relay, place: &str) {
    let status = relay.status();
    let signing = &status["shards"][0]["signing"];
    assert_eq!(signing["place"], place, "{signing:#}");
    assert_eq!((&signing["failed"], &signing["faults"]), (&0.into(), &0.into()), "{signing:#}");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    assert!(number(&signing["jobs"]) >= MAILS as u64, "{signing:#}");
    assert!(number(&signing["passes"]) > 0 && number(&signing["fill_percent"]) >= 100);
    assert!(number(&signing["waits"]["normal"]["p99_us"]) > 0, "{signing:#}");
    let told = relay.command(&["status"]).expect_success().out;
    assert!(told.contains(&format!("signing {place}:")), "{told}");
}

#[test]
fn ring_signs_beside_the_shards() {
    let (sink, home) = (Sink::start(), TempDir::new().expect("a folder"));
    let relay = setup(&sink, &home).set("signer.backend", "ring").start();
    check(&relay, &sink, &["first"]);
    check_status(&relay, "thread");
    assert!(relay.log().contains("signing with ring"), "{}", relay.log());
    sink.stop();
}

#[test]
fn a_core_set_aside_signs_and_its_relay_drains() {
    let (sink, home) = (Sink::start(), TempDir::new().expect("a folder"));
    let mut relay = setup(&sink, &home).set("signer.cores", vec![Value::from(0)]).start();
    check(&relay, &sink, &["first"]);
    check_status(&relay, "core 0");
    assert!(relay.terminate().success());
    sink.stop();
}

#[test]
fn a_reload_changes_the_key_under_way_and_nothing_leaves_unsigned() {
    let (sink, home) = (Sink::start(), TempDir::new().expect("a folder"));
    let relay = setup(&sink, &home).start();
    check(&relay, &sink, &["first"]);
    relay.reconfigure(|table| {
        postern_tests::relay::set(table, "dkim.0.selector", "second".into());
    });
    relay.signal(Signal::HUP);
    check(&relay, &sink, &["first", "second"]);
    relay.wait_until("the configuration is reloaded", 20, |relay| {
        relay.log().contains("certificates reloaded")
    });
    check(&relay, &sink, &["second"]);
    sink.stop();
}

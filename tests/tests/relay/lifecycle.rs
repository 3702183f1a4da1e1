//! Starting, reloading, draining, and refusing to start.

use std::time::{Duration, Instant};

use postern_tests::client::Client;
use postern_tests::ledger::{Ledger, Load, wait_until};
use postern_tests::message::Mail;
use postern_tests::relay::{RECIPIENT, SENDER, Setup};
use postern_tests::sink::{Act, Options, Phase, Sink};
use rustix::process::Signal;

#[test]
fn a_reload_adds_an_application_and_keeps_sessions() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let mut live = relay.connect();
    let other = Setup::new(sink.addr()).app("shop", "shop secret", "three.example").prepare();
    let text = std::fs::read_to_string(other.config()).expect("init wrote it");
    let other: toml::Table = text.parse().expect("TOML");
    relay.reconfigure(|table| {
        let app = other["app"][1].clone();
        table["app"].as_array_mut().expect("a list").push(app);
    });
    let mut early = Client::secured(relay.addr);
    early.auth_plain("shop", "shop secret").expect(535);
    relay.signal(Signal::HUP);
    let accepted = wait_until(10, || {
        Client::secured(relay.addr).auth_plain("shop", "shop secret").code == 235
    });
    assert!(accepted, "the new application is not known after SIGHUP");
    live.submit(&Mail::numbered(1, SENDER, RECIPIENT, 2_000)).expect(250);
    sink.wait_for(1, 10);
    sink.stop();
}

#[test]
fn a_reload_of_nonsense_changes_nothing() {
    let sink = Sink::start();
    let mut relay = Setup::new(sink.addr()).start();
    let good = std::fs::read_to_string(relay.config()).expect("init wrote it");
    std::fs::write(relay.config(), format!("{good}\nnonsense = [\n")).expect("writable");
    let checked = relay.command(&["check"]);
    assert!(!checked.success, "check accepts nonsense");
    relay.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(relay.is_running());
    std::fs::write(relay.config(), good).expect("writable");
    relay.accept(&Mail::numbered(1, SENDER, RECIPIENT, 2_000));
    sink.wait_for(1, 10);
    sink.stop();
}

#[test]
fn check_names_every_error_with_its_line() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).prepare();
    relay.command(&["check"]).expect_success();
    relay.reconfigure(|table| {
        postern_tests::relay::set(table, "app.0.lane", "urgnt".into());
        table.insert("nosuchkey".to_owned(), 1.into());
    });
    let checked = relay.command(&["check"]);
    let said = format!("{}{}", checked.out, checked.err);
    assert!(!checked.success);
    for word in ["urgnt", "urgent", "nosuchkey", "postern.toml:"] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}

#[test]
fn sigterm_drains_and_loses_nothing() {
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::End => Act::Stall(Duration::from_millis(5)),
        _ => Act::Proceed,
    }));
    let mut relay = Setup::new(sink.addr()).trusting_loopback().start();
    let ledger = Ledger::default();
    let load = Load::start(relay.addr, &ledger, 6, Duration::ZERO);
    assert!(wait_until(20, || ledger.acknowledged() > 50));
    let asked = Instant::now();
    let status = relay.terminate();
    let took = asked.elapsed();
    load.stop();
    assert!(status.success(), "SIGTERM ended it with {status}");
    postern_tests::tool::say(&format!("SIGTERM under load: drained in {} ms", took.as_millis()));
    relay.start();
    assert!(
        sink.wait_until(30, |all| ledger.is_settled(all)),
        "{}",
        ledger.audit(&sink.messages())
    );
    let audit = ledger.audit(&sink.messages());
    audit.expect_sound();
    assert_eq!(audit.duplicates, 0, "a drain settles what it delivered");
    sink.stop();
}

#[test]
fn an_idle_session_is_told_when_the_relay_stops() {
    let sink = Sink::start();
    let mut relay = Setup::new(sink.addr()).start();
    let mut idle = relay.connect();
    relay.signal(Signal::TERM);
    match idle.try_reply() {
        Ok(reply) => assert_eq!(reply.code, 421, "{reply}"),
        Err(why) => assert!(!matches!(why.kind(), std::io::ErrorKind::WouldBlock), "{why}"),
    }
    assert!(relay.wait_for_end().success());
}

#[test]
fn a_second_relay_on_the_same_spool_does_not_start() {
    let sink = Sink::start();
    let first = Setup::new(sink.addr()).start();
    let text = std::fs::read_to_string(first.config()).expect("init wrote it");
    let config = first.home().join("second.toml");
    let other = postern_tests::address::own().to_string();
    std::fs::write(&config, text.replace(&first.addr.ip().to_string(), &other)).expect("writable");
    let mut second = std::process::Command::new(postern_tests::binary::path());
    second.arg("run").arg("--config").arg(&config);
    let ran = postern_tests::tool::run(&mut second, b"", 20);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(!ran.success, "two relays on one spool");
    assert!(said.contains("spool") || said.contains("lock"), "{said}");
    first.accept(&Mail::numbered(1, SENDER, RECIPIENT, 2_000));
    sink.wait_for(1, 10);
}

#[test]
fn secrets_are_not_in_the_log_nor_in_the_environment() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let mut client = Client::secured(relay.addr);
    client.auth_plain(postern_tests::relay::APP, "guess-with-a-mark").expect(535);
    client.auth_plain(postern_tests::relay::APP, postern_tests::relay::PASSWORD).expect(235);
    let mail = Mail::with_body(SENDER, RECIPIENT, b"a-mark-in-the-body\r\n");
    client.submit(&mail).expect(250);
    sink.wait_for(1, 10);
    let environment = std::fs::read(format!("/proc/{}/environ", relay.id())).unwrap_or_default();
    let seen = format!("{}{}", relay.log(), String::from_utf8_lossy(&environment));
    for secret in [postern_tests::relay::PASSWORD, "guess-with-a-mark", "a-mark-in-the-body"] {
        assert!(!seen.contains(secret), "{secret:?} is in the log");
    }
    let config = std::fs::read_to_string(relay.config()).expect("init wrote it");
    assert!(
        !config.contains(postern_tests::relay::PASSWORD),
        "the password is in the configuration"
    );
}

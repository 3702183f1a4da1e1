//! Cutting one application off: at once, everywhere, undoably, and without losing its mail.

use std::time::{Duration, Instant};

use postern_tests::client::Client;
use postern_tests::message::{Mail, to_wire};
use postern_tests::relay::{APP, PASSWORD, RECIPIENT, Relay, SENDER, Setup};
use postern_tests::sink::{Act, Options, Phase, Sink};

fn with_two_apps(sink: &Sink) -> Relay {
    Setup::new(sink.addr()).app("shop", "shop secret", "three.example").retrying_soon().start()
}

#[track_caller]
fn cut(relay: &Relay) -> String {
    relay.command(&["cut", APP, "--reason", "a test"]).expect_success().out
}

#[track_caller]
fn expect_refused(relay: &Relay) {
    let mut client = Client::secured(relay.addr);
    let reply = client.auth_plain(APP, PASSWORD);
    assert!(matches!(reply.code, 421 | 535), "{reply}");
}

#[test]
fn live_sessions_end_and_others_go_on() {
    let sink = Sink::start();
    let relay = with_two_apps(&sink);
    let mut live: Vec<Client> = (0..5).map(|_| relay.connect()).collect();
    let mut in_data = relay.connect();
    in_data.begin(SENDER, &[RECIPIENT]);
    let mut other = Client::authenticated(relay.addr, "shop", "shop secret");
    let said = cut(&relay);
    let after = Instant::now();
    assert!(said.contains("ms") || said.contains("us") || said.contains("\u{b5}s"), "{said}");
    for client in &mut live {
        // The session may be ended before or with the next command.
        match client.try_command("NOOP") {
            Ok(reply) => assert!(matches!(reply.code, 421 | 535), "{reply}"),
            Err(why) => assert!(!matches!(why.kind(), std::io::ErrorKind::WouldBlock), "{why}"),
        }
    }
    let took = after.elapsed();
    assert!(took < Duration::from_secs(1), "sessions ended after {took:?}");
    in_data.try_send(&to_wire(&Mail::numbered(1, SENDER, RECIPIENT, 2_000).content)).ok();
    let reply = in_data.try_reply();
    assert!(!reply.is_ok_and(|reply| reply.is_positive()), "a message in transfer was accepted");
    expect_refused(&relay);
    other.submit(&Mail::numbered(2, "a@three.example", RECIPIENT, 2_000)).expect(250);
    sink.wait_for(1, 10);
    relay.command(&["restore", APP]).expect_success();
    relay.accept(&Mail::numbered(3, SENDER, RECIPIENT, 2_000));
    sink.wait_for(2, 10);
    assert_eq!(sink.stop().len(), 2);
}

#[test]
fn queued_mail_freezes_and_thaws() {
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::Mail if moment.before < 12 && moment.line.contains("one.example") => {
            Act::Answer("451 4.3.0 later".to_owned())
        }
        _ => Act::Proceed,
    }));
    let relay = with_two_apps(&sink);
    let mut client = relay.connect();
    for number in 0..3 {
        client.submit(&Mail::numbered(number, SENDER, RECIPIENT, 2_000)).expect(250);
    }
    cut(&relay);
    let queue = relay.queue();
    assert!(queue.len() == 3 && queue.iter().all(|one| one.state == "frozen"), "{queue:?}");
    let before = sink.commands().len();
    relay.command(&["queue", "retry", "--all"]);
    std::thread::sleep(Duration::from_millis(500));
    let after = sink.commands();
    let tried = after[before.min(after.len())..].iter().any(|line| line.contains("one.example"));
    assert!(!tried, "frozen mail was tried: {:?}", &after[before..]);
    relay.command(&["restore", APP]).expect_success();
    sink.wait_for(3, 60);
    sink.stop();
}

#[test]
fn a_cut_survives_a_restart_and_so_does_its_mail() {
    let sink = Sink::start();
    let mut relay = Setup::new(sink.addr()).argument("--hold").start();
    relay.accept(&Mail::numbered(1, SENDER, RECIPIENT, 2_000));
    cut(&relay);
    relay.kill();
    relay.reconfigure(unhold);
    relay.start();
    expect_refused(&relay);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sink.count(), 0, "frozen mail left after a restart");
    relay.command(&["restore", APP]).expect_success();
    sink.wait_for(1, 20);
    relay.kill();
    relay.start();
    relay.accept(&Mail::numbered(2, SENDER, RECIPIENT, 2_000));
    sink.wait_for(2, 20);
    sink.stop();
}

/// Undoes `init --hold`.
pub(crate) fn unhold(table: &mut toml::Table) {
    postern_tests::relay::set(table, "queue.hold", false.into());
}

#[test]
fn unknown_applications_cannot_be_cut() {
    let sink = Sink::start();
    let relay = with_two_apps(&sink);
    let ran = relay.command(&["cut", "nobody", "--reason", "a test"]);
    assert!(!ran.success && ran.err.contains("nobody"), "{ran:?}");
}

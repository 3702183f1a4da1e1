//! What the next hop says decides per recipient; nothing vanishes.

use std::time::Duration;

use postern_tests::client::Client;
use postern_tests::message::{Mail, added_fields, number_of};
use postern_tests::relay::{Queued, RECIPIENT, Relay, SENDER, Setup};
use postern_tests::sink::{Act, Options, Phase, Sink};

use crate::cutoff::unhold;

/// Retries come after a tenth of a second, so that a test sees them.
fn impatient(sink: &Sink) -> Setup {
    Setup::new(sink.addr()).retrying_soon()
}

/// Waits until something has failed for good, and returns it.
#[track_caller]
fn failure(relay: &Relay) -> Queued {
    relay.wait_until("a failure is listed", 15, |relay| {
        relay.queue().iter().any(|one| one.state == "failed")
    });
    let mut queue = relay.queue();
    queue.retain(|one| one.state == "failed");
    queue.remove(0)
}

#[test]
fn a_temporary_failure_is_tried_again() {
    for phase in [Phase::Connect, Phase::Mail, Phase::Rcpt, Phase::Data, Phase::End] {
        let sink = Sink::with(Options::script(move |moment| {
            if moment.phase == phase && moment.before < 2 {
                return Act::Answer("451 4.3.0 come back later".to_owned());
            }
            Act::Proceed
        }));
        let relay = impatient(&sink).start();
        let mail = Mail::numbered(1, SENDER, RECIPIENT, 3_000);
        relay.accept(&mail);
        assert!(
            sink.wait_until(30, |all| all.iter().any(|got| got.is_acknowledged)),
            "not delivered after a 451 at {phase:?}: {:?}",
            sink.commands()
        );
        for got in sink.messages() {
            added_fields(&mail.content, &got.content).expect("byte-exact at every attempt");
        }
        relay.expect_empty_queue();
        sink.stop();
    }
}

#[test]
fn a_permanent_failure_stays_visible_until_it_is_dropped() {
    for phase in [Phase::Mail, Phase::Rcpt, Phase::Data, Phase::End] {
        let sink = Sink::with(Options::script(move |moment| {
            if moment.phase == phase {
                return Act::Answer("550 5.1.1 No such customer".to_owned());
            }
            Act::Proceed
        }));
        let mut relay = impatient(&sink).start();
        relay.accept(&Mail::numbered(1, SENDER, RECIPIENT, 3_000));
        failure(&relay);
        relay.kill();
        relay.start();
        let failed = failure(&relay);
        assert_eq!(failed.recipients, 1, "{phase:?}: {failed:?}");
        let detail = relay.command(&["queue", "show", &failed.id]).expect_success().out;
        for word in ["550", "No such customer", "failed", RECIPIENT, SENDER] {
            assert!(detail.contains(word), "{phase:?}: no {word:?} in {detail}");
        }
        relay.command(&["queue", "drop", "--yes", "--id", &failed.id]).expect_success();
        relay.expect_empty_queue();
        relay.kill();
        relay.start();
        assert!(relay.queue().is_empty(), "dropped mail came back");
        drop(sink);
    }
}

#[test]
fn each_recipient_has_its_own_outcome() {
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::Rcpt if moment.line.contains("gone") => Act::Answer("550 5.1.1 gone".to_owned()),
        Phase::Rcpt if moment.line.contains("busy") && moment.before < 3 => {
            Act::Answer("450 4.2.0 busy".to_owned())
        }
        _ => Act::Proceed,
    }));
    let relay = impatient(&sink).start();
    let mut mail = Mail::numbered(1, SENDER, RECIPIENT, 3_000);
    mail.to = ["fine", "gone", "busy"].map(|name| format!("{name}@two.example")).to_vec();
    relay.accept(&mail);
    let got = sink.wait_for(2, 30);
    assert_eq!(got[0].to, ["fine@two.example"]);
    assert_eq!(got[1].to, ["busy@two.example"]);
    relay.wait_until("one failure is left", 10, |relay| relay.queue().len() == 1);
    let failed = failure(&relay);
    assert_eq!(failed.recipients, 1, "{failed:?}");
    sink.stop();
}

#[test]
fn a_failed_message_can_be_tried_again() {
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::Rcpt if moment.before == 0 => Act::Answer("550 5.1.1 not yet known".to_owned()),
        _ => Act::Proceed,
    }));
    let relay = impatient(&sink).start();
    relay.accept(&Mail::numbered(1, SENDER, RECIPIENT, 3_000));
    let id = failure(&relay).id;
    relay.command(&["queue", "retry", "--id", &id]).expect_success();
    sink.wait_for(1, 10);
    sink.stop();
}

#[test]
fn held_mail_is_kept_and_goes_when_the_hold_ends() {
    let sink = Sink::start();
    let mut relay = Setup::new(sink.addr()).argument("--hold").start();
    let mut client = relay.connect();
    for number in 0..20 {
        client.submit(&Mail::numbered(number, SENDER, RECIPIENT, 3_000)).expect(250);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(sink.sessions(), 0, "held mail was delivered");
    let queue = relay.queue();
    assert!(queue.len() == 20 && queue.iter().all(|one| one.state == "held"), "{queue:?}");
    relay.kill();
    relay.reconfigure(unhold);
    relay.start();
    let mut numbers: Vec<u64> =
        sink.wait_for(20, 20).iter().filter_map(|got| number_of(&got.content)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<u64>>());
    sink.stop();
}

#[test]
fn a_next_hop_that_is_down_loses_nothing() {
    let addr = postern_tests::address::own_port(2525);
    let relay = Setup::new(addr).retrying_soon().start();
    relay.accept(&Mail::numbered(1, SENDER, RECIPIENT, 3_000));
    relay.wait_until("an attempt was made", 10, |relay| {
        relay.queue().first().is_some_and(|one| one.state == "deferred" && !one.last.is_empty())
    });
    std::thread::sleep(Duration::from_millis(300));
    let sink = Sink::with(Options { addr, ..Options::default() });
    sink.wait_for(1, 30);
    sink.stop();
}

#[test]
fn an_urgent_message_overtakes_bulk() {
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::End => Act::Stall(Duration::from_millis(40)),
        _ => Act::Proceed,
    }));
    let relay = Setup::new(sink.addr())
        .app("login", "login secret", "three.example")
        .set("app.0.lane", "bulk")
        .set("app.1.lane", "urgent")
        .set("route.0.sessions_max", 2)
        .start();
    let mut bulk = relay.connect();
    for number in 0..200 {
        bulk.submit(&Mail::numbered(number, SENDER, RECIPIENT, 1_500)).expect(250);
    }
    let before = sink.count();
    let mut urgent = Client::authenticated(relay.addr, "login", "login secret");
    urgent.submit(&Mail::numbered(999, "a@three.example", RECIPIENT, 1_500)).expect(250);
    let is_code = |number: Option<u64>| number == Some(999);
    assert!(sink.wait_until(30, |all| all.iter().any(|got| is_code(number_of(&got.content)))));
    let all = sink.messages();
    let place = all.iter().position(|got| is_code(number_of(&got.content))).expect("it is there");
    postern_tests::tool::say(&format!(
        "200 bulk mails queued, {before} delivered: the urgent one came as number {place}"
    ));
    assert!(place <= before + 20, "the urgent message waited for bulk: {place}");
    sink.wait_for(201, 60);
    sink.stop();
}

//! Next hops that stall, reset, refuse, inject, or drop after the final dot: the message stays ours
//! until it was taken, and the relay stays healthy.

use std::time::Duration;

use postern_tests::address;
use postern_tests::message::{Mail, added_fields};
use postern_tests::relay::{RECIPIENT, SENDER, Setup};
use postern_tests::sink::{Act, Options, Phase, Sink};
use postern_tests::tls::Pair;

fn impatient(setup: Setup) -> Setup {
    setup.trusting_loopback().retrying_soon().hop_patience("1s")
}

/// After `times` times of `act` at `phase`, the message arrives whole.
fn check(phase: Phase, times: u64, act: Act) {
    let shown = format!("{act:?} at {phase:?}");
    let sink = Sink::with(Options::script(move |moment| {
        if moment.phase == phase && moment.before < times { act.clone() } else { Act::Proceed }
    }));
    let relay = impatient(Setup::new(sink.addr())).start();
    let mail = Mail::numbered(1, SENDER, RECIPIENT, 50_000);
    crate::session(&relay).submit(&mail).expect(250);
    let arrived = sink.wait_until(40, |all| all.iter().any(|got| got.is_acknowledged));
    assert!(arrived, "{shown}: not delivered\n{:?}\n{}", sink.commands(), relay.log_end());
    for got in sink.messages() {
        added_fields(&mail.content, &got.content).unwrap_or_else(|why| panic!("{shown}: {why}"));
    }
    assert!(sink.violations().is_empty(), "{shown}: {:?}", sink.violations());
    relay.expect_empty_queue();
}

const PHASES: [Phase; 6] =
    [Phase::Connect, Phase::Ehlo, Phase::Mail, Phase::Rcpt, Phase::Data, Phase::End];

#[test]
fn resets_and_closes_are_tried_again() {
    for phase in PHASES.into_iter().chain([Phase::Content]) {
        check(phase, 1, Act::Reset);
        check(phase, 1, Act::Close);
    }
}

#[test]
fn stalls_end_at_the_time_limit() {
    for phase in PHASES {
        check(phase, 1, Act::Stall(Duration::from_secs(4)));
    }
}

#[test]
fn refusals_of_the_session_are_tried_again() {
    for (phase, line) in [
        (Phase::Connect, "421 4.3.2 closing"),
        (Phase::Connect, "554 5.3.2 not today"),
        (Phase::Ehlo, "421 4.3.2 closing"),
        (Phase::Mail, "421 4.3.2 closing"),
        (Phase::Rcpt, "421 4.3.2 closing"),
        (Phase::Data, "421 4.3.2 closing"),
        (Phase::End, "421 4.3.2 closing"),
    ] {
        check(phase, 2, Act::Answer(line.to_owned()));
    }
}

#[test]
fn nonsense_instead_of_replies_is_survived() {
    let huge = [b"220 ".to_vec(), b"x".repeat(2_000_000)].concat();
    let many = b"220-line\r\n".repeat(20_000);
    let nonsense: [(Phase, Vec<u8>); 8] = [
        (Phase::Connect, huge),
        (Phase::Connect, many),
        (Phase::Connect, b"\0\0\0\0\r\n".to_vec()),
        (Phase::Connect, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        (Phase::Mail, b"250".to_vec()),
        (Phase::Mail, b"999 what\r\n".to_vec()),
        (Phase::Rcpt, b"250-a\r\n251 b\r\n".to_vec()),
        (Phase::Ehlo, b"250-\xff\xfe\xfd\r\n250 8BITMIME\r\n".to_vec()),
    ];
    for (phase, bytes) in nonsense {
        check(phase, 1, Act::Raw(bytes));
    }
}

/// A next hop that offers STARTTLS and says more than its `220` in the clear.
#[test]
fn replies_injected_after_starttls_are_not_believed() {
    let addr = address::own_port(2525);
    let pair = Pair::new(addr.ip());
    let sink = Sink::with(Options {
        addr,
        tls: Some(pair.server()),
        script: std::sync::Arc::new(|moment| {
            match moment.phase {
            Phase::StartTls if moment.before < 2 => Act::Raw(
                b"220 2.0.0 Go\r\n250-sink.example\r\n250 SIZE 1\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n".to_vec(),
            ),
            _ => Act::Proceed,
        }
        }),
        ..Options::default()
    });
    let relay = impatient(Setup::new(sink.addr())).next_hop_tls("opportunistic").start();
    let mail = Mail::numbered(1, SENDER, RECIPIENT, 5_000);
    crate::session(&relay).submit(&mail).expect(250);
    let got = sink.wait_for(1, 40).remove(0);
    added_fields(&mail.content, &got.content).expect("byte-exact");
    assert!(got.is_tls, "fell back to the clear");
    relay.expect_empty_queue();
    sink.stop();
}

/// STARTTLS left out, where the configuration wants TLS: nothing goes in the clear.
#[test]
fn required_tls_is_never_stripped() {
    let sink = Sink::start();
    let relay = impatient(Setup::new(sink.addr())).next_hop_tls("require").start();
    crate::session(&relay).submit(&Mail::numbered(1, SENDER, RECIPIENT, 5_000)).expect(250);
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(relay.queue().len(), 1, "the message is neither sent nor kept");
    assert!(!sink.commands().iter().any(|line| line.starts_with("MAIL")), "MAIL in the clear");
    assert!(sink.stop().is_empty());
}

/// The message was taken and its answer lost: it is sent again, whole, and never more often than
/// answers were lost.
#[test]
fn an_answer_lost_after_the_final_dot_costs_one_copy() {
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::End if moment.before < 3 => Act::Reset,
        _ => Act::Proceed,
    }));
    let relay = impatient(Setup::new(sink.addr())).start();
    let mail = Mail::numbered(1, SENDER, RECIPIENT, 5_000);
    crate::session(&relay).submit(&mail).expect(250);
    let got = sink.wait_for(4, 40);
    assert!(got.iter().all(|got| added_fields(&mail.content, &got.content).is_ok()));
    relay.expect_empty_queue();
    assert_eq!(sink.stop().len(), 4, "three lost answers, three more copies");
}

#[test]
fn a_stalled_next_hop_does_not_stop_others_from_sending() {
    let sink = Sink::with(Options::script(|moment| match moment.phase {
        Phase::End if moment.before < 4 => Act::Stall(Duration::from_secs(3)),
        _ => Act::Proceed,
    }));
    let relay = Setup::new(sink.addr()).trusting_loopback().start();
    let mut client = crate::session(&relay);
    let started = std::time::Instant::now();
    for number in 0..100 {
        client.submit(&Mail::numbered(number, SENDER, RECIPIENT, 3_000)).expect(250);
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "accepting waited for delivery: {took:?}");
    sink.wait_for(100, 60);
    sink.stop();
}

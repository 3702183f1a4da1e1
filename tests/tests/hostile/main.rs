//! Hostile input, from clients and from next hops: every answer is bounded, nothing leaks through,
//! and good clients are served meanwhile.

use postern_tests::client::Client;
use postern_tests::message::Mail;
use postern_tests::relay::{RECIPIENT, Relay, SENDER, Setup};
use postern_tests::sink::Sink;

mod bdat;
mod cross;
mod encoding;
mod flood;
mod hop;
mod order;
mod overlong;
mod slow;
mod smuggling;
mod starttls;
mod states;

/// A relay that trusts loopback, so that sessions need no login, and its sink.
fn trusting() -> (Sink, Relay) {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).trusting_loopback().start();
    (sink, relay)
}

/// A greeted session that said EHLO.
#[track_caller]
fn session(relay: &Relay) -> Client {
    let mut client = Client::greeted(relay.addr);
    client.ehlo();
    client
}

/// The relay still does its job: a good client is greeted, and its message arrives.
#[track_caller]
fn expect_healthy(relay: &Relay, sink: &Sink, number: u64) {
    let mail = Mail::numbered(number, SENDER, RECIPIENT, 2_000);
    session(relay).submit(&mail).expect(250);
    let arrived =
        sink.wait_until(20, |all| all.iter().any(|got| got.content.ends_with(&mail.content)));
    assert!(arrived, "a good client's message did not arrive\n{}", relay.log_end());
}

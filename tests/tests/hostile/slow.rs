//! Clients that dribble, and clients that never read: good ones are served meanwhile, and the slow
//! ones end at their time limits.

use std::time::{Duration, Instant};

use postern_tests::client::Client;
use postern_tests::relay::{RECIPIENT, SENDER, Setup};
use postern_tests::sink::Sink;

use crate::{expect_healthy, trusting};

#[test]
fn good_clients_are_greeted_while_others_dribble() {
    let (sink, relay) = trusting();
    let mut slow: Vec<Client> = (0..100).map(|_| Client::greeted(relay.addr)).collect();
    let head =
        format!("EHLO a.example\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n");
    let bytes = format!("{head}From: <{SENDER}>\r\n\r\n{}", "x".repeat(1_000));
    let started = Instant::now();
    let mut number = 0;
    for at in 0..60 {
        for (index, client) in slow.iter_mut().enumerate() {
            // Half of them are in the middle of a message at once.
            let from = if index % 2 == 0 { 0 } else { head.len() };
            if at == 0 && from > 0 {
                client.send(head.as_bytes());
            }
            client.try_send(&bytes.as_bytes()[from + at..=from + at]).ok();
        }
        if at % 20 == 10 {
            let asked = Instant::now();
            number += 1;
            expect_healthy(&relay, &sink, number);
            let took = asked.elapsed();
            assert!(took < Duration::from_secs(3), "a good client waited {took:?}");
        }
    }
    assert!(started.elapsed() < Duration::from_secs(30));
    sink.stop();
}

#[test]
fn silence_ends_at_the_time_limit() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).trusting_loopback().client_patience("1s").start();
    let mut silent = Client::greeted(relay.addr);
    let mut in_data = Client::greeted(relay.addr);
    in_data.ehlo();
    in_data.begin(SENDER, &[RECIPIENT]);
    let started = Instant::now();
    for client in [&mut silent, &mut in_data] {
        client.set_patience(Duration::from_secs(15));
        let said = client.rest();
        let text = String::from_utf8_lossy(&said).into_owned();
        assert!(text.is_empty() || text.starts_with("421 4.4.2"), "{text}");
    }
    let took = started.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(10), "{took:?}");
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn a_dribbled_command_does_not_extend_its_limit() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).trusting_loopback().client_patience("1s").start();
    let mut client = Client::greeted(relay.addr);
    let started = Instant::now();
    // A byte every 300 ms: were each byte to start the clock anew, this would never end.
    while client.try_send(b"x").is_ok() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(started.elapsed() < Duration::from_secs(8), "one command took {:?}", started.elapsed());
}

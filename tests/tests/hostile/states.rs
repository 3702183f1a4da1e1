//! Connections that end in every state: half-closed, closed, reset. Nothing half-sent is delivered,
//! and nothing of the session stays behind.

use std::time::Duration;

use postern_tests::client::Client;
use postern_tests::relay::{RECIPIENT, Relay, SENDER, Setup};
use postern_tests::sink::Sink;

use crate::{expect_healthy, trusting};

/// What was sent before the end, in the clear.
fn states() -> Vec<(&'static str, Vec<u8>)> {
    let begun = format!("EHLO a.example\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\n");
    let content = format!("From: <{SENDER}>\r\nSubject: half\r\n\r\nhalf a mess");
    let data = format!("{begun}DATA\r\n");
    vec![
        ("connected", Vec::new()),
        ("half a command", b"EHL".to_vec()),
        ("greeted", b"EHLO a.example\r\n".to_vec()),
        ("MAIL", format!("EHLO a.example\r\nMAIL FROM:<{SENDER}>\r\n").into_bytes()),
        ("RCPT", begun.clone().into_bytes()),
        ("DATA", data.clone().into_bytes()),
        ("half a header", format!("{data}From: <inv").into_bytes()),
        ("half a body", format!("{data}{content}").into_bytes()),
        ("before the final dot", format!("{data}{content}\r\n").into_bytes()),
        ("the final dot without CRLF", format!("{data}{content}\r\n.").into_bytes()),
        ("the final dot and CR", format!("{data}{content}\r\n.\r").into_bytes()),
        ("BDAT", format!("{begun}BDAT 100\r\nhalf").into_bytes()),
        ("BDAT done, not last", format!("{begun}BDAT {}\r\n{content}", content.len()).into_bytes()),
        ("half a last BDAT", format!("{begun}BDAT 100 LAST\r\n{content}").into_bytes()),
        ("STARTTLS", b"EHLO a.example\r\nSTARTTLS\r\n".to_vec()),
        ("half a TLS hello", b"EHLO a.example\r\nSTARTTLS\r\n\x16\x03\x01\x02\x00\x01".to_vec()),
    ]
}

fn end_in_each_state(relay: &Relay, end: impl Fn(Client)) {
    for (_, bytes) in states() {
        for pause in [0, 3] {
            let mut client = Client::greeted(relay.addr);
            client.send(&bytes);
            std::thread::sleep(Duration::from_millis(pause));
            end(client);
        }
    }
}

#[test]
fn nothing_half_sent_is_delivered() {
    let (sink, relay) = trusting();
    end_in_each_state(&relay, |mut client| {
        client.half_close();
        // The relay closes its side too, soon, whatever the state.
        client.set_patience(Duration::from_secs(10));
        client.rest();
    });
    end_in_each_state(&relay, drop);
    end_in_each_state(&relay, Client::reset);
    expect_healthy(&relay, &sink, 1);
    assert_eq!(sink.stop().len(), 1, "half a message was delivered");
}

#[test]
fn a_reset_during_login_or_handshake_is_survived() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    for _ in 0..20 {
        let mut client = Client::secured(relay.addr);
        client.send(b"AUTH PLAIN AGJpbGxpbmcAd3Jvbmc=\r\n");
        client.reset();
        let mut client = Client::dial(relay.addr_tls).expect("it listens");
        client.send(b"\x16\x03\x01");
        client.reset();
    }
    relay.connect().command("NOOP").expect(250);
}

#[test]
fn a_message_whose_sender_left_before_the_answer_is_whole_or_absent() {
    let (sink, relay) = trusting();
    for _ in 0..20 {
        let mut client = Client::greeted(relay.addr);
        client.ehlo();
        client.begin(SENDER, &[RECIPIENT]);
        client.send(format!("From: <{SENDER}>\r\n\r\nwhole\r\n.\r\n").as_bytes());
        client.reset();
    }
    expect_healthy(&relay, &sink, 1);
    for got in sink.stop() {
        let is_whole = got.content.ends_with(b"\r\n\r\nwhole\r\n");
        assert!(is_whole || postern_tests::message::number_of(&got.content).is_some());
    }
}

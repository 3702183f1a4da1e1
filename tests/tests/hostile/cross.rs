//! Other protocols on our ports, and attempts to use the relay for everybody's mail.

use postern_tests::client::Client;
use postern_tests::message::find;
use postern_tests::relay::{RECIPIENT, SENDER, Setup};
use postern_tests::sink::Sink;

use crate::{expect_healthy, session, trusting};

#[test]
fn http_requests_run_nothing() {
    let (sink, relay) = trusting();
    let body = format!(
        "EHLO a.example\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n\
         From: <{SENDER}>\r\n\r\nby http\r\n.\r\nQUIT\r\n"
    );
    for request in [
        format!(
            "POST / HTTP/1.1\r\nHost: relay.example\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
        format!("GET / HTTP/1.1\r\nHost: x\r\n\r\n{body}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!("CONNECT x:25 HTTP/1.1\r\n\r\n{body}"),
    ] {
        let mut client = Client::greeted(relay.addr);
        client.try_send(request.as_bytes()).ok();
        client.half_close();
        let said = client.rest();
        assert!(find(&said, b"354").is_none(), "{}: {}", &request[..10], said.escape_ascii());
    }
    expect_healthy(&relay, &sink, 1);
    assert_eq!(sink.stop().len(), 1, "a message came in by another protocol");
}

#[test]
fn a_tls_hello_on_the_clear_port_and_clear_text_on_the_tls_port() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let mut client = Client::greeted(relay.addr);
    client.try_send(b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03\n\r\n\r\n").ok();
    client.half_close();
    let said = client.rest();
    assert!(find(&said, b"250").is_none(), "{}", said.escape_ascii());
    let mut client = Client::dial(relay.addr_tls).expect("it listens");
    client.try_send(b"EHLO a.example\r\nQUIT\r\n").ok();
    let said = client.rest();
    assert!(
        find(&said, b"220").is_none() && find(&said, b"250").is_none(),
        "{}",
        said.escape_ascii()
    );
    Client::greeted_tls(relay.addr_tls).command("NOOP").expect(250);
}

#[test]
fn there_is_no_open_relay() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let senders = [SENDER, "", "root@localhost", "a@other.example", "a@[127.0.0.1]"];
    let recipients = [
        "victim@foreign.example",
        "victim%foreign.example@one.example",
        "@one.example:victim@foreign.example",
        "foreign.example!victim",
        "\"victim@foreign.example\"@one.example",
        "victim@[127.0.0.1]",
        "victim@foreign.example@one.example",
        "postmaster",
    ];
    for sender in senders {
        for secured in [false, true] {
            let mut client = if secured { Client::secured(relay.addr) } else { session(&relay) };
            let reply = client.command(&format!("MAIL FROM:<{sender}>"));
            assert!(!reply.is_positive(), "{sender}: {reply}");
            for recipient in recipients {
                let reply = client.command(&format!("RCPT TO:<{recipient}>"));
                assert!(!reply.is_positive(), "{sender} to {recipient}: {reply}");
            }
            let reply = client.command("DATA");
            assert!(!reply.is_positive(), "{reply}");
        }
    }
    assert!(sink.stop().is_empty());
}

#[test]
fn a_network_that_is_not_allowed_stays_out_whatever_it_claims() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).option("--allow-network", "127.9.9.0/24").start();
    let mut client = Client::dial_from("127.9.8.1".parse().expect("an address"), relay.addr)
        .expect("it listens");
    client.reply().expect(220);
    for line in [
        "EHLO [127.9.9.1]",
        "XCLIENT ADDR=127.9.9.1",
        "XFORWARD ADDR=127.9.9.1",
        "PROXY TCP4 127.9.9.1 127.0.0.1 1 25",
    ] {
        client.command(line);
    }
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(530);
}

#[test]
fn a_proxy_header_is_not_believed() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).option("--allow-network", "127.9.9.0/24").start();
    let mut client = Client::dial(relay.addr).expect("it listens");
    client.send(b"PROXY TCP4 127.9.9.1 127.0.0.1 1 25\r\n");
    client.reply().expect(220);
    // What was sent before the greeting is a command like any other.
    client.reply();
    client.ehlo();
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(530);
}

//! Commands injected in the clear around STARTTLS are never carried out inside TLS.

use postern_tests::client::Client;
use postern_tests::message::find;
use postern_tests::relay::Setup;
use postern_tests::sink::Sink;

#[test]
fn commands_behind_starttls_are_discarded() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let flood = b"NOOP\r\n".repeat(11_000);
    let injections: [&[u8]; 5] = [
        b"NOOP\r\n",
        b"EHLO injected.example\r\nMAIL FROM:<invoices@one.example>\r\n",
        b"QUIT\r\n",
        b"x",
        &flood,
    ];
    for injected in injections {
        let mut client = Client::greeted(relay.addr);
        client.ehlo();
        let bytes = [b"STARTTLS\r\n".as_slice(), injected].concat();
        // The relay may close while the flood is on its way.
        client.try_send(&bytes).ok();
        let Ok(reply) = client.try_reply() else { continue };
        if reply.code == 220 && client.handshake().is_ok() {
            // Inside TLS there must be no answer that was not asked for.
            client.try_send(b"RSET\r\n").ok();
            let said = client.rest();
            let answers = said.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
            assert!(answers <= 1, "injected commands were answered: {}", said.escape_ascii());
        } else {
            let said = client.rest();
            assert!(find(&said, b"250").is_none(), "answered: {}", said.escape_ascii());
        }
    }
    Client::secured(relay.addr).command("NOOP").expect(250);
}

#[test]
fn what_was_said_in_the_clear_is_forgotten() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).trusting_loopback().start();
    let mut client = Client::greeted(relay.addr);
    client.ehlo();
    client.command("MAIL FROM:<invoices@one.example>").expect(250);
    let reply = client.command("STARTTLS");
    if reply.code == 220 {
        client.handshake().expect("a TLS handshake");
        let reply = client.command("RCPT TO:<customer@two.example>");
        assert_eq!(reply.code, 503, "the transaction of the clear session goes on: {reply}");
    } else {
        assert_eq!(reply.code, 503, "{reply}");
    }
}

#[test]
fn starttls_is_taken_once_and_without_words() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let mut client = Client::greeted(relay.addr);
    client.ehlo();
    client.command("STARTTLS now").expect(501);
    client.starttls();
    client.ehlo();
    let reply = client.command("STARTTLS");
    assert!(matches!(reply.code, 502 | 503 | 554), "{reply}");
}

#[test]
fn a_handshake_that_is_no_handshake_ends_the_session() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    for garbage in
        [&b"NOOP\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], &[0; 4_096], b"\x15\x03\x01\x00\x02\x02\x28"]
    {
        let mut client = Client::greeted(relay.addr);
        client.ehlo();
        client.command("STARTTLS").expect(220);
        client.send(garbage);
        client.half_close();
        let said = client.rest();
        assert!(find(&said, b"250").is_none(), "{}", said.escape_ascii());
    }
    Client::secured(relay.addr).command("NOOP").expect(250);
}

//! 8-bit where none was announced, invalid UTF-8, and AUTH that is no base64.

use postern_tests::client::Client;
use postern_tests::message::to_wire;
use postern_tests::relay::{APP, RECIPIENT, SENDER, Setup};
use postern_tests::sink::Sink;

use crate::{expect_healthy, session, trusting};

#[test]
fn undeclared_8bit_is_refused_or_carried_unchanged() {
    let (sink, relay) = trusting();
    let content = format!("From: <{SENDER}>\r\nMessage-ID: <a@b>\r\n\r\ncaf\u{e9}\r\n");
    let mut client = session(&relay);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
    client.command("DATA").expect(354);
    client.send(&to_wire(content.as_bytes()));
    let reply = client.reply();
    assert!(matches!(reply.code, 250 | 550 | 554), "{reply}");
    if reply.code == 250 {
        let got = sink.wait_for(1, 10).remove(0);
        assert!(got.content.ends_with(content.as_bytes()), "changed");
        assert!(got.mail.contains("8BITMIME"), "8-bit content was not announced: {}", got.mail);
    }
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn eight_bit_in_commands_is_refused() {
    let (sink, relay) = trusting();
    let lines: [&[u8]; 6] = [
        b"MAIL FROM:<caf\xc3\xa9@one.example>\r\n",
        b"MAIL FROM:<a\xff@one.example> SMTPUTF8\r\n",
        b"MAIL FROM:<a\xc3\x28@one.example> SMTPUTF8\r\n",
        b"MAIL FROM:<a\xed\xa0\x80@one.example> SMTPUTF8\r\n",
        b"EHLO \xff\xfe\r\n",
        b"\xff\xfe\xfd\r\n",
    ];
    for line in lines {
        let mut client = session(&relay);
        client.send(line);
        let reply = client.reply();
        assert!((500..560).contains(&reply.code), "{}: {reply}", line.escape_ascii());
        client.command("NOOP").expect(250);
    }
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn broken_base64_in_auth_is_a_syntax_error() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    let huge = "QUFB".repeat(5_000);
    let responses = [
        "!!!!",
        "AGE",
        "AGJpbGxpbmcA=x",
        "====",
        "A",
        "AGJp bGxp",
        "AGJpbGxpbmcA\u{e9}",
        "=",
        "Zm9v",
        "AAAA",
        "AAA=",
        &huge,
    ];
    for response in responses {
        let shown = &response[..response.len().min(16)];
        let mut client = Client::secured(relay.addr);
        let reply = client.command(&format!("AUTH PLAIN {response}"));
        assert!(matches!(reply.code, 500 | 501 | 535), "{shown}: {reply}");
        let mut client = Client::secured(relay.addr);
        client.command("AUTH PLAIN").expect(334);
        let reply = client.command(response);
        assert!(matches!(reply.code, 500 | 501 | 535), "{shown}: {reply}");
        let mut client = Client::secured(relay.addr);
        client.command("AUTH LOGIN").expect(334);
        let mut reply = client.command(response);
        if reply.code == 334 {
            reply = client.command(response);
        }
        assert!(matches!(reply.code, 500 | 501 | 535), "{shown}: {reply}");
    }
    let mut client = Client::secured(relay.addr);
    let reply = client.auth_plain(&format!("{APP}\r\n235 2.7.0 forged"), "x");
    assert!(matches!(reply.code, 501 | 535), "{reply}");
    let log = relay.log();
    assert!(!log.lines().any(|line| line.starts_with("235 2.7.0 forged")), "unescaped in the log");
}

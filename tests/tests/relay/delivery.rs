//! What is sent arrives, byte for byte, however it is sent.

use postern_tests::client::Client;
use postern_tests::message::{Mail, added_fields, to_wire};
use postern_tests::relay::{APP, PASSWORD, RECIPIENT, Relay, SENDER, Setup};
use postern_tests::sink::{Options, Received, Sink};

fn pair() -> (Sink, Relay) {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).start();
    (sink, relay)
}

/// What arrived is what was sent, and the fields the relay put before it are these.
#[track_caller]
fn check(mail: &Mail, got: &Received, fields: &[&str]) {
    let added = added_fields(&mail.content, &got.content).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(added, fields);
    assert_eq!((&got.from, &got.to), (&mail.from, &mail.to));
}

#[test]
fn content_of_every_kind_arrives_byte_exact() {
    let (sink, relay) = pair();
    let bodies: Vec<Vec<u8>> = vec![
        b"one line\r\n".to_vec(),
        b"".to_vec(),
        b"\r\n\r\n\r\n".to_vec(),
        b".\r\n..\r\n...\r\n.dot\r\n".to_vec(),
        b".".repeat(5_000).chunks(70).flat_map(|line| [line, b"\r\n"].concat()).collect(),
        (0x80..=0xff).flat_map(|byte: u8| [byte, byte, b' ']).chain(*b"\r\n").collect(),
        [b"x".repeat(998), b"\r\n".to_vec()].concat(),
        b"trailing spaces  \t \r\n \r\n\r\n".to_vec(),
        b"\x01\x02\x07\x1b[31m control characters\r\n".to_vec(),
        b"From here to there\r\n>From\r\n".to_vec(),
        b"no line end at the end, then a dot alone\r\n\r\n.\r\nQUIT\r\n".to_vec(),
    ];
    let mails: Vec<Mail> =
        bodies.iter().map(|body| Mail::with_body(SENDER, RECIPIENT, body)).collect();
    let mut client = relay.connect();
    for mail in &mails {
        client.submit(mail).expect(250);
    }
    let got = sink.wait_for(mails.len(), 20);
    for mail in &mails {
        let body = got.iter().find(|got| got.content.ends_with(&mail.content));
        let got = body.unwrap_or_else(|| panic!("not there: {}", mail.content.escape_ascii()));
        check(mail, got, &["Received"]);
    }
    sink.stop();
}

#[test]
fn long_lines_arrive_unfolded_or_are_refused() {
    let (sink, relay) = pair();
    let mut client = relay.connect();
    let mut accepted = Vec::new();
    for bytes in [999, 1_000, 4_096, 70_000, 1_000_000] {
        let body = [b"y".repeat(bytes), b"\r\n".to_vec()].concat();
        let mail = Mail::with_body(SENDER, RECIPIENT, &body);
        let reply = client.submit(&mail);
        assert!(matches!(reply.code, 250 | 500 | 550 | 552 | 554), "{bytes}: {reply}");
        if reply.code == 250 {
            accepted.push(mail);
        }
    }
    let got = sink.wait_for(accepted.len(), 20);
    for mail in &accepted {
        let is_there = got.iter().any(|got| got.content.ends_with(&mail.content));
        assert!(is_there, "a line was folded or changed");
    }
    sink.stop();
}

#[test]
fn a_large_message_arrives_whole() {
    let (sink, relay) = pair();
    let mail = Mail::numbered(1, SENDER, RECIPIENT, 9_000_000);
    relay.accept(&mail);
    check(&mail, &sink.wait_for(1, 30)[0], &["Received"]);
    sink.stop();
}

#[test]
fn packets_may_be_cut_anywhere() {
    let (sink, relay) = pair();
    let mail = Mail::with_body(SENDER, RECIPIENT, b".\r\n..x\r\n\r\n.\r\nend\r\n");
    let mut client = relay.connect();
    for part in [1, 2, 3, 5, 7, 64] {
        client.begin(SENDER, &[RECIPIENT]);
        client.send_split(&to_wire(&mail.content), part);
        client.reply().expect(250);
    }
    for got in sink.wait_for(6, 20) {
        check(&mail, &got, &["Received"]);
    }
    sink.stop();
}

#[test]
fn chunks_of_bdat_arrive_dot_stuffed() {
    let (sink, relay) = pair();
    let mail = Mail::with_body(SENDER, RECIPIENT, b".\r\n..x\r\n\r\n.\r\nend\r\n");
    let mut client = relay.connect();
    for part in [1, 2, 3, 16, 1_000] {
        client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
        client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
        for piece in mail.content.chunks(part) {
            client.send(format!("BDAT {}\r\n", piece.len()).as_bytes());
            client.send(piece);
            client.reply().expect(250);
        }
        client.command("BDAT 0 LAST").expect(250);
    }
    let messages = sink.wait_for(5, 20);
    for got in &messages {
        check(&mail, got, &["Received"]);
        assert!(got.wire.windows(5).any(|window| window == b"\r\n..\r"), "stuffed on the wire");
    }
    sink.stop();
}

#[test]
fn bdat_without_a_last_line_end_is_one_message() {
    let (sink, relay) = pair();
    let head = format!(
        "From: <{SENDER}>\r\nMessage-ID: <a@b>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\n"
    );
    let content = format!("{head}no line end");
    let mut client = relay.connect();
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
    client.send(format!("BDAT {} LAST\r\n{content}", content.len()).as_bytes());
    let reply = client.reply();
    assert!(matches!(reply.code, 250 | 550 | 554), "{reply}");
    client.command("NOOP").expect(250);
    if reply.code == 250 {
        let got = sink.wait_for(1, 10).remove(0);
        assert!(got.content.ends_with(format!("{content}\r\n").as_bytes()), "closed by CRLF");
    }
    sink.stop();
}

#[test]
fn commands_may_be_pipelined() {
    let (sink, relay) = pair();
    let mail = Mail::numbered(5, SENDER, RECIPIENT, 3_000);
    let mut client = relay.connect();
    let mut bytes = Vec::new();
    for _ in 0..3 {
        bytes.extend_from_slice(
            format!("MAIL FROM:<{SENDER}> BODY=8BITMIME\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n")
                .as_bytes(),
        );
        client.send(&bytes);
        bytes.clear();
        for code in [250, 250, 354] {
            client.reply().expect(code);
        }
        // The end of one message and the next transaction in one packet.
        bytes.extend_from_slice(&to_wire(&mail.content));
        bytes.extend_from_slice(b"NOOP\r\n");
        client.send(&bytes);
        bytes.clear();
        client.reply().expect(250);
        client.reply().expect(250);
    }
    client.send(b"NOOP\r\nRSET\r\nVRFY someone\r\nQUIT\r\n");
    client.reply().expect(250);
    client.reply().expect(250);
    client.reply().expect(252);
    client.reply().expect(221);
    assert!(client.is_closed());
    for got in sink.wait_for(3, 10) {
        check(&mail, &got, &["Received"]);
    }
    sink.stop();
}

#[test]
fn implicit_tls_works_and_is_told_in_the_trace_field() {
    let (sink, relay) = pair();
    let mail = Mail::numbered(6, SENDER, RECIPIENT, 2_000);
    let mut client = Client::greeted_tls(relay.addr_tls);
    let offers = client.ehlo();
    assert!(!offers.iter().any(|offer| offer == "STARTTLS"), "{offers:?}");
    client.auth_login(APP, PASSWORD).expect(235);
    client.submit(&mail).expect(250);
    let got = sink.wait_for(1, 10).remove(0);
    check(&mail, &got, &["Received"]);
    let trace = String::from_utf8_lossy(&got.content[..got.content.len() - mail.content.len()]);
    for word in ["from client.example", "127.0.0.1", "TLS1.3", "ESMTPSA", "by "] {
        let plain = trace.replace("TLSv1.3", "TLS1.3").replace("TLSv1_3", "TLS1.3");
        assert!(plain.contains(word), "no {word:?} in {trace}");
    }
    sink.stop();
}

#[test]
fn missing_fields_are_added_and_present_ones_kept() {
    let (sink, relay) = pair();
    let content = format!("From: <{SENDER}>\r\nSubject: short\r\n\r\nbody\r\n").into_bytes();
    let mail = Mail { from: SENDER.to_owned(), to: vec![RECIPIENT.to_owned()], content };
    relay.accept(&mail);
    let got = sink.wait_for(1, 10).remove(0);
    let added = added_fields(&mail.content, &got.content).expect("only fields before it");
    for name in ["Received", "Message-ID", "Date"] {
        assert_eq!(added.iter().filter(|field| *field == name).count(), 1, "{added:?}");
    }
    sink.stop();
}

#[test]
fn recipients_of_one_domain_share_a_transaction() {
    let (sink, relay) = pair();
    let mut mail = Mail::numbered(8, SENDER, RECIPIENT, 2_000);
    mail.to = (0..20).map(|n| format!("customer{n}@two.example")).collect();
    relay.accept(&mail);
    let got = sink.wait_for(1, 10).remove(0);
    check(&mail, &got, &["Received"]);
    sink.stop();
}

#[test]
fn international_addresses_are_carried() {
    let (sink, relay) = pair();
    let mut client = relay.connect();
    let to = "\u{7528}\u{6237}@two.example";
    client.command(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME SMTPUTF8")).expect(250);
    client.command(&format!("RCPT TO:<{to}>")).expect(250);
    client.command("DATA").expect(354);
    let mail = Mail::with_body(SENDER, to, "\u{fc}ber\r\n".as_bytes());
    client.send(&to_wire(&mail.content));
    client.reply().expect(250);
    let got = sink.wait_for(1, 10).remove(0);
    check(&mail, &got, &["Received"]);
    assert!(got.mail.contains("SMTPUTF8"), "{}", got.mail);
    sink.stop();
}

#[test]
fn no_8bit_goes_to_a_7bit_hop() {
    let extensions = vec!["PIPELINING".to_owned(), "ENHANCEDSTATUSCODES".to_owned()];
    let sink = Sink::with(Options { extensions, ..Options::default() });
    let relay = Setup::new(sink.addr()).start();
    relay.accept(&Mail::with_body(SENDER, RECIPIENT, "caf\u{e9}\r\n".as_bytes()));
    relay.accept(&Mail::with_body(SENDER, RECIPIENT, b"plain\r\n"));
    let plain =
        sink.wait_until(10, |all| all.iter().any(|got| got.content.ends_with(b"plain\r\n")));
    assert!(plain, "7-bit mail is delivered");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let eight_bit = sink.messages().iter().any(|got| !got.content.is_ascii());
    assert!(!eight_bit, "8-bit content went to a hop that does not take it");
    assert_eq!(relay.queue().len(), 1, "the 8-bit message is kept");
    sink.stop();
}

#[test]
fn a_message_byte_is_copied_at_most_once() {
    let (sink, relay) = pair();
    let mut client = relay.connect();
    for number in 0..50 {
        client.submit(&Mail::numbered(number, SENDER, RECIPIENT, 4_096)).expect(250);
    }
    sink.wait_for(50, 20);
    let (copied, relayed) = (relay.counter("bytes_copied"), relay.counter("bytes_relayed"));
    assert!(relayed > 50.0 * 4_096.0, "{relayed} bytes relayed");
    let share = copied / relayed;
    postern_tests::tool::say(&format!("copies of a message byte in user space: {share:.3}"));
    assert!(share <= 1.0, "{copied} of {relayed} bytes");
    sink.stop();
}

#[test]
fn both_drivers_carry_mail() {
    for driver in ["epoll", "auto"] {
        let sink = Sink::start();
        let relay = Setup::new(sink.addr()).set("server.io", driver).start();
        let mail = Mail::numbered(11, SENDER, RECIPIENT, 50_000);
        relay.accept(&mail);
        check(&mail, &sink.wait_for(1, 10)[0], &["Received"]);
        sink.stop();
    }
}

#[test]
fn two_cores_carry_mail() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr()).cores("0,1").start();
    let mails: Vec<Mail> = (0..40).map(|n| Mail::numbered(n, SENDER, RECIPIENT, 5_000)).collect();
    mails.iter().for_each(|mail| relay.accept(mail));
    let got = sink.wait_for(40, 20);
    for mail in &mails {
        assert!(got.iter().any(|got| got.content.ends_with(&mail.content)));
    }
    sink.stop();
}

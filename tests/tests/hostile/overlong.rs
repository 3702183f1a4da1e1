//! Everything too long: one answer or a closed connection, never a second reading of the rest.

use postern_tests::message::{Mail, find, to_wire};
use postern_tests::relay::{RECIPIENT, SENDER};

use crate::{expect_healthy, session, trusting};

#[test]
fn an_overlong_command_is_answered_once() {
    let (sink, relay) = trusting();
    for bytes in [3_000, 13_000, 100_000, 1_000_000] {
        let mut client = session(&relay);
        let line = [b"NOOP ".to_vec(), b"QUIT RSET ".repeat(bytes / 10), b"\r\n".to_vec()].concat();
        client.try_send(&line).ok();
        client.try_send(b"NOOP\r\n").ok();
        match client.try_reply() {
            Ok(reply) => {
                assert!(matches!(reply.code, 500 | 501 | 421), "{bytes}: {reply}");
                let next = client.try_reply();
                assert!(next.is_err() || next.is_ok_and(|reply| reply.code == 250), "{bytes}");
            }
            // A reset may overtake the answer when the relay closes on unread bytes.
            Err(why) => assert!(why.kind() != std::io::ErrorKind::WouldBlock, "{bytes}: {why}"),
        }
    }
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn a_stream_without_line_ends_is_ended() {
    let (sink, relay) = trusting();
    let before = relay.memory_kib();
    let mut client = session(&relay);
    for _ in 0..500 {
        if client.try_send(&[b'A'; 10_000]).is_err() {
            break;
        }
    }
    let grown = relay.memory_kib().saturating_sub(before);
    assert!(grown < 16 * 1_024, "5 MB without a line end cost {grown} KiB");
    client.try_send(b"\r\nQUIT\r\n").ok();
    let said = client.rest();
    assert!(find(&said, b"250").is_none(), "{}", said.escape_ascii());
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn long_paths_and_parameters_are_refused() {
    let (sink, relay) = trusting();
    let long = "a".repeat(300);
    for line in [
        format!("MAIL FROM:<{long}@one.example>"),
        format!("MAIL FROM:<invoices@{long}.one.example>"),
        format!("MAIL FROM:<\"{long}\"@one.example>"),
        format!("MAIL FROM:<{SENDER}> ENVID={}", "e".repeat(200)),
        format!("MAIL FROM:<{SENDER}> {}", "X=Y ".repeat(200).trim_end()),
        format!("EHLO {}", "e".repeat(1_000)),
    ] {
        let mut client = session(&relay);
        let reply = client.command(&line);
        assert!((500..560).contains(&reply.code), "{}: {reply}", &line[..40]);
    }
    let mut client = session(&relay);
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    let reply = client.command(&format!("RCPT TO:<{long}@two.example>"));
    assert!((500..560).contains(&reply.code), "{reply}");
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn huge_header_sections_are_carried_or_refused() {
    let (sink, relay) = trusting();
    let from = format!("From: <{SENDER}>\r\n");
    let one_field = format!("{from}X-Long: {}\r\n\r\nbody\r\n", "x".repeat(1_000_000));
    let many_fields = format!("{from}{}\r\nbody\r\n", "X-Many: y\r\n".repeat(50_000));
    let folded = format!("{from}X-Folded:{}\r\n\r\nbody\r\n", "\r\n y".repeat(100_000));
    let late_from = format!("{}{from}\r\nbody\r\n", "X-Many: y\r\n".repeat(5_000));
    for content in [one_field, many_fields, folded, late_from] {
        let mut client = session(&relay);
        client.begin(SENDER, &[RECIPIENT]);
        client.try_send(&to_wire(content.as_bytes())).ok();
        let reply = client.reply();
        assert!(matches!(reply.code, 250 | 500..=559), "{reply}");
        if reply.code == 250 {
            let arrived = sink.wait_until(20, |all| {
                all.iter().any(|got| got.content.ends_with(content.as_bytes()))
            });
            assert!(arrived, "accepted, and changed on its way");
        }
    }
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn deep_and_wide_mime_is_answered_soon() {
    let (sink, relay) = trusting();
    let head = format!("From: <{SENDER}>\r\nMIME-Version: 1.0\r\n");
    let deep: String = (0..1_000)
        .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"))
        .collect();
    let wide = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n",
        "--b\r\n\r\nx\r\n".repeat(50_000)
    );
    let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(2_000);
    let parameters: String = (0..20_000).map(|n| format!("\r\n ; name*{n}*=utf-8''%41")).collect();
    let parameters = format!("Content-Type: text/plain{parameters}\r\n\r\nx\r\n");
    let comments = format!("Content-Type: text/plain {}\r\n\r\nx\r\n", "(".repeat(180_000));
    for (name, body) in [
        ("deep", deep),
        ("wide", wide),
        ("nested", nested),
        ("parameters", parameters),
        ("comments", comments),
    ] {
        let started = std::time::Instant::now();
        let mut client = session(&relay);
        client.begin(SENDER, &[RECIPIENT]);
        client.send(&to_wire(format!("{head}{body}").as_bytes()));
        let reply = client.reply();
        assert!(matches!(reply.code, 250 | 451 | 500..=559), "{name}: {reply}");
        let took = started.elapsed();
        assert!(took.as_secs() < 10, "{name} took {took:?}");
        session(&relay).command("NOOP").expect(250);
    }
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

#[test]
fn a_message_beyond_the_limit_is_read_to_its_end() {
    let (sink, relay) = trusting();
    let mut client = session(&relay);
    let limit = client
        .ehlo()
        .iter()
        .find_map(|offer| offer.strip_prefix("SIZE ").and_then(|size| size.parse::<usize>().ok()))
        .expect("a size limit is offered");
    client.begin(SENDER, &[RECIPIENT]);
    let mail = Mail::numbered(1, SENDER, RECIPIENT, limit + 100_000);
    client.try_send(&to_wire(&mail.content)).ok();
    match client.try_reply() {
        Ok(reply) => assert_eq!(reply.code, 552, "{reply}"),
        Err(why) => assert!(why.kind() != std::io::ErrorKind::WouldBlock, "{why}"),
    }
    expect_healthy(&relay, &sink, 2);
    assert_eq!(sink.stop().len(), 1);
}

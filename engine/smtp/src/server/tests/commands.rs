//! Commands, their order and their parameters.

use super::*;
use crate::reply::Enhanced;

#[test]
fn a_message() {
    let mut d = Dialogue::plain();
    d.check("", "220 mx.example ESMTP Postern\r\n");
    d.check("HELO a\r\n", "250 mx.example\r\n");
    assert!(!d.server.is_extended());
    d.check("MAIL FROM:<a@b.example>\r\n", "250 2.1.0 Sender OK\r\n");
    d.check("RCPT TO:<c@d.example>\r\n", "250 2.1.5 Recipient OK\r\n");
    d.check("DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n");
    d.check("Subject: x\r\n\r\n..dot\r\n.\r\n", "250 2.0.0 Message accepted\r\n");
    d.check("QUIT\r\n", "221 2.0.0 Bye\r\n");
    assert_eq!(d.messages, ["Subject: x\r\n\r\n..dot\r\n"]);
    assert_eq!(
        d.events,
        [
            "hello a false",
            "mail <a@b.example>",
            "rcpt <c@d.example>",
            "data",
            "end 21 false false",
            "close Quit"
        ]
    );
    assert!(d.server.is_closed());
}

#[test]
fn a_pipelined_message_at_every_cut() {
    let input = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n";
    let mut whole = Dialogue::new(options(), Security::Tls);
    let replies = whole.say(input);
    for cut in 1..input.len() {
        let mut d = Dialogue::new(options(), Security::Tls);
        d.cut = cut;
        assert_eq!(d.say(input), replies, "cut {cut}");
        assert_eq!((d.events, d.messages), (whole.events.clone(), whole.messages.clone()));
    }
}

#[test]
fn extensions_follow_security() {
    let offered =
        |options: ServerOptions, security| Dialogue::new(options, security).say(b"EHLO a\r\n");
    let plain = offered(options(), Security::Plain);
    for line in [
        "250-PIPELINING\r\n",
        "250-SIZE 52428800\r\n",
        "250-8BITMIME\r\n",
        "250-SMTPUTF8\r\n",
        "250-ENHANCEDSTATUSCODES\r\n",
        "250-CHUNKING\r\n",
        "250-DSN\r\n",
        "250-STARTTLS\r\n",
        "250 LIMITS MAILMAX=10000 RCPTMAX=1000\r\n",
    ] {
        assert!(plain.contains(line), "{line} in {plain}");
    }
    assert!(!plain.contains("AUTH"), "{plain}");
    let tls = offered(options(), Security::Tls);
    assert!(tls.contains("250-AUTH PLAIN LOGIN\r\n") && !tls.contains("STARTTLS"), "{tls}");
    let insecure = ServerOptions { insecure_plaintext_auth: true, ..options() };
    assert!(offered(insecure, Security::Plain).contains("AUTH PLAIN"));
    let closed = ServerOptions { auth: false, starttls: false, ..options() };
    assert!(!offered(closed.clone(), Security::Tls).contains("AUTH"));
    assert!(!offered(closed, Security::Plain).contains("STARTTLS"));
}

#[test]
fn order_and_syntax() {
    // (state, command, start of the reply)
    let table: [(&str, &[u8], &str); 62] = [
        ("new", b"MAIL FROM:<a@b.example>\r\n", "503 5.5.1"),
        ("new", b"RCPT TO:<a@b.example>\r\n", "503 5.5.1"),
        ("new", b"DATA\r\n", "503 5.5.1"),
        ("new", b"AUTH PLAIN\r\n", "503 5.5.1"),
        ("new", b"BDAT 6\r\nNOOP\r\n", "503 5.5.1"),
        ("new", b"NOOP\r\n", "250 2.0.0"),
        ("new", b"RSET\r\n", "250 2.0.0"),
        ("new", b"HELP\r\n", "214 2.0.0"),
        ("new", b"QUIT\r\n", "221 2.0.0"),
        ("new", b"EHLO\r\n", "501 5.5.4"),
        ("new", b"EHLO a b\r\n", "501 5.5.4"),
        ("new", b"EHLO <a>\r\n", "501 5.5.4"),
        ("new", b"HELO\r\n", "501 5.5.4"),
        ("ready", b"RCPT TO:<a@b.example>\r\n", "503 5.5.1"),
        ("ready", b"DATA\r\n", "503 5.5.1"),
        ("ready", b"BDAT 6 LAST\r\nQUIT\r\n", "503 5.5.1"),
        ("ready", b"BDAT 0 LAST\r\n", "503 5.5.1"),
        ("ready", b"VRFY a\r\n", "252 2.5.0"),
        ("ready", b"EXPN a\r\n", "502 5.5.1"),
        ("ready", b"ETRN a\r\n", "502 5.5.1"),
        ("ready", b"NONSENSE\r\n", "500 5.5.1"),
        ("ready", b"\r\n", "500 5.5.1"),
        ("ready", b" NOOP\r\n", "500 5.5.1"),
        ("ready", b"QUIT now\r\n", "501 5.5.4"),
        ("ready", b"DATA now\r\n", "501 5.5.4"),
        ("ready", b"NO\0OP\r\n", "501 5.5.2"),
        ("ready", b"NOOP\rQUIT\r\n", "501 5.5.2"),
        ("ready", b"STARTTLS\r\n", "503 5.5.1"),
        ("ready", b"MAIL FROM:a@b.example\r\n", "501 5.1.7"),
        ("ready", b"MAIL FROM:<a>\r\n", "501 5.1.7"),
        ("ready", b"MAIL <a@b.example>\r\n", "501 5.5.4"),
        ("ready", b"MAIL FROM:<@x.example:a@b.example>\r\n", "553 5.1.7"),
        ("ready", b"MAIL FROM:<a\0@b.example>\r\n", "501 5.5.2"),
        ("ready", b"MAIL FROM:<a\r@b.example>\r\n", "501 5.5.2"),
        ("ready", b"MAIL FROM:<a\x01@b.example>\r\n", "501 5.5.2"),
        ("ready", b"MAIL FROM:<a\xff@b.example>\r\n", "501 5.1.7"),
        ("ready", b"MAIL FROM:<\xc3\xa9@b.example>\r\n", "553 5.6.7"),
        ("ready", b"MAIL FROM:<\xc3\xa9@b.example> SMTPUTF8\r\n", "250 2.1.0"),
        ("ready", b"MAIL FROM:<a@b.example> BODY=8BITMIME SIZE=9\r\n", "250 2.1.0"),
        ("ready", b"MAIL FROM:<a@b.example> SIZE=99999999999\r\n", "552 5.3.4"),
        ("ready", b"MAIL FROM:<a@b.example> SIZE=x\r\n", "501 5.5.4"),
        ("ready", b"MAIL FROM:<a@b.example> BODY=BINARYMIME\r\n", "501 5.5.4"),
        ("ready", b"MAIL FROM:<a@b.example> XUNKNOWN=1\r\n", "555 5.5.4"),
        ("ready", b"MAIL FROM:<a@b.example>SIZE=1\r\n", "501 5.5.4"),
        ("ready", b"MAIL FROM:<a@b.example> ENVID=a+0D+0Ab\r\n", "501 5.5.4"),
        ("mail", b"MAIL FROM:<a@b.example>\r\n", "503 5.5.1"),
        ("mail", b"DATA\r\n", "554 5.5.1"),
        ("mail", b"BDAT 6 LAST\r\nQUIT\r\n", "554 5.5.1"),
        ("mail", b"AUTH PLAIN AAAA\r\n", "503 5.5.1"),
        ("mail", b"STARTTLS\r\n", "503 5.5.1"),
        ("mail", b"RCPT TO:<>\r\n", "501 5.1.3"),
        ("mail", b"RCPT TO:<a@b@c>\r\n", "501 5.1.3"),
        ("mail", b"RCPT TO:<@a.example:c@d.example>\r\n", "553 5.1.3"),
        ("mail", b"RCPT TO:<postmaster>\r\n", "250 2.1.5"),
        ("mail", b"RCPT TO:<\xc3\xa9@d.example>\r\n", "553 5.6.7"),
        ("mail", b"RCPT TO:<a@d.example> NOTIFY=NEVER ORCPT=rfc822;a@d\r\n", "250 2.1.5"),
        ("mail", b"RCPT TO:<a@d.example> NOTIFY=NEVER,DELAY\r\n", "501 5.5.4"),
        ("mail", b"RCPT TO:<a@d.example> SIZE=1\r\n", "555 5.5.4"),
        ("mail", b"NOOP\r\n", "250 2.0.0"),
        ("rcpt", b"MAIL FROM:<a@b.example>\r\n", "503 5.5.1"),
        ("rcpt", b"VRFY a\r\n", "252 2.5.0"),
        ("rcpt", b"RSET\r\n", "250 2.0.0"),
    ];
    for (state, command, start) in table {
        for cut in [usize::MAX, 1, 7] {
            let mut d = match state {
                "new" => Dialogue::new(options(), Security::Tls),
                "rcpt" => Dialogue::with_recipient(options()),
                _ => Dialogue::greeted(options()),
            };
            d.say(b"");
            if state == "mail" {
                d.say(b"MAIL FROM:<a@b.example>\r\n");
            }
            d.cut = cut;
            d.check_code(command, start);
        }
    }
}

#[test]
fn reset_and_hello_end_a_transaction() {
    for (command, event) in [("RSET", "reset"), ("EHLO b", "hello b true")] {
        let mut d = Dialogue::with_recipient(options());
        d.say(format!("{command}\r\n").as_bytes());
        assert_eq!(d.events, [event]);
        d.check_code(b"RCPT TO:<a@b.example>\r\n", "503 5.5.1");
    }
}

#[test]
fn the_caller_decides() {
    let no = |code| Reply::fixed(code, Enhanced::new(5, 7, 1), "No");
    let mut d = Dialogue::greeted(options());
    d.refusals = vec![("mail", no(530)), ("rcpt", no(550)), ("data", no(451)), ("end", no(550))];
    d.check_code(b"MAIL FROM:<a@b.example>\r\n", "530 5.7.1 No");
    d.check_code(b"RCPT TO:<c@d.example>\r\n", "503");
    d.check_code(b"MAIL FROM:<a@b.example>\r\n", "250");
    d.check_code(b"RCPT TO:<c@d.example>\r\n", "550 5.7.1 No");
    d.check_code(b"DATA\r\n", "554 5.5.1");
    d.check_code(b"RCPT TO:<c@d.example>\r\n", "250");
    d.check_code(b"DATA\r\n", "451 5.7.1 No");
    d.say(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n");
    d.check_code(b"x\r\n.\r\n", "550 5.7.1 No");
    assert!(d.messages.is_empty());
    let mut closing = Dialogue::greeted(options());
    closing.refusals = vec![("mail", no(421))];
    closing.check_code(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", "421");
    assert!(closing.server.is_closed());
}

#[test]
fn nothing_is_consumed_while_an_answer_is_awaited() {
    let mut d = Dialogue::greeted(options());
    let input = b"MAIL FROM:<a@b.example>\r\nNOOP\r\n";
    let received = d.server.receive(input, d.now);
    assert!(matches!(received.event, Some(Event::Mail(_))));
    let rest = &input[received.consumed..];
    assert!(d.server.is_deciding() && d.server.deadline().is_none());
    let again = d.server.receive(rest, d.now);
    assert!(again.consumed == 0 && again.event.is_none());
    d.server.accept_with(Reply::fixed(250, Enhanced::new(2, 1, 0), "Mine"), d.now);
    assert_eq!(d.say(rest), "250 2.1.0 Mine\r\n250 2.0.0 OK\r\n");
}

#[test]
fn parameters_reach_the_caller() {
    let mut d = Dialogue::greeted(options());
    let input = b"MAIL FROM:<a@b.example> SIZE=7 RET=HDRS ENVID=x+2By AUTH=<>\r\n";
    let received = d.server.receive(input, d.now);
    let Some(Event::Mail(mail)) = received.event else { panic!("MAIL expected") };
    assert_eq!((mail.parameters.size, mail.parameters.envid), (Some(7), Some("x+2By")));
    d.server.accept(d.now);
    let input = b"RCPT TO:<c@d.example> NOTIFY=FAILURE ORCPT=rfc822;c@d.example\r\n";
    let received = d.server.receive(input, d.now);
    let Some(Event::Rcpt(rcpt)) = received.event else { panic!("RCPT expected") };
    assert_eq!(rcpt.parameters.orcpt.map(|orcpt| orcpt.address_type()), Some("rfc822"));
}

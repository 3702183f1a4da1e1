//! SASL: mechanisms, faults, guessing, and secrecy.

use super::*;
use crate::reply::Enhanced;

/// NUL app NUL secret.
const PLAIN: &str = "AGFwcABzZWNyZXQ=";

#[test]
fn both_mechanisms() {
    let dialogues: [&[(&str, &str)]; 5] = [
        &[("AUTH PLAIN AGFwcABzZWNyZXQ=\r\n", "235 2.7.0")],
        &[("auth plain\r\n", "334 "), (PLAIN, ""), ("\r\n", "235 2.7.0")],
        &[
            ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6"),
            ("YXBw\r\n", "334 UGFzc3dvcmQ6"),
            ("c2VjcmV0\r\n", "235 2.7.0"),
        ],
        &[("AUTH LOGIN YXBw\r\n", "334 UGFzc3dvcmQ6"), ("c2VjcmV0\r\n", "235 2.7.0")],
        &[("AUTH LOGIN\r\nYXBw\r\nc2VjcmV0\r\n", "334 VXNlcm5hbWU6")],
    ];
    for steps in dialogues {
        let mut d = Dialogue::greeted(options());
        for (input, start) in steps {
            let reply = d.say(input.as_bytes());
            assert!(reply.starts_with(start), "{input:?} {reply}");
        }
        assert!(d.server.is_authenticated());
        let mechanism = if d.events[0].contains("PLAIN") { "PLAIN" } else { "LOGIN" };
        assert_eq!(d.events, [format!("auth {mechanism} /app/secret")]);
        d.check_code(b"AUTH PLAIN AGFwcABzZWNyZXQ=\r\n", "503 5.5.1");
        assert!(!d.say(b"EHLO a\r\n").contains("AUTH"));
    }
}

#[test]
fn faults() {
    for (input, start) in [
        ("AUTH PLAIN !!!!\r\n", "501 5.5.2"),
        ("AUTH PLAIN AGFwcABzZWNyZXQ\r\n", "501 5.5.2"),
        ("AUTH PLAIN =\r\n", "501 5.5.2"),
        ("AUTH PLAIN YXBw\r\n", "501 5.5.2"),
        // Four parts; an empty name; a name with CRLF; a name that is not UTF-8.
        ("AUTH PLAIN AGEAYgBj\r\n", "501 5.5.2"),
        ("AUTH PLAIN AABzZWNyZXQ=\r\n", "501 5.5.2"),
        ("AUTH PLAIN AGENCmIAcA==\r\n", "501 5.5.2"),
        ("AUTH PLAIN AP8AcA==\r\n", "501 5.5.2"),
        ("AUTH LOGIN =\r\n", "501 5.5.2"),
        ("AUTH CRAM-MD5\r\n", "504 5.5.4"),
        ("AUTH\r\n", "501 5.5.4"),
    ] {
        let mut d = Dialogue::greeted(options());
        d.check_code(input.as_bytes(), start);
        assert!(d.events.is_empty(), "{input:?} {:?}", d.events);
        d.check_code(b"NOOP\r\n", "250");
    }
    for opening in ["AUTH PLAIN\r\n", "AUTH LOGIN\r\n", "AUTH LOGIN YXBw\r\n"] {
        for (line, start) in [("*\r\n", "501 5.7.0"), ("not base64\r\n", "501 5.5.2")] {
            let mut d = Dialogue::greeted(options());
            d.check_code(opening.as_bytes(), "334");
            d.check_code(line.as_bytes(), start);
            d.check_code(b"NOOP\r\n", "250");
        }
    }
}

#[test]
fn never_in_clear() {
    let mut d = Dialogue::plain();
    d.say(b"EHLO a\r\n");
    d.check_code(b"AUTH PLAIN AGFwcABzZWNyZXQ=\r\n", "538 5.7.11");
    d.check_code(b"AUTH LOGIN\r\n", "538 5.7.11");
    assert_eq!(d.events, ["hello a true"]);
    let mut insecure = Dialogue::new(
        ServerOptions { insecure_plaintext_auth: true, ..options() },
        Security::Plain,
    );
    insecure.say(b"EHLO a\r\n");
    insecure.check_code(b"AUTH PLAIN AGFwcABzZWNyZXQ=\r\n", "235");
    let mut off = Dialogue::greeted(ServerOptions { auth: false, ..options() });
    off.check_code(b"AUTH PLAIN AGFwcABzZWNyZXQ=\r\n", "502 5.5.1");
}

#[test]
fn guessing_ends() {
    let mut d = Dialogue::greeted(ServerOptions { errors_max: 3, ..options() });
    let wrong = Reply::fixed(535, Enhanced::new(5, 7, 8), "Wrong credentials");
    d.refusals = vec![("auth", wrong); 4];
    for _ in 0..3 {
        d.check_code(b"AUTH PLAIN AGFwcABzZWNyZXQ=\r\n", "535 5.7.8");
        assert!(!d.server.is_authenticated());
    }
    d.check_code(b"AUTH PLAIN AGFwcABzZWNyZXQ=\r\n", "421 4.7.0");
    assert_eq!(d.events.last().map(String::as_str), Some("close Limit"));
}

#[test]
fn lines_are_bounded() {
    let response = "A".repeat(SASL_LINE_BYTES_MAX);
    for cut in [usize::MAX, 1_000] {
        let mut d = Dialogue::greeted(options());
        d.cut = cut;
        d.check_code(format!("AUTH PLAIN {response}\r\n").as_bytes(), "500 5.5.2");
        d.check_code(b"AUTH PLAIN\r\n", "334");
        d.check_code(format!("{response}\r\n").as_bytes(), "500 5.5.6");
        d.check_code(b"NOOP\r\n", "250");
        // Long, but within the bound of RFC 4954.
        d.check_code(format!("AUTH PLAIN {}\r\n", "A".repeat(8_000)).as_bytes(), "501 5.5.2");
    }
}

#[test]
fn secrets_are_not_printed() {
    let mut d = Dialogue::greeted(options());
    let received = d.server.receive(b"AUTH PLAIN AGFwcABzZWNyZXQ=\r\n", d.now);
    let shown = format!("{:?}", received.event);
    assert!(
        shown.contains("app") && !shown.contains("secret\"") && !shown.contains("115"),
        "{shown}"
    );
}

//! STARTTLS, and peers that speak something else.

use super::*;
use crate::reply::Enhanced;

#[test]
fn the_session_starts_anew() {
    let mut d = Dialogue::plain();
    d.say(b"EHLO a\r\n");
    d.check("STARTTLS\r\n", "220 2.0.0 Ready to start TLS\r\n");
    d.server.tls_started(d.now);
    d.check_code(b"MAIL FROM:<a@b.example>\r\n", "503 5.5.1");
    let offered = d.say(b"EHLO a\r\n");
    assert!(offered.contains("AUTH") && !offered.contains("STARTTLS"));
    d.check_code(b"STARTTLS\r\n", "503 5.5.1");
    let mut off = Dialogue::new(ServerOptions { starttls: false, ..options() }, Security::Plain);
    off.say(b"EHLO a\r\n");
    off.check_code(b"STARTTLS\r\n", "502 5.5.1");
}

#[test]
fn refused_tls_leaves_the_session_as_it_was() {
    for (greeting, reply) in [("EHLO a\r\n", "250"), ("", "503")] {
        let mut d = Dialogue::plain();
        d.say(greeting.as_bytes());
        let busy = Reply::fixed(454, Enhanced::new(4, 7, 0), "TLS is not available");
        d.refusals = vec![("tls", busy)];
        d.check_code(b"STARTTLS\r\n", "454 4.7.0");
        d.check_code(b"MAIL FROM:<a@b.example>\r\n", reply);
    }
}

#[test]
fn injected_commands_are_never_run() {
    let flood = [&b"STARTTLS\r\n"[..], &b"NOOP\r\n".repeat(11_000)].concat();
    let inputs: [&[u8]; 4] = [
        b"STARTTLS\r\nNOOP\r\n",
        b"STARTTLS\r\nEHLO x\r\nMAIL FROM:<evil@a.example>\r\n",
        b"STARTTLS\r\n\x16",
        &flood,
    ];
    for input in inputs {
        for cut in [usize::MAX, 1, 10, 11] {
            let mut d = Dialogue::plain();
            d.say(b"EHLO a\r\n");
            d.cut = cut;
            let replies = d.say(input);
            assert_eq!(d.events.last().map(String::as_str), Some("close Framing"));
            assert!(replies.starts_with("421 4.7.0") || replies.starts_with("220 2.0.0"));
            assert_eq!(replies.matches("\r\n").count(), 1, "{replies}");
        }
    }
}

#[test]
fn other_protocols_are_hung_up_on() {
    let inputs: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\nEHLO a\r\nMAIL FROM:<evil@a.example>\r\n",
        b"CONNECT a:25 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for input in inputs {
        for cut in [usize::MAX, 1] {
            let mut d = Dialogue::plain();
            d.say(b"");
            d.cut = cut;
            assert_eq!(d.say(input), "");
            assert_eq!(d.events, ["close Foreign"]);
        }
    }
}

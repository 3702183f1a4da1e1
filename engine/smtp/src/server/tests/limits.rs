//! Bounds on lines, counts and output, and what happens in time.

use std::time::Duration;

use super::*;
use crate::data::BareNewlines;
use crate::reply::Enhanced;

#[test]
fn long_lines() {
    let longest = format!("NOOP {}\r\n", "a".repeat(COMMAND_BYTES_MAX - 7));
    let too_long = format!("NOOP {}\r\n", "a".repeat(COMMAND_BYTES_MAX - 6));
    let hiding = format!("NOOP {}\r\n", " QUIT RSET".repeat(6_000));
    for cut in [usize::MAX, 1_000, 2_047, 2_048, 2_049] {
        let mut d = Dialogue::greeted(options());
        d.cut = cut;
        d.check_code(longest.as_bytes(), "250");
        d.check_code(too_long.as_bytes(), "500 5.5.2");
        d.check_code(hiding.as_bytes(), "500 5.5.2");
        d.check_code(b"NOOP\r\n", "250");
        d.check_code("a".repeat(5_000_000).as_bytes(), if cut > 5_000_000 { "" } else { "500" });
        let after = d.say(b"\r\nNOOP\r\n");
        assert!(!after.contains("250"), "{after}");
        assert!(d.server.is_closed());
    }
}

#[test]
fn errors_are_bounded() {
    for cut in [usize::MAX, 5] {
        let mut d = Dialogue::greeted(ServerOptions { errors_max: 5, ..options() });
        d.cut = cut;
        let replies = d.say(&b"BOGUS\r\n".repeat(300));
        assert_eq!(replies.matches("500 5.5.1").count(), 5);
        assert!(replies.ends_with("421 4.7.0 Too many errors, closing\r\n"));
        assert_eq!(d.events, ["close Limit"]);
    }
}

#[test]
fn idle_commands_are_bounded() {
    for command in ["NOOP", "RSET", "VRFY a", "HELP", "EHLO a", "MAIL FROM:<a@b.example>\r\nRSET"] {
        let mut d = Dialogue::greeted(ServerOptions { idle_commands_max: 10, ..options() });
        let replies = d.say(format!("{command}\r\n").repeat(50).as_bytes());
        assert!(replies.ends_with("421 4.7.0 Too many commands without a message, closing\r\n"));
        assert!(d.server.is_closed(), "{command}");
    }
    // A message in between is what a session is for.
    let mut d = Dialogue::greeted(ServerOptions { idle_commands_max: 3, ..options() });
    for _ in 0..10 {
        d.say(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n");
    }
    assert_eq!(d.messages.len(), 10);
}

#[test]
fn recipients_and_transactions_are_bounded() {
    let bounds = ServerOptions {
        recipients_max: 2,
        refused_recipients_max: 3,
        transactions_max: 1,
        ..options()
    };
    let mut d = Dialogue::greeted(bounds.clone());
    assert!(d.say(b"EHLO a\r\n").contains("LIMITS MAILMAX=1 RCPTMAX=2"));
    d.say(b"MAIL FROM:<a@b.example>\r\n");
    d.check_code(b"RCPT TO:<a@d.example>\r\n", "250");
    d.check_code(b"RCPT TO:<b@d.example>\r\n", "250");
    d.check_code(b"RCPT TO:<c@d.example>\r\n", "452 4.5.3");
    d.check_code(b"DATA\r\n", "354");
    d.check_code(b"x\r\n.\r\n", "250");
    d.check_code(b"MAIL FROM:<a@b.example>\r\n", "421 4.7.0");
    // Bad addresses count as refused recipients, not as errors of the session.
    let patient = ServerOptions { errors_max: 3, ..options() };
    let mut list = Dialogue::greeted(patient);
    list.say(b"MAIL FROM:<a@b.example>\r\n");
    let replies = list.say(&b"RCPT TO:<a..b@d.example>\r\n".repeat(50));
    assert_eq!(replies.matches("501 5.1.3").count(), 50);
    list.check_code(b"RCPT TO:<a@d.example>\r\n", "250");
    let mut d = Dialogue::greeted(bounds);
    d.say(b"MAIL FROM:<a@b.example>\r\n");
    let replies = d.say(&b"RCPT TO:<a@d.example>\r\n".repeat(5_000));
    assert_eq!(replies.matches("\r\n").count(), 2 + 3 + 1);
    assert!(d.server.is_closed());
}

#[test]
fn output_is_bounded() {
    let mut server =
        Dialogue::greeted(ServerOptions { idle_commands_max: u16::MAX, ..options() }).server;
    #[allow(clippy::disallowed_methods, reason = "a test needs some point to count from")]
    let now = Instant::now();
    let input = b"NOOP\r\n".repeat(20_000);
    let (mut at, mut replies) = (0, 0);
    while at < input.len() {
        let received = server.receive(&input[at..], now);
        at += received.consumed;
        if matches!(received.event, Some(Event::Flush)) {
            let output = server.transmit();
            assert!(output.len() < OUTPUT_BYTES_MAX + 512);
            replies += output.len() / b"250 2.0.0 OK\r\n".len();
        }
    }
    replies += server.transmit().len() / b"250 2.0.0 OK\r\n".len();
    assert_eq!(replies, 20_000);
}

#[test]
fn bare_line_feeds_in_commands() {
    for input in [&b"NOOP\n"[..], b"NOOP\nNOOP\r\n", b"MAIL FROM:<a@b.example>\nRCPT\r\n"] {
        for cut in [usize::MAX, 1, 5] {
            let mut d = Dialogue::greeted(options());
            d.cut = cut;
            d.check_code(input, "500 5.5.2");
            assert_eq!(d.events, ["close Framing"]);
        }
    }
    let lenient = ServerOptions { bare_newlines: BareNewlines::Normalize, ..options() };
    let mut d = Dialogue::greeted(lenient);
    d.check("NOOP\nNOOP\r\n", "250 2.0.0 OK\r\n250 2.0.0 OK\r\n");
}

#[test]
fn silence_and_trickles_time_out() {
    let second = Duration::from_secs(1);
    let mut d = Dialogue::greeted(options());
    let timeouts = options().timeouts;
    let start = d.now;
    assert_eq!(d.server.deadline(), Some(start + timeouts.command));
    // A trickle of bytes does not move the deadline; a command does.
    d.now = start + 100 * second;
    d.say(b"NO");
    assert_eq!(d.server.deadline(), Some(start + timeouts.command));
    d.say(b"OP\r\n");
    assert_eq!(d.server.deadline(), Some(d.now + timeouts.command));
    assert!(!d.server.handle_timeout(d.now + 299 * second));
    assert!(d.server.handle_timeout(d.now + 300 * second));
    assert!(d.say(b"").starts_with("421 4.4.2"));
    assert!(d.server.is_closed() && d.server.deadline().is_none());
}

#[test]
fn content_times_out_by_block_and_in_whole() {
    let timeouts = options().timeouts;
    for opening in ["DATA\r\n", "BDAT 100000\r\n"] {
        let mut d = Dialogue::with_recipient(options());
        d.say(opening.as_bytes());
        let start = d.now;
        assert_eq!(d.server.deadline(), Some(start + timeouts.data_block));
        for _ in 0..20 {
            d.now += Duration::from_secs(100);
            d.say(b"a line\r\n");
        }
        assert_eq!(d.server.deadline(), Some(start + timeouts.message));
        assert!(d.server.handle_timeout(d.now));
        assert_eq!(d.events.last().map(String::as_str), Some("data"));
        d.say(b"");
        assert_eq!(d.events.last().map(String::as_str), Some("close Timeout"));
    }
    let mut d = Dialogue::greeted(options());
    d.say(b"BDAT 1000\r\n");
    assert_eq!(d.server.deadline(), Some(d.now + timeouts.data_block));
    let mut d = Dialogue::with_recipient(options());
    d.say(b"BDAT 3\r\na\r\n");
    assert_eq!(d.server.deadline(), Some(d.now + timeouts.command));
}

#[test]
fn shutdown_waits_for_a_command_boundary() {
    let stop = || Reply::fixed(421, Enhanced::new(4, 3, 2), "Going down");
    let mut idle = Dialogue::greeted(options());
    idle.server.shutdown(stop());
    assert!(idle.server.is_closed());
    assert_eq!(idle.say(b"NOOP\r\n"), "421 4.3.2 Going down\r\n");
    assert_eq!(idle.events, ["close ByCaller"]);

    let mut d = Dialogue::with_recipient(options());
    d.say(b"DATA\r\nx");
    d.server.shutdown(stop());
    assert!(!d.server.is_closed());
    let replies = d.say(b"\r\n.\r\nNOOP\r\n");
    assert_eq!(replies, "250 2.0.0 Message accepted\r\n421 4.3.2 Going down\r\n");
    assert_eq!(d.messages, ["x\r\n"]);

    let mut sasl = Dialogue::greeted(options());
    sasl.say(b"AUTH PLAIN\r\n");
    sasl.server.shutdown(stop());
    assert_eq!(
        sasl.say(b"*\r\n"),
        "501 5.7.0 Authentication cancelled\r\n421 4.3.2 Going down\r\n"
    );
}

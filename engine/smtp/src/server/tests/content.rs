//! Content by DATA and BDAT: smuggling, sequence, bounds.

use super::*;
use crate::data::BareNewlines;
use crate::data::tests::SMUGGLED_ENDS;
use crate::reply::Enhanced;

#[test]
fn smuggled_messages_stay_inside() {
    for (end, fault) in SMUGGLED_ENDS {
        let body = format!(
            "Subject: x\r\n\r\na{end}MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\n\
             DATA\r\nevil\r\n"
        );
        let inputs = [
            format!("DATA\r\n{body}.\r\nNOOP\r\n"),
            format!("BDAT {} LAST\r\n{body}NOOP\r\n", body.len()),
        ];
        for input in inputs {
            for cut in (1..40).chain([usize::MAX]) {
                let mut d = Dialogue::with_recipient(options());
                d.cut = cut;
                let replies = d.say(input.as_bytes());
                let accepted = usize::from(fault.is_none());
                assert_eq!(d.messages.len(), accepted, "{end:?} {:?}", d.events);
                assert!(!d.events.iter().any(|event| event.contains("evil")), "{:?}", d.events);
                let refused = replies.contains("550 5.5.2 Message refused");
                assert_eq!(refused, fault.is_some(), "{replies}");
                assert!(replies.ends_with("250 2.0.0 OK\r\n"), "{replies}");
            }
        }
    }
}

#[test]
fn line_ends_split_over_chunks() {
    let check = |input: &[u8], replies: &str, messages: &[&str]| {
        for cut in [usize::MAX, 1, 3] {
            let mut d = Dialogue::with_recipient(options());
            d.cut = cut;
            let got = d.say(input);
            assert!(got.contains(replies), "{got}");
            assert_eq!(d.messages, messages, "{got}");
            d.check_code(b"NOOP\r\n", "250");
        }
    };
    // CR and LF in two chunks; the five bytes over three chunks; a chunk inside a line.
    check(b"BDAT 2\r\na\rBDAT 2 LAST\r\n\nb", "250", &["a\r\nb\r\n"]);
    check(b"BDAT 3\r\na\r\nBDAT 1\r\n.BDAT 2 LAST\r\n\r\n", "250", &["a\r\n..\r\n"]);
    check(b"BDAT 1\r\naBDAT 1\r\nbBDAT 0 LAST\r\n", "250", &["ab\r\n"]);
    check(b"BDAT 0 LAST\r\n", "250", &[""]);
    check(b"BDAT 2 LAST\r\na\r", "550 5.5.2", &[]);
    check(b"BDAT 2\r\na\rBDAT 1 LAST\r\nb", "550 5.5.2", &[]);
    check(b"BDAT 2\r\na\nBDAT 1 LAST\r\nb", "550 5.5.2", &[]);
}

#[test]
fn chunk_sequence() {
    let mut d = Dialogue::with_recipient(options());
    d.check_code(b"BDAT 3\r\na\r\n", "250 2.0.0 Chunk received");
    for (command, start) in [
        ("DATA", "503 5.5.1"),
        ("RCPT TO:<x@y.example>", "503 5.5.1"),
        ("MAIL FROM:<>", "503 5.5.1"),
        ("AUTH PLAIN", "503 5.5.1"),
        ("NOOP", "250 2.0.0"),
    ] {
        d.check_code(format!("{command}\r\n").as_bytes(), start);
    }
    d.check_code(b"RSET\r\n", "250");
    assert_eq!(d.events, ["data", "reset"]);
    // A refused chunk: later ones of the same flight are consumed, not run.
    let mut d = Dialogue::with_recipient(options());
    let replies = d.say(b"BDAT 2\r\n\n\nBDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    let codes: Vec<_> = replies.lines().map(|line| &line[..9]).collect();
    assert_eq!(codes, ["550 5.5.2", "503 5.5.1", "503 5.5.1", "250 2.0.0"]);
    // A size that cannot be read loses the framing.
    for size in ["x", "-1", "1 2", "99999999999999999999", ""] {
        let mut d = Dialogue::with_recipient(options());
        let replies = d.say(format!("BDAT {size}\r\nQUIT\r\n").as_bytes());
        assert!(replies.starts_with("501 5.5.4") && replies.matches("\r\n").count() == 1);
        assert_eq!(d.events, ["close Framing"], "{size:?}");
    }
}

#[test]
fn a_refused_bdat_is_consumed() {
    for cut in [usize::MAX, 1, 4] {
        let mut d = Dialogue::with_recipient(options());
        d.cut = cut;
        let no = Reply::fixed(452, Enhanced::new(4, 3, 1), "Full");
        d.refusals = vec![("data", no)];
        assert_eq!(d.say(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"), "452 4.3.1 Full\r\n250 2.0.0 OK\r\n");
    }
}

#[test]
fn size_is_enforced_while_streaming() {
    let small = ServerOptions { message_bytes_max: 100, ..options() };
    let line = "0123456789abcdef\r\n";
    for (opening, end) in [("DATA\r\n", ".\r\n"), ("BDAT 180 LAST\r\n", "")] {
        let mut d = Dialogue::with_recipient(small.clone());
        d.cut = 7;
        let replies = d.say(format!("{opening}{}{end}NOOP\r\n", line.repeat(10)).as_bytes());
        assert!(replies.contains("552 5.3.4 Message too large\r\n250"), "{replies}");
        assert_eq!(d.events, ["data", "refused TooLarge"]);
        let mut fits = Dialogue::with_recipient(small.clone());
        fits.say(format!("DATA\r\n{}.\r\n", line.repeat(5)).as_bytes());
        assert_eq!(fits.messages.len(), 1);
    }
}

#[test]
fn content_without_end_is_given_up() {
    let small = ServerOptions { message_bytes_max: 100, excess_bytes_max: 1_000, ..options() };
    let flood = "0123456789abcdef\r\n".repeat(100);
    for opening in ["DATA\r\n", "BDAT 100000 LAST\r\n"] {
        for cut in [usize::MAX, 1, 50] {
            let mut d = Dialogue::with_recipient(small.clone());
            d.cut = cut;
            let replies = d.say(format!("{opening}{flood}.\r\nNOOP\r\n").as_bytes());
            assert!(replies.ends_with("552 5.3.4 Message too large\r\n"), "{replies}");
            assert_eq!(d.events, ["data", "refused TooLarge", "close Limit"]);
        }
    }
    let mut d = Dialogue::greeted(small);
    d.check_code(b"BDAT 18446744073709551615\r\nNOOP\r\n", "552 5.3.4");
    assert_eq!(d.events, ["close Limit"]);
}

#[test]
fn eight_bit_content() {
    let message = b"DATA\r\nSubject: \xc3\xa9\r\n.\r\n";
    let mut lenient = Dialogue::with_recipient(options());
    lenient.say(message);
    assert_eq!(lenient.events, ["data", "end 13 true false"]);
    let strict = ServerOptions { undeclared_eight_bit: EightBit::Refuse, ..options() };
    let mut d = Dialogue::with_recipient(strict.clone());
    assert!(d.say(message).contains("554 5.6.1"));
    assert_eq!(d.events, ["data", "refused EightBit"]);
    for declared in ["BODY=8BITMIME", "SMTPUTF8"] {
        let mut d = Dialogue::greeted(strict.clone());
        d.say(format!("MAIL FROM:<> {declared}\r\nRCPT TO:<c@d.example>\r\n").as_bytes());
        d.say(message);
        assert_eq!(d.messages.len(), 1, "{declared}");
    }
}

#[test]
fn the_caller_can_refuse_in_transfer() {
    let no = || Reply::fixed(550, Enhanced::new(5, 7, 1), "Cut off");
    for (start, end) in [("DATA\r\nabc", "def\r\n.\r\n"), ("BDAT 6 LAST\r\nabc", "def")] {
        let mut d = Dialogue::with_recipient(options());
        d.say(start.as_bytes());
        assert!(d.server.refuse_message(no()));
        d.check(end, "550 5.7.1 Cut off\r\n");
        assert_eq!(d.events, ["data", "refused ByCaller"]);
        d.check_code(b"NOOP\r\n", "250");
        assert!(!d.server.refuse_message(no()));
    }
}

#[test]
fn normalized_content() {
    let lenient = ServerOptions { bare_newlines: BareNewlines::Normalize, ..options() };
    let mut d = Dialogue::with_recipient(lenient);
    d.say(b"DATA\r\na\n.\nb\rc\r\n.\r\nNOOP\r\n");
    assert_eq!(d.messages, ["a\r\n..\r\nb c\r\n"]);
}

#[test]
fn big_lines_stay_whole() {
    let line = "a".repeat(1 << 20);
    let mut d = Dialogue::with_recipient(options());
    d.cut = 16_384;
    d.say(format!("DATA\r\n{line}\r\n.\r\n").as_bytes());
    assert_eq!(d.messages, [format!("{line}\r\n")]);
}

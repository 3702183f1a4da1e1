//! SMTP smuggling: content that another server might read as the end of the data, followed by a
//! second transaction. Only CRLF.CRLF ends data, and what leaves is clean on the wire.

use postern_tests::message::find;
use postern_tests::relay::{RECIPIENT, SENDER, Setup};
use postern_tests::sink::{Received, Sink};

use crate::{expect_healthy, session, trusting};

/// Every way of writing an end of data that is not one.
pub(crate) const VARIANTS: &[(&str, &[u8])] = &[
    ("LF . LF", b"\n.\n"),
    ("LF . CRLF", b"\n.\r\n"),
    ("CRLF . LF", b"\r\n.\n"),
    ("CR . CR", b"\r.\r"),
    ("CR . CRLF", b"\r.\r\n"),
    ("CRLF . CR", b"\r\n.\r"),
    ("LF . CR", b"\n.\r"),
    ("CR . LF", b"\r.\n"),
    ("CRCRLF . CRCRLF", b"\r\r\n.\r\r\n"),
    ("CRLF . CRCRLF", b"\r\n.\r\r\n"),
    ("LFCR . LFCR", b"\n\r.\n\r"),
    ("CRLF NUL . CRLF", b"\r\n\0.\r\n"),
    ("CRLF . NUL CRLF", b"\r\n.\0\r\n"),
    ("CR NUL LF . CRLF", b"\r\0\n.\r\n"),
    ("CRLF . SP CRLF", b"\r\n. \r\n"),
    ("CRLF SP . CRLF", b"\r\n .\r\n"),
    ("CRLF . TAB CRLF", b"\r\n.\t\r\n"),
    ("CRLF . VT CRLF", b"\r\n.\x0b\r\n"),
    ("CRLF . FF CRLF", b"\r\n.\x0c\r\n"),
    ("NEL . NEL", b"\xc2\x85.\xc2\x85"),
    ("U+2028 . U+2028", b"\xe2\x80\xa8.\xe2\x80\xa8"),
    ("LF LF . LF LF", b"\n\n.\n\n"),
];

const HEAD: &str =
    "From: <invoices@one.example>\r\nTo: <customer@two.example>\r\nSubject: a\r\n\r\nfirst";

const SECOND: &str = "MAIL FROM:<ceo@one.example>\r\nRCPT TO:<victim@two.example>\r\nDATA\r\n\
                      From: <ceo@one.example>\r\nSubject: smuggled\r\n\r\nsecond";

fn attack(variant: &[u8]) -> Vec<u8> {
    [HEAD.as_bytes(), variant, SECOND.as_bytes(), b"\r\n"].concat()
}

/// Nothing that arrived is a second message, and no line could be read as an end of data.
fn expect_clean(name: &str, received: &[Received]) {
    for got in received {
        let shown = got.content.escape_ascii();
        assert_eq!(got.to, [RECIPIENT], "{name}: smuggled: {shown}");
        assert_eq!(got.from, SENDER, "{name}: smuggled");
        let bare = got.wire.windows(2).any(|pair| (pair[1] == b'\n') != (pair[0] == b'\r'));
        assert!(!bare && !got.wire.contains(&0), "{name}: not clean on the wire");
        assert!(find(&got.wire, b"\r\n.\r\n").is_none(), "{name}: a dot alone left");
    }
}

#[test]
fn no_variant_ends_data() {
    let (sink, relay) = trusting();
    for (name, variant) in VARIANTS {
        for part in [usize::MAX, 1, 3] {
            let mut client = session(&relay);
            client.begin(SENDER, &[RECIPIENT]);
            let bytes = [attack(variant), b".\r\n".to_vec()].concat();
            if part == usize::MAX {
                client.send(&bytes);
            } else {
                // Only the odd line ends are cut: the rest would take long and prove nothing.
                let near = HEAD.len() - 2;
                let far = HEAD.len() + variant.len() + 3;
                client.send(&bytes[..near]);
                client.send_split(&bytes[near..far], part);
                // The session may be closed by now.
                client.try_send(&bytes[far..]).ok();
            }
            let reply = client.reply();
            let has_bare = variant.contains(&0)
                || [HEAD.as_bytes(), variant, b"M"].concat().windows(2).any(is_bare);
            if has_bare {
                assert!((500..560).contains(&reply.code), "{name} by {part}: {reply}");
            }
            // One answer to the one message: nothing of it was read as commands.
            client.try_send(b"NOOP\r\n").ok();
            let after = client.try_reply();
            assert!(after.is_err() || after.is_ok_and(|reply| reply.code == 250), "{name}");
        }
    }
    expect_healthy(&relay, &sink, 1);
    let received = sink.stop();
    expect_clean("DATA", &received);
}

fn is_bare(pair: &[u8]) -> bool {
    (pair[1] == b'\n' && pair[0] != b'\r') || (pair[0] == b'\r' && pair[1] != b'\n')
}

#[test]
fn no_variant_ends_a_chunk() {
    let (sink, relay) = trusting();
    for (name, variant) in VARIANTS {
        let content = attack(variant);
        // One chunk; then cut inside the odd line ends, at every place.
        let cuts = (0..=variant.len()).map(|at| HEAD.len() + at);
        for cut in cuts {
            let mut client = session(&relay);
            client.command(&format!("MAIL FROM:<{SENDER}> BODY=8BITMIME")).expect(250);
            client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
            client.send(format!("BDAT {cut}\r\n").as_bytes());
            client.send(&content[..cut]);
            let first = client.reply();
            client.try_send(format!("BDAT {} LAST\r\n", content.len() - cut).as_bytes()).ok();
            client.try_send(&content[cut..]).ok();
            let second = client.try_reply();
            let is_refused =
                first.code >= 500 || second.as_ref().is_ok_and(|reply| reply.code >= 500);
            let has_bare = variant.contains(&0)
                || [HEAD.as_bytes(), variant, b"M"].concat().windows(2).any(is_bare);
            assert!(!has_bare || is_refused, "{name} cut at {cut}: {first}, {second:?}");
        }
    }
    // A dot alone inside a chunk is content, and is stuffed on its way out.
    let mut client = session(&relay);
    let content = attack(b"\r\n.\r\n");
    client.command(&format!("MAIL FROM:<{SENDER}>")).expect(250);
    client.command(&format!("RCPT TO:<{RECIPIENT}>")).expect(250);
    client.send(format!("BDAT {} LAST\r\n", content.len()).as_bytes());
    client.send(&content);
    client.reply().expect(250);
    let stuffed = sink.wait_until(10, |all| all.iter().any(|got| got.content.ends_with(&content)));
    assert!(stuffed, "a dot alone in a chunk is content");
    let received = sink.stop();
    expect_clean("BDAT", &received);
}

#[test]
fn normalised_line_ends_are_clean_too() {
    let sink = Sink::start();
    let relay = Setup::new(sink.addr())
        .trusting_loopback()
        .set("listener.0.bare_newlines", "normalize")
        .start();
    for (name, variant) in VARIANTS.iter().filter(|(_, variant)| !variant.contains(&0)) {
        let mut client = session(&relay);
        client.begin(SENDER, &[RECIPIENT]);
        client.send(&[attack(variant), b".\r\n".to_vec()].concat());
        let reply = client.reply();
        assert!(matches!(reply.code, 250 | 500..=559), "{name}: {reply}");
        client.command("NOOP").expect(250);
    }
    expect_healthy(&relay, &sink, 1);
    let received = sink.stop();
    expect_clean("normalize", &received);
    assert!(received.len() > 3, "bare line feeds are normalised: {}", received.len());
}

#[test]
fn bare_line_ends_are_refused_in_commands() {
    let (sink, relay) = trusting();
    for line in [
        &b"NOOP\n"[..],
        b"NOOP\rNOOP\r\n",
        b"MAIL FROM:<invoices@one.example>\nRCPT TO:<customer@two.example>\r\n",
        b"NO\0OP\r\n",
        b"MAIL FROM:<a\rb@one.example>\r\n",
        b"MAIL FROM:<a\0b@one.example>\r\n",
    ] {
        let mut client = session(&relay);
        client.send(line);
        client.send(b"QUIT\r\n");
        let said = client.rest();
        let text = said.escape_ascii().to_string();
        assert!(
            said.starts_with(b"5") || said.starts_with(b"421"),
            "{}: {text}",
            line.escape_ascii()
        );
        assert!(find(&said, b"250 ").is_none(), "{}: {text}", line.escape_ascii());
    }
    expect_healthy(&relay, &sink, 1);
    sink.stop();
}

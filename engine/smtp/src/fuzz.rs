//! Bodies of fuzz targets, so that a target is three lines and the tests replay the corpus.
//!
//! Each body checks invariants by panicking: a panic is a finding.

use std::sync::Arc;
use std::time::Instant;

use crate::client::{Client, ClientOptions, Envelope, Event as ClientEvent, Recipient, TlsPolicy};
use crate::data::{BareNewlines, WireCheck};
use crate::reply::{Enhanced, Reply};
use crate::server::{
    CloseReason, EightBit, Event, OUTPUT_BYTES_MAX, Security, Server, ServerOptions,
};

/// Runs the bytes through a server session, whole and cut to pieces, and checks that both say and
/// tell the same, that content handed out is wire form, and that output stays bounded.
///
/// The first byte chooses the options, the second the cuts; the rest is what the client sends. Any
/// `now` will do.
pub fn fuzz_server(data: &[u8], now: Instant) {
    let [choices, cut, stream @ ..] = data else {
        return;
    };
    let options = Arc::new(options(*choices));
    let security = if choices & 1 == 0 { Security::Tls } else { Security::Plain };
    let whole = run_server(&options, security, stream, usize::MAX, now);
    for cut in [usize::from(*cut).max(1), 1] {
        let pieces = run_server(&options, security, stream, cut, now);
        assert_eq!(whole, pieces, "cut at {cut}");
    }
}

fn options(choices: u8) -> ServerOptions {
    let small = choices & 8 != 0;
    ServerOptions {
        hostname: "mx.example".to_owned(),
        bare_newlines: if choices & 2 == 0 {
            BareNewlines::Reject
        } else {
            BareNewlines::Normalize
        },
        undeclared_eight_bit: if choices & 4 == 0 { EightBit::Accept } else { EightBit::Refuse },
        message_bytes_max: if small { 200 } else { 1 << 20 },
        excess_bytes_max: if small { 300 } else { 1 << 20 },
        recipients_max: if small { 2 } else { 100 },
        errors_max: if small { 3 } else { 1_000 },
        idle_commands_max: if small { 3 } else { 1_000 },
        insecure_plaintext_auth: choices & 16 != 0,
        ..ServerOptions::default()
    }
}

/// What a session said and told, independent of how its input was cut.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transcript {
    replies: Vec<u8>,
    events: Vec<String>,
}

/// A caller with fixed opinions.
struct Run {
    transcript: Transcript,
    content: Vec<u8>,
    check: WireCheck,
}

fn run_server(
    options: &Arc<ServerOptions>,
    security: Security,
    stream: &[u8],
    cut: usize,
    now: Instant,
) -> Transcript {
    let mut server = Server::new(options.clone(), security, now);
    let mut run =
        Run { transcript: Transcript::default(), content: Vec::new(), check: WireCheck::new() };
    for chunk in stream.chunks(cut.min(stream.len()).max(1)) {
        if !run.chunk(&mut server, chunk, now) {
            break;
        }
    }
    run.flush(&mut server);
    run.forget_tls_injection();
    run.transcript
}

impl Run {
    /// Hands one chunk in; false when the session is over.
    fn chunk(&mut self, server: &mut Server, chunk: &[u8], now: Instant) -> bool {
        let (mut at, mut stalled) = (0, 0);
        loop {
            let received = server.receive(&chunk[at..], now);
            at += received.consumed;
            let decision = match received.event {
                None if at == chunk.len() => return true,
                None => {
                    // A step may be taken without input, but never again and again.
                    stalled = if received.consumed > 0 { 0 } else { stalled + 1 };
                    assert!(stalled < 3, "no event and no progress");
                    continue;
                }
                Some(Event::Close(reason)) => {
                    self.note(format!("close {reason:?}"));
                    return false;
                }
                Some(Event::StartTls) => {
                    self.note("starttls".to_owned());
                    return false;
                }
                Some(event) => self.event(&event),
            };
            if server.is_deciding() {
                if decision { server.accept(now) } else { server.refuse(REFUSAL, now) }
            }
            if server.has_output() {
                self.flush(server);
            }
        }
    }

    /// Notes an event; whether to accept it follows from what it says.
    fn event(&mut self, event: &Event<'_>) -> bool {
        match event {
            Event::Content(wire) => {
                assert!(!wire.is_empty(), "empty content");
                self.check.check(wire).expect("content is wire form");
                self.content.extend_from_slice(wire);
            }
            Event::EndOfData(end) => {
                assert_eq!(end.wire_bytes, self.content.len() as u64, "content is counted");
                let terminator = self.check.terminator().expect("content is complete");
                assert_eq!(terminator, b".\r\n", "content is whole lines");
                let content = std::mem::take(&mut self.content);
                self.note(format!("{end:?} {}", content.escape_ascii()));
                return !content.starts_with(b"x");
            }
            Event::Flush => {}
            other => {
                // What was handed out of a message that is refused depends on the cuts.
                self.content.clear();
                self.check = WireCheck::new();
                self.note(format!("{other:?}"));
            }
        }
        match event {
            Event::Auth(credentials) => credentials.password.expose() == b"secret",
            Event::Mail(mail) => !mail.reverse_path.as_str().starts_with('x'),
            Event::Rcpt(rcpt) => !rcpt.forward_path.as_str().starts_with('x'),
            _ => true,
        }
    }

    fn note(&mut self, event: String) {
        self.transcript.events.push(event);
    }

    fn flush(&mut self, server: &mut Server) {
        let output = server.transmit();
        assert!(output.len() < OUTPUT_BYTES_MAX + 2_048, "output is bounded");
        self.transcript.replies.extend_from_slice(&output);
    }

    /// Commands behind STARTTLS end the session at once when they come with it, else later: the one
    /// place where cuts show. Both count as the same end here.
    fn forget_tls_injection(&mut self) {
        let injected = self.transcript.events.last().is_some_and(|e| *e == framing_close());
        let told = b"421 4.7.0 Commands behind STARTTLS, closing\r\n";
        if injected && self.transcript.replies.ends_with(told) {
            let kept = self.transcript.replies.len() - told.len();
            self.transcript.replies.truncate(kept);
            self.transcript.events.pop();
            self.note("starttls".to_owned());
        }
    }
}

fn framing_close() -> String {
    format!("close {:?}", CloseReason::Framing)
}

const REFUSAL: Reply = Reply::fixed(550, Enhanced::new(5, 7, 1), "Refused");

/// Runs the bytes as a server's replies through a client session that delivers one message, whole
/// and cut to pieces, and checks that both say and tell the same.
///
/// The first byte chooses the cuts. Any `now` will do.
pub fn fuzz_client(data: &[u8], now: Instant) {
    let Some((cut, stream)) = data.split_first() else {
        return;
    };
    let whole = run_client(stream, usize::MAX, now);
    for cut in [usize::from(*cut).max(1), 1] {
        assert_eq!(whole, run_client(stream, cut, now), "cut at {cut}");
    }
}

fn run_client(stream: &[u8], cut: usize, now: Instant) -> (Vec<u8>, Vec<ClientEvent>) {
    let options = Arc::new(ClientOptions {
        hostname: "client.example".to_owned(),
        tls: TlsPolicy::Never,
        ..ClientOptions::default()
    });
    let mut client = Client::new(options, Security::Plain, now);
    let (mut said, mut events) = (Vec::new(), Vec::new());
    for chunk in stream.chunks(cut.min(stream.len()).max(1)) {
        let mut at = 0;
        loop {
            let received = client.receive(&chunk[at..], now);
            at += received.consumed;
            let Some(event) = received.event else {
                if at == chunk.len() {
                    break;
                }
                continue;
            };
            match &event {
                ClientEvent::Ready if events.len() < 20 => {
                    client.begin(envelope(), now).expect("a plain envelope suits every server");
                }
                ClientEvent::ContentNow => {
                    client.content(b"Subject: x\r\n\r\n..\r\n", now).expect("wire form");
                    client.end_of_data(now).expect("whole lines");
                }
                _ => {}
            }
            events.push(event);
            said.extend(client.transmit());
        }
    }
    said.extend(client.transmit());
    (said, events)
}

fn envelope() -> Envelope {
    Envelope {
        reverse_path: "a@b.example".to_owned(),
        recipients: vec![Recipient::new("c@d.example"), Recipient::new("e@f.example")],
        ..Envelope::default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a test needs some point to count from")]
    fn some_time() -> Instant {
        Instant::now()
    }

    /// Every file of the corpus runs clean.
    #[test]
    fn the_corpus_is_replayed() {
        for (folder, body) in
            [("server", fuzz_server as fn(&[u8], Instant)), ("client", fuzz_client)]
        {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
            let files = fs::read_dir(&folder).expect("the corpus is committed");
            let mut count = 0;
            for file in files {
                #[allow(clippy::disallowed_methods, reason = "a test reads the corpus")]
                let data = fs::read(file.expect("an entry").path()).expect("a readable file");
                body(&data, some_time());
                count += 1;
            }
            assert!(count >= 10, "{} holds {count} files", folder.display());
        }
    }

    fn command() -> impl Strategy<Value = Vec<u8>> {
        let text = prop_oneof![
            Just("EHLO a.example\r\n"),
            Just("HELO a\r\n"),
            Just("MAIL FROM:<a@b.example>\r\n"),
            Just("MAIL FROM:<x@b.example> SIZE=150 BODY=8BITMIME\r\n"),
            Just("MAIL FROM:<>\r\n"),
            Just("RCPT TO:<c@d.example>\r\n"),
            Just("RCPT TO:<x@d.example> NOTIFY=NEVER\r\n"),
            Just("DATA\r\n"),
            Just("BDAT 10\r\n0123456\r\n."),
            Just("BDAT 12 LAST\r\n.\r\nMAIL FRO\r\n"),
            Just("BDAT 0 LAST\r\n"),
            Just("BDAT 3\r\na\r\n"),
            Just("BDAT 3\r\n\n.\r"),
            Just("Subject: x\r\n\r\nbody\r\n"),
            Just("x refused\r\n.\r\n"),
            Just("\r\n.\r\n"),
            Just("\r\n.\n"),
            Just("\n.\r\n"),
            Just("..\r\n"),
            Just("."),
            Just("\r"),
            Just("\n"),
            Just("\0"),
            Just("\u{e9}"),
            Just("RSET\r\n"),
            Just("NOOP\r\n"),
            Just("AUTH PLAIN AGFwcABzZWNyZXQ=\r\n"),
            Just("AUTH LOGIN\r\n"),
            Just("YXBw\r\n"),
            Just("*\r\n"),
            Just("STARTTLS\r\n"),
            Just("QUIT\r\n"),
            Just("BOGUS\r\n"),
        ];
        prop_oneof![
            20 => text.prop_map(|text| text.as_bytes().to_vec()),
            1 => (1_usize..3_000).prop_map(|bytes| [vec![b'a'; bytes], b"\r\n".to_vec()].concat()),
            1 => proptest::collection::vec(any::<u8>(), 1..20),
        ]
    }

    /// A start that gets a random dialogue somewhere.
    fn opening() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(&b""[..]),
            Just(&b"EHLO a\r\n"[..]),
            Just(&b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"[..]),
            Just(&b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"[..]),
        ]
        .prop_map(<[u8]>::to_vec)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn a_server_does_not_see_the_cuts(
            head in any::<[u8; 2]>(),
            opening in opening(),
            commands in proptest::collection::vec(command(), 0..25),
        ) {
            fuzz_server(&[&head[..], &opening, &commands.concat()].concat(), some_time());
        }

        #[test]
        fn a_client_does_not_see_the_cuts(
            cut in any::<u8>(),
            replies in proptest::collection::vec(reply(), 0..25),
        ) {
            let opening = b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n";
            fuzz_client(&[&[cut], &replies.concat()[..]].concat(), some_time());
            fuzz_client(&[&[cut], &opening[..], &replies.concat()].concat(), some_time());
        }
    }

    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let text = prop_oneof![
            4 => Just("250 2.0.0 ok\r\n"),
            2 => Just("354 go\r\n"),
            1 => Just("250-a\r\n250-SIZE 10\r\n250 DSN\r\n"),
            1 => Just("550 5.1.1 no\r\n"),
            1 => Just("450 later\n"),
            1 => Just("421 bye\r\n"),
            1 => Just("250-a\r\n251 b\r\n"),
            1 => Just("junk\r\n"),
            1 => Just("220"),
        ];
        prop_oneof![
            20 => text.prop_map(|text| text.as_bytes().to_vec()),
            1 => (1_usize..3_000).prop_map(|bytes| vec![b'2'; bytes]),
        ]
    }
}

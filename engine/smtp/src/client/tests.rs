//! Dialogues with a scripted server.

use std::time::Duration;

use super::*;
use crate::param::{Body, Notify, Ret};
use crate::reply::Enhanced;

/// A client, and what it told.
struct Script {
    client: Client,
    now: Instant,
    events: Vec<Event>,
}

const ALL: &str = "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                   250-DSN\r\n250-STARTTLS\r\n250 AUTH LOGIN PLAIN\r\n";
const STEPWISE: &str = "250 mx\r\n";

fn options(tls: TlsPolicy) -> ClientOptions {
    ClientOptions { hostname: "relay.example".to_owned(), tls, ..ClientOptions::default() }
}

fn login() -> Option<Login> {
    Some(Login { authcid: "app".to_owned(), password: Password::new("secret") })
}

impl Script {
    fn new(options: ClientOptions, security: Security) -> Self {
        #[allow(clippy::disallowed_methods, reason = "a test needs some point to count from")]
        let now = Instant::now();
        Self { client: Client::new(Arc::new(options), security, now), now, events: Vec::new() }
    }

    /// A session that is ready for transactions.
    fn ready(ehlo: &str) -> Self {
        let mut script = Self::new(options(TlsPolicy::Never), Security::Plain);
        script.server("220 mx\r\n", "EHLO relay.example\r\n");
        script.server(ehlo, "");
        assert_eq!(script.told(), [Event::Ready]);
        script
    }

    /// The server says `text`; the client must answer `expected`.
    fn server(&mut self, text: &str, expected: &str) {
        let mut at = 0;
        loop {
            let received = self.client.receive(&text.as_bytes()[at..], self.now);
            at += received.consumed;
            match received.event {
                Some(event) => self.events.push(event),
                None if at == text.len() => break,
                None => {}
            }
        }
        self.says(expected, text);
    }

    fn says(&mut self, expected: &str, to: &str) {
        let said = String::from_utf8(self.client.transmit()).expect("ASCII");
        assert_eq!(said, expected, "to {to:?}, told {:?}", self.events);
    }

    fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn begin(&mut self, envelope: Envelope, expected: &str) {
        self.client.begin(envelope, self.now).expect("ready");
        self.says(expected, "begin");
    }

    fn failure(&mut self) -> Failure {
        assert!(self.client.is_closed());
        match self.told().pop() {
            Some(Event::Failed(failure)) => failure,
            other => panic!("a failure expected, not {other:?}"),
        }
    }
}

fn envelope(recipients: &[&str]) -> Envelope {
    Envelope {
        reverse_path: "a@b.example".to_owned(),
        recipients: recipients.iter().map(|r| Recipient::new(*r)).collect(),
        ..Envelope::default()
    }
}

fn reply(code: u16, text: &'static str) -> Reply {
    Reply::bare(code, text)
}

#[test]
fn stepwise() {
    let mut s = Script::ready(STEPWISE);
    s.begin(envelope(&["c@d.example", "e@f.example"]), "MAIL FROM:<a@b.example>\r\n");
    s.server("250 ok\r\n", "RCPT TO:<c@d.example>\r\n");
    s.server("250 one\r\n", "RCPT TO:<e@f.example>\r\n");
    s.server("550 5.1.1 two\r\n", "DATA\r\n");
    s.server("354 go\r\n", "");
    let refused = Reply::fixed(550, Enhanced::new(5, 1, 1), "two");
    assert_eq!(
        s.told(),
        [
            Event::Recipient { index: 0, outcome: Ok(reply(250, "one")) },
            Event::Recipient { index: 1, outcome: Err(refused) },
            Event::ContentNow
        ]
    );
    s.client.content(b"x", s.now).expect("wire form");
    s.client.end_of_data(s.now).expect("complete");
    s.says("\r\n.\r\n", "content");
    s.server("250 taken\r\n", "");
    let accepted = Event::Finished(Outcome::Accepted(reply(250, "taken")));
    assert_eq!(s.told(), [accepted, Event::Ready]);
    s.client.quit(s.now);
    s.says("QUIT\r\n", "quit");
    s.server("221 bye\r\n", "");
    assert_eq!(s.told(), [Event::Closed]);
    assert!(s.client.is_closed());
}

#[test]
fn pipelined_with_parameters() {
    let mut s = Script::ready(ALL);
    let mut full = envelope(&["c@d.example"]);
    full.size = Some(999);
    full.body = Body::EightBitMime;
    full.smtputf8 = true;
    full.ret = Some(Ret::Headers);
    full.envid = Some("q+2B1".to_owned());
    full.recipients[0].notify = Some(Notify::SUCCESS.union(Notify::FAILURE));
    full.recipients[0].orcpt = Some("rfc822;c@d.example".to_owned());
    s.begin(
        full,
        "MAIL FROM:<a@b.example> SIZE=999 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=q+2B1\r\n\
         RCPT TO:<c@d.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c@d.example\r\nDATA\r\n",
    );
    s.server("250 a\r\n250 b\r\n354 c\r\n", "");
    assert_eq!(s.told().last(), Some(&Event::ContentNow));
    s.client.content(b"x\r\n", s.now).expect("wire form");
    s.client.end_of_data(s.now).expect("complete");
    s.says(".\r\n", "content");
    s.server("550 5.7.1 no\r\n", "");
    let no = Reply::fixed(550, Enhanced::new(5, 7, 1), "no");
    let refused = Outcome::Refused { stage: Stage::EndOfData, reply: no };
    assert_eq!(s.told(), [Event::Finished(refused), Event::Ready]);
    // The session goes on.
    s.begin(
        envelope(&["c@d.example"]),
        "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
    );
}

#[test]
fn nothing_is_sent_that_is_not_offered() {
    let mut s = Script::ready(STEPWISE);
    let mut plain = envelope(&["c@d.example"]);
    plain.size = Some(999_999);
    plain.ret = Some(Ret::Full);
    plain.envid = Some("x".to_owned());
    plain.recipients[0].notify = Some(Notify::NEVER);
    s.begin(plain, "MAIL FROM:<a@b.example>\r\n");
    s.server("250 ok\r\n", "RCPT TO:<c@d.example>\r\n");
}

#[test]
fn envelopes_that_cannot_be_sent() {
    let refused = |ehlo: &str, change: &dyn Fn(&mut Envelope)| {
        let mut s = Script::ready(ehlo);
        let mut envelope = envelope(&["c@d.example"]);
        change(&mut envelope);
        let error = s.client.begin(envelope, s.now).expect_err("must not be sent");
        assert!(!s.client.has_output() && s.client.is_ready());
        error
    };
    let bad: [&dyn Fn(&mut Envelope); 7] = [
        &|e| e.reverse_path = "a@b.example>\r\nRCPT TO:<evil@x.example".to_owned(),
        &|e| e.reverse_path = "no mailbox".to_owned(),
        &|e| e.recipients[0].forward_path = "c@d.example\n".to_owned(),
        &|e| e.recipients[0].forward_path = String::new(),
        &|e| e.recipients[0].orcpt = Some("rfc822;a b".to_owned()),
        &|e| e.recipients[0].orcpt = Some("rfc822;a\r\nDATA".to_owned()),
        &|e| e.envid = Some("a\r\nQUIT".to_owned()),
    ];
    for change in bad {
        assert_eq!(refused(ALL, change), BeginError::BadAddress);
    }
    assert_eq!(refused(ALL, &|e| e.recipients.clear()), BeginError::NoRecipient);
    assert_eq!(refused(ALL, &|e| e.size = Some(1_001)), BeginError::TooLarge);
    let eight = |e: &mut Envelope| e.body = Body::EightBitMime;
    assert_eq!(refused(STEPWISE, &eight), BeginError::EightBitUnsupported);
    let utf8 = |e: &mut Envelope| e.recipients[0].forward_path = "é@d.example".to_owned();
    assert_eq!(refused(STEPWISE, &utf8), BeginError::Utf8Unsupported);
    let mut s = Script::new(options(TlsPolicy::Never), Security::Plain);
    assert_eq!(s.client.begin(envelope(&["c@d.example"]), s.now), Err(BeginError::NotReady));
    s.server("", "");
}

#[test]
fn refusals_on_the_way() {
    let mut s = Script::ready(ALL);
    let commands = "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
    let mut check = |server: &str, says: &str, outcome: Outcome, then: &str| {
        s.begin(envelope(&["c@d.example"]), commands);
        s.server(server, says);
        s.server(then, "");
        let told = s.told();
        let finished = told.iter().find(|event| matches!(event, Event::Finished(_)));
        assert_eq!(finished, Some(&Event::Finished(outcome)), "{server:?}");
        assert_eq!(told.last(), Some(&Event::Ready));
        assert!(!told.contains(&Event::ContentNow));
    };
    let mail = Outcome::Refused { stage: Stage::Mail, reply: reply(550, "m") };
    check("550 m\r\n503 r\r\n503 d\r\n", "RSET\r\n", mail.clone(), "250 ok\r\n");
    // A server that takes DATA all the same gets a lone dot, and its answer means nothing.
    check("550 m\r\n503 r\r\n354 d\r\n", ".\r\n", mail, "250 taken\r\n");
    check("250 m\r\n450 r\r\n554 d\r\n", "RSET\r\n", Outcome::NoRecipient, "250 ok\r\n");
    check("250 m\r\n550 r\r\n354 d\r\n", ".\r\n", Outcome::NoRecipient, "554 none\r\n");
    let data = Outcome::Refused { stage: Stage::Data, reply: reply(451, "d") };
    check("250 m\r\n250 r\r\n451 d\r\n", "RSET\r\n", data, "250 ok\r\n");
    let mut s = Script::ready(STEPWISE);
    s.begin(envelope(&["c@d.example"]), "MAIL FROM:<a@b.example>\r\n");
    s.server("250 m\r\n", "RCPT TO:<c@d.example>\r\n");
    s.server("550 r\r\n", "RSET\r\n");
    let refused = Event::Recipient { index: 0, outcome: Err(reply(550, "r")) };
    assert_eq!(s.told(), [refused, Event::Finished(Outcome::NoRecipient)]);
    s.begin_is_too_early();
}

impl Script {
    fn begin_is_too_early(&mut self) {
        let begun = self.client.begin(envelope(&["c@d.example"]), self.now);
        assert_eq!(begun, Err(BeginError::NotReady));
    }
}

#[test]
fn many_recipients_go_in_windows() {
    let names: Vec<_> = (0..250).map(|index| format!("r{index}@d.example")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut s = Script::ready(ALL);
    s.client.begin(envelope(&names), s.now).expect("ready");
    let mut in_flight =
        String::from_utf8(s.client.transmit()).expect("ASCII").matches('\n').count();
    assert_eq!(in_flight, PIPELINE_COMMANDS_MAX);
    for answered in 0..251 {
        s.client.receive(b"250 ok\r\n", s.now);
        in_flight += String::from_utf8(s.client.transmit()).expect("ASCII").matches('\n').count();
        assert_eq!(in_flight, 252.min(PIPELINE_COMMANDS_MAX + answered + 1));
    }
    s.server("354 go\r\n", "");
    assert_eq!(s.told(), [Event::ContentNow]);
}

#[test]
fn content_that_is_not_wire_form_is_not_sent() {
    for part in [&b"a\nb"[..], b"a\rb", b"a\0", b"a\r\n.\r\n", b".\r\nMAIL FROM:<>\r\n"] {
        let mut s = Script::ready(ALL);
        s.client.begin(envelope(&["c@d.example"]), s.now).expect("ready");
        s.client.receive(b"250 a\r\n", s.now);
        s.client.receive(b"250 a\r\n", s.now);
        s.client.receive(b"354 a\r\n", s.now);
        assert!(s.client.content(part, s.now).is_err(), "{part:?}");
        assert!(s.client.is_closed());
    }
    let mut s = Script::ready(ALL);
    s.client.begin(envelope(&["c@d.example"]), s.now).expect("ready");
    s.server(
        "250 a\r\n250 b\r\n354 c\r\n",
        "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
    );
    s.client.content(b"a\r", s.now).expect("perhaps half a line end");
    assert!(s.client.end_of_data(s.now).is_err());
    assert!(!s.client.has_output());
}

#[test]
fn tls() {
    let mut s = Script::new(options(TlsPolicy::Require), Security::Plain);
    s.server("220 mx\r\n", "EHLO relay.example\r\n");
    s.server(ALL, "STARTTLS\r\n");
    s.server("220 go\r\n", "");
    assert_eq!(s.told(), [Event::StartTls]);
    s.client.tls_started(s.now);
    s.says("EHLO relay.example\r\n", "TLS");
    assert_eq!(s.client.capabilities(), &Capabilities::default());
    s.server(STEPWISE, "");
    assert_eq!(s.told(), [Event::Ready]);
    assert_eq!(s.client.security(), Security::Tls);
}

#[test]
fn tls_that_is_missing_or_refused() {
    let run = |tls, ehlo: &str, answer: &str| {
        let mut s = Script::new(options(tls), Security::Plain);
        s.server("220 mx\r\n", "EHLO relay.example\r\n");
        let says = if answer.is_empty() { "" } else { "STARTTLS\r\n" };
        s.server(ehlo, says);
        s.server(answer, "");
        s
    };
    let missing = run(TlsPolicy::Require, STEPWISE, "").failure();
    assert_eq!(
        (missing.cause.clone(), missing.class()),
        (Cause::TlsMissing, FailureClass::Protocol)
    );
    let refused = run(TlsPolicy::Require, ALL, "454 not now\r\n").failure();
    assert_eq!(refused.class(), FailureClass::Transient);
    assert_eq!(run(TlsPolicy::Opportunistic, ALL, "454 not now\r\n").told(), [Event::Ready]);
    assert_eq!(run(TlsPolicy::Opportunistic, STEPWISE, "").told(), [Event::Ready]);
    assert_eq!(run(TlsPolicy::Never, STEPWISE, "").told(), [Event::Ready]);
}

#[test]
fn injected_replies_fail_the_session() {
    for (first, second) in [
        ("220 go\r\n250 injected\r\n", ""),
        ("220 go\r\n", "250-mx\r\n250 AUTH PLAIN\r\n"),
        ("220 go\r\n2", ""),
    ] {
        let mut s = Script::new(options(TlsPolicy::Opportunistic), Security::Plain);
        s.server("220 mx\r\n", "EHLO relay.example\r\n");
        s.server(ALL, "STARTTLS\r\n");
        s.server(first, "");
        s.server(second, "");
        assert_eq!(s.failure().cause, Cause::Injection, "{first:?} {second:?}");
    }
}

#[test]
fn auth() {
    let with_login = || ClientOptions { login: login(), ..options(TlsPolicy::Require) };
    let mut s = Script::new(with_login(), Security::Tls);
    s.server("220 mx\r\n", "EHLO relay.example\r\n");
    s.server(ALL, "AUTH PLAIN AGFwcABzZWNyZXQ=\r\n");
    s.server("235 ok\r\n", "");
    assert_eq!(s.told(), [Event::Ready]);
    let mut s = Script::new(with_login(), Security::Tls);
    s.server("220 mx\r\n", "EHLO relay.example\r\n");
    s.server("250-mx\r\n250 AUTH LOGIN\r\n", "AUTH LOGIN\r\n");
    s.server("334 VXNlcm5hbWU6\r\n", "YXBw\r\n");
    s.server("334 UGFzc3dvcmQ6\r\n", "c2VjcmV0\r\n");
    s.server("535 5.7.8 no\r\n", "");
    let failure = s.failure();
    assert_eq!((failure.phase, failure.class()), (Phase::Auth, FailureClass::Permanent));
    let mut none = Script::new(with_login(), Security::Tls);
    none.server("220 mx\r\n", "EHLO relay.example\r\n");
    none.server(STEPWISE, "");
    assert_eq!(none.failure().cause, Cause::AuthMissing);
    // Credentials do not go out in clear.
    let clear = ClientOptions { login: login(), ..options(TlsPolicy::Never) };
    let mut s = Script::new(clear, Security::Plain);
    s.server("220 mx\r\n", "EHLO relay.example\r\n");
    s.server(ALL, "");
    assert_eq!(s.failure().cause, Cause::AuthMissing);
}

#[test]
fn openings_that_fail() {
    for (server, class) in [
        ("554 no\r\n", FailureClass::Permanent),
        ("421 later\r\n", FailureClass::Transient),
        ("250 odd\r\n", FailureClass::Protocol),
        ("SSH-2.0-x\r\n", FailureClass::Protocol),
        ("220-a\r\n250 b\r\n", FailureClass::Protocol),
    ] {
        let mut s = Script::new(options(TlsPolicy::Never), Security::Plain);
        s.server(server, "");
        let failure = s.failure();
        assert_eq!((failure.phase, failure.class()), (Phase::Greeting, class), "{server:?}");
    }
    let mut flood = Script::new(options(TlsPolicy::Never), Security::Plain);
    flood.server(&"2".repeat(2 << 20), "");
    assert_eq!(flood.failure().class(), FailureClass::Protocol);
    let mut helo = Script::new(options(TlsPolicy::Never), Security::Plain);
    helo.server("220 mx\r\n", "EHLO relay.example\r\n");
    helo.server("502 what\r\n", "HELO relay.example\r\n");
    helo.server("250 mx\r\n", "");
    assert_eq!(helo.told(), [Event::Ready]);
}

#[test]
fn a_421_ends_the_session_anywhere() {
    let mut s = Script::ready(ALL);
    s.client.begin(envelope(&["c@d.example"]), s.now).expect("ready");
    drop(s.client.transmit());
    s.server("250 a\r\n421 4.3.2 down\r\n", "");
    let failure = s.failure();
    assert_eq!((failure.phase, failure.class()), (Phase::Rcpt, FailureClass::Transient));
    // Between transactions.
    let mut s = Script::ready(ALL);
    s.server("421 idle\r\n", "");
    assert_eq!(s.failure().phase, Phase::Idle);
    // In the content, and as the verdict.
    for content_done in [false, true] {
        let mut s = Script::ready(ALL);
        s.client.begin(envelope(&["c@d.example"]), s.now).expect("ready");
        drop(s.client.transmit());
        s.server("250 a\r\n250 b\r\n354 c\r\n", "");
        s.told();
        if content_done {
            s.client.end_of_data(s.now).expect("empty content");
            drop(s.client.transmit());
        }
        s.server("421 down\r\n", "");
        assert!(s.client.is_closed());
        let refused = Outcome::Refused { stage: Stage::EndOfData, reply: reply(421, "down") };
        let told = s.told();
        if content_done {
            assert_eq!(told, [Event::Finished(refused), Event::Closed]);
        } else {
            assert!(matches!(told[..], [Event::Failed(Failure { phase: Phase::Content, .. })]));
        }
    }
}

#[test]
fn silence_and_lost_connections() {
    let timeouts = ClientTimeouts::default();
    let mut s = Script::new(options(TlsPolicy::Never), Security::Plain);
    assert_eq!(s.client.deadline(), Some(s.now + timeouts.greeting));
    assert_eq!(s.client.handle_timeout(s.now + Duration::from_secs(299)), None);
    s.server("22", "");
    let late = s.now + timeouts.greeting;
    let failure = Failure { phase: Phase::Greeting, cause: Cause::Timeout };
    assert_eq!(s.client.handle_timeout(late), Some(Event::Failed(failure)));

    let mut s = Script::ready(ALL);
    assert_eq!(s.client.deadline(), None);
    s.client.begin(envelope(&["c@d.example"]), s.now).expect("ready");
    drop(s.client.transmit());
    assert_eq!(s.client.deadline(), Some(s.now + timeouts.mail));
    s.server("250 a\r\n250 b\r\n", "");
    assert_eq!(s.client.deadline(), Some(s.now + timeouts.data));
    s.server("354 c\r\n", "");
    assert_eq!(s.client.deadline(), Some(s.now + timeouts.data_block));
    s.client.end_of_data(s.now).expect("empty content");
    drop(s.client.transmit());
    assert_eq!(s.client.deadline(), Some(s.now + timeouts.end_of_data));
    let lost = Failure { phase: Phase::EndOfData, cause: Cause::Disconnected };
    assert_eq!(lost.class(), FailureClass::Transient);
    assert_eq!(s.client.peer_closed(), Event::Failed(lost));

    let mut s = Script::ready(ALL);
    s.client.quit(s.now);
    assert_eq!(s.client.peer_closed(), Event::Closed);
}

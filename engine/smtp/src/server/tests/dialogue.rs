//! A caller that says yes to everything unless told otherwise, and writes down what happened.

use super::*;

/// Drives a session and records what it says and tells.
pub(crate) struct Dialogue {
    pub(crate) server: Server,
    pub(crate) now: Instant,
    /// What the next decisions are; yes when empty.
    pub(crate) refusals: Vec<(&'static str, Reply)>,
    /// Events in order, by name and essence; content left out.
    pub(crate) events: Vec<String>,
    /// Accepted messages, wire form.
    pub(crate) messages: Vec<String>,
    content: Vec<u8>,
    /// Largest chunk handed in at a time.
    pub(crate) cut: usize,
}

impl Dialogue {
    pub(crate) fn new(options: ServerOptions, security: Security) -> Self {
        #[allow(clippy::disallowed_methods, reason = "a test needs some point to count from")]
        let now = Instant::now();
        let server = Server::new(Arc::new(options), security, now);
        Self {
            server,
            now,
            refusals: Vec::new(),
            events: Vec::new(),
            messages: Vec::new(),
            content: Vec::new(),
            cut: usize::MAX,
        }
    }

    pub(crate) fn plain() -> Self {
        Self::new(options(), Security::Plain)
    }

    /// A session under TLS that has said EHLO.
    pub(crate) fn greeted(options: ServerOptions) -> Self {
        let mut dialogue = Self::new(options, Security::Tls);
        dialogue.say(b"EHLO client.example\r\n");
        dialogue.events.clear();
        dialogue
    }

    /// A session under TLS with a transaction that has one recipient.
    pub(crate) fn with_recipient(options: ServerOptions) -> Self {
        let mut dialogue = Self::greeted(options);
        dialogue.say(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n");
        dialogue.events.clear();
        dialogue
    }

    /// Hands in bytes and returns the replies.
    pub(crate) fn say(&mut self, input: &[u8]) -> String {
        let mut replies = Vec::new();
        for chunk in input.chunks(self.cut.min(input.len()).max(1)) {
            self.chunk(chunk, &mut replies);
        }
        if input.is_empty() {
            self.chunk(input, &mut replies);
        }
        replies.extend(self.server.transmit());
        String::from_utf8(replies).expect("replies are ASCII")
    }

    pub(crate) fn check(&mut self, input: &str, replies: &str) {
        assert_eq!(self.say(input.as_bytes()), replies, "to {input:?}");
    }

    /// Hands in bytes; the reply must start so, and must be the only one.
    pub(crate) fn check_code(&mut self, input: &[u8], start: &str) {
        let replies = self.say(input);
        let shown = input[..input.len().min(80)].escape_ascii();
        assert!(replies.starts_with(start), "{start} expected to {shown}, got {replies}");
        assert_eq!(replies.matches("\r\n").count(), 1, "one reply to {shown}, got {replies}");
    }

    fn chunk(&mut self, chunk: &[u8], replies: &mut Vec<u8>) {
        let mut at = 0;
        // After Close nobody reads on.
        while !self.events.last().is_some_and(|event| event.starts_with("close")) {
            let received = self.server.receive(&chunk[at..], self.now);
            at += received.consumed;
            let Some(event) = received.event else {
                if at == chunk.len() {
                    return;
                }
                continue;
            };
            let name = record(&event, &mut self.events, &mut self.content);
            match name {
                "flush" => replies.extend(self.server.transmit()),
                "refused" | "reset" => self.content.clear(),
                "end" if !self.refused_by_plan(name) => {
                    let content = std::mem::take(&mut self.content);
                    self.messages.push(String::from_utf8_lossy(&content).into_owned());
                }
                _ => {}
            }
            self.decide(name);
        }
    }

    fn refused_by_plan(&self, name: &str) -> bool {
        self.refusals.iter().any(|(what, _)| *what == name)
    }

    fn decide(&mut self, name: &str) {
        if !self.server.is_deciding() {
            return;
        }
        match self.refusals.iter().position(|(what, _)| *what == name) {
            Some(index) => {
                let (_, reply) = self.refusals.remove(index);
                self.server.refuse(reply, self.now);
                self.content.clear();
            }
            None => self.server.accept(self.now),
        }
    }
}

/// Writes an event down; returns its name.
fn record(event: &Event<'_>, events: &mut Vec<String>, content: &mut Vec<u8>) -> &'static str {
    let (name, essence) = match event {
        Event::Content(wire) => {
            content.extend_from_slice(wire);
            return "content";
        }
        Event::Flush => return "flush",
        Event::Hello(hello) => ("hello", format!(" {} {}", hello.name, hello.extended)),
        Event::StartTls => ("tls", String::new()),
        Event::Auth(c) => {
            let password = String::from_utf8_lossy(c.password.expose()).into_owned();
            ("auth", format!(" {} {}/{}/{password}", c.mechanism.name(), c.authzid, c.authcid))
        }
        Event::Mail(mail) => ("mail", format!(" <{}>", mail.reverse_path.as_str())),
        Event::Rcpt(rcpt) => ("rcpt", format!(" <{}>", rcpt.forward_path.as_str())),
        Event::Data => ("data", String::new()),
        Event::EndOfData(end) => {
            ("end", format!(" {} {} {}", end.wire_bytes, end.eight_bit, end.chunked))
        }
        Event::MessageRefused(refusal) => ("refused", format!(" {refusal:?}")),
        Event::Reset => ("reset", String::new()),
        Event::Close(reason) => ("close", format!(" {reason:?}")),
    };
    events.push(format!("{name}{essence}"));
    name
}

pub(crate) fn options() -> ServerOptions {
    ServerOptions { hostname: "mx.example".to_owned(), ..ServerOptions::default() }
}

//! Both sessions against each other on a virtual clock, with the wire cut at every byte.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{
    Client, ClientOptions, Envelope, Event as Told, Login, Outcome, Password, Recipient, TlsPolicy,
};
use crate::data::Unstuffer;
use crate::param::Body;
use crate::reply::{Enhanced, Reply};
use crate::server::{Event, Security, Server, ServerOptions};

/// Two sessions, the bytes between them, and their callers.
struct Pair {
    client: Client,
    server: Server,
    now: Instant,
    /// Bytes that travel at a time.
    cut: usize,
    /// Messages still to be sent: recipients and content in wire form.
    to_send: Vec<(Vec<&'static str>, &'static [u8])>,
    sending: &'static [u8],
    told: Vec<Told>,
    envelope: Vec<String>,
    content: Vec<u8>,
    /// Envelopes and contents that the server's caller accepted.
    received: Vec<(Vec<String>, Vec<u8>)>,
    upgraded: bool,
}

impl Pair {
    fn new(server: ServerOptions, cut: usize) -> Self {
        #[allow(clippy::disallowed_methods, reason = "a test needs some point to count from")]
        let now = Instant::now();
        let options = ClientOptions {
            hostname: "relay.example".to_owned(),
            tls: TlsPolicy::Require,
            login: Some(Login { authcid: "app".to_owned(), password: Password::new("secret") }),
            ..ClientOptions::default()
        };
        Self {
            client: Client::new(Arc::new(options), Security::Plain, now),
            server: Server::new(Arc::new(server), Security::Plain, now),
            now,
            cut,
            to_send: Vec::new(),
            sending: b"",
            told: Vec::new(),
            envelope: Vec::new(),
            content: Vec::new(),
            received: Vec::new(),
            upgraded: false,
        }
    }

    /// Carries bytes to and fro until both are silent.
    fn run(&mut self) {
        loop {
            let to_client = self.server.transmit();
            let to_server = self.client.transmit();
            if to_client.is_empty() && to_server.is_empty() {
                return;
            }
            self.now += Duration::from_millis(10);
            for chunk in to_server.chunks(self.cut) {
                self.serve(chunk);
            }
            for chunk in to_client.chunks(self.cut) {
                self.tell(chunk);
            }
        }
    }

    fn serve(&mut self, chunk: &[u8]) {
        let mut at = 0;
        loop {
            let received = self.server.receive(&chunk[at..], self.now);
            at += received.consumed;
            let mut answer = None;
            match received.event {
                None if at == chunk.len() => return,
                None => continue,
                Some(Event::Close(_)) => return,
                Some(Event::Content(wire)) => self.content.extend_from_slice(wire),
                Some(Event::Mail(mail)) => {
                    self.envelope = vec![mail.reverse_path.as_str().to_owned()];
                }
                Some(Event::Rcpt(rcpt)) if rcpt.forward_path.as_str().starts_with("no") => {
                    answer = Some(Reply::fixed(550, Enhanced::new(5, 1, 1), "No such user"));
                }
                Some(Event::Rcpt(rcpt)) => {
                    self.envelope.push(rcpt.forward_path.as_str().to_owned());
                }
                Some(Event::Auth(credentials)) => {
                    assert_eq!(credentials.authcid, "app");
                    assert_eq!(credentials.password.expose(), b"secret");
                }
                Some(Event::EndOfData(_)) => {
                    let (envelope, content) =
                        (std::mem::take(&mut self.envelope), std::mem::take(&mut self.content));
                    self.received.push((envelope, content));
                }
                Some(_) => {}
            }
            match answer {
                Some(reply) => self.server.refuse(reply, self.now),
                None if self.server.is_deciding() => self.server.accept(self.now),
                None => {}
            }
        }
    }

    fn tell(&mut self, chunk: &[u8]) {
        let mut at = 0;
        loop {
            let received = self.client.receive(&chunk[at..], self.now);
            at += received.consumed;
            let Some(event) = received.event else {
                if at == chunk.len() {
                    return;
                }
                continue;
            };
            match &event {
                Told::StartTls => {
                    // The virtual handshake: the server has nothing left to say in clear.
                    assert!(!self.server.has_output());
                    self.server.tls_started(self.now);
                    self.client.tls_started(self.now);
                    self.upgraded = true;
                }
                Told::Ready => self.next(),
                Told::ContentNow => self.send_content(),
                _ => {}
            }
            self.told.push(event);
        }
    }

    fn next(&mut self) {
        if self.to_send.is_empty() {
            return self.client.quit(self.now);
        }
        let (recipients, content) = self.to_send.remove(0);
        self.sending = content;
        let envelope = Envelope {
            reverse_path: "sender@app.example".to_owned(),
            recipients: recipients.into_iter().map(Recipient::new).collect(),
            size: Some(content.len() as u64),
            body: Body::EightBitMime,
            ..Envelope::default()
        };
        self.client.begin(envelope, self.now).expect("the server offers all of it");
    }

    fn send_content(&mut self) {
        let mut wire = Vec::new();
        for part in self.sending.chunks(self.cut.min(7)) {
            self.client.content(part, self.now).expect("wire form");
            wire.extend_from_slice(part);
        }
        self.client.end_of_data(self.now).expect("complete");
        wire.extend(self.client.transmit());
        for chunk in wire.chunks(self.cut) {
            self.serve(chunk);
        }
    }
}

const PLAIN: &[u8] = b"Subject: dots\r\n\r\n.\r\n..\r\nend.\r\n";
const WIRE: &[u8] = b"Subject: dots\r\n\r\n..\r\n...\r\nend.\r\n";

fn server_options() -> ServerOptions {
    ServerOptions { hostname: "mx.example".to_owned(), ..ServerOptions::default() }
}

#[test]
fn mail_goes_through_at_every_cut() {
    for cut in 1..200 {
        let mut pair = Pair::new(server_options(), cut);
        pair.to_send = vec![
            (vec!["a@x.example", "no@x.example", "b@x.example"], WIRE),
            (vec!["no@x.example"], WIRE),
            (vec!["c@x.example"], b"no line end"),
            (vec!["d@x.example"], b""),
        ];
        pair.run();
        assert!(pair.upgraded && pair.server.is_authenticated(), "cut {cut}");
        let got: Vec<_> =
            pair.received.iter().map(|(to, content)| (to.join(" "), content.as_slice())).collect();
        assert_eq!(
            got,
            [
                ("sender@app.example a@x.example b@x.example".to_owned(), WIRE),
                ("sender@app.example c@x.example".to_owned(), b"no line end\r\n".as_slice()),
                ("sender@app.example d@x.example".to_owned(), b"".as_slice()),
            ],
            "cut {cut}"
        );
        check_told(&pair.told);
        assert!(pair.client.is_closed() && pair.server.is_closed());
        let mut unstuffer = Unstuffer::new();
        assert_eq!(
            unstuffer.chunk(&pair.received[0].1).flatten().copied().collect::<Vec<_>>(),
            PLAIN
        );
    }
}

fn check_told(told: &[Told]) {
    let outcomes: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            Told::Finished(Outcome::Accepted(reply)) => Some(reply.code),
            Told::Finished(Outcome::NoRecipient) => Some(0),
            Told::Finished(Outcome::Refused { reply, .. }) => Some(reply.code),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, [250, 0, 250, 250]);
    let refused = told.iter().filter(|e| matches!(e, Told::Recipient { outcome: Err(_), .. }));
    assert_eq!(refused.count(), 2);
    assert_eq!(told.last(), Some(&Told::Closed));
}

#[test]
fn a_silent_client_times_out_and_the_client_learns_of_it() {
    let mut pair = Pair::new(server_options(), 4_096);
    let greeting = pair.server.transmit();
    pair.tell(&greeting);
    drop(pair.client.transmit());
    let deadline = pair.server.deadline().expect("a command is awaited");
    assert_eq!(deadline - pair.now, Duration::from_secs(300));
    assert!(pair.server.handle_timeout(deadline));
    pair.now = deadline;
    let goodbye = pair.server.transmit();
    pair.tell(&goodbye);
    assert!(matches!(pair.told.last(), Some(Told::Failed(_))), "{:?}", pair.told);
}

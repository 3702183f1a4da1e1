//! The story: what an application, an impostor and an operator see of the relay.
//!
//! Each step is tried for real and becomes one claim, or a few; a step that breaks becomes a claim
//! that does not hold, and the story goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use postern_smtp::reply::Reply;
use rustls::ClientConfig;

use super::claim::{Claim, Teller};
use super::client::{Client, Mail};
use super::folder::{BILLING, Folder, LOGIN_CODES, NEWSLETTER};
use super::sink::{Arrived, Sink};
use super::verify::Record;
use crate::command::Failure;
use crate::control::client;
use crate::order::{Answer, CutReport, Request};

/// What the story is played with.
pub(super) struct Stage<'a> {
    pub(super) folder: &'a Folder,
    pub(super) sink: &'a Sink,
    /// The relay's STARTTLS listener.
    pub(super) address: SocketAddr,
    /// Trusts the demonstration's CA, and no other.
    pub(super) tls: Arc<ClientConfig>,
    /// The published DKIM record.
    pub(super) record: Record,
    /// Tells this run's recipients from those of earlier runs.
    pub(super) run: String,
}

/// Tells all of it, or as much as there is before somebody stops the relay.
pub(super) fn tell(stage: &Stage<'_>, teller: &mut Teller) {
    let steps: [&dyn Fn(&mut Teller); 7] = [
        &|teller| stage.invoice(teller),
        &|teller| stage.login_code(teller),
        &|teller| teller.claim(or_broken(CARD, stage.card_number())),
        &|teller| teller.claim(or_broken(WRONG_PASSWORD, stage.wrong_password())),
        &|teller| teller.claim(or_broken(PLAINTEXT, stage.plaintext_password())),
        &|teller| teller.claim(or_broken(FOREIGN, stage.foreign_sender())),
        &|teller| stage.cut(teller),
    ];
    for step in steps {
        step(teller);
        if stage.ask(&Request::Status {}).is_err() {
            return teller.claim(Claim::broken(TO_THE_END, "the relay was stopped before it"));
        }
    }
}

type Told = Result<Claim, Failure>;

fn or_broken(claim: &'static str, told: Told) -> Claim {
    told.unwrap_or_else(|failure| Claim::broken(claim, failure))
}

impl Stage<'_> {
    /// An authenticated session.
    fn session(&self, app: &str) -> Result<Client, Failure> {
        let password = self.folder.password(app)?;
        Ok(Client::authenticated(self.address, &self.tls, app, password)?)
    }

    /// A recipient of this run.
    fn recipient(&self, name: &str) -> String {
        format!("{name}.{}@example.net", self.run)
    }

    fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        Ok(client::ask(&self.folder.snapshot.server.control_socket, request)?)
    }

    fn invoice(&self, teller: &mut Teller) {
        let to = self.recipient("customer");
        let content = format!(
            "From: Billing <{BILLING_ADDRESS}>\r\nTo: <{to}>\r\nSubject: Invoice 2026-1042\r\n\
             \r\nDear customer,\r\n\r\nplease pay 42.00 EUR within 14 days.\r\n"
        );
        let mail = Mail { from: BILLING_ADDRESS, to: &to, content: &content };
        let accepted = match self.accept_invoice(teller, &mail) {
            Ok(at) => at,
            Err(failure) => return teller.claim(Claim::broken(ACCEPTED, failure)),
        };
        let arrived = self.sink.wait_for(1, PATIENCE, |path| path == to);
        let Some(arrived) = arrived.first() else {
            return teller.claim(Claim::broken(ARRIVED, "it did not arrive within 10 s"));
        };
        teller.claim(invoice_arrived(&content, arrived, accepted));
        abridged(&arrived.content).iter().for_each(|line| teller.quote(line));
        let began = Instant::now();
        let verified = self.record.verify(&arrived.content);
        teller.claim(match verified {
            Ok(what) => Claim::time(VERIFIED, true, began.elapsed(), format!("dkim=pass {what}")),
            Err(why) => Claim::broken(VERIFIED, why),
        });
    }

    /// Sends the invoice; answers when it was accepted.
    fn accept_invoice(&self, teller: &mut Teller, mail: &Mail<'_>) -> Result<Instant, Failure> {
        let mut client = Client::connect(self.address)?;
        let began = Instant::now();
        let version = client.start_tls(&self.tls, self.address)?;
        let detail = format!("{version}, by the CA in this folder");
        teller.claim(Claim::time(HANDSHAKE, true, began.elapsed(), detail));
        let reply = client.auth(BILLING, self.folder.password(BILLING)?)?;
        if !reply.is_positive() {
            return Err(Failure::problem(reply));
        }
        let began = Instant::now();
        let reply = client.send(mail)?;
        let at = Instant::now();
        let detail = match reply.text.split_once("queued as ") {
            Some((_, id)) => format!("queue id {id}"),
            None => reply.to_string(),
        };
        teller.claim(Claim::time(ACCEPTED, reply.code == 250, at - began, detail));
        Ok(at)
    }

    fn login_code(&self, teller: &mut Teller) {
        self.sink.set_delay(BUSY_DELAY);
        let told = self.overtake();
        self.sink.set_delay(Duration::ZERO);
        match told {
            Ok(claims) => claims.into_iter().for_each(|claim| teller.claim(claim)),
            Err(failure) => teller.claim(Claim::broken(OVERTAKES, failure)),
        }
    }

    fn overtake(&self) -> Result<[Claim; 2], Failure> {
        let mut urgent = self.session(LOGIN_CODES)?;
        let bulk = self.send_bulk()?;
        let to = self.recipient("user");
        let content = message(LOGIN_ADDRESS, &to, "Your code", "Your login code is 493 027.");
        let reply = urgent.send(&Mail { from: LOGIN_ADDRESS, to: &to, content: &content })?;
        let accepted = Instant::now();
        if !reply.is_positive() {
            return Err(Failure::problem(reply));
        }
        let code = self.sink.wait_for(1, PATIENCE, |path| path == to);
        let code = code.first().ok_or_else(|| Failure::problem("the code did not arrive"))?;
        let is_bulk = |path: &str| path.starts_with("reader-") && path.contains(&self.run);
        let arrived = self.sink.wait_for(BULK_MAILS, PATIENCE, is_bulk);
        if arrived.len() < BULK_MAILS {
            let text = format!("{} of {BULK_MAILS} bulk mails arrived", arrived.len());
            return Err(Failure::problem(text));
        }
        let latency = code.at.saturating_duration_since(accepted);
        let overtaken = arrived.iter().filter(|bulk| bulk.at > code.at).count();
        let waits = waits(&bulk, &arrived);
        let (median, last) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        let detail = format!("to the next hop; {overtaken} mails overtaken");
        let is_first = overtaken >= OVERTAKEN_MIN && latency < median;
        let detail_bulk = format!("median of {BULK_MAILS}, at most {} ms", last.as_millis());
        Ok([
            Claim::time(OVERTAKES, is_first, latency, detail),
            Claim::time(BULK_WAITS, true, median, detail_bulk),
        ])
    }

    /// Sends the bulk mails over a few sessions at once; answers each with its acceptance.
    fn send_bulk(&self) -> Result<Vec<(String, Instant)>, Failure> {
        thread::scope(|scope| {
            let share = |session: usize| move || self.send_share(session);
            let senders: Vec<_> = (0..BULK_SESSIONS).map(|s| scope.spawn(share(s))).collect();
            let mut sent = Vec::with_capacity(BULK_MAILS);
            for sender in senders {
                let joined = sender.join();
                sent.extend(joined.map_err(|_| Failure::problem("a sender panicked"))??);
            }
            Ok(sent)
        })
    }

    fn send_share(&self, session: usize) -> Result<Vec<(String, Instant)>, Failure> {
        let mut client = self.session(NEWSLETTER)?;
        let mut sent = Vec::new();
        for number in (session..BULK_MAILS).step_by(BULK_SESSIONS) {
            let to = self.recipient(&format!("reader-{number}"));
            let content = message(NEWS_ADDRESS, &to, "News of the month", "There are news.");
            let reply = client.send(&Mail { from: NEWS_ADDRESS, to: &to, content: &content })?;
            if !reply.is_positive() {
                return Err(Failure::problem(reply));
            }
            sent.push((to, Instant::now()));
        }
        Ok(sent)
    }

    fn card_number(&self) -> Told {
        let to = self.recipient("partner");
        let text = "The customer pays by card: 4111 1111 1111 1111, 12/29.";
        let content = message(BILLING_ADDRESS, &to, "Order 77", text);
        let mail = Mail { from: BILLING_ADDRESS, to: &to, content: &content };
        let reply = self.session(BILLING)?.send(&mail)?;
        let is_refused = is(&reply, 550, "5.7.1") && reply.text.contains("rule=");
        Ok(refused(CARD, is_refused && !reply.text.contains("4111"), &reply))
    }

    fn wrong_password(&self) -> Told {
        let mut client = Client::connect(self.address)?;
        client.start_tls(&self.tls, self.address)?;
        let reply = client.auth(BILLING, "not-the-password")?;
        Ok(refused(WRONG_PASSWORD, reply.code == 535, &reply))
    }

    fn plaintext_password(&self) -> Told {
        let mut client = Client::connect(self.address)?;
        // Not a real one: it goes over the wire in clear.
        let reply = client.auth(BILLING, "sent-in-clear")?;
        Ok(refused(PLAINTEXT, [503, 530, 538].contains(&reply.code), &reply))
    }

    fn foreign_sender(&self) -> Told {
        let to = self.recipient("victim");
        let content = message("ceo@example.org", &to, "Urgent", "Please send money.");
        let mail = Mail { from: "ceo@example.org", to: &to, content: &content };
        let reply = self.session(BILLING)?.send(&mail)?;
        Ok(refused(FOREIGN, is(&reply, 550, "5.7.1"), &reply))
    }

    fn cut(&self, teller: &mut Teller) {
        // So slow that the cut finds mail in the queue.
        self.sink.set_delay(SLOW_DELAY);
        let told = self.cut_and_restore();
        self.sink.set_delay(Duration::ZERO);
        match told {
            Ok(claims) => claims.into_iter().for_each(|claim| teller.claim(claim)),
            Err(failure) => teller.claim(Claim::broken(CUT, failure)),
        }
    }

    fn cut_and_restore(&self) -> Result<[Claim; 3], Failure> {
        let mut client = self.session(BILLING)?;
        let (steady, is_steady) = std::sync::mpsc::channel();
        let busy = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                self.send_until_refused(&mut client, || {
                    // The other side may have given up.
                    let _gone = steady.send(());
                })
            });
            // An error here is the sender's, and comes with it.
            let _steady = is_steady.recv_timeout(PATIENCE);
            let ordered = Instant::now();
            let report = self.order_cut();
            let answered = Instant::now();
            let busy = sender.join().map_err(|_| Failure::problem("the sender panicked"))?;
            Ok::<_, Failure>((busy?, report?, ordered, answered))
        });
        let reconnected = self.session(BILLING).err();
        self.sink.set_delay(Duration::ZERO);
        let restored = self.restore();
        let (busy, report, ordered, answered) = busy?;
        let took = busy.refused.saturating_duration_since(ordered);
        let late = busy.accepted.iter().filter(|(_, at)| *at > answered).count();
        let effect = format!("{}; {late} accepted after it", code_of(&busy.reply));
        let is_everywhere = reconnected.as_ref().is_some_and(|why| why.text.contains("535"));
        let cores = report.cores.len();
        let detail = match &reconnected {
            Some(_) if is_everywhere => format!("on {cores} cores; a new session gets 535"),
            Some(why) => format!("but a new session: {why}"),
            None => "a new session was let in all the same".to_owned(),
        };
        let own = Duration::from_micros(report.effect_us);
        Ok([
            Claim::time(CUT, late == 0 && busy.reply.code >= 400, took, effect),
            Claim::time(EFFECT, is_everywhere, own, detail),
            self.nothing_lost(&busy, &report, restored?),
        ])
    }

    /// Sends one mail after the other; calls `when_steady` after a few.
    fn send_until_refused(
        &self,
        client: &mut Client,
        when_steady: impl Fn(),
    ) -> Result<Busy, Failure> {
        let mut accepted = Vec::new();
        for number in 0..BUSY_MAILS_MAX {
            let to = self.recipient(&format!("debtor-{number}"));
            let content = message(BILLING_ADDRESS, &to, "Reminder", "Please pay.");
            let mail = Mail { from: BILLING_ADDRESS, to: &to, content: &content };
            let reply = client.send(&mail)?;
            let at = Instant::now();
            if !reply.is_positive() {
                return Ok(Busy { accepted, reply, refused: at });
            }
            accepted.push((to, at));
            if number == STEADY_MAILS {
                when_steady();
            }
        }
        Err(Failure::problem(format!("{BUSY_MAILS_MAX} mails were accepted and none refused")))
    }

    fn order_cut(&self) -> Result<CutReport, Failure> {
        let request = Request::Cut {
            app: BILLING.to_owned(),
            reason: "the demonstration shows a cut".to_owned(),
            actor: "demo".to_owned(),
        };
        match self.ask(&request)? {
            Answer::Cut(report) => Ok(report),
            _ => Err(Failure::unexpected()),
        }
    }

    /// Undoes a cut, also one that an interrupted run has left.
    pub(super) fn restore(&self) -> Result<usize, Failure> {
        let request = Request::Restore { app: BILLING.to_owned(), actor: "demo".to_owned() };
        match self.ask(&request)? {
            Answer::Restored { released, .. } => Ok(released),
            _ => Err(Failure::unexpected()),
        }
    }

    /// Every mail that was accepted around the cut arrives once it is undone.
    fn nothing_lost(&self, busy: &Busy, report: &CutReport, released: usize) -> Claim {
        let is_busy = |path: &str| path.starts_with("debtor-") && path.contains(&self.run);
        let arrived = self.sink.wait_for(busy.accepted.len(), PATIENCE, is_busy);
        let is_there =
            |to: &str| arrived.iter().any(|mail| mail.recipients.iter().any(|r| r == to));
        let count = busy.accepted.iter().filter(|(to, _)| is_there(to)).count();
        let detail = format!(
            "arrived of {} accepted; {} had been frozen",
            busy.accepted.len(),
            report.frozen.max(released)
        );
        Claim::count(RESTORED, count == busy.accepted.len(), count, "mails", detail)
    }
}

/// What a busy sender saw.
struct Busy {
    /// Recipients with the moment of acceptance.
    accepted: Vec<(String, Instant)>,
    /// The first refusal.
    reply: Reply,
    /// Its moment.
    refused: Instant,
}

fn invoice_arrived(content: &str, arrived: &Arrived, accepted: Instant) -> Claim {
    // It may be there before its acceptance is read here.
    let took = arrived.at.saturating_duration_since(accepted);
    match arrived.content.strip_suffix(content.as_bytes()) {
        Some(added) => {
            let detail = format!("below {} fields the relay added", fields(added).count());
            Claim::time(ARRIVED, true, took, detail)
        }
        None => Claim::time(ARRIVED, false, took, "but not as it was sent"),
    }
}

/// The fields of a header section that start a line.
fn fields(header: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(header).unwrap_or_default();
    text.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with([' ', '\t']))
}

/// The header section for the reader: the fields that tell something, unfolded, a line each.
fn abridged(content: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(content).unwrap_or_default();
    let header = text.split("\r\n\r\n").next().unwrap_or_default();
    let unfolded = header.replace("\r\n\t", " ").replace("\r\n ", " ");
    let is_shown = |line: &&str| SHOWN.iter().any(|name| line.starts_with(name));
    unfolded.split("\r\n").filter(is_shown).map(str::to_owned).collect()
}

/// How long each bulk mail was on its way, ascending; not empty.
fn waits(sent: &[(String, Instant)], arrived: &[Arrived]) -> Vec<Duration> {
    let mut waits: Vec<Duration> = arrived
        .iter()
        .flat_map(|mail| mail.recipients.iter().map(move |to| (to, mail.at)))
        .filter_map(|(to, at)| {
            let (_, accepted) = sent.iter().find(|(recipient, _)| recipient == to)?;
            Some(at.saturating_duration_since(*accepted))
        })
        .collect();
    waits.sort_unstable();
    waits
}

/// A small mail in plain form.
fn message(from: &str, to: &str, subject: &str, text: &str) -> String {
    format!("From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\r\n{text}\r\n")
}

fn is(reply: &Reply, code: u16, enhanced: &str) -> bool {
    reply.code == code && reply.enhanced.is_some_and(|found| found.to_string() == enhanced)
}

fn refused(claim: &'static str, ok: bool, reply: &Reply) -> Claim {
    let enhanced = reply.enhanced.map(|enhanced| format!("{enhanced} ")).unwrap_or_default();
    Claim::count(claim, ok, reply.code.into(), "reply", enhanced + &reply.text)
}

/// The codes alone.
fn code_of(reply: &Reply) -> String {
    match reply.enhanced {
        Some(enhanced) => format!("{} {enhanced}", reply.code),
        None => reply.code.to_string(),
    }
}

/// Fields of the invoice that the reader sees.
const SHOWN: [&str; 4] = ["DKIM-Signature:", "Received:", "Message-ID:", "Subject:"];

const BILLING_ADDRESS: &str = "billing@example.com";
const LOGIN_ADDRESS: &str = "no-reply@example.com";
const NEWS_ADDRESS: &str = "news@example.com";

const TO_THE_END: &str = "the story is told to its end";
const HANDSHAKE: &str = "TLS handshake, certificate verified";
const ACCEPTED: &str = "an invoice is accepted";
const ARRIVED: &str = "it reaches the next hop byte for byte";
const VERIFIED: &str = "mail-auth verifies its signature";
const OVERTAKES: &str = "a login code overtakes 200 bulk mails";
const BULK_WAITS: &str = "while a bulk mail waits";
const CARD: &str = "a card number is refused";
const WRONG_PASSWORD: &str = "a wrong password is refused";
const PLAINTEXT: &str = "a password in clear is refused";
const FOREIGN: &str = "a foreign sender is refused";
const CUT: &str = "cut while sending: first refusal after";
const EFFECT: &str = "the relay's own time to effect";
const RESTORED: &str = "restored: nothing was lost";

/// Of one bulk mailing.
const BULK_MAILS: usize = 200;
/// Over as many sessions, so that every core has some.
const BULK_SESSIONS: usize = 8;
/// How long a busy next hop takes for a message.
const BUSY_DELAY: Duration = Duration::from_millis(30);
/// How long a next hop takes that holds a queue up.
const SLOW_DELAY: Duration = Duration::from_millis(100);
/// Fewer would show a queue that was nearly empty, not a lane.
const OVERTAKEN_MIN: usize = 50;
/// After as many mails the application is busy and may be cut.
const STEADY_MAILS: usize = 20;
/// A cut that takes longer than this many mails has failed.
const BUSY_MAILS_MAX: usize = 2_000;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

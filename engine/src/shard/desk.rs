//! What a session's events mean: who may send, what is kept, what is answered.
//!
//! Every refusal is logged with its stage; nothing here writes to a socket. Proofs travel in one
//! direction: only `access` makes an [`Authenticated`], and without one there is no transaction.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use postern_filters::Finding;
use postern_smtp::data::ContentFault;
use postern_smtp::param::{Body, Ret};
use postern_smtp::reply::{Enhanced, Reply};
use postern_smtp::server::Refusal as MessageRefusal;
use postern_smtp::server::{CloseReason, Credentials, EndOfData, Hello, Mail, Rcpt};
use zeroize::Zeroizing;

use super::Shard;
use super::counters::add;
use super::roster::SessionSeat;
use super::session::CUT;
use crate::access::{App, Authenticated, Busy, Method, Presented, Refusal, SessionPermit};
use crate::config::Snapshot;
use crate::event::{Accepted, Event};
use crate::intake::incoming::{Envelope, Incoming, Origin, Passed, Rules};
use crate::intake::meta::{Meta, Recipient};
use crate::intake::trace::Protocol;
use crate::io::tls::TlsInfo;
use crate::spool::{Draft, Health, MessageId, SpoolError};

/// The deciding side of one session.
pub(super) struct Desk {
    shard: Rc<Shard>,
    seat: SessionSeat,
    client: IpAddr,
    helo: Box<str>,
    is_extended: bool,
    tls: Option<Box<TlsInfo>>,
    identity: Option<Identity>,
    transaction: Option<Box<Transaction>>,
}

/// The application behind a session, and its place among its open sessions.
struct Identity {
    authenticated: Authenticated,
    _permit: SessionPermit,
}

struct Transaction {
    envelope: Envelope,
    incoming: Option<Incoming>,
    /// Why the message in transfer will be refused at its end.
    refusal: Option<Reply>,
}

impl Desk {
    pub(super) fn new(shard: Rc<Shard>, client: IpAddr, seat: SessionSeat) -> Self {
        Self {
            shard,
            seat,
            client,
            helo: Box::default(),
            is_extended: false,
            tls: None,
            identity: None,
            transaction: None,
        }
    }

    pub(super) fn hello(&mut self, hello: Hello<'_>) {
        self.helo = hello.name.into();
        self.is_extended = hello.extended;
        self.transaction = None;
    }

    pub(super) fn tls_started(&mut self, info: Option<TlsInfo>) {
        self.tls = info.map(Box::new);
        self.identity = None;
        self.transaction = None;
    }

    pub(super) fn reset(&mut self) {
        self.transaction = None;
    }

    pub(super) fn end(&mut self) {
        self.transaction = None;
        self.identity = None;
    }

    pub(super) fn closed(&mut self, reason: CloseReason) {
        let text = match reason {
            CloseReason::Limit => "too many errors or idle commands",
            CloseReason::Foreign => "the client does not speak SMTP",
            CloseReason::Framing => "bytes behind STARTTLS or a line without CRLF",
            CloseReason::Quit | CloseReason::Timeout | CloseReason::ByCaller => return,
        };
        self.log_refusal("session", 421, text);
    }

    /// AUTH: who is it, and is the password right?
    pub(super) async fn authenticate(&mut self, credentials: Credentials) -> Result<(), Reply> {
        let Credentials { authzid, authcid, password, .. } = credentials;
        let snapshot = self.shard.snapshot();
        let presented =
            Presented { authzid: &authzid, authcid: &authcid, password: password.expose() };
        let desk = &self.shard.passwords;
        let verified =
            self.shard.verifier.verify(&snapshot.access, presented, async |phc, bytes| {
                desk.check(phc, Zeroizing::new(bytes.to_vec())).await.map_err(|_| Busy)
            });
        let authenticated = match verified.await {
            Ok(authenticated) => authenticated,
            Err(refusal) if refusal.is_temporary() => {
                return self.auth_refused(&authcid, "too many at once", reply_of(refusal));
            }
            Err(refusal) => {
                return self.auth_refused(&authcid, "unknown or wrong password", reply_of(refusal));
            }
        };
        if self.shard.suspensions.is_cut(&authenticated.app().id) {
            return self.auth_refused(&authcid, "application is cut off", CUT_AUTH);
        }
        self.adopt(authenticated)?;
        add(&self.shard.counters.auth_accepted, 1);
        Ok(())
    }

    /// The session belongs to an application from now on.
    fn adopt(&mut self, authenticated: Authenticated) -> Result<(), Reply> {
        let permit = self.shard.budgets.borrow_mut().session(authenticated.app());
        let permit = permit
            .map_err(reply_of)
            .inspect_err(|reply| self.log_refusal("session", reply.code, &reply.text))?;
        self.seat.belongs_to(Arc::clone(&authenticated.app().id));
        self.identity = Some(Identity { authenticated, _permit: permit });
        Ok(())
    }

    /// MAIL: may this application send as this reverse-path, now?
    pub(super) fn mail(&mut self, mail: &Mail<'_>) -> Result<(), Reply> {
        self.check_mail(mail)
            .inspect_err(|reply| self.log_refusal("mail", reply.code, &reply.text))?;
        let parameters = &mail.parameters;
        let envelope = Envelope {
            reverse_path: mail.reverse_path.as_str().into(),
            recipients: Vec::new(),
            is_8bit: parameters.body == Body::EightBitMime,
            smtputf8: parameters.smtputf8,
            ret: match parameters.ret {
                None => "",
                Some(Ret::Full) => "FULL",
                Some(Ret::Headers) => "HDRS",
            }
            .into(),
            envid: parameters.envid.unwrap_or_default().into(),
            size: parameters.size,
        };
        self.transaction = Some(Box::new(Transaction { envelope, incoming: None, refusal: None }));
        Ok(())
    }

    fn check_mail(&mut self, mail: &Mail<'_>) -> Result<(), Reply> {
        self.identify()?;
        self.check_spool()?;
        self.renew()?;
        let identity = self.active_identity()?;
        identity.mail(mail.reverse_path.as_str(), mail.parameters.size).map_err(reply_of)?;
        let mut budgets = self.shard.budgets.borrow_mut();
        budgets.message(identity.app(), Instant::now()).map_err(reply_of)
    }

    /// A reload may have changed or removed the application since the session began.
    fn renew(&mut self) -> Result<(), Reply> {
        let snapshot = self.shard.snapshot();
        let Some(identity) = &mut self.identity else { return Err(AUTH_REQUIRED) };
        let renewed = identity.authenticated.renewed(&snapshot.access, self.client);
        identity.authenticated = renewed.ok_or(NO_LONGER_KNOWN)?;
        Ok(())
    }

    /// Without AUTH the client's address may still tell who it is.
    fn identify(&mut self) -> Result<(), Reply> {
        if self.identity.is_some() {
            return Ok(());
        }
        let snapshot = self.shard.snapshot();
        let found = Authenticated::by_network(&snapshot.access, self.client);
        self.adopt(found.ok_or(AUTH_REQUIRED)?)
    }

    fn check_spool(&self) -> Result<(), Reply> {
        if self.shard.dispatch.room() == 0 {
            return Err(QUEUE_FULL);
        }
        match self.shard.spool.health() {
            Health::Ok => Ok(()),
            Health::Backpressure(_) => Err(NO_SPACE),
            Health::Down(_) => Err(SPOOL_DOWN),
        }
    }

    /// The identity, unless it was cut off meanwhile.
    fn active_identity(&self) -> Result<&Authenticated, Reply> {
        let identity = &self.identity.as_ref().ok_or(AUTH_REQUIRED)?.authenticated;
        if self.shard.suspensions.is_cut(&identity.app().id) {
            return Err(CUT);
        }
        Ok(identity)
    }

    /// RCPT: may mail go there?
    pub(super) fn recipient(&mut self, recipient: &Rcpt<'_>) -> Result<(), Reply> {
        let checked = self.check_recipient(recipient);
        let path =
            checked.inspect_err(|reply| self.log_refusal("rcpt", reply.code, &reply.text))?;
        let parameters = &recipient.parameters;
        let Some(transaction) = &mut self.transaction else { return Err(OUT_OF_ORDER) };
        transaction.envelope.recipients.push(Recipient {
            path,
            notify: parameters.notify.map(|notify| notify.to_string()).unwrap_or_default().into(),
            orcpt: parameters.orcpt.map(|orcpt| orcpt.as_str()).unwrap_or_default().into(),
        });
        Ok(())
    }

    fn check_recipient(&self, recipient: &Rcpt<'_>) -> Result<Box<str>, Reply> {
        let identity = self.active_identity()?;
        let Some(transaction) = &self.transaction else { return Err(OUT_OF_ORDER) };
        let count = transaction.envelope.recipients.len();
        let Some(mailbox) = recipient.forward_path.mailbox() else { return Err(NO_POSTMASTER) };
        let accepted = u32::try_from(count).unwrap_or(u32::MAX);
        identity.recipient(mailbox.as_str(), accepted).map_err(reply_of)?;
        let policy = self.shard.policy();
        if !policy.snapshot.queue.hold && policy.routes.of(mailbox.domain()).is_none() {
            return Err(NO_ROUTE);
        }
        Ok(mailbox.as_str().into())
    }

    /// DATA or the first BDAT: the content begins.
    pub(super) fn data(&mut self) -> Result<(), Reply> {
        let authenticated = self.active_identity()?.clone();
        let policy = self.shard.policy();
        let Some(transaction) = &mut self.transaction else { return Err(OUT_OF_ORDER) };
        let draft = self.shard.spool.draft(transaction.envelope.size);
        let rules = Rules {
            identity: authenticated,
            filters: policy.filters.clone(),
            signing: Arc::clone(policy.keys.entries()),
        };
        transaction.incoming = Some(Incoming::new(draft, rules));
        Ok(())
    }

    /// The next slice of content: inspected in place, copied once.
    pub(super) async fn content(&mut self, wire: &[u8]) -> Result<(), Reply> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        let Some(incoming) = &mut transaction.incoming else { return Ok(()) };
        let taken = match incoming.inspect(wire) {
            Ok(()) => self.shard.stage(incoming.draft(), wire).await,
            Err(reply) => Err(reply),
        };
        if let Err(reply) = &taken {
            transaction.refusal = Some(reply.clone());
            transaction.incoming = None;
        }
        taken
    }

    /// Whether the message in transfer holds block memory.
    pub(super) fn holds_memory(&mut self) -> bool {
        self.draft().is_some_and(|draft| draft.held_bytes() > 0)
    }

    /// Resolves when others lack that memory.
    pub(super) async fn shortage(&self) {
        self.shard.spool.shortage().await;
    }

    /// Writes out what has arrived of the message, so that its memory is free for others.
    pub(super) async fn spill(&mut self) -> Result<(), Reply> {
        let shard = Rc::clone(&self.shard);
        let Some(draft) = self.draft() else { return Ok(()) };
        let spilled = shard.spool.spill(draft).await.map_err(|error| spool_refusal(&error));
        if let (Err(reply), Some(transaction)) = (&spilled, &mut self.transaction) {
            transaction.refusal = Some(reply.clone());
            transaction.incoming = None;
        }
        spilled
    }

    fn draft(&mut self) -> Option<&mut Draft> {
        self.transaction.as_mut()?.incoming.as_mut().map(Incoming::draft)
    }

    /// The state machine refused the message at its end; `finish` never runs for it.
    pub(super) fn message_refused(&mut self, refusal: MessageRefusal) {
        let reply = self.transaction.take().and_then(|transaction| transaction.refusal);
        let (code, text) = match refusal {
            MessageRefusal::Content(ContentFault::BareCr) => (550, "bare CR in content".into()),
            MessageRefusal::Content(ContentFault::BareLf) => (550, "bare LF in content".into()),
            MessageRefusal::Content(ContentFault::Nul) => (550, "NUL in content".into()),
            MessageRefusal::TooLarge => (552, "message too large".into()),
            MessageRefusal::EightBit => (554, "undeclared 8-bit content".into()),
            MessageRefusal::ByCaller => reply
                .map_or((421, "application is cut off".into()), |reply| (reply.code, reply.text)),
        };
        self.count_refused(code);
        self.log_refusal("data", code, &text);
    }

    /// End of data: the verdict, the durable write, and the reply that says who is responsible.
    pub(super) async fn end_of_data(&mut self, end: EndOfData) -> Result<Reply, Reply> {
        let outcome = self.accept_message(end).await;
        if let Err(reply) = &outcome {
            self.count_refused(reply.code);
            self.log_refusal("data", reply.code, &reply.text);
        }
        outcome
    }

    async fn accept_message(&mut self, end: EndOfData) -> Result<Reply, Reply> {
        let Some(transaction) = self.transaction.take() else { return Err(OUT_OF_ORDER) };
        let Transaction { mut envelope, incoming, .. } = *transaction;
        let Some(incoming) = incoming else { return Err(OUT_OF_ORDER) };
        let app = Arc::clone(self.active_identity()?.app());
        // What counts is what came: many declare 8BITMIME and send ASCII, which any hop takes.
        envelope.is_8bit = end.eight_bit;
        let at = SystemTime::now();
        let id = self.shard.ids.borrow_mut().next(unix_ms(at)).map_err(|_| SPOOL_DOWN)?;
        let snapshot = self.shard.snapshot();
        let passed = incoming.finish(id, app.lane as u8, envelope, &self.origin(&snapshot), at)?;
        let Passed { draft, meta, findings } = passed;
        self.shard
            .spool
            .commit(draft, id, &meta.encode())
            .await
            .map_err(|error| spool_refusal(&error))?;
        add(&self.shard.counters.messages_accepted, 1);
        add(&self.shard.counters.bytes_accepted, meta.content_bytes);
        self.log_accepted(id, &meta, &app, &findings);
        self.shard.dispatch.accept(id, meta);
        Ok(Reply::new(250, Enhanced::new(2, 0, 0), format!("Ok: queued as {id}")))
    }

    fn origin<'a>(&'a self, snapshot: &'a Snapshot) -> Origin<'a> {
        Origin {
            helo: &self.helo,
            client: self.client,
            hostname: &snapshot.server.hostname,
            protocol: Protocol {
                is_extended: self.is_extended,
                is_tls: self.tls.is_some(),
                is_authenticated: self
                    .identity
                    .as_ref()
                    .is_some_and(|identity| identity.authenticated.method() == Method::Password),
                is_utf8: false,
            },
            tls: self.tls.as_ref().map(|tls| (tls.version, tls.cipher)),
        }
    }

    fn auth_refused(&self, authcid: &str, reason: &'static str, reply: Reply) -> Result<(), Reply> {
        add(&self.shard.counters.auth_refused, 1);
        self.shard.log.record(Event::AuthRefused {
            client: self.client,
            authcid: authcid.into(),
            reason,
        });
        Err(reply)
    }

    fn count_refused(&self, code: u16) {
        let counters = &self.shard.counters;
        let counter =
            if code < 500 { &counters.messages_deferred } else { &counters.messages_refused };
        add(counter, 1);
    }

    fn log_refusal(&self, stage: &'static str, code: u16, text: &str) {
        let app = self.identity.as_ref().map(|i| Arc::clone(&i.authenticated.app().id));
        self.shard.log.record(Event::Refused {
            app,
            client: self.client,
            stage,
            code,
            text: text.into(),
        });
    }

    fn log_accepted(&self, id: MessageId, meta: &Meta, app: &App, findings: &[Finding]) {
        let id: Box<str> = id.to_string().into();
        for finding in findings {
            self.shard.log.record(Event::Finding {
                id: id.clone(),
                app: Arc::clone(&app.id),
                detector: finding.detector.to_string().into(),
                part: finding.part.to_string().into(),
                count: finding.count,
            });
        }
        self.shard.log.record(Event::Accepted(Box::new(Accepted {
            id,
            app: Arc::clone(&app.id),
            reverse_path: meta.reverse_path.clone(),
            recipients: meta.recipients.len(),
            bytes: meta.content_bytes,
            lane: app.lane.name(),
            client: self.client,
            tls: self.tls.as_ref().map(|tls| tls.version),
        })));
    }
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A refusal of `access` as a reply.
pub(super) fn reply_of(refusal: Refusal) -> Reply {
    let (class, subject, detail) = refusal.enhanced;
    Reply::new(refusal.code, Enhanced::new(class, subject, detail), refusal.text)
}

/// What a failed durable write means to the client: the message was not taken, try again.
pub(super) fn spool_refusal(error: &SpoolError) -> Reply {
    match error {
        SpoolError::Full => NO_SPACE,
        SpoolError::Memory => NO_MEMORY,
        SpoolError::TooLarge => ENVELOPE_TOO_LARGE,
        _ => SPOOL_DOWN,
    }
}

const AUTH_REQUIRED: Reply = Reply::fixed(530, Enhanced::new(5, 7, 0), "Authentication required");
const NO_LONGER_KNOWN: Reply =
    Reply::fixed(421, Enhanced::new(4, 7, 0), "The configuration has changed, connect again");
const CUT_AUTH: Reply =
    Reply::fixed(535, Enhanced::new(5, 7, 0), "This application is cut off by the operator");
const NO_SPACE: Reply =
    Reply::fixed(452, Enhanced::new(4, 3, 1), "Insufficient storage, try again later");
pub(super) const NO_MEMORY: Reply =
    Reply::fixed(452, Enhanced::new(4, 3, 2), "Too many messages at once, try again later");
const QUEUE_FULL: Reply =
    Reply::fixed(452, Enhanced::new(4, 3, 1), "The queue is full, try again later");
const ENVELOPE_TOO_LARGE: Reply =
    Reply::fixed(552, Enhanced::new(5, 3, 4), "The envelope is larger than can be stored");
const SPOOL_DOWN: Reply =
    Reply::fixed(451, Enhanced::new(4, 3, 0), "Message could not be stored, try again later");
const OUT_OF_ORDER: Reply = Reply::fixed(503, Enhanced::new(5, 5, 1), "No transaction is open");
const NO_POSTMASTER: Reply = Reply::fixed(
    550,
    Enhanced::new(5, 1, 1),
    "There is no mailbox here; give a recipient with a domain",
);
const NO_ROUTE: Reply =
    Reply::fixed(550, Enhanced::new(5, 4, 4), "No route is configured for this recipient's domain");

//! The outbound sessions of one destination.
//!
//! A session takes leases as long as there are any, waits idle for a while, and ends. A pool grows
//! when more is ready than its sessions can take, up to the route's `sessions_max`. When a next hop
//! cannot be reached the destination is paused, longer each time; the message that met it is
//! deferred, the others keep their place.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use postern_smtp::client::{Envelope, Recipient};
use postern_smtp::param::{self, Body, Ret};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::leased::Leased;
use super::outbound::{End, Outbound, Transacted, Trouble};
use super::outcome::{self, RecipientOutcome};
use super::progress::Standing;
use super::{Dispatch, signing};
use crate::event::{Attempt, Event, Level};
use crate::intake::meta::Meta;
use crate::queue::{Destination, Lane, Lease, Outcome, Pick};
use crate::spool::{Content, MessageId, SpoolError};

/// How many sessions a destination has, and how it fares.
pub(super) struct Pool {
    destination: Destination,
    sessions: Cell<usize>,
    idle: Cell<usize>,
    work: Notify,
    /// Connections that failed in a row.
    failures: Cell<u32>,
}

impl Pool {
    pub(super) fn new(destination: Destination) -> Self {
        Self {
            destination,
            sessions: Cell::new(0),
            idle: Cell::new(0),
            work: Notify::new(),
            failures: Cell::new(0),
        }
    }

    /// Wakes idle sessions for what is ready; returns how many new ones are wanted besides.
    pub(super) fn wanted(&self, ready: usize, sessions_max: usize) -> usize {
        for _ in 0..ready.min(self.idle.get()) {
            self.work.notify_one();
        }
        let more = ready.saturating_sub(self.idle.get());
        // A next hop that failed is tried with one session until it answers.
        let sessions_max = if self.failures.get() > 0 { 1 } else { sessions_max };
        more.min(sessions_max.saturating_sub(self.sessions.get()))
    }

    pub(super) fn wake_all(&self) {
        self.work.notify_waiters();
    }
}

/// Counts one session of a pool, however it ends.
struct Staffed {
    pool: Rc<Pool>,
}

impl Staffed {
    fn new(pool: Rc<Pool>) -> Self {
        pool.sessions.set(pool.sessions.get() + 1);
        Self { pool }
    }
}

impl Drop for Staffed {
    fn drop(&mut self) {
        self.pool.sessions.set(self.pool.sessions.get() - 1);
    }
}

/// Counts a number up while something lasts, however it ends.
struct During<'a>(&'a Cell<usize>);

impl<'a> During<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One session's life. The pool counts it from the moment it is wanted, not from its first turn.
pub(super) fn work(dispatch: Rc<Dispatch>, pool: Rc<Pool>) -> impl Future<Output = ()> {
    let staffed = Staffed::new(pool);
    async move {
        let pool = &staffed.pool;
        let mut session = None;
        while !dispatch.is_draining.get() {
            let Some(lease) = dispatch.lease(pool.destination) else {
                match session.take() {
                    Some(idle) => session = dispatch.wait_idle(pool, idle).await,
                    None => break,
                }
                if session.is_none() {
                    break;
                }
                continue;
            };
            let _busy = During::new(&dispatch.in_progress);
            session = dispatch.deliver(pool, session.take(), lease).await;
            if session.is_none() && pool.failures.get() > 0 {
                break;
            }
        }
        if let Some(session) = session {
            session.quit().await;
        }
        drop(staffed);
        // What became ready meanwhile may need another session.
        dispatch.wake.notify_one();
    }
}

impl Dispatch {
    fn lease(self: &Rc<Self>, destination: Destination) -> Option<Leased> {
        let now_ms = self.clock.now_ms();
        let mut queue = self.queue.borrow_mut();
        if self.setup.borrow().hold || queue.paused_until_ms(destination).is_some() {
            return None;
        }
        let lease = queue.lease(now_ms, Pick::To(destination))?;
        Some(Leased::new(self, lease))
    }

    /// Keeps a session open for a while; none when it ended, or when nothing came.
    async fn wait_idle(&self, pool: &Pool, mut session: Outbound) -> Option<Outbound> {
        let limit = self.route_of(pool.destination, None)?.route.timeouts.idle;
        let is_wanted = {
            let _idle = During::new(&pool.idle);
            tokio::select! {
                () = pool.work.notified() => true,
                () = session.idle() => return None,
                () = sleep(limit) => false,
            }
        };
        if is_wanted && !self.is_draining.get() {
            return Some(session);
        }
        session.quit().await;
        None
    }

    /// Tries one lease; returns the session when it can take another.
    async fn deliver(
        self: &Rc<Self>,
        pool: &Pool,
        session: Option<Outbound>,
        lease: Leased,
    ) -> Option<Outbound> {
        let id = MessageId::from_u128(lease.message.0);
        let Some(meta) = self.messages.borrow().get(&id).map(|message| Rc::clone(&message.meta))
        else {
            // Dropped by an operator since it was queued.
            self.settle_all(lease, id, "", &|_| {
                RecipientOutcome::Failed("dropped by the operator".to_owned())
            })
            .await;
            return session;
        };
        let domain = lease
            .recipients
            .as_slice()
            .first()
            .and_then(|&index| meta.recipients.get(usize::from(index)))
            .map(|recipient| recipient.domain());
        let Some(setup) = self.route_of(pool.destination, domain) else {
            let text = "no route is configured for this recipient".to_owned();
            self.settle_all(lease, id, "", &|_| RecipientOutcome::Deferred(text.clone())).await;
            return session;
        };
        let mut session = match session {
            Some(session) => session,
            None => match Outbound::open(&self.io, &setup).await {
                Ok(session) => {
                    self.counters.opened(true);
                    pool.failures.set(0);
                    session
                }
                Err(trouble) => {
                    self.counters.opened(false);
                    self.unreachable(pool, lease, id, &trouble).await;
                    return None;
                }
            },
        };
        // Memory is taken only once there is somebody to send it to.
        let content = match self.content(id, &meta, lease.lane).await {
            Ok(content) => content,
            Err(outcome) => {
                self.settle_all(lease, id, "", &|_| outcome.clone()).await;
                return Some(session);
            }
        };
        let is_fresh = session.transactions == 0;
        let envelope = envelope(&meta, &lease, content.bytes);
        let bytes = content.bytes;
        let transacted = session.transact(envelope, content).await;
        if let (End::Broken(_), false) = (&transacted.end, is_fresh)
            && transacted.recipients.iter().all(Option::is_none)
        {
            // The next hop had closed a session that was kept open: no fault, no attempt.
            lease.release();
            return None;
        }
        let next_hop = session.next_hop();
        let is_broken = matches!(transacted.end, End::Broken(_) | End::Unreadable(_));
        if let End::Unreadable(error) = &transacted.end {
            self.tell_lost(id, error);
        }
        self.settle_transaction(lease, id, &next_hop, &transacted, bytes).await;
        let is_spent = session.transactions >= setup.route.messages_per_session_max;
        if is_broken || !session.is_ready().await {
            return None;
        }
        if is_spent {
            session.quit().await;
            return None;
        }
        Some(session)
    }

    /// Everything that is sent: signature, trace, added fields, stored bytes.
    async fn content(
        &self,
        id: MessageId,
        meta: &Meta,
        lane: Lane,
    ) -> Result<Content, RecipientOutcome> {
        let Content { head: stored, rest, bytes } = self.stored(id, meta).await?;
        let setup = Rc::clone(&self.setup.borrow());
        let signed = signing::sign(&setup.keys, &self.signer, lane, meta, &stored).await;
        drop(setup);
        let (signatures, fields) = match signed {
            Ok(signed) => signed,
            Err(error) => {
                self.log.notice(Level::Error, format!("message {id}: {error}"));
                return Err(RecipientOutcome::Deferred(error.to_string()));
            }
        };
        let mut content = Vec::with_capacity(stored.len() + 3);
        if signatures > 0 {
            self.counters.signed(signatures);
            content.push(Bytes::from(fields));
        }
        content.push(Bytes::copy_from_slice(meta.trace.as_bytes()));
        if !meta.added.is_empty() {
            content.push(Bytes::copy_from_slice(meta.added.as_bytes()));
        }
        let added_bytes: u64 = content.iter().map(|part| part.len() as u64).sum();
        content.extend(stored);
        Ok(Content { head: content, rest, bytes: added_bytes + bytes })
    }

    /// The stored bytes, with at least the header section in memory, since that is signed.
    async fn stored(&self, id: MessageId, meta: &Meta) -> Result<Content, RecipientOutcome> {
        let read = async {
            let mut stored = self.spool.content(id).await?;
            while stored.rest.is_some()
                && !signing::has_header_section(&stored.head, meta.header_bytes)
                && stored.extend_head().await?
            {}
            Ok(stored)
        };
        read.await.map_err(|error| {
            self.tell_lost(id, &error);
            outcome::not_read(&error)
        })
    }

    /// An operator must hear of mail that was acknowledged and cannot be served.
    fn tell_lost(&self, id: MessageId, error: &SpoolError) {
        if matches!(error, SpoolError::Damaged | SpoolError::NotFound) {
            self.log.notice(Level::Error, format!("message {id}: {error}"));
        }
    }

    /// No session could be had: this message is deferred, the destination paused.
    async fn unreachable(&self, pool: &Pool, lease: Leased, id: MessageId, trouble: &Trouble) {
        let failures = pool.failures.get().saturating_add(1);
        pool.failures.set(failures);
        // Never longer than a message would wait for its own second attempt.
        let base_ms = self.setup.borrow().lanes[Lane::Normal.index()].backoff.base_ms;
        let doubled_ms = PAUSE_BASE_MS << failures.min(PAUSE_DOUBLINGS_MAX).saturating_sub(1);
        let pause_ms = doubled_ms.min(base_ms.max(PAUSE_BASE_MS));
        let until_ms = self.clock.now_ms() + pause_ms;
        self.queue.borrow_mut().pause(pool.destination, until_ms);
        let text = &trouble.text;
        let next_hop = &trouble.next_hop;
        self.settle_all(lease, id, next_hop, &|_| RecipientOutcome::Deferred(text.to_string()))
            .await;
    }

    async fn settle_transaction(
        &self,
        lease: Leased,
        id: MessageId,
        next_hop: &str,
        transacted: &Transacted,
        bytes: u64,
    ) {
        let outcomes: Vec<RecipientOutcome> = transacted
            .recipients
            .iter()
            .map(|own| match &transacted.end {
                End::Answered(end) => outcome::answered(own.as_ref(), end),
                End::Broken(trouble) => outcome::broken(own.as_ref(), &trouble.text),
                End::Unfit(error) => outcome::unfit(*error),
                End::Unreadable(error) => outcome::unreadable(own.as_ref(), error),
            })
            .collect();
        if outcomes.iter().any(|outcome| matches!(outcome, RecipientOutcome::Delivered(_))) {
            self.counters.relayed(bytes);
        }
        let recipients = lease.recipients.clone();
        let of = |index: u16| {
            let at = recipients.as_slice().iter().position(|&recipient| recipient == index);
            at.and_then(|at| outcomes.get(at)).cloned().unwrap_or_else(|| {
                RecipientOutcome::Deferred("the next hop gave no answer".to_owned())
            })
        };
        self.settle_all(lease, id, next_hop, &of).await;
    }

    /// Writes down what became of a lease's recipients, and waits until that is durable.
    async fn settle_all(
        &self,
        lease: Leased,
        id: MessageId,
        next_hop: &str,
        outcome: &dyn Fn(u16) -> RecipientOutcome,
    ) {
        self.record(&lease, id, next_hop, outcome);
        let settled = lease.settle(|recipient| match outcome(recipient) {
            RecipientOutcome::Delivered(_) => Outcome::Done,
            RecipientOutcome::Deferred(_) => Outcome::Retry { after_ms: 0 },
            RecipientOutcome::Failed(_) => Outcome::Failed,
        });
        let note = {
            let mut messages = self.messages.borrow_mut();
            let Some(message) = messages.get_mut(&id) else { return };
            if let Some((_, due_ms)) = settled.retry {
                message.progress.due_ms = due_ms;
            }
            message.progress.attempts = message.progress.attempts.saturating_add(1);
            if message.progress.is_delivered() {
                messages.remove(&id);
                None
            } else {
                Some(message.progress.encode())
            }
        };
        self.wake.notify_one();
        let durable = match note {
            None => self.spool.settle_durable(id).await,
            Some(note) => self.spool.note_durable(id, note).await,
        };
        if let Err(error) = durable {
            // It counts in this process; after a crash the delivery would be repeated.
            self.log.notice(Level::Error, format!("message {id}: outcome not durable: {error}"));
        }
    }

    /// Progress, log and counters of a lease's recipients.
    fn record(
        &self,
        lease: &Lease,
        id: MessageId,
        next_hop: &str,
        outcome: &dyn Fn(u16) -> RecipientOutcome,
    ) {
        let mut messages = self.messages.borrow_mut();
        let Some(message) = messages.get_mut(&id) else { return };
        for &recipient in lease.recipients.as_slice() {
            let index = usize::from(recipient);
            let outcome = outcome(recipient);
            let attempt = Box::new(Attempt {
                id: id.to_string().into(),
                app: Arc::clone(&message.app),
                recipient: message.meta.recipients[index].path.clone(),
                next_hop: next_hop.into(),
                attempt: u32::from(lease.attempt),
                reply: outcome.text().into(),
                age_ms: self.clock.now_ms().saturating_sub(lease.accepted_ms),
            });
            let (standing, event) = match &outcome {
                RecipientOutcome::Delivered(_) => {
                    self.counters.delivered();
                    self.last_out.borrow_mut().insert(Arc::clone(&message.app), id);
                    (Standing::Delivered, Event::Delivered(attempt))
                }
                RecipientOutcome::Deferred(_) => {
                    self.counters.deferred();
                    (Standing::Queued, Event::Deferred(attempt))
                }
                RecipientOutcome::Failed(_) => {
                    self.counters.failed();
                    (Standing::Failed, Event::Failed(attempt))
                }
            };
            message.progress.set(index, standing, outcome.text());
            self.log.record(event);
        }
    }
}

fn envelope(meta: &Meta, lease: &Lease, content_bytes: u64) -> Envelope {
    let recipients = lease.recipients.as_slice().iter();
    Envelope {
        reverse_path: meta.reverse_path.to_string(),
        recipients: recipients
            .filter_map(|&index| meta.recipients.get(usize::from(index)))
            .map(|recipient| Recipient {
                forward_path: recipient.path.to_string(),
                notify: notify(&recipient.notify),
                orcpt: (!recipient.orcpt.is_empty()).then(|| recipient.orcpt.to_string()),
            })
            .collect(),
        size: Some(content_bytes),
        body: if meta.is_8bit { Body::EightBitMime } else { Body::SevenBit },
        smtputf8: meta.smtputf8,
        ret: match &*meta.ret {
            "FULL" => Some(Ret::Full),
            "HDRS" => Some(Ret::Headers),
            _ => None,
        },
        envid: (!meta.envid.is_empty()).then(|| meta.envid.to_string()),
    }
}

/// A stored `NOTIFY` value.
fn notify(value: &str) -> Option<param::Notify> {
    if value.is_empty() {
        return None;
    }
    param::rcpt_parameters(format!(" NOTIFY={value}").as_bytes()).ok()?.notify
}

/// First pause of a destination that cannot be reached.
const PAUSE_BASE_MS: u64 = 1_000;
/// The pause doubles up to about a minute.
const PAUSE_DOUBLINGS_MAX: u32 = 7;

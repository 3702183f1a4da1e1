//! From queue to next hop: leases, pooled sessions, outcomes.
//!
//! One [`Dispatch`] a shard. It keeps the queue in step with the spool: a message enters the queue
//! once it is durable, and every outcome is durable before the outbound session that had it takes
//! its next message; so a crash repeats at most one delivery per outbound session.
//!
//! ```text
//! accept ──► queue ──► scheduler: staffs pools ──► pool session: lease, sign, transact, settle
//! recover ─────^                                        │
//!               └──────── retry, failed ────────────────┘
//! ```
//!
//! Invariants: nothing vanishes: a recipient ends as delivered, or stays visible as failed until an
//! operator drops it; a message that should be signed never leaves unsigned; a destination that is
//! down is paused and costs the others nothing.

mod leased;
mod names;
mod operator;
mod outbound;
pub mod outcome;
mod pool;
pub mod progress;
pub mod signing;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use self::names::Names;
use self::outbound::RouteSetup;
use self::pool::Pool;
use self::progress::{Progress, Standing};
use self::signing::{KeyError, SigningKeys};
use crate::event::{Attempt, Event, Level, Log};
use crate::intake::meta::Meta;
use crate::io::Io;
use crate::queue::{
    App, DeliveryId, Destination, LANES, Lane, LanePolicy, MessageKey, NewDelivery, Queue,
    QueueOptions, Recipients,
};
use crate::route::Routing;
use crate::signing::{KeySet, SigningReport, SigningService};
use crate::spool::{MessageId, Recovered, Spool};

/// What deliveries are made by; replaced by a reload.
#[derive(Clone)]
pub struct DeliverySetup {
    /// Our name in EHLO.
    pub hostname: String,
    /// Accept and keep; deliver nothing.
    pub hold: bool,
    /// Weight, back-off and expiry of each lane.
    pub lanes: [LanePolicy; LANES.len()],
    /// Signing keys.
    pub keys: Arc<SigningKeys>,
    /// Next hops.
    pub routes: Arc<Routing>,
}

/// What a dispatch is started with.
pub struct DispatchOptions<C> {
    /// Index of its shard.
    pub index: usize,
    /// The shard's I/O.
    pub io: Io,
    /// The shard's spool.
    pub spool: Spool,
    /// The shard's log.
    pub log: Log,
    /// What it counts.
    pub counters: C,
    /// The applications that are cut: their mail is frozen.
    pub frozen: Vec<String>,
    /// The way to the signer.
    pub signer: SigningService,
    /// The setup's keys, loaded by the signer.
    pub key_set: KeySet,
    /// What deliveries are made by.
    pub setup: DeliverySetup,
    /// What the spool still holds.
    pub recovered: Vec<Recovered>,
}

/// What a dispatch counts; the shard keeps the numbers.
pub trait DeliveryCounters {
    /// A next hop took one recipient.
    fn delivered(&self);
    /// A next hop took a message of so many bytes.
    fn relayed(&self, bytes: u64);
    /// One recipient will be tried again.
    fn deferred(&self);
    /// One recipient failed for good.
    fn failed(&self);
    /// So many signatures were made.
    fn signed(&self, signatures: usize);
    /// An outbound session was opened, or could not be.
    fn opened(&self, is_open: bool);
}

/// The deliveries of one shard.
pub struct Dispatch {
    index: usize,
    io: Io,
    spool: Spool,
    log: Log,
    counters: Rc<dyn DeliveryCounters>,
    clock: Clock,
    queue: RefCell<Queue>,
    messages: RefCell<HashMap<MessageId, Message>>,
    names: RefCell<Names>,
    pools: RefCell<HashMap<Destination, Rc<Pool>>>,
    setup: RefCell<Rc<Setup>>,
    /// Held while a new setup's keys are loaded: setups take effect in the order they came.
    configuring: Mutex<()>,
    signer: SigningService,
    wake: Notify,
    is_draining: Cell<bool>,
    in_progress: Cell<usize>,
    last_out: RefCell<HashMap<Arc<str>, MessageId>>,
}

/// A setup whose keys are loaded. A delivery holds it while its signature is made, so keys that a
/// reload took away are unloaded when the last delivery that needs them is signed.
struct Setup {
    delivery: DeliverySetup,
    _key_set: KeySet,
}

impl std::ops::Deref for Setup {
    type Target = DeliverySetup;

    fn deref(&self) -> &DeliverySetup {
        &self.delivery
    }
}

/// A message that is not settled.
struct Message {
    app: Arc<str>,
    meta: Rc<Meta>,
    progress: Progress,
}

/// Milliseconds since 1970 that never run backwards within a process.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    began_ms: u64,
}

impl Clock {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_ms: millis(since) }
    }

    fn now_ms(self) -> u64 {
        self.began_ms + millis(self.began.elapsed())
    }

    fn instant(self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms.saturating_sub(self.began_ms))
    }
}

impl Dispatch {
    /// Takes over what the spool holds and starts the scheduler, as a local task.
    pub fn start<C: DeliveryCounters + 'static>(options: DispatchOptions<Rc<C>>) -> Rc<Self> {
        let clock = Clock::new();
        let queue = Queue::new(QueueOptions {
            lanes: options.setup.lanes,
            deliveries_max: DELIVERIES_MAX,
            seed: clock.began_ms ^ (options.index as u64) << 48,
        });
        let dispatch = Rc::new(Self {
            index: options.index,
            io: options.io,
            spool: options.spool,
            log: options.log,
            counters: options.counters,
            clock,
            queue: RefCell::new(queue),
            messages: RefCell::default(),
            names: RefCell::default(),
            pools: RefCell::default(),
            setup: RefCell::new(Rc::new(Setup {
                delivery: options.setup,
                _key_set: options.key_set,
            })),
            configuring: Mutex::new(()),
            signer: options.signer,
            wake: Notify::new(),
            is_draining: Cell::new(false),
            in_progress: Cell::new(0),
            last_out: RefCell::default(),
        });
        for app in &options.frozen {
            dispatch.freeze(app);
        }
        for recovered in options.recovered {
            dispatch.take_over(recovered);
        }
        let scheduler = tokio::task::spawn_local(Rc::clone(&dispatch).schedule());
        tokio::task::spawn_local(must_not_panic(scheduler, dispatch.log.clone()));
        dispatch
    }

    /// A message became durable; its mail is due.
    pub fn accept(&self, id: MessageId, meta: Meta) {
        let progress = Progress::new(meta.recipients.len());
        self.enqueue(id, meta, progress);
        self.wake.notify_one();
    }

    /// How many more messages should be accepted.
    pub fn room(&self) -> usize {
        self.queue.borrow().room()
    }

    /// Goes by a new setup from the next delivery on, once the signer has its keys.
    ///
    /// # Errors
    /// [`KeyError`] when the backend refuses a key; the old setup stays.
    pub async fn configure(&self, setup: DeliverySetup) -> Result<(), KeyError> {
        let _turn = self.configuring.lock().await;
        let key_set = setup.keys.load(&self.signer).await?;
        self.queue.borrow_mut().set_lanes(setup.lanes);
        self.setup.replace(Rc::new(Setup { delivery: setup, _key_set: key_set }));
        self.wake.notify_one();
        Ok(())
    }

    /// Leases nothing more; what is in progress goes on.
    pub fn drain(&self) {
        self.is_draining.set(true);
        for pool in self.pools.borrow().values() {
            pool.wake_all();
        }
    }

    /// Outbound sessions that have a message.
    pub fn in_progress(&self) -> usize {
        self.in_progress.get()
    }

    /// Which signing backend runs, and what it has done.
    pub fn signing(&self) -> SigningReport {
        self.signer.report()
    }

    /// A message that the spool held at start.
    fn take_over(&self, recovered: Recovered) {
        let Recovered { id, meta, note, .. } = recovered;
        let Ok(meta) = Meta::decode(&meta) else {
            let text = format!("message {id} has an envelope of another version; it stays stored");
            return self.log.notice(Level::Error, text);
        };
        let progress = Progress::decode(note.as_deref(), meta.recipients.len());
        if progress.is_delivered() {
            return self.spool.settle(id);
        }
        self.enqueue(id, meta, progress);
    }

    /// Puts a message's open and failed recipients into the queue, a delivery per destination.
    fn enqueue(&self, id: MessageId, meta: Meta, progress: Progress) {
        let now_ms = self.clock.now_ms();
        let app: Arc<str> = (&*meta.app).into();
        let number = self.names.borrow_mut().app(&app);
        let common = |destination, recipients, expires_ms| NewDelivery {
            message: MessageKey(id.as_u128()),
            destination,
            app: number,
            lane: lane_of(meta.lane),
            recipients,
            accepted_ms: meta.received_ms.min(now_ms),
            attempts: u16::try_from(progress.attempts).unwrap_or(u16::MAX),
            due_ms: progress.due_ms,
            expires_ms,
        };
        let mut queue = self.queue.borrow_mut();
        for (destination, recipients) in self.by_destination(&meta, &progress, Standing::Queued) {
            queue.add(now_ms, common(destination, recipients, None));
        }
        // What failed before a restart is expired at once: it shows as failed, and is not tried.
        for (destination, recipients) in self.by_destination(&meta, &progress, Standing::Failed) {
            queue.add(now_ms, common(destination, recipients, Some(0)));
        }
        drop(queue);
        self.messages.borrow_mut().insert(id, Message { app, meta: Rc::new(meta), progress });
    }

    /// Groups recipients that share a route, at most [`RECIPIENTS_MAX`] together.
    fn by_destination(
        &self,
        meta: &Meta,
        progress: &Progress,
        standing: Standing,
    ) -> Vec<(Destination, Recipients)> {
        let routes = Arc::clone(&self.setup.borrow().routes);
        let mut names = self.names.borrow_mut();
        let mut groups: Vec<(Destination, Vec<u16>)> = Vec::with_capacity(1);
        for index in progress.standing(standing) {
            let Ok(number) = u16::try_from(index) else { continue };
            let domain = meta.recipients[index].domain();
            let destination = names.destination(routes.of(domain).map(Arc::as_ref));
            let open = groups
                .iter_mut()
                .rfind(|(to, group)| *to == destination && group.len() < RECIPIENTS_MAX);
            match open {
                Some((_, group)) => group.push(number),
                None => groups.push((destination, vec![number])),
            }
        }
        groups.into_iter().map(|(to, group)| (to, group.as_slice().into())).collect()
    }

    /// Looks after due times and staffs the pools, whenever something may have become ready.
    async fn schedule(self: Rc<Self>) {
        loop {
            let now_ms = self.clock.now_ms();
            self.queue.borrow_mut().advance(now_ms);
            self.note_expired();
            if !self.is_draining.get() && !self.setup.borrow().hold {
                self.staff();
            }
            let due_ms = self.queue.borrow().next_due_ms();
            let due =
                due_ms.map_or_else(|| Instant::now() + LOOK_AGAIN, |ms| self.clock.instant(ms));
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    fn staff(self: &Rc<Self>) {
        let ready: Vec<_> = self.queue.borrow().ready_destinations().take(STAFFED_MAX).collect();
        for destination in ready {
            let count = self.queue.borrow().counts_to(destination).ready;
            let sessions_max = self
                .route_of(destination, None)
                .map_or(1, |setup| setup.route.sessions_max as usize);
            let pool = Rc::clone(
                self.pools
                    .borrow_mut()
                    .entry(destination)
                    .or_insert_with(|| Rc::new(Pool::new(destination))),
            );
            for _ in 0..pool.wanted(count, sessions_max) {
                tokio::task::spawn_local(pool::work(Rc::clone(self), Rc::clone(&pool)));
            }
        }
    }

    /// The route behind a destination as it is configured now. Where the rule it was made from is
    /// gone, the rule for the recipient's domain takes its place.
    fn route_of(&self, destination: Destination, domain: Option<&str>) -> Option<RouteSetup> {
        let setup = self.setup.borrow();
        let names = self.names.borrow();
        let route = names
            .rule(destination)
            .and_then(|rule| setup.routes.by_rule(rule))
            .or_else(|| setup.routes.of(domain?))?;
        Some(RouteSetup::new(route, setup.routes.tls(route), &setup.hostname))
    }

    /// Deliveries that became too old have failed: their recipients are told so in the log, and the
    /// message stays, visible.
    fn note_expired(&self) {
        loop {
            let Some(id) = self.queue.borrow_mut().poll_expired() else { return };
            self.expire(id);
        }
    }

    fn expire(&self, id: DeliveryId) {
        let Some(view) = self.queue.borrow().view(id) else { return };
        let message_id = MessageId::from_u128(view.message.0);
        let mut messages = self.messages.borrow_mut();
        let Some(message) = messages.get_mut(&message_id) else { return };
        let mut has_news = false;
        for &recipient in view.recipients.as_slice() {
            let index = usize::from(recipient);
            let line = &message.progress.recipients[index];
            if line.standing == Standing::Failed {
                continue;
            }
            let last = line.last.as_deref().unwrap_or("it was not tried");
            let text = format!("expired; at last: {last}");
            message.progress.set(index, Standing::Failed, &text);
            self.counters.failed();
            has_news = true;
            self.log.record(Event::Failed(Box::new(Attempt {
                id: message_id.to_string().into(),
                app: Arc::clone(&message.app),
                recipient: message.meta.recipients[index].path.clone(),
                next_hop: Box::default(),
                attempt: u32::from(view.attempts),
                reply: text.into(),
                age_ms: self.clock.now_ms().saturating_sub(view.accepted_ms),
            })));
        }
        if has_news {
            self.spool.note(message_id, message.progress.encode());
        }
    }

    /// The application is cut: nothing of it is leased. Returns how many messages wait frozen.
    pub fn freeze(&self, app: &str) -> usize {
        let app = self.app(app);
        let mut queue = self.queue.borrow_mut();
        queue.freeze(self.clock.now_ms(), app);
        let counts = queue.counts_of_app(app);
        counts.ready + counts.waiting
    }

    /// The application is restored. Returns how many messages go on.
    pub fn thaw(&self, app: &str) -> usize {
        let app = self.app(app);
        let mut queue = self.queue.borrow_mut();
        queue.thaw(self.clock.now_ms(), app);
        let counts = queue.counts_of_app(app);
        drop(queue);
        self.wake.notify_one();
        counts.ready + counts.waiting
    }

    /// The last message of an application that a next hop took, since start.
    pub fn last_out(&self, app: &str) -> Option<MessageId> {
        self.last_out.borrow().get(app).copied()
    }

    fn app(&self, app: &str) -> App {
        self.names.borrow_mut().app(&app.into())
    }
}

/// Without its scheduler a relay would take mail and deliver none. Better to end, and to be started
/// again: everything acknowledged is on disk.
async fn must_not_panic(scheduler: JoinHandle<()>, log: Log) {
    if scheduler.await.is_err_and(|error| error.is_panic()) {
        log.last_words("the delivery scheduler panicked, which is a bug; ending");
    }
}

/// A stored lane number; one that a later version wrote counts as normal.
fn lane_of(number: u8) -> Lane {
    LANES.get(usize::from(number)).copied().unwrap_or(Lane::Normal)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Deliveries of one shard: about 1 KiB each with envelope and progress, so 1 GiB at the bound.
const DELIVERIES_MAX: usize = 1_000_000;
/// Recipients in one transaction; RFC 5321 4.5.3.1.8 has every server take 100.
const RECIPIENTS_MAX: usize = 100;
/// Destinations that are staffed in one turn; the others follow when the loop comes round.
const STAFFED_MAX: usize = 256;
const LOOK_AGAIN: Duration = Duration::from_secs(60);

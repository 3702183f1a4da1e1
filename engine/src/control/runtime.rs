//! Carries out an operator's requests: asks every shard, adds the answers up.
//!
//! A cut takes effect before it is durable: the shared suspension set changes first, so that every
//! shard refuses at its next command, then the shards are told to end sessions and freeze mail, and
//! the state file is written meanwhile. The report says how long each shard took.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::keys::{KeyDriver, KeysError, Probe, StoredKeys};
use super::socket::Operator;
use crate::access::{Suspensions, Usage};
use crate::config::{Dkim, Snapshot};
use crate::event::{Event, Level, Log};
use crate::order::{
    Answer, CutCore, CutReport, Filter, KeyList, Listed, Request, ShardStatus, Shown, Status,
};
use crate::shard::order::{Order, ShardLine};
use crate::shard::policy::Policy;

/// Reads the configuration again: a new policy and its warnings, or the rendered errors.
pub type Reload = Box<dyn Fn() -> Result<(Arc<Policy>, Vec<String>), String>>;

/// What the control runtime works with.
pub struct ControlOptions {
    /// The way to each shard.
    pub shards: Vec<ShardLine>,
    /// The applications that are cut.
    pub suspensions: Arc<Suspensions>,
    /// What the applications use of their budgets.
    pub usage: Arc<Usage>,
    /// How to read it again.
    pub reload: Reload,
    /// Where to say what was done.
    pub log: Log,
}

/// The operator's counterpart in the relay.
pub struct Control {
    options: ControlOptions,
    /// What the shards go by.
    policy: RefCell<Arc<Policy>>,
    /// Held while they are told: of two configurations the later one stays.
    configuring: Mutex<()>,
    keys: KeyDriver,
    started: Instant,
}

impl Control {
    /// Takes over: the shards started with `policy`, the signing keys that the relay looks after are
    /// `stored`, and `started` is when the relay was. Runs inside a `LocalSet`.
    ///
    /// # Errors
    /// The signing keys cannot be looked after.
    pub fn new(
        options: ControlOptions,
        policy: Arc<Policy>,
        stored: StoredKeys,
        started: Instant,
    ) -> Result<Self, KeysError> {
        let keys = KeyDriver::new(options.log.clone());
        keys.configure(&policy.snapshot, stored)?;
        keys.handed_out(probe(&policy));
        let (policy, configuring) = (RefCell::new(policy), Mutex::new(()));
        Ok(Self { options, policy, configuring, keys, started })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.policy.borrow().snapshot)
    }

    /// Asks every shard at once and waits for all; a shard that is gone has no answer.
    async fn ask_all<T>(&self, order: impl Fn(oneshot::Sender<T>) -> Order) -> Vec<(usize, T)> {
        let asked: Vec<_> = self
            .options
            .shards
            .iter()
            .filter_map(|shard| {
                let (sender, answer) = oneshot::channel();
                shard.orders.send(order(sender)).ok().map(|()| (shard.index, answer))
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (index, answer) in asked {
            if let Ok(answer) = answer.await {
                answers.push((index, answer));
            }
        }
        answers
    }

    /// Reads the configuration again and hands it to every shard. Nothing changes on an error.
    ///
    /// # Errors
    /// The rendered configuration errors.
    pub async fn reload(&self) -> Result<Vec<String>, String> {
        let turn = self.configuring.lock().await;
        let loaded = (self.options.reload)().and_then(|(policy, warnings)| {
            let configured = self.keys.configure(&policy.snapshot, StoredKeys::default());
            configured.map(|()| (policy, warnings)).map_err(|error| error.to_string())
        });
        let (policy, mut warnings) = match loaded {
            Ok(loaded) => loaded,
            Err(errors) => {
                let text = format!("configuration not reloaded, the old one stays: {errors}");
                self.options.log.notice(Level::Error, text);
                return Err(errors);
            }
        };
        warnings.extend(kept_until_restart(&self.snapshot(), &policy.snapshot));
        self.options.usage.retain(&policy.snapshot.access);
        self.hand_out(policy.with_managed(|name| self.keys.active(name))).await;
        drop(turn);
        self.options.log.reopen();
        self.options.log.notice(Level::Info, "configuration and certificates reloaded");
        for warning in &warnings {
            self.options.log.notice(Level::Warn, warning.as_str());
        }
        Ok(warnings)
    }

    /// Has every shard go by a policy, and waits until all do.
    async fn hand_out(&self, policy: Policy) {
        let policy = Arc::new(policy);
        // From before the first shard has it until after the last.
        self.keys.handed_out(probe(&policy));
        self.policy.replace(Arc::clone(&policy));
        self.ask_all(|done| Order::Configure(Arc::clone(&policy), done)).await;
    }

    /// Has every shard sign with the keys that are active now.
    async fn hand_out_keys(&self) {
        let _turn = self.configuring.lock().await;
        let policy = self.policy.borrow().with_managed(|name| self.keys.active(name));
        self.hand_out(policy).await;
    }

    /// Hands every change of signing keys to the shards, for as long as the relay runs.
    pub async fn follow_keys(&self) {
        loop {
            self.keys.changed().await;
            self.hand_out_keys().await;
        }
    }

    async fn order_about_keys(&self, request: Request) -> Answer {
        let started = Instant::now();
        let outcomes = match request {
            Request::KeyRotate { domain, selector_prefix, actor } => {
                let text = format!("keys of {domain}: rotation ordered by {actor}");
                self.options.log.notice(Level::Info, text);
                self.keys.rotate(&domain, selector_prefix.as_deref()).await
            }
            Request::KeyEmergency { domain, selector_prefix, drain_s, reason, actor } => {
                let text = format!("keys of {domain}: emergency ordered by {actor}: {reason}");
                self.options.log.notice(Level::Warn, text);
                let prefix = selector_prefix.as_deref();
                self.keys.emergency(&domain, prefix, drain_s).await
            }
            Request::KeyAbandon { domain, selector, actor } => {
                let text = format!("key {selector} of {domain}: given up by {actor}");
                self.options.log.notice(Level::Info, text);
                match self.keys.abandon(&domain, &selector).await {
                    Ok(outcome) => vec![outcome],
                    Err(error) => return Answer::Refused { error },
                }
            }
            _ => return Answer::Keys { lines: self.keys.list() },
        };
        if outcomes.is_empty() {
            return Answer::Refused {
                error:
                    "the relay looks after no such keys; `postern keys list` shows those it does"
                        .to_owned(),
            };
        }
        self.hand_out_keys().await;
        Answer::KeysDone { effect_us: micros(started), outcomes }
    }

    /// Tells every shard to finish what is in progress and stop.
    pub fn drain(&self) {
        for shard in &self.options.shards {
            // A shard that is gone already needs no telling.
            drop(shard.orders.send(Order::Drain));
        }
    }

    /// Says that something is wrong with the relay itself, and drains.
    pub fn complain(&self, text: &str) {
        self.options.log.notice(Level::Error, text);
        self.drain();
    }

    async fn cut(&self, app: String, reason: String, actor: String) -> Answer {
        let known = self.snapshot().access.app(&app).is_some();
        if !known && !self.options.suspensions.is_cut(&app) {
            return Answer::Refused { error: format!("there is no application \"{app}\"") };
        }
        let app: Arc<str> = app.into();
        let started = Instant::now();
        self.options.suspensions.cut(&app, &reason, &actor);
        let saved = self.save_suspensions();
        let cores = self.cut_shards(&app, started).await;
        if let Err(error) = saved.await {
            return Answer::Refused {
                error: format!("{app} is cut, but this will not survive a restart: {error}"),
            };
        }
        self.options.log.record(Event::Suspension {
            app: Arc::clone(&app),
            cut: true,
            actor: actor.into(),
            reason: reason.into(),
        });
        Answer::Cut(CutReport {
            app: app.to_string(),
            effect_us: cores.iter().map(|(core, _)| core.effect_us).max().unwrap_or(0),
            sessions_ended: cores.iter().map(|(core, _)| core.share.sessions_ended).sum(),
            frozen: cores.iter().map(|(core, _)| core.share.frozen).sum(),
            last_out: cores.iter().filter_map(|(_, last)| last.clone()).max(),
            cores: cores.into_iter().map(|(core, _)| core).collect(),
        })
    }

    /// Orders the cut on every shard; each answer is timed on its own.
    async fn cut_shards(&self, app: &Arc<str>, started: Instant) -> Vec<(CutCore, Option<String>)> {
        let (sender, mut answers) = mpsc::unbounded_channel();
        for shard in &self.options.shards {
            let (share, answer) = oneshot::channel();
            if shard.orders.send(Order::Cut(Arc::clone(app), share)).is_err() {
                continue;
            }
            let (sender, index) = (sender.clone(), shard.index);
            tokio::task::spawn_local(async move {
                if let Ok((share, last_out)) = answer.await {
                    let effect_us = micros(started);
                    // The receiver lives until every sender is gone.
                    drop(sender.send((CutCore { shard: index, effect_us, share }, last_out)));
                }
            });
        }
        drop(sender);
        let mut cores = Vec::with_capacity(self.options.shards.len());
        while let Some(core) = answers.recv().await {
            cores.push(core);
        }
        cores.sort_by_key(|(core, _)| core.shard);
        cores
    }

    async fn restore(&self, app: String, actor: String) -> Answer {
        if !self.options.suspensions.restore(&app) {
            return Answer::Refused { error: format!("\"{app}\" is not cut") };
        }
        if let Err(error) = self.save_suspensions().await {
            return Answer::Refused {
                error: format!("{app} is restored, but will be cut after a restart: {error}"),
            };
        }
        let name: Arc<str> = app.as_str().into();
        let released = self.ask_all(|count| Order::Restore(Arc::clone(&name), count)).await;
        self.options.log.record(Event::Suspension {
            app: name,
            cut: false,
            actor: actor.into(),
            reason: "".into(),
        });
        Answer::Restored { app, released: released.iter().map(|(_, count)| count).sum() }
    }

    /// Writes the suspensions durably, on a blocking thread, starting now.
    fn save_suspensions(&self) -> impl Future<Output = Result<(), String>> + use<> {
        let suspensions = Arc::clone(&self.options.suspensions);
        let saved = tokio::task::spawn_blocking(move || suspensions.save());
        async move {
            match saved.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        }
    }

    async fn status(&self) -> Status {
        let shards: Vec<ShardStatus> =
            self.ask_all(Order::Status).await.into_iter().map(|(_, status)| status).collect();
        let mut total = BTreeMap::new();
        for (name, value) in shards.iter().flat_map(|shard| &shard.counters) {
            *total.entry(name.clone()).or_default() += value;
        }
        let keys = self.keys.list();
        total.extend(key_counters(&keys, self.keys.failures()));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            cut: self.options.suspensions.reasons(),
            total,
            keys,
            shards,
        }
    }

    async fn list(&self, filter: Filter, limit: usize) -> Vec<Listed> {
        let limit = limit.clamp(1, LISTED_MAX);
        let shares = self.ask_all(|share| Order::List(filter.clone(), limit, share)).await;
        let mut deliveries: Vec<_> = shares.into_iter().flat_map(|(_, share)| share).collect();
        deliveries.sort_by(|a, b| a.id.cmp(&b.id));
        deliveries.truncate(limit);
        deliveries
    }

    async fn show(&self, id: String) -> Option<Shown> {
        self.ask_all(|share| Order::Show(id.clone(), share)).await.into_iter().find_map(|(_, s)| s)
    }
}

impl Operator for Control {
    async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status {} => Answer::Status(self.status().await),
            Request::Cut { app, reason, actor } => self.cut(app, reason, actor).await,
            Request::Restore { app, actor } => self.restore(app, actor).await,
            Request::QueueList { filter, limit } => {
                Answer::Listed { deliveries: self.list(filter, limit).await }
            }
            Request::QueueShow { id } => match self.show(id.clone()).await {
                Some(shown) => Answer::Shown(shown),
                None => Answer::Refused { error: format!("no message {id} is queued") },
            },
            Request::QueueRetry { filter } => {
                let shares = self.ask_all(|share| Order::Retry(filter.clone(), share)).await;
                Answer::Changed { count: shares.iter().map(|(_, count)| count).sum() }
            }
            Request::QueueDrop { filter } if filter == Filter::default() => Answer::Refused {
                error: "refusing to drop the whole queue; name an id, application, domain, lane \
                        or state"
                    .to_owned(),
            },
            Request::QueueDrop { filter } => {
                let shares = self.ask_all(|share| Order::Drop(filter.clone(), share)).await;
                Answer::Changed { count: shares.iter().map(|(_, count)| count).sum() }
            }
            Request::KeyList {}
            | Request::KeyRotate { .. }
            | Request::KeyEmergency { .. }
            | Request::KeyAbandon { .. } => self.order_about_keys(request).await,
            Request::Reload {} => match self.reload().await {
                Ok(warnings) => Answer::Reloaded { warnings },
                Err(error) => Answer::Refused { error },
            },
        }
    }
}

/// Tells which keys shards may sign with by a policy, for as long as one of them has it.
fn probe(policy: &Arc<Policy>) -> Probe {
    let keys = Arc::downgrade(&policy.keys);
    Box::new(move |domain, selector| {
        let keys = keys.upgrade()?;
        let is_it = |dkim: &Arc<Dkim>| {
            dkim.key.is_some() && dkim.domain() == domain && dkim.profile.selector() == selector
        };
        Some(keys.entries().all().iter().any(is_it))
    })
}

/// What there is to watch about the keys that the relay looks after.
fn key_counters(lines: &[KeyList], failures: u64) -> Vec<(String, u64)> {
    if lines.is_empty() {
        return Vec::new();
    }
    let count = |is_it: &dyn Fn(&KeyList) -> bool| lines.iter().filter(|line| is_it(line)).count();
    let has = |line: &KeyList, stage: &str| line.keys.iter().any(|key| key.stage == stage);
    let waits = |line: &KeyList| {
        line.trouble.is_some() || line.keys.iter().any(|key| key.trouble.is_some())
    };
    let active = lines.iter().flat_map(|line| &line.keys).filter(|key| key.stage == "active");
    let counters = [
        ("keys_managed", lines.len()),
        ("keys_without_active", count(&|line| !has(line, "active"))),
        ("keys_without_standby", count(&|line| !has(line, "standby"))),
        ("keys_overdue", count(&|line| line.due_in_s == Some(0))),
        ("keys_waiting", count(&waits)),
    ];
    let counters = counters.map(|(name, value)| (name, value as u64));
    let oldest = active.map(|key| key.in_stage_s).max().unwrap_or(0);
    let others = [("keys_active_s_max", oldest), ("keys_failed_steps", failures)];
    counters.into_iter().chain(others).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Settings that were changed and take effect only at a start.
fn kept_until_restart(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let (was, is) = (&old.server, &new.server);
    let addresses = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.listeners.iter().map(|listener| listener.address).collect()
    };
    // Where there was no [keys] before, all of it takes effect.
    let of_keys = |snapshot: &Snapshot| {
        let both = old.keys.is_some() && new.keys.is_some();
        let keys = snapshot.keys.as_ref().filter(|_| both);
        keys.map(|keys| (keys.directory.clone(), keys.rehearsal_rate)).unwrap_or_default()
    };
    let changes = [
        ("server.cores", was.cores != is.cores),
        ("server.io", was.io != is.io),
        ("server.memory", was.memory_bytes != is.memory_bytes),
        ("server.receive_memory", was.receive_memory_bytes != is.receive_memory_bytes),
        ("server.control_socket", was.control_socket != is.control_socket),
        ("server.log", was.log != is.log),
        ("spool.directory", old.spool.directory != new.spool.directory),
        ("spool.segment", old.spool.segment_bytes != new.spool.segment_bytes),
        ("signer", old.signer != new.signer),
        ("keys.directory", of_keys(old).0 != of_keys(new).0),
        ("keys.rehearsal_rate", of_keys(old).1 != of_keys(new).1),
        ("listener.address", addresses(old) != addresses(new)),
    ];
    let changed = changes.into_iter().filter(|(_, has_changed)| *has_changed);
    changed
        .map(|(key, _)| format!("{key} has changed and takes effect at the next start"))
        .collect()
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Most deliveries one `queue list` returns: bounds the answer to about 4 MiB.
const LISTED_MAX: usize = 10_000;

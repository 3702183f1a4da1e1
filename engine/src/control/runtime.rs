//! Carries out an operator's requests: asks every shard, adds the answers up.
//!
//! A cut takes effect before it is durable: the shared suspension set changes first, so that every
//! shard refuses at its next command, then the shards are told to end sessions and freeze mail, and
//! the state file is written meanwhile. The report says how long each shard took.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::socket::Operator;
use crate::access::{Suspensions, Usage};
use crate::config::Snapshot;
use crate::event::{Event, Level, Log};
use crate::order::{
    Answer, CutCore, CutReport, Filter, Listed, Request, ShardStatus, Shown, Status,
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
    /// The configuration at start.
    pub snapshot: Arc<Snapshot>,
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
    snapshot: RefCell<Arc<Snapshot>>,
    started: Instant,
}

impl Control {
    /// Takes over; `started` is when the relay started.
    #[must_use]
    pub fn new(options: ControlOptions, started: Instant) -> Self {
        let snapshot = RefCell::new(Arc::clone(&options.snapshot));
        Self { options, snapshot, started }
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
        let outcome = (self.options.reload)();
        let (policy, mut warnings) = match outcome {
            Ok(loaded) => loaded,
            Err(errors) => {
                let text = format!("configuration not reloaded, the old one stays: {errors}");
                self.options.log.notice(Level::Error, text);
                return Err(errors);
            }
        };
        warnings.extend(kept_until_restart(&self.snapshot.borrow(), &policy.snapshot));
        self.ask_all(|done| Order::Configure(Arc::clone(&policy), done)).await;
        self.options.usage.retain(&policy.snapshot.access);
        self.snapshot.replace(Arc::clone(&policy.snapshot));
        self.options.log.reopen();
        self.options.log.notice(Level::Info, "configuration and certificates reloaded");
        for warning in &warnings {
            self.options.log.notice(Level::Warn, warning.as_str());
        }
        Ok(warnings)
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
        let known = self.snapshot.borrow().access.app(&app).is_some();
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
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            cut: self.options.suspensions.reasons(),
            total,
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
            Request::Reload {} => match self.reload().await {
                Ok(warnings) => Answer::Reloaded { warnings },
                Err(error) => Answer::Refused { error },
            },
        }
    }
}

/// Settings that were changed and take effect only at a start.
fn kept_until_restart(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let (was, is) = (&old.server, &new.server);
    let addresses = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.listeners.iter().map(|listener| listener.address).collect()
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

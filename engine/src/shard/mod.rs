//! One pinned data-plane thread: event loop, sessions, timers, counters, wiring.
//!
//! ```text
//!  accept loops ──► session tasks ──► spool ──► dispatch ──► outbound session tasks
//!        └───────────── all on one thread, one Io, no locks ─────────────┘
//!  orders (control runtime) ──► order task
//! ```
//!
//! Invariants: a message never leaves its shard; nothing here blocks; what another thread owns is
//! asked for by message. A task that panics (our bug) ends its session and nothing else.

mod counters;
mod desk;
mod listener;
pub mod order;
mod orders;
pub mod policy;
mod roster;
mod session;
mod stage;
mod start;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use self::counters::Counters;
use self::listener::ListenerState;
use self::policy::Policy;
use self::roster::Roster;
pub use self::start::{ShardHandle, ShardOptions, StartError, start};
use crate::access::desk::PasswordDesk;
use crate::access::{Budgets, Suspensions, Verifier};
use crate::config::Snapshot;
use crate::deliver::Dispatch;
use crate::event::{Event, Log};
use crate::io::Io;
use crate::spool::{IdSource, Spool};

/// What the tasks of one shard share.
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) core: Option<usize>,
    pub(crate) io: Io,
    pub(crate) spool: Spool,
    pub(crate) dispatch: Rc<Dispatch>,
    pub(crate) log: Log,
    pub(crate) counters: Rc<Counters>,
    pub(crate) suspensions: Arc<Suspensions>,
    pub(crate) passwords: PasswordDesk,
    pub(crate) verifier: Verifier,
    pub(crate) budgets: RefCell<Budgets>,
    pub(crate) ids: RefCell<IdSource>,
    roster: Roster,
    listeners: RefCell<Vec<Rc<ListenerState>>>,
    policy: RefCell<Arc<Policy>>,
}

impl Shard {
    /// The policy in force; hold it for one decision, not for a session.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// The configuration in force.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.policy.borrow().snapshot)
    }

    /// A TLS handshake failed: the operator should know whose.
    fn tls_failed(&self, client: IpAddr, error: &str) {
        counters::add(&self.counters.tls_failed, 1);
        self.log.record(Event::TlsFailed { client, error: error.into() });
    }
}

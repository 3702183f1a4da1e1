//! One listening address of one shard, and the loop that accepts on it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postern_smtp::reply::{Enhanced, Reply};
use postern_smtp::server::ServerOptions;
use rustls::ServerConfig;
use tokio::sync::Notify;

use super::counters::add;
use super::policy::ListenerPolicy;
use super::{Shard, session};
use crate::event::Level;
use crate::io::{Listener, Stream};

/// What a listener's sessions share; replaced by a reload, for sessions that begin later.
pub(super) struct ListenerState {
    /// As it is configured.
    pub(super) address: SocketAddr,
    policy: RefCell<ListenerPolicy>,
    sessions: Cell<usize>,
}

impl ListenerState {
    pub(super) fn new(policy: ListenerPolicy) -> Self {
        Self { address: policy.address, policy: RefCell::new(policy), sessions: Cell::new(0) }
    }

    pub(super) fn configure(&self, policy: ListenerPolicy) {
        self.policy.replace(policy);
    }

    pub(super) fn server_options(&self) -> Arc<ServerOptions> {
        Arc::clone(&self.policy.borrow().options)
    }

    /// TLS from the first byte, where that is configured.
    pub(super) fn implicit_tls(&self) -> Option<Arc<ServerConfig>> {
        let policy = self.policy.borrow();
        policy.tls.clone().filter(|_| policy.is_implicit)
    }

    /// From the start of a TLS handshake to its end.
    pub(super) fn handshake_timeout(&self) -> Duration {
        self.policy.borrow().handshake_timeout
    }

    pub(super) fn tls_config(&self) -> Option<Arc<ServerConfig>> {
        self.policy.borrow().tls.clone()
    }

    fn is_full(&self) -> bool {
        self.sessions.get() >= self.policy.borrow().sessions_max
    }
}

/// Accepts until `stop` is notified; each connection becomes a local task.
pub(super) async fn accept(
    shard: Rc<Shard>,
    state: Rc<ListenerState>,
    mut listener: Listener,
    stop: Rc<Notify>,
) {
    let address = listener.local_addr();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.notified() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if state.is_full() => {
                add(&shard.counters.sessions_refused, 1);
                tokio::task::spawn_local(refuse(stream));
            }
            Ok((stream, _)) => {
                let session = session::serve(Rc::clone(&shard), Guest::new(&state), stream);
                tokio::task::spawn_local(session);
            }
            Err(error) => pause(&shard, address, &error).await,
        }
    }
}

/// Out of descriptors or memory: say so and let some sessions end first.
async fn pause(shard: &Shard, address: SocketAddr, error: &std::io::Error) {
    let text = format!("cannot accept on {address}: {error}; raise the limit on open files?");
    shard.log.notice(Level::Error, text);
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Tells a client that the bound on sessions is reached, and closes.
async fn refuse(mut stream: Stream) {
    let mut reply = Vec::new();
    TOO_MANY.write_to(&mut reply);
    let sent = stream.send(vec![Bytes::from(reply)]);
    // The client hears it or not; it is not served either way.
    drop(tokio::time::timeout(REFUSE_TIMEOUT, sent).await);
    stream.close().await;
}

/// A session's hold on its listener; counts it, however it ends.
pub(super) struct Guest {
    state: Rc<ListenerState>,
}

impl Guest {
    fn new(state: &Rc<ListenerState>) -> Self {
        state.sessions.set(state.sessions.get() + 1);
        Self { state: Rc::clone(state) }
    }
}

impl Deref for Guest {
    type Target = ListenerState;

    fn deref(&self) -> &ListenerState {
        &self.state
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.state.sessions.set(self.state.sessions.get() - 1);
    }
}

const TOO_MANY: Reply =
    Reply::fixed(421, Enhanced::new(4, 3, 2), "Too many sessions, try again later");
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
const REFUSE_TIMEOUT: Duration = Duration::from_secs(5);

//! Carries out what the control runtime asks of a shard.
//!
//! No order holds up the next: it is done, answered, and the event loop goes on.

use std::rc::Rc;
use std::sync::Arc;

use postern_signer::batch::policy::Class;

use super::Shard;
use super::order::Order;
use super::policy::Policy;
use super::roster::SessionOrder;
use crate::event::Level;
use crate::order::{CutShare, ShardStatus, SignerWait, SigningStatus};
use crate::signing::SigningReport;
use crate::spool::Health;

/// Does what is ordered. An asker that is gone needs no answer.
pub(super) fn carry_out(shard: &Rc<Shard>, order: Order) {
    match order {
        Order::Status(answer) => drop(answer.send(status(shard))),
        Order::Cut(app, answer) => {
            let sessions_ended = shard.roster.tell_app(&app, SessionOrder::Cut);
            let frozen = shard.dispatch.freeze(&app);
            let share = CutShare { sessions_ended, frozen };
            drop(answer.send((share, shard.dispatch.last_out(&app).map(|id| id.to_string()))));
        }
        Order::Restore(app, answer) => drop(answer.send(shard.dispatch.thaw(&app))),
        Order::List(filter, limit, answer) => {
            drop(answer.send(shard.dispatch.list(&filter, limit)));
        }
        Order::Show(id, answer) => {
            drop(answer.send(id.parse().ok().and_then(|id| shard.dispatch.show(id))));
        }
        Order::Retry(filter, answer) => drop(answer.send(shard.dispatch.retry(&filter))),
        Order::Drop(filter, answer) => {
            let shard = Rc::clone(shard);
            tokio::task::spawn_local(async move {
                _ = answer.send(shard.dispatch.discard(&filter).await);
            });
        }
        Order::Configure(policy, answer) => {
            // The signer loads the new keys first; other orders are not held up by that.
            let shard = Rc::clone(shard);
            tokio::task::spawn_local(async move {
                configure(&shard, &policy).await;
                _ = answer.send(());
            });
        }
        // The serving loop takes this one itself.
        Order::Drain => {}
    }
}

/// New sessions and new deliveries go by the new policy; what runs goes on by the old one.
async fn configure(shard: &Rc<Shard>, policy: &Arc<Policy>) {
    for state in shard.listeners.borrow().iter() {
        let configured = policy.listeners.iter().find(|listener| listener.address == state.address);
        match configured {
            Some(listener) => state.configure(listener.clone()),
            None => shard.log.notice(
                Level::Warn,
                format!("{} is listened on until the relay is restarted", state.address),
            ),
        }
    }
    if let Err(error) = shard.dispatch.configure(policy.delivery_setup()).await {
        shard.log.notice(Level::Error, format!("{error}; the old keys stay in use"));
    }
    shard.budgets.borrow_mut().retain(&policy.snapshot.access);
    shard.policy.replace(Arc::clone(policy));
}

fn status(shard: &Shard) -> ShardStatus {
    let mut counters = shard.counters.by_name();
    let io = shard.io.stats();
    let spool = shard.spool.stats();
    let signing = shard.dispatch.signing();
    counters.extend(
        [
            ("io_system_calls", io.system_calls),
            ("io_submissions", io.submissions),
            ("io_completions", io.completions),
            ("io_bytes_received", io.bytes_received),
            ("io_bytes_sent", io.bytes_sent),
            ("io_buffers_exhausted", io.buffers_exhausted),
            ("io_completion_overflows", io.completion_overflows),
            ("io_buffers_lent", io.buffers_lent),
            ("bytes_copied", spool.bytes_copied),
            ("spool_groups", spool.groups),
            ("spool_records", spool.records),
            ("spool_written_bytes", spool.written_bytes),
            ("spool_failed_groups", spool.failed_groups),
            ("spool_messages", spool.messages as u64),
            ("spool_segments", spool.segments as u64),
            ("spool_hot_bytes", spool.hot_bytes as u64),
            ("memory_free_bytes", shard.io.blocks().free_bytes() as u64),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    ShardStatus {
        shard: shard.index,
        core: shard.core,
        io: shard.io.driver().to_string(),
        signer: signing.backend.to_owned(),
        signing: signing_status(&signing),
        counters,
        queued: shard.dispatch.queued(),
        spool: match shard.spool.health() {
            Health::Ok => "ok".to_owned(),
            Health::Backpressure(reason) => format!("pushes back: {reason}"),
            Health::Down(reason) => format!("down: {reason}"),
        },
    }
}

fn signing_status(report: &SigningReport) -> SigningStatus {
    let waits = Class::ALL.iter().zip(&report.waits).map(|(class, wait)| {
        let wait = SignerWait { jobs: wait.jobs, p50_us: wait.p50_us, p99_us: wait.p99_us };
        (class.as_str().to_owned(), wait)
    });
    SigningStatus {
        place: report.place.clone(),
        jobs: report.jobs,
        failed: report.failed,
        signatures: report.stats.signed,
        passes: report.stats.passes,
        fill_percent: 100 * report.stats.signed / report.stats.passes.max(1),
        waits: waits.collect(),
        faults: report.stats.faults,
        is_memory_locked: report.stats.is_locked,
        quarantined: report.stats.quarantined.map(str::to_owned),
    }
}

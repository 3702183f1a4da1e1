//! Tables, a simulation on seeds, and a comparison with a naive model.

mod model;
mod simulation;
mod table;

use super::*;

const MINUTE_MS: u64 = 60_000;

fn options() -> QueueOptions {
    let backoff = Backoff { base_ms: 1_000, factor: 2.0, max_ms: MINUTE_MS, jitter: 0.0 };
    let lane = |weight, expiry_ms| LanePolicy { weight, backoff, expiry_ms };
    QueueOptions {
        lanes: [lane(100, 5 * MINUTE_MS), lane(10, 60 * MINUTE_MS), lane(1, 600 * MINUTE_MS)],
        deliveries_max: 1_000_000,
        seed: 1,
    }
}

/// A delivery of a message of its own, accepted and due at 0.
fn delivery(message: u128, destination: u32, app: u32, lane: Lane) -> NewDelivery {
    NewDelivery {
        message: MessageKey(message),
        destination: Destination(destination),
        app: App(app),
        lane,
        recipients: Recipients::One(0),
        accepted_ms: 0,
        attempts: 0,
        due_ms: 0,
        expires_ms: None,
    }
}

fn retry(_: u16) -> Outcome {
    Outcome::Retry { after_ms: 0 }
}

/// Leases whatever comes and settles it as done; returns the messages in order.
fn drain(queue: &mut Queue, now_ms: u64, pick: Pick) -> Vec<u128> {
    let mut order = Vec::new();
    while let Some(lease) = queue.lease(now_ms, pick) {
        order.push(lease.message.0);
        queue.settle(now_ms, lease, |_| Outcome::Done);
    }
    order
}

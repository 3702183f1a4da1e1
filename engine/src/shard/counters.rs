//! What one shard counts. Plain cells: a shard is one thread, and a reader asks it by message.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::deliver::DeliveryCounters;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one shard, since start.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $($(#[$doc])* pub(crate) $name: Cell<u64>,)* }

        impl Counters {
            /// Every counter by name.
            #[must_use]
            pub(crate) fn by_name(&self) -> BTreeMap<String, u64> {
                [$((stringify!($name).to_owned(), self.$name.get()),)*].into()
            }
        }
    };
}

counters! {
    /// Sessions open now.
    sessions_open,
    /// Sessions accepted.
    sessions_total,
    /// Sessions refused because a bound was reached.
    sessions_refused,
    /// Sessions that ended because their task panicked: our bug, contained.
    sessions_panicked,
    /// TLS handshakes that failed.
    tls_failed,
    /// Authentications that succeeded.
    auth_accepted,
    /// Authentications that failed.
    auth_refused,
    /// Messages acknowledged with `250`.
    messages_accepted,
    /// Messages refused for good at end of data.
    messages_refused,
    /// Messages put off with `4xx` at end of data.
    messages_deferred,
    /// Content bytes of acknowledged messages, in wire form.
    bytes_accepted,
    /// Transactions in which a next hop took a message.
    messages_relayed,
    /// Bytes of those messages, signatures and added fields included.
    bytes_relayed,
    /// Recipients taken by next hops.
    recipients_delivered,
    /// Recipients whose delivery was put off.
    recipients_deferred,
    /// Recipients failed for good.
    recipients_failed,
    /// Signatures made.
    signatures_made,
    /// Outbound sessions opened.
    outbound_opened,
    /// Outbound sessions that could not be opened.
    outbound_failed,
    /// Receives paused because the block memory was full.
    memory_pauses,
}

impl DeliveryCounters for Counters {
    fn delivered(&self) {
        add(&self.recipients_delivered, 1);
    }

    fn relayed(&self, bytes: u64) {
        add(&self.messages_relayed, 1);
        add(&self.bytes_relayed, bytes);
    }

    fn deferred(&self) {
        add(&self.recipients_deferred, 1);
    }

    fn failed(&self) {
        add(&self.recipients_failed, 1);
    }

    fn signed(&self, signatures: usize) {
        add(&self.signatures_made, signatures as u64);
    }

    fn opened(&self, is_open: bool) {
        add(if is_open { &self.outbound_opened } else { &self.outbound_failed }, 1);
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &Cell<u64>, amount: u64) {
    counter.set(counter.get().wrapping_add(amount));
}

/// Takes from a gauge, which never goes below zero.
pub(super) fn take(gauge: &Cell<u64>) {
    gauge.set(gauge.get().saturating_sub(1));
}

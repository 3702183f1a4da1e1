//! What the control runtime asks of a shard, and the way to it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::policy::Policy;
use crate::order::{CutShare, Filter, Listed, ShardStatus, Shown};

/// The way to one shard.
#[derive(Debug, Clone)]
pub struct ShardLine {
    /// Its index.
    pub index: usize,
    /// Its orders.
    pub orders: mpsc::UnboundedSender<Order>,
}

/// An order to one shard, with the way back for its answer.
#[derive(Debug)]
pub enum Order {
    /// Report counters and health.
    Status(oneshot::Sender<ShardStatus>),
    /// The application is suspended: end its sessions, freeze its mail. Answers the shard's share
    /// and the queue id of the last message of this application that left.
    Cut(Arc<str>, oneshot::Sender<(CutShare, Option<String>)>),
    /// The application is restored: thaw its mail.
    Restore(Arc<str>, oneshot::Sender<usize>),
    /// List matching deliveries.
    List(Filter, usize, oneshot::Sender<Vec<Listed>>),
    /// Describe one message.
    Show(String, oneshot::Sender<Option<Shown>>),
    /// Make matching deliveries due; answers how many.
    Retry(Filter, oneshot::Sender<usize>),
    /// Drop matching messages; answers how many.
    Drop(Filter, oneshot::Sender<usize>),
    /// Use this configuration from now on.
    Configure(Arc<Policy>, oneshot::Sender<()>),
    /// Stop accepting, finish what is in progress, stop.
    Drain,
}
